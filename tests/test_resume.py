"""A run that is cut off at any point goes on from there, and ends with the same bytes.

Each cut is a real one: a forked process runs the stages, and at a chosen point (a rename, a step of
training) sends itself SIGKILL or SIGTERM.
"""

import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from children import cut_at_rename, in_a_child
from rich.console import Console
from typer.testing import CliRunner

from synthgen import pipeline
from synthgen.cli.app import app
from synthgen.config import RunConfig
from synthgen.errors import ConfigError, StageError, TargetBusy, TargetExists
from synthgen.files import reserve, sha256, sweep
from synthgen.pipeline import Outcome
from synthgen.progress import Level, progress
from synthgen.run_folder import Event, RunFolder, listening

Configure = Callable[..., RunConfig]


def resume_until(folder: RunFolder, name: str) -> int:
    def work() -> None:
        cut_at_rename(name)
        pipeline.resume(folder.root)

    return in_a_child(work)


def resume_until_step(folder: RunFolder, step: int, number: int) -> int:
    def stop(event: Event) -> None:
        if event["event"] == "step" and event["step"] >= step:
            os.kill(os.getpid(), number)

    return in_a_child(lambda: pipeline.resume(folder.root, progress=stop))


@pytest.mark.slow
def test_cut_off_at_each_stage_it_ends_with_the_same_bytes(
    finished: Outcome, tiny_config: Configure, tmp_path: Path
) -> None:
    folder = pipeline.prepare(tiny_config(tmp_path / "out.csv"), tmp_path / "run")
    assert resume_until(folder, "train.parquet") == -signal.SIGKILL
    assert resume_until_step(folder, 20, signal.SIGTERM) == 143
    assert folder.events[-1]["event"] == "interrupted"
    assert str(folder.root) in folder.events[-1]["text"]
    assert resume_until_step(folder, 30, signal.SIGKILL) == -signal.SIGKILL
    assert any("goes on from step" in note for note in folder.training_notes)
    for name in ("bundle", "draw.json", "decision.json", "out.csv", "out.csv.manifest.json"):
        assert resume_until(folder, name) == -signal.SIGKILL
    assert (tmp_path / "out.csv").exists()  # without its manifest: not finished
    assert not (tmp_path / "out.csv.manifest.json").exists()

    outcome = pipeline.resume(folder.root)
    same = ("train_path", "holdout_path", "synthetic_path", "decision_path")
    for name in same:
        assert sha256(getattr(folder, name)) == sha256(getattr(finished.folder, name)), name
    weights = [f.bundle_path / "generator.safetensors" for f in (folder, finished.folder)]
    assert sha256(weights[0]) == sha256(weights[1])
    assert sha256(tmp_path / "out.csv") == sha256(Path(finished.folder.config.to))
    assert outcome.manifest is not None
    assert outcome.manifest.sha256 == sha256(tmp_path / "out.csv")
    litter = [p for p in tmp_path.rglob(".*") if p.is_file()]
    assert not litter
    assert not folder.checkpoint_path.exists()
    done = [e["stage"] for e in folder.events if e["event"] == "done"]
    assert done == ["ingest", "train", "generate", "validate", "export"], "each once"
    assert folder.report.facts["attempts"] == 1, "a table that is judged again is one attempt"


def test_a_finished_run_is_kept_as_it_is(finished: Outcome, tmp_path: Path) -> None:
    shutil.copytree(finished.folder.root, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}
    outcome = pipeline.resume(tmp_path / "run")
    assert outcome.manifest == finished.manifest
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_changed_file_undoes_its_stage_and_all_after(finished: Outcome, tmp_path: Path) -> None:
    shutil.copytree(finished.folder.root, tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    receipt = folder.finished("generate")
    assert receipt is not None
    assert receipt.path == str(folder.synthetic_path)
    folder.draw_path.write_text("{}")
    assert folder.finished("train") is not None
    assert [folder.finished(s) for s in ("generate", "validate", "export")] == [None] * 3


def test_a_changed_configuration_does_not_go_on(tiny_config: Configure, tmp_path: Path) -> None:
    folder = pipeline.prepare(tiny_config(tmp_path / "out.csv"), tmp_path / "run")
    folder.write(folder.config_path, folder.config.model_copy(update={"rows": 9}).to_toml())
    with pytest.raises(ConfigError, match="is not the one that it was"):
        pipeline.resume(folder.root)


def test_what_somebody_else_put_at_the_target_stays(
    tiny_config: Configure, finished: Outcome, tmp_path: Path
) -> None:
    folder = pipeline.prepare(tiny_config(tmp_path / "out.csv"), tmp_path / "run")
    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(TargetExists):
        pipeline.resume(folder.root)
    # ... nor what another run wrote while this one, cut off in its export, was dead
    shutil.copytree(finished.folder.root, tmp_path / "cut")
    cut = RunFolder.open(tmp_path / "cut")
    other = finished.folder.config.to
    for name in ("out.csv", "out.csv.manifest.json"):
        shutil.copy(Path(other).with_name(name), tmp_path / name)
    config = cut.config.model_copy(update={"to": str(tmp_path / "out.csv")})
    cut.write(cut.config_path, config.to_toml())
    cut.finish(cut.receipt("prepare", cut.config_path, 0))
    cut.forget("export")
    with pytest.raises(TargetExists):
        pipeline.resume(cut.root)


def test_one_process_at_a_time(tiny_config: Configure, tmp_path: Path) -> None:
    folder = pipeline.prepare(tiny_config(tmp_path / "out.csv"), tmp_path / "run")
    with folder.held(), pytest.raises(TargetBusy):
        pipeline.resume(folder.root)
    with reserve(tmp_path / "out.csv"), pytest.raises(TargetBusy):
        pipeline.resume(folder.root)


def test_bad_input_leaves_nothing_behind(tiny_config: Configure, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("a,b\n1,2\n")
    config = tiny_config(tmp_path / "out.csv", data=str(tmp_path / "empty.csv"), schema_path=None)
    folder = pipeline.prepare(config, tmp_path / "run")
    with pytest.raises(Exception, match="at least 50"):
        pipeline.resume(folder.root)
    assert not folder.root.exists()


def test_who_waits_gets_the_place_of_one_that_was_killed(tmp_path: Path) -> None:
    ready, go = os.pipe()

    def hold() -> None:
        with reserve(tmp_path / "gpu"):
            os.write(go, b"x")
            signal.pause()

    pid = os.fork()
    if pid == 0:
        hold()
        os._exit(0)
    os.read(ready, 1)
    with pytest.raises(TargetBusy), reserve(tmp_path / "gpu"):
        pass
    os.kill(pid, signal.SIGKILL)
    with reserve(tmp_path / "gpu", wait=True):
        assert (tmp_path / ".gpu.lock").exists()
    os.waitpid(pid, 0)


def test_sweep_takes_what_is_staged_and_nothing_else(tmp_path: Path) -> None:
    kept = ["out.csv", ".out.csv.lock", ".0123456-out.csv", ".01234567-other.csv"]
    for name in [*kept, ".01234567-out.csv"]:
        (tmp_path / name).touch()
    (tmp_path / ".89abcdef-out.csv").mkdir()
    sweep(tmp_path / "out.csv")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(kept)


def ledger_of(tmp_path: Path) -> list[dict[str, Any]]:
    lines = (tmp_path / "state" / "synthgen" / "ledger.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_private_training_that_was_cut_off_is_charged_once(
    tiny_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    dp = {"epsilon": 8.0, "engine": "tree", "cap": 100.0}
    config = tiny_config(tmp_path / "out.csv", train={"dp": dp, "width": 16, "depth": 1})
    folder = pipeline.prepare(config, tmp_path / "run")
    pipeline.advance(folder, "ingest")
    assert resume_until(folder, "bundle") == -signal.SIGKILL
    assert not folder.bundle_path.exists()
    assert len(ledger_of(tmp_path)) == 1

    shutil.copytree(folder.root, tmp_path / "copy")
    pipeline.advance(folder, "train")
    assert len(ledger_of(tmp_path)) == 1, "the same reading of the rows"
    assert not folder.charge_path.exists()
    pipeline.advance(RunFolder.open(tmp_path / "copy"), "train")
    assert len(ledger_of(tmp_path)) == 2, "a copy of the folder is another training"


@pytest.mark.slow
def test_private_training_that_failed_is_charged_again(
    tiny_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To try until it works would be to choose among draws."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    dp = {"epsilon": 8.0, "engine": "tree", "cap": 100.0}
    config = tiny_config(tmp_path / "out.csv", train={"dp": dp, "width": 16, "depth": 1})
    folder = pipeline.prepare(config, tmp_path / "run")
    pipeline.advance(folder, "ingest")

    def fail(event: Event) -> None:
        if "spent" in str(event.get("text")):
            raise RuntimeError

    with pytest.raises(StageError), listening(fail):
        pipeline.advance(folder, "train")
    pipeline.advance(folder, "train")
    assert len(ledger_of(tmp_path)) == 2


@pytest.mark.parametrize("level", ["quiet", "normal", "verbose", "json"])
def test_what_is_told_of_a_run(finished: Outcome, tmp_path: Path, level: Level) -> None:
    shutil.copytree(finished.folder.root, tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    said = io.StringIO()
    with progress(Console(file=said), level) as listener, listening(listener):
        folder.draw_path.write_text(folder.draw_path.read_text() + " ")
        pipeline.advance(folder, "ingest")
        pipeline.advance(folder, "generate")
    lines = said.getvalue().splitlines()
    if level == "quiet":
        assert not lines
    elif level == "json":
        events = [json.loads(line) for line in lines]
        assert [e["event"] for e in events] == ["kept", "start", "step", "done"]
        kept, start, step, done = events
        assert (step["step"], step["steps"], step["unit"]) == (400, 400, "rows")
        assert (kept["stage"], start["stage"], done["rows"]) == ("ingest", "generate", 400)
        assert {"time", "seconds", "cpu_seconds", "peak_mib"} <= set(done)
    else:
        assert lines[0] == "ingest    was done"
        assert lines[-1].startswith("generate  done in ")
        assert len(lines) == (4 if level == "verbose" else 2)


def test_an_error_as_json(tmp_path: Path) -> None:
    config = ["--data", str(tmp_path / "gone.csv"), "--to", str(tmp_path / "out.csv")]
    told = CliRunner().invoke(app, ["run", *config, "--log-json"])
    assert told.exit_code == 2
    (line,) = [json.loads(s) for s in told.stderr.splitlines() if '"error"' in s and "text" in s]
    assert (line["event"], line["error"]) == ("error", "DataError")
    both = CliRunner().invoke(app, ["run", *config, "--log-json", "--quiet"])
    assert (both.exit_code, "give one of" in both.stderr) == (2, True)
