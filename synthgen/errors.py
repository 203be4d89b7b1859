"""The exception tree. A message names column, rule, count and remedy: never a cell.

Every error that synthgen raises on purpose is a `SynthgenError` and carries the CLI's exit code.
Whatever else escapes a stage (a pandas message may quote a cell) becomes a `StageError` in
`boundary`.

>>> SchemaError("column 'age': kind 'number' is unknown; use one of numeric, categorical").exit_code
2
"""

from __future__ import annotations

import errno
import os
import re
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

#: What to do about what the operating system refuses.
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space"),
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit on open files (ulimit -n)"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable"),
    errno.ENOMEM: "use fewer rows, or a machine with more memory",
    errno.EAGAIN: "raise the limit on processes (ulimit -u)",
}

#: Folders of the standard library and of installed packages.
_OTHERS = tuple(sysconfig.get_paths()[k] for k in ("stdlib", "platstdlib", "purelib", "platlib"))


class SynthgenError(Exception):
    """Base of all errors raised on purpose. Its text is safe to log: names and counts, no cells."""

    exit_code = 1


class ConfigError(SynthgenError):
    """A configuration that cannot work; lists every problem at once."""

    exit_code = 2


class SchemaError(SynthgenError):
    """A schema that contradicts itself, or does not fit what is asked of it."""

    exit_code = 2


@dataclass(frozen=True)
class Violation:
    """One rule that some rows of one column break.

    Attributes
    ----------
    column : str
        Name of the column; empty for a rule about the whole table.
    rule : str
        What was demanded, for instance ``"above the declared maximum 120"``.
    count : int
        Number of rows (or columns) that break it.
    total : int
        Number of rows (or columns) that were looked at.
    remedy : str
        What a user can do about it.
    """

    column: str
    rule: str
    count: int
    total: int
    remedy: str = ""

    def __str__(self) -> str:
        where = f"column '{self.column}': " if self.column else ""
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{where}{self.count:,} of {self.total:,} {self.rule}{remedy}"


class DataError(SynthgenError):
    """Input that cannot be used: unreadable, or against its schema; `violations` holds them all."""

    exit_code = 2

    def __init__(self, message: str, violations: Sequence[Violation] = ()) -> None:
        self.violations = tuple(violations)
        super().__init__("\n".join([message, *(f"  - {v}" for v in self.violations)]))


class DriftError(DataError):
    """A table that no longer looks like the one that the last accepted run learnt from."""


class BundleError(SynthgenError):
    """A bundle that is damaged, hostile, or written by another format version."""

    exit_code = 2


class TargetExists(SynthgenError):
    """The target is there already and `--overwrite` was not given."""

    exit_code = 2


class TrainingError(SynthgenError):
    """Training could not produce a usable generator."""


class StageError(SynthgenError):
    """A stage failed unforeseen. Holds the stage and the type of the failure, not its text."""


class GateRefused(SynthgenError):
    """The gate did not pass the table; nothing was exported."""

    exit_code = 3


class TargetBusy(SynthgenError):
    """Another run holds the target or the run folder."""

    exit_code = 4


class RejectColumn(SynthgenError):
    """An encoder's answer to a column that it cannot take; the table encoder tries the next one."""

    exit_code = 2


@contextmanager
def boundary(stage: str) -> Iterator[None]:
    """Let `SynthgenError` through; turn anything else into a `StageError` without its text.

    Exception texts of pandas, pyarrow, pydantic and others quote cells, and Prefect stores them in
    five places. The new error has neither cause nor context: ``raise ... from None`` only hides the
    original, and tools that walk ``__context__`` with its locals would find it.

    >>> with boundary("encode"):
    ...     float("secret")
    Traceback (most recent call last):
    synthgen.errors.StageError: stage 'encode' failed with ValueError at <doctest...>:2...
    """
    try:
        yield
        return
    except SynthgenError:
        raise
    except Exception as error:
        failure = StageError(f"stage '{stage}' {reason(error)}")
    try:
        raise failure
    finally:
        # The `with` statement that we leave still handles the original, so raising linked it.
        failure.__context__ = None


def reason(error: Exception) -> str:
    """Say what the operating system refused, in its words; of other exceptions type and place.

    >>> reason(MemoryError())
    'ran out of memory; use fewer rows, or a machine with more'
    """
    if is_out_of_memory(error):
        return "ran out of memory; use fewer rows, or a machine with more"
    number = _system_number(error)
    if number is None:
        return (
            f"failed with {type(error).__name__} at {_place(error)}; its message is withheld "
            "because it may quote data"
        )
    file = getattr(error, "filename", None)
    path = f" ({file})" if isinstance(file, str) else ""
    remedy = f"; {_REMEDIES[number]}, then go on" if number in _REMEDIES else ""
    return f"failed at {_place(error)}: {os.strerror(number)}{path}{remedy}"


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out. Those of torch by name and text: it is not loaded for an error."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _system_number(error: Exception) -> int | None:
    """Return the errno of an exception; what is written in Rust (safetensors) has it in its text.

    >>> _system_number(OSError(28, "text")), _system_number(ValueError("I/O (os error 28)"))
    (28, 28)
    """
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _place(error: BaseException) -> str:
    """File and line where `error` passed through our own code: enough to debug, free of values."""
    place, trace = "unknown place", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(_OTHERS) and file != __file__:
            place = f"{file.rsplit('/', 1)[-1]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
