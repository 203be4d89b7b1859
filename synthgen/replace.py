"""Ids and personal data, written anew from nothing that the real table holds.

Ids and e-mail addresses are numbered, so they are unique over any number of rows and batches;
addresses end in a reserved domain and telephone numbers in the range kept for fiction, so that they
cannot be anybody's. Names are pairs of Faker's names with a double surname.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from synthgen.rng import derive, stream
from synthgen.schema import Column

#: Names to combine; more would only cost time.
POOL = 400


def regenerate(column: Column, start: int, n: int, *, seed: int) -> pd.Series:
    """Return `n` values of an id or PII column for rows `start` .. ``start + n - 1``.

    The value of a row depends on its number and the seed alone. Returns (n,) str.
    """
    numbers = np.arange(start, start + n)
    what = column.pii or "sequence"
    if what == "sequence":
        first = column.minimum
        ids = numbers if first is None else numbers + int(first)
        template = "S{:09d}" if first is None else "{:d}"
        values = [template.format(i) for i in ids.tolist()]
    elif what == "email":
        values = [f"person{i:07d}@example.org" for i in numbers.tolist()]
    elif what == "phone":
        values = [f"+1-555-01{i // 10_000_000:02d}-{i % 10_000_000:07d}" for i in numbers.tolist()]
    else:
        values = _from_pool(what, column.name, numbers, seed)
    return pd.Series(values, dtype="str")


def _from_pool(what: str, column: str, numbers: np.ndarray, seed: int) -> list[str]:
    first, last, streets = _pools()
    # One draw for each row number, whatever the batch: blocks of 1,024 rows have a stream each.
    block_size = 1_024
    draws = np.concatenate(
        [
            stream(seed, "replace", column, int(b)).integers(0, 2**31, (block_size, 3))
            for b in range(int(numbers[0]) // block_size, int(numbers[-1]) // block_size + 1)
        ]
    )[numbers - numbers[0] // block_size * block_size]
    a, b, c = draws.T.tolist()
    if what == "address":
        return [
            f"{1 + i % 999} {streets[j % len(streets)]}, {last[k % len(last)]}town"
            for i, j, k in zip(a, b, c, strict=True)
        ]
    return [
        f"{first[i % len(first)]} {last[j % len(last)]}-{last[k % len(last)]}"
        for i, j, k in zip(a, b, c, strict=True)
    ]


@lru_cache(maxsize=1)
def _pools() -> tuple[list[str], list[str], list[str]]:
    from faker import Faker

    fake = Faker("en_US", use_weighting=False)
    fake.seed_instance(derive(0, "names"))
    return (
        [fake.first_name() for _ in range(POOL)],
        [fake.last_name() for _ in range(POOL)],
        [fake.street_name() for _ in range(POOL)],
    )
