"""One door to the accounting library: what a list of mechanisms costs together.

Everything that reads private rows is one `Mechanism` of one list, and the list is composed at once:
epsilons that are added up would leave a fifth of the budget unspent. Neighbours differ by adding or
removing one row. Google's dp-accounting (privacy loss distributions, rounded pessimistically) does
the arithmetic; Opacus' accountants are the oracle of the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from synthgen.errors import ConfigError

Kind = Literal["discrete-gaussian", "exponential", "sampled-gaussian"]
#: Width of the grid of privacy losses; losses are rounded up to it.
GRID = 2e-4
#: A calibrated noise scale is at most this factor above the smallest possible.
PRECISION = 1.002


@dataclass(frozen=True)
class Mechanism:
    """One way in which private rows are read, some times over.

    Attributes
    ----------
    what : str
        What it releases, for people: ``"one-way marginals"``.
    kind : {"discrete-gaussian", "exponential", "sampled-gaussian"}
        Integer noise on counts of which one row changes one by one; the exponential mechanism;
        Poisson-sampled, clipped and summed gradients with normal noise.
    noise : float
        Standard deviation over sensitivity; for ``exponential`` one over its epsilon.
    count : int
        How often it is applied.
    rate : float
        ``sampled-gaussian``: probability that a row takes part; else 1.
    """

    what: str
    kind: Kind
    noise: float
    count: int
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not (self.noise > 0 and math.isfinite(self.noise) and self.count > 0):
            raise ValueError("noise and count must be positive and finite")
        if not 0 < self.rate <= 1 or (self.rate < 1 and self.kind != "sampled-gaussian"):
            raise ValueError("rate must lie in (0, 1], and below 1 for sampled gradients only")


def epsilon(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """Return the epsilon of all `mechanisms` together at `delta`, adding or removing one row.

    Raises
    ------
    ConfigError
        If the accounting library is not installed.
    """
    if not mechanisms:
        return 0.0
    composed = None
    for m in mechanisms:
        one = _distribution(m)
        one = one if m.count == 1 else one.self_compose(m.count)
        composed = one if composed is None else composed.compose(one)
    assert composed is not None
    return float(composed.get_epsilon_for_delta(delta))


def calibrate(
    mechanisms: Callable[[float], Sequence[Mechanism]], *, epsilon_at_most: float, delta: float
) -> float:
    """Return the smallest scale s, to `PRECISION`, for which `mechanisms(s)` costs no more.

    `mechanisms` must cost less the larger the scale is.
    """
    high = 1.0
    while epsilon(mechanisms(high), delta) > epsilon_at_most:
        high *= 2
    low = high / 2
    while low > 1e-3 and epsilon(mechanisms(low), delta) <= epsilon_at_most:
        low, high = low / 2, low
    while high > low * PRECISION:
        middle = math.sqrt(low * high)
        if epsilon(mechanisms(middle), delta) <= epsilon_at_most:
            high = middle
        else:
            low = middle
    return high


def _distribution(m: Mechanism) -> Any:
    library = _library()
    if m.kind == "discrete-gaussian":
        return library.from_discrete_gaussian_mechanism(m.noise, value_discretization_interval=GRID)
    if m.kind == "sampled-gaussian":
        return library.from_gaussian_mechanism(
            m.noise, sampling_prob=m.rate, value_discretization_interval=GRID
        )
    pure = library.common.DifferentialPrivacyParameters(1 / m.noise, 0)
    return library.from_privacy_parameters(pure, value_discretization_interval=GRID)


def _library() -> Any:
    try:
        from dp_accounting.pld import privacy_loss_distribution
    except ImportError:
        raise ConfigError(
            "differential privacy needs the accounting library: pip install 'synthgen[dp]'"
        ) from None
    return privacy_loss_distribution
