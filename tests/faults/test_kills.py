"""Issue 8, part 1: killed or terminated at any moment, a run goes on and ends with the same bytes.

A round is a run that is cut off once, then gone on with. Where it is cut is drawn from the number
of the round: before one of the things that it does to files, at the edge of a stage, or after some
processor time inside a stage.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from children import ended, in_a_child, on_files_of, signal_after, start

from synthgen import pipeline
from synthgen.audit_log import AuditLog
from synthgen.config import RunConfig
from synthgen.export import Manifest
from synthgen.files import home, reserve, sha256
from synthgen.pipeline import Outcome
from synthgen.run_folder import STAGES, Event, RunFolder
from synthgen.sinks import open_sink
from synthgen.sources import open_source

Configure = Callable[..., RunConfig]

SIGNALS = (signal.SIGKILL, signal.SIGTERM)
survives = pytest.mark.survives
PART = "Kill and resume"


@pytest.fixture(autouse=True)
def _places(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Give a round its own temporary folder and its own home; servers have theirs elsewhere."""
    if "kind" in request.fixturenames and request.getfixturevalue("kind") == "postgres":
        request.getfixturevalue("postgres")
    for name in ("TMPDIR", "SYNTHGEN_HOME"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr("tempfile.tempdir", None)  # the next one looks at TMPDIR again


def begin(config: RunConfig, root: Path, act: Callable[[Event], None] | None = None) -> None:
    pipeline.run(config, run_dir=root / "run", progress=act)


def check_what_is_seen(root: Path, of: Outcome) -> None:
    """Whoever looks at the target now sees nothing, or what the undisturbed run wrote."""
    whole = sha256(Path(of.folder.config.to))
    target, manifest = root / "out.csv", root / "out.csv.manifest.json"
    if target.exists():
        assert sha256(target) == whole
    if manifest.exists():
        assert Manifest.from_json(manifest.read_text()).sha256 == sha256(target)


def go_on(root: Path, config: RunConfig, of: Outcome) -> None:
    """Resume what is in `root` (or start anew where nothing began); compare it to the bit."""
    check_what_is_seen(root, of)
    folder = RunFolder(root / "run")
    if folder.config_path.exists() and folder.finished("prepare"):
        assert not folder.is_held
        outcome = pipeline.resume(folder.root)
    else:  # cut off before there was anything to go on with
        shutil.rmtree(folder.root, ignore_errors=True)
        outcome = pipeline.run(config, run_dir=folder.root)
    assert outcome.manifest is not None
    same = ("train_path", "holdout_path", "synthetic_path", "decision_path")
    for name in same:
        assert sha256(getattr(folder, name)) == sha256(getattr(of.folder, name)), name
    for file in of.folder.bundle_path.iterdir():
        assert sha256(folder.bundle_path / file.name) == sha256(file), file.name
    assert sha256(root / "out.csv") == sha256(Path(of.folder.config.to))
    check_litter(root)


def check_litter(root: Path) -> None:
    """Beside the run folder there is the target, its manifest, and the audit log: nothing else."""
    seen = {p.name for p in root.iterdir()} - {"TMPDIR", "SYNTHGEN_HOME"}
    assert seen == {"run", "out.csv", "out.csv.manifest.json"}
    assert not list((root / "TMPDIR").iterdir())
    assert {p.name for p in home().iterdir()} <= {"audit.jsonl"}
    assert AuditLog.default().entries()[-1]["what"] == "export"
    private = {p.name for p in (root / "run" / "private").iterdir()}
    assert not [name for name in private if name.startswith(".") or "checkpoint" in name]
    with reserve(root / "out.csv"), reserve(root / "run" / "private" / "run"):
        pass  # no lock outlives its holder


def is_end_of(code: int, number: int) -> bool:
    """Whether a process was ended by a signal (SIGTERM is turned into an exit code), or was done"""
    return code in (0, -number) or (number == signal.SIGTERM and code == 143)


# --- a run to a file ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def n_file_events(
    undisturbed: Outcome, small_config: Configure, tmp_path_factory: pytest.TempPathFactory
) -> int:
    """How many things a run does to files, where nothing happens."""
    root, counted = tmp_path_factory.mktemp("counted"), tmp_path_factory.mktemp("count") / "count"
    work = small_config(root / "out.csv")

    def count() -> None:
        on_files_of(root, lambda k: counted.write_text(str(k)))
        begin(work, root)

    assert in_a_child(count) == 0
    return int(counted.read_text()) + 1


def cut_at_a_file(root: Path, config: RunConfig, moment: int, number: int) -> int:
    def work() -> None:
        on_files_of(root, lambda k: os.kill(os.getpid(), number) if k == moment else None)
        begin(config, root)

    return in_a_child(work)


@survives(PART, "SIGKILL or SIGTERM before a file is opened, moved or removed")
@pytest.mark.slow
@pytest.mark.parametrize(
    "k", [0, 1, *(pytest.param(k, marks=pytest.mark.faults) for k in range(2, 30))]
)
def test_cut_off_at_a_file(
    k: int, undisturbed: Outcome, small_config: Configure, n_file_events: int, tmp_path: Path
) -> None:
    config, number = small_config(tmp_path / "out.csv"), SIGNALS[k % 2]
    moment = random.Random(k).randrange(n_file_events)
    assert is_end_of(cut_at_a_file(tmp_path, config, moment, number), number)
    go_on(tmp_path, config, undisturbed)


@survives(PART, "SIGKILL or SIGTERM when a stage begins or has ended")
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("edge", ["start", "done"])
@pytest.mark.parametrize("stage", STAGES)
def test_cut_off_at_the_edge_of_a_stage(
    stage: str, edge: str, number: int, undisturbed: Outcome, small_config: Configure,
    tmp_path: Path,
) -> None:  # fmt: skip
    config = small_config(tmp_path / "out.csv")

    def act(event: Event) -> None:
        if (event.get("stage"), event["event"]) == (stage, edge):
            os.kill(os.getpid(), number)

    assert in_a_child(lambda: begin(config, tmp_path, act)) in (-signal.SIGKILL, 143)
    go_on(tmp_path, config, undisturbed)


@survives(PART, "SIGKILL or SIGTERM at a random moment inside a stage")
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("k", range(6))
@pytest.mark.parametrize("stage", STAGES)
def test_cut_off_inside_a_stage(
    stage: str, k: int, undisturbed: Outcome, small_config: Configure, tmp_path: Path
) -> None:
    config, number = small_config(tmp_path / "out.csv"), SIGNALS[k % 2]
    draw = random.Random(f"{stage} {k}")
    moment = draw.random() * undisturbed.folder.stages[stage]["cpu_seconds"]
    folder = pipeline.prepare(config, tmp_path / "run")
    for before in STAGES[: STAGES.index(stage)]:
        pipeline.advance(folder, before)
    pid = start(lambda: pipeline.resume(folder.root))
    signal_after(pid, moment, number)
    assert is_end_of(ended(pid), number)
    go_on(tmp_path, config, undisturbed)


@survives(PART, "cut off again and again: five times in one run")
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("k", range(4))
def test_cut_off_again_and_again(
    k: int, undisturbed: Outcome, small_config: Configure, tmp_path: Path
) -> None:
    draw, config = random.Random(f"again {k}"), small_config(tmp_path / "out.csv")
    folder = pipeline.prepare(config, tmp_path / "run")
    for _ in range(5):
        number = draw.choice(SIGNALS)
        pid = start(lambda: pipeline.resume(folder.root))
        signal_after(pid, draw.uniform(0.05, 0.8), number)
        assert is_end_of(ended(pid), number)
        check_what_is_seen(tmp_path, undisturbed)
    go_on(tmp_path, config, undisturbed)


@survives(PART, "SIGKILL, SIGTERM or Ctrl-C to `synthgen run`, then `synthgen resume`")
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_command_line(
    number: int, undisturbed: Outcome, small_config: Configure, tmp_path: Path
) -> None:
    config = small_config(tmp_path / "out.csv")
    (tmp_path / "run.toml").write_text(config.to_toml())
    synthgen = [sys.executable, "-m", "synthgen"]
    command = [*synthgen, "run", "--config", str(tmp_path / "run.toml"), "--log-json"]
    running = subprocess.Popen(
        [*command, "--run-dir", str(tmp_path / "run")],
        stderr=subprocess.PIPE,
        text=True,
        # a shell has what it starts in the background ignore Ctrl-C, tests among it
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert running.stderr is not None
    for line in running.stderr:
        if '"step"' in line:
            break
    time.sleep(0.1)
    running.send_signal(number)
    said = running.communicate()[1]
    assert running.returncode in {number: -number, signal.SIGTERM: 143, signal.SIGINT: 130}.values()
    assert "Traceback" not in said
    (tmp_path / "run.toml").unlink()
    done = subprocess.run([*synthgen, "resume", str(tmp_path / "run")], capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    go_on(tmp_path, config, undisturbed)


# --- exports to every kind of target ------------------------------------------------------------

TARGETS = ("csv.gz", "parquet", "folder", "sqlite", "postgres", "s3", "s3 folder")


def address(kind: str, root: Path, request: pytest.FixtureRequest) -> str:
    name = f"t{abs(hash(request.node.name)) % 10**9}"
    if kind == "postgres":
        return f"{request.getfixturevalue('postgres')}&table={name}"
    if kind.startswith("s3"):
        ending = "/" if "folder" in kind else ".csv"
        return f"{request.getfixturevalue('s3')}/{name}{ending}"
    return {
        "folder": f"{root}/{name}/",
        "sqlite": f"sqlite:///{root}/out.db?table={name}",
    }.get(kind, f"{root}/{name}.{kind}")


def rows_at(uri: str, schema_path: Path) -> int:
    with open_source(uri) as source:
        return sum(batch.num_rows for batch in source.batches())


@survives(PART, "SIGKILL or SIGTERM in an export that replaces an earlier one, any kind of target")
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("k", range(6))
@pytest.mark.parametrize("kind", TARGETS)
def test_cut_off_while_a_target_is_replaced(
    kind: str, k: int, undisturbed: Outcome, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """What was there stays, or the new is there, or no manifest says that it is whole."""
    uri = address(kind, tmp_path, request)
    shutil.copytree(undisturbed.folder.root, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    before = pipeline.export_to(folder, uri)
    config = folder.config.model_copy(update={"to": uri, "overwrite": True})
    folder.write(folder.config_path, config.to_toml())
    folder.finish(folder.receipt("prepare", folder.config_path, 0))
    folder.forget("export")

    draw, number = random.Random(f"{kind} {k}"), SIGNALS[k % 2]
    if k < 3:
        moment = draw.randrange(24)

        def work() -> None:
            on_files_of(tmp_path, lambda n: os.kill(os.getpid(), number) if n == moment else None)
            pipeline.resume(folder.root)

        code = in_a_child(work)
    else:
        pid = start(lambda: pipeline.resume(folder.root))
        signal_after(pid, draw.uniform(0.02, 0.5), number)
        code = ended(pid)
    assert is_end_of(code, number)

    text = open_sink(uri).manifest()
    if text is not None:
        assert rows_at(uri, folder.schema_path) == Manifest.from_json(text).rows == before.rows
    outcome = pipeline.resume(folder.root)
    assert outcome.manifest is not None
    assert outcome.manifest.rows == rows_at(uri, folder.schema_path)
    assert json.loads(open_sink(uri).manifest() or "")["sha256"] == outcome.manifest.sha256
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert not list((tmp_path / "TMPDIR").iterdir())
