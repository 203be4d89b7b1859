"""The generator and the critic.

The generator has two parts. The *skeleton* answers, for any known subset of a row's tokens, how
each unknown token is distributed: ``p(unknown | known)``. The *detail* part turns a latent and a
full row of tokens into the offsets. The critic judges offsets given the tokens.

Real rows are index sets, so first layers are sums of embeddings, never one-hot products. The
generator has LayerNorm and no BatchNorm: a row must not depend on its neighbours, and averaged
weights must fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthgen.config import TrainConfig
from synthgen.encode.column import Floats, Layout
from synthgen.gan.conv import ConvBlock, Funnel, Places, Pyramid
from synthgen.gan.layers import Choices, dropped

#: Embedded tokens (B, *d_row), lower bounds and spans (B, O).
Condition = tuple[Tensor, Tensor, Tensor]
#: Channels of a token in a convolution, as a share of the width, and at least.
CHANNELS, MIN_CHANNELS = 1 / 8, 8
#: Logit of a level that never occurs.
NEVER = -30.0


def product_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device multiplies in it, about twice as fast; else float32.

    Measured on adult and king, in training and in sampling: no difference in any score that another
    seed does not make as well.
    """
    supported = device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.bfloat16 if supported else torch.float32


def half_precision(device: torch.device) -> torch.autocast:
    """Matrix products in `product_dtype`."""
    enabled = product_dtype(device) == torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


@dataclass(frozen=True)
class Form:
    """How the networks are built inside.

    Attributes
    ----------
    architecture : {"mlp", "conv"}
        A row is the sum of its tokens' embeddings, or their sequence.
    harmonics : int
        Cosines over the ranks of an ordered token's levels; 0 for none.
    """

    architecture: str = "mlp"
    harmonics: int = 8

    @classmethod
    def of(cls, config: TrainConfig) -> Form:
        """Return the form that the settings ask for."""
        return cls(config.architecture, config.harmonics)


MLP = Form()


class Block(nn.Module):
    """Residual MLP block, (B, D) -> (B, D); the identity when new: its last layer is zero."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x + outer(gelu(inner(norm(x))))``."""
        inner = F.gelu(self.inner(self.norm(x)))
        if self.training and self.dropout:
            inner = dropped(inner, self.dropout)
        out: Tensor = x + self.outer(inner)
        return out


def smooth_basis(layout: Layout, n_extra: int = 0, harmonics: int = Form.harmonics) -> Tensor:
    """Return cosines over the ranks of ordered levels, (width + n_extra, M): M functions in all.

    Block by block: each ordered token has up to `harmonics` columns, zero for other rows.
    """
    columns = []
    for start, positions in zip(layout.starts, layout.positions, strict=True):
        ordered = np.flatnonzero(~np.isnan(positions))
        for j in range(1, min(harmonics, len(ordered) // 2) + 1):
            column = np.zeros(layout.width + n_extra, np.float32)
            column[start + ordered] = np.cos(np.pi * j * positions[ordered]) / j**0.5
            columns.append(column)
    empty = np.zeros((layout.width + n_extra, 0), np.float32)
    return torch.from_numpy(np.stack(columns, axis=1) if columns else empty)


class SmoothTable(nn.Module):
    """One row of weights a level, (width + n_extra, D): its own part plus a smooth one.

    Levels of a number have an order. What is learnt of one should be learnt of its neighbours:
    the smooth part is a sum of few cosines over the ranks, with weights that all levels share.
    """

    basis: Tensor

    def __init__(
        self,
        layout: Layout,
        width: int,
        *,
        n_extra: int = 0,
        std: float = 0.0,
        harmonics: int = Form.harmonics,
    ) -> None:
        super().__init__()
        basis = smooth_basis(layout, n_extra, harmonics)
        self.register_buffer("basis", basis, persistent=False)
        self.own = nn.Parameter(torch.empty(layout.width + n_extra, width))
        self.smooth = nn.Parameter(torch.empty(self.basis.shape[1], width))
        nn.init.normal_(self.own, std=std)
        nn.init.normal_(self.smooth, std=std)

    def forward(self) -> Tensor:
        """Return the whole table."""
        return self.own + self.basis @ self.smooth


class TokenSum(nn.Module):
    """The sum of one embedding a token, (B, T) -> (B, D); an unknown token has its own embedding.

    Attributes
    ----------
    starts : (T,) int64
        First row of each token's embeddings; ``starts[t] + token`` is known, ``width + t`` unknown.
    """

    starts: Tensor

    def __init__(
        self, layout: Layout, width: int, *, harmonics: int = Form.harmonics, std: float = 0.0
    ) -> None:
        super().__init__()
        n_tokens = len(layout.sizes)
        self.n_known = layout.width
        self.table = SmoothTable(
            layout, width, n_extra=n_tokens, std=std or n_tokens**-0.5, harmonics=harmonics
        )
        self.register_buffer("starts", torch.from_numpy(layout.starts), persistent=False)

    def index(self, tokens: Tensor, known: Tensor | None) -> Tensor:
        """Return the row of the table for each token, (B, T)."""
        index = tokens + self.starts
        if known is None:
            return index
        unknown = self.n_known + torch.arange(tokens.shape[1], device=tokens.device)
        return torch.where(known, index, unknown)

    def forward(self, tokens: Tensor, known: Tensor | None = None) -> Tensor:
        """Return the sum for (B, T) int64 tokens, of which `known` (B, T) bool are shown."""
        out: Tensor = F.embedding_bag(self.index(tokens, known), self.table(), mode="sum")
        return out

    def blank(self, n_rows: int, table: Tensor) -> Tensor:
        """Return rows of which nothing is known; `table` is ``self.table()``."""
        return table[self.n_known :].sum(dim=0).repeat(n_rows, 1)

    def show(self, x: Tensor, table: Tensor, token: int, embedded: Tensor) -> Tensor:
        """Return `x`, where `token` was unknown, with its embedding (B, D) instead."""
        return x + (embedded - table[self.n_known + token])


class TokenSequence(TokenSum):
    """The embeddings of a row's tokens side by side, (B, T) -> (B, T, D): for convolutions."""

    def __init__(self, layout: Layout, width: int, *, harmonics: int = Form.harmonics) -> None:
        super().__init__(layout, width, harmonics=harmonics, std=1.0)

    def forward(self, tokens: Tensor, known: Tensor | None = None) -> Tensor:
        """Return the embeddings of (B, T) int64 tokens, of which `known` (B, T) are shown."""
        return F.embedding(self.index(tokens, known), self.table())

    def blank(self, n_rows: int, table: Tensor) -> Tensor:
        """Return rows of which nothing is known; `table` is ``self.table()``."""
        return table[self.n_known :].repeat(n_rows, 1, 1)

    def show(self, x: Tensor, table: Tensor, token: int, embedded: Tensor) -> Tensor:
        """Return `x` with another embedding (B, D) of one token."""
        return torch.cat([x[:, :token], embedded[:, None], x[:, token + 1 :]], dim=1)


def d_row(layout: Layout, width: int, form: Form) -> tuple[int, ...]:
    """Return the shape of one embedded row: (D,), or (T, channels) for convolutions."""
    if form.architecture == "mlp":
        return (width,)
    return len(layout.sizes), max(MIN_CHANNELS, round(width * CHANNELS))


def embedding(layout: Layout, width: int, form: Form) -> TokenSum:
    """Return the first layer: (B, T) tokens -> (B, *d_row)."""
    kind = TokenSequence if form.architecture == "conv" else TokenSum
    return kind(layout, d_row(layout, width, form)[-1], harmonics=form.harmonics)


def hidden_layers(
    layout: Layout, width: int, depth: int, form: Form, dropout: float = 0.0
) -> nn.ModuleList:
    """Return `depth` residual blocks, (B, *d_row) -> (B, width)."""
    if form.architecture == "mlp":
        return nn.ModuleList(Block(width, dropout) for _ in range(depth))
    n_tokens, channels = d_row(layout, width, form)
    blocks = (ConvBlock(channels, dropout) for _ in range(depth))
    return nn.ModuleList([*blocks, Funnel(n_tokens, channels, width)])


class Skeleton(nn.Module):
    """Any-subset conditional distribution of tokens (Uria 2014; Hoogeboom 2022, algorithm 1).

    It starts at independent true marginals: the last layer is zero, its bias the log frequencies.
    Fine tokens are asked for when all coarse ones are known; their bias depends on the parent's
    level, so that the distribution inside each bin starts true as well.
    """

    def __init__(
        self,
        layout: Layout,
        width: int,
        depth: int,
        dropout: float = 0.0,
        form: Form = MLP,
    ) -> None:
        super().__init__()
        self.width, self.depth = width, depth
        self.sizes = layout.sizes.tolist()
        self.n_coarse = layout.n_coarse
        self.starts = layout.starts.tolist()
        self.parents = layout.parents.tolist()
        self.coarse = Choices(self.sizes[: self.n_coarse])
        self.fine = Choices(self.sizes[self.n_coarse :])
        self.tokens = embedding(layout, width, form)
        self.blocks = hidden_layers(layout, width, depth, form, dropout)
        self.head = SmoothTable(layout, width, harmonics=form.harmonics)
        bias = np.zeros(layout.width, np.float32)
        coarse = np.concatenate([_log(p) for p in layout.priors])
        bias[: len(coarse)] = coarse
        self.bias = nn.Parameter(torch.from_numpy(bias))
        self.fine_bias = nn.ParameterList(
            nn.Parameter(torch.from_numpy(_log(p)).float()) for p in layout.fine_priors
        )

    def trunk(self, x: Tensor) -> Tensor:
        """Return the hidden state (B, D) of embedded rows (B, *d_row)."""
        for block in self.blocks:
            x = block(x)
        return x

    def token_logits(
        self,
        hidden: Tensor,
        token: int,
        tokens: Tensor,
        head: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Return the logits (B, size) of one token; `tokens` (B, T) holds a fine token's parent.

        `head` is ``self.head()``, for callers who ask often, or another with its `bias`.
        """
        head = self.head() if head is None else head
        bias = self.bias if bias is None else bias
        start, stop = self.starts[token], self.starts[token] + self.sizes[token]
        logits = F.linear(hidden, head[start:stop], bias[start:stop])
        if token >= self.n_coarse:
            fine = token - self.n_coarse
            logits = logits + self.fine_bias[fine][tokens[:, self.parents[fine]]]
        return logits

    def logits(self, tokens: Tensor, known: Tensor, split: int) -> tuple[Tensor, Tensor]:
        """Return the logits of the coarse tokens of some rows and of the fine ones of the others.

        Parameters
        ----------
        tokens : (B, T) int64
        known : (B, T) bool
            Every coarse token is known where fine ones are asked for.
        split : int
            Rows that are asked for coarse tokens; they come first.

        Returns
        -------
        (split, W_coarse) and (B - split, W_fine) tensors
            Side by side as in `coarse` and `fine`; of known tokens as well, the caller masks them.
        """
        hidden = self.trunk(self.tokens(tokens, known))
        head, cut = self.head(), sum(self.coarse.sizes)
        coarse = F.linear(hidden[:split], head[:cut], self.bias[:cut])
        fine = F.linear(hidden[split:], head[cut:], self.bias[cut:])
        if self.parents and split < len(tokens):
            levels = tokens[split:, self.parents].unbind(dim=1)
            shifts = [F.embedding(*pair) for pair in zip(levels, self.fine_bias, strict=True)]
            fine = fine + torch.cat(shifts, dim=1)
        return coarse, fine

    def cross_entropies(self, tokens: Tensor, known: Tensor) -> Tensor:
        """Return the cross-entropy in nats (B, n_coarse) of each true coarse token."""
        logits, _ = self.logits(tokens, known, len(tokens))
        return self.coarse.cross_entropies(logits, tokens[:, : self.n_coarse])


class Cells(nn.Module):
    """Where the cell of each offset lies: (B, T) tokens -> lower bounds and spans, (B, O) each.

    A cell that is one exact value, or a tail whose offset is no linear place, has span 0: the
    networks leave its offset uniform and do not look at it.
    """

    lower: Tensor
    span: Tensor
    parents: Tensor
    fines: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        n_levels = max(lower.shape[0] for lower, _ in layout.cells)
        n_fine = max(lower.shape[1] for lower, _ in layout.cells)
        lower, span = np.zeros((2, len(layout.cells), n_levels, n_fine), np.float32)
        for o, (low, high) in enumerate(layout.cells):
            lower[o, : low.shape[0], : low.shape[1]] = low
            span[o, : low.shape[0], : low.shape[1]] = high - low
        buffers = {
            "lower": lower,
            "span": span,
            "parents": layout.offset_parents,
            "fines": layout.offset_fines,
        }
        for name, values in buffers.items():
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return lower bound and span, in units of the column's spread."""
        coarse = tokens[:, self.parents]
        fine = torch.where(self.fines >= 0, tokens[:, self.fines.clamp(min=0)], 0)
        column = torch.arange(len(self.parents), device=tokens.device)
        return self.lower[column, coarse, fine], self.span[column, coarse, fine]


class Detail(nn.Module):
    """Offset generator: a latent and a full row of tokens -> the offsets of all numbers jointly.

    The last layer starts at zero, so that training starts from uniform offsets.
    """

    def __init__(self, layout: Layout, width: int, latent: int, form: Form = MLP) -> None:
        super().__init__()
        self.width = width
        self.d_latent = max(latent, len(layout.offset_parents))
        self.cells = Cells(layout)
        self.tokens = embedding(layout, width, form)
        self.d_row = d_row(layout, width, form)
        self.latent = nn.Linear(self.d_latent, math.prod(self.d_row))
        self.blocks = hidden_layers(layout, width, 2, form)
        self.head = nn.Linear(width, len(layout.offset_parents))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, latent: Tensor) -> Tensor:
        """Return offsets (B, O) in [0, 1] for tokens (B, T) and a standard normal latent (B, Z).

        An offset is the normal distribution function of a sum: one latent column, uniform by
        itself, plus what the network adds.
        """
        x = self.tokens(tokens) + self.latent(latent).unflatten(1, self.d_row)
        for block in self.blocks:
            x = block(x)
        _, span = self.cells(tokens)
        shift = self.head(x) * (span > 0)
        offsets: Tensor = torch.special.ndtr(latent[:, : shift.shape[1]] + shift)
        return offsets


class Generator(nn.Module):
    """The trained pair: skeleton for tokens, detail for offsets (None: offsets are uniform)."""

    def __init__(
        self,
        layout: Layout,
        *,
        width: int,
        depth: int,
        latent: int,
        detail: bool,
        dropout: float = 0.0,
        form: Form = MLP,
    ) -> None:
        super().__init__()
        self.skeleton = Skeleton(layout, width, depth, dropout, form)
        self.detail = Detail(layout, min(width, 128), latent, form) if detail else None


class MinibatchDiscrimination(nn.Module):
    """How near each example is to the others of its batch, (B, D) -> (B, K).

    Salimans et al. 2016, section 3.2: K kernels of ``exp(-L1 distance)``. NOTE[DIFF]: the mean over
    the others instead of the sum over all, so that its scale does not depend on the batch size.
    """

    def __init__(self, width: int, kernels: int, d_kernel: int = 5) -> None:
        super().__init__()
        self.shape = (kernels, d_kernel)
        self.project = nn.Linear(width, kernels * d_kernel, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean closeness in [0, 1] for each kernel; B >= 2."""
        m = self.project(x).unflatten(1, self.shape)
        closeness = (-(m[:, None] - m[None]).abs().sum(dim=3)).exp()
        near: Tensor = (closeness.sum(dim=1) - 1) / (len(x) - 1)
        return near


class Scorer(nn.Module):
    """The layers that every critic ends with: rows (B, D), packed, to scores (P,).

    Parameters
    ----------
    width : int
    pac : int
        Rows that share one score (Lin et al. 2018, PacGAN). NOTE[DIFF]: the first layer is the same
        for every row of a pack, the second sees them all; and each row has its own condition.
    kernels : int
        Of `MinibatchDiscrimination`, shown to the last layer; 0 leaves it out.
    norm : {"none", "layer", "batch"}
        What is done to the input of each hidden layer's activation.
    """

    def __init__(self, width: int, *, pac: int = 1, kernels: int = 0, norm: str = "none") -> None:
        super().__init__()
        self.pac = pac
        self.hidden = nn.ModuleList(nn.Linear(n * width, width) for n in (pac, 1))
        self.norms = nn.ModuleList(_norm(norm, width) for _ in self.hidden)
        self.nearness = MinibatchDiscrimination(width, kernels) if kernels else None
        self.score = nn.Linear(width + kernels, 1)

    def pack(self, rows: Tensor) -> Tensor:
        """Return (B, G) rows as packs, (B / pac, pac * G)."""
        return rows.reshape(len(rows) // self.pac, -1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the score (P,) of P packs of embedded rows, (P * pac, D)."""
        x = self.pack(x)
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            x = norm(layer(F.leaky_relu(x, 0.2)))
        x = F.leaky_relu(x, 0.2)
        if self.nearness is not None:
            x = torch.cat([x, self.nearness(x)], dim=1)
        out: Tensor = self.score(x).squeeze(1)
        return out


def scorer(width: int, config: TrainConfig) -> Scorer:
    """Return the end of a critic as the settings ask for it."""
    kernels = config.minibatch_discrimination
    return Scorer(width, pac=config.pac, kernels=kernels, norm=config.critic_norm)


class Critic(nn.Module):
    """Score (P,) of P packs of offsets given tokens; unbounded. The docs also say discriminator.

    It sees the offsets and the decoded, standardised numbers, so that ``a = b + c`` and points on a
    map are visible to it. With convolutions each number stands beside its token.

    Parameters
    ----------
    layout : Layout
    width : int
    config : TrainConfig
        Packing, minibatch discrimination, norm and architecture.
    """

    def __init__(self, layout: Layout, width: int, config: TrainConfig) -> None:
        super().__init__()
        form, n_features = Form.of(config), 2 * len(layout.offset_parents)
        self.cells = Cells(layout)
        self.tokens = embedding(layout, width, form)
        self.funnel: nn.Module = nn.Identity()
        if form.architecture == "conv":
            n_tokens, channels = d_row(layout, width, form)
            self.numbers: nn.Module = Places(layout.offset_parents, n_tokens, channels)
            self.funnel = Pyramid(n_tokens, channels, width)
        else:
            self.numbers = nn.Linear(n_features, width)
        self.scorer = scorer(width, config)

    def given(self, tokens: Tensor) -> Condition:
        """Return what the critic knows of (B, T) tokens: computed once, used for real and fake."""
        return (self.tokens(tokens), *self.cells(tokens))

    def pack(self, offsets: Tensor) -> Tensor:
        """Return the (B, O) offsets of rows as those of packs, (B / pac, pac * O)."""
        return self.scorer.pack(offsets)

    def forward(self, offsets: Tensor, condition: Condition) -> Tensor:
        """Return the score (P,) of packed offsets, (P, pac * O), of P * pac rows.

        Offsets of exact values have no influence.
        """
        embedded, lower, span = condition
        rows = offsets.reshape(lower.shape)
        places = (2 * rows - 1) * (span > 0)
        numbers = torch.cat([places, lower + rows * span], dim=1)
        out: Tensor = self.scorer(self.funnel(embedded + self.numbers(numbers)))
        return out


def _norm(name: str, width: int) -> nn.Module:
    if name == "layer":
        return nn.LayerNorm(width)
    # Statistics of the batch at hand, always: the critic scores nothing outside training.
    return nn.BatchNorm1d(width, track_running_stats=False) if name == "batch" else nn.Identity()


def _log(frequencies: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(np.maximum(np.log(frequencies), NEVER))
