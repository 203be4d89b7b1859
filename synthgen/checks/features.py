"""Canonical columns as numbers, levels and feature matrices: what all checks compute with.

Nothing is fitted on one table and applied to another except where a function says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synthgen.schema import Column

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Levels that a tree model tells apart in one column; rarer ones are one level together.
MAX_LEVELS = 200


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


def _filled(parts: Sequence[Floats]) -> list[Floats]:
    known = np.concatenate([p[~np.isnan(p)] for p in parts])
    lowest = float(known.min(initial=np.inf))
    below = lowest - max(1.0, abs(lowest)) if len(known) else 0.0
    return [np.where(np.isnan(p), below, p) for p in parts]


def take(frame: pd.DataFrame, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return `n` rows of `frame` without replacement, in random order; all if it has fewer."""
    return frame.iloc[rng.permutation(len(frame))[:n]].reset_index(drop=True)
