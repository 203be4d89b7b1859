"""Issue 8, part 2: short of disk, memory, handles or rights; a clock that jumps; NaN and no memory.

Whatever is short, a run ends well, or with an exit code and a message that says what was short and
quotes nothing; once there is enough again, it goes on and ends with the bytes of one that had it
all along.
"""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from children import command, ended, in_a_child

from synthgen import pipeline, run_folder
from synthgen.audit_log import AuditLog
from synthgen.config import RunConfig
from synthgen.dp.accountant import Mechanism
from synthgen.dp.ledger import Ledger
from synthgen.errors import StageError, TrainingError
from synthgen.files import append_line, sha256
from synthgen.gan import train
from synthgen.gan.sample import Drawer
from synthgen.pipeline import Outcome
from synthgen.run_folder import RunFolder
from tests.conftest import TINY_TRAIN

Configure = Callable[..., RunConfig]
Limit = Callable[[], None]

survives = pytest.mark.survives
FAULTS = pytest.mark.faults
PART = "Resources"
MIB = 2**20


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHGEN_HOME", str(tmp_path / "home"))


def said_by(root: Path, limit: Limit | None, *arguments: str) -> tuple[int, str]:
    """Call the command line in a child that `limit` is put on; return exit code and stderr."""
    code = ended(command(root / "stderr", *arguments, limit=limit))
    return code, (root / "stderr").read_text()


def check_end(code: int, said: str, *words: str) -> None:
    """A run ends well, or says what was short: in one message, with an exit code of the page."""
    assert "Traceback" not in said
    assert "unforeseen" not in said
    assert code in (0, 1, 2), said
    if code:
        assert any(word in said for word in words), said


def check_goes_on(root: Path, config: RunConfig, of: Outcome) -> None:
    """With enough of everything the run goes on (or begins, if it had not) as if nothing was."""
    folder = RunFolder(root / "run")
    if folder.config_path.exists():
        outcome = pipeline.resume(folder.root)
    else:
        outcome = pipeline.run(config, run_dir=folder.root)
    assert outcome.manifest is not None
    assert outcome.manifest.sha256 == sha256(Path(of.folder.config.to))
    assert not [p for p in Path(config.to).parent.iterdir() if p.name.startswith(".")]
    assert AuditLog.default().entries()[-1]["what"] == "export"


def asked(root: Path, config: RunConfig) -> list[str]:
    (root / "run.toml").write_text(config.to_toml())
    return ["run", "--config", str(root / "run.toml"), "--run-dir", str(root / "run"), "--quiet"]


# --- disk ---------------------------------------------------------------------------------------


@contextmanager
def small_disk(place: Path, kib: int) -> Iterator[Path]:
    """Mount a disk of so many KiB; skip where this user may not."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=0700", "synthgen-test", str(place)]
    if os.getuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


FULL = ("No space left on device", "MiB are needed")


@survives(PART, "disk full, at many sizes: run folder, target and home on it")
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("kib", [4, 16, 32, *range(48, 640, 32)])
def test_a_full_disk(
    kib: int, undisturbed: Outcome, small_config: Configure, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with small_disk(tmp_path / "disk", kib) as disk:
        monkeypatch.setenv("SYNTHGEN_HOME", str(disk / "home"))
        config = small_config(disk / "out.csv")
        arguments = [*asked(tmp_path, config), "--run-dir", str(disk / "run")]
        code, said = said_by(tmp_path, None, *arguments)
        check_end(code, said, *FULL)
        if code:
            assert not (disk / "out.csv.manifest.json").exists()
        remount(disk, "size=16m")
        check_goes_on(disk, config, undisturbed)


@survives(PART, "disk full when a line is added to log, audit log or ledger")
def test_a_line_is_added_whole_or_not_at_all(tmp_path: Path) -> None:
    """A disk that takes 16 bytes more of a file, with a limit in its place."""
    path = tmp_path / "log.jsonl"
    append_line(path, '{"a": 1}')

    def work() -> None:
        size = path.stat().st_size + 16
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        with pytest.raises(OSError, match="too large"):
            append_line(path, '{"b": "' + "x" * 99 + '"}')
        append_line(path, '{"c": 3}')

    assert in_a_child(work) == 0
    assert path.read_text() == '{"a": 1}\n{"c": 3}\n'


@survives(PART, "a line cut off in the run's log (power loss)")
def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log(stage="train", event="start")
    with folder.log_path.open("a") as file:
        file.write('{"time": "2026-01-0')
    folder.log(stage="train", event="done")
    assert [e["event"] for e in folder.events] == ["start", "done"]


@survives(PART, "a limit on the size of a file (RLIMIT_FSIZE), at many sizes")
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("kib", [1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64, 96])
def test_a_limit_on_files(
    kib: int, undisturbed: Outcome, small_config: Configure, tmp_path: Path
) -> None:
    config = small_config(tmp_path / "out.csv")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, kib * 1024))

    code, said = said_by(tmp_path, limit, *asked(tmp_path, config))
    check_end(code, said, "File too large")
    (tmp_path / "stderr").unlink()
    check_goes_on(tmp_path, config, undisturbed)


@survives(PART, "a target that becomes read-only while the run is at work")
@pytest.mark.slow
@pytest.mark.faults
def test_a_target_that_becomes_read_only(
    undisturbed: Outcome, small_config: Configure, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 1024) as disk:
        config = small_config(disk / "out.csv")
        folder = pipeline.prepare(config, tmp_path / "run")
        for stage in run_folder.STAGES[:-1]:
            pipeline.advance(folder, stage)
        remount(disk, "ro")
        for _ in range(2):
            code, said = said_by(tmp_path, None, "resume", str(folder.root), "--quiet")
            assert code in (1, 2)
            check_end(code, said, "Read-only file system", "not writable")
        remount(disk, "rw")
        outcome = pipeline.resume(folder.root)
        assert outcome.manifest is not None
        assert sha256(disk / "out.csv") == sha256(Path(undisturbed.folder.config.to))


@survives(PART, "a run folder that becomes read-only while the run is at work")
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("stage", run_folder.STAGES)
def test_a_run_folder_that_becomes_read_only(
    stage: str, undisturbed: Outcome, small_config: Configure, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 4096) as disk:
        config = small_config(tmp_path / "out.csv")
        folder = pipeline.prepare(config, disk / "run")
        for before in run_folder.STAGES[: run_folder.STAGES.index(stage)]:
            pipeline.advance(folder, before)
        remount(disk, "ro")
        code, said = said_by(tmp_path, None, "resume", str(folder.root), "--quiet")
        assert code in (1, 2)
        check_end(code, said, "Read-only file system")
        remount(disk, "rw")
        outcome = pipeline.resume(folder.root)
        assert outcome.manifest is not None
        assert outcome.manifest.sha256 == sha256(Path(undisturbed.folder.config.to))


# --- memory and handles -------------------------------------------------------------------------


@survives(PART, "a limit on memory (RLIMIT_AS), at many sizes")
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("mib", [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128])
def test_a_limit_on_memory(
    mib: int, undisturbed: Outcome, small_config: Configure, tmp_path: Path
) -> None:
    config = small_config(tmp_path / "out.csv")

    def limit() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        size = pages * resource.getpagesize() + mib * MIB
        resource.setrlimit(resource.RLIMIT_AS, (size, size))

    code, said = said_by(tmp_path, limit, *asked(tmp_path, config))
    check_end(code, said, "memory")
    (tmp_path / "stderr").unlink()
    check_goes_on(tmp_path, config, undisturbed)


@survives(PART, "a limit on open files (RLIMIT_NOFILE), at many sizes")
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("more", range(1, 10))  # with none at all Python cannot import
def test_a_limit_on_open_files(
    more: int, undisturbed: Outcome, small_config: Configure, tmp_path: Path
) -> None:
    config = small_config(tmp_path / "out.csv")

    def limit() -> None:
        handles = max(int(p.name) for p in Path("/proc/self/fd").iterdir()) + 1
        for handle in range(3, handles):
            if not os.path.exists(f"/proc/self/fd/{handle}"):  # noqa: PTH110
                os.dup2(2, handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (handles + more, handles + more))

    code, said = said_by(tmp_path, limit, *asked(tmp_path, config))
    check_end(code, said, "Too many open files")
    (tmp_path / "stderr").unlink()
    check_goes_on(tmp_path, config, undisturbed)


# --- clock --------------------------------------------------------------------------------------


@survives(PART, "a clock that jumps by years, back and forth")
@pytest.mark.slow
def test_a_clock_that_jumps(
    undisturbed: Outcome, small_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = iter(["2038-01-20T00:00:00+00:00", "1999-12-31T23:59:59+00:00"] * 999)
    monkeypatch.setattr(run_folder, "now", lambda: next(jumps))
    monkeypatch.setattr("time.time", lambda: 0.0)
    outcome = pipeline.run(small_config(tmp_path / "out.csv"), run_dir=tmp_path / "run")
    assert outcome.manifest is not None
    assert outcome.manifest.sha256 == sha256(Path(undisturbed.folder.config.to))
    assert all(took["seconds"] >= 0 for took in outcome.folder.stages.values())


# --- training -----------------------------------------------------------------------------------


Change = Callable[[torch.Tensor], torch.Tensor]


def disturb(patch: pytest.MonkeyPatch, steps: Container[int], change: Change) -> None:
    """Let `change` have the loss of some steps, numbered from 1, before its gradient is taken."""
    real, number = train.descend, itertools.count(1)

    def descend(loss: torch.Tensor, *rest: Any) -> None:
        real(change(loss) if next(number) in steps else loss, *rest)

    patch.setattr(train, "descend", descend)


def poison(loss: torch.Tensor) -> torch.Tensor:
    """Every gradient becomes NaN."""
    return loss * float("nan")


def full(error: type[Exception] = torch.OutOfMemoryError) -> Callable[..., Any]:
    """What a GPU says when it has no memory left."""

    def fail(*_: Any) -> Any:
        raise error("CUDA out of memory. Tried to allocate 20.00 MiB")

    return fail


@survives(PART, "NaN in the gradients of some steps: rolled back, or training says so")
@pytest.mark.slow
@pytest.mark.parametrize(
    "steps",
    [[12], [41], *(pytest.param(s, marks=FAULTS) for s in ([1], [40], [12, 26, 33]))],
)
def test_nan_in_a_gradient(
    steps: list[int], small_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb(monkeypatch, steps, poison)
    folder = pipeline.prepare(small_config(tmp_path / "out.csv"), tmp_path / "run")
    pipeline.advance(folder, "ingest")
    if max(steps) > TINY_TRAIN["steps"]:
        with pytest.raises(TrainingError, match="not finite"):
            pipeline.advance(folder, "train")
        assert not folder.bundle_path.exists()
        monkeypatch.undo()
    pipeline.advance(folder, "train")
    pipeline.advance(folder, "generate")
    assert folder.finished("generate") is not None


@survives(PART, "NaN in every gradient: training says so, nothing is drawn")
@pytest.mark.slow
def test_nan_in_every_gradient(
    undisturbed: Outcome, small_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        disturb(patched, range(9_999), poison)
        with pytest.raises(TrainingError, match="lower learning_rate"):
            pipeline.run(small_config(tmp_path / "out.csv"), run_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "private" / "bundle").exists()
    check_goes_on(tmp_path, small_config(tmp_path / "out.csv"), undisturbed)


@survives(PART, "memory of a GPU (simulated) runs out in a step: half the batch")
@pytest.mark.slow
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
@pytest.mark.parametrize(
    "step", [20, pytest.param(1, marks=FAULTS), pytest.param(42, marks=FAULTS)]
)
def test_memory_of_a_gpu_runs_out(
    error: type[Exception], step: int, small_config: Configure, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    disturb(monkeypatch, [step], full(error))
    folder = pipeline.prepare(small_config(tmp_path / "out.csv"), tmp_path / "run")
    for stage in ("ingest", "train", "generate"):
        pipeline.advance(folder, stage)
    assert any("memory ran out: the batch is" in note for note in folder.training_notes)


@survives(PART, "memory of a GPU (simulated) runs out in every step, or in drawing: run resumable")
@pytest.mark.slow
def test_memory_of_a_gpu_is_never_enough(
    undisturbed: Outcome, small_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(tmp_path / "out.csv")
    with monkeypatch.context() as patched:
        disturb(patched, range(9_999), full())
        with pytest.raises(TrainingError, match="not even one row fits into memory"):
            pipeline.run(config, run_dir=tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(Drawer, "draw", full())
        with pytest.raises(StageError, match="stage 'generate' ran out of memory"):
            pipeline.resume(tmp_path / "run")
    check_goes_on(tmp_path, config, undisturbed)


@survives(PART, "disk full when privacy spending is written down: nothing spent, ledger whole")
def test_a_ledger_on_a_full_disk(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    source = ledger.source("a", "b")
    counts = [Mechanism("counts", "discrete-gaussian", 50.0, 1)]

    def spend(run: str) -> float:
        return ledger.spend(source, counts, delta=1e-6, cap=9.0, run=run)

    spend("first")
    before = (tmp_path / "ledger.jsonl").read_text()

    def work() -> None:
        size = len(before) + 16
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        with pytest.raises(OSError, match="too large"):
            spend("second")

    assert in_a_child(work) == 0
    assert (tmp_path / "ledger.jsonl").read_text() == before
    spend("third")
