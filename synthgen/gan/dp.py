"""Clipped and noised steps of the skeleton's conditional likelihood (Abadi et al. 2016, DP-SGD).

The objective is the plain one, per row. Each row's gradient is clipped to a norm, over all weights
jointly; the sum gets noise and is divided by a public expected batch size. Norms come in closed
form from one backward pass (Goodfellow 2015; Lee & Kifer 2021): a row has one vector at each layer,
so no gradient of a single row is ever built.

Rows enter by Poisson sampling and nowhere else: there is no validation score, no early stop, no
best checkpoint, and no loss is logged.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthgen.dp.noise import Noise
from synthgen.gan.condition import random_known, unknown_mean
from synthgen.gan.nets import Block, Skeleton

Record = dict[str, float | int | str]
LOG_EVERY = 20
#: Rows whose gradients are clipped at once.
CHUNK = 1_024
#: Gradients are clipped a little below the norm that the noise is for: norms and sums are rounded.
ROUNDING = 1e-3


@dataclass(frozen=True)
class Steps:
    """What noised training is made of; public, fixed before it starts.

    Attributes
    ----------
    n_steps : int
    rate : float
        Probability that a row takes part in a step.
    noise_multiplier : float
        Standard deviation of the noise over `max_grad_norm`.
    max_grad_norm : float
    expected_batch : float
        Public divisor: rate times the noisy number of rows.
    learning_rate : float
    """

    n_steps: int
    rate: float
    noise_multiplier: float
    max_grad_norm: float
    expected_batch: float
    learning_rate: float = 2e-3


def train_privately(
    skeleton: Skeleton,
    tokens: Tensor,
    steps: Steps,
    noise: Noise,
    log: Callable[[Record], None] = lambda record: None,
) -> Skeleton:
    """Take noised steps; return the averaged weights. All of them are post-processing.

    Parameters
    ----------
    skeleton : Skeleton
        Of residual blocks (``architecture = "mlp"``), without dropout.
    tokens : (N, T) int64
        Private rows.

    Notes
    -----
    Which tokens are known is drawn row after row. With a stream that somebody knows, one row more
    would shift the masks of all after it, and with them their gradients; so its seed is secret.
    """
    masks = torch.Generator().manual_seed(noise.secret_seed())
    parameters = list(skeleton.parameters())
    averaged = copy.deepcopy(skeleton)
    optimizer = torch.optim.Adam(parameters, lr=steps.learning_rate, betas=(0.9, 0.99))
    for step in range(1, steps.n_steps + 1):
        chosen = torch.from_numpy(noise.poisson(len(tokens), steps.rate))
        known = _known(skeleton, tokens[chosen], masks)
        gradients = noised_mean(skeleton, tokens[chosen], known, steps, noise)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        for group in optimizer.param_groups:
            group["lr"] = steps.learning_rate * _schedule(step / steps.n_steps)
        optimizer.step()
        with torch.no_grad():
            decay = min(0.99, step / (step + 10))
            for kept, new in zip(averaged.parameters(), parameters, strict=True):
                kept.lerp_(new, 1 - decay)
        if step % LOG_EVERY == 0 or step == steps.n_steps:
            log({"phase": "skeleton", "step": step, "steps": steps.n_steps})
    return averaged


def noised_mean(
    skeleton: Skeleton, tokens: Tensor, known: Tensor, steps: Steps, noise: Noise
) -> list[Tensor]:
    """Return the clipped sum with noise, over the expected batch; all that a step may know."""
    std = steps.noise_multiplier * steps.max_grad_norm
    summed = clipped_sum(skeleton, tokens, known, steps.max_grad_norm)
    return [
        ((g.double() + _normal(noise, std, g.shape)) / steps.expected_batch).to(g.dtype)
        for g in summed
    ]


def pretrain(
    skeleton: Skeleton, draw: Callable[[int], Tensor], n_steps: int, masks: torch.Generator
) -> None:
    """Fit the skeleton, in place, to rows drawn from released counts: post-processing, free.

    `draw` gives (B, T) int64 tokens.
    """
    optimizer = torch.optim.Adam(skeleton.parameters(), lr=2e-3, betas=(0.9, 0.99))
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * _schedule(step / n_steps)
        loss = row_losses(skeleton, draw(512), masks).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@torch.no_grad()
def calibrate(
    skeleton: Skeleton, sample: Callable[[], Tensor], marginals: Iterable[np.ndarray], rounds: int
) -> None:
    """Move the skeleton's biases until what it draws has the released one-way counts: free.

    `sample` draws (B, T) tokens from the skeleton as it is; `marginals` are (L,) each.
    """
    wanted = [torch.from_numpy(m / m.sum()).float() for m in marginals]
    for done in range(rounds):
        tokens = sample()
        for t, target in enumerate(wanted):
            got = torch.bincount(tokens[:, t], minlength=len(target)).float()
            got = (got + 1) / (got.sum() + len(got))
            shift = (target.clamp(min=1e-6) / got).log().clamp(-2, 2) * (0.8 / (1 + 0.3 * done))
            start = skeleton.starts[t]
            skeleton.bias[start : start + len(target)] += shift


def row_losses(skeleton: Skeleton, tokens: Tensor, masks: torch.Generator) -> Tensor:
    """Return the plain objective of each row, (B,), for random known subsets."""
    known = _known(skeleton, tokens, masks)
    return unknown_mean(skeleton.cross_entropies(tokens, known), known)


def _known(skeleton: Skeleton, tokens: Tensor, masks: torch.Generator) -> Tensor:
    n_rows, n_tokens = tokens.shape
    return random_known(n_rows, n_tokens, skeleton.n_coarse, masks, tokens.device)[0]


def clipped_sum(skeleton: Skeleton, tokens: Tensor, known: Tensor, max_norm: float) -> list[Tensor]:
    """Return the sum over rows of their gradients, each clipped to `max_norm`; one per parameter.

    A row whose gradient is not finite contributes nothing. An empty batch gives zeros. Long batches
    are summed in chunks: no row is left out.
    """
    total = [torch.zeros_like(p) for p in skeleton.parameters()]
    for first in range(0, len(tokens), CHUNK):
        rows, shown = tokens[first : first + CHUNK], known[first : first + CHUNK]
        for into, part in zip(total, _clipped(skeleton, rows, shown, max_norm), strict=True):
            into += part
    return total


def _clipped(skeleton: Skeleton, tokens: Tensor, known: Tensor, max_norm: float) -> list[Tensor]:
    """Return the sum of clipped gradients; what is not finite is halved until its row is alone."""
    parameters = list(skeleton.parameters())
    losses, norms = losses_and_norms(skeleton, tokens, known)
    factor = (max_norm * (1 - ROUNDING) / norms.clamp(min=1e-12)).clamp(max=1)
    found = torch.autograd.grad((losses * factor).sum(), parameters, allow_unused=True)
    summed = [
        torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)
    ]
    if all(bool(torch.isfinite(g).all()) for g in summed):
        return summed
    if len(tokens) == 1:
        return [torch.zeros_like(p) for p in parameters]
    half = len(tokens) // 2
    first = _clipped(skeleton, tokens[:half], known[:half], max_norm)
    second = _clipped(skeleton, tokens[half:], known[half:], max_norm)
    return [a + b for a, b in zip(first, second, strict=True)]


def losses_and_norms(skeleton: Skeleton, tokens: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss (B,), with its graph, and the norm (B,) of the gradient of each row."""
    taps: list[tuple[nn.Module, Tensor, Tensor]] = []
    with _tapped(skeleton, taps):
        embedded = skeleton.tokens(tokens, known)
        hidden = skeleton.trunk(embedded)
        logits = F.linear(hidden, skeleton.head(), skeleton.bias)
    losses = unknown_mean(skeleton.coarse.cross_entropies(logits, tokens), known)
    outputs = [embedded, logits, *(output for _, _, output in taps)]
    slopes = torch.autograd.grad(losses.sum(), outputs, retain_graph=True)
    with torch.no_grad():
        squares = _embedding_square(skeleton, tokens, known, slopes[0])
        squares += _head_square(skeleton, hidden, slopes[1])
        for (module, x, _), slope in zip(taps, slopes[2:], strict=True):
            squares += _layer_square(module, x, slope)
    return losses, squares.sqrt()


class _tapped:
    """Collect module, input and output of every layer of the blocks while inside."""

    def __init__(self, skeleton: Skeleton, taps: list[tuple[nn.Module, Tensor, Tensor]]) -> None:
        self._skeleton, self._taps = skeleton, taps

    def __enter__(self) -> None:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            self._taps.append((module, inputs[0], output))

        layers = [
            layer
            for block in self._skeleton.blocks
            if isinstance(block, Block)
            for layer in (block.norm, block.inner, block.outer)
        ]
        self._handles = [layer.register_forward_hook(hook) for layer in layers]

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()


def _layer_square(module: nn.Module, x: Tensor, slope: Tensor) -> Tensor:
    """Return the squared norm (B,) of one layer's gradient, from its input and output's slope."""
    if isinstance(module, nn.LayerNorm):
        plain = F.layer_norm(x, module.normalized_shape, eps=module.eps)
        return ((slope * plain) ** 2).sum(dim=1) + (slope**2).sum(dim=1)
    return (slope**2).sum(dim=1) * ((x**2).sum(dim=1) + 1)


def _embedding_square(skeleton: Skeleton, tokens: Tensor, known: Tensor, slope: Tensor) -> Tensor:
    """One row of the table a token, each with the same slope, and their common smooth part."""
    index = skeleton.tokens.index(tokens, known)
    smooth = skeleton.tokens.table.basis[index].sum(dim=1)
    return (slope**2).sum(dim=1) * (tokens.shape[1] + (smooth**2).sum(dim=1))


def _head_square(skeleton: Skeleton, hidden: Tensor, slope: Tensor) -> Tensor:
    smooth = slope @ skeleton.head.basis
    own, shared = (slope**2).sum(dim=1), (smooth**2).sum(dim=1)
    return own + (own + shared) * (hidden**2).sum(dim=1)


def _normal(noise: Noise, std: float, shape: torch.Size) -> Tensor:
    return torch.from_numpy(noise.normal(std, math.prod(shape))).reshape(shape)


def _schedule(progress: float) -> float:
    """Return the factor of the learning rate: half a cosine to a tenth."""
    return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))
