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
from synthgen.checks.privacy import (
    Hits,
    People,
    clopper_pearson,
    copies,
    hits_of,
    membership,
    near_copies,
    take_people,
)
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
    found, at_1, at_01 = membership("m", np.arange(100, 200.0), np.arange(100.0), "")
    assert found.value == 1
    assert (at_1.name, at_1.value, at_1.high) == ("m.tpr_1", 1, 1)
    assert at_1.low == pytest.approx(0.0125**0.01)  # Clopper-Pearson of 100 of 100, 97.5 %
    assert at_01.status == "inconclusive"  # a tenth of a row cannot be a rate
    # equal scores: chance, nobody above the threshold
    same, at_1, _ = membership("m", np.zeros(100), np.zeros(100), "")
    assert (same.value, at_1.value, same.details["p"]) == (0.5, 0.0, 1.0)


def test_a_rate_at_a_false_positive_rate_knows_that_its_threshold_is_uncertain():
    # others 0 .. 999; one of them lies above 998, and so do 5 members. But 0 to 4 others may lie
    # above the true threshold, which is then 999, with 4 members above, or as low as 994, with 9
    members = np.concatenate([np.zeros(991), np.arange(994.5, 1_003)])
    _, _, found = membership("m", members, np.arange(1e3), "")
    assert (found.name, found.value) == ("m.tpr_01", 0.005)
    assert found.low == clopper_pearson(4, 1_000, 0.975)[0]
    assert found.high == clopper_pearson(9, 1_000, 0.975)[1]


@pytest.mark.parametrize("bad", [np.full(100, np.nan), np.zeros(99)])
def test_scores_that_say_nothing_are_no_measurement(bad):
    assert membership("m", bad, np.zeros(100), "")[0].status != "measured"


def test_one_row_written_many_times():
    # 4 train, 4 holdout and 8 synthetic rows, all single but row 0, which is written 8 times:
    # given 9 of it in all, each synthetic with a chance of a half, 8 or 9 have p = 10 / 512
    found = privacy._repeated("r", People(np.arange(8), 4), np.arange(8), np.zeros(8, "int64"))
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
    claims = attacks._claims_of_values(codes, np.random.default_rng(0))
    assert claims.hits == Hits(1, 1, 0, 1)
    assert claims.people == Hits(1, 2, 0, 2)


def test_many_claims_about_one_person_are_one_trial():
    # rows 0 and 1 are train's, 2 and 3 the holdout's: three claims hold for row 0 alone, one for
    # rows 0 and 2 together, which are one of each side but single nobody out
    claims = attacks._Claims.of([np.array([0])] * 3 + [np.array([0, 2])], 2)
    assert claims.hits == Hits(4, 4, 1, 4)
    assert claims.people == Hits(1, 2, 0, 2)
    assert claims.people.p == 0.5  # she was in train or in the holdout by the toss of a coin


# --- people of many rows ----------------------------------------------------------------------

KEYED = TableSchema(
    name="keyed",
    columns=(
        Column(name="who", kind="id", role="entity"),
        Column(name="x", kind="numeric", decimals=None),
        Column(name="y", kind="numeric", decimals=None),
    ),
)


def keyed(who: str, x: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"who": pd.Series(list(who), dtype="str"), "x": x, "y": np.zeros(len(x))})


def test_people_are_counted_and_not_their_rows():
    # all three rows of A are written, none of B's, C's or D's: one of two people against none of
    # two, p = 1/2; as rows it would be 3 of 4 against 0 of 2
    train, holdout = keyed("AAAB", [1, 2, 3, 4]), keyed("CD", [5, 6])
    found = {m.name: m for m in copies(Evidence(KEYED, train, holdout, keyed("xyz", [1, 2, 3])))}
    for name in ("exact_copies", "unique_copies"):
        assert (found[name].value, found[name].n, found[name].details["n_holdout"]) == (0.5, 2, 2)
        assert found[name].details["p"] == 0.5


def test_a_row_that_one_person_has_twice_is_still_hers_alone():
    train, holdout = keyed("AABC", [1, 1, 2, 2]), keyed("DE", [5, 6])
    found = {m.name: m for m in copies(Evidence(KEYED, train, holdout, keyed("xy", [1, 2])))}
    assert (found["unique_copies"].value, found["unique_copies"].n) == (1.0, 1)  # A; not B and C


def test_one_row_of_each_person_is_attacked():
    frame = keyed("AAAAABC", [1, 1, 1, 1, 1, 2, 3])
    chosen = take_people(frame, 10, KEYED, np.random.default_rng(0))
    assert sorted(chosen["who"]) == ["A", "B", "C"]


def visits(people: range, seed: int) -> pd.DataFrame:
    """Five visits of each person, all within a thousandth of her own place."""
    rng = np.random.default_rng([people.start, seed])
    places = np.random.default_rng(people.start).random((len(people), 2))
    x, y = (np.repeat(places, 5, axis=0) + rng.normal(0, 1e-4, (5 * len(people), 2))).T
    who = np.repeat([str(i) for i in people], 5)
    return pd.DataFrame({"who": pd.Series(who, dtype="str"), "x": x, "y": y})


def test_a_persons_other_rows_do_not_hide_that_hers_was_copied():
    train, holdout = visits(range(400), 1), visits(range(1_000, 1_200), 1)
    fresh = visits(range(2_000, 2_400), 1)
    for synthetic, leaks in ((visits(range(400), 2), True), (fresh, False)):
        found = {m.name: m for m in near_copies(Evidence(KEYED, train, holdout, synthetic))}
        for name in ("near_copies", "membership_distance"):
            assert (found[name].details["p"] < 1e-6) is leaks, name
        assert found["near_copies"].n == 400


def test_the_negative_control_halves_people():
    evidence = Evidence(KEYED, visits(range(400), 1), visits(range(1_000, 1_400), 1), FRESH)
    (clean,) = gate.negative_control(evidence)
    assert clean.n == 1_000
    assert min(t["p"] for t in clean.details["tests"].values()) > 1e-3


def test_a_column_that_is_easy_to_guess_hides_no_other():
    """Column `a` is constant; `b` is a coin that synthetic rows copy from the nearest train row."""
    rng = np.random.default_rng(0)
    schema = TableSchema(
        name="t",
        columns=(
            Column(name="x", kind="numeric", decimals=None),
            Column(name="a", kind="categorical", sensitive=True),
            Column(name="b", kind="categorical", sensitive=True),
        ),
    )

    def coins(n: int) -> pd.DataFrame:
        b = pd.Series(rng.integers(0, 2, n).astype(str), dtype="str")
        return pd.DataFrame({"x": rng.random(n), "a": pd.Series(["c"] * n, dtype="str"), "b": b})

    train, holdout = coins(600), coins(600)
    (found,) = attacks.attribute_inference(Evidence(schema, train, holdout, train))
    assert found.note.startswith("'b'")
    assert (found.status, found.details["main"]) == ("measured", 1.0)
    assert found.details["columns"]["a"]["p"] == 1
    assert found.details["p"] == min(1, 2 * found.details["columns"]["b"]["p"])


# --- all attacks ---------------------------------------------------------------------------------


def test_copies_are_found_by_every_attack_and_fresh_rows_by_none(of_copies, of_fresh):
    rates = {f"{name}.{rate}" for name in gate.MEMBERSHIP_TESTS for rate in ("tpr_1", "tpr_01")}
    assert set(of_copies) == {*PRIVACY_TESTS, "dcr_share", *rates}
    # random columns hold no unique person in two cells, and claims about 600 rows find few
    for name in (
        "exact_copies",
        "near_copies",
        "nndr",
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
    assert of_copies["membership_distance.tpr_1"].value == 1
    assert (
        of_fresh["membership_distance.tpr_1"].low
        < 0.01
        < of_fresh["membership_distance.tpr_1"].high
    )
    assert of_copies["nndr"].value == 1
    assert of_copies["nndr"].control == 0


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
