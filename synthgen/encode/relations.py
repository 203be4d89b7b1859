"""Columns that follow from others: left out of the model, and recomputed on every row.

A generator that learns ``total = a + b`` gets it nearly right, which any reader notices. So an
exact relation is not learnt but kept: the derived column is dropped before encoding and restored
after decoding, or replaced by what is free in it. Relations are found (`encode.search`), each on
every row that the encoder is fitted on, or declared in the schema.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from synthgen.constraints import no_product, no_sum
from synthgen.encode import datetime as dt
from synthgen.encode.amounts import (
    Bools,
    Grid,
    Halves,
    product,
    quotient,
    to_product,
    to_range,
    to_total,
)
from synthgen.encode.categorical import RARE
from synthgen.encode.column import Floats, State
from synthgen.encode.functions import Function, Precision
from synthgen.encode.groups import Combined, Within
from synthgen.schema import Column


class Relation(Protocol):
    """One derived column. Frames are canonical; `columns` lists what is still to be modelled."""

    @property
    def derived(self) -> str:
        """Name of the column that follows from the others."""
        ...

    @property
    def replaced(self) -> Column | None:
        """What is modelled in its place; None: nothing."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns that must be known for what is modelled in its place to be known."""
        ...

    def reduce(self, frame: pd.DataFrame, columns: list[Column]) -> None:
        """Drop or replace the derived column, in place."""
        ...

    def restore(self, frame: pd.DataFrame, known: pd.DataFrame | None = None) -> None:
        """Recompute the derived column, in place.

        Where it would lie beyond its bounds, sources give way that are not `known`, which has a
        bool for each cell of the restored frame; None: no cell is.
        """
        ...

    def broken(self, frame: pd.DataFrame) -> Bools:
        """Return which of the (N,) rows, before they are reduced, contradict the relation."""
        ...

    def solve(self, frame: pd.DataFrame, known: pd.DataFrame) -> None:
        """Fill the sources that a known derived value decides, and mark them known, in place.

        `known` has a bool for each cell of `frame`, the derived column's included.
        """
        ...

    def settle(self, frame: pd.DataFrame, given: pd.Series, known: pd.DataFrame) -> None:
        """Let a restored `frame` keep the derived values that are `given` where they are known.

        Sources that were not known give way, in place.
        """
        ...

    def to_json(self) -> dict[str, Any]:
        """Return the relation as JSON values."""
        ...


class _Dropped:
    """What relations share that simply leave their column out."""

    derived: str

    @property
    def replaced(self) -> Column | None:
        """Nothing."""
        return None

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def settle(self, frame: pd.DataFrame, given: pd.Series, known: pd.DataFrame) -> None:
        """Do nothing: `solve` has decided the only source."""

    def reduce(self, frame: pd.DataFrame, columns: list[Column]) -> None:
        """Drop the derived column."""
        del frame[self.derived]
        columns[:] = [c for c in columns if c.name != self.derived]


@dataclass(frozen=True)
class Sum(_Dropped):
    """``derived = constant + sign * (sum of parts)``, missing if a part is.

    Attributes
    ----------
    sign, constant : float
        1 and 0 for a total; -1 for what parts leave of a constant.
    minimum, maximum : float or None
        Of `derived`; where it would lie beyond, the parts are scaled.
    grids : tuple of Grid
        What each part can be; empty: numbers of so many decimals.
    """

    derived: str
    parts: tuple[str, ...]
    decimals: int | None
    sign: float = 1.0
    constant: float = 0.0
    minimum: float | None = None
    maximum: float | None = None
    grids: tuple[Grid, ...] = ()

    def restore(self, frame: pd.DataFrame, known: pd.DataFrame | None = None) -> None:
        """Add the parts."""
        parts, (low, high) = _numbers(frame, self.parts), self._ends
        added = parts.sum(axis=1)
        rows = (added < low) | (added > high)
        if rows.any():
            wanted, free = np.clip(added, low, high)[rows], _free(known, self.parts, frame)[rows]
            parts[rows] = to_total(parts[rows], wanted, free, self._grids)
            _put(frame, self.parts, parts)
            added = parts.sum(axis=1)
        rest = self.constant + self.sign * added
        frame[self.derived] = rest if self.decimals is None else rest.round(self.decimals)

    @property
    def _grids(self) -> tuple[Grid, ...]:
        return self.grids or (Grid(self.decimals),) * len(self.parts)

    @property
    def _ends(self) -> tuple[float, float]:
        """The least and the most that parts can add up to."""
        own = Grid(self.decimals, self.minimum, self.maximum).ends
        low, high = sorted(self.sign * (end - self.constant) for end in own)
        digits = [grid.decimals for grid in self._grids]
        return Grid(
            None if None in digits else max(filter(None, digits), default=0), low, high
        ).ends

    def broken(self, frame: pd.DataFrame) -> Bools:
        """Return which totals are not the sum."""
        return self._differs(frame, frame[self.derived])

    def _differs(self, frame: pd.DataFrame, derived: pd.Series) -> Bools:
        total = self.sign * (derived - self.constant)
        return no_sum(total, [frame[part] for part in self.parts], self.decimals)

    def solve(self, frame: pd.DataFrame, known: pd.DataFrame) -> None:
        """Subtract the parts that are known from a known total."""
        for part, grid in zip(self.parts, self._grids, strict=True):
            others = [p for p in self.parts if p != part]
            rows = known[self.derived] & known[others].all(axis=1) & ~known[part]
            left = self.sign * (frame[self.derived] - self.constant)
            left -= frame[others].sum(axis=1, skipna=False)
            _fill(frame, known, part, grid.near(left.to_numpy(np.float64)), rows)

    def settle(self, frame: pd.DataFrame, given: pd.Series, known: pd.DataFrame) -> None:
        """Scale the parts that are not known to the total."""
        free = _free(known, self.parts, frame)
        rows = (known[self.derived] & given.notna()).to_numpy() & free.any(axis=1)
        rows &= self._differs(frame, given)
        parts = _numbers(frame, self.parts)
        wanted = self.sign * (given[rows].to_numpy(np.float64) - self.constant)
        parts[rows] = to_total(parts[rows], wanted, free[rows], self._grids)
        _put(frame, self.parts, parts)

    def to_json(self) -> dict[str, Any]:
        """Return the names."""
        return {"type": "sum", **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Difference(_Dropped):
    """``derived = total - other``: one part of a sum whose values are missing together.

    Mostly the larger one: where the total and the smaller part are learnt both of their tails are
    right; learnt parts would have to be large on the same row for a large total.

    Attributes
    ----------
    minimum, maximum : float or None
        Of `derived`; where it would lie beyond, the total is moved, and the other part where the
        total cannot.
    grids : tuple of two Grid
        What the total and the other part can be; empty: numbers of so many decimals. What rounding
        leaves of `derived` goes to the other part.
    """

    derived: str
    total: str
    other: str
    decimals: int | None
    minimum: float | None = None
    maximum: float | None = None
    grids: tuple[Grid, ...] = ()

    def restore(self, frame: pd.DataFrame, known: pd.DataFrame | None = None) -> None:
        """Subtract; keep the relation where the rest would be too small or too large."""
        left = frame[self.total] - frame[self.other]
        rest = left.clip(self.minimum, self.maximum)
        self._move(frame, rest, ~(rest == left), known)
        if self.decimals is not None:
            whole = rest.round(self.decimals)
            rounded = ((whole - rest).abs() > 1e-9 * frame[self.total].abs()).to_numpy()
            other = self._grids[1].near((frame[self.total] - whole).to_numpy())
            free = _free(known, (self.other,), frame)[:, 0]
            frame[self.other] = frame[self.other].mask(rounded & free, other)
            rest = whole
        frame[self.derived] = rest

    @property
    def _grids(self) -> tuple[Grid, ...]:
        return self.grids or (Grid(self.decimals),) * 2

    def _move(
        self, frame: pd.DataFrame, rest: pd.Series, rows: pd.Series, known: pd.DataFrame | None
    ) -> None:
        """Let the total of some rows, then the other part, leave `rest`."""
        names, grids = (self.total, self.other), self._grids
        free = _free(known, names, frame) & rows.to_numpy()[:, None]
        total, other = _numbers(frame, names).T
        total = np.where(free[:, 0], grids[0].near(rest.to_numpy() + other), total)
        left = grids[1].near(total - rest.to_numpy())
        other = np.where(free[:, 1] & ~np.isnan(left), left, other)
        _put(frame, names, np.column_stack([total, other]))

    def broken(self, frame: pd.DataFrame) -> Bools:
        """Return which totals are not the sum, or are missing without both parts."""
        parts = [frame[name] for name in (self.total, self.derived, self.other)]
        gone = np.column_stack([np.isnan(p.to_numpy(np.float64)) for p in parts])
        apart = gone.any(axis=1) != gone.all(axis=1)
        return np.asarray(apart | no_sum(parts[0], parts[1:], self.decimals))

    def solve(self, frame: pd.DataFrame, known: pd.DataFrame) -> None:
        """Add the parts, or subtract the one that is known."""
        rows = known[self.derived] & known[self.other] & ~known[self.total]
        _fill(frame, known, self.total, frame[self.derived] + frame[self.other], rows)
        rows = known[self.derived] & known[self.total] & ~known[self.other]
        _fill(frame, known, self.other, frame[self.total] - frame[self.derived], rows)

    def settle(self, frame: pd.DataFrame, given: pd.Series, known: pd.DataFrame) -> None:
        """Raise the total to what a known part and the drawn other one make."""
        rows = known[self.derived] & ~known[self.total] & given.notna()
        self._move(frame, given, rows, known)

    def to_json(self) -> dict[str, Any]:
        """Return the names."""
        return {"type": "difference", **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Product(_Dropped):
    """``derived = factor * product of parts``, rounded to `decimals`; missing if a part is.

    Attributes
    ----------
    minimum, maximum : float or None
        Of `derived`; where it would lie beyond, a part is moved.
    grids : tuple of Grid
        What each part can be; empty: any number.
    halves : {"even", "up", "down"}
        Where a product half-way between two numbers is rounded to.
    """

    derived: str
    parts: tuple[str, ...]
    decimals: int | None
    factor: float = 1.0
    minimum: float | None = None
    maximum: float | None = None
    grids: tuple[Grid, ...] = ()
    halves: Halves = "even"

    def restore(self, frame: pd.DataFrame, known: pd.DataFrame | None = None) -> None:
        """Multiply and round."""
        parts, made = _numbers(frame, self.parts), Grid(self.decimals, self.minimum, self.maximum)
        if (self.minimum, self.maximum) != (None, None):
            free = _free(known, self.parts, frame)
            parts = to_range(parts, free, self._grids, self.factor, made)
            _put(frame, self.parts, parts)
        frame[self.derived] = product(parts, self.factor, self.decimals, self.halves)

    @property
    def _grids(self) -> tuple[Grid, ...]:
        return self.grids or (Grid(),) * len(self.parts)

    def broken(self, frame: pd.DataFrame) -> Bools:
        """Return which values are not the product, rounded as it is."""
        if self.decimals is None:
            return self._differs(frame, frame[self.derived])
        made = product(_numbers(frame, self.parts), self.factor, self.decimals, self.halves)
        have = frame[self.derived].to_numpy(np.float64)
        return np.asarray((made != have) & ~(np.isnan(made) & np.isnan(have)))

    def _differs(self, frame: pd.DataFrame, derived: pd.Series) -> Bools:
        parts = [frame[part] for part in self.parts]
        return no_product(derived, parts, self.decimals, self.factor)

    def solve(self, frame: pd.DataFrame, known: pd.DataFrame) -> None:
        """Divide by the parts that are known."""
        for i, (part, grid) in enumerate(zip(self.parts, self._grids, strict=True)):
            is_known = known[[p for p in self.parts if p != part]].all(axis=1)
            derived = frame[self.derived].to_numpy(np.float64)
            own = quotient(_numbers(frame, self.parts), i, derived, self.factor)
            rows = known[self.derived] & is_known & ~known[part] & np.isfinite(own)
            _fill(frame, known, part, grid.near(own), rows)

    def settle(self, frame: pd.DataFrame, given: pd.Series, known: pd.DataFrame) -> None:
        """Divide by the drawn parts, for one that is not known."""
        free = _free(known, self.parts, frame)
        rows = (known[self.derived] & given.notna()).to_numpy() & free.any(axis=1)
        rows &= self._differs(frame, given)
        parts, wanted = _numbers(frame, self.parts), given[rows].to_numpy(np.float64)
        parts[rows] = to_product(
            parts[rows], wanted, free[rows], self._grids, self.factor, self.decimals
        )
        _put(frame, self.parts, parts)

    def to_json(self) -> dict[str, Any]:
        """Return names and factor."""
        return {"type": "product", **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Lookup(_Dropped):
    """Each level of a categorical column decides the value of another column.

    Attributes
    ----------
    levels, values : tuple
        The pairs; each level is held by at least k rows. A level that is not listed takes the last
        value, which is that of the most rows.
    """

    derived: str
    source: str
    levels: tuple[str | None, ...]
    values: tuple[float | str | bool | None, ...]

    def restore(self, frame: pd.DataFrame, known: pd.DataFrame | None = None) -> None:
        """Look up every row's level."""
        table = dict(zip(self.levels, self.values, strict=True))
        codes, keys = pd.factorize(frame[self.source])
        # A missing level has code -1, which takes the last value.
        missing = [None] if (codes < 0).any() else []
        found = [table.get(key, self.values[-1]) for key in [*keys, *missing]]
        frame[self.derived] = pd.Series(found).take(codes).set_axis(frame.index)

    def broken(self, frame: pd.DataFrame) -> Bools:
        """Return which rows of a listed level have another value than it decides."""
        expected = frame[[self.source]].copy()
        self.restore(expected)
        have, want = (f[self.derived].astype(object) for f in (frame, expected))
        same = (have == want) | (have.isna() & want.isna())
        source = frame[self.source]
        listed = source.isin([v for v in self.levels if v is not None])
        if None in self.levels:
            listed |= source.isna()
        return np.asarray(listed & ~same.fillna(False), bool)

    def deciding(self, values: pd.Series) -> dict[str | None, Bools]:
        """Return for each level, `RARE` for all others, which (N,) values it decides."""
        missing = values.isna().to_numpy(bool)
        return {
            level: missing if value is None else (values == value).fillna(False).to_numpy(bool)
            for level, value in zip(self.levels, self.values, strict=True)
        }

    def solve(self, frame: pd.DataFrame, known: pd.DataFrame) -> None:
        """Fill the level of a value that only one level decides."""
        decided = self.deciding(frame[self.derived])
        rare = decided.pop(RARE)
        levels, fits = list(decided), np.stack(list(decided.values()))
        rows = known[self.derived] & ~known[self.source] & (fits.sum(axis=0) == 1) & ~rare
        level = pd.Series([levels[i] for i in fits.argmax(axis=0)], index=frame.index)
        _fill(frame, known, self.source, level.astype(frame[self.source].dtype), rows)

    def to_json(self) -> dict[str, Any]:
        """Return the pairs."""
        return {"type": "lookup", **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Gap:
    """A datetime that never lies before another one is modelled as the time between them.

    Attributes
    ----------
    derived, earlier : str
    unit : float
        Microseconds of one unit of the gap: the derived column's resolution.
    timezone : str or None
        Of both.
    middle : float
        Wall-clock microseconds since 1970 that stand in for a missing earlier datetime; the gap may
        then be negative. Where a draw mistakes such a gap for another, dates stay near the others.
    """

    derived: str
    earlier: str
    unit: float
    timezone: str | None = None
    middle: float = 0.0

    @property
    def replaced(self) -> Column | None:
        """A whole number of units."""
        return Column(name=self.derived, kind="numeric", nullable=True, decimals=0)

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the earlier datetime."""
        return (self.earlier,)

    def reduce(self, frame: pd.DataFrame, columns: list[Column]) -> None:
        """Replace the later datetime by the gap in units, a number."""
        gap = dt.to_microseconds(frame[self.derived]) - self._start(frame)
        frame[self.derived] = np.round(gap / self.unit)
        _replace(columns, self)

    def restore(self, frame: pd.DataFrame, known: pd.DataFrame | None = None) -> None:
        """Add the gap to the earlier datetime."""
        gap = frame[self.derived].to_numpy(np.float64)
        gap = np.where(frame[self.earlier].isna(), gap, np.maximum(gap, 0)) * self.unit
        frame[self.derived] = dt.as_datetimes(self._start(frame) + gap, self.timezone)

    def _start(self, frame: pd.DataFrame) -> Floats:
        """Return the first whole unit that does not lie before the earlier datetime."""
        earlier = dt.to_microseconds(frame[self.earlier])
        return np.ceil(np.where(np.isnan(earlier), self.middle, earlier) / self.unit) * self.unit

    def broken(self, frame: pd.DataFrame) -> Bools:
        """Return which rows lie before the earlier datetime."""
        a, b = (dt.to_microseconds(frame[n]) for n in (self.earlier, self.derived))
        return np.asarray(b < a)

    def solve(self, frame: pd.DataFrame, known: pd.DataFrame) -> None:
        """Do nothing: a date alone decides no other."""

    def settle(self, frame: pd.DataFrame, given: pd.Series, known: pd.DataFrame) -> None:
        """Move the earlier datetime by as much as the later one was off."""
        rows = known[self.derived] & ~known[self.earlier] & given.notna()
        moved = frame[self.earlier] + (given - frame[self.derived])
        frame[self.earlier] = frame[self.earlier].where(~rows, moved)

    def to_json(self) -> dict[str, Any]:
        """Return names and unit."""
        return {"type": "gap", **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Excess:
    """A number that never lies below another one is modelled as what it exceeds it by.

    Where the lower one is missing, as itself.

    Attributes
    ----------
    minimum, maximum : float or None
        Of `derived`, and the maximum of all that it may not exceed itself: the lower number stays
        below that, too.
    """

    derived: str
    lower: str
    decimals: int | None
    minimum: float | None = None
    maximum: float | None = None

    @property
    def replaced(self) -> Column | None:
        """A number."""
        return Column(name=self.derived, kind="numeric", nullable=True, decimals=self.decimals)

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the lower number."""
        return (self.lower,)

    def reduce(self, frame: pd.DataFrame, columns: list[Column]) -> None:
        """Subtract the lower one."""
        excess = frame[self.derived] - frame[self.lower].fillna(0.0)
        frame[self.derived] = excess if self.decimals is None else excess.round(self.decimals)
        _replace(columns, self)

    def restore(self, frame: pd.DataFrame, known: pd.DataFrame | None = None) -> None:
        """Add the lower one."""
        free = _free(known, (self.lower,), frame)[:, 0]
        excess, lower = frame[self.derived], frame[self.lower]
        frame[self.lower] = lower = lower.where(~free, lower.clip(upper=self.maximum))
        value = (lower + excess.clip(lower=0)).where(lower.notna(), excess)
        value = value if self.decimals is None else value.round(self.decimals)
        frame[self.derived] = value.clip(self.minimum, self.maximum)

    def broken(self, frame: pd.DataFrame) -> Bools:
        """Return which rows lie below."""
        return np.asarray((frame[self.derived] < frame[self.lower]).fillna(False), bool)

    def solve(self, frame: pd.DataFrame, known: pd.DataFrame) -> None:
        """Do nothing: a number alone decides no other."""

    def settle(self, frame: pd.DataFrame, given: pd.Series, known: pd.DataFrame) -> None:
        """Move the lower number by as much as the upper one was off."""
        rows = known[self.derived] & ~known[self.lower] & given.notna()
        moved = frame[self.lower] + (given - frame[self.derived])
        frame[self.lower] = frame[self.lower].where(~rows, moved)

    def to_json(self) -> dict[str, Any]:
        """Return the names."""
        return {"type": "excess", **dataclasses.asdict(self)}


def _numbers(frame: pd.DataFrame, names: Sequence[str]) -> Floats:
    """Return the columns as (N, P) numbers of one's own."""
    return frame[list(names)].to_numpy(np.float64, copy=True)


def _put(frame: pd.DataFrame, names: Sequence[str], values: Floats) -> None:
    """Set the columns to (N, P) numbers."""
    for name, column in zip(names, values.T, strict=True):
        frame[name] = column


def _free(known: pd.DataFrame | None, names: Sequence[str], frame: pd.DataFrame) -> Bools:
    """Return which cells (N, P) of the columns are not known."""
    if known is None:
        return np.ones((len(frame), len(names)), bool)
    return ~known[list(names)].to_numpy(bool)


def _fill(
    frame: pd.DataFrame,
    known: pd.DataFrame,
    name: str,
    values: pd.Series | Floats,
    rows: pd.Series,
) -> None:
    """Set the cells of `rows` in one column, and mark them known."""
    frame[name] = frame[name].where(~rows, values)
    known[name] |= rows


def _replace(columns: list[Column], relation: Relation) -> None:
    """Put what is modelled in the place of the derived column."""
    place = [c.name for c in columns].index(relation.derived)
    assert relation.replaced is not None
    columns[place] = relation.replaced


def from_json(state: State) -> Relation:
    """Rebuild what `to_json` wrote."""
    kinds: Mapping[str, Any] = {
        "sum": Sum,
        "difference": Difference,
        "product": Product,
        "excess": Excess,
        "lookup": Lookup,
        "gap": Gap,
        "combined": Combined,
        "within": Within,
        "function": Function,
    }
    values = {
        k: Precision(**v) if k == "precision" else _value(v)
        for k, v in state.items()
        if k != "type"
    }
    relation: Relation = kinds[state["type"]](**values)
    return relation


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_value, value))
    return Grid(**value) if isinstance(value, dict) else value


def reduce(
    relations: Iterable[Relation], frame: pd.DataFrame, columns: Iterable[Column]
) -> tuple[pd.DataFrame, list[Column]]:
    """Return the frame and the columns that are left to model, in order."""
    frame, columns = frame.copy(deep=False), list(columns)
    for relation in relations:
        relation.reduce(frame, columns)
    return frame, columns
