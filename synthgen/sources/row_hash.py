"""64 bits a row, made here as PostgreSQL makes them: two tables are compared without moving them.

A cell is hashed by Bob Jenkins' lookup3 (public domain, 2006) as PostgreSQL's ``hash_any_extended``
applies it, a row by its ``hash_record_extended``. Numbers are hashed as ``float8`` (whole numbers
beyond 2 ** 53, which our tables do not hold, as their own eight bytes), booleans as 0 and 1, days
as their number since 1970, times as the eight bytes that PostgreSQL stores, texts as UTF-8.
Missing is 0, which zero is not, since the seed is not 0. A record's hash is linear in those of its
cells, so that a sum of them would not see cells that changed rows: it is hashed once more.

This finds what went wrong by accident: other rows have the same sum once in 2 ** 64 times. It is no
proof against somebody who looks for such rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from synthgen.uri import quote_name

SEED = 1
_WORDS = NDArray[np.uint32]
_GOLDEN, _INIT = 0x9E3779B9, 3_923_095  # lookup3's, and what PostgreSQL adds to it
_EXACT = 2**53
_POSTGRES_EPOCH_US = 946_684_800 * 10**6
_MODULUS = 2**64


def _row_in_sql(cells: str) -> str:
    inner = f"hash_record_extended(ROW({cells}), {SEED})"
    return f"hash_record_extended(ROW(int8send({inner})), {SEED})"


#: A row of each kind of cell, as SQL; `sample_row` is the same as Arrow.
SAMPLE_SQL = _row_in_sql(
    "0::float8, -1.5::float8, NULL::float8, 'é'::text, 'a text of more than twelve bytes'::text, "
    "timestamp_send('2001-01-01 00:00:00.000001')"
)


def sample_row() -> pa.RecordBatch:
    """Return the row of `SAMPLE_SQL`: a server that hashes it as we do hashes every row so."""
    return pa.record_batch({
        "zero": pa.array([0], pa.int64()),
        "number": [-1.5],
        "missing": pa.array([None], pa.float64()),
        "letter": ["é"],
        "text": ["a text of more than twelve bytes"],
        "time": pa.array([978_307_200_000_001], pa.timestamp("us")),
    })  # fmt: skip


def hashed_in_sql(schema: pa.Schema) -> str:
    """Return the SQL expression that hashes a row of a table with columns of `schema`.

    >>> hashed_in_sql(pa.schema({"a": pa.int64(), "b": pa.string()}))
    'hash_record_extended(ROW(int8send(hash_record_extended(ROW("a"::float8, "b"), 1))), 1)'
    """
    cells = (_in_sql(column.type).format(quote_name(column.name)) for column in schema)
    return _row_in_sql(", ".join(cells))


def _in_sql(kind: pa.DataType) -> str:
    return {
        "number": "{}::float8",
        "boolean": "{}::int4::float8",
        "day": "({} - date '1970-01-01')::float8",
        "time": "timestamp_send({})",
        "instant": "timestamptz_send({})",
        "text": "{}",
    }[_kind(kind)]


def _kind(kind: pa.DataType) -> str:
    """Return what a cell is, whatever its width."""
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_date(kind):
        return "day"
    if pa.types.is_timestamp(kind):
        return "time" if kind.tz is None else "instant"
    return "number" if pa.types.is_integer(kind) or pa.types.is_floating(kind) else "text"


class RowHashes:
    """The hashes of rows that come in batches: their sum, and a digest of them as a set.

    Eight bytes a row are kept.

    >>> one, other = RowHashes(), RowHashes()
    >>> one.add(pa.record_batch({"a": [1, 2], "b": ["x", None]}))
    >>> other.add(pa.record_batch({"a": [2.0, 1.0], "b": [None, "x"]}))
    >>> len(one), one.total == other.total, one.hexdigest() == other.hexdigest()
    (2, True, True)
    """

    def __init__(self) -> None:
        self._columns = ""
        self._hashes: list[NDArray[np.uint64]] = []

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(map(len, self._hashes))

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the rows of `batch`; all batches have the same columns."""
        self._columns = repr([(c.name, _kind(c.type)) for c in batch.schema])
        self._hashes.append(hash_rows(batch))

    @property
    def total(self) -> int:
        """The sum of all hashes, modulo 2 ** 64."""
        return sum(int(h.sum()) for h in self._hashes) % _MODULUS

    def hexdigest(self) -> str:
        """Return the SHA-256 of names and kinds of the columns and the sorted hashes.

        Rows count with repetitions; their order, and how they were cut into batches, does not.
        """
        found = np.sort(np.concatenate([np.empty(0, "uint64"), *self._hashes]))
        return hashlib.sha256(self._columns.encode() + found.astype("<u8").tobytes()).hexdigest()


def hash_rows(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    """Return the hash of each row: (B,)."""
    found = np.zeros(batch.num_rows, "uint64")
    for cells in batch.columns:
        found = found * np.uint64(31) + _hash_cells(cells)
    return _hash_words(found.astype(">u8"))


def _hash_cells(cells: pa.Array) -> NDArray[np.uint64]:
    kind = _kind(cells.type)
    if kind == "text":
        return _hash_texts(cells)
    missing = cells.is_null().to_numpy(zero_copy_only=False)
    if kind in ("time", "instant"):
        at = cells.cast(pa.timestamp("us", cells.type.tz)).cast(pa.int64()).fill_null(0).to_numpy()
        found = _hash_words((at - _POSTGRES_EPOCH_US).astype(">i8"))
    else:
        bits, zero = _number_bits(cells)
        found = _hash_words(bits)
        found[zero] = SEED  # so PostgreSQL: minus zero is zero
    found[missing] = 0
    return found


def _hash_words(keys: NDArray[Any]) -> NDArray[np.uint64]:
    """Hash keys of eight bytes each."""
    words = keys.view("<u4")
    return _lookup3([words[0::2], words[1::2], np.uint32(0)], np.array([8]))


def _number_bits(cells: pa.Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return what stands for numbers, as 8 bytes each, and which of them are zero."""
    if pa.types.is_boolean(cells.type) or pa.types.is_date(cells.type):
        cells = cells.cast(pa.int32())
    values = cells.fill_null(0).to_numpy()
    bits = values.astype("<f8")
    bits[np.isnan(bits)] = np.nan  # one of the many
    if values.dtype.kind in "iu":
        wide = (values > _EXACT) | (values < -_EXACT)
        bits[wide] = values[wide].astype("<i8").view("<f8")
    return bits, values == 0


def _hash_texts(cells: pa.Array) -> NDArray[np.uint64]:
    """Hash each level once, levels of like length together."""
    encoded = cells.cast(pa.string()).dictionary_encode()
    levels = encoded.dictionary
    _, offsets, data = levels.buffers()
    start = np.frombuffer(offsets, "<i4")[levels.offset : levels.offset + len(levels) + 1]
    content = np.frombuffer(data or b"", "uint8")
    content = np.append(content, np.zeros(12, "uint8"))
    lengths = np.diff(start)
    by_blocks = np.argsort(lengths // 12, kind="stable")
    cuts = np.flatnonzero(np.diff((lengths // 12)[by_blocks])) + 1
    found = np.zeros(len(levels) + 1, "uint64")  # the last one: missing
    for alike in np.split(by_blocks, cuts) if len(levels) else []:
        long = lengths[alike]
        place = np.arange(12 * (int(long[0]) // 12 + 1))
        raw = content[start[:-1][alike, None] + place]
        raw[place >= long[:, None]] = 0
        words = list(raw.view("<u4").T)
        words[-1] = words[-1] << 8  # the last byte of the last word is not used
        found[alike] = _lookup3(words, long)
    of_level: NDArray[np.uint64] = found[encoded.indices.fill_null(len(levels)).to_numpy()]
    return of_level


def _lookup3(words: Sequence[_WORDS | np.uint32], lengths: NDArray[np.int_]) -> NDArray[np.uint64]:
    """Hash keys of `lengths` bytes (of one number of whole blocks), cut into words.

    Three words a block; the last three are the rest, filled up with zeros.
    """
    a = lengths.astype("uint32") + np.uint32(_GOLDEN + _INIT)
    a, b, c = _mix(a, a + np.uint32(SEED), a)
    for block in range(0, len(words) - 3, 3):
        a, b, c = _mix(a + words[block], b + words[block + 1], c + words[block + 2])
    a, b, c = a + words[-3], b + words[-2], c + words[-1]
    c = c ^ b
    c -= _rotated(b, 14)
    for word, other, by in ((a, c, 11), (b, a, 25), (c, b, 16), (a, c, 4), (b, a, 14), (c, b, 24)):
        word ^= other  # in place: they are new arrays
        word -= _rotated(other, by)
    return (b.astype("uint64") << np.uint64(32)) | c


def _mix(a: _WORDS, b: _WORDS, c: _WORDS) -> tuple[_WORDS, _WORDS, _WORDS]:
    for first, second, third in ((4, 6, 8), (16, 19, 4)):
        a, c = (a - c) ^ _rotated(c, first), c + b
        b, a = (b - a) ^ _rotated(a, second), a + c
        c, b = (c - b) ^ _rotated(b, third), b + a
    return a, b, c


def _rotated(word: _WORDS, by: int) -> _WORDS:
    turned = word << np.uint32(by)
    turned |= word >> np.uint32(32 - by)
    return turned
