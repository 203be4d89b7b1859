"""Drawing rows: tokens in a random order, each from what is known so far, then offsets in one pass.

Rows are drawn in blocks of a fixed size, each with its own order and its own random stream, and the
last block is drawn whole and cut. Blocks stand in chunks; what is spread over many rows is spread
over a chunk. So a row depends on the seed and on its number alone: not on how many rows are asked
for, nor on how they are batched, nor on which process draws which chunk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from synthgen.encode.column import EncodedTable, Layout
from synthgen.errors import DataError
from synthgen.gan.nets import Detail, Generator
from synthgen.gan.passes import Folded, SideBySide, passes
from synthgen.gan.together import IMPOSSIBLE, Absent, Left, log_weights
from synthgen.rng import derive, stream

#: Rows drawn together, in one order. Part of what a seed means: another size gives other rows.
#: Small, because some orders of columns are a little worse than others, and many blocks average.
BLOCK = 512
#: Blocks of a chunk; part of what a seed means as well.
CHUNK = 64
#: Devices on which blocks are drawn side by side: where asking for a kernel is what takes the time.
PARALLEL = ("cuda",)
#: Logits of a pass over blocks side by side, at most: 256 MiB.
MAX_LOGITS = 2**26


@dataclass(frozen=True)
class Restriction:
    """What a draw must satisfy, as log weights that are added to logits.

    Attributes
    ----------
    weights : mapping of token to array
        (L,) for a coarse token; (L, F) for a fine one, by its parent's level. ``-inf`` forbids; the
        log of a share admits part of a cell.
    first : tuple of int
        Coarse tokens that are drawn before all others, because something is asked of them.
    pairs : mapping of two coarse tokens to array
        (L, M): log weights of the second token's levels by the first one's. Whichever is drawn
        later follows the other, and leaves some level to all that it is paired with.
    absent : (C, C) bool, optional
        Whether the second coarse token is missing wherever the first is; closed: what follows from
        two of these is one.
    """

    weights: Mapping[int, np.ndarray] = field(default_factory=dict)
    first: tuple[int, ...] = ()
    pairs: Mapping[tuple[int, int], np.ndarray] = field(default_factory=dict)
    absent: npt.NDArray[np.bool_] | None = None

    def absences(self, n_coarse: int, device: torch.device) -> Absent:
        """Return what is missing together, of so many coarse tokens."""
        nothing = np.zeros((n_coarse, n_coarse), bool)
        return Absent(nothing if self.absent is None else self.absent, device)

    def partners(self, device: torch.device) -> dict[int, dict[int, Tensor]]:
        """Return for each token of a pair the others, with its log weights by their levels."""
        found: dict[int, dict[int, Tensor]] = {}
        for (one, other), weights in self.pairs.items():
            by_one = log_weights(weights, device)
            found.setdefault(other, {})[one] = by_one
            found.setdefault(one, {})[other] = by_one.T.contiguous()
        return found


@dataclass(frozen=True)
class Style:
    """How a draw departs from what was learnt, by token; what is not listed is drawn as learnt.

    Attributes
    ----------
    temperature : mapping of token to float
        Logits are divided by it.
    top_p : mapping of token to float
        Share of the probability that the likeliest levels, which stay, hold together at least
        (nucleus sampling, Holtzman et al. 2020).
    """

    temperature: Mapping[int, float] = field(default_factory=dict)
    top_p: Mapping[int, float] = field(default_factory=dict)

    def shaped(self, logits: Tensor, token: int) -> Tensor:
        """Return the (B, L) logits by which one token is drawn."""
        if token in self.temperature:
            logits = logits / self.temperature[token]
        if token in self.top_p:
            ordered, levels = logits.sort(dim=1, descending=True)
            mass = torch.softmax(ordered, dim=1)
            beyond = mass.cumsum(dim=1) - mass >= self.top_p[token]
            logits = logits.masked_fill(beyond.gather(1, levels.argsort(dim=1)), IMPOSSIBLE)
        return logits


#: Rows as they were learnt.
PLAIN = Style()


def visiting_groups(
    layout: Layout, first: tuple[int, ...], steps: int | None, noise: torch.Generator
) -> list[list[int]]:
    """Return the tokens in the order in which they are drawn; a group shares one pass.

    Restricted tokens come first, one by one; the other coarse ones follow at random, the fine ones
    last. `steps` is the number of passes for those; None draws one token a pass.
    """
    n_tokens, c = len(layout.sizes), layout.n_coarse
    device = noise.device
    coarse = torch.randperm(c, generator=noise, device=device).tolist()
    fine = (c + torch.randperm(n_tokens - c, generator=noise, device=device)).tolist()
    coarse = [t for t in coarse if t not in first]
    groups = [[t] for t in first]
    for tokens in (coarse, fine):
        if tokens:
            share = len(tokens) / (len(coarse) + len(fine))
            passes = len(tokens) if steps is None else max(1, round(steps * share))
            groups += [g.tolist() for g in np.array_split(tokens, min(passes, len(tokens)))]
    return groups


class Tails:
    """Offsets of the outermost cells: spread evenly over a chunk of a draw, not by chance.

    A cell of a tail held m training rows, so its rows' offsets are drawn one from each of m equal
    strata, in a random order, again and again. Independent offsets would put the largest value of
    a table anywhere; these put it where the largest of m values is expected.
    """

    def __init__(self, layout: Layout, seed: int, chunk: int) -> None:
        self._layout = layout
        self._seed = seed
        self._chunk = chunk
        self._seen: dict[tuple[int, int], int] = {}

    def spread(self, table: EncodedTable) -> None:
        """Set the offsets of the next rows of the chunk, in place."""
        for o, cells in enumerate(self._layout.tails):
            coarse = table.tokens[:, self._layout.offset_parents[o]]
            fine_at = self._layout.offset_fines[o]
            for side, (level, fine, n_strata) in enumerate(cells):
                inside = coarse == level
                if fine_at >= 0:
                    inside &= table.tokens[:, fine_at] == fine
                rows = np.flatnonzero(inside)
                seen = self._seen.get((o, side), 0)
                mixed = stream(self._seed, "tails", o, side, self._chunk)
                order = mixed.permutation(max(n_strata, 1))
                strata = order[(seen + np.arange(len(rows))) % len(order)]
                inside_stratum = mixed.random(seen + len(rows))[seen:]
                table.offsets[rows, o] = (strata + inside_stratum) / len(order)
                self._seen[o, side] = seen + len(rows)


class Drawer:
    """Draws the blocks of one seed, chunk by chunk; the weights are read when it is made.

    Where several columns are restricted, rows are weighted by how likely the next restriction is
    given the ones before, and resampled (sequential importance resampling, Gordon et al. 1993), so
    that the joint distribution is the conditional one up to the size of a block.

    Parameters
    ----------
    generator : Generator
    layout : Layout
    seed : int
    restriction : Restriction
    style : Style
    steps : int, optional
        Passes for a row's tokens; None for one a token.
    """

    @torch.no_grad()
    def __init__(
        self,
        generator: Generator,
        layout: Layout,
        *,
        seed: int,
        restriction: Restriction,
        style: Style = PLAIN,
        steps: int | None = None,
    ) -> None:
        self._detail = generator.detail
        self._passes = passes(generator.skeleton)
        self._device = generator.skeleton.bias.device
        self._layout, self._seed, self._steps = layout, seed, steps
        self._first, self._style = restriction.first, style
        self._rules = {t: log_weights(w, self._device) for t, w in restriction.weights.items()}
        self._partners = restriction.partners(self._device)
        self._absent = restriction.absences(layout.n_coarse, self._device)
        # side by side nobody looks ahead, which two partners of one token ask for
        crowded = any(len(others) > 1 for others in self._partners.values())
        asked = self._first or crowded or style != PLAIN or steps is not None
        self._beside: SideBySide | None = None
        if isinstance(self._passes, Folded) and self._device.type in PARALLEL and not asked:
            self._beside = SideBySide(self._passes, self._rules, self._partners, self._absent)
        self._tails = Tails(layout, seed, 0)

    def draw(self, blocks: range) -> EncodedTable:
        """Draw blocks of one chunk, from its first one or from where the last call ended.

        Raises
        ------
        DataError
            If the restriction cannot be met.
        """
        if blocks.start % CHUNK == 0:
            self._tails = Tails(self._layout, self._seed, blocks.start // CHUNK)
        if self._beside is None:
            drawn = [self._block(number) for number in blocks]
        else:
            drawn = self._side_by_side(self._beside, blocks)
        tokens, offsets = (np.concatenate(part) for part in zip(*drawn, strict=True))
        table = EncodedTable(tokens, offsets, self._layout)
        self._tails.spread(table)
        return table

    def _noise(self, number: int) -> torch.Generator:
        """Return the random stream of one block."""
        return torch.Generator(self._device).manual_seed(derive(self._seed, "sample", number))

    @torch.no_grad()
    def _side_by_side(self, net: SideBySide, blocks: range) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the tokens and the offsets of the blocks, drawn in groups of a fixed size.

        A fixed size, because the sums of a product may depend on it.
        """
        size = int(2 ** np.clip(math.log2(MAX_LOGITS / BLOCK / net.n_levels) // 1, 0, 6))
        drawn = []
        for first in range(blocks.start // size * size, blocks.stop, size):
            noises = [self._noise(number) for number in range(first, first + size)]
            tokens = self._tokens_of(net, noises)
            offsets = torch.stack(
                [
                    draw_offsets(self._detail, self._layout, rows, noise)
                    for rows, noise in zip(tokens, noises, strict=True)
                ]
            )
            group = zip(tokens.to("cpu", torch.int32).numpy(), offsets.cpu().numpy(), strict=True)
            drawn += [pair for number, pair in enumerate(group, first) if number in blocks]
        return drawn

    def _tokens_of(self, net: SideBySide, noises: list[torch.Generator]) -> Tensor:
        """Return the tokens (G, BLOCK, T) of as many blocks; each has its order, coarse first.

        The host never waits for a value: all that is random is drawn beforehand.
        """
        n_tokens, c, device = len(self._layout.sizes), self._layout.n_coarse, self._device

        def uniform(*shape: int) -> Tensor:
            parts = [torch.rand(shape, generator=noise, device=device) for noise in noises]
            return torch.stack(parts)

        places = uniform(n_tokens)
        order = torch.cat([places[:, :c].argsort(dim=1), c + places[:, c:].argsort(dim=1)], dim=1)
        turn = order.argsort(dim=1)
        inside = uniform(n_tokens, BLOCK)
        points = (uniform(n_tokens, BLOCK).argsort(dim=2) + inside) / BLOCK
        tokens = torch.zeros(len(noises), BLOCK, n_tokens, dtype=torch.int64, device=device)
        state = net.start(len(noises) * BLOCK)
        for place in range(n_tokens):
            asked = order[:, place]
            logits = net.logits(net.hidden(state), asked, tokens, turn < place, fine=place >= c)
            chosen = levels_at(logits, points[:, place]).minimum(net.sizes[asked, None] - 1)
            tokens.scatter_(2, asked[:, None, None].expand(-1, BLOCK, 1), chosen[..., None])
            state = net.show(state, asked, chosen)
        return tokens

    @torch.no_grad()
    def _block(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens and the offsets of one block."""
        noise = self._noise(number)
        groups = visiting_groups(self._layout, self._first, self._steps, noise)
        tokens, _ = self._tokens(groups, noise)
        offsets = draw_offsets(self._detail, self._layout, tokens, noise)
        return tokens.to("cpu", torch.int32).numpy(), offsets.cpu().numpy()

    @torch.no_grad()
    def share(self, blocks: int) -> float:
        """Return how likely a row is to satisfy the restriction, estimated from so many blocks.

        Only the restricted tokens are drawn, in streams of their own.
        """
        found = []
        for number in range(blocks):
            noise = torch.Generator(self._device).manual_seed(derive(self._seed, "share", number))
            found.append(self._tokens([[t] for t in self._first], noise)[1])
        return float(np.exp(found).mean())

    def _tokens(self, groups: list[list[int]], noise: torch.Generator) -> tuple[Tensor, float]:
        """Return BLOCK rows of tokens, (BLOCK, T), drawn group by group.

        And the log of how likely a row is to satisfy the restriction.
        """
        net, n_tokens = self._passes, len(self._layout.sizes)
        tokens = torch.zeros(BLOCK, n_tokens, dtype=torch.int64, device=self._device)
        state = net.start(BLOCK)
        prefixes, log_share = Prefixes(self._device), 0.0
        left = Left(self._partners, self._rules, BLOCK)
        shown = torch.zeros(n_tokens, dtype=torch.bool, device=self._device)
        for group in groups:
            some, of = prefixes.distinct()
            hidden = net.hidden(state[:, some])
            for token in group:
                free = net.logits(hidden, token, tokens[some])[of]
                logits = free if token not in self._rules else free + self._rule(token, tokens)
                logits = logits + left.weights(token)
                logits = self._absent.weigh(logits, token, tokens, shown)
                if token in self._first:
                    rows, log_mass = _resample(free, logits, noise)
                    log_share += log_mass
                    tokens, state, logits = tokens[rows], state[:, rows], logits[rows]
                    prefixes.take(rows)
                    left.take(rows)
                chosen = draw_levels(self._style.shaped(logits, token), noise)
                tokens[:, token] = chosen
                state = net.show(state, token, chosen)
                prefixes.append(chosen, free.shape[1])
                left.show(token, chosen)
                shown[token] = True
        return tokens, log_share

    def _rule(self, token: int, tokens: Tensor) -> Tensor:
        """Return one token's log weights: (L,), or (B, L) for a fine one, by its parent's level."""
        return for_rows(self._rules[token], token, tokens, self._layout)


class Prefixes:
    """Which rows of a block have drawn the same so far: one pass serves them all.

    At first all have; after a few tokens hardly any, and nobody looks any more.
    """

    #: A pass over so large a share of the rows is a pass over all.
    MOST = 0.7

    def __init__(self, device: torch.device) -> None:
        self._codes: Tensor | None = torch.zeros(BLOCK, dtype=torch.int64, device=device)
        self._all = torch.arange(BLOCK, device=device)

    def distinct(self) -> tuple[Tensor | slice, Tensor | slice]:
        """Return one row for each prefix, and for each row its prefix's place among them."""
        if self._codes is None:
            return slice(None), slice(None)
        values, places = torch.unique(self._codes, return_inverse=True)
        if len(values) > self.MOST * BLOCK:
            self._codes = None
            return slice(None), slice(None)
        self._codes = places
        return torch.empty_like(values).scatter_(0, places, self._all), places

    def append(self, chosen: Tensor, n_levels: int) -> None:
        """Let the rows have drawn one more token, with levels (B,)."""
        if self._codes is not None:
            self._codes = self._codes * n_levels + chosen

    def take(self, rows: Tensor) -> None:
        """Let the block consist of copies of these rows."""
        if self._codes is not None:
            self._codes = self._codes[rows]


def for_rows(rule: Tensor, token: int, tokens: Tensor, layout: Layout) -> Tensor:
    """Return one token's log weights: (L,), or (B, L) for a fine one, by its parent's level."""
    if rule.dim() == 1:
        return rule
    return rule[tokens[:, int(layout.parents[token - layout.n_coarse])]]


def draw_offsets(
    detail: Detail | None, layout: Layout, tokens: Tensor, noise: torch.Generator
) -> Tensor:
    """Return the offsets (B, O) in [0, 1] of (B, T) tokens: the generator's, or uniform without."""
    if detail is None:
        shape = (len(tokens), len(layout.offset_parents))
        return torch.rand(shape, generator=noise, device=noise.device)
    size = (len(tokens), detail.d_latent)
    latent = torch.randn(size, generator=noise, device=noise.device)
    offsets: Tensor = detail(tokens, latent)
    return offsets.clamp(0, 1)


def _resample(free: Tensor, logits: Tensor, noise: torch.Generator) -> tuple[Tensor, float]:
    """Return row numbers drawn by how likely each row's restriction is (systematically).

    And the log of how likely it is on average. `free` and `logits` are (B, L): without and with it.
    """
    if not bool((logits.max(dim=1).values > IMPOSSIBLE / 2).any()):
        raise DataError("no row can satisfy the conditions together; relax one of them")
    mass = (logits.logsumexp(dim=1) - free.logsumexp(dim=1)).double()
    share = torch.softmax(mass, dim=0).cumsum(dim=0)
    start = torch.rand(1, generator=noise, device=mass.device, dtype=torch.float64)
    points = (torch.arange(len(mass), device=mass.device) + start) / len(mass)
    rows = torch.searchsorted(share, points).clamp(max=len(mass) - 1)
    mixed = rows[torch.randperm(len(rows), generator=noise, device=mass.device)]
    return mixed, float(mass.logsumexp(dim=0)) - math.log(len(mass))


def draw_levels(logits: Tensor, noise: torch.Generator) -> Tensor:
    """Return one level a row, (B,), from (B, L) logits: inverse distribution functions, stratified.

    Each row's level has the right distribution; but the uniform numbers of the block fall one into
    each of B equal strata, so that the block's marginals scatter less than those of B independent
    draws.
    """
    n_rows = len(logits)
    stratum = torch.randperm(n_rows, generator=noise, device=logits.device)
    inside = torch.rand(n_rows, generator=noise, device=logits.device)
    return levels_at(logits, (stratum + inside) / n_rows)


def levels_at(logits: Tensor, uniform: Tensor) -> Tensor:
    """Return the levels (...) at which (..., L) distribution functions reach `uniform` (...)."""
    cumulative = (logits - logits.amax(dim=-1, keepdim=True)).exp_().cumsum(dim=-1)
    target = uniform.clamp(1e-7, 1 - 1e-7) * cumulative[..., -1]
    found = torch.searchsorted(cumulative, target[..., None]).squeeze(-1)
    return found.clamp(max=logits.shape[-1] - 1)
