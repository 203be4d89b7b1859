import itertools

import numpy as np
import pytest

from synthgen.dp.noise import Noise
from synthgen.dp.tree import Tree, choose_edges, consistent, fit_tree, pair_counts
from synthgen.errors import DataError


def rows(n: int = 4_000) -> np.ndarray:
    """Three tokens: b follows a, c is independent."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 3, n)
    b = np.where(rng.random(n) < 0.9, a, rng.integers(0, 3, n))
    return np.column_stack([a, b, rng.integers(0, 2, n)]).astype(np.int32)


def marginals(tokens: np.ndarray) -> list[np.ndarray]:
    return [np.bincount(tokens[:, t]).astype(float) for t in range(tokens.shape[1])]


def test_a_table_takes_its_marginals() -> None:
    noisy = np.array([[30, -4], [10, 70]])
    got = consistent(noisy, np.array([40.0, 60.0]), np.array([35.0, 65.0]))
    assert got.sum(axis=1) == pytest.approx([40, 60], abs=0.1)
    assert got.sum(axis=0) == pytest.approx([35, 65], abs=1e-6)
    assert got.min() >= 0


def test_the_strong_pair_is_chosen_and_reproduced() -> None:
    tokens = rows()
    tree = fit_tree(tokens, marginals(tokens), Noise(), selection_epsilon=1.0, std=2.0)
    drawn = tree.sample(20_000, np.random.default_rng(1))
    assert (drawn[:, 0] == drawn[:, 1]).mean() == pytest.approx(0.933, abs=0.02)
    assert tree.parents[1] == 0


def test_one_row_changes_a_score_by_at_most_one() -> None:
    # all neighbours of four rows: what the exponential mechanism was given as its sensitivity
    fixed = [np.array([3.0, 2.0]), np.array([1.0, 4.0])]
    independent = np.outer(*fixed) / 5
    for row in itertools.product((0, 1), repeat=2):
        tokens = np.array([[0, 1], [1, 1], [0, 0], [1, 0]], np.int32)
        more = np.vstack([tokens, [row]]).astype(np.int32)
        scores = [np.abs(pair_counts(t, 0, 1, fixed) - independent).sum() for t in (tokens, more)]
        assert abs(scores[0] - scores[1]) <= 1 + 1e-12


def test_edges_make_a_tree() -> None:
    tokens = rows(200)
    edges = choose_edges(tokens, marginals(tokens), Noise(), epsilon=0.01, std=50.0)
    assert len(edges) == 2
    assert {t for edge in edges for t in edge} == {0, 1, 2}


def chain() -> Tree:
    tables = (np.array([[0.5, 0.5]]), np.array([[1.0, 0.0], [0.25, 0.75]]))
    return Tree(np.array([0, 1]), np.array([0, 0]), tables)


def test_conditions_are_exact() -> None:
    # p(a = 1 | b = 0) = .125 / .625
    drawn = chain().sample(50_000, np.random.default_rng(0), {1: np.array([1.0, 0.0])})
    assert (drawn[:, 1] == 0).all()
    assert drawn[:, 0].mean() == pytest.approx(0.2, abs=0.01)


def test_impossible_conditions_are_refused() -> None:
    weights = {0: np.array([1.0, 0.0]), 1: np.array([0.0, 1.0])}
    with pytest.raises(DataError, match="no row can satisfy"):
        chain().sample(10, np.random.default_rng(0), weights)
