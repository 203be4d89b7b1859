"""Issue 8, part 5: tables of every kind and size, full of hostile texts, all the way and back.

Whatever the table holds, a run ends with a documented exit code and without a traceback; what it
exports is read back by its own schema as what was written.
"""

from __future__ import annotations

import csv
import gzip
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from synthgen.cli import app
from synthgen.errors import ConfigError
from synthgen.run_folder import RunFolder
from synthgen.schema import TableSchema
from synthgen.sinks import open_sink
from synthgen.sinks.formats import csv_schema
from synthgen.table import read_frame
from synthgen.uri import quote_name

#: 0 done, 1 error, 2 bad input, 3 refused by the gate, 4 busy: see synthgen.cli.
CODES = {0, 1, 2, 3, 4}

NAMES = (
    "a", "A", "a ", "\u0430", "a\u0301", "\u00e1", "select", "rowid", "index", "level_0", "count",
    "value", "source", "=1+1", "'tis", "@x", "a,b", "a;b", 'a"b', "a.b", "a\nb", "{{7*7}}", "%s",
    "x'); DROP TABLE t;--", "\U0001f600", "\u202eabc", "<script>alert(1)</script>", "__rare__",
    "(header)", "..", "a/b", "n" * 200, "n" * 201, "\x00", "\x1b[31m", "nan", "None", "1", "",
)  # fmt: skip
CELLS = (
    "a", "A", " a ", "", "nan", "NA", "None", "null", "=1+1", "'=1", "+x", "-x", "@x", "\tx", "\rx",
    "\nx", 'q"q', "it's", "a,b", "a;b", "a\nb", "\U0001f600", "\u202eabc", "caf\u00e9",
    "cafe\u0301", "\x00", "\x1b[31m", "\ufeffx", "__rare__", "True", "0123", "1e400", "inf", "1_0",
    "9007199254740993", "-0", "0x10", "2024-02-30", "2024-01-01T00:00:00+14:00", "<b>x</b>",
    "{{7*7}}", "${jndi:ldap://x}", "x" * 10_000, "\ud7ff", "\uffff", "\u2028",
)  # fmt: skip
KINDS = ("number", "whole", "extreme", "text", "level", "date", "time", "flag", "id", "null")


@dataclass(frozen=True)
class Case:
    """A table to be: which columns, how many rows, in which format, drawn by which seed."""

    columns: tuple[tuple[str, str], ...]  # name, kind
    rows: int
    source: str
    target: str
    seed: int


cases = st.builds(
    Case,
    columns=st.lists(
        st.tuples(st.sampled_from(NAMES) | st.text(min_size=1, max_size=5), st.sampled_from(KINDS)),
        min_size=1,
        max_size=5,
    ).map(tuple),
    rows=st.sampled_from((0, 1, 2, 19, 49, 50, 60, 90, 200, 2_000)),
    source=st.sampled_from((".csv", ".csv.gz", ".parquet", "sqlite")),
    target=st.sampled_from((".csv", ".parquet", "sqlite")),
    seed=st.integers(0, 2**31),
)


def cells_of(kind: str, rows: int, rng: np.random.Generator) -> list[Any]:
    """Return the cells of one column, some of them missing."""
    made: dict[str, Any] = {
        "number": lambda: (rng.normal(size=rows) * 10.0 ** rng.integers(-8, 9)).tolist(),
        "whole": lambda: rng.integers(-(2**40), 2**40, rows).tolist(),
        "extreme": lambda: rng.choice([5e-324, 1e308, -1e308, 0.0, -0.0, 1e17], rows).tolist(),
        "text": lambda: rng.choice(np.array(CELLS, object), rows).tolist(),
        "level": lambda: rng.choice(np.array(CELLS, object)[rng.integers(0, 44, 3)], rows).tolist(),
        "date": lambda: [str(d) for d in np.datetime64("0001-01-01") + rng.integers(0, 3e6, rows)],
        "time": lambda: [
            f"{d}Z" for d in np.datetime64("2024-01-01T00:00:00") + rng.integers(0, 10**8, rows)
        ],
        "flag": lambda: rng.choice(np.array(["yes", "no"], object), rows).tolist(),
        "id": lambda: [f"=k-{i}" for i in range(rows)],
        "null": lambda: [None] * rows,
    }
    cells = made[kind]()
    gaps = rng.random(rows) < (0.1 if rng.random() < 0.5 else 0.0)
    return [None if gap else cell for cell, gap in zip(cells, gaps, strict=True)]


def write(case: Case, folder: Path) -> str:
    """Write the table of `case`; return its URI."""
    rng = np.random.default_rng(case.seed)
    names = [name for name, _ in case.columns]
    if case.source == "sqlite":  # takes no NUL, and "a" and "A" for one
        texts = [name.replace("\0", "0") for name in names]
        lower = [name.lower() for name in texts]
        names = [
            f"{name}{i}" if lower.count(name.lower()) > 1 else name for i, name in enumerate(texts)
        ]
    columns = [cells_of(kind, case.rows, rng) for _, kind in case.columns]
    if case.source == "sqlite":
        with closing(sqlite3.connect(folder / "in.db")) as database:
            named = ", ".join(f"{quote_name(n)}" for n in names)
            database.execute(f"CREATE TABLE t ({named})")
            marks = ", ".join("?" * len(names))
            rows = zip(*columns, strict=True)
            database.executemany(f"INSERT INTO t VALUES ({marks})", rows)
            database.commit()
        return f"sqlite:///{folder}/in.db?table=t"
    path = folder / f"in{case.source}"
    if case.source == ".parquet":
        pq.write_table(pa.table([pa.array(c) for c in columns], names=names), path)
        return str(path)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(zip(*columns, strict=True))
    return str(path)


def said(*arguments: object) -> Result:
    """Call the command line; it must end with a documented code, and foresee what went wrong."""
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code in CODES, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert "unforeseen" not in done.output, done.output
    assert "failed with" not in done.output, done.output
    assert "Traceback" not in done.output
    return done


CONFIG = """
rows = 30
seed = 1
device = "cpu"
[train]
steps = 5
critic_steps = 2
width = 8
depth = 1
latent = 2
[gate]
max_marginal_excess = "off"
max_pair_loss = "off"
max_c2st = "off"
min_utility = "off"
max_dcr_z = "off"
max_membership_auc = "off"
max_attack_risk = "off"
prove_power = false
min_privacy_rows = 2
max_copy_excess = 1.0
copy_p = 1e-9
samples = 1
"""


def goes_all_the_way(case: Case) -> int:
    """Infer, read, encode, train, draw, judge, export and read back; return the exit code."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        uri = write(case, folder)
        to = f"sqlite:///{folder}/out.db?table=t" if case.target == "sqlite" else ""
        to = to or str(folder / f"out{case.target}")
        (folder / "quick.toml").write_text(CONFIG)
        said("schema", "infer", uri)
        options = ["--config", folder / "quick.toml", "--run-dir", folder / "run", "-q"]
        done = said("run", "--data", uri, "--to", to, *options)
        if done.exit_code == 0:
            run = RunFolder.open(folder / "run")
            comes_back(run, to)
        return done.exit_code


def comes_back(run: RunFolder, to: str) -> None:
    """Read what was exported, by its own schema: it is what the run drew."""
    from synthgen.conform import conform
    from synthgen.sources import open_source

    schema = TableSchema.load(run.root / "schema.toml").without_drafts()
    schema = csv_schema(schema) if to.endswith(".csv") else schema
    with open_source(to, schema) as source:
        back = conform(source.batches(), schema).data
    drawn = read_frame(run.synthetic_path, schema)
    assert len(back) == len(drawn)
    for name in schema.names:
        assert back[name].isna().tolist() == drawn[name].isna().tolist(), name


Record = Callable[[str, object], None]
FEW, MANY = count(1), count(1)


@pytest.mark.survives(
    "Inputs", "hostile tables, all the way and back: a documented exit code, no traceback"
)
@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)
@example(
    Case((("=1+1", "level"), ("a", "id"), ("A", "extreme"), ("d", "date")), 60, ".csv", ".csv", 3)
)
@given(cases)
def test_a_few_hostile_tables(record_property: Record, case: Case) -> None:
    goes_all_the_way(case)
    record_property("tried", next(FEW))


@pytest.mark.survives(
    "Inputs", "hostile tables, all the way and back: a documented exit code, no traceback"
)
@pytest.mark.faults
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(cases)
def test_many_hostile_tables(record_property: Record, case: Case) -> None:
    goes_all_the_way(case)
    record_property("tried", next(MANY))


@pytest.mark.survives("Inputs", "names that a database cannot hold: refused before the work")
@pytest.mark.parametrize(
    ("uri", "names", "message"),
    [
        ("sqlite:///o.db?table=t", ["a", "b", "A"], "the columns 'a' and 'A' for one"),
        ("sqlite:///o.db?table=t", ["é", "É", "x" * 200], None),
        ("sqlite:///o.db?table=t", [f"c{i}" for i in range(2_001)], "2,001 columns"),
        ("postgresql://h/d?table=t", ["a", "é" * 32], "more than 63 bytes"),
        ("postgresql://h/d?table=t", ["a", "A", "x" * 63], None),
        ("postgresql://h/d?table=t", [f"c{i}" for i in range(1_601)], "1,601 columns"),
        ("out.csv", ["a", "A"], None),
    ],
)
def test_names_that_a_database_cannot_hold_are_refused_before_the_work(
    uri: str, names: list[str], message: str | None
) -> None:
    sink = open_sink(uri)
    if message is None:
        sink.check_names(names)
        return
    with pytest.raises(ConfigError, match=message):
        sink.check_names(names)
