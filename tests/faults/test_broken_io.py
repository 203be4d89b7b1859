"""Issue 8, part 3: stores that fail in the middle, files that are cut, damaged or changed.

Whatever a store does, a table arrives whole, or an error says where and quotes no cell, and what
was there before stays or nothing says that it is whole. What is read is what was written, or the
file is refused.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as client
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from proxy import Faults, faulty_s3

from synthgen.checks.gate import Decision, RuleResult
from synthgen.errors import DataError, SynthgenError
from synthgen.export import Manifest, export
from synthgen.schema import Column, TableSchema
from synthgen.sinks import database, open_sink
from synthgen.sinks.database import PostgresTable
from synthgen.sources import open_source
from synthgen.table import SyntheticTable, canonical_dtype

survives = pytest.mark.survives
PART = "IO"
CANARY = "c@nary"

SCHEMA = TableSchema(
    name="stays",
    columns=(
        Column(name="cost", kind="numeric", decimals=2),
        Column(name="ward", kind="categorical", categories=(CANARY, "b")),
    ),
)


def table(n: int) -> SyntheticTable:
    draw = np.random.default_rng(n)
    frame = pd.DataFrame(
        {
            "cost": pd.Series(draw.uniform(0, 1e6, n).round(2)),
            "ward": pd.Series(draw.choice([CANARY, "b"], n)).astype(
                canonical_dtype(SCHEMA.column("ward"))
            ),
        }
    )
    return SyntheticTable(SCHEMA, frame, "f" * 64, n)


def put(uri: str, n: int, *, overwrite: bool = False) -> Manifest:
    sent = table(n)
    yes = Decision(True, (RuleResult("schema.output", True),), sent.fingerprint)
    return export(sent, yes, uri, manifest={}, overwrite=overwrite)


def rows_of(uri: str) -> int:
    with open_source(uri) as source:
        return sum(batch.num_rows for batch in source.batches())


def check_whole_or_unfinished(uri: str) -> None:
    """Who finds a manifest finds the whole table that it describes."""
    text = open_sink(uri).manifest()
    if text is not None:
        assert rows_of(uri) == Manifest.from_json(text).rows


# --- S3 -----------------------------------------------------------------------------------------


def every(k: int, fault: int | str) -> Callable[[int, str, str], int | str | None]:
    return lambda number, method, path: fault if number % k == k - 1 else None


PASSING = {
    "a 500 now and then": every(4, 500),
    "a 503 now and then": every(4, 503),
    "throttled (429) now and then": every(4, 429),
    "a connection refused now and then": every(4, "refuse"),
    "an answer lost now and then": every(4, "lose"),
    "three 503 in a row": lambda number, method, path: 503 if 3 <= number < 6 else None,
}


@survives(PART, "S3: 5xx, throttling and lost connections that pass: written and read whole")
@pytest.mark.slow
@pytest.mark.parametrize("ending", [".csv", "/"])
@pytest.mark.parametrize(
    "fault",
    [
        "an answer lost now and then",
        *(
            pytest.param(fault, marks=pytest.mark.faults)
            for fault in PASSING
            if fault != "an answer lost now and then"
        ),
    ],
)
def test_s3_with_faults_that_pass(fault: str, ending: str, s3: str) -> None:
    uri = f"{s3}/passing-{abs(hash(fault))}{ending}"
    faults = Faults(PASSING[fault])
    with faulty_s3(faults):
        put(uri, 3_000)
        assert rows_of(uri) == 3_000
    assert faults.happened
    assert Manifest.from_json(open_sink(uri).manifest() or "").rows == rows_of(uri) == 3_000


FAILING = {
    "refuses to write": lambda number, method, path: 503 if method in ("PUT", "POST") else None,
    "refuses to read": lambda number, method, path: 500 if method in ("GET", "HEAD") else None,
    "forbids": lambda number, method, path: 403 if method == "PUT" else None,
    "resets every upload": lambda number, method, path: "refuse" if method == "PUT" else None,
    "cuts every answer": lambda number, method, path: "cut" if method == "GET" else None,
    "fails from the ninth request on": lambda number, method, path: 503 if number > 8 else None,
    "fails from the twelfth request on": lambda number, method, path: 503 if number > 11 else None,
    "fails from the fifteenth request on": lambda number, method, path: (
        503 if number > 14 else None
    ),
}


@survives(
    PART, "S3: 5xx, resets and cut answers that stay: said; nothing looks finished; works after"
)
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("ending", [".csv", "/"])
@pytest.mark.parametrize("fault", FAILING)
def test_s3_with_faults_that_stay(fault: str, ending: str, s3: str) -> None:
    uri = f"{s3}/failing-{abs(hash(fault))}{ending}"
    put(uri, 2_000)
    faults = Faults(FAILING[fault])
    with faulty_s3(faults):
        try:
            put(uri, 3_000, overwrite=True)
        except SynthgenError as error:
            assert "s3://" in str(error)
            assert CANARY not in str(error)
    check_whole_or_unfinished(uri)
    put(uri, 3_000, overwrite=True)
    assert Manifest.from_json(open_sink(uri).manifest() or "").rows == rows_of(uri) == 3_000


@survives(PART, "S3: connections cut while a table is read: read whole, or said")
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("k", range(1, 7))
@pytest.mark.parametrize("ending", [".csv", "/", ".parquet"])
def test_s3_cut_while_it_is_read(ending: str, k: int, s3: str) -> None:
    uri = f"{s3}/cut{ending}"
    put(uri, 3_000, overwrite=True)
    with faulty_s3(Faults(every(k, "cut"))):
        try:
            found = rows_of(uri)
        except SynthgenError as error:
            assert "cut" in str(error)
            assert CANARY not in str(error)
        else:
            assert found == 3_000
    assert rows_of(uri) == 3_000


# --- PostgreSQL ---------------------------------------------------------------------------------

TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def drop_connections(postgres: str) -> None:
    """Let the server end every other connection."""
    with closing(client.connect(postgres)) as connection, connection.cursor() as cursor:
        cursor.execute(TERMINATE)
        assert (True,) in cursor.fetchall()


def cut_export(moment: str, act: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Let `act` happen while rows are sent, before they are compared, or before the manifest."""
    tables, compare, as_json = database._tables, PostgresTable._compare, Manifest.to_json

    def cut_tables(of: SyntheticTable) -> Iterator[pa.Table]:
        for sent in tables(of):
            act()
            yield sent

    def cut_compare(*arguments: Any) -> None:
        act()
        compare(*arguments)

    def cut_json(manifest: Manifest) -> str:
        act()
        return as_json(manifest)

    where = {
        "sent": (database, "_tables", cut_tables),
        "compared": (PostgresTable, "_compare", cut_compare),
        "manifest": (Manifest, "to_json", cut_json),
    }
    patch.setattr(*where[moment])


@survives(PART, "PostgreSQL: connection lost in mid-export: said, the old table stays")
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["sent", "compared", "manifest"])
def test_postgres_is_lost_while_a_table_is_written(
    moment: str, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{postgres}&table=export_{moment}"
    put(uri, 500)
    with monkeypatch.context() as patch:
        cut_export(moment, lambda: drop_connections(postgres), patch)
        with pytest.raises(SynthgenError, match="connection was lost; start again") as caught:
            put(uri, 700, overwrite=True)
    assert CANARY not in str(caught.value)
    assert caught.value.exit_code == 1
    assert Manifest.from_json(open_sink(uri).manifest() or "").rows == rows_of(uri) == 500
    put(uri, 700, overwrite=True)
    assert rows_of(uri) == 700
    with closing(client.connect(postgres)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'synthgen_staging%'")
        assert cursor.fetchone() == (0,)


# --- SQLite -------------------------------------------------------------------------------------


@survives(PART, "SQLite: locked by another writer in mid-export, or by none: said")
def test_sqlite_that_another_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthgen.stores.CONNECT_SECONDS", 0.1)
    uri = f"sqlite:///{tmp_path}/out.db?table=stays"
    put(uri, 20)
    with closing(sqlite3.connect(tmp_path / "out.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SynthgenError, match="database is locked"):
            put(uri, 30, overwrite=True)
    assert rows_of(uri) == 20
    put(uri, 30, overwrite=True)
    assert rows_of(uri) == 30


@survives(PART, "SQLite: a page of the file overwritten: said, no traceback")
def test_damaged_sqlite(tmp_path: Path) -> None:
    uri, path = f"sqlite:///{tmp_path}/out.db?table=stays", tmp_path / "out.db"
    put(uri, 2_000)
    whole, draw = path.read_bytes(), random.Random(0)
    for _ in range(40):
        damaged = bytearray(whole)
        start = draw.randrange(len(whole) - 512)
        damaged[start : start + 512] = draw.randbytes(512)
        path.write_bytes(damaged)
        try:
            rows_of(uri)
        except SynthgenError as error:
            assert CANARY not in str(error)


# --- files --------------------------------------------------------------------------------------


def parquet(path: Path) -> bytes:
    cells = {"i": pa.array(range(3_000)), "t": pa.array([f"{CANARY}{i}" for i in range(3_000)])}
    pq.write_table(
        pa.table(cells), path, compression="none", use_dictionary=False, write_page_checksum=True
    )
    return path.read_bytes()


@survives(PART, "Parquet with checksums: one byte of it changed: read as it was, or refused")
def test_a_changed_byte_of_a_parquet_file(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    path = tmp_path / "t.parquet"
    whole = parquet(path)
    good = pq.read_table(path)
    places = range(13, len(whole), len(whole) // 150)
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        try:
            with open_source(str(path)) as source:
                found = pa.Table.from_batches(source.batches())
        except DataError as error:
            assert CANARY not in str(error)
        else:
            assert found.equals(good), f"byte {place} of {len(whole)}"
    record_property("tried", len(places))


@survives(PART, "Parquet cut off at any length: refused")
def test_a_parquet_file_that_is_cut_off(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    path = tmp_path / "t.parquet"
    whole = parquet(path)
    lengths = range(0, len(whole), len(whole) // 60)
    for length in lengths:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError) as caught, open_source(str(path)) as source:
            list(source.batches())
        assert CANARY not in str(caught.value)
    record_property("tried", len(lengths))


@survives(PART, "CSV cut off at any length, plain: refused, or the rows before the cut")
def test_a_csv_file_that_is_cut_off(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Where a record lacks fields it is refused; a cut in the last field cannot be told."""
    path = tmp_path / "t.csv"
    lines = [f'{i},"a, ""{i}""",{CANARY}' for i in range(60)]
    whole = "\n".join(["i,t,c", *lines, ""]).encode()
    lengths = range(0, len(whole), 3)
    for length in lengths:
        path.write_bytes(whole[:length])
        try:
            with open_source(str(path)) as source:
                found = pa.Table.from_batches(source.batches()).to_pydict()
        except DataError as error:
            assert CANARY not in str(error)
        else:
            n = len(found["i"])
            assert found["i"] == [str(i) for i in range(n)]
            assert found["t"] == [f'a, "{i}"' for i in range(n)]
            assert found["c"][:-1] == [CANARY] * (n - 1)
    record_property("tried", len(lengths))


def packed(path: Path, codec: str) -> bytes:
    text = "i,t\n" + "".join(f"{i},{CANARY}{i * 7919 % 1000}\n" for i in range(2_000))
    with pa.output_stream(str(path), compression=codec) as stream:
        stream.write(text.encode())
    return path.read_bytes()


@survives(PART, "CSV packed by gzip or zstd and cut off at any length: refused")
@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_packed_file_that_is_cut_off(
    codec: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    path = tmp_path / "t.csv.gz"
    whole = packed(path, codec)
    lengths = range(0, len(whole), len(whole) // 40)
    for length in lengths:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError) as caught:
            rows_at(path)
        assert CANARY not in str(caught.value)
    record_property("tried", len(lengths))


@survives(PART, "CSV packed by gzip, one byte changed: refused, or read as it was")
def test_a_changed_byte_of_a_packed_file(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Pyarrow packs zstd without a checksum: there, as in plain text, no reader could tell."""
    path = tmp_path / "t.csv.gz"
    whole = packed(path, "gzip")
    good = rows_at(path)
    places = range(0, len(whole), len(whole) // 100)
    for place in places:
        path.write_bytes(bytes([*whole[:place], whole[place] ^ 0x10, *whole[place + 1 :]]))
        try:
            assert rows_at(path) == good, f"byte {place} of {len(whole)}"
        except DataError as error:
            assert CANARY not in str(error)
    record_property("tried", len(places))


def rows_at(path: Path) -> object:
    with open_source(str(path)) as source:
        return pa.Table.from_batches(source.batches()).to_pydict()


@survives(PART, "a file that grows, shrinks, is replaced or vanishes between two readings: refused")
@pytest.mark.parametrize("change", ["grows", "shrinks", "is replaced", "vanishes"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_that_changes_between_two_readings(ending: str, change: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{ending}"
    if ending == "csv":
        path.write_text("i,t\n" + f"1,{CANARY}\n" * 5_000)
    else:
        parquet(path)
    content = path.read_bytes()
    with open_source(str(path)) as source:
        assert sum(batch.num_rows for batch in source.batches()) in (3_000, 5_000)
        if change == "vanishes":
            path.unlink()
        elif change == "is replaced":
            (tmp_path / "new").write_bytes(content)
            (tmp_path / "new").replace(path)
        else:
            path.write_bytes(
                content + content if change == "grows" else content[: len(content) // 2]
            )
        with pytest.raises(SynthgenError) as caught:
            list(source.batches())
    assert "changed while it was read" in str(caught.value) or change == "vanishes"
    assert CANARY not in str(caught.value)
