"""The weights of an earlier generator in one of another layout: where a warm start begins.

What is taken over is how columns depend on each other; how often each level occurs is the new
table's own. So biases are chosen such that, with nothing known, the generator answers the new
frequencies exactly, and with something known it answers new frequencies times earlier lift:
``p(x | known) ~ p_new(x) * p_old(x | known) / p_old(x)``. The same is done for label shift
(Saerens et al. 2002), here for all columns at once; training mends where they shift together.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from synthgen.encode.adopt import Correspondence
from synthgen.encode.column import Floats, Layout
from synthgen.gan.nets import Detail, Generator, Skeleton, SmoothTable, TokenSum


@dataclass(frozen=True, repr=False)
class Start:
    """An earlier generator, its layout, and what its levels stand for in the new one."""

    generator: Generator
    layout: Layout
    by: Correspondence

    def give(self, new: Generator, layout: Layout) -> None:
        """Write its weights into `new`; see `transplant`."""
        transplant(copy.deepcopy(self.generator).cpu(), self.layout, new, layout, self.by)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The weights by name, on the CPU."""
        return {k: v.detach().cpu() for k, v in sorted(self.generator.state_dict().items())}


@torch.no_grad()
def transplant(
    old: Generator, before: Layout, new: Generator, after: Layout, by: Correspondence
) -> None:
    """Give `new` the weights of `old`, in place; what has no counterpart keeps its own.

    Parameters
    ----------
    old, new : Generator
        Skeletons of the same width and depth.
    before, after : Layout
        Theirs.
    by : Correspondence
        Which tokens and levels of `before` stand for those of `after`.
    """
    a, b = old.skeleton, new.skeleton
    _move_sum(a.tokens, before, b.tokens, after, by)
    b.blocks.load_state_dict(a.blocks.state_dict())
    _move_table(a.head, before, b.head, after, by)
    _set_biases(a, before, b, after, by)
    if old.detail is not None and new.detail is not None:
        _move_detail(old.detail, before, new.detail, after, by)


def _set_biases(
    a: Skeleton, before: Layout, b: Skeleton, after: Layout, by: Correspondence
) -> None:
    """Make the answer to nothing known the new frequencies; `b` was built with their logarithms."""
    table = b.tokens.table()
    hidden = b.trunk(table[b.tokens.n_known :].sum(dim=0, keepdim=True))
    learnt = (b.head() @ hidden[0])[: int(after.sizes[: after.n_coarse].sum())]
    b.bias[: len(learnt)] -= learnt
    for t, found in enumerate(by.tokens[after.n_coarse :], after.n_coarse):
        if found is not None:
            i, weights = found
            b.bias[_rows(after, t)] = _tensor(weights) @ a.bias[_rows(before, i)]


def _move_sum(a: TokenSum, before: Layout, b: TokenSum, after: Layout, by: Correspondence) -> None:
    """Move embeddings of levels, and of tokens that are unknown."""
    _move_table(a.table, before, b.table, after, by, n_known=(a.n_known, b.n_known))


def _move_table(
    a: SmoothTable,
    before: Layout,
    b: SmoothTable,
    after: Layout,
    by: Correspondence,
    n_known: tuple[int, int] | None = None,
) -> None:
    """Move one row a level; with `n_known`, the rows of unknown tokens behind them as well.

    The rows as they are used are what is moved: the part of their own takes up what the smooth
    part of the new layout, whose ranks differ, does not say.
    """
    rows, wanted = a(), b().clone()
    earlier, later = _harmonics(before, a.basis), _harmonics(after, b.basis)
    for t, found in enumerate(by.tokens):
        if found is None:
            continue
        i, weights = found
        wanted[_rows(after, t)] = _tensor(weights) @ rows[_rows(before, i)]
        if n_known is not None:
            wanted[n_known[1] + t] = rows[n_known[0] + i]
        n = min(_width(earlier[i]), _width(later[t]))
        b.smooth[later[t].start : later[t].start + n] = a.smooth[
            earlier[i].start : earlier[i].start + n
        ]
    b.own.copy_(wanted - b.basis @ b.smooth)


def _move_detail(a: Detail, before: Layout, b: Detail, after: Layout, by: Correspondence) -> None:
    """Move the offset generator; the latent columns that are the offsets' own follow them."""
    if a.width != b.width:
        return
    _move_sum(a.tokens, before, b.tokens, after, by)
    b.blocks.load_state_dict(a.blocks.state_dict())
    b.latent.bias.copy_(a.latent.bias)
    for new, old in enumerate(by.offsets):
        if old is not None:
            b.latent.weight[:, new] = a.latent.weight[:, old]
            b.head.weight[new] = a.head.weight[old]
            b.head.bias[new] = a.head.bias[old]


def _harmonics(layout: Layout, basis: Tensor) -> list[slice]:
    """Return which rows of the smooth weights each token has; see `nets.smooth_basis`."""
    used = [int(basis[_rows(layout, t)].any(dim=0).sum()) for t in range(len(layout.sizes))]
    return [slice(int(i), int(j)) for i, j in pairwise(np.cumsum([0, *used]))]


def _width(part: slice) -> int:
    return int(part.stop - part.start)


def _rows(layout: Layout, token: int) -> slice:
    start = int(layout.starts[token])
    return slice(start, start + int(layout.sizes[token]))


def _tensor(weights: Floats) -> Tensor:
    return torch.from_numpy(weights).float()
