"""Training that is cut off goes on from its checkpoint, and ends with the same bytes."""

from __future__ import annotations

import itertools
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthgen import demo, pipeline
from synthgen.config import EncodeConfig, RunConfig, TrainConfig
from synthgen.encode.column import EncodedTable, Layout
from synthgen.encode.table import TableEncoder
from synthgen.errors import StageError, TrainingError
from synthgen.files import sha256
from synthgen.gan.checkpoint import Checkpoint
from synthgen.gan.nets import Detail, Generator, Skeleton
from synthgen.gan.train import _batches, _fit_detail, fit, fit_skeleton, plan
from synthgen.run_folder import Event, listening

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    steps=60, critic_steps=12, width=32, depth=1, batch_size=64, evaluate_every=7, dropout=0.2
)


class PulledPlugError(Exception):
    """Stands for whatever ends a process."""


def demo_rows() -> EncodedTable:
    """The same 300 encoded rows in every process."""
    table = demo.demo_frame(300, seed=0)
    encoder = TableEncoder.fit(table.data, table.schema, EncodeConfig(), seed=0)
    return encoder.transform(table.data)


def train(
    table: EncodedTable, path: Path | None = None, seed: int = 0, **options: Any
) -> Generator:
    return fit(table, CONFIG, seed=seed, device=CPU, checkpoint=path, **options)


def interrupt(table: EncodedTable, path: Path, phase: str, step: int) -> None:
    """Train until the record of `step` in `phase`, and no further."""

    def log(record: dict[str, Any]) -> None:
        if record["phase"] == phase and record["step"] >= step:
            raise PulledPlugError

    with pytest.raises(PulledPlugError):
        train(table, path, log=log)


def assert_same(one: Generator, other: Generator) -> None:
    a, b = one.state_dict(), other.state_dict()
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def whole(encoded: EncodedTable) -> Generator:
    """Trained without interruption and without a checkpoint."""
    return train(encoded)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.safetensors"


# --- the same bytes


def test_keeping_checkpoints_changes_nothing(
    encoded: EncodedTable, whole: Generator, path: Path
) -> None:
    assert_same(train(encoded, path), whole)


@pytest.mark.parametrize("step", [1, 8, *np.random.default_rng(5).integers(9, 60, 3).tolist(), 60])
def test_going_on_ends_with_the_same_bytes(
    encoded: EncodedTable, whole: Generator, path: Path, step: int
) -> None:
    interrupt(encoded, path, "skeleton", step)
    records: list[dict[str, Any]] = []
    assert_same(train(encoded, path, log=records.append), whole)
    scored = [r["step"] for r in records if "holdout_loss" in r]
    # The first score at or after the interruption was not kept: `log` came before the checkpoint.
    assert scored[0] == min(7 * max(1, -(-step // 7)), 60)


def test_going_on_from_the_detail_part(encoded: EncodedTable, whole: Generator, path: Path) -> None:
    interrupt(encoded, path, "detail", 12)
    records: list[dict[str, Any]] = []
    assert_same(train(encoded, path, log=records.append), whole)
    assert {r["phase"] for r in records if "note" not in r} == {"detail"}


def test_going_on_twice(encoded: EncodedTable, whole: Generator, path: Path) -> None:
    interrupt(encoded, path, "skeleton", 20)
    interrupt(encoded, path, "skeleton", 40)
    assert_same(train(encoded, path), whole)


def test_the_global_random_state_is_left_alone(encoded: EncodedTable, path: Path) -> None:
    interrupt(encoded, path, "skeleton", 20)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    train(encoded, path)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
def test_after_a_kill(path: Path) -> None:
    child = subprocess.Popen([sys.executable, __file__, str(path)])
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert path.exists()
    table = demo_rows()
    records: list[dict[str, Any]] = []
    assert_same(train(table, path, log=records.append), train(table))
    assert "goes on" in records[0]["note"]


# --- the file


def test_the_file_is_private_and_alone(encoded: EncodedTable, path: Path) -> None:
    old = os.umask(0)
    try:
        interrupt(encoded, path, "skeleton", 30)
    finally:
        os.umask(old)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_killed_writer_left_is_removed(path: Path) -> None:
    leftover = path.with_name(f".0123abcd-{path.name}")
    leftover.write_bytes(b"half")
    assert Checkpoint(path, "f").read() is None
    assert not leftover.exists()


def test_what_is_written_is_read(path: Path) -> None:
    kept = Checkpoint(path, "f")
    kept.write({"a": {"b.c": torch.arange(3)}}, {"best": float("inf"), "rate": 0.1})
    saved = kept.read()
    assert saved is not None
    assert saved.group("a")["b.c"].tolist() == [0, 1, 2]
    assert saved.facts == {"best": float("inf"), "rate": 0.1}
    kept.remove()
    assert kept.read() is None


def test_a_checkpoint_of_another_training_is_not_used(encoded: EncodedTable, path: Path) -> None:
    interrupt(encoded, path, "skeleton", 30)
    records: list[dict[str, Any]] = []
    other = train(encoded, path, seed=1, log=records.append)
    assert_same(other, train(encoded, seed=1))
    assert "another training" in records[0]["note"]


def test_a_cut_file_is_not_used(encoded: EncodedTable, whole: Generator, path: Path) -> None:
    interrupt(encoded, path, "skeleton", 30)
    path.write_bytes(path.read_bytes()[:-100])
    assert_same(train(encoded, path), whole)


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    Checkpoint(target, "f").write({}, {})
    path.symlink_to(target)
    assert Checkpoint(path, "f").read() is None


# --- batches


def test_batches_are_a_function_of_their_number() -> None:
    noise = torch.Generator().manual_seed(1)
    rows = _batches(10, 3, noise, CPU)
    first = [next(rows).tolist() for _ in range(8)]
    assert len(set(itertools.chain(*first[:3]))) == 9  # one epoch: three batches, no row twice
    assert first[:3] != first[3:6]
    for start in range(8):
        assert next(_batches(10, 3, noise, CPU, first=start)).tolist() == first[start]


# --- memory


def hungry(net: Skeleton | Detail, failures: list[BaseException]) -> None:
    """Let the next training steps of `net` fail, once for each of `failures`."""

    def fail(module: torch.nn.Module, _: Any) -> None:
        if module.training and failures:
            raise failures.pop()

    net.tokens.register_forward_pre_hook(fail)


def train_hungry(layout: Layout, tokens: torch.Tensor, failures: list[BaseException]) -> list[Any]:
    net, records = Skeleton(layout, 8, 1), list[dict[str, Any]]()
    hungry(net, failures)
    sizes = plan(CONFIG, layout, 500)
    noise = torch.Generator().manual_seed(0)
    fit_skeleton(
        net, tokens[:500], tokens[500:600], CONFIG, sizes, noise, float("inf"), records.append
    )
    return records


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_running_out_of_memory_halves_the_batch(
    layout: Layout, tokens: torch.Tensor, error: type[BaseException]
) -> None:
    records = train_hungry(layout, tokens, [error(), error()])
    notes = [r["note"] for r in records if "note" in r]
    assert [n.split(" rows")[0].split()[-1] for n in notes] == ["32", "16"]
    assert records[-1]["step"] == CONFIG.steps


def test_the_adversarial_part_halves_the_batch_too(
    encoded: EncodedTable, layout: Layout, tokens: torch.Tensor
) -> None:
    net, records = Detail(layout, 8, 4), list[dict[str, Any]]()
    hungry(net, [MemoryError()])
    offsets, noise = torch.from_numpy(encoded.offsets), torch.Generator().manual_seed(0)
    sizes = plan(CONFIG, layout, len(tokens))
    trained = _fit_detail(
        net, layout, tokens, offsets, CONFIG, sizes, noise, float("inf"), records.append
    )
    assert all(bool(torch.isfinite(p).all()) for p in trained.parameters())
    assert "32 rows" in str(records[0]["note"])
    assert records[-1]["step"] == CONFIG.critic_steps


def test_memory_for_not_even_one_row_is_an_error(layout: Layout, tokens: torch.Tensor) -> None:
    with pytest.raises(TrainingError, match="not even one row"):
        train_hungry(layout, tokens, [MemoryError() for _ in range(9)])


# --- few rows


def test_few_rows_are_advised(encoded: EncodedTable) -> None:
    few = EncodedTable(encoded.tokens[:999], encoded.offsets[:999], encoded.layout)
    records: list[dict[str, Any]] = []
    train(few, log=records.append)
    assert [r["note"].split(":")[0] for r in records if "note" in r] == ["999 training rows"]


# --- in a run


def test_a_stage_called_again_goes_on(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    folder = pipeline.prepare(tiny_config(tmp_path / "out.csv"), tmp_path / "run")
    pipeline.ingest(folder)
    pipeline.train(folder)
    whole = [sha256(folder.bundle_path / "generator.safetensors"), folder.training]
    assert not folder.checkpoint_path.exists()

    def pull(event: Event) -> None:
        if event["event"] == "step" and event["step"] >= 25:
            raise PulledPlugError

    with pytest.raises(StageError), listening(pull):
        pipeline.train(folder)
    assert folder.checkpoint_path.exists()
    notes: list[str] = []
    with listening(lambda event: notes.append(event["text"]) if "text" in event else None):
        pipeline.train(folder)
    assert "training goes on from step 24" in notes
    assert folder.training_notes == ["training goes on from step 24"]
    again = [sha256(folder.bundle_path / "generator.safetensors"), folder.training]
    for steps in (whole[1], again[1]):
        for step in steps:
            step.pop("seconds", None)
    assert again == whole
    assert not folder.checkpoint_path.exists()


if __name__ == "__main__":  # the process that `test_after_a_kill` kills
    train(demo_rows(), Path(sys.argv[1]))
