"""What differential privacy costs: both engines at epsilon 1, 3 and 10, by the judge.

    python benchmarks/dp.py --data DIR --judge ../shared/bench --table adult --runs 3

Half of a table for training (adult: 16,280 rows), delta 1e-6, schemas/<table>.toml declared. The
whole pipeline is accounted: number of rows, cells, counts, selection, steps. Runs differ by their
noise, which has no seed. Seconds are CPU seconds of calibration and training on one core.

Result: docs/privacy.md, "Differential privacy".
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

from judge import TARGETS

from synthgen.config import RunConfig
from synthgen.conform import conform
from synthgen.dp import release
from synthgen.schema import TableSchema
from synthgen.sources import open_source
from synthgen.synthesizer import Synthesizer

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Print one JSON line a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with <table>.train.csv")
    parser.add_argument("--table", choices=["adult", "bank", "king"], default="adult")
    parser.add_argument("--judge", type=Path, required=True, help="folder with evaluate.py")
    parser.add_argument("--judge-python", default=sys.executable)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0, 3.0, 10.0])
    parser.add_argument("--engine", nargs="+", default=["tree", "network"])
    parser.add_argument("--runs", type=int, default=1)
    args = parser.parse_args()
    schema = TableSchema.load(ROOT / "schemas" / f"{args.table}.toml")
    data = args.data / f"{args.table}.train.csv"
    table = conform(open_source(str(data), schema).batches(), schema)
    for run, epsilon, engine in product(range(args.runs), args.epsilon, args.engine):
        config = RunConfig.build({"train": {"dp": {"epsilon": epsilon, "engine": engine}}})
        release.plan.cache_clear()  # its seconds count
        started = time.process_time()
        fitted = Synthesizer.fit_privately(table, config=config, seed=run, charge=lambda plan: None)
        seconds = time.process_time() - started
        drawn = fitted.sample(len(table), seed=run).data
        with tempfile.TemporaryDirectory() as folder:
            drawn.to_csv(Path(folder) / "synthetic.csv", index=False)
            scores = judge(args, Path(folder))
        found = {"table": args.table, "engine": engine, "epsilon": epsilon, "run": run}
        print(json.dumps(found | {"cpu": round(seconds)} | scores), flush=True)


def judge(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Return shape and trend error, two-way distance and TSTR by the judge."""
    out = folder / "scores.json"
    target = TARGETS[args.table]
    command = [args.judge_python, "evaluate.py", "--target", target, "--out", str(out)]
    command += ["--synth", str(folder / "synthetic.csv"), "--parts", "sdmetrics,pairs,tstr"]
    for half in ("train", "holdout"):
        command += [f"--{half}", str(args.data / f"{args.table}.{half}.csv")]
    subprocess.run(command, cwd=args.judge, check=True, capture_output=True)
    e = json.loads(out.read_text(encoding="utf-8"))
    kept = {k: round(e[k], 4) for k in ("shape_error", "trend_error", "pair_tv")}
    return kept | {"tstr": round(e["tstr"].get("auc", e["tstr"].get("r2")), 4)}


if __name__ == "__main__":
    main()
