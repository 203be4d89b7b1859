import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.report.cells import K, Picture, picture


def texts(**counts: int) -> pd.Series:
    return pd.Series([level for level, n in counts.items() for _ in range(n)], dtype="str")


def numbers(values) -> pd.Series:
    return pd.Series(values, dtype="float64")


def labels(seen: Picture) -> list[str]:
    return [cell.label for cell in seen.cells]


def test_levels_are_shares_of_present_rows_largest_first():
    seen = picture("categorical", texts(b=20, a=60), texts(a=1, b=1))
    assert [(c.label, c.real, c.synthetic) for c in seen.cells] == [
        ("a", 0.75, 0.5),
        ("b", 0.25, 0.5),
    ]


def test_rare_levels_become_one_cell():
    seen = picture("categorical", texts(a=80, x=9, y=9, z=2), texts(a=1, x=1))
    assert [(c.label, c.real, c.synthetic) for c in seen.cells] == [
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
    assert seen.missing_real == 0.2


@pytest.mark.parametrize(("n_missing", "told"), [(0, 0.0), (9, None), (10, 0.1), (100, 1.0)])
def test_few_missing_rows_are_not_told(n_missing, told):
    values = numbers([np.nan] * n_missing + list(range(100 - n_missing)))
    assert picture("numeric", values, values).missing_real == told


def test_few_present_rows_are_neither_told_nor_drawn():
    seen = picture("numeric", numbers([np.nan] * 95 + [1.0] * 5), numbers([1.0]))
    assert seen.missing_real is None
    assert not seen.cells
    assert "fewer than 10" in seen.note


def test_whole_numbers_get_a_bin_each():
    values = numbers(np.repeat([1, 2, 3, 4], 25))
    seen = picture("numeric", values, numbers([2, 2, 4, 99]), whole=True)
    assert [(c.label, c.real, c.synthetic) for c in seen.cells] == [
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
    assert seen.spike.real == pytest.approx(0.7)
    assert sum(c.real for c in seen.cells) == pytest.approx(1)


def test_a_constant_is_told_but_not_beside_a_few_others():
    constant = picture("numeric", numbers([7.0] * 50), numbers([7.0]))
    assert constant.spike is not None
    assert (constant.spike.label, constant.spike.real) == ("7", 1.0)
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
    assert sum(c.real for c in seen.cells) == pytest.approx(1)


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
    n = len(real) * (1 - seen.spike.real if seen.spike and seen.cells else 1)
    assert all(round(cell.real * n) >= K for cell in seen.cells)
    assert all(cell.synthetic == 0 for cell in seen.cells)
    assert not seen.cells or sum(c.real for c in seen.cells) == pytest.approx(1)


@given(st.lists(st.sampled_from("abcdefghijklmnop"), max_size=200))
def test_every_drawn_level_stands_for_k_rows(values):
    real = pd.Series(values, dtype="str")
    seen = picture("categorical", real, real)
    assert all(round(cell.real * len(real)) >= K for cell in seen.cells)
