"""A synthetic table in, a place that holds it whole or not at all."""

from __future__ import annotations

from synthgen.sinks.bucket import S3File, S3Folder
from synthgen.sinks.database import PostgresTable, SqliteTable
from synthgen.sinks.local import LocalFile, LocalFolder
from synthgen.sinks.sink import Sink, Synthetic, Written
from synthgen.uri import local_path, scheme, table_address

__all__ = ["Sink", "Synthetic", "Written", "open_sink"]


def open_sink(uri: str, *, keep_formulas: bool = False) -> Sink:
    """Return the place that `uri` names; nothing is looked at yet.

    Parameters
    ----------
    uri : str
        A path, ``file://`` or ``s3://`` URI whose name ends in ``.parquet``, ``.csv``, ``.csv.gz``
        or ``.csv.zst``, or in ``/`` for a folder of Parquet parts;
        ``postgresql://host/database?table=name``; ``sqlite:///file.db?table=name``.
    keep_formulas : bool
        Of CSV: whether texts that a spreadsheet would run are written as they are.

    Raises
    ------
    ConfigError
        A scheme that is unknown, a secret in the URI, or a name that says no format.
    """
    kind = scheme(uri)
    if kind == "postgresql":
        return PostgresTable(table_address(uri))
    if kind == "sqlite":
        return SqliteTable(table_address(uri))
    if kind == "s3":
        return S3Folder(uri) if uri.endswith("/") else S3File(uri, keep_formulas)
    path = local_path(uri).absolute()
    return LocalFolder(path) if uri.endswith("/") else LocalFile(path, keep_formulas)
