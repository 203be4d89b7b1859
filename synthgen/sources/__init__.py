"""A URI in, Arrow batches out, never the whole table at once.

CSV and Parquet (files and folders, on disk or in S3), tables and queries of PostgreSQL and SQLite.
Whatever can be read twice is the same both times, or the second reading fails.
"""

from __future__ import annotations

from synthgen.schema import TableSchema
from synthgen.sources.database import open_postgres, open_sqlite
from synthgen.sources.files import open_files
from synthgen.sources.frame import FrameSource
from synthgen.sources.source import Source
from synthgen.uri import scheme

__all__ = ["FrameSource", "Source", "open_source"]


def open_source(uri: str, schema: TableSchema | None = None) -> Source:
    """Find the table at `uri` and read its header. Close it, or use it as a context manager.

    Parameters
    ----------
    uri : str
        A path, ``file://`` or ``s3://`` URI of a CSV file (plain, ``.gz``, ``.zst``), a Parquet
        file, or a folder of such parts; ``postgresql://host/database?table=name``;
        ``sqlite:///file.db?table=name``; with ``?query=file.sql`` what one SELECT answers.
    schema : TableSchema, optional
        Declares the CSV dialect. Without it the delimiter is sniffed and the encoding is UTF-8,
        or what a byte order mark says.

    Raises
    ------
    ConfigError
        A scheme that is unknown, or a secret in the URI.
    DataError
        Nothing there, nothing in it, or a header that cannot name columns.
    """
    kind = scheme(uri)
    if kind == "postgresql":
        return open_postgres(uri)
    if kind == "sqlite":
        return open_sqlite(uri)
    return open_files(uri, schema)
