"""``--where`` expressions: parsed, checked against the schema, tested on rows; never evaluated.

>>> from synthgen.schema import Column, TableSchema
>>> schema = TableSchema(name="t", columns=(Column(name="age", kind="numeric", decimals=0),))
>>> parse("age >= 30", schema)
Condition(column='age', operator='>=', values=('30',))
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd

from synthgen.conform import FREQUENCIES
from synthgen.errors import ConfigError
from synthgen.schema import Column, TableSchema
from synthgen.table import in_zone

OPERATORS = ("<=", ">=", "!=", "==", "=", "<", ">")
_NULL = re.compile(r"^(?P<name>`[^`]+`|.+?)\s+is\s+(?P<no>not\s+)?null$", re.IGNORECASE)
_IN = re.compile(r"^(?P<name>`[^`]+`|.+?)\s+in\s*\((?P<items>.*)\)$", re.IGNORECASE | re.DOTALL)
_COMPARE = re.compile(
    r"^(?P<name>`[^`]+`|[^<>=!]+?)\s*(?P<op><=|>=|!=|==|=|<|>)\s*(?P<value>.*)$", re.DOTALL
)
_ITEM = re.compile(r"""\s*(?:'((?:[^']|'')*)'|"([^"]*)"|([^,'"]+))\s*(?:,|$)""")
#: Reading takes time with the square of the length.
MAX_LENGTH = 1_000


@dataclass(frozen=True)
class Condition:
    """One demand on one column.

    Attributes
    ----------
    column : str
    operator : str
        ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in``, ``null`` or ``not null``.
    values : tuple of str
        One text, or several for ``in``; none for the null tests.
    """

    column: str
    operator: str
    values: tuple[str, ...]

    def holds(self, values: pd.Series, column: Column) -> np.ndarray:
        """Return (N,) bool: which canonical `values` satisfy it; a missing value only ``null``."""
        missing = values.isna().to_numpy(bool)
        if self.operator in ("null", "not null"):
            return missing if self.operator == "null" else ~missing
        wanted = [read_value(v, column) for v in self.values]
        if self.operator in ("=", "in", "!="):
            equal = values.isin(wanted).to_numpy(bool)
            return ~missing & (~equal if self.operator == "!=" else equal)
        low, high = self.bounds(column)
        inside = np.ones(len(values), bool)
        if low is not None:
            inside &= (values >= low).fillna(False).to_numpy(bool)
        if high is not None:
            inside &= (values <= high).fillna(False).to_numpy(bool)
        return ~missing & inside

    def bounds(self, column: Column) -> tuple[Any, Any]:
        """Return the inclusive bounds that it sets, None for an open end.

        Bounds are values that the column can hold: a strict inequality excludes the value by one
        unit (decimals, resolution), and one between two units counts from the next.
        """
        if self.operator not in ("<", "<=", ">", ">=", "="):
            return None, None
        value = read_value(self.values[0], column)
        if self.operator == "=":
            return value, value
        if self.operator in ("<=", ">="):
            value = held(value, column, up=self.operator == ">=")
            return (None, value) if self.operator == "<=" else (value, None)
        step = one_step(value, column, up=self.operator == ">")
        return (None, step) if self.operator == "<" else (step, None)

    def intervals(self, column: Column) -> list[tuple[Any, Any]]:
        """Return the inclusive bounds of each interval whose values satisfy it, lowest first.

        Of a numeric or datetime column; None for an open end. The null tests set none.
        """
        values = [read_value(v, column) for v in self.values]
        if self.operator == "in":
            return [(v, v) for v in sorted(set(values))]
        if self.operator == "!=":
            below, above = (one_step(values[0], column, up=up) for up in (False, True))
            return [(None, below), (above, None)]
        return [self.bounds(column)]


def parse(text: str, schema: TableSchema) -> Condition:
    """Read ``COLUMN OP VALUE``, ``COLUMN in (A, B)`` or ``COLUMN is [not] null``.

    Raises
    ------
    ConfigError
        If it is not of that form, the column is unknown or not modelled, or the operator or value
        does not fit its kind.
    """
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"a condition has at most {MAX_LENGTH:,} characters")
    text = text.strip()
    if found := _NULL.match(text):
        condition = Condition(_name(found["name"]), "not null" if found["no"] else "null", ())
    elif found := _IN.match(text):
        condition = Condition(_name(found["name"]), "in", _items(found["items"]))
    elif found := _COMPARE.match(text):
        operator = "=" if found["op"] == "==" else found["op"]
        values = _items(found["value"])
        if len(values) != 1:
            raise ConfigError("a comparison needs exactly one value; quote it if it has a comma")
        condition = Condition(_name(found["name"]), operator, values)
    else:
        raise ConfigError(
            'a condition reads COLUMN OP VALUE, for instance "income=\'>50K\'" or "age >= 30"'
        )
    check(condition, schema)
    return condition


def _name(text: str) -> str:
    """Return a name without its quotes: `` `a >= b` `` may hold what else is an operator."""
    text = text.strip()
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "`\"'"
    return text[1:-1] if is_quoted else text


def _items(text: str) -> tuple[str, ...]:
    out, position = [], 0
    while position < len(text):
        found = _ITEM.match(text, position)
        if not found or found.end() == position:
            raise ConfigError("a list of values reads (A, 'B C', \"D\")")
        quoted, double, bare = found.groups()
        out.append(
            quoted.replace("''", "'")
            if quoted is not None
            else double
            if double is not None
            else bare.strip()
        )
        position = found.end()
    if not out:
        raise ConfigError("a condition needs a value")
    return tuple(out)


def check(condition: Condition, schema: TableSchema) -> None:
    """Raise ConfigError if the condition asks what no row of the schema can answer."""
    column = known_column(condition.column, schema)
    ordered = column.kind in ("numeric", "datetime")
    if condition.operator in ("<", "<=", ">", ">=") and not ordered:
        raise ConfigError(f"column '{column.name}' has no order: use =, != or in")
    if condition.operator == "null" and not column.nullable:
        raise ConfigError(f"column '{column.name}' is never missing")
    for value in condition.values:
        wanted = read_value(value, column)
        if ordered and condition.operator in ("=", "in") and held(wanted, column) != wanted:
            raise ConfigError(
                f"column '{column.name}' holds {_units(column)}, so it never equals the value of "
                "the condition; ask for one that it can hold, or for a range (<=, >=)"
            )
        if column.kind == "categorical" and column.categories and value not in column.categories:
            raise ConfigError(
                f"column '{column.name}': a level of the condition is none of the "
                f"{len(column.categories)} that the schema declares"
                f"{_meant(value, column.categories) or _few(column.categories)}"
            )
    _check_declared(condition, column)


def known_column(name: str, schema: TableSchema) -> Column:
    """Return the modelled column called `name`; ConfigError names those that are like it."""
    if name not in schema.names:
        raise ConfigError(
            f"column '{name}' is not in the schema"
            f"{_meant(name, schema.names)}; it has {', '.join(schema.names)}"
        )
    column = schema.column(name)
    if not column.is_modelled:
        raise ConfigError(f"column '{name}' is regenerated, so nothing can be asked of it")
    return column


def _check_declared(condition: Condition, column: Column) -> None:
    """Refuse bounds beyond those that the schema declares: they say what is possible."""
    if column.kind not in ("numeric", "datetime"):
        return
    low, high = condition.bounds(column)
    least, most = (
        None if b is None else read_value(str(b), column) for b in (column.minimum, column.maximum)
    )
    if least is not None and high is not None and high < least:
        raise ConfigError(
            f"column '{column.name}': the condition ends below the declared minimum; "
            f"the nearest possible: {column.name} <= {column.minimum}"
        )
    if most is not None and low is not None and low > most:
        raise ConfigError(
            f"column '{column.name}': the condition starts above the declared maximum; "
            f"the nearest possible: {column.name} >= {column.maximum}"
        )


def _meant(text: str, names: Sequence[str]) -> str:
    """Return what may have been meant, of public `names`, by likeness; upper or lower case."""
    by_case = {n.casefold(): n for n in names}
    near = get_close_matches(text.strip().casefold(), by_case, n=3)
    return f"; nearest: {', '.join(repr(by_case[n]) for n in near)}" if near else ""


def _few(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f": {', '.join(map(repr, names[:most]))}{more}"


def read_value(text: str, column: Column) -> Any:
    """Return the canonical value of `text`; ConfigError if it is none of the column's kind."""
    try:
        if column.kind == "numeric":
            number = float(text)
            if not np.isfinite(number):
                raise ValueError
            return number
        if column.kind == "boolean":
            false, true = column.categories or ("false", "true")
            return {false.lower(): False, true.lower(): True, "false": False, "true": True}[
                text.lower()
            ]
        if column.kind == "datetime":
            return _moment(text, column)
    except (ValueError, KeyError, OverflowError):
        raise ConfigError(
            f"column '{column.name}': the condition's value is no {column.kind}"
        ) from None
    return text


def _moment(text: str, column: Column) -> pd.Timestamp:
    """Return an ISO 8601 date or time that has neighbours.

    ValueError or OverflowError for any other text, NaT and "now" among them.
    """
    stamp = pd.Timestamp(datetime.fromisoformat(text.strip()))
    if column.timezone is None and stamp.tz is not None:
        raise ValueError("the column has no time zone")
    try:
        stamp = in_zone(stamp, column.timezone)
        for up in (True, False):  # what lies beside it must be a moment too
            one_step(stamp, column, up=up)
    except NotImplementedError:
        raise ValueError("the moment lies outside the years 1 to 9999") from None
    return stamp


def common_bounds(conditions: Sequence[Condition], column: Column) -> tuple[Any, Any]:
    """Return the inclusive bounds that all of one column's conditions set together.

    Raises
    ------
    ConfigError
        If nothing lies between them.
    """
    bounds = [c.bounds(column) for c in conditions]
    low = max((a for a, _ in bounds if a is not None), default=None)
    high = min((b for _, b in bounds if b is not None), default=None)
    if low is not None and high is not None and low > high:
        raise ConfigError(f"column '{column.name}': the conditions exclude each other")
    return low, high


def one_step(value: Any, column: Column, *, up: bool) -> Any:
    """Return the next value above or below: one unit of the decimals or of the resolution away."""
    sign = 1 if up else -1
    if column.kind == "datetime":  # of the wall clock, on which no day has 23 or 25 hours
        return held(value + sign * pd.Timedelta(1, unit="us"), column, up=up)
    # From the unit before it, if the value lies between two.
    value = held(value, column, up=not up)
    if column.decimals is None:
        return float(np.nextafter(value, sign * np.inf))
    return round(float(value) + sign * 10.0**-column.decimals, column.decimals)


def held(value: Any, column: Column, *, up: bool = True) -> Any:
    """Return the nearest number or moment, not below (or not above), that the column can hold."""
    if column.kind == "datetime":
        to, is_first = (value.ceil if up else value.floor), value.fold == 0
        return to(FREQUENCIES[column.resolution], ambiguous=is_first, nonexistent="shift_forward")
    if column.decimals is None:
        return value
    units = float(value) * 10.0**column.decimals
    if not np.isfinite(units):
        return value
    near = np.round(units)
    if abs(units - near) > 1e-6 + 4 * np.spacing(abs(units)):  # what rounding leaves is no part
        near = np.ceil(units) if up else np.floor(units)
    return round(float(near) / 10.0**column.decimals, column.decimals)


def _units(column: Column) -> str:
    """Say what an ordered column can hold."""
    if column.kind == "datetime":
        return f"moments to the {column.resolution}"
    return "whole numbers" if column.decimals == 0 else f"numbers of {column.decimals} decimals"
