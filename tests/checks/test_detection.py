"""Detectors: what they give by chance, and that they name the column that gives rows away."""

import numpy as np
import pandas as pd
import pytest

from synthgen.checks.check import Evidence
from synthgen.checks.detection import linear, pmse, propensity, trees
from synthgen.schema import Column, TableSchema

SCHEMA = TableSchema(
    name="t",
    columns=(
        Column(name="x", kind="numeric"),
        Column(name="y", kind="numeric"),
        Column(name="c", kind="categorical"),
    ),
)


def rows(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    c = pd.Series(rng.choice(list("aabc"), n), dtype="str")
    return pd.DataFrame({"x": x, "y": x + 0.3 * rng.normal(size=n), "c": c})


TRAIN, HOLDOUT, FRESH = rows(300, 1), rows(300, 2), rows(300, 3)


@pytest.mark.parametrize("check", [linear, trees])
def test_a_detector_is_at_chance_on_fresh_rows_and_names_the_shifted_column(check):
    (fresh,) = check(Evidence(SCHEMA, TRAIN, HOLDOUT, FRESH))
    assert fresh.low < 0.53 < fresh.high + 0.06
    (shifted,) = check(Evidence(SCHEMA, TRAIN, HOLDOUT, FRESH.assign(x=FRESH["x"] + 1)))
    assert shifted.low > fresh.high
    assert shifted.details["columns"][0]["column"] == "x"


def test_only_trees_see_that_two_columns_are_independent():
    apart = FRESH.assign(y=FRESH["y"].sample(frac=1, random_state=0).array)
    evidence = Evidence(SCHEMA, TRAIN, HOLDOUT, apart)
    (blind,), (seen,) = linear(evidence), trees(evidence)
    assert blind.value < 0.57
    assert seen.low > 0.7


def test_propensity_by_hand():
    # of the rows with 1 three of four are a's, of those with 0 one of four: each is .25 off .5
    a, b = np.array([[1.0], [1], [1], [0]]), np.array([[1.0], [0], [0], [0]])
    found = pmse(a, b, 1e-9)
    assert found.value == pytest.approx(0.0625, abs=1e-4)
    assert (found.free, found.n, found.expected) == (1, 8, 0.25 / 8)
    assert found.ratio == pytest.approx(2, abs=1e-3)


def test_propensity_error_is_what_chance_gives_on_fresh_rows():
    ratios = [propensity(Evidence(SCHEMA, TRAIN, rows(300, s), FRESH))[0].value for s in range(60)]
    # FRESH is the same 60 times, so half of the error does not average out
    assert np.mean(ratios) == pytest.approx(1, abs=0.5)


def test_propensity_error_grows_with_a_shift():
    (fresh,) = propensity(Evidence(SCHEMA, TRAIN, HOLDOUT, FRESH))
    (shifted,) = propensity(Evidence(SCHEMA, TRAIN, HOLDOUT, FRESH.assign(x=FRESH["x"] + 0.5)))
    assert shifted.low > fresh.high
