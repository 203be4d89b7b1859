"""How places are opened: file systems by pyarrow, PostgreSQL by ADBC, SQLite by Python.

Secrets are found by the clients themselves, in the environment or in files that it names; they
pass through none of our objects. The texts of a database's errors may quote cells: a caller gets
what the server said about names and rights, and of everything else the code.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.fs as pa_fs

from synthgen.errors import ConfigError, DataError, SynthgenError
from synthgen.uri import TableAddress, local_path, scheme

CONNECT_SECONDS = 15.0
#: Classes of SQLSTATE that say that the server has gone: connection exceptions, shut down, crashed.
_LOST_STATES = ("08", "57P")
#: Classes of SQLSTATE whose messages are about names, rights and the connection, never about cells.
_HARMLESS_STATES = ("08", "28", "3D", "42501", "42601", "42P01", "42703", "3F")


def filesystem(uri: str) -> tuple[pa_fs.FileSystem, str]:
    """Return the file system of a path, ``file://`` or ``s3://`` URI, and the path inside it.

    S3 takes ``AWS_ENDPOINT_URL``, ``AWS_REGION`` and whatever else the AWS clients read.
    """
    if scheme(uri) == "file":
        return pa_fs.LocalFileSystem(), str(local_path(uri))
    # Away from AWS, to look for the metadata of a machine takes seconds and finds nothing.
    if os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ACCESS_KEY_ID"):
        os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    system = pa_fs.S3FileSystem(
        endpoint_override=os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or None,
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        connect_timeout=CONNECT_SECONDS,
        request_timeout=60,
        retry_strategy=pa_fs.AwsStandardS3RetryStrategy(max_attempts=4),
    )
    path = unquote(uri.removeprefix("s3://"))
    if not path.strip("/"):
        raise ConfigError("an s3:// URI names a bucket and a key: s3://bucket/folder/table.parquet")
    return system, path


@contextmanager
def stored(uri: str) -> Iterator[None]:
    """Turn what a file system or store answers into a message with the place and a code."""
    try:
        yield
    except OSError as error:
        _, _, rest = str(error).partition("AWS Error ")
        reason = rest.split(" ")[0] or type(error).__name__
        raise SynthgenError(f"{uri}: cannot be read or written ({reason})") from None


def postgres(address: TableAddress) -> Any:
    """Return an open connection (ADBC, DBAPI 2; a transaction is begun).

    Raises
    ------
    ConfigError
        If the driver is not installed.
    SynthgenError
        If the server cannot be reached, or refuses.
    """
    try:
        import adbc_driver_postgresql.dbapi as client
    except ImportError:
        raise ConfigError("PostgreSQL needs a driver: pip install 'synthgen[postgres]'") from None
    separator = "&" if "?" in address.connection else "?"
    dsn = address.connection
    if "connect_timeout" not in dsn and "PGCONNECT_TIMEOUT" not in os.environ:
        dsn += f"{separator}connect_timeout={CONNECT_SECONDS:.0f}"
    try:
        return client.connect(dsn)
    except client.Error as error:
        # libpq's own words: the place, the user and the reason; it never prints a password
        said = str(error).partition("Failed to connect: ")[2].strip().splitlines()
        reason = said[0] if said else type(error).__name__
        raise SynthgenError(f"{address.uri}: no connection to PostgreSQL: {reason}") from None


@contextmanager
def asking(address: TableAddress) -> Iterator[None]:
    """Turn what a database answers into a message that quotes no cell."""
    try:
        yield
    except sqlite3.Error as error:
        raise DataError(f"{address.uri}: {_sqlite_reason(error)}") from None
    except (OSError, pa.ArrowException) as error:  # in the middle of a stream
        if _is_lost(error):
            raise _lost(address) from None
        raise DataError(
            f"{address.uri}: a row could not be read; what the server said is withheld, "
            "it may quote data"
        ) from None
    except Exception as error:
        state = getattr(error, "sqlstate", None)
        if not type(error).__module__.startswith("adbc_driver_manager"):
            raise
        if _is_lost(error):
            raise _lost(address) from None
        reason = f"SQLSTATE {state}" if state else type(error).__name__
        if state and state.startswith(_HARMLESS_STATES):
            said = str(error).partition("ERROR:")[2].strip().splitlines()
            reason = f"{said[0]} ({reason})" if said else reason
        raise DataError(f"{address.uri}: PostgreSQL refused: {reason}") from None


def _is_lost(error: Exception) -> bool:
    """Whether the server is gone: by its SQLSTATE, or where there is none by libpq's words."""
    state = getattr(error, "sqlstate", None)
    if state:
        return bool(state.startswith(_LOST_STATES))
    return "connection" in str(error) or "no COPY in progress" in str(error)


def _lost(address: TableAddress) -> SynthgenError:
    return SynthgenError(f"{address.uri}: the connection was lost; start again")


def _sqlite_reason(error: sqlite3.Error) -> str:
    """Return SQLite's words about names and locks; of everything else the code."""
    text = str(error)
    told = ("no such table", "no such column", "syntax error", "unable to open", "is locked")
    if isinstance(error, sqlite3.OperationalError) and any(word in text for word in told):
        return f"SQLite refused: {text}"
    code = getattr(error, "sqlite_errorname", None) or type(error).__name__
    return f"SQLite refused ({code})"


def sqlite(address: TableAddress, *, write: bool = False) -> sqlite3.Connection:
    """Return an open connection without a transaction; a file to be read has to exist."""
    path = Path(address.connection)
    if not write and not path.is_file():
        raise DataError(f"{address.uri}: there is no such file")
    mode = "rwc" if write else "ro"
    with asking(address):
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode={mode}",
            uri=True,
            isolation_level=None,  # transactions begin and end where the code says so
            timeout=CONNECT_SECONDS,
        )
        connection.execute("PRAGMA schema_version")  # opens the file: is it a database at all?
    return connection
