"""How often the gate's privacy rules refuse fresh rows, a trained model and planted leaks.

    python benchmarks/gate_power.py --data TABLES --tables adult,bank,king,demo --out power.jsonl
    python benchmarks/gate_power.py --data TABLES --tables king --cut parts
    synthgen run --data parts/king.part.csv --schema schemas/king.toml --rows 9604 ... --run-dir RUN
    python benchmarks/gate_power.py --tables king --run RUN --rest parts/king.rest.csv --out ...
    python benchmarks/gate_power.py --show power.jsonl
    python benchmarks/gate_power.py --data TABLES --tables adult --cost 30000

A seed shuffles all real rows of a table and cuts them into train, holdout (a fifth of both, as in a
run) and as many disjoint fresh rows as train has, which stand for the output of a perfect model.
Each leak of `LEAKS` is planted into these; nothing is trained. Fresh rows are judged as three
tables, a third of them each, and with both controls, as a run judges a model.

A trained model (``--run``) was fitted by `synthgen run` on five ninths of the table. Its train rows
are compared with one of five disjoint holdouts, the run's own and four cut from the rest; each seed
draws three tables. So 20 seeds are 20 judgements of one training, not 20 trainings.

Every judgement is one line of ``--out``, seeds outermost; those that are there are not made again.
Only privacy rules are judged; the defaults of `GatePolicy` apply.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from judge import lines_of

from synthgen import demo
from synthgen.checks.check import Evidence, Measurement, Report, run_checks
from synthgen.checks.distances import nearest_others, positions
from synthgen.checks.features import is_numeric
from synthgen.checks.gate import (
    PRIVACY_CHECKS,
    PRIVACY_TESTS,
    against,
    decide,
    further_draws,
    negative_control,
    positive_control,
    privacy_rules,
)
from synthgen.checks.privacy import RealRows, clopper_pearson
from synthgen.config import GatePolicy
from synthgen.conform import conform
from synthgen.rng import derive
from synthgen.run_folder import RunFolder
from synthgen.schema import TableSchema
from synthgen.sources import open_source
from synthgen.table import read_frame

Leak = Callable[[Evidence, np.random.Generator], pd.DataFrame]
CONTROLS = {
    "positive_control": ("privacy", positive_control),
    "negative_control": ("privacy", negative_control),
}
#: Tables that a run judges of one model, and disjoint holdouts that one model is judged by.
SAMPLES, HOLDOUTS = 3, 5
POLICY = GatePolicy(samples=1)
FRESH, MODEL = "fresh rows", "trained model"


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
        apart = nearest_others(places).distance
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


# --- tables --------------------------------------------------------------------------------------


def read(path: Path, schema: TableSchema) -> pd.DataFrame:
    """Read a CSV file by its schema."""
    return conform(open_source(str(path), schema).batches(), schema).data


@cache
def table_of(name: str, data: Path | None, demo_rows: int) -> tuple[TableSchema, pd.DataFrame]:
    """Return schema and all rows of a table; the demo's are made here."""
    if name == "demo":
        return demo.SCHEMA, demo.demo_frame(demo_rows, 0).data
    if data is None:
        raise SystemExit(f"--data: where is {name}.csv?")
    schema = TableSchema.load(Path(__file__).parent.parent / "schemas" / f"{name}.toml")
    return schema, read(data / f"{name}.csv", schema)


def cut(rows: pd.DataFrame, seed: int) -> list[pd.DataFrame]:
    """Shuffle by `seed` and cut into train, holdout (a quarter as many) and fresh rows."""
    order = np.random.default_rng(seed).permutation(len(rows))
    n = int(len(rows) / 2.25)
    parts = np.split(order[: n + n // 4 + n], [n, n + n // 4])
    return [rows.iloc[p].reset_index(drop=True) for p in parts]


def write_parts(args: argparse.Namespace, name: str) -> None:
    """Cut the lines of a CSV file: five ninths for a run, the rest for further holdouts."""
    source = args.cut / "demo.csv" if name == "demo" else args.data / f"{name}.csv"
    args.cut.mkdir(parents=True, exist_ok=True)
    if name == "demo":
        demo.write_csv(source, args.demo_rows, 0)
    header, *lines = source.read_text(encoding="utf-8").splitlines()
    order = np.random.default_rng(0).permutation(len(lines))
    n = len(lines) * 5 // 9
    for part, chosen in (("part", order[:n]), ("rest", order[n:])):
        text = "\n".join([header, *(lines[i] for i in chosen)]) + "\n"
        (args.cut / f"{name}.{part}.csv").write_text(text, encoding="utf-8")


def planted(args: argparse.Namespace, name: str, leak: str, seed: int) -> Evidence:
    """Return fresh rows, as three tables, or a leak planted into them, as one."""
    schema, rows = table_of(name, args.data, args.demo_rows)
    train, holdout, fresh = cut(rows, seed)
    if leak == FRESH:
        first, *draws = (fresh.iloc[k::SAMPLES].reset_index(drop=True) for k in range(SAMPLES))
        return Evidence(schema, train, holdout, first, seed=seed, draws=tuple(draws))
    clean = Evidence(schema, train, holdout, fresh, seed=seed)
    return replace(clean, synthetic=LEAKS[leak](clean, np.random.default_rng([seed, 1])))


def drawn(args: argparse.Namespace, seed: int) -> Evidence:
    """Draw three tables of a run's model; take one of the holdouts that it never saw."""
    from synthgen.synthesizer import Synthesizer

    folder = RunFolder.open(args.run)
    schema = folder.schema
    train = read_frame(folder.train_path, schema)
    holdouts = [read_frame(folder.holdout_path, schema)]
    rest, n = read(args.rest, schema), len(holdouts[0])
    holdouts += [rest.iloc[i * n : (i + 1) * n].reset_index(drop=True) for i in range(HOLDOUTS - 1)]
    fitted = Synthesizer.load(folder.bundle_path, device="cpu")
    first, *draws = (
        fitted.sample(len(train), seed=derive(seed, "power", k) % 2**31).data
        for k in range(SAMPLES)
    )
    return Evidence(schema, train, holdouts[seed % HOLDOUTS], first, seed=seed, draws=tuple(draws))


# --- judging -------------------------------------------------------------------------------------


def refusing(evidence: Evidence) -> tuple[list[str], dict[str, float]]:
    """Return the privacy rules that refuse one table, and the p values.

    Holm's step for the smallest p needs only the number of tests, so what is certain by the first
    tests needs no further ones.
    """
    found: list[Measurement] = []
    for name, check in PRIVACY_CHECKS.items():
        found += run_checks(evidence, {name: check})
        p = {m.name: float(m.details["p"]) for m in found if m.name in PRIVACY_TESTS and m.details}
        certain = [name for name, value in p.items() if len(PRIVACY_TESTS) * value < POLICY.copy_p]
        if certain:
            return certain, p
    rules = privacy_rules(Report(tuple(found)), POLICY)
    return [r.name for r in rules if r.counts and not r.passed], p


def judged(evidence: Evidence) -> dict[str, Any]:
    """Judge the table and, if there are further draws, these and both controls; p of each table."""
    refused, first = refusing(evidence)
    p = [first]
    if evidence.draws:
        tables = (replace(evidence, synthetic=d, draws=()) for d in evidence.draws)
        for k, table in enumerate(tables, start=2):
            more, of_draw = refusing(replace(table, seed=derive(evidence.seed, "draw", k)))
            refused += [f"draw_{k}.{name}" for name in more]
            p.append(of_draw)
        found = run_checks(evidence, CONTROLS)
        rules = decide(Report(tuple(found)), POLICY, fingerprint="").failing
        refused += [r.name for r in rules if r.name in CONTROLS]
    rounded = [{name: float(f"{v:.2g}") for name, v in each.items()} for each in p]
    return {"refused_by": refused, "p": rounded}


def show(path: Path) -> None:
    """Print refusals of every table and leak, with Clopper-Pearson intervals."""
    lines = lines_of(path)
    for table, leak in dict.fromkeys((x["table"], x["leak"]) for x in lines):
        cells = [x for x in lines if (x["table"], x["leak"]) == (table, leak)]
        k, n = sum(bool(x["refused_by"]) for x in cells), len(cells)
        low, high = clopper_pearson(k, n)
        by = Counter(name for x in cells for name in x["refused_by"]).most_common(4)
        print(f"| {table} | {leak} | {k} of {n} ({low:.0%} to {high:.0%}) | {dict(by)} |")


def cost(args: argparse.Namespace, name: str) -> None:
    """Print what all privacy tests of one table take, and of a run: three tables, both controls.

    The rows are those of a table, drawn with replacement: what a distance costs does not depend on
    what it is.
    """
    schema, rows = table_of(name, args.data, args.demo_rows)
    sizes = [args.cost, args.cost // 4, *[args.cost] * SAMPLES]
    train, holdout, first, *draws = (rows.sample(n, replace=True, random_state=n) for n in sizes)
    evidence = Evidence(schema, train, holdout, first, draws=tuple(draws))
    start = time.process_time()
    real = RealRows(evidence)
    for check in against(PRIVACY_CHECKS, real).items():
        run_checks(evidence, dict([check]))
        print(f"{check[0]}: {time.process_time() - start:.1f} CPU s since the start")
    run_checks(evidence, CONTROLS)
    list(further_draws(evidence, real))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    shape = f"{args.cost:,} rows x {len(schema.modelled)}"
    print(f"{name}, {shape}, a run: {time.process_time() - start:.0f} CPU s, peak {peak:.0f} MB")


def main() -> None:
    """Judge what was not judged yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with <table>.csv")
    parser.add_argument("--tables", default="demo")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--demo-rows", type=int, default=22_500)
    parser.add_argument("--leaks", help="names, separated by semicolons; default: all")
    parser.add_argument("--out", type=Path, default=Path("power.jsonl"))
    parser.add_argument("--cut", type=Path, help="folder to cut the tables into, for runs")
    parser.add_argument("--run", type=Path, help="run folder of a model of the one table")
    parser.add_argument("--rest", type=Path, help="rows that this run never saw")
    parser.add_argument("--cost", type=int, help="print what judging so many rows takes")
    parser.add_argument("--show", type=Path, help="print the rates of this file")
    args = parser.parse_args()
    if args.show:
        return show(args.show)
    tables = args.tables.split(",")
    if args.cost:
        return cost(args, tables[0])
    if args.cut:
        for name in tables:
            write_parts(args, name)
        return None
    wanted = [MODEL] if args.run else args.leaks.split(";") if args.leaks else [FRESH, *LEAKS]
    done = {(x["table"], x["leak"], x["seed"]) for x in lines_of(args.out)}
    for seed in range(args.first, args.first + args.seeds):
        for table, leak in product(tables, wanted):
            if (table, leak, seed) in done:
                continue
            start = time.process_time()
            evidence = drawn(args, seed) if args.run else planted(args, table, leak, seed)
            line = {"table": table, "leak": leak, "seed": seed, **judged(evidence)}
            line["seconds"] = round(time.process_time() - start, 1)
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    return show(args.out)


if __name__ == "__main__":
    main()
