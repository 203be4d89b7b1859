from __future__ import annotations

import datetime as dt
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen import demo
from synthgen import infer as infer_module
from synthgen.conform import conform
from synthgen.errors import SchemaError
from synthgen.infer import infer, words
from synthgen.schema import Column, TableSchema
from synthgen.sources import delimited, open_source

N = 200
CANARY = "c@nary-cell"


def draft(path: Path, columns: dict[str, list[str]]) -> TableSchema:
    """Infer the schema of a CSV file, and insist that the file conforms to it."""
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(f'"{c}"' for c in row) for row in rows)]
    (path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    schema = infer(open_source(str(path / "t.csv")))
    conform(open_source(str(path / "t.csv"), schema).batches(), schema)
    return schema


def guess(path: Path, cells: list[str], name: str = "x") -> Column:
    return draft(path, {name: cells}).columns[0]


def repeat(*cells: str, n: int = N) -> list[str]:
    return [cells[i % len(cells)] for i in range(n)]


@pytest.mark.parametrize(
    ("cells", "decimals"),
    [
        (["17", "90", "45"], 0),
        (["-8019", "102127"], 0),
        (["1.25", "3.50"], 2),
        (["1.0", "2.0"], 0),
        (["0.001", "1e3"], None),
        (["0.1234567891", "5"], None),
        (["1e308", "-1e308"], None),
        (["5", "", "7"], 0),
    ],
)
def test_numbers(tmp_path: Path, cells: list[str], decimals: int | None) -> None:
    column = guess(tmp_path, repeat(*cells))
    assert (column.kind, column.decimals) == ("numeric", decimals)
    assert (column.minimum, column.maximum) == (None, None)  # the extremes are somebody's
    assert "declare minimum and maximum" in column.reason
    assert column.nullable == ("" in cells)
    assert column.source == "data"


@pytest.mark.parametrize("cell", ["00123", "+5", "1_000", "0x10", "inf", "1,5", "1e400"])
def test_what_only_looks_like_a_number_is_a_category(tmp_path: Path, cell: str) -> None:
    assert guess(tmp_path, repeat(cell, "7", "8")).kind == "categorical"


def test_missing_tokens_only_where_the_rest_is_numbers_or_times(tmp_path: Path) -> None:
    schema = draft(
        tmp_path,
        {
            "n": repeat("1", "NA", "-"),
            "dose": repeat("1.5", ".", "\\N"),  # SAS and MySQL
            "when": repeat("2020-01-01", "null"),
            "country": repeat("DE", "NA"),  # Namibia
        },
    )
    assert schema.column("n").missing == ("NA", "-")
    assert schema.column("dose").missing == (".", "\\N")
    assert schema.column("when").missing == ("null",)
    assert schema.column("country").missing == ()
    assert schema.column("country").categories == ("DE", "NA")
    assert not schema.column("country").nullable


def test_question_marks_and_blanks_after_commas(tmp_path: Path) -> None:
    schema = draft(tmp_path, {"age": repeat("1", "2"), "job": repeat(" a", " ?")})
    assert (schema.strip, schema.missing) == (True, ("?",))
    assert schema.column("job").categories == ("a",)
    assert schema.column("job").nullable


@pytest.mark.parametrize("pair", [("false", "true"), ("False", "True"), ("FALSE", "TRUE")])
def test_booleans(tmp_path: Path, pair: tuple[str, str]) -> None:
    column = guess(tmp_path, repeat(*pair))
    assert (column.kind, column.categories) == ("boolean", pair)
    assert guess(tmp_path, repeat(pair[1])).categories == pair  # a constant shows its style


def test_yes_and_no_stay_categories(tmp_path: Path) -> None:
    assert guess(tmp_path, repeat("no", "yes")).kind == "categorical"
    assert guess(tmp_path, repeat("0", "1")).kind == "numeric"
    assert guess(tmp_path, repeat("True", "true", "false")).categories is None


@pytest.mark.parametrize(
    ("cells", "form", "timezone", "resolution"),
    [
        (["2020-01-31", "1969-12-31", "0001-01-01"], None, None, "day"),
        (["2020-01-31T12:30:00", "2020-01-31T12:00:00"], None, None, "minute"),
        (["2020-01-31 12:00:00", "2020-01-31 13:00"], None, None, "hour"),
        (["2020-01-31 12:00:01.5"], None, None, "microsecond"),
        (["2020-01-31T12:00:01Z", "2020-01-31T12:00:01+02:00"], None, "UTC", "second"),
        (["20140502T000000"], "%Y%m%dT%H%M%S", None, "day"),
        (["31/01/2020", "01/02/2020"], "%d/%m/%Y", None, "day"),
        (["01/31/2020", "02/01/2020"], "%m/%d/%Y", None, "day"),
        (["31.01.2020 10:30"], "%d.%m.%Y %H:%M", None, "minute"),
        (["23:59:01", "00:00:00"], "%H:%M:%S", None, "second"),
        (["09:30", "17:00"], "%H:%M", None, "minute"),
    ],
)
def test_times(
    tmp_path: Path, cells: list[str], form: str | None, timezone: str | None, resolution: str
) -> None:
    column = guess(tmp_path, repeat(*cells))
    assert column.kind == "datetime"
    assert (column.format, column.timezone, column.resolution) == (form, timezone, resolution)
    assert column.minimum is None  # the first and the last day are somebody's


def test_scores_are_no_times_of_day(tmp_path: Path) -> None:
    assert guess(tmp_path, repeat("6:6", "2:1", "0:07")).kind == "categorical"


def test_day_and_month_that_cannot_be_told_apart(tmp_path: Path) -> None:
    column = guess(tmp_path, repeat("01/02/2020", "03/04/2020"))
    assert column.kind == "categorical"
    assert "cannot be told apart" in column.reason


def test_rare_levels_are_not_written_down(tmp_path: Path) -> None:
    assert guess(tmp_path, repeat("a", "b")).categories == ("a", "b")
    column = guess(tmp_path, [*repeat("a", "b"), CANARY])
    assert column.categories is None
    assert "1 of them cover fewer than 10 rows" in column.reason


def test_no_reason_holds_a_cell(tmp_path: Path) -> None:
    columns = {"a": [f"{CANARY} {i} word {i}" for i in range(N)], "b": [*["1"] * (N - 1), CANARY]}
    schema = draft(tmp_path, columns)
    assert CANARY not in schema.to_toml()
    assert all(c.reason for c in schema.columns)


@pytest.mark.parametrize(
    ("name", "cells", "kind", "minimum"),
    [
        ("x", [str(i) for i in range(1, N + 1)], "id", 1000),  # gapless
        ("row_id", [str(7 * i) for i in range(1, N + 1)], "id", 10_000),
        ("customerNumber", [str(7 * i) for i in range(1, N + 1)], "id", 10_000),
        ("x", [str(7 * i) for i in range(1, N + 1)], "numeric", None),
        ("x", [str(2**53 + 7 * i) for i in range(N)], "id", 10**16),
        ("x", [f"AB-{i:04}" for i in range(N)], "id", None),
        ("x", [f"{i:05}" for i in range(N)], "id", None),
        ("x", [f"0000{i:028x}"[:32] for i in range(N)], "id", None),
        ("id", ["b", "a", "x1"] + [f"q{i}w" for i in range(N)], "id", None),
        ("idle_time", [str(i * 1.5) for i in range(N)], "numeric", None),
        ("valid", [f"{i}.5" for i in range(N)], "numeric", None),
    ],
)
def test_ids(tmp_path: Path, name: str, cells: list[str], kind: str, minimum: float | None) -> None:
    column = guess(tmp_path, cells, name)
    assert (column.kind, column.minimum) == (kind, minimum)


def test_a_repeated_key_is_an_entity(tmp_path: Path) -> None:
    keys = [str(1000 + i // 2) for i in range(2 * N)]
    schema = draft(tmp_path, {"patient_id": keys, "visit_id": [k + "x" for k in keys]})
    assert [(c.kind, c.role) for c in schema.columns] == [("id", "entity"), ("categorical", None)]
    assert guess(tmp_path, repeat("10", "11", "12"), "store_id").kind == "numeric"


def test_a_key_that_most_rows_lack_is_no_entity(tmp_path: Path) -> None:
    keys = [str(1000 + i // 2) if i < 300 else "" for i in range(4 * N)]
    column = guess(tmp_path, keys, "reply_to_id")
    assert (column.kind, column.role) == ("categorical", None)
    assert "not every row has one" in column.reason


@pytest.mark.parametrize(
    ("name", "cells", "kind", "pii"),
    [
        ("x", [f"person{i}@example.org" for i in range(N)], "text", "email"),
        ("x", [f"+49 151 {i:07}" for i in range(N)], "text", "phone"),
        ("x", [f"(0{i:03}) 555-{i:04}" for i in range(N)], "text", "phone"),
        ("mobile", [str(1_500_000_000 + i * 17) for i in range(N)], "text", "phone"),
        ("x", [f"123-45-{i:04}" for i in range(N)], "id", "sequence"),
        ("ssn", [f"12345{i:04}" for i in range(N)], "id", "sequence"),
        ("name", [f"Ada {chr(65 + i % 26)}{i}" for i in range(N)], "text", "name"),
        ("lastName", repeat("Meyer", "Smith"), "text", "name"),
        ("street", [f"{i} High Street" for i in range(N)], "text", "address"),
    ],
)
def test_people_are_found(tmp_path: Path, name: str, cells: list[str], kind: str, pii: str) -> None:
    column = guess(tmp_path, cells, name)
    assert (column.kind, column.pii) == (kind, pii)


@pytest.mark.parametrize(
    ("name", "cells", "kind"),
    [
        ("campaign", repeat("1", "2"), "numeric"),
        ("native-country", repeat("DE", "FR"), "categorical"),
        ("sqft_lot", repeat("7912", "9050"), "numeric"),
        ("filename", repeat("a.txt", "b.txt"), "categorical"),
        ("product_name", repeat("chair", "table"), "categorical"),
        ("email_opt_in", repeat("yes", "no"), "categorical"),
        ("phone", repeat("yes", "no"), "categorical"),
        ("address_type", repeat("home", "work"), "categorical"),
        ("period", repeat("1990-1995", "1996-2000"), "categorical"),
        ("ward", [f"2020-{1 + i % 12:02}-{1 + i % 28:02}" for i in range(N)], "datetime"),
        ("x", [f"{1800 + i}.{200_000 + i * 37}" for i in range(N)], "numeric"),
        ("x", ["NA", *(f"{i}.{i * 7:09}" for i in range(N))], "numeric"),
    ],
)
def test_what_is_no_person_is_left_alone(
    tmp_path: Path, name: str, cells: list[str], kind: str
) -> None:
    column = guess(tmp_path, cells, name)
    assert (column.kind, column.pii) == (kind, None)


@pytest.mark.parametrize("form", ["{}%", "$1,{:03}.50", "17,{}", "+{}", "{},5 €"])
def test_amounts_are_told_what_they_could_be(tmp_path: Path, form: str) -> None:
    column = guess(tmp_path, [form.format(i % 97) for i in range(N)])
    assert "as plain numbers" in column.reason
    assert "as plain numbers" not in guess(tmp_path, [f"00{i % 97}" for i in range(N)]).reason


def test_free_text_gets_advice(tmp_path: Path) -> None:
    rng = random.Random(0)
    notes = [" ".join(rng.choices(["fell", "ill", "well", "ate", "slept"], k=9)) for _ in range(N)]
    column = guess(tmp_path, notes)
    assert (column.kind, column.pii) == ("text", None)
    assert "pii" in column.reason
    assert "drop the column" in column.reason


def test_mixed_types_are_said(tmp_path: Path) -> None:
    column = guess(tmp_path, [*(str(i * 3) for i in range(N)), "unknown", "n.a."])
    assert column.kind == "text"
    assert "2 of 202 distinct values are no numbers" in column.reason


def test_nearly_empty_tables(tmp_path: Path) -> None:
    assert guess(tmp_path, ["a"]).kind == "categorical"
    assert guess(tmp_path, ["1", "2"]).kind == "numeric"
    empty = guess(tmp_path, [""] * N)
    assert (empty.kind, empty.nullable) == ("categorical", True)
    assert "100 % of the rows are missing" in empty.reason
    constant = guess(tmp_path, ["5"] * N)
    assert constant.kind == "numeric"


def test_typed_columns(tmp_path: Path) -> None:
    moments = [dt.datetime(2020, 1, 1 + i % 28, 12) for i in range(N)]
    columns: dict[str, Any] = {
        "i": pa.array([i % 7 for i in range(N)], pa.int16()),
        "f": pa.array([47.5 + i % 7 / 10 for i in range(N)], pa.float32()),
        "nan": pa.array([float("nan") if i % 2 else 1.5 for i in range(N)]),
        "b": pa.array([i % 2 == 0 for i in range(N)]),
        "s": pa.array(repeat("NA", "x")).dictionary_encode(),
        "d": pa.array([m.date() for m in moments]),
        "t": pa.array(moments, pa.timestamp("ns", "Europe/Berlin")),
        "offset": pa.array(moments, pa.timestamp("ms", "+02:00")),
        "id": pa.array(range(2**60, 2**60 + N)),
        "none": pa.nulls(N),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    source = open_source(str(tmp_path / "t.parquet"))
    schema = infer(source)
    assert {c.name: c.kind for c in schema.columns} == {
        "i": "numeric", "f": "numeric", "nan": "numeric", "b": "boolean", "s": "categorical",
        "d": "datetime", "t": "datetime", "offset": "datetime", "id": "id", "none": "categorical",
    }  # fmt: skip
    assert (schema.column("i").decimals, schema.column("f").decimals) == (0, 1)
    assert [schema.column(n).resolution for n in ("d", "t")] == ["day", "hour"]
    assert [schema.column(n).timezone for n in ("d", "t", "offset")] == [
        None,
        "Europe/Berlin",
        "UTC",
    ]
    data = conform(source.batches(), schema).data
    assert data["nan"].isna().sum() == N / 2
    assert (
        data["t"].dt.hour.iloc[0] == pa.array([moments[0]], columns["t"].type).to_pandas()[0].hour
    )


def test_cells_that_hold_no_single_value_are_refused(tmp_path: Path) -> None:
    columns = {"list": pa.array([[1], [2]] * N), "bytes": pa.array([b"x"] * 2 * N)}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    schema = infer(open_source(str(tmp_path / "t.parquet")))
    assert [c.kind for c in schema.columns] == ["text", "text"]
    assert all("cannot be read" in c.reason for c in schema.columns)


def test_dialect_and_name_go_into_the_draft(tmp_path: Path) -> None:
    path = tmp_path / "my table (1).csv"
    path.write_bytes("a;b\né;1\n".encode("utf-16"))
    schema = infer(open_source(str(path)))
    assert (schema.name, schema.delimiter, schema.encoding) == ("my-table--1-", ";", "utf-16")
    assert infer(open_source(str(path)), name="other").name == "other"


def test_the_same_table_gives_the_same_draft(tmp_path: Path) -> None:
    demo.write_csv(tmp_path / "demo.csv", rows=2_000)
    source = open_source(str(tmp_path / "demo.csv"))
    assert infer(source).to_toml() == infer(source).to_toml()


def test_the_demo_is_understood(tmp_path: Path) -> None:
    demo.write_csv(tmp_path / "demo.csv", rows=5_000)
    drafted = infer(open_source(str(tmp_path / "demo.csv")))
    assert drafted.names == demo.SCHEMA.names
    for column, declared in zip(drafted.columns, demo.SCHEMA.columns, strict=True):
        expected = "categorical" if declared.kind == "boolean" else declared.kind
        assert (column.kind, column.pii) == (expected, declared.pii)
        assert (column.decimals, column.nullable) == (declared.decimals, declared.nullable)


def test_words_of_a_name() -> None:
    assert words("HTTPServerId") == ["http", "server", "id"]
    assert words("native-country") == ["native", "country"]
    assert words("日付") == []


def test_an_undescribable_table_is_a_schema_error() -> None:
    with pytest.raises(SchemaError, match="at least one column"):
        TableSchema(name="t", columns=())


_CELLS = st.one_of(
    st.sampled_from(
        ["", "NA", "?", "-", "true", "False", "nan", "inf", "1e400", "-0", "007", " 1"]
    ),
    st.integers(-(10**18), 10**18).map(str),
    st.floats().map(str),
    st.dates().map(str),
    st.datetimes(timezones=st.sampled_from([None, dt.UTC])).map(lambda t: t.isoformat()),
    st.dates(dt.date(1000, 1, 1)).map(lambda d: d.strftime("%d/%m/%Y")),
    st.text(st.characters(codec="utf-8", exclude_characters='\r\n\x00"'), max_size=6),
)
_COLUMNS = st.one_of(  # of one kind of cell, or of any
    *(st.lists(_CELLS.branches[i], min_size=4, max_size=30) for i in range(7)),
    st.lists(_CELLS, min_size=4, max_size=30),
)


@settings(deadline=None, max_examples=40)
@given(cells=_COLUMNS, name=st.sampled_from(["x", "id", "name", "phone"]))
def test_a_table_conforms_to_its_own_draft(
    tmp_path_factory: pytest.TempPathFactory, cells: list[str], name: str
) -> None:
    draft(tmp_path_factory.mktemp("t"), {name: cells, "y": repeat("1", "2", n=len(cells))})


def test_levels_merged_in_between_give_the_same_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo.write_csv(tmp_path / "demo.csv", rows=3_000)
    source = open_source(str(tmp_path / "demo.csv"))
    whole = infer(source)
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 16_384)
    monkeypatch.setattr(infer_module, "MERGED", 50)
    assert sum(1 for _ in source.batches()) > 10
    assert infer(source).to_toml() == whole.to_toml()
