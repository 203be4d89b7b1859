"""Target shares as exact counts: read, apportioned, raked, made independent, drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.ask.conditions import Condition
from synthgen.ask.quotas import Quotas, apportion, mixed, parity, parse_match, plan
from synthgen.errors import ConfigError
from synthgen.schema import Column, TableSchema
from synthgen.synthesizer import Synthesizer

SCHEMA = TableSchema(
    name="t",
    columns=(
        Column(name="sex", kind="categorical", categories=("F", "M")),
        Column(name="rich", kind="boolean", categories=("no", "yes")),
        Column(name="town", kind="categorical", nullable=True),
        Column(name="age", kind="numeric", decimals=0, nullable=True),
        Column(name="id", kind="id"),
    ),
)


def free(**counts: int) -> pd.DataFrame:
    """Rows by cell: ``F_yes=10`` is ten rich women, of town a."""
    rows = [key.split("_") for key, n in counts.items() for _ in range(n)]
    frame = pd.DataFrame(rows, columns=["sex", "rich"]).astype("str")
    frame["rich"] = (frame["rich"] == "yes").astype("boolean")
    frame["town"] = pd.Series(["a", "b"] * len(frame), dtype="str")[: len(frame)]
    return frame.assign(age=np.arange(len(frame), dtype=float))


def by_cell(found: Quotas) -> dict[str, int]:
    names = ["&".join(c.values[0] for c in cell) for cell in found.cells]
    return dict(zip(names, found.counts.tolist(), strict=True))


@pytest.mark.parametrize(
    ("text", "levels", "shares"),
    [
        ("sex=F:0.5,M:0.5", [("=", "F"), ("=", "M")], [0.5, 0.5]),
        ("`sex` = 'F' : .25 , \"M\":0.75", [("=", "F"), ("=", "M")], [0.25, 0.75]),
        ("town='a,b: c':1", [("=", "a,b: c")], [1.0]),
        ("town=a b..c:0.3,'it''s':0.7", [("=", "a b..c"), ("=", "it's")], [0.3, 0.7]),
        ("rich=yes:1,no:0", [("=", "yes"), ("=", "no")], [1.0, 0.0]),
    ],
)
def test_what_is_read(text: str, levels: list[tuple[str, str]], shares: list[float]) -> None:
    axis = parse_match(text, SCHEMA)
    assert [(c.operator, c.values[0]) for (c,) in axis.levels] == levels
    assert axis.shares.tolist() == shares


def test_ranges_are_two_conditions() -> None:
    axis = parse_match("age=..29:0.2,30..64:0.5,65..:0.3", SCHEMA)
    assert [[(c.operator, c.values[0]) for c in level] for level in axis.levels] == [
        [("<=", "29")],
        [(">=", "30"), ("<=", "64")],
        [(">=", "65")],
    ]


def test_missing_cells_have_a_share_and_a_level_of_that_name_is_quoted() -> None:
    axis = parse_match("town=null:0.1,'null':0.2,b:0.7", SCHEMA)
    assert axis.levels == (
        (Condition("town", "null", ()),),
        (Condition("town", "=", ("null",)),),
        (Condition("town", "=", ("b",)),),
    )
    frame = pd.DataFrame({"town": pd.Series([None, "null", "b", "c"], dtype="str")})
    assert axis.code(frame, SCHEMA).tolist() == [0, 1, 2, -1]
    ages = parse_match("age=NULL:0.5,..30:0.5", SCHEMA)
    assert ages.code(pd.DataFrame({"age": [np.nan, 3.0, 40.0]}), SCHEMA).tolist() == [0, 1, -1]
    with pytest.raises(ConfigError, match="null is listed twice"):
        parse_match("town=null:0.5,null:0.5", SCHEMA)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sex=null:0.1,F:0.9", "'sex' is never missing"),
        ("sex", "a match reads"),
        ("sex=F", "a match reads"),
        ("sex=F:0.5;M:0.5", "none of the 2"),
        ("sex=F:0.5,M:0.4", "add up to 0.9; they must add up to 1"),
        ("sex=F:1.5,M:-0.5", "no number from 0 to 1"),
        ("sex=F:0.5,F:0.5", "listed twice"),
        ("sex=G:1", "none of the 2 that the schema declares"),
        ("sxe=F:1", "nearest: 'sex'"),
        ("id=3:1", "regenerated"),
        ("age=..30:0.5,30..:0.5", "two ranges to match overlap"),
        ("age=old:1", "is no numeric"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_match(text, SCHEMA)


def test_largest_remainders_by_hand() -> None:
    # 3.5, 1.75, 1.75 of 7: the floors leave two rows, for the two remainders of .75.
    assert apportion(np.array([0.5, 0.25, 0.25]), 7).tolist() == [3, 2, 2]
    assert apportion(np.array([1 / 3] * 3), 9).tolist() == [3, 3, 3]


def test_one_column_needs_no_free_rows() -> None:
    assert by_cell(plan(10, [parse_match("sex=F:0.3,M:0.7", SCHEMA)], SCHEMA)) == {"F": 3, "M": 7}
    assert by_cell(plan(9, [parse_match("sex=F:0,M:1", SCHEMA)], SCHEMA)) == {"M": 9}


def test_raking_keeps_the_odds_ratio_and_has_exact_margins() -> None:
    """Rows 40, 10, 20, 30: odds ratio 6. Both margins at one half: x / (50 - x) = sqrt(6)."""
    drawn = free(F_no=40, F_yes=10, M_no=20, M_yes=30)
    matches = [parse_match(t, SCHEMA) for t in ("sex=F:0.5,M:0.5", "rich=no:0.5,yes:0.5")]
    counts = by_cell(plan(100, matches, SCHEMA, free=drawn))
    x = round(50 * 6**0.5 / (1 + 6**0.5))  # 35.5
    assert counts["F&no"] in (x - 1, x, x + 1)
    assert counts == {
        "F&no": counts["F&no"],
        "F&yes": 50 - counts["F&no"],
        "M&no": 50 - counts["F&no"],
        "M&yes": counts["F&no"],
    }


def test_targets_that_empty_cells_exclude_say_what_is_possible() -> None:
    drawn = free(F_no=50, M_yes=50)
    matches = [parse_match(t, SCHEMA) for t in ("sex=F:0.5,M:0.5", "rich=no:0.9,yes:0.1")]
    with pytest.raises(ConfigError, match="of 100 rows beside the other targets; the nearest"):
        plan(100, matches, SCHEMA, free=drawn)


def test_fair_by_hand() -> None:
    """Women 20 % rich of 100, men 40 % of 100: both 30 % of 50 in a sample of 100."""
    drawn = free(F_yes=20, F_no=80, M_yes=40, M_no=60)
    found = plan(100, [], SCHEMA, fair=("sex", "rich"), free=drawn)
    assert by_cell(found) == {"F&True": 15, "F&False": 35, "M&True": 15, "M&False": 35}
    assert found.parity == (0.2, 0.0)


def test_fair_with_shares_of_the_sensitive_column_and_of_others() -> None:
    drawn = free(F_yes=20, F_no=80, M_yes=40, M_no=60)
    matches = [parse_match(t, SCHEMA) for t in ("sex=F:0.8,M:0.2", "town=a:0.25,b:0.75")]
    found = plan(100, matches, SCHEMA, fair=("sex", "rich"), free=drawn)
    cells = Counter[str]()
    for cell, count in zip(found.cells, found.counts, strict=True):
        for condition in cell:
            cells[condition.values[0]] += int(count)
        cells["&".join(c.values[0] for c in cell[:2])] += int(count)
    assert (cells["F"], cells["M"], cells["a"], cells["b"]) == (80, 20, 25, 75)
    assert (cells["F&True"], cells["M&True"]) == (24, 6)


@pytest.mark.parametrize(
    ("matches", "fair", "message"),
    [
        (["sex=F:1", "sex=M:1"], None, "'sex' is to match twice"),
        ([], ("sex", "age"), "'age' is numeric: to be fair by it needs levels"),
        ([], ("sex", "gae"), "nearest: 'age'"),
        ([], ("sex", "id"), "regenerated"),
    ],
)
def test_plans_that_are_refused(
    matches: list[str], fair: tuple[str, str] | None, message: str
) -> None:
    axes = [parse_match(t, SCHEMA) for t in matches]
    with pytest.raises(ConfigError, match=message):
        plan(10, axes, SCHEMA, fair=fair, free=free(F_yes=5, M_no=5))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 400),
    table=st.lists(st.integers(1, 50), min_size=12, max_size=12),
    seed=st.integers(0, 99),
)
def test_every_margin_is_exact(n: int, table: list[int], seed: int) -> None:
    """Three columns of 2, 2 and 3 levels, targets at random: the sum of counts is n, each way."""
    rng = np.random.default_rng(seed)
    cells = np.array(list(np.ndindex(2, 2, 3)))
    rows = np.repeat(cells, table, axis=0)
    frame = pd.DataFrame(
        {
            "sex": pd.Series(np.array(["F", "M"])[rows[:, 0]], dtype="str"),
            "rich": pd.Series(rows[:, 1] == 1, dtype="boolean"),
            "age": rows[:, 2].astype(float),
        }
    )
    wanted = [rng.dirichlet(np.ones(k)).round(3) for k in (2, 2, 3)]
    for w in wanted:
        w[0] = 1 - w[1:].sum()
    texts = [
        ",".join(f"{level}:{share:.3f}" for level, share in zip(levels, w, strict=True))
        for levels, w in zip((("F", "M"), ("no", "yes"), (0, 1, 2)), wanted, strict=True)
    ]
    axes = [
        parse_match(f"{c}={t}", SCHEMA) for c, t in zip(("sex", "rich", "age"), texts, strict=True)
    ]
    found = plan(n, axes, SCHEMA, free=frame)
    for axis in axes:
        for level, count in zip(axis.levels, apportion(axis.shares, n), strict=True):
            held = [set(level) <= set(cell) for cell in found.cells]
            assert found.counts[held].sum() == count


def test_parity_is_the_largest_difference_of_an_outcome() -> None:
    assert parity(np.array([[30, 70], [10, 90], [20, 80]])) == 0.2
    assert parity(np.array([[30, 70], [0, 0]])) == 0


def test_rows_of_all_cells_are_mixed_in_bounded_batches() -> None:
    cell = (Condition("age", "=", ("1",)),)
    quotas = Quotas((cell, cell), np.array([7, 5]))

    def part(value: int, *sizes: int) -> Iterator[pd.DataFrame]:
        for size in sizes:
            yield pd.DataFrame({"x": [value] * size})

    order = np.random.default_rng(0)
    frames = list(mixed(quotas, {0: part(0, 4, 3), 1: part(1, 5)}, order, 5))
    assert [len(f) for f in frames] == [5, 5, 2]
    values = pd.concat(frames)["x"].tolist()
    assert sorted(values) == [0] * 7 + [1] * 5
    assert values != sorted(values)


def test_drawn_rows_have_exactly_the_shares(tiny_synthesizer: Synthesizer) -> None:
    match = ["emergency=yes:0.5,no:0.5", "crp=..9.9:0.3,10..:0.7"]
    table = tiny_synthesizer.sample(201, seed=4, where=["ward = surgery"], match=match)
    assert (table.data["ward"] == "surgery").all()
    assert table.data["emergency"].value_counts().to_dict() in (
        {True: 101, False: 100},
        {True: 100, False: 101},
    )
    assert ((table.data["crp"] <= 9.9).sum(), (table.data["crp"] >= 10).sum()) == (60, 141)
    assert table.data["patient_id"].is_unique
    again = tiny_synthesizer.sample(201, seed=4, where=["ward = surgery"], match=match)
    pd.testing.assert_frame_equal(table.data, again.data)


def test_drawn_rows_have_exactly_as_many_missing_cells(tiny_synthesizer: Synthesizer) -> None:
    [name] = [c.name for c in tiny_synthesizer.schema.modelled if c.name == "crp"]
    table = tiny_synthesizer.sample(50, seed=0, match=[f"{name}=null:0.3,..9.9:0.7"])
    assert (table.data[name].isna().sum(), (table.data[name] <= 9.9).sum()) == (15, 35)


def test_a_fair_sample_is_independent_by_count(tiny_synthesizer: Synthesizer) -> None:
    table = tiny_synthesizer.sample(400, seed=1, fair=("emergency", "readmitted")).data
    counts = pd.crosstab(table["emergency"], table["readmitted"]).to_numpy()
    assert parity(counts) < 1 / counts.sum(axis=1).min()
    quotas = tiny_synthesizer.quotas(400, seed=1, fair=("emergency", "readmitted"))
    assert quotas.parity is not None
    assert quotas.parity[1] == pytest.approx(parity(counts))
    assert quotas.counts.sum() == 400


def test_a_column_with_a_condition_is_not_matched(tiny_synthesizer: Synthesizer) -> None:
    with pytest.raises(ConfigError, match="'ward' has a condition and is to match"):
        tiny_synthesizer.sample(9, seed=0, where=["ward=surgery"], match=["ward=surgery:1"])
