"""Rows of which some tokens are known: the others drawn, or each one asked how surprising it is.

The generator was trained to answer p(unknown | any known), so a completion is exact: no rejection,
no second model. Known coarse tokens are shown first, then the unknown ones are drawn in a random
order; the fine tokens follow in the same way, as in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from synthgen.encode.column import EncodedTable, Ints, Layout
from synthgen.gan.nets import Generator, half_precision
from synthgen.gan.passes import passes
from synthgen.gan.sample import BLOCK, draw_levels, draw_offsets, for_rows, log_weights
from synthgen.rng import derive

#: Log weights that are added to a token's logits, by token: (L,), (L, F) by the parent's level for
#: a fine one, or (N, L) where each row has its own.
Weights = Mapping[int, npt.NDArray[np.float64]]
#: Least log probability of a token: what no training row holds is surprising, not impossible.
LEAST = -20.0


class Completer:
    """Completes rows with one generator, whose weights are read when it is made.

    Parameters
    ----------
    generator : Generator
    layout : Layout
    possible : mapping of token to array
        Log weights of the levels that may be drawn at all, as in `sample.Restriction`.
    """

    @torch.no_grad()
    def __init__(self, generator: Generator, layout: Layout, possible: Weights) -> None:
        self._skeleton, self._detail = generator.skeleton, generator.detail
        self._passes = passes(generator.skeleton)
        self._device = generator.skeleton.bias.device
        self._layout = layout
        self._rules = {t: log_weights(w, self._device) for t, w in possible.items()}

    @torch.no_grad()
    def complete(
        self,
        tokens: Ints,
        known: npt.NDArray[np.bool_],
        *,
        seed: int,
        rows_allow: Weights | None = None,
    ) -> EncodedTable:
        """Draw what is not known of N rows; equal seeds give equal rows.

        Parameters
        ----------
        tokens : (N, T) int
            Where `known` is false their values do not matter.
        known : (N, T) bool
            A fine token can only be known together with its parent.
        seed : int
        rows_allow : mapping of coarse token to (N, L), optional
            Log weights of a row's own, beside those of all rows.

        Returns
        -------
        EncodedTable
            Known tokens as they were; every offset is drawn.
        """
        rows_allow = {} if rows_allow is None else rows_allow
        shape = (len(tokens), len(self._layout.offset_parents))
        out, offsets = np.array(tokens, np.int32), np.empty(shape, np.float32)
        for number, rows in enumerate(_blocks(len(tokens))):
            noise = torch.Generator(self._device).manual_seed(derive(seed, "complete", number))
            allow = {t: log_weights(w[rows], self._device) for t, w in rows_allow.items()}
            block = torch.from_numpy(out[rows]).to(self._device, torch.int64)
            is_known = torch.from_numpy(known[rows]).to(self._device)
            block = self._fill(block, is_known, allow, noise)
            out[rows] = block.to("cpu", torch.int32).numpy()
            drawn = draw_offsets(self._detail, self._layout, block, noise)
            offsets[rows] = drawn.cpu().numpy()
        return EncodedTable(out, offsets, self._layout)

    def _fill(
        self,
        tokens: Tensor,
        known: Tensor,
        allow: Mapping[int, Tensor],
        noise: torch.Generator,
    ) -> Tensor:
        """Return (B, T) tokens with the unknown ones drawn: the coarse, then the fine ones."""
        net, n_coarse = self._passes, self._layout.n_coarse
        state = net.start(len(tokens))
        for first, last in ((0, n_coarse), (n_coarse, tokens.shape[1])):
            for token in range(first, last):
                state = self._show(state, token, tokens, known[:, token].nonzero().squeeze(1))
            order = torch.randperm(last - first, generator=noise, device=self._device) + first
            for token in order.tolist():
                rows = (~known[:, token]).nonzero().squeeze(1)
                if len(rows) == 0:
                    continue
                logits = net.logits(net.hidden(state[:, rows]), token, tokens[rows])
                logits = logits + self._rule(token, tokens[rows])
                if token in allow:
                    logits = logits + allow[token][rows]
                tokens[rows, token] = draw_levels(logits, noise)
                state = self._show(state, token, tokens, rows)
        return tokens

    def _show(self, state: Tensor, token: int, tokens: Tensor, rows: Tensor) -> Tensor:
        """Return the state once `rows` show one token."""
        if len(rows):
            state[:, rows] = self._passes.show(state[:, rows], token, tokens[rows, token])
        return state

    @torch.no_grad()
    def surprise(self, tokens: Ints) -> npt.NDArray[np.float64]:
        """Return -log p of each token of N rows given the others, less its mean (N, T), in nats.

        The mean is the entropy of the token given the others. A coarse token is judged by the other
        coarse ones, a fine one by all others, as trained.
        """
        out = np.empty(tokens.shape)
        skeleton, head = self._skeleton, self._skeleton.head()
        for rows in _blocks(len(tokens)):
            block = torch.from_numpy(tokens[rows].astype(np.int64)).to(self._device)
            for token in range(tokens.shape[1]):
                known = torch.ones_like(block, dtype=torch.bool)
                known[:, token] = False
                if token < self._layout.n_coarse:
                    known[:, self._layout.n_coarse :] = False
                with half_precision(self._device):
                    hidden = skeleton.trunk(skeleton.tokens(block, known)).float()
                logits = skeleton.token_logits(hidden, token, block, head)
                logits = logits + self._rule(token, block)
                log_p = torch.log_softmax(logits, dim=1).clamp(min=LEAST)
                entropy = -(log_p.exp() * log_p).sum(dim=1)
                own = log_p.gather(1, block[:, [token]]).squeeze(1)
                out[rows, token] = (-own - entropy).double().cpu().numpy()
        return out

    def _rule(self, token: int, tokens: Tensor) -> Tensor | float:
        """Return one token's log weights: (L,), or (B, L) for a fine one, by its parent's level."""
        rule = self._rules.get(token)
        if rule is None:
            return 0.0
        return for_rows(rule, token, tokens, self._layout)


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, n, BLOCK))
