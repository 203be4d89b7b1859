"""The critic's objective, one function for every critic and every stepper; and one step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synthgen.gan.losses import Loss
from synthgen.gan.nets import Critic
from synthgen.gan.regularizers import Regularizer, Score
from synthgen.gan.world import ALONE, World


def objective(
    score: Score, loss: Loss, regularizer: Regularizer, real: Tensor, fake: Tensor, eps: Tensor
) -> Tensor:
    """Return the critic's loss (P,) of `real` and `fake` (P, G) with coefficients `eps` (P, 1)."""
    return loss.critic(score(real), score(fake)) + regularizer.penalty(score, real, fake, eps)


def critic_objective(
    critic: Critic,
    loss: Loss,
    regularizer: Regularizer,
    tokens: Tensor,
    real: Tensor,
    fake: Tensor,
    eps: Tensor,
) -> Tensor:
    """Return the loss of each example of the critic of offsets, given their tokens.

    An example is a pack: `tokens` (B, T), `real` and `fake` (B, O), `eps` (B / pac, 1); the result
    is (B / pac,).
    """
    condition = critic.given(tokens)

    def score(offsets: Tensor) -> Tensor:
        out: Tensor = critic(offsets, condition)
        return out

    return objective(score, loss, regularizer, critic.pack(real), critic.pack(fake), eps)


def descend(
    loss: Tensor,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    max_norm: float,
    world: World = ALONE,
) -> None:
    """Make one step down the world's mean gradient, cut to `max_norm` where that is not 0."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    world.average(net)
    if max_norm:
        nn.utils.clip_grad_norm_(net.parameters(), max_norm)
    optimizer.step()
