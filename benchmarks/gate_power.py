"""How often the gate's privacy rules refuse fresh rows and planted leaks: both error rates.

    python benchmarks/gate_power.py --data BENCH --tables adult,bank,king,demo --seeds 20
    python benchmarks/gate_power.py --data BENCH --tables adult --seeds 20 --synthetic adult.csv

A seed shuffles all real rows of a table and cuts them into train, holdout (a fifth of both, as in a
run) and as many disjoint fresh rows as train has, which stand for the output of a perfect model.
Each leak of `LEAKS` is planted into these; nothing is trained. `--synthetic` judges a table that a
model drew after training on the whole train half, with a quarter
as many rows of the other half for the holdout.
Only privacy rules are judged; the defaults of `GatePolicy` apply.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from synthgen import demo
from synthgen.checks.check import Evidence, Measurement, Report, run_checks
from synthgen.checks.features import is_numeric
from synthgen.checks.gate import (
    PRIVACY_CHECKS,
    PRIVACY_TESTS,
    decide,
    negative_control,
    positive_control,
)
from synthgen.checks.privacy import copies as copies_of
from synthgen.checks.privacy import nearest, positions
from synthgen.config import GatePolicy
from synthgen.conform import conform
from synthgen.schema import TableSchema
from synthgen.sources import open_source

Leak = Callable[[Evidence, np.random.Generator], pd.DataFrame]
CONTROLS = {
    "positive_control": ("privacy", positive_control),
    "negative_control": ("privacy", negative_control),
}
RULES = (*PRIVACY_TESTS, "dcr_share", *CONTROLS)


def copies(share: float) -> Leak:
    """Put verbatim train rows in the place of a share of the output."""

    def plant(evidence: Evidence, rng: np.random.Generator) -> pd.DataFrame:
        n = max(1, round(share * len(evidence.synthetic)))
        return _planted(evidence, evidence.train.iloc[rng.permutation(len(evidence.train))[:n]])

    return plant


def jittered(share: float) -> Leak:
    """Copy, move every number by 5 % of a standard deviation, redraw one level."""

    def plant(evidence: Evidence, rng: np.random.Generator) -> pd.DataFrame:
        n = round(share * len(evidence.synthetic))
        rows = evidence.train.iloc[rng.permutation(len(evidence.train))[:n]].reset_index(drop=True)
        return _planted(evidence, _edited(rows, evidence, rng))

    return plant


def isolated(count: int, times: int) -> Leak:
    """Write each of the `count` most isolated of 5,000 train rows `times` times."""

    def plant(evidence: Evidence, rng: np.random.Generator) -> pd.DataFrame:
        some = evidence.train.iloc[rng.permutation(len(evidence.train))[:5_000]]
        places, _ = positions([some, some.head(0)], evidence.schema.modelled)
        apart = nearest(places, places, skip_self=True).distance
        return _planted(evidence, some.iloc[np.repeat(np.argsort(-apart)[:count], times)])

    return plant


def memorised(evidence: Evidence, rng: np.random.Generator) -> pd.DataFrame:
    """Write train rows in which every cell is another train row's with a chance of .3."""
    n = len(evidence.synthetic)
    rows = evidence.train.iloc[rng.integers(0, len(evidence.train), n)].reset_index(drop=True)
    for column in evidence.schema.modelled:
        other = evidence.train[column.name].iloc[rng.integers(0, len(evidence.train), n)]
        rows[column.name] = rows[column.name].where(rng.random(n) < 0.7, other.array)
    return rows


LEAKS: dict[str, Leak] = {
    "fresh rows": lambda evidence, rng: evidence.synthetic,
    "all copies": copies(1.0),
    "5 % copies": copies(0.05),
    "1 % copies": copies(0.01),
    ".5 % copies": copies(0.005),
    "20 % jittered": jittered(0.2),
    "5 % jittered": jittered(0.05),
    "40 isolated rows": isolated(40, 1),
    "one outlier 20 times": isolated(1, 20),
    "memorised, 30 % of cells redrawn": memorised,
}


def _planted(evidence: Evidence, rows: pd.DataFrame) -> pd.DataFrame:
    kept = evidence.synthetic.iloc[len(rows) :]
    return pd.concat([rows, kept], ignore_index=True)


def _edited(rows: pd.DataFrame, evidence: Evidence, rng: np.random.Generator) -> pd.DataFrame:
    levels = [c.name for c in evidence.schema.modelled if not is_numeric(c)]
    chosen = rng.integers(0, max(len(levels), 1), len(rows))
    for column in evidence.schema.modelled:
        name = column.name
        if column.kind == "numeric":
            spread = float(evidence.train[name].std())
            rows[name] = rows[name] + 0.05 * spread * rng.standard_normal(len(rows))
        elif column.kind == "datetime":
            spread = evidence.train[name].std() * 0.05
            moved = rows[name] + spread * rng.standard_normal(len(rows))
            rows[name] = moved.astype(rows[name].dtype)
        else:
            other = evidence.train[name].iloc[rng.integers(0, len(evidence.train), len(rows))]
            here = chosen == levels.index(name)
            rows[name] = rows[name].where(~here, other.array)
    return rows


def read(path: Path, schema: TableSchema) -> pd.DataFrame:
    """Read a CSV file by its schema."""
    return conform(open_source(str(path), schema).batches(), schema).data


def halves(args: argparse.Namespace, table: str) -> tuple[TableSchema, list[pd.DataFrame]]:
    """Return the schema and both halves of a table; the demo's are made here."""
    if table == "demo":
        frame = demo.demo_frame(args.demo_rows, 0).data
        return demo.SCHEMA, [frame.iloc[::2], frame.iloc[1::2]]
    schema = TableSchema.load(Path(__file__).parent.parent / "schemas" / f"{table}.toml")
    parts = ("train", "holdout")
    return schema, [read(args.data / f"{table}.{part}.csv", schema) for part in parts]


def evidence_of(
    schema: TableSchema, real: list[pd.DataFrame], synthetic: pd.DataFrame | None, seed: int
) -> Evidence:
    """Cut the real rows by `seed`: four fifths of a half are train, a fifth the holdout."""
    rng = np.random.default_rng(seed)
    if synthetic is None:
        rows = pd.concat(real, ignore_index=True)
        order = rng.permutation(len(rows))
        n = int(len(rows) / 2.25)  # train, a quarter of it for the holdout, as many fresh rows
        cuts = np.split(order[: n + n // 4 + n], [n, n + n // 4])
        train, holdout, fresh = (rows.iloc[c].reset_index(drop=True) for c in cuts)
        return Evidence(schema, train, holdout, fresh, seed=seed)
    train, held = (f.iloc[rng.permutation(len(f))].reset_index(drop=True) for f in real)
    n = len(train) // 4
    return Evidence(schema, train, held.iloc[:n].reset_index(drop=True), synthetic, seed=seed)


def refusing(evidence: Evidence, controls: list[Measurement]) -> list[str]:
    """Return the privacy rules that refuse, of the default policy; the first ones if copies do.

    Holm's step for the smallest p needs only the number of tests, so a table whose copies refuse it
    needs no distances.
    """
    policy = GatePolicy()
    by_copies = [
        m.name
        for m in copies_of(evidence)
        if len(PRIVACY_TESTS) * m.details.get("p", 1.0) < policy.copy_p
    ]
    if by_copies:
        return by_copies
    found = [*run_checks(evidence, PRIVACY_CHECKS), *controls]
    if not controls:
        policy = policy.model_copy(update={"prove_power": False})
    decision = decide(Report(tuple(found)), policy, fingerprint="")
    return [r.name for r in decision.failing if r.name in RULES]


def measured_leak(name: str) -> bool:
    """Whether `name` is a planted leak, and no table that ought to pass."""
    return name not in ("fresh rows", "model")


def main() -> None:
    """Judge every leak on every table and print the share of seeds that refused it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with <table>.train.csv and .holdout.csv")
    parser.add_argument("--tables", default="demo")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--demo-rows", type=int, default=22_500)
    parser.add_argument("--leaks", help="names, separated by semicolons; default: all")
    parser.add_argument("--synthetic", type=Path, help="a table that a model drew")
    args = parser.parse_args()
    chosen = LEAKS if args.leaks is None else {k: LEAKS[k] for k in args.leaks.split(";")}
    for table in args.tables.split(","):
        schema, real = halves(args, table)
        drawn = None if args.synthetic is None else read(args.synthetic, schema)
        for name, leak in ({"model": LEAKS["fresh rows"]} if drawn is not None else chosen).items():
            start, by, refused = time.process_time(), Counter[str](), 0
            for seed in range(args.first, args.first + args.seeds):
                evidence = evidence_of(schema, real, drawn, seed)
                rng = np.random.default_rng([seed, 1])
                leaky = Evidence(
                    schema, evidence.train, evidence.holdout, leak(evidence, rng), seed=seed
                )
                # the controls of one split are the same for every leak: judged with fresh rows
                controls = run_checks(leaky, CONTROLS) if not measured_leak(name) else []
                rules = refusing(leaky, controls)
                by.update(rules)
                refused += bool(rules)
            seconds = (time.process_time() - start) / args.seeds
            result = {"table": table, "leak": name, "refused": refused, "of": args.seeds}
            print(json.dumps(result | {"by": dict(by), "seconds": round(seconds, 1)}), flush=True)


if __name__ == "__main__":
    main()
