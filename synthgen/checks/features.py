"""Canonical columns as numbers, levels and feature matrices: what all checks compute with.

Nothing is fitted on one table and applied to another except where a function says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synthgen.schema import Column

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
#: Values of a column: numbers with NaN, or level codes with -1, for missing.
Values = NDArray[Any]

#: Levels that a tree model tells apart in one column; rarer ones are one level together.
MAX_LEVELS = 200
#: Levels of one column that have a dimension of their own in an embedding.
EMBED_LEVELS = 50
#: Dimensions that all level columns of an embedding have together; then fewer levels a column.
EMBED_WIDTH = 500


def is_numeric(column: Column) -> bool:
    """Whether `column` is compared as a number (numeric, datetime) and not as levels."""
    return column.kind in ("numeric", "datetime")


def numbers(series: pd.Series, column: Column) -> Floats:
    """Return a numeric or datetime column as float64: (N,), missing NaN, datetimes in seconds.

    Numbers are rounded to the column's declared decimals, because that is how they leave.
    """
    if column.kind == "datetime":
        naive = series if column.timezone is None else series.dt.tz_convert(None)
        micros = naive.to_numpy("datetime64[us]")
        return np.where(np.isnat(micros), np.nan, micros.astype("int64") / 1e6)
    values = series.to_numpy("float64")
    return values if column.decimals is None else np.round(values, column.decimals) + 0.0


def known(values: Values) -> Values:
    """Return the values that are not missing: neither NaN nor -1."""
    is_known = ~np.isnan(values) if values.dtype.kind == "f" else values >= 0
    return np.asarray(values[is_known])


def levels(parts: Sequence[pd.Series], column: Column, limit: int | None = None) -> list[Ints]:
    """Return integer codes over the levels of all `parts` together: one (N,) array a part.

    Missing is a level of its own. Codes are ordered by frequency in the first part, so with a
    `limit` the levels from ``limit - 1`` on become one.
    """
    values = [numbers(p, column) for p in parts] if is_numeric(column) else [*parts]
    joined = pd.concat([pd.Series(v) for v in values], ignore_index=True)
    codes = pd.factorize(joined, use_na_sentinel=False)[0].astype("int64")
    n_first = len(parts[0])
    counts = np.bincount(codes[:n_first], minlength=int(codes.max(initial=-1)) + 1)
    rank = np.empty_like(counts)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    ranked = rank[codes] if limit is None else np.minimum(rank[codes], limit - 1)
    return np.split(ranked, np.cumsum([len(p) for p in parts])[:-1])


def matrix(
    frames: Sequence[pd.DataFrame], columns: Sequence[Column]
) -> tuple[list[Floats], list[bool]]:
    """Return one float64 feature matrix (N, C) a frame, and which features are level codes.

    A missing number is one number below all others, so that a column may be missing throughout.
    `MAX_LEVELS` bounds the levels, which are shared by all frames.
    """
    blocks: list[list[Floats]] = [[] for _ in frames]
    for column in columns:
        parts = [f[column.name] for f in frames]
        arrays = (
            _filled([numbers(p, column) for p in parts])
            if is_numeric(column)
            else [codes.astype("float64") for codes in levels(parts, column, MAX_LEVELS)]
        )
        for block, array in zip(blocks, arrays, strict=True):
            block.append(array)
    return [np.column_stack(b) for b in blocks], [not is_numeric(c) for c in columns]


@dataclass(frozen=True, repr=False)
class Embedding:
    """Tables as points of one space.

    Attributes
    ----------
    rows : list of (N, D) arrays
        A table each, float64 in [0, 1].
    spans : list of list of int
        The dimensions of each column.
    """

    rows: list[Floats]
    spans: list[list[int]]


def embed(frames: Sequence[pd.DataFrame], columns: Sequence[Column]) -> Embedding:
    """Place `frames` in the judge's own space, which knows nothing of the generator's encoding.

    A number or datetime is its rank in the first frame, in [0, 1] (so heavy tails do not decide),
    a missing one 1/2 with a further dimension that says so; a level is one of `EMBED_LEVELS`
    dimensions at sqrt(1/2), so that two levels are 1 apart. Without columns: no dimension.
    With many level columns the rarer levels of each share a dimension (`EMBED_WIDTH`).
    """
    n_named = sum(not is_numeric(c) for c in columns)
    limit = max(2, min(EMBED_LEVELS, EMBED_WIDTH // max(n_named, 1)))
    blocks: list[list[Floats]] = [[] for _ in frames]
    spans: list[list[int]] = []
    width = 0
    for column in columns:
        parts = [f[column.name] for f in frames]
        coded = (
            _ranks([numbers(p, column) for p in parts])
            if is_numeric(column)
            else _one_hot(levels(parts, column, limit))
        )
        for block, array in zip(blocks, coded, strict=True):
            block.append(array)
        spans.append(list(range(width, width + coded[0].shape[1])))
        width += coded[0].shape[1]
    return Embedding(
        [np.hstack([np.empty((len(f), 0)), *b]) for f, b in zip(frames, blocks, strict=True)], spans
    )


def _ranks(parts: Sequence[Floats]) -> list[Floats]:
    """Return mid-ranks in the first part and, if any value is missing, a flag: (N, 1 or 2)."""
    ordered = np.sort(known(parts[0]))
    with_flag = any(np.isnan(p).any() for p in parts)
    found = []
    for part in parts:
        middle = np.searchsorted(ordered, part, "left") + np.searchsorted(ordered, part, "right")
        gone = np.isnan(part)
        rank = np.where(gone, 0.5, middle / (2 * max(len(ordered), 1)))
        found.append(np.column_stack([rank, gone] if with_flag else [rank]))
    return found


def _one_hot(parts: Sequence[Ints]) -> list[Floats]:
    size = 1 + max(int(p.max(initial=0)) for p in parts)
    return [np.eye(size)[p] * math.sqrt(0.5) for p in parts]


def _filled(parts: Sequence[Floats]) -> list[Floats]:
    known = np.concatenate([p[~np.isnan(p)] for p in parts])
    lowest = float(known.min(initial=np.inf))
    below = lowest - max(1.0, abs(lowest)) if len(known) else 0.0
    return [np.where(np.isnan(p), below, p) for p in parts]


def take(frame: pd.DataFrame, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return `n` rows of `frame` without replacement, in random order; all if it has fewer."""
    return frame.iloc[rng.permutation(len(frame))[:n]].reset_index(drop=True)
