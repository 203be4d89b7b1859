"""Conditions that cannot be met: why, and what comes nearest. Counts and bounds, never a level.

The only levels that are named are those that the schema declares (`conditions.parse` does that).
Bounds are those of cells, which stand for k rows each, or what ten drawn rows reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import pandas as pd

from synthgen.ask import conditions as cond
from synthgen.ask.conditions import Condition
from synthgen.encode.categorical import CategoricalEncoder
from synthgen.encode.numeric import NumericEncoder, units_within
from synthgen.encode.table import Part
from synthgen.errors import ConfigError
from synthgen.schema import Column, TableSchema

#: Drawn rows that must reach a bound before it is called the nearest possible one.
REACHED_BY = 10
#: Likeness (0 to 1) from which a level may be what was meant.
ALIKE = 0.75


def no_level(
    part: Part, asked: Sequence[Condition], column: Column, others: Sequence[str]
) -> ConfigError:
    """Return the error for conditions that nothing known of one column satisfies.

    Parameters
    ----------
    part : Part
        Of the column: the one that none of its levels satisfies.
    asked : sequence of Condition
        Those on the column itself.
    column : Column
    others : sequence of str
        Columns that this one decides and that are asked of as well.
    """
    if others:
        names = ", ".join(f"'{n}'" for n in others)
        both = "each other" if asked or len(others) > 1 else "what they are computed from"
        return ConfigError(
            f"column '{column.name}' decides {names}, and no level that the generator knows "
            f"satisfies all conditions on them: they exclude {both}; drop those on one column"
        )
    known = "it knows no such time of day"
    if isinstance(part.encoder, CategoricalEncoder):
        known = _levels(part.encoder, asked)
    elif isinstance(part.encoder, NumericEncoder) and part.view != "clock":
        known = _cells(part.encoder, asked, column)
    return ConfigError(
        f"column '{column.name}': nothing that the generator knows satisfies the condition; {known}"
    )


def _levels(encoder: CategoricalEncoder, asked: Sequence[Condition]) -> str:
    if any(c.operator == "null" for c in asked):
        return "no row that it learnt from was missing (or fewer than are kept)"
    wanted = [v.strip().casefold() for c in asked for v in c.values]
    alike = sum(
        any(SequenceMatcher(None, level.casefold(), v).ratio() >= ALIKE for v in wanted)
        for level in encoder.levels
    )
    return (
        f"it knows {len(encoder.levels)} levels (a value held by too few rows is not kept), "
        f"{alike} of them written nearly so; declare the column's categories in the schema, "
        "and they are named here"
    )


def _cells(encoder: NumericEncoder, asked: Sequence[Condition], column: Column) -> str:
    """Return the ends of what is known, and what lies nearest to the bounds that are asked for."""
    if any(c.operator == "null" for c in asked):
        return "no row that it learnt from was missing (or fewer than are kept)"
    lower, upper = encoder.lower[encoder.counts[1:] > 0], encoder.upper[encoder.counts[1:] > 0]
    if len(lower) == 0:
        return "it knows no value of this column: too few rows held one"
    if encoder.unit:
        lower, upper = (e * encoder.unit for e in units_within(lower, upper, encoder.unit))
    text = f"it knows values from {_said(lower[0], column)} to {_said(upper[-1], column)}"
    low, high = cond.common_bounds(asked, column)
    low, high = (as_number(b, column) for b in (low, high))
    below = [] if low is None else [*upper[upper < low][-1:]]
    above = [] if high is None else [*lower[lower > high][:1]]
    near = " and ".join(_said(v, column) for v in (*below, *above))
    return f"{text}, the nearest are {near}" if below and above else f"{text}"


def as_number(bound: Any, column: Column) -> float | None:
    """Return a bound in the unit of a column's first part: days since 1970 for a datetime."""
    if bound is None or column.kind != "datetime":
        return None if bound is None else float(bound)
    stamp = bound.tz_convert(column.timezone).tz_localize(None) if column.timezone else bound
    return float((stamp - pd.Timestamp("1970-01-01")) // pd.Timedelta(days=1))


def _said(value: Any, column: Column) -> str:
    """Return a number, or the days or the moment of a datetime, as a person would write it."""
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if column.kind == "datetime":
        day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=float(value))
        return day.date().isoformat()
    return f"{value:.{column.decimals}f}" if column.decimals is not None else f"{value:.6g}"


def together(rows: pd.DataFrame, conditions: Sequence[Condition], schema: TableSchema) -> str:
    """Return which condition to drop, or how far to move it, by counts of freely drawn rows.

    Parameters
    ----------
    rows : (N, columns) DataFrame
        Drawn without conditions.
    conditions : sequence of Condition
        On one column or more, which hardly any row satisfies together.
    schema : TableSchema
    """
    names = list(dict.fromkeys(c.column for c in conditions))
    asked = {n: [c for c in conditions if c.column == n] for n in names}
    holds = {n: _hold(rows[n], asked[n], schema.column(n)) for n in names}
    every = int(np.all([*holds.values()], axis=0).sum())
    lines = [f"of {len(rows):,} rows drawn without conditions {every:,} satisfy all of them"]
    for name in names:
        rest = np.all([np.ones(len(rows), bool), *(holds[n] for n in names if n != name)], axis=0)
        near = _nearest(rows.loc[rest, name].dropna(), asked[name], schema.column(name))
        lines.append(f"without those on '{name}' {int(rest.sum()):,} do{near}")
    return "; ".join(lines)


def _hold(values: pd.Series, asked: Sequence[Condition], column: Column) -> np.ndarray:
    return np.asarray(np.all([c.holds(values, column) for c in asked], axis=0))


def _nearest(values: pd.Series, asked: Sequence[Condition], column: Column) -> str:
    """Return the bound nearest to the asked ones that `REACHED_BY` of the `values` reach."""
    if column.kind not in ("numeric", "datetime") or len(values) < REACHED_BY:
        return ""
    low, high = cond.common_bounds(asked, column)
    ordered = values.sort_values(ignore_index=True)
    least, most = ordered.iloc[REACHED_BY - 1], ordered.iloc[-REACHED_BY]
    if low is not None and most < low:
        return f" (the nearest possible: {column.name} >= {_said(most, column)})"
    if high is not None and least > high:
        return f" (the nearest possible: {column.name} <= {_said(least, column)})"
    return ""
