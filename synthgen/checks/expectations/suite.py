"""A schema as a Great Expectations suite, and rows held against it, batch by batch.

Great Expectations puts offending values into its results unless told not to, so results are asked
for with no samples and only counts are taken out of them, by name. Nothing is stored: ephemeral
context, no Data Docs. An expectation that raised is a failure, never "skipped".

Four rules are ours, because Great Expectations cannot say them batch by batch or misjudges them
(pandas 3 strings): the canonical dtype, numbers finite and at the declared decimals, ids unique
over all batches, and rules between columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from synthgen.conform import conform, violations
from synthgen.constraints import Broken, learnt
from synthgen.errors import Violation
from synthgen.repeats import Repeats
from synthgen.schema import Column, TableSchema
from synthgen.sources import open_source
from synthgen.table import canonical_dtype, declared_bound

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite

#: Expectation type -> the rule's name in a measurement.
RULES = {
    "expect_table_columns_to_match_ordered_list": "columns",
    "expect_column_values_to_not_be_null": "not_null",
    "expect_column_values_to_be_between": "between",
    "expect_column_values_to_be_in_set": "in_set",
    "expect_column_values_to_be_unique": "unique",
}


def suite(schema: TableSchema) -> ExpectationSuite:
    """Return `schema` as a suite: columns in order, not null, between, in set, unique ids.

    Bounds and categories in it are the schema's: if they were read from the data, so are these.
    """
    gx = great_expectations()
    gxe = gx.expectations
    context()  # a suite cannot be built without an active one
    found: ExpectationSuite = gx.ExpectationSuite(name=schema.name)
    found.add_expectation(gxe.ExpectTableColumnsToMatchOrderedList(column_list=schema.names))
    for c in schema.columns:
        if not c.nullable:
            found.add_expectation(gxe.ExpectColumnValuesToNotBeNull(column=c.name))
        if c.kind in ("numeric", "datetime") and (c.minimum, c.maximum) != (None, None):
            low, high = _bound(c, c.minimum), _bound(c, c.maximum)
            found.add_expectation(
                gxe.ExpectColumnValuesToBeBetween(column=c.name, min_value=low, max_value=high)
            )
        if c.kind == "categorical" and c.categories is not None:
            found.add_expectation(
                gxe.ExpectColumnValuesToBeInSet(column=c.name, value_set=list(c.categories))
            )
        if _is_unique(c):
            found.add_expectation(gxe.ExpectColumnValuesToBeUnique(column=c.name))
    return found


def count_rows(frames: Iterable[pd.DataFrame], schema: TableSchema) -> Tally:
    """Count what rows by themselves break: by Great Expectations, and by our own rules.

    Tallies of the parts of a table add up to that of the whole; see `check_frames`.
    """
    tally, rules = Tally(), _RowRules(schema)
    for frame in frames:
        tally.n_rows += len(frame)
        rules.count(frame, tally)
    return tally


class _RowRules:
    """The rules of a schema that need one row at a time to be held against it."""

    def __init__(self, schema: TableSchema) -> None:
        self._schema = schema
        self._suite, self._batch = _row_rules(suite(schema)), batch_definition()

    def count(self, frame: pd.DataFrame, tally: Tally) -> None:
        """Add what the rows of `frame` break."""
        if not len(frame):
            return
        batch = self._batch.get_batch({"dataframe": frame})
        for one in batch.validate(self._suite, result_format=RESULT_FORMAT).results:
            tally.add(*_projected(one))
        for column in self._schema.columns:
            if column.name in frame.columns:
                for rule, count in _own_rules(frame[column.name], column):
                    tally.add((column.name, rule), count)


def check_frames(
    frames: Iterable[pd.DataFrame],
    schema: TableSchema,
    *,
    name: str,
    by_row: Sequence[Tally] | None = None,
) -> list[Measurement]:
    """Hold canonical frames against `schema`; row-wise counts of the batches add up.

    Parameters
    ----------
    frames : iterable of DataFrame
        Batches of one table; memory is that of one batch (`Repeats` bounds that of ids).
    schema : TableSchema
    name : str
        ``"input"`` or ``"output"``.
    by_row : sequence of Tally, optional
        What `count_rows` counted in the parts of the same table, elsewhere.

    Returns
    -------
    list of Measurement
        ``schema.<name>.<column>.<rule>`` with the number of cells that break the rule, and
        ``schema.<name>``: their sum and the number of rules that could not be checked, of which
        one is enough to make it `failed`. No rows at all is `inconclusive`.
    """
    tally = Tally()
    rules = _RowRules(schema) if by_row is None else None
    between = Broken(schema)
    ids = {c.name: Repeats() for c in schema.columns if _is_unique(c)}
    for frame in frames:
        tally.n_rows += len(frame)
        if not len(frame):
            continue
        if rules is not None:
            rules.count(frame, tally)
        for column_name, unique in ids.items():
            if column_name in frame.columns:
                unique.add(frame[column_name])
        if set(schema.names) <= set(frame.columns):
            between.add(frame)
    for part in by_row or ():
        for key, found in part.counts.items():
            tally.add(key, found)
    if by_row is not None and sum(part.n_rows for part in by_row) != tally.n_rows:
        tally.add(("", "parts"), None)  # rows that nobody counted, or that two did
    for column_name, unique in ids.items():
        tally.add((column_name, "unique"), unique.count)
    for constraint, count in between.counts().items():
        tally.add((constraint.columns[0], constraint.kind), count)
    return tally.measurements(name)


def check_file(
    path: str | Path,
    schema: TableSchema,
    *,
    name: str,
    real: pd.DataFrame | None = None,
    count: Callable[[], Sequence[Tally]] | None = None,
) -> list[Measurement]:
    """Read a CSV or Parquet file as anybody would, and hold it against `schema`.

    The file is read twice, in batches: first for everything that cannot be read as the schema says
    (each a measurement ``schema.<name>.<column>.<rule>``); only if there is nothing of the kind,
    the rows go to `check_frames`. With `real` rows, rules that leave to the data what they allow
    are held against what these show. `count` lets others count the rows (see `check_frames`).

    Raises
    ------
    DataError
        If the file cannot be read at all.
    """
    cells = replace(schema, constraints=())  # rules between columns are counted with the rows
    unreadable = violations(open_source(str(path), schema).batches(), cells)
    if unreadable:
        tally = Tally(n_rows=max(v.total for v in unreadable))
        for v in unreadable:
            tally.add((v.column, _slug(v)), max(v.count, 1))
        return tally.measurements(name)
    rules = schema if real is None else learnt(schema, real)
    by_row = None if count is None else count()
    return check_frames(_canonical(path, schema), rules, name=name, by_row=by_row)


@dataclass
class Tally:
    """Rows that were looked at, and broken ones by (column, rule); None: could not be checked."""

    n_rows: int = 0
    counts: dict[tuple[str, str], int | None] = field(default_factory=dict)

    def add(self, key: tuple[str, str], count: int | None) -> None:
        """Add to what is there; what could not be checked once stays so."""
        before = self.counts.get(key, 0)
        self.counts[key] = None if count is None or before is None else before + count

    def measurements(self, name: str) -> list[Measurement]:
        """Return ``schema.<name>`` and what it sums up."""
        found = [self._one(f"schema.{name}", key, count) for key, count in self.counts.items()]
        unknown = sum(m.value is None for m in found)
        total = sum(m.value or 0 for m in found) + unknown
        broken = sum(bool(m.value) for m in found)
        status, note = "measured", f"{broken} of {len(found)} rules broken"
        if unknown:
            status, note = "failed", f"{unknown} of {len(found)} rules could not be checked"
        elif not self.n_rows:
            status, note = "inconclusive", "the table has no rows"
        summary = Measurement(
            f"schema.{name}",
            "schema",
            None if status == "inconclusive" else float(total),
            n=self.n_rows,
            unit="cells",
            status=status,  # type: ignore[arg-type]
            details={"rules": len(found)},
            note=note,
        )
        return [summary, *found]

    def _one(self, prefix: str, key: tuple[str, str], count: int | None) -> Measurement:
        label = ".".join([prefix, *filter(None, key)])
        if count is None:
            note = "the expectation raised an error instead of an answer"
            return Measurement(label, "schema", None, n=self.n_rows, status="failed", note=note)
        return Measurement(label, "schema", float(count), n=self.n_rows, unit="rows")


def rule_of(expectation: Any) -> str:
    """Return ``<column>.<rule>`` of an expectation of `suite`, as in a measurement's name."""
    rule = RULES[expectation.expectation_type]
    column = expectation.configuration.kwargs.get("column")
    return f"{column}.{rule}" if column else rule


def _row_rules(rules: ExpectationSuite) -> ExpectationSuite:
    """Drop uniqueness, which does not add up over batches and is counted over all of them."""
    kept = [
        e for e in rules.expectations if e.expectation_type != "expect_column_values_to_be_unique"
    ]
    return type(rules)(name=rules.name, expectations=kept)


def _projected(result: Any) -> tuple[tuple[str, str], int | None]:
    """Take (column, rule) and a count out of a result, and nothing else; None if it raised.

    A table-wide expectation has no count: broken is 1.
    """
    config, counts = result.expectation_config, result.result
    key = (str(config.kwargs.get("column", "")), RULES.get(config.type, config.type))
    if raised(result.exception_info):
        return key, None
    count = counts.get("unexpected_count") if isinstance(counts, Mapping) else None
    if isinstance(count, int | np.integer) and not isinstance(count, bool):
        return key, max(int(count), int(not bool(result.success)))
    return key, int(not bool(result.success))


def _own_rules(series: pd.Series, column: Column) -> Iterator[tuple[str, int]]:
    if str(series.dtype) != canonical_dtype(column):
        yield "dtype", len(series)
        return
    yield "dtype", 0
    if column.kind == "numeric":
        values = series.to_numpy("float64")
        yield "finite", int(np.isinf(values).sum())
        if column.decimals is not None:
            known = values[np.isfinite(values)]
            whole = np.isclose(known, np.round(known, column.decimals), rtol=1e-12, atol=0)
            yield "decimals", int((~whole).sum())


def _bound(column: Column, bound: float | str | None) -> float | pd.Timestamp | None:
    """Return a bound as Great Expectations compares it: a text raises against timestamps."""
    return declared_bound(bound, column) if isinstance(bound, str) else bound


def _is_unique(column: Column) -> bool:
    """Whether values name one row each; an entity key names several."""
    return column.kind == "id" and column.role != "entity"


def _canonical(path: str | Path, schema: TableSchema) -> Iterator[pd.DataFrame]:
    for batch in open_source(str(path), schema).batches():
        if batch.num_rows:
            yield conform([batch], replace(schema, constraints=())).data


def _slug(violation: Violation) -> str:
    """Return a rule's text as the last part of a measurement's name."""
    words = violation.rule.removeprefix("rows").removeprefix(":").split()
    return "_".join(words).replace(".", "_") or "rule"
