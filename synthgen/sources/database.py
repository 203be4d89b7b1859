"""Tables and queries of PostgreSQL and SQLite, read in one transaction from first to last reading.

PostgreSQL streams binary COPY through ADBC: a batch is in memory, never the table. The transaction
is REPEATABLE READ, READ ONLY, so that inference and training see the same rows while others write.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from synthgen import stores
from synthgen.errors import DataError
from synthgen.sources.row_hash import RowHashes
from synthgen.sources.source import BATCH_ROWS, Source, check_names
from synthgen.uri import TableAddress, quote_name, table_address

BATCH_BYTES = 8 * 2**20
#: What a PostgreSQL type becomes on the way; what is not here is read as its text.
_AS_IT_IS = "{}"
_FINITE = "CASE WHEN isfinite({0}) THEN {0} END"  # infinity is on no calendar: missing
_POSTGRES_TYPES = {
    **dict.fromkeys(
        ("bool", "int2", "int4", "int8", "float4", "float8", "text", "varchar", "name"), _AS_IT_IS
    ),
    **dict.fromkeys(("date", "timestamp", "timestamptz"), _FINITE),
    "numeric": "NULLIF({0}::text, 'NaN')",  # every digit kept, decimals as declared
    "oid": "{0}::int8",
}


@dataclass(frozen=True, kw_only=True)
class DatabaseSource(Source):
    """What one SELECT answers; the connection stays open until `close`."""

    address: TableAddress
    connection: Any = field(repr=False)
    select: str = field(repr=False)

    def digest(self) -> str:
        """Return the SHA-256 of the rows as a set: a database promises no order."""
        found = RowHashes()
        for batch in self.batches():
            found.add(batch)
        return found.hexdigest()

    def close(self) -> None:
        """End the transaction and the connection."""
        self.connection.close()


# --- PostgreSQL ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PostgresSource(DatabaseSource):
    """A table or query of PostgreSQL."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in the server's order."""
        with stores.asking(self.address), self.connection.cursor() as cursor:
            cursor.adbc_statement.set_options(
                **{"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)}
            )
            cursor.execute(self.select)
            yield from cursor.fetch_record_batch()


def open_postgres(uri: str) -> Source:
    """Begin a transaction and describe the table or query at `uri`."""
    address = table_address(uri)
    inner = address.select()
    connection = stores.postgres(address)
    try:
        with stores.asking(address), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute(f"SELECT * FROM ({inner}) AS asked LIMIT 0")
            schema = cursor.fetch_record_batch().schema
        check_names(uri, schema.names)
        select = f"SELECT {typed_columns(uri, schema)} FROM ({inner}) AS asked"
    except BaseException:
        connection.close()
        raise
    return PostgresSource(
        uri=address.uri,
        format="postgresql",
        table=_name(address),
        names=list(schema.names),
        address=address,
        connection=connection,
        select=select,
    )


def typed_columns(uri: str, schema: pa.Schema) -> str:
    """Return the SELECT list that gives each column a type of which `conform` knows one value."""
    listed, refused = [], []
    for column in schema:
        kind = (column.metadata or {}).get(b"POSTGRESQL:type", b"").decode()
        name = quote_name(column.name)
        if kind == "bytea" or pa.types.is_nested(column.type):
            refused.append(f"'{column.name}' ({kind.removeprefix('_')})")
        listed.append(f"{_POSTGRES_TYPES.get(kind, '{}::text').format(name)} AS {name}")
    if refused:
        raise DataError(
            f"{uri}: columns that hold no single value a row: {', '.join(refused)}; "
            "leave them out with ?query=FILE.sql"
        )
    return ", ".join(listed)


# --- SQLite -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SqliteSource(DatabaseSource):
    """A table or query of SQLite: typed by what its cells are, for columns promise nothing."""

    types: tuple[pa.DataType, ...]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in the file's order."""
        with stores.asking(self.address):
            cursor = self.connection.execute(self.select)
            while rows := cursor.fetchmany(BATCH_ROWS):
                yield sqlite_batch(rows, self.names, self.types)


def open_sqlite(uri: str) -> Source:
    """Begin a transaction and find the types of the table or query at `uri`."""
    address = table_address(uri)
    inner = address.select()
    connection = stores.sqlite(address)
    try:
        with stores.asking(address):
            connection.execute("BEGIN")
            described = connection.execute(f"SELECT * FROM ({inner}) LIMIT 0").description
        names = [column[0] for column in described]
        check_names(uri, names)
        with stores.asking(address):
            types = sqlite_types(uri, connection, inner, names)
    except BaseException:
        connection.close()
        raise
    return SqliteSource(
        uri=address.uri,
        format="sqlite",
        table=_name(address),
        names=names,
        address=address,
        connection=connection,
        select=inner,
        types=types,
    )


def sqlite_types(
    uri: str, connection: sqlite3.Connection, inner: str, names: list[str]
) -> tuple[pa.DataType, ...]:
    """Return int64, float64 or string for each column: the narrowest that all its cells have."""
    listed = ", ".join(f"group_concat(DISTINCT typeof({quote_name(name)}))" for name in names)
    found = connection.execute(f"SELECT {listed} FROM ({inner})").fetchone()
    kinds = [set((text or "").split(",")) - {"null", ""} for text in found]
    blobs = [f"'{name}'" for name, kind in zip(names, kinds, strict=True) if "blob" in kind]
    if blobs:
        raise DataError(f"{uri}: columns hold blobs: {', '.join(blobs)}; leave them out (?query=)")
    return tuple(map(_narrowest, kinds))


def sqlite_batch(
    rows: Sequence[tuple[Any, ...]], names: Sequence[str], types: Sequence[pa.DataType]
) -> pa.RecordBatch:
    """Return rows of SQLite (one at least) as columns of `types`."""
    arrays = [*map(_sqlite_array, zip(*rows, strict=True), types)]
    return pa.record_batch(arrays, names=list(names))


def _narrowest(kinds: set[str]) -> pa.DataType:
    if kinds == {"integer"}:
        return pa.int64()
    return pa.float64() if kinds and kinds <= {"integer", "real"} else pa.string()


def _sqlite_array(cells: tuple[Any, ...], kind: pa.DataType) -> pa.Array:
    """Return the cells of one column; numbers among texts become texts, every digit kept."""
    if pa.types.is_string(kind):
        cells = tuple(c if c is None or isinstance(c, str) else repr(c) for c in cells)
    elif pa.types.is_floating(kind):
        cells = tuple(None if c is None else float(c) for c in cells)
    return pa.array(cells, kind)


def _name(address: TableAddress) -> str:
    return address.query.stem if address.query else address.table.rpartition(".")[2]
