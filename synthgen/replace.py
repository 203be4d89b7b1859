"""Ids and personal data, written anew from nothing that the real table holds.

Ids and e-mail addresses are numbered, so they are unique over any number of rows and batches;
addresses end in a reserved domain and telephone numbers in the range kept for fiction, so that they
cannot be anybody's. Names are pairs of Faker's names with a double surname.

All values of a column share a form, such as ``S000000017``, and forms have numbered *namespaces*,
``S2-000000017`` is in the second. `namespaces` takes the first one in which no real text is
written, so that no value equals a real one, by construction and without keeping any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import pandas as pd

from synthgen.rng import derive, stream
from synthgen.schema import Column, TableSchema

#: Names to combine; more would only cost time.
POOL = 400
#: Namespaces of a form; one that a real text is beyond does not count.
MAX_NAMESPACE = 1_000
#: How the values of each form look; the group is the namespace, nothing the first.
_FORMS = {
    "sequence": r"S(?:(\d{1,3})-)?\d{9,}",
    "email": r"person(?:(\d{1,3})-)?\d{7,}@example\.org",
    "phone": r"\+1-555-01\d+-\d{7}(?:-(\d{1,3}))?",
    "address": r"\d+ .+, \S+town(?: (\d{1,3}))?",
}


def namespaces(schema: TableSchema, frames: Iterable[pd.DataFrame]) -> dict[str, int]:
    """Return, for each regenerated column, the first namespace in which no real text is written.

    Parameters
    ----------
    schema : TableSchema
    frames : iterable of DataFrame
        Canonical frames of all real rows. Every text column is looked at, because what is an id
        here may be a reference there; numbers among ids and personal data only.
    """
    columns = [c for c in schema.columns if c.is_regenerated]
    taken: dict[str, set[int]] = {c.name: set() for c in columns}
    names = [c.name for c in schema.columns if c.is_regenerated or c.kind == "categorical"]
    for frame in frames if columns else ():
        for name in names:
            texts = pd.Series(frame[name].dropna().unique(), dtype="str")
            for column in columns:
                if not _is_number(column) or schema.column(name).is_regenerated:
                    taken[column.name].update(_taken(column, texts))
    return {
        name: next(n for n in range(MAX_NAMESPACE + 1) if n not in used)
        for name, used in taken.items()
    }


def _is_number(column: Column) -> bool:
    return column.minimum is not None and (column.pii or "sequence") == "sequence"


def _taken(column: Column, texts: pd.Series) -> Iterator[int]:
    """Yield the namespaces of `column` in which some of `texts` could be written."""
    what = column.pii or "sequence"
    if _is_number(column):
        whole = texts[texts.str.fullmatch(r"\d{1,400}")]
        largest = max(map(int, whole), default=-1)
        n = 0
        while n < MAX_NAMESPACE and largest >= _first_number(column, n):
            yield n
            n += 1
    elif what == "name":
        first, last, _ = _pools()
        for text in texts[texts.str.contains(" ") & texts.str.contains("-")]:
            given, _, family = text.partition(" ")
            parts = family.split("-")
            if given in first and set(parts) <= set(last):
                yield len(parts) - 2
    else:
        pattern = re.compile(_FORMS[what])
        for match in filter(None, map(pattern.fullmatch, texts)):
            yield int(match[1] or 0)


def _first_number(column: Column, namespace: int) -> int:
    """Return where numbers start: at the declared minimum, else with more and more digits."""
    declared = int(column.minimum or 0)
    return declared if namespace == 0 else int(10 ** (len(str(abs(declared))) + namespace - 1))


def regenerate(column: Column, start: int, n: int, *, seed: int, namespace: int = 0) -> pd.Series:
    """Return `n` values of an id or PII column for rows `start` .. ``start + n - 1``.

    The value of a row depends on its number, the seed and the namespace alone. Returns (n,) str.
    """
    numbers = np.arange(start, start + n)
    what = column.pii or "sequence"
    mark = f"{namespace}-" if namespace else ""
    if _is_number(column):
        first = _first_number(column, namespace)
        values = [str(first + i) for i in numbers.tolist()]
    elif what == "sequence":
        values = [f"S{mark}{i:09d}" for i in numbers.tolist()]
    elif what == "email":
        values = [f"person{mark}{i:07d}@example.org" for i in numbers.tolist()]
    elif what == "phone":
        end = f"-{namespace}" if namespace else ""
        values = [
            f"+1-555-01{i // 10_000_000:02d}-{i % 10_000_000:07d}{end}" for i in numbers.tolist()
        ]
    else:
        values = _from_pool(what, column.name, numbers, seed, namespace)
    return pd.Series(values, dtype="str")


def _from_pool(what: str, column: str, numbers: np.ndarray, seed: int, namespace: int) -> list[str]:
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
        end = f" {namespace}" if namespace else ""
        return [
            f"{1 + i % 999} {streets[j % len(streets)]}, {last[k % len(last)]}town{end}"
            for i, j, k in zip(a, b, c, strict=True)
        ]
    # Each namespace has one surname more.
    return [
        "-".join(
            [
                f"{first[i % len(first)]} {last[j % len(last)]}",
                *(last[(k + m) % len(last)] for m in range(namespace + 1)),
            ]
        )
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
