"""Drawing rows: tokens in a random order, each from what is known so far, then offsets in one pass.

Rows are drawn in blocks of a fixed size, each with its own order and its own random stream, and the
last block is drawn whole and cut. So a row depends on the seed and on its number alone: not on how
many rows are asked for, nor on how they are batched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from synthgen.encode.column import EncodedTable, Layout
from synthgen.errors import DataError
from synthgen.gan.nets import Generator, Skeleton, half_precision
from synthgen.rng import derive, stream

#: Rows drawn together, in one order. Part of what a seed means: another size gives other rows.
#: Small, because some orders of columns are a little worse than others, and many blocks average.
BLOCK = 512
_IMPOSSIBLE = -1e9


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
    """

    weights: Mapping[int, np.ndarray] = field(default_factory=dict)
    first: tuple[int, ...] = ()


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
    """Offsets of the outermost cells: spread evenly over a whole draw, not by chance.

    A cell of a tail held m training rows, so its rows' offsets are the middles of m equal strata,
    in a random order, again and again. Independent offsets would put the largest value of a table
    anywhere; these put it where the largest of m values is expected.
    """

    def __init__(self, layout: Layout, seed: int) -> None:
        self._layout = layout
        self._seed = seed
        self._seen: dict[tuple[int, int], int] = {}

    def spread(self, table: EncodedTable) -> None:
        """Set the offsets of the next rows of the draw, in place."""
        for o, cells in enumerate(self._layout.tails):
            coarse = table.tokens[:, self._layout.offset_parents[o]]
            fine_at = self._layout.offset_fines[o]
            for side, (level, fine, n_strata) in enumerate(cells):
                inside = coarse == level
                if fine_at >= 0:
                    inside &= table.tokens[:, fine_at] == fine
                rows = np.flatnonzero(inside)
                seen = self._seen.get((o, side), 0)
                order = stream(self._seed, "tails", o, side).permutation(max(n_strata, 1))
                strata = order[(seen + np.arange(len(rows))) % len(order)]
                table.offsets[rows, o] = (strata + 0.5) / len(order)
                self._seen[o, side] = seen + len(rows)


@torch.no_grad()
def draw_block(
    generator: Generator,
    layout: Layout,
    *,
    block: int,
    seed: int,
    restriction: Restriction,
    steps: int | None = None,
) -> EncodedTable:
    """Draw block number `block` of `BLOCK` rows.

    Where several columns are restricted, rows are weighted by how likely the next restriction is
    given the ones before, and resampled (sequential importance resampling, Gordon et al. 1993), so
    that the joint distribution is the conditional one up to the size of a block.

    Raises
    ------
    DataError
        If the restriction cannot be met.
    """
    skeleton = generator.skeleton
    device = skeleton.bias.device
    noise = torch.Generator(device).manual_seed(derive(seed, "sample", block))
    groups = visiting_groups(layout, restriction.first, steps, noise)
    tokens = draw_tokens(skeleton, groups, noise, restriction)
    shape = (BLOCK, len(layout.offset_parents))
    if generator.detail is None:
        offsets = torch.rand(shape, generator=noise, device=device)
    else:
        latent = torch.randn(BLOCK, generator.detail.d_latent, generator=noise, device=device)
        offsets = generator.detail(tokens, latent)
    return EncodedTable(
        tokens.to("cpu", torch.int32).numpy(), offsets.clamp(0, 1).cpu().numpy(), layout
    )


@torch.no_grad()
def draw_tokens(
    skeleton: Skeleton,
    groups: list[list[int]],
    noise: torch.Generator,
    restriction: Restriction,
    watch: Callable[[int, Tensor], None] = lambda token, logits: None,
) -> Tensor:
    """Return BLOCK rows of tokens, (BLOCK, T); those in no group stay 0.

    `watch` is shown the logits (BLOCK, L) from which each token is drawn.
    """
    table, head = skeleton.tokens.table(), skeleton.head()
    tokens = torch.zeros(BLOCK, len(skeleton.sizes), dtype=torch.int64, device=table.device)
    x = skeleton.tokens.blank(BLOCK, table)
    rules = {
        t: torch.from_numpy(w).to(table.device, torch.float32).clamp(min=_IMPOSSIBLE)
        for t, w in restriction.weights.items()
    }
    for group in groups:
        with half_precision(table.device):
            hidden = skeleton.trunk(x).float()
        for token in group:
            free = skeleton.token_logits(hidden, token, tokens, head)
            logits = free if token not in rules else free + _rule(rules, skeleton, token, tokens)
            if token in restriction.first:
                rows = _resample(free, logits, noise)
                tokens, x, logits = tokens[rows], x[rows], logits[rows]
            watch(token, logits)
            chosen = _draw(logits, noise)
            tokens[:, token] = chosen
            x = skeleton.tokens.show(x, table, token, table[skeleton.starts[token] + chosen])
    return tokens


def _rule(rules: dict[int, Tensor], skeleton: Skeleton, token: int, tokens: Tensor) -> Tensor:
    """Return one token's log weights: (L,), or (B, L) for a fine one, by its parent's level."""
    rule = rules[token]
    if rule.dim() == 1:
        return rule
    return rule[tokens[:, skeleton.parents[token - skeleton.n_coarse]]]


def _resample(free: Tensor, logits: Tensor, noise: torch.Generator) -> Tensor:
    """Return row numbers drawn by how likely each row's restriction is (systematically).

    `free` and `logits` are (B, L): without and with the restriction.
    """
    if not bool((logits.max(dim=1).values > _IMPOSSIBLE / 2).any()):
        raise DataError("no row can satisfy the conditions together; relax one of them")
    mass = (logits.logsumexp(dim=1) - free.logsumexp(dim=1)).double()
    share = torch.softmax(mass, dim=0).cumsum(dim=0)
    start = torch.rand(1, generator=noise, device=mass.device, dtype=torch.float64)
    points = (torch.arange(len(mass), device=mass.device) + start) / len(mass)
    rows = torch.searchsorted(share, points).clamp(max=len(mass) - 1)
    return rows[torch.randperm(len(rows), generator=noise, device=mass.device)]


def _draw(logits: Tensor, noise: torch.Generator) -> Tensor:
    """Return one level a row, (B,), from (B, L) logits: inverse distribution functions, stratified.

    Each row's level has the right distribution; but the uniform numbers of the block fall one into
    each of B equal strata, so that the block's marginals scatter less than those of B independent
    draws.
    """
    n_rows, n_levels = logits.shape
    cumulative = torch.softmax(logits, dim=1).cumsum(dim=1)
    stratum = torch.randperm(n_rows, generator=noise, device=logits.device)
    inside = torch.rand(n_rows, generator=noise, device=logits.device)
    uniform = ((stratum + inside) / n_rows).clamp(1e-7, 1 - 1e-7)
    below = cumulative < (uniform * cumulative[:, -1])[:, None]
    return below.sum(dim=1).clamp(max=n_levels - 1)
