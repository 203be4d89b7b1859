"""A copy, independent columns, distorted columns, a fresh sample: who is last, and who leaves.

Each measure must put the table that it is there to catch behind fresh rows, by more than both
intervals; the gate must refuse the copy (for privacy alone) and the independent columns (for
likeness and use, not for privacy), and let the fresh sample go.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthgen.checks import detection, fidelity
from synthgen.checks.check import Evidence, Measurement, Report, run_checks
from synthgen.checks.gate import PRIVACY_TESTS, Decision, decide, judge
from synthgen.config import GatePolicy
from synthgen.schema import Column, TableSchema

pytestmark = pytest.mark.slow

SCHEMA = TableSchema(
    name="visits",
    columns=(
        Column(name="age", kind="numeric", decimals=0),
        Column(name="dose", kind="numeric", decimals=2, nullable=True),
        Column(name="level", kind="numeric", decimals=2, nullable=True),
        Column(name="town", kind="categorical"),
        Column(name="land", kind="categorical"),
        Column(name="seen", kind="datetime"),
        Column(name="ill", kind="boolean", role="target"),
    ),
)


def population(n: int, seed: int) -> pd.DataFrame:
    """Dose follows age, level follows dose and is missing with it, towns lie in lands."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 95, n).astype(float)
    dose = np.round(age / 10 + rng.gamma(2, 1, n), 2)
    level = np.round(2 * dose + rng.normal(0, 1, n), 2)
    gone = rng.random(n) < 0.1
    town = np.minimum(rng.geometric(0.3, n), 9) + 10 * (age > 60)
    ill = rng.random(n) < 1 / (1 + np.exp(-(dose - 8) - (town % 10 == 1)))
    days = rng.integers(0, 700, n)
    days -= np.where(days % 7 > 4, 3, 0)  # nobody is seen on two days of the week
    seen = pd.Timestamp("2024-01-01") + pd.to_timedelta(
        days * 1_440 + rng.integers(480, 960, n), "m"
    )
    return pd.DataFrame(
        {
            "age": age,
            "dose": np.where(gone, np.nan, dose),
            "level": np.where(gone, np.nan, level),
            "town": pd.Series(town.astype(str), dtype="str"),
            "land": pd.Series((town > 10).astype(str), dtype="str"),
            "seen": pd.Series(seen).astype("datetime64[us]"),
            "ill": pd.array(ill, dtype="boolean"),
        }
    )


TRAIN, HOLDOUT, FRESH = population(2_000, 1), population(1_000, 2), population(2_000, 3)


def independent(frame: pd.DataFrame) -> pd.DataFrame:
    """Every column by itself is right, and none knows of another."""
    return pd.DataFrame(
        {c: frame[c].sample(frac=1, random_state=i).array for i, c in enumerate(frame)}
    )


def distorted(frame: pd.DataFrame) -> pd.DataFrame:
    """Every column by itself is wrong."""
    unknown = frame["dose"].where(np.arange(len(frame)) % 3 > 0)
    return frame.assign(
        age=frame["age"] + 30,
        dose=unknown * 1.8,
        level=frame["level"] * 1.8,
        town=frame["town"].where(frame["town"] != "1", "99"),
        seen=frame["seen"] + pd.Timedelta("5D 8h"),
    )


def measured(synthetic: pd.DataFrame) -> Report:
    found = Evidence(SCHEMA, TRAIN, HOLDOUT, synthetic, seed=5)
    return judge(found, [Measurement("schema.output", "schema", 0.0, unit="cells")])


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    """The whole judgement of three tables, and the likeness of the distorted one."""
    without_trees = {k: c for k, c in fidelity.CHECKS.items() if c[1] is not detection.trees}
    apart = Evidence(SCHEMA, TRAIN, HOLDOUT, distorted(FRESH), seed=5)
    return {
        "fresh": measured(FRESH),
        "copy": measured(TRAIN.sample(frac=1, random_state=0).reset_index(drop=True)),
        "independent": measured(independent(FRESH)),
        "distorted": Report(tuple(run_checks(apart, without_trees))),
    }


LAST = {
    "distorted": (
        "ks.age tvd.town missing.dose shape_error marginals wasserstein.dose wasserstein "
        "tail_99.age "
        "coverage.age adherence.town season_weekday.seen season_hour.seen c2st_linear pmse_ratio"
    ),
    "independent": (
        "pair_tv pair_loss mutual_information correlation co_missing dependencies c2st "
        "alpha_precision beta_recall frechet tstr tstr_ratio tstr_linear "
        "tstr_linear_ratio brier importance"
    ),
    "copy": (
        "exact_copies unique_copies near_copies isolated_near_copies dcr_share authenticity "
        "membership_distance linkability"
    ),
}


@pytest.mark.parametrize(
    ("last", "name"), [(k, name) for k, names in LAST.items() for name in names.split()]
)
def test_the_table_that_a_measure_is_there_for_comes_last(reports, last, name):
    bad, good = (reports[k].get(name) for k in (last, "fresh"))
    assert bad is not None
    assert good is not None
    assert bad.status == "measured", bad.note
    if good.better == "low":
        assert (bad.value if bad.low is None else bad.low) > (good.worst or 0)
    else:
        assert (bad.value if bad.high is None else bad.high) < (good.worst or 0)


@pytest.mark.parametrize(
    "name", ["ks.age", "tvd.town", "shape_error", "c2st_linear", "wasserstein"]
)
def test_measures_of_single_columns_cannot_see_independence(reports, name):
    alone, good = (reports[k].get(name) for k in ("independent", "fresh"))
    assert alone.low <= good.high


def verdict(report: Report) -> Decision:
    return decide(report, GatePolicy(samples=1), fingerprint=report.facts["fingerprint"])


def test_the_gate_lets_only_the_fresh_sample_go(reports):
    decisions = {k: verdict(reports[k]) for k in ("copy", "independent", "fresh")}
    assert {k: d.passed for k, d in decisions.items()} == {
        "copy": False,
        "independent": False,
        "fresh": True,
    }
    refused = {k: {r.name for r in d.failing} for k, d in decisions.items()}
    assert {"exact_copies", "near_copies", "membership_distance"} <= refused["copy"]
    assert refused["copy"] <= {*PRIVACY_TESTS, "dcr_share"}
    assert {"pair_loss", "tstr_ratio"} <= refused["independent"]
    assert not refused["independent"] & {*PRIVACY_TESTS, "dcr_share"}


def test_every_measurement_says_its_rows_and_its_control(reports):
    for m in reports["fresh"]:
        if m.status == "measured" and m.area in ("fidelity", "utility"):
            assert m.n > 0, m.name
            assert m.control is not None, m.name
            assert m.high is not None, m.name


def test_the_names_are_those_of_the_page(reports):
    """docs/validation.md has a line for each measure."""
    page = (Path(__file__).parents[2] / "docs" / "validation.md").read_text(encoding="utf-8")
    names = {m.name.split(".")[0] for m in reports["fresh"] if m.area in ("fidelity", "utility")}
    assert {name for name in names if f"`{name}" not in page} == set()


def test_statuses_are_known(reports):
    statuses = {m.status for r in reports.values() for m in r}
    assert statuses <= {"measured", "inconclusive"}
