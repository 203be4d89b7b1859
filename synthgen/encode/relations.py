"""Columns that follow from others: found, left out of the model, and recomputed on every row.

A generator that learns ``total = a + b`` gets it nearly right, which any reader notices. So an
exact relation is not learnt but kept: the derived column is dropped before encoding and restored
after decoding. Sums, constant factors, look-ups (a level decides a value) and dates that follow
another date are found; each must hold on every row that the encoder is fitted on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from synthgen.encode import datetime as dt
from synthgen.encode.categorical import MIN_RARE_SHARE, RARE
from synthgen.encode.column import Floats, State
from synthgen.schema import Column

#: Fewer rows do not prove a relation.
MIN_PROOF = 100
#: More numeric columns than this are not searched for sums: the pairs would be too many.
MAX_SUM_COLUMNS = 120
#: Most values of a column that another one decides.
MAX_LOOKUP = 1_000
#: Rows that a sum must fit before all rows are looked at.
PROBE = 24


class Relation(Protocol):
    """One derived column. Frames are canonical; `columns` lists what is still to be modelled."""

    @property
    def derived(self) -> str:
        """Name of the column that follows from the others."""
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

    def settle(self, frame: pd.DataFrame, given: pd.Series, known: pd.DataFrame) -> None:
        """Do nothing: `solve` has decided the only source."""

    def reduce(self, frame: pd.DataFrame, columns: list[Column]) -> None:
        """Drop the derived column."""
        del frame[self.derived]
        columns[:] = [c for c in columns if c.name != self.derived]


@dataclass(frozen=True)
class Sum(_Dropped):
    """``derived = left + right``, missing if either is."""

    derived: str
    left: str
    right: str
    decimals: int | None

    def restore(self, frame: pd.DataFrame) -> None:
        """Add the two columns."""
        total = frame[self.left] + frame[self.right]
        frame[self.derived] = total if self.decimals is None else total.round(self.decimals)

    def broken(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Return which totals are not the sum."""
        return _no_sum(frame[self.derived], frame[self.left], frame[self.right], self.decimals)

    def solve(self, frame: pd.DataFrame, known: pd.DataFrame) -> None:
        """Subtract the part that is known from a known total."""
        _solve_sum(frame, known, self.derived, self.left, self.right)

    def settle(self, frame: pd.DataFrame, given: pd.Series, known: pd.DataFrame) -> None:
        """Scale the parts to the total."""
        rows = known[self.derived] & ~known[self.left] & ~known[self.right] & given.notna()
        share = frame[self.left] / (frame[self.left] + frame[self.right])
        left = given * share.where(np.isfinite(share), 0.5)
        left = left if self.decimals is None else left.round(self.decimals)
        frame[self.left] = frame[self.left].where(~rows, left)
        frame[self.right] = frame[self.right].where(~rows, given - left)

    def to_json(self) -> dict[str, Any]:
        """Return the names."""
        return {"type": "sum", **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Difference(_Dropped):
    """``derived = total - other``: the larger part of a sum whose values are missing together.

    The total and the smaller part are learnt, because both of their tails are then right; learnt
    parts would have to be large on the same row for a large total.

    Attributes
    ----------
    minimum : float or None
        The schema's bound of `derived`; where it would lie below, the total is raised.
    """

    derived: str
    total: str
    other: str
    decimals: int | None
    minimum: float | None

    def restore(self, frame: pd.DataFrame) -> None:
        """Subtract; keep the relation where the rest would be too small."""
        rest = frame[self.total] - frame[self.other]
        if self.minimum is not None:
            low = rest < self.minimum
            rest = rest.clip(lower=self.minimum)
            frame[self.total] = frame[self.total].where(~low, rest + frame[self.other])
        frame[self.derived] = rest if self.decimals is None else rest.round(self.decimals)

    def broken(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Return which totals are not the sum, or are missing without both parts."""
        parts = [frame[name] for name in (self.total, self.derived, self.other)]
        gone = np.column_stack([np.isnan(p.to_numpy(np.float64)) for p in parts])
        apart = gone.any(axis=1) != gone.all(axis=1)
        return np.asarray(apart | _no_sum(parts[0], parts[1], parts[2], self.decimals))

    def solve(self, frame: pd.DataFrame, known: pd.DataFrame) -> None:
        """Add the parts, or subtract the one that is known."""
        _solve_sum(frame, known, self.total, self.derived, self.other)

    def settle(self, frame: pd.DataFrame, given: pd.Series, known: pd.DataFrame) -> None:
        """Raise the total to what a known part and the drawn other one make."""
        rows = known[self.derived] & ~known[self.total] & given.notna()
        frame[self.total] = frame[self.total].where(~rows, given + frame[self.other])

    def to_json(self) -> dict[str, Any]:
        """Return the names."""
        return {"type": "difference", **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Scaled(_Dropped):
    """``derived = source * factor``, rounded to `decimals`; missing together."""

    derived: str
    source: str
    factor: float
    decimals: int

    def restore(self, frame: pd.DataFrame) -> None:
        """Multiply and round."""
        x = frame[self.source].to_numpy(np.float64)
        frame[self.derived] = _times(x, self.factor).round(self.decimals)

    def broken(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Return which values are not the product."""
        x, y = (frame[n].to_numpy(np.float64) for n in (self.source, self.derived))
        product = _times(x, self.factor).round(self.decimals)
        return np.asarray((product != y) & ~(np.isnan(product) & np.isnan(y)))

    def solve(self, frame: pd.DataFrame, known: pd.DataFrame) -> None:
        """Divide."""
        rows = known[self.derived] & ~known[self.source]
        _fill(frame, known, self.source, frame[self.derived] / self.factor, rows)

    def to_json(self) -> dict[str, Any]:
        """Return names and factor."""
        return {"type": "scaled", **dataclasses.asdict(self)}


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
        keys = frame[self.source].astype(object)
        keys = keys.where(keys.notna(), None)
        other = self.values[-1]
        frame[self.derived] = pd.Series([table.get(k, other) for k in keys], index=frame.index)

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
    """

    derived: str
    earlier: str
    unit: float
    timezone: str | None = None

    def reduce(self, frame: pd.DataFrame, columns: list[Column]) -> None:
        """Replace the later datetime by the gap in units, a number."""
        gap = dt.to_microseconds(frame[self.derived]) - self._start(frame)
        frame[self.derived] = np.round(gap / self.unit)
        place = [c.name for c in columns].index(self.derived)
        columns[place] = gap_column(self.derived)

    def restore(self, frame: pd.DataFrame) -> None:
        """Add the gap to the earlier datetime."""
        gap = np.maximum(frame[self.derived].to_numpy(), 0) * self.unit
        frame[self.derived] = dt.as_datetimes(self._start(frame) + gap, self.timezone)

    def _start(self, frame: pd.DataFrame) -> Floats:
        """Return the first whole unit that does not lie before the earlier datetime."""
        return np.ceil(dt.to_microseconds(frame[self.earlier]) / self.unit) * self.unit

    def broken(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Return which rows lie before the earlier datetime, or lack it alone."""
        a, b = (dt.to_microseconds(frame[n]) for n in (self.earlier, self.derived))
        return np.asarray((b < a) | (np.isnan(a) & ~np.isnan(b)))

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


def _solve_sum(frame: pd.DataFrame, known: pd.DataFrame, total: str, left: str, right: str) -> None:
    """Fill the one of ``total = left + right`` that is not known where the other two are."""
    for part, other in ((left, right), (right, left)):
        rows = known[total] & known[other] & ~known[part]
        _fill(frame, known, part, frame[total] - frame[other], rows)
    rows = known[left] & known[right] & ~known[total]
    _fill(frame, known, total, frame[left] + frame[right], rows)


def _fill(
    frame: pd.DataFrame, known: pd.DataFrame, name: str, values: pd.Series, rows: pd.Series
) -> None:
    """Set the cells of `rows` in one column, and mark them known."""
    frame[name] = frame[name].where(~rows, values)
    known[name] |= rows


def gap_column(name: str) -> Column:
    """Return the schema entry of a gap: a whole number of units."""
    return Column(name=name, kind="numeric", minimum=0, decimals=0)


def from_json(state: State) -> Relation:
    """Rebuild what `to_json` wrote."""
    kinds: Mapping[str, Any] = {
        "sum": Sum,
        "difference": Difference,
        "scaled": Scaled,
        "lookup": Lookup,
        "gap": Gap,
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


def find(frame: pd.DataFrame, columns: Iterable[Column], *, min_rows: int) -> tuple[Relation, ...]:
    """Return the relations that hold on every row, in the order in which they are reduced.

    No column is derived twice, and none that others are derived from is derived itself, but for a
    factor of a gap: a length of stay that is the difference of two dates.
    """
    if len(frame) < MIN_PROOF:
        return ()
    found: list[Relation] = []
    kept, left = frame.copy(deep=False), list(columns)
    for search in (_gaps, _factors, _sums, _lookups):
        for relation in search(kept, left, min_rows):
            relation.reduce(kept, left)
            found.append(relation)
    return tuple(found)


def _gaps(frame: pd.DataFrame, columns: list[Column], min_rows: int) -> list[Relation]:
    """Pairs of datetimes in order, near enough that the gap says more than the date."""
    dates = [c for c in columns if c.kind == "datetime"]
    found: list[Relation] = []
    taken: set[str] = set()
    for later in dates:
        b = dt.to_microseconds(frame[later.name])
        best: tuple[float, Column] | None = None
        for earlier in dates:
            if earlier is later or {earlier.name, later.name} & taken:
                continue
            if earlier.timezone != later.timezone:
                continue
            a = dt.to_microseconds(frame[earlier.name])
            gap = b - a
            both = ~np.isnan(gap)
            if both.sum() < MIN_PROOF or (np.isnan(a) & ~np.isnan(b)).any():
                continue
            spread = gap[both].std()
            if gap[both].min() >= 0 and spread < 0.5 * b[both].std():
                best = (spread, earlier) if best is None or spread < best[0] else best
        if best:
            unit = dt.MICROSECONDS[later.resolution]
            found.append(Gap(later.name, best[1].name, float(unit), later.timezone))
            taken |= {later.name, best[1].name}
    return found


def _numbers(frame: pd.DataFrame, columns: list[Column]) -> dict[str, Floats]:
    """Return the numeric columns that vary."""
    out = {c.name: frame[c.name].to_numpy(np.float64) for c in columns if c.kind == "numeric"}
    return {
        n: v for n, v in out.items() if np.nanmin(v, initial=np.inf) < np.nanmax(v, initial=-np.inf)
    }


def _factors(frame: pd.DataFrame, columns: list[Column], min_rows: int) -> list[Relation]:
    """Numbers that are another one times a constant, up to their own rounding."""
    values = _numbers(frame, columns)
    by_name = {c.name: c for c in columns}
    found: list[Relation] = []
    taken: set[str] = set()
    for derived, y in values.items():
        decimals = by_name[derived].decimals
        if decimals is None or derived in taken:
            continue
        for source, x in values.items():
            if source == derived or source in {r.derived for r in found}:
                continue
            if (np.isnan(x) != np.isnan(y)).any():
                continue
            factor = _factor(x, y, 0.5 * 10.0**-decimals)
            if factor is None:
                continue
            # A value half-way is rounded up by one program and to even by another.
            if np.array_equal(_times(x, factor).round(decimals), y, equal_nan=True):
                found.append(Scaled(derived, source, factor, decimals))
                taken |= {derived, source}
                break
    return found


def _times(x: Floats, factor: float) -> Floats:
    """Multiply, or divide by a whole number: 36 / 1440 is not 36 * (1 / 1440), and half-way."""
    divisor = round(1 / factor) if 0 < abs(factor) < 1 else 0
    return x / divisor if divisor and 1 / divisor == factor else x * factor


def _factor(x: Floats, y: Floats, slack: float) -> float | None:
    """Return f with ``|y - f x| <= slack`` on every row, or None.

    1 / whole number if one fits, else the number with the fewest digits: the ends of what fits are
    single rows.
    """
    known = ~np.isnan(x) & (x != 0)
    if known.sum() < MIN_PROOF or (np.abs(y[(x == 0)]) > slack).any():
        return None
    slack *= 1 + 1e-6
    ends = np.stack([(y[known] - slack) / x[known], (y[known] + slack) / x[known]])
    low, high = ends.min(axis=0).max(), ends.max(axis=0).min()
    if low > high or low <= 0 <= high:
        return None
    middle = (low + high) / 2
    shortest = (float(f"{middle:.{digits}g}") for digits in range(1, 17))
    for nice in (round(middle), 1 / round(1 / middle) if abs(middle) < 1 else 0, *shortest):
        if nice and low <= nice <= high:
            return float(nice)
    return None


def _sums(frame: pd.DataFrame, columns: list[Column], min_rows: int) -> list[Relation]:
    """Numbers that are the sum of two others on every row."""
    values = _numbers(frame, columns)
    if not 3 <= len(values) <= MAX_SUM_COLUMNS:
        return []
    names, table = list(values), np.stack(list(values.values()))
    complete = np.flatnonzero(~np.isnan(table).any(axis=0))
    if len(complete) < MIN_PROOF:
        return []
    probe = table[:, complete[np.linspace(0, len(complete) - 1, PROBE).astype(int)]]
    by_name = {c.name: c for c in columns}
    found: list[Relation] = []
    taken: set[str] = set()
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            # Only a sieve: `_is_sum` decides.
            added = probe[i] + probe[j]
            near = np.isclose(probe, added, rtol=1e-9, atol=1e-9).all(axis=1)
            for t in np.flatnonzero(near):
                trio = {names[i], names[j], names[t]}
                if len(trio) < 3 or trio & taken:
                    continue
                if _is_sum(table[t], table[i], table[j], by_name[names[t]].decimals):
                    found.append(_sum(values, by_name, names[t], names[i], names[j]))
                    taken |= trio
    return found


def _sum(
    values: dict[str, Floats], by_name: dict[str, Column], total: str, left: str, right: str
) -> Relation:
    """Return the larger part as derived, or the total where the three are not missing together."""
    missing = [np.isnan(values[name]) for name in (total, left, right)]
    small, large = sorted((left, right), key=lambda name: float(np.nanmean(np.abs(values[name]))))
    if not all(np.array_equal(missing[0], m) for m in missing):
        return Sum(total, left, right, by_name[total].decimals)
    column = by_name[large]
    minimum = None if column.minimum is None else float(column.minimum)
    return Difference(large, total, small, column.decimals, minimum)


def _is_sum(total: Floats, left: Floats, right: Floats, decimals: int | None) -> bool:
    """Whether `total` is the sum on every row: exactly, or without decimals but for float noise.

    The noise is measured by the part that varies less, else any small part of a large total fits.
    """
    added = left + right
    if decimals is not None:
        return np.array_equal(added.round(decimals), total, equal_nan=True)
    if (np.isnan(added) != np.isnan(total)).any():
        return False
    slack = 1e-9 * min(np.nanmax(v) - np.nanmin(v) for v in (left, right))
    return bool((np.nan_to_num(np.abs(added - total)) <= slack).all())


def _no_sum(
    total: pd.Series, left: pd.Series, right: pd.Series, decimals: int | None
) -> npt.NDArray[np.bool_]:
    """Return where `total` is not the sum, but for rounding or float noise; row by row."""
    t, a, b = (v.to_numpy(np.float64) for v in (total, left, right))
    noise = 1e-9 * np.maximum(np.abs(a), np.abs(b))
    slack = noise if decimals is None else noise + 0.5 * 10.0**-decimals
    apart = np.isnan(a + b) != np.isnan(t)
    return np.asarray(apart | (np.abs(a + b - t) > slack))


def _lookups(frame: pd.DataFrame, columns: list[Column], min_rows: int) -> list[Relation]:
    """Columns whose value a level of a categorical column decides."""
    found: list[Relation] = []
    derived: set[str] = set()
    used: set[str] = set()
    # All that is asked of one column is asked once: of 300 columns there are 90,000 pairs, and
    # nearly none of them is a relation.
    n_values = {c.name: frame[c.name].nunique() for c in columns}
    codes = {c.name: pd.factorize(frame[c.name], use_na_sentinel=False)[0] for c in columns}
    levels: dict[str, pd.Index[Any]] = {}
    rows: dict[str, np.ndarray] = {}
    for source in (c.name for c in columns if c.kind == "categorical"):
        counts = frame[source].value_counts(dropna=False)
        common = counts.index[counts >= min_rows]
        held = frame[source].isin(common).to_numpy()
        if len(common) >= 2 and (~held).sum() <= MIN_RARE_SHARE * len(frame):
            levels[source], rows[source] = common, np.flatnonzero(held)
    for target in columns:
        if (
            target.kind == "datetime"
            or target.name in used
            or not 1 < n_values[target.name] <= MAX_LOOKUP
        ):
            continue
        for source, common in levels.items():
            enough = n_values[source] >= n_values[target.name]
            if source == target.name or source in derived or not enough:
                continue
            if not _decides(codes[source][rows[source]], codes[target.name][rows[source]]):
                continue
            relation = _lookup(frame, source, target.name, common)
            if relation is not None:
                found.append(relation)
                derived.add(target.name)
                used.add(source)
                break
    return found


def _decides(source: np.ndarray, target: np.ndarray) -> bool:
    """Return whether rows (N,) of equal source codes have equal target codes."""
    some = np.zeros(source.max(initial=0) + 1, target.dtype)
    some[source] = target
    return bool((some[source] == target).all())


def _lookup(frame: pd.DataFrame, source: str, target: str, common: pd.Index[Any]) -> Lookup | None:
    rows = frame[source].isin(common)
    pairs = frame.loc[rows, [source, target]].drop_duplicates()
    if len(pairs) != len(common) or pairs[source].duplicated().any():
        return None
    # Not `mode`, which cannot compare a missing boolean.
    most = frame[target].value_counts(dropna=False).index[0]
    levels = [None if pd.isna(v) else str(v) for v in pairs[source]]
    values = [_plain(v) for v in [*pairs[target], most]]
    return Lookup(target, source, (*levels, RARE), tuple(values))


def _plain(value: Any) -> float | str | bool | None:
    if pd.isna(value):
        return None
    if isinstance(value, str | bool):
        return value
    return bool(value) if isinstance(value, np.bool_) else float(value)
