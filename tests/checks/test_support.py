"""Whole rows as points: values worked out by hand, and that collapse and copies are seen."""

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

from synthgen.checks.check import Evidence, Measurement
from synthgen.checks.features import embed
from synthgen.checks.support import (
    SHELLS,
    Moments,
    alpha_precision,
    beta_recall,
    collapse,
    frechet,
    frechet_distance,
    nearest_points,
    precision_recall,
)
from synthgen.schema import Column, TableSchema

SCHEMA = TableSchema(
    name="t",
    columns=(
        Column(name="x", kind="numeric", nullable=True),
        Column(name="y", kind="numeric"),
        Column(name="c", kind="categorical"),
    ),
)


def rows(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    # twenty levels of 4.5 % and ten of 1 %
    level = np.where(rng.random(n) < 0.9, rng.integers(0, 20, n), rng.integers(20, 32, n))
    return pd.DataFrame(
        {
            "x": np.where(rng.random(n) < 0.05, np.nan, x),
            "y": x + 0.2 * rng.normal(size=n),
            "c": pd.Series(level.astype(str), dtype="str"),
        }
    )


TRAIN, HOLDOUT, FRESH = rows(1_500, 1), rows(1_000, 2), rows(1_500, 3)


def measured(check, synthetic: pd.DataFrame) -> dict[str, Measurement]:
    return {m.name: m for m in check(Evidence(SCHEMA, TRAIN, HOLDOUT, synthetic))}


def test_the_space_by_hand():
    train = pd.DataFrame({"x": [1.0, 3.0], "y": [0.0, 0.0], "c": ["a", "b"]})
    new = pd.DataFrame({"x": [2.0, np.nan], "y": [9.0, -9.0], "c": ["a", "z"]})
    frames = [f.astype({"c": "str"}) for f in (train, new)]
    space = embed(frames, SCHEMA.columns)
    half = 0.5**0.5
    # mid-ranks 1/4 and 3/4 in train; 2 lies between; a missing value is 1/2 and flagged
    assert space.rows[0].tolist() == [
        [0.25, 0, 0.5, *np.array([1, 0, 0]) * half],
        [0.75, 0, 0.5, *np.array([0, 1, 0]) * half],
    ]
    assert space.rows[1].tolist() == [[0.5, 0, 1, half, 0, 0], [0.5, 1, 0, 0, 0, half]]
    assert space.spans == [[0, 1], [2], [3, 4, 5]]
    # two levels are 1 apart
    assert np.linalg.norm(space.rows[0][0, 3:] - space.rows[0][1, 3:]) == pytest.approx(1)


def test_many_columns_of_levels_share_the_width():
    n, columns = 60, tuple(Column(name=f"c{i}", kind="categorical") for i in range(100))
    frame = pd.DataFrame(
        {c.name: pd.Series(np.arange(n).astype(str), dtype="str") for c in columns}
    )
    assert embed([frame], columns).rows[0].shape == (n, 500)  # five levels each, not fifty


def test_neighbours_are_those_of_all_distances_and_equal_rows_are_0_apart():
    rng = np.random.default_rng(0)
    a, b = rng.random((600, 3)), rng.random((700, 3))
    b[5] = a[7]
    distance, index = nearest_points(a, b)
    assert distance == pytest.approx(cdist(a, b).min(axis=1), abs=1e-6)
    assert (distance[7], index[7]) == (0, 5)
    apart, _ = nearest_points(a, a, skip_self=True)
    assert apart == pytest.approx(np.sort(cdist(a, a), axis=1)[:, 1], abs=1e-6)


def test_precision_by_hand():
    train = np.linspace(-1, 1, 201)[:, None]
    assert alpha_precision(train, train) == pytest.approx(1, abs=0.01)
    # all rows at the centre are in every shell: 1 - sum (1 - k) / sum k = 0
    assert alpha_precision(np.zeros((9, 1)), train) == pytest.approx(0, abs=1e-12)
    # none in any but the last: 1 - sum_{k < 1} k / sum k, and k sums to 15
    assert alpha_precision(np.ones((9, 1)), train) == pytest.approx(1 - (SHELLS.sum() - 1) / 15)
    # beyond all shells: nothing
    assert alpha_precision(np.full((9, 1), 7.0), train) == pytest.approx(0, abs=1e-12)


def test_recall_by_hand():
    # -1, 0, 1 are 1 apart; a synthetic 0.4 covers 0 and 1 (.4 and .6 away) and not -1 (1.4 away)
    train, synthetic = np.array([[-1.0], [0], [1]]), np.array([[0.4]])
    value, parts = beta_recall(synthetic, train, np.ones(3))
    assert parts.mean(axis=0) == pytest.approx(np.full(30, 2 / 3))
    assert value == pytest.approx(1 - np.abs(SHELLS - 2 / 3).sum() / 15)
    # copies cover every row, by itself, out to its own distance from the centre
    assert beta_recall(train, train, np.ones(3))[1][:, -1].tolist() == [1, 1, 1]


def test_the_frechet_distance_of_normals_by_hand():
    # means 3 apart, spreads 1 and 2: 9 + (1 - 2)^2
    one, two = Moments(np.zeros(1), np.eye(1)), Moments(np.full(1, 3.0), 4 * np.eye(1))
    assert frechet_distance(one, two) == pytest.approx(10)
    rng = np.random.default_rng(0)
    a, b = Moments.of(rng.normal(size=(50, 4))), Moments.of(rng.normal(1, 2, (60, 4)))
    shared = sqrtm(a.covariance @ b.covariance).real
    expected = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance - 2 * shared)
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_a_fresh_sample_scores_as_the_holdout():
    found = measured(precision_recall, FRESH) | measured(frechet, FRESH) | measured(collapse, FRESH)
    for name, m in found.items():
        width = max(m.high - m.low, 0.01)
        assert m.low - width <= m.control <= m.high + width, name
    assert found["alpha_precision"].value > 0.95
    assert found["beta_recall"].value == pytest.approx(0.5, abs=0.1)
    assert found["authenticity"].value == pytest.approx(found["authenticity"].control, abs=0.1)
    assert found["diversity"].value == pytest.approx(1, abs=0.1)


def test_copies_cover_everything_and_are_not_authentic():
    found = measured(precision_recall, TRAIN)
    assert found["authenticity"].high < found["authenticity"].control / 2
    assert found["beta_recall"].low > found["beta_recall"].control


def test_a_collapsed_generator_is_seen():
    few = FRESH.iloc[:30].sample(1_500, replace=True, random_state=0).reset_index(drop=True)
    found = measured(precision_recall, few) | measured(collapse, few) | measured(frechet, few)
    assert found["diversity"].value < 0.1
    assert found["beta_recall"].high < found["beta_recall"].control
    assert found["duplicates"].low > 0.9
    assert found["rare_levels"].high < found["rare_levels"].control
    assert found["frechet"].low > found["frechet"].control


def test_rare_levels_by_hand():
    without = FRESH.assign(c=FRESH["c"].where(FRESH["c"].str.len() == 1, "3"))  # levels 0 to 9
    found = measured(collapse, without)["rare_levels"]
    assert found.value == 0
    assert found.control > 0.9
    assert found.details["columns"] == [
        {"column": "c", "levels": found.details["levels"], "share": 0}
    ]


def test_few_rows_fill_no_space():
    few = FRESH.iloc[:20]
    for check in (precision_recall, frechet):
        assert {m.status for m in measured(check, few).values()} == {"inconclusive"}
