"""Logarithms, squares and other units of a column are computed, not learnt."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from synthgen.encode.functions import FORMS, Function, Precision
from synthgen.encode.relations import from_json, reduce
from synthgen.encode.search import find, proposed
from synthgen.schema import Column, TableSchema

RNG = np.random.default_rng(0)
N = 1_000
AGE = RNG.integers(18, 90, N).astype(float)
PAY = (RNG.lognormal(7, 0.5, N) + 1).round(2)


def number(name: str, decimals: int | None) -> Column:
    return Column(name=name, kind="numeric", decimals=decimals, nullable=True)


@pytest.mark.parametrize(
    ("values", "decimals", "form", "slope", "intercept"),
    [
        (AGE * AGE, 0, "square", 1.0, 0.0),
        ((AGE - 43.2).round(1), 1, "line", 1.0, -43.2),
        (np.log(AGE), None, "log", 1.0, 0.0),
        (np.log(AGE).astype(np.float32).astype(float), None, "log", 1.0, 0.0),
        (np.array([float(f"{np.float32(x):.15g}") for x in np.log(AGE)]), None, "log", 1.0, 0.0),
        (np.array([float(f"{x:.15g}") for x in np.log(AGE)]), None, "log", 1.0, 0.0),
        (np.array([float(f"{x:.7g}") for x in AGE**2 / 7]), 6, "square", 1 / 7, 0.0),
        (np.log10(AGE).round(4), 4, "log10", 1.0, 0.0),
        (((AGE - 32) / 1.8).round(2), 2, "line", 5 / 9, -32 / 1.8),
        (np.log1p(AGE).round(6), 6, "log1p", 1.0, 0.0),
        ((1_000 / AGE).round(3), 3, "reciprocal", 1_000.0, 0.0),
        (np.sqrt(AGE).round(5), 5, "sqrt", 1.0, 0.0),
    ],
)
@pytest.mark.parametrize("missing", [0, 100])
def test_a_function_is_found_and_exact(
    values: np.ndarray, decimals: int | None, form: str, slope: float, intercept: float,
    missing: int,
) -> None:  # fmt: skip
    frame = pd.DataFrame({"y": values, "x": AGE, "other": PAY})
    frame.loc[: missing - 1, ["x", "y"]] = np.nan
    columns = number("y", decimals), number("x", 0), number("other", 2)
    (found,) = find(frame, columns, min_rows=10)
    assert isinstance(found, Function)
    assert (found.derived, found.source, found.form) == ("y", "x", form)
    assert found.intercept == pytest.approx(intercept, abs=0.01)
    assert found.slope == pytest.approx(slope, rel=1e-6)
    back, left = reduce([from_json(found.to_json())], frame, columns)
    assert [c.name for c in left] == ["x", "other"]
    found.restore(back)
    np.testing.assert_array_equal(back["y"], frame["y"])  # to the last digit
    assert not found.broken(back).any()
    assert not proposed(frame, TableSchema(name="t", columns=columns), min_rows=10)


def test_one_row_that_is_off_breaks_it() -> None:
    frame = pd.DataFrame({"y": np.log(PAY).round(4), "x": PAY})
    frame.loc[7, "y"] += 0.001
    assert not find(frame, (number("y", 4), number("x", 2)), min_rows=10)


def test_few_values_and_noise_are_no_function() -> None:
    few = (AGE > 40).astype(float)
    near = (2 * PAY + RNG.normal(0, 1, N)).round(2)
    for y, x in ((few, AGE), (near, PAY)):
        frame = pd.DataFrame({"y": y, "x": x})
        assert not find(frame, (number("y", 2), number("x", 2)), min_rows=10)


def test_a_cent_more_is_another_amount() -> None:
    fee = RNG.integers(0, 2, N) / 100
    frame = pd.DataFrame({"y": (20_000 + PAY + fee).round(2), "x": 20_000 + PAY})
    assert not find(frame, (number("y", 2), number("x", 2)), min_rows=10)


def test_what_is_small_beside_the_largest_is_not_lost() -> None:
    x = RNG.integers(0, 100_000, N).astype(float)
    y = 1e12 + x + (RNG.random(N) < 0.3) * 0.01
    frame = pd.DataFrame({"x": x, "y": y})
    assert not find(frame, (number("x", 0), number("y", None)), min_rows=10)


def test_a_sum_of_a_function_is_still_a_sum() -> None:
    used, other = RNG.integers(10, 90, N) * 1.0, RNG.integers(1, 1_000, N) * 1.0
    frame = pd.DataFrame({"used": used, "rest": 100 - used, "other": other})
    frame["total"] = frame["rest"] + other
    columns = tuple(number(name, 0) for name in frame)
    found = find(frame, columns, min_rows=10)
    assert len(found) == 2
    back, _ = reduce(found, frame, columns)
    for relation in reversed(found):
        relation.restore(back)
    pd.testing.assert_frame_equal(back[list(frame)], frame)


def test_a_known_source_without_a_logarithm_stays_and_the_cell_is_missing() -> None:
    frame = pd.DataFrame({"x": [0.0, -1.0, 5.0]})
    known = pd.DataFrame({"x": [True, True, True], "y": [False] * 3})
    Function("y", "x", "log", 1.0, 0.0).restore(frame, known)
    assert frame["x"].tolist() == [0.0, -1.0, 5.0]
    assert frame["y"].isna().tolist() == [True, True, False]


def test_a_chain_is_computed_from_its_start() -> None:
    log = np.log(PAY).round(6)
    frame = pd.DataFrame({"squared": (log**2).round(6), "log": log, "pay": PAY})
    columns = number("squared", 6), number("log", 6), number("pay", 2)
    found = find(frame, columns, min_rows=10)
    assert [r.derived for r in found] == ["squared", "log"]
    back, _ = reduce(found, frame, columns)
    for relation in reversed(found):
        relation.restore(back)
    np.testing.assert_allclose(back[["squared", "log"]], frame[["squared", "log"]], atol=2e-6)


def test_what_has_no_logarithm_is_moved_to_what_has() -> None:
    frame = pd.DataFrame({"x": [0.0, 1.0, np.e, np.nan]})
    Function("y", "x", "log", 1.0, 0.0, Precision(6)).restore(frame)
    assert frame["y"].tolist()[:3] == [0.0, 0.0, 1.0]
    assert frame["x"].tolist()[:3] == [1.0, 1.0, np.e]
    assert frame.iloc[3].isna().all()


def test_a_known_value_says_its_source_and_stays() -> None:
    square = Function("y", "x", "square", 1.0, 0.0, Precision(0))
    frame = pd.DataFrame({"y": [49.0, 50.0, 9.0], "x": [1.0, 1.0, 5.0]})
    known = pd.DataFrame({"y": [True, True, False], "x": [False, False, True]})
    square.solve(frame, known)
    assert frame["x"].round(3).tolist() == [7.0, 7.071, 5.0]
    assert known["x"].all()
    given = frame["y"].copy()
    square.restore(frame)
    square.settle(frame, given, known)
    assert frame["y"].tolist() == [49.0, 50.0, 25.0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("slope", [2.0, -0.5])
def test_ends_of_the_source_hold_all_that_the_function_makes(form: str, slope: float) -> None:
    function = Function("y", "x", form, slope, 1.0, Precision(2))
    frame = pd.DataFrame({"x": RNG.uniform(0.2, 3, N)})
    function.restore(frame)
    low, high = frame["y"].quantile([0.4, 0.6])
    inside = frame["x"][frame["y"].between(low, high)]
    ends = function.source_ends(low, high)
    assert ends is not None
    assert ends[0] <= inside.min()
    assert inside.max() <= ends[1]
    assert frame["x"].between(*ends).sum() < (0.7 if form == "square" else 0.3) * N
