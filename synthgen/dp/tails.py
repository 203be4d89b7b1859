"""Where a wide number ends: the reach of its outermost cells, from noisy counts alone.

Bounds of a schema are generous, and the true extremes belong to single rows. In between lies what
noisy counts say: how far out rows are clearly seen, and how they thin out there. Beyond a threshold
rows are taken for generalised Pareto (Pickands 1975), which spans an edge, exponential and heavy
tails; the end is the median of where the largest of so many rows lies, over all tails that agree
with every count of the tail that was released, in proportion to how well they do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
#: Positions a .. b - 1.
Interval = tuple[int, int]

#: So many standard deviations of noise are no noise.
CLEAR = 3.0
#: On a line without bounds, where many cells are empty, and the highest noise of many is meant.
FAR = 4.5
#: A tail holds at least this share of the rows, so many standard deviations of noise, and so many
#: cells up to the outermost that clearly has rows.
TAIL_SHARE, TAIL_ROWS, TAIL_CELLS = 0.01, 12.0, 3
#: Shapes of a tail: -1 is uniform up to an edge, 0 (a limit, left out) exponential, 1/2 has no
#: variance. With the standard deviation of what is expected of them before any count is seen.
SHAPES, SHAPES_STD = np.arange(-0.95, 0.66, 0.1), 0.3
#: Ends are tried from this part of a position to so many times the room that there is, by steps
#: of this ratio: rows of a tail that reaches beyond a bound are taken to be at the bound.
NEAREST, FARTHEST, STEP = 0.1, 2.0, 1.1
#: No tail is generalised Pareto, and people round: a count may be off by this share, of itself or
#: of what is expected, whichever is more; beyond the outermost rows that are seen, of itself.
MISFIT = 0.4
#: A power of this much puts all rows but a few at the inner boundary.
STEEPEST = 20.0


@dataclass(frozen=True)
class Counted:
    """Noisy counts of the rows in intervals of positions.

    Attributes
    ----------
    intervals : tuple of (a, b)
    rows : (J,) float64
    std : float
        Standard deviation of the noise of each.
    """

    intervals: tuple[Interval, ...]
    rows: Floats
    std: float

    @property
    def starts(self) -> Floats:
        """Where the intervals start, (J,)."""
        return np.array([a for a, _ in self.intervals], np.float64)

    @property
    def stops(self) -> Floats:
        """Where the intervals stop, (J,)."""
        return np.array([b for _, b in self.intervals], np.float64)

    @property
    def mirrored(self) -> Counted:
        """Return the same with the line reversed: lower ends as upper ones."""
        reverse = tuple((-b, -a) for a, b in reversed(self.intervals))
        return Counted(reverse, self.rows[::-1], self.std)


@dataclass(frozen=True)
class Ended:
    """Cells of which the outermost hold whatever lies further out.

    Attributes
    ----------
    cells : tuple of (a, b)
        They tile all positions.
    counts : (J,) float64
        Noisy; 0 where nothing is clearly seen.
    first, last : int
        The first position that is drawn, and the last.
    powers : tuple of two float
        How the outermost cells thin out; see `NumericEncoder.tails`.
    """

    cells: tuple[Interval, ...]
    counts: Floats
    first: int
    last: int
    powers: tuple[float, float]


@dataclass(frozen=True)
class Tail:
    """Rows beyond `start`, `scale` the mean distance between the first of them and how they thin.

    ``rows * (1 + shape * d / scale) ** (-1 / shape)`` of them are further than d beyond `start`;
    `end` is the position, no whole one, where it is as likely as not that there is another.
    """

    start: float
    scale: float
    shape: float
    end: float

    def power(self, edge: float, end: float) -> float:
        """Return the power of a cell ``edge .. end`` whose rows have this tail's mean distance."""
        mean = max((self.scale + self.shape * (edge - self.start)) / (1 - self.shape), 1e-9)
        return float(np.clip((end - edge) / mean - 1, 1.0, STEEPEST))


def outward(edge: int, bound: int, width: int) -> list[Interval]:
    """Cut ``edge .. bound`` into intervals, each twice as wide as the one before, in order.

    >>> outward(10, 20, 2)
    [(10, 12), (12, 16), (16, 20)]
    >>> outward(10, 0, 2)
    [(0, 4), (4, 8), (8, 10)]
    """
    side = 1 if bound > edge else -1
    out = []
    while edge != bound:
        width = min(width, abs(bound - edge))
        out.append((edge, edge + side * width))
        edge, width = edge + side * width, 2 * width
    return [(min(i), max(i)) for i in out][::side]


def ended(cells: Counted, rounds: Counted, *, far: float = CLEAR) -> Ended:
    """Give the outermost cells that clearly have rows all that lies beyond, and an end.

    Parameters
    ----------
    cells : Counted
        Tiling all positions.
    rounds : Counted
        What else was counted of the same rows, in intervals of any kind.
    far : float
        So many standard deviations are no noise in a cell away from all others.
    """
    if not (cells.rows > far * cells.std).any():
        whole = cells.intervals[0][0], cells.intervals[-1][1] - 1
        return Ended(cells.intervals, cells.rows.clip(0), *whole, (1.0, 1.0))
    upper, lower = tail(cells, rounds, far), tail(cells.mirrored, rounds.mirrored, far)
    cells = _closed(_closed(cells, upper.end).mirrored, lower.end).mirrored
    (first, edge), (start, last) = cells.intervals[0], cells.intervals[-1]
    first = int(np.clip(math.floor(-lower.end), first, edge - 1))
    last = int(np.clip(math.ceil(upper.end), start + 1, last)) - 1
    counts = np.where(cells.rows > CLEAR * cells.std, cells.rows, 0.0)
    counts[[0, -1]] = np.maximum(cells.rows[[0, -1]], 1.0)
    if len(counts) == 1:  # nothing says how it thins out on either side
        first, last = sorted((first, last))
        return Ended(cells.intervals, counts, first, last, (1.0, 1.0))
    powers = lower.power(-edge, -first), upper.power(start, last + 1)
    return Ended(cells.intervals, counts, first, last, powers)


def _closed(cells: Counted, end: float) -> Counted:
    """Let the outermost upper cell that clearly has rows before `end` reach to the bound."""
    starts, rows = cells.starts, cells.rows
    last = int(np.flatnonzero((starts < end) & (rows > CLEAR * cells.std))[-1])
    reaching = cells.intervals[last][0], cells.intervals[-1][1]
    others = max(0.0, float(rows[last + 1 :][starts[last + 1 :] < end].sum()))  # no fewer than none
    kept = *cells.intervals[:last], reaching
    return Counted(kept, np.r_[rows[:last], rows[last] + others], cells.std)


def tail(cells: Counted, rounds: Counted, far: float) -> Tail:
    """Return the upper tail that has the median end of all that agree with the counts.

    A count is normal around what a tail expects in its interval, with the variance of its noise, of
    rows drawn at random, and of `MISFIT`. No logarithm of an end is likelier than another before.
    """
    starts, stops = cells.starts, cells.stops
    seen = int(np.flatnonzero(cells.rows > far * cells.std)[-1])
    if seen == len(starts) - 1 and stops[seen] - starts[seen] == 1:
        return Tail(starts[seen], 1.0, SHAPES[0], stops[seen])  # rows at the bound itself
    first, rows = _threshold(cells, seen)
    start, outermost, bound = starts[first], starts[seen], stops[-1]
    room = bound - start
    n_ends = math.ceil(math.log(FARTHEST * room / NEAREST) / math.log(STEP)) + 1
    ends = np.geomspace(NEAREST, FARTHEST * room, n_ends)
    shapes = SHAPES[:, None]
    scales = ends * shapes / np.expm1(shapes * math.log(rows / math.log(2)))

    def beyond(positions: Floats) -> Floats:
        """Expect so many rows beyond (K,) positions, (S, E, K)."""
        distance = shapes[..., None] / scales[..., None] * (positions - start)
        share = np.maximum(1 + distance, 0) ** (-1 / shapes[..., None])
        return np.where(positions < bound, rows * share, 0.0)

    fit = np.where(ends > outermost - start, -((shapes / SHAPES_STD) ** 2) / 2, -np.inf)
    for counted in (cells, rounds):
        kept = counted.starts >= start
        a, b, counts = counted.starts[kept], counted.stops[kept], counted.rows[kept]
        expected = beyond(a) - beyond(b)
        off = MISFIT * np.maximum(np.where(a > outermost, 0.0, expected), counts)
        variance = counted.std**2 + expected + off**2
        fit -= ((counts - expected) ** 2 / variance + np.log(variance)).sum(axis=2) / 2
    weights = np.exp(fit - fit[np.unravel_index(fit.argmax(), fit.shape)])
    below = weights.sum(axis=0).cumsum()
    e = int(np.searchsorted(below, below[-1] / 2))
    s = int(weights[:, e].argmax())
    return Tail(start, scales[s, e], SHAPES[s], start + min(float(ends[e]), room))


def _threshold(cells: Counted, seen: int) -> tuple[int, float]:
    """Return the cell with which the upper tail starts, and the rows from there to `seen`."""
    sums = cells.rows[seen::-1].cumsum()[::-1]
    least = max(TAIL_SHARE * cells.rows.sum(), TAIL_ROWS * cells.std)
    first = int(np.flatnonzero(np.r_[np.inf, sums[1:]] >= least)[-1])
    first = max(0, min(first, seen + 1 - TAIL_CELLS))
    a, b = cells.intervals[first]
    rest = CLEAR * cells.std * math.sqrt(seen - first)
    if b - a == 1 and first < seen and sums[first + 1] > rest:
        first += 1  # what thins out is what lies beyond a value that many rows hold
    return first, float(max(sums[first], 2.0))
