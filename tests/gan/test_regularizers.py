"""Constraints on the critic by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from synthgen.gan.regularizers import (
    GradientPenalty,
    NoRegularizer,
    OneSidedPenalty,
    SpectralNorm,
    WeightClipping,
)

REAL, FAKE = torch.zeros(2, 2), torch.tensor([[2.0, 0.0], [0.0, 4.0]])
EPS = torch.tensor([[0.5], [0.25]])


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((3.0, 4.0), 10.0 * (5 - 1) ** 2),  # the slope is 5 everywhere
        ((0.6, 0.8), 0.0),
        ((0.0, 0.5), 10 * 0.25),
    ],
)
def test_penalty_of_a_linear_critic(weights: tuple[float, float], expected: float) -> None:
    w = torch.tensor(weights)
    penalty = GradientPenalty(10.0).penalty(lambda x: x @ w, REAL, FAKE, EPS)
    assert penalty.shape == (2,)
    torch.testing.assert_close(penalty, torch.full((2,), expected), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [((3.0, 4.0), 10.0 * (5 - 1) ** 2), ((0.6, 0.8), 0.0), ((0.0, 0.5), 0.0)],
)
def test_a_slope_below_one_is_free(weights: tuple[float, float], expected: float) -> None:
    w = torch.tensor(weights)
    penalty = OneSidedPenalty(10.0).penalty(lambda x: x @ w, REAL, FAKE, EPS)
    torch.testing.assert_close(penalty, torch.full((2,), expected), atol=1e-4, rtol=1e-5)


def test_clipping_by_hand() -> None:
    critic = nn.Linear(3, 1)
    with torch.no_grad():
        critic.weight.copy_(torch.tensor([[-3.0, 0.005, 0.5]]))
    WeightClipping(0.01).project(critic)
    torch.testing.assert_close(critic.weight.data, torch.tensor([[-0.01, 0.005, 0.01]]))


def test_spectral_norm_by_hand() -> None:
    # diag(4, 2) has the largest singular value 4; biases are left alone.
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor([4.0, 2.0])))
        layer.bias.fill_(7.0)
    SpectralNorm().prepare(layer)
    torch.testing.assert_close(
        layer.weight.detach(), torch.diag(torch.tensor([1.0, 0.5])), atol=1e-3, rtol=1e-3
    )
    assert layer.bias.tolist() == [7.0, 7.0]


@pytest.mark.parametrize("rule", [NoRegularizer(), WeightClipping(), SpectralNorm()])
def test_what_penalises_nothing(rule: NoRegularizer) -> None:
    assert rule.penalty(lambda x: x.sum(dim=1), REAL, FAKE, EPS).tolist() == [0.0, 0.0]


def test_the_gradient_is_taken_between_real_and_fake() -> None:
    # D(x) = |x|^2 has the slope 2 |x|; the points between are (1, 0) and (0, 1).
    penalty = GradientPenalty(1.0).penalty(lambda x: (x**2).sum(dim=1), REAL, FAKE, EPS)
    assert penalty.tolist() == [(2 - 1) ** 2, (2 - 1) ** 2]


def test_the_penalty_reaches_the_weights() -> None:
    # d/dw of 10 (|w| - 1)^2 is 20 (|w| - 1) w / |w|.
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    GradientPenalty(10.0).penalty(lambda x: x @ w, REAL, FAKE, EPS).mean().backward()
    torch.testing.assert_close(w.grad, torch.tensor([48.0, 64.0]))


# vmap has no fast rule for the norm's double backward and says so.
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_the_penalty_can_be_differentiated_for_each_example() -> None:
    def example(w: Tensor, real: Tensor, fake: Tensor, eps: Tensor) -> Tensor:
        penalty = GradientPenalty(10.0).penalty(lambda x: x @ w, real[None], fake[None], eps[None])
        return penalty[0]

    each = torch.func.vmap(torch.func.grad(example), in_dims=(None, 0, 0, 0))(
        torch.tensor([3.0, 4.0]), REAL, FAKE, EPS
    )
    torch.testing.assert_close(each, torch.tensor([[48.0, 64.0]]).expand(2, 2))


def test_prepare_and_project_leave_the_critic_alone() -> None:
    critic = nn.Linear(2, 1)
    before = critic.weight.clone()
    assert GradientPenalty().prepare(critic) is critic
    GradientPenalty().project(critic)
    torch.testing.assert_close(critic.weight, before)
