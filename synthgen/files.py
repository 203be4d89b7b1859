"""Files that are whole or absent: staged, synced, renamed, and held by one process at a time.

What a writer of ``adult.csv`` has not finished stands beside it under a hidden name,
``.3f9a0c12-adult.csv``: who was killed leaves it there, and the next holder sweeps it away.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import resource
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synthgen.errors import ConfigError, TargetBusy

#: A lock is tried so often more, so many seconds apart, since somebody may only be looking.
LOOKS, LOOK_SECONDS = 20, 0.005


def home() -> Path:
    """Return the folder of what outlives runs: audit log, models, locks of remote targets.

    ``$SYNTHGEN_HOME``, or ``synthgen`` in the user's data folder (XDG base directories).
    """
    named = os.environ.get("SYNTHGEN_HOME")
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(named).absolute() if named else Path(base) / "synthgen"


def forbid_core_dumps() -> None:
    """See that this process, and what it starts, leaves no image of its memory when it dies."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


@contextmanager
def staged(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Yield an empty hidden sibling of `path` to write; when the block ends well, rename it.

    What was written is on the disk before it has its name. It has `mode` from the first byte on;
    None leaves that to the umask. A block that fails leaves nothing behind.
    """
    temporary = _hidden(path)
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode or 0o666))
    try:
        yield temporary
        if mode is not None:
            temporary.chmod(mode)  # a writer may have put a file of its own there
        _put_in_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def staged_folder(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Yield an empty hidden folder beside `path`, to be filled flatly: `staged`, for a folder.

    It replaces a folder that is there.
    """
    temporary = _hidden(path)
    temporary.mkdir(mode=mode or 0o777)
    try:
        yield temporary
        if mode is not None:
            temporary.chmod(mode)
        for file in temporary.iterdir():
            sync(file)
        _put_in_place(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)


def _hidden(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(4)}-{path.name}")


def _put_in_place(temporary: Path, path: Path) -> None:
    """Sync and rename; a folder that is there goes away as a whole: no part of it is ever seen."""
    sync(temporary)
    if path.is_dir():
        old = _hidden(path)
        path.replace(old)
        try:
            temporary.replace(path)
        except OSError:
            old.replace(path)
            raise
        shutil.rmtree(old)
    else:
        temporary.replace(path)
    sync(path.parent)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path`, mode 0700, that goes away when the block ends.

    `sweep` of `path` finds what a killed process left there.
    """
    folder = _hidden(path)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def append_line(path: Path, text: str, *, durable: bool = True) -> None:
    """Add a line to a file, made with mode 0600 if it is not there: all of the line, or nothing.

    A part of a line that a killed process left is ended first, so that it spoils no other. With
    `durable` the line is on the disk when this returns.
    """
    handle = os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(handle).st_size
        is_cut = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        rest = memoryview(("\n" * is_cut + text + "\n").encode())
        try:
            while rest:
                rest = rest[os.write(handle, rest) :]
            if durable:
                os.fsync(handle)
        except OSError:  # a full disk takes a part of it
            os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)
    if durable and not size:
        sync(path.parent)


def sweep(path: Path) -> None:
    """Remove what writers of `path` that were killed left staged beside it.

    For whoever holds `path` alone: a writer at work would lose its file.
    """
    for leftover in path.parent.glob(f".????????-{glob.escape(path.name)}"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk.

    What is in a folder is not touched: files of others come and go there.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_text(path: Path, most: int) -> str | None:
    """Return the UTF-8 text of a file; None if it has more than `most` bytes, read no further.

    A file that is no file (``/dev/zero``) does not say how long it is.
    """
    with path.open("rb") as file:
        content = file.read(most + 1)
    return None if len(content) > most else content.decode("utf-8")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def reserve(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold `path` for this process alone; the lock file beside it goes away at the end.

    A process that dies, however it dies, holds nothing any more. `wait` waits for the holder.

    Raises
    ------
    TargetBusy
        If another process (or another block of this one) holds it, and `wait` is False.
    ConfigError
        If no lock file can be made beside it.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        handle = _lock(lock, path, wait=wait)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether a process holds `path` now; who wants it meanwhile tries again (`LOOKS`)."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _lock(lock: Path, path: Path, *, wait: bool) -> int:
    refusals = 0
    while True:
        handle = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if lock.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        except FileNotFoundError:
            pass  # the holder before us removed the file between our open and our lock
        except BlockingIOError:
            refusals += 1
            if refusals > LOOKS:
                os.close(handle)
                raise TargetBusy(
                    f"{path} is held by another run; wait for it, or name another target"
                ) from None
            time.sleep(LOOK_SECONDS)  # somebody may only have looked: `is_held`
        os.close(handle)
