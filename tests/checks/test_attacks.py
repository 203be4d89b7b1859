"""Each attack on tables small enough to count, and how it ranks copies, fresh rows and noise."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from synthgen.checks import attacks, gate, privacy
from synthgen.checks.check import Evidence, Measurement, Report, run_checks
from synthgen.checks.contrast import wilson
from synthgen.checks.gate import PRIVACY_CHECKS, PRIVACY_TESTS, decide, holm
from synthgen.checks.privacy import Hits, clopper_pearson, hits_of, membership
from synthgen.config import GatePolicy
from synthgen.errors import SchemaError
from synthgen.schema import Column, TableSchema


def wide(n_columns: int) -> TableSchema:
    """Numbers, and every third column levels; the last is sensitive."""
    columns = [
        Column(name=f"c{i}", kind="categorical" if i % 3 == 2 else "numeric", decimals=None)
        for i in range(n_columns)
    ]
    columns[-1] = dataclasses.replace(columns[-1], sensitive=True)
    return TableSchema(name="wide", columns=tuple(columns))


def rows(schema: TableSchema, n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            c.name: rng.normal(size=n).round(2)
            if c.kind == "numeric"
            else pd.Series(rng.integers(0, 6, n).astype(str), dtype="str")
            for c in schema.columns
        }
    )


SCHEMA = wide(6)
TRAIN, HOLDOUT, FRESH = rows(SCHEMA, 1_200, 1), rows(SCHEMA, 600, 2), rows(SCHEMA, 1_200, 3)


def measured(synthetic: pd.DataFrame, schema: TableSchema = SCHEMA) -> dict[str, Measurement]:
    evidence = Evidence(schema, TRAIN, HOLDOUT, synthetic, seed=4)
    return {m.name: m for m in run_checks(evidence, PRIVACY_CHECKS)}


@pytest.fixture(scope="module")
def of_copies() -> dict[str, Measurement]:
    return measured(TRAIN)


@pytest.fixture(scope="module")
def of_fresh() -> dict[str, Measurement]:
    return measured(FRESH)


def test_the_risk_is_what_the_holdout_does_not_explain():
    # main 6 of 10, control 2 of 10: (.6 - .2) / (1 - .2)
    risk, low, high = attacks.difference(Hits(6, 10, 2, 10))
    assert risk == pytest.approx(0.5)
    # Newcombe's interval from the Wilson intervals of .6 and .2
    (a, b), (c, d) = wilson(6, 10), wilson(2, 10)
    assert low == pytest.approx((0.4 - math.hypot(0.6 - a, d - 0.2)) / 0.8)
    assert high == pytest.approx((0.4 + math.hypot(b - 0.6, 0.2 - c)) / 0.8)


def test_clopper_pearson_by_hand():
    assert clopper_pearson(0, 10) == pytest.approx((0, 1 - 0.025**0.1))
    assert clopper_pearson(10, 10) == pytest.approx((0.025**0.1, 1))


def test_holm_by_hand():
    assert holm({}) == {}
    assert holm({"a": 0.5, "b": 0.01}) == {"b": 0.02, "a": 0.5}


def test_membership_by_hand():
    # all of 100 members score above all of 100 others, whose highest score is the threshold
    found = membership("m", np.arange(100, 200.0), np.arange(100.0), "")
    assert found.value == 1
    assert found.details["tpr_1"] == 1
    assert found.details["tpr_01"] is None  # a tenth of a row cannot be a rate
    # equal scores: chance, nobody above the threshold
    same = membership("m", np.zeros(100), np.zeros(100), "")
    assert (same.value, same.details["tpr_1"], same.details["p"]) == (0.5, 0.0, 1.0)


@pytest.mark.parametrize("bad", [np.full(100, np.nan), np.zeros(99)])
def test_scores_that_say_nothing_are_no_measurement(bad):
    assert membership("m", bad, np.zeros(100), "").status != "measured"


def test_one_row_written_many_times():
    # 4 train, 4 holdout and 8 synthetic rows, all single but row 0, which is written 8 times:
    # given 9 of it in all, each synthetic with a chance of a half, 8 or 9 have p = 10 / 512
    found = privacy._repeated("r", np.arange(4), np.arange(4, 8), np.zeros(8, "int64"))
    assert found.value == 8
    assert found.details["tests"] == 1
    assert found.details["p"] == pytest.approx(10 / 512)


def test_copies_of_unusual_rows_are_counted_by_themselves():
    # two rows of ten have a level that nobody else has: one of train's is written, no holdout's
    schema = TableSchema(name="t", columns=(Column(name="c", kind="categorical"),))
    train, holdout, synthetic = (
        pd.DataFrame({"c": pd.Series(list(text), dtype="str")})
        for text in ("xwaaaaaaaa", "yzaaaaaaaa", "xaaa")
    )
    rare = {m.name: m for m in privacy.copies(Evidence(schema, train, holdout, synthetic))}[
        "rare_copies"
    ]
    assert (rare.value, rare.control, rare.n) == (0.5, 0.0, 2)


def test_a_cell_with_one_person():
    # the level of train's first row is hers alone and is written; the holdout's single one is not
    schema = TableSchema(name="t", columns=(Column(name="c", kind="categorical"),))

    def frame(text: str) -> pd.DataFrame:
        return pd.DataFrame({"c": pd.Series(list(text), dtype="str")})

    (found,) = attacks.small_cells(Evidence(schema, frame("xaaa"), frame("yaaa"), frame("xaaa")))
    assert (found.details["main"], found.details["control"], found.n) == (1.0, 0.0, 1)
    assert found.status == "inconclusive"  # one person


def test_a_claim_about_one_value():
    # the synthetic 7 is single; one train row has it, no holdout row
    codes = [np.array([[7], [1]]), np.array([[1], [1]]), np.array([[7], [1], [1]])]
    hits = attacks._single_values(codes, np.random.default_rng(0))
    assert hits == Hits(1, 1, 0, 1)


def test_copies_are_found_by_every_attack_and_fresh_rows_by_none(of_copies, of_fresh):
    assert set(of_copies) == {*PRIVACY_TESTS, "dcr_share"}
    # random columns hold no unique person in two cells, and claims about 600 rows find few
    for name in (
        "exact_copies",
        "near_copies",
        "membership_distance",
        "linkability",
        "attribute_inference",
    ):
        assert of_copies[name].details["p"] < 1e-6, name
        assert of_fresh[name].details["p"] > 1e-3, name
    assert of_copies["membership_learned"].details["p"] < 0.01
    assert of_copies["linkability"].value > 0.9
    assert of_copies["attribute_inference"].value > 0.9
    assert of_copies["membership_distance"].value == 1


def leaking(found: dict[str, Measurement]) -> set[str]:
    adjusted = holm({name: m.details["p"] for name, m in found.items() if "p" in m.details})
    return {name for name, p in adjusted.items() if p < 0.01}


def test_noise_is_no_leak_but_shuffled_columns_of_train_hold_its_values():
    shuffled = [
        pd.DataFrame({c: t[c].sample(frac=1, random_state=i).array for i, c in enumerate(t)})
        for t in (FRESH, TRAIN)
    ]
    assert leaking(measured(shuffled[0])) == set()
    assert leaking(measured(shuffled[1])) == {"small_cells", "singling_out_1"}


def test_attacks_without_power_say_so(of_fresh):
    assert of_fresh["attribute_inference"].status == "inconclusive"  # independent columns
    nothing_sensitive = TableSchema(
        name="t", columns=tuple(dataclasses.replace(c, sensitive=False) for c in SCHEMA.columns)
    )
    (found,) = attacks.attribute_inference(Evidence(nothing_sensitive, TRAIN, HOLDOUT, FRESH))
    assert found.status == "inconclusive"
    assert "sensitive" in found.note


def refusing(found: dict[str, Measurement], policy: GatePolicy | None = None) -> set[str]:
    decision = decide(Report(tuple(found.values())), policy or GatePolicy(), fingerprint="")
    return {r.name for r in decision.failing} & {*PRIVACY_TESTS}


def test_an_attack_without_power_neither_refuses_nor_passes(of_fresh):
    assert refusing(of_fresh) == set()
    decision = decide(Report(tuple(of_fresh.values())), GatePolicy(), fingerprint="")
    silent = {r.name: r for r in decision.rules if r.silent}
    assert "attribute_inference" in silent
    assert not silent["attribute_inference"].passed


@pytest.mark.parametrize("name", PRIVACY_TESTS)
def test_an_attack_that_failed_refuses(of_fresh, name):
    failed = Measurement(name, "privacy", None, status="failed", note="crashed")
    assert name in refusing({**of_fresh, name: failed})


@pytest.mark.parametrize("name", PRIVACY_TESTS)
def test_a_p_value_that_is_no_number_refuses(of_fresh, name):
    m = of_fresh[name]
    spoilt = dataclasses.replace(m, status="measured", details={"p": math.nan}, value=0.0)
    assert name in refusing({**of_fresh, name: spoilt})


def test_a_leak_that_is_certain_refuses_even_if_the_attack_calls_itself_weak(of_copies):
    weak = dataclasses.replace(of_copies["linkability"], status="inconclusive")
    assert "linkability" in refusing({**of_copies, "linkability": weak})


def test_controls_are_judged_by_the_tests(monkeypatch):
    evidence = Evidence(SCHEMA, rows(SCHEMA, 4_000, 5), rows(SCHEMA, 1_000, 6), FRESH, seed=1)
    (planted,) = gate.positive_control(evidence)
    (clean,) = gate.negative_control(evidence)
    assert planted.n == 40
    assert planted.details["tests"]["exact_copies"]["p"] < 1e-3
    assert clean.n == 500
    rules = {
        r.name: r for r in decide(Report((planted, clean)), GatePolicy(), fingerprint="").rules
    }
    assert rules["positive_control"].passed
    assert rules["negative_control"].passed


def test_too_few_rows_to_see_planted_copies_refuse_and_say_what_helps():
    evidence = Evidence(SCHEMA, TRAIN, HOLDOUT.head(200), FRESH)
    (planted,) = gate.positive_control(evidence)
    rules = {r.name: r for r in decide(Report((planted,)), GatePolicy(), fingerprint="").rules}
    assert not rules["positive_control"].passed
    assert "more rows" in rules["positive_control"].reason
    assert not rules["negative_control"].passed  # was not measured
    waived = decide(Report((planted,)), GatePolicy(prove_power=False), fingerprint="").rules
    assert {r.name for r in waived if r.waived} == {"positive_control", "negative_control"}


def test_tests_that_refuse_fresh_rows_are_not_trusted():
    found = Measurement(
        "negative_control", "privacy", 1e-9, details={"tests": {"x": {"p": 1e-9, "excess": 0.0}}}
    )
    rules = {r.name: r for r in decide(Report((found,)), GatePolicy(), fingerprint="").rules}
    assert not rules["negative_control"].passed
    assert "cannot be trusted" in rules["negative_control"].reason


def test_a_check_that_crashes_on_a_control_refuses(monkeypatch):
    def crash(evidence: Evidence) -> list[Measurement]:
        raise ValueError("SECRET")

    monkeypatch.setitem(gate.PRIVACY_CHECKS, "linkability", ("privacy", crash))
    (found,) = gate.negative_control(Evidence(SCHEMA, TRAIN, HOLDOUT, FRESH))
    assert found.status == "failed"
    assert "SECRET" not in found.note


@pytest.mark.parametrize(("attempts", "passes"), [(3, True), (4, False), (None, False)])
def test_attempts_are_capped(attempts, passes):
    rules = decide(Report((), {"attempts": attempts}), GatePolicy(), fingerprint="").rules
    assert next(r for r in rules if r.name == "attempts").passed is passes


@pytest.mark.parametrize(("n_columns", "n"), [(120, 300), (1, 300), (3, 40)])
def test_wide_and_small_tables_do_not_crash(n_columns, n):
    schema = wide(n_columns)
    tables = (rows(schema, m, i) for i, m in enumerate((n, n // 4, n)))
    evidence = Evidence(schema, *tables)
    checks = PRIVACY_CHECKS | {
        "positive_control": ("privacy", gate.positive_control),
        "negative_control": ("privacy", gate.negative_control),
    }
    found = run_checks(evidence, checks)
    assert [m.name for m in found if m.status == "failed"] == []


def test_hits_are_counted():
    assert hits_of(np.array([True, False]), np.array([True])) == Hits(1, 2, 1, 1)


def test_only_what_leaves_can_be_sensitive():
    with pytest.raises(SchemaError, match="sensitive"):
        Column(name="id", kind="id", sensitive=True)
    assert TableSchema.from_toml(SCHEMA.to_toml()) == SCHEMA
