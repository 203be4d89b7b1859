"""The private pass over a table: what is released, in which order, with how much of the budget.

`Plan` is made of public things only (schema, epsilon, delta), before a row is read; the ledger gets
its mechanisms; then `measure` reads the rows, through `Noise` alone. What comes out is an encoder
and noisy counts; everything after that is post-processing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from synthgen.config import DpConfig
from synthgen.dp.accountant import Mechanism, calibrate, epsilon
from synthgen.dp.domain import CLEAR, Domain, cut, domains, part, possible
from synthgen.dp.noise import Noise
from synthgen.dp.tree import Tokens, Tree, fit_tree, on_simplex
from synthgen.encode.column import EncodedTable
from synthgen.encode.table import Part, TableEncoder, views_of
from synthgen.schema import TableSchema
from synthgen.table import PackedTable, RealTable

Floats = npt.NDArray[np.float64]

#: Shares of the budget (of rho, where noise is 1 / sqrt(2 rho)); see benchmarks/dp.py.
SHARES: dict[str, dict[str, float]] = {
    "tree": {"rows": 0.02, "cells": 0.08, "one-way": 0.2, "selection": 0.1, "two-way": 0.6},
    "network": {
        "rows": 0.02,
        "cells": 0.05,
        "one-way": 0.2,
        "selection": 0.03,
        "two-way": 0.25,
        "steps": 0.45,
    },
}
#: A cell of a wide number should hold at least so large a share of the rows.
CELL_SHARE = 1 / 24
#: Least count of a declared value, in standard deviations of the noise: it exists, says the schema.
FLOOR = 0.2
#: Adjacency and unit of every guarantee given here.
UNIT = "one row, added or removed"


@dataclass(frozen=True)
class Plan:
    """What will be read, how often, and with how much noise. Made before any row is read.

    Attributes
    ----------
    domains : tuple of Domain
    mechanisms : mapping of name to Mechanism
    engine : {"tree", "network"}
    epsilon, delta : float
        `epsilon` is what all mechanisms cost together, at most what was asked for.
    """

    domains: tuple[Domain, ...]
    mechanisms: Mapping[str, Mechanism]
    engine: str
    epsilon: float
    delta: float

    @property
    def facts(self) -> dict[str, Any]:
        """Return the statement for bundle and manifest."""
        return {
            "epsilon": math.ceil(self.epsilon * 1e6) / 1e6,
            "delta": self.delta,
            "unit": UNIT,
            "engine": self.engine,
            "mechanisms": [
                {"what": m.what, "kind": m.kind, "noise": m.noise, "count": m.count, "rate": m.rate}
                for m in self.mechanisms.values()
            ],
            "covers": "the bundle and any number of rows drawn from it",
            "does_not_cover": "reports, logs and the gate's decision, which read private rows",
        }


def plan(schema: TableSchema, config: DpConfig) -> Plan:
    """Choose noise so that everything together costs at most ``config.epsilon``.

    Raises
    ------
    ConfigError
        If the schema does not declare the values of a modelled column, all listed; or the
        accounting library is missing.
    """
    found = tuple(domains(schema))
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
    return Plan(found, chosen, engine, spent, config.delta)


def _mechanisms(
    found: tuple[Domain, ...], config: DpConfig, engine: str, scale: float
) -> dict[str, Mechanism]:
    counts = {
        "rows": 1,
        "cells": sum(d.rounds for d in found),
        "one-way": len(found),
        "selection": len(found) - 1,
        "two-way": len(found) - 1,
    }
    what = {
        "rows": "number of rows",
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
        elif counts[name]:
            kind = "exponential" if name == "selection" else "discrete-gaussian"
            noise = scale * math.sqrt(counts[name] / (2 * share))
            out[name] = Mechanism(what[name], kind, noise, counts[name])  # type: ignore[arg-type]
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
    """Read the rows of `table` by the mechanisms of `plan` and nothing else."""
    std = {name: m.noise for name, m in plan.mechanisms.items()}
    n_rows = max(1, int(noise.counts(np.array([len(table)]), std["rows"])[0]))
    parts = tuple(
        _cut(table, schema, d, noise, std.get("cells", 0.0), n_rows) for d in plan.domains
    )
    encoded = TableEncoder(schema, parts).transform(table)
    marginals = [
        _one_way(
            encoded.tokens[:, t],
            possible(d, _n_levels(p)),
            noise,
            std["one-way"],
            n_rows,
            drop_unclear=d.rounds > 0,
        )
        for t, (d, p) in enumerate(zip(plan.domains, parts, strict=True))
    ]
    encoder = TableEncoder(
        schema,
        tuple(_with_counts(p, m) for p, m in zip(parts, marginals, strict=True)),
    )
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
    rows = EncodedTable(encoded.tokens, encoded.offsets, encoder.layout)
    return Released(encoder, tree, n_rows, rows)


def _cut(
    table: RealTable | PackedTable,
    schema: TableSchema,
    domain: Domain,
    noise: Noise,
    std: float,
    n_rows: int,
) -> Part:
    if domain.levels is not None:
        return part(domain, ())
    values = views_of(table.column(domain.column), schema.column(domain.column))[domain.view]
    mass = n_rows * CELL_SHARE
    return part(domain, cut(values, domain, lambda c: noise.counts(c, std), std, mass=mass))


def _n_levels(part: Part) -> int:
    return len(part.encoder.prior)


def _one_way(
    tokens: Tokens,
    may_occur: npt.NDArray[np.bool_],
    noise: Noise,
    std: float,
    n_rows: int,
    *,
    drop_unclear: bool,
) -> Floats:
    """Return noisy counts (L,) that sum to `n_rows`; 0 where the schema says that there is none.

    What is declared keeps a little mass. With `drop_unclear` cells that may be nothing
    but noise are 0 instead: an empty cell of a wide number, drawn now and then, would stretch its
    range.
    """
    exact = np.bincount(tokens, minlength=len(may_occur))
    noisy = noise.counts(exact, std)
    out = np.zeros(len(may_occur))
    if drop_unclear and (noisy[may_occur] > CLEAR * std).any():
        may_occur = may_occur & (noisy > CLEAR * std)
    total = float(n_rows)
    out[may_occur] = on_simplex(noisy[may_occur].astype(np.float64), total)
    if not drop_unclear:
        out[may_occur] += min(FLOOR * std, total / (10 * len(out)))
        out *= total / max(out.sum(), 1.0)
    return out


def _with_counts(part: Part, counts: Floats) -> Part:
    encoder = replace(part.encoder, counts=counts)  # type: ignore[type-var]
    return replace(part, encoder=encoder)
