"""The skeleton's pass, arranged for drawing.

Training asks for every token of unrelated rows. Drawing asks for one token at a time, of rows that
differ by one token from the pass before. So what is linear in a row's embedding is updated there
instead of computed again, and what is linear in the last hidden layer is computed for the levels of
one token only. The distributions are those of `Skeleton.token_logits`, up to rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from synthgen.gan.nets import Block, Skeleton, TokenSequence, half_precision, product_dtype
from synthgen.gan.together import Absent

Hidden = tuple[Tensor, ...]


class Passes(Protocol):
    """One skeleton, ready for drawing; a state (S, B, ...) holds what B rows have shown so far."""

    def start(self, n_rows: int) -> Tensor:
        """Return the state of rows of which nothing is known."""

    def hidden(self, state: Tensor) -> Hidden:
        """Return what all logits of a pass share: the input of the head in parts, (B, D) each."""

    def logits(self, hidden: Hidden, token: int, tokens: Tensor) -> Tensor:
        """Return the logits (B, L) of one token; `tokens` (B, T) holds a fine token's parent."""

    def show(self, state: Tensor, token: int, chosen: Tensor) -> Tensor:
        """Return the state once the levels (B,) of one token are known as well."""


def passes(skeleton: Skeleton) -> Passes:
    """Return the passes of a skeleton; its weights are read now."""
    is_sequence = isinstance(skeleton.tokens, TokenSequence)
    return Recomputed(skeleton) if is_sequence else Folded(skeleton)


class Recomputed:
    """Every pass from its beginning: for any skeleton."""

    def __init__(self, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        self._table, self._head = skeleton.tokens.table(), skeleton.head()

    def start(self, n_rows: int) -> Tensor:
        """Return the embedded rows."""
        return self._skeleton.tokens.blank(n_rows, self._table)[None]

    def hidden(self, state: Tensor) -> Hidden:
        """Return the output of the last block."""
        with half_precision(state.device):
            return (self._skeleton.trunk(state[0]).float(),)

    def logits(self, hidden: Hidden, token: int, tokens: Tensor) -> Tensor:
        """Return the logits (B, L) of one token."""
        return self._skeleton.token_logits(hidden[0], token, tokens, self._head)

    def show(self, state: Tensor, token: int, chosen: Tensor) -> Tensor:
        """Return the embedded rows with one more token."""
        embedded = self._table[self._skeleton.starts[token] + chosen]
        return self._skeleton.tokens.show(state[0], self._table, token, embedded)[None]


class Folded:
    """Blocks over a sum of embeddings ``x``: 2 (depth - 1) products of D x D a pass, not 2 depth.

    With the first block's ``inner(norm(x)) = rstd (A x - mean(x) A 1) + c``, ``A x`` is a sum over
    tokens as ``x`` is, so the state is both, (2, B, D). And with the last block's output
    ``x + O g + b`` and the head's rows ``H``, the logits are ``H x + H O g + H b``.

    Attributes
    ----------
    skeleton : Skeleton
    change : (2, L, D) Tensor
        What the state gains when a level is known, all tokens' levels in a row.
    head, last_head : (L, D) Tensor
        ``H`` and ``H O``.
    bias : (L,) Tensor
        ``H b`` and the levels' own.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        blocks = [b for b in skeleton.blocks if isinstance(b, Block)]
        first, last = blocks[0], blocks[-1]
        scale = first.inner.weight * first.norm.weight
        self._scale_sum = scale.sum(dim=1)
        self._shift = F.linear(first.norm.bias, first.inner.weight, first.inner.bias)
        self._eps = first.norm.eps
        table, head = skeleton.tokens.table(), skeleton.head()
        both = torch.stack([table, table @ scale.T])
        known, unknown = both.tensor_split([skeleton.tokens.n_known], dim=1)
        self._blank = unknown.sum(dim=1, keepdim=True)
        sizes = torch.tensor(skeleton.sizes, device=table.device)
        self.change = known - unknown.repeat_interleave(sizes, dim=1)
        self._dtype = dtype = product_dtype(table.device)
        self.head, self.last_head = head, (head @ last.outer.weight).to(dtype)
        self.bias = skeleton.bias + head @ last.outer.bias
        # Between the first activation and the last: each outer layer with the next inner one.
        self._pairs = [
            (_cast(a.outer, dtype), b.norm, _cast(b.inner, dtype))
            for a, b in itertools.pairwise(blocks)
        ]

    def start(self, n_rows: int) -> Tensor:
        """Return ``[x, A x]`` of rows of which nothing is known."""
        return self._blank.expand(-1, n_rows, -1).clone()

    def hidden(self, state: Tensor) -> Hidden:
        """Return ``x`` and ``g``: the input and the activation of the last block."""
        x, product = state
        # Both moments by the quickest way: torch.var_mean takes many times as long.
        mean = x.mean(dim=1, keepdim=True)
        square = torch.linalg.vector_norm(x, dim=1, keepdim=True).square() / x.shape[1]
        rstd = (square - mean.square()).clamp(min=0).add(self._eps).rsqrt()
        inner = torch.addcmul(self._shift, product, rstd)
        inner.addcmul_(mean * rstd, self._scale_sum, value=-1)
        g = F.gelu(inner.to(self._dtype))
        for (outer, outer_bias), norm, (weight, bias) in self._pairs:
            x = x + F.linear(g, outer, outer_bias)
            g = F.gelu(F.linear(norm(x).to(self._dtype), weight, bias))
        return x, g

    def logits(self, hidden: Hidden, token: int, tokens: Tensor) -> Tensor:
        """Return the logits (B, L) of one token."""
        x, g = hidden
        net, start = self.skeleton, self.skeleton.starts[token]
        from_x = net.token_logits(x, token, tokens, self.head, self.bias)
        return from_x + F.linear(g, self.last_head[start : start + net.sizes[token]])

    def show(self, state: Tensor, token: int, chosen: Tensor) -> Tensor:
        """Return ``[x, A x]`` with one more token."""
        change = self.change.index_select(1, self.skeleton.starts[token] + chosen)
        return change.add_(state)


class SideBySide:
    """G blocks of B rows, each asked for a token of its own: few large products, as GPUs like them.

    Levels are numbered to the largest token's; a smaller token's last ones are impossible.

    Parameters
    ----------
    net : Folded
    rules : mapping of token to tensor
        What is added to a token's logits: (L,) of a coarse one, (P, L) by a fine one's parent.
    partners : mapping of coarse token to mapping of one other to a tensor
        What is added by the other's level, (M, L), once that is known.
    absent : Absent
    """

    def __init__(
        self,
        net: Folded,
        rules: Mapping[int, Tensor],
        partners: Mapping[int, Mapping[int, Tensor]],
        absent: Absent,
    ) -> None:
        self._net, self._absent = net, absent
        self.start, self.hidden = net.start, net.hidden
        skeleton, device = net.skeleton, net.bias.device
        self._n_coarse = skeleton.n_coarse
        self._starts = torch.tensor(skeleton.starts, device=device)
        self.sizes = torch.tensor(skeleton.sizes, device=device)
        self._parents = torch.tensor(skeleton.parents, dtype=torch.int64, device=device)
        kinds = (skeleton.sizes[: self._n_coarse], skeleton.sizes[self._n_coarse :])
        self._levels = [torch.arange(max(sizes, default=0), device=device) for sizes in kinds]
        self._bias = net.bias.clone()
        self._fine_bias = _padded(list(skeleton.fine_bias), len(self._levels[1]), device)
        for token, rule in rules.items():
            start, size = skeleton.starts[token], skeleton.sizes[token]
            if token < self._n_coarse:
                self._bias[start : start + size] += rule
            else:
                self._fine_bias[token - self._n_coarse, : len(rule), :size] += rule
        # The partner of each coarse token, and which weights it adds: the first are zeros.
        self._partners = torch.zeros(self._n_coarse, dtype=torch.int64, device=device)
        self._weights_at, weights = torch.zeros_like(self._partners), [torch.zeros(1, 1)]
        for token, others in partners.items():
            ((other, by_level),) = others.items()
            self._partners[token], self._weights_at[token] = other, len(weights)
            weights.append(by_level)
        self._weights = _padded(weights, len(self._levels[0]), device)

    @property
    def n_levels(self) -> int:
        """How many logits a row has at most."""
        return max(map(len, self._levels))

    def logits(
        self, hidden: Hidden, asked: Tensor, tokens: Tensor, shown: Tensor, *, fine: bool
    ) -> Tensor:
        """Return the logits (G, B, L) of tokens `asked` (G,): all fine or all coarse.

        `hidden` is that of G * B rows; `tokens` (G, B, T) holds the levels of those that are
        `shown` (G, T): the fine tokens' parents, and partners.
        """
        x, g = (part.view(len(asked), -1, part.shape[1]) for part in hidden)
        levels = self._levels[fine]
        rows = (self._starts[asked, None] + levels).clamp(max=len(self._bias) - 1)
        bias = self._bias[rows].where(levels < self.sizes[asked, None], -torch.inf)
        logits = torch.baddbmm(bias[:, None], x, self._net.head[rows].mT)
        logits = logits + torch.bmm(g, self._net.last_head[rows].mT)
        if fine:
            of = asked - self._n_coarse
            parents = self._parents[of, None, None].expand(-1, tokens.shape[1], 1)
            return logits + self._fine_bias[of[:, None], tokens.gather(2, parents).squeeze(2)]
        partners = self._partners[asked]
        at = self._weights_at[asked][:, None] * shown.gather(1, partners[:, None])
        levels = tokens.gather(2, partners[:, None, None].expand(-1, tokens.shape[1], 1))
        logits = logits + self._weights[at, levels.squeeze(2) * at.sign()]
        return self._absent.weigh(logits, asked[:, None], tokens, shown[:, None])

    def show(self, state: Tensor, asked: Tensor, chosen: Tensor) -> Tensor:
        """Return the state once the levels (G, B) of tokens `asked` (G,) are known as well."""
        rows = (self._starts[asked, None] + chosen).flatten()
        return self._net.change.index_select(1, rows).add_(state)


def _padded(biases: list[Tensor], width: int, device: torch.device) -> Tensor:
    """Return (J, P, `width`): each of J (parent's levels, levels) biases, zeros beyond them."""
    out = torch.zeros(len(biases), max(map(len, biases), default=0), width, device=device)
    for padded, bias in zip(out, biases, strict=True):
        padded[: bias.shape[0], : bias.shape[1]] = bias
    return out


def _cast(layer: torch.nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return layer.weight.to(dtype), layer.bias.to(dtype)
