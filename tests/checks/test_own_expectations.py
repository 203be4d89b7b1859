"""What a data owner expects beyond the schema: read, counted over batches, gating, no cell."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pytest

from synthgen.checks.check import Report
from synthgen.checks.expectations import (
    as_json,
    beside,
    check_frames,
    check_own,
    data_docs,
    load_expectations,
    refuse_broken,
)
from synthgen.checks.gate import decide
from synthgen.config import GatePolicy
from synthgen.errors import ConfigError, DataError
from synthgen.schema import Column, TableSchema

CANARY = "CANARY-4410"
SCHEMA = TableSchema(
    name="stays",
    columns=(
        Column(name="start", kind="datetime"),
        Column(name="end", kind="datetime"),
        Column(name="a", kind="numeric", maximum=100),
        Column(name="b", kind="numeric", nullable=True),
        Column(name="c", kind="categorical", categories=("x", "y")),
    ),
)


@dataclass
class Batched:
    """Frames as one table."""

    frames: list[pd.DataFrame]

    def __len__(self) -> int:
        return sum(map(len, self.frames))

    def batches(self) -> Iterator[pd.DataFrame]:
        yield from self.frames

    def column(self, name: str) -> pd.Series:
        return pd.concat([f[name] for f in self.frames], ignore_index=True)


def frame(a: list[float], b: list[float | None], c: str = "x") -> pd.DataFrame:
    start = pd.Series(pd.Timestamp("2024-01-01"), range(len(a))).astype("datetime64[us]")
    return pd.DataFrame(
        {
            "start": start,
            "end": (start + pd.to_timedelta(a, "D")).astype("datetime64[us]"),
            "a": a,
            "b": pd.Series(b, dtype="float64"),
            "c": pd.Series([c] * len(a), dtype="str"),
        }
    )


#: Two batches: a is 1, 2 and 3, 4; b is known three times.
TABLE = Batched([frame([1.0, 2.0], [1.0, None]), frame([3.0, 4.0], [3.0, 9.0])])


def found(tmp_path: Path, *entries: object, table: Batched = TABLE):
    path = tmp_path / "stays.expectations.json"
    path.write_text(json.dumps(entries))
    return check_own(load_expectations(path, SCHEMA), table)


def entry(kind: str, **kwargs: object) -> dict[str, object]:
    return {"type": f"expect_{kind}", "kwargs": kwargs}


ORDER = entry("column_pair_values_a_to_be_greater_than_b", column_A="end", column_B="start")


@pytest.mark.parametrize(
    ("expected", "broken"),
    [
        (entry("column_values_to_be_between", column="a", max_value=2), 2),  # 3 and 4
        (entry("column_values_to_be_between", column="a", max_value=2, mostly=0.5), 0),
        (entry("column_values_to_be_between", column="a", max_value=2, mostly=0.75), 1),
        (entry("column_values_to_be_between", column="b", max_value=2, mostly=0.66), 1),  # of 3
        (ORDER, 0),
        (entry("multicolumn_sum_to_equal", column_list=["a", "b"], sum_total=2), 3),
        # each batch by itself has two different values, both have; the table has four
        (entry("column_unique_value_count_to_be_between", column="a", min_value=4), 0),
        (entry("column_values_to_be_unique", column="c"), 4),
        (entry("column_mean_to_be_between", column="a", min_value=2.5, max_value=2.5), 0),
        (entry("column_mean_to_be_between", column="a", max_value=2), 1),
        (entry("table_row_count_to_equal", value=4), 0),
        (entry("table_row_count_to_be_between", max_value=3), 1),
        (entry("table_column_count_to_equal", value=5), 0),
    ],
)
def test_counts_are_those_of_the_whole_table(tmp_path, expected, broken):
    (m,) = found(tmp_path, expected)
    assert (m.status, m.value, m.name) == ("measured", broken, f"expectation.1.{expected['type']}")


def test_a_failed_and_a_crashed_one_refuse(tmp_path):
    by_date = entry("column_values_to_be_between", column="start", min_value="2020-01-01")
    measured = found(tmp_path, ORDER, entry("column_mean_to_be_between", column="a", max_value=2))
    measured += [m for m in found(tmp_path, ORDER, ORDER, by_date) if m.status == "failed"]
    rules = decide(Report(tuple(measured)), GatePolicy(), fingerprint="").rules
    answered = {r.name.split(".")[1]: r.passed for r in rules if r.name.startswith("expectation")}
    assert answered == {"1": True, "2": False, "3": False}


def test_no_rows_prove_nothing(tmp_path):
    (m,) = found(tmp_path, ORDER, table=Batched([TABLE.frames[0].iloc[:0]]))
    assert m.status == "failed"


def test_the_input_is_refused_before_training(tmp_path):
    refuse_broken(found(tmp_path, ORDER))
    with pytest.raises(DataError, match=r"columns a: 2 of 4 rows break it"):
        refuse_broken(
            found(tmp_path, entry("column_values_to_be_between", column="a", max_value=2))
        )
    with pytest.raises(ConfigError, match="2024-01-31T00:00:00"):
        refuse_broken(
            found(tmp_path, entry("column_values_to_be_between", column="start", min_value="2020"))
        )


def test_every_problem_of_the_file_is_said_at_once(tmp_path):
    with pytest.raises(ConfigError) as raised:
        found(
            tmp_path,
            ORDER,
            {"kwargs": {}},
            entry("nothing_i_know"),
            entry("column_values_to_be_in_set", column="c"),
            entry("column_values_to_be_null", column="gone"),
            entry("column_values_to_be_null", column="b", row_condition="a > 1"),
            {"type": "unexpected_rows_expectation", "kwargs": {}},
        )
    lines = str(raised.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == [
        f"- expectation {n}" for n in (2, 3, 4, 5, 6, 7)
    ]
    assert "value_set: field required" in lines[2]
    assert "'gone' is not in the schema" in lines[3]


@pytest.mark.parametrize("text", ["{", "3", '{"a": 1}'])
def test_a_file_that_is_no_list_is_an_error(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="expectations"):
        load_expectations(path, SCHEMA)


def test_a_suite_of_the_library_is_read_and_travels(tmp_path):
    path = beside(tmp_path / "stays.toml")
    assert path.name == "stays.expectations.json"
    path.write_text(json.dumps({"name": "s", "meta": {}, "expectations": [ORDER]}))
    (one,) = load_expectations(path, SCHEMA)
    path.write_text(as_json([one]))
    assert load_expectations(path, SCHEMA) == (one,)


def test_data_docs_hold_counts_and_no_cell_and_ask_nobody(tmp_path):
    path = tmp_path / "e.json"
    path.write_text(json.dumps([entry("column_values_to_be_in_set", column="c", value_set=["x"])]))
    own = load_expectations(path, SCHEMA)
    table = Batched([frame([1.0, 777.125], [None, 2.0], CANARY)])
    measured = [*check_frames(table.batches(), SCHEMA, name="output"), *check_own(own, table)]
    page = data_docs(SCHEMA, own, measured)
    told = page + json.dumps([asdict(m) for m in measured])
    assert CANARY not in told
    assert "777" not in told
    assert "default-src 'none'" in page
    assert "2 unexpected values found" in page
    assert "values must be less than or equal to" in page


def test_what_was_not_measured_is_not_met_in_data_docs():
    page = data_docs(SCHEMA, (), [])
    assert "raised an error" in page
