"""Bounds and categories that no schema declares: found by noisy counts, and charged."""

import itertools

import numpy as np
import pandas as pd
import pytest

from synthgen.config import RunConfig
from synthgen.dp.accountant import Mechanism, epsilon
from synthgen.dp.domain import OPEN_HALF, check_public, cut, domains, stable_levels
from synthgen.dp.noise import Noise, stability_threshold
from synthgen.dp.release import plan
from synthgen.errors import ConfigError
from synthgen.schema import Column, TableSchema
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable

SCHEMA = TableSchema(
    name="open",
    columns=(
        Column(name="ward", kind="categorical", nullable=True),
        Column(name="age", kind="numeric", decimals=0),
        Column(name="pay", kind="numeric"),
        Column(name="seen", kind="datetime", resolution="day"),
        Column(name="well", kind="boolean"),
    ),
)
PRIVATE = {"epsilon": 4.0, "engine": "tree", "charge_metadata": True}


def table(n: int = 6_000) -> RealTable:
    rng = np.random.default_rng(0)
    ward = rng.choice(["north", "south"], n).astype(object)
    ward[0] = "a ward of one"
    age = rng.integers(18, 80, n).astype(float)
    age[0] = 1e9
    seen = pd.Timestamp("2024-03-01") + pd.to_timedelta(rng.integers(0, 200, n), unit="D")
    frame = pd.DataFrame(
        {
            "ward": pd.Series(ward, dtype="str"),
            "age": age,
            "pay": rng.lognormal(8, 0.5, n),
            "seen": pd.Series(seen).dt.as_unit("us"),
            "well": pd.Series(rng.random(n) < 0.8, dtype="boolean"),
        }
    )
    return RealTable(SCHEMA, frame)


def test_the_refusal_names_the_remedy_and_the_remedy_works() -> None:
    with pytest.raises(ConfigError, match="--charge-metadata") as caught:
        check_public(SCHEMA)
    assert all(f"column '{name}'" in str(caught.value) for name in ("ward", "age", "pay", "seen"))
    check_public(SCHEMA, charge_metadata=True)


def test_what_was_read_from_the_data_is_refused_all_the_same() -> None:
    column = Column(name="a", kind="categorical", categories=("x",), source="data")
    with pytest.raises(ConfigError, match="read from the data"):
        check_public(TableSchema(name="t", columns=(column,)), charge_metadata=True)


def test_both_are_mechanisms_of_the_one_event() -> None:
    asked = RunConfig.build({"train": {"dp": PRIVATE}}).train.dp
    assert asked is not None
    found = plan(SCHEMA, asked)
    assert found.mechanisms["categories"].count == 1
    assert found.mechanisms["categories"].delta == pytest.approx(1e-7)
    assert found.mechanisms["cells"].count == 3 * 5  # age, pay and days, five rounds each
    assert found.epsilon <= 4.0
    assert epsilon(list(found.mechanisms.values()), asked.delta) == pytest.approx(found.epsilon)


def test_a_stable_histogram_costs_its_counts_and_its_delta() -> None:
    counts = [Mechanism("counts", "discrete-gaussian", 20.0, 1)]
    stable = [Mechanism("levels", "stable-histogram", 20.0, 1, delta=4e-7)]
    # What is lost with probability 4e-7 is missing from delta.
    assert epsilon(stable, 1e-6) == pytest.approx(epsilon(counts, 6e-7), rel=1e-3)
    assert epsilon(stable, 3e-7) == float("inf")


def test_the_threshold_hides_a_value_of_one_row() -> None:
    # std .5: weights 1, e^-2, e^-8, sum 1.2713, so P(noise >= 1) = (.1353 + .0003) / 1.2713 = .1067
    assert stability_threshold(0.5, 0.11) == 2
    assert stability_threshold(0.5, 0.10) == 3
    runs = 20_000
    threshold = stability_threshold(5.0, 0.01)
    noise = Noise()
    shown = int((noise.counts(np.ones(runs, np.int64), 5.0) >= threshold).sum())
    assert shown <= 0.01 * runs + 4 * (0.01 * runs) ** 0.5


def test_levels_are_those_of_many_rows() -> None:
    values = pd.Series(["b"] * 500 + ["a"] * 400 + ["once"] + [None] * 50, dtype="str")
    noise = Noise()
    found = stable_levels(values, lambda c: noise.counts(c, 10.0), stability_threshold(10.0, 1e-7))
    assert found == ("a", "b")


def test_cells_of_an_open_line_lie_where_the_rows_are() -> None:
    (line,) = domains(
        TableSchema(name="t", columns=(Column(name="age", kind="numeric", decimals=0),)),
        charge_metadata=True,
    )
    rng = np.random.default_rng(0)
    noise = Noise()
    cells, _ = cut(
        np.r_[rng.integers(18, 80, 20_000).astype(float), 1e12],
        line,
        lambda c: noise.counts(c, 20.0),
        20.0,
        mass=800,
    )
    assert (cells[0][0], cells[-1][1]) == (0, 2 * OPEN_HALF)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(cells))
    inside = [(a, b) for a, b in cells if a >= OPEN_HALF + 18 and b <= OPEN_HALF + 80]
    assert len(inside) > 8


def test_a_table_without_declared_values_is_drawn_without_its_outliers() -> None:
    made = Synthesizer.fit_privately(
        table(),
        config=RunConfig.build({"train": {"dp": PRIVATE}}),
        seed=0,
        charge=lambda plan: None,
    )
    drawn = made.sample(4_000, seed=0).data
    assert set(drawn["ward"].dropna()) == {"north", "south"}
    assert drawn["age"].between(0, 120).mean() > 0.97  # tails are guessed; 1e9 is one row
    assert drawn["age"].between(-200, 400).all()
    assert drawn["age"].median() == pytest.approx(48.5, abs=3)
    assert (drawn["age"] % 1 == 0).all()
    assert drawn["pay"].median() == pytest.approx(np.exp(8), rel=0.1)
    assert drawn["seen"].median() == pytest.approx(
        pd.Timestamp("2024-06-08"), abs=pd.Timedelta(20, "D")
    )
    assert drawn["seen"].min() > pd.Timestamp("2015-01-01")
    assert drawn["seen"].max() < pd.Timestamp("2035-01-01")
