"""Issue 8, part 5: inputs at the command line, beside those of tests/test_bad_input.py.

Each ends with a documented exit code, a message that says what is wrong, and no cell in it.
"""

from __future__ import annotations

import gzip
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from synthgen.cli import app

CELL = "c@nary:cell"
GOOD = b"age,sex\n" + b"30,f\n41,m\n" * 15
SCHEMA = """
format = 1
name = "t"
[[column]]
name = "age"
kind = "numeric"
decimals = 0
[[column]]
name = "sex"
kind = "categorical"
"""


def plain(content: bytes, name: str = "t.csv") -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return str(folder / name)

    return make


def parquet(**columns: pa.Array) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        pq.write_table(pa.table(columns), folder / "t.parquet")
        return str(folder / "t.parquet")

    return make


def sqlite(*statements: str, ask: str = "table=t") -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        with closing(sqlite3.connect(folder / "t.db")) as database:
            for statement in statements:
                database.execute(statement)
            database.commit()
        return f"sqlite:///{folder}/t.db?{ask}"

    return make


def parts(**files: bytes) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_bytes(content)
        return f"{folder}/"

    return make


def fifo(folder: Path) -> str:
    os.mkfifo(folder / "t.csv")
    return str(folder / "t.csv")


def loop(folder: Path) -> str:
    (folder / "t.csv").symlink_to(folder / "t.csv")
    return str(folder / "t.csv")


def cut_parquet(folder: Path) -> str:
    path = Path(parquet(age=pa.array([1, 2]))(folder))
    path.write_bytes(path.read_bytes()[:-9])
    return str(path)


NESTED = "of a type that cannot be read"
INTS = pa.array([30, 41] * 15)

REFUSED: dict[str, tuple[Callable[[Path], str], str]] = {
    "UTF-16 without a mark": (plain(GOOD.decode().encode("utf-16-le")), "NUL bytes"),
    "UTF-32 that ends early": (plain(GOOD.decode().encode("utf-32")[:-1]), "utf-32"),
    "a lone surrogate": (plain(GOOD + b"1,\xed\xa0\x80\n"), "is not utf-8 text at byte"),
    "overlong UTF-8": (plain(GOOD + b"1,\xc0\xaf\n"), "is not utf-8 text at byte"),
    "only a byte order mark": (plain(b"\xef\xbb\xbf"), "empty"),
    "only blanks": (plain(b"   \n  \n"), "no name"),
    "only delimiters": (plain(b",,,\n,,,\n"), "4 columns have no name"),
    "only quotes": (plain(b'""\n""\n'), "no name"),
    "an executable": (plain(b"\x7fELF\x02\x01\x01" + bytes(64)), "NUL bytes"),
    "a PDF": (plain(b"%PDF-1.7\n" + bytes(range(128, 256))), "is not utf-8"),
    "a pickle": (plain(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00."), "NUL bytes|utf-8"),
    "a ZIP archive": (plain(b"PK\x03\x04" + bytes(30)), "ZIP archive"),
    "gzip that ends early": (plain(gzip.compress(GOOD * 99)[:-20], "t.csv.gz"), "damaged or end"),
    "gzip of nothing": (plain(gzip.compress(b""), "t.csv.gz"), "empty"),
    "gzip in gzip": (plain(gzip.compress(gzip.compress(GOOD)), "t.csv.gz"), "NUL bytes|utf-8"),
    "gzip of a ZIP archive": (plain(gzip.compress(b"PK\x03\x04" + bytes(30))), "NUL bytes"),
    "zstd that is none": (plain(b"\x28\xb5\x2f\xfd" + bytes(20), "t.csv.zst"), "damaged or end"),
    "Parquet by its name only": (plain(GOOD, "t.parquet"), "Parquet"),
    "Parquet that ends early": (cut_parquet, "Parquet"),
    "Parquet of 4 bytes": (plain(b"PAR1", "t.parquet"), "Parquet"),
    "Parquet without columns": (parquet(), "no columns|empty|rows"),
    "Parquet without rows": (parquet(age=pa.array([], pa.int64())), "no rows|empty"),
    "lists in Parquet": (parquet(age=pa.array([[1], [2]] * 15), sex=INTS), NESTED),
    "structs in Parquet": (parquet(age=pa.array([{"a": 1}] * 30), sex=INTS), NESTED),
    "bytes in Parquet": (parquet(age=pa.array([b"\xff"] * 30), sex=INTS), NESTED),
    "maps in Parquet": (
        parquet(age=pa.array([[("a", 1)]] * 30, pa.map_(pa.string(), pa.int64())), sex=INTS),
        NESTED,
    ),
    "NUL in a name": (parquet(**{"a\0b": INTS}), "NUL"),
    "an empty name": (parquet(**{"": INTS}), "no name"),
    "parts that differ": (parts(a_csv=GOOD, b_csv=b"age\n1\n"), "other columns"),
    "parts of two formats": (parts(a_csv=GOOD, b_parquet=b"PAR1"), "mixes Parquet and CSV"),
    "a folder without parts": (parts(a_txt=GOOD), "no Parquet or CSV parts"),
    "a named pipe": (fifo, "no file|not a file|cannot be read"),
    "a link to itself": (loop, "no such file|cannot be read"),
    "a folder above": (lambda folder: f"{folder}/../{folder.name}/none.csv", "no such file"),
    "/dev/zero": (lambda _: "/dev/zero", "not a file|empty|NUL bytes|cannot be read"),
    "another scheme": (lambda _: "ftp://host/t.csv", "scheme 'ftp://' is unknown"),
    "a password": (lambda _: f"postgresql://me:{CELL}@host/db?table=t", "holds a password"),
    "a database that is none": (
        lambda folder: f"sqlite:///{plain(GOOD, 't.db')(folder)}?table=t",
        "SQLite|database",
    ),
    "a table that is not there": (sqlite("CREATE TABLE u (a)"), "no table|no such table"),
    "a table name that is SQL": (
        sqlite("CREATE TABLE t (a)", ask="table=t;DROP TABLE t"),
        "no table|no such table",
    ),
    "an empty table": (sqlite("CREATE TABLE t (a)"), "no rows|empty"),
    "a blob in SQLite": (
        sqlite("CREATE TABLE t (age, sex)", "INSERT INTO t VALUES (x'ff', 'f')"),
        "blobs: 'age'",
    ),
    "a query that writes": (
        lambda folder: sqlite("CREATE TABLE t (a)", ask=f"query={folder}/q.sql")(folder)
        if (folder / "q.sql").write_text("DELETE FROM t RETURNING a")
        else "",
        "SQLite|readonly|read",
    ),
    "two queries": (
        lambda folder: sqlite("CREATE TABLE t (a)", ask=f"query={folder}/q.sql")(folder)
        if (folder / "q.sql").write_text("SELECT a FROM t; DROP TABLE t")
        else "",
        "SQLite|one",
    ),
}  # fmt: skip


@pytest.mark.survives(
    "Inputs", "odd files, folders, databases and URIs at the command line: code 2, no cell"
)
@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("verb", ["infer", "check"])
def test_refused_with_code_2_and_without_a_cell(case: str, verb: str, tmp_path: Path) -> None:
    make, message = REFUSED[case]
    (tmp_path / "in").mkdir()
    (tmp_path / "schema.toml").write_text(SCHEMA)
    uri = make(tmp_path / "in")
    options = ["--schema", str(tmp_path / "schema.toml")] if verb == "check" else []
    done = CliRunner().invoke(app, ["schema", verb, uri, *options])
    drafted = verb == "infer" and message == NESTED  # as free text, which a run refuses
    assert done.exit_code == (0 if drafted else 2), (done.output, done.exception)
    assert "unforeseen" not in done.output
    assert CELL not in done.output
    if verb == "infer":
        assert re.search(message, done.output), done.output
