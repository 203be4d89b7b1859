"""Numbers: exact values where they are frequent, cells between them, an offset inside a cell.

The real line is cut into *cells*: an exact value that many rows hold (zeros, 99999, 40 hours; every
value when there are few), or an interval with enough rows. Few cells: each is a level of one token.
Many: heavy values stay levels of their own, the others are grouped into bins of equal mass, and a
second, *fine* token names the cell inside the bin. What is left, the place inside a cell, is the
offset. Spikes, zero inflation and long tails need no special case, and marginals are right by
construction.

Point masses and rounding habits give a table away, so each bin keeps how often its values are
multiples of 5, 10, 50, ... units, and decoding restores that.

No number kept here belongs to fewer than k rows: an exact value has k rows, a boundary between two
intervals is the mean of the k values around it. An outermost cell keeps no extreme either, only
the first two moments of how far its rows lie beyond the inner boundary: they say how far the tail
goes and how it thins out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from synthgen.encode.column import Codes, Floats, State, TailCell
from synthgen.errors import RejectColumn

#: Up to so many cells are levels of one token; more need a second one.
MAX_SINGLE = 128
#: A value with at least this share of the rows is a level of its own beside the bins.
HEAVY_SHARE = 0.01
#: Most cells inside one bin.
MAX_FINE = 32
#: Fewer than k rows beyond the last exact value are spread as far as the schema's bound, if it is
#: not more than so many steps between exact values away; else over a few steps.
NEAR_BOUND_STEPS = 12
OVERFLOW_STEPS = 4
#: A tail ends at the schema's bound, if that is not further out than so many times its moments say.
BOUND_REACH = 1.5
Bounds = tuple[float | None, float | None]
#: What a column's unit may be, in units of its last digit.
UNIT_MULTIPLES = (1, 2, 5, 10, 20, 25, 50, 100, 250, 500, 1_000)
MAX = float(np.finfo(np.float64).max)
#: Rounding steps in units; each divides the next.
ROUND_STEPS = (1, 5, 10, 50, 100, 500, 1_000, 5_000, 10_000, 50_000, 100_000)


@dataclass(frozen=True, repr=False)
class NumericEncoder:
    """Cells of one number, ordered on the line.

    Attributes
    ----------
    lower, upper : (J,) float64
        Bounds of each cell; equal for an exact value.
    level, fine : (J,) int
        The tokens of each cell; level 0 is missing.
    counts : (J + 1,) float64
        Rows that are missing, then rows in each cell.
    unit : float or None
        Values are whole multiples of it; None for floats as they come.
    habits : (L, S) float64
        For each level, the share of values whose largest rounding step is `steps[s]`.
    steps : tuple of int
        Rounding steps, in units.
    tails : tuple of two float
        Powers a > 0 of the first and the last cell: distances from the inner boundary are the
        width times u ** a for uniform u; 1 is a uniform cell.
    """

    lower: Floats
    upper: Floats
    level: npt.NDArray[np.int64]
    fine: npt.NDArray[np.int64]
    counts: Floats
    unit: float | None
    habits: Floats
    steps: tuple[int, ...]
    tails: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def fit(
        cls,
        values: Floats,
        *,
        decimals: int | None,
        min_rows: int = 10,
        bins: int = 32,
        steps: Sequence[int] = ROUND_STEPS,
        bounds: Bounds = (None, None),
    ) -> NumericEncoder:
        """Cut the line by the (N,) `values`, NaN for missing.

        Parameters
        ----------
        decimals : int or None
            Digits after the point; None: no rounding.
        min_rows : int
            k: rows behind every number that is kept.
        bins : int
            Bins of equal mass, when there are too many cells for one token.
        steps : sequence of int
            Rounding steps to look for, in units.
        bounds : tuple of two float or None
            The schema's minimum and maximum.

        Raises
        ------
        RejectColumn
            If a value is infinite.
        """
        if np.isinf(values).any():
            raise RejectColumn("infinite values cannot be encoded")
        known = np.sort(values[~np.isnan(values)])
        unit = None if decimals is None else _unit(known, decimals)
        lower, upper, counts = _cut(
            known, k=min_rows, budget=bins * MAX_FINE, unit=unit, bounds=bounds
        )
        lower, upper, tails = _shape_tails(known, lower, upper, counts, bounds, min_rows, unit)
        level, fine = _assign(lower, upper, counts, bins=bins)
        habits = np.ones((int(level.max(initial=0)) + 1, 1))
        encoder = cls(
            lower,
            upper,
            level,
            fine,
            np.array([len(values) - len(known), *counts], np.float64),
            unit,
            habits,
            (1,),
            tails,
        )
        return encoder if unit is None else encoder._with_habits(known, tuple(steps))

    def _with_habits(self, known: Floats, steps: tuple[int, ...]) -> NumericEncoder:
        cell = self.cell_of(known)
        inside = self.upper[cell] > self.lower[cell]
        step = _largest_step(known[inside] / (self.unit or 1.0), steps)
        habits = np.zeros((len(self.habits), len(steps)))
        np.add.at(habits, (self.level[cell[inside]], step), 1)
        total = habits.sum(axis=0)
        pooled = total / total.sum() if total.sum() else np.eye(1, len(steps))[0]
        habits = (habits + 10 * pooled) / (habits.sum(axis=1, keepdims=True) + 10)
        # Rounded here and not when written, so that a loaded encoder decodes the same.
        return replace(self, habits=habits.round(4), steps=steps)

    @property
    def n_levels(self) -> int:
        """Levels of the coarse token: missing and the rest."""
        return int(self.level.max(initial=0)) + 1

    @property
    def n_fine(self) -> int:
        """Levels of the fine token; 1 means that there is none."""
        return int(self.fine.max(initial=0)) + 1

    @property
    def prior(self) -> Floats:
        """Frequencies of the levels, (L,)."""
        out = np.zeros(self.n_levels)
        np.add.at(out, self.level, self.counts[1:])
        out[0] = self.counts[0]
        return out / out.sum() if out.sum() else np.full(len(out), 1 / len(out))

    @property
    def fine_prior(self) -> Floats | None:
        """Frequencies of cells inside each level, (L, F), or None without a fine token."""
        if self.n_fine == 1:
            return None
        out = np.zeros((self.n_levels, self.n_fine))
        out[self.level, self.fine] = self.counts[1:]
        out[out.sum(axis=1) == 0, 0] = 1
        return np.asarray(out / out.sum(axis=1, keepdims=True))

    @property
    def positions(self) -> Floats:
        """Rank of each level on the line in [0, 1], (L,): the mass below it; NaN for missing."""
        rows = self.counts[1:]
        middle = (rows.cumsum() - rows / 2) / max(rows.sum(), 1.0)
        weight, place = np.zeros((2, self.n_levels))
        np.add.at(weight, self.level, rows)
        np.add.at(place, self.level, rows * middle)
        place[0] = np.nan
        return place / np.where(weight > 0, weight, 1)

    @property
    def tail_cells(self) -> list[TailCell]:
        """Level, fine token and rows of the outermost cells that are no exact value."""
        ends = {0, len(self.lower) - 1} if len(self.lower) else set()
        return [
            (int(self.level[c]), int(self.fine[c]), int(self.counts[c + 1]))
            for c in sorted(ends)
            if self.lower[c] < self.upper[c]
        ]

    @property
    def linear_cells(self) -> tuple[Floats, Floats]:
        """`cells`, where a tail, whose offset is no linear place, counts as one value."""
        lower, upper = self.cells
        for power, cell in zip(self.tails, (0, -1), strict=True):
            if power != 1:
                place = self.level[cell], self.fine[cell]
                lower[place] = upper[place] = lower[place] / 2 + upper[place] / 2
        return lower, upper

    @property
    def cells(self) -> tuple[Floats, Floats]:
        """Lower and upper bounds by (level, fine), each (L, F); 0 where there is no cell."""
        out = np.zeros((2, self.n_levels, self.n_fine))
        out[0, self.level, self.fine] = self.lower
        out[1, self.level, self.fine] = self.upper
        return out[0], out[1]

    def cell_of(self, values: Floats) -> npt.NDArray[np.int64]:
        """Return the cell of each value: the one that holds it, or else the nearest.

        A value on the boundary of an exact cell belongs to it; other shared boundaries go below.
        """
        if len(self.lower) == 0:
            return np.zeros(len(values), np.int64)
        middle = self.upper[:-1] / 2 + self.lower[1:] / 2
        cell = np.searchsorted(middle, values, side="left")
        exact = self.lower == self.upper
        for neighbour in (cell - 1, cell + 1):
            other = neighbour.clip(0, len(self.lower) - 1)
            cell = np.where(exact[other] & (self.lower[other] == values), other, cell)
        return cell

    def encode(self, values: Floats) -> Codes:
        """Return the codes of (N,) numbers, NaN for missing."""
        missing = np.isnan(values)
        if len(self.lower) == 0:
            zeros = np.zeros(len(values), np.int32)
            return Codes(zeros, None, np.full(len(values), 0.5, np.float32))
        cell = self.cell_of(np.where(missing, self.lower[0], values))
        # Halves, since the width itself may be too large a number.
        half = self.upper[cell] / 2 - self.lower[cell] / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            place = np.where(half > 0, (values / 2 - self.lower[cell] / 2) / half, 0.5)
        first, last = cell == 0, cell == len(self.lower) - 1
        place = np.where(missing, 0.5, place).clip(0, 1)
        place[first] = 1 - (1 - place[first]) ** (1 / self.tails[0])
        place[last] = place[last] ** (1 / self.tails[1])
        fine = None
        if self.n_fine > 1:
            fine = np.where(missing, 0, self.fine[cell]).astype(np.int32)
        coarse = np.where(missing, 0, self.level[cell]).astype(np.int32)
        return Codes(coarse, fine, place.astype(np.float32))

    def is_strange(self, values: Floats) -> npt.NDArray[np.bool_]:
        """Return which of (N,) numbers lie beyond the outermost cells."""
        if len(self.lower) == 0:
            return ~np.isnan(values)
        return np.asarray((values < self.lower[0]) | (values > self.upper[-1]))

    def decode(self, codes: Codes, rng: np.random.Generator | None) -> Floats:
        """Return (N,) numbers, NaN for missing, in whole units.

        With `rng` the rounding habits of the level are restored, for offsets that were generated;
        without, the offsets are taken at their word: the inverse of `encode`.
        """
        if len(self.lower) == 0:
            return np.full(len(codes.coarse), np.nan)
        fine = np.zeros(len(codes.coarse), np.int64) if codes.fine is None else codes.fine
        offset = np.full(len(codes.coarse), 0.5) if codes.offset is None else codes.offset
        lower_table, upper_table = self.cells
        lower, upper = lower_table[codes.coarse, fine], upper_table[codes.coarse, fine]
        place = offset.astype(np.float64)
        first = (codes.coarse == self.level[0]) & (fine == self.fine[0])
        last = (codes.coarse == self.level[-1]) & (fine == self.fine[-1])
        place[first] = 1 - (1 - place[first]) ** self.tails[0]
        place[last] = place[last] ** self.tails[1]
        values = np.where(lower == upper, lower, lower * (1 - place) + upper * place)
        if self.unit is not None:
            if rng is not None:
                inside = (codes.coarse > 0) & (upper > lower)
                values[inside] = self._round(
                    values[inside], lower[inside], upper[inside], codes.coarse[inside], rng
                )
            values = np.round(values / self.unit) * self.unit
            values = np.round(values, _places(self.unit))
        return np.where(codes.coarse == 0, np.nan, values)

    def _round(
        self,
        values: Floats,
        lower: Floats,
        upper: Floats,
        level: npt.NDArray[Any],
        rng: np.random.Generator,
    ) -> Floats:
        """Round each value to a step drawn from its level's habits, as far as the cell allows."""
        assert self.unit is not None
        cumulative = self.habits.cumsum(axis=1)
        wanted = (rng.random(len(values))[:, None] > cumulative[level, :-1]).sum(axis=1)
        units = values / self.unit
        out = np.round(units)
        for s in range(len(self.steps) - 1, -1, -1):
            rows = np.flatnonzero(wanted == s)
            step = self.steps[s]
            candidate = np.round(units[rows] / step) * step
            if s + 1 < len(self.steps):
                # What wants this step should not be rounder by chance.
                rounder = candidate % self.steps[s + 1] == 0
                side = np.where(units[rows] >= candidate, step, -step)
                candidate = candidate + np.where(rounder, side, 0)
            fits = (candidate * self.unit >= lower[rows]) & (candidate * self.unit <= upper[rows])
            out[rows[fits]] = candidate[fits]
            wanted[rows[~fits]] = s - 1
        return out * self.unit

    def to_json(self) -> dict[str, Any]:
        """Return the cells; every number in it stands for at least k rows."""
        return {
            "type": "numeric",
            "lower": self.lower.tolist(),
            "upper": self.upper.tolist(),
            "level": self.level.tolist(),
            "fine": self.fine.tolist(),
            "counts": self.counts.tolist(),
            "unit": self.unit,
            "habits": self.habits.tolist(),
            "steps": list(self.steps),
            "tails": list(self.tails),
        }

    @classmethod
    def from_json(cls, state: State) -> NumericEncoder:
        """Rebuild what `to_json` wrote."""
        habits = np.array(state["habits"], np.float64).reshape(-1, len(state["steps"]))
        return cls(
            np.array(state["lower"], np.float64),
            np.array(state["upper"], np.float64),
            np.array(state["level"], np.int64),
            np.array(state["fine"], np.int64),
            np.array(state["counts"], np.float64),
            state["unit"],
            habits,
            tuple(state["steps"]),
            (float(state["tails"][0]), float(state["tails"][1])),
        )


def _unit(known: Floats, decimals: int) -> float:
    """Return the coarsest unit that all values are multiples of: .25 for 1.50, 2.00 and 2.25."""
    last = 10.0**-decimals
    digits = np.unique(np.round(known / last))
    if len(digits) < 2 or np.abs(digits).max() >= 2**53:
        return last
    multiple = max(m for m in UNIT_MULTIPLES if (digits % m == 0).all())
    return float(f"{multiple * last:.12g}")


def _largest_step(multiples: Floats, steps: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return the index of the largest step that divides each value (given in units)."""
    whole = np.round(multiples)
    out = np.zeros(len(whole), np.int64)
    for s, step in enumerate(steps):
        out[whole % step == 0] = s
    return out


def _cut(
    known: Floats, *, k: int, budget: int, unit: float | None, bounds: Bounds
) -> tuple[Floats, Floats, Floats]:
    """Cut sorted values into at most about `budget` cells of at least `k` rows.

    Returns lower, upper and rows of each cell. Values that can join no cell of k rows are left out;
    encoding sends them to the nearest cell.
    """
    n = len(known)
    if n < k:
        # Too few rows to keep any number: one cell, their order of magnitude.
        if n == 0:
            return np.zeros(0), np.zeros(0), np.zeros(0)
        place = np.array([_magnitude(known, unit, bounds)])
        return place, place, np.array([float(n)])
    values, first, counts = np.unique(known, return_index=True, return_counts=True)
    target = max(2 * k, n // budget)
    exact = counts >= max(k, target // 2)
    lower, upper, rows = [], [], []
    heavy = np.flatnonzero(exact)
    gaps = zip(np.r_[-1, heavy], np.r_[heavy, len(values)], strict=True)
    for before, after in gaps:
        if after - before > 1:
            start = first[before + 1]
            stop = n if after == len(values) else first[after]
            floor = None if before < 0 else values[before]
            ceiling = None if after == len(values) else values[after]
            if stop - start < k:
                side = (ceiling is None) - (floor is None)
                bound = bounds[0] if side < 0 else bounds[1]
                few = int(stop - start)
                cells = _overflow(values[heavy], few, bound, unit or 0.0, side=side) if side else []
            else:
                cells = _intervals(known, start, stop, floor, ceiling, k, target, unit)
            for lo, hi, m in cells:
                lower.append(lo)
                upper.append(hi)
                rows.append(m)
        if after < len(values):
            lower.append(values[after])
            upper.append(values[after])
            rows.append(counts[after])
    if not rows:
        return _cut_whole(known, k, unit)
    return np.array(lower), np.array(upper), np.array(rows, np.float64)


def _cut_whole(known: Floats, k: int, unit: float | None) -> tuple[Floats, Floats, Floats]:
    """One interval over everything, between means of the k extremes."""
    lo, hi = _to_unit(known[:k].mean(), unit, known), _to_unit(known[-k:].mean(), unit, known)
    return np.array([lo]), np.array([hi]), np.array([float(len(known))])


def _intervals(
    known: Floats,
    start: int,
    stop: int,
    floor: float | None,
    ceiling: float | None,
    k: int,
    target: int,
    unit: float | None,
) -> list[tuple[float, float, int]]:
    """Cut ``known[start:stop]``, between two exact values, into cells of about `target` rows."""
    m = stop - start
    n_cells = max(1, m // target)
    marks = start + np.round(np.linspace(0, m, n_cells + 1)).astype(int)
    edges = [_outer_edge(known, slice(start, start + k), floor, unit, side=1)]
    for mark in marks[1:-1]:
        around = known[max(start, mark - k // 2) : min(stop, mark + (k + 1) // 2)]
        edges.append(_to_unit(around.mean(), unit, known))
    edges.append(_outer_edge(known, slice(stop - k, stop), ceiling, unit, side=-1))
    # Equal edges (many ties) make one cell of several.
    out: list[tuple[float, float, int]] = []
    rows = np.diff(
        np.searchsorted(known[start:stop], edges[1:-1], side="right"), prepend=0, append=m
    )
    carried = 0
    for lo, hi, count in zip(edges[:-1], edges[1:], rows, strict=True):
        if hi > lo and count + carried >= 1:
            out.append((lo, hi, int(count) + carried))
            carried = 0
        elif out:
            out[-1] = (out[-1][0], max(out[-1][1], hi), out[-1][2] + int(count))
        else:
            carried += int(count)
    if not out:
        out = [(edges[0], max(edges[0], edges[-1]), m)]
    return out


def _outer_edge(
    known: Floats, extremes: slice, bound: float | None, unit: float | None, *, side: int
) -> float:
    """Return an interval's outer edge: beside the exact value there, or the mean of k extremes."""
    if bound is None:
        return _to_unit(known[extremes].mean(), unit, known)
    return bound if unit is None else _to_unit(bound + side * unit, unit, known)


def _overflow(
    exact: Floats, rows: int, bound: float | None, unit: float, *, side: int
) -> list[tuple[float, float, int]]:
    """Return a cell for fewer than k rows beyond the outermost exact value, or none.

    How far they lie is not kept, only that they are there. Without a bound there is no cell, and
    the rows join the nearest one.
    """
    if bound is None or rows == 0:
        return []
    last = exact[-1] if side > 0 else exact[0]
    spacing = abs(exact[-2] - last if side > 0 else exact[1] - last) if len(exact) > 1 else unit
    inner = last + side * unit
    room = (bound - last) * side
    near = room <= NEAR_BOUND_STEPS * spacing
    outer = bound if near else last + side * min(OVERFLOW_STEPS * spacing, room)
    if (outer - inner) * side < 0:
        return []
    return [(min(inner, outer), max(inner, outer), rows)]


def _shape_tails(
    known: Floats,
    lower: Floats,
    upper: Floats,
    counts: Floats,
    bounds: Bounds,
    k: int,
    unit: float | None,
) -> tuple[Floats, Floats, tuple[float, float]]:
    """Extend outermost intervals to where they end, and give them the power that keeps their mean.

    `known` is sorted. A cell that is one exact value or holds fewer than `k` rows stays as it is.
    """
    lower, upper, powers = lower.copy(), upper.copy(), [1.0, 1.0]
    for side, cell in enumerate((0, -1)):
        if len(lower) < 2 or lower[cell] == upper[cell] or counts[cell] < k:
            continue
        if side == 0:
            distance = upper[0] - known[known <= upper[0]]
        else:
            distance = known[known > lower[-1]] - lower[-1]
        if len(distance) < k or distance.max() <= 0:
            continue
        inner = upper[0] if side == 0 else lower[-1]
        width, powers[side] = _tail(distance)
        bound = bounds[side]
        if bound is not None:
            # The bound is where extremes may lie; one much further out says little of these rows.
            width = min(abs(bound - inner), BOUND_REACH * width)
            powers[side] = max(0.1, round(width / _mean(distance) - 1, 3))
        if side == 0:
            lower[0] = min(_to_unit(max(inner - width, -MAX), unit, known), upper[0])
        else:
            upper[-1] = max(_to_unit(min(inner + width, MAX), unit, known), lower[-1])
    return lower, upper, (powers[0], powers[1])


def _tail(distance: Floats) -> tuple[float, float]:
    """Return width w and power a: ``w * u ** a``, u uniform, has the moments of `distance`.

    From ``E[d] = w / (1 + a)`` and ``E[d^2] = w^2 / (1 + 2 a)``. Uniform distances give a = 1,
    exponential ones a = 2.4 and w = 3.4 means.
    """
    mean = _mean(distance)
    q = max(0.01, float(((distance / mean) ** 2).mean()) - 1)
    power = round(float(q + np.sqrt(q * q + q)), 3)
    return min(mean, MAX / (1 + power)) * (1 + power), power


def _mean(distance: Floats) -> float:
    """Return the mean of distances above 0, of which even the sum may be too large a number."""
    largest = float(distance.max())
    return float((distance / largest).mean()) * largest


def _to_unit(value: float, unit: float | None, known: Floats) -> float:
    """Round to whole units; without a unit to six digits, of the value or of the column's spread.

    The smaller of the two decides: seconds since 1970 differ in their last digits only. `known` is
    sorted; its spread is that of its middle half.
    """
    if unit is None:
        n = len(known)
        spread = known[3 * n // 4] / 2 - known[n // 4] / 2
        size = min(abs(value), spread or abs(value))
        return round(float(value), 5 - int(np.floor(np.log10(size)))) if size else float(value)
    return float(np.round(np.round(value / unit) * unit, _places(unit)))


def _places(unit: float) -> int:
    """Return the digits after the point that multiples of `unit` have: 2 for .25, 0 for 50."""
    return next((d for d in range(16) if round(unit, d) == unit), 16)


def _magnitude(known: Floats, unit: float | None, bounds: Bounds) -> float:
    """Return a power of ten near the mean size of a few values, of their sign, inside `bounds`.

    A value that happens to be that power itself is not told: the next one is taken.
    """
    size = float(np.median(np.abs(known)))
    exponent = round(np.log10(size)) if size > 0 else 0
    sign = -1.0 if np.median(known) < 0 else 1.0
    powers = (sign * 10.0 ** min(e, 308) for e in range(exponent, exponent + len(known) + 2))
    places = (p if unit is None else _to_unit(p, unit, known) for p in powers)
    place = next((p for p in places if p not in known), 0.0)
    low, high = (float(b) if b is not None else s for b, s in zip(bounds, (-MAX, MAX), strict=True))
    return min(max(place, low), high)


def _assign(
    lower: Floats, upper: Floats, counts: Floats, *, bins: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Give each cell its tokens: a level of its own, or a place in a bin of about equal mass."""
    j = len(lower)
    if j <= MAX_SINGLE:
        return np.arange(1, j + 1), np.zeros(j, np.int64)
    heavy = (counts >= HEAVY_SHARE * counts.sum()) & (lower == upper)
    light = np.flatnonzero(~heavy)
    mass = counts[light].cumsum()
    bin_of = np.minimum((mass - counts[light] / 2) / mass[-1] * bins, bins - 1).astype(np.int64)
    bin_of = np.unique(bin_of, return_inverse=True)[1]
    # No bin holds more cells than the fine token can name.
    position = np.arange(len(light)) - np.searchsorted(bin_of, bin_of)
    split = bin_of * (len(light) + 1) + position // MAX_FINE
    bin_of = np.unique(split, return_inverse=True)[1]
    level, fine = np.zeros(j, np.int64), np.zeros(j, np.int64)
    level[light] = bin_of + 1
    fine[light] = np.arange(len(light)) - np.searchsorted(bin_of, bin_of)
    level[heavy] = bin_of.max(initial=-1) + 2 + np.arange(heavy.sum())
    return level, fine
