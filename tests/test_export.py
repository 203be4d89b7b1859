"""Only a synthetic table with its own yes leaves, whole or not at all."""

import csv
import json
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.checks.gate import Decision, RuleResult
from synthgen.conform import conform
from synthgen.errors import ConfigError, GateRefused, TargetBusy, TargetExists
from synthgen.export import Manifest, export
from synthgen.files import reserve, sha256, staged, staged_folder
from synthgen.formulas import escape, unescape
from synthgen.schema import Column, TableSchema
from synthgen.sinks import open_sink
from synthgen.sinks.formats import column_text, csv_schema
from synthgen.sinks.local import manifest_path
from synthgen.sources import open_source
from synthgen.table import RealTable, SyntheticTable, canonical_dtype, fingerprint

SCHEMA = TableSchema(
    name="mixed",
    columns=(
        Column(name="n", kind="numeric", decimals=0, nullable=True),
        Column(name="price", kind="numeric", decimals=2),
        Column(name="x", kind="numeric"),
        Column(name="c", kind="categorical", nullable=True, categories=("=a", "-1", "b,\n'c'")),
        Column(name="flag", kind="boolean", categories=("no", "yes")),
        Column(name="day", kind="datetime", resolution="day", format="%d.%m.%Y", nullable=True),
        Column(name="at", kind="datetime", timezone="Europe/Berlin"),
        Column(name="at_us", kind="datetime", resolution="microsecond"),
        Column(name="key", kind="id"),
        Column(name="@name", kind="text", pii="name"),
    ),
)


def frame(schema: TableSchema = SCHEMA) -> pd.DataFrame:
    values = {
        "n": [1.0, np.nan, -3.0],
        "price": [2.5, -0.001, 1e6],
        "x": [3.0, 0.1, 1e300],
        "c": ["=a", None, "b,\n'c'"],
        "flag": [True, False, True],
        "day": pd.to_datetime(["2024-01-31", None, "2023-12-01"]),
        "at": pd.to_datetime(["2024-01-31 10:00:00", "2024-07-31 10:00:00", "2024-07-31 10:00:01"]),
        "at_us": pd.to_datetime(["2024-01-31T10:00:00.000001"] * 3),
        "key": ["A-1", "A-2", "A-3"],
        "@name": ["+Ann", "Bob", "=1+1"],
    }
    out = {}
    for c in schema.columns:
        series = pd.Series(values[c.name])
        if c.timezone:
            series = series.dt.tz_localize(c.timezone)
        out[c.name] = series.astype(canonical_dtype(c))
    return pd.DataFrame(out)


def table(schema: TableSchema = SCHEMA) -> SyntheticTable:
    return SyntheticTable(schema, frame(schema), synthesizer="f" * 64, seed=7)


def yes(of: SyntheticTable) -> Decision:
    return Decision(True, (RuleResult("schema.output", True),), fingerprint(of.data))


def no(of: SyntheticTable) -> Decision:
    rules = (RuleResult("exact_copies", False, reason="too many"),)
    return Decision(False, rules, fingerprint(of.data))


# --- what leaves, and what does not ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_what_is_written_reads_back_as_it_was(tmp_path: Path, name: str) -> None:
    manifest = export(table(), yes(table()), tmp_path / name, manifest={"seed": 7})
    schema = csv_schema(SCHEMA) if name.endswith(".csv") else SCHEMA
    back = conform(open_source(str(tmp_path / name), schema).batches(), schema).data
    expected = frame().assign(price=[2.5, 0.0, 1e6])
    pd.testing.assert_frame_equal(back, expected)
    assert manifest.rows == 3
    assert manifest.sha256 == sha256(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == [name, f"{name}.manifest.json"]


def test_csv_cells_read_as_a_person_expects(tmp_path: Path) -> None:
    export(table(), yes(table()), tmp_path / "out.csv", manifest={})
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["n", "price", "x", "c", "flag", "day", "at", "at_us", "key", "'@name"]
    assert rows[1][:7] == ["1", "2.50", "3", "'=a", "yes", "31.01.2024", "2024-01-31T10:00:00+0100"]
    assert rows[2][:6] == ["", "0.00", "0.1", "", "no", ""]
    assert rows[3][0] == "-3"
    assert rows[3][1:3] == ["1000000.00", "1e+300"]
    assert rows[3][7] == "2024-01-31T10:00:00.000001"


def test_a_single_column_with_a_missing_cell_keeps_its_rows(tmp_path: Path) -> None:
    schema = TableSchema(name="one", columns=(SCHEMA.column("n"),))
    export(table(schema), yes(table(schema)), tmp_path / "out.csv", manifest={})
    assert (tmp_path / "out.csv").read_text() == 'n\n1\n""\n-3\n'


def test_the_manifest_describes_the_file(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    written = export(table(), yes(table()), target, manifest={"device": "cpu"})
    stored = Manifest.from_json(manifest_path(target).read_text())
    assert stored == written
    assert stored.table["fingerprint"] == SCHEMA.fingerprint
    assert stored.decision["passed"] is True
    assert stored.escaped == {"(header)": 1, "c": 1, "@name": 2}
    assert stored.facts == {"device": "cpu"}
    assert "no formal" in stored.privacy


def test_a_real_table_is_refused(tmp_path: Path) -> None:
    real = RealTable(SCHEMA, frame())
    with pytest.raises(TypeError, match="not a RealTable"):
        export(real, yes(table()), tmp_path / "out.csv", manifest={})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_failed_decision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GateRefused, match="refused this table"):
        export(table(), no(table()), tmp_path / "out.csv", manifest={})
    assert not list(tmp_path.iterdir())


def test_a_decision_about_another_table_is_refused(tmp_path: Path) -> None:
    other = SyntheticTable(SCHEMA, frame().iloc[:2], seed=7)
    with pytest.raises(GateRefused, match="another table"):
        export(other, yes(table()), tmp_path / "out.csv", manifest={})


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_file_that_breaks_its_schema_never_appears(tmp_path: Path, name: str) -> None:
    low = Column(name="n", kind="numeric", decimals=0, nullable=True, maximum=0)
    schema = TableSchema(name="low", columns=(low, *SCHEMA.columns[1:]))
    with pytest.raises(GateRefused, match=r"breaks its schema(.|\n)*schema\.output\.n"):
        export(table(schema), yes(table(schema)), tmp_path / name, manifest={})
    assert not list(tmp_path.iterdir())


# --- targets --------------------------------------------------------------------------------------


def test_an_existing_target_needs_overwrite(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("old")
    with pytest.raises(TargetExists, match="--overwrite"):
        export(table(), yes(table()), target, manifest={})
    assert target.read_text() == "old"
    export(table(), yes(table()), target, manifest={}, overwrite=True)
    assert json.loads(manifest_path(target).read_text())["sha256"] == sha256(target)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.xlsx", "must end in"),
        ("nowhere/out.csv", "does not exist"),
        ("folder.csv", "a folder"),
    ],
)
def test_unusable_targets(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match=message):
        open_sink(str(tmp_path / name)).check(overwrite=True)


def test_a_full_disk_is_seen_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MiB are needed"):
        open_sink(str(tmp_path / "out.csv")).check_space(rows=10**12, columns=100)


def test_a_target_is_held_by_one_block_at_a_time(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    with reserve(target), pytest.raises(TargetBusy, match="another run"), reserve(target):
        pass
    with reserve(target):
        pass
    assert not list(tmp_path.iterdir())


COUNT_UP = """
import sys
from pathlib import Path
from synthgen.errors import TargetBusy
from synthgen.files import reserve
path, done = Path(sys.argv[1]), 0
while done < 50:
    try:
        with reserve(path):
            path.write_text(str(int(path.read_text()) + 1))
            done += 1
    except TargetBusy:
        pass
"""


def test_processes_exclude_each_other(tmp_path: Path) -> None:
    counter = tmp_path / "counter.csv"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNT_UP, str(counter)]
    workers = [subprocess.Popen(command) for _ in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert counter.read_text() == "150"


def test_a_failed_block_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write_half() -> None:
        with staged(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"


@pytest.mark.parametrize(("stage", "mode"), [(staged, 0o600), (staged_folder, 0o700)])
def test_what_is_staged_is_its_owners_from_the_first_byte_on(
    stage: Callable[..., AbstractContextManager[Path]], mode: int, tmp_path: Path
) -> None:
    path = tmp_path / "target"
    with stage(path, mode=mode) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == mode
        temporary.chmod(0o755)  # as a writer does that copies a folder with its mode
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_staged_folder_replaces_a_folder(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with staged_folder(tmp_path / "bundle") as temporary:
            (temporary / "file").write_text(text)
    assert (tmp_path / "bundle" / "file").read_text() == "two"
    assert len(list(tmp_path.iterdir())) == 1


# --- cells ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["=1", "+a", "-a", "@a", "\ta", "\ra", "\n=", "\uff1d1", "'=1", "''@", "=", "-1+1", "+٣"],
)
def test_formulas_are_escaped(text: str) -> None:
    assert escape(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a", "1", "-1", "+2.5", "-.5", "-1e-9", "a=1", "'tis"])
def test_harmless_texts_are_not(text: str) -> None:
    assert escape(text) == text


@given(st.lists(st.text("=+-@'\t\r\n\uff1d1.e\0x", max_size=6), min_size=1))
def test_what_was_escaped_comes_back(texts: list[str]) -> None:
    assert unescape(pa.array([*map(escape, texts)], pa.string())).to_pylist() == texts


@given(st.text())
def test_no_escaped_text_starts_a_formula(text: str) -> None:
    safe = escape(text)
    assert not safe.startswith(("=", "@", "\t", "\r"))
    if safe.startswith(("+", "-")):
        float(safe)


@given(st.lists(st.floats(allow_infinity=False), min_size=1))
def test_floats_keep_every_digit(values: list[float]) -> None:
    column = Column(name="x", kind="numeric", nullable=True)
    text = column_text(pd.Series(values, dtype="float64"), column)
    back = [float(t) if t else float("nan") for t in text]
    np.testing.assert_array_equal(back, values)
