"""The gate refuses what is not known, what is copied and what is useless, and passes the rest."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.checks import privacy
from synthgen.checks.check import Evidence, Measurement, Report, run_checks
from synthgen.checks.gate import CHECKS, Decision, RuleResult, decide, further_draws, judge
from synthgen.config import GatePolicy, RunConfig
from synthgen.schema import Column, TableSchema
from synthgen.table import fingerprint

SCHEMA = TableSchema(
    name="patients",
    columns=(
        Column(name="id", kind="id"),
        Column(name="age", kind="numeric", decimals=0),
        Column(name="dose", kind="numeric", decimals=2, nullable=True),
        Column(name="ward", kind="categorical"),
        Column(name="seen", kind="datetime"),
        Column(name="ill", kind="boolean", role="target"),
    ),
)
SCHEMA_OK = Measurement("schema.output", "schema", 0.0, unit="cells")


def population(n: int, seed: int) -> pd.DataFrame:
    """Dose grows with age, the ward follows age, the outcome follows both; 5 % of doses unknown."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 95, n).astype(float)
    dose = np.round(age / 10 + rng.gamma(2, 1, n), 2)
    ward = np.where(age + rng.normal(0, 10, n) > 60, "geriatry", rng.choice(["a", "b", "c"], n))
    ill = rng.random(n) < 1 / (1 + np.exp(-(dose - 8) - (ward == "a")))
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta((age * 20 + rng.integers(0, 99, n)), "D")
    return pd.DataFrame(
        {
            "id": pd.Series(np.arange(n).astype(str), dtype="str"),
            "age": age,
            "dose": np.where(rng.random(n) < 0.05, np.nan, dose),
            "ward": pd.Series(ward, dtype="str"),
            "seen": pd.Series(days).astype("datetime64[us]"),
            "ill": pd.array(ill, dtype="boolean"),
        }
    )


TRAIN, HOLDOUT = population(2_000, 1), population(1_000, 2)


def verdict(
    synthetic: pd.DataFrame, draws: tuple[pd.DataFrame, ...] = ()
) -> tuple[Report, Decision]:
    evidence = Evidence(SCHEMA, TRAIN, HOLDOUT, synthetic, seed=5, draws=draws)
    report = judge(evidence, [SCHEMA_OK])
    return report, decide(report, GatePolicy(), fingerprint=fingerprint(synthetic))


def leaks(evidence: Evidence) -> set[str]:
    """Return the privacy rules that refuse, of the privacy checks alone."""
    found = run_checks(evidence, privacy.CHECKS)
    decision = decide(Report(tuple(found)), GatePolicy(), fingerprint="")
    return failing(decision) & {m.name for m in found}


@pytest.fixture(scope="module")
def fresh() -> tuple[Report, Decision]:
    return verdict(population(2_000, 3), (population(600, 13), population(600, 14)))


def failing(decision: Decision) -> set[str]:
    return {r.name for r in decision.failing}


def test_a_fresh_sample_passes(fresh):
    assert failing(fresh[1]) == set()
    assert fresh[1].passed


def test_a_copy_of_the_training_data_is_refused():
    found = leaks(Evidence(SCHEMA, TRAIN, HOLDOUT, TRAIN))
    assert {"exact_copies", "unique_copies", "near_copies", "dcr_share"} <= found


def test_one_percent_of_copies_is_refused():
    synthetic = population(2_000, 4)
    synthetic.iloc[:20] = TRAIN.iloc[:20]
    assert {"exact_copies", "unique_copies"} & leaks(Evidence(SCHEMA, TRAIN, HOLDOUT, synthetic))


def test_edited_copies_are_refused():
    synthetic = population(2_000, 4)
    edited = TRAIN.iloc[:400].assign(dose=lambda t: (t["dose"] + 0.01).round(2))
    synthetic.iloc[:400] = edited
    assert "near_copies" in leaks(Evidence(SCHEMA, TRAIN, HOLDOUT, synthetic))


def test_independent_columns_are_refused():
    columns = {c: TRAIN[c].sample(frac=1, random_state=i).array for i, c in enumerate(TRAIN)}
    assert {"pair_loss", "tstr_ratio"} <= failing(verdict(pd.DataFrame(columns))[1])


def test_copies_are_found_among_many_legitimate_ones():
    """Three columns of 20 levels: most cells hold many rows, and a few hold one person."""
    schema = TableSchema(name="t", columns=tuple(Column(name=c, kind="categorical") for c in "abc"))

    def rows(n: int, seed: int) -> pd.DataFrame:
        draws = np.random.default_rng(seed).geometric(0.3, (n, 3)).clip(max=20)
        return pd.DataFrame(
            {c: pd.Series(draws[:, i].astype(str), dtype="str") for i, c in enumerate("abc")}
        )

    train, holdout, synthetic = rows(3_000, 1), rows(1_500, 2), rows(3_000, 3)

    assert leaks(Evidence(schema, train, holdout, synthetic)) == set()
    alone = train.drop_duplicates(keep=False).iloc[:100]
    synthetic.iloc[: len(alone)] = alone
    assert "unique_copies" in leaks(Evidence(schema, train, holdout, synthetic))


def test_one_leaky_draw_refuses_the_model(fresh):
    """The exported table is clean, and so is the second; the third repeats train rows."""
    report, decision = fresh
    leaky = population(600, 15)
    leaky.iloc[:100] = TRAIN.iloc[:100]
    evidence = Evidence(SCHEMA, TRAIN, HOLDOUT, leaky, seed=5, draws=(leaky,))
    (found,) = further_draws(evidence)
    spoilt = [replace(found, name=m.name) if m.name == "draw_3" else m for m in report]
    again = decide(
        Report(tuple(spoilt), report.facts), GatePolicy(), fingerprint=decision.fingerprint
    )
    assert failing(again) == {"draw_3"}
    assert "exact_copies: 5.00% of train rows met" in again.failing[0].reason
    assert found.n == 600


def test_as_many_tables_are_judged_as_the_policy_says(fresh):
    report, decision = fresh
    for samples, missing in ((1, set()), (3, set()), (4, {"draw_4"})):
        policy = GatePolicy(samples=samples)
        again = decide(report, policy, fingerprint=decision.fingerprint)
        assert failing(again) == missing
        assert sum(r.name.startswith("draw_") for r in again.rules) == samples - 1


def test_a_draw_whose_tests_crashed_refuses(fresh):
    report, decision = fresh
    crashed = {"name": "linkability", "area": "privacy", "value": None, "status": "failed"}
    m = report.get("draw_2")
    kept = [e for e in m.details["measurements"] if e["name"] != "linkability"]
    spoilt = replace(m, details={"measurements": [*kept, crashed]})
    again = decide(
        Report(tuple(spoilt if x is m else x for x in report), report.facts),
        GatePolicy(),
        fingerprint=decision.fingerprint,
    )
    assert failing(again) == {"draw_2"}


def test_every_measured_rule_is_required(fresh):
    report, decision = fresh
    for rule in decision.rules:
        if report.get(rule.name) is None:
            continue
        without = Report(tuple(m for m in report if m.name != rule.name), report.facts)
        refused = decide(without, GatePolicy(), fingerprint=decision.fingerprint)
        assert failing(refused) == {rule.name}
        assert "was not measured" in refused.failing[0].reason


@pytest.mark.parametrize("status", ["inconclusive", "failed"])
def test_what_is_not_measured_refuses(fresh, status):
    report, decision = fresh
    spoilt = [replace(m, status=status, note="why") if m.name == "c2st" else m for m in report]
    refused = decide(
        Report(tuple(spoilt), report.facts), GatePolicy(), fingerprint=decision.fingerprint
    )
    assert [(r.name, r.reason) for r in refused.failing] == [("c2st", f"{status}: why")]


def test_nan_refuses(fresh):
    report, decision = fresh
    spoilt = [replace(m, value=float("nan")) if m.name == "c2st" else m for m in report]
    refused = decide(
        Report(tuple(spoilt), report.facts), GatePolicy(), fingerprint=decision.fingerprint
    )
    assert failing(refused) == {"c2st"}


def test_a_p_value_that_is_missing_refuses(fresh):
    report, decision = fresh
    for name in ("exact_copies", "near_copies", "dcr_share"):
        spoilt = [replace(m, details={}) if m.name == name else m for m in report]
        refused = decide(
            Report(tuple(spoilt), report.facts), GatePolicy(), fingerprint=decision.fingerprint
        )
        assert failing(refused) == {name}


def refused_with(fresh: tuple[Report, Decision], name: str, **fields: object) -> set[str]:
    """Return the rules that refuse once `fields` of the measurement `name` are changed."""
    report, decision = fresh
    changed = tuple(replace(m, **fields) if m.name == name else m for m in report)
    again = decide(Report(changed, report.facts), GatePolicy(), fingerprint=decision.fingerprint)
    return failing(again)


@pytest.mark.parametrize(
    ("share", "z", "passes"),
    [(0.53, 4.3, True), (0.541, 2.9, True), (0.541, 3.1, False), (0.40, -9.0, True)],
)
def test_a_dcr_share_is_refused_if_it_is_certain_and_large(fresh, share, z, passes):
    found = refused_with(fresh, "dcr_share", value=share, details={"z": z})
    assert found == (set() if passes else {"dcr_share"})


@pytest.mark.parametrize(
    ("name", "low", "high", "passes"),
    [
        ("pair_loss", -0.3, 0.49, True),
        ("pair_loss", -0.3, 0.51, False),
        ("pair_loss", 0.24, 0.28, True),
        ("pair_loss", 0.26, 0.28, False),
        ("tstr_ratio", 0.51, 1.2, True),
        ("tstr_ratio", 0.49, 1.2, False),
        ("tstr_ratio", 0.70, 0.76, True),
        ("tstr_ratio", 0.70, 0.74, False),
    ],
)
def test_a_certain_loss_is_refused_at_half_of_what_is_allowed(fresh, name, low, high, passes):
    found = refused_with(fresh, name, value=(low + high) / 2, low=low, high=high)
    assert found == (set() if passes else {name})


def test_a_crashed_check_refuses(fresh):
    def crash(evidence: Evidence) -> list[Measurement]:
        raise ValueError("SECRET")

    report, decision = fresh
    (crashed,) = run_checks(Evidence(SCHEMA, TRAIN, HOLDOUT, TRAIN), {"c2st": ("fidelity", crash)})
    spoilt = Report(tuple(crashed if m.name == "c2st" else m for m in report), report.facts)
    refused = decide(spoilt, GatePolicy(), fingerprint=decision.fingerprint)
    assert failing(refused) == {"c2st"}
    assert "SECRET" not in refused.to_json() + spoilt.to_json()


def test_a_decision_is_about_one_table(fresh):
    assert failing(decide(fresh[0], GatePolicy(), fingerprint="another")) == {"same_table"}
    assert "same_table" in failing(decide(Report((), {}), GatePolicy(), fingerprint=""))


def test_few_rows_prove_nothing(fresh):
    policy = GatePolicy(min_privacy_rows=1_001)
    assert failing(decide(fresh[0], policy, fingerprint=fresh[1].fingerprint)) == {"enough_rows"}


def test_a_table_without_a_target_needs_no_utility(fresh):
    schema = replace(SCHEMA, columns=tuple(replace(c, role=None) for c in SCHEMA.columns))
    tables = (t.head(100) for t in (TRAIN, HOLDOUT, population(100, 3)))
    facts = judge(Evidence(schema, *tables)).facts | {"fingerprint": fresh[1].fingerprint}
    kept = tuple(m for m in fresh[0] if not m.name.startswith("tstr"))
    facts["rows"] = fresh[0].facts["rows"]
    decision = decide(Report(kept, facts), GatePolicy(), fingerprint=fresh[1].fingerprint)
    assert decision.passed
    assert [r.name for r in decision.rules if r.waived] == ["tstr_ratio"]


def test_a_waiver_is_written_down(fresh):
    policy = RunConfig.from_toml('[gate]\nmax_c2st = "off"').gate
    report, decision = fresh
    without = Report(tuple(m for m in report if m.name != "c2st"), report.facts)
    waived = decide(without, policy, fingerprint=decision.fingerprint)
    assert waived.passed
    assert [(r.name, r.reason) for r in waived.rules if r.waived] == [
        ("c2st", "waived by the policy")
    ]
    assert waived.policy["max_c2st"] == "off"


def test_a_config_keeps_its_waivers():
    config = RunConfig.from_toml('[gate]\nmax_pair_loss = "off"')
    assert RunConfig.from_toml(config.to_toml()) == config


def test_check_names_are_unique_and_measured(fresh):
    names = {m.name for m in fresh[0]}
    assert set(CHECKS) <= names


def test_the_report_holds_no_cell(fresh):
    report, decision = fresh
    assert "geriatry" not in report.to_json() + decision.to_json()
    assert Report.from_json(report.to_json()) == report


def test_equal_seeds_give_equal_reports():
    small = Evidence(SCHEMA, TRAIN[:300], HOLDOUT[:100], population(300, 3), seed=7)
    assert judge(small) == judge(small)


@pytest.mark.parametrize("n", [0, 1, 2, 300])
def test_odd_tables_get_an_answer_and_no_crash(n):
    """A constant, a column without values, two levels; few or no rows."""
    schema = TableSchema(
        name="odd",
        columns=(
            Column(name="one", kind="categorical"),
            Column(name="gone", kind="numeric", nullable=True),
            Column(name="y", kind="boolean", role="target"),
        ),
    )

    def rows(n: int) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "one": pd.Series(["c"] * n, dtype="str"),
                "gone": np.full(n, np.nan),
                "y": pd.array(np.arange(n) % 3 == 0, dtype="boolean"),
            }
        )

    report = judge(Evidence(schema, rows(300), rows(120), rows(n)))
    assert {m.name for m in report if m.status == "failed"} == set()
    assert not decide(report, GatePolicy(), fingerprint=report.facts["fingerprint"]).passed


numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
rules = st.builds(
    RuleResult,
    st.text(),
    st.booleans(),
    st.booleans(),
    numbers,
    numbers,
    numbers,
    st.text(),
    st.booleans(),
)


@given(st.lists(rules), st.text())
def test_a_decision_survives_json(found, mark):
    required = [r for r in found if r.counts]
    passed = bool(required) and all(r.passed for r in required)
    decision = Decision(passed, tuple(found), mark, {"max_c2st": 0.9})
    assert Decision.from_json(decision.to_json()) == decision


def test_a_decision_cannot_contradict_its_rules(fresh):
    body = json.loads(decide(Report((), {}), GatePolicy(), fingerprint="").to_json())
    body["passed"] = True
    with pytest.raises(ValueError, match="contradicts"):
        Decision.from_json(json.dumps(body))
    with pytest.raises(ValueError, match="contradicts"):
        Decision(True, (), "")
