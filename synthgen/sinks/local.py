"""Files and folders on disk: staged beside the target, synced, put in place by one rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from synthgen.errors import ConfigError, SynthgenError, TargetExists
from synthgen.files import staged, staged_folder, sweep
from synthgen.sinks.formats import described, ending, write_file, write_parts
from synthgen.sinks.sink import Describe, Judge, Sink, Synthetic, Written, refuse_small_disk

FOLDER_MANIFEST = "_manifest.json"


def manifest_path(target: Path) -> Path:
    """Return where the manifest of `target` stands: ``adult.csv.manifest.json``."""
    return target.with_name(target.name + ".manifest.json")


def check_place(path: Path, *, overwrite: bool) -> Path:
    """Return `path` if something may be put there; raises as `Sink.check`."""
    if not path.parent.is_dir():
        raise ConfigError(f"target {path}: the folder {path.parent} does not exist; create it")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"target {path}: the folder {path.parent} is not writable")
    there = [p for p in (path, manifest_path(path)) if p.exists() or p.is_symlink()]
    if there and not overwrite:
        raise TargetExists(f"{there[0]} is there already; use another name or --overwrite")
    return path


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SynthgenError(
            f"cannot write {path}: {error.strerror}; nothing was exported"
        ) from None


@dataclass(frozen=True)
class _Local(Sink):
    path: Path

    @property
    def uri(self) -> str:  # type: ignore[override]
        """The absolute path."""
        return str(self.path)

    @property
    def _here(self) -> Path:
        """The target itself: other machines see the lock file as well, and it has its own disk."""
        return self.path

    def check_space(self, *, rows: int, columns: int) -> None:
        """Compare with what is free on the target's disk."""
        free = shutil.disk_usage(self.path.parent).free
        refuse_small_disk(self.path, free, rows=rows, columns=columns)


@dataclass(frozen=True)
class LocalFile(_Local):
    """One CSV or Parquet file, and beside it its manifest."""

    keep_formulas: bool = False

    def check(self, *, overwrite: bool) -> None:
        """Look at the name, the folder and what is there."""
        ending(self.path.name)
        if self.path.is_dir():
            raise ConfigError(f"target {self.path} is a folder; name a file, or end it in /")
        check_place(self.path, overwrite=overwrite)

    def put(
        self, table: Synthetic, judge: Judge, describe: Describe, *, overwrite: bool
    ) -> Written:
        """Write, judge, rename; then the manifest."""
        self.check(overwrite=overwrite)
        with _disk(self.path):
            with staged(self.path) as temporary:
                schema, escaped = write_file(temporary, table, plain=self.keep_formulas)
                judge(temporary, schema)
                written = described(temporary, table, escaped, name=self.path.name)
                # an old manifest must never describe the new file, not even for a moment
                manifest_path(self.path).unlink(missing_ok=True)
            with staged(manifest_path(self.path)) as temporary:
                temporary.write_text(describe(written), encoding="utf-8")
        return written

    def manifest(self) -> str | None:
        """Read the file beside the target."""
        path = manifest_path(self.path)
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def sweep(self) -> None:
        """Remove staged files of the target and of its manifest."""
        super().sweep()
        sweep(manifest_path(self.path))


@dataclass(frozen=True)
class LocalFolder(_Local):
    """A folder of Parquet parts with its manifest inside: one rename puts all of it in place."""

    def check(self, *, overwrite: bool) -> None:
        """Look at the folder around it, and what is there."""
        if self.path.exists() and self.manifest() is None:
            raise ConfigError(
                f"target {self.path}/ is there and was not written by an export: it has no "
                f"{FOLDER_MANIFEST}; name another folder"
            )
        check_place(self.path, overwrite=overwrite)

    def put(
        self, table: Synthetic, judge: Judge, describe: Describe, *, overwrite: bool
    ) -> Written:
        """Write the parts and their manifest, judge, rename."""
        self.check(overwrite=overwrite)
        with _disk(self.path), staged_folder(self.path) as temporary:
            judge(temporary, write_parts(temporary, table))
            written = described(temporary, table, {}, name=f"{self.path.name}/")
            text = describe(written)
            (temporary / FOLDER_MANIFEST).write_text(text, encoding="utf-8")
        return written

    def manifest(self) -> str | None:
        """Read the file inside the folder."""
        path = self.path / FOLDER_MANIFEST
        return path.read_text(encoding="utf-8") if path.is_file() else None
