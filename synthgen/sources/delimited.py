"""CSV files, plain or packed: one dialect a table, every cell text.

Cells stay text here, all of them, so that ``00123``, ``NA`` and 2^53 + 1 arrive unharmed; `conform`
gives them types. The texts of pyarrow's exceptions quote cells and are never passed on.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from synthgen.errors import DataError
from synthgen.formulas import unescape
from synthgen.schema import TableSchema
from synthgen.sources.files import File, digest, stem
from synthgen.sources.source import Source, check_names

DELIMITERS = (",", ";", "\t", "|")
BLOCK_BYTES = 8 * 2**20  # a CSV record must fit into one block
SNIFF_RECORDS = 20
SNIFF_BYTES = 2**16
# Text that gzip packs to a hundredth has few different records; a bomb goes to a thousandth.
MAX_RATIO = 200
MAX_UNPACKED = 2**28  # below so many bytes any ratio is harmless
csv.field_size_limit(BLOCK_BYTES)  # Python's own, 128 KiB, would call a long cell an empty file
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Part:
    """One file of a CSV table.

    Attributes
    ----------
    file : File
    delimiter, encoding : str
    names : list of str
        The cells of its header.
    n_header_lines : int
        Blank lines before the header, and the header.
    is_empty : bool
        Whether nothing follows the header.
    """

    file: File
    delimiter: str
    encoding: str
    names: list[str]
    n_header_lines: int
    is_empty: bool


@dataclass(frozen=True, kw_only=True)
class CsvSource(Source):
    """One file, or the parts of a folder in name order."""

    parts: tuple[Part, ...]
    escaped: bool = False

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in file order, all columns text, what was escaped as it was before."""
        for part in self.parts:
            for batch in _batches(part):
                yield self._unescaped(batch) if self.escaped else batch

    def _unescaped(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([*map(unescape, batch.columns)], self.names)

    def digest(self) -> str:
        """Return the SHA-256 of each file."""
        return digest(tuple(part.file for part in self.parts))


def open_csv(uri: str, files: tuple[File, ...], schema: TableSchema | None) -> Source:
    """Return the source of `files`, whose headers must agree."""
    first = _open_part(files[0], schema, schema.delimiter if schema else None)
    parts = [first, *(_open_part(file, schema, first.delimiter) for file in files[1:])]
    escaped = schema is not None and schema.escaped
    names = unescape(pa.array(first.names, pa.string())).to_pylist() if escaped else first.names
    check_names(uri, names)
    for part in parts[1:]:
        if part.names != first.names:
            differing = ", ".join(sorted({*part.names} ^ {*first.names})) or "their order"
            raise DataError(
                f"{uri}: part {part.file.name} has other columns than {first.file.name}: "
                f"{differing}"
            )
    filled = tuple(part for part in parts if not part.is_empty)
    if not filled:
        raise DataError(f"{uri}: the file has a header and no rows")
    return CsvSource(
        uri=uri,
        format="csv",
        table=stem(uri),
        names=names,
        delimiter=first.delimiter,
        encoding=first.encoding,
        strip=schema.strip if schema else False,
        parts=filled,
        escaped=escaped,
    )


# --- the dialect --------------------------------------------------------------------------------


def _open_part(file: File, schema: TableSchema | None, delimiter: str | None) -> Part:
    try:
        encoding = _encoding(file, schema.encoding if schema else "utf-8")
        sample = _sample(file, encoding)
    except UnicodeError:
        raise _error(file, encoding, delimiter or ",") from None
    except OSError:
        raise _unreadable(file) from None
    chosen = delimiter or max(DELIMITERS, key=lambda d: _delimiter_score(sample, d))
    records = _records(sample, chosen, 2)
    if not records:
        raise DataError(f"{file.uri}: the file is empty")
    blank = sample[: len(sample) - len(sample.lstrip("\r\n"))]
    names = [name.strip() for name in records[0]]
    return Part(file, chosen, encoding, names, len(blank.splitlines()) + 1, len(records) == 1)


def _encoding(file: File, declared: str) -> str:
    """Return the codec to read with: a byte order mark is certain, a declaration is not."""
    name = _codec(declared)
    with file.binary() as opened:
        head = opened.read(SNIFF_BYTES)
    for bom, found in _BOMS:
        if head.startswith(bom):
            return found
    if b"\x00" in head and not name.startswith(("utf-16", "utf-32")):
        raise DataError(
            f"{file.uri}: holds NUL bytes, so it is no {name} text; "
            "declare csv.encoding (utf-16?) or convert the file"
        )
    return "utf-8" if name == "utf-8-sig" else name


def _codec(declared: str) -> str:
    """Return Python's name of a codec between bytes and text; some are between others."""
    try:
        name = codecs.lookup(declared).name
        codecs.getincrementaldecoder(name)().decode(pa.py_buffer("a".encode(name)))
    except (LookupError, ValueError, AttributeError):
        raise DataError("csv.encoding is unknown to Python; use for instance utf-8") from None
    return name


def _sample(file: File, encoding: str) -> str:
    """Return the beginning of the text: two lines at least, not ending inside quotes, if it can."""
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    with file.binary() as opened:
        text = io.TextIOWrapper(opened, encoding=encoding, newline="")
        blocks, quotes, ends = list[str](), 0, 0
        while len(blocks) * SNIFF_BYTES < BLOCK_BYTES and (block := text.read(SNIFF_BYTES)):
            blocks.append(block)
            quotes += block.count('"')
            begun = block if ends else block.lstrip("\r\n")
            ends += begun.count("\n") + begun.count("\r")
            if quotes % 2 == 0 and ends > 2:
                break
    return "".join(blocks)


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


# --- the rows -----------------------------------------------------------------------------------


def _batches(part: Part) -> Iterator[pa.RecordBatch]:
    ragged: list[tuple[int, int]] = []  # number of the record, its fields

    def skip(row: pa_csv.InvalidRow) -> str:
        ragged.append((row.number, row.actual_columns))  # never `row.text`: that is data
        return "skip"

    last, unpacked = None, 0
    try:
        with part.file.stream() as opened:
            for last in pa_csv.open_csv(opened, **_options(part, skip)):
                unpacked += last.nbytes
                _refuse_bomb(part.file, unpacked)
                yield last
    except (pa.ArrowInvalid, UnicodeError):
        raise _error(part.file, part.encoding, part.delimiter) from None
    except OSError:
        raise _unreadable(part.file) from None
    if ragged:
        number, n_fields = ragged[0]
        raise DataError(
            f"{part.file.uri}: {len(ragged):,} records do not have the header's "
            f"{len(part.names)} fields; the first is record {number:,} with {n_fields} "
            "(the header is record 1)"
        )
    if last is not None and _quote_left_open(part, last):
        raise DataError(f"{part.file.uri}: a quote is left open and swallows rows up to the end")


def _refuse_bomb(file: File, unpacked: int) -> None:
    """Raise DataError if a packed file holds far more than its size; a small one could fill us."""
    if file.compression and unpacked > max(MAX_UNPACKED, MAX_RATIO * file.size):
        raise DataError(
            f"{file.uri}: {file.name} unpacks to more than {MAX_RATIO} times its size, as a "
            "bomb does; unpack it yourself if it is meant so"
        )


def _options(part: Part, on_ragged: Callable[[pa_csv.InvalidRow], str]) -> dict[str, Any]:
    return {
        "read_options": pa_csv.ReadOptions(
            use_threads=False,  # only so does pyarrow know the number of a ragged record
            block_size=BLOCK_BYTES,
            encoding=part.encoding,
            column_names=part.names,
            skip_rows_after_names=part.n_header_lines,
        ),
        "parse_options": pa_csv.ParseOptions(
            delimiter=part.delimiter, newlines_in_values=True, invalid_row_handler=on_ragged
        ),
        "convert_options": pa_csv.ConvertOptions(
            column_types=dict.fromkeys(part.names, pa.string()), strings_can_be_null=False
        ),
    }


def _quote_left_open(part: Part, last: pa.RecordBatch) -> bool:
    """Whether the last cell holds a newline, as only quoted cells can, and no quote ends the file.

    pyarrow takes the end of the file for the missing quote and says nothing.
    """
    if not last.num_rows or "\n" not in last.column(-1)[-1].as_py():
        return False
    return not _tail(part.file).rstrip(b"\r\n\x00").endswith(b'"')


def _tail(file: File) -> bytes:
    """Return the last bytes of the text: a packed file is read through for them."""
    if file.compression is None:
        with file.random() as opened:
            opened.seek(max(file.size - 16, 0))
            return bytes(opened.read())
    tail = b""
    with file.binary() as opened:
        while block := opened.read(BLOCK_BYTES):
            tail = (tail + block)[-16:]
    return tail


def _error(file: File, encoding: str, delimiter: str) -> DataError:
    try:
        found = _decoding_error(file, encoding)
    except OSError:
        return _unreadable(file)
    return found or DataError(
        f"{file.uri}: cannot be read as CSV with delimiter {delimiter!r}; is a quote left open, "
        f"or a record longer than {BLOCK_BYTES // 2**20} MiB?"
    )


def _unreadable(file: File) -> DataError:
    packed = f": its {file.compression} data are damaged or end early" if file.compression else ""
    return DataError(f"{file.uri}: {file.name} cannot be read{packed}")


def _decoding_error(file: File, encoding: str) -> DataError | None:
    """Return where the file stops being `encoding`; None if it never does."""
    decoder = codecs.getincrementaldecoder(encoding)()
    offset, line = 0, 1
    with file.binary() as opened:
        while block := opened.readline(BLOCK_BYTES):
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                return DataError(
                    f"{file.uri}: is not {encoding} text at byte "
                    f"{offset - pending + error.start:,} (line {line:,}); "
                    "declare csv.encoding in the schema"
                )
            offset += len(block)
            line += block.endswith(b"\n")
    if decoder.getstate()[0]:
        return DataError(f"{file.uri}: ends in the middle of a {encoding} character")
    return None
