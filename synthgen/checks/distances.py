"""How near rows of mixed columns are to each other: Gower's distance, and the nearest rows by it.

The distance is the mean over columns of |rank difference| for numbers (ranks among the different
real values, [0, 1]) and of 0 / 1 for levels and missingness. Gower 1971, doi:10.2307/2528823.
Nearest rows are found by looking at all pairs, in blocks that stay in the cache; where both sides
want to know, each pair is looked at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synthgen.checks.features import Ints, is_numeric, levels, numbers
from synthgen.schema import Column

Distances = NDArray[np.float32]

#: Rows and columns of one block of the distance matrix: 256 KB, so that it stays in the cache.
BLOCK_ROWS, BLOCK_COLUMNS = 16, 4_096
#: Where a missing number lies: 1 or more from every rank; gaps are cut at 1.
GONE = 2.0


@dataclass(frozen=True, repr=False)
class Positions:
    """Rows as points, a column after the other: ranks (A, N), `GONE` if missing; levels (B, N)."""

    numbers: Distances
    levels: NDArray[np.unsignedinteger]

    def __len__(self) -> int:
        return int(self.numbers.shape[1])

    def __getitem__(self, rows: slice | Ints) -> Positions:
        return Positions(self.numbers[:, rows], self.levels[:, rows])

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.numbers) + len(self.levels)

    @cached_property
    def has_gone(self) -> list[bool]:
        """Whether a cell of each number column is missing: (A,)."""
        return [bool(gone) for gone in (self.numbers == GONE).any(axis=1)]


@dataclass(frozen=True, repr=False)
class Neighbours:
    """Of N rows, (N,) each: the distance to the nearest row, which it is, to the second nearest."""

    distance: Distances
    index: Ints
    second: Distances

    @classmethod
    def unmet(cls, n: int) -> Neighbours:
        """Return those of `n` rows that have met nobody."""
        far = np.full(n, np.inf, "float32")
        return cls(far, np.zeros(n, "int64"), far.copy())

    def meet(self, first: int, block: Distances, start: int) -> None:
        """Let rows from `first` on meet rows from `start` on at distances `block` (R, M).

        Among equally near rows the one that was met first stays the nearest.
        """
        nearest = block.min(axis=1)
        # most blocks bring nothing new to most rows
        changed = np.flatnonzero(nearest < self.second[first : first + len(block)])
        here, rows, part = np.arange(len(changed)), changed + first, block[changed]
        at = part.argmin(axis=1)
        part[here, at] = np.inf
        nearest, before = nearest[changed], self.distance[rows]
        runner_up = np.minimum(part.min(axis=1, initial=np.inf), np.maximum(nearest, before))
        self.second[rows] = np.minimum(self.second[rows], runner_up)
        self.distance[rows] = np.minimum(nearest, before)
        self.index[rows] = np.where(nearest < before, at + start, self.index[rows])

    def among(self, others: Neighbours, start: int) -> Neighbours:
        """Return those among two sets of rows, the `others` being numbered from `start` on."""
        here = self.distance <= others.distance
        farther = np.maximum(self.distance, others.distance)
        return Neighbours(
            np.minimum(self.distance, others.distance),
            np.where(here, self.index, others.index + start),
            np.minimum(np.where(here, self.second, others.second), farther),
        )

    def over(self, width: int) -> Neighbours:
        """Return sums over `width` columns as means."""
        columns = np.float32(width)
        return Neighbours(self.distance / columns, self.index, self.second / columns)


def positions(tables: Sequence[pd.DataFrame], columns: Sequence[Column]) -> list[Positions]:
    """Place all tables in one space, numbers ranked among the different values of the real ones.

    The last table is the synthetic one: it is placed, and does not shape the space. Among values
    and not rows, so that a small step off a value that half of the rows hold is small.
    """
    ranks: list[list[Distances]] = [[] for _ in tables]
    codes: list[list[Ints]] = [[] for _ in tables]
    for column in columns:
        parts = [t[column.name] for t in tables]
        if is_numeric(column):
            values = [numbers(p, column) for p in parts]
            known = np.unique(np.concatenate([v[~np.isnan(v)] for v in values[:-1]]))
            for block, v in zip(ranks, values, strict=True):
                middle = np.searchsorted(known, v, "left") + np.searchsorted(known, v, "right")
                rank = middle / (2 * max(len(known), 1))
                block.append(np.where(np.isnan(v), GONE, rank).astype("float32"))
        else:
            for block_of_codes, c in zip(codes, levels(parts, column), strict=True):
                block_of_codes.append(c)
    top = max((int(c.max(initial=0)) for table in codes for c in table), default=0)
    return [
        Positions(
            np.array(r, "float32").reshape(len(r), len(t)),
            np.array(c, np.min_scalar_type(top)).reshape(len(c), len(t)),
        )
        for t, r, c in zip(tables, ranks, codes, strict=True)
    ]


def gower(a: Positions, b: Positions) -> Distances:
    """Return all distances between two tables: (N, M) in [0, 1].

    NOTE[DIFF]: numbers are compared by rank; missing is a value: equal to itself, 1 from others.
    """
    return _sums(a, b, _cut(a, b)) / np.float32(a.width)


def nearest(a: Positions, b: Positions) -> Neighbours:
    """Find each row of `a`'s two nearest rows of `b`. Memory is bounded by one block."""
    found, cut = Neighbours.unmet(len(a)), _cut(a, b)
    for rows in _slices(0, len(a), BLOCK_ROWS):
        for columns in _slices(0, len(b), BLOCK_COLUMNS):
            found.meet(rows.start, _sums(a[rows], b[columns], cut), columns.start)
    return found.over(a.width)


def nearest_both(a: Positions, b: Positions) -> tuple[Neighbours, Neighbours]:
    """Find each row of `a`'s two nearest rows of `b`, and of `b`'s of `a`."""
    of_a, of_b, cut = Neighbours.unmet(len(a)), Neighbours.unmet(len(b)), _cut(a, b)
    for rows in _slices(0, len(a), BLOCK_ROWS):
        for columns in _slices(0, len(b), BLOCK_COLUMNS):
            block = _sums(a[rows], b[columns], cut)
            of_a.meet(rows.start, block, columns.start)
            of_b.meet(columns.start, block.T, rows.start)
    return of_a.over(a.width), of_b.over(a.width)


def nearest_others(a: Positions) -> Neighbours:
    """Find each row of `a`'s two nearest other rows of `a`."""
    found, cut = Neighbours.unmet(len(a)), _cut(a, a)
    for rows in _slices(0, len(a), BLOCK_ROWS):
        for columns in _slices(rows.start, len(a), BLOCK_COLUMNS):
            block = _sums(a[rows], a[columns], cut)
            if columns.start == rows.start:
                np.fill_diagonal(block, np.inf)
            found.meet(rows.start, block, columns.start)
            later = max(columns.start, rows.stop)
            found.meet(later, block[:, later - columns.start :].T, rows.start)
    return found.over(a.width)


def _sums(a: Positions, b: Positions, cut: Sequence[bool]) -> Distances:
    """Return distances summed over columns: (N, M)."""
    shape = (len(a), len(b))
    differ, unequal = np.zeros(shape, np.min_scalar_type(len(a.levels))), np.empty(shape, bool)
    for u, v in zip(a.levels, b.levels, strict=True):
        np.not_equal(u[:, None], v, out=unequal)
        np.add(differ, unequal.view("uint8"), out=differ)
    total, gap = differ.astype("float32"), np.empty(shape, "float32")
    for x, y, has_gone in zip(a.numbers, b.numbers, cut, strict=True):
        np.abs(np.subtract(x[:, None], y, out=gap), out=gap)
        if has_gone:
            np.minimum(gap, 1, out=gap)
        np.add(total, gap, out=total)
    return total


def _cut(a: Positions, b: Positions) -> list[bool]:
    """Return which number columns can have gaps above 1."""
    return [x or y for x, y in zip(a.has_gone, b.has_gone, strict=True)]


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    for i in range(start, stop, size):
        yield slice(i, min(i + size, stop))
