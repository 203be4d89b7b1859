"""Which tokens are known: counts, splits and the distribution of k."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from synthgen.gan.condition import random_known, unknown_mean

CPU = torch.device("cpu")


def draw(n_rows: int, n_tokens: int, n_coarse: int, seed: int = 0) -> tuple[torch.Tensor, int]:
    noise = torch.Generator().manual_seed(seed)
    return random_known(n_rows, n_tokens, n_coarse, noise, CPU)


@pytest.mark.parametrize(("n_tokens", "n_coarse"), [(1, 1), (5, 5), (5, 3), (9, 8), (2, 1)])
def test_each_row_has_something_to_answer(n_tokens: int, n_coarse: int) -> None:
    known, split = draw(400, n_tokens, n_coarse)
    assert known.shape == (400, n_tokens)
    assert split == round(400 * n_coarse / n_tokens)
    assert (~known[:split, :n_coarse]).any(dim=1).all()
    assert not known[:split, n_coarse:].any()
    assert known[split:, :n_coarse].all()
    if n_tokens > n_coarse:
        assert (~known[split:, n_coarse:]).any(dim=1).all()


def test_one_row() -> None:
    known, split = draw(1, 4, 3)
    assert split == 1
    assert known.sum() < 3


def test_no_rows() -> None:
    assert draw(0, 4, 3)[0].shape == (0, 4)


def test_k_is_uniform_and_so_are_the_tokens() -> None:
    known, split = draw(12_000, 6, 4)
    n_known = known[:split, :4].sum(dim=1)
    assert stats.chisquare(torch.bincount(n_known, minlength=4).numpy()).pvalue > 1e-3
    for k in (1, 2, 3):
        share = known[:split, :4][n_known == k].float().mean(dim=0)
        torch.testing.assert_close(share, torch.full((4,), k / 4), atol=0.04, rtol=0)


def test_same_stream_same_masks() -> None:
    assert torch.equal(draw(50, 6, 4)[0], draw(50, 6, 4)[0])
    assert not torch.equal(draw(50, 6, 4)[0], draw(50, 6, 4, seed=1)[0])


def test_unknown_mean_by_hand() -> None:
    losses = torch.tensor([[1.0, 2.0, 6.0], [4.0, 5.0, 9.0]])
    known = torch.tensor([[False, True, False], [True, True, False]])
    assert unknown_mean(losses, known).tolist() == [3.5, 9.0]
