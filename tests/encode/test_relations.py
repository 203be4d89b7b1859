"""Columns that follow from others: found where planted, exact on every row, never by chance."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from synthgen.constraints import no_product
from synthgen.encode.amounts import Grid
from synthgen.encode.relations import (
    Difference,
    Gap,
    Lookup,
    Product,
    Relation,
    Sum,
    from_json,
    reduce,
)
from synthgen.encode.search import MIN_PROOF, find, proposed
from synthgen.schema import Column, Constraint, TableSchema

N = 600
RNG = np.random.default_rng(0)


def number(name: str, decimals: int | None = 0) -> Column:
    return Column(name=name, kind="numeric", decimals=decimals, nullable=True)


def text(name: str) -> Column:
    return Column(name=name, kind="categorical", nullable=True)


def date(name: str, **settings: str) -> Column:
    return Column(name=name, kind="datetime", nullable=True, **settings)  # type: ignore[arg-type]


def search(frame: pd.DataFrame, *columns: Column) -> tuple[Relation, ...]:
    return find(frame, columns, min_rows=10)


def restored(
    relations: tuple[Relation, ...], frame: pd.DataFrame, *columns: Column
) -> pd.DataFrame:
    """Leave the derived columns out and compute them again, from relations that went by JSON."""
    relations = tuple(from_json(json.loads(json.dumps(r.to_json()))) for r in relations)
    left, _ = reduce(relations, frame, columns)
    for relation in reversed(relations):
        relation.restore(left)
    return left[list(frame)]


# --- sums


def sums(missing: int = 0) -> tuple[pd.DataFrame, tuple[Column, ...]]:
    a, b = RNG.integers(0, 1_000, (2, N)) / 100
    frame = pd.DataFrame({"total": (a + b).round(2), "a": a, "b": b})
    frame.loc[: missing - 1, ["a", "total"]] = np.nan
    return frame, (number("total", 2), number("a", 2), number("b", 2))


@pytest.mark.parametrize("missing", [0, 50])
def test_a_sum_is_found_and_exact(missing: int) -> None:
    frame, columns = sums(missing)
    found = search(frame, *columns)
    # Where the three are missing together, the total and the smaller part are learnt.
    small, large = ("a", "b") if frame["a"].mean() < frame["b"].mean() else ("b", "a")
    cents = (Grid(2), Grid(2))
    rest = Difference(large, "total", small, 2, minimum=0.0, grids=cents)
    assert found == ((Sum("total", ("a", "b"), 2, grids=cents),) if missing else (rest,))
    left, kept = reduce(found, frame, columns)
    learnt = {"a", "b"} if missing else {"total", small}
    assert {c.name for c in kept} == set(left) == learnt
    pd.testing.assert_frame_equal(restored(found, frame, *columns), frame)


def test_a_rest_beyond_its_bounds_moves_the_total() -> None:
    frame = pd.DataFrame({"total": [5.0, 2.0, 9.0, np.nan], "basement": [1.0, 3.0, 0.0, np.nan]})
    Difference("above", "total", "basement", 0, minimum=1.0, maximum=8.0).restore(frame)
    assert frame["above"].tolist()[:3] == [4, 1, 8]
    assert frame["total"].tolist()[:3] == [5, 4, 8]
    assert frame.iloc[3].isna().all()


@pytest.mark.parametrize(("negative", "minimum"), [(3, 0.0), (50, None)])
def test_a_rest_is_negative_only_where_k_rows_are(negative: int, minimum: float | None) -> None:
    frame, columns = sums()
    frame.loc[: negative - 1, "b"] -= 1_000
    frame["total"] = (frame["a"] + frame["b"]).round(2)
    (found,) = search(frame, *columns)
    assert isinstance(found, Difference)
    assert (found.derived, found.minimum) == ("b", minimum)


def test_what_rounding_leaves_goes_to_the_other_part() -> None:
    frame = pd.DataFrame({"high": [62.1, 30.0, 5.0], "change": [4.154861, 30.41, 2.0]})
    Difference("low", "high", "change", 1, grids=(Grid(1), Grid(3))).restore(frame)
    assert frame["low"].tolist() == [57.9, -0.4, 3.0]
    assert frame["change"].tolist() == [4.2, 30.4, 2.0]


@pytest.mark.parametrize(("low", "change", "exact"), [(1, None, True), (0, 2, True), (0, 0, False)])
def test_a_part_is_derived_where_the_parts_have_the_digits_of_the_total(
    low: int, change: int | None, exact: bool
) -> None:
    values = RNG.integers(0, 80, N) * 1.0, RNG.integers(0, 40, N) * 1.0
    frame = pd.DataFrame({"high": values[0] + values[1], "low": values[0], "change": values[1]})
    columns = number("high", 1), number("low", low), number("change", change)
    (found,) = search(frame, *columns)
    assert isinstance(found, Difference if exact else Sum)


def test_of_a_sum_of_few_values_the_most_varied_is_derived() -> None:
    list_price, discount = RNG.choice([1.69, 1.99], N), RNG.choice([0.0, 0.1, 0.2, 0.3], N)
    paid = (list_price - discount).round(2)
    frame = pd.DataFrame({"list": list_price, "off": discount, "paid": paid})
    (found,) = search(frame, *(number(name, 2) for name in frame))
    assert found.derived == "paid"  # learnt prices are listed ones
    fee, base = RNG.choice([5.0, 9.0, 12.0], N), RNG.choice([100.0, 250.0, 270.0], N)
    frame = pd.DataFrame({"fee": fee, "base": base, "sum": fee + base})
    (found,) = search(frame, *(number(name) for name in frame))
    assert isinstance(found, Sum)
    assert found.derived == "sum"


def test_one_row_breaks_a_sum() -> None:
    frame, columns = sums()
    frame.loc[7, "total"] += 0.01
    assert search(frame, *columns) == ()


def test_a_sum_that_is_there_where_a_part_is_missing_is_none() -> None:
    frame, columns = sums()
    frame.loc[:50, "a"] = np.nan
    assert search(frame, *columns) == ()


def test_small_independent_numbers_are_no_sum() -> None:
    frame = pd.DataFrame(RNG.uniform(0, 1e-10, (N, 3)), columns=list("abc"))
    assert search(frame, *(number(c, None) for c in "abc")) == ()


def test_a_small_part_of_a_large_number_is_no_sum_by_tolerance() -> None:
    a = RNG.integers(10**14, 2 * 10**14, N).astype(float)
    b, c = a + 100 * RNG.integers(0, 5, N), RNG.integers(0, 5, N).astype(float)
    frame = pd.DataFrame({"a": a, "b": b, "c": c})
    assert search(frame, *(number(n, None) for n in "abc")) == ()


def test_a_part_that_the_total_swallows_is_not_derived() -> None:
    large, small = RNG.integers(1, 50, N) * 1e300, RNG.normal(0, 1, N)
    frame = pd.DataFrame({"total": large + small, "large": large, "small": small})
    columns = tuple(number(name, None) for name in frame)
    back = restored(search(frame, *columns), frame, *columns)
    pd.testing.assert_frame_equal(back, frame)


def test_a_sum_of_floats_as_they_come_is_found() -> None:
    a, b = RNG.normal(0, 1, (2, N))
    frame = pd.DataFrame({"a": a, "b": b, "t": a + b})
    columns = [number(n, None) for n in "abt"]
    (found,) = search(frame, *columns)
    back = restored((found,), frame, *columns)
    np.testing.assert_allclose(back, frame, rtol=0, atol=1e-12)


# --- factors


@pytest.mark.parametrize(("factor", "decimals"), [(3, 0), (0.25, 2), (-2, 1)])
def test_a_factor_is_found_and_exact(factor: float, decimals: int) -> None:
    x = RNG.integers(-500, 500, N).astype(float)
    x[:20] = np.nan
    frame = pd.DataFrame({"y": (x * factor).round(decimals), "x": x})
    columns = number("y", decimals), number("x")
    found = search(frame, *columns)
    assert found == (Product("y", ("x",), decimals, factor, grids=(Grid(0),)),)
    pd.testing.assert_frame_equal(restored(found, frame, *columns), frame)


def test_a_unit_conversion_is_found_through_its_rounding() -> None:
    minutes = RNG.integers(0, 100_000, N).astype(float)
    frame = pd.DataFrame({"days": (minutes / 1_440).round(2), "minutes": minutes})
    columns = number("days", 2), number("minutes")
    found = search(frame, *columns)
    assert found == (Product("days", ("minutes",), 2, 1 / 1_440, grids=(Grid(0),)),)
    pd.testing.assert_frame_equal(restored(found, frame, *columns), frame)


def test_one_row_breaks_a_factor() -> None:
    x = RNG.integers(1, 500, N).astype(float)
    frame = pd.DataFrame({"y": 3 * x, "x": x})
    frame.loc[3, "y"] += 3  # a factor of .333, rounded, would forgive less
    assert search(frame, number("y"), number("x")) == ()


@pytest.mark.parametrize(("shift", "halves"), [(0, "down"), (0.5, "up")])
def test_halves_are_restored_as_they_were_rounded(shift: float, halves: str) -> None:
    # 1 / 2 is 0 or 1, 3 / 2 is 1 or 2, and numpy rounds both to even.
    x = RNG.integers(0, 1_000, N).astype(float)
    frame = pd.DataFrame({"y": np.floor(x / 2 + shift), "x": x})
    columns = number("y"), number("x")
    for rules in ((), (Constraint(kind="product", columns=("y", "x"), value=0.5),)):
        found = find(frame, columns, min_rows=10, constraints=rules)
        assert [r.halves for r in found if isinstance(r, Product)] == [halves]
        pd.testing.assert_frame_equal(restored(found, frame, *columns), frame)


def test_a_half_may_be_rounded_either_way_by_a_rule() -> None:
    y, x = pd.Series([8.41, 8.42, 8.43]), pd.Series([99.0, 99.0, 99.0])  # .085 x 99 = 8.415
    assert no_product(y, [x], 2, 0.085).tolist() == [False, False, True]


def test_a_product_of_two_is_found_and_exact() -> None:
    pieces, price = RNG.integers(0, 20, N), RNG.integers(99, 9_999, N) / 100
    off = RNG.integers(5, 60, N).astype(float)
    frame = pd.DataFrame({"off": off, "pieces": pieces.astype(float), "price": price})
    frame["paid"] = (pieces * price).round(2)
    frame["saved"] = (frame["paid"] * off / 100).round(2)
    columns = tuple(number(name, 0 if name in ("off", "pieces") else 2) for name in frame)
    saved, paid = ("saved", ("off", "paid"), 0.01), ("paid", ("pieces", "price"), 1.0)
    for order in (columns, columns[::-1]):
        found = search(frame, *order)
        products = [r for r in found if isinstance(r, Product)]
        made = [(r.derived, tuple(sorted(r.parts)), r.factor) for r in products]
        assert made == [saved, paid]  # the last is computed first
        pd.testing.assert_frame_equal(restored(found, frame, *columns), frame)
    schema = TableSchema(name="t", columns=columns[1:4])
    (rule,) = proposed(frame, schema, min_rows=10)
    assert (rule.kind, rule.columns) == ("product", ("paid", "pieces", "price"))
    frame.loc[7, "paid"] += 0.01
    assert not search(frame[["pieces", "price", "paid"]], *columns[1:4])


# --- dates


def stays(zone: str | None = None) -> tuple[pd.DataFrame, tuple[Column, ...]]:
    start = pd.Timestamp("2023-01-01") + pd.to_timedelta(RNG.integers(0, 1_000, N), unit="D")
    end = start + pd.to_timedelta(RNG.integers(0, 20, N), unit="D")
    frame = pd.DataFrame({"end": end, "start": start}).astype("datetime64[us]")
    settings = {"resolution": "day"}
    if zone:
        frame = frame.apply(lambda s: s.dt.tz_localize(zone))
        settings["timezone"] = zone
    return frame, (date("end", **settings), date("start", **settings))


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_a_gap_is_found_and_exact(zone: str | None) -> None:
    frame, columns = stays(zone)
    found = search(frame, *columns)
    (gap,) = found
    assert isinstance(gap, Gap)
    assert gap == Gap("end", "start", 86_400_000_000, zone, gap.middle)
    left, kept = reduce(found, frame, columns)
    assert [c.kind for c in kept] == ["numeric", "datetime"]
    assert left["end"].between(0, 19).all()
    pd.testing.assert_frame_equal(restored(found, frame, *columns), frame)


def test_a_day_after_a_minute_is_exact() -> None:
    start = pd.Timestamp("2024-01-01") + pd.to_timedelta(RNG.integers(0, 525_600, N), unit="min")
    end = start.normalize() + pd.to_timedelta(RNG.integers(1, 10, N), unit="D")
    frame = pd.DataFrame({"start": start, "end": end}).astype("datetime64[us]")
    columns = date("start", resolution="minute"), date("end", resolution="day")
    found = search(frame, *columns)
    assert [r.derived for r in found] == ["end"]
    back = restored(found, frame, *columns)
    assert (back["end"] >= back["start"]).all()
    pd.testing.assert_frame_equal(back, frame)


def test_missing_ends_stay_missing() -> None:
    frame, columns = stays()
    frame.loc[:30, "end"] = pd.NaT
    frame.loc[:10, "start"] = pd.NaT
    found = search(frame, *columns)
    assert [type(r) for r in found] == [Gap]
    pd.testing.assert_frame_equal(restored(found, frame, *columns), frame)


def test_an_end_without_its_start_counts_from_the_middle_start() -> None:
    start = pd.Series(pd.date_range("2024-01-01", periods=101, unit="us"))
    end = start + pd.Timedelta("3D")
    frame = pd.DataFrame({"start": start.where(start.index != 100), "end": end})
    columns = date("start", resolution="day"), date("end", resolution="day")
    order = Constraint(kind="order", columns=("start", "end"))
    (gap,) = find(frame, columns, min_rows=10, constraints=[order])
    assert isinstance(gap, Gap)
    # the ten around the median of 100 days lie on days 45 to 54 after the first: 49.5 on average
    first = pd.Timestamp("2024-01-01")
    assert pd.Timestamp(gap.middle, unit="us") == first + pd.Timedelta("49.5D")
    left, _ = reduce([gap], frame, columns)
    assert left["end"].tolist() == [3.0] * 100 + [103.0 - 50]
    pd.testing.assert_frame_equal(restored((gap,), frame, *columns), frame)
    left.loc[100, "end"] = -7.0  # before the middle, but before no start
    gap.restore(left)
    assert left.loc[100, "end"] == first + pd.Timedelta("43D")


def test_one_row_breaks_an_order_of_dates() -> None:
    frame, columns = stays()
    frame.loc[5, "end"] = frame.loc[5, "start"] - pd.Timedelta("1D")
    assert search(frame, *columns) == ()


def test_a_negative_gap_is_none() -> None:
    frame, columns = stays()
    left, _ = reduce(search(frame, *columns), frame, columns)
    left["end"] = -3.0
    Gap("end", "start", 86_400_000_000).restore(left)
    assert (left["end"] == left["start"]).all()


def test_a_length_of_stay_is_a_factor_of_its_gap() -> None:
    frame, columns = stays()
    frame["days"] = (frame["end"] - frame["start"]).dt.days.astype(float)
    columns = (*columns, number("days"))
    found = search(frame, *columns)
    assert [type(r) for r in found] == [Gap, Product]
    pd.testing.assert_frame_equal(restored(found, frame, *columns), frame)


# --- look-ups


def grades() -> tuple[pd.DataFrame, tuple[Column, ...]]:
    codes = {"primary": 1.0, "secondary": 2.0, "higher": 3.0}
    level = RNG.choice(list(codes), N)
    frame = pd.DataFrame(
        {"code": [codes[v] for v in level], "level": pd.Series(level, dtype="str")}
    )
    return frame, (number("code"), text("level"))


def test_a_lookup_is_found_and_exact() -> None:
    frame, columns = grades()
    (found,) = search(frame, *columns)
    assert isinstance(found, Lookup)
    assert (found.derived, found.source) == ("code", "level")
    pd.testing.assert_frame_equal(restored((found,), frame, *columns), frame)


def test_a_missing_level_decides_too() -> None:
    frame, columns = grades()
    frame.loc[:40, "level"] = None
    frame.loc[:40, "code"] = np.nan
    found = search(frame, *columns)
    assert [type(r) for r in found] == [Lookup]
    pd.testing.assert_frame_equal(restored(found, frame, *columns), frame)


def test_a_level_can_decide_a_missing_boolean() -> None:
    level = pd.Series(RNG.choice(list("abc"), N), dtype="str")
    decided = level.map({"a": True, "b": False, "c": None}).astype("boolean")
    frame = pd.DataFrame({"k": level, "t": decided})
    columns = text("k"), Column(name="t", kind="boolean", nullable=True)
    found = search(frame, *columns)
    assert [r.derived for r in found] == ["t"]
    back = restored(found, frame, *columns).astype({"t": "boolean"})
    pd.testing.assert_frame_equal(back, frame)


def test_one_row_breaks_a_lookup() -> None:
    frame, columns = grades()
    frame.loc[9, "code"] = 4 - frame.loc[9, "code"] if frame.loc[9, "code"] != 2 else 1.0
    assert search(frame, *columns) == ()


def test_a_rare_level_is_not_kept_and_takes_the_commonest_value() -> None:
    frame, columns = grades()
    frame.loc[:3, "level"], frame.loc[:3, "code"] = "Dr. Roe", 77.0
    (found,) = search(frame, *columns)
    assert "Roe" not in json.dumps(found.to_json())
    assert "77" not in json.dumps(found.to_json())
    back = restored((found,), frame, *columns)
    assert (back["code"][:4] == frame["code"].mode()[0]).all()
    pd.testing.assert_frame_equal(back[4:], frame[4:])


# --- not by chance


@pytest.mark.parametrize("seed", range(5))
def test_independent_columns_have_no_relation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            **{f"n{i}": rng.integers(0, 5, N).astype(float) for i in range(6)},
            **{f"c{i}": pd.Series(rng.choice(list("abcdefgh"), N), dtype="str") for i in range(3)},
            "rare": np.where(rng.random(N) < 0.02, 1.0, 0.0),
            **{
                f"d{i}": pd.Timestamp("2020-01-01")
                + pd.to_timedelta(rng.integers(0, 1_000, N), unit="D").astype("timedelta64[us]")
                for i in range(2)
            },
        }
    )
    kinds = {"n": number, "r": number, "c": text, "d": date}
    assert search(frame, *(kinds[name[0]](name) for name in frame)) == ()


def test_few_rows_prove_nothing() -> None:
    frame, columns = sums()
    assert search(frame[: MIN_PROOF - 1], *columns) == ()
    assert len(search(frame[:MIN_PROOF], *columns)) == 1


def test_constants_are_no_sums() -> None:
    frame = pd.DataFrame({"a": np.zeros(N), "b": np.zeros(N), "c": RNG.normal(0, 1, N)})
    assert search(frame, *(number(c, None) for c in frame)) == ()


# --- rows that contradict


def test_which_rows_contradict_is_said_row_by_row() -> None:
    known = pd.DataFrame(
        {
            "a": [1.0, 1.0, np.nan, 2.0],
            "b": [2.0, 2.0, 1.0, np.nan],
            "t": [3.0, 4.0, np.nan, np.nan],
            "level": pd.Series(["x", "x", None, "rare"], dtype="str"),
            "flag": pd.Series([True, False, None, True], dtype="boolean"),
            "early": pd.to_datetime(["2024-01-02", "2024-01-02", None, "2024-01-02"]),
            "late": pd.to_datetime(["2024-01-03", "2024-01-01", "2024-01-01", None]),
        }
    )
    lookup = Lookup("flag", "level", ("x", None, "__rare__"), (True, None, False))
    cases: list[tuple[Relation, list[bool]]] = [
        (Sum("t", ("a", "b"), 0), [False, True, False, False]),
        (Sum("t", ("a", "b"), None), [False, True, False, False]),
        # missing together, or it is no difference
        (Difference("b", "t", "a", 0, None), [False, True, True, True]),
        (Product("b", ("a",), 0, 2.0), [False, False, True, True]),
        (lookup, [False, True, False, False]),
        (Gap("late", "early", 1.0), [False, True, False, False]),
    ]
    for relation, expected in cases:
        assert relation.broken(known).tolist() == expected, relation
