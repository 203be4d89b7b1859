"""How relations between columns are found: by sieves over few rows, then on every row."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from synthgen.constraints import said
from synthgen.encode import datetime as dt
from synthgen.encode.amounts import HALVES, Grid, Halves, product
from synthgen.encode.categorical import MIN_RARE_SHARE, RARE
from synthgen.encode.column import Floats
from synthgen.encode.evidence import of_levels
from synthgen.encode.functions import MIN_VALUES, Function, functions
from synthgen.encode.groups import Combined, Within, cell, combined, within
from synthgen.encode.relations import (
    Difference,
    Excess,
    Gap,
    Lookup,
    Product,
    Relation,
    Sum,
)
from synthgen.errors import DataError
from synthgen.schema import Column, Constraint, TableSchema, constraint_problems
from synthgen.table import canonical_dtype

#: Fewer rows do not prove a relation.
MIN_PROOF = 100
#: More numeric columns than this are not searched for sums: the pairs would be too many.
MAX_SUM_COLUMNS = 120
#: Most values of a column that another one decides.
MAX_LOOKUP = 1_000
#: Of the three columns of a sum another one than the larger part is derived if it is so many times
#: as varied.
MORE_VARIED = 2.0
#: What the last digit of a total may be of the spread of a part that is derived.
MOST_SWALLOWED = 1e-6
#: What a product of two columns may be multiplied by: nothing, or a percentage undone or made.
FACTORS = (1.0, 0.01, 100.0)
#: Rows that a sum or a product must fit before all rows are looked at; of these, so many products
#: must be no zero.
PROBE, MIN_TELLING = 24, 4


@np.errstate(over="ignore", invalid="ignore")  # what is too large for a float64 is no relation
def find(
    frame: pd.DataFrame,
    columns: Iterable[Column],
    *,
    min_rows: int,
    constraints: Iterable[Constraint] = (),
) -> tuple[Relation, ...]:
    """Return the relations that hold on every row, in the order in which they are reduced.

    First those that `constraints` declare, then what is found among the other columns. No column is
    derived twice, and none that others are derived from is derived itself, but for a factor of a
    gap: a length of stay that is the difference of two dates.
    """
    kept, left = frame.copy(deep=False), list(columns)
    found = _of_rules(constraints, kept, left, lambda rule: _declared(rule, kept, left, min_rows))
    ranged = {r.derived for r in found if isinstance(r, Within)}
    if len(frame) >= MIN_PROOF:
        for search in (_gaps, _factors, _sums, _products, _functions, _lookups):
            for relation in search(kept, [c for c in left if c.name not in ranged], min_rows):
                relation.reduce(kept, left)
                found.append(relation)
    return tuple(found)


def _of_rules(
    rules: Iterable[Constraint],
    frame: pd.DataFrame,
    columns: list[Column],
    relations_of: Callable[[Constraint], Iterable[Relation]],
) -> list[Relation]:
    """Return the relations of all rules; `frame` and `columns` are reduced by them, in place.

    Ranges are reduced first, so that they are seen to last, when all else has its value.
    """
    found: list[Relation] = []
    for rule in sorted(rules, key=lambda rule: rule.kind != "range"):
        for relation in relations_of(rule):
            relation.reduce(frame, columns)
            found.append(relation)
    return found


def declared(
    columns: Iterable[Column], constraints: Iterable[Constraint]
) -> tuple[tuple[Relation, ...], list[Column]]:
    """Return the relations that keep rules which say all themselves, and what is left to model.

    No row is looked at, so rules must leave nothing to the data: no look-up, nothing
    `Constraint.is_learnt`. Order as in `find`.
    """
    left = list(columns)
    nobody = pd.DataFrame({c.name: pd.Series(dtype=canonical_dtype(c)) for c in left})

    def relations_of(rule: Constraint) -> list[Relation]:
        by_name = {c.name: c for c in left}
        if rule.kind == "combinations":
            return _combinations(rule, _allowed(rule, by_name), by_name, min_rows=1)
        if rule.kind == "sum":
            return [_declared_sum(*(by_name[name] for name in rule.columns))]
        return _declared(rule, nobody, left, min_rows=1)

    return tuple(_of_rules(constraints, nobody, left, relations_of)), left


def _allowed(rule: Constraint, by_name: Mapping[str, Column]) -> pd.DataFrame:
    """Return the combinations that a rule lists, a row each, in canonical dtypes."""
    columns = [by_name[name] for name in rule.columns]
    rows = [json.loads(_written(row, columns)) for row in rule.allowed or ()]
    return pd.DataFrame(
        {
            c.name: pd.Series(
                [cell(text, boolean=c.kind == "boolean") for text in texts],
                dtype=canonical_dtype(c),
            )
            for c, texts in zip(columns, zip(*rows, strict=True), strict=True)
        }
    )


def _declared_sum(total: Column, *parts: Column) -> Relation:
    """Return the part that may be larger as derived, where nothing can be missing; else the total.

    With a part derived the total is learnt, and stays within its bounds.
    """
    known = len(parts) == 2 and not any(c.nullable or c.maximum is None for c in (total, *parts))
    if known:
        part, other = sorted(parts, key=lambda c: -float(c.maximum or 0.0))
        if _is_exact(part, total, other):
            return _difference(part, total, other)
    return _total(total, parts)


def _declared(
    rule: Constraint, frame: pd.DataFrame, columns: list[Column], min_rows: int
) -> list[Relation]:
    """Return the relations that keep one declared rule."""
    by_name = {c.name: c for c in columns}
    first, *rest = rule.columns
    if rule.kind == "order":
        return _ordered([by_name[name] for name in rule.columns], frame, min_rows)
    if rule.kind == "lookup":
        counts = frame[first].value_counts(dropna=False)
        lookup = _lookup(frame, first, rest[0], counts.index[counts >= min_rows])
        return [] if lookup is None else [lookup]
    if rule.kind == "combinations":
        return _combinations(rule, frame, by_name, min_rows)
    if rule.kind == "range":
        if rule.bounds is None:
            return [within(frame, first, rest[0], by_name[first].decimals, min_rows)]
        levels = tuple(level for level, _, _ in rule.bounds)
        lows = tuple(low if np.isfinite(low) else None for _, low, _ in rule.bounds)
        highs = tuple(high if np.isfinite(high) else None for _, _, high in rule.bounds)
        return [Within(first, rest[0], levels, lows, highs)]
    named = [by_name[name] for name in rule.columns]
    if rule.kind == "product":
        relation = _product(named[0], named[1:], 1.0 if rule.value is None else rule.value)
        made, *parts = (frame[name].to_numpy(np.float64) for name in rule.columns)
        if relation.decimals is None:
            return [relation]
        halves = _halves(np.column_stack(parts), relation.factor, relation.decimals, made)
        return [relation if halves is None else replace(relation, halves=halves)]
    if rule.kind == "constant":
        return [_total(named[-1], named[:-1], -1.0, float(rule.value or 0.0))]
    if len(rest) == 2:
        values = {n: frame[n].to_numpy(np.float64) for n in rule.columns}
        return [_sum(values, by_name, first, rest[0], rest[1], min_rows)]
    return [_total(named[0], named[1:])]


def _total(
    derived: Column, parts: Sequence[Column], sign: float = 1.0, constant: float = 0.0
) -> Sum:
    (names, grids), own = _sources(parts), Grid.of(derived)
    low, high = own.minimum, own.maximum
    return Sum(derived.name, names, own.decimals, sign, constant, low, high, grids)


def _product(derived: Column, parts: Sequence[Column], factor: float) -> Product:
    (names, grids), own = _sources(parts), Grid.of(derived)
    return Product(derived.name, names, own.decimals, factor, own.minimum, own.maximum, grids)


def _sources(columns: Sequence[Column]) -> tuple[tuple[str, ...], tuple[Grid, ...]]:
    return tuple(c.name for c in columns), tuple(map(Grid.of, columns))


def _combinations(
    rule: Constraint, frame: pd.DataFrame, by_name: dict[str, Column], min_rows: int
) -> list[Relation]:
    """Return the combination of the columns, and a look-up from it for each but the first."""
    counts = combined(frame, rule.columns).value_counts()
    texts = counts.index[counts >= min_rows]
    if rule.allowed is not None:
        columns = [by_name[name] for name in rule.columns]
        listed = {_written(row, columns) for row in rule.allowed}
        texts = texts[texts.isin(listed)]
    if not len(texts):
        raise DataError(f"the rule {said(rule)}: no combination is held by {min_rows} rows or more")
    first, *rest = rule.columns
    is_boolean = by_name[first].kind == "boolean"
    together = Combined(first, tuple(rest), tuple(sorted(texts)), is_boolean)
    reduced = frame.copy(deep=False)
    together.reduce(reduced, list(by_name.values()))
    lookups = (_lookup(reduced, first, name, texts) for name in rest)
    return [together, *(x for x in lookups if x is not None)]


def _written(row: Sequence[str], columns: Sequence[Column]) -> str:
    """Return a declared combination as `combined` writes it."""
    values: list[str | None] = []
    for text, column in zip(row, columns, strict=True):
        if column.kind == "boolean" and text:
            text = str(text == (column.categories or ("false", "true"))[1])
        values.append(text or None)
    return json.dumps(values)


def _ordered(columns: Sequence[Column], frame: pd.DataFrame, min_rows: int) -> list[Relation]:
    found: list[Relation] = []
    maxima: list[float] = []
    for lower, upper in reversed([*pairwise(columns)]):
        if upper.kind == "datetime":
            found.append(_gap(upper, lower, frame, min_rows))
            continue
        own = Grid.of(upper)
        maxima += [] if own.maximum is None else [own.maximum]
        high = min(maxima, default=None)
        found.append(Excess(upper.name, lower.name, own.decimals, own.minimum, high))
    return found


def _gap(later: Column, earlier: Column, frame: pd.DataFrame, min_rows: int) -> Gap:
    unit = float(dt.MICROSECONDS[later.resolution])
    middle = _middle(dt.to_microseconds(frame[earlier.name]), min_rows)
    return Gap(later.name, earlier.name, unit, later.timezone, middle)


def _middle(values: Floats, k: int) -> float:
    """Return the mean of the `k` known values around the median, 0 if there are fewer."""
    known = np.sort(values[~np.isnan(values)])
    start = (len(known) - k) // 2
    return float(known[start : start + k].mean().round()) if start >= 0 else 0.0


def proposed(frame: pd.DataFrame, schema: TableSchema, *, min_rows: int) -> tuple[Constraint, ...]:
    """Return the rules that `frame` keeps, as far as a schema can declare them.

    First those of relations that are found, then combinations and ranges by group.

    A schema has no name for the gap between two dates, so a factor of a gap is not proposed; nor
    for functions of one column.
    """
    rules: list[Constraint] = []
    found = find(frame, schema.modelled, min_rows=min_rows)
    exact = (constraint_of(r) for r in found if not isinstance(r, Function))
    for rule in (*exact, *of_levels(frame, schema.modelled, min_rows)):
        if not [*constraint_problems([*rules, rule], schema.columns)]:
            rules.append(rule)
    return tuple(rules)


def constraint_of(relation: Relation) -> Constraint:
    """Return the rule that a found relation keeps, to be declared in a schema."""
    if isinstance(relation, Gap):
        return Constraint(kind="order", columns=(relation.earlier, relation.derived))
    if isinstance(relation, Excess):
        return Constraint(kind="order", columns=(relation.lower, relation.derived))
    if isinstance(relation, Lookup):
        return Constraint(kind="lookup", columns=(relation.source, relation.derived))
    if isinstance(relation, Difference):
        parts = (relation.derived, relation.other)
        return Constraint(kind="sum", columns=(relation.total, *parts))
    if isinstance(relation, Product):
        product = (relation.derived, *relation.parts)
        return Constraint(kind="product", columns=product, value=relation.factor)
    assert isinstance(relation, Sum)
    return Constraint(kind="sum", columns=(relation.derived, *relation.parts))


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
            found.append(_gap(later, best[1], frame, min_rows))
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
        is_varied = len(np.unique(y[~np.isnan(y)])) >= MIN_VALUES  # else rounding makes any step
        for source, x in values.items():
            if source == derived or source in {r.derived for r in found}:
                continue
            if (np.isnan(x) != np.isnan(y)).any():
                continue
            factor = _factor(x, y, 0.5 * 10.0**-decimals)
            if factor is None or not (is_varied or np.allclose(y, x * factor, equal_nan=True)):
                continue
            halves = _halves(x[:, None], factor, decimals, y)
            if halves is not None:
                relation = _product(by_name[derived], [by_name[source]], factor)
                found.append(replace(relation, halves=halves))
                taken |= {derived, source}
                break
    return found


def _halves(parts: Floats, factor: float, decimals: int, made: Floats) -> Halves | None:
    """Return how half-way products (N,) of (N, P) parts were rounded, None if they are others."""
    made_by = {h: product(parts, factor, decimals, h) for h in HALVES}
    return next((h for h, x in made_by.items() if np.array_equal(x, made, equal_nan=True)), None)


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


def _functions(frame: pd.DataFrame, columns: list[Column], min_rows: int) -> Sequence[Relation]:
    """Numbers that are a function of another one, such as its logarithm, or its square."""
    return functions(frame, _numbers(frame, columns), columns, MIN_PROOF)


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
                    found.append(_sum(values, by_name, names[t], names[i], names[j], min_rows))
                    taken |= trio
    return found


def _sum(
    values: dict[str, Floats],
    by_name: dict[str, Column],
    total: str,
    left: str,
    right: str,
    min_rows: int,
) -> Relation:
    """Return the larger part as derived, or the total where the three are not missing together.

    What is derived may take values that the column never had: where another of the three is much
    more varied, that one is derived. Without a declared minimum a part stays above zero where fewer
    than k rows are below it.
    """
    missing = [np.isnan(values[name]) for name in (total, left, right)]
    together = all(np.array_equal(missing[0], m) for m in missing)
    possible = [total]
    if together and _is_exact(*(by_name[name] for name in (left, total, right))):
        parts = sorted((left, right), key=lambda n: -float(np.nanmean(np.abs(values[n]))))
        possible = [*(n for n in parts if not _swallowed(values[n], values[total])), total]
    varied = {name: _variety(values[name]) for name in possible}
    most = max(varied.values())
    derived = next(name for name in possible if varied[name] * MORE_VARIED >= most)
    if derived == total:
        return _total(by_name[total], [by_name[left], by_name[right]])
    other = left if derived == right else right
    difference = _difference(by_name[derived], by_name[total], by_name[other])
    if difference.minimum is None and (values[derived] < 0).sum() < min_rows:
        return replace(difference, minimum=0.0)
    return difference


def _products(frame: pd.DataFrame, columns: list[Column], min_rows: int) -> list[Relation]:
    """Numbers that are the product of two others, up to their own rounding and a power of ten."""
    values = _numbers(frame, columns)
    if not 3 <= len(values) <= MAX_SUM_COLUMNS:
        return []
    names, by_name = list(values), {c.name: c for c in columns}
    table = np.stack(list(values.values()))
    complete = np.flatnonzero(~np.isnan(table).any(axis=0))
    if len(complete) < MIN_PROOF:
        return []
    nonzero = np.count_nonzero(table[:, complete], axis=0)  # a zero fits any product with one
    probe = table[:, complete[np.argsort(-nonzero, kind="stable")[:PROBE]]]
    digits = [by_name[name].decimals for name in names]
    slack = np.array([0.0 if d is None else 0.5 * 10.0**-d for d in digits])[:, None]
    varied = np.array([len(np.unique(row)) >= MIN_VALUES for row in table])
    found: list[Product] = []
    for (i, j), factor in itertools.product(itertools.combinations(range(len(names)), 2), FACTORS):
        made = probe[i] * probe[j] * factor
        if np.count_nonzero(made) < MIN_TELLING:
            continue
        # Only a sieve: all rows decide.
        near = (np.abs(probe - made) <= slack + 1e-9 * np.abs(made)).all(axis=1)
        for t in np.flatnonzero(near & (varied | (factor == 1.0))):
            made_of = {part for relation in found for part in relation.parts}
            known = {relation.derived for relation in found}
            nests = bool({names[i], names[j]} & known)
            if t in (i, j) or names[t] in known or (nests and names[t] in made_of):
                continue
            parts, decimals = table[[i, j]].T, digits[t]
            if (np.nan_to_num(parts).all(axis=1)).sum() < MIN_PROOF:
                continue  # zeros say little
            relation = _product(by_name[names[t]], [by_name[names[i]], by_name[names[j]]], factor)
            if decimals is not None:
                halves = _halves(parts, factor, decimals, table[t])
                if halves is None:
                    continue
                relation = replace(relation, halves=halves)
            elif not np.array_equal(product(parts, factor, None), table[t], equal_nan=True):
                continue  # its last digits would tell
            # What others are made of comes after them, and so is computed before.
            found.insert(0 if nests else len(found), relation)
    return [*found]


def _swallowed(part: Floats, total: Floats) -> bool:
    """Return whether totals (N,) are so large that the digits of a part are not in them."""
    spread = float(np.nanmax(part) - np.nanmin(part))
    return bool(0 < spread * MOST_SWALLOWED < np.spacing(np.nanmax(np.abs(total))))


def _variety(values: Floats) -> float:
    """Return how many equally frequent values would repeat as often (Simpson 1949; Hill 1973)."""
    counts = np.unique(values[~np.isnan(values)], return_counts=True)[1]
    return float(counts.sum()) ** 2 / max(float((counts.astype(float) ** 2).sum()), 1.0)


def _is_exact(part: Column, total: Column, other: Column) -> bool:
    """Return whether two parts of a sum can hold it: one has as many digits as the total."""
    digits = [np.inf if c.decimals is None else c.decimals for c in (part, other)]
    return max(digits) >= (np.inf if total.decimals is None else total.decimals)


def _difference(part: Column, total: Column, other: Column) -> Difference:
    own, grids = Grid.of(part), (Grid.of(total), Grid.of(other))
    ends = own.minimum, own.maximum
    return Difference(part.name, total.name, other.name, own.decimals, *ends, grids)


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
