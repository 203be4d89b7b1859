"""Tables of PostgreSQL and SQLite: one transaction makes, fills, compares and swaps in a new one.

Rows go into a staging table and are compared with what was sent (SQLite: read back; PostgreSQL
hashes what stands there, the sink what it sends); then it takes the target's name. Until the commit
everybody else sees the old table, and after a failure for good. The manifest is a row of the table
`MANIFESTS`, written in the same transaction.
"""

from __future__ import annotations

import os
import secrets
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from synthgen import stores
from synthgen.errors import ConfigError, GateRefused, TargetBusy, TargetExists
from synthgen.schema import TableSchema
from synthgen.sinks.sink import Describe, Judge, Sink, Synthetic, Written
from synthgen.sources.database import sqlite_batch, sqlite_types, typed_columns
from synthgen.sources.row_hash import SAMPLE_SQL, RowHashes, hash_rows, hashed_in_sql, sample_row
from synthgen.uri import TableAddress, quote_name

MANIFESTS = "synthgen_manifests"
_CREATE_MANIFESTS = (
    f"CREATE TABLE IF NOT EXISTS {MANIFESTS} (table_name text PRIMARY KEY, manifest text NOT NULL)"
)


@dataclass(frozen=True)
class _Database(Sink):
    address: TableAddress

    def __post_init__(self) -> None:
        if self.address.query is not None:
            raise ConfigError("a target is a table: use ?table=NAME, not ?query=")

    @property
    def uri(self) -> str:  # type: ignore[override]
        """The address, which holds no secret."""
        return self.address.uri

    @abstractmethod
    def _there(self, cursor: Any) -> bool:
        """Whether the table exists."""

    def _refuse_existing(self, cursor: Any, *, overwrite: bool) -> None:
        if self._there(cursor) and not overwrite:
            raise TargetExists(
                f"{self.uri}: the table is there already; use another name or --overwrite"
            )

    def _differs(self) -> GateRefused:
        return GateRefused(
            f"{self.uri}: what stands there is not what passed the gate; nothing was exported"
        )


def _refuse_many(uri: str, names: Sequence[str], most: int) -> None:
    if len(names) > most:
        raise ConfigError(
            f"{uri}: {len(names):,} columns are more than the {most:,} that a table there has; "
            "name a .parquet target"
        )


@dataclass(frozen=True)
class PostgresTable(_Database):
    """A table of PostgreSQL, filled by binary COPY."""

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse names that it would cut off, and more columns than it takes."""
        _refuse_many(self.uri, names, 1_600)
        if long := [name for name in names if len(name.encode()) > 63]:
            raise ConfigError(
                f"{self.uri}: {len(long)} names of columns have more than 63 bytes, which "
                f"PostgreSQL cuts off: '{long[0]}'; rename it in the input"
            )

    def check(self, *, overwrite: bool) -> None:
        """Connect; look for the table, and for the right to make one."""
        with closing(stores.postgres(self.address)) as connection, connection.cursor() as cursor:
            with stores.asking(self.address):
                self._refuse_existing(cursor, overwrite=overwrite)
                may = _one(
                    cursor, "SELECT has_schema_privilege(coalesce($1, current_schema()), 'CREATE')",
                    self._schema,
                )  # fmt: skip
            if not may:
                raise ConfigError(f"{self.uri}: the user may not create tables there; ask for it")

    @property
    def _schema(self) -> str | None:
        schema, dot, _ = self.address.table.partition(".")
        return schema if dot else None

    def _there(self, cursor: Any) -> bool:
        return bool(_one(cursor, "SELECT to_regclass($1) IS NOT NULL", self.address.quoted()))

    def put(
        self, table: Synthetic, judge: Judge, describe: Describe, *, overwrite: bool
    ) -> Written:
        """Make, fill, compare, swap, commit."""
        staging = f"synthgen_staging_{secrets.token_hex(6)}"
        with (
            closing(stores.postgres(self.address)) as connection,
            connection.cursor() as cursor,
            stores.asking(self.address),
        ):
            locked = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))"
            if not _one(cursor, locked, f"synthgen {self.address.quoted()}"):
                raise TargetBusy(f"{self.uri} is held by another run; wait for it")
            self._refuse_existing(cursor, overwrite=overwrite)
            sent = RowHashes()
            reader = _reader(table, sent)
            cursor.adbc_ingest(staging, reader, mode="create", db_schema_name=self._schema)
            named = staging if self._schema is None else f"{self._schema}.{staging}"
            self._compare(cursor, self.address.quoted(named), reader.schema, sent)
            written = Written(self.uri, sent.hexdigest(), 0, len(table))
            target, name = self.address.quoted(), self.address.table.rpartition(".")[2]
            for statement in (
                f"DROP TABLE IF EXISTS {target}",
                f"ALTER TABLE {self.address.quoted(named)} RENAME TO {quote_name(name)}",
                _CREATE_MANIFESTS,
            ):
                cursor.execute(statement)
            row = (self.address.table,)
            cursor.execute(f"DELETE FROM {MANIFESTS} WHERE table_name = $1", row)
            cursor.execute(f"INSERT INTO {MANIFESTS} VALUES ($1, $2)", (*row, describe(written)))
            connection.commit()
        return written

    def _compare(self, cursor: Any, staging: str, schema: pa.Schema, sent: RowHashes) -> None:
        """Hold the rows that stand in `staging` against those that were sent.

        The server hashes them, one number comes back. One that hashes otherwise (another release,
        encoding or byte order) sends the rows, which are hashed here.
        """
        cursor.execute(f"SELECT {SAMPLE_SQL}")
        if cursor.fetchone()[0] % 2**64 == hash_rows(sample_row())[0]:
            cursor.execute(f"SELECT count(*), sum({hashed_in_sql(schema)})::text FROM {staging}")
            rows, total = cursor.fetchone()
        else:
            found = self._read_back(cursor, staging)
            rows, total = len(found), found.total
        if rows != len(sent) or int(total or 0) % 2**64 != sent.total:
            raise self._differs()

    def _read_back(self, cursor: Any, staging: str) -> RowHashes:
        cursor.execute(f"SELECT * FROM {staging} LIMIT 0")
        listed = typed_columns(self.uri, cursor.fetch_record_batch().schema)
        cursor.execute(f"SELECT {listed} FROM {staging}")
        found = RowHashes()
        for batch in cursor.fetch_record_batch():
            found.add(batch)
        return found

    def manifest(self) -> str | None:
        """Read the table's row of `MANIFESTS`."""
        with (
            closing(stores.postgres(self.address)) as connection,
            connection.cursor() as cursor,
            stores.asking(self.address),
        ):
            if not _one(cursor, "SELECT to_regclass($1) IS NOT NULL", MANIFESTS):
                return None
            found = f"SELECT max(manifest) FROM {MANIFESTS} WHERE table_name = $1"
            return _one(cursor, found, self.address.table)  # type: ignore[no-any-return]


def _one(cursor: Any, statement: str, value: str | None) -> Any:
    """Return the single cell that a query answers."""
    cursor.execute(statement, (value,))
    return cursor.fetchone()[0]


def _tables(table: Synthetic) -> Iterator[pa.Table]:
    """Yield the rows as they are sent: days as dates, times without nanoseconds."""
    schema = table.schema
    days = [c.name for c in schema.columns if c.resolution == "day" and c.kind == "datetime"]
    days = [name for name in days if schema.column(name).timezone is None]
    for sent in table.arrow():
        for name in days:
            place = schema.names.index(name)
            sent = sent.set_column(place, name, sent.column(name).cast(pa.date32()))
        yield sent


def _reader(table: Synthetic, sent: RowHashes) -> pa.RecordBatchReader:
    """Return the rows as they are sent; each batch is hashed into `sent` when it is taken."""
    tables = _tables(table)
    first = next(tables)

    def batches() -> Iterator[pa.RecordBatch]:
        for rows in chain((first,), tables):
            for batch in rows.to_batches():
                sent.add(batch)
                yield batch

    return pa.RecordBatchReader.from_batches(first.schema, batches())


# --- SQLite -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SqliteTable(_Database):
    """A table of a SQLite file: dates and times as ISO 8601 texts, booleans as 0 and 1."""

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse names that it takes for one, and more columns than it takes."""
        _refuse_many(self.uri, names, 2_000)
        seen: dict[bytes, str] = {}
        for name in names:
            if (other := seen.setdefault(name.encode().lower(), name)) is not name:
                raise ConfigError(
                    f"{self.uri}: SQLite takes the columns '{other}' and '{name}' for one; rename "
                    "one in the input, or name a .parquet target"
                )

    def check(self, *, overwrite: bool) -> None:
        """Look at the folder, the file and the table."""
        path = Path(self.address.connection)
        if "." in self.address.table:
            raise ConfigError(f"{self.uri}: a table of SQLite has no dot in its name")
        if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
            raise ConfigError(f"target {path}: the folder {path.parent} is not there or read-only")
        if path.exists():
            with closing(stores.sqlite(self.address)) as connection, stores.asking(self.address):
                self._refuse_existing(connection, overwrite=overwrite)

    def _there(self, cursor: Any) -> bool:
        found = "SELECT count(*) FROM sqlite_master WHERE name = ?"
        return bool(cursor.execute(found, (self.address.table,)).fetchone()[0])

    def put(
        self, table: Synthetic, judge: Judge, describe: Describe, *, overwrite: bool
    ) -> Written:
        """Make, fill, read back, swap, commit."""
        staging = quote_name(f"synthgen_staging_{secrets.token_hex(6)}")
        target = quote_name(self.address.table)
        with (
            closing(stores.sqlite(self.address, write=True)) as connection,
            stores.asking(self.address),
        ):
            connection.execute("BEGIN IMMEDIATE")
            self._refuse_existing(connection, overwrite=overwrite)
            connection.execute(f"CREATE TABLE {staging} ({_columns(table.schema)})")
            marks = ", ".join("?" * len(table.schema.columns))
            for rows in _sqlite_rows(table):
                connection.executemany(f"INSERT INTO {staging} VALUES ({marks})", rows)
            digest = self._read_back(connection, staging, table)
            written = Written(self.uri, digest, 0, len(table))
            for statement in (
                f"DROP TABLE IF EXISTS {target}",
                f"ALTER TABLE {staging} RENAME TO {target}",
                _CREATE_MANIFESTS,
            ):
                connection.execute(statement)
            connection.execute(
                f"INSERT OR REPLACE INTO {MANIFESTS} VALUES (?, ?)",
                (self.address.table, describe(written)),
            )
            connection.execute("COMMIT")
        return written

    def _read_back(self, connection: Any, staging: str, table: Synthetic) -> str:
        cursor = connection.execute(f"SELECT * FROM {staging} ORDER BY rowid")
        types = sqlite_types(self.uri, connection, staging, table.schema.names)
        digest = RowHashes()
        for rows in _sqlite_rows(table):
            found = cursor.fetchmany(len(rows))
            if found != rows:
                raise self._differs()
            if found:
                digest.add(sqlite_batch(found, table.schema.names, types))
        if cursor.fetchone() is not None:
            raise self._differs()
        return digest.hexdigest()

    def manifest(self) -> str | None:
        """Read the table's row of `MANIFESTS`."""
        if not Path(self.address.connection).exists():
            return None
        with closing(stores.sqlite(self.address)) as connection, stores.asking(self.address):
            there = "SELECT count(*) FROM sqlite_master WHERE name = ?"
            if not connection.execute(there, (MANIFESTS,)).fetchone()[0]:
                return None
            found = f"SELECT max(manifest) FROM {MANIFESTS} WHERE table_name = ?"
            text: str | None = connection.execute(found, (self.address.table,)).fetchone()[0]
            return text


def _columns(schema: TableSchema) -> str:
    kinds = {"numeric": "REAL", "boolean": "INTEGER"}
    whole = {c.name for c in schema.columns if c.kind == "numeric" and c.decimals == 0}
    return ", ".join(
        f"{quote_name(c.name)} {'INTEGER' if c.name in whole else kinds.get(c.kind, 'TEXT')}"
        for c in schema.columns
    )


def _sqlite_rows(table: Synthetic) -> Iterator[list[tuple[Any, ...]]]:
    for sent in _tables(table):
        columns = [_sqlite_cells(column) for column in sent.columns]
        yield list(zip(*columns, strict=True))


def _sqlite_cells(column: pa.ChunkedArray) -> list[Any]:
    cells = column.to_pylist()
    if pa.types.is_temporal(column.type):
        return [None if c is None else c.isoformat() for c in cells]
    if pa.types.is_boolean(column.type):
        return [None if c is None else int(c) for c in cells]
    return list(cells)
