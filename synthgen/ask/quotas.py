"""How many rows of each kind: target shares of columns, raked together, as exact counts.

A cell is one level of every column that something is asked of. Shares of one column are counts by
largest remainders; of several columns the joint table is that of freely drawn rows, raked to the
targets (iterative proportional fitting, Deming and Stephan 1940), then rounded so that every
margin is exact. Where a target is to be independent of a sensitive column, the two are one axis
whose shares are products (reweighing, Kamiran and Calders 2012).

>>> apportion(np.array([0.5, 0.25, 0.25]), 10).tolist()
[5, 3, 2]
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd

from synthgen.ask.conditions import Condition, check, known_column
from synthgen.errors import ConfigError
from synthgen.schema import TableSchema

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
#: More cells than this are not drawn: each takes a block of its own.
MAX_CELLS = 2_000
#: Most levels of a column that another one is to be independent of, or that is to be so.
MAX_FAIR_LEVELS = 50
#: Rounds of raking, and rows by which a margin may be off after them.
ROUNDS, SLACK = 2_000, 0.05
_ITEM = re.compile(
    r"""\s*(?:'((?:[^']|'')*)'|"([^"]*)"|([^,'"]+?))\s*:\s*([-+.0-9eE]+)\s*(?:,|$)"""
)


@dataclass(frozen=True)
class Axis:
    """Levels that exclude each other, each with the share of rows that shall have it.

    Attributes
    ----------
    columns : tuple of str
    levels : tuple of tuple of Condition
        A row has a level if it satisfies all of its conditions.
    shares : (L,) float64
        At least 0, adding up to 1.
    """

    columns: tuple[str, ...]
    levels: tuple[tuple[Condition, ...], ...]
    shares: Floats

    def code(self, frame: pd.DataFrame, schema: TableSchema) -> Counts:
        """Return the level of each of N rows, -1 for none of them."""
        out = np.full(len(frame), -1)
        for number, level in enumerate(self.levels):
            held = [c.holds(frame[c.column], schema.column(c.column)) for c in level]
            out[np.all(held, axis=0)] = number
        return out


@dataclass(frozen=True)
class Quotas:
    """Cells and the rows of each, which add up to the rows of the draw.

    Attributes
    ----------
    cells : tuple of tuple of Condition
    counts : (cells,) int64
        At least 1 each.
    parity : tuple of two float, or None
        Demographic parity difference in freely drawn rows, and by these counts: see `parity`.
    """

    cells: tuple[tuple[Condition, ...], ...]
    counts: Counts
    parity: tuple[float, float] | None = None


def parse_match(text: str, schema: TableSchema) -> Axis:
    """Read ``COLUMN=LEVEL:SHARE,LEVEL:SHARE``; of numbers and dates also ``LOW..HIGH:SHARE``.

    ``null`` is a missing cell; a level of that name is quoted.

    >>> from synthgen.schema import Column
    >>> age = Column(name="age", kind="numeric", decimals=0)
    >>> parse_match("age=..29:0.4,30..:0.6", TableSchema(name="t", columns=(age,))).levels[0]
    (Condition(column='age', operator='<=', values=('29',)),)

    Raises
    ------
    ConfigError
        If it is not of that form, the column or a level is none of the schema's, levels overlap, or
        shares do not add up to 1.
    """
    name, _, rest = text.partition("=")
    name, levels, shares, position = name.strip().strip("`\"'"), [], [], 0
    while position < len(rest):
        found = _ITEM.match(rest, position)
        if not found:
            break
        single, double, bare, share = found.groups()
        quoted = single.replace("''", "'") if single is not None else double
        levels.append(_level(name, quoted, bare, schema))
        shares.append(_share(share, name))
        position = found.end()
    if not levels or position < len(rest):
        raise ConfigError('a match reads COLUMN=LEVEL:SHARE,..., for instance "sex=F:0.5,M:0.5"')
    total = sum(shares)
    if abs(total - 1) > 1e-6:
        raise ConfigError(
            f"column '{name}': the shares to match add up to {total:g}; they must add up to 1"
        )
    _disjoint(name, levels, schema)
    return Axis((name,), tuple(levels), np.array(shares) / total)


def _level(
    name: str, quoted: str | None, bare: str | None, schema: TableSchema
) -> tuple[Condition, ...]:
    """Return the conditions of one level: a value, the ends of a range, or a missing cell."""
    text = quoted if quoted is not None else str(bare)
    low, dots, high = text.partition("..")
    if quoted is None and dots and name in schema.names and _is_ordered(name, schema):
        ends = [(">=", low.strip()), ("<=", high.strip())]
        level = tuple(Condition(name, op, (value,)) for op, value in ends if value)
    elif quoted is None and text.casefold() == "null":
        level = (Condition(name, "null", ()),)
    else:
        level = (Condition(name, "=", (text,)),)
    for condition in level:
        check(condition, schema)
    return level


def _is_ordered(name: str, schema: TableSchema) -> bool:
    return schema.column(name).kind in ("numeric", "datetime")


def _share(text: str, name: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = np.nan
    if not 0 <= share <= 1:
        raise ConfigError(f"column '{name}': a share to match is no number from 0 to 1")
    return share


def _disjoint(name: str, levels: Sequence[tuple[Condition, ...]], schema: TableSchema) -> None:
    column = schema.column(name)
    if levels.count((Condition(name, "null", ()),)) > 1:
        raise ConfigError(f"column '{name}': null is listed twice")
    levels = [level for level in levels if level[0].operator != "null"]
    if not _is_ordered(name, schema):
        values = [
            v.casefold() if column.kind == "boolean" else v for (c,) in levels for v in c.values
        ]
        if len(set(values)) < len(values):
            raise ConfigError(f"column '{name}': a level to match is listed twice")
        return
    ends = []
    for level in levels:
        bounds = [c.bounds(column) for c in level]
        low = max((a for a, _ in bounds if a is not None), default=None)
        high = min((b for _, b in bounds if b is not None), default=None)
        ends.append((low, high))
    for i, (low, high) in enumerate(ends):
        for other_low, other_high in ends[:i]:
            before = high is not None and other_low is not None and high < other_low
            after = low is not None and other_high is not None and low > other_high
            if not (before or after):
                raise ConfigError(
                    f"column '{name}': two ranges to match overlap (ends belong to both)"
                )


def plan(
    n: int,
    matches: Sequence[Axis],
    schema: TableSchema,
    *,
    fair: tuple[str, str] | None = None,
    free: pd.DataFrame | None = None,
) -> Quotas:
    """Return the cells of `n` rows and their exact counts.

    Parameters
    ----------
    n : int
    matches : sequence of Axis
        Of different columns.
    schema : TableSchema
    fair : tuple of two str, optional
        A sensitive column and a target that shall be independent of it.
    free : DataFrame, optional
        Rows drawn without targets; needed for several columns, and for `fair`.

    Raises
    ------
    ConfigError
        If a column is asked twice, the targets exclude each other, or there are too many cells.
    """
    names = [name for axis in matches for name in axis.columns]
    if again := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"column '{again[0]}' is to match twice; give all of its shares at once")
    axes = [a for a in matches if fair is None or a.columns[0] not in fair]
    margins, gaps = [apportion(a.shares, n) for a in axes], None
    if fair is not None:
        assert free is not None
        pair = [_of_fair(name, matches, free, schema) for name in fair]
        within = _independent_counts(pair[0], pair[1], n)
        axes, margins = [_independent(pair[0], pair[1]), *axes], [within.ravel(), *margins]
        gaps = parity(_table(pair, free, schema)), parity(within)
    if (n_cells := int(np.prod([len(a.levels) for a in axes]))) > MAX_CELLS:
        raise ConfigError(
            f"the columns to match have {n_cells:,} combinations; {MAX_CELLS:,} at most"
        )
    counts = margins[0]
    if len(axes) > 1:
        assert free is not None
        counts = _rounded(_raked(_table(axes, free, schema), margins, axes), margins).ravel()
    combinations = product(*(a.levels for a in axes))
    cells = [tuple(c for level in levels for c in level) for levels in combinations]
    kept = np.flatnonzero(counts)
    return Quotas(tuple(cells[i] for i in kept), counts[kept], gaps)


def _of_fair(name: str, matches: Sequence[Axis], free: pd.DataFrame, schema: TableSchema) -> Axis:
    """Return the levels of one column of a fair pair: those to match, or those that occur."""
    for axis in matches:
        if axis.columns == (name,):
            return axis
    column = known_column(name, schema)
    if column.kind not in ("categorical", "boolean"):
        raise ConfigError(
            f"column '{name}' is {column.kind}: to be fair by it needs levels; give ranges with "
            f'--match "{name}=LOW..HIGH:SHARE,..."'
        )
    found = free[name].value_counts(dropna=False, sort=True)
    if not 2 <= len(found) <= MAX_FAIR_LEVELS:
        raise ConfigError(
            f"column '{name}' has {len(found)} levels; to be fair by it needs 2 to "
            f"{MAX_FAIR_LEVELS}"
        )
    shares = found.to_numpy(np.float64) / found.sum()
    return Axis((name,), tuple((_is(name, v),) for v in found.index), shares)


def _is(name: str, value: object) -> Condition:
    if pd.isna(value):  # type: ignore[call-overload]
        return Condition(name, "null", ())
    return Condition(name, "=", (str(value),))


def _independent(sensitive: Axis, target: Axis) -> Axis:
    """Return the pairs of levels of both, each with the product of their shares."""
    return Axis(
        (*sensitive.columns, *target.columns),
        tuple((*s, *t) for s, t in product(sensitive.levels, target.levels)),
        np.outer(sensitive.shares, target.shares).ravel(),
    )


def _independent_counts(sensitive: Axis, target: Axis, n: int) -> Counts:
    """Return (groups, outcomes) rows: each group has the target's shares, to less than a row."""
    groups = apportion(sensitive.shares, n)
    return np.stack([apportion(target.shares, int(group)) for group in groups])


def _table(axes: Sequence[Axis], free: pd.DataFrame, schema: TableSchema) -> Floats:
    """Return how many rows have each combination of levels."""
    codes = np.stack([a.code(free, schema) for a in axes])
    table = np.zeros([len(a.levels) for a in axes])
    np.add.at(table, tuple(codes[:, (codes >= 0).all(axis=0)]), 1)
    return table


def parity(table: npt.NDArray[np.float64] | Counts) -> float:
    """Return the demographic parity difference of (groups, outcomes) counts, 0 to 1.

    The largest difference between two groups in the share of an outcome.

    >>> parity(np.array([[30, 70], [10, 90]]))
    0.2
    """
    rows = table[table.sum(axis=1) > 0]
    shares = rows / rows.sum(axis=1, keepdims=True)
    return float(round(np.ptp(shares, axis=0).max(), 12)) if len(rows) else 0.0


def apportion(shares: Floats, n: int) -> Counts:
    """Return whole numbers that add up to `n`, each less than one from its share of it."""
    wanted = shares * n
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    left = n - int(counts.sum())
    counts[np.argsort(counts - wanted, kind="stable")[:left]] += 1
    return counts


def _raked(table: Floats, margins: Sequence[Counts], axes: Sequence[Axis]) -> Floats:
    """Return the table scaled until its margins are those asked for."""
    fitted: Floats = table * (margins[0].sum() / max(table.sum(), 1.0))
    for _ in range(ROUNDS):
        for axis, wanted in enumerate(margins):
            have = _margin(fitted, axis)
            factor = np.divide(wanted, have, out=np.zeros(len(have)), where=have > 0)
            fitted *= np.expand_dims(factor, _others(fitted, axis))
        off = [np.abs(_margin(fitted, i) - m) for i, m in enumerate(margins)]
        if max(o.max() for o in off) <= SLACK:
            return fitted
    axis = int(np.argmax([o.max() for o in off]))
    level, n = int(off[axis].argmax()), int(margins[0].sum())
    raise ConfigError(
        f"column '{axes[axis].columns[-1]}': its level {level + 1} cannot have "
        f"{margins[axis][level]:,} of {n:,} rows beside the other targets; the nearest "
        f"possible is about {_margin(fitted, axis)[level]:,.0f}"
    )


def _margin(table: Floats | Counts, axis: int) -> Floats:
    return np.asarray(table.sum(axis=_others(table, axis))).astype(np.float64)


def _others(table: Floats | Counts, axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(table.ndim) if i != axis)


def _rounded(fitted: Floats, margins: Sequence[Counts]) -> Counts:
    """Return whole counts near `fitted`, with exactly these margins; empty cells stay empty.

    A row that is moved along one axis leaves the margins of all others as they are.
    """
    n = int(margins[0].sum())
    counts = apportion(fitted.ravel() / fitted.sum(), n).reshape(fitted.shape)
    for axis, wanted in enumerate(margins):
        flat, near = np.moveaxis(counts, axis, 0), np.moveaxis(fitted, axis, 0)
        while (off := _margin(counts, axis) - wanted).any():
            _move(flat, near, np.flatnonzero(off > 0), np.flatnonzero(off < 0))
    return counts


def _move(counts: Counts, fitted: Floats, surplus: Counts, deficit: Counts) -> None:
    """Move one row from a level with too many to one with too few, where it costs least."""
    best: tuple[float, tuple[int, ...], tuple[int, ...]] | None = None
    for a, b in product(surplus, deficit):
        gain = (counts[a] - fitted[a]) - (counts[b] - fitted[b])
        gain = np.where((counts[a] > 0) & (fitted[b] > 0), gain, -np.inf)
        place = np.unravel_index(int(gain.argmax()), gain.shape)
        if np.isfinite(gain[place]) and (best is None or gain[place] > best[0]):
            best = (float(gain[place]), (int(a), *map(int, place)), (int(b), *map(int, place)))
    if best is None:
        raise ConfigError("the targets exclude each other at so few rows; draw more rows")
    counts[best[1]] -= 1
    counts[best[2]] += 1


def mixed(
    quotas: Quotas,
    parts: Mapping[int, Iterator[pd.DataFrame]],
    order: np.random.Generator,
    batch: int,
) -> Iterator[pd.DataFrame]:
    """Yield the rows of all cells in a random order, `batch` rows at a time.

    Parameters
    ----------
    quotas : Quotas
    parts : mapping of cell to iterator of DataFrame
        As many rows as the cell has.
    order : numpy Generator
    batch : int
    """
    labels = order.permutation(np.repeat(np.arange(len(quotas.counts)), quotas.counts))
    waiting: dict[int, pd.DataFrame] = {}
    for start in range(0, len(labels), batch):
        now = labels[start : start + batch]
        frames, places = [], []
        for cell, count in zip(*np.unique(now, return_counts=True), strict=True):
            rows = waiting.pop(cell, None)
            while rows is None or len(rows) < count:
                more = next(parts[cell])
                rows = more if rows is None else pd.concat([rows, more], ignore_index=True)
            frames.append(rows.iloc[:count])
            waiting[cell] = rows.iloc[count:].reset_index(drop=True)
            places.append(np.flatnonzero(now == cell))
        together = pd.concat(frames, ignore_index=True)
        yield together.iloc[np.argsort(np.concatenate(places))].reset_index(drop=True)
