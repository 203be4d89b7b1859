"""Rules between columns: declared, proposed, held against rows, and kept by what is drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthgen import constraints
from synthgen.checks.expectations import check_frames
from synthgen.config import EncodeConfig, RunConfig
from synthgen.conform import conform, violations
from synthgen.encode.amounts import Grid
from synthgen.encode.relations import Difference, Excess, Product, Relation, Sum
from synthgen.encode.search import find
from synthgen.encode.table import TableEncoder
from synthgen.errors import DataError, SchemaError
from synthgen.pipeline import draft_schema
from synthgen.schema import Column, Constraint, TableSchema
from synthgen.sources import open_source
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable

NUMBERS = tuple(Column(name=n, kind="numeric", decimals=0, nullable=True) for n in "tabc")
TEXTS = tuple(Column(name=n, kind="categorical", nullable=True) for n in ("word", "code"))
NONE = float("nan")


def schema(*rules: Constraint) -> TableSchema:
    return TableSchema(name="x", columns=(*NUMBERS, *TEXTS), constraints=rules)


@pytest.mark.parametrize(
    ("rule", "frame", "broken"),
    [
        (
            Constraint(kind="order", columns=("t", "a", "b")),
            {"t": [1, 1, 3, NONE], "a": [1, 2, 2, 1], "b": [2, 1, 9, 0]},
            [False, True, True, True],
        ),
        (
            Constraint(kind="sum", columns=("t", "a", "b", "c")),
            {"t": [6, 7, NONE, 6], "a": [1, 1, 1, 1], "b": [2, 2, 2, NONE], "c": [3, 3, 3, 3]},
            [False, True, True, True],
        ),
        (
            Constraint(kind="product", columns=("t", "a", "b")),
            {"t": [6, 5, NONE], "a": [2, 2, NONE], "b": [3, 3, 3]},
            [False, True, False],
        ),
        (
            Constraint(kind="product", columns=("t", "a"), value=0.5),
            {"t": [3, 2], "a": [6, 6]},
            [False, True],
        ),
        (
            Constraint(kind="constant", columns=("a", "b"), value=100),
            {"a": [40, 40, NONE, NONE], "b": [60, 61, NONE, 1]},
            [False, True, False, True],
        ),
        (
            Constraint(kind="lookup", columns=("word", "t")),
            {"word": ["one", "one", "one", "two"], "t": [1, 1, 7, 7]},
            [False, False, True, False],
        ),
    ],
)
def test_rows_that_break_a_rule(
    rule: Constraint, frame: dict[str, list[float | str]], broken: list[bool]
) -> None:
    data = pd.DataFrame(frame)
    assert constraints.broken(rule, data, schema(rule)).tolist() == broken
    counter = constraints.Broken(schema(rule))
    for half in (data.iloc[:2], data.iloc[2:]):  # look-ups compare rows of different batches
        counter.add(half)
    assert counter.counts() == {rule: sum(broken)}


def test_a_schema_with_rules_is_read_as_it_is_written() -> None:
    rules = (
        Constraint(kind="sum", columns=("t", "a", "b"), reason="All 9 rows keep it."),
        Constraint(kind="lookup", columns=("word", "code")),
    )
    text = schema(*rules).to_toml()
    assert "# All 9 rows keep it." in text
    assert TableSchema.from_toml(text) == schema(*rules)
    assert schema(*rules).fingerprint != schema().fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('kind = "sum"\ncolumns = ["t", "a"]', "3 or more different columns"),
        ('kind = "sum"\ncolumns = ["t", "a", "z"]', "'z' is no modelled column"),
        ('kind = "total"\ncolumns = ["t", "a"]', "kind is unknown"),
        ('kind = "constant"\ncolumns = ["t", "a"]', "'value'"),
        ('kind = "order"\ncolumns = ["t", "a"]\nvalue = 3', "'value'"),
        ('kind = "order"\ncolumns = ["t", "word"]', "it takes numbers, or datetimes"),
        ('kind = "lookup"\ncolumns = ["t", "word"]', "a category decides"),
        ('columns = ["t", "word"]', "'kind' and 'columns'"),
        (
            'kind = "order"\ncolumns = ["t", "a"]\n[[constraint]]\nkind = "order"\n'
            'columns = ["a", "b"]',
            "'a' stands in another constraint",
        ),
    ],
)
def test_rules_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        TableSchema.from_toml(f"{schema().to_toml()}\n[[constraint]]\n{text}\n")


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    """500 rows: total = net + tax, low <= high, shares that add up to 100, a word for each code."""
    rng = np.random.default_rng(0)
    net, tax = rng.integers(10, 500, 500), rng.integers(1, 60, 500)
    low = rng.integers(0, 50, 500)
    left = rng.integers(0, 101, 500)
    code = rng.integers(0, 4, 500)
    frame = pd.DataFrame(
        {
            "total": net + tax,
            "net": net,
            "tax": tax,
            "low": low,
            "high": low + rng.poisson(3, 500),
            "left": left,
            "right": 100 - left,
            "word": np.array(["p", "q", "r", "s"])[code],
            "code": code * 11,
        }
    )
    frame.to_csv(tmp_path / "sales.csv", index=False)
    return tmp_path / "sales.csv"


DECLARED = (
    Constraint(kind="sum", columns=("total", "net", "tax")),
    Constraint(kind="order", columns=("low", "high")),
    Constraint(kind="constant", columns=("left", "right"), value=100),
    Constraint(kind="lookup", columns=("word", "code")),
)


def test_rules_are_proposed_with_what_speaks_for_them(sales: Path) -> None:
    drafted = draft_schema(str(sales))
    assert set(drafted.constraints) == {DECLARED[0], DECLARED[3]}
    assert {rule.reason for rule in drafted.constraints} == {"All 500 rows keep it."}
    assert not violations(open_source(str(sales), drafted).batches(), drafted)


def with_rules(sales: Path) -> TableSchema:
    columns = tuple(
        Column(name=n, kind="categorical" if n == "word" else "numeric", decimals=d)
        for n, d in [*((n, 0) for n in ("total", "net", "tax", "low", "high")), ("left", 0)]
    )
    columns = (
        *columns,
        Column(name="right", kind="numeric", decimals=0, minimum=0),
        Column(name="word", kind="categorical"),
        Column(name="code", kind="numeric", decimals=0),
    )
    return TableSchema(name="sales", columns=columns, constraints=DECLARED)


def test_real_rows_that_break_a_rule_are_refused_with_their_count(sales: Path) -> None:
    declared = with_rules(sales)
    text = sales.read_text().splitlines()
    first = text[1].split(",")
    text[1] = ",".join(["99999", *first[1:]])
    sales.write_text("\n".join(text))
    with pytest.raises(DataError, match=r"1 of 500 rows break the rule total = net \+ tax"):
        conform(open_source(str(sales), declared).batches(), declared)
    assert "99999" not in str(violations(open_source(str(sales), declared).batches(), declared))


def test_drawn_rows_keep_every_rule(sales: Path) -> None:
    declared = with_rules(sales)
    real = conform(open_source(str(sales), declared).batches(), declared)
    config = RunConfig.build({"train": {"steps": 30, "width": 32, "depth": 1, "batch_size": 64}})
    fitted = Synthesizer.fit(real, config=config, seed=0, device="cpu")
    drawn = fitted.sample(2_000, seed=1)
    counter = constraints.Broken(declared)
    counter.add(drawn.data)
    assert counter.counts() == dict.fromkeys(DECLARED, 0)
    assert drawn.data["right"].between(0, 100).all()
    [summary, *_] = check_frames([drawn.data], declared, name="output")
    assert (summary.status, summary.value) == ("measured", 0.0)
    spoilt = drawn.data.assign(total=drawn.data["total"] + 1)
    [summary, *rules] = check_frames([spoilt], declared, name="output")
    assert summary.value == 2_000
    assert next(m for m in rules if m.name == "schema.output.total.sum").value == 2_000


@pytest.mark.parametrize(
    "relation",
    [
        Sum("t", ("a", "b", "c"), 0),
        Sum("c", ("t", "a", "b"), 0, sign=-1.0, constant=50.0, minimum=0.0),
        Excess("a", "t", 0),
    ],
)
def test_what_is_reduced_is_restored(relation: Relation) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({n: rng.integers(0, 10, 50).astype(float) for n in "tabc"})
    if relation.derived == "a":
        frame["a"] += frame["t"]
        frame.loc[3, "t"] = np.nan
    else:
        parts = frame[list(relation.parts)].sum(axis=1)  # type: ignore[attr-defined]
        frame[relation.derived] = 50 - parts if relation.derived == "c" else parts
    assert not relation.broken(frame).any()
    reduced, columns = frame.copy(), list(NUMBERS)
    relation.reduce(reduced, columns)
    relation.restore(reduced)
    pd.testing.assert_frame_equal(reduced[list("tabc")], frame)


def test_parts_that_leave_too_little_of_a_constant_are_scaled_down() -> None:
    frame = pd.DataFrame({"a": [80.0, 30.0], "b": [60.0, 20.0]})
    Sum("c", ("a", "b"), 0, sign=-1.0, constant=70.0, minimum=0.0).restore(frame)
    assert frame.loc[0].tolist() == [40.0, 30.0, 0.0]
    assert frame.loc[1].tolist() == [30.0, 20.0, 20.0]


def test_parts_move_inside_their_own_bounds_where_the_total_would_leave_its() -> None:
    frame = pd.DataFrame({"a": [80.0, 2.0, 1.0], "b": [60.0, 60.0, NONE], "c": [15.0, 5.0, 1.0]})
    grids = (Grid(0, 0.0), Grid(0, 0.0, 60.0), Grid(0, 5.0))
    total = Sum("t", ("a", "b", "c"), 0, minimum=70.0, maximum=105.0, grids=grids)
    total.restore(frame)
    # 150 above their minima become 100; 62 become 65, of which b, full, takes none
    assert frame.loc[0].tolist() == [53.0, 40.0, 12.0, 105.0]
    assert frame.loc[1].tolist() == [2.0, 60.0, 8.0, 70.0]
    assert frame.loc[2].isna().tolist() == [False, True, False, True]
    known = pd.DataFrame({"a": [True], "b": [False], "c": [False]})
    frame = pd.DataFrame({"a": [80.0], "b": [60.0], "c": [15.0]})
    total.restore(frame, known)
    assert frame.loc[0].tolist() == [80.0, 17.0, 8.0, 105.0]


def test_an_order_holds_where_its_columns_have_bounds() -> None:
    columns = (NUMBERS[1], replace(NUMBERS[2], minimum=20), replace(NUMBERS[3], maximum=70))
    order = Constraint(kind="order", columns=("a", "b", "c"))
    declared = TableSchema(name="x", columns=columns, constraints=(order,))
    frame = pd.DataFrame({"a": [5.0, 90.0, 30.0], "b": [0.0, 8.0, NONE], "c": [2.0, 3.0, 40.0]})
    relations = find(frame, columns, min_rows=10, constraints=[order])
    for relation in reversed(relations):
        relation.restore(frame)
    assert frame["a"].tolist() == [5, 70, 30]
    assert frame["b"].tolist()[:2] == [20, 70]
    assert frame["c"].tolist() == [22, 70, 40]
    assert not constraints.broken(order, frame, declared).any()


def test_a_factor_moves_where_the_product_would_leave_its_bounds() -> None:
    frame = pd.DataFrame({"n": [8.0, 8.0, 80.0, 0.0], "each": [2.5, 4.5, 4.5, 1.5]})
    grids = (Grid(0, 0.0), Grid(1, 1.0))
    Product("sum", ("n", "each"), 1, minimum=5.0, maximum=30.0, grids=grids).restore(frame)
    assert frame["n"].tolist() == [8, 8, 30, 4]
    assert frame["each"].tolist() == [2.5, 3.7, 1.0, 1.5]
    assert frame["sum"].tolist() == [20.0, 29.6, 30.0, 6.0]


BOUNDED = (
    Constraint(kind="sum", columns=("t", "a", "b", "c")),
    Constraint(kind="product", columns=("sum", "n", "each")),
)


@pytest.fixture(scope="module")
def bounded() -> RealTable:
    """A total of 30 to 80 and a product of 5 to 90, whose parts alone could make any."""
    rng = np.random.default_rng(0)
    parts, n = rng.integers(0, 40, (3, 4_000)), rng.integers(1, 9, 4_000)
    frame = pd.DataFrame(dict(zip("abc", parts, strict=True)))
    frame = frame.assign(t=parts.sum(axis=0), n=n, each=(rng.gamma(2, 9, 4_000) + 1).round(2))
    frame = frame.assign(sum=(n * frame["each"]).round(2)).astype(float)
    frame = frame[frame["t"].between(30, 80) & frame["sum"].between(5, 90)].reset_index(drop=True)
    ends = {"t": (30, 80), "sum": (5, 90), "n": (1, None), "a": (0, None)}
    columns = []
    for name in frame.columns:
        (low, high), decimals = ends.get(name, (None, None)), 2 if name in ("each", "sum") else 0
        columns.append(
            Column(name=name, kind="numeric", decimals=decimals, minimum=low, maximum=high)
        )
    declared = TableSchema(name="x", columns=tuple(columns), constraints=BOUNDED)
    return RealTable(declared, frame)


def assert_kept(frame: pd.DataFrame, schema: TableSchema) -> None:
    counter = constraints.Broken(schema)
    counter.add(frame)
    assert counter.counts() == dict.fromkeys(BOUNDED, 0)
    assert frame["t"].between(30, 80).all()
    assert frame["sum"].between(5, 90).all()
    for column in schema.columns:
        assert (frame[column.name] == frame[column.name].round(column.decimals or 0)).all()


def test_rules_hold_whatever_is_drawn_where_derived_columns_have_bounds(
    bounded: RealTable,
) -> None:
    encoder = TableEncoder.fit(bounded, bounded.schema, EncodeConfig(), seed=0)
    table, rng = encoder.transform(bounded), np.random.default_rng(1)
    for tokens in table.tokens.T:
        rng.shuffle(tokens)
    assert_kept(encoder.inverse_transform(table, None), bounded.schema)


def test_rules_hold_whatever_is_asked_for(bounded: RealTable) -> None:
    config = RunConfig.build({"train": {"steps": 20, "critic_steps": 0, "width": 16, "depth": 1}})
    fitted = Synthesizer.fit(bounded, config=config, seed=0, device="cpu")
    real, schema = bounded.data.head(300), bounded.schema
    assert_kept(fitted.sample(500, seed=1, where=["a >= 7", "each <= 11.11"]).data, schema)
    for names in (["t"], ["a"], ["t", "c"], ["sum"], ["n"], ["sum", "each"]):
        [made] = fitted.complete(real[names], seed=0)
        assert_kept(made, schema)
        pd.testing.assert_frame_equal(made[names], real[names])
    [varied] = fitted.complete(real, seed=0, vary=0.5)
    assert_kept(varied, schema)
    gaps = real.mask(np.random.default_rng(2).random(real.shape) < 0.3)
    for multiple in (None, 1):
        [filled] = fitted.impute(gaps, seed=0, multiple=multiple)
        assert_kept(filled, schema)


def test_a_total_and_the_part_that_is_learnt_are_missing_together() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.integers(0, 3, (400, 2)), columns=list("ab"), dtype=float)
    frame["t"] = frame["a"] + frame["b"]
    frame.loc[:99] = NONE
    declared = schema(Constraint(kind="sum", columns=("t", "a", "b")))
    declared = replace(declared, columns=NUMBERS[:3])
    encoder = TableEncoder.fit(frame, declared, EncodeConfig(), seed=0)
    [difference] = encoder.relations
    assert isinstance(difference, Difference)
    assert {p.column for p in encoder.parts} == {difference.total, difference.other}
    assert encoder.absences.tolist() == [[False, True], [True, False]]


def test_the_real_table_of_a_rule_has_it_in_its_type(sales: Path) -> None:
    declared = with_rules(sales)
    table = conform(open_source(str(sales), declared).batches(), declared)
    assert isinstance(table, RealTable)
    assert table.schema.constraints == DECLARED
