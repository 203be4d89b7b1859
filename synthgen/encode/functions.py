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
#: Fewer different values lie on many curves.
MIN_VALUES = 10
#: What a number of seven digits, or a float32, has lost, as a share; and a float64.
SINGLE, DOUBLE = 6e-7, 1e-14
#: Rows that a function must fit before all rows are looked at.
PROBE = 24


@dataclass(frozen=True)
class Function:
    """``derived = intercept + slope * form(source)``, rounded; missing where the source is.

    Attributes
    ----------
    form : str
        Key of `FORMS`.
    decimals : int or None
        Of `derived`.
    noise : float
        By what share of it `derived` may be off: what its digits lose.
    grid : Grid
        What the source can be.
    """

    derived: str
    source: str
    form: str
    slope: float
    intercept: float
    decimals: int | None
    noise: float = DOUBLE
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
        """Compute; a source that has no such function becomes the nearest of the others."""
        x = frame[self.source].to_numpy(np.float64, copy=True)
        y = self._curve(x)
        lost = ~np.isfinite(y) & ~np.isnan(x)
        if lost.any() and np.isfinite(y).any():
            x[lost] = x[np.isfinite(y)].min()
            frame[self.source], y = x, self._curve(x)
        frame[self.derived] = self._rounded(y)

    def broken(self, frame: pd.DataFrame) -> Bools:
        """Return which values are not the function's, but for noise."""
        x, y = (frame[name].to_numpy(np.float64) for name in (self.source, self.derived))
        off = np.abs(self._rounded(self._curve(x)) - y)
        apart = np.isnan(x) != np.isnan(y)
        return np.asarray(apart | (~(off <= _room(y, None, self.noise)) & ~np.isnan(x)))

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

    def _rounded(self, y: Floats) -> Floats:
        return y if self.decimals is None else y.round(self.decimals)


def _room(values: Floats, decimals: int | None, noise: float) -> Floats:
    """Return by how much (N,) values may be off: half a last digit, and their noise."""
    size = np.abs(values)
    room: Floats = noise * size + DOUBLE * np.nanmax(size, initial=0.0)
    return room if decimals is None else room + 0.5 * 10.0**-decimals


def _noise(values: Floats, decimals: int | None) -> float:
    """Return what share of them the digits of (N,) values have lost.

    Of cents nothing: they are as they are, however few digits there are.
    """
    if decimals is not None and decimals < FINE:
        return DOUBLE
    known = values[~np.isnan(values) & (values != 0)]
    digit = 10.0 ** (np.floor(np.log10(np.abs(known))) - 6)
    for single in (np.round(known / digit) * digit, known.astype(np.float32)):
        if (np.abs(single - known) <= DOUBLE * np.abs(known)).all():
            return SINGLE
    return DOUBLE


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
            noise = _noise(y, own.decimals)
            fitted = _fit(x, y, form, own.decimals, noise)
            if fitted is None:
                continue
            relation = Function(derived, source, form, *fitted, own.decimals, noise, Grid.of(other))
            if not relation.broken(frame).any():
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


def _fit(
    x: Floats, y: Floats, form: str, decimals: int | None, noise: float
) -> tuple[float, float] | None:
    """Return slope and intercept with the fewest digits that fit every row, or None."""
    known = ~np.isnan(x) & ~np.isnan(y)
    x, y = FORMS[form][0](x[known]), y[known]
    if not np.isfinite(x).all():
        return None
    room = _room(y, decimals, noise)
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
