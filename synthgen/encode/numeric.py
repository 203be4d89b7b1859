"""Numbers: exact values where they are frequent, cells between them, an offset inside a cell.

The real line is cut into *cells*: an exact value that many rows hold (zeros, 99999, 40 hours; every
value when there are few), or an interval with enough rows. Few cells: each is a level of one token.
Many: heavy values stay levels of their own, the others are grouped into bins of equal mass, and a
second, *fine* token names the cell inside the bin. What is left, the place inside a cell, is the
offset. Spikes, zero inflation and long tails need no special case, and marginals are right by
construction.

Point masses and rounding habits give a table away, so each bin keeps how often its values are
multiples of 5, 10, 50, ... of the last digit, and decoding restores that.

No number kept here belongs to fewer than k rows: an exact value has k rows and so has every cell, a
boundary between two intervals is the mean of the k values around it. An outermost cell keeps no
extreme either, only the first two moments of how far its rows lie beyond the inner boundary: they
say how far the tail goes and how it thins out. In them no row counts for more than `REACH` times
the nearer half, so that the largest value, however large, moves nothing once it is that far out.

Boundaries lie half-way between the numbers that a column can hold (40.5 for whole numbers), so none
can be anybody's value, not even by chance.
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
#: In a mean of distances no row counts for more than so many times the mean of the nearer half.
#: The largest of 20 exponential distances is 12 times that mean on average, of uniform ones 4.
REACH = 16.0
#: A tail ends at the schema's bound, if that is not further out than so many times its moments say.
BOUND_REACH = 1.5
#: Places in a tail nearer to its inner boundary than this share of it count as this near.
LEAST_PLACE = 1e-3
Bounds = tuple[float | None, float | None]
#: Inclusive ends of intervals of numbers, apart and in order.
Intervals = Sequence[tuple[float, float]]
EVERYWHERE: Intervals = ((-np.inf, np.inf),)
#: What a column's unit may be, in units of its last digit.
UNIT_MULTIPLES = (1, 2, 5, 10, 20, 25, 50, 100, 250, 500, 1_000)
MAX = float(np.finfo(np.float64).max)
#: Rounding steps in units of the last digit; each divides the next.
ROUND_STEPS = (1, 5, 10, 50, 100, 500, 1_000, 5_000, 10_000, 50_000, 100_000)


@dataclass(frozen=True, repr=False)
class Pieces:
    """What I intervals leave of the cells of (level, fine).

    Attributes
    ----------
    lower, upper : (I, L, F) float64
        Bounds of what is left.
    first, last : (I, L, F) float64
        Its first and last number, in units; without a unit the bounds.
    start, share : (I, L, F) float64
        It has the offsets from `start` to `start + share`; 0 where nothing is left.
    """

    lower: Floats
    upper: Floats
    first: Floats
    last: Floats
    start: Floats
    share: Floats

    def at(self, offset: Floats, cell: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.intp], Floats]:
        """Return the piece that each of (N,) offsets lies in, and its offset in the whole cell.

        Cells and pieces are places in the flat tables, for `take`. `offset` counts what is left of
        a cell only: uniform ones are uniform there.
        """
        share = self.share.reshape(len(self.share), -1)[:, cell]
        reached = share.cumsum(axis=0)
        target = offset * reached[-1]
        chosen = ((reached >= target) & (share > 0)).argmax(axis=0)
        rows = chosen, np.arange(len(offset))
        piece = chosen * self.share[0].size + cell
        return piece, self.start.take(piece) + (target - (reached[rows] - share[rows]))


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
            k: rows behind every number that is kept. Where fewer are known, none is; what fewer
            hold (a value, the state of being missing) joins the nearest or the heaviest cell.
        bins : int
            Bins of equal mass, when there are too many cells for one token.
        steps : sequence of int
            Rounding steps to look for, in units of the last digit; each divides the next.
        bounds : tuple of two float or None
            The schema's minimum and maximum, where they are public.

        Raises
        ------
        RejectColumn
            If a value is infinite.
        """
        if np.isinf(values).any():
            raise RejectColumn("infinite values cannot be encoded")
        known = np.sort(values[~np.isnan(values)])
        unit = None if decimals is None else _unit(known, decimals, min_rows)
        grain = _grain(known, decimals, min_rows)
        lower, upper = _cut(known, k=min_rows, budget=bins * MAX_FINE, grain=grain)
        if len(known) == len(values) > 0 and len(lower) == 0:
            # A number must be written and none may be kept: a place that no row has a part in.
            lower = upper = np.array([_neutral(bounds)])
        lower, upper, tails = _end(known, lower, upper, bounds, min_rows, grain)
        place = np.zeros(len(lower), np.int64)
        encoder = cls(
            lower,
            upper,
            place,
            place,
            np.zeros(len(lower) + 1),
            unit,
            np.ones((1, 1)),
            (1,),
            tails,
        ).recount(values, min_rows)
        level, fine = _assign(lower, upper, encoder.counts[1:], bins=bins)
        habits = np.ones((int(level.max(initial=0)) + 1, 1))
        encoder = replace(encoder, level=level, fine=fine, habits=habits)
        if unit is None or decimals is None or len(lower) == 0:
            return encoder
        multiple = round(unit * 10**decimals)
        in_units = {1, *(step // multiple for step in steps if step % multiple == 0)}
        return encoder._with_habits(known, tuple(sorted(in_units)), min_rows)

    def recount(self, values: Floats, min_rows: int) -> NumericEncoder:
        """Return the same cells with the (N,) `values` counted in them.

        Fewer than `min_rows` missing values are counted to the heaviest cell, where there is one.
        """
        known = values[~np.isnan(values)]
        counts = np.bincount(self.cell_of(known), minlength=len(self.lower)).astype(np.float64)
        n_missing = float(len(values) - len(known))
        if len(self.lower) == 0:
            return replace(self, counts=np.array([float(len(values))]))
        if n_missing < min_rows:
            counts[counts.argmax()] += n_missing
            n_missing = 0.0
        return replace(self, counts=np.array([n_missing, *counts]))

    def _with_habits(self, known: Floats, steps: tuple[int, ...], k: int) -> NumericEncoder:
        cell = self.cell_of(known)
        inside = self.upper[cell] > self.lower[cell]
        step = _largest_step(known[inside] / (self.unit or 1.0), steps)
        counts = np.zeros((len(self.habits), len(steps)))
        np.add.at(counts, (self.level[cell[inside]], step), 1)
        total = counts.sum(axis=0)
        total[total < k] = 0
        pooled = total / total.sum() if total.sum() else np.eye(1, len(steps))[0]
        kept = np.array([_suppressed(row, k) for row in counts]).reshape(counts.shape)
        spread = 10 + (counts - kept).sum(axis=1, keepdims=True)
        habits = (kept + spread * pooled) / (counts.sum(axis=1, keepdims=True) + 10)
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

    @property
    def means(self) -> Floats:
        """Mean of each level, (L,), as far as its cells tell; 0 for missing."""
        share = np.full(len(self.lower), 0.5)
        if len(share):  # the mean of u ** a, from the inner boundary
            share[0], share[-1] = 1 - 1 / (1 + self.tails[0]), 1 / (1 + self.tails[1])
        total, rows = np.zeros((2, self.n_levels))
        weights = np.maximum(self.counts[1:], 1e-9)
        np.add.at(total, self.level, weights * (self.lower * (1 - share) + self.upper * share))
        np.add.at(rows, self.level, weights)
        return total / np.where(rows > 0, rows, 1)

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
        if self.counts[0] == 0 < self.counts.sum():
            heaviest = int(self.counts[1:].argmax())
            middle = self.lower[heaviest] / 2 + self.upper[heaviest] / 2
            values, missing = np.where(missing, middle, values), np.zeros(len(values), bool)
        if len(self.lower) == 0:
            zeros = np.zeros(len(values), np.int32)
            return Codes(zeros, None, np.full(len(values), 0.5, np.float32))
        cell = self.cell_of(np.where(missing, self.lower[0], values))
        # Halves, since the width itself may be too large a number.
        half = self.upper[cell] / 2 - self.lower[cell] / 2
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            place = np.where(half > 0, (values / 2 - self.lower[cell] / 2) / half, 0.5)
        first, last = cell == 0, cell == len(self.lower) - 1
        place = np.where(missing, 0.5, place).clip(0, 1)
        _bend(place, first, last, (1 / self.tails[0], 1 / self.tails[1]))
        fine = None
        if self.n_fine > 1:
            fine = np.where(missing, 0, self.fine[cell]).astype(np.int32)
        coarse = np.where(missing, 0, self.level[cell]).astype(np.int32)
        return Codes(coarse, fine, place.astype(np.float32))

    def thinness(self, codes: Codes) -> Floats:
        """Return -log of the density inside the cell of each of (N,) numbers, less its mean.

        In nats, the mean over the rows that cells were fitted on; 0 where missing. Cells hold about
        equally many rows, so only this says how far out a number lies. An exact value is one unit
        wide, without units as wide as the narrowest interval.
        """
        if codes.offset is None or len(self.lower) == 0:
            return np.zeros(len(codes.coarse))
        power, width = np.ones(len(self.lower)), self.upper - self.lower
        power[0], power[-1] = self.tails
        narrowest = self.unit or width[width > 0].min(initial=np.inf)
        is_wide = width > narrowest
        width = np.where(is_wide, width, 1.0 if np.isinf(narrowest) else narrowest)
        # Of w * u ** a, u uniform: -log density is log(a w) + (a - 1) log u, and E log u is -1.
        log_scale = np.log(np.where(is_wide, power, 1.0)) + np.log(width)
        bend = np.where(is_wide, power - 1, 0.0)
        rows = self.counts[1:]
        mean = ((log_scale - bend) * rows).sum() / max(rows.sum(), 1.0)
        cell_at = np.zeros((self.n_levels, self.n_fine), np.int64)
        cell_at[self.level, self.fine] = np.arange(len(self.lower))
        cell = cell_at[codes.coarse, 0 if codes.fine is None else codes.fine]
        u = np.where(cell == 0, 1 - codes.offset, codes.offset).clip(LEAST_PLACE, 1.0)
        return np.where(codes.coarse > 0, log_scale[cell] + bend[cell] * np.log(u) - mean, 0.0)

    def is_strange(self, values: Floats) -> npt.NDArray[np.bool_]:
        """Return which of (N,) numbers lie beyond the outermost cells."""
        if len(self.lower) == 0:
            return ~np.isnan(values)
        return np.asarray((values < self.lower[0]) | (values > self.upper[-1]))

    def pieces(self, within: Intervals) -> Pieces:
        """Return what intervals leave of each cell; a whole number is as wide as a unit."""
        lower, upper = self.cells
        first, last, unit, half = lower, upper, 1.0, 0.0
        low, high = np.array(within, np.float64).reshape(-1, 2).T[:, :, None, None]
        with np.errstate(over="ignore"):
            if self.unit is not None:
                first, last, unit, half = *units_within(lower, upper, self.unit), self.unit, 0.5
                low, high = _whole_above(low / unit), _whole_below(high / unit)
            least, most = np.maximum(first, low), np.minimum(last, high)
            start = np.where(least > first, (least - half) * unit, lower)
            stop = np.where(most < last, (most + half) * unit, upper)
        # Halves, since the width itself may be too large a number.
        width = np.broadcast_to(upper / 2 - lower / 2, start.shape)
        offsets = np.stack([np.zeros_like(start), np.ones_like(stop)])
        for place, end in zip(offsets, (start, stop), strict=True):
            np.divide(end / 2 - lower / 2, width, out=place, where=width > 0)
            np.clip(place, 0, 1, out=place)
            if len(self.lower):
                low_tail, high_tail = ((..., self.level[c], self.fine[c]) for c in (0, -1))
                _bend(place, low_tail, high_tail, (1 / self.tails[0], 1 / self.tails[1]))
        share = np.where(least <= most, (offsets[1] - offsets[0]).clip(0, 1), 0.0)
        return Pieces(start, stop, least, most, offsets[0], share)

    def decode(
        self, codes: Codes, rng: np.random.Generator | None, within: Intervals = EVERYWHERE
    ) -> Floats:
        """Return (N,) numbers, NaN for missing, in whole units.

        With `rng` the rounding habits of the level are restored, for offsets that were generated;
        without, the offsets are taken at their word: the inverse of `encode`. Numbers lie `within`
        the intervals where these leave something of their cells, spread as in the whole cell.
        """
        if len(self.lower) == 0:
            return np.full(len(codes.coarse), np.nan)
        fine = np.zeros(len(codes.coarse), np.int64) if codes.fine is None else codes.fine
        offset = np.full(len(codes.coarse), 0.5) if codes.offset is None else codes.offset
        cell, pieces = codes.coarse.astype(np.intp) * self.n_fine + fine, self.pieces(within)
        piece, place = pieces.at(offset.astype(np.float64), cell)
        first = (codes.coarse == self.level[0]) & (fine == self.fine[0])
        last = (codes.coarse == self.level[-1]) & (fine == self.fine[-1])
        _bend(place, first, last, self.tails)
        lower, upper = (bounds.take(cell) for bounds in self.cells)
        values = np.where(lower == upper, lower, lower * (1 - place) + upper * place)
        lower, upper = pieces.lower.take(piece), pieces.upper.take(piece)
        values = values.clip(lower, upper)
        if self.unit is not None:
            if rng is not None:
                inside = (codes.coarse > 0) & (upper > lower)
                values[inside] = self._round(
                    values[inside], lower[inside], upper[inside], codes.coarse[inside], rng
                )
            # A boundary is no value: what falls on it is the nearest whole unit inside.
            ends = pieces.first.take(piece), pieces.last.take(piece)
            values = np.round(values / self.unit).clip(*ends) * self.unit
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
        """Rebuild what `to_json` wrote; ValueError for what it never writes."""
        habits = np.array(state["habits"], np.float64).reshape(-1, len(state["steps"]))
        encoder = cls(
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
        encoder._refuse_impossible()
        return encoder

    def _refuse_impossible(self) -> None:
        """Raise ValueError unless the parts fit together: tokens are sizes of what is allocated."""
        j, floats = len(self.lower), (self.lower, self.upper, self.counts, self.habits)
        unit = 1.0 if self.unit is None else self.unit
        possible = (
            self.upper.shape == self.level.shape == self.fine.shape == (j,)
            and self.counts.shape == (j + 1,)
            and all(np.isfinite(f).all() for f in floats)
            and bool((self.lower <= self.upper).all() and (self.counts >= 0).all())
            and bool(((self.level >= 1) & (self.level <= j)).all())
            and bool(((self.fine >= 0) & (self.fine < MAX_FINE)).all())
            and self.habits.shape == (self.n_levels, len(self.steps))
            and all(type(step) is int and step > 0 for step in self.steps)
            and isinstance(unit, int | float)
            and 0 < unit < np.inf
            and all(0 < tail < np.inf for tail in self.tails)
        )
        if not possible:
            raise ValueError("cells, tokens and counts of a number do not fit together")


def _unit(known: Floats, decimals: int, k: int) -> float:
    """Return the coarsest unit of all values, .25 for 1.50, 2.00 and 2.25, few of them aside.

    Few are fewer than k, and at most one of a hundred.
    """
    last = 10.0**-decimals
    digits, rows = np.unique(np.round(known / last), return_counts=True)
    if len(digits) < 2 or np.abs(digits).max() >= 2**53:
        return last
    few = min(k - 1, len(known) // 100)
    multiple = max(m for m in UNIT_MULTIPLES if rows[digits % m != 0].sum() <= few)
    return float(f"{multiple * last:.12g}")


def _suppressed(counts: Floats, k: int) -> Floats:
    """Return `counts` (S,) with those below k as 0, and so many more that k rows are not told.

    Else the sum would tell how many are (complementary suppression, Hundepool et al. 2012).

    >>> _suppressed(np.array([40.0, 12.0, 3.0, 0.0]), 10).tolist()
    [40.0, 0.0, 0.0, 0.0]
    """
    kept = np.where(counts < k, 0.0, counts)
    while 0 < counts.sum() - kept.sum() < k and kept.any():
        kept[np.where(kept > 0, kept, np.inf).argmin()] = 0.0
    return kept


def units_within(lower: Floats, upper: Floats, unit: float) -> tuple[Floats, Floats]:
    """Return the first and last whole multiples of `unit` in each cell, in units.

    A cell without one, such as an exact value of fewer digits, has its ends rounded.
    """
    first, last = (np.asarray(ends / unit) for ends in (lower, upper))
    inside = _whole_above(first), _whole_below(last)
    some = inside[0] <= inside[1]
    return np.where(some, inside[0], np.round(first)), np.where(some, inside[1], np.round(last))


def _whole_above(units: Floats) -> Floats:
    """Return the first whole numbers that are not below, but for what rounding leaves."""
    return np.asarray(np.ceil(units - 1e-9 - 1e-14 * np.abs(units)))


def _whole_below(units: Floats) -> Floats:
    """Return the last whole numbers that are not above, but for what rounding leaves."""
    return -_whole_above(-units)


def _bend(place: Floats, first: Any, last: Any, powers: tuple[float, float]) -> None:
    """Raise places in the first and last cell, from their inner boundaries, to powers, in place."""
    place[first] = 1 - (1 - place[first]) ** powers[0]
    place[last] = place[last] ** powers[1]


def _grain(known: Floats, decimals: int | None, k: int) -> float:
    """Return the step between numbers that the column can hold; boundaries lie half-way.

    Without decimals, six digits of the values or of the spread of their middle half, whichever is
    smaller (seconds since 1970 differ in their last digits only); finer where all values but fewer
    than k have so few digits that half-way would be another value. Where the middle half is one
    value, the others count alone.
    """
    if decimals is not None:
        return 10.0**-decimals
    if len(known) == 0:
        return 1.0
    spread, others = _half_spread(known), known[known != known[len(known) // 2]]
    if spread == 0 and len(others) >= k:
        spread = _half_spread(others)
    size = min(float(np.median(np.abs(known))), spread) or spread
    step = float(10.0 ** (np.floor(np.log10(size)) - 5) if size > 0 else 0.0) or 1.0
    if size >= 2**52:
        return step
    few = (10.0**-d for d in range(9) if (np.round(known, d) != known).sum() < k)
    return min(step, next(few, step))


def _half_spread(known: Floats) -> float:
    """Return half the distance between the quartiles of sorted values: it cannot overflow."""
    n = len(known)
    return float(known[3 * n // 4] / 2 - known[n // 4] / 2)


def _half_way(value: float, grain: float) -> float:
    """Return the number nearest to `value` that lies half-way between two multiples of `grain`.

    >>> _half_way(41.0, 1.0), _half_way(40.9, 1.0), _half_way(0.26, 0.1)
    (41.5, 40.5, 0.25)
    """
    return _between(float(np.floor(value / grain)), value, grain)


def _beside(value: float, grain: float, side: int) -> float:
    """Return the boundary next to an exact value, above it (`side` 1) or below (-1).

    >>> _beside(0.3, 0.1, 1), _beside(0.3, 0.1, -1)
    (0.35, 0.25)
    """
    return _between(float(np.round(value / grain)) + (side - 1) / 2, value, grain)


def _between(whole: float, value: float, grain: float) -> float:
    """Return the middle of multiples `whole` and the next, or `value` where floats have none."""
    if not abs(whole) < 2**52:
        return float(value)
    places = _places(grain)
    middle = (whole + 0.5) * grain
    return float(middle if places > 14 else round(middle, places + 1))


def _largest_step(multiples: Floats, steps: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return the index of the largest step that divides each value (given in units)."""
    whole = np.round(multiples)
    out = np.zeros(len(whole), np.int64)
    for s, step in enumerate(steps):
        out[whole % step == 0] = s
    return out


def _cut(known: Floats, *, k: int, budget: int, grain: float) -> tuple[Floats, Floats]:
    """Cut sorted values into at most about `budget` cells of at least `k` rows.

    Returns lower and upper of each cell; NaN where an outermost interval ends, which is not told by
    its extreme. Values that can join no cell of k rows are left out; encoding sends them to the
    nearest cell.
    """
    n = len(known)
    if n < k:
        return np.zeros(0), np.zeros(0)
    values, first, counts = np.unique(known, return_index=True, return_counts=True)
    target = max(2 * k, n // budget)
    exact = counts >= max(k, target // 2)
    lower: list[float] = []
    upper: list[float] = []
    heavy = np.flatnonzero(exact)
    gaps = zip(np.r_[-1, heavy], np.r_[heavy, len(values)], strict=True)
    for before, after in gaps:
        start = 0 if before < 0 else first[before] + counts[before]
        stop = n if after == len(values) else first[after]
        if stop - start >= k:
            floor = np.nan if before < 0 else _beside(values[before], grain, 1)
            ceiling = np.nan if after == len(values) else _beside(values[after], grain, -1)
            edges = _edges(known[start:stop], k, target, grain)
            # Where values are finer than the grain, boundaries may pass each other.
            edges = [e for e in edges if not (e <= floor or e >= ceiling)]
            if not floor >= ceiling:
                lower += [floor, *edges]
                upper += [*edges, ceiling]
        if after < len(values):
            lower.append(values[after])
            upper.append(values[after])
    if len(lower) > 1:
        # Fewer than k rows beyond a light outermost value make a tail of k rows together with it;
        # beyond a heavy one, or zero, they join it.
        light = (counts[heavy] < target) & (values[heavy] != 0) if len(heavy) else [False]
        if light[0] and lower[0] == upper[0] and first[heavy[0]] > 0:
            lower[0], upper[0] = np.nan, _beside(upper[0], grain, 1)
        if light[-1] and lower[-1] == upper[-1] and values[heavy[-1]] < known[-1]:
            lower[-1], upper[-1] = _beside(lower[-1], grain, -1), np.nan
    return np.array(lower), np.array(upper)


def _edges(known: Floats, k: int, target: int, grain: float) -> list[float]:
    """Return the boundaries that cut sorted values into cells of about `target` and `k` rows."""
    m = len(known)
    edges: list[float] = []
    done = 0
    for mark in np.round(np.linspace(0, m, max(1, m // target) + 1)).astype(int)[1:-1]:
        around = known[max(0, mark - k // 2) : mark + (k + 1) // 2]
        edge = _half_way(_mean(around), grain)
        below = int(np.searchsorted(known, edge, side="right"))
        if below - done >= k and m - below >= k:
            edges.append(edge)
            done = below
    return edges


def _end(
    known: Floats,
    lower: Floats,
    upper: Floats,
    bounds: Bounds,
    k: int,
    grain: float,
) -> tuple[Floats, Floats, tuple[float, float]]:
    """Return where outermost intervals end, and the powers that keep the mean of their rows."""
    lower, upper, powers = lower.copy(), upper.copy(), [1.0, 1.0]
    if len(lower) == 1 and np.isnan(lower[0]):
        return (*_around(known, bounds, k, grain), (1.0, 1.0))
    for side, cell in enumerate((0, -1)):
        if not len(lower) or not np.isnan((lower, upper)[side][cell]):
            continue
        if side == 0:
            inner, sign = upper[0], -1.0
            distance = inner - known[known <= inner]
        else:
            inner, sign = lower[-1], 1.0
            distance = known[known > inner] - inner
        mean, width, powers[side] = _tail(distance, k)
        bound = bounds[side]
        room = width
        if bound is not None:
            # The bound is where extremes may lie; one much further out says little of these rows.
            room = min(abs(bound - inner), BOUND_REACH * width)
        elif (known * sign > 0).sum() < k:
            room = min(width, abs(inner))  # a tail does not cross zero where no k rows do
        if mean > 0 and room != width:
            width, powers[side] = room, max(0.1, round(room / mean - 1, 3))
        # Rounded towards the inner boundary, so that a tail that stops at zero does not cross it.
        end = -sign * _half_way(-sign * float(np.clip(inner + sign * width, -MAX, MAX)), grain)
        if bound is not None and abs(end - inner) > abs(bound - inner):
            end = float(bound)
        (lower, upper)[side][cell] = min(end, inner) if side == 0 else max(end, inner)
    return lower, upper, (powers[0], powers[1])


def _around(known: Floats, bounds: Bounds, k: int, grain: float) -> tuple[Floats, Floats]:
    """Return one interval over everything: as wide as a uniform one with the same mean distance."""
    n, m = len(known), max(k, len(known) // 2)
    start = (n - m) // 2
    middle = _mean(known[start : start + m])
    reach = 2 * _mean(_capped(np.abs(known - middle), k))
    low, high = (float(np.clip(middle + s * reach, -MAX, MAX)) for s in (-1, 1))
    low, high = _half_way(low, grain), _half_way(high, grain)
    low = low if bounds[0] is None else max(low, float(bounds[0]))
    high = high if bounds[1] is None else min(high, float(bounds[1]))
    return np.array([low]), np.array([max(low, high)])


def _capped(distance: Floats, k: int) -> Floats:
    """Return distances of at most `REACH` times the mean of the nearer half (k if that is more).

    A mean in which one row dominates tells that row (the dominance rule of statistical disclosure
    control, Hundepool et al. 2012, chapter 4); beyond the cap it makes no difference how far.
    """
    m = len(distance)
    near = np.sort(distance)[: max(1, m // 2, min(k, m - 1))]  # never the furthest one
    return np.minimum(distance, min(REACH * _mean(near), MAX))


def _tail(distance: Floats, k: int) -> tuple[float, float, float]:
    """Return mean, width w and power a: ``w * u ** a``, u uniform, has the moments of `distance`.

    From ``E[d] = w / (1 + a)`` and ``E[d^2] = w^2 / (1 + 2 a)``. Uniform distances give a = 1,
    exponential ones a = 2.4 and w = 3.4 means.
    """
    distance = _capped(distance, k)
    mean = _mean(distance)
    if mean == 0:
        return 0.0, 0.0, 1.0
    q = max(0.01, float(((distance / mean) ** 2).mean()) - 1)
    power = round(float(q + np.sqrt(q * q + q)), 3)
    width = min(mean, MAX / (1 + power)) * (1 + power)
    return mean, min(float(f"{width:.3g}"), MAX), power


def _mean(values: Floats) -> float:
    """Return the mean of numbers of which even the sum may be too large a number."""
    largest = float(np.abs(values).max(initial=0.0))
    return float((values / largest).mean()) * largest if largest else 0.0


def _neutral(bounds: Bounds) -> float:
    """Return a number that tells of no row: inside the declared bounds, 0 without."""
    low, high = (None if b is None else float(b) for b in bounds)
    if low is None or high is None:
        return float(np.clip(0.0, low if low is not None else -MAX, MAX if high is None else high))
    return low


def _places(unit: float) -> int:
    """Return the digits after the point that multiples of `unit` have: 2 for .25, 0 for 50."""
    return next((d for d in range(16) if round(unit, d) == unit), 16)


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
