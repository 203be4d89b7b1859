"""Real and synthetic tables are different types, and only one of them can leave.

Inside, every column has one canonical pandas dtype, whatever the file held:

============  ==================================  =======================
kind          dtype                               missing
============  ==================================  =======================
numeric       float64                             NaN
categorical   str                                 NaN
boolean       boolean                             NA
datetime      datetime64[us] or with its zone     NaT
id, text      str                                 NaN
============  ==================================  =======================

No object here shows a cell: a repr is name, rows and columns.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.errors import DataError, SchemaError
from synthgen.rng import stream
from synthgen.schema import Column, TableSchema

#: Rows in one batch of a table that is not read whole, and in one row group of a Parquet file.
BATCH_ROWS = 131_072


def canonical_dtype(column: Column) -> str:
    """Return the pandas dtype in which `column` is held in memory."""
    if column.kind == "datetime":
        return f"datetime64[us, {column.timezone}]" if column.timezone else "datetime64[us]"
    return {"numeric": "float64", "boolean": "boolean"}.get(column.kind, "str")


def localize(wall: pd.Series, timezone: str) -> pd.Series:
    """Return wall-clock times as times of `timezone`; clock changes never raise.

    An hour that the zone skips moves forward, to the next time that exists; one that it repeats is
    the first of the two, summer time. So is it read, written and asked for everywhere.
    """
    first = np.ones(len(wall), bool)
    times: pd.Series = wall.dt.tz_localize(timezone, ambiguous=first, nonexistent="shift_forward")
    return times


def in_zone(stamp: pd.Timestamp, timezone: str | None) -> pd.Timestamp:
    """Return a time in `timezone`: one with an offset converted, one without as `localize` does.

    Without a zone it is what the clock shows.
    """
    if timezone is None:
        return stamp.tz_localize(None)
    if stamp.tz is not None:
        return stamp.tz_convert(timezone)
    local: pd.Timestamp = localize(pd.Series([stamp]), timezone).iloc[0]
    return local


def declared_bound(text: str, column: Column) -> pd.Timestamp:
    """Return a bound of the schema as a point in time, in the column's zone."""
    return in_zone(pd.Timestamp(text), column.timezone)


@dataclass(frozen=True, repr=False)
class _Table:
    """A schema and a frame in canonical dtypes that has exactly the schema's columns."""

    schema: TableSchema
    data: pd.DataFrame

    def __post_init__(self) -> None:
        if list(self.data.columns) != self.schema.names:
            raise SchemaError("the frame's columns are not the schema's columns in order")
        wrong = [
            c.name
            for c in self.schema.columns
            if str(self.data[c.name].dtype) != canonical_dtype(c)
        ]
        if wrong:
            raise SchemaError(f"columns without their canonical dtype: {', '.join(wrong)}")

    def __repr__(self) -> str:
        rows, columns = self.data.shape
        return f"{type(self).__name__}({self.schema.name!r}, {rows:,} rows x {columns} columns)"

    def __len__(self) -> int:
        return len(self.data)

    def batches(self) -> Iterator[pd.DataFrame]:
        """Yield the rows in frames of at most `BATCH_ROWS`; a table without rows is one frame."""
        for start in range(0, max(len(self), 1), BATCH_ROWS):
            yield self.data.iloc[start : start + BATCH_ROWS]

    def column(self, name: str) -> pd.Series:
        """Return one column."""
        return self.data[name]


class RealTable(_Table):
    """Rows of real people or things. Never exported, logged or printed."""

    def filter(self, mask: np.ndarray) -> RealTable:
        """Return the rows where the (N,) `mask` is true."""
        return RealTable(self.schema, self.data[mask].reset_index(drop=True))


@dataclass(frozen=True, repr=False)
class PackedTable:
    """A real table in Arrow, categories as codes: a fifth of the memory of a frame, for many rows.

    Attributes
    ----------
    schema : TableSchema
    data : Table
        Of the schema's columns in order, as `to_arrow` makes them but for numbers, which are
        float64, and categories, which may be dictionary arrays.
    """

    schema: TableSchema
    data: pa.Table

    def __post_init__(self) -> None:
        if self.data.column_names != self.schema.names:
            raise SchemaError("the table's columns are not the schema's columns in order")

    def __repr__(self) -> str:
        columns = len(self.schema.columns)
        return f"PackedTable({self.schema.name!r}, {len(self):,} rows x {columns} columns)"

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def batches(self) -> Iterator[pd.DataFrame]:
        """Yield the rows in canonical frames of at most `BATCH_ROWS`; no rows are one frame."""
        for start in range(0, max(len(self), 1), BATCH_ROWS):
            yield from_arrow(self.data.slice(start, BATCH_ROWS), self.schema)

    def column(self, name: str) -> pd.Series:
        """Return one column as in a canonical frame."""
        return _canonical(self.data.column(name), self.schema.column(name))

    def filter(self, mask: np.ndarray) -> PackedTable:
        """Return the rows where the (N,) `mask` is true."""
        return PackedTable(self.schema, self.data.filter(pa.array(mask)))

    def unpack(self) -> RealTable:
        """Return the same rows as a frame."""
        return RealTable(self.schema, from_arrow(self.data, self.schema))


#: Real rows in one of their two forms.
R = TypeVar("R", RealTable, PackedTable)


@dataclass(frozen=True, repr=False)
class SyntheticTable(_Table):
    """Rows that a synthesizer drew.

    Attributes
    ----------
    synthesizer : str
        Fingerprint of the bundle that drew them.
    seed : int
        The seed of the draw; the same bundle and seed give the same rows.
    """

    synthesizer: str = ""
    seed: int = 0

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the rows; see `fingerprint`."""
        return fingerprint(self.data)

    def arrow(self) -> Iterator[pa.Table]:
        """Yield the rows as they are written, `to_arrow` of each batch."""
        return (to_arrow(frame, self.schema) for frame in self.batches())


@dataclass(frozen=True, repr=False)
class SyntheticFile:
    """Rows that a synthesizer drew, in a Parquet file that `write_batches` wrote: never read whole.

    Attributes
    ----------
    schema : TableSchema
    path : Path
    synthesizer, seed
        As of a `SyntheticTable`.
    """

    schema: TableSchema
    path: Path
    synthesizer: str = ""
    seed: int = 0

    def __repr__(self) -> str:
        columns = len(self.schema.columns)
        return f"SyntheticFile({self.schema.name!r}, {len(self):,} rows x {columns} columns)"

    def __len__(self) -> int:
        return int(pq.read_metadata(self.path).num_rows)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the rows as they are in the file now; that of a `SyntheticTable` of them."""
        return fingerprint(self.batches())

    def batches(self) -> Iterator[pd.DataFrame]:
        """Yield the rows in canonical frames of at most `BATCH_ROWS`, page checksums verified."""
        return (from_arrow(rows, self.schema) for rows in self.arrow())

    def arrow(self) -> Iterator[pa.Table]:
        """Yield the same rows as they stand in the file."""
        return read_arrow(self.path)

    def column(self, name: str) -> pd.Series:
        """Return one column whole; no other is read."""
        table = pq.read_table(self.path, columns=[name], page_checksum_verification=True)
        return _canonical(table.column(name), self.schema.column(name))


@dataclass(frozen=True, repr=False)
class Split(Generic[R]):
    """Disjoint train and holdout rows of one real table; no entity is in both."""

    train: R
    holdout: R

    def __post_init__(self) -> None:
        entity = self.train.schema.entity
        if entity is not None:
            shared = set(self.train.column(entity.name)) & set(self.holdout.column(entity.name))
            if shared:
                raise DataError(f"column '{entity.name}': {len(shared):,} entities on both sides")

    def __repr__(self) -> str:
        return f"Split({len(self.train):,} train rows, {len(self.holdout):,} holdout rows)"


def split(table: R, *, holdout: float, seed: int) -> Split[R]:
    """Shuffle and split `table`, by entity key where the schema has one.

    Parameters
    ----------
    table : RealTable or PackedTable
        N rows, N >= 2.
    holdout : float
        Share of rows (of entities) kept from training, in (0, 1).
    seed : int
        Equal seeds give equal splits.

    Raises
    ------
    DataError
        If a side would be empty.
    """
    groups = _entities(table)
    n_groups = int(groups.max(initial=-1)) + 1
    order = stream(seed, "split").permutation(n_groups)
    n_held = round(n_groups * holdout)
    if not 0 < n_held < n_groups:
        entity = table.schema.entity
        unit = "rows" if entity is None else f"values of the entity key '{entity.name}'"
        raise DataError(f"{n_groups} {unit} are too few to split off a {holdout:.0%} holdout")
    held = np.zeros(n_groups, bool)
    held[order[:n_held]] = True
    mask = held[groups]
    return Split(table.filter(~mask), table.filter(mask))


def split_by_coins(table: R, *, holdout: float) -> Split[R]:
    """Split `table` by one secret coin a row (an entity), for differential privacy.

    A shuffle under a known seed would move other rows when one is added; a coin concerns its row
    alone. The coins are the operating system's and cannot be thrown again.

    Raises
    ------
    DataError
        If a side would be empty.
    """
    groups = _entities(table)
    n_groups = int(groups.max(initial=-1)) + 1
    coins = np.random.default_rng(secrets.randbits(128)).random(n_groups) < holdout
    if coins.all() or not coins.any():
        raise DataError(f"{n_groups} rows are too few to split off a {holdout:.0%} holdout")
    return Split(table.filter(~coins[groups]), table.filter(coins[groups]))


def one_secret_row_each(table: RealTable | PackedTable) -> RealTable | PackedTable:
    """Return one random row of every entity of `table`, in their order, for differential privacy.

    Each row draws a secret number and the entity's largest stays: which row of one entity is kept
    does not depend on whether another is there. Without an entity key nothing is left out.
    """
    if table.schema.entity is None:
        return table
    groups = _entities(table)
    drawn = np.random.default_rng(secrets.randbits(128)).random(len(table))
    order = np.lexsort((drawn, groups))
    is_last = np.append(np.diff(groups[order]) != 0, True)[: len(order)]
    kept = np.zeros(len(table), bool)
    kept[order[is_last]] = True
    return table.filter(kept)


def _entities(table: RealTable | PackedTable) -> np.ndarray:
    """Return the number of each row's entity, (N,): the row's own without an entity key."""
    entity = table.schema.entity
    if entity is None:
        return np.arange(len(table))
    return pd.factorize(table.column(entity.name), use_na_sentinel=False)[0]


def fingerprint(rows: pd.DataFrame | Iterable[pd.DataFrame]) -> str:
    """Return the SHA-256 of the rows in order, dtypes and names included.

    Batches of a table, one at least, have the fingerprint of the whole.
    """
    digest: Any = None
    for frame in (rows,) if isinstance(rows, pd.DataFrame) else rows:
        if digest is None:
            types = repr([(str(n), str(t)) for n, t in frame.dtypes.items()])
            digest = hashlib.sha256(types.encode())
        if len(frame):
            digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return str((digest or hashlib.sha256()).hexdigest())


def to_arrow(frame: pd.DataFrame, schema: TableSchema) -> pa.Table:
    """Return `frame` as it is written: whole numbers as int64, datetimes as timestamps.

    Numbers with declared decimals are rounded to them; text columns become plain strings.
    """
    arrays = []
    for column in schema.columns:
        series = frame[column.name]
        if column.kind == "numeric":
            values, null = series.to_numpy("float64"), series.isna().to_numpy()
            if column.decimals == 0:
                whole = np.where(null, 0, np.round(values)).astype("int64")
                arrays.append(pa.array(whole, mask=null))
            else:
                rounded = values if column.decimals is None else np.round(values, column.decimals)
                arrays.append(pa.array(rounded + 0.0, mask=null))
        elif column.kind == "datetime":
            arrays.append(pa.array(series, pa.timestamp("us", tz=column.timezone)))
        elif column.kind == "boolean":
            arrays.append(pa.array(series, pa.bool_()))
        else:
            arrays.append(pa.array(series, pa.string()))
    return pa.table(arrays, names=schema.names)


def from_arrow(table: pa.Table, schema: TableSchema) -> pd.DataFrame:
    """Return the canonical frame of what `to_arrow` made; trusts its input, unlike `conform`."""
    columns = {c.name: _canonical(table.column(c.name), c) for c in schema.columns}
    return pd.DataFrame(columns, columns=schema.names)


def _canonical(array: pa.ChunkedArray, column: Column) -> pd.Series:
    if column.kind == "numeric":
        return pd.Series(array.cast(pa.float64(), safe=False).to_numpy(), dtype="float64")
    plain = array.cast(pa.string()) if pa.types.is_dictionary(array.type) else array
    values: pd.Series = plain.to_pandas().astype(canonical_dtype(column))
    return values


def write_table(path: Path, table: RealTable | PackedTable | SyntheticTable) -> None:
    """Write `table` as Parquet with page checksums (a flipped bit is found, not read)."""
    write_batches(path, table.batches(), table.schema)


def write_batches(path: Path, frames: Iterable[pd.DataFrame], schema: TableSchema) -> int:
    """Write canonical frames as one Parquet file with page checksums; return the number of rows.

    Memory is that of `BATCH_ROWS` rows and of one frame, however many frames there are.
    """
    return write_arrow(path, (to_arrow(frame, schema) for frame in frames), schema)


def write_arrow(path: Path, tables: Iterable[pa.Table], schema: TableSchema) -> int:
    """Write tables that `to_arrow` made, as `write_batches` does; return the number of rows."""
    pending: list[pa.Table] = []
    rows = waiting = 0
    with pq.ParquetWriter(
        path,
        to_arrow(_no_rows(schema), schema).schema,
        compression="zstd",
        write_page_checksum=True,
    ) as writer:
        for table in tables:
            pending.append(table)
            rows, waiting = rows + len(table), waiting + len(table)
            if waiting >= BATCH_ROWS:
                writer.write_table(pa.concat_tables(pending), BATCH_ROWS)
                pending, waiting = [], 0
        if pending:
            writer.write_table(pa.concat_tables(pending), BATCH_ROWS)
    return rows


def read_arrow(path: Path) -> Iterator[pa.Table]:
    """Yield the rows of a file that `write_batches` wrote; one without rows is one empty table.

    Without `pre_buffer`, which keeps what was read until the file ends: memory would be its.
    """
    with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
        if not file.metadata.num_rows:
            yield file.schema_arrow.empty_table()
        for batch in file.iter_batches(BATCH_ROWS):
            yield pa.table(batch)


def read_packed(path: Path, schema: TableSchema) -> PackedTable:
    """Read the real table that `write_table` wrote, page checksums verified."""
    levels = [c.name for c in schema.columns if c.kind == "categorical"]
    table = pq.read_table(path, read_dictionary=levels, page_checksum_verification=True)
    return PackedTable(schema, table)


def _no_rows(schema: TableSchema) -> pd.DataFrame:
    return pd.DataFrame({c.name: pd.Series(dtype=canonical_dtype(c)) for c in schema.columns})


def read_frame(path: Path, schema: TableSchema) -> pd.DataFrame:
    """Read the canonical frame that `write_table` wrote, page checksums verified."""
    return from_arrow(pq.read_table(path, page_checksum_verification=True), schema)
