"""Histograms matched without being built: equal to the built ones, and flat where all is right."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from synthgen.config import TrainConfig
from synthgen.encode.column import EncodedTable
from synthgen.gan.condition import random_known
from synthgen.gan.matching import histogram_distance
from synthgen.gan.nets import Skeleton
from synthgen.gan.train import fit, skeleton_loss

CPU = torch.device("cpu")


def test_two_rows_by_hand() -> None:
    # One token of two levels is asked for, the other one is known and the same in both rows. Both
    # rows are predicted half and half, and both are level 0: residuals (-.5, .5) twice.
    # One-way: .5^2 + .5^2 = .5. The only two-way table says the same: .5, over T = 2 tokens.
    tokens = torch.tensor([[0, 1], [0, 1]])
    known = torch.tensor([[False, True], [False, True]])
    asked, unknown = tokens[:, :1], ~known[:, :1]
    distance = histogram_distance([torch.zeros(2, 2)], asked, unknown, tokens, known)
    assert distance.item() == pytest.approx(0.5 + 0.5 / 2)
    # With other levels of the known token the two-way residuals are (-.25, .25) in two rows of it.
    tokens = torch.tensor([[0, 0], [0, 1]])
    distance = histogram_distance([torch.zeros(2, 2)], asked, unknown, tokens, known)
    assert distance.item() == pytest.approx(0.5 + (4 * 0.25**2) / 2)
    # Predicted right, on average and in each row of the table: nothing is left.
    sure = torch.tensor([[50.0, 0], [50.0, 0]])
    distance = histogram_distance([sure], asked, unknown, tokens, known)
    assert distance.item() == pytest.approx(0, abs=1e-9)


def coarse_logits(skeleton: Skeleton, rows: Tensor, known: Tensor) -> list[Tensor]:
    return skeleton.coarse.split(skeleton.logits(rows, known, len(rows))[0])


def by_hand(skeleton: Skeleton, rows: Tensor, known: Tensor) -> float:
    """The same from tables of one and two ways."""
    c, total = skeleton.n_coarse, 0.0
    for t, block in enumerate(coarse_logits(skeleton, rows, known)):
        residual = (block.softmax(dim=1) - F.one_hot(rows[:, t], block.shape[1])) * ~known[:, [t]]
        total += float((residual.mean(dim=0) ** 2).sum())
        for u in range(c):
            levels = F.one_hot(rows[:, u], skeleton.sizes[u]) * known[:, [u]]
            total += float(((levels.float().T @ residual / len(rows)) ** 2).sum()) / rows.shape[1]
    return total / c


def test_it_equals_the_tables(encoded: EncodedTable, tokens: Tensor) -> None:
    torch.manual_seed(0)
    skeleton, rows = Skeleton(encoded.layout, 8, 1), tokens[:50]
    with torch.no_grad():
        skeleton.head.own += 0.3 * torch.randn(skeleton.head.own.shape)
        known, split = random_known(50, 5, 4, torch.Generator().manual_seed(0), CPU)
        rows, known = rows[:split], known[:split]
        distance = histogram_distance(
            coarse_logits(skeleton, rows, known), rows[:, :4], ~known[:, :4], rows, known
        )
        assert distance.item() == pytest.approx(by_hand(skeleton, rows, known), rel=1e-4)


def test_its_gradient_vanishes_where_the_shares_are_right() -> None:
    noise = torch.Generator().manual_seed(0)
    tokens = (torch.rand(20_000, 1, generator=noise) < 0.3).long()
    known = torch.zeros(tokens.shape, dtype=torch.bool)
    slopes = []
    for share in (0.3, 0.5):
        bias = torch.tensor([math.log(1 - share), math.log(share)], requires_grad=True)
        logits = bias.repeat(500, 1)
        for rows in tokens.split(500):
            histogram_distance([logits], rows, ~known[:500], rows, known[:500]).backward(
                retain_graph=True
            )
        assert bias.grad is not None
        slopes.append(abs(float(bias.grad[1]) / 40))
    # d/db of 2 (s - .3)^2 at s = .5 is 4 * .2 * .25 = .2; at s = .3 it is zero but for chance.
    assert slopes[1] == pytest.approx(0.2, rel=0.1)
    assert slopes[0] < 0.01


def test_it_is_added_with_its_weight(encoded: EncodedTable, tokens: Tensor) -> None:
    skeleton, rows = Skeleton(encoded.layout, 8, 1), tokens[:60]
    known, split = random_known(60, 5, 4, torch.Generator().manual_seed(0), CPU)
    plain, one, three = (skeleton_loss(skeleton, rows, known, split, w).item() for w in (0, 1, 3))
    assert one > plain
    assert three - plain == pytest.approx(3 * (one - plain), rel=1e-3)


def test_it_trains(encoded: EncodedTable) -> None:
    few = EncodedTable(encoded.tokens[:300], encoded.offsets[:300], encoded.layout)
    config = TrainConfig(steps=9, critic_steps=0, width=16, depth=1, batch_size=32, matching=10)
    on = fit(few, config, seed=0, device=CPU)
    off = fit(few, config.model_copy(update={"matching": 0.0}), seed=0, device=CPU)
    assert not torch.equal(on.skeleton.head.own, off.skeleton.head.own)
