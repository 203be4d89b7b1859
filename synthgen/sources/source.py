"""What every source is: a table that was found and whose header was read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import pyarrow as pa

from synthgen.errors import DataError

Format = Literal["csv", "parquet", "postgresql", "sqlite"]
BATCH_ROWS = 65_536


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A table that was found and whose header was read; its rows were not.

    Attributes
    ----------
    uri : str
        As given; it holds no secret.
    format : {"csv", "parquet", "postgresql", "sqlite"}
    table : str
        What to call it: the name of the file, folder, table or query, without endings.
    names : list of str
        Column names in order, unique and not empty.
    delimiter, encoding, strip : str, str, bool
        The dialect of a CSV file. `strip` says whether blanks around cells are to be dropped;
        `conform` does it, the cells here still have them.
    """

    uri: str
    format: Format
    table: str
    names: list[str]
    delimiter: str = ","
    encoding: str = "utf-8"
    strip: bool = False

    @abstractmethod
    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows; every call starts again at the first row and sees the same rows.

        CSV columns are all `string`, an empty field the empty text; others are as typed.

        Raises
        ------
        DataError
            Ragged records, undecodable bytes, a damaged file, a change between two readings:
            with counts and places, no cell.
        """

    @abstractmethod
    def digest(self) -> str:
        """Return a SHA-256 that knows the same data again: of files their bytes, of tables rows."""

    def close(self) -> None:
        """Let go of what the source holds open; it cannot be read any more."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def check_names(uri: str, names: Sequence[str]) -> None:
    """Refuse what pandas would silently rename: ``x, x.1`` and ``Unnamed: 0``."""
    problems = []
    empty = [str(i) for i, name in enumerate(names, 1) if not name]
    if empty:
        index = " (written with an index? drop the first column)" if empty == ["1"] else ""
        problems.append(f"{len(empty)} columns have no name: number {', '.join(empty)}{index}")
    if nul := [str(i) for i, name in enumerate(names, 1) if "\0" in name]:
        problems.append(f"{len(nul)} names hold a NUL character: of column {', '.join(nul)}")
    repeated = sorted((n, count) for n, count in Counter(names).items() if n and count > 1)
    problems += [f"column '{n}' appears {count} times in the header" for n, count in repeated]
    if problems:
        raise DataError(f"{uri}: give every column a name of its own; " + "; ".join(problems))
