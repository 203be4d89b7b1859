"""Training in several processes: what they exchange, and that it is one training."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from synthgen.config import TrainConfig
from synthgen.encode.column import EncodedTable
from synthgen.errors import TrainingError
from synthgen.gan.nets import Skeleton
from synthgen.gan.train import fit, skeleton_loss
from synthgen.gan.world import ALONE, World, joined
from synthgen.synthesizer import Synthesizer

CPU = torch.device("cpu")


def gradient(net: nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in net.parameters() if p.grad is not None]


def test_alone_nothing_changes() -> None:
    net = nn.Linear(2, 1)
    net(torch.ones(3, 2)).sum().backward()
    before = gradient(net)
    ALONE.average(net)
    ALONE.share(net)
    ALONE.check_equal(net)
    assert all(map(torch.equal, before, gradient(net)))
    assert (ALONE.first(3.0), ALONE.mean(3.0)) == (3.0, 3.0)
    with joined(CPU) as world:
        assert world is ALONE


def test_the_mean_of_two_batches_gradients_is_that_of_the_joined_batch(
    encoded: EncodedTable,
) -> None:
    """By which the average over processes is one step of all of them together."""
    torch.manual_seed(0)
    skeleton = Skeleton(encoded.layout, width=16, depth=1).double()
    tokens = torch.from_numpy(encoded.tokens[:32]).long()
    known = torch.zeros(32, tokens.shape[1], dtype=torch.bool)
    halves = [slice(0, 16), slice(16, 32)]
    n_fine = tokens.shape[1] - skeleton.n_coarse
    split = 16 if n_fine == 0 else 10
    known[:, : skeleton.n_coarse] = False
    for half in halves:
        known[half][split:, : skeleton.n_coarse] = True
    apart = []
    for half in halves:
        net = copy.deepcopy(skeleton)
        skeleton_loss(net, tokens[half], known[half], split).backward()
        apart.append(gradient(net))
    # In the joined batch the rows that are asked for coarse tokens come first.
    order = [*range(split), *range(16, 16 + split), *range(split, 16), *range(16 + split, 32)]
    skeleton_loss(skeleton, tokens[order], known[order], 2 * split).backward()
    for one, other, joint in zip(*apart, gradient(skeleton), strict=True):
        torch.testing.assert_close((one + other) / 2, joint, rtol=1e-9, atol=1e-12)


def test_several_processes_keep_no_checkpoint(encoded: EncodedTable, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no checkpoint"):
        fit(
            encoded,
            TrainConfig(steps=1),
            seed=0,
            device=CPU,
            checkpoint=tmp_path / "checkpoint",
            world=World(0, 2, CPU),
        )
    assert not (tmp_path / "checkpoint").exists()


PROGRAM = """
import json, os, sys
import torch
from torch import nn
from synthgen import demo
from synthgen.config import RunConfig
from synthgen.synthesizer import Synthesizer, world_of

table = demo.demo_frame(600, seed=0)
train = {"steps": 30, "critic_steps": 6, "width": 32, "depth": 1, "batch_size": 64}
with world_of("cpu") as world:
    # gradients 1 and 3 on two processes: 2 on both
    net = nn.Linear(1, 1)
    net.weight.grad = torch.full((1, 1), 1.0 + 2 * world.rank)
    world.average(net)
    records = []
    fitted = Synthesizer.fit(
        table, config=RunConfig.build({"train": train}), seed=0, device="cpu",
        log=records.append, world=world,
    )
    found = {
        "rank": world.rank, "size": world.size, "gradient": net.weight.grad.item(),
        "first": world.first(world.rank + 5.0), "mean": world.mean(world.rank + 5.0),
        "fingerprint": fitted.fingerprint, "logged": len(records),
        "rows": len(fitted.sample(100, seed=1)),
    }
names = [open(f"/proc/self/task/{thread}/comm").read() for thread in os.listdir("/proc/self/task")]
found["left"] = [name for name in names if "gloo" in name]
with open(f"{sys.argv[1]}/{found['rank']}.json", "w") as file:
    json.dump(found, file)
"""


def torchrun(*arguments: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3_000:]


@pytest.mark.slow
def test_two_processes_end_with_one_generator(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    torchrun(str(tmp_path / "program.py"), str(tmp_path))
    first, second = (json.loads((tmp_path / f"{r}.json").read_text()) for r in (0, 1))
    assert (first["rank"], second["rank"], first["size"], second["size"]) == (0, 1, 2, 2)
    for found in (first, second):
        assert (found["gradient"], found["first"], found["mean"]) == (2.0, 5.0, 5.5)
        assert found["rows"] == 100
        # A thread of the group that outlives it may abort the process when Python ends.
        assert found["left"] == []
    assert first["fingerprint"] == second["fingerprint"]


@pytest.mark.slow
def test_the_verb_trains_in_two_processes(demo_files: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        "[train]\nsteps = 30\ncritic_steps = 6\nwidth = 32\ndepth = 1\n"
    )
    torchrun(
        *("-m", "synthgen", "train", "--data", str(demo_files / "admissions.csv")),
        *("--schema", str(demo_files / "schema.toml"), "--to", str(tmp_path / "bundle")),
        *("--config", str(tmp_path / "config.toml"), "--device", "cpu"),
    )
    fitted = Synthesizer.load(tmp_path / "bundle", device="cpu")
    assert len(fitted.sample(50, seed=0)) == 50
    assert fitted.facts["rows"] == 1_200
    assert {p.name for p in tmp_path.iterdir()} == {"bundle", "config.toml"}
