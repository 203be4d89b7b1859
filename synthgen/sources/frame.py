"""A frame that is in memory already, read like any other table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from synthgen.sources.source import BATCH_ROWS, Source, check_names


@dataclass(frozen=True, kw_only=True, repr=False)
class FrameSource(Source):
    """The rows of one Arrow table."""

    rows: pa.Table

    @classmethod
    def of(cls, frame: pd.DataFrame) -> FrameSource:
        """Return the source of `frame`; its index is no column.

        Raises
        ------
        DataError
            If a column has no name, or two have one.
        """
        names = [str(name) for name in frame.columns]
        check_names("frame", names)
        plain = frame.set_axis(names, axis=1)
        rows = pa.Table.from_pandas(plain, preserve_index=False).replace_schema_metadata()
        return cls(uri="frame", format="parquet", table="frame", names=names, rows=rows)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order."""
        yield from self.rows.to_batches(BATCH_ROWS)

    def digest(self) -> str:
        """Return the SHA-256 of the cells as Arrow writes them."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.rows.schema) as writer:
            writer.write_table(self.rows)
        return hashlib.sha256(sink.getvalue()).hexdigest()
