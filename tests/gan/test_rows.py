"""The critic of whole rows: draws that have a gradient, and what reaches the skeleton by it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from synthgen.config import PRESETS, TrainConfig
from synthgen.encode.column import EncodedTable, Layout
from synthgen.errors import TrainingError
from synthgen.gan.nets import Form, Generator, Skeleton
from synthgen.gan.objective import descend
from synthgen.gan.rows import (
    REDRAWN,
    RowAdversary,
    RowCritic,
    choose,
    redraw,
    shown,
    straight_through,
)
from synthgen.gan.train import fit

CPU = torch.device("cpu")
TINY: dict[str, Any] = {"steps": 9, "critic_steps": 0, "width": 16, "depth": 1, "batch_size": 32}


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def part(table: EncodedTable, n: int) -> EncodedTable:
    return EncodedTable(table.tokens[:n], table.offsets[:n], table.layout)


# --- straight-through draws


def test_draws_are_whole_levels_with_the_softmax_as_their_distribution() -> None:
    share = torch.tensor([0.5, 0.3, 0.2, 0.0])
    drawn = straight_through(share.log().clamp(min=-1e9).repeat(20_000, 1), noise())
    assert torch.equal(drawn.sort(dim=1).values, torch.tensor([0.0, 0, 0, 1]).repeat(20_000, 1))
    # Four standard errors of a share of 20,000 are below .015; the temperature does not matter.
    torch.testing.assert_close(drawn.mean(dim=0), share, atol=0.015, rtol=0)


def test_the_gradient_is_that_of_the_soft_draw() -> None:
    # Of two levels the soft draw is a logistic function of the difference d of logits plus noise,
    # over the temperature: its slope by d is s (1 - s) / temperature.
    logits = torch.zeros(1, 2, requires_grad=True)
    hard = straight_through(logits, noise(), temperature=0.5)
    hard[0, 0].backward()  # type: ignore[no-untyped-call]
    uniform = torch.rand(1, 2, generator=noise()).double()
    gumbel = -torch.log(-torch.log(uniform))[0]
    s = 1 / (1 + math.exp(-float(gumbel[0] - gumbel[1]) / 0.5))
    assert logits.grad is not None
    slope = s * (1 - s) / 0.5
    assert logits.grad[0].tolist() == pytest.approx([slope, -slope], rel=1e-4)


# --- rows drawn again


@pytest.mark.parametrize("architecture", ["mlp", "conv"])
def test_every_weight_of_the_skeleton_is_reached(
    layout: Layout, tokens: torch.Tensor, architecture: str
) -> None:
    torch.manual_seed(0)
    skeleton = Skeleton(layout, 16, 1, form=Form(architecture))
    with torch.no_grad():  # new layers of zeros pass nothing on
        for weight in skeleton.parameters():
            weight += 0.1 * torch.randn(weight.shape)
    config = TrainConfig.model_validate({"row_adversary": 1.0, "architecture": architecture})
    adversary = RowAdversary.wanted(layout, 16, config, CPU)
    assert adversary is not None
    adversary.loss(skeleton, tokens[:64], noise()).backward()  # type: ignore[no-untyped-call]
    for name, weight in skeleton.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name
        assert weight.grad.abs().max() > 0, name


def test_few_tokens_are_chosen_coarse_before_fine(layout: Layout) -> None:
    skeleton = Skeleton(layout, 8, 1)
    for seed in range(10):
        chosen = choose(skeleton, noise(seed))
        assert len(set(chosen)) == len(chosen) == sum(REDRAWN)
        assert [t >= layout.n_coarse for t in chosen] == [False, False, False, True]


def test_a_right_skeleton_draws_rows_as_real_ones(
    encoded: EncodedTable, tokens: torch.Tensor, layout: Layout
) -> None:
    # A new skeleton has the true marginals: each drawn token has them, whatever it stands beside.
    skeleton, chosen = Skeleton(layout, 8, 1), [1, 0, 2, 4]
    rows = tokens.repeat(4, 1)
    with torch.no_grad():
        drawn = redraw(skeleton, rows, chosen, noise())
    assert drawn.shape == (len(rows), sum(skeleton.sizes[t] for t in chosen))
    blocks = torch.split(drawn, [skeleton.sizes[t] for t in chosen], dim=1)
    for token, block in zip(chosen, blocks, strict=True):
        assert torch.equal(block.sum(dim=1), torch.ones(len(rows)))
        true = F.one_hot(tokens[:, token], block.shape[1]).float().mean(dim=0)
        torch.testing.assert_close(block.mean(dim=0), true, atol=0.02, rtol=0)


def test_a_fine_token_follows_the_parent_that_was_drawn(
    layout: Layout, tokens: torch.Tensor
) -> None:
    # The spiked column's exact values have one cell: their fine token must be the first one.
    skeleton, parent = Skeleton(layout, 8, 1), int(layout.parents[0])
    with torch.no_grad():
        drawn = redraw(skeleton, tokens[:1_000], [parent, 4], noise())
    level = drawn[:, : skeleton.sizes[parent]].argmax(dim=1)
    cell = drawn[:, skeleton.sizes[parent] :].argmax(dim=1)
    possible = torch.from_numpy(layout.fine_priors[0] > 0)
    assert possible[level, cell].all()


@pytest.mark.parametrize("architecture", ["mlp", "conv"])
def test_the_critic_sees_what_was_drawn_as_it_sees_real_rows(
    layout: Layout, tokens: torch.Tensor, architecture: str
) -> None:
    torch.manual_seed(0)
    config = TrainConfig.model_validate({"architecture": architecture})
    critic, rows, chosen = RowCritic(layout, 16, config), tokens[:7], [2, 4]
    skeleton = Skeleton(layout, 8, 1)
    known = shown(skeleton, rows, chosen)
    real = torch.cat([F.one_hot(rows[:, t], skeleton.sizes[t]) for t in chosen], dim=1).float()
    scores = critic(real, critic.given(rows, known, chosen))
    assert scores.shape == (7,)
    whole = critic.scorer(critic.funnel(critic.tokens(rows)))
    torch.testing.assert_close(scores, whole, atol=1e-5, rtol=1e-4)


# --- training


@pytest.mark.parametrize(
    "changes",
    [
        *({"preset": p} for p in PRESETS if p != "hinge-sn"),
        {"preset": "hinge-sn", "unroll": 1},
        {"pac": 4},
        {"architecture": "conv"},
        {"preset": "ns-gan", "minibatch_discrimination": 4, "critic_norm": "batch"},
    ],
    ids=str,
)
def test_it_trains_with_every_preset(encoded: EncodedTable, changes: dict[str, Any]) -> None:
    config = TrainConfig.model_validate({**TINY, "row_adversary": 0.1, **changes})
    off = config.model_copy(update={"row_adversary": 0.0})
    on, alone = (fit(part(encoded, 300), c, seed=0, device=CPU) for c in (config, off))
    assert all(torch.isfinite(t).all() for t in on.state_dict().values())
    assert not torch.equal(on.skeleton.head.own, alone.skeleton.head.own)


def test_what_was_interrupted_ends_with_the_same_bytes(
    encoded: EncodedTable, tmp_path: Path
) -> None:
    config = TrainConfig.model_validate(
        {**TINY, "steps": 24, "evaluate_every": 6, "row_adversary": 0.5, "dropout": 0.2}
    )
    few, path = part(encoded, 300), tmp_path / "checkpoint.safetensors"

    class PulledPlugError(Exception):
        pass

    def log(record: dict[str, Any]) -> None:
        if record["step"] == 18:
            raise PulledPlugError

    whole = fit(few, config, seed=0, device=CPU).state_dict()
    with pytest.raises(PulledPlugError):
        fit(few, config, seed=0, device=CPU, log=log, checkpoint=path)
    again = fit(few, config, seed=0, device=CPU, checkpoint=path).state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_restart_forgets(layout: Layout, tokens: torch.Tensor) -> None:
    adversary = RowAdversary.wanted(layout, 16, TrainConfig(row_adversary=1), CPU)
    assert adversary is not None
    before = {k: v.clone() for k, v in adversary.critic.state_dict().items()}
    adversary.loss(Skeleton(layout, 8, 1), tokens[:64], noise())
    moved = adversary.critic.state_dict()
    assert any(not torch.equal(before[k], moved[k]) for k in before)
    adversary.restart()
    assert all(torch.equal(before[k], v) for k, v in adversary.critic.state_dict().items())
    assert not adversary.optimizer.state


def test_too_few_rows_for_a_pack(encoded: EncodedTable) -> None:
    config = TrainConfig.model_validate({"steps": 1, "row_adversary": 1, "pac": 8, "width": 16})
    with pytest.raises(TrainingError, match="16 rows at least"):
        fit(part(encoded, 12), config, seed=0, device=CPU)


def test_off_there_is_none(layout: Layout, trained: Generator) -> None:
    assert RowAdversary.wanted(layout, 16, TrainConfig(), CPU) is None


@pytest.mark.slow
def test_by_itself_it_teaches_a_dependence(copies: EncodedTable) -> None:
    """No likelihood: what the critic says is all the skeleton hears, from true marginals on."""
    torch.manual_seed(0)
    skeleton, stream = Skeleton(copies.layout, 32, 1), noise()
    config = TrainConfig(row_adversary=1.0)
    adversary = RowAdversary.wanted(copies.layout, 32, config, CPU)
    assert adversary is not None
    tokens = torch.from_numpy(copies.tokens).long()
    # The levels of a boolean are missing, false, true, rare; b copies a on 90 % of rows.
    a, b = 0, 1
    true = float((tokens[:, a] == tokens[:, b]).float().mean())
    optimizer = torch.optim.Adam(skeleton.parameters(), lr=2e-3, betas=(0.5, 0.9))

    def agreement() -> float:
        with torch.no_grad():
            drawn = redraw(skeleton, tokens, [a, b], noise(1))
        levels = torch.split(drawn, [skeleton.sizes[a], skeleton.sizes[b]], dim=1)
        return float((levels[0].argmax(dim=1) == levels[1].argmax(dim=1)).float().mean())

    before = agreement()
    for start in range(0, 120 * 128, 128):
        batch = tokens[torch.arange(start, start + 128) % len(tokens)]
        descend(adversary.loss(skeleton, batch, stream), skeleton, optimizer, 0.0)
    assert true == pytest.approx(0.9, abs=0.02)
    assert before < 0.65
    assert agreement() > before + (true - before) / 2  # and beyond, as an adversary does
