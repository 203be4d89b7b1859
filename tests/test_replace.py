"""Ids and personal data written anew: unique where they must be, the same whatever the batch."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from synthgen.replace import namespaces, regenerate
from synthgen.schema import Column, TableSchema

KINDS = ["sequence", "name", "email", "phone", "address"]


def column(what: Any = None, **settings: Any) -> Column:
    if what is None:
        return Column(name="who", kind="id", **settings)
    return Column(name="who", kind="text", pii=what)


@pytest.mark.parametrize("what", [None, "sequence", "email", "phone"])
def test_unique_over_batches(what: str | None) -> None:
    parts = [regenerate(column(what), start, 500, seed=0) for start in range(0, 5_000, 500)]
    assert pd.concat(parts).is_unique


@pytest.mark.parametrize("what", KINDS)
def test_a_value_is_its_number_and_the_seed(what: str) -> None:
    whole = regenerate(column(what), 0, 3_000, seed=5)
    for start, n in ((0, 10), (1_023, 2), (1_024, 1), (1_500, 1_500)):
        part = regenerate(column(what), start, n, seed=5)
        assert part.tolist() == whole[start : start + n].tolist()


@pytest.mark.parametrize("what", KINDS)
def test_texts_without_gaps(what: str) -> None:
    values = regenerate(column(what), 0, 100, seed=0)
    assert str(values.dtype) == "str"
    assert values.notna().all()
    assert (values.str.len() > 5).all()


@pytest.mark.parametrize("what", ["name", "address"])
def test_another_seed_other_names(what: str) -> None:
    one, two = (regenerate(column(what), 0, 50, seed=s) for s in (0, 1))
    assert (one != two).mean() > 0.9


def test_two_name_columns_differ() -> None:
    other = Column(name="partner", kind="text", pii="name")
    names = regenerate(column("name"), 0, 50, seed=0)
    assert (names != regenerate(other, 0, 50, seed=0)).mean() > 0.9


def test_forms_that_nobody_can_own() -> None:
    assert regenerate(column("email"), 0, 20, seed=0).str.endswith("@example.org").all()
    assert regenerate(column("phone"), 0, 20, seed=0).str.startswith("+1-555-01").all()
    assert regenerate(column(), 0, 2, seed=0).tolist() == ["S000000000", "S000000001"]


def test_numeric_ids_start_at_the_minimum() -> None:
    assert regenerate(column(minimum=1_000), 5, 3, seed=0).tolist() == ["1005", "1006", "1007"]


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_values_in_our_own_forms_take_the_next_namespace(what: str, depth: int) -> None:
    who = column(what)
    schema = TableSchema(name="t", columns=(who, Column(name="other", kind="categorical")))
    texts = [regenerate(who, 3, 5, seed=s, namespace=s) for s in range(depth)]
    for place in ("who", "other"):  # a real text of any column is no new id
        empty = pd.Series([None] * 5, dtype="str")
        frames = [pd.DataFrame({"who": empty, "other": empty, place: t}) for t in texts]
        assert namespaces(schema, frames) == {"who": depth}
    new = regenerate(who, 0, 500, seed=0, namespace=depth)
    assert not set(new) & set(pd.concat(texts))


def test_other_texts_take_no_namespace() -> None:
    who = column("name")
    texts = ["Mary Smith", "S12", "person1@example.org", "x S000000001", "Ann Not-Ours", ""]
    frame = pd.DataFrame({"who": pd.Series(texts, dtype="str")})
    for what in KINDS:
        schema = TableSchema(name="t", columns=(column(what),))
        assert namespaces(schema, [frame]) == {"who": 0}
    assert who.is_regenerated


@pytest.mark.parametrize(
    ("minimum", "real", "first"),
    [(1_000, 999, 1_000), (1_000, 1_000, 10_000), (1_000, 98_765, 100_000), (0, 7, 10)],
)
def test_numbers_start_beyond_every_real_one(minimum: int, real: int, first: int) -> None:
    who = column(minimum=minimum)
    schema = TableSchema(name="t", columns=(who,))
    frame = pd.DataFrame({"who": pd.Series([str(real), "5"], dtype="str")})
    (number,) = namespaces(schema, [frame]).values()
    assert regenerate(who, 0, 1, seed=0, namespace=number).tolist() == [str(first)]
