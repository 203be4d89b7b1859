"""Drawing rows: tokens in a random order, each from what is known so far, then offsets in one pass.

Rows are drawn in blocks of a fixed size, each with its own order and its own random stream, and the
last block is drawn whole and cut. So a row depends on the seed and on its number alone: not on how
many rows are asked for, nor on how they are batched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from synthgen.encode.column import EncodedTable, Layout
from synthgen.errors import DataError
from synthgen.gan.nets import Skeleton
from synthgen.gan.train import Generator
from synthgen.rng import derive

#: Rows drawn together. Part of what a seed means: another size gives other rows.
BLOCK = 2_048
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
    weight = skeleton.tokens.table()
    device = weight.device
    noise = torch.Generator(device).manual_seed(derive(seed, "sample", block))
    tokens = torch.zeros(BLOCK, len(layout.sizes), dtype=torch.int64, device=device)
    unknown = weight[skeleton.tokens.n_known :]
    x = unknown.sum(dim=0).repeat(BLOCK, 1)
    rules = {
        t: torch.from_numpy(w).to(device, torch.float32) for t, w in restriction.weights.items()
    }
    for group in visiting_groups(layout, restriction.first, steps, noise):
        hidden = skeleton.trunk(x)
        for token in group:
            logits = _restricted(skeleton, hidden, token, tokens, rules)
            if token in restriction.first:
                rows = _resample(skeleton, hidden, token, tokens, logits, noise)
                tokens, x, logits = tokens[rows], x[rows], logits[rows]
            chosen = _draw(logits, noise)
            tokens[:, token] = chosen
            x += weight[skeleton.starts[token] + chosen] - unknown[token]
    shape = (BLOCK, len(layout.offset_parents))
    if generator.detail is None:
        offsets = torch.rand(shape, generator=noise, device=device)
    else:
        latent = torch.randn(BLOCK, generator.detail.d_latent, generator=noise, device=device)
        offsets = generator.detail(tokens, latent)
    return EncodedTable(
        tokens.to("cpu", torch.int32).numpy(), offsets.clamp(0, 1).cpu().numpy(), layout
    )


def _restricted(
    skeleton: Skeleton, hidden: Tensor, token: int, tokens: Tensor, rules: dict[int, Tensor]
) -> Tensor:
    logits = skeleton.token_logits(hidden, token, tokens)
    rule = rules.get(token)
    if rule is None:
        return logits
    if rule.dim() == 2:
        rule = rule[tokens[:, skeleton.parents[token - skeleton.n_coarse]]]
    return logits + rule.clamp(min=_IMPOSSIBLE)


def _resample(
    skeleton: Skeleton,
    hidden: Tensor,
    token: int,
    tokens: Tensor,
    logits: Tensor,
    noise: torch.Generator,
) -> Tensor:
    """Return BLOCK row numbers, drawn by how likely each row's restriction is (systematically)."""
    free = skeleton.token_logits(hidden, token, tokens)
    mass = (logits.logsumexp(dim=1) - free.logsumexp(dim=1)).double()
    if not bool((logits.max(dim=1).values > _IMPOSSIBLE / 2).any()):
        raise DataError("no row can satisfy the conditions together; relax one of them")
    share = torch.softmax(mass, dim=0).cumsum(dim=0)
    start = torch.rand(1, generator=noise, device=mass.device, dtype=torch.float64)
    points = (torch.arange(len(mass), device=mass.device) + start) / len(mass)
    rows = torch.searchsorted(share, points).clamp(max=len(mass) - 1)
    return rows[torch.randperm(len(rows), generator=noise, device=mass.device)]


def _draw(logits: Tensor, noise: torch.Generator) -> Tensor:
    """Return one level a row, (B,), from (B, L) logits, by the Gumbel-max trick."""
    uniform = torch.rand(logits.shape, generator=noise, device=logits.device)
    gumbel = uniform.clamp_(1e-12, 1 - 1e-7).log_().neg_().log_()
    return (logits - gumbel).argmax(dim=1)
