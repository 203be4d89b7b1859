"""Repeated values are counted rightly also when their hashes do not stay in memory."""

import numpy as np
import pandas as pd
import pytest

from synthgen import repeats
from synthgen.repeats import Repeats


@pytest.mark.parametrize("held", [1, 100, 10_000])
def test_over_batches_as_in_one_table(monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    monkeypatch.setattr(repeats, "HELD", held)
    values = pd.Series(np.random.default_rng(0).integers(0, 4_000, 5_000).astype(str))
    values[::50] = None
    found = Repeats()
    for start in range(0, 5_000, 170):
        found.add(values[start : start + 170])
    known = values.dropna()
    assert found.count == len(known) - known.nunique()
    found.add(known[:3])  # counting ends nothing
    assert found.count == len(known) - known.nunique() + 3


def test_nothing_repeats_nothing() -> None:
    assert Repeats().count == 0
