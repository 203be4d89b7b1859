"""Does it help to draw thrice as many rows and to keep those that look real? Measured, left out.

    python benchmarks/density_ratio.py --data DIR [--tables king,adult] [--seeds 1,2]
        [--judge BENCH] [--python JUDGES_PYTHON]

A generator is fitted on 80 % of a training half. Of three times as many rows, as many as it was
fitted on are kept: by a density ratio (Azadi et al. 2019, discriminator rejection sampling) of a
classifier that sees the other 20 % or the training rows, and by weights raked to the marginals of
the training rows (Deming & Stephan 1940). The judge sees rows that none of them saw; `member` is
the AUC of the distance to the nearest synthetic row, training rows against fresh ones.

The last results are in docs/model.md. The privacy figures are the judge's, on the 80 %.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.csv as pc
import torch
from judge import TARGETS, arguments, half_of, judge, parse
from quality import read
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from synthgen.config import RunConfig
from synthgen.synthesizer import Synthesizer
from synthgen.table import split, to_arrow

Weights = npt.NDArray[np.float64]

#: Rows drawn for one that is kept; largest weight of one.
TIMES, MOST = 3, 20.0
FOLDS, LEVELS, BINS, ROUNDS = 5, 250, 20, 10
MEMBERS = 3_000


def features(*frames: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the frames as numbers and categories of common levels."""
    out = [pd.DataFrame(index=frame.index) for frame in frames]
    for column in frames[0]:
        if is_number(frames[0][column]):
            for new, frame in zip(out, frames, strict=True):
                new[column] = frame[column].astype("float64")
            continue
        texts = [frame[column].astype("str") for frame in frames]
        levels = pd.concat(texts).value_counts().index[:LEVELS]
        for new, text in zip(out, texts, strict=True):
            new[column] = pd.Categorical(text, categories=levels)
    return out


def is_number(values: pd.Series) -> bool:
    """Tell numbers from everything else, booleans included."""
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def density_ratio(real: pd.DataFrame, pool: pd.DataFrame, seed: int) -> Weights:
    """Return ``p / (1 - p)`` of each row of the pool, by a classifier that did not see it."""
    x_real, x_pool = features(real.reset_index(drop=True), pool)
    rng = np.random.default_rng(seed)
    fold, fold_real = rng.integers(FOLDS, size=len(x_pool)), rng.integers(FOLDS, size=len(x_real))
    weights = np.zeros(len(x_pool))
    for k in range(FOLDS):
        here, there = x_real[fold_real != k], x_pool[fold != k]
        model = HistGradientBoostingClassifier(
            max_iter=50, categorical_features="from_dtype", random_state=seed
        )
        model.fit(
            pd.concat([here, there], ignore_index=True),
            np.r_[np.ones(len(here)), np.zeros(len(there))],
            sample_weight=np.r_[np.full(len(here), len(there) / len(here)), np.ones(len(there))],
        )
        p = model.predict_proba(x_pool[fold == k])[:, 1]
        weights[fold == k] = np.clip(p / (1 - p), 0, MOST)
    return weights


def raked(real: pd.DataFrame, pool: pd.DataFrame, weights: Weights) -> Weights:
    """Return the weights fitted to every column's marginal in turn; numbers in equal bins."""
    columns = []
    for x_real, x_pool in zip(*(f.items() for f in features(real, pool)), strict=True):
        codes = [_codes(x[1], x_real[1]) for x in (x_real, x_pool)]
        size = int(max(code.max() for code in codes)) + 1
        columns.append((codes[1], np.bincount(codes[0], minlength=size) / len(real), size))
    for _ in range(ROUNDS):
        for code, wanted, size in columns:
            weights = weights / weights.sum()
            found = np.bincount(code, weights, minlength=size)
            change = np.clip(wanted / np.maximum(found, 1e-12), 0.2, 5)
            weights = weights * np.where(found > 0, change, 1)[code]
    return weights


def _codes(values: pd.Series, real: pd.Series) -> npt.NDArray[np.int64]:
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.codes.to_numpy(np.int64) + 1
    edges = np.unique(np.nanquantile(real, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.where(values.isna(), len(edges) + 1, np.searchsorted(edges, values, "left"))


def resampled(pool: pd.DataFrame, weights: Weights, n: int, seed: int) -> pd.DataFrame:
    """Return `n` rows by their weights (systematically, in random order)."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pool))
    share = np.cumsum(weights[order] / weights.sum())
    points = (np.arange(n) + rng.random()) / n
    return pool.iloc[order[np.searchsorted(share, points).clip(max=len(pool) - 1)]]


def membership(train: pd.DataFrame, fresh: pd.DataFrame, synthetic: pd.DataFrame) -> float:
    """Return the AUC of nearness to a synthetic row as a sign of a training row; .5 tells none."""
    tables = features(train, fresh, synthetic)
    parts: list[list[npt.NDArray[np.float32]]] = [[], [], []]
    for column in tables[0]:
        base = tables[0][column]
        for part, table in zip(parts, tables, strict=True):
            values = table[column]
            if isinstance(base.dtype, pd.CategoricalDtype):
                part.append(
                    np.eye(len(base.cat.categories) + 1, dtype=np.float32)[values.cat.codes] / 2
                )
            else:
                low, high = np.nanquantile(base, [0.01, 0.99])
                scaled = ((values - low) / ((high - low) or 1)).clip(0, 1).fillna(2)
                part.append(scaled.to_numpy(np.float32)[:, None])
    a, b, s = map(np.hstack, parts)
    n = min(MEMBERS, len(a), len(b))
    near = NearestNeighbors(n_neighbors=1, metric="manhattan").fit(s)
    distances = [near.kneighbors(x[:n])[0][:, 0] for x in (a, b)]
    return float(roc_auc_score(np.repeat([1, 0], n), -np.concatenate(distances)))


def measure(args: argparse.Namespace, table: str, folder: Path) -> None:
    """Print a line for each way to keep rows."""
    real, target = read(half_of(args.data, table, "train"), TARGETS[table]), TARGETS[table]
    fresh = read(half_of(args.data, table, "holdout"), target).data
    halves = split(real, holdout=0.2, seed=0)
    train, others = halves.train.data, halves.holdout.data
    fitted = Synthesizer.fit(halves.train, config=RunConfig(), seed=0, device="cpu")
    half_of(folder, table, "holdout").symlink_to(half_of(args.data, table, "holdout"))
    pc.write_csv(to_arrow(train, real.schema), half_of(folder, table, "train"))
    args = argparse.Namespace(**{**vars(args), "data": folder})
    for seed in args.seeds:
        pool = fitted.sample(TIMES * len(train), seed=seed).data
        every = np.ones(len(pool))
        held, seen = density_ratio(others, pool, seed), density_ratio(train, pool, seed)
        kept = {
            "as drawn": pool[: len(train)],
            "raked": resampled(pool, raked(train, pool, every), len(train), seed),
            "others": resampled(pool, held, len(train), seed),
            "others, raked": resampled(pool, raked(train, pool, held), len(train), seed),
            "train": resampled(pool, seen, len(train), seed),
            "train, raked": resampled(pool, raked(train, pool, seen), len(train), seed),
        }
        for way, rows in kept.items():
            path = folder / f"{table}.csv"
            pc.write_csv(to_arrow(rows.reset_index(drop=True), real.schema), path)
            scores: dict[str, Any] = dict(judge(args, table, path, path.with_suffix(".json")))
            errors = " ".join(
                f"{100 * scores[k]:5.2f}" for k in ("shape_error", "trend_error", "pair_tv")
            )
            tstr = scores["tstr"].get("auc", scores["tstr"].get("r2"))
            print(
                f"{table:8} {seed} {way:14} {errors} {tstr:.3f} {scores['c2st_auc']:.3f} "
                f"{scores['dcr_share']:.3f} {scores['exact_match_share']:.5f} "
                f"{membership(train, fresh, rows):.3f}",
                flush=True,
            )


def main() -> None:
    """Print the table of all tables and seeds."""
    args = parse(arguments(__doc__.splitlines()[0]))
    torch.set_num_threads(1)
    print("table seed rows by  shape trend pairtv TSTR C2ST DCR copies member")
    with tempfile.TemporaryDirectory() as folder:
        for table in args.tables:
            measure(args, table, Path(folder))


if __name__ == "__main__":
    main()
