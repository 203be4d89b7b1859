"""Arrow batches + schema -> RealTable, or ALL violations with counts.

One reader a kind turns an untrusted Arrow array into the canonical one and counts what it had to
leave out. `violations` adds those counts up and forgets the values; `conform` keeps them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.errors import DataError, SchemaError, Violation
from synthgen.schema import Column, TableSchema
from synthgen.table import RealTable, from_arrow

MAX_EXACT = 2**53  # above it, float64 skips whole numbers
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = r"^[+-]?\d+$"
_ISO = r"^\d{4}-?\d\d-?\d\d([T ]\d\d(:?\d\d(:?\d\d([.,]\d+)?)?)? ?(Z|[+-]\d\d(:?\d\d)?)?)?$"
_OFFSET = r"[T ]\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"
_UNITS = {"day": "D", "hour": "h", "minute": "min", "second": "s", "microsecond": "us"}

# (rule, remedy) -> number of cells
_Broken = Counter[tuple[str, str]]


def conform(batches: Iterable[pa.RecordBatch], schema: TableSchema) -> RealTable:
    """Return the rows of `batches` as a table that obeys `schema`, columns in the schema's order.

    Missing are: nulls, NaN, empty texts, and the texts that the column or the schema list as such.
    Datetimes are cut to microseconds; local times that a clock change makes ambiguous are read as
    standard time, those it skips move to the next time that exists.

    Raises
    ------
    DataError
        Listing every rule that some row breaks, with its count; `violations` returns the same.
    """
    reading = _read(batches, schema, keep=True)
    found = reading.violations()
    if found:
        raise DataError(f"the data does not conform to schema '{schema.name}':", found)
    arrays = [pa.chunked_array(reading.columns[c.name].kept) for c in schema.columns]
    return RealTable(schema, from_arrow(pa.table(arrays, names=schema.names), schema))


def violations(batches: Iterable[pa.RecordBatch], schema: TableSchema) -> list[Violation]:
    """Return every rule of `schema` that rows of `batches` break; memory is that of one batch.

    Only the columns of kind `id` are kept whole, to find repeated values.
    """
    return _read(batches, schema, keep=False).violations()


def refuse_unmodelled(schema: TableSchema) -> None:
    """Raise SchemaError listing every column of free text that nothing is declared to replace."""
    texts = [c.name for c in schema.columns if c.kind == "text" and c.pii is None]
    if texts:
        lines = [
            f"column '{name}': free text is neither modelled nor copied; drop it from the file, "
            'declare what replaces it (pii = "name"), or make it kind = "categorical"'
            for name in texts
        ]
        raise SchemaError("\n".join(lines))


@dataclass
class _ColumnReading:
    """What is known so far of one column that data and schema share."""

    column: Column
    keep: bool
    broken: _Broken = field(default_factory=Counter)
    kept: list[pa.Array] = field(default_factory=list)

    def add(self, array: pa.Array, schema: TableSchema) -> None:
        """Read one batch's cells."""
        values, broken = read_column(array, self.column, schema)
        self.broken.update(broken)
        if self.keep or self._must_be_unique:
            self.kept.append(values)

    @property
    def _must_be_unique(self) -> bool:
        return self.column.kind == "id" and self.column.role != "entity"

    def finish(self) -> None:
        """Check the one rule that needs all rows."""
        if self._must_be_unique and self.kept:
            values = pa.chunked_array(self.kept).drop_null()
            repeated = len(values) - len(values.unique())
            if repeated:
                remedy = 'an id names one row; use role = "entity" if rows share it'
                self.broken["repeat a value of another row", remedy] += repeated


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


def read_column(array: pa.Array, column: Column, schema: TableSchema) -> tuple[pa.Array, _Broken]:
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
    broken : Counter
        From (rule, remedy) to the number of cells.
    """
    broken: _Broken = Counter()
    plain = plain_array(array)
    if plain is None:
        remedy = "write one value a cell: a number, text, boolean or time"
        broken[f"hold a value of type {array.type.__class__.__name__}", remedy] = len(array)
        return pa.nulls(len(array), _arrow_type(column)), broken
    cells = blank_missing(plain, column, schema)
    n_null = cells.null_count
    if n_null and not column.nullable:
        broken[
            "are missing, but the column is not nullable", "set nullable = true or fill them"
        ] += n_null
    return _READERS[column.kind](cells, column, broken), broken


def _arrow_type(column: Column) -> pa.DataType:
    types = {"numeric": pa.float64(), "boolean": pa.bool_()}
    if column.kind == "datetime":
        return pa.timestamp("us", column.timezone)
    return types.get(column.kind, pa.string())


def plain_array(array: pa.Array) -> pa.Array | None:
    """Return `array` as one of string, bool, a number or a timestamp; None for nested types."""
    t = array.type
    if pa.types.is_dictionary(t):
        return plain_array(array.cast(t.value_type))
    if pa.types.is_null(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t):
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
        absent = pc.is_in(texts, value_set=pa.array(["", *tokens], pa.string()))
        return pc.if_else(absent, pa.scalar(None, pa.string()), texts)
    if pa.types.is_floating(cells.type):
        cells = pc.if_else(pc.is_nan(cells), pa.scalar(None, cells.type), cells)
    numbers = [float(t) for t in tokens if NUMBER.fullmatch(t)]
    if numbers and (pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type)):
        absent = pc.is_in(cells.cast(pa.float64(), safe=False), value_set=pa.array(numbers))
        cells = pc.if_else(absent, pa.scalar(None, cells.type), cells)
    return cells


def _drop(values: pa.Array, bad: np.ndarray) -> pa.Array:
    """Return `values` with null where `bad`."""
    if not bad.any():
        return values
    return pc.if_else(pa.array(bad), pa.scalar(None, values.type), values)


def _valid(array: pa.Array) -> np.ndarray:
    return array.is_valid().to_numpy(zero_copy_only=False)


# numeric


def parse_numbers(texts: pa.Array) -> pa.Array:
    """Return float64 of texts that are finite decimal numbers, null for all others.

    ``inf``, ``nan``, ``1e400``, ``0x10``, ``1_000`` and numbers among blanks are not numbers.
    """
    try:
        numbers = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        numbers = pa.array(
            [
                float(t) if t is not None and NUMBER.fullmatch(t) else None
                for t in texts.to_pylist()
            ],
            pa.float64(),
        )
    finite = pc.fill_null(pc.is_finite(numbers), False)
    return pc.if_else(finite, numbers, pa.scalar(None, pa.float64()))


def _read_numeric(cells: pa.Array, column: Column, broken: _Broken) -> pa.Array:
    if pa.types.is_timestamp(cells.type):
        broken["are times, not numbers", 'use kind = "datetime"'] += len(cells) - cells.null_count
        return pa.nulls(len(cells), pa.float64())
    numbers = parse_numbers(cells) if pa.types.is_string(cells.type) else _typed_numbers(cells)
    lost = numbers.null_count - cells.null_count
    if lost:
        broken[
            "are not finite numbers",
            'correct them, list the text in missing, or use kind = "categorical"',
        ] += lost
    valid = _valid(numbers)
    values = pc.fill_null(numbers, 0.0).to_numpy(zero_copy_only=False) + 0.0  # -0.0 becomes 0.0
    _check_whole(cells, values, valid, column, broken)
    _check_decimals(values, valid, column, broken)
    _check_bounds(values, valid, column, broken)
    return pa.array(values, mask=~valid)


def _typed_numbers(cells: pa.Array) -> pa.Array:
    if pa.types.is_float32(cells.type):
        # By its shortest text, so that 47.7658 stays 47.7658 and is not 47.76580047607422.
        cells = cells.cast(pa.string())
    numbers = cells.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))


def _check_whole(
    cells: pa.Array, values: np.ndarray, valid: np.ndarray, column: Column, broken: _Broken
) -> None:
    large = valid & (np.abs(values) > MAX_EXACT)
    if large.any() and column.decimals != 0:
        if pa.types.is_string(cells.type):
            large &= pc.fill_null(pc.match_substring_regex(cells, _WHOLE), False).to_numpy(
                zero_copy_only=False
            )
        elif pa.types.is_floating(cells.type):
            large = np.zeros_like(large)
    if large.any():
        broken[
            "are whole numbers beyond 2^53, which do not survive as numbers", 'use kind = "id"'
        ] += int(large.sum())


def _check_decimals(values: np.ndarray, valid: np.ndarray, column: Column, broken: _Broken) -> None:
    if column.decimals is None:
        return
    exact = np.abs(values) < MAX_EXACT / 10.0**column.decimals
    finer = valid & exact & (np.round(values, column.decimals) != values)
    if finer.any():
        rule = (
            "are not whole numbers"
            if column.decimals == 0
            else f"have more than the declared {column.decimals} decimals"
        )
        broken[rule, "raise decimals, or leave it out"] += int(finer.sum())


def _check_bounds(values: np.ndarray, valid: np.ndarray, column: Column, broken: _Broken) -> None:
    for bound, outside, word in (
        (column.minimum, np.less, "below the declared minimum"),
        (column.maximum, np.greater, "above the declared maximum"),
    ):
        if bound is not None:
            count = int((valid & outside(values, float(bound))).sum())
            if count:
                broken[f"are {word} {bound}", "correct them or widen the bound"] += count


# boolean


def _read_boolean(cells: pa.Array, column: Column, broken: _Broken) -> pa.Array:
    if pa.types.is_boolean(cells.type):
        return cells
    if pa.types.is_timestamp(cells.type):
        texts = pa.array(["time"] * len(cells))
    else:
        texts = cells.cast(pa.string())
    false, true = column.categories or ("false", "true")
    if column.categories is None:
        texts = pc.utf8_lower(texts)
    is_true, is_false = pc.equal(texts, true), pc.equal(texts, false)
    known = pc.fill_null(pc.or_(is_true, is_false), False)
    count = len(cells) - cells.null_count - known.true_count
    if count:
        broken[
            "are neither of the two declared texts",
            'declare categories = [false text, true text], or use kind = "categorical"',
        ] += count
    return pc.if_else(known, is_true, pa.scalar(None, pa.bool_()))


# categorical, id, text


def _read_text(cells: pa.Array, column: Column, broken: _Broken) -> pa.Array:
    texts = cells.cast(pa.string())
    if column.kind != "categorical" or column.categories is None:
        return texts
    known = pc.is_in(texts, value_set=pa.array(column.categories, pa.string()))
    unknown = len(texts) - texts.null_count - pc.and_(known, texts.is_valid()).true_count
    if unknown:
        broken[
            f"are none of the {len(column.categories)} declared categories",
            "add the category, or leave categories out",
        ] += unknown
    return texts


# datetime


def parse_datetimes(texts: pa.Array, form: str | None, timezone: str | None) -> pd.Series:
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
        texts = pc.if_else(pc.match_substring_regex(texts, _ISO), texts, None)
        texts = pc.replace_substring_regex(texts, r"([.,]\d{6})\d+", r"\1")
        aware = pc.fill_null(pc.match_substring_regex(texts, _OFFSET), False)
    else:
        aware = pa.array(np.full(len(texts), "%z" in form))
    with_offset = aware.to_numpy(zero_copy_only=False)
    series = texts.to_pandas().astype("str")
    local = _to_datetime(series.where(~with_offset), form)
    if timezone is None:
        return local
    local = localize(local, timezone)
    if with_offset.any():
        instants = _to_datetime(series.where(with_offset), form, utc=True)
        local = local.where(~with_offset, instants.dt.tz_convert(timezone))
    return local


def _to_datetime(texts: pd.Series, form: str | None, *, utc: bool = False) -> pd.Series:
    parsed = pd.to_datetime(texts, format=form or "ISO8601", errors="coerce", utc=utc)
    return parsed.astype("datetime64[us, UTC]" if utc else "datetime64[us]")


def localize(local: pd.Series, timezone: str) -> pd.Series:
    """Return wall-clock times as times of `timezone`; clock changes never raise."""
    return local.dt.tz_localize(
        timezone, ambiguous=np.zeros(len(local), bool), nonexistent="shift_forward"
    )


def _read_datetime(cells: pa.Array, column: Column, broken: _Broken) -> pa.Array:
    if pa.types.is_timestamp(cells.type):
        times = _typed_datetimes(cells, column, broken)
    elif pa.types.is_string(cells.type):
        times = parse_datetimes(cells, column.format, column.timezone)
        lost = int(times.isna().sum()) - cells.null_count
        if lost:
            form = f"times in the format '{column.format}'" if column.format else "ISO 8601 times"
            zone = "" if column.timezone else " without an offset (the column has no timezone)"
            broken[
                f"are not {form}{zone}", "correct them, list the text in missing, or declare format"
            ] += lost
    else:
        broken["are not times", "use the kind that the values have"] += (
            len(cells) - cells.null_count
        )
        return pa.nulls(len(cells), pa.timestamp("us", column.timezone))
    _check_times(times, column, broken)
    return pa.array(times, pa.timestamp("us", tz=column.timezone), from_pandas=True)


def _typed_datetimes(cells: pa.Array, column: Column, broken: _Broken) -> pd.Series:
    zone = cells.type.tz
    times = cells.cast(pa.timestamp("us", zone), safe=False)
    year = pc.year(times.cast(pa.timestamp("us"))).to_numpy(zero_copy_only=False)
    bad = _valid(times) & ((year < 1) | (year > 9999))
    if bad.any():
        broken["lie outside the years 1 to 9999", "correct them"] += int(bad.sum())
        times = _drop(times, bad)
    if zone is not None and column.timezone is None:
        broken["have a time zone and the column declares none", f'set timezone = "{zone}"'] += (
            len(times) - times.null_count
        )
        times = times.cast(pa.timestamp("us"))
        return times.to_pandas()
    series = times.to_pandas()
    if column.timezone is None:
        return series
    if zone is None:
        return localize(series, column.timezone)
    return series.dt.tz_convert(column.timezone)


def _check_times(times: pd.Series, column: Column, broken: _Broken) -> None:
    wall = times.dt.tz_localize(None) if column.timezone else times
    if column.resolution != "microsecond":
        finer = int((wall.dt.floor(_UNITS[column.resolution]) != wall).sum() - wall.isna().sum())
        if finer:
            broken[
                f"are finer than the declared resolution '{column.resolution}'",
                "declare a finer resolution",
            ] += finer
    for bound, word in (
        (column.minimum, "below the declared minimum"),
        (column.maximum, "above the declared maximum"),
    ):
        if bound is None:
            continue
        limit = _bound(str(bound), column.timezone)
        outside = times < limit if bound is column.minimum else times > limit
        if outside.any():
            broken[f"are {word} {bound}", "correct them or widen the bound"] += int(outside.sum())


def _bound(text: str, timezone: str | None) -> pd.Timestamp:
    stamp = pd.Timestamp(text)
    if timezone is None:
        return stamp.tz_localize(None)
    if stamp.tz is None:
        return stamp.tz_localize(timezone, ambiguous=False, nonexistent="shift_forward")
    return stamp.tz_convert(timezone)


_READERS: dict[str, Callable[[pa.Array, Column, _Broken], pa.Array]] = {
    "numeric": _read_numeric,
    "boolean": _read_boolean,
    "categorical": _read_text,
    "datetime": _read_datetime,
    "id": _read_text,
    "text": _read_text,
}
