"""How much the synthetic table differs from the real one: columns, pairs, the whole row.

Every distance is measured twice with the same number of rows: synthetic against train, and the
holdout against train (the `control`). Sampling noise inflates both alike, so the gate reads the
excess. Only modelled columns count; ids, PII and free text are regenerated and never compared.

A Kolmogorov-Smirnov or total variation distance is the largest gap P(A) - Q(A) over a class of
sets; its interval here is the normal one of that gap at the set where it is largest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold

from synthgen.checks.check import Area, Check, Evidence, Measurement
from synthgen.checks.features import Bools, Floats, Ints, is_numeric, levels, matrix, numbers, take
from synthgen.rng import derive, stream
from synthgen.schema import Column

#: Rows of one table that columns and pairs are compared on.
MAX_ROWS = 100_000
#: Blocks of the holdout's size that synthetic rows are cut into; their distances are averaged.
MAX_BLOCKS = 5
#: Pairs of columns looked at; more are sampled.
MAX_PAIRS = 1_000
#: Most bins of a number, and most levels of a category, in a two-way table.
MAX_BINS, PAIR_LEVELS = 10, 50
#: Rows wanted for each cell of a two-way table; fewer rows get coarser tables.
ROWS_PER_CELL = 30
#: Resamples behind the interval of the pair distance.
PAIR_RESAMPLES = 20
#: Rows a side that the detector sees.
DETECTOR_ROWS = 8_000
FOLDS = 5
#: Pairs that the dependence is judged by: the strongest quarter, at least so many.
LEAST_STRONG = 5
#: Distance between shuffled and fresh rows below which columns count as unrelated.
LEAST_STRUCTURE = 0.02
NO_ROWS = "one of the tables has no rows"
NOTHING_MODELLED = "no column is modelled: there is nothing to compare"
Z95 = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Gap:
    """A distance sup |P(A) - Q(A)| with P(A) and Q(A) at the set where it is attained."""

    value: float
    p: float
    q: float


def ks(a: Floats, b: Floats) -> Gap:
    """Return the two-sample Kolmogorov-Smirnov distance of finite values; ties count fully.

    Two empty samples are equal (0); an empty one against a filled one is as far as can be (1).
    """
    if not len(a) or not len(b):
        return Gap(float(len(a) != len(b)), float(len(a) > 0), float(len(b) > 0))
    points = np.concatenate([a, b])
    p = np.searchsorted(np.sort(a), points, side="right") / len(a)
    q = np.searchsorted(np.sort(b), points, side="right") / len(b)
    at = int(np.argmax(np.abs(p - q)))
    return Gap(float(abs(p[at] - q[at])), float(p[at]), float(q[at]))


def tvd(a: Ints, b: Ints) -> Gap:
    """Return the total variation distance of two samples of level codes: half the L1 distance."""
    if not len(a) or not len(b):
        return Gap(float(len(a) != len(b)), float(len(a) > 0), float(len(b) > 0))
    size = int(max(a.max(), b.max())) + 1
    p, q = np.bincount(a, minlength=size) / len(a), np.bincount(b, minlength=size) / len(b)
    more = p > q
    return Gap(float(np.abs(p - q).sum() / 2), float(p[more].sum()), float(q[more].sum()))


def marginals(evidence: Evidence) -> list[Measurement]:
    """Compare every modelled column: KS or TVD of present values, and the missing rate.

    Names: ``ks.<column>``, ``tvd.<column>``, ``missing.<column>``, and ``marginals``: the largest
    excess over the control among them, which is what the gate reads.
    """
    tables = _Tables.of(evidence)
    if not tables.n:
        return [_inconclusive("marginals", NO_ROWS)]
    found = [m for c in evidence.schema.modelled for m in _column(tables, c)]
    if not found:
        return [_inconclusive("marginals", NOTHING_MODELLED)]
    excess = {m.name: _number(m.worst) - _number(m.control) for m in found}
    worst = max(excess, key=lambda name: excess[name])
    summary = Measurement(
        "marginals",
        "fidelity",
        value=max(_number(m.value) - _number(m.control) for m in found),
        high=excess[worst],
        n=tables.n,
        unit="excess",
        control=0.0,
        details={"worst": worst, "mean": float(np.mean([m.value for m in found]))},
        note="largest excess of one column's distance to train over the holdout's own",
    )
    return [*found, summary]


def pairs(evidence: Evidence) -> list[Measurement]:
    """Compare the two-way tables of all pairs of modelled columns with train's.

    Numbers are cut at train's quantiles (deciles, from 3,000 rows on), a value on an edge below
    it, so that a point mass is a bin of its own; missing is a level. ``pair_tv`` is the mean total
    variation distance; its details hold every pair's distance, control and strength (Cramer's V in
    train and in the synthetic rows), and what train rows with every column shuffled score.

    ``pair_loss`` takes the strongest pairs only and puts their distance on a scale from the
    control (0) to the shuffled rows (1): the share of what the columns tell about each other that
    is lost. All pairs would drown it: most are weak, and noise is the same in all.
    """
    names = [c.name for c in evidence.schema.modelled]
    if len(names) < 2:
        note = "fewer than two modelled columns: there is no pair"
        return [_inconclusive(name, note) for name in ("pair_tv", "pair_loss")]
    tables = _Tables.of(evidence)
    if not tables.n:
        return [_inconclusive(name, NO_ROWS) for name in ("pair_tv", "pair_loss")]
    rng = stream(evidence.seed, "pairs")
    chosen = _chosen_pairs(len(names), rng)
    coded = [_binned(tables, c) for c in evidence.schema.modelled]
    shuffled = [c.train[rng.permutation(len(c.train))[: tables.n]] for c in coded]
    value, control, apart = np.empty(len(chosen)), np.empty(len(chosen)), np.empty(len(chosen))
    drawn = np.empty((PAIR_RESAMPLES, len(chosen)))
    rows = tables.rows
    samples = [rows[rng.integers(0, len(rows), len(rows))] for _ in range(PAIR_RESAMPLES)]
    for k, (i, j) in enumerate(chosen):
        pair = _crossed(coded[i], coded[j])
        value[k] = np.mean([tvd(pair.synthetic[b], pair.train).value for b in tables.blocks])
        control[k] = tvd(pair.holdout, pair.train).value
        apart[k] = tvd(shuffled[i] * _width(coded[j]) + shuffled[j], pair.train).value
        drawn[:, k] = [tvd(pair.synthetic[s], pair.train).value for s in samples]
    strength = np.array([cramers_v(coded[i].train, coded[j].train) for i, j in chosen])
    drawn_strength = [cramers_v(coded[i].synthetic, coded[j].synthetic) for i, j in chosen]
    strong = np.argsort(-strength, kind="stable")[: max(LEAST_STRONG, len(chosen) // 4)]
    mean, half = float(value.mean()), Z95 * float(drawn.mean(axis=1).std(ddof=1))
    lost = float((value - control)[strong].mean())
    lost_half = Z95 * float(drawn[:, strong].mean(axis=1).std(ddof=1))
    scale = max(float((apart - control)[strong].mean()), LEAST_STRUCTURE)
    table = [
        {
            "columns": [names[i], names[j]],
            "value": float(v),
            "control": float(c),
            "strength": s,
            "strength_synthetic": d,
        }
        for (i, j), v, c, s, d in zip(
            chosen, value, control, strength.tolist(), drawn_strength, strict=True
        )
    ]
    return [
        Measurement(
            "pair_tv",
            "fidelity",
            mean,
            max(0.0, mean - half),
            min(1.0, mean + half),
            n=tables.n,
            control=float(control.mean()),
            details={"independent": float(apart.mean()), "pairs": table},
            note="mean distance of the two-way tables of pairs of columns, shared bins",
        ),
        Measurement(
            "pair_loss",
            "fidelity",
            lost / scale,
            (lost - lost_half) / scale,
            (lost + lost_half) / scale,
            n=tables.n,
            control=0.0,
            details={"pairs": len(strong), "distance": lost, "independent": scale},
            note="share of the dependence between columns that is lost; 1: independent columns",
        ),
    ]


def cramers_v(a: Ints, b: Ints) -> float:
    """Return how strongly two samples of level codes depend on each other, in [0, 1].

    Cramer's V with the bias correction of Bergsma 2013, doi:10.1016/j.jkss.2012.10.002.
    """
    n, rows, columns = len(a), len(np.unique(a)), len(np.unique(b))
    if min(rows, columns) < 2:  # a constant tells nothing
        return 0.0
    table = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(table, (a, b), 1)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    phi2 = float(((table - expected) ** 2 / np.where(expected, expected, 1)).sum()) / n
    free = (rows - 1) * (columns - 1) / (n - 1)
    sides = [k - (k - 1) ** 2 / (n - 1) for k in (rows, columns)]
    return math.sqrt(max(0.0, phi2 - free) / (min(sides) - 1)) if min(sides) > 1 else 0.0


def detection(evidence: Evidence) -> list[Measurement]:
    """Train trees to tell synthetic rows from holdout rows: cross-validated AUC (C2ST).

    The control is the same with train rows in the place of synthetic ones. Lopez-Paz & Oquab 2017
    (arXiv 1610.06545), with an AUC instead of an accuracy; interval after Hanley & McNeil 1982.
    ``details["columns"]`` says how much AUC is lost when one column is shuffled.
    """
    columns = evidence.schema.modelled
    if not columns:
        return [_inconclusive("c2st", NOTHING_MODELLED)]
    rng = stream(evidence.seed, "c2st")
    n = min(map(len, (evidence.synthetic, evidence.holdout, evidence.train)))
    n = min(n, DETECTOR_ROWS)
    if n < 2 * FOLDS:
        note = f"{n} rows a side are too few for {FOLDS} folds"
        return [_inconclusive("c2st", note)]
    frames = [take(f, n, rng) for f in (evidence.synthetic, evidence.holdout, evidence.train)]
    (synthetic, holdout, train), is_level = matrix(frames, columns)
    seed = derive(evidence.seed, "c2st") % 2**31
    value, losses = detector_auc(synthetic, holdout, is_level, seed)
    control, _ = detector_auc(train, holdout, is_level, seed)
    half = Z95 * auc_error(value, n, n)
    giveaways = sorted(zip([c.name for c in columns], losses, strict=True), key=lambda x: -x[1])
    return [
        Measurement(
            "c2st",
            "fidelity",
            value,
            low=max(0.0, value - half),
            high=min(1.0, value + half),
            n=n,
            unit="AUC",
            control=control,
            details={"columns": [{"column": c, "auc_loss": x} for c, x in giveaways]},
            note="how well trees tell synthetic rows from fresh real ones; .5 is chance",
        )
    ]


def detector_auc(
    a: Floats, b: Floats, is_level: list[bool], seed: int
) -> tuple[float, list[float]]:
    """Return the mean cross-validated AUC of telling `a` (N, C) from `b` (N, C), and AUC losses.

    A loss is what shuffling one column costs in the last fold: (C,), the most telling are large.
    """
    x, y = np.vstack([a, b]), np.repeat([1, 0], [len(a), len(b)])
    scores: list[float] = []
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for fit, test in folds.split(x, y):
        model = HistGradientBoostingClassifier(
            categorical_features=is_level, random_state=seed, early_stopping=False
        ).fit(x[fit], y[fit])
        scores.append(auc(y[test] == 1, model.decision_function(x[test])))
    rng, losses = np.random.default_rng(seed), []
    for j in range(x.shape[1]):
        shuffled = x[test].copy()
        shuffled[:, j] = rng.permutation(shuffled[:, j])
        losses.append(scores[-1] - auc(y[test] == 1, model.decision_function(shuffled)))
    return float(np.mean(scores)), losses


def auc(positive: Bools, score: Floats) -> float:
    """Return the area under the ROC curve, ties half: NaN if there is only one class."""
    n_pos = int(positive.sum())
    n_neg = len(positive) - n_pos
    if not n_pos or not n_neg:
        return math.nan
    return float((rankdata(score)[positive].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def auc_error(value: float, n_pos: int, n_neg: int) -> float:
    """Return an AUC's standard error. Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747."""
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value) + (n_pos - 1) * (q1 - value**2) + (n_neg - 1) * (q2 - value**2)
    return math.sqrt(max(0.0, spread) / (n_pos * n_neg))


@dataclass(frozen=True, repr=False)
class _Tables:
    """The three tables cut to bounded sizes; synthetic `blocks` have as many rows as holdout."""

    train: pd.DataFrame
    holdout: pd.DataFrame
    synthetic: pd.DataFrame
    blocks: list[Ints]
    n: int

    @classmethod
    def of(cls, evidence: Evidence) -> _Tables:
        rng = stream(evidence.seed, "fidelity")
        n = min(len(evidence.synthetic), len(evidence.holdout), len(evidence.train), MAX_ROWS)
        n_blocks = min(
            MAX_BLOCKS, len(evidence.synthetic) // max(n, 1), max(1, MAX_ROWS // max(n, 1))
        )
        return cls(
            take(evidence.train, MAX_ROWS, rng),
            take(evidence.holdout, n, rng),
            take(evidence.synthetic, n * n_blocks, rng),
            [np.arange(i * n, (i + 1) * n) for i in range(n_blocks)],
            n,
        )

    @property
    def rows(self) -> Ints:
        """The synthetic rows of all blocks."""
        return np.concatenate(self.blocks)

    def parts(self, column: Column) -> list[pd.Series]:
        return [f[column.name] for f in (self.train, self.holdout, self.synthetic)]


def _column(tables: _Tables, column: Column) -> list[Measurement]:
    parts = tables.parts(column)
    gone = [p.isna().to_numpy(bool) for p in parts]
    found = []
    if is_numeric(column):
        values = [numbers(p, column) for p in parts]
        blocks = [ks(values[2][b][~gone[2][b]], values[0][~gone[0]]) for b in tables.blocks]
        control = ks(values[1][~gone[1]], values[0][~gone[0]])
        found.append(_measured(f"ks.{column.name}", blocks, control.value, tables))
    else:
        codes = levels(parts, column)
        blocks = [tvd(codes[2][b][~gone[2][b]], codes[0][~gone[0]]) for b in tables.blocks]
        control = tvd(codes[1][~gone[1]], codes[0][~gone[0]])
        found.append(_measured(f"tvd.{column.name}", blocks, control.value, tables))
    if any(g.any() for g in gone):
        rate = [g.astype("int64") for g in gone]
        blocks = [tvd(rate[2][b], rate[0]) for b in tables.blocks]
        found.append(
            _measured(f"missing.{column.name}", blocks, tvd(rate[1], rate[0]).value, tables)
        )
    return found


def _measured(name: str, blocks: list[Gap], control: float, tables: _Tables) -> Measurement:
    value = float(np.mean([g.value for g in blocks]))
    n = tables.n * len(blocks)
    p, q = (
        float(np.mean([x * (1 - x) for x in xs]))
        for xs in ([g.p for g in blocks], [g.q for g in blocks])
    )
    half = Z95 * math.sqrt(p / n + q / len(tables.train))
    return Measurement(
        name, "fidelity", value, max(0.0, value - half), min(1.0, value + half), n, control=control
    )


@dataclass(frozen=True, repr=False)
class _Coded:
    """Integer codes of a column, or a pair of columns, in the three tables."""

    train: Ints
    holdout: Ints
    synthetic: Ints


def _binned(tables: _Tables, column: Column) -> _Coded:
    parts = tables.parts(column)
    bins = int(np.clip(math.sqrt(tables.n / ROWS_PER_CELL), 2, MAX_BINS))
    if not is_numeric(column):
        return _Coded(*levels(parts, column, min(PAIR_LEVELS, bins**2)))
    values = [numbers(p, column) for p in parts]
    known = values[0][~np.isnan(values[0])]
    edges = np.unique(np.quantile(known, np.arange(1, bins) / bins)) if len(known) else np.empty(0)
    gone = len(edges) + 1
    return _Coded(
        *(np.where(np.isnan(v), gone, np.searchsorted(edges, v, side="left")) for v in values)
    )


def _chosen_pairs(n_columns: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    every = list(combinations(range(n_columns), 2))
    if len(every) <= MAX_PAIRS:
        return every
    return [every[i] for i in sorted(rng.permutation(len(every))[:MAX_PAIRS])]


def _width(coded: _Coded) -> int:
    return 1 + max(int(x.max(initial=0)) for x in (coded.train, coded.holdout, coded.synthetic))


def _crossed(a: _Coded, b: _Coded) -> _Coded:
    """Return the codes of the two-way table of two columns."""
    w = _width(b)
    return _Coded(a.train * w + b.train, a.holdout * w + b.holdout, a.synthetic * w + b.synthetic)


def _inconclusive(name: str, note: str) -> Measurement:
    return Measurement(name, "fidelity", None, status="inconclusive", note=note)


def _number(x: float | None) -> float:
    return math.nan if x is None else x


CHECKS: dict[str, tuple[Area, Check]] = {
    "marginals": ("fidelity", marginals),
    "pair_tv": ("fidelity", pairs),
    "c2st": ("fidelity", detection),
}
