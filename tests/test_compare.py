"""benchmarks/compare.py: its arithmetic on figures that a person can work out, its command line."""

import importlib
import json
import math
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Benchmarks are scripts, not a package: they find each other in their own folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("compare")


def scores(shape: float, tstr: float, c2st: float, dcr: float, copies: float) -> dict[str, Any]:
    """What BENCH's evaluate.py writes, shortened."""
    return {
        "shape_error": shape,
        "trend_error": 2 * shape,
        "pair_tv": 3 * shape,
        "tstr": {"auc": tstr, "macro_f1": 0.7},
        "trtr": {"auc": 0.9, "macro_f1": 0.8},
        "c2st_auc": c2st,
        "dcr_share": dcr,
        "exact_match_share": copies,
        "exact_match_share_holdout": 0.001,
    }


def stats(fit: float, sample: float, memory: float) -> dict[str, Any]:
    """What BENCH's common.run_peer writes, shortened."""
    return {
        "fit_cpu_s": fit,
        "sample_cpu_s": sample,
        "rows_sampled": 1_000,
        "peak_rss_mb": memory,
        "version": {"torch": "2.13.0"},
    }


OWN = scores(0.01, 0.88, 0.6, 0.51, 0.0), stats(50, 0.5, 400)
PEER = scores(0.04, 0.85, 0.8, 0.53, 0.002), stats(100, 0.1, 1_000)


def cells(lines: list[str]) -> dict[str, dict[str, str]]:
    """Read a Markdown table back: row -> column -> cell."""
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    head = table[0][1:]
    return {row[0]: dict(zip(head, row[1:], strict=True)) for row in table[2:]}


class TestArithmetic:
    def test_a_figure_is_the_judges_in_readable_units(self, compare: ModuleType) -> None:
        one = compare.figures(*PEER)
        assert one["shape"] == pytest.approx(4)
        assert one["gap"] == pytest.approx(0.05)
        assert one["copies"] == pytest.approx(0.2)
        assert one["speed"] == pytest.approx(10_000)

    def test_a_regression_is_judged_by_r2(self, compare: ModuleType) -> None:
        one = compare.figures({"tstr": {"r2": 0.6, "rmse": 1}, "trtr": {"r2": 0.8, "rmse": 1}}, {})
        assert one == pytest.approx({"TSTR": 0.6, "TRTR": 0.8, "gap": 0.2})

    def test_what_was_not_measured_is_left_out(self, compare: ModuleType) -> None:
        assert compare.figures({}, {"sample_cpu_s": 0.0, "rows_sampled": 9}) == {"sample": 0.0}

    def test_seeds_are_averaged(self, compare: ModuleType) -> None:
        assert compare.mean([{"fit": 1.0, "C2ST": 0.6}, {"fit": 2.0}]) == {"fit": 1.5, "C2ST": 0.6}

    def test_ratios_compare_distances_from_the_ideal(self, compare: ModuleType) -> None:
        means = {"synthgen": compare.figures(*OWN), "arf": compare.figures(*PEER)}
        assert cells(compare.relative(means)) == {
            "arf": {
                "shape %": "4",  # .04 / .01
                "trend %": "4",
                "pair TV %": "4",
                "TRTR - TSTR": "2.5",  # (.90 - .85) / (.90 - .88)
                "C2ST - .5": "3",  # .3 / .1
                "DCR share - .5": "3",  # .03 / .01
                "copies": "inf",  # .2 % / none
                "fit": "2",
                "sample": "0.2",
                "memory": "2.5",
            }
        }

    @pytest.mark.parametrize(
        ("peer", "own", "expected"),
        [(-0.01, 0.02, 0.0), (0.02, -0.01, math.inf), (-1.0, -2.0, 1.0), (None, 1.0, None)],
    )
    def test_beyond_the_ideal_is_the_ideal(
        self, compare: ModuleType, peer: float | None, own: float, expected: float | None
    ) -> None:
        assert compare.ratio(peer, own) == expected

    def test_the_time_left_is_the_guess_at_the_pace_seen(self, compare: ModuleType) -> None:
        assert compare.minutes_left(elapsed=30.0, done=10.0, left=4.0) == 12.0
        assert compare.minutes_left(elapsed=0.0, done=0.0, left=4.0) == 4.0


class TestReport:
    def test_it_shows_what_is_done_what_failed_and_what_is_not_run(
        self, compare: ModuleType, tmp_path: Path
    ) -> None:
        jobs = [compare.Job(tmp_path, peer, "adult", 0) for peer in ("synthgen", "arf", "tvae")]
        own, arf, _ = jobs
        own.file("").parent.mkdir()
        judged = {**OWN[0], "errors": {"pairs": "KeyError: 'a cell'"}}
        for suffix, content in ((".scores.json", judged), (".stats.json", OWN[1])):
            own.file(suffix).write_text(json.dumps(content))
        own.file(".csv").touch()
        arf.file(".failed").write_text("ended with 1")
        fresh = tmp_path / "adult" / "fresh.scores.json"
        fresh.write_text(json.dumps({"shape_error": 0.005}))
        text = compare.report(jobs, Namespace(out=tmp_path, tables=["adult"], seeds=[0]))
        table = cells([line for line in text.splitlines() if line.startswith("|")][:4])
        assert table["synthgen"]["rows / CPU s"] == "2,000"
        assert table["fresh real rows"]["shape %"] == "0.50"
        assert table["fresh real rows"]["TSTR"] == "0.900"
        assert table["fresh real rows"]["copies %"] == "0.100"
        assert table["fresh real rows"]["fit CPU s"] == "-"
        assert "- arf, seed 0: failed: ended with 1" in text
        assert "- tvae, seed 0: not run" in text
        assert "- synthgen, seed 0: the judge failed at pairs\n" in text

    def test_a_job_is_forgotten_alone(self, compare: ModuleType, tmp_path: Path) -> None:
        one, other = (compare.Job(tmp_path, "arf", "adult", seed) for seed in (1, 10))
        one.file("").parent.mkdir()
        for job in (one, other):
            for suffix in (".csv", ".stats.json", ".scores.json"):
                job.file(suffix).touch()
        one.forget()
        assert (one.is_sampled, other.is_done) == (False, True)


RUNNER = """
import json, shutil, sys
options = dict(word[2:].split("=", 1) for word in sys.argv[1:])
shutil.copyfile(options["train"], options["out"])
with open(options["stats"], "w") as file:
    json.dump({"fit_cpu_s": 1.0, "version": {}}, file)
"""
JUDGE = """
import json, sys
options = dict(word[2:].split("=", 1) for word in sys.argv[1:])
with open(options["out"], "w") as file:
    json.dump({"c2st_auc": 0.75 if options["synth"].endswith("seed0.csv") else 0.5}, file)
"""


@pytest.fixture
def bench(compare: ModuleType, tmp_path: Path) -> Namespace:
    """A BENCH of four lines, two halves of one row, and environments that are this interpreter."""
    for folder in ("bench", "data", "out"):
        (tmp_path / folder).mkdir()
    scripts = {
        "evaluate": JUDGE,
        "fit_sample_arf": RUNNER,
        "fit_sample_smote": "raise SystemExit(3)",
    }
    for name, text in scripts.items():
        (tmp_path / "bench" / f"{name}.py").write_text(text)
    for half in ("train", "holdout"):
        (tmp_path / "data" / f"adult.{half}.csv").write_text("age,income\n1,2\n")
    for name in ("arf", "smote", "judge"):
        home = tmp_path / "venvs" / name
        (home / "bin").mkdir(parents=True)
        (home / "bin" / "python").symlink_to(sys.executable)
        (home / "pins.txt").write_text((BENCHMARKS / "peers" / f"{name}.txt").read_text())
    return Namespace(
        **{name: tmp_path / name for name in ("data", "venvs", "out")},
        judge=tmp_path / "bench",
        python=None,
        tables=["adult"],
        seeds=[0],
        limit=1.0,
    )


class TestRun:
    def test_a_failed_peer_does_not_end_the_run_and_what_is_done_is_not_run_again(
        self, compare: ModuleType, bench: Namespace, capsys: pytest.CaptureFixture[str]
    ) -> None:
        failing, fine = jobs = [compare.Job(bench.out, p, "adult", 0) for p in ("smote", "arf")]
        compare.judge_fresh_rows(bench, "adult")
        compare.run_all(jobs, bench)
        assert "smote seed 0, about 5 min left: FAILED: ended with 3" in capsys.readouterr().err
        assert (failing.is_done, fine.is_done) == (False, True)
        text = compare.report(jobs, bench)
        table = cells([line for line in text.splitlines() if line.startswith("|")])
        assert (table["arf"]["C2ST"], table["fresh real rows"]["C2ST"]) == ("0.750", "0.500")
        assert "- smote, seed 0: failed: ended with 3; see smote.seed0.*log" in text
        assert not list(bench.out.glob("*/*.part"))

        before = fine.file(".csv").stat().st_mtime_ns
        compare.run_all(jobs, bench)
        assert "1 of 2 fits lie there already" in capsys.readouterr().err
        assert fine.file(".csv").stat().st_mtime_ns == before

    def test_a_broken_judge_is_found_before_anything_is_fitted(
        self, compare: ModuleType, bench: Namespace
    ) -> None:
        (bench.judge / "evaluate.py").write_text("raise SystemExit(1)")
        with pytest.raises(SystemExit, match="the judge does not work: ended with 1"):
            compare.judge_fresh_rows(bench, "adult")


class TestCommandLine:
    def call(self, *options: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, BENCHMARKS / "compare.py", *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_help(self) -> None:
        done = self.call("--help")
        assert done.returncode == 0
        for option in ("--judge", "--peers", "--tables", "--seeds", "--redo", "--report"):
            assert option in done.stdout

    def test_what_is_missing_is_said_at_once(self, tmp_path: Path) -> None:
        done = self.call(
            "--data", tmp_path, "--judge", tmp_path / "bench", "--tables", "adult,moon"
        )
        assert done.returncode == 2
        assert "evaluate.py is missing" in done.stderr
        assert "adult.holdout.csv is missing" in done.stderr
        assert "'moon' has no target" in done.stderr


@pytest.mark.parametrize("name", ["arf", "ctgan", "judge", "sdv", "smote", "tabularargn"])
def test_every_environment_is_pinned(compare: ModuleType, name: str) -> None:
    lines = (BENCHMARKS / "peers" / f"{name}.txt").read_text().splitlines()
    assert all("==" in line for line in lines if not line.startswith("#"))
    assert name == "judge" or name in {peer.environment for peer in compare.PEERS.values()}
