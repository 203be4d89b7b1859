"""Objects of S3: made and judged here, sent in parts, read back, and their manifest last.

An object appears when the last of its parts has arrived; an upload that is cut off is not seen.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs as pa_fs

from synthgen.errors import SynthgenError, TargetExists
from synthgen.schema import TableSchema
from synthgen.sinks.formats import described, ending, write_file, write_parts
from synthgen.sinks.local import FOLDER_MANIFEST
from synthgen.sinks.sink import Describe, Judge, Sink, Synthetic, Written
from synthgen.stores import filesystem, stored

BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class _S3(Sink):
    uri: str

    def check(self, *, overwrite: bool) -> None:
        """Ask the store whether something is there."""
        system, path = filesystem(self.uri)
        with stored(self.uri):
            there = [
                info.path
                for info in system.get_file_info([path.rstrip("/"), self._manifest_path(path)])
                if info.type != pa_fs.FileType.NotFound
            ]
        if there and not overwrite:
            raise TargetExists(f"{self.uri} is there already; use another name or --overwrite")

    def put(
        self, table: Synthetic, judge: Judge, describe: Describe, *, overwrite: bool
    ) -> Written:
        """Write here and judge; take the old manifest away; send, read back; send the manifest."""
        self.check(overwrite=overwrite)
        system, path = filesystem(self.uri)
        with self.scratch() as folder:
            local, escaped = self._write(folder, table, judge)
            written = described(local, table, escaped, name=self._name(path))
            manifest = describe(written).encode()
            with stored(self.uri):
                self._clear(system, path)
                files = sorted(local.iterdir()) if local.is_dir() else [local]
                for file in files:
                    key = f"{path.rstrip('/')}/{file.name}" if local.is_dir() else path
                    self._send(system, file, key, written.parts.get(file.name, written.sha256))
                with system.open_output_stream(
                    self._manifest_path(path), compression=None
                ) as stream:
                    stream.write(manifest)
        return written

    def _send(self, system: pa_fs.FileSystem, file: Path, key: str, digest: str) -> None:
        """Send `file` and read it back; what is not whole is taken away again."""
        try:
            with (
                file.open("rb") as source,
                system.open_output_stream(key, compression=None) as stream,
            ):
                while block := source.read(BLOCK_BYTES):
                    stream.write(block)
            found = hashlib.sha256()
            with system.open_input_stream(key, compression=None) as stream:
                while block := stream.read(BLOCK_BYTES):
                    found.update(block)
            if found.hexdigest() != digest:
                raise SynthgenError(
                    f"{self.uri}: what was read back is not what was sent; try again"
                )
        except BaseException:  # SIGTERM too: to leave the stream has put the parts sent in place
            with suppress(OSError):
                system.delete_file(key)
            raise

    def manifest(self) -> str | None:
        """Read the object beside the target, or in its folder."""
        system, path = filesystem(self.uri)
        with stored(self.uri):
            info = system.get_file_info(self._manifest_path(path))
            if info.type != pa_fs.FileType.File:
                return None
            with system.open_input_stream(info.path, compression=None) as stream:
                return str(stream.read().decode())

    def _clear(self, system: pa_fs.FileSystem, path: str) -> None:
        """Take away the manifest of what is there: from here on it is no finished table."""
        manifest = self._manifest_path(path)
        if system.get_file_info(manifest).type == pa_fs.FileType.File:
            system.delete_file(manifest)

    @abstractmethod
    def _write(self, folder: Path, table: Synthetic, judge: Judge) -> tuple[Path, dict[str, int]]:
        """Write and judge what will be sent."""

    @abstractmethod
    def _manifest_path(self, path: str) -> str:
        """Return where the manifest stands."""

    @abstractmethod
    def _name(self, path: str) -> str:
        """Return the last part of the path."""


@dataclass(frozen=True)
class S3File(_S3):
    """One object, and beside it its manifest."""

    keep_formulas: bool = False

    def check(self, *, overwrite: bool) -> None:
        """Look at the name as well."""
        ending(self.uri)
        super().check(overwrite=overwrite)

    def _write(self, folder: Path, table: Synthetic, judge: Judge) -> tuple[Path, dict[str, int]]:
        path = folder / self._name(self.uri)
        schema, escaped = write_file(path, table, plain=self.keep_formulas)
        judge(path, schema)
        return path, escaped

    def _manifest_path(self, path: str) -> str:
        return f"{path}.manifest.json"

    def _name(self, path: str) -> str:
        return path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class S3Folder(_S3):
    """Parquet parts below one prefix, and with them their manifest."""

    def _write(self, folder: Path, table: Synthetic, judge: Judge) -> tuple[Path, dict[str, int]]:
        parts = folder / "parts"
        parts.mkdir()
        schema: TableSchema = write_parts(parts, table)
        judge(parts, schema)
        return parts, {}

    def _clear(self, system: pa_fs.FileSystem, path: str) -> None:
        """Take away the manifest, then the parts of an earlier export."""
        super()._clear(system, path)
        inside = pa_fs.FileSelector(path.rstrip("/"), allow_not_found=True)
        for info in system.get_file_info(inside):
            if info.base_name.startswith("part-") and info.base_name.endswith(".parquet"):
                system.delete_file(info.path)

    def _manifest_path(self, path: str) -> str:
        return f"{path.rstrip('/')}/{FOLDER_MANIFEST}"

    def _name(self, path: str) -> str:
        return path.rstrip("/").rsplit("/", 1)[-1] + "/"
