"""Whole tables: names and order, what has no part, ranges, subsampling, and the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen import table as table_module
from synthgen.config import EncodeConfig
from synthgen.encode.column import EncodedTable
from synthgen.encode.numeric import NumericEncoder
from synthgen.encode.table import TableEncoder, one_row_each
from synthgen.errors import DataError
from synthgen.rng import stream
from synthgen.schema import Column, Constraint, TableSchema
from synthgen.table import RealTable

CONFIG = EncodeConfig()


def made(n: int, seed: int = 0) -> tuple[pd.DataFrame, TableSchema]:
    """Return five columns whose values tell which column they are from."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "zeta": rng.integers(100, 110, n).astype(float),
            "alpha": pd.Series(rng.choice(["a", "b", "c"], n), dtype="str"),
            "id": pd.Series([f"id{i}" for i in range(n)], dtype="str"),
            "mail": pd.Series([f"p{i}@example.org" for i in range(n)], dtype="str"),
            "flag": pd.Series(rng.random(n) < 0.3, dtype="boolean"),
            "beta": rng.integers(200, 210, n).astype(float),
        }
    )
    columns = (
        Column(name="zeta", kind="numeric", decimals=0),
        Column(name="alpha", kind="categorical"),
        Column(name="id", kind="id"),
        Column(name="mail", kind="categorical", pii="email"),
        Column(name="flag", kind="boolean"),
        Column(name="beta", kind="numeric", decimals=0),
    )
    return frame, TableSchema(name="made", columns=columns)


def fit(frame: pd.DataFrame, schema: TableSchema, **settings: Any) -> TableEncoder:
    return TableEncoder.fit(frame, schema, CONFIG.model_copy(update=settings), seed=0)


def test_names_and_order_survive() -> None:
    # sdgx once returned columns in the order in which its workers finished.
    frame, schema = made(2_000)
    encoder = fit(frame, schema)
    back = encoder.inverse_transform(encoder.transform(frame), None)
    assert list(back) == ["zeta", "alpha", "flag", "beta"]
    pd.testing.assert_frame_equal(back, frame[list(back)])


def test_the_order_of_the_frame_does_not_matter() -> None:
    frame, schema = made(500)
    encoder = fit(frame, schema)
    shuffled = frame[frame.columns[::-1]]
    np.testing.assert_array_equal(
        encoder.transform(shuffled).tokens, encoder.transform(frame).tokens
    )


def test_ids_and_personal_data_have_no_part() -> None:
    frame, schema = made(500)
    encoder = fit(frame, schema)
    assert [p.column for p in encoder.parts] == ["zeta", "alpha", "flag", "beta"]
    assert "example.org" not in encoder.to_json()
    assert "id4" not in encoder.to_json()


def test_nothing_to_model_is_an_error() -> None:
    frame = pd.DataFrame({"id": pd.Series(["a", "b"], dtype="str")})
    schema = TableSchema(name="ids", columns=(Column(name="id", kind="id"),))
    with pytest.raises(DataError, match="no column can be modelled"):
        fit(frame, schema)


def test_spans_tile_the_width(demo_table: RealTable) -> None:
    layout = fit(demo_table.data, demo_table.schema, bins=8).layout
    ends = layout.starts + layout.sizes
    assert layout.starts[0] == 0
    np.testing.assert_array_equal(layout.starts[1:], ends[:-1])
    assert ends[-1] == layout.width
    assert layout.n_coarse + len(layout.parents) == len(layout.sizes)
    assert [len(p) for p in layout.priors] == layout.sizes[: layout.n_coarse].tolist()
    for parent, prior, size in zip(
        layout.parents, layout.fine_priors, layout.sizes[layout.n_coarse :], strict=True
    ):
        assert prior.shape == (layout.sizes[parent], size)
    for lower, upper in layout.cells:
        assert (upper >= lower).all()
        assert np.isfinite(lower).all()
        assert np.isfinite(upper).all()


def test_priors_are_the_frequencies_of_the_tokens(demo_table: RealTable) -> None:
    encoder = fit(demo_table.data, demo_table.schema)
    table = encoder.transform(demo_table.data)
    for i, prior in enumerate(table.layout.priors):
        found = np.bincount(table.tokens[:, i], minlength=len(prior)) / len(table)
        assert 0.5 * np.abs(found - prior).sum() < 0.02


def test_demo_comes_back(demo_table: RealTable) -> None:
    encoder = fit(demo_table.data, demo_table.schema)
    back = encoder.inverse_transform(encoder.transform(demo_table.data), None)
    for name in ("ward", "diagnosis", "emergency", "readmitted"):
        real = demo_table.data[name]
        common = real.map(real.value_counts()) >= CONFIG.min_rows
        pd.testing.assert_series_equal(back[name][common], real[common])
        assert common.mean() > 0.9
    for column in demo_table.schema.modelled:
        real, new = demo_table.data[column.name], back[column.name]
        assert real.dtype == new.dtype
        assert (real.isna() == new.isna()).all() or real.isna().sum() < CONFIG.min_rows
    for name, near in (("cost", 50), ("haemoglobin", 0.3), ("crp", 5), ("length_of_stay", 0.5)):
        assert ((back[name] - demo_table.data[name]).abs().dropna() <= near).mean() > 0.95


def encoded(**changes: Any) -> EncodedTable:
    frame, schema = made(200)
    table = fit(frame, schema).transform(frame)
    return EncodedTable(
        **{"tokens": table.tokens, "offsets": table.offsets, **changes, "layout": table.layout}
    )


@pytest.mark.parametrize("bad", [-1, 99])
def test_a_token_out_of_range_is_refused(bad: int) -> None:
    tokens = encoded().tokens.copy()
    tokens[3, 1] = bad
    with pytest.raises(ValueError, match="out of range"):
        encoded(tokens=tokens)


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan, np.inf])
def test_an_offset_outside_is_refused(bad: float) -> None:
    offsets = encoded().offsets.copy()
    offsets[3, 1] = bad
    with pytest.raises(ValueError, match="outside"):
        encoded(offsets=offsets)


def test_a_missing_token_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        encoded(tokens=encoded().tokens[:, 1:])


def test_a_big_table_is_fitted_on_a_seeded_sample() -> None:
    frame, schema = made(5_000)
    one, same = (fit(frame, schema, fit_rows=1_000) for _ in range(2))
    assert one.to_json() == same.to_json()
    other = TableEncoder.fit(frame, schema, CONFIG.model_copy(update={"fit_rows": 1_000}), seed=1)
    assert other.to_json() != one.to_json()
    assert len(one.transform(frame)) == 5_000


def test_the_file_holds_everything(tmp_path: Path, demo_table: RealTable) -> None:
    encoder = fit(demo_table.data, demo_table.schema)
    encoder.save(tmp_path / "encoder.json")
    again = TableEncoder.load(tmp_path / "encoder.json", demo_table.schema)
    assert again.to_json() == encoder.to_json()
    table = encoder.transform(demo_table.data)
    np.testing.assert_array_equal(again.transform(demo_table.data).tokens, table.tokens)
    for habits in (lambda: None, lambda: [np.random.default_rng(0)] * len(again.parts)):
        pd.testing.assert_frame_equal(
            again.inverse_transform(table, habits()), encoder.inverse_transform(table, habits())
        )


def test_the_file_holds_no_person(demo_table: RealTable) -> None:
    state = fit(demo_table.data, demo_table.schema).to_json()
    for name in ("patient_id", "name", "email"):
        assert not any(text in state for text in demo_table.data[name])


def test_restored_numbers_stay_inside_declared_bounds() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.exponential(10, 2_000).round(1).clip(0, 60)})
    column = Column(name="x", kind="numeric", decimals=1, minimum=0, maximum=60)
    encoder = fit(frame, TableSchema(name="t", columns=(column,)))
    table = encoder.transform(frame)
    table.offsets[:] = rng.integers(0, 2, table.offsets.shape)
    back = encoder.inverse_transform(table, [rng])["x"]
    assert back.between(0, 60).all()


@pytest.mark.slow
def test_a_million_rows_of_fifteen_columns_fit() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"c{i}": rng.normal(i, 1 + i, 1_000_000).round(2) for i in range(15)})
    columns = tuple(Column(name=c, kind="numeric", decimals=2) for c in frame)
    encoder = fit(frame, TableSchema(name="big", columns=columns))
    assert len(encoder.transform(frame.iloc[:1_000])) == 1_000


def test_cells_of_very_large_numbers_are_finite() -> None:
    values = 10.0 ** np.random.default_rng(0).integers(0, 307, 1_000)
    schema = TableSchema(name="t", columns=(Column(name="x", kind="numeric"),))
    encoder = TableEncoder.fit(pd.DataFrame({"x": values}), schema, EncodeConfig(), seed=0)
    lower, upper = encoder.layout.cells[0]
    assert np.isfinite(lower).all()
    assert np.isfinite(upper).all()


# --- more rows than the encoder is fitted on


def test_batches_are_encoded_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    frame, schema = made(2_000)
    monkeypatch.setattr(table_module, "BATCH_ROWS", 300)
    rows = RealTable(schema, frame)
    settings = CONFIG.model_copy(update={"fit_rows": 1_000})
    one, other = (TableEncoder.fit(r, schema, settings, seed=0) for r in (frame, rows))
    assert one.to_json() == other.to_json()
    a, b = one.transform(frame), other.transform(rows)
    assert a.tokens.dtype == np.int16
    np.testing.assert_array_equal(a.tokens, b.tokens)
    np.testing.assert_array_equal(a.offsets, b.offsets)


def related(n: int) -> tuple[pd.DataFrame, TableSchema]:
    """Return a sum and a look-up that hold on all of `n` rows."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 1_000, (2, n)).astype(float)
    level = pd.Series(rng.choice(["x", "y", "z"], n), dtype="str")
    frame = pd.DataFrame(
        {
            "a": a,
            "b": b,
            "total": a + b,
            "level": level,
            "code": level.map({"x": 1.0, "y": 2.0, "z": 3.0}),
        }
    )
    columns = tuple(
        Column(
            name=n,
            kind="categorical" if n == "level" else "numeric",
            decimals=None if n == "level" else 0,
        )
        for n in frame
    )
    return frame, TableSchema(name="related", columns=columns)


def test_a_relation_that_one_row_outside_the_sample_breaks_is_no_relation() -> None:
    frame, schema = related(5_000)
    exact = fit(frame, schema, fit_rows=1_000)
    assert {type(r).__name__ for r in exact.relations} == {"Difference", "Lookup"}
    # Every row in turn would be a test of all of them: here one that is not in the sample.
    rows = stream(0, "encode").choice(len(frame), 1_000, replace=False)
    outside = next(i for i in range(len(frame)) if i not in set(rows.tolist()))
    frame.loc[outside, "total"] += 5
    assert {type(r).__name__ for r in fit(frame, schema, fit_rows=1_000).relations} == {"Lookup"}
    frame.loc[outside, "code"] = 2.0 + (frame.loc[outside, "code"] == 2.0)
    assert fit(frame, schema, fit_rows=1_000).relations == ()


def test_rows_that_break_a_declared_rule_are_looked_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame, schema = related(2_000)
    frame.loc[1::4, "total"] += 5
    rule = Constraint(kind="sum", columns=("total", "a", "b"))
    schema = replace(schema, constraints=(rule,))
    rows, passes = RealTable(schema, frame), []
    batches = rows.batches
    monkeypatch.setattr(RealTable, "batches", lambda self: passes.append(1) or batches())
    encoder = fit(rows, schema, fit_rows=1)  # type: ignore[arg-type]
    assert [type(r).__name__ for r in encoder.relations] == ["Difference"]
    # the sample, the first row that breaks it, and that no relation is broken that was not before
    assert len(passes) == 3


# --- nothing of fewer than k rows, or entities


def visits(n_people: int, each: int) -> tuple[pd.DataFrame, TableSchema]:
    """Return `each` rows of every person: all of one's own level, number and day."""
    people = np.repeat(np.arange(n_people), each)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "person": pd.Series(people.astype(str), dtype="str"),
            "level": pd.Series([f"own{p:03}" for p in people], dtype="str"),
            "shared": pd.Series(rng.choice(["a", "b"], len(people)), dtype="str"),
            "size": 1_000.0 + 7 * people,
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(people * 3, unit="D"),
        }
    ).astype({"day": "datetime64[us]"})
    kinds = {"person": "id", "size": "numeric", "day": "datetime"}
    columns = tuple(
        Column(
            name=str(name),
            kind=kinds.get(str(name), "categorical"),  # type: ignore[arg-type]
            role="entity" if name == "person" else None,
            decimals=0 if name == "size" else None,
        )
        for name in frame
    )
    return frame, TableSchema(name="visits", columns=columns)


def test_k_rows_are_k_entities() -> None:
    # 30 people with 20 rows each: by rows every level would do, by people only the shared ones.
    frame, schema = visits(30, 20)
    encoder = fit(frame, schema)
    state = encoder.to_json()
    assert "own" not in state
    assert '"levels": ["a", "b"]' in state
    for part in encoder.parts:
        counts = part.encoder.counts  # type: ignore[attr-defined]
        assert counts.sum() == len(frame)
        assert (counts[counts > 0] >= 10 * 20).all() or part.column in ("shared", "level")
        if isinstance(part.encoder, NumericEncoder):
            assert not np.isin(part.encoder.lower, frame["size"]).any()
            assert len(part.encoder.lower) <= 3


def test_one_row_of_each_entity_in_order() -> None:
    frame, schema = visits(5, 4)
    one = one_row_each(frame, schema, seed=0)
    assert one["person"].tolist() == ["0", "1", "2", "3", "4"]
    alone = TableSchema(name="t", columns=schema.columns[1:])
    assert one_row_each(frame, alone, seed=0) is frame


def test_bounds_and_categories_that_were_read_from_the_data_are_not_kept() -> None:
    values = np.random.default_rng(0).exponential(100, 2_000).round()
    frame = pd.DataFrame({"x": np.r_[values, 918_273.0]})
    drafted, public = (
        Column(name="x", kind="numeric", decimals=0, minimum=0, maximum=918_273, source=source)
        for source in ("data", "declared")
    )
    ends = []
    for column in (drafted, public):
        encoder = fit(frame, TableSchema(name="t", columns=(column,)))
        (part,) = encoder.parts
        assert isinstance(part.encoder, NumericEncoder)
        ends.append(part.encoder.upper[-1])
        assert (encoder.schema.columns[0].maximum is None) is (column is drafted)
    assert (
        ends[0]
        == fit(frame.replace({918_273.0: 1e9}), TableSchema(name="t", columns=(drafted,)))
        .parts[0]
        .encoder.upper[-1]
    )  # type: ignore[attr-defined]
    assert ends[0] < 3_000


def test_a_clock_of_fewer_than_k_rows_is_coarsened_to_the_day() -> None:
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(400) % 40, unit="D")
    stamps = pd.Series(days).astype("datetime64[us]")
    stamps[:9] += pd.Timedelta(hours=3, minutes=47)
    column = Column(name="t", kind="datetime", resolution="minute")
    schema = TableSchema(name="t", columns=(column,))
    assert [p.view for p in fit(pd.DataFrame({"t": stamps}), schema).parts] == ["days"]
    stamps[9] += pd.Timedelta(hours=3, minutes=47)
    assert len(fit(pd.DataFrame({"t": stamps}), schema).parts) == 2


tables = st.lists(
    st.tuples(
        st.one_of(st.none(), st.text(min_size=3, max_size=6)),
        st.sampled_from(["yes", "no", "perhaps"]),
        st.integers(-50, 50).map(float),
    ),
    min_size=20,
    max_size=120,
)


@settings(max_examples=40, deadline=None)
@given(rows=tables, copies=st.integers(1, 6), k=st.integers(3, 8))
def test_no_level_of_fewer_than_k_rows_is_in_the_bytes(
    rows: list[tuple[str | None, str, float]], copies: int, k: int
) -> None:
    frame = pd.DataFrame(rows * copies, columns=["name", "answer", "x"])
    frame = frame.astype({"name": "str", "answer": "str"})
    columns = (
        Column(name="name", kind="categorical", nullable=True),
        Column(name="answer", kind="categorical"),
        Column(name="x", kind="numeric", decimals=0),
    )
    schema = TableSchema(name="t", columns=columns)
    config = EncodeConfig(min_rows=k)
    state = json.loads(TableEncoder.fit(frame, schema, config, seed=0).to_json())
    texts = set(_strings(state))
    for name in ("name", "answer"):
        counts = frame[name].value_counts()
        assert not texts & set(counts.index[counts < k])
    for part in state["parts"]:
        counts = np.array(part["encoder"]["counts"])
        assert (counts[counts > 0] >= min(k, counts.sum())).all()


def _strings(state: Any) -> Iterator[str]:
    """Yield every text that is a value, not a key, of JSON."""
    if isinstance(state, dict):
        state = list(state.values())
    if isinstance(state, list):
        for value in state:
            yield from _strings(value)
    elif isinstance(state, str) and state not in WORDS:
        yield state


#: Texts of the format itself.
WORDS = {"name", "answer", "x", "value", "categorical", "numeric", "lookup", "__rare__"}
