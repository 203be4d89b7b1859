"""Critic objectives by hand."""

from __future__ import annotations

import pytest
import torch

from synthgen.config import PRESETS
from synthgen.gan.losses import LOSSES, Wasserstein
from synthgen.gan.regularizers import REGULARIZERS

REAL, FAKE = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([3.0, 1.0, 0.5])


def test_wasserstein_by_hand() -> None:
    loss = Wasserstein()
    assert loss.critic(REAL, FAKE).tolist() == [2.0, 3.0, 0.0]
    assert loss.generator(FAKE).tolist() == [-3.0, -1.0, -0.5]


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
