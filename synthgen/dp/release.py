"""The private pass over a table: what is released, in which order, with how much of the budget.

`Plan` is made of public things only (schema, epsilon, delta), before a row is read; the ledger gets
its mechanisms; then `measure` reads the rows, through `Noise` alone. What comes out is an encoder
and noisy counts; everything after that is post-processing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from synthgen.config import DpConfig
from synthgen.dp.accountant import Kind, Mechanism, calibrate, epsilon
from synthgen.dp.domain import Domain, cut, domains, modelled, part, possible, stable_levels
from synthgen.dp.noise import Noise, stability_threshold
from synthgen.dp.tails import CLEAR, Counted, Interval, ended
from synthgen.dp.tree import Tokens, Tree, fit_tree, on_simplex
from synthgen.encode.column import EncodedTable
from synthgen.encode.relations import Relation, reduce
from synthgen.encode.table import Part, TableEncoder, views_of
from synthgen.schema import Column, TableSchema
from synthgen.table import PackedTable, RealTable, one_secret_row_each

Floats = npt.NDArray[np.float64]

#: Shares of the budget (of rho, where noise is 1 / sqrt(2 rho)); see benchmarks/dp.py. They are
#: relative: what a table does not need goes to the rest.
SHARES: dict[str, dict[str, float]] = {
    "tree": {
        "rows": 0.02,
        "categories": 0.05,
        "cells": 0.08,
        "one-way": 0.2,
        "selection": 0.1,
        "two-way": 0.6,
    },
    "network": {
        "rows": 0.02,
        "categories": 0.05,
        "cells": 0.05,
        "one-way": 0.2,
        "selection": 0.03,
        "two-way": 0.25,
        "steps": 0.45,
    },
}
#: Mechanisms that are no counts of public cells.
KINDS: dict[str, Kind] = {"selection": "exponential", "categories": "stable-histogram"}
#: Share of delta by which undeclared categories that one row alone has may be shown.
STABILITY_SHARE = 0.1
#: A cell of a wide number should hold at least so large a share of the rows.
CELL_SHARE = 1 / 24
#: Least count of a declared value, in standard deviations of the noise: it exists, says the schema.
FLOOR = 0.2


@dataclass(frozen=True)
class Plan:
    """What will be read, how often, and with how much noise. Made before any row is read.

    Attributes
    ----------
    domains : tuple of Domain
    mechanisms : mapping of name to Mechanism
    engine : {"tree", "network"}
    unit : str
        What neighbours differ in: unit and adjacency of the guarantee.
    epsilon, delta : float
        `epsilon` is what all mechanisms cost together, at most what was asked for.
    """

    domains: tuple[Domain, ...]
    mechanisms: Mapping[str, Mechanism]
    engine: str
    unit: str
    epsilon: float
    delta: float

    @property
    def facts(self) -> dict[str, Any]:
        """Return the statement for bundle and manifest."""
        return {
            "epsilon": math.ceil(self.epsilon * 1e6) / 1e6,
            "delta": self.delta,
            "unit": self.unit,
            "engine": self.engine,
            "mechanisms": [
                {"what": m.what, "kind": m.kind, "noise": m.noise, "count": m.count, "rate": m.rate}
                for m in self.mechanisms.values()
            ],
            "covers": "the bundle and any number of rows drawn from it",
            "does_not_cover": "reports, logs and the gate's decision, which read private rows",
        }


@lru_cache(maxsize=8)
def plan(schema: TableSchema, config: DpConfig) -> Plan:
    """Choose noise so that everything together costs at most ``config.epsilon``.

    Raises
    ------
    ConfigError
        If the schema does not declare the values of a modelled column, all listed; or the
        accounting library is missing.
    """
    found = tuple(domains(schema, charge_metadata=config.charge_metadata))
    engine = config.chosen_engine

    def mechanisms(scale: float) -> dict[str, Mechanism]:
        return _mechanisms(found, config, engine, scale)

    scale = calibrate(
        lambda s: list(mechanisms(s).values()),
        epsilon_at_most=config.epsilon,
        delta=config.delta,
    )
    chosen = mechanisms(scale)
    spent = epsilon(list(chosen.values()), config.delta)
    return Plan(found, chosen, engine, _unit(schema), spent, config.delta)


def _unit(schema: TableSchema) -> str:
    if schema.entity is None:
        return "one row, added or removed"
    return (
        f"one value of '{schema.entity.name}' with all of its rows, added or removed (one random "
        "row of each is used)"
    )


def _mechanisms(
    found: tuple[Domain, ...], config: DpConfig, engine: str, scale: float
) -> dict[str, Mechanism]:
    counts = {
        "rows": 1,
        "categories": sum(d.is_open and d.levels is not None for d in found),
        "cells": sum(d.rounds for d in found),
        "one-way": len(found),
        "selection": len(found) - 1,
        "two-way": len(found) - 1,
    }
    what = {
        "rows": "number of rows",
        "categories": "categories that the schema does not declare",
        "cells": "histograms that cut wide numbers into cells",
        "one-way": "one-way counts",
        "selection": "edges of a tree",
        "two-way": "two-way counts along the tree",
    }
    out = {}
    for name, share in SHARES[engine].items():
        if name == "steps":
            noise = scale * config.chosen_rate * math.sqrt(config.steps / (2 * share))
            out[name] = Mechanism(
                "clipped gradients", "sampled-gaussian", noise, config.steps, config.chosen_rate
            )
        elif n := counts[name]:
            kind = KINDS.get(name, "discrete-gaussian")
            noise = scale * math.sqrt(n / (2 * share))
            lost = STABILITY_SHARE * config.delta / n if kind == "stable-histogram" else 0.0
            out[name] = Mechanism(what[name], kind, noise, n, delta=lost)
    return out


@dataclass(frozen=True, repr=False)
class Released:
    """What the counts told: public from here on, but for `encoded`.

    Attributes
    ----------
    encoder : TableEncoder
        Its counts are noisy.
    tree : Tree
    n_rows : int
        Noisy.
    encoded : EncodedTable
        The private rows as tokens, for clipped gradients.
    """

    encoder: TableEncoder
    tree: Tree
    n_rows: int
    encoded: EncodedTable


def measure(
    table: RealTable | PackedTable, schema: TableSchema, plan: Plan, noise: Noise
) -> Released:
    """Read the rows of `table` by the mechanisms of `plan` and nothing else.

    Of an entity with many rows one is read: adding an entity adds one row, and every sensitivity is
    that of a row.
    """
    table = one_secret_row_each(table)
    relations, left = modelled(schema)
    reduced = _Reduced(table, relations, {c.name: c for c in left})
    std = {name: m.noise for name, m in plan.mechanisms.items()}
    n_rows = max(1, int(noise.counts(np.array([len(table)]), std["rows"])[0]))
    stable = plan.mechanisms.get("categories")
    found = [_with_levels(reduced, d, noise, stable) for d in plan.domains]
    cells = [_cells(reduced, d, noise, std.get("cells", 0.0), n_rows) for d in found]
    parts = tuple(part(d, c) for d, (c, _) in zip(found, cells, strict=True))
    draft = TableEncoder(schema, parts, relations)
    tokens = draft.transform(table).tokens
    counted = [
        _one_way(tokens[:, t], d, *cells[t], noise, std["one-way"], n_rows)
        for t, d in enumerate(found)
    ]
    encoder = TableEncoder(schema, tuple(p for p, _ in counted), relations)
    marginals = [m for _, m in counted]
    encoded = encoder.transform(table)
    if len(marginals) == 1:
        tree = fit_tree(encoded.tokens, marginals, noise, selection_epsilon=0.0, std=0.0)
    else:
        tree = fit_tree(
            encoded.tokens,
            marginals,
            noise,
            selection_epsilon=1 / std["selection"],
            std=std["two-way"],
        )
    return Released(encoder, tree, n_rows, encoded)


@dataclass(frozen=True, repr=False)
class _Reduced:
    """Real rows as the schema's rules leave them to be modelled, one column at a time.

    A row decides its own cells alone, so what is counted of them has the sensitivity of a row.
    """

    table: RealTable | PackedTable
    relations: Sequence[Relation]
    columns: Mapping[str, Column]

    def column(self, name: str) -> pd.Series:
        """Return one column that is modelled."""
        schema = self.table.schema
        if self.columns[name] is schema.column(name):
            return self.table.column(name)
        frames = (reduce(self.relations, f, schema.modelled)[0] for f in self.table.batches())
        return pd.concat([frame[name] for frame in frames], ignore_index=True)

    def view(self, domain: Domain) -> Floats:
        """Return the numbers (N,) of one part."""
        views = views_of(self.column(domain.column), self.columns[domain.column])
        return np.asarray(views[domain.view], np.float64)


def _with_levels(rows: _Reduced, domain: Domain, noise: Noise, stable: Mechanism | None) -> Domain:
    """Return `domain` with the levels of a category that the schema does not declare."""
    if domain.levels is None or not domain.is_open:
        return domain
    assert stable is not None
    threshold = stability_threshold(stable.noise, stable.delta)
    levels = stable_levels(
        rows.column(domain.column), lambda c: noise.counts(c, stable.noise), threshold
    )
    return replace(domain, levels=levels)


def _cells(
    rows: _Reduced, domain: Domain, noise: Noise, std: float, n_rows: int
) -> tuple[list[Interval], Counted]:
    """Return the cells of a number before its ends are known, and what was counted for them.

    Of a category neither.
    """
    if domain.levels is not None:
        return [], Counted((), np.zeros(0), std)
    mass = n_rows * CELL_SHARE
    return cut(rows.view(domain), domain, lambda c: noise.counts(c, std), std, mass=mass)


def _one_way(
    tokens: Tokens,
    domain: Domain,
    cells: Sequence[Interval],
    rounds: Counted,
    noise: Noise,
    std: float,
    n_rows: int,
) -> tuple[Part, Floats]:
    """Return the encoder of one part and its noisy counts (L,), which sum to `n_rows`.

    What is declared keeps a little mass. Cells of a wide number that may be nothing but noise are 0
    instead: drawn now and then, they would stretch its range.
    """
    draft = part(domain, cells)
    may_occur = possible(domain, len(draft.encoder.prior))
    noisy = noise.counts(np.bincount(tokens, minlength=len(may_occur)), std).astype(np.float64)
    total = float(n_rows)
    if not domain.rounds:
        out = np.zeros(len(may_occur))
        out[may_occur] = on_simplex(noisy[may_occur], total)
        out[may_occur] += min(FLOOR * std, total / (10 * len(out)))
        return _with_counts(draft, out * (total / max(out.sum(), 1.0)))
    ends = ended(Counted(tuple(cells), noisy[1:], std), rounds, far=domain.far)
    missing = noisy[0] if may_occur[0] and noisy[0] > CLEAR * std else 0.0
    kept = np.r_[missing, ends.counts]
    some = kept > 0 if kept.any() else possible(domain, len(kept))
    kept[some] = on_simplex(kept[some], total)
    return _with_counts(part(domain, cells, ends), kept)


def _with_counts(part: Part, counts: Floats) -> tuple[Part, Floats]:
    encoder = replace(part.encoder, counts=counts)  # type: ignore[type-var]
    return replace(part, encoder=encoder), counts
