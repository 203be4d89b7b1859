"""Which tokens of a row are known, in training and in sampling.

In training each row shows k ~ uniform {0 .. T-1} of its T tokens, chosen at random, coarse before
fine. So the fitted generator answers p(unknown | any known), and conditional sampling is exact by
construction. CTGAN's condition, one category of one column, is the special case k = 1. Rows are
drawn at their true frequency: there is no training-by-sampling.
"""

from __future__ import annotations

import torch
from torch import Tensor


def random_known(
    n_rows: int, n_tokens: int, n_coarse: int, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, int]:
    """Draw which tokens are known.

    Returns
    -------
    known : (B, T) bool
        The first `split` rows are asked for coarse tokens, the others, with every coarse token
        known, for fine ones. Each row has at least one unknown token among those it is asked for.
    split : int
    """
    n_fine = n_tokens - n_coarse
    split = n_rows if n_fine == 0 else round(n_rows * n_coarse / n_tokens)
    known = torch.zeros(n_rows, n_tokens, dtype=torch.bool, device=device)
    known[split:, :n_coarse] = True
    for rows, columns in (
        (slice(0, split), slice(0, n_coarse)),
        (slice(split, n_rows), slice(n_coarse, n_tokens)),
    ):
        block = known[rows, columns]
        if block.numel():
            n, width = block.shape
            ranks = torch.rand(n, width, generator=generator, device=device).argsort(dim=1)
            n_known = torch.rand(n, 1, generator=generator, device=device) * width
            known[rows, columns] = ranks < n_known.long()
    return known, split


def unknown_mean(losses: Tensor, known: Tensor) -> Tensor:
    """Return each row's mean of (B, C) `losses` over its unknown tokens, (B,).

    Times the number of tokens it is an unbiased estimate of the row's negative log-likelihood bound
    (Hoogeboom et al. 2022, eq. 4).
    """
    unknown = (~known).to(losses.dtype)
    return (losses * unknown).sum(dim=1) / unknown.sum(dim=1)
