"""Files and folders of files, on disk or in S3: found, told apart by their first bytes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs as pa_fs

from synthgen.errors import DataError
from synthgen.schema import TableSchema
from synthgen.stores import filesystem, stored

if TYPE_CHECKING:
    from synthgen.sources.source import Source

PARQUET, GZIP, ZSTD, ZIP = b"PAR1", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK"
PARQUET_ENDINGS = (".parquet", ".pq")
CSV_ENDINGS = (".csv", ".csv.gz", ".csv.zst", ".tsv", ".tsv.gz", ".tsv.zst")
BLOCK_BYTES = 2**20
#: Bytes asked for to see the first four: S3's refusal has to fit into them, or pyarrow (26) takes
#: a 503 for a broken stream and does not try again.
HEAD_BYTES = 4_096


@dataclass(frozen=True)
class File:
    """One file, as it was when the source was opened.

    Attributes
    ----------
    uri : str
        Of the source that it belongs to, for messages.
    system, path
        Where it is.
    size, changed : int
        Bytes, and nanoseconds since 1970.
    compression : {None, "gzip", "zstd"}
        By its first bytes.
    is_parquet : bool
        By its first bytes, or by its name.
    """

    uri: str
    system: pa_fs.FileSystem
    path: str
    size: int
    changed: int
    compression: str | None = None
    is_parquet: bool = False

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name

    @contextmanager
    def stream(self) -> Iterator[Any]:
        """Open it to be read from front to end, unpacked; `OSError` if what is packed is damaged.

        Raises
        ------
        DataError
            If it changed since the source was opened.
        """
        self.check_unchanged()
        with self.system.open_input_stream(self.path, compression=self.compression) as raw:
            yield raw
        self.check_unchanged()

    @contextmanager
    def binary(self) -> Iterator[io.BufferedReader]:
        """Open it, unpacked, as Python's own files are."""
        with self.stream() as raw:
            yield io.BufferedReader(raw, BLOCK_BYTES)

    def random(self) -> Any:
        """Open it to be read anywhere, packed as it is."""
        self.check_unchanged()
        return self.system.open_input_file(self.path)

    def check_unchanged(self) -> None:
        """Raise DataError if size or time are no longer what they were."""
        with stored(self.uri):
            info = self.system.get_file_info(self.path)
        if (info.size, info.mtime_ns) != (self.size, self.changed):
            raise DataError(f"{self.uri}: {self.name} changed while it was read; start again")

    def digest(self) -> str:
        """Return the SHA-256 of its bytes, packed as they are."""
        found = hashlib.sha256()
        with stored(self.uri), self.random() as file:
            while block := file.read(BLOCK_BYTES):
                found.update(block)
        return found.hexdigest()


def digest(files: tuple[File, ...]) -> str:
    """Return the SHA-256s of all files, one after the other."""
    return "".join(file.digest() for file in files)


def open_files(uri: str, schema: TableSchema | None) -> Source:
    """Return the CSV or Parquet source at `uri`."""
    from synthgen.sources.delimited import open_csv
    from synthgen.sources.parquet import open_parquet

    system, path = filesystem(uri)
    with stored(uri):
        info = system.get_file_info(path)
    if info.type == pa_fs.FileType.NotFound:
        raise DataError(f"{uri}: there is no such file or directory")
    if info.type == pa_fs.FileType.Unknown:  # a pipe or a device may never end
        raise DataError(f"{uri}: is not a file; write what it holds into one")
    if info.type == pa_fs.FileType.Directory:
        files = _parts(uri, system, path)
    else:
        files = (_examined(uri, system, info),)
        if not files[0].size:
            raise DataError(f"{uri}: the file is empty")
    if files[0].is_parquet:
        return open_parquet(uri, files)
    return open_csv(uri, files, schema)


def _examined(uri: str, system: pa_fs.FileSystem, info: pa_fs.FileInfo) -> File:
    """Return the file, told apart by its first bytes."""
    try:
        with system.open_input_stream(info.path, compression=None) as file:
            magic = file.read(HEAD_BYTES)[:4]
    except PermissionError as error:
        raise DataError(f"{uri}: cannot be read ({type(error).__name__})") from None
    except OSError:
        with stored(uri):
            raise
    name = PurePosixPath(info.path).name
    if magic[:2] == ZIP:
        raise DataError(f"{uri}: {name} is a ZIP archive; unpack it, or pack it with gzip or zstd")
    packed = {GZIP: "gzip", ZSTD[:2]: "zstd"}.get(magic[:2])
    is_parquet = magic == PARQUET or name.endswith(PARQUET_ENDINGS)
    if packed and ".parquet" in name:
        raise DataError(f"{uri}: {name} is packed Parquet, which is packed inside; unpack it")
    return File(uri, system, info.path, info.size, info.mtime_ns, packed, is_parquet)


def _parts(uri: str, system: pa_fs.FileSystem, folder: str) -> tuple[File, ...]:
    """Return the parts of a table in name order: all Parquet, or all CSV."""
    with stored(uri):
        found = system.get_file_info(pa_fs.FileSelector(folder, recursive=True))
    root = PurePosixPath(folder)
    infos = [
        info
        for info in found
        if info.type == pa_fs.FileType.File
        and info.path.endswith((*PARQUET_ENDINGS, *CSV_ENDINGS))
        and not _is_hidden(PurePosixPath(info.path).relative_to(root))
    ]
    if not infos:
        raise DataError(f"{uri}: the directory holds no Parquet or CSV parts (*.parquet, *.csv)")
    folders = {part for i in infos for part in PurePosixPath(i.path).relative_to(root).parts[:-1]}
    if any("=" in name for name in folders):
        raise DataError(
            f"{uri}: is partitioned by folders named column=value, which are not read as columns; "
            "write the table without partitions"
        )
    files = tuple(_examined(uri, system, info) for info in sorted(infos, key=lambda i: i.path))
    if len({file.is_parquet for file in files}) > 1:
        raise DataError(f"{uri}: the directory mixes Parquet and CSV; name one of its files")
    return files


def _is_hidden(relative: PurePosixPath) -> bool:
    return any(part.startswith((".", "_")) for part in relative.parts)


def stem(uri: str) -> str:
    """Return the last part of a path without its endings.

    >>> stem("s3://bucket/patients.csv.gz"), stem("data/patients/")
    ('patients', 'patients')
    """
    return PurePosixPath(uri.rstrip("/")).name.split(".")[0]


def damaged(error: BaseException) -> bool:
    """Whether an exception of pyarrow or of a file is about what was read, not about our code."""
    return isinstance(error, (pa.ArrowException, OSError, EOFError))
