import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.report.cells import K, Picture, Three, axis, joint
from synthgen.report.cells import picture as picture_of_three


def texts(**counts: int) -> pd.Series:
    return pd.Series([level for level, n in counts.items() for _ in range(n)], dtype="str")


def numbers(values) -> pd.Series:
    return pd.Series(values, dtype="float64")


def picture(kind, real: pd.Series, synthetic: pd.Series, **options: bool) -> Picture:
    """What is drawn if train and holdout are the same."""
    return picture_of_three(kind, Three(real, real, synthetic), **options)


def labels(seen: Picture) -> list[str]:
    return [cell.label for cell in seen.cells]


def test_levels_are_shares_of_present_rows_largest_first():
    seen = picture("categorical", texts(b=20, a=60), texts(a=1, b=1))
    assert [(c.label, c.holdout, c.synthetic) for c in seen.cells] == [
        ("a", 0.75, 0.5),
        ("b", 0.25, 0.5),
    ]


def test_rare_levels_become_one_cell():
    seen = picture("categorical", texts(a=80, x=9, y=9, z=2), texts(a=1, x=1))
    assert [(c.label, c.holdout, c.synthetic) for c in seen.cells] == [
        ("a", 0.8, 0.5),
        ("other (rare)", 0.2, 0.5),
    ]


def test_a_lonely_rare_level_takes_a_larger_one_with_it():
    # 3 rows alone could be read off as 1 - the others' shares
    assert labels(picture("categorical", texts(a=80, b=17, x=3), texts(a=1))) == [
        "a",
        "other (rare)",
    ]
    assert picture("categorical", texts(a=97, x=3), texts(a=1)).cells == ()


def test_a_level_of_the_synthetic_table_alone_is_other():
    seen = picture("categorical", texts(a=50, b=50), texts(a=1, canary=1))
    assert labels(seen)[-1] == "other (rare)"
    assert seen.cells[-1].synthetic == 0.5


def test_booleans_are_levels():
    flags = pd.Series([True] * 30 + [False] * 10 + [None] * 10, dtype="boolean")
    seen = picture("boolean", flags, flags)
    assert labels(seen) == ["True", "False"]
    assert seen.missing is not None
    assert seen.missing.shares == (0.2, 0.2, 0.2)


@pytest.mark.parametrize(("n_missing", "told"), [(0, 0.0), (9, None), (10, 0.1), (100, 1.0)])
def test_few_missing_rows_are_not_told(n_missing, told):
    values = numbers([np.nan] * n_missing + list(range(100 - n_missing)))
    missing = picture("numeric", values, values).missing
    assert (None if missing is None else missing.holdout) == told


def test_few_present_rows_are_neither_told_nor_drawn():
    seen = picture("numeric", numbers([np.nan] * 95 + [1.0] * 5), numbers([1.0]))
    assert seen.missing is None
    assert not seen.cells
    assert "fewer than 10" in seen.note


def test_whole_numbers_get_a_bin_each():
    values = numbers(np.repeat([1, 2, 3, 4], 25))
    seen = picture("numeric", values, numbers([2, 2, 4, 99]), whole=True)
    assert [(c.label, c.holdout, c.synthetic) for c in seen.cells] == [
        ("below 2", 0.25, 0.0),
        ("2", 0.25, 0.5),
        ("3 and more", 0.5, 0.5),
    ]


def test_the_extremes_are_inside_open_bins():
    values = numbers([*np.arange(1000), 123_456.0, -98_765.0])
    shown = " ".join(labels(picture("numeric", values, values)))
    assert "123" not in shown
    assert "98" not in shown
    assert labels(picture("numeric", values, values))[0].startswith("below")


def test_a_spike_is_told_and_the_others_are_drawn():
    values = numbers([0.0] * 700 + list(np.linspace(10, 500, 300)))
    seen = picture("numeric", values, numbers([0.0, 20.0]))
    assert seen.spike is not None
    assert (seen.spike.label, seen.spike.synthetic) == ("0", 0.5)
    assert seen.spike.holdout == pytest.approx(0.7)
    assert sum(c.holdout for c in seen.cells) == pytest.approx(1)


def test_a_constant_is_told_but_not_beside_a_few_others():
    constant = picture("numeric", numbers([7.0] * 50), numbers([7.0]))
    assert constant.spike is not None
    assert (constant.spike.label, constant.spike.holdout) == ("7", 1.0)
    nearly = picture("numeric", numbers([7.0] * 50 + [8.0] * 3), numbers([7.0]))
    assert nearly.spike is None
    assert not nearly.cells


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize(
    ("freq", "first"),
    [("7h", "below 2024-02-10"), ("1min", "below 01-31 12:15"), ("60D", "below 2026")],
)
def test_dates_have_round_edges(zone, freq, first):
    stamps = pd.Series(pd.date_range("2024-01-31 12:03:07", periods=400, freq=freq, tz=zone))
    seen = picture("datetime", stamps.dt.as_unit("us"), stamps.dt.as_unit("us"))
    assert seen.is_ordered
    assert labels(seen)[0] == first
    assert sum(c.holdout for c in seen.cells) == pytest.approx(1)


def test_a_constant_date_is_not_drawn():
    stamps = pd.Series(pd.to_datetime(["2024-01-31"] * 50)).dt.as_unit("us")
    assert not picture("datetime", stamps, stamps).cells


@given(
    st.lists(
        st.one_of(
            st.integers(-20, 20).map(float), st.floats(allow_nan=False, allow_infinity=False)
        ),
        max_size=300,
    ),
    st.booleans(),
)
def test_every_drawn_bin_stands_for_k_rows(values, whole):
    real = numbers(np.round(values) if whole else values)
    seen = picture("numeric", real, numbers([]), whole=whole)
    n = len(real) * (1 - seen.spike.holdout if seen.spike and seen.cells else 1)
    assert all(round(cell.holdout * n) >= K for cell in seen.cells)
    assert all(cell.synthetic == 0 for cell in seen.cells)
    assert not seen.cells or sum(c.holdout for c in seen.cells) == pytest.approx(1)


@given(st.lists(st.sampled_from("abcdefghijklmnop"), max_size=200))
def test_every_drawn_level_stands_for_k_rows(values):
    real = pd.Series(values, dtype="str")
    seen = picture("categorical", real, real)
    assert all(round(cell.holdout * len(real)) >= K for cell in seen.cells)


def test_a_cell_needs_k_rows_of_both_real_tables():
    train, holdout = texts(a=500, b=500, x=300), texts(a=50, b=50, x=9, y=1)
    seen = picture_of_three("categorical", Three(train, holdout, texts(a=1)))
    assert labels(seen) == ["a", "b", "other (rare)"]
    assert seen.cells[-1].holdout == pytest.approx(10 / 110)
    lonely = picture_of_three("categorical", Three(texts(a=90, x=3), texts(a=90, x=30), texts(a=1)))
    assert lonely.cells == ()  # three rows of train would be read off as the rest


def test_train_holdout_and_synthetic_are_told_apart():
    train, holdout, synthetic = (numbers(np.repeat([1, 2, 3, 4], n)) for n in (50, 20, 10))
    seen = picture_of_three("numeric", Three(train, holdout, synthetic + 1), whole=True)
    assert [c.shares for c in seen.cells] == [
        (0.25, 0.25, 0.0),
        (0.25, 0.25, 0.25),
        (0.5, 0.5, 0.75),
    ]


def test_missing_rows_of_train_alone_are_not_told():
    full, gaps = numbers(range(100)), numbers([np.nan] * 3 + list(range(97)))
    assert picture_of_three("numeric", Three(gaps, full, full)).missing is None
    assert picture_of_three("numeric", Three(full, full, gaps)).missing is not None


def crossed(first: pd.Series, second: pd.Series):
    axes = [axis("categorical", Three(column, column, column)) for column in (first, second)]
    return joint(*axes)


def test_crossed_cells_are_rounded_to_ten_rows_and_small_ones_are_blank():
    first, second = texts(a=104, b=36), texts(x=100, y=40)  # a,x: 100; a,y: 4; b,y: 36
    seen = crossed(first, second)
    assert (seen.rows, seen.columns) == (("a", "b"), ("x", "y"))
    assert seen.real == ((100 / 140, None), (None, 40 / 140))
    assert seen.synthetic == ((100 / 140, 4 / 140), (0.0, 36 / 140))


def test_a_lonely_level_has_no_row_in_a_crossed_picture():
    seen = crossed(texts(a=60, b=59, canary=1), texts(x=120))
    assert seen.rows == ("a", "other")  # one row alone could be read off as the rest
    assert "canary" not in str(seen)


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_dates_and_numbers_are_crossed_with_missing_as_a_level(zone):
    stamps = pd.Series(pd.date_range("2024-01-01", periods=400, freq="1D", tz=zone))
    stamps = stamps.dt.as_unit("us").where(np.arange(400) >= 40)
    values = numbers([*np.linspace(0, 99, 360), *[np.nan] * 40])
    dates = axis("datetime", Three(stamps, stamps, stamps))
    counts = axis("numeric", Three(values, values, values), whole=True)
    seen = joint(dates, counts)
    assert seen.rows[-1] == seen.columns[-1] == "missing"
    assert seen.columns[:2] == ("below 20", "20 \u2013 40")
    assert sum(x or 0 for line in seen.real for x in line) == pytest.approx(1, abs=0.1)
    assert sum(map(sum, seen.synthetic)) == pytest.approx(1)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz")), max_size=200))
def test_every_crossed_cell_is_blank_or_a_multiple_of_k(rows):
    first, second = (pd.Series([r[i] for r in rows], dtype="str") for i in (0, 1))
    seen = crossed(first, second)
    shown = [x * len(rows) / K for line in seen.real for x in line if x is not None]
    assert all(x >= 1 - 1e-9 and abs(x - round(x)) < 1e-9 for x in shown)
