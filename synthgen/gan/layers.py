"""What the networks compute at every step, in as few passes over memory as it takes.

A step of training is many small operations on a CPU, and many small kernels on a GPU. So the
cross-entropies of all tokens are one product, and a random number decides eight times in dropout.
Both are the textbook's definitions otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

#: A logit this far below the row's highest one counts as this far: its share stays above zero.
DEEPEST = 80.0


def dropped(x: Tensor, share: float) -> Tensor:
    """Return `x` with each element set to 0 with probability `share`, the others scaled up.

    Srivastava et al. 2014. NOTE[DIFF]: the probability is the nearest multiple of 1 / 256, and the
    scale is that of this probability: a byte decides. Random numbers come from torch's own stream.
    """
    cut = min(255, round(256 * share))
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
    words.random_(-(2**63), None)
    keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= cut
    return x * keep * (256 / (256 - cut))


class Choices(nn.Module):
    """Several tokens whose logits stand side by side, (B, W): one distribution a token.

    Attributes
    ----------
    sizes : list of int
        Levels of each of the C tokens; W is their sum.
    starts : (C,) int64
        First column of each.
    members : (W, C) float32
        1 where a column belongs to a token.
    """

    starts: Tensor
    members: Tensor

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = list(sizes)
        tokens = np.arange(len(sizes))
        members = np.repeat(tokens, self.sizes)[:, None] == tokens
        starts = np.cumsum([0, *self.sizes])[:-1]
        self.register_buffer("members", torch.from_numpy(members).float(), persistent=False)
        self.register_buffer("starts", torch.from_numpy(starts), persistent=False)

    def split(self, logits: Tensor) -> list[Tensor]:
        """Return the logits (B, size) of each token."""
        return list(torch.split(logits, self.sizes, dim=1))

    def cross_entropies(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Return the cross-entropy in nats (B, C) of C tokens (B, C) int64 by their logits (B, W).

        All sums of exponentials are one product, in float32 at least. They share the row's highest
        logit, below which a logit counts as `DEEPEST` at most: a token that the others outbid stays
        finite.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        highest = logits.detach().amax(dim=1, keepdim=True)
        shifted = (logits - highest).clamp(min=-DEEPEST)
        with torch.autocast(logits.device.type, enabled=False):
            sums = shifted.exp() @ self.members.to(shifted.dtype)
        return sums.log() - shifted.gather(1, tokens + self.starts)
