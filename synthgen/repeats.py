"""How many values repeat an earlier one: in bounded memory, however many there are."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from typing import IO

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Hashes = NDArray[np.uint64]
#: Hashes that are held in memory before they go to a file: 16 MB.
HELD = 1 << 21
#: Ranges of hashes that are counted one after the other.
PARTS = 64


class Repeats:
    """Counts values that equal an earlier one, over batches, by their 64-bit hashes.

    No value is kept. Hashes beyond `HELD` go to a temporary file that has no name (nobody else can
    open it, and it ends with the process), a sorted run after the other, 8 bytes a value. Then one
    range of hashes is counted at a time, so that memory is that of `HELD` and of a sixty-fourth of
    all. Two of n different values share a hash with probability n ** 2 / 2 ** 65: 3e-6 of 10 M.

    >>> repeats = Repeats()
    >>> repeats.add(["a", "b"])
    >>> repeats.add(["b", None, "b"])
    >>> repeats.count
    2
    """

    def __init__(self) -> None:
        self._held: list[Hashes] = []
        self._file: IO[bytes] | None = None
        self._runs: list[NDArray[np.int64]] = []  # where each range of a run begins in the file

    def add(self, values: ArrayLike | pd.Series) -> None:
        """Take one batch's values; those that are missing repeat nothing."""
        known = pd.Series(values).dropna()
        self._held.append(pd.util.hash_array(known.to_numpy()))
        if sum(map(len, self._held)) >= HELD:
            self._spill()

    @property
    def count(self) -> int:
        """Values less different values."""
        return sum(int((part[1:] == part[:-1]).sum()) for part in self._parts())

    def _spill(self) -> None:
        run = self._sorted()
        self._held.clear()
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
            weakref.finalize(self, self._file.close)
        start = self._file.seek(0, 2) // 8
        edges = np.arange(1, PARTS, dtype="uint64") * np.uint64(2**64 // PARTS)
        self._runs.append(np.r_[0, np.searchsorted(run, edges), len(run)] + start)
        self._file.write(run.tobytes())

    def _parts(self) -> Iterator[Hashes]:
        """Yield all hashes, a range after the other, sorted."""
        if self._file is None:
            yield self._sorted()
            return
        if self._held:
            self._spill()
        for part in range(PARTS):
            found = np.concatenate([self._read(run[part], run[part + 1]) for run in self._runs])
            found.sort()
            yield found

    def _read(self, start: int, stop: int) -> Hashes:
        assert self._file is not None
        self._file.seek(8 * int(start))
        return np.frombuffer(self._file.read(8 * int(stop - start)), "uint64")

    def _sorted(self) -> Hashes:
        found = np.concatenate([np.empty(0, "uint64"), *self._held])
        found.sort()
        return found
