"""Tables of real servers: PostgreSQL, SQLite and S3 are read, and their secrets go nowhere."""

from __future__ import annotations

import datetime as dt
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from synthgen import stores
from synthgen.cli import app
from synthgen.config import RunConfig
from synthgen.conform import conform, violations
from synthgen.errors import ConfigError, DataError, SynthgenError
from synthgen.infer import infer
from synthgen.schema import Column, TableSchema
from synthgen.sources import open_source
from synthgen.sources.database import PostgresSource
from synthgen.uri import absolute, refuse_secrets, scheme, table_address

CANARY = "c@nary-zq7"
SECRET = "pw-c@nary-zq8"
PARIS = dt.timezone(dt.timedelta(hours=1))


@contextmanager
def asked(uri: str, *statements: str) -> Iterator[Any]:
    """Run statements and commit; the cursor stays open."""
    connection = stores.postgres(table_address(f"{uri}&table=none"))
    with closing(connection), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        connection.commit()
        yield cursor


def rows(uri: str) -> dict[str, list[Any]]:
    with open_source(uri) as source:
        return pa.Table.from_batches(source.batches()).to_pydict()


# --- URIs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        f"postgresql://me:{CANARY}@host/db?table=t",
        f"postgresql://me:a/{CANARY}@host/db?table=t",
        f"postgresql://host/db?password={CANARY}&table=t",
        f"postgresql://host/db?sslpassword={CANARY}&table=t",
        f"postgres://me:{CANARY}@host/db?table=t",
        f"s3://AKIA:{CANARY}@bucket/key.csv",
        f"s3://{CANARY}@bucket/key.csv",
        f"s3://bucket/key.csv?secret_key={CANARY}",
        f"mysql://me:{CANARY}@host/db",
        f"postgresql://me:12?{CANARY}@host/db",
        f"postgresql://me:{CANARY}?x@host/db?table=t",
    ],
)
def test_secrets_in_a_uri_are_refused_and_not_repeated(uri: str) -> None:
    for attempt in (
        lambda: open_source(uri),
        lambda: table_address(uri),
        lambda: absolute(uri),
    ):
        with pytest.raises(ConfigError) as caught:
            attempt()
        assert CANARY not in str(caught.value)


def test_a_configuration_never_holds_a_secret() -> None:
    with pytest.raises(
        ConfigError, match=r"data: .*PGPASSWORD(.|\n)*to: .*AWS_ACCESS_KEY"
    ) as caught:
        RunConfig.build(
            {
                "data": f"postgresql://me:{CANARY}@host/db?table=t",
                "to": f"s3://me:{CANARY}@bucket/key.csv",
            }
        )
    assert CANARY not in str(caught.value)


def test_uris_are_taken_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = table_address("postgres://me@host:5433/db?table=clinic.visits&sslmode=require")
    assert found.connection == "postgresql://me@host:5433/db?sslmode=require"
    assert found.select() == 'SELECT * FROM "clinic"."visits"'
    assert "table=clinic.visits" in found.uri
    assert absolute("sqlite:///a b.db?table=t") == f"sqlite:///{tmp_path}/a%20b.db?table=t"
    assert table_address("sqlite:///a.db?query=q.sql").query == tmp_path / "q.sql"
    assert absolute("out/") == f"{tmp_path}/out/"
    assert scheme("C:/x.csv") == "file"
    for wrong in (
        "postgresql://host/db",
        "postgresql://host/db?table=t&query=q",
        "postgresql://host/db?table=t&nonsense=1",
        "sqlite://a.db?table=t",
        "sqlite:///a.db?table=t&mode=rw",
    ):
        with pytest.raises(ConfigError):
            table_address(wrong)
    refuse_secrets("postgresql://me@host/db?table=user@work")


# --- SQLite ---------------------------------------------------------------------------------------


@pytest.fixture
def clinic(tmp_path: Path) -> str:
    path = tmp_path / "clinic.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE visits (i INTEGER, r REAL, t TEXT, mixed, empty, big)")
        connection.executemany(
            "INSERT INTO visits VALUES (?, ?, ?, ?, ?, ?)",
            [(1, 1.5, "00123", 1, None, 2**60 + 1), (None, 2, "é", "x", None, 3)],
        )
        connection.commit()
    return f"sqlite:///{path}?table=visits"


def test_sqlite_columns_are_what_their_cells_are(clinic: str) -> None:
    assert rows(clinic) == {
        "i": [1, None],
        "r": [1.5, 2.0],
        "t": ["00123", "é"],
        "mixed": ["1", "x"],
        "empty": [None, None],
        "big": [2**60 + 1, 3],
    }


def test_sqlite_query_file(clinic: str, tmp_path: Path) -> None:
    query = tmp_path / "adults.sql"
    query.write_text("SELECT t AS code, count(*) AS n\nFROM visits GROUP BY t ORDER BY n, t;\n")
    uri = clinic.replace("table=visits", f"query={query}")
    assert rows(uri) == {"code": ["00123", "é"], "n": [1, 1]}
    with open_source(uri) as source:
        assert infer(source).name == "adults"


def test_sqlite_readings_see_the_same_rows(clinic: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as writer:
        writer.execute("PRAGMA journal_mode=WAL")  # else a reader keeps writers out
    with open_source(clinic) as source:
        first, digest = sum(b.num_rows for b in source.batches()), source.digest()
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as writer, open_source(clinic) as source:
        assert source.digest() == digest
        writer.execute("INSERT INTO visits (i) VALUES (7)")
        writer.commit()
        assert sum(b.num_rows for b in source.batches()) == first == 2
        assert source.digest() == digest
    with open_source(clinic) as source:
        assert source.digest() != digest


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CREATE TABLE u (b BLOB); INSERT INTO u VALUES (x'00')", "columns hold blobs: 'b'"),
        ("CREATE VIEW u AS SELECT i, i AS I2, t AS i FROM visits", "appears 2 times|'i:1'|refused"),
        (f"CREATE TABLE u (t TEXT); INSERT INTO u VALUES (CAST(x'{'ff'}' AS TEXT))", "refused"),
    ],
)
def test_unusable_sqlite(clinic: str, tmp_path: Path, statement: str, message: str) -> None:
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
        connection.executescript(statement)
    if "VIEW" in statement:
        assert len(rows(clinic.replace("=visits", "=u"))) == 3  # SQLite renames it itself
        return
    with pytest.raises(DataError, match=message):
        rows(clinic.replace("=visits", "=u"))


def test_missing_sqlite(clinic: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such table"):
        open_source(clinic.replace("=visits", "=nothing"))
    with pytest.raises(DataError, match="no such file"):
        open_source(f"sqlite:///{tmp_path}/none.db?table=t")
    (tmp_path / "text.db").write_text(CANARY * 100)
    with pytest.raises(DataError, match="SQLITE_NOTADB"):
        open_source(f"sqlite:///{tmp_path}/text.db?table=t")


# --- PostgreSQL -----------------------------------------------------------------------------------


def test_a_missing_driver_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql.dbapi", None)
    with pytest.raises(ConfigError, match=r"pip install 'synthgen\[postgres\]'"):
        open_source("postgresql://localhost/db?table=t")


@pytest.mark.slow
def test_postgres_types(postgres: str) -> None:
    create = """CREATE TABLE types (i2 int2, i8 int8, f4 float4, f8 float8, n numeric(10, 2),
        b bool, t text, c char(4), u uuid, d date, ts timestamp, tz timestamptz, j jsonb, m mood,
        h time)"""
    insert = """INSERT INTO types VALUES (1, 9007199254740993, 4.5, 5.25, 12.50, true,
        '00123', 'ab', '6f2c3f8e-9d1c-4a9d-8d4a-2f0f3e4b5c6d', '2024-01-31',
        '2024-01-31 10:00:00.123456',
        '2024-01-31 10:00:00+01', '{"a": 1}', 'low', '10:00'),
        (null, 1, 'NaN', 'NaN', 'NaN', null, '', '', null, 'infinity', null, '-infinity', null,
        null, null)"""
    with asked(postgres, "CREATE TYPE mood AS ENUM ('low', 'high')", create, insert):
        found = rows(f"{postgres}&table=types")
    first = {name: cells[0] for name, cells in found.items()}
    assert first == {
        "i2": 1, "i8": 9007199254740993, "f4": 4.5, "f8": 5.25, "n": "12.50", "b": True,
        "t": "00123", "c": "ab", "u": "6f2c3f8e-9d1c-4a9d-8d4a-2f0f3e4b5c6d",
        "d": dt.date(2024, 1, 31), "ts": dt.datetime(2024, 1, 31, 10, 0, 0, 123456),
        "tz": dt.datetime(2024, 1, 31, 10, tzinfo=PARIS), "j": '{"a": 1}', "m": "low",
        "h": "10:00:00",
    }  # fmt: skip
    assert [found[name][1] for name in ("n", "b", "d", "tz", "u")] == [None] * 5
    assert Decimal(str(first["n"])) == Decimal("12.50")


@pytest.mark.slow
def test_postgres_rows_conform_like_a_file(postgres: str) -> None:
    schema = TableSchema(
        name="visits",
        columns=(
            Column(name="age", kind="numeric", decimals=0, maximum=120),
            Column(name="cost", kind="numeric", decimals=2, nullable=True),
            Column(name="smoker", kind="boolean"),
            Column(name="seen", kind="datetime", timezone="Europe/Berlin"),
        ),
    )
    create = "CREATE TABLE visits (age int, cost numeric(8, 2), smoker bool, seen timestamptz)"
    values = "(54, 12.50, true, '2024-07-01 08:00+00'), (130, null, false, '2024-01-01 08:00+00')"
    with asked(postgres, create, f"INSERT INTO visits VALUES {values}") as cursor:
        with open_source(f"{postgres}&table=public.visits") as source:
            (broken,) = violations(source.batches(), schema)
            assert (broken.column, broken.count, broken.total) == ("age", 1, 2)
        cursor.execute("UPDATE visits SET age = 30 WHERE age = 130")
        cursor.connection.commit()
        with open_source(f"{postgres}&table=public.visits") as source:
            table = conform(source.batches(), schema).data
    assert sorted(table["age"]) == [30, 54]
    assert table["cost"].tolist()[0] == 12.5
    assert sorted(t.hour for t in table["seen"]) == [9, 10]


@pytest.mark.slow
def test_postgres_readings_see_one_snapshot(postgres: str) -> None:
    fill = "INSERT INTO growing SELECT g, repeat('x', 99) FROM generate_series(1, 120000) g"
    with asked(postgres, "CREATE TABLE growing (i int, t text)", fill) as cursor:
        with open_source(f"{postgres}&table=growing") as source:
            batches = source.batches()
            first = next(batches).num_rows
            cursor.execute("INSERT INTO growing VALUES (0, 'late')")
            cursor.connection.commit()
            assert first < 120_000
            assert first + sum(b.num_rows for b in batches) == 120_000
            assert sum(b.num_rows for b in source.batches()) == 120_000
            digest = source.digest()
        with open_source(f"{postgres}&table=growing") as source:
            assert source.digest() != digest
            assert isinstance(source, PostgresSource)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("nothing", 'relation "nothing" does not exist'),
        ("arrays", r"no single value a row: 'a' \(int4\), 'b' \(bytea\)"),
        ("failing", "a row could not be read; what the server said is withheld"),
    ],
)
def test_unusable_postgres(postgres: str, table: str, message: str) -> None:
    create = (
        "CREATE TABLE IF NOT EXISTS arrays (a int[], b bytea)",
        f"CREATE OR REPLACE VIEW failing AS SELECT ('{CANARY}' || s)::int AS n "
        "FROM generate_series(1, 3) s",
    )
    with asked(postgres, *create), pytest.raises(DataError, match=message) as caught:
        rows(f"{postgres}&table={table}")
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.slow
def test_postgres_only_reads(postgres: str, tmp_path: Path) -> None:
    query = tmp_path / "write.sql"
    query.write_text("WITH gone AS (DELETE FROM kept RETURNING *) SELECT * FROM gone")
    with asked(postgres, "CREATE TABLE kept (i int)", "INSERT INTO kept VALUES (1)"):
        with pytest.raises(DataError):
            rows(f"{postgres}&query={query}")
        assert rows(f"{postgres}&table=kept") == {"i": [1]}


@pytest.mark.slow
def test_no_secret_and_no_cell_is_said(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", SECRET)
    uri = f"{postgres}&table=told"
    told = tmp_path / "run"
    with asked(postgres, "CREATE TABLE told (a text)", f"INSERT INTO told VALUES ('{CANARY}')"):
        commands = (
            ["schema", "infer", uri],
            ["schema", "infer", uri.replace("postgres@", "nobody@")],
            ["run", "--data", uri, "--to", f"{tmp_path}/out.csv", "--run-dir", str(told)],
        )
        said = [CliRunner().invoke(app, command) for command in commands]
        with open_source(uri) as source:
            assert SECRET not in repr(source)
    assert [one.exit_code for one in said] == [0, 1, 2]
    assert 'role "nobody" does not exist' in said[1].output
    assert "at least 50" in said[2].output
    assert SECRET not in "".join(one.output for one in said)
    assert CANARY not in said[1].output + said[2].output
    assert not told.exists()


def test_an_unreachable_server_is_said() -> None:
    with pytest.raises(SynthgenError, match=r"no connection to PostgreSQL: .*port 1 failed"):
        open_source("postgresql://me@127.0.0.1:1/db?table=t")


# --- S3 -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_s3_files_and_folders(s3: str) -> None:
    system, path = stores.filesystem(f"{s3}/in")
    for i in (2, 1):
        with system.open_output_stream(f"{path}/part-{i}.parquet") as file:
            pq.write_table(pa.table({"a": [i]}), file)
    with system.open_output_stream(f"{path}.csv.gz", compression="gzip") as file:
        file.write(b"a,b\n1,\xc3\xa9\n")
    assert rows(f"{s3}/in") == {"a": [1, 2]}
    assert rows(f"{s3}/in.csv.gz") == {"a": ["1"], "b": ["é"]}
    with open_source(f"{s3}/in.csv.gz") as source:
        assert infer(source).name == "in"
    with pytest.raises(DataError, match="no such file"):
        open_source(f"{s3}/nothing.csv")
    with pytest.raises(DataError, match="no such file"):
        open_source("s3://nobucket/nothing.csv")
    with pytest.raises(ConfigError, match="names a bucket and a key"):
        open_source("s3://")


@pytest.mark.survives("IO", "PostgreSQL: connection lost in mid-read: said")
@pytest.mark.slow
def test_a_connection_that_is_lost_while_rows_are_read(postgres: str) -> None:
    cell = f"'{CANARY}' || repeat('x', 99)"
    fill = f"INSERT INTO lost SELECT g, {cell} FROM generate_series(1, 300000) g"
    create = "CREATE TABLE lost (i int, t text)"
    uri = f"{postgres}&table=lost"
    with asked(postgres, create, fill) as cursor, open_source(uri) as source:
        batches = source.batches()
        next(batches)
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND query LIKE 'COPY%lost%'"
        )
        assert cursor.fetchone() == (True,)
        with pytest.raises(SynthgenError, match="the connection was lost; start again") as caught:
            list(batches)
    assert CANARY not in str(caught.value)
