"""A tree of noisy two-way marginals: the baseline engine, numpy only.

McKenna, Miklau & Sheldon 2021 (MST): noisy one-way counts, the tree whose edges tell most beyond
them, chosen by the exponential mechanism, and one noisy two-way table an edge. A row is drawn from
the root outward, and conditions are exact: messages from the leaves weigh them (Pearl 1988).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from synthgen.dp.noise import Noise
from synthgen.encode.column import EncodedTable, Layout
from synthgen.errors import DataError
from synthgen.rng import stream

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
#: Encoded rows.
Tokens = npt.NDArray[np.integer[Any]]
#: One row changes a cell of a table by one, and so its distance from a fixed table by at most one.
SCORE_SENSITIVITY = 1.0
#: Rounds of fitting a table to its two marginals.
FITTING_ROUNDS = 100


@dataclass(frozen=True, repr=False)
class Tree:
    """A distribution of C tokens.

    Attributes
    ----------
    order : (C,) int
        The tokens from the root outward.
    parents : (C,) int
        Parent of each token; the root is its own.
    tables : tuple of (L_parent, L) float64
        Distribution of each token given its parent, rows summing to one; the root's has one row.
    """

    order: Ints
    parents: Ints
    tables: tuple[Floats, ...]

    def sample(
        self, n: int, rng: np.random.Generator, weights: Mapping[int, Floats] | None = None
    ) -> Ints:
        """Draw (n, C) tokens; `weights` (L,) multiply a token's probabilities: 0 forbids.

        Raises
        ------
        DataError
            If nothing has a positive weight.
        """
        below = self._messages(weights or {})
        out = np.zeros((n, len(self.order)), np.int64)
        for token in self.order:
            chances = self.tables[token] * below[token]
            root = self.parents[token] == token
            if root and chances.sum() <= 0:
                raise DataError("no row can satisfy the conditions together; relax one of them")
            rows = np.zeros(n, np.int64) if root else out[:, self.parents[token]]
            cumulative = chances.cumsum(axis=1)[rows]
            target = rng.random(n) * cumulative[:, -1]
            drawn = (cumulative <= target[:, None]).sum(axis=1)
            out[:, token] = drawn.clip(max=cumulative.shape[1] - 1)
        return out

    def _messages(self, weights: Mapping[int, Floats]) -> list[Floats]:
        """Return for each token the (L,) weight of its levels and of all that hangs below them."""
        below = [
            np.asarray(weights.get(t, 1.0) * np.ones(table.shape[1]), np.float64)
            for t, table in enumerate(self.tables)
        ]
        for token in self.order[:0:-1]:
            below[self.parents[token]] *= self.tables[token] @ below[token]
        return below

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the arrays of a bundle."""
        tables = {f"table.{t:04d}": np.ascontiguousarray(a) for t, a in enumerate(self.tables)}
        return {"order": self.order, "parents": self.parents, **tables}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[np.generic]], layout: Layout) -> Tree:
        """Rebuild what `state` gave.

        Raises
        ------
        ValueError
            If the arrays are not a tree over the tokens of `layout`.
        """
        order, parents = np.asarray(state["order"]), np.asarray(state["parents"])
        sizes = layout.sizes.tolist()
        tables = tuple(np.asarray(state[f"table.{t:04d}"], np.float64) for t in range(len(sizes)))
        if sorted(order.tolist()) != list(range(len(sizes))) or len(state) != len(sizes) + 2:
            raise ValueError("not a tree over these tokens")
        place = np.argsort(order)
        for t, table in enumerate(tables):
            root = t == order[0]
            above = t if root else int(parents[t])
            if table.shape != (1 if root else sizes[above], sizes[t]) or parents[t] != above:
                raise ValueError("a table has the wrong shape")
            if not root and place[above] >= place[t]:
                raise ValueError("a parent comes after its child")
            if not (table.min() >= 0 and np.allclose(table.sum(axis=1), 1)):
                raise ValueError("a table holds no distributions")
        return cls(order, parents, tables)


@dataclass(frozen=True, repr=False)
class TreeDrawer:
    """Draws the blocks of one seed: the tree's counterpart of `gan.sample.Drawer`.

    Attributes
    ----------
    tree : Tree
    layout : Layout
    seed : int
    weights : mapping of token to (L,) float64
        Log weights: ``-inf`` forbids.
    block : int
        Rows of a block.
    """

    tree: Tree
    layout: Layout
    seed: int
    weights: Mapping[int, Floats]
    block: int

    def draw(self, blocks: range) -> EncodedTable:
        """Draw the named blocks; offsets are uniform."""
        weights = {t: np.exp(w) for t, w in self.weights.items()}
        tokens, offsets = [], []
        for number in blocks:
            rng = stream(self.seed, "sample", number)
            tokens.append(self.tree.sample(self.block, rng, weights))
            offsets.append(rng.random((self.block, len(self.layout.offset_parents))))
        return EncodedTable(
            np.concatenate(tokens).astype(np.int32),
            np.concatenate(offsets).astype(np.float32),
            self.layout,
        )


def fit_tree(
    tokens: Tokens,
    marginals: list[Floats],
    noise: Noise,
    *,
    selection_epsilon: float,
    std: float,
) -> Tree:
    """Choose and measure the tree.

    Parameters
    ----------
    tokens : (N, C) int32
        Private rows.
    marginals : list of (L,) float64
        Noisy one-way counts, each summing to the noisy number of rows.
    selection_epsilon : float
        Of each of the C - 1 choices by the exponential mechanism.
    std : float
        Noise of each of the C - 1 two-way tables.
    """
    chosen = choose_edges(tokens, marginals, noise, epsilon=selection_epsilon, std=std)
    joint = {
        (a, b): consistent(
            noise.counts(pair_counts(tokens, a, b, marginals), std), marginals[a], marginals[b]
        )
        for a, b in chosen
    }
    return _rooted(joint, marginals)


def choose_edges(
    tokens: Tokens,
    marginals: list[Floats],
    noise: Noise,
    *,
    epsilon: float,
    std: float,
) -> list[tuple[int, int]]:
    """Return C - 1 edges of a tree, each by one exponential mechanism (Kruskal's order).

    The score is how far a two-way table is from independence, less the noise that it would get: the
    latter and the marginals are known already, so one row changes a score by at most one.
    """
    n_tokens = len(marginals)
    total = marginals[0].sum()
    pairs = [(a, b) for a in range(n_tokens) for b in range(a + 1, n_tokens)]
    scores = np.array(
        [
            np.abs(
                pair_counts(tokens, a, b, marginals)
                - np.outer(marginals[a], marginals[b]) / max(total, 1.0)
            ).sum()
            - std * (2 / np.pi) ** 0.5 * (marginals[a] > 0).sum() * (marginals[b] > 0).sum()
            for a, b in pairs
        ]
    )
    component = np.arange(n_tokens)
    chosen = []
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    for _ in range(n_tokens - 1):
        open_ = np.flatnonzero(component[ends[:, 0]] != component[ends[:, 1]])
        a, b = pairs[open_[noise.choose(scores[open_], epsilon, SCORE_SENSITIVITY)]]
        component[component == component[b]] = component[a]
        chosen.append((a, b))
    return chosen


def pair_counts(tokens: Tokens, a: int, b: int, marginals: list[Floats]) -> Ints:
    """Return the exact (L_a, L_b) counts of two tokens."""
    shape = len(marginals[a]), len(marginals[b])
    flat = tokens[:, a].astype(np.int64) * shape[1] + tokens[:, b]
    return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)


def consistent(noisy: Ints, rows: Floats, columns: Floats) -> Floats:
    """Return a non-negative table near `noisy` with the marginals `rows` and `columns`.

    The projection on the simplex subtracts from every cell what noise alone would bring, then
    iterative proportional fitting. Post-processing: no private row is read.
    """
    allowed = np.outer(rows > 0, columns > 0)
    table = np.zeros(noisy.shape)
    table[allowed] = on_simplex(noisy[allowed].astype(np.float64), rows.sum())
    # A trace of independence, so that the fitting has something wherever a marginal wants mass.
    table += 1e-3 * np.outer(rows, columns) / max(rows.sum(), 1.0)
    for _ in range(FITTING_ROUNDS):
        table *= _ratio(rows, table.sum(axis=1))[:, None]
        table *= _ratio(columns, table.sum(axis=0))[None, :]
    return table


def on_simplex(values: Floats, total: float) -> Floats:
    """Return the non-negative vector of sum `total` nearest to `values` (Duchi et al. 2008).

    >>> on_simplex(np.array([5.0, 3.0, -4.0]), 6.0)
    array([4., 2., 0.])
    """
    if total <= 0:
        return np.zeros(len(values))
    falling = np.sort(values)[::-1]
    excess = (falling.cumsum() - total) / np.arange(1, len(values) + 1)
    threshold = excess[np.flatnonzero(falling > excess)[-1]]
    return np.asarray(np.maximum(values - threshold, 0))


def _ratio(wanted: Floats, got: Floats) -> Floats:
    return np.asarray(np.divide(wanted, got, out=np.zeros_like(wanted), where=got > 0))


def _rooted(joint: dict[tuple[int, int], Floats], marginals: list[Floats]) -> Tree:
    """Direct the edges away from token 0 and turn tables into conditional distributions."""
    n_tokens = len(marginals)
    both = joint | {(b, a): table.T for (a, b), table in joint.items()}
    order, parents = [0], np.zeros(n_tokens, np.int64)
    tables: dict[int, Floats] = {0: _distributions(marginals[0][None], marginals[0])}
    for token in order:
        for (a, b), table in both.items():
            if a == token and b not in tables:
                parents[b] = a
                tables[b] = _distributions(table, marginals[b])
                order.append(b)
    return Tree(np.array(order), parents, tuple(tables[t] for t in range(n_tokens)))


def _distributions(table: Floats, fallback: Floats) -> Floats:
    """Return the rows of `table` as distributions; empty ones are that of `fallback`."""
    spare = fallback if fallback.sum() > 0 else np.ones(len(fallback))
    filled = np.where(table.sum(axis=1, keepdims=True) > 0, table, spare)
    return np.asarray(filled / filled.sum(axis=1, keepdims=True))
