"""One item ahead, in order, errors in their place."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from synthgen.ahead import ahead


def test_all_items_in_their_order() -> None:
    assert list(ahead(range(7))) == list(range(7))
    assert list(ahead([None, None])) == [None, None]
    assert list(ahead([])) == []


def test_the_next_item_is_made_while_one_is_used() -> None:
    made = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for i, event in enumerate(made):
            event.set()
            yield i

    coming = ahead(items())
    assert next(coming) == 0
    assert made[1].wait(timeout=10)
    assert not made[2].is_set()  # one ahead, not all of them


def test_an_error_comes_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("two")

    coming = ahead(items())
    assert next(coming) == 1
    with pytest.raises(KeyError, match="two"):
        next(coming)


def test_an_iterator_let_go_early_makes_no_more() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(9):
            made.append(i)
            yield i

    before = threading.active_count()
    coming = ahead(items())
    next(coming)
    coming.close()  # type: ignore[attr-defined]
    assert made == [0, 1]
    assert threading.active_count() == before
