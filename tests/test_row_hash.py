"""Rows hashed here are rows hashed by PostgreSQL."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from synthgen import stores
from synthgen.sources.row_hash import (
    SAMPLE_SQL,
    RowHashes,
    hash_rows,
    hashed_in_sql,
    sample_row,
)
from synthgen.uri import table_address


def batch(**columns: Any) -> pa.RecordBatch:
    return pa.record_batch(columns)


def hashes(**columns: Any) -> RowHashes:
    found = RowHashes()
    found.add(batch(**columns))
    return found


def test_a_row_of_each_kind_has_the_hash_that_postgresql_18_gave_it() -> None:
    assert hash_rows(sample_row()).tolist() == [15_406_517_139_137_157_800]


def test_missing_is_not_zero_and_false_is_not_missing() -> None:
    zero, minus_zero, missing = hash_rows(batch(a=pa.array([0.0, -0.0, None])))
    assert zero == minus_zero != missing
    false, empty = hash_rows(batch(a=[False]))[0], hash_rows(batch(a=[""]))[0]
    assert len({missing, false, empty}) == 3


def test_what_a_hash_of_half_the_bits_would_overlook() -> None:
    found = hash_rows(batch(a=[1, 2**32, 2**53 + 1, 2**53 + 2, -1, 2**63 - 1, -(2**63)]))
    assert len(set(found.tolist())) == 7


def test_a_sum_sees_what_moved_between_rows_and_columns_but_not_the_order_of_rows() -> None:
    one = hashes(a=[1, 2, 2], b=["x", "y", "y"])
    assert hashes(a=[2, 1, 2], b=["y", "x", "y"]).total == one.total
    for other in (
        hashes(a=[2, 1, 2], b=["x", "y", "y"]),
        hashes(a=[1, 2, 1], b=["x", "y", "x"]),
        hashes(a=[1, 2], b=["x", "y"]),
    ):
        assert other.total != one.total
        assert other.hexdigest() != one.hexdigest()
    assert hashes(a=[1, 2]).total != hashes(a=["1", "2"]).total


def test_a_slice_of_a_batch_is_hashed_as_its_own_rows() -> None:
    texts = ["a", None, "b" * 12, "c" * 13, "b" * 12, "é"]
    whole = batch(t=texts, n=pa.array([1, None, 3, 4, 5, 6]))
    assert hash_rows(whole.slice(2, 3)).tolist() == hash_rows(whole)[2:5].tolist()


@pytest.mark.slow
def test_a_server_hashes_every_kind_and_length_alike(postgres: str) -> None:
    rng = np.random.default_rng(3)
    n, lost = 400, rng.random(400) < 0.1
    letters = list("abcdé€😀 ")
    texts = ["".join(rng.choice(letters, k % 50)) for k in range(n)]
    days = [dt.date(1890, 1, 1) + dt.timedelta(days=200 * k) for k in range(n)]
    at = rng.integers(-(10**16), 10**16, n)
    rows = batch(
        whole=pa.array(rng.integers(-(2**53), 2**53, n), mask=lost),
        small=pa.array(rng.integers(-2, 3, n), pa.int16()),
        number=pa.array(rng.normal(0, 1e9, n), mask=lost),
        single=pa.array(rng.normal(0, 1, n), pa.float32()),
        flag=pa.array(rng.random(n) < 0.5, mask=lost),
        text=pa.array(texts, mask=lost),
        day=pa.array(days, mask=lost),
        time=pa.array(at, pa.timestamp("us"), mask=lost),
        instant=pa.array(at, pa.timestamp("us", "UTC"), mask=lost),
    )
    with (
        stores.postgres(table_address(f"{postgres}&table=x")) as connection,
        connection.cursor() as cursor,
    ):
        cursor.adbc_ingest("row_hashes", rows, mode="create")
        cursor.execute(f"SELECT {hashed_in_sql(rows.schema)}, {SAMPLE_SQL} FROM row_hashes")
        found = cursor.fetch_arrow_table()
    assert found.column(0).to_numpy().astype("uint64").tolist() == hash_rows(rows).tolist()
    assert found.column(1)[0].as_py() % 2**64 == hash_rows(sample_row())[0]
    assert len(set(hash_rows(rows).tolist())) == n
