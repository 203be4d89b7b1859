"""Whether a model trained on synthetic rows predicts real ones as well as one trained on real rows.

TSTR: train on synthetic, test on real. TRTR: train on real, test on real, the control. Both models
see as many rows and are tested on the same holdout rows, so their difference is paired. Two
families of models: boosted trees, and a linear one on the judge's own encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from synthgen.checks.check import Area, Check, Evidence, Measurement
from synthgen.checks.detection import auc
from synthgen.checks.features import Floats, embed, is_numeric, levels, matrix, numbers, take
from synthgen.rng import derive, stream
from synthgen.schema import Column

#: Rows that each model is trained on, and that both are tested on.
MAX_FIT_ROWS = 20_000
MAX_TEST_ROWS = 5_000
#: Fewer rows teach nothing.
MIN_ROWS = 4
#: Resamples of the test rows behind the intervals.
RESAMPLES = 200
#: Classes of the target told apart; rarer ones are one class together.
MAX_CLASSES = 10
#: Test rows that importances are measured on.
IMPORTANCE_ROWS = 2_000
#: Columns whose importance is measured; of more, a sample.
MAX_IMPORTANCES = 30
#: Bins of the confidence that a calibration error is the mean of.
CALIBRATION_BINS = 10
NAMES = ("tstr", "tstr_ratio", "tstr_linear", "tstr_linear_ratio", "importance")


def utility(evidence: Evidence) -> list[Measurement]:
    """Measure what a model of the schema's target loses by synthetic rows. Without one: nothing.

    ``tstr`` (trees) and ``tstr_linear``: a classification scores by AUC (more than two classes:
    mean of one against the rest), a number or date by R2 after it is put on the rank scale of the
    train rows, so that a heavy tail cannot decide. ``tstr_ratio``, ``tstr_linear_ratio``:
    (TSTR - guessing) / (TRTR - guessing). ``importance``: rank correlation of the columns'
    importances in both trees. ``ece`` and ``brier``, of classifications: how far probabilities are
    from what happens.
    """
    target = evidence.schema.target
    if target is None:
        return []
    task = _task(evidence, target)
    if isinstance(task, str):
        return [_inconclusive(name, task) for name in NAMES]
    seed = derive(evidence.seed, "utility") % 2**31
    trees = [task.fit_trees(rows, seed) for rows in task.sides]
    line = [task.fit_linear(i) for i in (0, 1)]
    rng = stream(evidence.seed, "utility", "resamples")
    n = len(task.truth)
    drawn = [rng.integers(0, n, n) for _ in range(RESAMPLES)]
    found = []
    for name, predictions, said in (
        ("tstr", [m(task.x[2]) for m in trees], "trees"),
        ("tstr_linear", line, "a linear model"),
    ):
        found += _scores(name, task, predictions, drawn, said)
        if name == "tstr" and task.unit == "AUC":
            found += _calibration(task, predictions, drawn)
    halves = [task.fit_trees(rows, seed) for rows in task.halves]
    return [*found, _importance(task, trees, halves, stream(evidence.seed, "importance"))]


def _scores(
    name: str, task: _Task, predictions: Sequence[Floats], samples: Sequence[Indices], said: str
) -> list[Measurement]:
    """Return the score of the synthetic model, the real one's being the control, and the ratio."""
    tstr, trtr = (score(task, p) for p in predictions)
    drawn = np.array([[score(task, p, rows) for p in predictions] for rows in samples])
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    low, high = np.quantile(drawn[:, 0], [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
    target = task.target
    measured = Measurement(
        name,
        "utility",
        tstr,
        float(low),
        float(high),
        n=len(task.truth),
        unit=task.unit,
        control=trtr,
        better="high",
        details={"target": target, "floor": task.floor, "fit_rows": len(task.sides[0].y)},
        note=f"predicting '{target}' on real rows by {said} trained on synthetic ones",
    )
    above = drawn - task.floor
    if not len(drawn) or np.quantile(above[:, 1], 0.025) <= 0:
        note = (
            f"'{target}' cannot be predicted from the real rows either; choose another"
            " target or waive the rule"
        )
        return [measured, _inconclusive(f"{name}_ratio", note)]
    low, high = np.quantile(above[:, 0] / above[:, 1], [0.025, 0.975])
    ratio = Measurement(
        f"{name}_ratio",
        "utility",
        (tstr - task.floor) / (trtr - task.floor),
        float(low),
        float(high),
        n=len(task.truth),
        unit="ratio",
        control=1.0,
        better="high",
        details={"target": target},
        note="share of the predictive power above guessing that survives",
    )
    return [measured, ratio]


def _calibration(
    task: _Task, predictions: Sequence[Floats], samples: Sequence[Indices]
) -> list[Measurement]:
    """Return ECE and Brier score of the synthetic model's probabilities on real rows."""
    measures: dict[str, tuple[Callable[[Floats, Floats], float], str]] = {
        "ece": (calibration_error, "mean gap between confidence and accuracy (ECE)"),
        "brier": (brier, "mean squared error of the probabilities (Brier)"),
    }
    found = []
    for name, (measure, said) in measures.items():
        values = [measure(task.truth[r], predictions[0][r]) for r in samples]
        low, high = np.quantile(values, [0.025, 0.975])
        value, control = (measure(task.truth, p) for p in predictions)
        found.append(
            Measurement(
                name,
                "utility",
                value,
                min(float(low), value),  # the ECE of a resample is larger than of the rows
                max(float(high), value),
                n=len(task.truth),
                control=control,
                note=said,
            )
        )
    return found


def calibration_error(truth: Floats, probabilities: Floats) -> float:
    """Return the expected calibration error of the most likely class: 0 to 1.

    Guo et al. 2017 (arXiv 1706.04599): |accuracy - confidence| of ten bins, by their rows.
    """
    confidence = probabilities.max(axis=1)
    gap = (probabilities.argmax(axis=1) == truth) - confidence
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    sums = np.bincount(bins, weights=gap, minlength=CALIBRATION_BINS)
    return float(np.abs(sums).sum() / len(truth))


def brier(truth: Floats, probabilities: Floats) -> float:
    """Return half the squared distance of probabilities (N, K) from what happened: 0 to 1.

    Brier 1950; halved, so that two classes score as (p - y)^2 does.
    """
    return float(_losses(truth, probabilities).mean())


def _importance(
    task: _Task, models: Sequence[Model], halves: Sequence[Model], rng: np.random.Generator
) -> Measurement:
    """Return how alike both models rank the columns; the control are two halves of train.

    An importance is what the loss grows by when a column of the test rows is shuffled (Breiman
    2001, doi:10.1023/A:1010933404324).
    """
    name = "importance"
    test = task.x[2][:IMPORTANCE_ROWS]
    if test.shape[1] < 3:
        return _inconclusive(name, "fewer than three columns have no order to speak of")
    order = rng.permutation(len(test))
    columns = np.sort(rng.permutation(test.shape[1])[:MAX_IMPORTANCES])
    losses = [_permuted(task, m, test, order, columns) for m in (*models, *halves)]
    n = len(test)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    drawn = [
        _agreement(a, b) for a, b in zip(weights @ losses[0], weights @ losses[1], strict=True)
    ]
    value = _agreement(losses[0].mean(axis=0), losses[1].mean(axis=0))
    control = _agreement(losses[2].mean(axis=0), losses[3].mean(axis=0))
    low, high = np.quantile(drawn, [0.025, 0.975])
    order_of = np.argsort(-losses[1].mean(axis=0), kind="stable")
    return Measurement(
        name,
        "utility",
        value,
        min(float(low), value),
        max(float(high), value),
        n=n,
        unit="rank correlation",
        control=control,
        better="high",
        details={
            "columns": [
                {
                    "column": task.features[columns[j]],
                    "real": float(losses[1][:, j].mean()),
                    "synthetic": float(losses[0][:, j].mean()),
                }
                for j in order_of
            ]
        },
        note="how alike models of synthetic and of real rows rank the columns by importance",
    )


def _permuted(task: _Task, model: Model, test: Floats, order: Indices, columns: Indices) -> Floats:
    """Return what each row's loss grows by when one of `columns` (C,) is shuffled: (N, C)."""
    truth = task.truth[: len(test)]
    before = _losses(truth, model(test))
    grown = []
    for j in columns:
        shuffled = test.copy()
        shuffled[:, j] = shuffled[order, j]
        grown.append(_losses(truth, model(shuffled)) - before)
    return np.column_stack(grown)


def _agreement(a: Floats, b: Floats) -> float:
    """Return Spearman's rank correlation; 0 if one of the two has no order."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a, b).statistic)


def _losses(truth: Floats, guess: Floats) -> Floats:
    """Return each row's squared error: of a number (N,), or half that of probabilities (N, K)."""
    if guess.ndim == 1:
        return np.asarray((truth - guess) ** 2)
    happened = np.eye(guess.shape[1])[truth.astype(int)]
    return np.asarray(((guess - happened) ** 2).sum(axis=1) / 2)


#: Rows (N, C) in, predictions (N,) or probabilities (N, K) out.
Model = Callable[[Floats], Floats]
Indices = np.ndarray


@dataclass(frozen=True, repr=False)
class _Sample:
    """What a model is trained on: features (N, C) and outcomes (N,)."""

    x: Floats
    y: Floats


@dataclass(frozen=True, repr=False)
class _Task:
    """One prediction task on synthetic, train and holdout rows (in this order).

    `x` holds the features for trees, `points` those for a linear model, `y` the outcomes: ranks in
    train, [0, 1], or class codes.
    """

    target: str
    features: list[str]
    is_level: list[bool]
    x: list[Floats]
    points: list[Floats]
    y: list[Floats]
    unit: str

    @property
    def sides(self) -> list[_Sample]:
        """The synthetic and the train rows."""
        return [_Sample(self.x[i], self.y[i]) for i in (0, 1)]

    @property
    def truth(self) -> Floats:
        """Outcomes of the test rows."""
        return self.y[2]

    @property
    def floor(self) -> float:
        """What guessing scores."""
        return 0.5 if self.unit == "AUC" else 0.0

    @property
    def halves(self) -> list[_Sample]:
        """The train rows in two, which any difference between models is held against."""
        return [_Sample(self.x[1][i::2], self.y[1][i::2]) for i in (0, 1)]

    def fit_trees(self, rows: _Sample, seed: int) -> Model:
        """Return boosted trees fitted on `rows`."""
        options = {
            "categorical_features": self.is_level,
            "random_state": seed,
            "early_stopping": False,
        }
        if self.unit == "R2":
            regressor = HistGradientBoostingRegressor(**options).fit(rows.x, rows.y)
            return lambda x: np.asarray(regressor.predict(x))
        return _classifier(lambda: HistGradientBoostingClassifier(**options), rows)

    def fit_linear(self, side: int) -> Floats:
        """Return what a linear model of synthetic (0) or train (1) rows says of the holdout."""
        rows = _Sample(self.points[side], self.y[side])
        if self.unit == "R2":
            return np.asarray(Ridge().fit(rows.x, rows.y).predict(self.points[2]))
        return _classifier(lambda: LogisticRegression(solver="newton-cholesky"), rows)(
            self.points[2]
        )


def _classifier(make: Callable[[], HistGradientBoostingClassifier], rows: _Sample) -> Model:
    """Return class probabilities (N, MAX_CLASSES) as a function of rows; an unseen class has 0."""
    seen = np.unique(rows.y).astype(int)
    model = make().fit(rows.x, rows.y) if len(seen) > 1 else None

    def predict(x: Floats) -> Floats:
        spread = np.zeros((len(x), MAX_CLASSES))
        spread[:, seen] = 1.0 if model is None else model.predict_proba(x)
        return spread

    return predict


def _task(evidence: Evidence, target: Column) -> _Task | str:
    """Return the task, with as many synthetic as real rows; a text says why there is none."""
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
    if min(map(len, frames)) < MIN_ROWS:
        return f"'{target.name}' is known in fewer than {MIN_ROWS} rows of a table"
    x, is_level = matrix(frames, features)
    y = _outcomes(frames, target)
    if len(np.unique(y[1])) < 2 or len(np.unique(y[2])) < 2:
        return f"'{target.name}' has one value only"
    train, synthetic, holdout = embed([frames[1], frames[0], frames[2]], features).rows
    unit = "R2" if is_numeric(target) else "AUC"
    names = [c.name for c in features]
    return _Task(target.name, names, is_level, x, [synthetic, train, holdout], y, unit)


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


def score(task: _Task, prediction: Floats, rows: Indices | slice = slice(None)) -> float:
    """Return AUC or R2 of predictions for `rows` of the test rows."""
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
