"""Work done ahead: the next item of an iterator is made while the last one is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield `items` in their order, each made in a thread while its predecessor is used.

    What making one raises is raised in its place. One item more than without is in memory. Of an
    iterator that is let go early, the item that is being made is waited for, and no other is made.
    """
    nothing, source = object(), iter(items)
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = thread.submit(next, source, nothing)
        while (item := coming.result()) is not nothing:
            coming = thread.submit(next, source, nothing)
            yield item  # type: ignore[misc]  # `object` is only ever the end
