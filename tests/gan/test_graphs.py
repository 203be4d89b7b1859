"""What a recorded step asks of the step: proven on tensors that have no values.

`FakeTensorMode` runs every operator on shapes, types and devices alone. Whatever would make the
host wait for the device (`item`, `bool`, a mask as index) has no answer there and raises.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from synthgen.config import TrainConfig
from synthgen.encode.column import EncodedTable, Layout
from synthgen.gan.graphs import replayed
from synthgen.gan.losses import LOSSES
from synthgen.gan.nets import Critic, Detail, Skeleton
from synthgen.gan.objective import critic_objective
from synthgen.gan.regularizers import REGULARIZERS
from synthgen.gan.train import fit, skeleton_step

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
Net = TypeVar("Net", bound=torch.nn.Module)


def without_values(net: Net) -> Net:
    """Take the values from `net`, under `FakeTensorMode`."""

    def fake(tensor: Tensor) -> Tensor:
        return torch.zeros(tensor.shape, dtype=tensor.dtype)

    for module in net.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = torch.nn.Parameter(fake(weight))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = fake(buffer)
    return net


def test_tensors_without_values_catch_a_look_at_one() -> None:
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        torch.zeros(3).sum().item()
    with FakeTensorMode(), pytest.raises(DynamicOutputShapeException):
        torch.zeros(3)[torch.zeros(3) > 0]


def test_a_step_of_the_skeleton_never_waits_for_the_device(layout: Layout) -> None:
    n_tokens = len(layout.sizes)
    net = Skeleton(layout, 8, 2, dropout=0.2)
    with FakeTensorMode():
        net = without_values(net)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        tokens = torch.zeros(100, n_tokens, dtype=torch.int64)
        step = skeleton_step(net, optimizer, tokens, TrainConfig(), torch.Generator())
        loss = step(torch.zeros(16, dtype=torch.int64))
        assert loss.shape == ()
        assert all(w.grad is not None for w in net.parameters())


@pytest.mark.parametrize("regularizer", ["gradient-penalty", "one-sided-penalty", "spectral-norm"])
def test_a_step_of_the_critic_never_waits_for_the_device(layout: Layout, regularizer: str) -> None:
    n_offsets = len(layout.offset_parents)
    rule = REGULARIZERS[regularizer](TrainConfig())
    critic, detail = rule.prepare(Critic(layout, 8, TrainConfig())), Detail(layout, 8, 4)
    with FakeTensorMode():
        critic, detail = without_values(critic), without_values(detail)
        tokens = torch.zeros(16, len(layout.sizes), dtype=torch.int64)
        real = torch.zeros(16, n_offsets)
        fake = detail(tokens, torch.randn(16, detail.d_latent))
        eps = torch.rand(16, 1)
        loss = critic_objective(critic, LOSSES["wasserstein"], rule, tokens, real, fake, eps)
        loss.mean().backward()
        rule.project(critic)
        assert loss.shape == (16,)


def test_on_a_cpu_a_step_is_a_call() -> None:
    def step(rows: Tensor) -> Tensor:
        return rows.sum()

    assert replayed(step, torch.Generator(), lambda note: None) is step


# --- with a GPU

STEPS: dict[str, Any] = {"steps": 300, "critic_steps": 0, "width": 32, "depth": 1, "batch_size": 64}


def losses(table: EncodedTable, **changes: Any) -> tuple[list[float], list[Any]]:
    records: list[dict[str, Any]] = []
    config = TrainConfig(**STEPS, evaluate_every=20, **changes)
    fit(table, config, seed=0, device=torch.device("cuda"), log=records.append)
    scores = [float(r["holdout_loss"]) for r in records if "holdout_loss" in r]
    return scores, [r["note"] for r in records if "note" in r]


@pytest.mark.gpu
@needs_gpu
def test_replayed_steps_learn_what_called_ones_learn(encoded: EncodedTable) -> None:
    replays, notes = losses(encoded)
    assert not [note for note in notes if "recorded" in note]
    called, _ = losses(encoded, cuda_graphs=False)
    # The same streams and the same sums, up to the order in which atomics add.
    assert replays == pytest.approx(called, rel=2e-2)
    assert len(set(replays)) == len(replays)  # the weights move, if only about true marginals


@pytest.mark.gpu
@needs_gpu
def test_a_step_that_cannot_be_recorded_is_called() -> None:
    noise, notes = torch.Generator("cuda").manual_seed(0), []

    def step(rows: Tensor) -> Tensor:
        seen = rows.sum().item()  # what a recording does not allow
        return torch.rand((), generator=noise, device="cuda") + seen

    run = replayed(step, noise, notes.append)
    rows = torch.ones(3, dtype=torch.int64, device="cuda")
    drawn = [run(rows).item() for _ in range(10)]
    assert len(notes) == 1
    assert "RuntimeError" in notes[0] or "Error" in notes[0]
    assert len(set(drawn)) == 10
    assert all(math.isfinite(d) for d in drawn)
    assert torch.rand(1, device="cuda").isfinite().all()
