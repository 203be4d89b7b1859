"""What every sink is: a place that takes one table, whole or not at all, its manifest last."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from synthgen.errors import ConfigError, TargetBusy
from synthgen.files import home, reserve, scratch, sweep
from synthgen.schema import TableSchema
from synthgen.table import SyntheticFile, SyntheticTable

#: Synthetic rows that may leave: in memory, or in a file.
Synthetic = SyntheticTable | SyntheticFile


@dataclass(frozen=True)
class Written:
    """What stands at the target now, for its manifest.

    Attributes
    ----------
    file : str
        Name of the file or folder, or URI of the table.
    sha256 : str
        Of a file its bytes; of a folder the lines that ``sha256sum`` prints of its parts; of a
        table its rows as a set.
    bytes, rows : int
    escaped : dict
        Of CSV: cells of each column that were given an apostrophe.
    parts : dict
        Of a folder: the SHA-256 of each part.
    """

    file: str
    sha256: str
    bytes: int
    rows: int
    escaped: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)


#: Holds a file or folder as it was written against its schema; raises if it breaks it.
Judge = Callable[[Path, TableSchema], None]
#: From what was written to the text of the manifest.
Describe = Callable[[Written], str]


class Sink(ABC):
    """A place for one table."""

    uri: str

    @abstractmethod
    def check(self, *, overwrite: bool) -> None:
        """Raise before any work is done if nothing can be put there.

        Raises
        ------
        ConfigError, SynthgenError
            If the place cannot be used or reached.
        TargetExists
            If something is there already and `overwrite` is False.
        """

    @abstractmethod
    def put(
        self, table: Synthetic, judge: Judge, describe: Describe, *, overwrite: bool
    ) -> Written:
        """Write `table`, read it back, put it in place, and its manifest last.

        Whatever stops it, even ``kill -9``, leaves what was there before, or a table without a
        manifest: never a part of a table that could be taken for a whole one.
        """

    @abstractmethod
    def manifest(self) -> str | None:
        """Return the text of the manifest that stands there; None if there is none."""

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep other runs of this machine from the target; TargetBusy if one holds it.

        What killed writers left is swept away.
        """
        try:
            with reserve(self._here):
                self.sweep()
                yield
        except TargetBusy:
            raise TargetBusy(
                f"{self.uri} is held by another run; wait for it, or name another target"
            ) from None

    @property
    def _here(self) -> Path:
        """What stands for the target on this machine: locks and unfinished tables are beside it."""
        locks = home() / "locks"
        locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        return locks / hashlib.sha256(self.uri.encode()).hexdigest()[:32]

    def sweep(self) -> None:
        """Remove what killed writers left here; for whoever holds the target."""
        sweep(self._here)

    def check_space(self, *, rows: int, columns: int) -> None:
        """Raise ConfigError if there is no room for so many cells, as far as can be known."""
        return

    def check_names(self, names: Sequence[str]) -> None:
        """Raise ConfigError if it cannot hold columns of these names, before they are made."""
        return

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a private folder in which a table may wait before it is put."""
        with scratch(self._here) as folder:
            yield folder


def refuse_small_disk(folder: Path, free: int, *, rows: int, columns: int) -> None:
    """Raise ConfigError if `free` bytes cannot hold `rows` x `columns` cells twice over."""
    needed = rows * columns * 16 * 2
    if needed > free:
        raise ConfigError(
            f"target {folder}: about {needed / 2**20:,.1f} MiB are needed and "
            f"{free / 2**20:,.1f} MiB are free; free some space, then start again"
        )
