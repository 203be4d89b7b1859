"""What goes together in a row: levels of two tokens, and cells that are missing where others are.

Both say, before a token is drawn, what the tokens that are shown leave to it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

#: What is added to a logit of what must not be: finite, so that no sum is NaN.
IMPOSSIBLE = -1e9
#: What is added where cells are missing against a rule: no such row is drawn, but where known cells
#: contradict each other any is likelier than what is impossible.
UNLIKELY = -50.0
#: Some rows of a block.
Rows = Tensor | slice
ALL = slice(None)


class Left:
    """What the tokens that are shown leave to those of their pairs that are not, row by row.

    Two numbers can allow some group each, and none together: so a level that leaves a partner
    without any is not drawn (forward checking, Haralick & Elliott 1980).

    Parameters
    ----------
    partners : mapping of token to mapping of token to Tensor (L_other, L)
        `Restriction.partners`.
    rules : mapping of token to Tensor (L,) or (B, L)
        Log weights of a token by itself.
    n_rows : int
        B.
    """

    def __init__(
        self,
        partners: Mapping[int, Mapping[int, Tensor]],
        rules: Mapping[int, Tensor],
        n_rows: int,
    ) -> None:
        self._partners, self._rules = partners, rules
        self._left: dict[int, Tensor] = {}
        self._shown: dict[int, Tensor] = {}
        for token, others in partners.items():
            by_level = next(iter(others.values()))
            self._left[token] = by_level.new_zeros(n_rows, by_level.shape[1])
            self._shown[token] = torch.zeros(n_rows, 1, dtype=torch.bool, device=by_level.device)

    def weights(self, token: int, rows: Rows = ALL) -> Tensor | float:
        """Return the log weights (R, L) that are added to those of a token's own rule."""
        if token not in self._partners:
            return 0.0
        weights = self._left[token][rows]
        for other, by_level in self._partners[token].items():
            left = self._left[other]
            left = _possible(left + self._rules[other] if other in self._rules else left)
            fits = left[rows].float() @ _possible(by_level).float() > 0
            weights = torch.where(fits | self._shown[other][rows], weights, weights + IMPOSSIBLE)
        return weights

    def show(self, token: int, levels: Tensor, rows: Rows = ALL) -> None:
        """Let some rows show a token with levels (R,)."""
        if token in self._partners:
            self._shown[token][rows] = True
            for other in self._partners[token]:
                self._left[other][rows] += self._partners[other][token][levels]

    def take(self, rows: Tensor) -> None:
        """Let the block consist of copies of these rows."""
        for kept in (self._left, self._shown):
            kept.update({token: values[rows] for token, values in kept.items()})


class Absent:
    """Cells that are missing wherever others are, of which some are shown.

    Parameters
    ----------
    absent : (C, C) bool
        Whether the second coarse token is missing (level 0) wherever the first is; closed.
    """

    def __init__(self, absent: npt.NDArray[np.bool_], device: torch.device) -> None:
        self._then = torch.from_numpy(absent).to(device)
        self._because = self._then.T.contiguous()
        self._tied: set[int] = set(np.flatnonzero((absent | absent.T).any(axis=1)).tolist())

    def weigh(self, logits: Tensor, token: int | Tensor, tokens: Tensor, shown: Tensor) -> Tensor:
        """Return the logits (..., L) of coarse tokens, given the `tokens` (..., T) shown.

        `token`, or (..., 1) of them, and `shown`, (T,) or (..., T), need only broadcast.
        """
        if not self._tied or (isinstance(token, int) and token not in self._tied):
            return logits
        n_coarse = len(self._then)
        shown, gone = shown[..., :n_coarse], tokens[..., :n_coarse] == 0
        must = (gone & (shown & self._because[token])).any(dim=-1, keepdim=True)
        cannot = (~gone & (shown & self._then[token])).any(dim=-1, keepdim=True)
        missing = torch.arange(logits.shape[-1], device=logits.device) == 0
        return logits + torch.where(missing, cannot, must) * UNLIKELY


def log_weights(weights: npt.NDArray[np.float64], device: torch.device) -> Tensor:
    """Return log weights as they are added to logits: finite, so that no sum of them is NaN."""
    floats = torch.from_numpy(np.ascontiguousarray(weights))
    return floats.to(device, torch.float32).clamp(min=IMPOSSIBLE)


def _possible(weights: Tensor) -> Tensor:
    return weights > IMPOSSIBLE / 2
