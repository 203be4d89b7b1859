"""How well a model tells synthetic rows from real ones, and by which columns.

The control is the same with train rows in the place of synthetic ones, so that it shows what the
same number of rows gives by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from synthgen.checks.check import Evidence, Measurement
from synthgen.checks.contrast import NOTHING_MODELLED, Z95, inconclusive, interval
from synthgen.checks.features import Bools, Floats, embed, matrix, take
from synthgen.rng import derive, stream
from synthgen.schema import Column

#: Rows a side that a detector sees.
DETECTOR_ROWS = 8_000
FOLDS = 5
#: Strength of the ridge of the propensity model: next to none, so that perfect separation ends.
LOOSE = 1e6

#: A new classifier with a decision function.
Make = Callable[[], HistGradientBoostingClassifier | LogisticRegression]


def trees(evidence: Evidence) -> list[Measurement]:
    """Train trees to tell synthetic rows from holdout rows: ``c2st``, a cross-validated AUC.

    Lopez-Paz & Oquab 2017 (arXiv 1610.06545), with an AUC instead of an accuracy; interval after
    Hanley & McNeil 1982. ``details["columns"]`` says how much AUC is lost when one column is
    shuffled.
    """
    name = "c2st"
    frames = _frames(evidence, name)
    if isinstance(frames, Measurement):
        return [frames]
    columns = evidence.schema.modelled
    rows, is_level = matrix(frames, columns)
    seed = derive(evidence.seed, name) % 2**31

    def make() -> HistGradientBoostingClassifier:
        return HistGradientBoostingClassifier(
            categorical_features=is_level, random_state=seed, early_stopping=False
        )

    said = "how well trees tell synthetic rows from fresh real ones; .5 is chance"
    return [_detector(name, rows, make, columns, [[j] for j in range(len(columns))], seed, said)]


def linear(evidence: Evidence) -> list[Measurement]:
    """Do as `trees` with a logistic regression: ``c2st_linear``.

    On the judge's encoding: ranks, and levels one-hot. It sees shifted columns but, one term a
    column, no dependence between them.
    """
    name = "c2st_linear"
    frames = _frames(evidence, name)
    if isinstance(frames, Measurement):
        return [frames]
    columns = evidence.schema.modelled
    coded = embed([frames[2], frames[0], frames[1]], columns)
    rows = [coded.rows[1], coded.rows[2], coded.rows[0]]
    seed = derive(evidence.seed, name) % 2**31

    def make() -> LogisticRegression:
        return LogisticRegression(solver="newton-cholesky")

    said = "how well a logistic regression tells synthetic rows from fresh ones; .5 is chance"
    return [_detector(name, rows, make, columns, coded.spans, seed, said)]


def propensity(evidence: Evidence) -> list[Measurement]:
    """Return ``pmse_ratio``: the propensity score's mean squared error over what chance gives.

    Snoke et al. 2018 (doi:10.1111/rssa.12358), a logistic regression of main effects. With k
    parameters and N rows, a share c of them synthetic, N pMSE / (c (1 - c)) is chi-squared with
    k - 1 degrees of freedom if both samples come from one population. NOTE[DIFF]: the paper takes
    the real rows as given, which halves the expectation; here both samples are random. The interval
    is the normal one of the noncentral chi-squared distribution.
    """
    name = "pmse_ratio"
    frames = _frames(evidence, name)
    if isinstance(frames, Measurement):
        return [frames]
    synthetic, holdout, train = frames
    coded = embed([train, synthetic, holdout], evidence.schema.modelled)
    found, control = (pmse(coded.rows[i], coded.rows[2], 1 / LOOSE) for i in (1, 0))
    if not found.free:
        return [inconclusive(name, "every column is constant")]
    away = max(0.0, found.ratio * found.free - found.free)
    half = Z95 * math.sqrt(2 * (found.free + 2 * away)) / found.free
    return [
        interval(
            name,
            found.ratio,
            half,
            n=found.n,
            unit="ratio",
            control=control.ratio,
            details={"pmse": found.value, "expected": found.expected, "parameters": found.free + 1},
            note="propensity score error over what two samples of one population give; 1 is ideal",
        )
    ]


@dataclass(frozen=True)
class Propensity:
    """pMSE of two samples together n rows, its null expectation, and the free parameters."""

    value: float
    expected: float
    free: int
    n: int

    @property
    def ratio(self) -> float:
        """Value over expectation: 1 if both samples are of one population; NaN without terms."""
        return self.value / self.expected if self.free else math.nan


def pmse(a: Floats, b: Floats, ridge: float) -> Propensity:
    """Return how far propensity scores of `a` (N, D) against `b` (M, D) are from a's share.

    E[pMSE] = (k - 1) c (1 - c) / (N + M), c = N / (N + M), k - 1 the rank of the columns.
    """
    x, y = np.vstack([a, b]), np.repeat([1, 0], [len(a), len(b)])
    c, n = len(a) / len(x), len(x)
    centred = x - x.mean(axis=0)
    free = int(np.linalg.matrix_rank(centred.T @ centred, hermitian=True))
    model = LogisticRegression(C=1 / ridge, solver="newton-cholesky", max_iter=50).fit(centred, y)
    value = float(((model.predict_proba(centred)[:, 1] - c) ** 2).mean())
    return Propensity(value, free * c * (1 - c) / n, free, n)


# --- parts ---------------------------------------------------------------------------------------


def _frames(evidence: Evidence, name: str) -> list[pd.DataFrame] | Measurement:
    """Return equally many synthetic, holdout and train rows, or why there is no answer."""
    if not evidence.schema.modelled:
        return inconclusive(name, NOTHING_MODELLED)
    rng = stream(evidence.seed, name)
    tables = (evidence.synthetic, evidence.holdout, evidence.train)
    n = min(*map(len, tables), DETECTOR_ROWS)
    if n < 2 * FOLDS:
        return inconclusive(name, f"{n} rows a side are too few for {FOLDS} folds")
    return [take(f, n, rng) for f in tables]


def _detector(
    name: str,
    rows: list[Floats],
    make: Make,
    columns: tuple[Column, ...],
    spans: list[list[int]],
    seed: int,
    said: str,
) -> Measurement:
    """Detect synthetic (first of `rows`) among holdout (second), and train (third) as control."""
    synthetic, holdout, train = rows
    n = len(synthetic)
    value, losses = detector_auc(synthetic, holdout, make, spans, seed)
    control, _ = detector_auc(train, holdout, make, [], seed)
    names = [c.name for c in columns]
    giveaways = sorted(zip(names, losses, strict=True), key=lambda found: -found[1])
    return interval(
        name,
        value,
        Z95 * auc_error(value, n, n),
        bounds=(0.0, 1.0),
        n=n,
        unit="AUC",
        control=control,
        details={"columns": [{"column": c, "auc_loss": x} for c, x in giveaways]},
        note=said,
    )


def detector_auc(
    a: Floats, b: Floats, make: Make, spans: list[list[int]], seed: int
) -> tuple[float, list[float]]:
    """Return the mean cross-validated AUC of telling `a` (N, D) from `b` (N, D), and AUC losses.

    A loss is what shuffling the columns of one span costs in the last fold: the most telling are
    large.
    """
    x, y = np.vstack([a, b]), np.repeat([1, 0], [len(a), len(b)])
    scores: list[float] = []
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for kept, test in folds.split(x, y):
        model = make().fit(x[kept], y[kept])
        scores.append(auc(y[test] == 1, model.decision_function(x[test])))
    rng, losses = np.random.default_rng(seed), []
    for span in spans:
        shuffled = x[test].copy()
        shuffled[:, span] = shuffled[rng.permutation(len(shuffled))][:, span]
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
