"""Declared rules between columns under differential privacy: kept, and no row is asked for them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from synthgen.config import RunConfig
from synthgen.constraints import broken
from synthgen.dp.domain import check_public, domains, modelled
from synthgen.encode.amounts import Grid
from synthgen.encode.groups import Combined, Within
from synthgen.encode.relations import Difference, Excess, Gap, Lookup, Product, Sum
from synthgen.errors import ConfigError
from synthgen.schema import Column, Constraint, TableSchema
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable

N = 2_000
#: City and country, with the cities that a country has.
PLACES = (("oslo", "no"), ("bergen", "no"), ("rome", "it"), ("", "it"))


def number(name: str, maximum: float, *, nullable: bool = False) -> Column:
    return Column(
        name=name, kind="numeric", minimum=0, maximum=maximum, decimals=0, nullable=nullable
    )


def day(name: str, *, nullable: bool = False) -> Column:
    bounds = {"minimum": "2020-01-01", "maximum": "2020-12-31"}
    return Column(name=name, kind="datetime", resolution="day", nullable=nullable, **bounds)


SCHEMA = TableSchema(
    name="rules",
    columns=(
        number("living", 400),
        number("above", 300),
        number("below", 100),
        number("low", 50, nullable=True),
        number("high", 90),
        number("days", 60),
        number("hours", 1_440),
        Column(name="city", kind="categorical", categories=("bergen", "oslo", "rome"),
               nullable=True),
        Column(name="country", kind="categorical", categories=("it", "no")),
        day("arrived"),
        day("left", nullable=True),
        number("fare", 99),
    ),
    constraints=(
        Constraint(kind="sum", columns=("living", "above", "below")),
        Constraint(kind="order", columns=("low", "high")),
        Constraint(kind="product", columns=("hours", "days"), value=24),
        Constraint(kind="combinations", columns=("city", "country"), allowed=PLACES),
        Constraint(kind="order", columns=("arrived", "left")),
        Constraint(kind="range", columns=("fare", "country"),
                   bounds=(("it", 0.0, 40.0), ("no", 30.0, 99.0))),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def table() -> RealTable:
    rng = np.random.default_rng(0)
    above, below = rng.integers(20, 300, N), rng.integers(0, 100, N)
    low, days = rng.integers(0, 50, N).astype(float), rng.integers(0, 60, N)
    place = [PLACES[i] for i in rng.integers(0, len(PLACES), N)]
    arrived = pd.Series(pd.Timestamp("2020-02-01") + pd.to_timedelta(rng.integers(0, 90, N), "D"))
    left = arrived + pd.to_timedelta(rng.integers(0, 30, N), "D")
    high = low + rng.integers(0, 41, N)
    low[:200] = np.nan
    is_it = np.array([country == "it" for _, country in place])
    frame = pd.DataFrame(
        {
            "living": above + below,
            "above": above,
            "below": below,
            "low": low,
            "high": high,
            "days": days,
            "hours": 24 * days,
            "city": pd.Series([city or None for city, _ in place], dtype="str"),
            "country": pd.Series([country for _, country in place], dtype="str"),
            "arrived": arrived.astype("datetime64[us]"),
            "left": left.astype("datetime64[us]").where(rng.random(N) > 0.1),
            "fare": np.where(is_it, rng.integers(0, 41, N), rng.integers(30, 100, N)),
        }
    )
    numbers = {c.name: "float64" for c in SCHEMA.columns if c.kind == "numeric"}
    return RealTable(SCHEMA, frame.astype(numbers))


def test_relations_are_those_of_the_schema_and_the_rest_has_bounds() -> None:
    relations, left = modelled(SCHEMA)
    kinds = [type(r) for r in relations]
    assert kinds == [Within, Difference, Excess, Product, Combined, Lookup, Gap]
    grids = (Grid(0, 0.0, 400.0), Grid(0, 0.0, 100.0))
    assert relations[1] == Difference("above", "living", "below", 0, 0.0, 300.0, grids)
    by_name = {c.name: c for c in left}
    assert set(by_name) == {"living", "below", "low", "high", "days", "city", "arrived", "left",
                            "fare"}  # fmt: skip
    # without `low` a row's `high` is modelled as it is: 0 to 90
    assert (by_name["high"].minimum, by_name["high"].maximum) == (0, 90)
    assert (by_name["left"].minimum, by_name["left"].maximum) == (0, 365)
    assert by_name["left"].nullable
    sizes = {d.column: d.size for d in domains(SCHEMA) if d.levels is None}
    assert (sizes["high"], sizes["left"]) == (91, 366)
    columns = tuple(replace(c, nullable=c.name == "arrived") for c in SCHEMA.columns)
    (left_alone,) = (c for c in modelled(replace(SCHEMA, columns=columns))[1] if c.name == "left")
    # without `arrived` days count from the middle of its bounds: half a year either way
    assert (left_alone.minimum, left_alone.maximum) == (-183, 365)
    assert not left_alone.nullable
    (city,) = (d for d in domains(SCHEMA) if d.column == "city")
    assert city.levels == (
        '["bergen", "no"]',
        '["oslo", "no"]',
        '["rome", "it"]',
        '[null, "it"]',
    )


def test_what_may_be_missing_derives_the_total() -> None:
    columns = tuple(replace(c, nullable=True) for c in SCHEMA.columns[:3])
    schema = TableSchema(name="s", columns=columns, constraints=SCHEMA.constraints[:1])
    grids = (Grid(0, 0.0, 300.0), Grid(0, 0.0, 100.0))
    assert modelled(schema)[0] == (
        Sum("living", ("above", "below"), 0, minimum=0.0, maximum=400.0, grids=grids),
    )


@pytest.mark.parametrize("engine", ["tree", pytest.param("network", marks=pytest.mark.slow)])
def test_no_drawn_row_breaks_a_rule(
    table: RealTable, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthgen.synthesizer.DP_PRETRAINING", 100)
    dp = {"epsilon": 8.0, "engine": engine, "steps": 20}
    config = RunConfig.build({"train": {"dp": dp, "width": 16, "depth": 1}})
    fitted = Synthesizer.fit_privately(table, config=config, seed=0, charge=lambda plan: None)
    drawn = fitted.sample(1_500, seed=1).data
    counts = {rule.kind: int(broken(rule, drawn, SCHEMA).sum()) for rule in SCHEMA.constraints}
    assert not any(counts.values()), counts
    # and what was counted is what the rows hold
    for name in ("living", "above", "high", "fare"):
        assert drawn[name].mean() == pytest.approx(table.data[name].mean(), rel=0.15), name
    stay = (drawn["left"] - drawn["arrived"]).dt.days
    assert stay.mean() == pytest.approx(14.5, rel=0.25)


def test_rules_that_leave_something_to_the_data_are_listed_with_their_remedy() -> None:
    rules = (
        Constraint(kind="lookup", columns=("city", "country")),
        Constraint(kind="range", columns=("fare", "country")),
        Constraint(kind="order", columns=("low", "high")),
    )
    with pytest.raises(ConfigError) as caught:
        check_public(replace(SCHEMA, constraints=rules))
    text = str(caught.value)
    assert "city -> country: which pairs there are" in text
    assert "bounds of fare by country: list the bounds" in text
    assert "low <= high" not in text
