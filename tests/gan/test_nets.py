"""The networks before training: true marginals, uniform offsets, and rows on their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from synthgen.config import TrainConfig
from synthgen.encode.column import EncodedTable, Layout
from synthgen.gan.condition import random_known
from synthgen.gan.nets import (
    Block,
    Critic,
    Detail,
    Skeleton,
    SmoothTable,
    TokenSum,
    smooth_basis,
)
from synthgen.gan.train import Generator


@pytest.fixture(scope="module")
def skeleton(layout: Layout) -> Skeleton:
    torch.manual_seed(0)
    return Skeleton(layout, 16, 2)


@pytest.fixture(scope="module")
def detail(layout: Layout) -> Detail:
    torch.manual_seed(0)
    return Detail(layout, 16, 8)


@pytest.fixture(scope="module")
def critic(layout: Layout) -> Critic:
    torch.manual_seed(0)
    return Critic(layout, 16, TrainConfig())


def test_a_new_block_is_the_identity() -> None:
    x = torch.randn(5, 16)
    assert torch.equal(Block(16)(x), x)


def test_token_sum_by_hand(layout: Layout, tokens: torch.Tensor) -> None:
    bag = TokenSum(layout, 4)
    weight, row = bag.table(), tokens[:1]
    known = torch.tensor([[True, False, True, False, False]])
    places = [0, layout.width + 1, 2, layout.width + 3, layout.width + 4]
    for t in (0, 2):
        places[t] = int(layout.starts[t] + row[0, t])
    torch.testing.assert_close(bag(row, known)[0], weight[places].sum(dim=0))
    every = layout.starts + row[0].numpy()
    torch.testing.assert_close(bag(row)[0], weight[torch.from_numpy(every)].sum(dim=0))


def test_a_smooth_table_by_hand(layout: Layout) -> None:
    table = SmoothTable(layout, 4, std=1.0)
    basis = smooth_basis(layout)
    assert basis.shape == (layout.width, len(table.smooth))
    torch.testing.assert_close(table(), table.own + basis @ table.smooth)
    # A category has no order: its rows are its own alone.
    assert not basis[: layout.sizes[0]].any()
    # Each function is of one token, and a cosine of the ranks: |cos| <= 1 at the first harmonic.
    tokens = np.repeat(np.arange(len(layout.sizes)), layout.sizes)
    for column in basis.T:
        assert len(set(tokens[column.numpy() != 0])) == 1
        assert column.abs().max() <= 1


@pytest.mark.parametrize("seed", [0, 1])
def test_a_new_skeleton_gives_the_priors_whatever_is_known(
    skeleton: Skeleton, layout: Layout, tokens: torch.Tensor, seed: int
) -> None:
    rows = tokens[:50]
    known = torch.rand(rows.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    hidden = skeleton.trunk(skeleton.tokens(rows, known))
    for t, prior in enumerate(layout.priors):
        share = skeleton.token_logits(hidden, t, rows).softmax(dim=1).detach().numpy()
        np.testing.assert_allclose(share, np.tile(prior, (50, 1)), atol=1e-6)
    for j, prior in enumerate(layout.fine_priors):
        share = skeleton.token_logits(hidden, layout.n_coarse + j, rows).softmax(dim=1)
        expected = prior[rows[:, layout.parents[j]]]
        np.testing.assert_allclose(share.detach().numpy(), expected, atol=1e-6)


def test_rows_asked_for_coarse_and_for_fine_tokens_get_these_logits(
    trained: Generator, tokens: torch.Tensor
) -> None:
    net, rows = trained.skeleton, tokens[:30]
    known, split = random_known(30, 5, 4, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert 0 < split < 30
    coarse, fine = net.logits(rows, known, split)
    hidden = net.trunk(net.tokens(rows, known))
    expected = [net.token_logits(hidden[:split], t, rows[:split]) for t in range(4)]
    torch.testing.assert_close(coarse, torch.cat(expected, dim=1), atol=1e-5, rtol=1e-4)
    expected = [net.token_logits(hidden[split:], 4, rows[split:])]
    torch.testing.assert_close(fine, torch.cat(expected, dim=1), atol=1e-5, rtol=1e-4)


def test_a_row_does_not_depend_on_its_neighbours(
    trained: Generator, tokens: torch.Tensor, layout: Layout
) -> None:
    net, known = trained.skeleton, torch.zeros(64, 5, dtype=torch.bool)
    known[:, 1:3] = True
    every = net.trunk(net.tokens(tokens[:64], known))
    alone = net.trunk(net.tokens(tokens[:1], known[:1]))
    for t in range(len(layout.sizes)):
        together = net.token_logits(every, t, tokens[:64])[:1]
        torch.testing.assert_close(
            together, net.token_logits(alone, t, tokens[:1]), atol=1e-5, rtol=1e-5
        )


def test_new_offsets_are_uniform(detail: Detail, tokens: torch.Tensor, layout: Layout) -> None:
    latent = torch.randn(3_000, detail.d_latent, generator=torch.Generator().manual_seed(0))
    offsets = detail(tokens[:3_000], latent).detach().numpy()
    assert offsets.shape == (3_000, len(layout.offset_parents))
    for column in offsets.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3


def test_offsets_stay_inside(trained: Generator, tokens: torch.Tensor) -> None:
    assert trained.detail is not None
    latent = 20 * torch.randn(200, trained.detail.d_latent)
    offsets = trained.detail(tokens[:200], latent)
    assert offsets.min() >= 0
    assert offsets.max() <= 1


def test_a_latent_has_a_column_for_each_offset(layout: Layout) -> None:
    assert Detail(layout, 8, 1).d_latent == len(layout.offset_parents)


def test_bounds_are_those_of_the_cells(
    critic: Critic, layout: Layout, tokens: torch.Tensor
) -> None:
    lower, span = critic.cells(tokens[:100])
    for o, (low, high) in enumerate(layout.cells):
        coarse = tokens[:100, layout.offset_parents[o]].numpy()
        at = layout.offset_fines[o]
        fine = tokens[:100, at].numpy() if at >= 0 else np.zeros(100, int)
        np.testing.assert_allclose(lower[:, o], low[coarse, fine], atol=1e-6)
        np.testing.assert_allclose(span[:, o], (high - low)[coarse, fine], atol=1e-6)


def test_the_critic_ignores_offsets_of_exact_values(
    critic: Critic, encoded: EncodedTable, tokens: torch.Tensor
) -> None:
    rows, real = tokens[:200], torch.from_numpy(encoded.offsets[:200])
    condition = critic.given(rows)
    exact = condition[2] == 0
    assert exact.any()
    assert not exact.all()
    changed = torch.where(exact, 1 - 0.9 * torch.rand(real.shape), real)
    torch.testing.assert_close(critic(changed, condition), critic(real, condition))
    other = torch.where(exact, real, 1 - real)
    assert not torch.allclose(critic(other, condition), critic(real, condition))


def test_scores_are_one_a_row(critic: Critic, encoded: EncodedTable, tokens: torch.Tensor) -> None:
    offsets = torch.from_numpy(encoded.offsets[:7])
    every = critic(offsets, critic.given(tokens[:7]))
    assert every.shape == (7,)
    torch.testing.assert_close(every[:1], critic(offsets[:1], critic.given(tokens[:1])))
