"""Issue 2, "Bad input": what a user may hand over, through open_source, infer and conform.

Each case is a clear error that names the column and the count, or is read and comes out whole.
The canary is a cell: no message may hold it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from synthgen.conform import conform, refuse_unmodelled
from synthgen.errors import DataError, SchemaError, SynthgenError
from synthgen.infer import infer
from synthgen.schema import TableSchema
from synthgen.sources import open_source
from synthgen.table import RealTable, split

CANARY = "c@nary:cell"

SCHEMA = """
format = 1
name = "t"

[[column]]
name = "age"
kind = "numeric"
decimals = 0
maximum = 120

[[column]]
name = "sex"
kind = "categorical"
categories = ["f", "m"]
"""


def run(path: Path, declared: str | None = None) -> RealTable:
    """Do what a run does before it trains."""
    schema = TableSchema.from_toml(declared) if declared else None
    source = open_source(str(path), schema)
    schema = schema or infer(source)
    refuse_unmodelled(schema)
    table = conform(source.batches(), schema)
    split(table, holdout=0.2, seed=0)
    return table


def rows(*lines: str, header: str = "age,sex", n: int = 30) -> bytes:
    """Return a good table of n rows, then `lines`."""
    good = [f"{20 + i % 5},{'fm'[i % 2]}" for i in range(n)]
    return "\n".join([header, *good, *lines, ""]).encode()


REFUSED = {
    "empty file": (b"", None, "is empty"),
    "header only": (b"age,sex\n", None, "a header and no rows"),
    "one row": (b"age,sex\n1,f\n", None, "1 rows are too few to split"),
    "two rows": (b"age,sex\n1,f\n2,m\n", None, "2 rows are too few to split"),
    "duplicate columns": (rows(CANARY + ",f", header="age,age"), None, "column 'age' appears 2"),
    "nameless column": (rows(CANARY + ",f", header="age,"), None, "1 columns have no name"),
    "ragged, longer": (rows(f"1,f,{CANARY}"), None, "1 records do not have the header's 2 fields"),
    "ragged, shorter": (rows(CANARY, CANARY), None, "2 records do not have the header's 2 fields"),
    "open quote": (rows(f'"{CANARY},f', "1,f"), None, "1 records do not have"),
    "wrong encoding": (rows(CANARY) + b"1,\xe9\n", None, "is not utf-8 text at byte"),
    "NUL bytes": (rows(CANARY + "\x00,f"), None, "NUL bytes"),
    "inf": (rows("inf,f", "1,f"), SCHEMA, "column 'age': 1 of 32 rows are not finite numbers"),
    "nan": (rows("nan,f"), SCHEMA, "column 'age': 1 of 31 rows are not finite numbers"),
    "1e400": (rows("1e400,f"), SCHEMA, "column 'age': 1 of 31 rows are not finite numbers"),
    "1e308 for a whole number": (rows("1e308,f"), SCHEMA, "column 'age': 1 of 31 rows are whole"),
    "mixed types": (rows(CANARY + ",f"), SCHEMA, "column 'age': 1 of 31 rows are not finite"),
    "unknown category": (rows("1," + CANARY), SCHEMA, "column 'sex': 1 of 31 rows are none of"),
    "out of bounds": (rows("121,f", "122,m"), SCHEMA, "column 'age': 2 of 32 rows are above"),
    "missing": (rows(",f", "1,"), SCHEMA, "column 'sex': 1 of 32 rows are missing"),
    "schema names a column that is not there": (
        rows(CANARY + ",f", header="age,gender"),
        SCHEMA,
        "column 'sex': 31 of 31 rows lack the column",
    ),
    "data has a column that the schema lacks": (
        b"age,sex,note\n" + f"1,f,{CANARY}\n".encode() * 5,
        SCHEMA,
        "column 'note': 5 of 5 rows hold a column that the schema does not have",
    ),
    "wrong delimiter declared": (
        rows(CANARY + ",f"),
        SCHEMA + "[csv]\ndelimiter = ';'",
        "column 'age,sex': 31 of 31",
    ),
    "free text": (
        b"age,note\n" + b"".join(f"{i},{CANARY} fell ill {i}\n".encode() for i in range(50)),
        None,
        "column 'note': Free text: 50 values (100 %) are distinct",
    ),
    "free text by declaration": (
        rows(header="age,sex"),
        SCHEMA.replace("categorical", "text").replace('categories = ["f", "m"]', ""),
        "column 'sex': free text is neither modelled nor copied; drop it",
    ),
    "inf among numbers without a schema": (
        b"x\n" + b"".join(b"%d.5\n" % i for i in range(50)) + b"inf\n",
        None,
        "1 of 51 distinct values are no numbers",
    ),
    "index of pandas": (
        b",age\n0,30\n1,31\n",
        None,
        "1 columns have no name: number 1 (written with an index? drop the first column)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_column_and_count_and_without_a_cell(case: str, tmp_path: Path) -> None:
    content, schema, message = REFUSED[case]
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises((DataError, SchemaError)) as caught:
        run(tmp_path / "t.csv", schema)
    assert message in str(caught.value)
    assert CANARY not in str(caught.value)
    assert caught.value.exit_code == 2
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


READ = {
    "all-null column": (rows(header="age,sex").replace(b",f", b",").replace(b",m", b","), 30),
    "constant column": (b"age,sex\n" + b"5,f\n" * 30, 30),
    "all-unique numbers": (b"x\n" + b"".join(b"%d.5\n" % i for i in range(50)), 50),
    "all-unique ids": (b"id,x\n" + b"".join(b"%d,1\n" % i for i in range(50)), 50),
    "more columns than rows": (
        ",".join(f"c{i}" for i in range(500)).encode() + b"\n" + (b"1," * 499 + b"1\n") * 20,
        20,
    ),
    "huge numbers": (b"x,y\n" + b"1e308,1\n-1e308,2\n" * 10, 20),
    "mixed types with few levels": (b"x,y\n" + b"1,a\nunknown,b\n2,c\n" * 10, 30),
    "inf without a schema is a category": (b"x,y\n" + b"1,a\ninf,b\n2,c\n" * 10, 30),
    "quoted newlines": (b'x,y\n"a\nb",1\n"c",2\n' * 1 + b'"a\nb",1\nc,2\n' * 10, 22),
    "byte order mark": (b"\xef\xbb\xbf" + rows(), 30),
    "spreadsheet dialect": (rows().replace(b",", b";").replace(b"\n", b"\r\n"), 30),
    "one column": (b"x\n" + b"1\n2\n" * 10, 20),
}


@pytest.mark.parametrize("case", READ)
def test_odd_but_good_tables_are_read_whole(case: str, tmp_path: Path) -> None:
    content, n = READ[case]
    (tmp_path / "t.csv").write_bytes(content)
    assert len(run(tmp_path / "t.csv")) == n


def test_a_million_levels_are_refused_in_time(tmp_path: Path) -> None:
    lines = (f"{'zyxw'[i % 4]}{i * 7919 % 1_000_003} {'ab'[i % 2]},1\n" for i in range(100_000))
    (tmp_path / "t.csv").write_text("level,y\n" + "".join(lines))
    with pytest.raises(SchemaError, match="column 'level': Free text: 100,000 values"):
        run(tmp_path / "t.csv")


def test_every_error_is_ours(tmp_path: Path) -> None:
    for content in (
        b"\x00",
        b'"',
        b"\n",
        b",",
        b"\xff\xfe",
        b"PAR1",
        b"a\n\xff",
        b'a,b\n"',
        b"a\x0b1",
    ):
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(SynthgenError):
            run(tmp_path / "t.csv")
