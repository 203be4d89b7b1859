from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.ask.conditions import read_value
from synthgen.conform import conform, refuse_unmodelled, violations
from synthgen.errors import DataError, SchemaError
from synthgen.schema import Column, TableSchema
from synthgen.sources import open_source
from synthgen.table import RealTable, declared_bound, to_arrow

DATA = Path("/work/shared/data")


def table(*columns: Column, **dialect: Any) -> TableSchema:
    return TableSchema(name="t", columns=columns, **dialect)


def batch(**columns: Any) -> list[pa.RecordBatch]:
    arrays = [v if isinstance(v, pa.Array) else pa.array(v) for v in columns.values()]
    return [pa.RecordBatch.from_arrays(arrays, names=list(columns))]


def one(values: Any, kind: str, **facts: Any) -> pd.Series[Any]:
    column = Column(name="x", kind=kind, **facts)  # type: ignore[arg-type]
    return conform(batch(x=values), table(column)).data["x"]


def broken(values: Any, kind: str, **facts: Any) -> list[tuple[str, int, int]]:
    """Return (rule, count, total) of each violation of one column."""
    column = Column(name="x", kind=kind, **facts)  # type: ignore[arg-type]
    return [(v.rule, v.count, v.total) for v in violations(batch(x=values), table(column))]


# --- values that arrive ---------------------------------------------------------------------------


def test_text_becomes_each_kind() -> None:
    schema = table(
        Column(name="n", kind="numeric", nullable=True, decimals=1),
        Column(name="c", kind="categorical"),
        Column(name="b", kind="boolean", categories=("no", "yes")),
        Column(name="d", kind="datetime", resolution="day"),
        Column(name="i", kind="id"),
    )
    rows = batch(
        n=["1.5", "", "-0"], c=["NA", "00123", "x"], b=["yes", "no", "yes"],
        d=["2020-01-31", "1969-12-31", "0001-01-01"], i=["1", "2", "9007199254740993"],
    )  # fmt: skip
    data = conform(rows, schema).data
    assert data["n"].tolist()[::2] == [1.5, 0.0]
    assert np.isnan(data["n"][1])
    assert not np.signbit(data["n"][2])
    assert data["c"].tolist() == ["NA", "00123", "x"]
    assert data["b"].tolist() == [True, False, True]
    assert data["d"].tolist()[1] == pd.Timestamp("1969-12-31")
    assert data["i"].tolist()[2] == "9007199254740993"


def test_order_may_differ() -> None:
    schema = table(Column(name="a", kind="id"), Column(name="b", kind="id"))
    assert list(conform(batch(b=["1"], a=["2"]), schema).data.columns) == ["a", "b"]


def test_missing_is_what_is_declared() -> None:
    a = Column(name="a", kind="categorical", nullable=True, missing=("-",))
    b = Column(name="b", kind="categorical", nullable=True)
    schema = table(a, b, missing=("?",), strip=True)
    cells = [" -", "?", " ", "NA", None]
    data = conform(batch(a=cells, b=cells), schema).data
    assert data["a"].isna().tolist() == [True, True, True, False, True]
    assert data["b"].isna().tolist() == [False, True, True, False, True]
    assert data["b"][0] == "-"


def test_without_strip_blanks_stay() -> None:
    assert one([" x"], "categorical").tolist() == [" x"]
    assert broken([" 1"], "numeric") == [("rows are not finite numbers", 1, 1)]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([1, 2], pa.int8()), [1.0, 2.0]),
        (pa.array([1, 2], pa.uint64()), [1.0, 2.0]),
        (pa.array([47.7658, 2], pa.float32()), [47.7658, 2.0]),
        (pa.array([0.5, 2], pa.float16()), [0.5, 2.0]),
        (pa.array([Decimal("1.25"), Decimal("2")], pa.decimal128(9, 2)), [1.25, 2.0]),
        # Arrow's own cast gives 17.189999999999998 and the like for one in seven of such decimals.
        (
            pa.array([Decimal(i) / 100 for i in range(2_000)], pa.decimal128(12, 2)),
            [i / 100 for i in range(2_000)],
        ),
        (pa.array(["1.5", "2e3"], pa.large_string()), [1.5, 2000.0]),
        (pa.array(["1.5", "2"]).dictionary_encode(), [1.5, 2.0]),
    ],
)
def test_typed_numbers(array: pa.Array, expected: list[float]) -> None:
    assert one(array, "numeric").tolist() == expected


def test_nan_is_missing_and_a_number_can_be_declared_missing() -> None:
    assert broken([1.0, float("nan")], "numeric") == [
        ("rows are missing, but the column is not nullable", 1, 2)
    ]
    assert one([1, -999], "numeric", nullable=True, missing=("-999",)).isna().tolist() == [0, 1]
    decimals = pa.array([Decimal("1.25"), Decimal(-9)], pa.decimal128(9, 2))
    assert one(decimals, "numeric", nullable=True, missing=("-9",)).isna().tolist() == [0, 1]
    assert one([1.0, math.inf], "numeric", nullable=True, missing=("inf",)).isna().tolist() == [
        0,
        1,
    ]


def test_times_of_day_are_texts() -> None:
    times = pa.array([dt.time(21, 30), dt.time(7)], pa.time64("us"))
    assert one(times, "categorical").tolist() == ["21:30:00.000000", "07:00:00.000000"]


def test_typed_texts_and_booleans() -> None:
    assert one(pa.array([7, 8]), "categorical").tolist() == ["7", "8"]
    assert one(pa.array([True, False]), "boolean").tolist() == [True, False]
    assert one(pa.array([1, 0]), "boolean", categories=("0", "1")).tolist() == [True, False]
    assert one(["True", "FALSE"], "boolean").tolist() == [True, False]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_typed_times(unit: str) -> None:
    moment = dt.datetime(2020, 1, 31, 12)
    expected = [pd.Timestamp(moment)]
    assert one(pa.array([moment], pa.timestamp(unit)), "datetime").tolist() == expected
    zoned = one(pa.array([moment], pa.timestamp(unit, "UTC")), "datetime", timezone="Asia/Tokyo")
    assert zoned.tolist() == [pd.Timestamp("2020-01-31 21:00", tz="Asia/Tokyo")]


def test_dates_of_every_age() -> None:
    days = [dt.date(1, 1, 1), dt.date(1969, 12, 31), dt.date(9999, 12, 31)]
    for array in (pa.array(days), pa.array([d.isoformat() for d in days])):
        got = one(array, "datetime", resolution="day")
        assert [t.date() for t in got] == days


def test_local_times_that_a_clock_change_doubles_or_skips() -> None:
    cells = ["2024-10-27T02:30:00", "2024-10-27T02:30:00+02:00", "2024-03-31T02:30:00"]
    got = one(cells, "datetime", timezone="Europe/Berlin")
    assert [t.isoformat() for t in got] == [
        "2024-10-27T02:30:00+02:00",
        "2024-10-27T02:30:00+02:00",
        "2024-03-31T03:00:00+02:00",
    ]


def test_formats() -> None:
    got = one(["31/12/2020"], "datetime", format="%d/%m/%Y", resolution="day")
    assert got.tolist() == [pd.Timestamp("2020-12-31")]
    got = one(["20140502T000000"], "datetime", format="%Y%m%dT%H%M%S")
    assert got.tolist() == [pd.Timestamp("2014-05-02")]
    got = one(["2020-01-01 01:00 +0100"], "datetime", format="%Y-%m-%d %H:%M %z", timezone="UTC")
    assert got.tolist() == [pd.Timestamp("2020-01-01", tz="UTC")]


@pytest.mark.parametrize("wall", ["2024-10-27T02:30:00", "2024-03-31T02:30:00"])
def test_bounds_are_read_as_cells_are(wall: str) -> None:
    """One at a clock change bounds what is read, drawn and expected alike."""
    column = Column(name="t", kind="datetime", timezone="Europe/Berlin", minimum=wall)
    (cell,) = one([wall], "datetime", timezone="Europe/Berlin", minimum=wall)
    assert declared_bound(wall, column) == cell == read_value(wall, column)


# --- violations -----------------------------------------------------------------------------------

NUMBER_RULE = "rows are not finite numbers"
WHOLE_RULE = "rows are not whole numbers"
LARGE_RULE = "rows are whole numbers of 2^53 and more, which do not survive as numbers"
LOCAL_RULE = "rows are not ISO 8601 times without an offset (the column has no timezone)"


@pytest.mark.parametrize(
    ("cells", "kind", "facts", "rule", "count"),
    [
        (["inf", "nan", "1e400", "-Infinity", "1"], "numeric", {}, NUMBER_RULE, 4),
        (["x", "1_000", "0x10", "1,5", "--1", "1"], "numeric", {}, NUMBER_RULE, 5),
        ([float("inf"), 1.0], "numeric", {}, NUMBER_RULE, 1),
        ([True, False], "numeric", {}, "rows are not numbers", 2),
        (["1.5", "1"], "numeric", {"decimals": 0}, WHOLE_RULE, 1),
        (["1.234", "1.23"], "numeric", {"decimals": 2}, "more than the declared 2 decimals", 1),
        (["9007199254740993", "9007199254740991"], "numeric", {}, LARGE_RULE, 1),
        ([2**53 + 1, 2**53 - 1], "numeric", {}, LARGE_RULE, 1),
        (["1e300", "1"], "numeric", {"decimals": 0}, LARGE_RULE, 1),
        (["-1", "0", "1"], "numeric", {"minimum": 0}, "rows are below the minimum 0", 1),
        (["121", "120", "122"], "numeric", {"maximum": 120}, "rows are above the maximum 120", 2),
        (["a", "z", "A"], "categorical", {"categories": ("a",)}, "none of the 1", 2),
        (["yes", "no", "ja"], "boolean", {"categories": ("no", "yes")}, "neither of", 1),
        (["1", "0"], "boolean", {}, "neither of", 2),
        (["2020-13-01", "2020", "20200101"], "datetime", {}, LOCAL_RULE, 2),
        (["2020-01-01T00:00:00Z"], "datetime", {}, LOCAL_RULE, 1),
        (["31/12/2020", "2020-12-31"], "datetime", {"format": "%d/%m/%Y"}, "not times in", 1),
        (["2020-01-01T00:00:01"], "datetime", {"resolution": "minute"}, "resolution 'minute'", 1),
        (["2019-12-31", "2020-01-01"], "datetime", {"minimum": "2020-01-01"}, "2020-01-01", 1),
        ([1, 2], "datetime", {}, "rows are not times", 2),
        (pa.array([0, 10**15], pa.timestamp("s")), "datetime", {}, "outside the years", 1),
        (pa.array([0], pa.timestamp("s", "UTC")), "datetime", {}, "have a time zone", 1),
        (["a", "b", "a", "a"], "id", {}, "rows repeat a value of another row", 2),
        ([[1], [2]], "numeric", {}, "rows do not hold one value a cell", 2),
        (["x", None, ""], "text", {}, "rows are missing, but the column is not nullable", 2),
    ],
)  # fmt: skip
def test_rule_and_count(cells: Any, kind: str, facts: Any, rule: str, count: int) -> None:
    ((found, *numbers),) = broken(cells, kind, **facts)
    assert rule in found
    assert numbers == [count, len(cells)]


@pytest.mark.parametrize(
    "cell", ["1e300", "1e308", "-1.7976931348623157e308", "5e-324", ".5", "5."]
)
def test_extreme_numbers_are_numbers(cell: str) -> None:
    assert one([cell], "numeric").tolist() == [float(cell)]


def test_an_entity_may_repeat() -> None:
    assert one(["a", "a"], "id", role="entity").tolist() == ["a", "a"]


def test_all_violations_at_once_with_counts_over_batches() -> None:
    schema = table(
        Column(name="age", kind="numeric", decimals=0, maximum=120),
        Column(name="sex", kind="categorical", categories=("f", "m")),
        Column(name="id", kind="id"),
        Column(name="gone", kind="numeric"),
    )
    rows = [
        *batch(age=["1", "130", "x"], sex=["f", "m", "canary"], id=["1", "2", "3"], more=[1, 2, 3]),
        *batch(age=["140", "1.5", ""], sex=["f", "m", "m"], id=["4", "5", "3"], more=[1, 2, 3]),
    ]
    with pytest.raises(DataError) as caught:
        conform(rows, schema)
    got = {(v.column, v.rule, v.count, v.total) for v in caught.value.violations}
    assert got == {
        ("gone", "rows lack the column", 6, 6),
        ("more", "rows hold a column that the schema does not have", 6, 6),
        ("age", "rows are above the maximum 120", 2, 6),
        ("age", "rows are not finite numbers", 1, 6),
        ("age", "rows are not whole numbers", 1, 6),
        ("age", "rows are missing, but the column is not nullable", 1, 6),
        ("sex", "rows are none of the 2 declared categories", 1, 6),
        ("id", "rows repeat a value of another row", 1, 6),
    }
    assert all(v.remedy for v in caught.value.violations)
    assert list(caught.value.violations) == violations(rows, schema)
    assert "column 'age': 2 of 6 rows are above the maximum 120" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_no_rows_and_repeated_columns() -> None:
    schema = table(Column(name="x", kind="numeric"))
    with pytest.raises(DataError, match="the table is empty"):
        conform([], schema)
    twice = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    assert [v.rule for v in violations([twice], schema)] == ["rows hold the column twice"]


def test_free_text_is_refused_with_advice() -> None:
    columns = (
        Column(name="notes", kind="text"),
        Column(name="letter", kind="text"),
        Column(name="name", kind="text", pii="name"),
        Column(name="x", kind="numeric"),
    )
    with pytest.raises(SchemaError) as caught:
        refuse_unmodelled(table(*columns))
    lines = str(caught.value).splitlines()
    assert [line.split("'")[1] for line in lines] == ["notes", "letter"]
    assert all("pii" in line and "drop" in line and "categorical" in line for line in lines)
    refuse_unmodelled(table(*columns[2:]))


# --- properties -----------------------------------------------------------------------------------

ROUND_TRIP = table(
    Column(name="f", kind="numeric", nullable=True),
    Column(name="w", kind="numeric", nullable=True, decimals=0),
    Column(name="c", kind="categorical", nullable=True),
    Column(name="b", kind="boolean", nullable=True),
    Column(name="d", kind="datetime", nullable=True, resolution="microsecond"),
)
_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=5)
_ROWS = st.lists(
    st.tuples(
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
        st.none() | st.integers(1 - 2**53, 2**53 - 1),
        st.none() | _TEXTS,
        st.none() | st.booleans(),
        st.none() | st.datetimes(),
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=50)
@given(rows=_ROWS)
def test_text_and_typed_columns_give_the_same_table(rows: list[tuple[Any, ...]]) -> None:
    types = [pa.float64(), pa.int64(), pa.string(), pa.bool_(), pa.timestamp("us")]
    columns = list(zip(*rows, strict=True))
    typed = [pa.array(c, t) for c, t in zip(columns, types, strict=True)]
    texts = [pa.array([None if v is None else _write(v) for v in c], pa.string()) for c in columns]
    first, second = (
        conform([pa.RecordBatch.from_arrays(a, names=ROUND_TRIP.names)], ROUND_TRIP)
        for a in (typed, texts)
    )
    pd.testing.assert_frame_equal(first.data, second.data)
    again = conform(to_arrow(first.data, ROUND_TRIP).to_batches(), ROUND_TRIP)
    pd.testing.assert_frame_equal(first.data, again.data)


def _write(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)


@pytest.mark.skipif(not DATA.exists(), reason="the development tables are not on this machine")
@pytest.mark.parametrize("name", ["adult", "bank", "king"])
def test_the_declared_schemas_fit_their_tables(name: str) -> None:
    schema = TableSchema.load(Path(__file__).parents[1] / "schemas" / f"{name}.toml")
    conformed = conform(open_source(str(DATA / f"{name}.csv"), schema).batches(), schema)
    assert isinstance(conformed, RealTable)
    assert len(conformed) > 20_000
    assert schema.target is not None
