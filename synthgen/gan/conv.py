"""Convolutions along the tokens of an encoded row: DCGAN for tables, as values of a switch.

Radford et al. 2016 (DCGAN): a generator and a critic of convolutions. Park et al. 2018 (TableGAN,
VLDB 11) use them on a row that is folded into a square. NOTE[DIFF]: here a row stays what it is, a
sequence of its tokens' embeddings in the order of the columns; and the generator keeps its length
where DCGAN's grows from a point, because what is drawn stands beside what it is drawn for.

Neighbours in a table are no neighbours of meaning, as pixels are: that is why this is a switch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Tokens that one output of a convolution sees.
KERNEL = 3


class ConvBlock(nn.Module):
    """Residual block of two convolutions, (B, T, C) -> (B, T, C); the identity when new."""

    def __init__(self, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm = nn.LayerNorm(channels)
        self.inner = nn.Conv1d(channels, channels, KERNEL, padding="same")
        self.outer = nn.Conv1d(channels, channels, KERNEL, padding="same")
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x + outer(gelu(inner(norm(x))))``, convolved along the tokens."""
        inner = F.gelu(self.inner(self.norm(x).transpose(1, 2)))
        if self.training and self.dropout:
            keep = torch.rand_like(inner) >= self.dropout
            inner = inner * keep * (1 / (1 - self.dropout))
        out: Tensor = x + self.outer(inner).transpose(1, 2)
        return out


class Funnel(nn.Module):
    """One linear layer over all tokens, (B, T, C) -> (B, D)."""

    def __init__(self, n_tokens: int, channels: int, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_tokens * channels, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the row's state."""
        out: Tensor = self.layer(x.flatten(1))
        return out


class Pyramid(nn.Module):
    """A critic's convolutions, (B, T, C) -> (B, D): each halves the length, doubles the channels.

    Without batch normalisation, which a gradient penalty forbids (Gulrajani et al. 2017, section
    4), and with leaky rectifiers, as in DCGAN.
    """

    def __init__(self, n_tokens: int, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(channels * 2**i, channels * 2 ** (i + 1), KERNEL, stride=2, padding=1)
            for i in range(2)
        )
        quarter = -(-n_tokens // 4)
        self.funnel = Funnel(quarter, 4 * channels, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the row's state."""
        x = x.transpose(1, 2)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
        out: Tensor = self.funnel(x)
        return out


class Places(nn.Module):
    """Features of O offsets, each beside its token: (B, 2 O) -> (B, T, C), zero for other tokens.

    Parameters
    ----------
    parents : (O,) int64
        The token of each offset.
    n_tokens, channels : int
    """

    at: Tensor

    def __init__(self, parents: npt.NDArray[np.int64], n_tokens: int, channels: int) -> None:
        super().__init__()
        at = np.zeros((n_tokens, len(parents)), np.float32)
        at[parents, np.arange(len(parents))] = 1
        self.register_buffer("at", torch.from_numpy(at), persistent=False)
        self.weight = nn.Parameter(torch.empty(len(parents), 2, channels))
        nn.init.normal_(self.weight, std=0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Return the sequence; the first O features are one of each offset, so are the others."""
        pairs = features.reshape(len(features), 2, -1)
        return torch.einsum("to,bfo,ofc->btc", self.at, pairs, self.weight)
