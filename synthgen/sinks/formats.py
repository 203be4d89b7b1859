"""How a synthetic table becomes files: Parquet, or CSV that people and spreadsheets can open."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from synthgen.errors import ConfigError
from synthgen.files import sha256
from synthgen.formulas import escape
from synthgen.schema import Column, TableSchema
from synthgen.sinks.sink import Synthetic, Written
from synthgen.table import write_arrow

ENDINGS = (".parquet", ".csv", ".csv.gz", ".csv.zst")
PART_ROWS = 1_000_000
_COMPRESSION = {".csv": None, ".csv.gz": "gzip", ".csv.zst": "zstd"}


def ending(name: str) -> str:
    """Return which of `ENDINGS` a file's `name` has; ConfigError if none."""
    found = [e for e in ENDINGS if name.lower().endswith(e)]
    if not found:
        raise ConfigError(
            f"target {name}: the name must end in {', '.join(ENDINGS)}, or in / for a folder"
        )
    return found[0]


def write_file(
    path: Path, table: Synthetic, *, plain: bool = False
) -> tuple[TableSchema, dict[str, int]]:
    """Write `table` in the format that `path` ends in; `plain` leaves formulas in CSV as they are.

    Returns
    -------
    schema : TableSchema
        Of what stands in the file.
    escaped : dict
        CSV: column name to the number of its cells that were given an apostrophe.
    """
    found = ending(path.name)
    if found == ".parquet":
        write_arrow(path, table.arrow(), table.schema)
        return table.schema, {}
    return _write_csv(path, table, _COMPRESSION[found], plain=plain)


def write_parts(folder: Path, table: Synthetic) -> TableSchema:
    """Write `table` as Parquet parts of about `PART_ROWS` rows into an empty `folder`."""
    waiting: list[pa.Table] = []
    number = 0

    def flush() -> None:
        nonlocal number, waiting
        write_arrow(folder / f"part-{number:05}.parquet", waiting, table.schema)
        number, waiting = number + 1, []

    for rows in table.arrow():
        waiting.append(rows)
        if sum(map(len, waiting)) >= PART_ROWS:
            flush()
    if waiting:
        flush()
    return table.schema


def described(path: Path, table: Synthetic, escaped: dict[str, int], *, name: str) -> Written:
    """Return what the file or folder at `path` holds, under the `name` that it will have."""
    if not path.is_dir():
        return Written(name, sha256(path), path.stat().st_size, len(table), escaped)
    parts = {p.name: sha256(p) for p in sorted(path.iterdir())}
    size = sum((path / part).stat().st_size for part in parts)
    return Written(name, sha256_of_parts(parts), size, len(table), escaped, parts)


def sha256_of_parts(parts: dict[str, str]) -> str:
    """Return the SHA-256 of what ``sha256sum`` prints of the parts, in name order."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(parts.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _write_csv(
    path: Path, table: Synthetic, compression: str | None, *, plain: bool
) -> tuple[TableSchema, dict[str, int]]:
    """Write UTF-8 with the schema's delimiter; return the schema of what stands in the file."""
    schema, escaped = table.schema, {}
    header = [name if plain else escape(name) for name in schema.names]
    if header != schema.names:
        escaped["(header)"] = sum(a != b for a, b in zip(header, schema.names, strict=True))
    with csv_rows(path, csv_schema(schema), compression) as write:
        write([header])
        for block in table.batches():
            columns = []
            for column in schema.columns:
                cells = column_text(block[column.name], column)
                harmless = plain or column.kind in ("numeric", "datetime")
                safe = cells if harmless else [*map(escape, cells)]
                changed = sum(a is not b for a, b in zip(safe, cells, strict=True))
                if changed:
                    escaped[column.name] = escaped.get(column.name, 0) + changed
                columns.append(safe)
            write(zip(*columns, strict=True))
    return csv_schema(schema, plain=plain), escaped


@contextmanager
def csv_rows(
    path: Path, schema: TableSchema, compression: str | None
) -> Iterator[Callable[[Iterable[Iterable[str]]], None]]:
    """Yield what writes rows of texts into a CSV file of the schema's delimiter and encoding.

    `compression` is a codec of Arrow, ``"detect"`` (by the file's name) or None.
    """
    with (
        pa.output_stream(str(path), compression=compression) as raw,
        io.TextIOWrapper(raw, encoding=schema.encoding, newline="") as file,
    ):
        yield csv.writer(file, delimiter=schema.delimiter, lineterminator="\n").writerows


def csv_schema(schema: TableSchema, *, plain: bool = False) -> TableSchema:
    """Return the schema of the CSV file that `schema` becomes: UTF-8, formulas escaped or not."""
    return dataclasses.replace(schema, encoding="utf-8", escaped=not plain)


def column_text(series: pd.Series, column: Column) -> list[str]:
    """Return the cells of a canonical column as they stand in a CSV file; missing is empty.

    Numbers with declared decimals have exactly these, other whole numbers have no ``.0``;
    datetimes follow the column's format, or ISO 8601 to its resolution.
    """
    if column.kind == "numeric":
        return _number_text(series.to_numpy("float64"), column.decimals)
    if column.kind == "datetime":
        return _datetime_text(series, column)
    if column.kind == "boolean":
        false, true = column.categories or ("False", "True")
        return ["" if v is pd.NA else true if v else false for v in series.array]
    return ["" if isinstance(v, float) else v for v in series.to_list()]


def _number_text(values: np.ndarray[Any, np.dtype[np.float64]], decimals: int | None) -> list[str]:
    if decimals is None:
        return ["" if v != v else repr(v).removesuffix(".0") for v in (values + 0.0).tolist()]
    rounded = np.round(values, decimals) + 0.0  # + 0.0 turns -0.0 into 0.0
    return ["" if v != v else f"{v:.{decimals}f}" for v in rounded.tolist()]


_ISO = {"day": "%Y-%m-%d", "microsecond": "%Y-%m-%dT%H:%M:%S.%f"}


def _datetime_text(series: pd.Series, column: Column) -> list[str]:
    iso = _ISO.get(column.resolution, "%Y-%m-%dT%H:%M:%S") + ("%z" if column.timezone else "")
    text = series.dt.strftime(column.format or iso)
    return [str(t) for t in text.where(series.notna(), "")]
