"""Critic objectives by hand."""

from __future__ import annotations

import math

import pytest
import torch

from synthgen.config import PRESETS
from synthgen.gan.losses import LOSSES, Hinge, Minimax, NonSaturating, Wasserstein
from synthgen.gan.regularizers import REGULARIZERS

REAL, FAKE = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([3.0, 1.0, 0.5])


def test_wasserstein_by_hand() -> None:
    loss = Wasserstein()
    assert loss.critic(REAL, FAKE).tolist() == [2.0, 3.0, 0.0]
    assert loss.generator(FAKE).tolist() == [-3.0, -1.0, -0.5]


#: Logits of the probabilities 3/4, 1/2 (real) and 1/4, 1/2 (fake).
LIKELY, UNLIKELY = torch.tensor([3.0, 1.0]).log(), torch.tensor([1 / 3, 1.0]).log()


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating()])
def test_the_critic_of_goodfellow_by_hand(loss: Minimax | NonSaturating) -> None:
    # -log(3/4) - log(1 - 1/4), and at chance 2 log 2.
    expected = torch.tensor([-2 * math.log(3 / 4), 2 * math.log(2)])
    torch.testing.assert_close(loss.critic(LIKELY, UNLIKELY), expected)


def test_the_generators_of_goodfellow_by_hand() -> None:
    minimax = torch.tensor([math.log(3 / 4), math.log(1 / 2)])
    torch.testing.assert_close(Minimax().generator(UNLIKELY), minimax)
    torch.testing.assert_close(
        NonSaturating().generator(UNLIKELY), torch.tensor([math.log(4), math.log(2)])
    )


def test_only_minimax_is_flat_where_the_critic_is_sure() -> None:
    # d/ds is -sigmoid(s) and -sigmoid(-s).
    for loss, expected in ((Minimax(), 0.0), (NonSaturating(), -1.0)):
        fake = torch.tensor([-30.0], requires_grad=True)
        (slope,) = torch.autograd.grad(loss.generator(fake).sum(), fake)
        assert slope.item() == pytest.approx(expected, abs=1e-9)


def test_hinge_by_hand() -> None:
    # max(0, 1 - real) = 0, 3, .5 and max(0, 1 + fake) = 4, 2, 1.5.
    assert Hinge().critic(REAL, FAKE).tolist() == [4.0, 5.0, 2.0]
    assert Hinge().critic(torch.tensor([1.0]), torch.tensor([-1.0])).item() == 0
    assert Hinge().generator(FAKE).tolist() == [-3.0, -1.0, -0.5]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_no_score_is_too_large(name: str, size: float) -> None:
    score = torch.tensor([size], requires_grad=True)
    total = LOSSES[name].critic(score, -score) + LOSSES[name].generator(score)
    (slope,) = torch.autograd.grad(total.sum(), score)
    assert torch.isfinite(total).all()
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_unreduced(name: str) -> None:
    assert LOSSES[name].critic(REAL, FAKE).shape == (3,)
    assert LOSSES[name].generator(FAKE).shape == (3,)


@pytest.mark.parametrize("name", LOSSES)
def test_critic_and_generator_pull_apart(name: str) -> None:
    fake = FAKE.clone().requires_grad_(True)
    (up,) = torch.autograd.grad(LOSSES[name].critic(REAL, fake).sum(), fake)
    (down,) = torch.autograd.grad(LOSSES[name].generator(fake).sum(), fake)
    assert (up * down < 0).all()


def test_presets_name_what_exists() -> None:
    for preset in PRESETS.values():
        assert preset["loss"] in LOSSES
        assert preset["regularizer"] in REGULARIZERS
