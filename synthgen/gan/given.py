"""Rows of which some tokens are known: the others drawn, or each one asked how surprising it is.

The generator was trained to answer p(unknown | any known), so a completion is exact: no rejection,
no second model. Known coarse tokens are shown first, then the unknown ones are drawn in a random
order; the fine tokens follow in the same way, as in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from synthgen.encode.column import EncodedTable, Ints, Layout
from synthgen.gan.nets import Generator, half_precision
from synthgen.gan.passes import passes
from synthgen.gan.sample import (
    BLOCK,
    PLAIN,
    Style,
    draw_levels,
    draw_offsets,
    for_rows,
    log_weights,
)
from synthgen.rng import derive

#: Log weights that are added to a token's logits, by token: (L,), (L, F) by the parent's level for
#: a fine one, or (N, L) where each row has its own.
Weights = Mapping[int, npt.NDArray[np.float64]]
#: Least log probability of a token: what no training row holds is surprising, not impossible.
LEAST = -20.0


@dataclass(frozen=True, repr=False)
class Blend:
    """Two conditions a row: unknown tokens are drawn from between them.

    Log probabilities are interpolated: p(x | first) ** (1 - share) * p(x | second) ** share, token
    by token, each given what is drawn already.

    Attributes
    ----------
    first, second : (N, T) int
        Values of the known tokens.
    share : (N,) float in [0, 1]
        0 draws from the first condition, 1 from the second.
    """

    first: Ints
    second: Ints
    share: npt.NDArray[np.float64]

    def rows(self, rows: slice, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tensors of some rows."""
        first, second = (
            torch.from_numpy(t[rows].astype(np.int64)).to(device) for t in (self.first, self.second)
        )
        return first, second, torch.from_numpy(self.share[rows]).to(device, torch.float32)


class Completer:
    """Completes rows with one generator, whose weights are read when it is made.

    Parameters
    ----------
    generator : Generator
    layout : Layout
    possible : mapping of token to array
        Log weights of the levels that may be drawn at all, as in `sample.Restriction`.
    style : Style
        Of what is drawn; surprise is of what was learnt.
    """

    @torch.no_grad()
    def __init__(
        self, generator: Generator, layout: Layout, possible: Weights, style: Style = PLAIN
    ) -> None:
        self._skeleton, self._detail = generator.skeleton, generator.detail
        self._passes = passes(generator.skeleton)
        self._device = generator.skeleton.bias.device
        self._layout, self._style = layout, style
        self._rules = {t: log_weights(w, self._device) for t, w in possible.items()}

    @torch.no_grad()
    def complete(
        self,
        tokens: Ints,
        known: npt.NDArray[np.bool_],
        *,
        seed: int,
        rows_allow: Weights | None = None,
        blend: Blend | None = None,
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
        blend : Blend, optional
            Two conditions for each row instead of its own known tokens.

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
            ends = None if blend is None else blend.rows(rows, self._device)
            block = self._fill(block, is_known, allow, noise, ends)
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
        ends: tuple[Tensor, Tensor, Tensor] | None,
    ) -> Tensor:
        """Return (B, T) tokens with the unknown ones drawn: the coarse, then the fine ones."""
        net, n_coarse = self._passes, self._layout.n_coarse
        shown = (tokens,) if ends is None else ends[:2]
        states = [net.start(len(tokens)) for _ in shown]
        for first, last in ((0, n_coarse), (n_coarse, tokens.shape[1])):
            for token in range(first, last):
                self._show(states, token, shown, known[:, token].nonzero().squeeze(1))
            order = torch.randperm(last - first, generator=noise, device=self._device) + first
            for token in order.tolist():
                rows = (~known[:, token]).nonzero().squeeze(1)
                if len(rows) == 0:
                    continue
                each = [net.logits(net.hidden(s[:, rows]), token, tokens[rows]) for s in states]
                logits = each[0] if ends is None else _blended(each, ends[2][rows])
                logits = logits + self._rule(token, tokens[rows])
                if token in allow:
                    logits = logits + allow[token][rows]
                drawn = draw_levels(self._style.shaped(logits, token), noise)
                for values in (tokens, *shown):
                    values[rows, token] = drawn
                self._show(states, token, shown, rows)
        return tokens

    def _show(
        self, states: list[Tensor], token: int, shown: Sequence[Tensor], rows: Tensor
    ) -> None:
        """Show one token of `rows` to each state, in place."""
        if len(rows):
            for state, values in zip(states, shown, strict=True):
                state[:, rows] = self._passes.show(state[:, rows], token, values[rows, token])

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


def _blended(each: Sequence[Tensor], share: Tensor) -> Tensor:
    """Return the interpolated log probabilities of two (B, L) logits by (B,) shares."""
    first, second = (torch.log_softmax(logits, dim=1) for logits in each)
    return torch.lerp(first, second, share[:, None])


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, n, BLOCK))
