"""Rows of which some tokens are known: the others drawn or guessed, or each one's surprise.

The generator was trained to answer p(unknown | any known), so a completion is exact: no rejection,
no second model. Known coarse tokens are shown first, then the unknown ones are drawn in a random
order; the fine tokens follow in the same way, as in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from synthgen.encode.column import EncodedTable, Floats, Ints, Layout
from synthgen.gan.nets import Generator, half_precision
from synthgen.gan.passes import passes
from synthgen.gan.sample import (
    BLOCK,
    PLAIN,
    Restriction,
    Style,
    draw_levels,
    draw_offsets,
    for_rows,
)
from synthgen.gan.together import Absent, Left, log_weights
from synthgen.rng import derive

#: Log weights that are added to a token's logits, by token: (L,), (L, F) by the parent's level for
#: a fine one, or (N, L) where each row has its own.
Weights = Mapping[int, Floats]
#: Largest surprise of a token, in nats: what no training row holds is not impossible.
MOST = 20.0
#: Orders of the tokens in which a row is judged.
ORDERS = 8


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
    share: Floats

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
    possible : Restriction
        Of what may be drawn at all.
    style : Style
        Of what is drawn; surprise is of what was learnt.
    """

    @torch.no_grad()
    def __init__(
        self, generator: Generator, layout: Layout, possible: Restriction, style: Style = PLAIN
    ) -> None:
        self._skeleton, self._detail = generator.skeleton, generator.detail
        self.passes = passes(generator.skeleton)
        self._device = generator.skeleton.bias.device
        self._layout, self._style = layout, style
        self._rules = {t: log_weights(w, self._device) for t, w in possible.weights.items()}
        self.partners = possible.partners(self._device)
        self.absent = possible.absences(layout.n_coarse, self._device)

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
        walk = Walk(self, tokens, known, allow, ends, partners=self.partners, absent=self.absent)
        for phase in self.phases:
            walk.show_known(phase)
            order = torch.randperm(len(phase), generator=noise, device=self._device) + phase.start
            for token in order.tolist():
                rows = walk.unknown(token)
                if len(rows):
                    logits = self._style.shaped(walk.logits(token, rows), token)
                    walk.show(token, rows, draw_levels(logits, noise))
        return tokens

    @torch.no_grad()
    def guess(
        self,
        tokens: Ints,
        known: npt.NDArray[np.bool_],
        means: Mapping[int, Floats],
        *,
        rows_allow: Weights | None = None,
    ) -> Floats:
        """Return the mean, or the likeliest level, of each coarse token given what is known (N, C).

        Nothing is drawn: a token's probabilities are exact while all that is unknown stays so.
        NOTE: fine tokens are asked given all coarse ones, so they could only be followed in draws;
        that changed the error of means by less than half a percent (benchmarks/imputing.py).

        Parameters
        ----------
        tokens, known, rows_allow
            As in `complete`. What is returned for known tokens does not matter.
        means : mapping of coarse token to (L,)
            Mean of each level; level 0 is missing and does not count. Others have no mean.
        """
        out = np.empty((len(tokens), self._layout.n_coarse))
        for rows in _blocks(len(tokens)):
            allow = {t: w[rows] for t, w in (rows_allow or {}).items()}
            walk = self.walk(tokens[rows], known[rows], allow)
            walk.show_known(self.phases[0])
            for token in self.phases[0]:
                shares = walk.probabilities(token)
                if token in means:
                    shares[:, 0] = 0.0
                    out[rows, token] = shares @ means[token] / shares.sum(axis=1)
                else:
                    out[rows, token] = shares.argmax(axis=1)
        return out

    @property
    def phases(self) -> tuple[range, range]:
        """Coarse tokens, then fine tokens: all of a phase are shown before the next begins."""
        n_coarse = self._layout.n_coarse
        return range(n_coarse), range(n_coarse, len(self._layout.sizes))

    @torch.no_grad()
    def walk(
        self, tokens: Ints, known: npt.NDArray[np.bool_], allow: Weights | None = None
    ) -> Walk:
        """Return a walk over B rows; see `complete` for tokens, known and the rows' weights."""
        block = torch.from_numpy(np.array(tokens, np.int64)).to(self._device)
        rules = {t: log_weights(w, self._device) for t, w in (allow or {}).items()}
        shown = torch.from_numpy(known).to(self._device)
        return Walk(self, block, shown, rules, partners=self.partners, absent=self.absent)

    @torch.no_grad()
    def surprise(self, tokens: Ints) -> Floats:
        """Return how surprising each token of N rows is, (N, T), in nats.

        Half of it is -log p of the token given all others, less its mean (the entropy): whether it
        fits its row. The other half is -log p given those that come before it, on average over
        `ORDERS` orders, the same for all rows: over all tokens it adds up to how likely the row is.
        A row that is unusual throughout surprises in no token given all others. A coarse token is
        judged by coarse ones, a fine one by all of them and other fine ones, as trained.
        """
        out = np.empty(tokens.shape)
        noise = torch.Generator().manual_seed(derive(0, "surprise"))
        orders = [
            torch.cat([torch.randperm(len(p), generator=noise) + p.start for p in self.phases])
            for _ in range(ORDERS)
        ]
        for rows in _blocks(len(tokens)):
            block = torch.from_numpy(tokens[rows].astype(np.int64)).to(self._device)
            both = self._given_rest(block)
            for order in orders:
                both += self._in_order(block, order.tolist()) / ORDERS
            out[rows] = (both / 2).cpu().numpy()
        return out

    def _given_rest(self, block: Tensor) -> Tensor:
        """Return -log p of each token (B, T) given the others, less its mean."""
        out = torch.empty(block.shape, dtype=torch.float64, device=self._device)
        skeleton, head = self._skeleton, self._skeleton.head()
        for phase in self.phases:
            for token in phase:
                known = torch.ones_like(block, dtype=torch.bool)
                known[:, token] = known[:, phase.stop :] = False
                with half_precision(self._device):
                    hidden = skeleton.trunk(skeleton.tokens(block, known)).float()
                logits = skeleton.token_logits(hidden, token, block, head) + self.rule(token, block)
                nats = _nats(logits)
                mean = (torch.exp(-nats) * nats).sum(dim=1)
                out[:, token] = nats.gather(1, block[:, [token]]).squeeze(1) - mean
        return out

    def _in_order(self, block: Tensor, order: Sequence[int]) -> Tensor:
        """Return -log p of each token (B, T) given those that come before it."""
        out = torch.empty(block.shape, dtype=torch.float64, device=self._device)
        walk = Walk(self, block, torch.zeros_like(block, dtype=torch.bool))
        rows = torch.arange(len(block), device=self._device)
        for token in order:
            levels = block[:, token].clone()
            out[:, token] = _nats(walk.logits(token, rows)).gather(1, levels[:, None]).squeeze(1)
            walk.show(token, rows, levels)
        return out

    def rule(self, token: int, tokens: Tensor) -> Tensor | float:
        """Return one token's log weights: (L,), or (B, L) for a fine one, by its parent's level."""
        rule = self._rules.get(token)
        if rule is None:
            return 0.0
        return for_rows(rule, token, tokens, self._layout)


class Walk:
    """Rows that show their tokens one by one; before each, what it may be given those shown.

    Parameters
    ----------
    completer : Completer
    tokens : (B, T) int64
        Levels that are shown are written into it.
    known : (B, T) bool
        What `show_known` shows.
    allow : mapping of coarse token to (B, L), optional
        Log weights of a row's own.
    ends : tuple of two (B, T) int64 and (B,) float, optional
        Two conditions a row and a share, as in `Blend.rows`, instead of what `tokens` shows.
    partners : mapping of coarse token to mapping of another to (M, L), optional
        `Restriction.partners`.
    absent : Absent, optional
        `Restriction.absences`.
    """

    def __init__(
        self,
        completer: Completer,
        tokens: Tensor,
        known: Tensor,
        allow: Mapping[int, Tensor] = MappingProxyType({}),
        ends: tuple[Tensor, Tensor, Tensor] | None = None,
        *,
        partners: Mapping[int, Mapping[int, Tensor]] = MappingProxyType({}),
        absent: Absent | None = None,
    ) -> None:
        self._net, self._rule = completer.passes, completer.rule
        self._tokens, self._known, self._allow = tokens, known, allow
        own = {t: completer.rule(t, tokens) + allow.get(t, 0.0) for t in partners}
        rules = {t: weights for t, weights in own.items() if isinstance(weights, Tensor)}
        self._left = Left(partners, rules, len(tokens))
        self._absent, self._is_shown = absent, torch.zeros_like(known)
        self._shown = (tokens,) if ends is None else ends[:2]
        self._share = None if ends is None else ends[2]
        self._states = [self._net.start(len(tokens)) for _ in self._shown]

    def unknown(self, token: int) -> Tensor:
        """Return the rows of which the token is not known."""
        return (~self._known[:, token]).nonzero().squeeze(1)

    def show_known(self, phase: range) -> None:
        """Show the tokens of a phase that are known."""
        for token in phase:
            rows = self._known[:, token].nonzero().squeeze(1)
            if len(rows):
                self._show(token, rows)

    def show(self, token: int, rows: Tensor, levels: Tensor) -> None:
        """Let some rows show one token with these levels (R,)."""
        for values in (self._tokens, *self._shown):
            values[rows, token] = levels
        self._show(token, rows)

    def _show(self, token: int, rows: Tensor) -> None:
        self._left.show(token, self._tokens[rows, token], rows)
        self._is_shown[rows, token] = True
        for state, values in zip(self._states, self._shown, strict=True):
            state[:, rows] = self._net.show(state[:, rows], token, values[rows, token])

    def logits(self, token: int, rows: Tensor) -> Tensor:
        """Return the logits (R, L) of one token of some rows."""
        net, tokens = self._net, self._tokens[rows]
        each = [net.logits(net.hidden(s[:, rows]), token, tokens) for s in self._states]
        logits = each[0] if self._share is None else _blended(each, self._share[rows])
        logits = logits + self._rule(token, tokens) + self._left.weights(token, rows)
        if self._absent is not None:
            logits = self._absent.weigh(logits, token, tokens, self._is_shown[rows])
        return logits + self._allow[token][rows] if token in self._allow else logits

    @torch.no_grad()
    def probabilities(self, token: int) -> Floats:
        """Return the probabilities (B, L) of one token."""
        rows = torch.arange(len(self._tokens), device=self._tokens.device)
        return torch.softmax(self.logits(token, rows).double(), dim=1).cpu().numpy()

    @torch.no_grad()
    def tell(self, token: int, levels: npt.NDArray[np.integer]) -> None:
        """Show one token, where it is not known, with the levels (B,)."""
        rows = self.unknown(token)
        told = torch.from_numpy(np.asarray(levels, np.int64)).to(self._tokens.device)
        if len(rows):
            self.show(token, rows, told[rows])

    @property
    def tokens(self) -> npt.NDArray[np.int32]:
        """The (B, T) tokens, as far as they were shown."""
        return self._tokens.to("cpu", torch.int32).numpy()


def _blended(each: Sequence[Tensor], share: Tensor) -> Tensor:
    """Return the interpolated log probabilities of two (B, L) logits by (B,) shares."""
    first, second = (torch.log_softmax(logits, dim=1) for logits in each)
    return torch.lerp(first, second, share[:, None])


def _nats(logits: Tensor) -> Tensor:
    """Return -log p of each level (B, L), float64, `MOST` at most."""
    return -torch.log_softmax(logits.double(), dim=1).clamp(min=-MOST)


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, n, BLOCK))
