"""Measures of two columns on tables small enough to count."""

import numpy as np
import pandas as pd
import pytest

from synthgen.checks.check import Evidence
from synthgen.checks.pairs import (
    co_missing,
    correlations,
    dependencies,
    normalised_information,
    pairs,
    pearson,
)
from synthgen.schema import Column, TableSchema

SCHEMA = TableSchema(
    name="t",
    columns=(
        Column(name="x", kind="numeric", nullable=True),
        Column(name="y", kind="numeric", nullable=True),
        Column(name="town", kind="categorical"),
        Column(name="land", kind="categorical"),
    ),
)


def rows(n: int, seed: int) -> pd.DataFrame:
    """y follows x and is missing with it; six towns lie in three lands."""
    rng = np.random.default_rng(seed)
    x, town = rng.normal(size=n), rng.integers(0, 6, n)
    gone = rng.random(n) < 0.2
    return pd.DataFrame(
        {
            "x": np.where(gone, np.nan, x),
            "y": np.where(gone, np.nan, x + rng.normal(size=n)),
            "town": pd.Series(town.astype(str), dtype="str"),
            "land": pd.Series((town // 2).astype(str), dtype="str"),
        }
    )


def shuffled(frame: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({c: frame[c].array[rng.permutation(len(frame))] for c in frame})


TRAIN, HOLDOUT, FRESH = rows(2_000, 1), rows(1_000, 2), rows(2_000, 3)


def both(check, synthetic=FRESH):
    """Return what the fresh rows score, and what they score with every column shuffled."""
    return [
        {m.name: m for m in check(Evidence(SCHEMA, TRAIN, HOLDOUT, table))}
        for table in (synthetic, shuffled(synthetic))
    ]


def test_information_by_hand():
    assert normalised_information(np.array([[5, 0], [0, 5]])) == pytest.approx(1)
    assert normalised_information(np.array([[4, 4], [2, 2]])) == pytest.approx(0, abs=1e-12)
    assert normalised_information(np.array([[3, 4]])) == 0
    # half of a bit's share: 4 columns decide one of 2 rows; I = log 2, H = log 4, H' = log 2
    assert normalised_information(np.array([[1, 1, 0, 0], [0, 0, 1, 1]])) == pytest.approx(0.5**0.5)


def test_correlations_are_pandas_pairwise():
    frame = rows(300, 5)[["x", "y"]].assign(z=1.0)
    frame.loc[:20, "x"] = np.nan
    frame["y"] += 1e9  # a large mean must not cost digits
    found = pearson(frame.to_numpy())
    assert found[0, 1] == pytest.approx(frame.corr().loc["x", "y"], abs=1e-6)
    assert np.isnan(found[2]).all()
    assert found[0, 0] == pytest.approx(1)


@pytest.mark.parametrize("check", [pairs, correlations, co_missing])
def test_what_shuffled_columns_lose_is_seen_and_a_fresh_sample_is_as_near_as_the_holdout(check):
    fresh, apart = both(check)
    for name, m in fresh.items():
        assert apart[name].low > m.high, name
        assert m.low <= 2 * m.control + 0.05, name


def test_correlation_lost_by_hand():
    # Cov(x, y) = 1, Var(y) = 2: the correlation is sqrt(1/2), and nothing of it is left
    _, apart = both(correlations)
    assert apart["correlation"].value == pytest.approx(0.5**0.5, abs=0.06)
    assert apart["correlation"].details["worst"][0]["columns"] == ["x", "y"]


def test_missing_together_by_hand():
    # .2 together against .2 * .8 twice and .04: the patterns differ by .32 of the rows
    _, apart = both(co_missing)
    assert apart["co_missing"].value == pytest.approx(0.32, abs=0.04)


def test_a_column_that_decides_another_is_found_and_held_to_it():
    fresh, apart = both(dependencies)
    assert fresh["dependencies"].value == fresh["dependencies"].control == 1
    found = apart["dependencies"]
    assert [w["columns"] for w in found.details["worst"]] == [["town", "land"]]
    assert found.value == pytest.approx(1 / 3, abs=0.04)
    assert found.better == "high"


def test_chance_is_no_rule():
    schema = TableSchema(name="t", columns=SCHEMA.columns[:2])
    tables = (t[["x", "y"]] for t in (TRAIN, HOLDOUT, FRESH))
    (found,) = dependencies(Evidence(schema, *tables))
    assert found.status == "inconclusive"


def test_few_columns_are_no_pair():
    schema = TableSchema(name="t", columns=SCHEMA.columns[:1])
    evidence = Evidence(schema, *(t[["x"]] for t in (TRAIN, HOLDOUT, FRESH)))
    for check in (pairs, correlations, co_missing, dependencies):
        assert {m.status for m in check(evidence)} == {"inconclusive"}
