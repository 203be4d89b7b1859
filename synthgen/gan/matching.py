"""One- and two-way histograms of what is drawn, held against those of the rows of the batch.

Marginal matching in a generator's loss: Fang et al. 2023 (MargCTGAN), Lu et al. 2024 (POTNet,
arXiv:2402.07753); two-way ones as targets: Liu et al. 2021 (GEM, arXiv:2106.07153). NOTE[DIFF]: a
drawn batch is not needed. Given what is known of a row the skeleton says how an unknown token is
distributed, so the histogram that draws would have, of that token and of its pairs with known ones,
is a mean of probabilities: no sampling noise, and a gradient without tricks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def histogram_distance(
    logits: list[Tensor], asked: Tensor, unknown: Tensor, tokens: Tensor, known: Tensor
) -> Tensor:
    """Return the mean squared distance between expected and true histograms; a scalar.

    Parameters
    ----------
    logits : list of C tensors (B, L)
        Of the tokens that are asked for.
    asked : (B, C) int64
        Their true levels.
    unknown : (B, C) bool
        Which of them count.
    tokens, known : (B, T)
        Every token of the rows, and which were shown: the other one of each pair.

    Returns
    -------
    scalar
        ``(sum of one-way + sum of two-way / T) / C``, where a way is the squared Euclidean distance
        of two histograms over the B rows, in shares of B.

    Notes
    -----
    With residuals ``r_i = p_i - onehot_i`` the distances are sums over pairs of rows, ``sum_ij
    <r_i, r_j> (1 + levels that i and j share / T) / B^2``: no two-way table is ever built. Its
    gradient is zero in expectation where the probabilities are right.
    """
    n_rows, n_tokens = tokens.shape
    residuals = [
        (F.softmax(block.float(), dim=1) - F.one_hot(level, block.shape[1])) * counts[:, None]
        for block, level, counts in zip(
            logits, asked.unbind(dim=1), unknown.unbind(dim=1), strict=True
        )
    ]
    residual = torch.cat(residuals, dim=1)
    shared = torch.zeros(n_rows, n_rows, device=tokens.device)
    for level, given in zip(tokens.unbind(dim=1), known.unbind(dim=1), strict=True):
        shared += (level[:, None] == level) & (given[:, None] & given)
    gram = residual @ residual.T
    return (gram * (1 + shared / n_tokens)).sum() / (n_rows**2 * len(logits))
