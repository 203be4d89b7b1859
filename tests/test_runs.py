"""Run folders side by side: their states, and which may go."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from synthgen import pipeline
from synthgen.cli import app
from synthgen.config import RunConfig
from synthgen.errors import StageError
from synthgen.pipeline import Outcome
from synthgen.run_folder import Event, RunFolder, listening
from synthgen.runs import accepted, listed, prune

Configure = Callable[..., RunConfig]


@pytest.fixture
def runs(finished: Outcome, tmp_path: Path) -> Path:
    """Four exported runs of one target, ``a`` the oldest."""
    folder = tmp_path / "runs"
    for age, name in enumerate("dcba"):
        shutil.copytree(finished.folder.root, folder / name)
        made = 1_700_000_000 - 3_600 * age
        os.utime(folder / name / "config.toml", (made, made))
    return folder


def names(runs: Path) -> list[str]:
    return [Path(e.run).name for e in listed(runs)]


def test_states(runs: Path, tiny_config: Configure, tmp_path: Path) -> None:
    RunFolder(runs / "a").manifest_path.unlink()
    decision = json.loads(RunFolder(runs / "b").decision_path.read_text())
    decision["passed"] = decision["rules"][0]["passed"] = False
    (runs / "b" / "decision.json").write_text(json.dumps(decision))
    (runs / "c" / "config.toml").write_text("rows = ")
    os.utime(runs / "c" / "config.toml", (1_699_996_400, 1_699_996_400))
    failed = pipeline.prepare(tiny_config(tmp_path / "out.csv"), runs / "e")

    def fail(event: Event) -> None:
        if event["event"] == "start":
            raise RuntimeError

    with pytest.raises(StageError), listening(fail):
        pipeline.ingest(failed)
    (runs / "no run folder").mkdir()
    found = {Path(e.run).name: e for e in listed(runs)}
    assert {n: e.state for n, e in found.items()} == {
        "a": "interrupted", "b": "refused", "c": "damaged", "d": "exported", "e": "failed",
    }  # fmt: skip
    assert (found["e"].stage, found["d"].stage) == ("ingest", "export")
    assert found["d"].rows == 400
    with failed.held():
        assert listed(runs)[0].state == "running"


def test_the_last_accepted_run_of_a_target(runs: Path, finished: Outcome) -> None:
    target = finished.folder.config.to
    assert next(accepted(runs, target)).root.name == "d"
    RunFolder(runs / "d").manifest_path.unlink()
    assert next(accepted(runs, target)).root.name == "c"
    assert not list(accepted(runs, "/elsewhere.csv"))


def test_prune_keeps_the_newest(runs: Path) -> None:
    assert {p.name for p in prune(runs, 2)} == {"a", "b"}
    assert names(runs) == ["d", "c"]


def test_prune_keeps_what_was_accepted_last_and_what_is_at_work(runs: Path) -> None:
    for name in "dcb":
        RunFolder(runs / name).manifest_path.unlink()
    with RunFolder(runs / "b").held():
        assert {p.name for p in prune(runs, 1)} == {"c"}
    assert names(runs) == ["d", "b", "a"]
    assert sorted(p.name for p in runs.iterdir()) == ["a", "b", "d"]


def test_prune_of_one_target_leaves_the_others(runs: Path) -> None:
    assert not prune(runs, 1, target="/elsewhere.csv")


def test_a_run_prunes_when_it_ends(runs: Path, finished: Outcome) -> None:
    folder = RunFolder(runs / "d")
    config = finished.folder.config.model_copy(
        update={"runs": finished.folder.config.runs.model_copy(update={"keep": 3})}
    )
    folder.write(folder.config_path, config.to_toml())
    pipeline.retain(folder)
    assert names(runs) == ["d", "c", "b"]
    assert folder.events[-1] == {
        "time": folder.events[-1]["time"], "stage": "runs", "event": "pruned", "run": "a",
    }  # fmt: skip


def test_the_verbs(runs: Path) -> None:
    shown = CliRunner().invoke(app, ["runs", "--folder", str(runs), "--json"])
    assert [e["state"] for e in json.loads(shown.stdout)] == ["exported"] * 4
    assert "400 rows" in CliRunner().invoke(app, ["runs", "--folder", str(runs)]).stdout
    pruned = CliRunner().invoke(app, ["runs", "prune", "--keep", "1", "--folder", str(runs)])
    assert set(pruned.stdout.split()) == {"a", "b", "c"}
    empty = CliRunner().invoke(app, ["runs", "--folder", str(runs / "none")])
    assert (empty.exit_code, empty.stdout) == (0, "")


def test_show_of_a_run_that_was_not_judged(tiny_config: Configure, tmp_path: Path) -> None:
    folder = pipeline.prepare(tiny_config(tmp_path / "out.csv"), tmp_path / "run")
    pipeline.ingest(folder)
    shown = CliRunner().invoke(app, ["show", str(folder.root)])
    assert shown.exit_code == 0
    assert "interrupted in ingest; not judged yet" in shown.stdout
    assert f"synthgen resume {folder.root}" in shown.stdout
    found = json.loads(CliRunner().invoke(app, ["show", str(folder.root), "--json"]).stdout)
    assert (found["state"], found["rows"]) == ("interrupted", 400)
    gone = CliRunner().invoke(app, ["show", str(tmp_path)])
    assert gone.exit_code == 2


def test_a_stage_that_failed_is_named(finished: Outcome, tmp_path: Path) -> None:
    shutil.copytree(finished.folder.root, tmp_path / "runs" / "a")
    folder = RunFolder.open(tmp_path / "runs" / "a")
    folder.synthetic_path.write_bytes(b"PAR1 damaged")
    with pytest.raises(StageError):
        pipeline.validate(folder)
    entry = listed(tmp_path / "runs")[0]
    assert entry.stage == "validate"
