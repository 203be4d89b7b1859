"""What a data owner expects beyond the schema: ``<name>.expectations.json`` beside it.

The file is a suite of Great Expectations as JSON, or just its list of ``{"type", "kwargs"}``. An
expectation on rows is counted batch by batch; one on a whole column (its mean, its uniqueness) or
table is asked once of the columns that it names, read for it alone. Only counts come back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd

from synthgen.checks.check import Measurement
from synthgen.checks.expectations.engine import (
    RESULT_FORMAT,
    batch_definition,
    context,
    great_expectations,
    raised,
)
from synthgen.errors import ConfigError, DataError
from synthgen.files import read_text
from synthgen.schema import TableSchema

#: A larger file is no list of expectations.
MAX_BYTES = 2**20
#: Answered row by row, but not from one batch: about order, uniqueness or all rows' spread.
_NOT_ADDITIVE = (
    "expect_column_values_to_be_unique",
    "expect_compound_columns_to_be_unique",
    "expect_column_values_to_be_increasing",
    "expect_column_values_to_be_decreasing",
    "expect_column_value_z_scores_to_be_less_than",
    "expect_column_values_to_not_be_outliers",
)
#: About the header alone.
_HEADER = (
    "expect_column_to_exist",
    "expect_column_type_to_be",
    "expect_table_column_count_to_be_between",
    "expect_table_column_count_to_equal",
    "expect_table_columns_to_match_ordered_list",
    "expect_table_columns_to_match_set",
)
_REFUSED = {
    "expect_query_results_to_match_comparison": "asks a database",
    "unexpected_rows_expectation": "asks a database",
    "expect_table_row_count_to_equal_other_table": "asks for another table",
}
#: Keys of an entry that choose what a result shows: ours shows counts.
_IGNORED = ("result_format", "include_config", "catch_exceptions", "batch_id")

Scope = Literal["rows", "whole", "header"]


class Readable(Protocol):
    """A table that is read batch by batch or column by column."""

    def __len__(self) -> int: ...

    def batches(self) -> Iterator[pd.DataFrame]:
        """Yield all rows in canonical frames."""

    def column(self, name: str) -> pd.Series:
        """Return one column whole."""


@dataclass(frozen=True)
class OwnExpectation:
    """One entry of the file.

    Attributes
    ----------
    number : int
        From 1, in the order of the file.
    type : str
        As Great Expectations calls it, ``expect_column_values_to_be_between``.
    kwargs : dict
        Its arguments.
    scope : {"rows", "whole", "header"}
        Whether batches add up, whole columns are needed, or the header says it.
    """

    number: int
    type: str
    kwargs: Mapping[str, Any]
    scope: Scope

    @property
    def name(self) -> str:
        """Of its measurement."""
        return f"expectation.{self.number}.{self.type}"

    @property
    def columns(self) -> list[str]:
        """The columns that it names."""
        return _columns(self.kwargs)

    @property
    def mostly(self) -> float:
        """Share of the rows that must keep it."""
        return float(self.kwargs.get("mostly", 1.0))

    def build(self) -> Any:
        """Return it as an object of Great Expectations."""
        return _build(self.type, self.kwargs)


def beside(schema_path: str | Path) -> Path:
    """Return where the expectations of a schema file are kept, whether or not there are any."""
    return Path(schema_path).with_suffix(".expectations.json")


def load_expectations(path: Path, schema: TableSchema) -> tuple[OwnExpectation, ...]:
    """Read a file of expectations on the columns of `schema`.

    Raises
    ------
    ConfigError
        Listing every entry that is unknown, wrong, or about a column that is not there.
    """
    try:
        text = read_text(path, MAX_BYTES)
        if text is None:
            raise ConfigError(f"expectations {path} are larger than {MAX_BYTES:,} bytes")
        raw = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read expectations {path}: {type(error).__name__}") from None
    entries = raw.get("expectations") if isinstance(raw, dict) else raw
    if not isinstance(entries, list):
        raise ConfigError(
            f'expectations {path}: a list of {{"type", "kwargs"}} or a suite of Great Expectations '
            "is wanted"
        )
    context()  # an expectation cannot be built without an active one
    found, problems = [], []
    for number, entry in enumerate(entries, 1):
        read = _read(number, entry, schema)
        if isinstance(read, OwnExpectation):
            found.append(read)
        else:
            problems += [f"  - expectation {number}: {problem}" for problem in read]
    if problems:
        raise ConfigError("\n".join([f"expectations {path} cannot be used:", *problems]))
    return tuple(found)


def as_json(expectations: Sequence[OwnExpectation]) -> str:
    """Return a text that `load_expectations` reads as the same expectations."""
    return json.dumps([{"type": e.type, "kwargs": e.kwargs} for e in expectations], indent=1)


def check_own(expectations: Sequence[OwnExpectation], table: Readable) -> list[Measurement]:
    """Hold `table` against each expectation: ``expectation.<number>.<type>``.

    The value is the number of rows that break it beyond what ``mostly`` allows, or 1 for a broken
    expectation on a whole column or table; 0 is kept. One that raised is `failed`.
    """
    if not expectations:
        return []
    counts = {e.number: _Count() for e in expectations}
    built = {e.number: e.build() for e in expectations}
    by_row = [e for e in expectations if e.scope == "rows"]
    definition = batch_definition()

    def ask(e: OwnExpectation, frame: pd.DataFrame) -> None:
        batch = definition.get_batch({"dataframe": frame})
        counts[e.number].add(batch.validate(built[e.number], result_format=RESULT_FORMAT))

    header = None
    for frame in table.batches():
        header = frame if header is None else header
        for e in by_row if len(frame) else ():
            ask(e, frame)
    for e in expectations:
        if e.scope == "whole":
            ask(e, pd.DataFrame({c: table.column(c) for c in e.columns}, range(len(table))))
        elif e.scope == "header" and header is not None:
            ask(e, header)
    return [_measurement(e, counts[e.number], len(table)) for e in expectations]


def refuse_broken(found: Sequence[Measurement]) -> None:
    """Raise for what the input itself does not keep: DataError, or ConfigError if it raised."""
    crashed = [m for m in found if m.status == "failed"]
    if crashed:
        raise ConfigError(
            "\n".join(
                [
                    "expectations that could not be checked on the input; correct them (a datetime "
                    "is written 2024-01-31T00:00:00):",
                    *(f"  - {m.name}: {m.note}" for m in crashed),
                ]
            )
        )
    broken = [f"  - {m.name}: {m.note}" for m in found if m.value]
    if broken:
        raise DataError(
            "\n".join(
                [
                    "the input does not keep what its expectations file expects; correct the rows, "
                    'or allow some with "mostly":',
                    *broken,
                ]
            )
        )


# --- parts ---------------------------------------------------------------------------------------


@dataclass
class _Count:
    """What the batches of one expectation said, added up."""

    unexpected: int = 0
    considered: int = 0
    is_counted: bool = False
    is_broken: bool = False
    is_crashed: bool = False

    def add(self, result: Any) -> None:
        counts = result.result if isinstance(result.result, Mapping) else {}
        self.is_crashed |= raised(result.exception_info)
        self.is_broken |= not bool(result.success)
        unexpected, rows = counts.get("unexpected_count"), counts.get("element_count")
        if isinstance(unexpected, int | np.integer) and isinstance(rows, int | np.integer):
            self.is_counted = True
            self.unexpected += int(unexpected)
            self.considered += int(rows) - int(counts.get("missing_count") or 0)

    def beyond(self, mostly: float) -> int:
        """Return how many rows break it that must not; 1 for a broken rule without a count."""
        if not self.is_counted:
            return int(self.is_broken)
        allowed = math.floor((1 - mostly) * self.considered + 1e-9)
        is_unexplained = self.is_broken and not self.unexpected
        return max(self.unexpected - allowed, int(is_unexplained))


def _measurement(e: OwnExpectation, count: _Count, n_rows: int) -> Measurement:
    columns = f"columns {', '.join(e.columns)}: " if e.columns else ""
    if count.is_crashed or not n_rows:
        note = "it raised an error instead of an answer" if n_rows else "the table has no rows"
        return Measurement(e.name, "schema", None, status="failed", note=columns + note)
    said = "is not met" if count.is_broken else "is met"
    if count.is_counted:
        said = f"{count.unexpected:,} of {count.considered:,} rows break it"
        said += f"; {1 - e.mostly:.3g} of them may" if e.mostly < 1 else ""
    return Measurement(
        e.name,
        "schema",
        float(count.beyond(e.mostly)),
        n=n_rows,
        unit="rows" if count.is_counted else "rules",
        details={"columns": e.columns, "unexpected": count.unexpected, "mostly": e.mostly},
        note=columns + said,
    )


def _read(number: int, entry: Any, schema: TableSchema) -> OwnExpectation | list[str]:
    """Return the entry, or what is wrong with it."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("type"), str):
        return ['must be an object with a text "type"']
    kind, kwargs = entry["type"], entry.get("kwargs", {})
    if not isinstance(kwargs, Mapping):
        return [f'{kind}: "kwargs" must be an object']
    kwargs = {k: v for k, v in kwargs.items() if k not in _IGNORED}
    if kind in _REFUSED:
        return [f"{kind} {_REFUSED[kind]}; rows of one table are checked here"]
    if kwargs.get("row_condition") is not None:
        return [f"{kind}: row_condition is not supported, it would be run as code"]
    if not isinstance(kwargs.get("mostly", 1.0), int | float):
        return [f"{kind}: mostly must be a number from 0 to 1"]
    strangers = [c for c in _columns(kwargs) if c not in schema.names]
    if strangers:
        return [f"{kind}: column '{c}' is not in the schema" for c in strangers]
    problems = _problems(kind, kwargs)
    return problems or OwnExpectation(number, kind, kwargs, _scope(kind))


def _problems(kind: str, kwargs: Mapping[str, Any]) -> list[str]:
    """Return why Great Expectations does not take the entry; nothing if it does."""
    try:
        _build(kind, kwargs)
    except Exception as error:  # it raises its own, pydantic's and plain ones
        listed = getattr(error, "errors", None)
        if callable(listed):
            return [f"{kind}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in listed()]
        unknown = type(error).__name__ == "ExpectationNotFoundError"
        return [f"{kind} is no expectation" if unknown else f"{kind}: {type(error).__name__}"]
    return []


def _build(kind: str, kwargs: Mapping[str, Any]) -> Any:
    great_expectations()
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    return ExpectationConfiguration(type=kind, kwargs=dict(kwargs)).to_domain_obj()


def _scope(kind: str) -> Scope:
    from great_expectations.expectations.expectation import (
        ColumnMapExpectation,
        ColumnPairMapExpectation,
        MulticolumnMapExpectation,
    )
    from great_expectations.expectations.registry import get_expectation_impl

    if kind in _HEADER:
        return "header"
    by_row = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
    is_by_row = issubclass(get_expectation_impl(kind), by_row)
    return "rows" if is_by_row and kind not in _NOT_ADDITIVE else "whole"


def _columns(kwargs: Mapping[str, Any]) -> list[str]:
    named = [kwargs.get(k) for k in ("column", "column_A", "column_B")]
    listed = kwargs.get("column_list")
    named += listed if isinstance(listed, list) else []
    return [c for c in named if isinstance(c, str)]
