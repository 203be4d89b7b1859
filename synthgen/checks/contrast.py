"""Three tables cut to bounded sizes, and how a statistic of them becomes a measurement.

Every distance is measured twice with the same number of rows: synthetic against train, and the
holdout against train (the `control`). Sampling noise inflates both alike, so what counts is the
excess. Synthetic rows beyond the holdout's number are further blocks, whose distances are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm
from scipy.stats import t as student

from synthgen.checks.check import Evidence, Measurement
from synthgen.checks.features import Ints, Values, take
from synthgen.rng import stream
from synthgen.schema import Column

#: Rows of one table that columns and pairs are compared on.
MAX_ROWS = 100_000
#: Blocks of the holdout's size that synthetic rows are cut into; their distances are averaged.
MAX_BLOCKS = 5
#: Groups of synthetic rows that are left out, one at a time, for an interval.
GROUPS = 20
NO_ROWS = "one of the tables has no rows"
NOTHING_MODELLED = "no column is modelled: there is nothing to compare"
Z95 = float(norm.ppf(0.975))

#: A distance of a sample (first) from a reference (second).
Statistic = Callable[[Values, Values], float]


@dataclass(frozen=True)
class Gap:
    """A distance sup |P(A) - Q(A)| with P(A) and Q(A) at the set where it is attained."""

    value: float
    p: float
    q: float


@dataclass(frozen=True, repr=False)
class Sides:
    """The three tables cut to bounded sizes.

    Attributes
    ----------
    train, holdout, synthetic : DataFrame
        At most `MAX_ROWS`, n, and n times the number of blocks rows.
    blocks : list of (n,) arrays
        Row numbers in `synthetic`: samples as large as the holdout.
    n : int
        Rows of the smallest table, at most `MAX_ROWS`.
    """

    train: pd.DataFrame
    holdout: pd.DataFrame
    synthetic: pd.DataFrame
    blocks: list[Ints]
    n: int

    @classmethod
    def of(cls, evidence: Evidence, limit: int = MAX_ROWS) -> Sides:
        """Cut `evidence` to at most `limit` rows a table; equal evidence is cut equally."""
        rng = stream(evidence.seed, "fidelity")
        n = min(len(evidence.synthetic), len(evidence.holdout), len(evidence.train), limit)
        n_blocks = min(MAX_BLOCKS, len(evidence.synthetic) // max(n, 1), max(1, limit // max(n, 1)))
        return cls(
            take(evidence.train, limit, rng),
            take(evidence.holdout, n, rng),
            take(evidence.synthetic, n * n_blocks, rng),
            [np.arange(i * n, (i + 1) * n) for i in range(n_blocks)],
            n,
        )

    @property
    def groups(self) -> Ints:
        """Which group, 0 to `GROUPS` - 1, each synthetic row belongs to; alike in all blocks."""
        return np.arange(len(self.synthetic)) % GROUPS

    def parts(self, column: Column) -> list[pd.Series]:
        """Return `column` in train, holdout and synthetic."""
        return [f[column.name] for f in (self.train, self.holdout, self.synthetic)]


def interval(
    name: str,
    value: float,
    half: float,
    *,
    bounds: tuple[float, float] = (0.0, math.inf),
    **fields: Any,
) -> Measurement:
    """Return a measurement with the interval `value` -+ `half`, cut at `bounds`."""
    low, high = max(bounds[0], value - half), min(bounds[1], value + half)
    return Measurement(name, "fidelity", value, low, high, **fields)


def contrasted(
    name: str,
    statistic: Statistic,
    parts: Sequence[Values],
    sides: Sides,
    **fields: Any,
) -> Measurement:
    """Return how far the synthetic rows are from train, the holdout's distance being the control.

    Parameters
    ----------
    name : str
    statistic : callable
        Of a sample and of the reference; smooth enough for `jackknife`.
    parts : train (M, ...), holdout (n, ...) and synthetic (N, ...)
        Rows in the order of `sides`.
    sides : Sides
    fields
        Of the measurement, and the `bounds` of its interval.
    """
    train, holdout, synthetic = parts
    value = float(np.mean([statistic(synthetic[b], train) for b in sides.blocks]))
    left_out = [statistic(synthetic[sides.groups != g], train) for g in range(GROUPS)]
    control = statistic(holdout, train)
    fields = {"n": len(synthetic), "control": control} | fields
    return interval(name, value, jackknife(left_out), **fields)


def jackknife(left_out: ArrayLike) -> float:
    """Return half a 95 % interval from a statistic with one of G groups of rows left out: (G,).

    The delete-a-group jackknife, Kott 2001 (Journal of Official Statistics 17), t with G - 1
    degrees of freedom. NaN, so no answer, where the statistic is not finite.
    """
    values = np.asarray(left_out, float)
    g = len(values)
    variance = (g - 1) / g * ((values - values.mean()) ** 2).sum()
    return float(student.ppf(0.975, g - 1) * math.sqrt(variance))


def gap_measured(name: str, blocks: Sequence[Gap], control: float, sides: Sides) -> Measurement:
    """Return the mean gap of the synthetic blocks, with the normal interval at the set it is at."""
    value = float(np.mean([g.value for g in blocks]))
    n = sides.n * len(blocks)
    p = float(np.mean([g.p * (1 - g.p) for g in blocks]))
    q = float(np.mean([g.q * (1 - g.q) for g in blocks]))
    half = Z95 * math.sqrt(p / n + q / len(sides.train))
    return interval(name, value, half, bounds=(0.0, 1.0), n=n, control=control)


def wilson(k: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Return the Wilson interval of a share. Wilson 1927, doi:10.2307/2276774."""
    middle = k / n + z * z / (2 * n)
    spread = z * math.sqrt(max(0.0, k * (n - k)) / n**3 + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def inconclusive(name: str, note: str) -> Measurement:
    """Return the measurement of a check that cannot say anything, and why."""
    return Measurement(name, "fidelity", None, status="inconclusive", note=note)
