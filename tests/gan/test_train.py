"""Training: sizes, seeds, refusals, budgets and what is logged."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from synthgen.config import TrainConfig
from synthgen.encode.column import EncodedTable, Layout
from synthgen.errors import TrainingError
from synthgen.gan.condition import random_known
from synthgen.gan.nets import Skeleton
from synthgen.gan.sample import Drawer, Restriction
from synthgen.gan.train import (
    Generator,
    fit,
    fit_skeleton,
    plan,
    skeleton_loss,
    skeleton_optimizer,
)

CPU = torch.device("cpu")
QUICK = TrainConfig(steps=40, critic_steps=10, width=32, depth=1, batch_size=64)


def train(table: EncodedTable, seed: int = 0, **changes: Any) -> Generator:
    return fit(table, QUICK.model_copy(update=changes), seed=seed, device=CPU)


def part(table: EncodedTable, n: int) -> EncodedTable:
    return EncodedTable(table.tokens[:n], table.offsets[:n], table.layout)


def is_finite(generator: Generator) -> bool:
    return all(bool(torch.isfinite(t).all()) for t in generator.state_dict().values())


# --- sizes

ROWS = (50, 300, 3_000, 15_000, 1_000_000)


def test_sizes_grow_with_the_rows(layout: Layout) -> None:
    plans = [plan(TrainConfig(), layout, n) for n in ROWS]
    for name in ("steps", "critic_steps", "batch_size", "width", "depth"):
        sizes = [getattr(p, name) for p in plans]
        assert sizes == sorted(sizes), name
    for p, n in zip(plans, ROWS, strict=True):
        assert 2 <= p.batch_size <= n
        assert 300 <= p.steps <= 20_000
        assert 1 <= p.evaluate_every <= p.steps


def test_fewer_rows_are_decayed_more(layout: Layout) -> None:
    decays = [plan(TrainConfig(), layout, n).weight_decay for n in (50, 300, 1_500, 5_000, 15_000)]
    assert decays == [10, 10, 2, 0.3, 0.3]
    assert plan(TrainConfig(weight_decay=0.0), layout, 300).weight_decay == 0


def test_marginals_are_not_decayed_more(layout: Layout, tokens: torch.Tensor) -> None:
    net = Skeleton(layout, 8, 1)
    config = TrainConfig(weight_decay=10.0)
    sizes = plan(config, layout, 300)
    optimizer = skeleton_optimizer(net, config, sizes, CPU)
    before = {name: w.detach().clone() for name, w in net.named_parameters()}
    for weight in net.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    for name, weight in net.named_parameters():
        decay = 0.3 if "bias" in name or "norm" in name else 10.0
        expected = before[name] * (1 - config.learning_rate * decay)
        torch.testing.assert_close(weight.detach(), expected, msg=name)


def test_a_batch_is_never_larger_than_the_table(layout: Layout) -> None:
    assert plan(TrainConfig(batch_size=512), layout, 30).batch_size == 30


def test_what_is_asked_for_is_taken(layout: Layout) -> None:
    p = plan(TrainConfig(steps=7, critic_steps=0, width=8, depth=4, evaluate_every=2), layout, 500)
    assert (p.steps, p.critic_steps, p.width, p.depth, p.evaluate_every) == (7, 0, 8, 4, 2)


# --- seeds


def test_equal_seeds_equal_weights(encoded: EncodedTable, trained: Generator) -> None:
    again = train(encoded).state_dict()
    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor, again[name]), name


def test_another_seed_other_weights(encoded: EncodedTable, trained: Generator) -> None:
    other = train(encoded, seed=1).skeleton.bias
    assert not torch.equal(other, trained.skeleton.bias)


def test_the_global_random_state_is_left_alone(encoded: EncodedTable) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    train(encoded, steps=2, critic_steps=1)
    assert torch.equal(before, torch.get_rng_state())


# --- it learns


def test_training_lowers_the_validated_loss(copies: EncodedTable) -> None:
    records: list[dict[str, Any]] = []
    config = QUICK.model_copy(update={"steps": 150, "evaluate_every": 10, "learning_rate": 5e-3})
    fit(copies, config, seed=0, device=CPU, log=records.append)
    scores = [r["holdout_loss"] for r in records if "holdout_loss" in r]
    assert scores[-1] < scores[0] - 0.05


def test_the_loss_of_a_new_skeleton_is_the_entropy_of_the_marginals(
    encoded: EncodedTable, layout: Layout, tokens: torch.Tensor
) -> None:
    net = Skeleton(layout, 8, 1)
    known = torch.zeros(tokens.shape, dtype=torch.bool)
    entropies = [-(p[p > 0] * np.log(p[p > 0])).sum() for p in layout.priors]
    loss = skeleton_loss(net, tokens, known, split=len(tokens)).item()
    assert loss == pytest.approx(np.mean(entropies), abs=0.01)


def test_coarse_and_fine_rows_are_weighted_alike(layout: Layout, tokens: torch.Tensor) -> None:
    net = Skeleton(layout, 8, 1)
    known, split = random_known(40, 5, 4, torch.Generator().manual_seed(0), CPU)
    rows = tokens[:40]
    coarse = skeleton_loss(net, rows[:split], known[:split], split).item()
    fine = skeleton_loss(net, rows[split:], known[split:], 0).item()
    both = skeleton_loss(net, rows, known, split).item()
    assert both == pytest.approx((coarse * split + fine * (40 - split)) / 40, rel=1e-5)


# --- small and odd tables


@pytest.mark.parametrize("n", [2, 5, 20, 21])
def test_very_few_rows(encoded: EncodedTable, n: int) -> None:
    generator = train(part(encoded, n), steps=3, critic_steps=2)
    assert is_finite(generator)


def test_without_numbers_there_is_no_detail(encoded: EncodedTable) -> None:
    assert train(encoded, steps=2, critic_steps=0).detail is None


def test_with_an_adversarial_part_there_is_a_detail(trained: Generator) -> None:
    assert trained.detail is not None
    assert not trained.training


# --- refusals


def test_no_rows_to_train_on_is_an_error(encoded: EncodedTable) -> None:
    with pytest.raises((TrainingError, ValueError)):
        train(part(encoded, 0))


def test_weights_that_are_not_finite_are_an_error(layout: Layout, tokens: torch.Tensor) -> None:
    net = Skeleton(layout, 8, 1)
    with torch.no_grad():
        for weight in net.parameters():
            weight.fill_(math.nan)
    config = QUICK.model_copy(update={"evaluate_every": 2})
    sizes = plan(config, layout, 500)
    noise = torch.Generator().manual_seed(0)
    with pytest.raises(TrainingError, match=r"not finite|no finite"):
        fit_skeleton(
            net, tokens[:500], tokens[500:600], config, sizes, noise, math.inf, lambda r: None
        )


def test_a_rate_that_diverges_is_an_error_or_survived(encoded: EncodedTable) -> None:
    try:
        generator = train(encoded, learning_rate=1.0, steps=60)
    except TrainingError:
        return
    assert is_finite(generator)


# --- stopping


def test_learning_by_heart_is_stopped(encoded: EncodedTable) -> None:
    records: list[dict[str, Any]] = []
    config = TrainConfig(
        steps=2_000,
        critic_steps=0,
        width=64,
        depth=2,
        batch_size=16,
        learning_rate=1e-2,
        evaluate_every=20,
        patience=2,
    )
    generator = fit(part(encoded, 60), config, seed=0, device=CPU, log=records.append)
    assert is_finite(generator)
    scores = [r["holdout_loss"] for r in records if "holdout_loss" in r]
    assert max(scores) > 1.03 * min(scores)
    assert records[-1]["step"] < 1_000


def test_a_time_budget_ends_training_early(encoded: EncodedTable, layout: Layout) -> None:
    records: list[dict[str, Any]] = []
    config = QUICK.model_copy(
        update={"steps": 100_000, "critic_steps": 100_000, "max_minutes": 0.2 / 60}
    )
    generator = fit(encoded, config, seed=0, device=CPU, log=records.append)
    assert max(r["step"] for r in records) < 10_000
    assert is_finite(generator)
    table = Drawer(generator, layout, seed=0, restriction=Restriction()).draw(range(1))
    assert len(table) > 0


# --- log


def test_what_is_logged(encoded: EncodedTable) -> None:
    records: list[dict[str, Any]] = []
    fit(encoded, QUICK, seed=0, device=CPU, log=records.append)
    assert all({"phase", "step", "steps"} <= set(r) for r in records)
    assert {r["phase"] for r in records} == {"skeleton", "detail"}
    assert any("loss" in r and "seconds" in r for r in records)
    assert any("holdout_loss" in r for r in records)
    assert any({"critic_loss", "generator_loss"} <= set(r) for r in records)
    for key, steps in (("skeleton", 40), ("detail", 10)):
        last = [r for r in records if r["phase"] == key][-1]
        assert last["step"] == last["steps"] == steps
    numbers = itertools.chain(*(r.values() for r in records))
    assert all(isinstance(v, int | float | str) for v in numbers)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_on_a_gpu(encoded: EncodedTable, layout: Layout) -> None:
    generator = fit(encoded, QUICK, seed=0, device=torch.device("cuda"))
    assert is_finite(generator)
    table = Drawer(generator, layout, seed=0, restriction=Restriction()).draw(range(1))
    assert len(table) > 0
