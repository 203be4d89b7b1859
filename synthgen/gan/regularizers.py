"""What keeps the critic Lipschitz, as values with three moments: prepare, penalty, project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


class Regularizer(Protocol):
    """A constraint on the critic; the loop calls all three moments and never asks which it has."""

    def prepare(self, critic: nn.Module) -> nn.Module:
        """Return the critic to train, before the first step."""
        ...

    def penalty(
        self, score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, eps: Tensor
    ) -> Tensor:
        """Return the penalty of each example, (B,), to add to the critic's loss."""
        ...

    def project(self, critic: nn.Module) -> None:
        """Constrain the weights, after each step."""
        ...


@dataclass(frozen=True)
class GradientPenalty:
    """``weight * (||grad D|| - 1)^2`` between real and fake (Gulrajani et al. 2017, eq. 3).

    NOTE[DIFF]: the gradient is taken with respect to what was generated (the offsets), given the
    tokens, because real and fake share their condition.
    """

    weight: float = 10.0

    def prepare(self, critic: nn.Module) -> nn.Module:
        """Return the critic as it is."""
        return critic

    def penalty(
        self, score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, eps: Tensor
    ) -> Tensor:
        """Return the penalty (B,) for `real`, `fake` (B, O) and coefficients `eps` (B, 1).

        It is itself differentiable, also under ``torch.func.vmap`` of ``torch.func.grad``, which
        per-example gradients need and which `torch.autograd.grad` does not allow.
        """
        between = (real + eps * (fake - real)).detach()
        gradient = torch.func.grad(lambda x: score(x).sum())(between)
        penalty: Tensor = self.weight * (gradient.norm(dim=1) - 1) ** 2
        return penalty

    def project(self, critic: nn.Module) -> None:
        """Leave the weights alone."""


REGULARIZERS: dict[str, Callable[[float], Regularizer]] = {"gradient-penalty": GradientPenalty}
