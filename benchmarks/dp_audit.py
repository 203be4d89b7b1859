"""Do fitting and drawing show more of one row than epsilon allows? A black-box audit.

    python benchmarks/dp_audit.py --engine tree --epsilon 1 --runs 1000 --repeats 20
    python benchmarks/dp_audit.py --engine network --epsilon 3 --runs 300

The worst pair of neighbours: 40 equal rows, with or without one row that differs in everything.
Each run fits on one of them through the public door and draws 1,000 rows; the adversary counts
cells that are the odd row's. A threshold is picked on half of the runs, and on the other half the
true- and false-positive rates' Clopper-Pearson bounds give an epsilon that holds with 95 %
confidence. It must not be above what is claimed. Black-box bounds are loose (Annamalai et al.
2024): the audit finds metadata that leak and noise that is missing altogether, not a factor of two;
tests/gan/test_dp_audit.py does.

`--spent 100` plants a bug (the noise of epsilon 100 where `--epsilon` is claimed), and `--observed`
another (categories and bounds that are those of the rows): both must be found.

Results: docs/privacy.md, "Tests".
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import pandas as pd
from scipy import stats

from synthgen.config import RunConfig
from synthgen.schema import Column, TableSchema
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable

ROWS, DRAWN, DELTA, CONFIDENCE = 40, 1_000, 1e-6, 0.95
COMMON, ODD = ("a", 30.0, False), ("d", 99.0, True)


def table(*, odd: bool, observed: bool = False) -> RealTable:
    """Return 40 equal rows, with `odd` one more; `observed` takes the schema from the rows."""
    rows = [COMMON] * ROWS + [ODD] * odd
    wards, ages, _ = zip(*rows, strict=True)
    schema = TableSchema(
        name="audit",
        columns=(
            Column(
                name="ward",
                kind="categorical",
                categories=tuple(sorted(set(wards))) if observed else ("a", "b", "c", "d"),
            ),
            Column(
                name="age",
                kind="numeric",
                minimum=min(ages) if observed else 0,
                maximum=max(ages) if observed else 99,
                decimals=0,
            ),
            Column(name="well", kind="boolean"),
        ),
    )
    frame = pd.DataFrame(rows, columns=["ward", "age", "well"])
    return RealTable(schema, frame.astype({"ward": "str", "age": "float64", "well": "boolean"}))


def odd_cells(real: RealTable, config: RunConfig, seed: int) -> int:
    """Fit, draw and count the odd row's cells: all that this adversary looks at."""
    fitted = Synthesizer.fit_privately(real, config=config, seed=seed, charge=lambda plan: None)
    drawn = fitted.sample(DRAWN, seed=seed).data
    ward, age, well = ODD
    hits = (drawn["ward"] == ward, drawn["age"] >= age - 1, drawn["well"].eq(well))
    return int(sum(h.sum() for h in hits))


def lower_bound(with_it: np.ndarray, without: np.ndarray, *, delta: float = DELTA) -> float:
    """Return an epsilon that the scores prove with 95 % confidence; 0 if they prove nothing.

    (epsilon, delta)-DP allows true positives up to exp(epsilon) false positives + delta, and the
    same with the neighbours exchanged.
    """
    half = len(with_it) // 2, len(without) // 2
    first, second = (
        (with_it[: half[0]], without[: half[1]]),
        (with_it[half[0] :], without[half[1] :]),
    )
    candidates = [(t, side) for t in np.unique(np.concatenate(first)) for side in (1, -1)]
    threshold, side = max(candidates, key=lambda c: _bound_at(*first, *c, delta))
    return max(0.0, _bound_at(*second, threshold, side, delta))


def _bound_at(
    with_it: np.ndarray, without: np.ndarray, threshold: float, side: int, delta: float
) -> float:
    """Bound epsilon by one threshold; side 1 says 'member' from it on, -1 'no member' up to it."""
    hits, n = int((side * with_it >= side * threshold).sum()), len(with_it)
    false, m = int((side * without >= side * threshold).sum()), len(without)
    if side < 0:
        hits, n, false, m = false, m, hits, n
    alpha = (1 - CONFIDENCE) / 2
    least = stats.beta.ppf(alpha, hits, n - hits + 1) if hits else 0.0
    most = stats.beta.ppf(1 - alpha, false + 1, m - false) if false < m else 1.0
    return float(np.log((least - delta) / most)) if least > delta else 0.0


def audit(config: RunConfig, runs: int, *, observed: bool = False) -> float:
    """Return the epsilon that `runs` fits on each neighbour prove."""
    scores = [
        np.array([odd_cells(table(odd=odd, observed=observed), config, i) for i in range(runs)])
        for odd in (True, False)
    ]
    return lower_bound(*scores)


def main() -> None:
    """Print one JSON line a repeat."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=["tree", "network"], default="tree")
    parser.add_argument("--epsilon", type=float, default=1.0, help="what is claimed")
    parser.add_argument("--spent", type=float, help="a planted bug: noise of this epsilon")
    parser.add_argument("--observed", action="store_true", help="a planted bug: schema of the rows")
    parser.add_argument("--steps", type=int, default=50, help="of the network")
    parser.add_argument("--runs", type=int, default=500, help="fits on each neighbour")
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    dp = {"epsilon": args.spent or args.epsilon, "delta": DELTA, "engine": args.engine}
    settings = {"dp": {**dp, "steps": args.steps, "rate": 0.25}, "width": 16, "depth": 1}
    config = RunConfig.build({"train": settings})
    for repeat in range(args.repeats):
        started = time.process_time()
        proven = audit(config, args.runs, observed=args.observed)
        found = {"repeat": repeat, "proven": round(proven, 3), "claimed": args.epsilon}
        seconds = round(time.process_time() - started)
        print(json.dumps(found | {"alarm": proven > args.epsilon, "cpu": seconds}), flush=True)


if __name__ == "__main__":
    main()
