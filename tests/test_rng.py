"""One seed, many streams."""

from __future__ import annotations

import numpy as np
import pytest

from synthgen.rng import derive, fresh_seed, stream


def test_equal_names_equal_streams() -> None:
    np.testing.assert_array_equal(stream(7, "a", 1).random(5), stream(7, "a", 1).random(5))


def test_seeds_are_the_same_on_every_machine() -> None:
    assert derive(0, "weights") == derive(0, "weights")
    assert derive(7, "sample", 0) == 1_598_322_715_556_090_625  # BLAKE2b of "7\x1fsample\x1f0"


@pytest.mark.parametrize(
    ("one", "other"),
    [((1, "a"), (2, "a")), ((1, "a"), (1, "b")), ((1, "a", 1), (1, "a1")), ((1, 1), (11,))],
)
def test_other_names_other_streams(one: tuple, other: tuple) -> None:  # type: ignore[type-arg]
    assert derive(*one) != derive(*other)


def test_streams_are_uncorrelated() -> None:
    draws = np.array([stream(0, "block", b).random(2_000) for b in range(20)])
    correlations = np.corrcoef(draws)[np.triu_indices(20, 1)]
    assert np.abs(correlations).max() < 0.12
    assert draws.mean() == pytest.approx(0.5, abs=0.01)


def test_the_global_state_is_not_touched() -> None:
    before = np.random.get_state()[1].copy()
    stream(0, "x").random(10)
    np.testing.assert_array_equal(before, np.random.get_state()[1])


def test_seeds_fit_torch_and_toml() -> None:
    assert all(0 <= fresh_seed() < 2**31 for _ in range(100))
    assert len({fresh_seed() for _ in range(100)}) > 90
    assert all(0 <= derive(s, "x") < 2**63 for s in range(100))
