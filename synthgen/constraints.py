"""Rules between columns: which rows break them. Their form is that of `schema.Constraint`.

>>> import pandas as pd
>>> from synthgen.schema import Column, Constraint, TableSchema
>>> columns = tuple(Column(name=n, kind="numeric", decimals=0) for n in "tab")
>>> rule = Constraint(kind="sum", columns=("t", "a", "b"))
>>> schema = TableSchema(name="x", columns=columns, constraints=(rule,))
>>> broken(rule, pd.DataFrame({"t": [3.0, 4.0], "a": [1.0, 1.0], "b": [2.0, 2.0]}), schema).tolist()
[False, True]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from synthgen.errors import Violation
from synthgen.schema import Column, Constraint, TableSchema

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def broken(rule: Constraint, frame: pd.DataFrame, schema: TableSchema) -> Bools:
    """Return which of the (N,) canonical rows break `rule`.

    Where a part is missing, its total must be, too; an order asks nothing of missing values. A
    look-up is broken by rows whose value is not the most frequent one of their level. What a rule
    leaves to the data (`Constraint.is_learnt`) no row breaks: see `learnt`.
    """
    if rule.kind == "order":
        pairs = zip(rule.columns, rule.columns[1:], strict=False)
        above = [(frame[a] > frame[b]).fillna(False).to_numpy(bool) for a, b in pairs]
        return np.asarray(np.any(above, axis=0))
    if rule.kind == "lookup":
        return _no_lookup(*(frame[name] for name in rule.columns))
    if rule.kind == "combinations":
        return _not_allowed(rule, frame, schema)
    if rule.kind == "range":
        return _out_of_range(rule, frame)
    first, parts = frame[rule.columns[0]], [frame[name] for name in rule.columns[1:]]
    decimals = schema.column(rule.columns[0]).decimals
    if rule.kind == "product":
        return no_product(first, parts, decimals, 1.0 if rule.value is None else rule.value)
    if rule.kind == "constant":
        whole = pd.Series(float(rule.value or 0.0), frame.index)
        gone = np.isnan(np.stack([p.to_numpy(np.float64) for p in (first, *parts)]))
        apart = gone.any(axis=0) != gone.all(axis=0)
        unequal = no_sum(whole.where(~gone.any(axis=0)), [first, *parts], decimals)
        return np.asarray(apart | unequal)
    return no_sum(first, parts, decimals)


def _not_allowed(rule: Constraint, frame: pd.DataFrame, schema: TableSchema) -> Bools:
    if rule.allowed is None:
        return np.zeros(len(frame), bool)
    rows = [_texts(frame[name], schema.column(name)) for name in rule.columns]
    allowed = set(rule.allowed)
    return np.array([row not in allowed for row in zip(*rows, strict=True)], bool)


def _texts(values: pd.Series, column: Column) -> list[str]:
    """Return the texts of a category or boolean as the schema writes them; empty for missing."""
    if column.kind == "boolean":
        false, true = column.categories or ("false", "true")
        values = values.map({False: false, True: true}).astype(object)
    return ["" if pd.isna(v) else str(v) for v in values]


def _out_of_range(rule: Constraint, frame: pd.DataFrame) -> Bools:
    values, groups = (frame[name] for name in rule.columns)
    out = np.zeros(len(frame), bool)
    for level, low, high in rule.bounds or ():
        beyond = ((values < low) | (values > high)).fillna(False).to_numpy(bool)
        out |= beyond & (groups == level).fillna(False).to_numpy(bool)
    return out


def learnt(schema: TableSchema, real: pd.DataFrame) -> TableSchema:
    """Return `schema` with what its rules leave to the data: combinations and ranges of `real`.

    They are cells of real rows, to count other rows against: they must not be written.
    """
    rules = tuple(
        _learnt(rule, real, schema) if rule.is_learnt else rule for rule in schema.constraints
    )
    return replace(schema, constraints=rules)


def _learnt(rule: Constraint, real: pd.DataFrame, schema: TableSchema) -> Constraint:
    if rule.kind == "combinations":
        rows = [_texts(real[name], schema.column(name)) for name in rule.columns]
        return replace(rule, allowed=tuple(sorted(set(zip(*rows, strict=True)))))
    number, group = rule.columns
    known = real[[number, group]].dropna()
    ends = known.groupby(group, observed=True)[number].agg(["min", "max"])
    bounds = tuple((str(level), float(a), float(b)) for level, a, b in ends.itertuples())
    return replace(rule, bounds=bounds or None)


class Broken:
    """Counts rows that break the rules of a schema, frame after frame; memory: levels of look-ups.

    A row of a look-up is counted against the most frequent value of its level in all frames.
    """

    def __init__(self, schema: TableSchema) -> None:
        self._schema = schema
        self._counts = dict.fromkeys(schema.constraints, 0)
        self._pairs: dict[Constraint, list[pd.DataFrame]] = {
            rule: [] for rule in schema.constraints if rule.kind == "lookup"
        }

    def add(self, frame: pd.DataFrame) -> None:
        """Count one frame's rows."""
        for rule in self._schema.constraints:
            if rule in self._pairs:
                self._pairs[rule].append(_pairs(frame, rule.columns))
            else:
                self._counts[rule] += int(broken(rule, frame, self._schema).sum())

    def counts(self) -> dict[Constraint, int]:
        """Return the rows that break each rule."""
        return self._counts | {rule: _strays(found) for rule, found in self._pairs.items() if found}


def _pairs(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return how many rows hold each pair of source and derived value."""
    found = frame.groupby(list(columns), dropna=False, observed=True).size().reset_index()
    return found.set_axis(["source", "derived", "rows"], axis=1)


def _strays(found: Sequence[pd.DataFrame]) -> int:
    together = pd.concat(found).groupby(["source", "derived"], dropna=False)["rows"].sum()
    return int(together.sum() - together.groupby(level="source", dropna=False).max().sum())


def violations(frames: Iterable[pd.DataFrame], schema: TableSchema) -> list[Violation]:
    """Return every rule of the schema that some row of the canonical `frames` breaks."""
    counter, n_rows = Broken(schema), 0
    for frame in frames if schema.constraints else ():
        counter.add(frame)
        n_rows += len(frame)
    remedy = "correct these rows, or drop the rule from the schema"
    return [
        Violation(rule.columns[0], f"rows break the rule {said(rule)}", count, n_rows, remedy)
        for rule, count in counter.counts().items()
        if count
    ]


def said(rule: Constraint) -> str:
    """Return the rule in symbols.

    >>> said(Constraint(kind="product", columns=("y", "x"), value=0.5))
    'y = 0.5 * x'
    >>> said(Constraint(kind="order", columns=("low", "high")))
    'low <= high'
    """
    first, rest = rule.columns[0], rule.columns[1:]
    if rule.kind == "order":
        return " <= ".join(rule.columns)
    if rule.kind == "lookup":
        return f"{first} -> {rest[0]}"
    if rule.kind == "combinations":
        return f"combinations of {', '.join(rule.columns)}"
    if rule.kind == "range":
        return f"bounds of {first} by {rest[0]}"
    if rule.kind == "constant":
        return f"{' + '.join(rule.columns)} = {rule.value:g}"
    if rule.kind == "product":
        factor = [] if rule.value is None else [f"{rule.value:g}"]
        return f"{first} = {' * '.join([*factor, *rest])}"
    return f"{first} = {' + '.join(rest)}"


def no_sum(total: pd.Series, parts: Sequence[pd.Series], decimals: int | None) -> Bools:
    """Return where `total` is not the sum, but for rounding or float noise; row by row."""
    t, p = total.to_numpy(np.float64), np.stack([x.to_numpy(np.float64) for x in parts])
    noise = 1e-9 * np.maximum(np.abs(p).max(axis=0), np.abs(t))
    slack = noise if decimals is None else noise + 0.5 * 10.0**-decimals
    added = p.sum(axis=0)
    apart = np.isnan(added) != np.isnan(t)
    return np.asarray(apart | (np.abs(added - t) > slack))


def no_product(
    derived: pd.Series, parts: Sequence[pd.Series], decimals: int | None, factor: float
) -> Bools:
    """Return where `derived` is not the product, rounded to its decimals; row by row.

    What lies half-way may be rounded up or down: programs differ.
    """
    y = derived.to_numpy(np.float64)
    product = times(np.stack([p.to_numpy(np.float64) for p in parts]).prod(axis=0), factor)
    noise = 1e-9 * np.abs(product)
    slack = noise if decimals is None else noise + 0.5 * 10.0**-decimals
    apart = np.isnan(product) != np.isnan(y)
    return np.asarray(apart | (np.abs(product - y) > slack))


def times(x: Floats, factor: float) -> Floats:
    """Multiply, or divide by a whole number: 36 / 1440 is not 36 * (1 / 1440), and half-way."""
    divisor = round(1 / factor) if 0 < abs(factor) < 1 else 0
    return x / divisor if divisor and 1 / divisor == factor else x * factor


def _no_lookup(source: pd.Series, derived: pd.Series) -> Bools:
    codes = [pd.factorize(values, use_na_sentinel=False)[0] for values in (source, derived)]
    pairs = pd.DataFrame({"source": codes[0], "derived": codes[1]})
    most = pairs.value_counts().reset_index().drop_duplicates("source")
    usual = most.set_index("source")["derived"]
    return np.asarray(pairs["derived"] != pairs["source"].map(usual), bool)
