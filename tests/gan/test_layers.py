"""Cross-entropies and dropout against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from synthgen.gan.layers import DEEPEST, Choices, dropped


def test_cross_entropies_by_hand() -> None:
    # Two tokens of 2 and 3 levels: shares (1/4, 3/4) and (1/3, 1/3, 1/3).
    logits = torch.tensor([[0.0, math.log(3), 5.0, 5.0, 5.0]])
    losses = Choices([2, 3]).cross_entropies(logits, torch.tensor([[1, 0]]))
    assert losses.tolist() == [pytest.approx([math.log(4 / 3), math.log(3)])]


def test_cross_entropies_and_their_slopes_are_torchs() -> None:
    torch.manual_seed(0)
    sizes = [2, 7, 1, 40]
    logits = (4 * torch.randn(64, sum(sizes))).requires_grad_()
    tokens = torch.stack([torch.randint(size, (64,)) for size in sizes], dim=1)
    choices = Choices(sizes)
    losses = choices.cross_entropies(logits, tokens)
    pairs = zip(choices.split(logits), tokens.unbind(dim=1), strict=True)
    expected = torch.stack([F.cross_entropy(a, b, reduction="none") for a, b in pairs], dim=1)
    torch.testing.assert_close(losses, expected)
    weights = torch.rand(losses.shape)
    (got,) = torch.autograd.grad((losses * weights).sum(), logits, retain_graph=True)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), logits)
    torch.testing.assert_close(got, wanted)


def test_a_token_far_below_the_others_stays_finite() -> None:
    logits = torch.tensor([[500.0, 0.0, 1.0, 0.0]], requires_grad=True)
    losses = Choices([1, 3]).cross_entropies(logits, torch.tensor([[0, 1]]))
    losses.sum().backward()
    assert losses.tolist() == [pytest.approx([0.0, math.log(3)], abs=1e-5)]  # rounded at 80 nats
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    # What is within reach of the highest logit is exact, whichever token holds that.
    near = torch.tensor([[DEEPEST - 2, 0.0, 1.0]])
    expected = F.cross_entropy(near[:, 1:], torch.tensor([0])).item()
    losses = Choices([1, 2]).cross_entropies(near, torch.tensor([[0, 0]]))
    assert losses[0, 1].item() == pytest.approx(expected, rel=1e-4)


def test_products_of_low_precision_around_it_do_not_matter() -> None:
    torch.manual_seed(0)
    logits, tokens = torch.randn(8, 300), torch.randint(300, (8, 1))
    choices = Choices([300])
    plain = choices.cross_entropies(logits, tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(choices.cross_entropies(logits, tokens), plain)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_dropout_keeps_its_share_and_the_mean(share: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(1_001, 1_003)  # no multiple of eight
    y = dropped(x, share)
    cut = round(256 * share) / 256
    assert abs((y == 0).float().mean().item() - cut) < 0.002
    assert y[y > 0].unique().tolist() == [pytest.approx(1 / (1 - cut))]
    assert y.mean().item() == pytest.approx(1, abs=0.005)
    # Neighbours, which share a random number, are dropped independently of each other.
    gone = (y == 0).flatten().float()
    both = (gone[:-1] * gone[1:]).mean().item()
    assert both == pytest.approx(cut**2, abs=0.002)
    assert not share or not torch.equal(y, dropped(x, share))
