"""How well are gaps filled? Beside mean and mode, nearest neighbours, and chained equations.

    python benchmarks/imputing.py --data DIR [--tables adult,bank,king] [--seeds 0] [--asked 6000]
        [--bundles BUNDLES] --out RESULTS.jsonl

`DIR` holds ``<table>.train.csv`` and ``<table>.holdout.csv`` (see judge.py, tables.py). Everybody
learns from all rows of the one and fills a tenth of the cells, chosen at random, of rows of the
other, whose target nobody is told; the others may learn from these rows too, as is usual, synthgen
does not. All numbers are rounded to the digits of their column. RMSE is in standard deviations of
each number, accuracy a mean over categories; the downstream score is that of boosted trees, fitted
on whole rows, on the rows as filled: AUC or R2. ``BUNDLES/<table>.<seed>`` is used where there is
one. A line of RESULTS.jsonl is a table and a seed: what is there already is not done again.

The last results, with the machine, are in docs/imputing.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from judge import TARGETS, half_of, lines_of, numbers, words
from quality import read
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import BayesianRidge, LogisticRegression
from sklearn.metrics import r2_score, roc_auc_score

from synthgen.checks.features import matrix
from synthgen.config import RunConfig
from synthgen.conform import conform
from synthgen.schema import Column
from synthgen.sources import open_source
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable
from synthgen.uses import relaxed

Floats = npt.NDArray[np.float64]
MASKED = 0.1
#: Rounds of chained equations: more change little and cost as much each.
ROUNDS = 5


class Coded:
    """Numbers standardised, a column a level; a gap is NaN in all of its columns."""

    def __init__(self, frame: pd.DataFrame, columns: Sequence[Column]) -> None:
        self.columns = columns
        numbers = [c.name for c in columns if c.kind == "numeric"]
        self.middle, self.spread = frame[numbers].mean(), frame[numbers].std().replace(0, 1)
        self.levels = {
            c.name: sorted(frame[c.name].dropna().astype("str").unique())
            for c in columns
            if c.kind != "numeric"
        }

    def code(self, frame: pd.DataFrame) -> Floats:
        """Return (N, D)."""
        blocks = []
        for name in (c.name for c in self.columns):
            if name not in self.levels:
                blocks.append(((frame[name] - self.middle[name]) / self.spread[name]).to_numpy())
                continue
            texts = frame[name].astype("str").where(frame[name].notna())
            hot = np.column_stack([(texts == level).to_numpy(float) for level in self.levels[name]])
            blocks.append(np.where(frame[name].isna().to_numpy()[:, None], np.nan, hot))
        return np.column_stack(blocks).astype(float)

    def decode(self, coded: Floats, frame: pd.DataFrame) -> pd.DataFrame:
        """Return `frame` with its gaps filled: a number, or the level with the most."""
        out, start = frame.copy(), 0
        for column in self.columns:
            name = column.name
            gaps, width = frame[name].isna().to_numpy(), len(self.levels.get(name, "1"))
            block = coded[gaps, start : start + width]
            start += width
            if name not in self.levels:
                filled: Any = block[:, 0] * self.spread[name] + self.middle[name]
                filled = filled if column.decimals is None else filled.round(column.decimals)
            else:
                texts = np.array(self.levels[name])[block.argmax(axis=1)]
                filled = texts == "True" if frame[name].dtype == "boolean" else texts
            out.loc[gaps, name] = filled
        return out


class Chained:
    """Chained equations, a model a column: logistic for categories, ridge for numbers.

    IterativeImputer has one kind of model for all, and a level that is predicted from the other
    levels of its own column never moves. Models are fitted on the rows as they are; gaps of those
    that are asked start at mean and mode and are predicted in turn, `ROUNDS` times.
    """

    def __init__(self, coded: Coded) -> None:
        self._coded = coded
        widths = [len(coded.levels.get(c.name, "1")) for c in coded.columns]
        self._spans = [slice(e - w, e) for e, w in zip(np.cumsum(widths), widths, strict=True)]

    def fit(self, x: Floats) -> Chained:
        """Fit a model a column on (N, D)."""
        self._start = SimpleImputer().fit(x)
        whole, self._models = self._start.transform(x), []
        for column, span in zip(self._coded.columns, self._spans, strict=True):
            known, others = ~np.isnan(x[:, span.start]), np.delete(whole, span, axis=1)
            if column.name in self._coded.levels:
                model: Any = LogisticRegression(max_iter=100)
                model.fit(others[known], x[known, span].argmax(axis=1))
            else:
                model = BayesianRidge().fit(others[known], x[known, span.start])
            self._models.append(model)
        return self

    def transform(self, x: Floats) -> Floats:
        """Return (N, D) without gaps."""
        out = self._start.transform(x)
        for _ in range(ROUNDS):
            for span, model in zip(self._spans, self._models, strict=True):
                gaps = np.isnan(x[:, span.start])
                if gaps.any():
                    said = model.predict(np.delete(out[gaps], span, axis=1))
                    hot = isinstance(model, LogisticRegression)
                    out[gaps, span] = np.eye(span.stop - span.start)[said] if hot else said[:, None]
        return out


PEERS: dict[str, Callable[[Coded], Any]] = {
    "mean and mode": lambda _: SimpleImputer(),
    "10 neighbours": lambda _: KNNImputer(n_neighbors=10),
    "IterativeImputer": lambda _: IterativeImputer(max_iter=ROUNDS, random_state=0),
    "chained, by kind": Chained,
}


def scores(
    filled: pd.DataFrame, truth: pd.DataFrame, gaps: pd.DataFrame, coded: Coded
) -> dict[str, float]:
    """Return RMSE over the numbers and accuracy over the categories, of the masked cells."""
    wrong, right = [], []
    for column in coded.columns:
        here, name = gaps[column.name].to_numpy(), column.name
        got, wanted = filled.loc[here, name], truth.loc[here, name]
        if name in coded.levels:
            right.append(float((got.astype("str") == wanted.astype("str")).mean()))
        else:
            errors = (got.to_numpy(float) - wanted.to_numpy(float)) / coded.spread[name]
            wrong.append(float(np.sqrt(np.mean(errors**2))))
    return {"rmse": float(np.mean(wrong)), "accuracy": float(np.mean(right or [np.nan]))}


def downstream(
    learnt: pd.DataFrame, target: str, columns: Sequence[Column], asked: dict[str, pd.DataFrame]
) -> dict[str, float]:
    """Return the score on each filled frame of one model that was fitted on whole rows."""
    parts, is_level = matrix([learnt, *asked.values()], columns)
    is_number = pd.api.types.is_float_dtype(learnt[target])
    kind = HistGradientBoostingRegressor if is_number else HistGradientBoostingClassifier
    model = kind(categorical_features=is_level, random_state=0).fit(
        parts[0], learnt[target] if is_number else learnt[target].astype("str")
    )
    truth = next(iter(asked.values()))[target]
    out = {}
    for name, x in zip(asked, parts[1:], strict=True):
        if is_number:
            out[name] = float(r2_score(truth, model.predict(x)))
        else:
            said = model.predict_proba(x)[:, 1]
            out[name] = float(roc_auc_score(truth.astype("str") == model.classes_[1], said))
    return out


def tables(
    args: argparse.Namespace, table: str, seed: int
) -> tuple[Synthesizer, RealTable, RealTable]:
    """Return a fitted synthesizer, the rows that it learnt from and fresh rows."""
    halves = [half_of(args.data, table, h) for h in ("train", "holdout")]
    if args.bundles and (bundle := args.bundles / f"{table}.{seed}").is_dir():
        fitted = Synthesizer.load(bundle, device="cpu")
    else:
        real = read(halves[0], TARGETS[table])
        fitted = Synthesizer.fit(real, config=RunConfig(), seed=seed, device="cpu")
    schema, found = relaxed(fitted.schema), []
    for half in halves:
        with open_source(str(half), schema) as source:
            found.append(conform(source.batches(), schema).data)
    chosen = np.random.default_rng(seed).permutation(len(found[1]))[: args.asked]
    fresh = found[1].iloc[np.sort(chosen)].reset_index(drop=True)
    return fitted, RealTable(schema, found[0]), RealTable(schema, fresh)


def measured(args: argparse.Namespace, table: str, seed: int) -> dict[str, Any]:
    """Return all measures of one table."""
    target = TARGETS[table]
    fitted, learnt, fresh = tables(args, table, seed)
    columns = [c for c in learnt.schema.modelled if c.name != target]
    names = [c.name for c in learnt.schema.modelled]
    truth = fresh.data[names]
    chosen = np.random.default_rng(seed).random(truth.shape) < MASKED
    gaps = pd.DataFrame(chosen, columns=names) & truth.notna()
    gaps[target] = True
    holed = truth.mask(gaps)
    coded, start = Coded(learnt.data, columns), time.process_time()
    filled = {"synthgen": fitted.impute(holed, seed=seed)[0]}
    cpu = {"synthgen": time.process_time() - start}
    asked = coded.code(holed)
    seen = np.concatenate([coded.code(learnt.data), asked])
    for name, make in PEERS.items():
        start = time.process_time()
        filled[name] = coded.decode(make(coded).fit(seen).transform(asked), holed)
        cpu[name] = time.process_time() - start
    rows = {"nothing masked": truth, **filled, "gaps left": holed}
    rows = {k: f.assign(**{target: truth[target]}) for k, f in rows.items()}
    return {
        "learnt": fitted.facts["rows"],
        "asked": len(truth),
        "cells": {k: scores(f, truth, gaps, coded) for k, f in filled.items()},
        "downstream": downstream(learnt.data, target, columns, rows),
        "cpu_s": {k: round(s, 1) for k, s in cpu.items()},
    }


def main() -> None:
    """Measure the tables that are missing and print all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tables", type=words, default="adult,bank,king")
    parser.add_argument("--seeds", type=numbers, default="0")
    parser.add_argument("--asked", type=int, default=6_000, help="rows with gaps")
    parser.add_argument("--bundles", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = {(line["table"], line["seed"]) for line in lines_of(args.out)}
    for table, seed in itertools.product(args.tables, args.seeds):
        if (table, seed) not in known:
            line = {"table": table, "seed": seed, **measured(args, table, seed)}
            with args.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
    for line in lines_of(args.out):
        rows = f"{line['learnt']:,} rows learnt from, {line['asked']:,} filled"
        print(f"\n{line['table']}, seed {line['seed']}: {rows}")
        for name, score in line["downstream"].items():
            cells = line["cells"].get(name, {"rmse": np.nan, "accuracy": np.nan})
            print(f"{name:18} {cells['rmse']:6.3f} {cells['accuracy']:6.3f} {score:6.3f}")


if __name__ == "__main__":
    main()
