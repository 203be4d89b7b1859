"""A URI in, Arrow batches out: CSV and Parquet, never the whole table at once.

CSV cells stay text here, all of them, so that ``00123``, ``NA`` and 2^53 + 1 arrive unharmed;
`conform` gives them types. The texts of pyarrow's exceptions quote cells and are never passed on.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from synthgen.errors import DataError
from synthgen.schema import TableSchema

Format = Literal["csv", "parquet"]

DELIMITERS = (",", ";", "\t", "|")
BLOCK_BYTES = 8 * 2**20  # a CSV record must fit into one block
BATCH_ROWS = 65_536
SNIFF_RECORDS = 20
SNIFF_BYTES = 2**16
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Source:
    """A table that was found and whose header was read; its rows were not.

    Attributes
    ----------
    uri : str
        As given.
    format : {"csv", "parquet"}
    names : list of str
        Column names in file order, unique and not empty.
    paths : tuple of Path
        The file, or the parts of a Parquet directory in name order.
    delimiter, encoding, strip : str, str, bool
        The dialect of a CSV file. `strip` says whether blanks around cells are to be dropped;
        `conform` does it, the cells here still have them.
    n_header_lines : int
        Of a CSV file: blank lines before the header, and the header.
    """

    uri: str
    format: Format
    names: list[str]
    paths: tuple[Path, ...]
    delimiter: str = ","
    encoding: str = "utf-8"
    strip: bool = False
    n_header_lines: int = 1

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in file order; every call starts again at the first row.

        CSV columns are all `string`, an empty field the empty text; Parquet columns are as typed.

        Raises
        ------
        DataError
            Ragged records, undecodable bytes, a damaged file: with counts and places, no cell.
        """
        return _csv_batches(self) if self.format == "csv" else _parquet_batches(self)


def open_source(uri: str, schema: TableSchema | None = None) -> Source:
    """Find the table at `uri` and read its header.

    Parameters
    ----------
    uri : str
        A path or ``file://`` URI of a CSV file, a Parquet file or a directory of Parquet parts.
    schema : TableSchema, optional
        Declares the CSV dialect. Without it the delimiter is sniffed and the encoding is UTF-8,
        or what a byte order mark says.

    Raises
    ------
    DataError
        Nothing there, nothing in it, or a header that cannot name columns.
    """
    path = local_path(uri)
    if not path.exists():
        raise DataError(f"{uri}: there is no such file or directory")
    if path.is_dir():
        return _open_parquet(uri, _parts(uri, path))
    with _readable(uri, path).open("rb") as file:
        magic = file.read(4)
    if not magic:
        raise DataError(f"{uri}: the file is empty")
    if magic == b"PAR1" or path.suffix in (".parquet", ".pq"):
        return _open_parquet(uri, (path,))
    if magic[:2] == b"\x1f\x8b" or magic[:2] == b"PK":
        raise DataError(f"{uri}: the file is compressed; unpack it first")
    return _open_csv(uri, path, schema)


def local_path(uri: str) -> Path:
    """Return the path that a path or ``file://`` URI names; DataError for every other scheme.

    >>> local_path("file:///data/new%20patients.csv").as_posix()
    '/data/new patients.csv'
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Path(uri)
    if scheme == "file":
        return Path(unquote(rest.removeprefix("localhost")))
    raise DataError(f"scheme '{scheme}://' is unknown; use a path or file://")


def _readable(uri: str, path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as error:
        raise DataError(f"{uri}: cannot be read ({type(error).__name__})") from None
    return path


def _check_names(uri: str, names: Sequence[str]) -> None:
    """Refuse what pandas would silently rename: ``x, x.1`` and ``Unnamed: 0``."""
    problems = []
    empty = [str(i) for i, name in enumerate(names, 1) if not name]
    if empty:
        index = " (written with an index? drop the first column)" if empty == ["1"] else ""
        problems.append(f"{len(empty)} columns have no name: number {', '.join(empty)}{index}")
    repeated = sorted({n for n in names if n and names.count(n) > 1})
    problems += [f"column '{n}' appears {names.count(n)} times in the header" for n in repeated]
    if problems:
        raise DataError(f"{uri}: give every column a name of its own; " + "; ".join(problems))


# --- CSV ------------------------------------------------------------------------------------------


def _open_csv(uri: str, path: Path, schema: TableSchema | None) -> Source:
    encoding = _encoding(uri, path, schema.encoding if schema else "utf-8")
    declared = schema.delimiter if schema else None
    delimiter, header, n_lines = _read_header(uri, path, encoding, declared)
    names = [name.strip() for name in header]
    _check_names(uri, names)
    strip = schema.strip if schema else False
    return Source(uri, "csv", names, (path,), delimiter, encoding, strip, n_lines)


def _encoding(uri: str, path: Path, declared: str) -> str:
    """Return the codec to read with: a byte order mark is certain, a declaration is not."""
    try:
        name = codecs.lookup(declared).name
    except LookupError:
        raise DataError("csv.encoding is unknown to Python; use for instance utf-8") from None
    with path.open("rb") as file:
        head = file.read(SNIFF_BYTES)
    for bom, found in _BOMS:
        if head.startswith(bom):
            return found
    if b"\x00" in head and not name.startswith(("utf-16", "utf-32")):
        raise DataError(
            f"{uri}: holds NUL bytes, so it is no {name} text; "
            "declare csv.encoding (utf-16?) or convert the file"
        )
    return "utf-8" if name == "utf-8-sig" else name


def _read_header(
    uri: str, path: Path, encoding: str, delimiter: str | None
) -> tuple[str, list[str], int]:
    """Return the delimiter, the header's cells, and how many lines end with it."""
    try:
        with path.open(encoding=_with_bom(encoding), newline="") as file:
            sample = file.read(SNIFF_BYTES)
            while sample.count('"') % 2 and (more := file.read(SNIFF_BYTES)):
                sample += more
    except UnicodeError:
        raise _csv_error(uri, path, encoding, delimiter or ",") from None
    chosen = delimiter or max(DELIMITERS, key=lambda d: _delimiter_score(sample, d))
    records = _records(sample, chosen, 2)
    if not records:
        raise DataError(f"{uri}: the file is empty")
    if len(records) == 1:
        raise DataError(f"{uri}: the file has a header and no rows")
    blank = sample[: len(sample) - len(sample.lstrip("\r\n"))]
    return chosen, records[0], len(blank.splitlines()) + 1


def _records(sample: str, delimiter: str, n: int) -> list[list[str]]:
    reader = (r for r in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter) if r)
    try:
        return list(islice(reader, n))
    except csv.Error:
        return []


def _delimiter_score(sample: str, delimiter: str) -> tuple[int, int]:
    """Score by records that have as many fields as the header, then by that number of fields."""
    records = _records(sample, delimiter, SNIFF_RECORDS)
    n_fields = len(records[0]) if records else 0
    if n_fields < 2:
        return 0, 0
    return sum(len(r) == n_fields for r in records), n_fields


def _with_bom(encoding: str) -> str:
    return "utf-8-sig" if encoding == "utf-8" else encoding


def _csv_batches(source: Source) -> Iterator[pa.RecordBatch]:
    ragged: list[tuple[int, int]] = []  # number of the record, its fields

    def skip(row: pa_csv.InvalidRow) -> str:
        ragged.append((row.number, row.actual_columns))  # never `row.text`: that is data
        return "skip"

    (path,) = source.paths
    last = None
    try:
        for last in pa_csv.open_csv(path, **_csv_options(source, skip)):
            yield last
    except (pa.ArrowInvalid, UnicodeError):
        raise _csv_error(source.uri, path, source.encoding, source.delimiter) from None
    if ragged:
        number, n_fields = ragged[0]
        raise DataError(
            f"{source.uri}: {len(ragged):,} records do not have the header's {len(source.names)} "
            f"fields; the first is record {number:,} with {n_fields} (the header is record 1)"
        )
    if last is not None and _quote_left_open(source, last):
        raise DataError(f"{source.uri}: a quote is left open and swallows rows up to the end")


def _csv_options(source: Source, on_ragged: Callable[[pa_csv.InvalidRow], str]) -> dict[str, Any]:
    return {
        "read_options": pa_csv.ReadOptions(
            use_threads=False,  # only so does pyarrow know the number of a ragged record
            block_size=BLOCK_BYTES,
            encoding=source.encoding,
            column_names=source.names,
            skip_rows_after_names=source.n_header_lines,
        ),
        "parse_options": pa_csv.ParseOptions(
            delimiter=source.delimiter, newlines_in_values=True, invalid_row_handler=on_ragged
        ),
        "convert_options": pa_csv.ConvertOptions(
            column_types=dict.fromkeys(source.names, pa.string()), strings_can_be_null=False
        ),
    }


def _quote_left_open(source: Source, last: pa.RecordBatch) -> bool:
    """Whether the last cell holds a newline, as only quoted cells can, and no quote ends the file.

    pyarrow takes the end of the file for the missing quote and says nothing.
    """
    if not last.num_rows or "\n" not in last.column(-1)[-1].as_py():
        return False
    with source.paths[0].open("rb") as file:
        file.seek(-min(16, file.seek(0, io.SEEK_END)), io.SEEK_END)
        return not file.read().rstrip(b"\r\n\x00").endswith(b'"')


def _csv_error(uri: str, path: Path, encoding: str, delimiter: str) -> DataError:
    return _decoding_error(uri, path, encoding) or DataError(
        f"{uri}: cannot be read as CSV with delimiter {delimiter!r}; is a quote left open, "
        f"or a record longer than {BLOCK_BYTES // 2**20} MiB?"
    )


def _decoding_error(uri: str, path: Path, encoding: str) -> DataError | None:
    """Return where the file stops being `encoding`; None if it never does."""
    decoder = codecs.getincrementaldecoder(encoding)()
    offset, line = 0, 1
    with path.open("rb") as file:
        while block := file.readline(BLOCK_BYTES):
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                return DataError(
                    f"{uri}: is not {encoding} text at byte {offset - pending + error.start:,} "
                    f"(line {line:,}); declare csv.encoding in the schema"
                )
            offset += len(block)
            line += block.endswith(b"\n")
    if decoder.getstate()[0]:
        return DataError(f"{uri}: ends in the middle of a {encoding} character")
    return None


# --- Parquet --------------------------------------------------------------------------------------


def _parts(uri: str, directory: Path) -> tuple[Path, ...]:
    inside = (p for p in directory.rglob("*") if p.suffix in (".parquet", ".pq") and p.is_file())
    parts = sorted(p for p in inside if not _is_hidden(p.relative_to(directory)))
    if not parts:
        raise DataError(f"{uri}: the directory holds no Parquet parts (*.parquet)")
    if any("=" in folder for p in parts for folder in p.relative_to(directory).parts[:-1]):
        raise DataError(
            f"{uri}: is partitioned by folders named column=value, which are not read as columns; "
            "write the table without partitions"
        )
    return tuple(parts)


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith((".", "_")) for part in relative.parts)


def _open_parquet(uri: str, paths: tuple[Path, ...]) -> Source:
    first, n_rows = _footer(uri, paths[0])
    _check_names(uri, first.names)
    for path in paths[1:]:
        schema, rows = _footer(uri, path)
        n_rows += rows
        if not schema.equals(first):
            differing = sorted(
                {f.name for f in schema} ^ {f.name for f in first}
                | {f.name for f in schema if f.name in first.names and f != first.field(f.name)}
            )
            raise DataError(
                f"{uri}: part {path.name} has other columns or types than {paths[0].name}: "
                f"{', '.join(differing) or 'their order'}"
            )
    if not n_rows:
        raise DataError(f"{uri}: the table has columns and no rows")
    return Source(uri, "parquet", list(first.names), paths)


def _footer(uri: str, path: Path) -> tuple[pa.Schema, int]:
    try:
        with pq.ParquetFile(_readable(uri, path)) as file:
            return file.schema_arrow.remove_metadata(), file.metadata.num_rows
    except (pa.ArrowException, OSError):
        raise _damaged(uri, path) from None


def _damaged(uri: str, path: Path) -> DataError:
    return DataError(f"{uri}: {path.name} is not a readable Parquet file: truncated or damaged")


def _parquet_batches(source: Source) -> Iterator[pa.RecordBatch]:
    for path in source.paths:
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                yield from file.iter_batches(BATCH_ROWS)
        except (pa.ArrowException, OSError):
            raise _damaged(source.uri, path) from None
