"""Do synthetic rows of a scarce class help? Beside SMOTE-NC and the cheap remedies.

    python benchmarks/augmenting.py --data DIR [--tables adult,bank,demo] [--rare 30,100,300]
        [--seeds 0,1,2] --out RESULTS.jsonl

`DIR` holds ``<table>.train.csv`` (see judge.py and tables.py). Of it 3,800 rows of the larger class
and at most 1,200 of the rarer are taken, other ones for each seed; `synthgen.augment.trial` splits
them, cuts the rarer class of the part that is learnt from, and `compare` fits every arm. A line of
RESULTS.jsonl is a trial: what is there already is not done again. At the end the verdict of each
case is printed, by `synthgen.augment.conclude` as in `synthgen augment`.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from judge import TARGETS, half_of, lines_of, numbers, words
from quality import read

from synthgen.augment import Score, compare, conclude, near_copies, trial
from synthgen.config import RunConfig
from synthgen.rng import stream
from synthgen.table import RealTable
from synthgen.uses import said

#: Rows of the larger class and, at most, of the rarer one.
LARGER, RARER = 3_800, 1_200


def cut(table: RealTable, target: str, seed: int) -> RealTable:
    """Return some rows of both classes of `target`."""
    texts = table.data[target].astype("str")
    order = stream(seed, "cut").permutation(len(table))
    is_rare = (texts == texts.value_counts().index[-1]).to_numpy()[order]
    kept = np.sort(np.concatenate([order[~is_rare][:LARGER], order[is_rare][:RARER]]))
    return RealTable(table.schema, table.data.iloc[kept].reset_index(drop=True))


def measured(args: argparse.Namespace, table: str, rare: int, seed: int) -> dict[str, Any]:
    """Return all scores of one trial, and the CPU seconds it took."""
    real = cut(read(half_of(args.data, table, "train"), TARGETS[table]), TARGETS[table], seed)
    start = time.process_time()
    of = trial(real, TARGETS[table], RunConfig(), seed=seed, rare_rows=rare)
    return {
        "scores": [asdict(score) for score in compare(of, seed=seed)],
        "copies": near_copies(of, seed=seed),
        "cpu_s": round(time.process_time() - start, 1),
    }


def main() -> None:
    """Do the trials that are missing and print the verdict of each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tables", type=words, default="adult,bank,demo")
    parser.add_argument("--rare", type=numbers, default="30,100,300")
    parser.add_argument("--seeds", type=numbers, default="0,1,2")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = {(t["table"], t["rare"], t["seed"]) for t in lines_of(args.out)}
    wanted = [(t, r, s) for s in args.seeds for r in args.rare for t in args.tables]
    for table, rare, seed in wanted:
        if (table, rare, seed) not in known:
            line = {"table": table, "rare": rare, "seed": seed}
            line |= measured(args, table, rare, seed)
            with args.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
    for table, rare in dict.fromkeys((t, r) for t, r, _ in wanted):
        trials = [t for t in lines_of(args.out) if (t["table"], t["rare"]) == (table, rare)]
        if len(trials) > 2:
            scores = [Score(**score) for t in trials for score in t["scores"]]
            print(f"\n{table}, {rare} rare rows, {len(trials)} trials")
            print(said(conclude(scores, [t["copies"] for t in trials])))


if __name__ == "__main__":
    main()
