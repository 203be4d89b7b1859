"""Scarce classes: how many rows are added, what they are, and a verdict that can say no."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from synthgen.augment import (
    METRICS,
    MODELS,
    Score,
    SynthgenSampler,
    Trial,
    compare,
    conclude,
    half_interval,
    judge,
    most_like,
    near_copies,
    wanted,
)
from synthgen.cli import app
from synthgen.config import RunConfig
from synthgen.errors import ConfigError, DataError
from synthgen.schema import Column, TableSchema
from synthgen.table import RealTable

TINY = {"train": {"steps": 60, "width": 32, "depth": 1, "batch_size": 64}}
CLI = CliRunner()


def test_rows_that_classes_lack() -> None:
    assert wanted({"a": 100, "b": 60, "c": 10}, 0.5) == {"c": 40}
    assert wanted({"a": 100, "b": 60, "c": 10}, 1.0) == {"b": 40, "c": 90}
    assert wanted({"a": 100, "c": 10}, 0.1) == {}
    for ratio, only in ((0.0, None), (1.5, None), (1.0, "z")):
        with pytest.raises(ConfigError):
            wanted({"a": 1, "b": 1}, ratio, only)


def test_the_interval_counts_that_trials_share_rows() -> None:
    # n = 4, sample variance 4/3, t(3) = 3.182: sqrt((1/4 + 3/7) * 4/3) * 3.182 = 3.026.
    half = half_interval(np.array([1.0, -1.0, 1.0, -1.0]))
    assert half == pytest.approx(3.1824 * np.sqrt((0.25 + 3 / 7) * 4 / 3), rel=1e-4)


def scores(gain: float, spread: float = 0.0) -> list[Score]:
    """Five trials in which boosting is the better model and synthgen gains so much."""
    found = []
    for seed in range(5):
        for model, base in (("linear", 0.3), ("boosting", 0.6)):
            ours = base + gain + spread * (seed % 2)
            for arm, value in (("none", base), ("synthgen", ours)):
                metrics = dict.fromkeys(METRICS, 0.5) | {"pr_auc": value}
                found.append(Score(seed, model, arm, 0.25, metrics))
    return found


@pytest.mark.parametrize(
    ("gain", "spread", "word"),
    [
        (0.02, 0.001, "helps"),
        (0.0, 0.0, "does no harm"),
        (-0.005, 0.001, "does no harm"),
        (-0.03, 0.0, "do not use it"),
        (0.02, 0.2, "do not use it"),  # nobody can tell: the bad end counts
    ],
)
def test_the_verdict_reads_the_bad_end(gain: float, spread: float, word: str) -> None:
    found = conclude(scores(gain, spread), [{"synthgen": 0.2}, {"synthgen": 0.4}])
    assert found.copies == {"synthgen": pytest.approx(0.3)}
    assert (found.word, found.model, found.ratio) == (word, "boosting", 0.25)


def test_a_sampler_in_the_manner_of_imbalanced_learn() -> None:
    rng = np.random.default_rng(0)
    y = pd.Series(np.repeat([0, 1], [270, 30]), name="sick")
    features = pd.DataFrame(
        {
            "age": rng.integers(20, 80, 300),
            "ward": rng.choice(["a", "b"], 300),
            "lab": (rng.normal(size=300) + 2 * y).round(2),
        }
    )
    sampler = SynthgenSampler(ratio=0.5, config=TINY, random_state=3)
    x_new, y_new = sampler.fit_resample(features, y)
    assert y_new.value_counts().to_dict() == {0: 270, 1: 135}
    assert (y_new.iloc[300:] == 1).all()
    pd.testing.assert_frame_equal(x_new.iloc[:300], features)
    assert x_new.dtypes.to_dict() == features.dtypes.to_dict()
    again, _ = SynthgenSampler(ratio=0.5, config=TINY, random_state=3).fit_resample(features, y)
    pd.testing.assert_frame_equal(x_new, again)
    with pytest.raises(ConfigError, match="needs a name"):
        sampler.fit_resample(features, y.rename(None))


def blobs(is_level: list[bool], levels: int) -> Trial:
    """60 rows of one class and 12 of another, 12 synthetic ones; every feature tells them apart."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [60, 12])

    def rows(labels: np.ndarray) -> np.ndarray:
        numbers = rng.normal(3.0 * labels[:, None], size=(len(labels), len(is_level)))
        return np.where(is_level, np.clip(numbers.round(), 0, levels), numbers)

    pool = rows(np.ones(48, int))
    counts = {0.1: 0, 0.25: 3, 0.5: 18, 1.0: 48}
    synthetic = {ratio: pool[:n] for ratio, n in counts.items()}
    return Trial((rows(y), y), (rows(y), y), (rows(y), y), synthetic, is_level)


@pytest.mark.slow
@pytest.mark.parametrize("is_level", [[True, False], [True, True]])
def test_every_arm_runs_on_levels_alone_and_with_numbers(is_level: list[bool]) -> None:
    found = list(compare(blobs(is_level, levels=5), seed=1))
    arms = [
        "none",
        "tuned threshold",
        "class weights",
        "random oversampling",
        "SMOTE-NC",
        "synthgen",
    ]
    assert [(s.model, s.arm) for s in found] == [(m, a) for m in MODELS for a in arms]
    # Twelve rows are less than a leaf of the trees needs.
    assert all(s.metrics["auroc"] > 0.75 for s in found if s.model == "linear")
    assert all(s.ratio in (0.0, 0.25, 0.5, 1.0) for s in found)


def test_rows_most_like_their_class_are_kept_in_order() -> None:
    """The sick have higher numbers; of five drawn rows the three highest stay."""
    schema = TableSchema(
        name="lab",
        columns=(
            Column(name="lab", kind="numeric", decimals=0, source="data"),
            Column(name="sick", kind="categorical", source="data"),
        ),
    )
    real = pd.DataFrame({"lab": np.arange(40.0), "sick": ["no"] * 30 + ["yes"] * 10})
    drawn = pd.DataFrame({"lab": [39.0, 2.0, 20.0, 35.0, 1.0], "sick": ["yes"] * 5})
    table = RealTable(schema, real.astype({"sick": "str"}))
    kept = most_like(drawn.astype({"sick": "str"}), table, "sick", "yes", 3)
    assert kept["lab"].tolist() == [39.0, 20.0, 35.0]


def test_rows_that_say_nothing_are_not_chosen() -> None:
    """Synthetic rows of pure noise are no gain beyond a standard error, so none are added."""
    of = blobs([False], levels=0)
    noise = np.random.default_rng(1).normal(size=(48, 1))
    noisy = replace(of, synthetic={r: noise[: len(x)] for r, x in of.synthetic.items()})
    chosen = [s.ratio for s in compare(noisy, seed=1) if (s.model, s.arm) == ("linear", "synthgen")]
    assert chosen == [0.0]


def test_near_copies_are_counted_beside_fresh_rows() -> None:
    """Ranks of 0, 10, 20, 30 are 1/4 apart; real rows are 0, 10 (alone by 1/4) and 30 (by 1/2)."""

    def column(*values: float) -> np.ndarray:
        return np.array(values)[:, None]

    fit = column(0, 10, 30, *range(100, 120)), np.repeat([1, 0], [3, 20])
    test = column(20, 105), np.array([1, 0])
    # 0 and 10 are equal to a real row, 25 is 1/8 from 30; 12 is 1/8 from 10, just not less.
    of = Trial(fit, test, test, {1.0: column(0, 10, 12, 25)}, [False])
    found = near_copies(of, seed=0)
    assert (found["synthgen"], found["fresh real rows"]) == (0.75, 0.0)
    assert 0 < found["SMOTE-NC"] <= 1


def test_who_cannot_be_judged(demo_table: RealTable) -> None:
    config = RunConfig.build(TINY)
    with pytest.raises(ConfigError, match="'cost'"):
        judge(demo_table, "cost", config)
    with pytest.raises(ConfigError, match="3 trials"):
        judge(demo_table, "readmitted", config, seeds=2)
    few = RealTable(demo_table.schema, demo_table.data.head(100).reset_index(drop=True))
    with pytest.raises(DataError, match="rarest class"):
        judge(few, "readmitted", config)


@pytest.mark.slow
def test_the_verb_writes_real_rows_and_synthetic_ones_below(
    demo_files: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(
        "[train]\nsteps = 60\nwidth = 32\ndepth = 1\nbatch_size = 64\n"
    )
    arguments = [
        *("augment", "--data", str(demo_files / "admissions.csv"), "--target", "readmitted"),
        *("--schema", str(demo_files / "schema.toml"), "--config", str(tmp_path / "config.toml")),
        *("--ratio", "0.25", "--seed", "1", "--to", str(tmp_path / "more.csv")),
    ]
    done = CLI.invoke(app, [*arguments, "--no-verdict"])
    assert done.exit_code == 0, done.output
    real, more = pd.read_csv(demo_files / "admissions.csv"), pd.read_csv(tmp_path / "more.csv")
    new = more.iloc[len(real) :]
    counts = real["readmitted"].value_counts()
    assert len(new) == int(0.25 * counts.iloc[0]) - counts.iloc[1]
    assert (new["readmitted"] == counts.index[1]).all()
    pd.testing.assert_series_equal(more["ward"].head(len(real)), real["ward"])


@pytest.mark.slow
def test_the_verdict_of_a_small_table(tmp_path: Path) -> None:
    """240 rows, a class of 40: three trials from the file to the word."""
    rng = np.random.default_rng(0)
    sick = np.repeat(["no", "yes"], [200, 40])
    lab = (rng.normal(size=240) + 2 * (sick == "yes")).round(2)
    frame = pd.DataFrame({"lab": lab, "ward": rng.choice(["a", "b"], 240), "sick": sick})
    frame.to_csv(tmp_path / "small.csv", index=False)
    (tmp_path / "config.toml").write_text("[train]\nsteps = 30\nwidth = 16\ndepth = 1\n")
    judged = CLI.invoke(
        app,
        [
            *("augment", "--data", str(tmp_path / "small.csv"), "--target", "sick", "--seed", "1"),
            *("--config", str(tmp_path / "config.toml"), "--trials", "3"),
            *("--to", str(tmp_path / "more.csv")),
        ],
    )
    assert judged.exit_code in (0, 3), judged.output
    assert "synthgen" in judged.output
    assert "SMOTE-NC" in judged.output
    assert ("do not use it" in judged.output) == (judged.exit_code == 3)
    assert (tmp_path / "more.csv").exists() == (judged.exit_code == 0)
