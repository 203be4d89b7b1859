"""Combinations that occur and ranges by group: declared, learnt by k, proposed, kept, gated."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from synthgen import constraints
from synthgen.ask.restriction import restriction
from synthgen.checks.expectations import check_frames
from synthgen.config import RunConfig
from synthgen.encode.adopt import adopt
from synthgen.encode.evidence import of_levels
from synthgen.encode.groups import Combined, Within, combined, within
from synthgen.encode.relations import from_json
from synthgen.encode.search import find
from synthgen.errors import ConfigError, DataError, SchemaError
from synthgen.schema import Column, Constraint, TableSchema
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable

COLUMNS = (
    Column(name="sex", kind="categorical"),
    Column(name="pregnant", kind="boolean", categories=("no", "yes")),
    Column(name="stage", kind="categorical", nullable=True),
    Column(name="age", kind="numeric", decimals=0, nullable=True),
)
PAIR = Constraint(kind="combinations", columns=("sex", "pregnant"))
LISTED = Constraint(
    kind="combinations",
    columns=("sex", "pregnant"),
    allowed=(("F", "no"), ("F", "yes"), ("M", "no")),
)
AGES = Constraint(
    kind="range",
    columns=("age", "stage"),
    bounds=(("child", 0, 17), ("adult", 18, float("inf"))),
)


def schema(*rules: Constraint) -> TableSchema:
    return TableSchema(name="x", columns=COLUMNS, constraints=rules)


def people(n: int = 900, seed: int = 0) -> pd.DataFrame:
    """Nobody male is pregnant; children are 0 to 17, adults 18 to 80; three rows lack the stage."""
    rng = np.random.default_rng(seed)
    is_male, is_child = rng.random(n) < 0.5, rng.random(n) < 0.4
    age = np.where(is_child, rng.integers(0, 18, n), rng.integers(18, 81, n)).astype(float)
    frame = pd.DataFrame(
        {
            "sex": np.where(is_male, "M", "F"),
            "pregnant": ~is_male & (rng.random(n) < 0.4),
            "stage": np.where(is_child, "child", "adult"),
            "age": age,
        }
    ).astype({"sex": "str", "stage": "str", "pregnant": "boolean"})
    frame.loc[[1, 2, 3], "stage"] = None
    return frame


def test_rows_that_break_a_rule() -> None:
    frame = pd.DataFrame(
        {
            "sex": ["F", "M", "M", None],
            "pregnant": pd.Series([True, False, True, False], dtype="boolean"),
            "stage": ["child", "child", "adult", "other"],
            "age": [17.0, 18.0, None, 500.0],
        }
    )
    assert constraints.broken(LISTED, frame, schema(LISTED)).tolist() == [False, False, True, True]
    assert constraints.broken(AGES, frame, schema(AGES)).tolist() == [False, True, False, False]
    assert not constraints.broken(PAIR, frame, schema(PAIR)).any()


def test_what_a_rule_leaves_to_the_data_is_held_against_real_rows() -> None:
    real = people()
    learnt = constraints.learnt(
        schema(PAIR, Constraint(kind="range", columns=("age", "stage"))), real
    )
    spoilt = real.assign(
        pregnant=pd.Series([True] * len(real), dtype="boolean"), age=real["age"] + 1
    )
    counter = constraints.Broken(learnt)
    counter.add(real)
    assert list(counter.counts().values()) == [0, 0]
    counter.add(spoilt)
    assert list(counter.counts().values()) == [
        int((real["sex"] == "M").sum()),
        int(((real["stage"] == "child") & (real["age"] == 17)).sum())
        + int(((real["stage"] == "adult") & (real["age"] == 80)).sum()),
    ]


def test_a_schema_with_these_rules_is_read_as_it_is_written() -> None:
    one = schema(LISTED, AGES)
    assert TableSchema.from_toml(one.to_toml()) == one
    assert "adult = [18, inf]" in one.to_toml()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('kind = "combinations"\ncolumns = ["sex", "age"]', "categories or booleans"),
        ('kind = "combinations"\ncolumns = ["sex", "pregnant"]\nallowed = [["F"]]', "'allowed'"),
        ('kind = "combinations"\ncolumns = ["sex", "pregnant"]\nallowed = [[1, 2]]', "'allowed'"),
        ('kind = "range"\ncolumns = ["stage", "age"]', "a number and a category"),
        ('kind = "range"\ncolumns = ["age", "stage"]\nbounds = {child = [9, 1]}', "'bounds'"),
        ('kind = "range"\ncolumns = ["age", "stage"]\nbounds = {child = 9}', "'bounds'"),
        ('kind = "lookup"\ncolumns = ["sex", "stage"]\nbounds = {a = [0, 1]}', "'bounds'"),
    ],
)
def test_rules_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        TableSchema.from_toml(f"{schema().to_toml()}\n[[constraint]]\n{text}\n")


def test_rare_combinations_are_not_kept() -> None:
    frame = people()
    frame.loc[:4, ["sex", "pregnant"]] = ["M", True]  # five rows: fewer than ten
    [relation, lookup] = find(frame, COLUMNS, min_rows=10, constraints=[PAIR])
    assert isinstance(relation, Combined)
    assert relation.levels == ('["F", "False"]', '["F", "True"]', '["M", "False"]')
    assert lookup.derived == "pregnant"
    # Declared ones are kept only where rows hold them, too.
    few = Constraint(kind="combinations", columns=PAIR.columns, allowed=(("M", "yes"), ("F", "no")))
    [relation, _] = find(frame, COLUMNS, min_rows=10, constraints=[few])
    assert isinstance(relation, Combined)
    assert relation.levels == ('["F", "False"]',)
    with pytest.raises(DataError, match="no combination is held by 1000 rows"):
        find(frame, COLUMNS, min_rows=1_000, constraints=[PAIR])


def test_learnt_bounds_are_means_of_k_rows() -> None:
    frame = pd.DataFrame(
        {"age": [*map(float, range(1, 41)), 900.0, np.nan], "stage": ["a"] * 40 + ["b"] * 2}
    )
    relation = within(frame, "age", "stage", 0, 10)
    # The ten lowest of 1 to 40 have the mean 5.5, which is even at 6; b has one number: it has
    # those of all rows, in which the 900 is one of ten: (900 + 32 + ... + 40) / 10 = 122.4.
    assert relation == Within(
        "age", "stage", ("a", "__rare__"), (6.0, 6.0), (36.0, 122.0), learnt=True
    )
    relation.restore(frame)
    assert frame["age"].tolist()[:7] == [6.0] * 6 + [7.0]
    assert frame["age"].tolist()[-3:-1] == [36.0, 122.0]
    assert np.isnan(frame["age"].iloc[-1])


def test_relations_are_restored_and_written() -> None:
    frame = people()
    relations = find(frame, COLUMNS, min_rows=3, constraints=[PAIR, AGES])
    assert [type(r).__name__ for r in relations] == ["Within", "Combined", "Lookup"]
    again = [from_json(json.loads(json.dumps(r.to_json()))) for r in relations]
    assert again == list(relations)
    reduced, columns = frame.copy(), list(COLUMNS)
    for relation in relations:
        relation.reduce(reduced, columns)
    assert [c.name for c in columns] == ["sex", "stage", "age"]
    for relation in reversed(relations):
        relation.restore(reduced)
    pd.testing.assert_frame_equal(
        reduced[frame.columns].astype({"pregnant": "boolean"}), frame, check_dtype=False
    )


def test_missing_is_a_value_of_a_combination() -> None:
    frame = pd.DataFrame({"a": ["x", None, "x"], "b": ["y", "y", None]})
    assert combined(frame, ["a", "b"]).tolist() == ['["x", "y"]', '[null, "y"]', '["x", null]']


def test_rules_are_proposed_with_counts_and_by_k() -> None:
    frame = people()
    found = {rule.kind: rule for rule in of_levels(frame.drop(index=[1, 2, 3]), COLUMNS, 10)}
    assert found["combinations"] == PAIR
    assert "hold 3 of 4 combinations" in found["combinations"].reason
    assert "of 1 others independent columns would show" in found["combinations"].reason
    ages = found["range"]
    assert ages.columns == ("age", "stage")
    # Few are just 18, so that the adults' lower bound is no hard one: it would be single rows.
    assert ages.bounds == (("child", -np.inf, 17.0),)
    assert "17" not in ages.reason
    # One man who is pregnant: held by fewer than k rows, but not by none. Nothing is proposed.
    frame.loc[frame["sex"].eq("M").idxmax(), "pregnant"] = True
    assert PAIR not in list(of_levels(frame, COLUMNS, 10))


@pytest.fixture(scope="module")
def fitted() -> Synthesizer:
    config = RunConfig.build({"train": {"steps": 60, "width": 32, "depth": 1, "batch_size": 64}})
    declared = schema(PAIR, AGES)
    return Synthesizer.fit(RealTable(declared, people()), config=config, seed=0, device="cpu")


def test_drawn_rows_keep_every_rule(fitted: Synthesizer) -> None:
    drawn = fitted.sample(5_000, seed=1)
    rules = fitted.encoder.rules
    assert rules.constraints[0].allowed == LISTED.allowed
    counter = constraints.Broken(rules)
    counter.add(drawn.data)
    assert list(counter.counts().values()) == [0, 0]
    [summary, *_] = check_frames([drawn.data], rules, name="output")
    assert (summary.status, summary.value) == ("measured", 0.0)
    spoilt = drawn.data.assign(age=drawn.data["age"] + 100)
    [summary, *_] = check_frames([spoilt], rules, name="output")
    assert summary.value == (drawn.data["stage"] == "child").sum()


def test_cells_beyond_the_bounds_are_not_drawn_but_moved(fitted: Synthesizer) -> None:
    """Whichever is drawn first; else a barely trained generator left heaps at 17 and at 18."""
    encoder = fitted.encoder
    [((group, number), allowed)] = restriction(encoder).pairs.items()
    assert (encoder.parts[group].column, encoder.parts[number].column) == ("stage", "age")
    levels = [None, *encoder.parts[group].encoder.levels]  # type: ignore[attr-defined]
    ages = encoder.parts[number].encoder.encode(np.array([0.0, 17.0, 18.0, 80.0])).coarse
    assert np.isfinite(allowed[:, 0]).all()  # missing
    table = dict(zip(levels, np.isfinite(allowed)[:, ages].tolist(), strict=False))
    assert table["child"] == [True, True, False, False]
    assert table["adult"] == [False, False, True, True]
    drawn = fitted.sample(5_000, seed=1).data
    for stage, age in (("child", 17), ("adult", 18)):
        ages_of = drawn.loc[drawn["stage"] == stage, "age"]
        assert (ages_of == age).mean() < 0.12


def test_combined_columns_can_be_asked_for(fitted: Synthesizer) -> None:
    for where in (["sex = M"], ["pregnant = yes"], ["sex = F", "pregnant = no", "age >= 30"]):
        made = fitted.sample(60, seed=1, where=where).data
        assert len(made) == 60
        assert not ((made["sex"] == "M") & made["pregnant"]).any()
    with pytest.raises(ConfigError, match="they exclude each other"):
        fitted.sample(5, seed=1, where=["sex = M", "pregnant = yes"])
    shares = fitted.sample(100, seed=1, match=["sex=M:0.25,F:0.75"]).data["sex"].value_counts()
    assert shares.to_dict() == {"F": 75, "M": 25}


def test_a_number_with_a_range_can_be_asked_for(fitted: Synthesizer) -> None:
    made = fitted.sample(80, seed=1, where=["age >= 12", "age <= 20"]).data
    assert made["age"].between(12, 20).all()
    assert set(made["stage"]) == {"child", "adult"}
    assert not constraints.broken(AGES, made, schema(AGES)).any()
    with pytest.raises(DataError, match="no row can satisfy the conditions together") as caught:
        fitted.sample(5, seed=1, where=["stage = child", "age >= 30"])
    assert "the nearest possible: age >= 1" in str(caught.value)


def test_given_cells_leave_what_fits_them(fitted: Synthesizer) -> None:
    given = pd.DataFrame(
        {"pregnant": pd.Series([True, None, False], dtype="boolean"), "age": [None, 5.0, 60.0]}
    )
    for frame in fitted.complete(given, seed=0, copies=20):
        assert frame.loc[0, "pregnant"]
        assert frame.loc[0, "sex"] == "F"
        assert frame["stage"].tolist()[1:] == ["child", "adult"]
        assert frame["age"].tolist()[1:] == [5.0, 60.0]
    both = pd.DataFrame({"sex": ["F"], "pregnant": pd.Series([True], dtype="boolean")})
    [frame] = fitted.complete(both, seed=0)
    assert frame.loc[0, ["sex", "pregnant"]].tolist() == ["F", True]


def test_a_warm_start_keeps_rules_that_still_hold(fitted: Synthesizer) -> None:
    encode = RunConfig.build({}).encode
    again = adopt(fitted.encoder, people(400, seed=3), schema(PAIR, AGES), encode)
    assert again.relations == fitted.encoder.relations
    other = people(400, seed=3).assign(pregnant=pd.Series([True] * 400, dtype="boolean"))
    kept = adopt(fitted.encoder, other, schema(PAIR, AGES), encode).relations
    assert [type(r).__name__ for r in kept] == ["Within"]


def test_variations_keep_the_rules(fitted: Synthesizer) -> None:
    [frame] = fitted.complete(people(300, seed=5), seed=0, vary=0.5)
    counter = constraints.Broken(fitted.encoder.rules)
    counter.add(frame)
    assert list(counter.counts().values()) == [0, 0]
