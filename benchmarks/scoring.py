"""How well are unusual rows found? Beside an isolation forest, on rows both learn from.

    python benchmarks/scoring.py [--seeds 0,1,2] [--rows 3000] --out RESULTS.jsonl

A twentieth of the rows is unusual, and both are fitted on all of them, unusual ones too, and asked
for the score of the same rows. `swapped`: demo rows that have four cells of other rows, so that no
cell is unusual by itself. `moved`: demo rows of which two numbers are three times as large.
`cancer`: malignant among benign tumours (scikit-learn's copy of UCI's, 357 and 19 rows of 30
numbers). `phishing`: phishing among honest web pages (UCI's, 702 and 37 rows of 9 columns, from the
package river: ``pip install --no-deps river==0.26.1``; left out without). Needs no other file. A
line of RESULTS.jsonl is one table and seed: what is there already is not done again.

Beside the whole score stand its parts: surprise of cells, isolation among the generator's own rows,
and the score with a critic of the training rows, as ``synthgen score --run`` adds it.

The last results, with the machine, are in docs/imputing.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from judge import lines_of, numbers
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from tables import demo

from synthgen.ask.scoring import ISOLATION
from synthgen.config import RunConfig
from synthgen.conform import conform
from synthgen.infer import infer
from synthgen.sources import FrameSource
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable

SHARE, SWAPPED, MOVED, TIMES = 0.05, 4, 2, 3.0
Planted = tuple[pd.DataFrame, npt.NDArray[np.bool_]]


def swapped(rows: int, rng: np.random.Generator) -> Planted:
    """Return demo rows, of which some have cells of others, and which."""
    frame = demo().sample(rows, random_state=int(rng.integers(2**31))).reset_index(drop=True)
    strange = rng.random(rows) < SHARE
    for row in np.flatnonzero(strange):
        for name in rng.choice(frame.columns, SWAPPED, replace=False):
            frame.loc[row, name] = frame.loc[int(rng.integers(rows)), name]
    return frame, strange


def moved(rows: int, rng: np.random.Generator) -> Planted:
    """Return demo rows, of which some have numbers that are too large, and which."""
    frame = demo().sample(rows, random_state=int(rng.integers(2**31))).reset_index(drop=True)
    strange, names = rng.random(rows) < SHARE, ["cost", "crp", "creatinine", "haemoglobin"]
    for row in np.flatnonzero(strange):
        for name in rng.choice(names, MOVED, replace=False):
            frame.loc[row, name] = round(float(frame.loc[row, name]) * TIMES, 2)
    return frame, strange


def cancer(rows: int, rng: np.random.Generator) -> Planted:
    """Return benign tumours with a few malignant ones among them, and which."""
    data = load_breast_cancer(as_frame=True)
    benign, malignant = (np.flatnonzero(data.target == side) for side in (1, 0))
    few = round(SHARE * len(benign) / (1 - SHARE))
    chosen = rng.permutation(np.r_[benign, rng.choice(malignant, few, replace=False)])
    strange = (data.target == 0).to_numpy()[chosen]
    return data.data.iloc[chosen].reset_index(drop=True), strange


def phishing(rows: int, rng: np.random.Generator) -> Planted:
    """Return honest web pages with a few phishing ones among them, and which."""
    package = importlib.util.find_spec("river")
    assert package is not None
    frame = pd.read_csv(Path(str(package.origin)).parent / "datasets" / "phishing.csv.gz")
    label = frame.pop("is_phishing").to_numpy()
    honest, fraud = (np.flatnonzero(label == side) for side in (0, 1))
    few = round(SHARE * len(honest) / (1 - SHARE))
    chosen = rng.permutation(np.r_[honest, rng.choice(fraud, few, replace=False)])
    return frame.iloc[chosen].reset_index(drop=True), label[chosen] == 1


TABLES: dict[str, Callable[[int, np.random.Generator], Planted]] = {
    "swapped": swapped,
    "moved": moved,
    "cancer": cancer,
}
if importlib.util.find_spec("river"):
    TABLES["phishing"] = phishing


def measured(table: str, rows: int, seed: int) -> dict[str, Any]:
    """Return AUC and average precision of both, and the CPU seconds of ours."""
    frame, strange = TABLES[table](rows, np.random.default_rng(seed))
    source = FrameSource.of(frame)
    real: RealTable = conform(source.batches(), infer(source))
    start = time.process_time()
    fitted = Synthesizer.fit(real, config=RunConfig(), seed=seed, device="cpu")
    asked = real.data[[c.name for c in real.schema.modelled]]
    parts = fitted.score(asked)
    spent = time.process_time() - start
    criticised = fitted.score(asked, critic_of=asked)
    coded = pd.get_dummies(frame)
    coded = coded.fillna(coded.median()).astype(float)
    forest = IsolationForest(n_estimators=300, random_state=seed).fit(coded)
    said = {
        "synthgen": parts.sum(axis=1),
        "cells": parts.drop(columns=ISOLATION).sum(axis=1),
        "isolation": parts[ISOLATION],
        "with critic": criticised.sum(axis=1),
        "isolation forest": -forest.score_samples(coded),
    }
    return {
        name: {
            "auc": float(roc_auc_score(strange, score)),
            "ap": float(average_precision_score(strange, score)),
        }
        for name, score in said.items()
    } | {"rows": len(frame), "strange": int(strange.sum()), "cpu_s": round(spent, 1)}


def main() -> None:
    """Measure what is missing and print all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=numbers, default="0,1,2")
    parser.add_argument("--rows", type=int, default=3_000, help="of the demo")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = {(line["table"], line["seed"]) for line in lines_of(args.out)}
    for seed in args.seeds:
        for table in TABLES:
            if (table, seed) not in known:
                line = {"table": table, "seed": seed, **measured(table, args.rows, seed)}
                with args.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
    for line in sorted(lines_of(args.out), key=lambda x: (x["table"], x["seed"])):
        arms = {k: v for k, v in line.items() if isinstance(v, dict)}
        said = ", ".join(f"{k} {v['auc']:.3f} ({v['ap']:.3f})" for k, v in arms.items())
        print(
            f"{line['table']:8} {line['seed']} {line['rows']:5} rows, {line['strange']:3} unusual, "
            f"AUC (AP): {said}"
        )


if __name__ == "__main__":
    main()
