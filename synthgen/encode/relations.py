"""Columns that follow from others: left out of the model, and recomputed on every row.

A generator that learns ``total = a + b`` gets it nearly right, which any reader notices. So an
exact relation is not learnt but kept: the derived column is dropped before encoding and restored
after decoding, or replaced by what is free in it. Relations are found (`encode.search`), each on
every row that the encoder is fitted on, or declared in the schema.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from synthgen.constraints import no_product, no_sum, times
from synthgen.encode import datetime as dt
from synthgen.encode.categorical import RARE
from synthgen.encode.column import Floats, State
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

    def restore(self, frame: pd.DataFrame) -> None:
        """Recompute the derived column, in place."""
        ...

    def broken(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
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
    minimum : float or None
        Of `derived`: where parts would leave less of the constant, they are scaled down.
    """

    derived: str
    parts: tuple[str, ...]
    decimals: int | None
    sign: float = 1.0
    constant: float = 0.0
    minimum: float | None = None

    def restore(self, frame: pd.DataFrame) -> None:
        """Add the parts."""
        total = self._added(frame)
        if self.sign < 0 and self.minimum is not None:
            most = self.constant - self.minimum
            share = (most / total).where(total > most, 1.0)
            digits = 10.0 ** (0 if self.decimals is None else self.decimals)
            for part in self.parts:
                # Rounded down, so that rounding cannot leave too little again.
                scaled = np.floor(frame[part] * share * digits + 1e-9) / digits
                frame[part] = frame[part].where(~(total > most), scaled)
            total = self._added(frame)
        rest = self.constant + self.sign * total
        frame[self.derived] = rest if self.decimals is None else rest.round(self.decimals)

    def _added(self, frame: pd.DataFrame) -> pd.Series:
        return frame[list(self.parts)].sum(axis=1, skipna=False)

    def broken(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Return which totals are not the sum."""
        total = self.sign * (frame[self.derived] - self.constant)
        return no_sum(total, [frame[part] for part in self.parts], self.decimals)

    def solve(self, frame: pd.DataFrame, known: pd.DataFrame) -> None:
        """Subtract the parts that are known from a known total."""
        for part in self.parts:
            others = [p for p in self.parts if p != part]
            rows = known[self.derived] & known[others].all(axis=1) & ~known[part]
            left = self.sign * (frame[self.derived] - self.constant)
            _fill(frame, known, part, left - frame[others].sum(axis=1, skipna=False), rows)

    def settle(self, frame: pd.DataFrame, given: pd.Series, known: pd.DataFrame) -> None:
        """Scale the parts that are not known to the total."""
        parts = list(self.parts)
        free = ~known[parts]
        rows = known[self.derived] & (free.sum(axis=1) > 1) & given.notna()
        drawn = frame[parts].where(free, 0.0)
        wanted = self.sign * (given - self.constant) - frame[parts].where(~free, 0.0).sum(axis=1)
        share = (wanted / drawn.sum(axis=1)).replace([np.inf, -np.inf], np.nan)
        left = wanted
        for part in parts:
            own = (drawn[part] * share).fillna(0.0)
            own = own if self.decimals is None else own.round(self.decimals)
            frame[part] = frame[part].where(~(rows & free[part]), own)
            left = left - own.where(free[part], 0.0)
        # What rounding leaves goes to the last free part.
        last = free.iloc[:, ::-1].idxmax(axis=1)
        for part in parts:
            frame[part] = frame[part].where(~(rows & (last == part)), frame[part] + left)

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
        Of `derived`; where it would lie beyond, the total is moved.
    other_decimals : int or None
        Of `other`, to which goes what rounding leaves of `derived`.
    """

    derived: str
    total: str
    other: str
    decimals: int | None
    minimum: float | None = None
    maximum: float | None = None
    other_decimals: int | None = None

    def restore(self, frame: pd.DataFrame) -> None:
        """Subtract; keep the relation where the rest would be too small or too large."""
        left = frame[self.total] - frame[self.other]
        rest = left.clip(self.minimum, self.maximum)
        frame[self.total] = frame[self.total].where(rest == left, rest + frame[self.other])
        if self.decimals is not None:
            whole = rest.round(self.decimals)
            rounded = (whole - rest).abs() > 1e-9 * frame[self.total].abs()
            other = frame[self.total] - whole
            other = other if self.other_decimals is None else other.round(self.other_decimals)
            frame[self.other] = frame[self.other].where(~rounded, other)
            rest = whole
        frame[self.derived] = rest

    def broken(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
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
        frame[self.total] = frame[self.total].where(~rows, given + frame[self.other])

    def to_json(self) -> dict[str, Any]:
        """Return the names."""
        return {"type": "difference", **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Product(_Dropped):
    """``derived = factor * product of parts``, rounded to `decimals`; missing if a part is."""

    derived: str
    parts: tuple[str, ...]
    decimals: int | None
    factor: float = 1.0

    def restore(self, frame: pd.DataFrame) -> None:
        """Multiply and round."""
        frame[self.derived] = self._product(frame)

    def _product(self, frame: pd.DataFrame) -> Floats:
        x = frame[list(self.parts)].to_numpy(np.float64).prod(axis=1)
        product = times(x, self.factor)
        return product if self.decimals is None else product.round(self.decimals)

    def broken(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Return which values are not the product."""
        parts = [frame[part] for part in self.parts]
        return no_product(frame[self.derived], parts, self.decimals, self.factor)

    def solve(self, frame: pd.DataFrame, known: pd.DataFrame) -> None:
        """Divide by the parts that are known."""
        for part in self.parts:
            others = frame[[p for p in self.parts if p != part]].prod(axis=1, skipna=False)
            is_known = known[[p for p in self.parts if p != part]].all(axis=1)
            rows = known[self.derived] & is_known & ~known[part] & (others != 0)
            _fill(frame, known, part, frame[self.derived] / (others * self.factor), rows)

    def settle(self, frame: pd.DataFrame, given: pd.Series, known: pd.DataFrame) -> None:
        """Divide by the drawn parts, for the first one that is not known."""
        free = ~known[list(self.parts)]
        for part in self.parts:
            others = frame[[p for p in self.parts if p != part]].prod(axis=1, skipna=False)
            first = free[part] & (free.idxmax(axis=1) == part)
            rows = known[self.derived] & first & (others != 0) & given.notna()
            frame[part] = frame[part].where(~rows, given / (others * self.factor))

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

    def restore(self, frame: pd.DataFrame) -> None:
        """Look up every row's level."""
        table = dict(zip(self.levels, self.values, strict=True))
        codes, keys = pd.factorize(frame[self.source])
        # A missing level has code -1, which takes the last value.
        missing = [None] if (codes < 0).any() else []
        found = [table.get(key, self.values[-1]) for key in [*keys, *missing]]
        frame[self.derived] = pd.Series(found).take(codes).set_axis(frame.index)

    def broken(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
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

    def deciding(self, values: pd.Series) -> dict[str | None, npt.NDArray[np.bool_]]:
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

    def restore(self, frame: pd.DataFrame) -> None:
        """Add the gap to the earlier datetime."""
        gap = frame[self.derived].to_numpy(np.float64)
        gap = np.where(frame[self.earlier].isna(), gap, np.maximum(gap, 0)) * self.unit
        frame[self.derived] = dt.as_datetimes(self._start(frame) + gap, self.timezone)

    def _start(self, frame: pd.DataFrame) -> Floats:
        """Return the first whole unit that does not lie before the earlier datetime."""
        earlier = dt.to_microseconds(frame[self.earlier])
        return np.ceil(np.where(np.isnan(earlier), self.middle, earlier) / self.unit) * self.unit

    def broken(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
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
    """

    derived: str
    lower: str
    decimals: int | None

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

    def restore(self, frame: pd.DataFrame) -> None:
        """Add the lower one."""
        excess, lower = frame[self.derived], frame[self.lower]
        value = (lower + excess.clip(lower=0)).where(lower.notna(), excess)
        frame[self.derived] = value if self.decimals is None else value.round(self.decimals)

    def broken(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
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


def _fill(
    frame: pd.DataFrame, known: pd.DataFrame, name: str, values: pd.Series, rows: pd.Series
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
    }
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in state.items() if k != "type"}
    relation: Relation = kinds[state["type"]](**values)
    return relation


def reduce(
    relations: Iterable[Relation], frame: pd.DataFrame, columns: Iterable[Column]
) -> tuple[pd.DataFrame, list[Column]]:
    """Return the frame and the columns that are left to model, in order."""
    frame, columns = frame.copy(deep=False), list(columns)
    for relation in relations:
        relation.reduce(frame, columns)
    return frame, columns
