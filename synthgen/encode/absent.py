"""Cells that are missing wherever another one is: questions skipped, measurements of one device.

A generator that draws token by token gets this nearly right, so that some rows lack half of what is
always there or not there together. What holds on every row is therefore kept.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from synthgen.encode.column import Floats, Ints

#: Rows against a rule that chance alone would have made; e ** -12 is the odds of seeing none.
MIN_EXPECTED = 12.0
#: Rows that are counted at a time.
CHUNK = 65_536


def count_absent(tokens: Ints) -> Floats:
    """Return (C, C + 1) counts of (N, C) coarse tokens, of which level 0 is missing.

    Rows in which the first is missing and the second is not; last, in which the first is missing.
    """
    counts = np.zeros((tokens.shape[1], tokens.shape[1] + 1))
    for start in range(0, len(tokens), CHUNK):
        gone = (tokens[start : start + CHUNK] == 0).astype(np.float32)
        counts[:, :-1] += gone.T @ (1 - gone)
        counts[:, -1] += gone.sum(axis=0, dtype=np.float64)
    return counts


def implied_absent(counts: Floats, n_rows: int) -> tuple[tuple[int, ...], ...]:
    """Return for each of C tokens those that are missing on every row on which it is.

    Only where chance would have made `MIN_EXPECTED` rows that say otherwise. What follows from two
    such rules is one.

    >>> tokens = np.repeat([[1, 1, 1], [1, 0, 0], [1, 1, 0]], 50, axis=0)
    >>> implied_absent(count_absent(tokens), len(tokens))
    ((), (2,), ())
    """
    missing = counts[:, -1]
    expected = missing[:, None] * (1 - missing / max(n_rows, 1))
    found = (counts[:, :-1] == 0) & (expected >= MIN_EXPECTED)
    for _ in range(len(found).bit_length()):  # a path twice as long each time
        found |= found.astype(np.float32) @ found.astype(np.float32) > 0
    np.fill_diagonal(found, val=False)
    return tuple(tuple(np.flatnonzero(row).tolist()) for row in found)


def as_matrix(absent: tuple[tuple[int, ...], ...], n: int) -> npt.NDArray[np.bool_]:
    """Return the same as (n, n): whether the second is missing wherever the first is."""
    out = np.zeros((n, n), bool)
    for one, others in enumerate(absent):
        out[one, list(others)] = True
    return out
