"""Where a wide number ends: the reach of its outermost cells, from noisy counts alone.

Bounds of a schema are generous, and the true extremes belong to single rows. In between lies what
noisy counts say: how far out rows are clearly seen, and how fast they thin out there. A tail that
is taken for exponential reaches ``log(n) / rate`` beyond the place that n rows exceed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
#: Next to what is clear, so many are enough: an error moves an end by one cell.
NEARBY = 2.0
#: The largest of n exponential numbers exceeds log n by this on average.
EULER = 0.5772


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


def ended(cells: Sequence[Interval], noisy: Floats, std: float, *, far: float = CLEAR) -> Ended:
    """Give the outermost cells that clearly have rows all that lies beyond, and an end.

    Parameters
    ----------
    cells : sequence of (a, b)
        Tiling all positions.
    noisy : (J,)
        Their counts with noise of standard deviation `std`.
    far : float
        So many of them are no noise in a cell away from all others.
    """
    clear = np.flatnonzero(noisy > far * std)
    if not len(clear):
        return Ended(tuple(cells), noisy.clip(0), cells[0][0], cells[-1][1] - 1, (1.0, 1.0))
    i, j = int(clear[0]), int(clear[-1])
    while i > 0 and noisy[i - 1] > NEARBY * std:
        i -= 1
    while j < len(cells) - 1 and noisy[j + 1] > NEARBY * std:
        j += 1
    counts = np.where(noisy > CLEAR * std, noisy, 0.0)[i : j + 1]
    counts[[0, -1]] = noisy[[i, j]]
    kept = list(cells[i : j + 1])
    kept[0] = (cells[0][0], kept[0][1])
    kept[-1] = (kept[-1][0], cells[-1][1])
    if len(kept) == 1:
        return Ended(tuple(kept), counts, cells[i][0], cells[j][1] - 1, (1.0, 1.0))
    last, upper = _end(kept, counts)
    mirrored = [(-b, -a) for a, b in reversed(kept)]
    first, lower = _end(mirrored, counts[::-1])
    return Ended(tuple(kept), counts, -first - 1, last, (lower, upper))


def _end(cells: Sequence[Interval], counts: Floats) -> tuple[int, float]:
    """Return the last position of the last cell, and the power by which it thins out there."""
    start, bound = cells[-1]
    inner = max(k for k in range(len(cells) - 1) if counts[k] > 0 or k == 0)
    rows, more = float(counts[-1]), float(counts[-1] + counts[inner])
    if bound - start == 1 or more <= rows:
        return bound - 1, 1.0
    rate = math.log(more / rows) / (start - cells[inner][0])
    reach = (math.log(max(rows, 1.0)) + EULER) / rate
    width = min(bound - start, max(1, math.ceil(reach)))
    return start + width - 1, max(1.0, width * rate - 1)
