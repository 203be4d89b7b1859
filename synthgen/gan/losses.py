"""Critic objectives as values: small frozen objects, per example, unreduced.

Adding one: a frozen dataclass, an entry in `LOSSES`, a known-answer test. Scores are logits:
``log sigmoid(s) = -softplus(-s)`` is finite whatever the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F


class Loss(Protocol):
    """What the critic and the generator minimise; scores are (B,), results are (B,)."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the critic's loss of each pair of scores."""
        ...

    def generator(self, fake: Tensor) -> Tensor:
        """Return the generator's loss of each score."""
        ...


@dataclass(frozen=True)
class Minimax:
    """The zero-sum game whose optimum is the Jensen-Shannon divergence (Goodfellow 2014, eq. 1)."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return ``-log sigmoid(D(real)) - log(1 - sigmoid(D(fake)))``, in nats."""
        return F.softplus(-real) + F.softplus(fake)

    def generator(self, fake: Tensor) -> Tensor:
        """Return ``log(1 - sigmoid(D(fake)))``: flat where the critic is sure."""
        return -F.softplus(fake)


@dataclass(frozen=True)
class NonSaturating:
    """The critic of `Minimax`, and a generator that is not flat (Goodfellow 2014, section 3)."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return ``-log sigmoid(D(real)) - log(1 - sigmoid(D(fake)))``, in nats."""
        return F.softplus(-real) + F.softplus(fake)

    def generator(self, fake: Tensor) -> Tensor:
        """Return ``-log sigmoid(D(fake))``."""
        return F.softplus(-fake)


@dataclass(frozen=True)
class Wasserstein:
    """Earth mover's distance by its dual; the critic must be 1-Lipschitz (Arjovsky 2017, eq. 2)."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return D(fake) - D(real)."""
        return fake - real

    def generator(self, fake: Tensor) -> Tensor:
        """Return -D(fake)."""
        return -fake


@dataclass(frozen=True)
class Hinge:
    """A margin of one on either side (Lim & Ye 2017, section 2; Miyato 2018, eq. 16 and 17)."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return ``max(0, 1 - D(real)) + max(0, 1 + D(fake))``."""
        return F.relu(1 - real) + F.relu(1 + fake)

    def generator(self, fake: Tensor) -> Tensor:
        """Return -D(fake)."""
        return -fake


LOSSES: dict[str, Loss] = {
    "minimax": Minimax(),
    "non-saturating": NonSaturating(),
    "wasserstein": Wasserstein(),
    "hinge": Hinge(),
}
