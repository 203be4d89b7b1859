"""What keeps the critic Lipschitz, as values with three moments: prepare, penalty, project.

Adding one: a frozen dataclass, an entry in `REGULARIZERS`, a known-answer test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from synthgen.config import TrainConfig

Score = Callable[[Tensor], Tensor]
M = TypeVar("M", bound=nn.Module)


class Regularizer(Protocol):
    """A constraint on the critic; the loop calls all three moments and never asks which it has."""

    def prepare(self, critic: M) -> M:
        """Return the critic to train, before the first step."""
        ...

    def penalty(self, score: Score, real: Tensor, fake: Tensor, eps: Tensor) -> Tensor:
        """Return the penalty of each example, (B,), to add to the critic's loss."""
        ...

    def project(self, critic: nn.Module) -> None:
        """Constrain the weights, after each step."""
        ...


@dataclass(frozen=True)
class NoRegularizer:
    """No constraint: enough for losses that do not need a Lipschitz critic."""

    def prepare(self, critic: M) -> M:
        """Return the critic as it is."""
        return critic

    def penalty(self, score: Score, real: Tensor, fake: Tensor, eps: Tensor) -> Tensor:
        """Return zeros, (B,)."""
        return real.new_zeros(len(real))

    def project(self, critic: nn.Module) -> None:
        """Leave the weights alone."""


@dataclass(frozen=True)
class GradientPenalty(NoRegularizer):
    """``weight * (||grad D|| - 1)^2`` between real and fake (Gulrajani et al. 2017, eq. 3).

    NOTE[DIFF]: the gradient is taken with respect to what was generated (the offsets), given the
    tokens, because real and fake share their condition. And the weight is .1 instead of 10, as in
    the authors' own `gan_toy.py`: offsets lie in [0, 1], so that the distance is small. A weight of
    10 makes the critic's slope one long before its direction is right, and the generator follows.
    """

    weight: float = 0.1

    def penalty(self, score: Score, real: Tensor, fake: Tensor, eps: Tensor) -> Tensor:
        """Return the penalty (B,) for `real`, `fake` (B, O) and coefficients `eps` (B, 1)."""
        penalty: Tensor = self.weight * (slope(score, real, fake, eps) - 1) ** 2
        return penalty


@dataclass(frozen=True)
class OneSidedPenalty(NoRegularizer):
    """``weight * max(0, ||grad D|| - 1)^2``: a slope below one is free.

    Gulrajani et al. 2017, section 4, "two-sided penalty"; Petzka et al. 2018 (WGAN-LP).
    """

    weight: float = 0.1

    def penalty(self, score: Score, real: Tensor, fake: Tensor, eps: Tensor) -> Tensor:
        """Return the penalty (B,) for `real`, `fake` (B, O) and coefficients `eps` (B, 1)."""
        penalty: Tensor = self.weight * (slope(score, real, fake, eps) - 1).clamp(min=0) ** 2
        return penalty


@dataclass(frozen=True)
class WeightClipping(NoRegularizer):
    """Every weight is kept in ``[-bound, bound]`` (Arjovsky et al. 2017, algorithm 1, line 7)."""

    bound: float = 0.01

    def prepare(self, critic: M) -> M:
        """Clip the initial weights as well."""
        self.project(critic)
        return critic

    @torch.no_grad()
    def project(self, critic: nn.Module) -> None:
        """Clip, in place."""
        for weight in critic.parameters():
            weight.clamp_(-self.bound, self.bound)


@dataclass(frozen=True)
class SpectralNorm(NoRegularizer):
    """Linear layers are divided by their largest singular value (Miyato et al. 2018, algorithm 1).

    Those of a convolution as a matrix of ``(channels out, channels in * kernel)``, as there.

    Its estimate gains one power iteration each time the critic is called in training mode.
    NOTE[DIFF]: embeddings of the tokens are left alone: they are the condition, and what must be
    Lipschitz is the score of the offsets given them.
    """

    def prepare(self, critic: M) -> M:
        """Wrap every linear layer and convolution, in place."""
        for layer in [m for m in critic.modules() if isinstance(m, nn.Linear | nn.Conv1d)]:
            spectral_norm(layer)
        return critic


def slope(score: Score, real: Tensor, fake: Tensor, eps: Tensor) -> Tensor:
    """Return the norm of the critic's gradient (B,) at ``real + eps * (fake - real)``.

    It is itself differentiable, also under ``torch.func.vmap`` of ``torch.func.grad``, which
    per-example gradients need and which `torch.autograd.grad` does not allow.
    """
    between = (real + eps * (fake - real)).detach()
    gradient = torch.func.grad(lambda x: score(x).sum())(between)
    norm: Tensor = gradient.norm(dim=1)
    return norm


def _of(kind: Callable[..., Regularizer], strength: float | None) -> Regularizer:
    return kind() if strength is None else kind(strength)


#: How the regularizer of each name is made from the settings.
REGULARIZERS: dict[str, Callable[[TrainConfig], Regularizer]] = {
    "none": lambda config: NoRegularizer(),
    "gradient-penalty": lambda config: _of(GradientPenalty, config.gradient_penalty),
    "one-sided-penalty": lambda config: _of(OneSidedPenalty, config.gradient_penalty),
    "weight-clipping": lambda config: _of(WeightClipping, config.weight_clip),
    "spectral-norm": lambda config: SpectralNorm(),
}
