"""Numbers that make a wanted sum or product, each as its column can hold it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from synthgen.constraints import times
from synthgen.encode.column import Floats
from synthgen.schema import Column

Bools = npt.NDArray[np.bool_]
#: Where a program rounds what lies half-way between two numbers.
Halves = Literal["even", "up", "down"]
HALVES: tuple[Halves, ...] = ("even", "up", "down")
#: A factor moves by so many of its steps at most to make a product exact.
STEPS = 100


@dataclass(frozen=True)
class Grid:
    """The numbers that a column can hold.

    Attributes
    ----------
    decimals : int or None
        Digits after the point; None: floats as they come.
    minimum, maximum : float or None
        Inclusive; None for none.
    """

    decimals: int | None = None
    minimum: float | None = None
    maximum: float | None = None

    @classmethod
    def of(cls, column: Column) -> Grid:
        """Return the digits and the declared bounds of a number."""
        low, high = (None if b is None else float(b) for b in (column.minimum, column.maximum))
        return cls(column.decimals, low, high)

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last number, infinite without a bound."""
        low = -np.inf if self.minimum is None else self.minimum
        high = np.inf if self.maximum is None else self.maximum
        return float(self._whole(low, up=True)), float(self._whole(high, up=False))

    def near(self, values: Floats) -> Floats:
        """Return the nearest numbers to (N,) `values`.

        >>> Grid(1, 0.0, 2.0).near(np.array([-1.0, 0.26, 7.0])).tolist()
        [0.0, 0.3, 2.0]
        """
        whole = values if self.decimals is None else values.round(self.decimals)
        return np.clip(whole, *self.ends)

    def past(self, values: Floats, *, up: Bools) -> Floats:
        """Return the first numbers at (N,) `values` or above where `up`, else at them or below.

        >>> Grid(0).past(np.array([1.5, 1.5, 2.0]), up=np.array([True, False, True])).tolist()
        [2.0, 1.0, 2.0]
        """
        return np.clip(self._whole(values, up=up), *self.ends)

    @np.errstate(over="ignore")
    def _whole(self, values: Floats | float, *, up: Bools | bool) -> Floats:
        if self.decimals is None:
            return np.asarray(values)
        digits = 10.0**self.decimals
        units = np.asarray(values) * digits
        slack = np.minimum(1e-9 + 1e-14 * np.abs(units), 0.5)
        whole = np.where(up, np.ceil(units - slack), np.floor(units + slack))
        return whole / digits + 0.0  # no negative zero


def to_total(parts: Floats, wanted: Floats, free: Bools, grids: Sequence[Grid]) -> Floats:
    """Return (N, P) `parts` that add up to (N,) `wanted`, as far as those that are `free` can.

    Free ones keep their proportions above their minimum (0 without one); where they lie below, or
    none is above, all move by the same. What rounding and bounds leave goes to the last, the finest
    last of all; coarse ones then go too far where finer ones can come back. A free one that is
    missing counts as its minimum.

    >>> grids = [Grid(0, 0.0), Grid(0, 0.0, 50.0)]
    >>> to_total(np.array([[80.0, 60.0]]), np.array([70.0]), np.ones((1, 2), bool), grids).tolist()
    [[40.0, 30.0]]
    """
    low = np.array([grid.ends[0] for grid in grids])
    low = np.where(np.isfinite(low), low, 0.0)
    above = np.where(free, np.nan_to_num(parts - low), 0.0)
    left, have = wanted - np.where(free, low, parts).sum(axis=1), above.sum(axis=1)
    scaled = (left >= 0) & (have > 0) & (above >= 0).all(axis=1)
    share = np.where(scaled, left / np.where(scaled, have, 1.0), 1.0)
    more = np.where(scaled, 0.0, (left - have) / free.sum(axis=1).clip(min=1))
    out = np.where(free, low + above * share[:, None] + more[:, None], parts)
    for i, grid in enumerate(grids):
        out[:, i] = np.where(free[:, i], grid.near(out[:, i]), out[:, i])
    for too_far in (False, True):
        for i in reversed(_finest_first(grids)):
            left = wanted - out.sum(axis=1)
            rest = grids[i].past(out[:, i] + left, up=(left > 0) == too_far)
            out[:, i] = np.where(free[:, i], rest, out[:, i])
    return out


def product(parts: Floats, factor: float, decimals: int | None, halves: Halves = "even") -> Floats:
    """Return the (N,) rounded products of (N, P) `parts` and `factor`."""
    made = times(parts.prod(axis=1), factor)
    return made if decimals is None else rounded(made, decimals, halves)


def rounded(values: Floats, decimals: int, halves: Halves) -> Floats:
    """Return (N,) numbers rounded; what lies half-way goes to the even digit, or by its size.

    >>> halves = np.array([0.5, 1.5, -1.5])
    >>> [rounded(halves, 0, to).tolist() for to in ("even", "up", "down")]
    [[0.0, 2.0, -2.0], [1.0, 2.0, -2.0], [0.0, 1.0, -1.0]]
    """
    if halves == "even":
        return values.round(decimals)
    units = np.abs(values) * 10.0**decimals
    slack = 1e-9 + 1e-14 * units
    whole = np.floor(units + 0.5 + slack) if halves == "up" else np.ceil(units - 0.5 - slack)
    return np.asarray(np.copysign(whole / 10.0**decimals, values) + 0.0)


def to_range(
    parts: Floats, free: Bools, grids: Sequence[Grid], factor: float, made: Grid
) -> Floats:
    """Return (N, P) `parts` with products inside the ends of `made`, as far as free ones can.

    The finest moves first, no further than it must.

    >>> grids = [Grid(0, 1.0), Grid(2, 1.0)]
    >>> free = np.ones((1, 2), bool)
    >>> to_range(np.array([[8.0, 4.5]]), free, grids, 1.0, Grid(2, None, 30.0)).tolist()
    [[8.0, 3.75]]
    >>> to_range(np.array([[80.0, 4.5]]), free, grids, 1.0, Grid(2, None, 30.0)).tolist()
    [[30.0, 1.0]]
    """
    out, (low, high) = parts.copy(), made.ends
    for i in _finest_first(grids):
        now = product(out, factor, made.decimals)
        limit = quotient(out, i, np.clip(now, low, high), factor)
        rows = ((now < low) | (now > high)) & free[:, i] & np.isfinite(limit)
        limit = limit[rows]
        out[rows, i] = grids[i].past(limit, up=limit > out[rows, i])
    return out


def to_product(
    parts: Floats,
    wanted: Floats,
    free: Bools,
    grids: Sequence[Grid],
    factor: float,
    decimals: int | None,
) -> Floats:
    """Return (N, P) `parts` with products (N,) `wanted`, as far as there are such near free ones.

    The finest free one follows from the others. Where its column cannot hold what that would be,
    another free one moves, by `STEPS` of its steps at most; if that does not help either, the
    product is only near. A free one that is missing counts as 1.

    >>> free, cents = np.ones((1, 2), bool), [Grid(0, 1.0), Grid(2, 0.0)]
    >>> to_product(np.array([[8.0, 4.5]]), np.array([37.41]), free, cents, 1.0, 2).tolist()
    [[3.0, 12.47]]
    """
    out = np.where(free & np.isnan(parts), 1.0, parts)
    followed, slack = np.zeros(len(out), bool), 1e-9 if decimals is None else 0.0
    for i in _finest_first(grids):
        rows = np.flatnonzero(free[:, i] & ~followed)
        followed[rows] = True
        start, inexact = out[rows], np.arange(len(rows))
        for j, step in _moves(grids, i):
            some = inexact if j is None else inexact[free[rows[inexact], j]]
            tried, target = start[some], wanted[rows[some]]
            if j is not None:
                tried[:, j] = grids[j].near(tried[:, j] + step)
            own = quotient(tried, i, target, factor)
            tried[:, i] = np.where(np.isfinite(own), grids[i].near(own), tried[:, i])
            exact = np.isclose(product(tried, factor, decimals), target, rtol=slack, atol=0)
            taken = exact | (j is None)
            out[rows[some[taken]]] = tried[taken]
            inexact = np.setdiff1d(inexact, some[exact])
            if not len(inexact):
                break
    return out


def quotient(parts: Floats, i: int, wanted: Floats, factor: float) -> Floats:
    """Return what part `i` must be for a product (N,); not finite where the others are zero."""
    others = times(np.delete(parts, i, axis=1).prod(axis=1), factor)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.asarray(wanted / others)


def _moves(grids: Sequence[Grid], own: int) -> Iterator[tuple[int | None, float]]:
    """Yield no move, and then which other part moves by how much, the smallest steps first."""
    yield None, 0.0
    for n in range(1, STEPS + 1):
        for j, grid in enumerate(grids):
            if j != own and grid.decimals is not None:
                yield from ((j, sign * n / 10.0**grid.decimals) for sign in (-1, 1))


def _finest_first(grids: Sequence[Grid]) -> list[int]:
    """Return the places of the grids, those with most digits first."""
    digits = [np.inf if grid.decimals is None else grid.decimals for grid in grids]
    return sorted(range(len(grids)), key=lambda i: -digits[i])
