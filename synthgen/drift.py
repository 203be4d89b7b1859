"""Whether a table still looks like the one that the last accepted run learnt from.

A `Reference` is kept with each run: kinds, and shares of missing cells, levels and bins. Every
share stands for at least k rows, and every edge of a bin is a mean of k neighbours, so it holds no
cell. `differences` holds a new table against it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from synthgen.config import DriftConfig
from synthgen.schema import Column, TableSchema
from synthgen.table import PackedTable, RealTable

BINS = 10
#: Standard errors by which a statistic must pass its limit: a false alarm a thousand columns.
SIGMAS = 3.1

Summary = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """One way in which a column is not what it was: numbers and names of columns, no cell."""

    column: str
    what: str

    def __str__(self) -> str:
        return f"column '{self.column}': {self.what}"


@dataclass(frozen=True)
class Reference:
    """What a later table is compared with.

    Attributes
    ----------
    rows : int
    columns : dict
        Column name to ``kind`` and, where known, ``missing`` (a share), and ``levels`` (name to
        share of the rows that are not missing; ``rare`` for all others) or ``edges`` and
        ``shares`` (of the bins that end at each edge, and of the last one).
    """

    rows: int
    columns: dict[str, Summary]

    @classmethod
    def of(cls, table: RealTable | PackedTable, *, k: int) -> Reference:
        """Summarise the N rows of `table`; nothing that fewer than `k` rows share is kept."""
        modelled = {c.name for c in table.schema.modelled}
        columns = {
            c.name: {"kind": c.kind} | _summary(table, c, k, shape=c.name in modelled)
            for c in table.schema.columns
        }
        return cls(len(table), columns)

    @classmethod
    def of_schema(cls, schema: TableSchema) -> Reference:
        """Return names and kinds alone: what is public with differential privacy."""
        return cls(0, {c.name: {"kind": c.kind} for c in schema.columns})

    def to_json(self) -> str:
        """Return the reference as JSON."""
        return json.dumps({"rows": self.rows, "columns": self.columns}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Reference:
        """Read what `to_json` wrote."""
        found = json.loads(text)
        return cls(int(found["rows"]), dict(found["columns"]))


def schema_differences(before: Reference, schema: TableSchema) -> Iterator[Difference]:
    """Yield each column that was added, removed, or is of another kind."""
    now = {c.name: c.kind for c in schema.columns}
    for name in before.columns.keys() - now.keys():
        yield Difference(name, "is gone")
    for name, kind in now.items():
        if name not in before.columns:
            yield Difference(name, f"is new ({kind})")
        elif before.columns[name]["kind"] != kind:
            yield Difference(name, f"was {before.columns[name]['kind']} and is {kind}")


def differences(
    before: Reference, table: RealTable | PackedTable, limits: DriftConfig
) -> list[Difference]:
    """Return everything in which `table` differs from `before` by more than `limits` and chance.

    The shape of a datetime is not compared: time goes on by itself.

    Notes
    -----
    PSI of B bins scatters like ``(1/n + 1/m)`` times chi-square with B - 1 degrees of freedom
    (Yurdakul, "Statistical properties of population stability index", 2018); mean and `SIGMAS`
    standard deviations of that are granted. KS is taken at the edges of the bins.
    """
    found = list(schema_differences(before, table.schema))
    changed = {d.column for d in found}
    for column in table.schema.columns:
        summary = before.columns.get(column.name, {})
        if column.name not in changed and "missing" in summary:
            texts = _compare(summary, before.rows, table.column(column.name), limits)
            found += [Difference(column.name, text) for text in texts]
    return found


def _summary(table: RealTable | PackedTable, column: Column, k: int, *, shape: bool) -> Summary:
    series = table.column(column.name)
    present = series.dropna()
    n_missing = len(series) - len(present)
    missing = 0.0 if n_missing < k else 1.0 if len(present) < k else n_missing / len(series)
    summary: Summary = {"missing": round(missing, 4)}
    if not shape or len(present) < 2 * k or column.kind == "datetime":
        return summary
    if column.kind == "numeric":
        return summary | _bins(present.to_numpy("float64"), k)
    return summary | _levels(present.astype("str"), k)


def _levels(values: pd.Series, k: int) -> Summary:
    counts = values.value_counts()
    kept = counts[counts >= k]
    while 0 < len(values) - kept.sum() < k:  # what is left must not tell of a few rows either
        kept = kept.iloc[:-1]
    shares = (kept / len(values)).round(4)
    rare = (len(values) - int(kept.sum())) / len(values)
    return {"levels": {str(v): float(s) for v, s in shares.items()}, "rare": round(rare, 4)}


def _bins(values: np.ndarray, k: int) -> Summary:
    ordered = np.sort(values)
    n_bins = min(BINS, len(ordered) // (2 * k))
    middles = (np.arange(1, n_bins) * len(ordered) / n_bins).astype(int)
    edges = np.unique([ordered[max(0, m - k // 2) : m + k - k // 2].mean() for m in middles])
    counts = _binned(ordered, edges)
    while len(edges) and counts.min() < k:
        edges = np.delete(edges, max(0, int(counts.argmin()) - 1))
        counts = _binned(ordered, edges)
    return {"edges": edges.tolist(), "shares": (counts / len(ordered)).round(4).tolist()}


def _binned(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the counts (E + 1,) of the bins that end at, and include, each of E edges."""
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)


def _compare(
    summary: Summary, n_before: int, series: pd.Series, limits: DriftConfig
) -> Iterator[str]:
    present = series.dropna()
    missing = 1 - len(present) / max(len(series), 1)
    chance = _scatter(summary["missing"], n_before, len(series))
    if abs(missing - summary["missing"]) > limits.max_missing + chance:
        yield (
            f"missing {summary['missing']:.1%} -> {missing:.1%} "
            f"(a change of at most {limits.max_missing:.1%})"
        )
    if not len(present) or not ("edges" in summary or "levels" in summary):
        return
    n_present = max(1, round(n_before * (1 - summary["missing"])))
    if "edges" in summary:
        before = np.asarray(summary["shares"])
        counts = _binned(present.to_numpy("float64"), np.asarray(summary["edges"]))
    else:
        levels = present.astype("str")
        known = levels.value_counts().reindex(list(summary["levels"]), fill_value=0).to_numpy()
        counts = np.append(known, len(levels) - known.sum())
        before = np.array([*summary["levels"].values(), summary["rare"]])
        new, chance = counts[-1] / len(levels), _scatter(summary["rare"], n_present, len(levels))
        if new - summary["rare"] > limits.max_new + chance:
            yield (
                f"{new:.1%} of the rows hold other levels than the {len(known)} known ones, "
                f"before {summary['rare']:.1%} (at most {limits.max_new:.1%} more)"
            )
        counts, before = counts[:-1], before[:-1]
    yield from _compare_shares(before, counts, n_present, limits, ordered="edges" in summary)


def _compare_shares(
    before: np.ndarray, counts: np.ndarray, n_before: int, limits: DriftConfig, *, ordered: bool
) -> Iterator[str]:
    total = int(counts.sum())
    if len(before) < 2 or not total or before.sum() <= 0:
        return
    before, now = before / before.sum(), counts / total
    found, granted = psi(before, now, n_before, total), _psi_by_chance(len(before), n_before, total)
    if found > limits.max_psi + granted:
        yield f"PSI {found:.2f} (at most {limits.max_psi:.2f})"
    if ordered:
        ks = float(np.abs(np.cumsum(before) - np.cumsum(now)).max())
        chance = 1.95 * np.sqrt(1 / n_before + 1 / total)  # Smirnov's point of one in a thousand
        if ks > limits.max_ks + chance:
            yield f"KS {ks:.2f} (at most {limits.max_ks:.2f})"


def psi(before: np.ndarray, now: np.ndarray, n_before: int, n_now: int) -> float:
    """Return the population stability index of two (B,) vectors of shares.

    An empty bin counts as half a row.

    >>> float(round(psi(np.array([0.5, 0.5]), np.array([0.75, 0.25]), 100, 100), 4))
    0.2747
    """
    p, q = np.maximum(before, 0.5 / n_before), np.maximum(now, 0.5 / n_now)
    return float(((p - q) * np.log(p / q)).sum())


def _psi_by_chance(n_bins: int, n_before: int, n_now: int) -> float:
    free = n_bins - 1
    return (1 / n_before + 1 / n_now) * (free + SIGMAS * float(np.sqrt(2 * free)))


def _scatter(share: float, n_before: int, n_now: int) -> float:
    """Return `SIGMAS` standard errors of the difference of two shares near `share`."""
    p = min(max(share, 0.5 / n_before), 1 - 0.5 / n_before)
    return SIGMAS * float(np.sqrt(p * (1 - p) * (1 / n_before + 1 / max(n_now, 1))))
