"""What conditions ask of an encoder's tokens, and which rows satisfy them in the end.

A generator is conditioned exactly: of each token the share of every level, and of every cell, that
satisfies the conditions is known, and numbers of a cell that a bound cuts are spread over what is
left of it. What a token cannot say is seen to afterwards: rows are left out whose computed columns
do not satisfy, or whose day and time of day only do so apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from synthgen.ask.conditions import Condition, known_column
from synthgen.ask.control import Control, numbers
from synthgen.ask.impossible import no_level
from synthgen.encode import datetime as dt
from synthgen.encode.categorical import CategoricalEncoder
from synthgen.encode.column import Floats
from synthgen.encode.functions import Function
from synthgen.encode.groups import Combined, Within
from synthgen.encode.numeric import EVERYWHERE, Intervals, NumericEncoder
from synthgen.encode.relations import Lookup
from synthgen.encode.table import TableEncoder
from synthgen.errors import ConfigError
from synthgen.gan.sample import Restriction, Style
from synthgen.schema import Column, Resolution
from synthgen.table import canonical_dtype


def restriction(encoder: TableEncoder, conditions: Sequence[Condition] = ()) -> Restriction:
    """Return which tokens are possible at all, and which of these satisfy `conditions`.

    Raises
    ------
    ConfigError
        If nothing that the encoder knows of a column satisfies the conditions on it.
    """
    weights: dict[int, np.ndarray] = {}
    first: list[int] = []
    conditions = carried(encoder, conditions)
    layout, within = encoder.layout, intervals(encoder, conditions)
    fine_at = layout.fine_at
    for i, part in enumerate(encoder.parts):
        column = encoder.column(part.column)
        asked = [] if column.name in encoder.computed else conditions
        asked = [c for c in asked if c.column == part.column]
        lookups = _lookups(encoder, part.column, conditions)
        coarse, fine = _possible(part.encoder)
        share: tuple[np.ndarray, np.ndarray | float] | None = None
        if isinstance(part.encoder, NumericEncoder) and i in within:
            share = _of_cells(part.encoder, within[i], asked)
        elif isinstance(part.encoder, CategoricalEncoder) and (asked or lookups):
            share = _of_levels(part.encoder, asked, column, lookups), 0.0
        if share is not None:
            coarse, fine = coarse + share[0], None if fine is None else fine + share[1]
            if not np.isfinite(coarse).any():
                decided = list(dict.fromkeys(r.derived for r, _, _ in lookups))
                raise no_level(part, asked, column, decided)
            first.append(i)
        weights[i] = coarse
        if fine is not None:
            weights[fine_at[i]] = fine
    return Restriction(weights, tuple(first), _pairs(encoder), encoder.absences)


def carried(encoder: TableEncoder, conditions: Sequence[Condition]) -> list[Condition]:
    """Return the conditions, and what those on a function of a column ask of that column.

    The function's own are held in the end (`satisfying`); these only leave out most other rows.
    """
    found = list(conditions)
    for relation in encoder.relations:
        if not isinstance(relation, Function):
            continue
        for asked in [c for c in found if c.column == relation.derived]:
            if asked.operator in ("null", "not null"):
                found.append(replace(asked, column=relation.source))
                continue
            low, high = asked.bounds(encoder.schema.column(relation.derived))
            ends = relation.source_ends(
                -np.inf if low is None else low, np.inf if high is None else high
            )
            for operator, end in zip((">=", "<="), ends or (), strict=False):
                if np.isfinite(end):
                    found.append(Condition(relation.source, operator, (repr(end),)))
    return found


def intervals(encoder: TableEncoder, conditions: Sequence[Condition]) -> dict[int, Intervals]:
    """Return, for each part of a number or date that is asked of, where its numbers lie.

    Of dates these are all days, and all times of day, of some moment that satisfies. Where whole
    days do, every time of day is one, and none is listed.
    """
    views = {(part.column, part.view) for part in encoder.parts}
    conditions = carried(encoder, conditions)
    found: dict[int, Intervals] = {}
    for i, part in enumerate(encoder.parts):
        column = encoder.column(part.column)
        asked = [c for c in conditions if c.column == part.column]
        is_number = isinstance(part.encoder, NumericEncoder)
        if not asked or not is_number or column.name in encoder.computed:
            continue
        ends = _common(asked, column)
        if part.view == "days":
            ends = _days(ends, midnights=(part.column, "clock") not in views)
        elif part.view == "clock":
            if (np.diff(dt.to_days(ends)) > 1).any():
                continue
            ends = _clocks(ends, column.resolution)
        found[i] = [(low, high) for low, high in ends.tolist()]
    return found


def satisfying(
    encoder: TableEncoder, frame: pd.DataFrame, conditions: Sequence[Condition]
) -> pd.DataFrame:
    """Return the rows of a drawn `frame` that satisfy every condition."""
    holds = np.ones(len(frame), bool)
    for condition in conditions:
        column = encoder.schema.column(condition.column)
        holds &= condition.holds(frame[condition.column], column)
    return frame if holds.all() else frame[holds].reset_index(drop=True)


def style(encoder: TableEncoder, control: Control) -> Style:
    """Return the numbers of `control` by token.

    Raises
    ------
    ConfigError
        If a column is unknown, or computed from others and so not drawn.
    """
    by_name = (numbers(control.temperature), numbers(control.top_p))
    return Style(*(_by_token(n, encoder) for n in by_name))


def _by_token(by_name: Mapping[str | None, float], encoder: TableEncoder) -> dict[int, float]:
    """Return the numbers that are not 1 for coarse and fine tokens."""
    drawn = {part.column for part in encoder.parts}
    for name in by_name:
        if name is not None and known_column(name, encoder.schema).name not in drawn:
            raise ConfigError(
                f"column '{name}' is computed from others and not drawn; control those"
            )
    layout = encoder.layout
    owners = [*range(layout.n_coarse), *layout.parents.tolist()]
    numbers = [by_name.get(encoder.parts[i].column, by_name.get(None, 1.0)) for i in owners]
    return {token: number for token, number in enumerate(numbers) if number != 1}


def _lookups(
    encoder: TableEncoder, source: str, conditions: Sequence[Condition]
) -> list[tuple[Lookup | Combined, Condition, Column]]:
    """Return the conditions on columns that the levels of `source` decide."""
    return [
        (r, c, encoder.schema.column(c.column))
        for r in encoder.relations
        if isinstance(r, Lookup | Combined) and r.source == source
        for c in conditions
        if c.column == r.derived
    ]


def _pairs(encoder: TableEncoder) -> dict[tuple[int, int], np.ndarray]:
    """Return which levels of a number each group allows, where its range depends on the group.

    What is left of a level that a bound cuts is moved inside by the relation itself.
    """
    place = {part.column: i for i, part in enumerate(encoder.parts)}
    pairs = {}
    for relation in encoder.relations:
        if not isinstance(relation, Within) or relation.source in encoder.computed:
            continue
        number, group = place[relation.derived], place[relation.source]
        pairs[group, number] = _allowed(
            relation, encoder.parts[group].encoder, encoder.parts[number].encoder
        )
    return pairs


def _allowed(relation: Within, group: Any, number: Any) -> np.ndarray:
    """Return log weights (groups, levels): 0 where some value of the level lies within bounds."""
    low, high = (np.full(number.n_levels, end) for end in (np.inf, -np.inf))
    np.minimum.at(low, number.level, number.lower)
    np.maximum.at(high, number.level, number.upper)
    groups = pd.Series(group.texts, dtype="str")
    least, most = (ends.to_numpy() for ends in relation.limits(groups))
    fits = (high >= least[:, None]) & (low <= most[:, None])
    fits[~fits[:, 1:].any(axis=1)] = True  # nothing known fits: the relation moves what is drawn
    fits[:, 0] = True
    with np.errstate(divide="ignore"):
        return np.log(fits.astype(np.float64))


def _possible(encoder: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return log weights, 0 or -inf, of the levels and cells that training rows hold."""
    with np.errstate(divide="ignore"):
        coarse = np.where(encoder.prior > 0, 0.0, -np.inf)
        fine = (
            None if encoder.fine_prior is None else np.where(encoder.fine_prior > 0, 0.0, -np.inf)
        )
    if isinstance(encoder, CategoricalEncoder) and not encoder.is_rare_drawn:
        coarse[-1] = -np.inf
    return coarse, fine


def _of_levels(
    encoder: CategoricalEncoder,
    asked: Sequence[Condition],
    column: Column,
    lookups: Sequence[tuple[Lookup | Combined, Condition, Column]],
) -> np.ndarray:
    """Return the log share, 0 or -inf, of each level (L,) that satisfies every condition."""
    texts = pd.Series(encoder.texts, dtype="str")
    values = texts
    if column.kind == "boolean":
        values = texts.map({"False": False, "True": True}).astype("boolean")
    holds = [c.holds(values, column) for c in asked]
    for relation, condition, derived in lookups:
        frame = pd.DataFrame({relation.source: texts})
        relation.restore(frame)
        decided = frame[relation.derived].astype(canonical_dtype(derived))  # type: ignore[call-overload]
        holds.append(condition.holds(decided, derived))
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.all(holds, axis=0).astype(float)))


def _of_cells(
    encoder: NumericEncoder, within: Intervals, asked: Sequence[Condition]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the log share of each level (L,), and of each cell (L, F), inside the intervals."""
    share = encoder.pieces(within).share.sum(axis=0).clip(0, 1)
    is_null = [c.operator == "null" for c in asked]
    share[1:] *= not any(is_null)
    share[0] = all(is_null)
    prior = np.ones_like(share) if encoder.fine_prior is None else encoder.fine_prior
    with np.errstate(divide="ignore"):
        return np.log((share * prior).sum(axis=1)), np.log(share)


def _common(asked: Sequence[Condition], column: Column) -> Floats:
    """Return the ends (I, 2) of the intervals that satisfy all of one column's conditions.

    Numbers, or microseconds since 1970 of the wall clock; infinite where there is no end.
    """
    found = np.array(EVERYWHERE)
    for condition in asked:
        bounds = [end for pair in condition.intervals(column) for end in pair]
        values = pd.Series(bounds, dtype=canonical_dtype(column))
        is_date = column.kind == "datetime"
        ends = (dt.to_microseconds(values) if is_date else values.to_numpy()).reshape(-1, 2)
        ends = np.where(np.isnan(ends), EVERYWHERE, ends)
        low = np.maximum(found[:, None, 0], ends[:, 0]).ravel()
        high = np.minimum(found[:, None, 1], ends[:, 1]).ravel()
        found = np.column_stack([low, high])[low <= high]
    return found


def _days(ends: Floats, *, midnights: bool) -> Floats:
    """Return the intervals of days that moments between `ends` lie on: of all, or of midnights."""
    days = dt.to_days(ends)
    if midnights:
        days[:, 0] = -dt.to_days(-ends[:, 0])
    return _apart(days[days[:, 0] <= days[:, 1]])


def _clocks(ends: Floats, resolution: Resolution) -> Floats:
    """Return the intervals of times of day of moments between `ends`, a day apart at most."""
    clock, overnight = dt.to_clock(ends, resolution), np.diff(dt.to_days(ends))[:, 0] > 0
    low, high = clock[overnight].T
    evening = np.column_stack([low, np.full_like(low, np.inf)])
    morning = np.column_stack([np.full_like(high, -np.inf), high])
    return _apart(np.concatenate([clock[~overnight], morning, evening]))


def _apart(ends: Floats) -> Floats:
    """Return intervals (I, 2) in order, those that overlap as one.

    >>> _apart(np.array([[5.0, 9.0], [1.0, 3.0], [2.0, 4.0]])).tolist()
    [[1.0, 4.0], [5.0, 9.0]]
    """
    found: list[list[float]] = []
    for low, high in sorted(ends.tolist()):
        if found and low <= found[-1][1]:
            found[-1][1] = max(found[-1][1], high)
        else:
            found.append([low, high])
    return np.array(found).reshape(-1, 2)
