"""Rules of levels that a table seems to keep: combinations that are never seen, ranges by group.

That something was not seen proves little. So a rule is only proposed where independent columns
would show it often (20 rows or more, 1 % of all), and where no row is near to breaking it: every
combination is held by k rows or by none, and k rows lie on a bound itself. So no proposal tells
of fewer than k rows, either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from synthgen.schema import Column, Constraint

Counts = npt.NDArray[np.int64]
#: Rows that independent columns would have where not one is seen: by chance that is exp(-20).
EXPECTED = 20.0
#: And so large a share of all rows: what is seldom broken anyway is learnt well enough.
LEAST_SHARE = 0.01
#: Most levels of a column that is looked at; more say little of each other.
MAX_LEVELS = 50


def of_levels(
    frame: pd.DataFrame, columns: Sequence[Column], min_rows: int
) -> Iterator[Constraint]:
    """Yield the rules with what speaks for them, the strongest of each kind first."""
    names = [c.name for c in columns if c.kind in ("categorical", "boolean")]
    names = [n for n in names if 2 <= frame[n].nunique(dropna=False) <= MAX_LEVELS]
    pairs = (_combinations(frame, pair, min_rows) for pair in combinations(names, 2))
    yield from _best(pairs)
    numbers = [c.name for c in columns if c.kind == "numeric" and c.decimals is not None]
    groups = [c.name for c in columns if c.kind == "categorical" and c.name in names]
    yield from _best(_range(frame, n, g, min_rows) for n in numbers for g in groups)


def _best(found: Iterable[tuple[float, Constraint] | None]) -> list[Constraint]:
    ranked = sorted((x for x in found if x is not None), key=lambda x: -x[0])
    return [rule for _, rule in ranked]


def _combinations(
    frame: pd.DataFrame, names: tuple[str, str], min_rows: int
) -> tuple[float, Constraint] | None:
    """Return the rule of a pair, and the rows that independent columns would show against it."""
    codes = [pd.factorize(frame[n], use_na_sentinel=False)[0] for n in names]
    counts = np.zeros([int(c.max()) + 1 for c in codes], np.int64)
    np.add.at(counts, tuple(codes), 1)
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    never = (counts == 0) & (expected >= EXPECTED)
    against = float(expected[never].sum())
    if against < LEAST_SHARE * len(frame) or ((counts > 0) & (counts < min_rows)).any():
        return None
    reason = (
        f"All {len(frame):,} rows hold {(counts > 0).sum()} of {counts.size} combinations, each in "
        f"{counts[counts > 0].min():,} rows or more; of {never.sum()} others independent columns "
        f"would show {against:,.0f} rows."
    )
    return against, Constraint(kind="combinations", columns=names, reason=reason)


def _range(
    frame: pd.DataFrame, number: str, group: str, min_rows: int
) -> tuple[float, Constraint] | None:
    """Return the bounds of the levels that have hard ones, and the rows that would be beyond."""
    known = frame[[number, group]].dropna()
    values = np.sort(known[number].to_numpy(np.float64))
    bounds, beyond, n_groups = [], 0.0, 0
    for level, held in known.groupby(group, observed=True)[number]:
        low, high, rows = _hard_ends(np.sort(held.to_numpy(np.float64)), values, min_rows)
        if rows:
            bounds.append((str(level), low, high))
            beyond, n_groups = beyond + rows, n_groups + 1
    if not bounds or beyond < LEAST_SHARE * len(frame):
        return None
    reason = (
        f"All {len(known):,} rows of {n_groups} levels keep their bounds, on each of which "
        f"{min_rows} rows or more lie; of a number that does not depend on the level "
        f"{beyond:,.0f} rows would lie beyond."
    )
    rule = Constraint(kind="range", columns=(number, group), bounds=tuple(bounds), reason=reason)
    return beyond, rule


def _hard_ends(
    held: npt.NDArray[np.float64], values: npt.NDArray[np.float64], min_rows: int
) -> tuple[float, float, float]:
    """Return one group's bounds, infinite where there is no hard one, and the rows beyond them."""
    ends, rows, share = [-np.inf, np.inf], 0.0, len(held) / len(values)
    for side, end in enumerate((held[0], held[-1])):
        n_beyond = np.searchsorted(values, end, side="left")
        if side:
            n_beyond = len(values) - np.searchsorted(values, end, side="right")
        if (held == end).sum() >= min_rows and n_beyond * share >= EXPECTED:
            ends[side], rows = float(end), rows + n_beyond * share
    return ends[0], ends[1], rows
