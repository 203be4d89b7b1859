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
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from synthgen.errors import ConfigError

Floats = npt.NDArray[np.float64]

Kind = Literal["discrete-gaussian", "stable-histogram", "exponential", "sampled-gaussian"]
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
    kind : {"discrete-gaussian", "stable-histogram", "exponential", "sampled-gaussian"}
        Integer noise on counts of which one row changes one by one; the same on values that the
        rows themselves name, shown above a threshold; the exponential mechanism; Poisson-sampled,
        clipped and summed gradients with normal noise.
    noise : float
        Standard deviation over sensitivity; for ``exponential`` one over its epsilon.
    count : int
        How often it is applied.
    rate : float
        ``sampled-gaussian``: probability that a row takes part; else 1.
    delta : float
        ``stable-histogram``: probability that a value which one row alone has is shown; else 0.
    """

    what: str
    kind: Kind
    noise: float
    count: int
    rate: float = 1.0
    delta: float = 0.0

    def __post_init__(self) -> None:
        if not (self.noise > 0 and math.isfinite(self.noise) and self.count > 0):
            raise ValueError("noise and count must be positive and finite")
        if not 0 < self.rate <= 1 or (self.rate < 1 and self.kind != "sampled-gaussian"):
            raise ValueError("rate must lie in (0, 1], and below 1 for sampled gradients only")
        if not 0 <= self.delta < 1 or (self.delta > 0) != (self.kind == "stable-histogram"):
            raise ValueError("delta must lie in (0, 1) for a stable histogram, and be 0 elsewhere")


def power(mechanisms: Sequence[Mechanism], false_positives: npt.ArrayLike) -> Floats:
    """Return the true-positive rates that no attack on `mechanisms` exceeds, for audits.

    Parameters
    ----------
    mechanisms : sequence of Mechanism
        At least one.
    false_positives : (K,) array_like
        Rates in [0, 1] at which rows that were not there are taken for members.

    Returns
    -------
    (K,) float64
        The least ``exp(e) * rate + delta(e)`` over many epsilons e, and the same for the attack
        that asks the reverse (Kairouz, Oh & Viswanath 2015; Dong, Roth & Su 2022).
    """
    rates = np.asarray(false_positives, np.float64)
    epsilons = np.linspace(0, 50, 5_001)
    deltas = np.asarray(_composed(mechanisms).get_delta_for_epsilon(epsilons))
    direct = np.exp(epsilons)[:, None] * rates + deltas[:, None]
    reverse = 1 - np.exp(-epsilons)[:, None] * (1 - deltas[:, None] - rates)
    return np.asarray(np.minimum(direct, reverse).min(axis=0).clip(0, 1))


def epsilon(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """Return the epsilon of all `mechanisms` together at `delta`, adding or removing one row.

    Raises
    ------
    ConfigError
        If the accounting library is not installed.
    """
    return _epsilon(tuple(mechanisms), delta)


@lru_cache(maxsize=1_000)
def _epsilon(mechanisms: tuple[Mechanism, ...], delta: float) -> float:
    """Do as `epsilon`; a plan, its charge and the ledger's total ask the same questions again."""
    if not mechanisms:
        return 0.0
    return float(_composed(mechanisms).get_epsilon_for_delta(delta))


def calibrate(
    mechanisms: Callable[[float], Sequence[Mechanism]], *, epsilon_at_most: float, delta: float
) -> float:
    """Return the smallest scale s, to `PRECISION`, for which `mechanisms(s)` costs no more.

    `mechanisms` must cost less the larger the scale is.
    """

    def cost(scale: float) -> float:
        return epsilon(mechanisms(scale), delta)

    high, of_high = 1.0, cost(1.0)
    while of_high > epsilon_at_most:
        high *= 2
        of_high = cost(high)
    low, of_low = high / 2, cost(high / 2)
    while low > 1e-3 and of_low <= epsilon_at_most:
        high, of_high = low, of_low
        low, of_low = low / 2, cost(low / 2)
    while high > low * PRECISION:
        middle = _between(low, of_low, high, of_high, epsilon_at_most)
        found = cost(middle)
        if found <= epsilon_at_most:
            high, of_high = middle, found
        else:
            low, of_low = middle, found
    return high


def _between(low: float, of_low: float, high: float, of_high: float, wanted: float) -> float:
    """Return where a line through both costs, in logarithms, meets the wanted one.

    A step towards the farther end makes what is found the end on the nearer side.
    """
    if not math.isfinite(of_low) or not of_low > wanted > of_high > 0:
        return math.sqrt(low * high)
    share = math.log(of_low / wanted) / math.log(of_low / of_high)
    middle = low * (high / low) ** share
    step = PRECISION**0.4
    middle = middle * step if high / middle > middle / low else middle / step
    return middle if low < middle < high else math.sqrt(low * high)


def _composed(mechanisms: Sequence[Mechanism]) -> Any:
    """Return the privacy loss distribution of one mechanism after the other."""
    composed = None
    for m in mechanisms:
        one = _distribution(m)
        one = one if m.count == 1 else one.self_compose(m.count)
        composed = one if composed is None else composed.compose(one)
    assert composed is not None
    return composed


def _distribution(m: Mechanism) -> Any:
    library = _library()
    if m.kind == "sampled-gaussian":
        return library.from_gaussian_mechanism(
            m.noise, sampling_prob=m.rate, value_discretization_interval=GRID
        )
    if m.kind == "exponential":
        return _parameters(1 / m.noise, 0.0)
    counts = library.from_discrete_gaussian_mechanism(m.noise, value_discretization_interval=GRID)
    return counts.compose(_parameters(0.0, m.delta)) if m.delta else counts


def _parameters(epsilon: float, delta: float) -> Any:
    library = _library()
    pair = library.common.DifferentialPrivacyParameters(epsilon, delta)
    return library.from_privacy_parameters(pair, value_discretization_interval=GRID)


def _library() -> Any:
    try:
        from dp_accounting.pld import privacy_loss_distribution
    except ImportError:
        raise ConfigError(
            "differential privacy needs the accounting library: pip install 'synthgen[dp]'"
        ) from None
    return privacy_loss_distribution
