"""Tables side by side: ties are ties, and what cannot be ranked is not."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from synthgen.checks.check import Measurement, Report
from synthgen.checks.gate import Decision
from synthgen.cli import app
from synthgen.pipeline import Outcome
from synthgen.report import Side, compare

HOSTILE = "<script>alert(1)</script>"


def side(name: str, *measurements: Measurement, yardstick: str | None = "same") -> Side:
    facts = {"schema": "s", "rows": {"train": 10}}
    return Side(name, Report(measurements, facts), Decision(False, (), ""), yardstick)


def at(low: float, high: float, **changes) -> Measurement:
    given = {"name": "c2st", "area": "fidelity", "unit": "AUC", "n": 9} | changes
    return Measurement(value=(low + high) / 2, low=low, high=high, **given)


def marks(*measurements: Measurement, name: str = "c2st") -> list[str]:
    sides = [side(f"run{i}", m) for i, m in enumerate(measurements)]
    (row,) = (row for row in compare(sides).rows if row.name == name)
    return [entry.mark for entry in row.entries]


def test_intervals_that_overlap_are_a_tie():
    assert marks(at(0.5, 0.6), at(0.59, 0.7), at(0.61, 0.9)) == ["tie", "tie", "behind"]
    assert marks(at(0.5, 0.6), at(0.61, 0.7)) == ["best", "behind"]


def test_high_is_better_where_the_measure_says_so():
    tstr = {"name": "tstr", "area": "utility", "better": "high"}
    assert marks(at(0.5, 0.6, **tstr), at(0.7, 0.8, **tstr), name="tstr") == ["behind", "best"]


def test_nobody_beats_fresh_real_rows():
    # both are at least as close as the control: the difference is chance, whatever its size
    assert marks(at(0.30, 0.35, control=0.5), at(0.40, 0.45, control=0.5)) == ["tie", "tie"]
    # the same distance from real rows, each by its own control
    assert marks(at(0.6, 0.7, control=0.5), at(0.7, 0.8, control=0.6)) == ["tie", "tie"]


def test_what_has_no_interval_is_not_ranked():
    bare = Measurement("c2st", "fidelity", 0.1, n=9, unit="AUC")
    unknown = Measurement("c2st", "fidelity", None, status="inconclusive")
    assert marks(bare, at(0.5, 0.6)) == ["unranked", "unranked"]
    assert marks(bare, unknown, at(0.5, 0.6), at(0.7, 0.8)) == [
        "unranked", "unranked", "best", "behind",
    ]  # fmt: skip


def test_a_measure_of_one_table_alone_is_left_out():
    found = compare([side("a", at(0.5, 0.6)), side("b", at(0.5, 0.6, name="other"))])
    assert found.rows == ()


def test_notes_say_what_makes_tables_incomparable():
    same = [side("a", at(0.5, 0.6)), side("b", at(0.5, 0.6))]
    assert compare(same).notes == ()
    other = [same[0], side("b", at(0.5, 0.6), yardstick="other")]
    assert "fresh real rows" in compare(other).notes[0]
    unknown = [side(n, at(0.5, 0.6), yardstick=None) for n in "ab"]
    assert "fresh real rows" in compare(unknown).notes[0]


def test_columns_are_shown_when_asked_for():
    column = at(0.1, 0.2, name="ks.age")
    found = compare([side("a", at(0.5, 0.6), column), side("b", at(0.5, 0.6), column)])
    assert [r.name for _, rows in found.areas() for r in rows] == ["c2st"]
    assert [r.name for _, rows in found.areas(every=True) for r in rows] == ["c2st", "ks.age"]


def test_the_page_is_complete_and_names_are_text():
    html = compare([side(HOSTILE, at(0.5, 0.6)), side("b", at(0.7, 0.8))]).to_html()
    assert "<script" not in html
    assert "Content-Security-Policy" in html
    assert "https:" not in html
    assert "low is better" in html


@pytest.fixture
def two(finished: Outcome, tmp_path: Path) -> list[str]:
    """A finished run, and another name for its folder."""
    other = tmp_path / "other"
    other.symlink_to(finished.folder.root)
    return [str(finished.folder.root), str(other)]


def test_runs_are_compared_on_the_command_line(two, tmp_path):
    page = tmp_path / "compared.html"
    shown = CliRunner().invoke(app, ["compare", *two, "--html", str(page)])
    assert shown.exit_code == 0, shown.output
    assert "exact_copies" in shown.stdout
    assert "ks.age" not in shown.stdout
    assert shown.stderr == ""  # the very same rows: nothing to warn of
    assert page.stat().st_mode & 0o777 == 0o600
    again = CliRunner().invoke(app, ["compare", *two, "--html", str(page)])
    assert again.exit_code == 2
    as_json = json.loads(CliRunner().invoke(app, ["compare", *two, "--json"]).stdout)
    assert [t["name"] for t in as_json["tables"]] == ["run", "other"]
    assert {e["mark"] for m in as_json["measurements"] for e in m["entries"]} <= {
        "tie", "unranked",
    }  # fmt: skip


def test_one_run_or_the_same_twice_cannot_be_compared(two):
    for runs in (two[:1], [two[0], two[0]], [two[0], "/nowhere"]):
        assert CliRunner().invoke(app, ["compare", *runs]).exit_code == 2
