"""Measures of one column on samples small enough to count."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wasserstein_distance

from synthgen.checks.check import Evidence, Measurement
from synthgen.checks.contrast import GROUPS, Sides, jackknife, wilson
from synthgen.checks.marginals import (
    level_coverage,
    marginals,
    quantile_gap,
    quantile_gap_interval,
    range_coverage,
    shapes,
    wasserstein,
    wassersteins,
)
from synthgen.schema import Column, TableSchema

SCHEMA = TableSchema(
    name="t",
    columns=(
        Column(name="x", kind="numeric", nullable=True),
        Column(name="c", kind="categorical"),
        Column(name="d", kind="datetime", timezone="Europe/Berlin"),
    ),
)


def rows(n: int, seed: int, *, shift: float = 0.0, start: str = "2024-01-01") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    mondays = pd.Timestamp(start) + pd.to_timedelta(np.arange(n) % 400 * 7, "D")
    return pd.DataFrame(
        {
            "x": np.where(rng.random(n) < 0.1, np.nan, rng.normal(shift, 1, n)),
            "c": pd.Series(rng.choice(list("aab"), n), dtype="str"),
            "d": pd.Series(mondays)
            .dt.tz_localize("Europe/Berlin")
            .astype("datetime64[us, Europe/Berlin]"),
        }
    )


def measured(synthetic: pd.DataFrame) -> dict[str, Measurement]:
    return {m.name: m for m in shapes(Evidence(SCHEMA, rows(1_000, 1), rows(400, 2), synthetic))}


def test_wasserstein_by_hand():
    # every value moves by 1; half of the mass moves by 3
    assert wasserstein(np.array([1.0, 2.0]), np.array([2.0, 3.0])) == 1
    assert wasserstein(np.array([0.0, 0.0]), np.array([0.0, 3.0])) == 1.5
    assert math.isnan(wasserstein(np.empty(0), np.ones(2)))


def test_wasserstein_of_subsets_is_scipys():
    rng = np.random.default_rng(0)
    points, reference = rng.normal(size=200).round(1), rng.normal(0.3, 2, 150).round(1)
    masks = [rng.random(200) < share for share in (0.1, 0.5, 1.0)]
    found = wassersteins(points, masks, reference)
    assert found == pytest.approx([wasserstein_distance(points[m], reference) for m in masks])


def test_quantiles_by_hand():
    # the quantiles at .25 and .75 of 0..4 are 1 and 3; those of twice as much 2 and 6
    x = np.arange(5.0)
    assert quantile_gap(2 * x, x, 0.75) == 3
    assert quantile_gap(x, x, 0.75) == 0


def test_the_interval_of_a_quantile_holds_in_nineteen_of_twenty_samples():
    rng, held = np.random.default_rng(0), 0
    true = rng.normal(size=50_000)
    for _ in range(200):
        low, _ = quantile_gap_interval(rng.normal(size=2_000), true, 0.99)
        held += low == 0  # the interval holds the truth at both ends: .95 ** 2
    assert 165 <= held <= 197


def test_coverage_by_hand():
    assert range_coverage(np.array([2.0, 4.0]), np.array([0.0, 4.0])) == 0.5
    assert range_coverage(np.array([5.0, 6.0]), np.array([0.0, 4.0])) == 0
    assert range_coverage(np.array([-9.0, 9.0]), np.array([0.0, 4.0])) == 1
    assert level_coverage(np.array([0, -1, 0]), np.array([0, 1, -1])) == 0.5


def test_a_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=1_000)
    groups = np.arange(1_000) % GROUPS
    half = jackknife([values[groups != g].mean() for g in range(GROUPS)])
    assert half == pytest.approx(2.093 * values.std() / math.sqrt(1_000), rel=0.25)


def test_a_share_interval_by_hand():
    assert wilson(0, 10)[1] == pytest.approx(1.959964**2 / (10 + 1.959964**2))


def test_blocks_are_as_large_as_the_holdout_and_do_not_overlap():
    sides = Sides.of(Evidence(SCHEMA, rows(1_000, 1), rows(100, 2), rows(350, 3)))
    assert [len(b) for b in sides.blocks] == [100, 100, 100]
    assert len(set(np.concatenate(sides.blocks))) == len(sides.synthetic) == 300


def test_a_shift_is_measured_in_spreads_and_a_fresh_sample_is_as_near_as_the_holdout():
    fresh, shifted = measured(rows(1_000, 3)), measured(rows(1_000, 3, shift=0.5))
    assert shifted["wasserstein.x"].value == pytest.approx(0.5, abs=0.15)
    assert shifted["tail_99.x"].status == "inconclusive"  # 3.6 of 360 rows lie beyond
    assert shifted["wasserstein.x"].low > fresh["wasserstein.x"].high
    assert fresh["wasserstein.x"].low <= fresh["wasserstein.x"].control * 2


def test_seasons_are_local_and_see_a_wrong_weekday():
    # train's days are Mondays; synthetic ones begin on a Tuesday
    found = measured(rows(1_000, 3, start="2024-01-02"))
    assert found["season_weekday.d"].value == 1
    assert found["season_weekday.d"].control == 0
    assert found["season_hour.d"].value == 0  # midnight in Berlin, summer and winter


def test_a_new_level_and_a_lost_one():
    synthetic = rows(1_000, 3).assign(c=pd.Series(["a"] * 900 + ["z"] * 100, dtype="str"))
    found = measured(synthetic)
    assert found["coverage.c"].value == 0.5
    assert found["adherence.c"].value == pytest.approx(0.9, abs=0.03)
    assert found["adherence.c"].better == "high"


def test_the_shape_error_is_the_mean_of_the_columns():
    evidence = Evidence(SCHEMA, rows(300, 1), rows(100, 2), rows(300, 3))
    found = {m.name: m.value for m in marginals(evidence)}
    assert found["shape_error"] == pytest.approx(
        (found["ks.x"] + found["tvd.c"] + found["ks.d"]) / 3
    )


def test_few_values_are_no_measurement():
    found = measured(rows(1_000, 3).assign(x=np.nan))
    assert found["coverage.x"].status == "inconclusive"
    assert "wasserstein.x" not in found
