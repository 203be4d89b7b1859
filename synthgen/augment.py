"""Scarce classes: synthetic rows of them beside the real ones, and a verdict on whether that helps.

Published gains are real for tens to a few hundred rows of a class, with weak models, or where the
copies of SMOTE are not allowed; with more rows and boosted trees there are hardly any (Elor &
Averbuch-Elor 2022; Krchova et al. 2025). So nothing is promised: `judge` measures it on real rows
that are never resampled, beside the cheap remedies, and may say "do not use it".
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import t as student
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    log_loss,
    precision_recall_curve,
    recall_score,
    roc_auc_score,
)
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from synthgen.checks.distances import nearest, nearest_others, positions
from synthgen.checks.features import Floats, matrix
from synthgen.config import RunConfig
from synthgen.conform import conform, refuse_unmodelled
from synthgen.errors import ConfigError, DataError
from synthgen.infer import infer
from synthgen.rng import derive, stream
from synthgen.schema import Column, TableSchema
from synthgen.sources import FrameSource
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable

#: Rows of the rarer class to one of the other, once augmented; 0, not shown, is always tried too.
RATIOS = (0.1, 0.25, 0.5, 1.0)
MODELS = ("linear", "boosting")
METRICS = ("pr_auc", "auroc", "log_loss", "f1", "recall")
TEST_SHARE, VALIDATION_SHARE = 0.3, 0.25
#: Rows drawn for one that is kept: those that look most like their class.
CANDIDATES = 4
#: Resamples of the validation rows behind a standard error.
RESAMPLES = 40
#: A mean PR-AUC that may be lower by so much at most "does no harm".
HARM = 0.01
#: A new row at less than this share of a real row's distance to its nearest like is a near copy.
NEAR = 0.5
#: Fewer rows of the rarer class leave nothing to learn from, choose by and test on.
MIN_RARE = 20

Word = Literal["helps", "does no harm", "do not use it"]


def wanted(counts: Mapping[str, int], ratio: float, only: str | None = None) -> dict[str, int]:
    """Return how many rows each class lacks to have `ratio` rows to one of the largest class.

    >>> wanted({"no": 90, "yes": 10}, 0.5)
    {'yes': 35}
    >>> wanted({"a": 90, "b": 80, "c": 10}, 1.0, only="c")
    {'c': 80}
    """
    if not 0 < ratio <= 1:
        raise ConfigError("a ratio lies above 0 and is at most 1: rows of a class to the largest's")
    if only is not None and only not in counts:
        raise ConfigError("the class asked for is none of the target's")
    target = math.floor(ratio * max(counts.values()))
    missing = {name: target - n for name, n in counts.items() if only in (None, name)}
    return {name: n for name, n in missing.items() if n > 0}


def draw(
    synthesizer: Synthesizer,
    table: RealTable,
    target: str,
    rows: Mapping[str, int],
    *,
    seed: int,
    candidates: int = CANDIDATES,
) -> pd.DataFrame:
    """Return synthetic rows: so many of each class of `target` as `rows` says, in its order.

    Parameters
    ----------
    synthesizer : Synthesizer
    table : RealTable
        Rows that tell one class from the others.
    target : str
    rows : mapping of class to int
    seed : int
    candidates : int
        So many are drawn for each that is kept: a class of a few rows is drawn with rows that look
        like the others. Kept are those that a linear model of the real rows takes for it most. 1
        keeps all.
    """
    quoted = {name: name.replace("'", "''") for name in rows}
    frames = []
    for name, n in rows.items():
        drawn = synthesizer.sample(
            candidates * n,
            seed=derive(seed, "class", name) % 2**31,
            where=[f"`{target}` = '{quoted[name]}'"],
        ).data
        frames.append(most_like(drawn, table, target, name, n) if candidates > 1 else drawn)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def most_like(
    drawn: pd.DataFrame, table: RealTable, target: str, name: str, n: int
) -> pd.DataFrame:
    """Return the `n` drawn rows that are most like class `name` by the real rows, in order."""
    real = table.data[table.data[target].notna()]
    features = [c for c in table.schema.modelled if c.name != target]
    (x, x_drawn), is_level = matrix([real, drawn], features)
    y = (real[target].astype("str") == name).to_numpy()
    model = _model("linear", is_level, 0, weight="balanced").fit(x, y)
    best = np.argsort(-model.predict_proba(x_drawn)[:, 1], kind="stable")[:n]
    return drawn.iloc[np.sort(best)]


def classes(table: RealTable, target: str) -> pd.Series:
    """Return the classes of the rows as texts, missing ones left out, by how frequent they are.

    Raises
    ------
    ConfigError
        If `target` is not a modelled category or boolean, or has fewer than two classes.
    """
    column = next((c for c in table.schema.modelled if c.name == target), None)
    if column is None or column.kind not in ("categorical", "boolean"):
        raise ConfigError(
            f"column '{target}' has no classes: it is no modelled category or boolean; if its "
            'numbers name classes, declare it kind = "categorical" in the schema'
        )
    counts = table.data[target].dropna().astype("str").value_counts()
    if len(counts) < 2:
        raise ConfigError(f"column '{target}' has fewer than two classes")
    return counts


def _with_classes(schema: TableSchema, target: str) -> TableSchema:
    """Return `schema` with the column `target` as the target, a category whatever it looks like."""
    label = Column(name=target, kind="categorical", role="target", source="data")
    columns = tuple(label if c.name == target else c for c in schema.columns)
    return replace(schema, columns=columns)


@dataclass(frozen=True, repr=False)
class Trial:
    """One split: feature matrices whose level codes are shared, and the rarer class as 1.

    Attributes
    ----------
    fit, validation, test : tuple of (N, D) float64 and (N,) int
        Only `fit` is ever resampled.
    synthetic : mapping of ratio to (M, D)
        Rows of the rarer class for each ratio.
    is_level : list of bool
        Which features are level codes.
    """

    fit: tuple[Floats, npt.NDArray[np.int64]]
    validation: tuple[Floats, npt.NDArray[np.int64]]
    test: tuple[Floats, npt.NDArray[np.int64]]
    synthetic: Mapping[float, Floats]
    is_level: list[bool]


def trial(
    table: RealTable, target: str, config: RunConfig, *, seed: int, rare_rows: int | None = None
) -> Trial:
    """Split, fit a synthesizer on the part that models will be fitted on, and draw from it.

    `rare_rows` cuts the rarer class of that part down: how would it be with fewer?
    """
    frame = table.data[table.data[target].notna()].reset_index(drop=True)
    rare = str(frame[target].astype("str").value_counts().index[-1])
    y = (frame[target].astype("str") == rare).to_numpy().astype(np.int64)
    state = derive(seed, "augment") % 2**31
    rest, test = train_test_split(
        np.arange(len(y)), test_size=TEST_SHARE, stratify=y, random_state=state
    )
    learnt, validation = train_test_split(
        rest, test_size=VALIDATION_SHARE, stratify=y[rest], random_state=state
    )
    if rare_rows is not None:
        order = stream(seed, "augment", "cut").permutation(learnt[y[learnt] == 1])
        learnt = np.concatenate([learnt[y[learnt] == 0], order[:rare_rows]])
    part = RealTable(table.schema, frame.iloc[learnt].reset_index(drop=True))
    synthesizer = Synthesizer.fit(part, config=config, seed=seed, device=config.device)
    counts = {"all others": int((y[learnt] == 0).sum()), rare: int((y[learnt] == 1).sum())}
    missing = {r: wanted(counts, r, only=rare).get(rare, 0) for r in RATIOS}
    pool = draw(synthesizer, part, target, {rare: max(max(missing.values()), 1)}, seed=seed)
    features = [c for c in table.schema.modelled if c.name != target]
    parts = [frame.iloc[learnt], frame.iloc[validation], frame.iloc[test], pool]
    (x_fit, x_validation, x_test, x_pool), is_level = matrix(parts, features)
    return Trial(
        (x_fit, y[learnt]),
        (x_validation, y[validation]),
        (x_test, y[test]),
        {ratio: x_pool[:n] for ratio, n in missing.items()},
        is_level,
    )


def _model(name: str, is_level: list[bool], seed: int, *, weight: str | None = None) -> Any:
    if name == "boosting":
        return HistGradientBoostingClassifier(
            categorical_features=is_level, class_weight=weight, random_state=seed
        )
    level = np.array(is_level)
    coded = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), np.flatnonzero(level)),
        (StandardScaler(), np.flatnonzero(~level)),
    )
    return make_pipeline(coded, LogisticRegression(max_iter=1_000, class_weight=weight))


def _smote(x: Floats, y: npt.NDArray[np.int64], of: Trial, ratio: float, seed: int) -> Any:
    from imblearn.over_sampling import SMOTE, SMOTEN, SMOTENC

    options = {
        "sampling_strategy": max(ratio, y.mean() / (1 - y.mean())),
        "k_neighbors": min(5, int(y.sum()) - 1),
        "random_state": seed,
    }
    if all(of.is_level):
        return SMOTEN(**options).fit_resample(x, y)
    if any(of.is_level):
        return SMOTENC(np.flatnonzero(of.is_level).tolist(), **options).fit_resample(x, y)
    return SMOTE(**options).fit_resample(x, y)


def _repeated(x: Floats, y: npt.NDArray[np.int64], of: Trial, ratio: float, seed: int) -> Any:
    n = len(of.synthetic[ratio])
    rows = stream(seed, "augment", "repeat").choice(np.flatnonzero(y == 1), n)
    return np.vstack([x, x[rows]]), np.append(y, np.ones(n, np.int64))


def _synthetic(x: Floats, y: npt.NDArray[np.int64], of: Trial, ratio: float, seed: int) -> Any:
    rows = of.synthetic[ratio]
    return np.vstack([x, rows]), np.append(y, np.ones(len(rows), np.int64))


#: Arms that add rows; each chooses its ratio, 0 among them, on the validation rows.
Resampler = Callable[[Floats, npt.NDArray[np.int64], Trial, float, int], Any]
RESAMPLERS: dict[str, Resampler] = {
    "random oversampling": _repeated,
    "SMOTE-NC": _smote,
    "synthgen": _synthetic,
}


def available() -> dict[str, Resampler]:
    """Return the arms that can run here: SMOTE-NC needs imbalanced-learn."""
    has_smote = importlib.util.find_spec("imblearn") is not None
    return {name: arm for name, arm in RESAMPLERS.items() if has_smote or name != "SMOTE-NC"}


def near_copies(of: Trial, *, seed: int) -> dict[str, float]:
    """Return, for each arm that makes new rows, the share of them that nearly copy a real one.

    A near copy lies at less than `NEAR` of the way from a real row of the rarer class that models
    were fitted on to that row's nearest like. Distances are the judge's (`checks.distances`).
    ``"fresh real rows"``, the rarer class of the test rows, are the yardstick: so many lie as near
    by chance.
    """
    x, y = of.fit
    new = {"fresh real rows": of.test[0][of.test[1] == 1], "synthgen": of.synthetic[RATIOS[-1]]}
    if "SMOTE-NC" in available():
        new["SMOTE-NC"] = _smote(x, y, of, RATIOS[-1], seed)[0][len(x) :]
    columns = [
        Column(name=str(i), kind="categorical" if level else "numeric")
        for i, level in enumerate(of.is_level)
    ]
    frames = {arm: _frame(rows, of.is_level) for arm, rows in new.items()}
    shaping = [_frame(x[y == 1], of.is_level), frames["fresh real rows"]]
    shares = {}
    for arm, frame in frames.items():
        real, _, placed = positions([*shaping, frame], columns)
        alone = nearest_others(real).distance
        found = nearest(placed, real)
        shares[arm] = float((found.distance < NEAR * alone[found.index]).mean())
    return shares


def _frame(rows: Floats, is_level: Sequence[bool]) -> pd.DataFrame:
    """Return a feature matrix as the judge reads tables: numbers, and level codes as texts."""
    frame = pd.DataFrame(rows, columns=[str(i) for i in range(len(is_level))])
    return frame.astype({str(i): "str" for i, level in enumerate(is_level) if level})


@dataclass(frozen=True)
class Score:
    """One arm's metrics on the test rows of one trial, and the ratio that it chose."""

    seed: int
    model: str
    arm: str
    ratio: float
    metrics: Mapping[str, float]


def compare(of: Trial, *, seed: int) -> Iterator[Score]:
    """Yield the test scores of every arm and model of one trial."""
    x, y = of.fit
    state = derive(seed, "augment", "model") % 2**31

    for model in MODELS:
        plain = _model(model, of.is_level, state).fit(x, y)
        yield Score(seed, model, "none", 0.0, _metrics(plain, of, threshold=0.5))
        yield Score(seed, model, "tuned threshold", 0.0, _metrics(plain, of))
        weighted = _model(model, of.is_level, state, weight="balanced").fit(x, y)
        yield Score(seed, model, "class weights", 0.0, _metrics(weighted, of))
        for arm, resample in available().items():
            tried = {
                ratio: _model(model, of.is_level, state).fit(*resample(x, y, of, ratio, state))
                for ratio in RATIOS
                if len(of.synthetic[ratio])
            }
            ratio = _chosen(plain, tried, of, state)
            yield Score(seed, model, arm, ratio, _metrics(tried.get(ratio, plain), of))


def _chosen(plain: Any, tried: Mapping[float, Any], of: Trial, seed: int) -> float:
    """Return the ratio of the best PR-AUC on validation rows; 0 if `plain` is not clearly worse.

    Clearly is by more than a standard error of the difference (as in Breiman et al. 1984, chapter
    3.4.3), over resampled validation rows: the best of four by chance is no gain.
    """
    x, y = of.validation
    said = {ratio: model.predict_proba(x)[:, 1] for ratio, model in {0.0: plain, **tried}.items()}
    best = max(said, key=lambda ratio: float(average_precision_score(y, said[ratio])))
    rng = stream(seed, "augment", "choose")

    def gain(rows: npt.NDArray[np.int64]) -> float:
        better, worse = (average_precision_score(y[rows], said[r][rows]) for r in (best, 0.0))
        return float(better - worse)

    sides = [np.flatnonzero(y == side) for side in (0, 1)]
    spread = np.std(
        [gain(np.concatenate([rng.choice(s, len(s)) for s in sides])) for _ in range(RESAMPLES)]
    )
    return best if gain(np.arange(len(y))) > spread else 0.0


def _metrics(model: Any, of: Trial, *, threshold: float | None = None) -> dict[str, float]:
    """Return the metrics on the test rows; F1 and recall at `threshold`, or the validation's best.

    The best one is that of the highest F1.
    """
    if threshold is None:
        p_validation = model.predict_proba(of.validation[0])[:, 1]
        precision, recall, thresholds = precision_recall_curve(of.validation[1], p_validation)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        threshold = float(thresholds[int(f1[:-1].argmax())])
    truth, p = of.test[1], model.predict_proba(of.test[0])[:, 1]
    said = p >= threshold
    values = (
        average_precision_score(truth, p),
        roc_auc_score(truth, p),
        log_loss(truth, p),
        f1_score(truth, said),
        recall_score(truth, said),
    )
    return dict(zip(METRICS, map(float, values), strict=True))


@dataclass(frozen=True)
class Line:
    """One arm beside none: means over all trials, and the paired difference in PR-AUC.

    Attributes
    ----------
    low, high : float
        95 % interval of the difference, corrected for trials that share rows.
    ratios : tuple of float
        Chosen on validation rows, a trial each; 0 is none.
    """

    model: str
    arm: str
    metrics: Mapping[str, float]
    difference: float
    low: float
    high: float
    ratios: tuple[float, ...]


@dataclass(frozen=True)
class Verdict:
    """What adding synthetic rows of the rarer class brought.

    Attributes
    ----------
    word : {"helps", "does no harm", "do not use it"}
        For the model that is better without any remedy.
    ratio : float
        The median of the ratios chosen for that model.
    copies : mapping of str to float
        Mean share of near copies among the new rows of each arm that makes some, and among fresh
        real rows (see `near_copies`).
    """

    word: Word
    model: str
    ratio: float
    lines: tuple[Line, ...]
    copies: Mapping[str, float]


def judge(
    table: RealTable,
    target: str,
    config: RunConfig,
    *,
    seeds: int = 10,
    rare_rows: int | None = None,
    tell: Callable[[int], None] = lambda done: None,
) -> Verdict:
    """Compare synthetic rows of the rarer class with the cheap remedies, on real rows.

    Parameters
    ----------
    table : RealTable
    target : str
        A category or boolean; its rarest class is told from all others.
    config : RunConfig
        How synthesizers are trained; its seed names the trials.
    seeds : int
        Trials, at least 3: another split, synthesizer and models each.
    rare_rows : int, optional
        Cut the rarer class to so many rows before anything is fitted.
    tell : callable
        Is told how many trials are done.

    Raises
    ------
    ConfigError, DataError
        If `target` has no classes, or too few rows of one.
    """
    if seeds < 3:
        raise ConfigError("an interval needs 3 trials at least; 10 are better")
    counts = classes(table, target)
    if counts.iloc[-1] < MIN_RARE:
        raise DataError(
            f"column '{target}': its rarest class has {counts.iloc[-1]} rows; {MIN_RARE} are "
            "needed to learn from, choose by and test on"
        )
    scores: list[Score] = []
    copies: list[Mapping[str, float]] = []
    for i in range(seeds):
        seed = derive(config.seed or 0, "augment", i) % 2**31
        of = trial(table, target, config, seed=seed, rare_rows=rare_rows)
        scores += compare(of, seed=seed)
        copies.append(near_copies(of, seed=seed))
        tell(i + 1)
    return conclude(scores, copies)


def conclude(scores: Sequence[Score], copies: Sequence[Mapping[str, float]]) -> Verdict:
    """Return the verdict of many trials' scores and shares of near copies."""
    lines = []
    for model in MODELS:
        of_model = [s for s in scores if s.model == model]
        none = {s.seed: s.metrics["pr_auc"] for s in of_model if s.arm == "none"}
        for arm in dict.fromkeys(s.arm for s in of_model):
            own = [s for s in of_model if s.arm == arm]
            gains = np.array([s.metrics["pr_auc"] - none[s.seed] for s in own])
            half = half_interval(gains)
            mean = float(gains.mean())
            metrics = {m: float(np.mean([s.metrics[m] for s in own])) for m in METRICS}
            ratios = tuple(s.ratio for s in own)
            lines.append(Line(model, arm, metrics, mean, mean - half, mean + half, ratios))
    plain = [line for line in lines if line.arm == "none"]
    best = max(plain, key=lambda line: line.metrics["pr_auc"]).model
    ours = next(line for line in lines if (line.model, line.arm) == (best, "synthgen"))
    shares = {arm: float(np.mean([c[arm] for c in copies])) for arm in copies[0]}
    return Verdict(_word(ours), best, float(np.median(ours.ratios)), tuple(lines), shares)


def _word(line: Line) -> Word:
    if line.low > 0:
        return "helps"
    return "does no harm" if line.low > -HARM else "do not use it"


def half_interval(differences: npt.NDArray[np.float64]) -> float:
    """Return half of a 95 % interval of the mean of paired differences over repeated splits.

    Trials share rows, so their variance is not that of independent ones: it is (1/n + test/train)
    times the sample's. Nadeau & Bengio 2003, doi:10.1023/A:1024068626366.
    """
    n = len(differences)
    shared = TEST_SHARE / (1 - TEST_SHARE)
    spread = math.sqrt((1 / n + shared) * differences.var(ddof=1))
    return float(student.ppf(0.975, n - 1)) * spread


class SynthgenSampler:
    """Adds synthetic rows of the scarce classes, in the manner of imbalanced-learn.

    Parameters
    ----------
    ratio : float
        Rows of each class to one of the largest, in (0, 1]; 1 balances.
    config : dict, optional
        Sections of a `RunConfig`, for instance ``{"train": {"steps": 500}}``.
    random_state : int

    Attributes
    ----------
    synthesizer_ : Synthesizer
        Fitted by `fit_resample`.
    """

    def __init__(
        self, ratio: float = 1.0, config: dict[str, Any] | None = None, random_state: int = 0
    ) -> None:
        self.ratio, self.config, self.random_state = ratio, config, random_state

    def fit_resample(self, X: pd.DataFrame, y: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
        """Return `X` and `y` with synthetic rows below, in the dtypes that they came in.

        Raises
        ------
        ConfigError
            If `y` has no name or that of a feature, or has fewer than two classes.
        """
        if y.name is None or y.name in X:
            raise ConfigError("y needs a name that no column of X has")
        target = str(y.name)
        source = FrameSource.of(X.assign(**{target: y.astype("str")}))
        schema = _with_classes(infer(source), target)
        refuse_unmodelled(schema)
        table = conform(source.batches(), schema)
        counts = {str(name): int(n) for name, n in classes(table, target).items()}
        config = RunConfig.build(self.config or {})
        self.synthesizer_ = Synthesizer.fit(table, config=config, seed=self.random_state)
        missing = wanted(counts, self.ratio)
        new = draw(self.synthesizer_, table, target, missing, seed=self.random_state)
        if new.empty:
            return X.copy(), y.copy()
        labels = {str(label): label for label in y.unique()}
        rows = new[list(X.columns)].astype(X.dtypes.to_dict())
        added = new[target].astype("str").map(labels).astype(y.dtype).rename(target)
        return (
            pd.concat([X, rows], ignore_index=True),
            pd.concat([y, added], ignore_index=True),
        )
