"""The gradient penalty by hand, and the plain gradient as the mean of per-example gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from synthgen.config import TrainConfig
from synthgen.encode.column import EncodedTable, Layout
from synthgen.gan.losses import LOSSES
from synthgen.gan.nets import Critic
from synthgen.gan.regularizers import REGULARIZERS, GradientPenalty
from synthgen.gan.train import critic_objective

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


@pytest.fixture(scope="module")
def critic(layout: Layout) -> Critic:
    torch.manual_seed(0)
    return Critic(layout, 16)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_plain_gradient_is_the_mean_of_the_examples(
    critic: Critic, encoded: EncodedTable, loss: str, regularizer: str
) -> None:
    noise = torch.Generator().manual_seed(0)
    tokens = torch.from_numpy(encoded.tokens[:8]).long()
    real = torch.from_numpy(encoded.offsets[:8])
    fake, eps = torch.rand(real.shape, generator=noise), torch.rand(8, 1, generator=noise)
    rule, weights = REGULARIZERS[regularizer](TrainConfig()), list(critic.parameters())

    def gradient(rows: slice) -> list[Tensor]:
        batch = (x[rows] for x in (tokens, real, fake, eps))
        values = critic_objective(critic, LOSSES[loss], rule, *batch)
        assert values.shape == (len(range(*rows.indices(8))),)
        return list(torch.autograd.grad(values.mean(), weights))

    plain = gradient(slice(0, 8))
    each = [gradient(slice(i, i + 1)) for i in range(8)]
    for mean, examples in zip(plain, zip(*each, strict=True), strict=True):
        torch.testing.assert_close(torch.stack(examples).mean(dim=0), mean, atol=1e-5, rtol=1e-4)
