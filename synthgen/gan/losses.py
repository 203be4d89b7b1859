"""Critic objectives as values: small frozen objects, per example, unreduced.

Adding one: a frozen dataclass, an entry in `LOSSES`, a known-answer test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Loss(Protocol):
    """What the critic and the generator minimise; scores are (B,), results are (B,)."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the critic's loss of each pair of scores."""
        ...

    def generator(self, fake: Tensor) -> Tensor:
        """Return the generator's loss of each score."""
        ...


@dataclass(frozen=True)
class Wasserstein:
    """Earth mover's distance by its dual; the critic must be 1-Lipschitz (Arjovsky 2017, eq. 2)."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return D(fake) - D(real)."""
        return fake - real

    def generator(self, fake: Tensor) -> Tensor:
        """Return -D(fake)."""
        return -fake


LOSSES: dict[str, Loss] = {"wasserstein": Wasserstein()}
