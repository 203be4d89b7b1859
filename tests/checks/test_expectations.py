"""The schema as a suite: counts and nothing but counts."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from synthgen.checks.expectations import RULES, check_file, check_frames, suite
from synthgen.schema import Column, TableSchema
from synthgen.table import to_arrow

CANARY = "CANARY-7391"
SCHEMA = TableSchema(
    name="t",
    columns=(
        Column(name="id", kind="id"),
        Column(name="a", kind="numeric", minimum=0, maximum=10, decimals=0),
        Column(name="c", kind="categorical", categories=("x", "y"), nullable=True),
        Column(name="d", kind="datetime", minimum="2020-01-01", timezone="Europe/Berlin"),
    ),
)


def frame(ids: list[str], a: list[float], c: list[str | None], days: list[str]) -> pd.DataFrame:
    stamps = pd.Series(pd.to_datetime(days)).dt.tz_localize("Europe/Berlin")
    return pd.DataFrame(
        {
            "id": pd.Series(ids, dtype="str"),
            "a": a,
            "c": pd.Series(c, dtype="str"),
            "d": stamps.astype("datetime64[us, Europe/Berlin]"),
        }
    )


GOOD = frame(["1", "2"], [0.0, 10.0], ["x", None], ["2020-01-01", "2021-06-01"])
BAD = frame(["2", "3"], [11.0, 0.5], [CANARY, "y"], ["2019-12-31", "2021-06-01"])


def broken(measurements) -> dict[str, float]:
    return {m.name: m.value for m in measurements if m.value}


def test_the_suite_says_what_the_schema_says():
    rules = sorted(RULES[e.expectation_type] for e in suite(SCHEMA).expectations)
    assert rules == sorted(
        ["columns", "between", "between", "in_set", "unique", "not_null", "not_null", "not_null"]
    )


def test_counts_add_up_over_batches_and_ids_are_unique_over_all():
    assert broken(check_frames([GOOD], SCHEMA, name="output")) == {}
    assert broken(check_frames([GOOD, BAD], SCHEMA, name="output")) == {
        "schema.output": 5,
        "schema.output.a.between": 1,
        "schema.output.a.decimals": 1,
        "schema.output.c.in_set": 1,
        "schema.output.d.between": 1,
        "schema.output.id.unique": 1,
    }


def test_no_cell_is_in_a_result():
    text = json.dumps([asdict(m) for m in check_frames([BAD], SCHEMA, name="input")])
    assert "schema.input.c.in_set" in text
    assert CANARY not in text
    assert "2019" not in text


def test_an_expectation_that_raises_is_a_failure():
    found = {m.name: m for m in check_frames([GOOD.drop(columns="a")], SCHEMA, name="output")}
    assert found["schema.output.a.between"].status == "failed"
    assert found["schema.output"].status == "failed"
    assert found["schema.output.columns"].value == 1


def test_a_wrong_dtype_counts_every_row():
    wrong = GOOD.assign(a=GOOD["a"].astype("int64"))
    assert broken(check_frames([wrong], SCHEMA, name="output"))["schema.output.a.dtype"] == 2


def test_no_rows_prove_nothing():
    assert check_frames([GOOD.iloc[:0]], SCHEMA, name="output")[0].status == "inconclusive"


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_file_is_checked_as_written(tmp_path: Path, ending: str):
    schema = replace(SCHEMA, columns=SCHEMA.columns[:3])
    path = tmp_path / f"rows.{ending}"

    def write(table: pd.DataFrame) -> None:
        if ending == "csv":
            table[schema.names].to_csv(path, index=False)
        else:
            pq.write_table(to_arrow(table, schema), path)

    write(GOOD)
    summary, *_ = check_file(path, schema, name="output")
    assert (summary.value, summary.status, summary.n) == (0, "measured", 2)
    write(BAD.assign(a=[11.0, 1.0]))
    found = check_file(path, schema, name="output")
    assert found[0].value == 2
    assert CANARY not in json.dumps([asdict(m) for m in found])
