"""What an encoder of new rows keeps of an earlier one, and which levels stand for which."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config import EncodeConfig
from synthgen.encode.adopt import Correspondence, adopt, check_compatible, correspondence, pooled
from synthgen.encode.categorical import CategoricalEncoder
from synthgen.encode.numeric import NumericEncoder
from synthgen.encode.table import TableEncoder, sample_rows
from synthgen.errors import SchemaError
from synthgen.schema import Column, TableSchema

CONFIG = EncodeConfig()
SCHEMA = TableSchema(
    name="t",
    columns=(
        Column(name="level", kind="categorical"),
        Column(name="year", kind="numeric", decimals=0),
        Column(name="size", kind="numeric"),
    ),
)


def frame(levels: str, years: tuple[int, ...], n: int = 400, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "level": pd.Series(rng.choice(list(levels), n), dtype="str"),
            "year": rng.choice(years, n).astype(float),
            "size": rng.normal(shift, 1, n),
        }
    )


def fitted(rows: pd.DataFrame, schema: TableSchema = SCHEMA) -> TableEncoder:
    return TableEncoder.fit(rows, schema, CONFIG, seed=0)


def adopted(old: TableEncoder, rows: pd.DataFrame) -> tuple[TableEncoder, Correspondence]:
    new = adopt(old, rows, old.schema, CONFIG)
    return new, correspondence(old, new)


def part(encoder: TableEncoder, name: str) -> CategoricalEncoder | NumericEncoder:
    found = next(p.encoder for p in encoder.parts if p.column == name)
    assert isinstance(found, CategoricalEncoder | NumericEncoder)
    return found


def test_the_same_rows_keep_everything() -> None:
    rows = frame("abc", (2014, 2015))
    old = fitted(rows)
    new, by = adopted(old, rows)
    assert new.to_json() == old.to_json()
    for t, found in enumerate(by.tokens):
        assert found is not None
        assert found[0] == t
        np.testing.assert_array_equal(found[1], np.eye(len(found[1])))
    assert by.offsets == tuple(range(len(by.offsets)))


def test_levels_of_both_tables_are_kept_and_new_ones_are_like_the_average() -> None:
    new, by = adopted(fitted(frame("abc", (2014,))), frame("bcd", (2014,)))
    level = part(new, "level")
    assert isinstance(level, CategoricalEncoder)
    assert level.levels == ("a", "b", "c", "d")
    assert level.counts[1] == 0, "no new row holds it, so it is not drawn"
    found = by.tokens[0]
    assert found is not None
    np.testing.assert_array_equal(found[1][2], [0, 0, 1, 0, 0])  # b
    assert found[1][4].sum() == pytest.approx(1)  # d
    assert (found[1][4][1:4] > 0.2).all()


def test_a_number_that_has_moved_is_cut_anew_and_one_that_has_not_is_kept() -> None:
    old = fitted(frame("ab", (2010, 2011)))
    rows = frame("ab", (2014, 2015))
    new, _ = adopted(old, rows)
    year, size, before = part(new, "year"), part(new, "size"), part(old, "size")
    assert isinstance(year, NumericEncoder)
    assert year.lower.tolist() == [2014, 2015]
    assert isinstance(size, NumericEncoder)
    assert isinstance(before, NumericEncoder)
    np.testing.assert_array_equal(size.lower, before.lower)
    shown = new.inverse_transform(new.transform(rows), None)
    np.testing.assert_array_equal(shown["year"], rows["year"])


def test_a_relation_that_no_longer_holds_becomes_a_column_without_counterpart() -> None:
    columns = (*SCHEMA.columns, Column(name="twice", kind="numeric", decimals=0))
    schema = TableSchema(name="t", columns=columns)
    rows = frame("ab", tuple(range(2000, 2020)))
    old = fitted(rows.assign(twice=2 * rows["year"]), schema)
    assert old.derived == {"year"}
    still, _ = adopted(old, rows.assign(twice=2 * rows["year"]))
    assert still.derived == {"year"}
    new, by = adopted(old, rows.assign(twice=2 * rows["year"] + rows.index % 2))
    assert not new.derived
    assert [found is None for found in by.tokens] == [False, True, False, False]


def test_a_function_whose_last_digits_differ_stays() -> None:
    columns = (*SCHEMA.columns, Column(name="log", kind="numeric"))
    schema = TableSchema(name="t", columns=columns)
    rows = frame("ab", tuple(range(2000, 2020)))
    logs = np.log(rows["size"] + 1_000)
    odd = (1 + 1e-15 * (rows.index % 3)).to_numpy()
    sized = rows.assign(size=rows["size"] + 1_000)
    old = fitted(sized.assign(log=logs), schema)
    assert "log" in old.derived
    assert "log" in adopted(old, sized.assign(log=logs * odd))[0].derived


def test_a_relation_that_one_row_outside_the_sample_breaks_is_dropped() -> None:
    columns = (*SCHEMA.columns, Column(name="twice", kind="numeric", decimals=0))
    schema = TableSchema(name="t", columns=columns)
    rows = frame("ab", tuple(range(2000, 2020)))
    rows["twice"] = 2 * rows["year"]
    old, few = fitted(rows, schema), CONFIG.model_copy(update={"fit_rows": 200})
    assert adopt(old, rows, schema, few).derived == {"year"}
    sample = sample_rows(rows, 200, 0)["size"]
    outside = int((~rows["size"].isin(sample)).idxmax())
    rows.loc[outside, "twice"] += 1
    assert not adopt(old, rows, schema, few).derived


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=8),
    st.lists(st.integers(0, 60), min_size=8, max_size=8),
    st.integers(1, 20),
)
def test_pooled_counts_sum_up_and_tell_of_no_few_rows(
    counts: list[int], before: list[int], k: int
) -> None:
    new = pooled(np.array(counts), np.array(before[: len(counts)], float), k)
    few = sum(c for c in counts if c < k)
    assert new.sum() == pytest.approx(sum(counts) + (max(k - few, 0) if few else 0))
    for was, now in zip(counts, new, strict=True):
        assert now == was if was >= k else now >= 0
        assert now > 0 or was == 0, "a level that a row holds stays possible"


def test_every_difference_of_two_schemas_is_listed() -> None:
    other = TableSchema(
        name="o",
        columns=(
            Column(name="level", kind="boolean"),
            Column(name="size", kind="numeric", minimum=0),
            Column(name="more", kind="numeric"),
            Column(name="key", kind="id"),
        ),
    )
    with pytest.raises(SchemaError) as caught:
        check_compatible(SCHEMA, other)
    assert str(caught.value).splitlines()[1:] == [
        "  - column 'level': kind is categorical in the bundle and boolean here",
        "  - column 'more': modelled here, not by the bundle",
        "  - column 'year': modelled by the bundle, not here",
    ]


def test_order_bounds_and_ids_may_differ() -> None:
    columns = (Column(name="key", kind="id"), *reversed(SCHEMA.columns))
    check_compatible(SCHEMA, TableSchema(name="o", columns=columns))
