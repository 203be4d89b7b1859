"""Numbers: cells that a person can work out, exact round trips, and no number of a single row."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from synthgen.encode.column import Codes
from synthgen.encode.numeric import REACH, NumericEncoder
from synthgen.errors import RejectColumn

NAN = np.nan


def fit(values: Any, **settings: Any) -> NumericEncoder:
    return NumericEncoder.fit(np.asarray(values, np.float64), **{"decimals": 0, **settings})


def round_trip(encoder: NumericEncoder, values: Any) -> np.ndarray:
    return encoder.decode(encoder.encode(np.asarray(values, np.float64)), None)


def held(encoder: NumericEncoder, values: np.ndarray) -> np.ndarray:
    """Whether a cell holds the value: what lies between cells goes to the nearest."""
    inside = (values[:, None] >= encoder.lower) & (values[:, None] <= encoder.upper)
    return np.asarray(inside.any(axis=1))


def reloaded(encoder: NumericEncoder) -> NumericEncoder:
    return NumericEncoder.from_json(json.loads(json.dumps(encoder.to_json(), allow_nan=False)))


def test_values_with_k_rows_are_levels_of_their_own() -> None:
    encoder = fit([0] * 10 + [1] * 20 + [NAN] * 10)
    assert encoder.lower.tolist() == encoder.upper.tolist() == [0, 1]
    assert encoder.prior.tolist() == [10 / 40, 10 / 40, 20 / 40]
    codes = encoder.encode(np.array([1.0, NAN, 0.0]))
    assert codes.coarse.tolist() == [2, 0, 1]
    assert codes.fine is None
    assert codes.offset is not None
    assert codes.offset.tolist() == [0.5, 0.5, 0.5]
    np.testing.assert_array_equal(encoder.decode(codes, None), [1, NAN, 0])


def test_values_with_fewer_rows_are_merged_to_an_interval() -> None:
    # Ten zeros are kept. 1..12 have a row each: together an interval, which starts beside the zero.
    encoder = fit([0] * 10 + list(range(1, 13)))
    assert encoder.lower.tolist() == [0, 0.5]
    assert encoder.upper[0] == 0
    assert encoder.counts.tolist() == [0, 10, 12]
    np.testing.assert_array_equal(round_trip(encoder, range(12)), range(12))
    # Its twelve rows lie 6 away from 0.5 on average, and so do those of uniform offsets.
    uniform = Codes(np.full(10_001, 2, np.int32), None, np.linspace(0, 1, 10_001, dtype=np.float32))
    assert encoder.decode(uniform, None).mean() == pytest.approx(0.5 + 6, abs=0.2)


def test_values_that_fill_no_cell_go_to_the_nearest() -> None:
    encoder = fit([0] * 10 + [100] * 40 + [40, 1_000])
    assert encoder.lower.tolist() == encoder.upper.tolist() == [0, 100]
    assert round_trip(encoder, [40, 60, 1_000, -5]).tolist() == [0, 100, 100, 0]


def test_a_light_outermost_value_and_the_few_rows_beyond_it_are_a_tail() -> None:
    # Bedrooms: eight of 11 rows, then nine, ten and eleven of six rows together.
    encoder = fit([3] * 100 + [8] * 11 + [9] * 3 + [10] * 2 + [11])
    assert encoder.lower.tolist() == [3, 7.5]
    assert encoder.counts.tolist() == [0, 100, 17]
    assert encoder.upper[-1] in (9.5, 10.5, 11.5)
    uniform = Codes(np.full(9_999, 2, np.int32), None, np.linspace(0, 1, 9_999, dtype=np.float32))
    drawn = encoder.decode(uniform, None)
    assert drawn.mean() == pytest.approx((8 * 11 + 9 * 3 + 10 * 2 + 11) / 17, abs=0.2)
    assert drawn.min() == 8


def test_a_constant_is_one_level() -> None:
    encoder = fit([7.5] * 50, decimals=1)
    assert encoder.prior.tolist() == [0, 1]
    assert round_trip(encoder, [7.5, 7.5]).tolist() == [7.5, 7.5]


def test_all_missing() -> None:
    encoder = fit([NAN] * 30)
    assert encoder.prior.tolist() == [1]
    assert np.isnan(round_trip(encoder, [NAN, NAN])).all()
    assert np.isnan(round_trip(reloaded(encoder), [NAN])).all()


def test_no_rows() -> None:
    encoder = fit([])
    assert encoder.prior.tolist() == [1]
    assert encoder.decode(encoder.encode(np.zeros(0)), None).tolist() == []


@pytest.mark.parametrize("values", [[1_234, 1_345, 1_456], [17] * 9, [0]])
def test_fewer_than_k_known_rows_leave_nothing(values: list[float]) -> None:
    encoder = fit([*values, *[NAN] * 50])
    assert encoder.lower.tolist() == []
    assert encoder.prior.tolist() == [1]
    assert np.isnan(round_trip(encoder, values)).all()


@pytest.mark.parametrize(("bounds", "kept"), [((None, None), 0), ((15, 20), 15), ((3, None), 3)])
def test_too_few_rows_for_any_number_leave_a_public_one(
    bounds: tuple[float | None, float | None], kept: float
) -> None:
    encoder = fit([17, 18, 19], bounds=bounds)
    assert encoder.lower.tolist() == encoder.upper.tolist() == [kept]


def test_fewer_than_k_missing_values_are_the_heaviest_cell() -> None:
    encoder = fit([1] * 30 + [2] * 10 + [NAN] * 9)
    assert encoder.counts.tolist() == [0, 39, 10]
    assert round_trip(encoder, [NAN, 2]).tolist() == [1, 2]


def test_a_narrow_spread_far_from_zero() -> None:
    # Seconds since 1970 within a quarter of an hour.
    values = 1.7e9 + np.random.default_rng(9).uniform(0, 1_000, 2_000)
    encoder = fit(values, decimals=None)
    inside = values[held(encoder, values)]
    assert len(inside) > 1_900
    np.testing.assert_allclose(round_trip(encoder, inside), inside, rtol=0, atol=0.001)


def test_infinity_is_rejected() -> None:
    with pytest.raises(RejectColumn, match="infinite"):
        fit([1, np.inf])


@pytest.mark.parametrize("decimals", [0, 1, 2, 4])
def test_decimals_come_back_exactly(decimals: int) -> None:
    rng = np.random.default_rng(0)
    values = np.round(rng.normal(50, 10, 3_000), decimals)
    encoder = fit(values, decimals=decimals)
    inside = values[held(encoder, values)]
    assert len(inside) > 2_700
    np.testing.assert_array_equal(round_trip(encoder, inside), inside)
    near = round_trip(encoder, values) - values
    assert (np.abs(near) <= 10.0**-decimals + 1e-9).mean() > 0.99


def test_floats_as_they_come_are_within_float32_of_their_cell() -> None:
    values = np.random.default_rng(1).normal(0, 1, 3_000)
    encoder = fit(values, decimals=None)
    inside = values[held(encoder, values)]
    np.testing.assert_allclose(round_trip(encoder, inside), inside, atol=1e-6)


def test_heavy_tails_come_back_up_to_their_end() -> None:
    values = np.round(np.random.default_rng(2).pareto(1.5, 5_000) * 1_000, 2)
    encoder = fit(values, decimals=2)
    far = np.sort(values)[-100:]
    back = round_trip(encoder, far)
    # Only what lies beyond the largest value that so many draws would reach is cut.
    kept = far <= encoder.upper[-1]
    assert kept.sum() >= 90
    np.testing.assert_allclose(back[kept], far[kept], rtol=1e-5, atol=0.01)
    assert (back[~kept] == np.floor(encoder.upper[-1] * 100) / 100).all()


def test_a_far_left_tail_mirrors_a_right_one() -> None:
    values = np.random.default_rng(3).pareto(1.5, 2_000)
    right, left = fit(values, decimals=None), fit(-values, decimals=None)
    assert left.lower[0] == pytest.approx(-right.upper[-1], rel=1e-5)
    far = np.sort(values)[-50:]
    np.testing.assert_allclose(round_trip(left, -far), -round_trip(right, far), rtol=1e-3)


@pytest.mark.parametrize("draw", ["normal", "pareto", "uniform"])
def test_no_bound_is_a_value_of_fewer_than_k_rows(draw: str) -> None:
    rng = np.random.default_rng(4)
    values = {
        "normal": rng.normal(0, 1, 2_000),
        "pareto": rng.pareto(1.1, 2_000),
        "uniform": rng.uniform(-1, 1, 2_000),
    }[draw].round(9)
    encoder = fit(values, decimals=None)
    kept = np.concatenate([encoder.lower, encoder.upper])
    assert not np.isin(kept, values).any()
    for extreme in (values.min(), values.max()):
        assert str(extreme) not in json.dumps(encoder.to_json())


def test_an_interval_beside_a_missing_share_keeps_its_count() -> None:
    values = np.r_[np.random.default_rng(5).normal(0, 1, 900), np.full(100, NAN)]
    assert fit(values, decimals=None).prior[0] == pytest.approx(0.1)


def test_many_cells_make_two_tokens_of_equal_mass() -> None:
    values = np.random.default_rng(6).normal(0, 1, 20_000)
    encoder = fit(values, decimals=None, bins=16)
    assert encoder.n_fine > 1
    assert encoder.n_levels == 17
    np.testing.assert_allclose(encoder.prior[1:], 1 / 16, atol=0.01)
    fine = encoder.fine_prior
    assert fine is not None
    np.testing.assert_allclose(fine.sum(axis=1), 1)


def test_a_heavy_value_is_a_level_beside_the_bins() -> None:
    values = np.r_[np.zeros(5_000), np.random.default_rng(7).exponential(100, 15_000).round(4)]
    encoder = fit(values, decimals=4, bins=16)
    codes = encoder.encode(np.array([0.0, 100.0]))
    assert encoder.prior[codes.coarse[0]] == pytest.approx(0.25, abs=0.001)
    assert encoder.decode(codes, None).tolist() == [0.0, 100.0]


def test_rounding_habits_are_restored() -> None:
    # 60 % of the salaries are multiples of 1,000, 25 % of 100 only, the rest are as they come.
    rng = np.random.default_rng(8)
    salaries = np.exp(rng.normal(10.5, 0.6, 20_000))
    step = rng.choice([1_000, 100, 1], 20_000, p=[0.60, 0.25, 0.15])
    salaries = np.round(salaries / step) * step
    encoder = fit(salaries, bins=32)
    codes = encoder.encode(salaries)
    drawn = Codes(codes.coarse, codes.fine, rng.random(20_000).astype(np.float32))
    made = encoder.decode(drawn, rng)
    for multiple in (10, 100, 1_000):
        real, new = (salaries % multiple == 0).mean(), (made % multiple == 0).mean()
        # A lone value between two round ones joins them, so a little more is round than was.
        assert new == pytest.approx(real, abs=0.04)
    assert (made == np.round(made)).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_whose_sums_and_squares_are_too_large(sign: int) -> None:
    rng = np.random.default_rng(10)
    values = sign * rng.uniform(0.1, 1, 2_000) * 10.0 ** rng.integers(0, 308, 2_000)
    back = round_trip(fit(values, decimals=None), values)
    assert np.isfinite(back).all()
    assert (np.sign(back) == sign).all()


def test_a_hundred_orders_of_magnitude() -> None:
    values = np.sort(np.r_[10.0 ** np.arange(0, 100), 10.0 ** np.arange(0, 100), np.zeros(30)])
    encoder = fit(values, decimals=None)
    back = round_trip(encoder, values)
    assert np.isfinite(back).all()
    assert (np.diff(back) >= 0).all()
    assert (back[values == 0] == 0).all()


def test_no_cell_has_fewer_than_k_rows_whatever_the_ties() -> None:
    # Values of up to nine rows, around which every mean of ten lies.
    rng = np.random.default_rng(11)
    values = np.repeat(rng.integers(0, 10**6, 900), rng.integers(1, 10, 900)).astype(float)
    encoder = fit(values)
    assert encoder.counts[1:].min() >= 10
    assert encoder.counts[1:].sum() == len(values)


def test_numbers_of_many_digits_beside_one_heavy_value_keep_their_cells() -> None:
    rng = np.random.default_rng(0)
    rest = np.round(rng.uniform(0.8, 0.98, 400), 9)
    values = np.r_[np.full(1_500, 1.0), rest]  # quartiles all 1: nothing is told by their distance
    back = round_trip(fit(values, decimals=None), values)
    np.testing.assert_allclose(np.sort(back), np.sort(values), atol=0.01)


def test_boundaries_lie_half_way_between_what_the_column_can_hold() -> None:
    values = np.random.default_rng(12).normal(0, 10, 5_000).round(1)
    for decimals in (1, None):  # declared or seen
        encoder = fit(values, decimals=decimals)
        inside = encoder.lower < encoder.upper
        ends = np.r_[encoder.lower[inside], encoder.upper[inside]]
        assert len(ends) > 50
        assert not np.isin(ends, values).any()
        assert not np.isin(ends, np.round(ends, 1)).any()


def test_a_unit_is_that_of_all_values_but_fewer_than_k() -> None:
    assert fit([10, 20, 30] * 400 + [7] * 9).unit == 10
    assert fit([10, 20, 30] * 400 + [7] * 10).unit == 1
    assert fit([10, 20, 30] * 20 + [7] * 9).unit == 1  # of 69 rows nine are not few


@pytest.mark.parametrize(
    ("decimals", "unit", "steps"),
    [
        (0, 1.0, (1, 5, 15, 30, 60)),
        (0, 5.0, (1, 3, 6, 12)),  # of 5 minutes: 5, 15, 30 and 60
        (0, 2.0, (1, 15, 30)),
        (1, 0.5, (1, 3, 6, 12)),
    ],
)
def test_steps_are_those_that_the_unit_divides(
    decimals: int, unit: float, steps: tuple[int, ...]
) -> None:
    values = unit * np.random.default_rng(13).integers(0, 1_000, 5_000)
    encoder = fit(values.round(decimals), decimals=decimals, steps=(1, 5, 15, 30, 60))
    assert (encoder.unit, encoder.steps) == (unit, steps)


def test_habits_of_fewer_than_k_rows_are_those_of_all() -> None:
    # Of two bins, one has nine multiples of 1,000: as many as nobody may tell.
    rng = np.random.default_rng(13)
    odd = 2 * rng.integers(5_000, 50_000, 3_000) + 1
    nine = 1_000 * rng.choice(np.arange(11, 30), 9, replace=False)
    with_them = fit(np.r_[odd, nine], bins=2).habits
    assert (with_them[:, -1] == 0).all()


@pytest.mark.parametrize("far", [1e6, 1e9, 1e12])
def test_how_far_the_largest_value_lies_is_not_told(far: float) -> None:
    values = np.random.default_rng(14).exponential(100, 2_000).round()
    one, other = (fit(np.r_[values, v]).to_json() for v in (5e5, far))
    assert one == other


def test_two_far_rows_do_not_tell_of_each_other() -> None:
    values = np.random.default_rng(14).exponential(100, 2_000).round()
    one, other = (fit(np.r_[values, v, 1e12]).to_json() for v in (5e5, 1e9))
    assert one == other


def test_a_tail_does_not_cross_zero_where_no_k_rows_do() -> None:
    values = np.random.default_rng(15).exponential(1, 3_000).round(3) + 0.001
    few = np.r_[values, -np.arange(1.0, 10)]
    for data in (values, few):
        assert fit(data, decimals=3).lower[0] >= 0
        assert fit(-data, decimals=3).upper[-1] <= 0
    assert fit(np.r_[values, -np.arange(1.0, 30)], decimals=3).lower[0] < 0


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(0, 300).map(float), min_size=60, max_size=200).map(np.array),
    k=st.integers(3, 10),
    change=st.sampled_from([1e4, 1e7, 1e11, -1e4, -1e11]),
)
@example(values=np.r_[np.zeros(61), 1.0, 1.0], k=3, change=1e4)  # a tail of k rows, it among them
def test_changing_one_row_moves_nothing_beyond_what_the_others_span(
    values: np.ndarray, k: int, change: float
) -> None:
    """The neighbour test: one row takes any value, and no boundary follows it."""
    neighbour = values.copy()
    neighbour[0] = change
    others = np.sort(values[1:])
    # A cap of `REACH` on distances inside what the others span, by the widest power of the law.
    span = 2 * REACH * (others[-1] - others[0] + 1) * (1 + 2 * REACH)
    for data in (values, neighbour):
        encoder = fit(data, min_rows=k, bins=4)
        ends = np.r_[encoder.lower, encoder.upper]
        assert ends.min(initial=0) >= others[0] - span
        assert ends.max(initial=0) <= others[-1] + span
        assert (encoder.counts[encoder.counts > 0] >= k).all()
    far = values.copy()
    far[0] = 1_000 * change
    inner = [fit(d, min_rows=k, bins=4) for d in (neighbour, far)]
    np.testing.assert_array_equal(inner[0].upper[:-1], inner[1].upper[:-1])
    np.testing.assert_array_equal(inner[0].counts, inner[1].counts)


numbers = st.lists(
    st.one_of(
        st.floats(-1e9, 1e9, allow_nan=False),
        st.integers(-20, 20).map(float),
        st.just(NAN),
    ),
    max_size=200,
).map(np.array)


@settings(max_examples=60, deadline=None)
@given(values=numbers, decimals=st.sampled_from([None, 0, 2]), seed=st.integers(0, 9))
def test_any_numbers_encode_into_range_and_decode_finite(
    values: np.ndarray, decimals: int | None, seed: int
) -> None:
    values = values.astype(np.float64)
    if decimals is not None:
        values = np.round(values, decimals)
    encoder = fit(values, decimals=decimals, min_rows=3)
    codes = encoder.encode(values)
    assert codes.offset is not None
    assert ((codes.coarse >= 0) & (codes.coarse < encoder.n_levels)).all()
    assert ((codes.offset >= 0) & (codes.offset <= 1)).all()
    assert encoder.prior.sum() == pytest.approx(1)
    for rng in (None, np.random.default_rng(seed)):
        back = encoder.decode(codes, rng)
        if len(encoder.lower):  # else fewer than k values are known
            assert np.isfinite(back[~np.isnan(values)]).all()
            assert encoder.counts[0] == 0 or np.isnan(back[np.isnan(values)]).all()
    again = reloaded(encoder)
    np.testing.assert_array_equal(again.encode(values).coarse, codes.coarse)
    np.testing.assert_array_equal(again.encode(values).offset, codes.offset)
    np.testing.assert_array_equal(again.decode(codes, None), encoder.decode(codes, None))


@settings(max_examples=60, deadline=None)
@given(values=numbers)
def test_exact_cells_are_fixed_points(values: np.ndarray) -> None:
    encoder = fit(np.round(values.astype(np.float64), 2), decimals=2, min_rows=3)
    exact = encoder.lower[encoder.lower == encoder.upper]
    codes = encoder.encode(exact)
    again = encoder.encode(encoder.decode(codes, np.random.default_rng(0)))
    np.testing.assert_array_equal(again.coarse, codes.coarse)
    np.testing.assert_array_equal(encoder.decode(codes, None), exact)


@settings(max_examples=40, deadline=None)
@given(values=numbers.filter(lambda v: len(v) > 10))
def test_encoding_keeps_order(values: np.ndarray) -> None:
    values = np.sort(values[~np.isnan(values)].astype(np.float64))
    encoder = fit(values, decimals=None, min_rows=3)
    back = round_trip(encoder, values)
    spread = np.abs(values).max(initial=1)
    assert (np.diff(back) >= -1e-6 * spread).all()


def _two_cells(tails: tuple[float, float] = (1.0, 1.0)) -> NumericEncoder:
    """Cells of widths 1 and 4 with 10 rows each; nothing is missing."""
    return NumericEncoder(
        lower=np.array([0.0, 1.0]),
        upper=np.array([1.0, 5.0]),
        level=np.array([1, 2]),
        fine=np.array([0, 0]),
        counts=np.array([0.0, 10.0, 10.0]),
        unit=None,
        habits=np.ones((3, 1)),
        steps=(1,),
        tails=tails,
    )


def test_a_number_in_a_wide_cell_lies_where_rows_are_thin() -> None:
    """Cells of widths 1 and 4 with as many rows: log 4 apart, with mean 0; missing says nothing."""
    encoder = _two_cells()
    thin = encoder.thinness(encoder.encode(np.array([0.5, 3.0, 4.9])))
    assert thin == pytest.approx([-np.log(2), np.log(2), np.log(2)])
    gone = Codes(np.array([0], np.int32), None, np.array([0.5], np.float32))
    assert encoder.thinness(gone).tolist() == [0.0]


def test_further_out_in_a_tail_rows_are_thinner() -> None:
    """Power 2 and width 4: -log density is log 8 + log u, u = 1 / 2 a quarter of the way out."""
    encoder = _two_cells((1.0, 2.0))
    mean = (0 + np.log(8) - 1) / 2
    thin = encoder.thinness(encoder.encode(np.array([2.0, 5.0])))
    assert thin == pytest.approx([np.log(4) - mean, np.log(8) - mean])


def test_an_exact_value_is_one_unit_wide() -> None:
    """A value and an interval of eight units, as many rows in each: log 8 apart, with mean 0."""
    encoder = fit([3.0] * 40 + [*range(5, 13)] * 5, min_rows=40)
    assert (encoder.upper - encoder.lower)[0] == 0
    thin = encoder.thinness(encoder.encode(np.array([3.0])))
    width = encoder.upper[-1] - encoder.lower[-1]
    power = encoder.tails[1]
    assert thin == pytest.approx([-(np.log(power * width) - (power - 1)) / 2])


def test_means_of_levels_by_hand() -> None:
    """Cells from 0 to 1 and from 1 to 5: 0.5, and 3 if even, 1 + 4 / 3 where it thins out."""
    assert _two_cells().means.tolist() == [0.0, 0.5, 3.0]
    assert _two_cells((1.0, 2.0)).means == pytest.approx([0.0, 0.5, 1 + 4 / 3])
    assert _two_cells((3.0, 1.0)).means == pytest.approx([0.0, 1 - 1 / 4, 3.0])


def test_values_finer_than_the_grain_turn_no_cell_inside_out() -> None:
    """Two exact values four ten-millionths apart, ten rows between them, a grain of 1e-6."""
    between = [1.0555556] * 3 + [1.0555557] * 6 + [1.0555558]
    values = [*np.linspace(0, 10, 100), *[1.0555555] * 10, *between, *[1.0555559] * 12]
    encoder = fit(values, decimals=None, min_rows=10)
    assert (encoder.lower <= encoder.upper).all()
    assert reloaded(encoder).lower.tolist() == encoder.lower.tolist()


def _coded(encoder: NumericEncoder, level: int, offsets: Any) -> Codes:
    return Codes(np.full(len(offsets), level, np.int32), None, np.array(offsets, np.float32))


def test_what_a_bound_leaves_of_a_tail_keeps_its_shape() -> None:
    """From 1 to 5 as u ** 2: 2 is reached at u = 1 / 2, so that half of the rows lie beyond it.

    Three quarters of the way u is 7 / 8.
    """
    encoder, beyond = _two_cells((1.0, 2.0)), ((2.0, np.inf),)
    assert encoder.pieces(beyond).share[0, 1:, 0].tolist() == [0.0, 0.5]
    values = encoder.decode(_coded(encoder, 2, [0.0, 0.75, 1.0]), None, beyond)
    assert values.tolist() == [2.0, 1 + 4 * (7 / 8) ** 2, 5.0]


def test_whole_numbers_share_what_intervals_leave_evenly() -> None:
    """Of 1 to 10 the intervals leave 3, 4 and 9; so many offsets of a third each."""
    encoder, within = fit(list(range(1, 11)) * 2, min_rows=11), ((2.5, 4.0), (9.0, 9.5))
    assert encoder.cells[0][1, 0] == 0.5
    assert encoder.cells[1][1, 0] == 10.5
    assert encoder.pieces(within).share[:, 1, 0] == pytest.approx([0.2, 0.1])
    offsets = (np.arange(300) + 0.5) / 300
    values = encoder.decode(_coded(encoder, 1, offsets), None, within)
    assert np.unique(values, return_counts=True)[1].tolist() == [100, 100, 100]
    assert set(values) == {3.0, 4.0, 9.0}
    assert set(encoder.decode(_coded(encoder, 1, [0.0, 1.0]), None, within)) == {3.0, 9.0}


def test_habits_stay_inside_of_bounds() -> None:
    """All are tens: of 0 to 60 a bound of 33 leaves 40, 50 and 60; below 35 no ten is near."""
    encoder = NumericEncoder(
        lower=np.array([-0.5]),
        upper=np.array([60.5]),
        level=np.array([1]),
        fine=np.array([0]),
        counts=np.array([0.0, 20.0]),
        unit=1.0,
        habits=np.array([[0.0, 1.0], [0.0, 1.0]]),
        steps=(1, 10),
    )
    codes = _coded(encoder, 1, np.linspace(0, 1, 501))
    drawn = encoder.decode(codes, np.random.default_rng(0), ((33.0, np.inf),))
    assert set(drawn) == {33.0, 34.0, 35.0, 40.0, 50.0, 60.0}
    assert np.isin(drawn, [40, 50, 60]).mean() > 0.9
