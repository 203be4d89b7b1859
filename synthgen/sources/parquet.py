"""Parquet files: their types kept, page checksums verified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.errors import DataError
from synthgen.sources.files import File, digest, stem
from synthgen.sources.source import BATCH_ROWS, Source, check_names


@dataclass(frozen=True, kw_only=True)
class ParquetSource(Source):
    """One file, or the parts of a folder in name order."""

    files: tuple[File, ...]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in file order.

        Without `pre_buffer`, which keeps what was read until the file ends: memory would be its.
        """
        reading = {"page_checksum_verification": True, "pre_buffer": False}
        for file in self.files:
            try:
                with file.random() as opened, pq.ParquetFile(opened, **reading) as table:
                    yield from table.iter_batches(BATCH_ROWS)
            except (pa.ArrowException, OSError):
                raise _damaged(file) from None
            file.check_unchanged()

    def digest(self) -> str:
        """Return the SHA-256 of each file."""
        return digest(self.files)


def open_parquet(uri: str, files: tuple[File, ...]) -> Source:
    """Return the source of `files`, whose columns and types must agree."""
    first, n_rows = _footer(files[0])
    check_names(uri, first.names)
    for file in files[1:]:
        schema, rows = _footer(file)
        n_rows += rows
        if not schema.equals(first):
            differing = sorted(
                {f.name for f in schema} ^ {f.name for f in first}
                | {f.name for f in schema if f.name in first.names and f != first.field(f.name)}
            )
            raise DataError(
                f"{uri}: part {file.name} has other columns or types than {files[0].name}: "
                f"{', '.join(differing) or 'their order'}"
            )
    if not n_rows:
        raise DataError(f"{uri}: the table has columns and no rows")
    return ParquetSource(
        uri=uri, format="parquet", table=stem(uri), names=list(first.names), files=files
    )


def _footer(file: File) -> tuple[pa.Schema, int]:
    try:
        with file.random() as opened, pq.ParquetFile(opened) as table:
            return table.schema_arrow.remove_metadata(), table.metadata.num_rows
    except (pa.ArrowException, OSError):
        raise _damaged(file) from None


def _damaged(file: File) -> DataError:
    return DataError(
        f"{file.uri}: {file.name} is not a readable Parquet file: truncated or damaged"
    )
