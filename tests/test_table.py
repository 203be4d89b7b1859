from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen import table as table_module
from synthgen.conform import conform, conform_packed
from synthgen.errors import DataError, SchemaError
from synthgen.schema import Column, TableSchema
from synthgen.table import (
    PackedTable,
    RealTable,
    Split,
    SyntheticFile,
    SyntheticTable,
    canonical_dtype,
    fingerprint,
    from_arrow,
    read_frame,
    read_packed,
    split,
    to_arrow,
    write_batches,
    write_table,
)

SCHEMA = TableSchema(
    name="t",
    columns=(
        Column(name="f", kind="numeric", nullable=True),
        Column(name="w", kind="numeric", nullable=True, decimals=0),
        Column(name="c", kind="categorical", nullable=True),
        Column(name="b", kind="boolean", nullable=True),
        Column(name="d", kind="datetime", nullable=True, resolution="microsecond"),
        Column(name="z", kind="datetime", nullable=True, timezone="Europe/Berlin"),
        Column(name="i", kind="id"),
    ),
)


def frame(rows: list[tuple[Any, ...]], schema: TableSchema = SCHEMA) -> pd.DataFrame:
    columns = list(zip(*rows, strict=True))
    return pd.DataFrame(
        {
            c.name: pd.Series(list(cells), dtype=canonical_dtype(c))
            for c, cells in zip(schema.columns, columns, strict=True)
        }
    )


NOON = pd.Timestamp("2024-10-27 02:30", tz="UTC")
ROWS = [
    (1.5, 7.0, "NA", True, dt.datetime(1, 1, 1), NOON, "00123"),
    (np.nan, np.nan, None, None, None, None, "9007199254740993"),
]


def numbers(n: int, entity: int = 0) -> RealTable:
    """Return n rows; with `entity` > 0, every so many rows belong together."""
    columns = [Column(name="x", kind="numeric", decimals=0)]
    rows: list[tuple[Any, ...]] = [(float(i),) for i in range(n)]
    if entity:
        columns.append(Column(name="key", kind="id", role="entity"))
        rows = [(float(i), f"k{i // entity}") for i in range(n)]
    schema = TableSchema(name="t", columns=tuple(columns))
    return RealTable(schema, frame(rows, schema))


def test_known_rows_survive_arrow_and_parquet(tmp_path: Path) -> None:
    table = RealTable(SCHEMA, frame(ROWS))
    arrow = to_arrow(table.data, SCHEMA)
    assert [str(t) for t in arrow.schema.types] == [
        "double", "int64", "string", "bool", "timestamp[us]",
        "timestamp[us, tz=Europe/Berlin]", "string",
    ]  # fmt: skip
    write_table(tmp_path / "t.parquet", table)
    pd.testing.assert_frame_equal(read_frame(tmp_path / "t.parquet", SCHEMA), table.data)


_TIMES = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30))
_TEXT = st.text(st.characters(codec="utf-8"), max_size=5)


@settings(deadline=None, max_examples=50)
@given(
    rows=st.lists(
        st.tuples(
            st.just(np.nan) | st.floats(allow_nan=False, allow_infinity=False),
            st.just(np.nan) | st.integers(-(2**53), 2**53).map(float),
            st.none() | _TEXT,
            st.none() | st.booleans(),
            st.none() | _TIMES,
            st.none() | _TIMES.map(lambda t: pd.Timestamp(t, tz="UTC")),
            _TEXT,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_frame_to_arrow_and_back(rows: list[tuple[Any, ...]]) -> None:
    data = frame(rows)
    again = from_arrow(to_arrow(data, SCHEMA), SCHEMA)
    pd.testing.assert_frame_equal(again, data)
    assert fingerprint(again) == fingerprint(data)


def test_declared_decimals_are_written() -> None:
    schema = TableSchema(name="t", columns=(Column(name="x", kind="numeric", decimals=2),))
    written = to_arrow(frame([(1.23456,), (-0.001,), (0.1 + 0.2,)], schema), schema)
    assert written["x"].to_pylist() == [1.23, 0.0, 0.3]
    assert "-" not in str(written["x"][1])


@pytest.mark.parametrize("make", [RealTable, SyntheticTable])
def test_a_table_shows_no_cell(make: type) -> None:
    text = repr(make(SCHEMA, frame(ROWS)))
    assert text == f"{make.__name__}('t', 2 rows x 7 columns)"


def test_a_split_shows_no_cell() -> None:
    assert repr(split(numbers(10), holdout=0.2, seed=0)) == "Split(8 train rows, 2 holdout rows)"


def test_other_columns_and_dtypes_are_refused() -> None:
    data = frame(ROWS)
    with pytest.raises(SchemaError, match="not the schema's columns in order"):
        RealTable(SCHEMA, data[SCHEMA.names[::-1]])
    with pytest.raises(SchemaError, match="without their canonical dtype: w"):
        RealTable(SCHEMA, data.assign(w=pd.array([1, 2], dtype="int64")))


def test_a_split_is_a_seeded_partition() -> None:
    table = numbers(100)
    parts = split(table, holdout=0.2, seed=3)
    train, holdout = set(parts.train.data["x"]), set(parts.holdout.data["x"])
    assert (len(train), len(holdout)) == (80, 20)
    assert train | holdout == set(table.data["x"])
    assert set(split(table, holdout=0.2, seed=3).holdout.data["x"]) == holdout
    assert set(split(table, holdout=0.2, seed=4).holdout.data["x"]) != holdout


def test_an_entity_stays_on_one_side() -> None:
    parts = split(numbers(100, entity=5), holdout=0.2, seed=0)
    assert (len(parts.train), len(parts.holdout)) == (80, 20)
    assert not set(parts.train.data["key"]) & set(parts.holdout.data["key"])


def test_shared_entities_are_refused() -> None:
    table = numbers(10, entity=5)
    with pytest.raises(DataError, match="column 'key': 2 entities on both sides"):
        Split(table, table)


@pytest.mark.parametrize(("n", "entity"), [(1, 0), (2, 0), (100, 100)])
def test_too_few_rows_to_split(n: int, entity: int) -> None:
    with pytest.raises(DataError, match="too few to split off a 20% holdout"):
        split(numbers(n, entity), holdout=0.2, seed=0)


def test_a_fingerprint_sees_order_names_types_and_cells() -> None:
    data = pd.DataFrame({"x": [1.0, 2.0]})
    others = [data[::-1], data.rename(columns={"x": "y"}), data.astype("str"), data + 1, data[:1]]
    assert len({fingerprint(f) for f in [data, *others]}) == 6
    assert fingerprint(data) == fingerprint(data.copy())


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    table = numbers(50_000)
    write_table(tmp_path / "t.parquet", table)
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises((OSError, pa.ArrowException)):
        read_frame(tmp_path / "t.parquet", table.schema)


# --- many rows


def test_batches_have_the_fingerprint_of_the_whole() -> None:
    whole = frame(ROWS * 5)
    parts = [whole.iloc[:1], whole.iloc[1:4], whole.iloc[4:4], whole.iloc[4:]]
    assert fingerprint(parts) == fingerprint(whole)
    assert fingerprint(parts[::-1]) != fingerprint(whole)


def test_a_file_written_in_batches_reads_as_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "BATCH_ROWS", 4)
    whole = frame(ROWS * 5)
    parts = (whole.iloc[i : i + 3] for i in range(0, 10, 3))
    assert write_batches(tmp_path / "t.parquet", parts, SCHEMA) == 10
    pd.testing.assert_frame_equal(read_frame(tmp_path / "t.parquet", SCHEMA), whole)
    file = SyntheticFile(SCHEMA, tmp_path / "t.parquet")
    read = list(file.batches())
    assert max(map(len, read)) <= 4
    pd.testing.assert_frame_equal(pd.concat(read, ignore_index=True), whole)


def test_a_file_of_synthetic_rows_is_the_table_that_it_holds(tmp_path: Path) -> None:
    table = SyntheticTable(SCHEMA, frame(ROWS * 3), "maker", 7)
    write_table(tmp_path / "t.parquet", table)
    file = SyntheticFile(SCHEMA, tmp_path / "t.parquet", "maker", 7)
    assert (len(file), file.fingerprint) == (6, table.fingerprint)
    assert pa.concat_tables(file.arrow()).equals(pa.concat_tables(table.arrow()))
    assert repr(file) == "SyntheticFile('t', 6 rows x 7 columns)"


def test_a_table_without_rows_is_one_batch(tmp_path: Path) -> None:
    empty = SyntheticTable(SCHEMA, frame(ROWS).iloc[:0])
    write_table(tmp_path / "t.parquet", empty)
    file = SyntheticFile(SCHEMA, tmp_path / "t.parquet")
    (read,) = file.batches()
    pd.testing.assert_frame_equal(read, empty.data)
    assert file.fingerprint == empty.fingerprint


def test_a_packed_table_is_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = RealTable(SCHEMA, frame([(*row[:6], str(i)) for i, row in enumerate(ROWS * 5)]))
    write_table(tmp_path / "t.parquet", table)
    batches = to_arrow(table.data, SCHEMA).to_batches(max_chunksize=3)
    read = (read_packed(tmp_path / "t.parquet", SCHEMA), conform_packed(batches, SCHEMA))
    for packed in read:
        assert pa.types.is_dictionary(packed.data.column("c").type)
        pd.testing.assert_frame_equal(packed.unpack().data, table.data)
        pd.testing.assert_series_equal(packed.column("c"), table.data["c"], check_names=False)
        monkeypatch.setattr(table_module, "BATCH_ROWS", 4)
        parts = list(packed.batches())
        assert [len(p) for p in parts] == [4, 4, 2]
        pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), table.data)
        monkeypatch.undo()
        assert "NA" not in repr(packed)
    pd.testing.assert_frame_equal(conform(batches, SCHEMA).data, table.data)


def test_a_packed_table_splits_as_the_frame_does() -> None:
    table = numbers(40, entity=4)
    packed = PackedTable(table.schema, to_arrow(table.data, table.schema))
    one, other = (split(t, holdout=0.3, seed=5) for t in (table, packed))
    for a, b in ((one.train, other.train), (one.holdout, other.holdout)):
        pd.testing.assert_frame_equal(a.data, b.unpack().data)


def test_a_packed_table_has_the_columns_of_its_schema() -> None:
    with pytest.raises(SchemaError, match="order"):
        PackedTable(SCHEMA, to_arrow(frame(ROWS), SCHEMA).select(["w"]))
