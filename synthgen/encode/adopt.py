"""An encoder for new rows that keeps what it can of an earlier one; how the levels correspond.

A generator's weights belong to the levels of its own encoder. To go on from them with rows of a
related table, levels that still fit are kept, because the earlier table had more rows to find them
by; a column that has moved (another year, another region) is cut anew. `correspondence` then says
which earlier levels stand for each level of the adopted encoder.

No number kept here belongs to fewer than k new rows: levels with fewer share one pool of rows, in
the proportions of the earlier table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from synthgen.config import EncodeConfig
from synthgen.encode.categorical import MIN_RARE_SHARE, CategoricalEncoder
from synthgen.encode.column import ColumnEncoder, Floats
from synthgen.encode.functions import Function
from synthgen.encode.groups import Combined, Within, combined
from synthgen.encode.numeric import NumericEncoder
from synthgen.encode.relations import Lookup, Relation, reduce
from synthgen.encode.table import (
    Part,
    Rows,
    TableEncoder,
    fit_parts,
    proven,
    sample_rows,
    views_of,
)
from synthgen.errors import SchemaError
from synthgen.schema import Column, TableSchema

#: Places looked at inside a new cell to find the earlier levels that cover it.
PLACES = 8
#: What is said of a bundle that training cannot start from.
NO_START = (
    "the bundle to start from does not fit this schema; correct the schema, or train without a "
    "warm start"
)
#: What a column must have in common with the earlier one, besides its name.
MUST_AGREE = ("kind", "resolution", "timezone")


@dataclass(frozen=True, repr=False)
class Correspondence:
    """Which earlier tokens and levels stand for those of an adopted encoder.

    Attributes
    ----------
    tokens : tuple of (int, (L, K) float64) or None
        For each new token: the earlier token, and for each of its L levels the weights of the
        earlier K levels, summing to one. None: there was no such token.
    offsets : tuple of int or None
        For each new offset the earlier one.
    """

    tokens: tuple[tuple[int, Floats] | None, ...]
    offsets: tuple[int | None, ...]


def check_compatible(old: TableSchema, new: TableSchema, said: str = NO_START) -> None:
    """Raise SchemaError, `said` and every difference, unless both model the same columns.

    Names, kinds, time zones and resolutions must agree. Bounds, categories, missing values, roles,
    the order of columns, and columns that are never learnt may differ.
    """
    before = {c.name: c for c in old.modelled}
    after = {c.name: c for c in new.modelled}
    problems = [f"column '{n}': modelled by the bundle, not here" for n in before if n not in after]
    problems += [
        f"column '{n}': modelled here, not by the bundle" for n in after if n not in before
    ]
    for name in before.keys() & after.keys():
        pair = before[name], after[name]
        problems += [
            f"column '{name}': {key} is {getattr(pair[0], key)} in the bundle and "
            f"{getattr(pair[1], key)} here"
            for key in MUST_AGREE
            if getattr(pair[0], key) != getattr(pair[1], key)
        ]
    if problems:
        listed = "\n".join(f"  - {p}" for p in sorted(problems))
        raise SchemaError(f"{said}:\n{listed}")


def adopt(
    old: TableEncoder,
    rows: pd.DataFrame | Rows,
    schema: TableSchema,
    config: EncodeConfig,
    *,
    seed: int = 0,
) -> TableEncoder:
    """Return an encoder of canonical `rows` that keeps relations and cells of `old` that fit.

    Cells are held against at most `config.fit_rows` random rows, relations against all of them.

    Parameters
    ----------
    old : TableEncoder
        Fitted on a related table.
    rows : DataFrame or Rows
        (N, columns) new rows.
    schema : TableSchema
        Theirs.
    config : EncodeConfig
        For what is fitted anew.
    seed : int
        Chooses rows, and the row of each entity where there is an entity key.

    Raises
    ------
    SchemaError
        If both do not model the same columns; see `check_compatible`.
    """
    check_compatible(old.schema, schema)
    schema = schema.without_drafts()
    frame = sample_rows(rows, config.fit_rows, seed)
    relations = proven(lambda f: _still_true(old.relations, f, schema), frame, rows, schema)
    reduced, columns = reduce(relations, frame, schema.modelled)
    views = {c.name: views_of(reduced[c.name], c) for c in columns}
    known = {(p.column, p.view): p.encoder for p in old.parts}
    parts: list[Part] = []
    for part in fit_parts(relations, frame, schema, config, seed):
        earlier = known.get((part.column, part.view))
        if earlier is not None:
            values = views[part.column][part.view]
            part = replace(part, encoder=_adopted(earlier, part.encoder, values, config))
        parts.append(part)
    return TableEncoder(schema, tuple(parts), relations)


def _still_true(
    relations: Sequence[Relation], frame: pd.DataFrame, schema: TableSchema
) -> tuple[Relation, ...]:
    """Return the relations that hold on the new rows as well."""
    kept: list[Relation] = []
    current, columns = frame.copy(deep=False), list(schema.modelled)
    lost: set[str] = set()
    for relation in relations:
        names = {v for v in dataclasses.asdict(relation).values() if isinstance(v, str)}  # type: ignore[call-overload]
        names |= set(getattr(relation, "parts", ()))
        if names & lost or not _holds(relation, current, columns):
            # What was found on the gap between two dates means nothing on the date itself.
            lost |= {relation.derived} if relation.replaced is not None else set()
            continue
        relation.reduce(current, columns)
        kept.append(relation)
    return tuple(kept)


def _holds(relation: Relation, frame: pd.DataFrame, columns: Sequence[Column]) -> bool:
    """Whether every value comes back; levels may miss as many rows as the rare bucket."""
    if relation.broken(frame).any():
        return False
    if isinstance(relation, Within | Function):
        return True
    if isinstance(relation, Combined):
        texts = combined(frame, (relation.derived, *relation.parts))
        return float((~texts.isin(relation.levels)).mean()) <= MIN_RARE_SHARE
    restored = frame.copy(deep=False)
    relation.reduce(restored, list(columns))
    relation.restore(restored)
    true = frame[relation.derived]
    made = restored[relation.derived].astype(true.dtype)
    same = ((true == made) | (true.isna() & made.isna())).fillna(False).to_numpy(bool)
    if not isinstance(relation, Lookup):
        return bool(same.all())
    source = frame[relation.source].astype(object)
    listed = source.where(source.notna(), None).isin(relation.levels).to_numpy()
    return bool(same[listed].all()) and float((~listed).mean()) <= MIN_RARE_SHARE


def _adopted(
    old: ColumnEncoder,
    fresh: ColumnEncoder,
    values: np.ndarray | pd.Series,
    config: EncodeConfig,
) -> ColumnEncoder:
    """Return `old` with the counts of the new values where it can hold them, else `fresh`."""
    k = config.min_rows
    if isinstance(old, CategoricalEncoder) and isinstance(fresh, CategoricalEncoder):
        levels = tuple(sorted({*old.levels, *fresh.levels}))
        before = np.zeros(len(levels) + 2)
        before[[0, *(levels.index(t) + 1 for t in old.levels), -1]] = old.counts
        both = CategoricalEncoder(levels, before, fresh.closed).recount(pd.Series(values), k)
        return replace(both, counts=pooled(both.counts, before, k))
    if not isinstance(old, NumericEncoder) or not isinstance(fresh, NumericEncoder):
        return fresh
    numbers = np.asarray(values, np.float64)
    known = numbers[~np.isnan(numbers)]
    if len(old.lower) == 0 or _moved(old, known) > max(k - 1, MIN_RARE_SHARE * len(known)):
        return fresh
    return replace(old, counts=pooled(old.recount(numbers, k).counts, old.counts, k))


def _moved(old: NumericEncoder, known: Floats) -> int:
    """Return how many values the earlier cells cannot hold: they would come back as others."""
    back = old.decode(old.encode(known), None)
    slack = 1e-5 * max(float(np.ptp(old.lower)), float(np.abs(old.upper - old.lower).max()))
    return int((np.abs(back - known) > slack).sum())


def pooled(counts: npt.NDArray[Any], before: Floats, k: int) -> Floats:
    """Return `counts` (L,) with levels below `k` rows sharing their sum as they did `before`.

    A sum below `k` counts as `k`: that there are such rows is told, not how many.

    >>> pooled(np.array([90.0, 12.0, 8.0, 4.0]), np.array([50.0, 9.0, 10.0, 30.0]), 10).tolist()
    [90.0, 12.0, 3.0, 9.0]
    >>> pooled(np.array([90.0, 2.0, 0.0]), np.array([50.0, 10.0, 30.0]), 10).tolist()
    [90.0, 2.5, 7.5]
    """
    few = counts < k
    # One row where the earlier table had none, so that a level which occurs stays possible.
    weights = np.where(few, np.maximum(before, counts > 0), 0.0)
    total = weights.sum()
    rows = counts[few].sum()
    shared = weights * (max(rows, k) / total) if rows and total else np.zeros(len(counts))
    return np.where(few, shared, counts).astype(np.float64)


def correspondence(old: TableEncoder, new: TableEncoder) -> Correspondence:
    """Return which tokens, levels and offsets of `old` stand for those of `new`."""
    place = {(p.column, p.view): i for i, p in enumerate(old.parts)}
    before, after = old.layout, new.layout
    coarse: list[tuple[int, Floats] | None] = []
    for part in new.parts:
        i = place.get((part.column, part.view))
        weights = None if i is None else _level_weights(old.parts[i].encoder, part.encoder)
        coarse.append(None if i is None or weights is None else (i, weights))
    fine_at, offset_at = before.fine_at, before.offset_at
    fine: list[tuple[int, Floats] | None] = []
    for j, parent in enumerate(after.parents):
        found = coarse[int(parent)]
        i = None if found is None else fine_at.get(found[0])
        sizes = after.sizes[after.n_coarse + j], 0 if i is None else before.sizes[i]
        fine.append(None if i is None else (i, _by_rank(int(sizes[0]), int(sizes[1]))))
    tokens = (coarse[int(p)] for p in after.offset_parents)
    offsets = tuple(None if t is None else offset_at.get(t[0]) for t in tokens)
    return Correspondence((*coarse, *fine), offsets)


def _level_weights(old: ColumnEncoder, new: ColumnEncoder) -> Floats | None:
    """Return the weights (L, K) of earlier levels for each new one, or None for another kind."""
    if isinstance(old, CategoricalEncoder) and isinstance(new, CategoricalEncoder):
        weights = np.zeros((len(new.counts), len(old.counts)))
        places = {level: i + 1 for i, level in enumerate(old.levels)}
        weights[0, 0] = weights[-1, -1] = 1
        for i, level in enumerate(new.levels, 1):
            if level in places:
                weights[i, places[level]] = 1
            else:
                weights[i] = old.prior  # nothing is known of it: like the average row
        return weights
    if not isinstance(old, NumericEncoder) or not isinstance(new, NumericEncoder):
        return None
    if _same_cells(old, new):
        return np.eye(new.n_levels)
    weights = np.zeros((new.n_levels, old.n_levels))
    weights[0, 0] = 1
    if len(new.lower) == 0 or len(old.lower) == 0:
        weights[1:] = old.prior
        return weights
    share = (np.arange(PLACES) + 0.5) / PLACES
    inside = new.lower[:, None] * (1 - share) + new.upper[:, None] * share
    levels = old.level[old.cell_of(inside.ravel())].reshape(inside.shape)
    rows = np.maximum(new.counts[1:], 1e-9)
    np.add.at(weights, (new.level[:, None], levels), np.repeat(rows[:, None] / PLACES, PLACES, 1))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _same_cells(old: NumericEncoder, new: NumericEncoder) -> bool:
    return all(
        np.array_equal(getattr(old, name), getattr(new, name))
        for name in ("lower", "upper", "level", "fine")
    )


def _by_rank(n_new: int, n_old: int) -> Floats:
    """Return weights (n_new, n_old) that take for each place inside a bin the one of like rank."""
    nearest = np.round(np.arange(n_new) * (n_old - 1) / max(n_new - 1, 1)).astype(int)
    return np.asarray(np.eye(n_old)[nearest])
