"""What is lost by learning from synthetic rows: by hand, and on tables that lose something."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss

from synthgen.checks.check import Evidence, Measurement
from synthgen.checks.utility import brier, calibration_error, utility
from synthgen.schema import Column, TableSchema

SCHEMA = TableSchema(
    name="t",
    columns=(
        Column(name="x", kind="numeric"),
        Column(name="noise", kind="numeric"),
        Column(name="c", kind="categorical"),
        Column(name="y", kind="boolean"),
        Column(name="z", kind="numeric"),
    ),
)


def rows(n: int, seed: int) -> pd.DataFrame:
    """y and z follow x most, then c, and never the noise."""
    rng = np.random.default_rng(seed)
    x, level = rng.normal(size=n), rng.integers(0, 3, n)
    signal = 2 * x + level
    return pd.DataFrame(
        {
            "x": x,
            "noise": rng.normal(size=n),
            "c": pd.Series(level.astype(str), dtype="str"),
            "y": pd.array(rng.random(n) < 1 / (1 + np.exp(-signal)), dtype="boolean"),
            "z": np.exp(signal + rng.normal(size=n)),
        }
    )


TRAIN, HOLDOUT, FRESH = rows(500, 1), rows(500, 2), rows(500, 3)


def measured(target: str, synthetic: pd.DataFrame) -> dict[str, Measurement]:
    columns = tuple(c for c in SCHEMA.columns if c.name in ("x", "noise", "c", target))
    schema = TableSchema(name="t", columns=columns).with_target(target)
    names = schema.names
    evidence = Evidence(schema, TRAIN[names], HOLDOUT[names], synthetic[names])
    return {m.name: m for m in utility(evidence)}


def test_a_calibration_error_by_hand():
    # two rows at .9, one right: off by .4; two at .6, both right: off by .4
    sure = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.4, 0.6]])
    truth = np.array([0.0, 0, 0, 1])
    assert calibration_error(truth, sure) == pytest.approx(0.4)
    assert calibration_error(np.zeros(3), np.tile([1.0, 0.0], (3, 1))) == 0


def test_the_brier_score_is_that_of_two_classes():
    rng = np.random.default_rng(0)
    p, truth = rng.random(50), rng.integers(0, 2, 50)
    both = np.column_stack([1 - p, p])
    assert brier(truth.astype(float), both) == pytest.approx(brier_score_loss(truth, p))


@pytest.mark.parametrize(("target", "unit"), [("y", "AUC"), ("z", "R2")])
def test_fresh_rows_teach_as_well_as_train_and_independent_columns_teach_nothing(target, unit):
    fresh = measured(target, FRESH)
    apart = FRESH.assign(**{target: FRESH[target].sample(frac=1, random_state=0).array})
    useless = measured(target, apart)
    for name in ("tstr", "tstr_linear"):
        assert fresh[name].unit == unit
        assert fresh[name].value == pytest.approx(fresh[name].control, abs=0.06)
        assert useless[name].high < fresh[name].low
        assert useless[f"{name}_ratio"].value < 0.5
    assert fresh["importance"].value > 0.4
    assert fresh["importance"].details["columns"][0]["column"] == "x"
    assert ("brier" in fresh) == (unit == "AUC")


def test_probabilities_of_a_wrong_model_are_wrong():
    fresh, wrong = measured("y", FRESH), measured("y", FRESH.assign(y=~FRESH["y"]))
    assert wrong["brier"].low > fresh["brier"].high
    assert wrong["ece"].low > fresh["ece"].high
    assert fresh["brier"].control < wrong["brier"].value


def test_a_target_that_says_nothing_is_inconclusive():
    schema = TableSchema(name="t", columns=SCHEMA.columns[:2]).with_target("noise")
    tables = (t[["x", "noise"]] for t in (TRAIN, HOLDOUT, FRESH))
    found = {m.name: m.status for m in utility(Evidence(schema, *tables))}
    assert found["tstr_ratio"] == found["tstr_linear_ratio"] == "inconclusive"
    assert found["importance"] == "inconclusive"  # one column has no order
