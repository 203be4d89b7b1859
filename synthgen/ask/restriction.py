"""What conditions ask of an encoder's tokens, and which rows satisfy them in the end.

A generator is conditioned exactly: of each token the share of every level, and of every cell, that
satisfies the conditions is known. What a token cannot say is seen to afterwards: cells that a bound
cuts are mended, rows whose computed columns do not satisfy are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from synthgen.ask import conditions as cond
from synthgen.ask.conditions import Condition, known_column
from synthgen.ask.control import Control, numbers
from synthgen.ask.impossible import as_number, no_level
from synthgen.encode.categorical import CategoricalEncoder
from synthgen.encode.groups import Combined, Within
from synthgen.encode.numeric import NumericEncoder, units_within
from synthgen.encode.relations import Lookup
from synthgen.encode.table import TableEncoder
from synthgen.errors import ConfigError
from synthgen.gan.sample import Restriction, Style
from synthgen.schema import Column
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
    layout = encoder.layout
    fine_at = layout.fine_at
    for i, part in enumerate(encoder.parts):
        column = encoder.column(part.column)
        asked = [] if column.name in encoder.computed else conditions
        asked = [c for c in asked if c.column == part.column]
        lookups = _lookups(encoder, part.column, conditions)
        coarse, fine = _possible(part.encoder)
        if (asked or lookups) and part.view != "clock":
            share = _share(part.encoder, asked, column, lookups)
            coarse, fine = coarse + share[0], None if fine is None else fine + share[1]
            if not np.isfinite(coarse).any():
                decided = list(dict.fromkeys(r.derived for r, _, _ in lookups))
                raise no_level(part.encoder, asked, column, decided)
            first.append(i)
        weights[i] = coarse
        if fine is not None:
            weights[fine_at[i]] = fine
    return Restriction(weights, tuple(first), _pairs(encoder), encoder.absences)


def satisfying(
    encoder: TableEncoder, frame: pd.DataFrame, conditions: Sequence[Condition]
) -> pd.DataFrame:
    """Return the rows of a drawn `frame` that satisfy every condition.

    Cells that a bound cuts are moved inside it, in place; rows whose computed columns do not
    satisfy a condition, and rows that were moved so that they break a rule or leave their group's
    range, are left out.
    """
    schema = encoder.schema
    for condition in conditions:
        column = schema.column(condition.column)
        if column.name not in encoder.computed:
            frame[column.name] = _mend(frame[column.name], condition, column)
    holds = np.ones(len(frame), bool)
    for condition in conditions:
        holds &= condition.holds(frame[condition.column], schema.column(condition.column))
    if conditions:
        holds &= ~encoder.broken(frame)
    for relation in encoder.relations if conditions else ():
        if isinstance(relation, Within):
            holds &= ~relation.outside(frame)
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


def _share(
    encoder: Any,
    asked: Sequence[Condition],
    column: Column,
    lookups: Sequence[tuple[Lookup | Combined, Condition, Column]],
) -> tuple[np.ndarray, np.ndarray | float]:
    """Return the log share of each level, and of each cell, that satisfies every condition."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if isinstance(encoder, CategoricalEncoder):
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
            return np.log(np.all(holds, axis=0).astype(float)), 0.0
        assert isinstance(encoder, NumericEncoder)
        share = _between(encoder, *cond.common_bounds(asked, column), column)
        share[0] = 1
        for condition in asked:
            share *= _overlap(encoder, condition, column)
        prior = np.ones_like(share) if encoder.fine_prior is None else encoder.fine_prior
        return np.log((share * prior).sum(axis=1)), np.log(share)


def _overlap(encoder: NumericEncoder, condition: Condition, column: Column) -> np.ndarray:
    """Return the share (L, F) of each cell that satisfies one condition; level 0 is missing."""
    lower, upper = encoder.cells
    if condition.operator in ("null", "not null"):
        share = np.full_like(lower, float(condition.operator == "not null"))
        share[0] = float(condition.operator == "null")
        return share
    if condition.operator in ("in", "!="):
        equal = [Condition(condition.column, "=", (v,)) for v in condition.values]
        share = np.sum([_between(encoder, *c.bounds(column), column) for c in equal], axis=0)
        if condition.operator == "!=":
            share = np.where(upper > lower, 1.0, 1 - share)
    else:
        # `common_bounds` has counted its bounds.
        share = np.ones_like(lower)
    share = share.clip(0, 1)
    share[0] = 0
    return share


def _between(encoder: NumericEncoder, low: Any, high: Any, column: Column) -> np.ndarray:
    """Return the share (L, F) of each cell that lies between inclusive bounds, None for no bound.

    Ends are widened by half a unit, so that one whole number has a width.
    """
    lower, upper = encoder.cells
    unit = encoder.unit or 0.0
    if unit:  # from the boundaries between units to the first and the last whole one
        lower, upper = (ends * unit for ends in units_within(lower, upper, unit))
    low, high = as_number(low, column), as_number(high, column)
    a = np.maximum(lower, -np.inf if low is None else low)
    b = np.minimum(upper, np.inf if high is None else high)
    # Halves, since the width itself may be too large a number.
    width = upper / 2 - lower / 2 + unit / 2
    part = (b / 2 - a / 2 + unit / 2) / np.where(width > 0, width, 1)
    return np.asarray(np.where(width > 0, part, (b >= a) * 1.0).clip(0, 1))


def _mend(values: pd.Series, condition: Condition, column: Column) -> pd.Series:
    """Return numbers or dates moved to the nearest value that satisfies the condition.

    Only cells that the condition cuts are concerned: one of some hundreds.
    """
    if column.kind not in ("numeric", "datetime") or condition.operator in ("null", "not null"):
        return values
    if condition.operator not in ("in", "!="):
        return values.clip(*condition.bounds(column))
    wrong = ~condition.holds(values, column) & values.notna().to_numpy()
    if not wrong.any():
        return values
    wanted = [cond.read_value(v, column) for v in condition.values]
    if condition.operator == "!=":
        wanted = [cond.one_step(wanted[0], column, up=True)]
    choices = pd.Series(wanted)
    distances = np.column_stack([(values[wrong] - w).abs().to_numpy() for w in wanted])
    mended = values.copy()
    mended[wrong] = choices.iloc[distances.argmin(axis=1)].to_numpy()
    return mended
