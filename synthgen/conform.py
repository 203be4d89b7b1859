"""Arrow batches + schema -> RealTable, or ALL violations with counts.

One reader a kind turns an untrusted Arrow array into the canonical one and counts what it had to
leave out. `violations` adds those counts up and forgets the values; `conform` keeps them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from synthgen import constraints
from synthgen.errors import DataError, SchemaError, Violation
from synthgen.repeats import Repeats
from synthgen.schema import Column, TableSchema
from synthgen.table import PackedTable, RealTable, declared_bound, localize

MAX_EXACT = 2**53  # from here on a float64 may stand for several whole numbers
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
FREE_TEXT = (
    "free text is neither modelled nor copied; drop it from the file, "
    'declare what replaces it (pii = "name"), or make it kind = "categorical"'
)
_WHOLE = r"^[+-]?\d+$"
_ISO = r"^\d{4}-?\d\d-?\d\d([T ]\d\d(:?\d\d(:?\d\d([.,]\d+)?)?)? ?(Z|[+-]\d\d(:?\d\d)?)?)?$"
_OFFSET = r"[T ]\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"
#: What pandas calls a resolution.
FREQUENCIES = {"day": "D", "hour": "h", "minute": "min", "second": "s", "microsecond": "us"}


class Broken(Counter[tuple[str, str]]):
    """From (rule, remedy) to the number of cells that break the rule; zeros are not kept."""

    def note(self, count: int, rule: str, remedy: str) -> None:
        """Add `count` cells."""
        if count:
            self[rule, remedy] += int(count)


def conform(batches: Iterable[pa.RecordBatch], schema: TableSchema) -> RealTable:
    """Return what `conform_packed` returns, as a frame: five times its memory."""
    return conform_packed(batches, schema).unpack()


def conform_packed(batches: Iterable[pa.RecordBatch], schema: TableSchema) -> PackedTable:
    """Return the rows of `batches` as a table that obeys `schema`, columns in the schema's order.

    Missing are: nulls, NaN, empty texts, and the texts that the column or the schema list as such.
    Datetimes are cut to microseconds; of local times that a clock change doubles the first is read,
    those it skips move to the next time that exists (`table.localize`).

    Raises
    ------
    DataError
        Listing every rule that some row breaks, with its count; `violations` returns the same.
    """
    reading = _read(batches, schema, keep=True)
    table = reading.table() if not (found := reading.violations()) else None
    if table is not None:
        found = constraints.violations(table.batches(), schema)
    if table is None or found:
        raise DataError(f"the data does not conform to schema '{schema.name}':", found)
    return table


def conform_loosely(batches: Iterable[pa.RecordBatch], schema: TableSchema) -> PackedTable:
    """Return what `conform_packed` returns, but cells that cannot be read are missing.

    For a table that is to be judged, where broken rules are an answer (see `violations`). Other
    rules than those of reading, such as bounds, leave a cell as it is.

    Raises
    ------
    DataError
        If there are no rows, or a column is missing, unknown or there twice.
    """
    reading = _read(batches, schema, keep=True)
    of_columns = {*reading.absent, *reading.unknown, *reading.repeated}
    found = reading.violations()
    if of_columns or not reading.n_rows:
        raise DataError(f"the data does not conform to schema '{schema.name}':", found)
    return reading.table()


def violations(batches: Iterable[pa.RecordBatch], schema: TableSchema) -> list[Violation]:
    """Return every rule of `schema` that rows of `batches` break.

    Memory is that of one batch (`Repeats` bounds that of ids); but rules between columns are held
    against all rows, once their cells are what the schema says.
    """
    reading = _read(batches, schema, keep=bool(schema.constraints))
    found = reading.violations()
    if found or not schema.constraints:
        return found
    return constraints.violations(reading.table().batches(), schema)


def refuse_unmodelled(schema: TableSchema) -> None:
    """Raise SchemaError listing every column of free text that nothing is declared to replace.

    An inferred column says why it was taken for text (counts, no cell).
    """
    texts = [c for c in schema.columns if c.kind == "text" and c.pii is None]
    if texts:
        raise SchemaError("\n".join(f"column '{c.name}': {c.reason or FREE_TEXT}" for c in texts))


@dataclass
class _ColumnReading:
    """What is known so far of one column that data and schema share."""

    column: Column
    keep: bool
    broken: Broken = field(default_factory=Broken)
    kept: list[pa.Array] = field(default_factory=list)
    repeats: Repeats = field(default_factory=Repeats)

    def add(self, array: pa.Array, schema: TableSchema) -> None:
        """Read one batch's cells."""
        values, broken = read_column(array, self.column, schema)
        self.broken.update(broken)
        if self._must_be_unique:
            self.repeats.add(values.to_pandas())
        if self.keep:
            packed = self.column.kind == "categorical"
            self.kept.append(values.dictionary_encode() if packed else values)

    @property
    def _must_be_unique(self) -> bool:
        return self.column.kind == "id" and self.column.role != "entity"

    def finish(self) -> None:
        """Check the one rule that needs all rows."""
        if self._must_be_unique:
            self.broken.note(
                self.repeats.count,
                "repeat a value of another row",
                'an id names one row; use role = "entity" if rows share it',
            )


@dataclass
class _Reading:
    """All columns, and the rules that are about columns rather than cells."""

    schema: TableSchema
    columns: dict[str, _ColumnReading]
    n_rows: int = 0
    absent: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)

    def add(self, batch: pa.RecordBatch) -> None:
        self.n_rows += batch.num_rows
        counts = Counter(batch.schema.names)
        for name, reading in self.columns.items():
            if counts[name] == 1:
                reading.add(batch.column(name), self.schema)
            elif counts[name] == 0:
                self.absent[name] += batch.num_rows
            else:
                self.repeated[name] += batch.num_rows
        for name in counts:
            if name not in self.columns:
                self.unknown[name] += batch.num_rows

    def table(self) -> PackedTable:
        """Return what was kept."""
        arrays = [pa.chunked_array(self.columns[c.name].kept) for c in self.schema.columns]
        return PackedTable(self.schema, pa.table(arrays, names=self.schema.names))

    def violations(self) -> list[Violation]:
        n = self.n_rows
        if not n:
            return [Violation("", "rows: the table is empty", 0, 0, "give at least one row")]
        table_rules = [
            (self.absent, "rows lack the column", "add it to the data or drop it from the schema"),
            (self.repeated, "rows hold the column twice", "give every column its own name"),
            (
                self.unknown,
                "rows hold a column that the schema does not have",
                "describe it in a [[column]] of the schema or drop it from the data",
            ),
        ]
        found = [
            Violation(name, rule, count, n, remedy)
            for counter, rule, remedy in table_rules
            for name, count in counter.items()
        ]
        for name, reading in self.columns.items():
            for (rule, remedy), count in reading.broken.items():
                found.append(Violation(name, f"rows {rule}", count, n, remedy))
        return found


def _read(batches: Iterable[pa.RecordBatch], schema: TableSchema, *, keep: bool) -> _Reading:
    columns = {c.name: _ColumnReading(c, keep) for c in schema.columns}
    reading = _Reading(schema, columns)
    for batch in batches:
        reading.add(batch)
    for column in columns.values():
        column.finish()
    return reading


# --- one column -----------------------------------------------------------------------------------


def read_column(array: pa.Array, column: Column, schema: TableSchema) -> tuple[pa.Array, Broken]:
    """Return the canonical Arrow array of `array`, and how many cells break which rule.

    Parameters
    ----------
    array : Array, (N,)
        Any Arrow type; texts are parsed, typed values converted.
    column : Column
    schema : TableSchema
        For `strip` and the table-wide texts that mean missing.

    Returns
    -------
    values : Array, (N,)
        float64, bool, timestamp[us] (with the column's zone) or string; null where missing or
        where the cell breaks a rule of its type.
    broken : Broken
    """
    broken = Broken()
    plain = plain_array(array)
    if plain is None:
        broken.note(len(array), "do not hold one value a cell", "flatten or drop the column")
        return pa.nulls(len(array), _arrow_type(column)), broken
    cells = blank_missing(plain, column, schema)
    if not column.nullable:
        rule = "are missing, but the column is not nullable"
        broken.note(cells.null_count, rule, "set nullable = true or fill them")
    return _READERS[column.kind](cells, column, broken), broken


def _arrow_type(column: Column) -> pa.DataType:
    if column.kind == "datetime":
        return pa.timestamp("us", column.timezone)
    return {"numeric": pa.float64(), "boolean": pa.bool_()}.get(column.kind, pa.string())


def plain_array(array: pa.Array) -> pa.Array | None:
    """Return `array` as string, bool, a number or a timestamp; None if its type is none of them."""
    t = array.type
    if pa.types.is_dictionary(t):
        return plain_array(array.cast(t.value_type))
    as_text = (
        pa.types.is_null,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_time,
    )
    if any(test(t) for test in as_text):
        return array.cast(pa.string())
    if pa.types.is_date(t):
        return array.cast(pa.timestamp("us" if pa.types.is_date32(t) else "ms"))
    if pa.types.is_float16(t):
        return array.cast(pa.float32())
    simple = (
        pa.types.is_string, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating,
        pa.types.is_decimal, pa.types.is_timestamp,
    )  # fmt: skip
    return array if any(test(t) for test in simple) else None


def blank_missing(cells: pa.Array, column: Column, schema: TableSchema) -> pa.Array:
    """Return `cells` with null for whatever means missing, texts stripped if the schema says so."""
    tokens = (*schema.missing, *column.missing)
    if pa.types.is_string(cells.type):
        texts = pc.utf8_trim_whitespace(cells) if schema.strip else cells
        return _drop(texts, pc.is_in(texts, value_set=pa.array(["", *tokens], pa.string())))
    if pa.types.is_floating(cells.type):
        cells = _drop(cells, pc.is_nan(cells))
    named = [float(t) for t in tokens if NUMBER.fullmatch(t) or t.lower() in ("inf", "-inf")]
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    if named and any(test(cells.type) for test in tests):
        numbers = _as_doubles(cells)
        cells = _drop(cells, pc.is_in(numbers, value_set=pa.array(named, pa.float64())))
    return cells


def _drop(values: pa.Array, bad: pa.Array) -> pa.Array:
    """Return `values` with null where `bad`."""
    return pc.if_else(pc.fill_null(bad, False), pa.scalar(None, values.type), values)


def _mask(flags: pa.Array) -> np.ndarray:
    """Return boolean `flags` as numpy; null counts as false."""
    return np.asarray(pc.fill_null(flags, False).to_numpy(zero_copy_only=False), dtype=bool)


def _n_present(cells: pa.Array) -> int:
    return len(cells) - int(cells.null_count)


# numeric


def parse_numbers(texts: pa.Array) -> pa.Array:
    """Return float64 of texts that are finite decimal numbers, null for all others.

    ``inf``, ``nan``, ``1e400``, ``0x10``, ``1_000`` and numbers among blanks are not numbers.
    """
    try:
        numbers = texts.cast(pa.float64())
    except pa.ArrowInvalid:  # some text is no number: one by one
        cells = texts.to_pylist()
        parsed = [float(t) if t is not None and NUMBER.fullmatch(t) else None for t in cells]
        numbers = pa.array(parsed, pa.float64())
    return _drop(numbers, pc.invert(pc.is_finite(numbers)))


def _read_numeric(cells: pa.Array, column: Column, broken: Broken) -> pa.Array:
    if pa.types.is_timestamp(cells.type) or pa.types.is_boolean(cells.type):
        broken.note(_n_present(cells), "are not numbers", "use the kind that the values have")
        return pa.nulls(len(cells), pa.float64())
    numbers = parse_numbers(cells) if pa.types.is_string(cells.type) else _typed_numbers(cells)
    broken.note(
        numbers.null_count - cells.null_count,
        "are not finite numbers",
        'correct them, list the text in missing, or use kind = "categorical"',
    )
    values = pc.fill_null(numbers, np.nan).to_numpy(zero_copy_only=False) + 0.0  # no -0.0
    _check_large(cells, values, column, broken)
    _check_decimals(values, column, broken)
    _check_bounds(values, column.minimum, column.maximum, column, broken)
    return pa.array(values, from_pandas=True)


def _typed_numbers(cells: pa.Array) -> pa.Array:
    numbers = _as_doubles(cells)
    return _drop(numbers, pc.invert(pc.is_finite(numbers)))


def _as_doubles(cells: pa.Array) -> pa.Array:
    if pa.types.is_float32(cells.type) or pa.types.is_decimal(cells.type):
        # By the shortest text, so that 47.7658 stays 47.7658 and is not 47.76580047607422; Arrow's
        # own cast of a decimal is not the nearest number either.
        cells = cells.cast(pa.string())
    return cells.cast(pa.float64(), safe=False)


def _check_large(cells: pa.Array, values: np.ndarray, column: Column, broken: Broken) -> None:
    large = np.abs(values) >= MAX_EXACT
    if column.decimals != 0 and large.any():  # 1e300 is fine where fractions are
        if pa.types.is_string(cells.type):
            large &= _mask(pc.match_substring_regex(cells, _WHOLE))
        elif pa.types.is_floating(cells.type):
            return
    rule = "are whole numbers of 2^53 and more, which do not survive as numbers"
    broken.note(large.sum(), rule, 'use kind = "id"')


def _check_decimals(values: np.ndarray, column: Column, broken: Broken) -> None:
    if column.decimals is None:
        return
    exact = np.abs(values) < MAX_EXACT / 10.0**column.decimals
    finer = exact & (np.round(values, column.decimals) != values)
    rule = f"have more than the declared {column.decimals} decimals"
    if column.decimals == 0:
        rule = "are not whole numbers"
    broken.note(finer.sum(), rule, "raise decimals, or leave it out")


def _check_bounds(values: Any, low: Any, high: Any, column: Column, broken: Broken) -> None:
    """Count numbers or times outside; missing ones compare as false."""
    remedy = "correct them or widen the bound"
    if low is not None:
        broken.note((values < low).sum(), f"are below the minimum {column.minimum}", remedy)
    if high is not None:
        broken.note((values > high).sum(), f"are above the maximum {column.maximum}", remedy)


# boolean


def _read_boolean(cells: pa.Array, column: Column, broken: Broken) -> pa.Array:
    if pa.types.is_boolean(cells.type):
        return cells
    texts = cells.cast(pa.string())
    if column.categories is None:
        texts = pc.utf8_lower(texts)
    false, true = column.categories or ("false", "true")
    known = pc.is_in(texts, value_set=pa.array([false, true]))
    broken.note(
        _n_present(cells) - known.true_count,
        "are neither of the two texts of a boolean",
        'declare categories = [false text, true text], or use kind = "categorical"',
    )
    return _drop(pc.equal(texts, true), pc.invert(known))


# categorical, id, text


def _read_text(cells: pa.Array, column: Column, broken: Broken) -> pa.Array:
    texts = cells.cast(pa.string())
    if column.kind == "categorical" and column.categories is not None:
        known = pc.is_in(texts, value_set=pa.array(column.categories, pa.string()))
        rule = f"are none of the {len(column.categories)} declared categories"
        remedy = "correct them, add the category, or leave categories out"
        broken.note(_n_present(texts) - known.true_count, rule, remedy)
    return texts


# datetime


def parse_datetimes(texts: pa.Array, form: str | None, timezone: str | None) -> pd.Series[Any]:
    """Return datetime64[us] (in `timezone`, if any) of `texts`; NaT where one does not parse.

    Parameters
    ----------
    texts : Array of string, (N,)
    form : str or None
        strptime format; None reads ISO 8601 dates and times, with or without offset.
    timezone : str or None
        Texts with an offset are converted to it and texts without are its local times. Without a
        zone, a text with an offset does not parse: dropping the offset would change the instant.
    """
    if form is None:
        # pandas alone would also read "2014" and "2014-05" as whole dates; digits after the
        # microsecond would turn the column into nanoseconds, whose years end in 2262.
        texts = _drop(texts, pc.invert(pc.match_substring_regex(texts, _ISO)))
        texts = pc.replace_substring_regex(texts, r"([.,]\d{6})\d+", r"\1")
        with_offset = _mask(pc.match_substring_regex(texts, _OFFSET))
    else:
        with_offset = np.full(len(texts), "%z" in form)
    series = texts.to_pandas().astype("str")
    local = _to_datetime(series.where(~with_offset), form)
    if timezone is None:
        return local
    local = localize(local, timezone)
    if with_offset.any():
        instants = _to_datetime(series.where(with_offset), form, utc=True)
        local = local.where(~with_offset, instants.dt.tz_convert(timezone))
    return local


def _to_datetime(texts: pd.Series[Any], form: str | None, *, utc: bool = False) -> pd.Series[Any]:
    parsed: pd.Series[Any] = pd.to_datetime(
        texts, format=form or "ISO8601", errors="coerce", utc=utc
    )
    return parsed.astype("datetime64[us, UTC]" if utc else "datetime64[us]")


def _read_datetime(cells: pa.Array, column: Column, broken: Broken) -> pa.Array:
    if pa.types.is_timestamp(cells.type):
        times = _typed_datetimes(cells, column, broken)
    elif pa.types.is_string(cells.type):
        times = parse_datetimes(cells, column.format, column.timezone)
        form = f"times in the format '{column.format}'" if column.format else "ISO 8601 times"
        zone = "" if column.timezone else " without an offset (the column has no timezone)"
        remedy = "correct them, list the text in missing, or declare the format or timezone"
        broken.note(times.isna().sum() - cells.null_count, f"are not {form}{zone}", remedy)
    else:
        broken.note(_n_present(cells), "are not times", "use the kind that the values have")
        return pa.nulls(len(cells), _arrow_type(column))
    wall = times.dt.tz_localize(None) if column.timezone else times
    finer = wall.notna() & (wall.dt.floor(FREQUENCIES[column.resolution]) != wall)
    rule = f"are finer than the declared resolution '{column.resolution}'"
    broken.note(finer.sum(), rule, "declare a finer resolution")
    bounds = (column.minimum, column.maximum)
    low, high = (None if b is None else declared_bound(str(b), column) for b in bounds)
    _check_bounds(times, low, high, column, broken)
    return pa.array(times, _arrow_type(column), from_pandas=True)


def _typed_datetimes(cells: pa.Array, column: Column, broken: Broken) -> pd.Series[Any]:
    zone = cells.type.tz
    times = cells.cast(pa.timestamp("us", zone), safe=False)
    year = pc.year(times.cast(pa.timestamp("us")))
    outside = pc.or_(pc.less(year, 1), pc.greater(year, 9999))
    broken.note(outside.true_count, "lie outside the years 1 to 9999", "correct them")
    times = _drop(times, outside)
    if zone is not None and column.timezone is None:
        rule = "have a time zone and the column declares none"
        broken.note(_n_present(times), rule, 'declare timezone, for instance "UTC"')
        times = times.cast(pa.timestamp("us"))
    series: pd.Series[Any] = times.to_pandas()
    if column.timezone is None:
        return series
    if zone is None:
        return localize(series, column.timezone)
    converted: pd.Series[Any] = series.dt.tz_convert(column.timezone)
    return converted


_READERS: dict[str, Callable[[pa.Array, Column, Broken], pa.Array]] = {
    "numeric": _read_numeric,
    "boolean": _read_boolean,
    "categorical": _read_text,
    "datetime": _read_datetime,
    "id": _read_text,
    "text": _read_text,
}
