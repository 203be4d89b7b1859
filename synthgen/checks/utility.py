"""Whether a model trained on synthetic rows predicts real ones as well as one trained on real rows.

TSTR: train on synthetic, test on real. TRTR: train on real, test on real, the control. Both models
see as many rows and are tested on the same holdout rows, so their difference is paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from synthgen.checks.check import Area, Check, Evidence, Measurement
from synthgen.checks.detection import auc
from synthgen.checks.features import Floats, is_numeric, levels, matrix, numbers, take
from synthgen.rng import derive, stream
from synthgen.schema import Column

#: Rows that each model is trained on, and that both are tested on.
MAX_FIT_ROWS = 20_000
MAX_TEST_ROWS = 5_000
#: Resamples of the test rows behind the intervals.
RESAMPLES = 200
#: Classes of the target told apart; rarer ones are one class together.
MAX_CLASSES = 10


def utility(evidence: Evidence) -> list[Measurement]:
    """Measure TSTR and TRTR for the schema's target: ``tstr`` and ``tstr_ratio``.

    A classification scores by AUC (more than two classes: mean of one against the rest), a number
    or date by R2 after it is put on the rank scale of the train rows, so that a heavy tail cannot
    decide. ``tstr_ratio`` is (TSTR - guessing) / (TRTR - guessing). Without a target: nothing.
    """
    target = evidence.schema.target
    if target is None:
        return []
    task = _task(evidence, target)
    if isinstance(task, str):
        return [_inconclusive(name, task) for name in ("tstr", "tstr_ratio")]
    scores = [_score(task, p) for p in task.predictions]
    rng = stream(evidence.seed, "utility", "resamples")
    n = len(task.truth)
    rows = (rng.integers(0, n, n) for _ in range(RESAMPLES))
    drawn = np.array([[_score(task, p, r) for p in task.predictions] for r in rows])
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    above = drawn - task.floor
    tstr, trtr = scores
    low, high = np.quantile(drawn[:, 0], [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
    measured = Measurement(
        "tstr",
        "utility",
        tstr,
        float(low),
        float(high),
        n=n,
        unit=task.unit,
        control=trtr,
        better="high",
        details={"target": target.name, "floor": task.floor, "fit_rows": task.n_fit},
        note=f"predicting '{target.name}' on real rows after training on synthetic ones",
    )
    if not len(drawn) or np.quantile(above[:, 1], 0.025) <= 0:
        note = (
            f"'{target.name}' cannot be predicted from the real rows either; choose another"
            " target or waive the rule"
        )
        return [measured, _inconclusive("tstr_ratio", note)]
    ratios = above[:, 0] / above[:, 1]
    low, high = np.quantile(ratios, [0.025, 0.975])
    ratio = Measurement(
        "tstr_ratio",
        "utility",
        (tstr - task.floor) / (trtr - task.floor),
        float(low),
        float(high),
        n=n,
        unit="ratio",
        control=1.0,
        better="high",
        details={"target": target.name},
        note="share of the predictive power above guessing that survives",
    )
    return [measured, ratio]


@dataclass(frozen=True, repr=False)
class _Task:
    """True values of the test rows and what both models (synthetic, real) predict for them."""

    truth: Floats
    predictions: list[Floats]
    unit: str
    floor: float
    n_fit: int


def _task(evidence: Evidence, target: Column) -> _Task | str:
    """Fit both models; a text says why the target allows no answer."""
    rng = stream(evidence.seed, "utility")
    known = [
        f[f[target.name].notna()] for f in (evidence.synthetic, evidence.train, evidence.holdout)
    ]
    n_fit = min(len(known[0]), len(known[1]), MAX_FIT_ROWS)
    sizes = (n_fit, n_fit, MAX_TEST_ROWS)
    frames = [take(f, n, rng) for f, n in zip(known, sizes, strict=True)]
    features = [c for c in evidence.schema.modelled if c.name != target.name]
    if not features:
        return "the target is the only modelled column"
    if min(map(len, frames)) < 2:
        return f"'{target.name}' is known in fewer than two rows of a table"
    x, is_level = matrix(frames, features)
    y = _outcomes(frames, target)
    if len(np.unique(y[1])) < 2 or len(np.unique(y[2])) < 2:
        return f"'{target.name}' has one value only"
    seed = derive(evidence.seed, "utility") % 2**31
    options = {"categorical_features": is_level, "random_state": seed, "early_stopping": False}
    if is_numeric(target):
        predictions = [
            HistGradientBoostingRegressor(**options).fit(x[i], y[i]).predict(x[2]) for i in (0, 1)
        ]
        return _Task(y[2], predictions, "R2", 0.0, n_fit)
    predictions = [_probabilities(x[i], y[i], x[2], options) for i in (0, 1)]
    return _Task(y[2], predictions, "AUC", 0.5, n_fit)


def _outcomes(frames: list[pd.DataFrame], target: Column) -> list[Floats]:
    """Return the target of (synthetic, train, holdout): ranks in train [0, 1], or class codes."""
    parts = [f[target.name] for f in frames]
    if is_numeric(target):
        values = [numbers(p, target) for p in parts]
        ordered = np.sort(values[1])
        return [
            (np.searchsorted(ordered, v, "left") + np.searchsorted(ordered, v, "right"))
            / (2 * len(ordered))
            for v in values
        ]
    train, synthetic, holdout = levels([parts[1], parts[0], parts[2]], target, MAX_CLASSES)
    return [codes.astype("float64") for codes in (synthetic, train, holdout)]


def _probabilities(x: Floats, y: Floats, test: Floats, options: dict[str, object]) -> Floats:
    """Return class probabilities (N, MAX_CLASSES) of the test rows; an unseen class has none."""
    spread = np.zeros((len(test), MAX_CLASSES))
    seen = np.unique(y).astype(int)
    if len(seen) == 1:
        spread[:, seen] = 1.0
    else:
        spread[:, seen] = HistGradientBoostingClassifier(**options).fit(x, y).predict_proba(test)
    return spread


def _score(task: _Task, prediction: Floats, rows: np.ndarray | slice = slice(None)) -> float:
    truth, guess = task.truth[rows], prediction[rows]
    if task.unit == "R2":
        return float(1 - ((truth - guess) ** 2).mean() / max(truth.var(), 1e-12))
    classes = np.unique(truth).astype(int)
    if len(classes) == 2:
        classes = classes[1:]
    return float(np.mean([auc(truth == k, guess[:, k]) for k in classes]))


def _inconclusive(name: str, note: str) -> Measurement:
    return Measurement(name, "utility", None, status="inconclusive", better="high", note=note)


CHECKS: dict[str, tuple[Area, Check]] = {"tstr_ratio": ("utility", utility)}
