"""What an encoder leaves out of a table because fewer than k rows hold it: counts, no values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from synthgen.config import EncodeConfig
from synthgen.encode import datetime as dt
from synthgen.encode.categorical import CategoricalEncoder
from synthgen.encode.column import Floats
from synthgen.encode.numeric import NumericEncoder
from synthgen.encode.relations import reduce
from synthgen.encode.table import Part, Rows, TableEncoder, sample_rows, views_of


def suppressed(
    encoder: TableEncoder, rows: pd.DataFrame | Rows, config: EncodeConfig, seed: int
) -> dict[str, Any]:
    """Return what the `encoder` does not hold of the rows that it was fitted on.

    Returns
    -------
    dict
        ``k``; ``of``, what k counts: rows, or the name of the entity key; ``rows`` looked at; and
        ``columns``, where each column has some of

        * ``levels_merged``, ``rows_merged``: texts that became rare, and their rows;
        * ``missing_filled``: missing values too few to be known of;
        * ``values_merged``: distinct numbers of fewer than k rows, which a cell stands for;
        * ``rows_trimmed``: rows beyond the outermost cells, moved to their ends;
        * ``clocks_dropped``: rows whose time of day was too rare;
        * ``replaced``: rows of an id or of personal data.

        A count below k is the text ``<k``.
    """
    k, schema = config.min_rows, encoder.schema
    sample = sample_rows(rows, config.fit_rows, seed)
    frame, _ = reduce(encoder.relations, sample, schema.modelled)
    columns: dict[str, dict[str, int | str]] = {
        c.name: {"replaced": len(sample)} for c in schema.columns if c.is_regenerated
    }
    for part in encoder.parts:
        column = encoder.column(part.column)
        views = views_of(frame[part.column], column)
        counts = _of_part(part, views[part.view], k)
        if part.view == "days" and "clock" in views and _has_no_clock(encoder, part.column):
            micros = dt.to_microseconds(frame[part.column])
            counts["clocks_dropped"] = int((dt.to_clock(micros, column.resolution) > 0).sum())
        held = columns.setdefault(part.column, {})
        held |= {name: n if n >= k else f"<{k}" for name, n in counts.items() if n}
    of = "rows" if schema.entity is None else schema.entity.name
    kept = {name: found for name, found in columns.items() if found}
    return {"k": k, "of": of, "rows": len(sample), "columns": kept}


def _has_no_clock(encoder: TableEncoder, name: str) -> bool:
    return not any(p.column == name and p.view == "clock" for p in encoder.parts)


def _of_part(part: Part, values: Any, k: int) -> dict[str, int]:
    if isinstance(part.encoder, CategoricalEncoder):
        return _of_texts(part.encoder, pd.Series(values))
    assert isinstance(part.encoder, NumericEncoder)
    return _of_numbers(part.encoder, np.asarray(values, np.float64), k)


def _of_texts(encoder: CategoricalEncoder, values: pd.Series) -> dict[str, int]:
    texts = values.astype("str") if values.dtype == "boolean" else values
    rare = texts[texts.notna() & ~texts.isin(encoder.levels)]
    missing = int(texts.isna().sum()) if encoder.counts[0] == 0 else 0
    return {
        "levels_merged": int(rare.nunique()),
        "rows_merged": len(rare),
        "missing_filled": missing,
    }


def _of_numbers(encoder: NumericEncoder, values: Floats, k: int) -> dict[str, int]:
    known = values[~np.isnan(values)]
    if len(encoder.lower) == 0:
        return {"values_merged": len(np.unique(known)), "rows_trimmed": len(known)}
    _, counts = np.unique(known, return_counts=True)
    beyond = (known < encoder.lower[0]) | (known > encoder.upper[-1])
    return {
        "values_merged": int((counts < k).sum()),
        "rows_trimmed": int(beyond.sum()),
        "missing_filled": len(values) - len(known) if encoder.counts[0] == 0 else 0,
    }
