"""Numbers that are a function of one other: its logarithm or square, in another unit, centred."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from synthgen.encode.amounts import Grid
from synthgen.encode.column import Floats
from synthgen.schema import Column

Bools = npt.NDArray[np.bool_]
Curve = Callable[[Floats], Floats]

#: What may be done to a number, and what undoes it where there is one answer.
FORMS: Mapping[str, tuple[Curve, Curve]] = MappingProxyType(
    {
        "line": (lambda x: x, lambda x: x),
        "square": (np.square, np.sqrt),
        "log": (np.log, np.exp),
        "log10": (np.log10, lambda x: 10.0**x),
        "log2": (np.log2, np.exp2),
        "log1p": (np.log1p, np.expm1),
        "reciprocal": (np.reciprocal, np.reciprocal),
        "sqrt": (np.sqrt, np.square),
        "exp": (np.exp, np.log),
    }
)
#: Fewer digits after the point are all that a number has.
FINE = 5
#: A function whose last digits differ more often is not the one that the numbers come from.
MOST = 0.5
#: Fewer different values lie on many curves.
MIN_VALUES = 10
#: What a number of seven digits has lost, as a share, a float32, a float64; and what is lost of the
#: largest when numbers are added.
SEVEN, SINGLE, DOUBLE, ADDED = 6e-7, 1.2e-7, 4e-15, 1e-15
#: Significant digits that programs write; the last stands for all of a float64.
DIGITS = (7, 15, 17)
#: Rows that a function must fit before all rows are looked at.
PROBE = 24


@dataclass(frozen=True)
class Precision:
    """What a column of floats keeps of a number.

    Attributes
    ----------
    decimals : int or None
        Digits after the point.
    digits : int
        Significant digits, one of `DIGITS`.
    single : bool
        Whether they are those of a float32.
    """

    decimals: int | None = None
    digits: int = DIGITS[-1]
    single: bool = False

    @classmethod
    def of(cls, values: Floats, decimals: int | None) -> Precision:
        """Return that of (N,) values. Cents are as they are, however few digits there are."""
        if decimals is not None and decimals < FINE:
            return cls(decimals)
        known = values[~np.isnan(values)]
        digits = next(d for d in DIGITS if (_significant(known, d) == known).all())
        if decimals is not None and np.abs(known).max(initial=0) < 10.0 ** (digits - decimals):
            digits = DIGITS[-1]  # no number has more of them anyway
        lost = np.abs(known.astype(np.float32) - known)
        return cls(decimals, digits, bool((lost <= 1e-14 * np.abs(known)).all()))

    @property
    def noise(self) -> float:
        """What is lost, as a share of a number."""
        if self.digits == DIGITS[0]:
            return SEVEN
        return SINGLE if self.single else DOUBLE

    def round(self, values: Floats) -> Floats:
        """Return (N,) numbers as the column has them."""
        if self.single:
            values = values.astype(np.float32).astype(np.float64)
        values = _significant(values, self.digits)
        return values if self.decimals is None else values.round(self.decimals)


def _significant(values: Floats, digits: int) -> Floats:
    """Return (N,) numbers rounded to so many significant digits, as their text would be read.

    >>> _significant(np.array([1.38629436, -123456789.0, 0.0]), 7).tolist()
    [1.386294, -123456800.0, 0.0]
    """
    if digits == DIGITS[-1]:
        return values
    each, places = np.unique(values, return_inverse=True)
    return np.array([float(f"{value:.{digits}g}") for value in each.tolist()])[places]


@dataclass(frozen=True)
class Function:
    """``derived = intercept + slope * form(source)``, rounded; missing where the source is.

    Attributes
    ----------
    form : str
        Key of `FORMS`.
    precision : Precision
        Of `derived`.
    grid : Grid
        What the source can be.
    """

    derived: str
    source: str
    form: str
    slope: float
    intercept: float
    precision: Precision = field(default_factory=Precision)
    grid: Grid = field(default_factory=Grid)

    @property
    def replaced(self) -> Column | None:
        """Nothing."""
        return None

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def reduce(self, frame: pd.DataFrame, columns: list[Column]) -> None:
        """Drop the derived column."""
        del frame[self.derived]
        columns[:] = [c for c in columns if c.name != self.derived]

    def restore(self, frame: pd.DataFrame, known: pd.DataFrame | None = None) -> None:
        """Compute; a drawn source that has no such function becomes the least of the others.

        A known one stays, and the derived cell is missing.
        """
        x = frame[self.source].to_numpy(np.float64, copy=True)
        y = self._curve(x)
        lost = ~np.isfinite(y) & ~np.isnan(x)
        if known is not None:
            lost &= ~known[self.source].to_numpy(bool)
        if lost.any() and np.isfinite(y).any():
            x[lost] = x[np.isfinite(y)].min()
            frame[self.source], y = x, self._curve(x)
        frame[self.derived] = self.precision.round(np.where(np.isfinite(y), y, np.nan))

    def broken(self, frame: pd.DataFrame) -> Bools:
        """Return which values are not the function's, but for noise."""
        x, y = (frame[name].to_numpy(np.float64) for name in (self.source, self.derived))
        off = np.abs(self.precision.round(self._curve(x)) - y)
        apart = np.isnan(x) != np.isnan(y)
        return np.asarray(apart | (~(off <= _room(y, None, self.precision.noise)) & ~np.isnan(x)))

    def agrees(self, frame: pd.DataFrame) -> float:
        """Return the share of known values that are the function's to the last digit."""
        x, y = (frame[name].dropna().to_numpy(np.float64) for name in (self.source, self.derived))
        return float((self.precision.round(self._curve(x)) == y).mean())

    def source_ends(self, low: float, high: float) -> tuple[float, float] | None:
        """Return ends of the source, for all derived values between two; None if there are none.

        They may hold more: rounded values are rounded either way, and a square has two roots.

        >>> [round(end, 2) for end in Function("y", "x", "log", 1.0, 0.0).source_ends(0.0, 1.0)]
        [1.0, 2.72]
        """
        ends = np.array([low, high], np.float64)
        room = _room(np.where(np.isfinite(ends), ends, 0.0), self.precision.decimals, SEVEN)
        first, last = np.sort((ends + np.array([-1, 1]) * room - self.intercept) / self.slope)
        if self.form == "square":
            root = np.sqrt(max(last, 0.0))
            return -float(root), float(root)
        if self.form == "reciprocal" and first <= 0:
            return None
        if self.form in ("sqrt", "exp"):
            first, last = max(first, 0.0), max(last, 0.0)
        with np.errstate(all="ignore"):
            undone = np.sort(FORMS[self.form][1](np.array([first, last])))
        return float(undone[0]), float(undone[1])

    def solve(self, frame: pd.DataFrame, known: pd.DataFrame) -> None:
        """Undo the function where the derived value is known and the source is not."""
        y = (frame[self.derived].to_numpy(np.float64) - self.intercept) / self.slope
        with np.errstate(all="ignore"):
            x = self.grid.near(FORMS[self.form][1](y))
        rows = known[self.derived] & ~known[self.source] & np.isfinite(x)
        frame[self.source] = frame[self.source].mask(rows, x)
        known[self.source] |= rows

    def settle(self, frame: pd.DataFrame, given: pd.Series, known: pd.DataFrame) -> None:
        """Keep a given value: the source that was solved for it may be rounded."""
        frame[self.derived] = frame[self.derived].mask(known[self.derived] & given.notna(), given)

    def to_json(self) -> dict[str, Any]:
        """Return names, form and numbers."""
        return {"type": "function", **dataclasses.asdict(self)}

    def _curve(self, x: Floats) -> Floats:
        with np.errstate(all="ignore"):
            return self.intercept + self.slope * FORMS[self.form][0](x)


def _room(values: Floats, decimals: int | None, noise: float) -> Floats:
    """Return by how much (N,) values may be off: half a last digit, and their noise."""
    size = np.abs(values)
    room: Floats = noise * size + ADDED * np.nanmax(size, initial=0.0)
    return room if decimals is None else room + 0.5 * 10.0**-decimals


@np.errstate(all="ignore")  # what is no number is no function
def functions(
    frame: pd.DataFrame, values: Mapping[str, Floats], columns: list[Column], min_proof: int
) -> list[Function]:
    """Return the numbers among `values` that are a function of another one on every row.

    The column with more digits is derived, and none twice. What others are derived from may be
    derived itself: it comes after them, and so is computed before.
    """
    by_name = {c.name: c for c in columns}
    found: list[Function] = []
    for form in FORMS:
        for source, derived in _candidates(values, form, min_proof):
            own, other = by_name[derived], by_name[source]
            if {derived, source} & {r.derived for r in found} or _digits(other) > _digits(own):
                continue
            x, y = values[source], values[derived]
            precision = Precision.of(y, own.decimals)
            fitted = _fit(x, y, form, precision)
            if fitted is None:
                continue
            relation = Function(derived, source, form, *fitted, precision, Grid.of(other))
            if not relation.broken(frame).any() and relation.agrees(frame) > MOST:
                found.append(relation)
    return found


def _digits(column: Column) -> float:
    return np.inf if column.decimals is None else column.decimals


def _candidates(
    values: Mapping[str, Floats], form: str, min_proof: int
) -> Iterator[tuple[str, str]]:
    """Yield sources and what may be their function, by a few rows."""
    names = list(values)
    table = np.stack(list(values.values())) if names else np.zeros((0, 0))
    missing = np.isnan(table)
    varied = [len(np.unique(row[~np.isnan(row)])) >= MIN_VALUES for row in table]
    for s, source in enumerate(names):
        rows = np.flatnonzero(~missing[s])
        if not varied[s] or len(rows) < min_proof:
            continue
        rows = rows[np.linspace(0, len(rows) - 1, PROBE).astype(int)]
        x = FORMS[form][0](table[s, rows])
        if not np.isfinite(x).all() or np.ptp(x) == 0:
            continue
        x = x - x.mean()
        y = table[:, rows]
        y = y - y.mean(axis=1, keepdims=True)
        off = np.abs(y - (y @ x / (x @ x))[:, None] * x).max(axis=1)
        # Only a sieve: rounding moves the line of few rows, so it is wide.
        near = off <= 1e-3 * np.ptp(y, axis=1)
        for d in np.flatnonzero(near):
            if d != s and varied[d] and np.array_equal(missing[s], missing[d]):
                yield source, names[d]


def _fit(x: Floats, y: Floats, form: str, precision: Precision) -> tuple[float, float] | None:
    """Return slope and intercept with the fewest digits that fit every row, or None."""
    known = ~np.isnan(x) & ~np.isnan(y)
    x, y = FORMS[form][0](x[known]), y[known]
    if not np.isfinite(x).all():
        return None
    room = _room(y, precision.decimals, precision.noise)
    centred = x - x.mean()
    middle = float(centred @ (y - y.mean()) / (centred @ centred))
    for slope in _simplest(middle):
        low, high = (y - room - slope * x).max(), (y + room - slope * x).min()
        if low <= high:
            between = float(low + high) / 2
            return slope, next(i for i in (0.0, *_simplest(between), between) if low <= i <= high)
    return None


def _simplest(value: float) -> Iterator[float]:
    """Yield numbers of 1 to 16 digits, and such a part of one, each nearer to `value`.

    >>> [x for x, _ in zip(_simplest(5 / 9), range(4))]
    [0.6, 0.5, 0.56, 0.5555555555555556]
    """
    for digits in range(1, 17):
        yield float(f"{value:.{digits}g}")
        if value:
            yield 1 / float(f"{1 / value:.{digits}g}")
