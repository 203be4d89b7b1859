"""Conditions that cannot be met: the error names column, rule, counts and the nearest possible."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from synthgen.ask import impossible
from synthgen.ask.conditions import parse
from synthgen.encode.categorical import CategoricalEncoder
from synthgen.encode.numeric import NumericEncoder
from synthgen.encode.table import Part
from synthgen.errors import ConfigError, DataError
from synthgen.schema import Column, TableSchema
from synthgen.synthesizer import Synthesizer

SCHEMA = TableSchema(
    name="t",
    columns=(
        Column(name="ward", kind="categorical", categories=("surgery", "internal", "Intensive")),
        Column(name="town", kind="categorical", nullable=True),
        Column(name="rooms", kind="numeric", decimals=0, nullable=True),
        Column(name="age", kind="numeric", decimals=0, minimum=0, maximum=120),
        Column(name="day", kind="datetime", resolution="day", minimum="2024-01-01"),
    ),
)
ROOMS = NumericEncoder.fit(np.repeat([1.0, 2.0, 5.0], 20), decimals=0)
TOWNS = CategoricalEncoder.fit(pd.Series(["Rome", "Oslo", "rare"], dtype="str").repeat([20, 15, 2]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ward = sugery", "none of the 3 that the schema declares; nearest: 'surgery'"),
        ("ward in (surgery, INTENSIVE)", "nearest: 'Intensive'"),
        ("ward = zzz", "declares: 'surgery', 'internal', 'Intensive'"),
        ("wrad = surgery", "not in the schema; nearest: 'ward'; it has ward, town"),
        ("age < 0", "below the declared minimum; the nearest possible: age <= 0"),
        ("age > 120", "above the declared maximum; the nearest possible: age >= 120"),
        ("day < 2024-01-01", "the nearest possible: day <= 2024-01-01"),
    ],
)
def test_what_the_schema_excludes_says_what_it_declares(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text, SCHEMA)


@pytest.mark.parametrize("text", ["age <= 0", "age >= 120", "day <= 2024-01-01", "ward != surgery"])
def test_the_nearest_possible_is_possible(text: str) -> None:
    assert parse(text, SCHEMA).column == text.split()[0]


def no_level(text: str) -> str:
    condition = parse(text, SCHEMA)
    part = Part(condition.column, "value", ROOMS if condition.column == "rooms" else TOWNS)
    return str(impossible.no_level(part, [condition], SCHEMA.column(condition.column), []))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rooms > 5", "it knows values from 1 to 5"),
        ("rooms < 1", "it knows values from 1 to 5"),
        ("rooms = 3", "it knows values from 1 to 5, the nearest are 2 and 5"),
        ("rooms is null", "no row that it learnt from was missing"),
        ("town = Nice", "it knows 2 levels (a value held by too few rows is not kept), 0 of them"),
        ("town = oslo", "1 of them written nearly so"),
        ("town is null", "no row that it learnt from was missing"),
    ],
)
def test_what_the_generator_does_not_know(text: str, message: str) -> None:
    said = no_level(text)
    assert message in said
    for level in ("Rome", "Oslo", "rare"):  # held by rows, declared by nobody
        assert level not in said


def test_what_rows_say_together_by_hand() -> None:
    """60 rows: rooms 0 to 59; town 'a' on the first 20. rooms >= 50 leaves none of these."""
    rows = pd.DataFrame(
        {"rooms": np.arange(60.0), "town": pd.Series(["a"] * 20 + ["b"] * 40, dtype="str")}
    )
    conditions = [parse(t, SCHEMA) for t in ("rooms >= 50", "town = a")]
    assert impossible.together(rows, conditions, SCHEMA) == (
        "of 60 rows drawn without conditions 0 satisfy all of them; "
        "without those on 'rooms' 20 do (the nearest possible: rooms >= 10); "
        "without those on 'town' 10 do"
    )


def test_a_draw_names_what_the_schema_declares(tiny_synthesizer: Synthesizer) -> None:
    with pytest.raises(ConfigError, match=r"'ward': .* nearest: 'surgery'"):
        tiny_synthesizer.sample(5, seed=0, where=["ward = surgeri"])


@pytest.mark.slow
def test_a_combination_without_mass_says_what_to_drop(tiny_synthesizer: Synthesizer) -> None:
    where = ["length_of_stay >= 199", "emergency = yes"]
    with pytest.raises(DataError, match=r"only 0 of 1\d\d,\d{3} drawn rows") as caught:
        tiny_synthesizer.sample(5, seed=0, where=where)
    assert "without those on 'emergency' 0 do" in str(caught.value)
    assert "the nearest possible: length_of_stay >= " in str(caught.value)
