"""A table gets to files, folders, S3, SQLite and PostgreSQL whole, or what was there stays."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthgen import stores
from synthgen.checks.gate import Decision, RuleResult
from synthgen.conform import conform
from synthgen.errors import (
    ConfigError,
    GateRefused,
    SynthgenError,
    TargetBusy,
    TargetExists,
)
from synthgen.export import Manifest, export
from synthgen.schema import Column, TableSchema
from synthgen.sinks import database, open_sink
from synthgen.sources import open_source
from synthgen.stores import filesystem
from synthgen.table import SyntheticTable, canonical_dtype
from synthgen.uri import table_address

SCHEMA = TableSchema(
    name="visits",
    columns=(
        Column(name="age", kind="numeric", decimals=0, nullable=True),
        Column(name="cost", kind="numeric", decimals=2),
        Column(name="Ward", kind="categorical", categories=("a", 'b,"\n', "ü"), nullable=True),
        Column(name="smoker", kind="boolean", categories=("0", "1"), nullable=True),
        Column(name="born", kind="datetime", resolution="day", nullable=True),
        Column(name="seen", kind="datetime", timezone="Europe/Berlin"),
    ),
)


def table(n: int = 3) -> SyntheticTable:
    values = {
        "age": [54.0, np.nan, -3.0],
        "cost": [12.5, 0.1, 1e6],
        "Ward": ["a", None, 'b,"\n'],
        "smoker": [True, None, False],
        "born": pd.to_datetime(["1960-02-29", None, "2001-01-01"]),
        "seen": pd.to_datetime(["2024-01-31 10:00:00"] * 3).tz_localize("Europe/Berlin"),
    }
    whole = {
        c.name: pd.Series(values[c.name]).astype(canonical_dtype(c)).take(np.arange(n) % 3)
        for c in SCHEMA.columns
    }
    return SyntheticTable(SCHEMA, pd.DataFrame(whole).reset_index(drop=True), "f" * 64, 7)


def yes(of: SyntheticTable) -> Decision:
    return Decision(True, (RuleResult("schema.output", True),), of.fingerprint)


def put(to: str, n: int = 3, *, overwrite: bool = False) -> Manifest:
    return export(table(n), yes(table(n)), to, manifest={"run": str(n)}, overwrite=overwrite)


def read(uri: str) -> pd.DataFrame:
    with open_source(uri, SCHEMA) as source:
        return conform(source.batches(), SCHEMA).data


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Return a function from a name to a URI in the store that the test is run for."""

    def build(kind: str) -> str:
        name = f"t{abs(hash(request.node.name)) % 10**9}"
        if kind == "postgres":
            return f"{request.getfixturevalue('postgres')}&table={name}"
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/out.db?table={name}"
        if kind.startswith("s3:"):
            return f"{request.getfixturevalue('s3')}/{name}{kind[3:]}"
        return f"{tmp_path}/{name}{kind}"

    return build


KINDS = [
    ".csv.gz",
    ".csv.zst",
    "/",
    "sqlite",
    pytest.param("postgres", marks=pytest.mark.slow),
    pytest.param("s3:.csv.gz", marks=pytest.mark.slow),
    pytest.param("s3:/", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_put_reads_back_and_is_replaced_only_when_asked(
    place: Callable[[str], str], kind: str
) -> None:
    uri = place(kind)
    written = put(uri)
    pd.testing.assert_frame_equal(read(uri), table().data)
    assert Manifest.from_json(open_sink(uri).manifest() or "") == written
    with pytest.raises(TargetExists, match="--overwrite"):
        put(uri, 2)
    assert len(read(uri)) == 3
    again = put(uri, 2, overwrite=True)
    pd.testing.assert_frame_equal(read(uri), table(2).data)
    assert Manifest.from_json(open_sink(uri).manifest() or "") == again
    assert (again.rows, again.sha256 != written.sha256) == (2, True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_table_leaves_nothing(place: Callable[[str], str], kind: str) -> None:
    uri = place(kind)
    with pytest.raises(GateRefused, match="another table"):
        export(table(2), yes(table(3)), uri, manifest={})
    assert open_sink(uri).manifest() is None
    open_sink(uri).check(overwrite=False)


def test_sqlite_rows_that_are_not_those_sent_keep_the_old_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/out.db?table=t"
    put(uri)
    real, calls = database._tables, []

    def other_rows(of: SyntheticTable) -> object:
        """What was sent is one row longer than what is compared."""
        calls.append(1)
        return real(table(4) if len(calls) == 1 else of)

    monkeypatch.setattr(database, "_tables", other_rows)
    with pytest.raises(GateRefused, match="not what passed the gate"):
        put(uri, 2, overwrite=True)
    monkeypatch.undo()
    the_old_one_stands(uri)


def the_old_one_stands(uri: str) -> None:
    assert len(read(uri)) == 3
    assert json.loads(open_sink(uri).manifest() or "")["rows"] == 3
    put(uri, 2, overwrite=True)


#: A server that writes other rows than it was sent: a trigger on every staging table.
BENT = """
CREATE FUNCTION bend() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what} END $$;
CREATE FUNCTION bend_all() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE made record; BEGIN FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() LOOP
IF made.object_identity LIKE '%synthgen_staging%' THEN EXECUTE format('CREATE TRIGGER bend BEFORE
INSERT ON %s FOR EACH ROW EXECUTE FUNCTION bend()', made.object_identity); END IF; END LOOP; END $$;
CREATE EVENT TRIGGER bend_all ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
EXECUTE FUNCTION bend_all();
"""
STRAIGHT = "DROP EVENT TRIGGER bend_all; DROP FUNCTION bend_all(); DROP FUNCTION bend()"


@pytest.mark.slow
@pytest.mark.parametrize(
    "what",
    [
        "NEW.age := NEW.age + 1; RETURN NEW;",
        "NEW.smoker := coalesce(NEW.smoker, false); RETURN NEW;",
        "NEW.cost := NULL; RETURN NEW;",
        "IF NEW.age > 0 THEN RETURN NULL; END IF; RETURN NEW;",
    ],
)
def test_postgres_rows_that_are_not_those_sent_keep_the_old_table(
    place: Callable[[str], str], postgres: str, what: str
) -> None:
    uri = place("postgres")
    put(uri)
    run_sql(postgres, BENT.format(what=what))
    try:
        with pytest.raises(GateRefused, match="not what passed the gate"):
            put(uri, 2, overwrite=True)
    finally:
        run_sql(postgres, STRAIGHT)
    the_old_one_stands(uri)


def run_sql(uri: str, text: str) -> None:
    with closing(stores.postgres(table_address(f"{uri}&table=none"))) as connection:
        with connection.cursor() as cursor:
            for statement in re.split(r";\n|; (?=DROP)", text.strip().removesuffix(";")):
                cursor.execute(statement)
        connection.commit()


@pytest.mark.slow
def test_a_server_that_hashes_otherwise_sends_the_rows_back(postgres: str) -> None:
    """In Latin 1 an umlaut is another byte, so the server's hash of a text is another one."""
    with closing(stores.postgres(table_address(f"{postgres}&table=none"))) as connection:
        connection.adbc_connection.set_autocommit(True)
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE DATABASE latin ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C' "
                "TEMPLATE template0"
            )
    uri = postgres.replace("/postgres?", "/latin?")
    text = SyntheticTable(
        (schema := TableSchema(name="t", columns=(Column(name="t", kind="text"),))),
        pd.DataFrame({"t": ["ü", "plain"]}).astype("str"),
        "f" * 64,
        7,
    )
    written = export(text, yes(text), f"{uri}&table=t", manifest={})
    with open_source(f"{uri}&table=t", schema) as source:
        assert source.digest() == written.sha256
    run_sql(uri, BENT.format(what="NEW.t := 'u'; RETURN NEW;"))
    with pytest.raises(GateRefused, match="not what passed the gate"):
        export(text, yes(text), f"{uri}&table=t", manifest={}, overwrite=True)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import test_sinks
from synthgen.export import Manifest
Manifest.to_json = lambda self: os.kill(os.getpid(), signal.SIGKILL)
test_sinks.put(sys.argv[2], 2, overwrite=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgres", "s3:/"])
def test_killed_in_the_middle_nothing_looks_finished(
    place: Callable[[str], str], kind: str, tmp_path: Path
) -> None:
    """Killed when the rows are there and the manifest is not."""
    uri = place(kind)
    put(uri)
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), uri]
    done = subprocess.run(command, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL
    text = open_sink(uri).manifest()
    if text is None:  # the new table, or a part of it, that no manifest describes
        assert kind == "s3:/"
    else:
        assert Manifest.from_json(text).rows == len(read(uri)) == 3
    open_sink(uri).sweep()
    put(uri, 2, overwrite=True)
    pd.testing.assert_frame_equal(read(uri), table(2).data)
    assert not list(tmp_path.glob(".*"))


def test_sqlite_holds_no_staging_table(tmp_path: Path) -> None:
    put(f"sqlite:///{tmp_path}/out.db?table=visits")
    with closing(sqlite3.connect(tmp_path / "out.db")) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        first = connection.execute("SELECT * FROM visits").fetchone()
    assert {n for n in names if not n.startswith("sqlite_")} == {"visits", "synthgen_manifests"}
    assert first == (54, 12.5, "a", 1, "1960-02-29", "2024-01-31T10:00:00+01:00")


def test_a_foreign_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(ConfigError, match="not written by an export"):
        put(f"{tmp_path}/photos/", overwrite=True)


def test_unusable_targets(tmp_path: Path) -> None:
    for uri, message in (
        (f"sqlite:///{tmp_path}/x.db?query=q.sql", "a target is a table"),
        (f"sqlite:///{tmp_path}/nowhere/x.db?table=t", "is not there or read-only"),
        (f"{tmp_path}/x.parquet.gz", "must end in"),
        ("s3://bucket/x.xlsx", "must end in"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_sink(uri).check(overwrite=False)


def test_a_remote_target_is_held_by_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHGEN_HOME", str(tmp_path))
    uri = "s3://bucket/x.csv"
    busy = pytest.raises(TargetBusy, match=r"s3://bucket/x\.csv is held")
    with open_sink(uri).hold(), busy, open_sink(uri).hold():
        pass


@pytest.mark.slow
def test_s3_that_cannot_be_reached_or_written(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SynthgenError, match="cannot be read or written"):
        put("s3://no-such-bucket/x.csv")
    system, path = filesystem(f"{s3}/x.csv")
    assert system.get_file_info(path).size is None


@pytest.mark.slow
def test_postgres_types_of_an_export(postgres: str) -> None:
    put(f"{postgres}&table=typed")
    with open_source(f"{postgres}&table=typed") as source:
        kinds = {f.name: str(f.type) for f in next(iter(source.batches())).schema}
    assert kinds == {
        "age": "int64",
        "cost": "double",
        "Ward": "string",
        "smoker": "bool",
        "born": "date32[day]",
        "seen": "timestamp[us, tz=UTC]",
    }
