"""What levels allow: combinations of columns that occur, and bounds of a number by group.

As everywhere in an encoder, what is kept stands for k rows: a combination that fewer hold is not
drawn, and a bound that was learnt is the mean of the k rows next to it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from synthgen.encode.categorical import RARE
from synthgen.schema import Column, Constraint, TableSchema

Bools = npt.NDArray[np.bool_]


def combined(frame: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """Return each row's combination of columns as one text, a JSON list; missing is null.

    >>> combined(pd.DataFrame({"a": ["x", None], "b": [True, False]}), ["a", "b"]).tolist()
    ['["x", "True"]', '[null, "False"]']
    """
    number = frame.groupby(list(names), dropna=False, sort=False, observed=True).ngroup()
    first = np.unique(number.to_numpy(), return_index=True)[1]
    texts = [
        json.dumps([None if pd.isna(v) else str(v) for v in row])
        for row in frame[list(names)].iloc[first].itertuples(index=False)
    ]
    chosen = np.array(texts, object)[number.to_numpy()] if texts else np.array([], object)
    return pd.Series(chosen, index=frame.index, dtype="str")


def cell(text: str | None, *, boolean: bool) -> str | bool | None:
    """Return the canonical value of one text of a combination."""
    return text == "True" if boolean and text else text


@dataclass(frozen=True)
class Combined:
    """Columns of which only some combinations occur: the first is modelled as the combination.

    Each of the others is then a `Lookup` from it.

    Attributes
    ----------
    derived : str
        The first column.
    parts : tuple of str
        The others.
    levels : tuple of str
        The combinations that may be drawn, as `combined` writes them.
    boolean : bool
        Whether the first column is one.
    """

    derived: str
    parts: tuple[str, ...]
    levels: tuple[str, ...]
    boolean: bool = False

    @property
    def source(self) -> str:
        """The column whose levels decide: itself, once it is the combination."""
        return self.derived

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the columns without which the combination is not known."""
        return self.parts

    @property
    def replaced(self) -> Column | None:
        """A closed list: what is rare is never drawn."""
        return Column(name=self.derived, kind="categorical", categories=self.levels)

    def reduce(self, frame: pd.DataFrame, columns: list[Column]) -> None:
        """Put the combination in the place of the first column."""
        frame[self.derived] = combined(frame, (self.derived, *self.parts))
        place = [c.name for c in columns].index(self.derived)
        assert self.replaced is not None
        columns[place] = self.replaced

    def restore(self, frame: pd.DataFrame, known: pd.DataFrame | None = None) -> None:
        """Take the first column out of its combination."""
        own = self._own
        values = [own.get(text) for text in frame[self.derived]]
        dtype = "boolean" if self.boolean else "str"
        frame[self.derived] = pd.Series(values, index=frame.index, dtype=dtype)

    @property
    def _own(self) -> dict[Any, Any]:
        """Return the first column's value in each combination."""
        return {k: cell(json.loads(k)[0], boolean=self.boolean) for k in self.levels}

    def broken(self, frame: pd.DataFrame) -> Bools:
        """Return none: what is not listed is not kept, but contradicts nothing."""
        return np.zeros(len(frame), bool)

    def deciding(self, values: pd.Series) -> dict[str | None, Bools]:
        """Return for each combination, `RARE` for none of them, which (N,) values it holds."""
        missing = values.isna().to_numpy(bool)
        held: dict[str | None, Bools] = {
            level: missing if own is None else (values == own).fillna(False).to_numpy(bool)
            for level, own in self._own.items()
        }
        return {**held, RARE: np.zeros(len(values), bool)}

    def solve(self, frame: pd.DataFrame, known: pd.DataFrame) -> None:
        """Do nothing: the look-ups of the others do."""

    def settle(self, frame: pd.DataFrame, given: pd.Series, known: pd.DataFrame) -> None:
        """Do nothing: only combinations with the known value were drawn."""

    def filled(self, rule: Constraint, schema: TableSchema) -> Constraint:
        """Return `rule` with these combinations, as the schema writes them."""
        labels = [schema.column(name).categories or ("false", "true") for name in rule.columns]
        is_boolean = [schema.column(name).kind == "boolean" for name in rule.columns]
        allowed = (
            tuple(
                label[value == "True"] if boolean and value else value or ""
                for value, boolean, label in zip(json.loads(level), is_boolean, labels, strict=True)
            )
            for level in self.levels
        )
        return replace(rule, allowed=tuple(allowed))

    def to_json(self) -> dict[str, Any]:
        """Return the combinations."""
        return {"type": "combined", **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Within:
    """A number whose bounds depend on a level: modelled as it is, drawn inside them.

    Cells beyond the bounds of a row's level are not drawn (`restriction`); what is left of a cell
    that a bound cuts is moved inside.

    Attributes
    ----------
    derived, source : str
        The number, and the category.
    levels : tuple of str or None
        `RARE` stands for all others.
    lows, highs : tuple of float or None
        Inclusive; None for no bound.
    learnt : bool
        Whether the bounds are means of k rows, which some rows lie beyond.
    """

    derived: str
    source: str
    levels: tuple[str | None, ...]
    lows: tuple[float | None, ...]
    highs: tuple[float | None, ...]
    learnt: bool = False

    @property
    def replaced(self) -> Column | None:
        """Nothing: the number itself is modelled."""
        return None

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def reduce(self, frame: pd.DataFrame, columns: list[Column]) -> None:
        """Do nothing."""

    def restore(self, frame: pd.DataFrame, known: pd.DataFrame | None = None) -> None:
        """Move what lies outside of its group's bounds to the nearer one."""
        low, high = self.limits(frame[self.source])
        frame[self.derived] = frame[self.derived].clip(low, high)

    def limits(self, groups: pd.Series) -> tuple[pd.Series, pd.Series]:
        """Return each row's bounds, infinite where there are none."""
        keys = groups.astype(object).where(groups.notna(), None)
        out = []
        for ends, none in ((self.lows, -np.inf), (self.highs, np.inf)):
            table = dict(zip(self.levels, (none if e is None else e for e in ends), strict=True))
            other = table.get(RARE, none)
            values = [table.get(key, other) for key in keys]
            out.append(pd.Series(values, index=groups.index, dtype=np.float64))
        return out[0], out[1]

    def outside(self, frame: pd.DataFrame) -> Bools:
        """Return which rows lie outside of their group's bounds."""
        low, high = self.limits(frame[self.source])
        values = frame[self.derived]
        return np.asarray((values < low) | (values > high), bool)

    def broken(self, frame: pd.DataFrame) -> Bools:
        """Return which rows lie outside of declared bounds."""
        return self.outside(frame) & (not self.learnt)

    def deciding(self, values: pd.Series) -> dict[str | None, Bools]:
        """Return for each level, `RARE` for all others, which (N,) values its bounds allow."""
        out: dict[str | None, Bools] = {RARE: np.ones(len(values), bool)}
        for level, low, high in zip(self.levels, self.lows, self.highs, strict=True):
            beyond = np.zeros(len(values), bool)
            if low is not None:
                beyond |= (values < low).fillna(False).to_numpy(bool)
            if high is not None:
                beyond |= (values > high).fillna(False).to_numpy(bool)
            out[level] = ~beyond
        return out

    def solve(self, frame: pd.DataFrame, known: pd.DataFrame) -> None:
        """Do nothing: a number alone decides no level."""

    def settle(self, frame: pd.DataFrame, given: pd.Series, known: pd.DataFrame) -> None:
        """Do nothing: only levels that allow the known number were drawn."""

    def filled(self, rule: Constraint, schema: TableSchema) -> Constraint:
        """Return `rule` with these bounds, but for levels that are not kept and for missing."""
        ends = zip(self.levels, self.lows, self.highs, strict=True)
        bounds = tuple(
            (level, -np.inf if low is None else low, np.inf if high is None else high)
            for level, low, high in ends
            if level is not None and level != RARE
        )
        return replace(rule, bounds=bounds or None)

    def to_json(self) -> dict[str, Any]:
        """Return the bounds."""
        return {"type": "within", **dataclasses.asdict(self)}


def within(
    frame: pd.DataFrame, number: str, group: str, decimals: int | None, min_rows: int
) -> Within:
    """Return the bounds of each level that `min_rows` rows hold, and of all rows for the others.

    Each is the mean of the `min_rows` outermost numbers; fewer rows have no bounds.
    """
    levels: list[str | None] = []
    ends: list[tuple[float | None, float | None]] = []
    keys = frame[group].astype(object).where(frame[group].notna(), None)
    values = frame[number].to_numpy(np.float64)
    for level in [*sorted(k for k in keys.unique() if k is not None), None]:
        held = values[(keys.isna() if level is None else keys == level).to_numpy(bool)]
        held = np.sort(held[~np.isnan(held)])
        if len(held) >= min_rows:
            levels.append(level)
            ends.append(_ends(held, decimals, min_rows))
    known = np.sort(values[~np.isnan(values)])
    levels.append(RARE)
    ends.append(_ends(known, decimals, min_rows) if len(known) >= min_rows else (None, None))
    lows, highs = zip(*ends, strict=True)
    return Within(number, group, tuple(levels), lows, highs, learnt=True)


def _ends(ordered: npt.NDArray[np.float64], decimals: int | None, k: int) -> tuple[float, float]:
    low, high = float(ordered[:k].mean()), float(ordered[-k:].mean())
    return (low, high) if decimals is None else (round(low, decimals), round(high, decimals))
