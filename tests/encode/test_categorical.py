"""Categories: kept levels, the rare bucket, missing values and booleans."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.encode.categorical import RARE, CategoricalEncoder
from synthgen.errors import RejectColumn


def texts(values: list[str | None]) -> pd.Series:
    return pd.Series(values, dtype="str", name="c")


def test_levels_need_k_rows_and_the_rest_is_rare() -> None:
    column = texts(["b"] * 10 + ["a"] * 20 + ["x"] * 9 + ["y"] * 5 + [None] * 11)
    encoder = CategoricalEncoder.fit(column)
    assert encoder.levels == ("a", "b")
    assert encoder.counts.tolist() == [11, 20, 10, 14]
    codes = encoder.encode(texts([None, "a", "b", "x", "never seen"]))
    assert codes.coarse.tolist() == [0, 1, 2, 3, 3]
    assert codes.fine is None
    assert codes.offset is None
    decoded = encoder.decode(codes, None)
    assert decoded.isna().tolist() == [True, False, False, False, False]
    assert decoded[1:].tolist() == ["a", "b", RARE, RARE]


def test_a_rare_text_is_nowhere_in_the_state() -> None:
    encoder = CategoricalEncoder.fit(texts(["a"] * 50 + ["Jane Roe"]))
    assert "Jane" not in json.dumps(encoder.to_json())


def test_fewer_than_k_rare_or_missing_rows_are_the_most_frequent_level() -> None:
    column = texts(["a"] * 50 + ["b"] * 20 + ["x"] * 9 + [None] * 9)
    encoder = CategoricalEncoder.fit(column)
    assert encoder.counts.tolist() == [0, 68, 20, 0]
    assert encoder.encode(texts([None, "x", "b"])).coarse.tolist() == [1, 1, 2]


def test_the_rare_bucket_of_listed_categories_is_never_written() -> None:
    column = texts(["a"] * 50 + [f"x{i}" for i in range(20)])
    assert CategoricalEncoder.fit(column).is_rare_drawn
    assert not CategoricalEncoder.fit(column, closed=True).is_rare_drawn


def test_of_too_many_levels_the_most_frequent_stay() -> None:
    column = texts(["a"] * 30 + ["b"] * 20 + ["c"] * 25)
    encoder = CategoricalEncoder.fit(column, max_levels=2)
    assert encoder.levels == ("a", "c")
    assert encoder.counts.tolist() == [0, 30, 25, 20]


@pytest.mark.parametrize(("n_rare", "drawn"), [(0, False), (9, False), (10, True)])
def test_a_rare_bucket_is_drawn_from_one_percent_on(n_rare: int, drawn: bool) -> None:
    column = texts(["a"] * (1_000 - n_rare) + [f"x{i % 2}" for i in range(n_rare)])
    assert CategoricalEncoder.fit(column, min_rows=6).is_rare_drawn is drawn


def test_a_rare_bucket_is_drawn_where_there_is_nothing_else() -> None:
    assert CategoricalEncoder.fit(texts([f"t{i}" for i in range(30)])).is_rare_drawn


def test_all_missing() -> None:
    encoder = CategoricalEncoder.fit(texts([None] * 20))
    assert encoder.levels == ()
    assert encoder.prior.tolist() == [1, 0]
    assert not encoder.is_rare_drawn


def test_booleans_are_texts_inside() -> None:
    column = pd.Series([True] * 3 + [False] * 5 + [None] * 2, dtype="boolean")
    encoder = CategoricalEncoder.fit(column, closed=True, min_rows=2)
    assert encoder.levels == ("False", "True")
    assert encoder.counts.tolist() == [2, 5, 3, 0]
    assert encoder.encode(column).coarse.tolist() == [2] * 3 + [1] * 5 + [0] * 2


def test_numbers_are_rejected() -> None:
    with pytest.raises(RejectColumn, match="'c' is neither text nor boolean"):
        CategoricalEncoder.fit(pd.Series([1.0, 2.0], name="c"))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=4)), max_size=80))
def test_any_texts_round_trip(values: list[str | None]) -> None:
    column = texts(values)
    encoder = CategoricalEncoder.fit(column, min_rows=2)
    again = CategoricalEncoder.from_json(json.loads(json.dumps(encoder.to_json())))
    assert again.levels == encoder.levels
    np.testing.assert_array_equal(again.counts, encoder.counts)
    codes = encoder.encode(column)
    assert ((codes.coarse >= 0) & (codes.coarse < len(encoder.prior))).all()
    decoded = encoder.decode(codes, None)
    kept = column.isin(encoder.levels)
    pd.testing.assert_series_equal(decoded[kept], column[kept], check_names=False)
    if encoder.counts[0]:
        assert decoded[column.isna()].isna().all()
    assert len(values) < 2 or not set(encoder.counts) & {1}
    for level in set(column.dropna()) - set(encoder.levels):
        assert (column == level).sum() < 2
    np.testing.assert_array_equal(
        np.bincount(codes.coarse, minlength=len(encoder.prior)), encoder.counts
    )
