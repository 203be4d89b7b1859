"""Training: first the skeleton by its conditional cross-entropy, then the offsets by a WGAN-GP.

Both loops are flat, because their order is their meaning. Training losses do not say when to stop:
a score on validation rows does. These are taken from the training rows, never from the holdout,
which stays fresh for the gate.

The learning rate falls to zero, and the weights at its end are worth more than those with the best
score on the way (king: C2ST .836 against .872), although the score has risen a little by then. So
a score that has become clearly worse does not stop training: it brings forward its end.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from synthgen.config import PRESETS, TrainConfig
from synthgen.encode.column import EncodedTable, Layout
from synthgen.errors import TrainingError
from synthgen.gan.condition import random_known, unknown_mean
from synthgen.gan.losses import LOSSES, Loss
from synthgen.gan.nets import Critic, Detail, Generator, Skeleton
from synthgen.gan.regularizers import REGULARIZERS, Regularizer
from synthgen.rng import derive

Log = Callable[[dict[str, float | int | str]], None]

WARM_UP = 100
LOG_EVERY = 20
MAX_VALIDATION = 2_048
#: A validation score this much above the best one means that the generator learns rows by heart.
OVERFIT = 1.03
#: What is left of training, as a share of what was made, once rows are learnt by heart.
LANDING = 0.25
#: Passes over the rows of a small table.
EPOCHS = 80
#: Rounds of bad luck (not finite, rolled back) that training survives.
MAX_ROLLBACKS = 3


@dataclass(frozen=True)
class Plan:
    """What None in a `TrainConfig` stands for, given rows and tokens.

    Attributes
    ----------
    steps, critic_steps, batch_size, width, depth, evaluate_every : int
    """

    steps: int
    critic_steps: int
    batch_size: int
    width: int
    depth: int
    evaluate_every: int


def plan(config: TrainConfig, layout: Layout, n_rows: int) -> Plan:
    """Choose sizes from rows and tokens: capacity grows slowly with both, steps with the rows.

    The figures come from adult, bank and king (10k to 23k rows, 15 to 30 tokens); docs/model.md.
    """
    n_tokens = len(layout.sizes)
    batch = config.batch_size or int(2 ** np.clip(round(math.log2(n_rows / 24 + 1)), 4, 9))
    full = EPOCHS * min(n_rows, 16_000) / batch * max(1.0, n_rows / 16_000) ** 0.25
    steps = max(300, round(full)) if config.steps is None else config.steps
    width = config.width or (256 if n_rows >= 3_000 else 128)
    depth = config.depth or (3 if n_tokens > 24 and n_rows >= 3_000 else 2)
    default_critic = min(steps // 5, 400) if len(layout.offset_parents) else 0
    critic = default_critic if config.critic_steps is None else config.critic_steps
    return Plan(
        steps=steps,
        critic_steps=critic if len(layout.offset_parents) else 0,
        batch_size=min(batch, max(2, n_rows)),
        width=width,
        depth=depth,
        evaluate_every=config.evaluate_every or max(1, steps // 15),
    )


def fit(
    table: EncodedTable,
    config: TrainConfig,
    *,
    seed: int,
    device: torch.device,
    log: Log = lambda record: None,
) -> Generator:
    """Train a generator on encoded rows.

    Parameters
    ----------
    table : EncodedTable
        N >= 2 rows; a share of them serves as validation.
    config : TrainConfig
    seed : int
        With a CPU device, equal seeds give equal weights.
    device : torch.device
    log : callable
        Receives one record for every `LOG_EVERY` steps.

    Raises
    ------
    TrainingError
        If no step could be made, or losses stay not finite.
    """
    layout = table.layout
    sizes = plan(config, layout, len(table))
    budget = math.inf if config.max_minutes is None else 60 * config.max_minutes
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # Initial weights and dropout draw from torch's own stream: seeded here, restored after.
        torch.manual_seed(derive(seed, "torch"))
        return _fit(table, config, sizes, seed, device, budget, log)


def _fit(
    table: EncodedTable,
    config: TrainConfig,
    sizes: Plan,
    seed: int,
    device: torch.device,
    budget: float,
    log: Log,
) -> Generator:
    layout = table.layout
    generator = Generator(
        layout,
        width=sizes.width,
        depth=sizes.depth,
        latent=config.latent,
        detail=sizes.critic_steps > 0,
        dropout=config.dropout,
    ).to(device)
    noise = torch.Generator(device).manual_seed(derive(seed, "train"))
    tokens = torch.from_numpy(table.tokens).to(device, torch.int64)
    offsets = torch.from_numpy(table.offsets).to(device)
    order = torch.randperm(len(table), generator=noise, device=device)
    n_validation = min(MAX_VALIDATION, len(table) // 20)
    held, kept = order[:n_validation], order[n_validation:]
    if sizes.steps < 1 or len(kept) < 1:
        raise TrainingError("zero training steps would return an untrained generator")
    kept_tokens, kept_offsets = tokens[kept], offsets[kept]
    generator.skeleton = fit_skeleton(
        generator.skeleton, kept_tokens, tokens[held], config, sizes, noise, budget, log
    )
    if generator.detail is not None:
        critic = Critic(layout, generator.detail.width).to(device)
        generator.detail = fit_detail(
            generator.detail, critic, kept_tokens, kept_offsets, config, sizes, noise, budget, log
        )
    return generator.eval()


def fit_skeleton(
    skeleton: Skeleton,
    tokens: Tensor,
    held: Tensor,
    config: TrainConfig,
    sizes: Plan,
    noise: torch.Generator,
    budget: float,
    log: Log,
) -> Skeleton:
    """Minimise the conditional cross-entropy; return the averaged weights at the end.

    `budget` is in seconds. Progress runs from 0 to 1 over the planned steps, or faster: with the
    clock where time is short, and once the score on the `held` rows says that rows are learnt by
    heart.
    """
    device, n_tokens = tokens.device, tokens.shape[1]
    averaged = copy.deepcopy(skeleton).requires_grad_(False).eval()
    good = copy.deepcopy(averaged)
    optimizer = torch.optim.AdamW(
        skeleton.parameters(),
        lr=config.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=config.weight_decay,
        fused=True,
    )
    # The same masks for every evaluation, so that scores differ by the weights only.
    score_noise = torch.Generator(device).manual_seed(noise.initial_seed() ^ 1)
    masks = random_known(len(held), n_tokens, skeleton.n_coarse, score_noise, device)
    rows = _batches(len(tokens), sizes.batch_size, noise, device)
    place: dict[str, float | int | str] = {"phase": "skeleton", "steps": sizes.steps}
    best_score, waited, rollbacks, rate = math.inf, 0, 0, 1.0
    step, progress, pace, started = 0, 0.0, 1.0 / sizes.steps, time.monotonic()
    while progress < 1 - 1e-9:
        learning_rate = rate * config.learning_rate * _schedule(step, progress)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        batch = tokens[next(rows)]
        known, split = random_known(len(batch), n_tokens, skeleton.n_coarse, noise, device)
        loss = skeleton_loss(skeleton, batch, known, split)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        _average(averaged, skeleton, config.ema if step > WARM_UP else 0.9)
        step += 1
        seconds = time.monotonic() - started
        progress = max(progress + pace, seconds / budget)
        last = progress >= 1 - 1e-9

        if step % LOG_EVERY == 0 or last:
            log({**place, "step": step, "loss": loss.item(), "seconds": round(seconds, 3)})
        if step % sizes.evaluate_every and not last:
            continue
        score = loss.item()
        if len(held):
            with torch.no_grad():
                score = skeleton_loss(averaged, held, *masks).item()
        if not math.isfinite(score):
            rollbacks, rate = rollbacks + 1, rate / 2
            if rollbacks > MAX_ROLLBACKS:
                raise TrainingError("the loss stays not finite; try a lower learning_rate")
            skeleton.load_state_dict(good.state_dict())
            averaged.load_state_dict(good.state_dict())
            optimizer.state.clear()
            continue
        log({**place, "step": step, "holdout_loss": score})
        good.load_state_dict(averaged.state_dict())
        best_score = min(best_score, score)
        waited = waited + 1 if score > OVERFIT * best_score else 0
        if waited == config.patience:
            pace = max(pace, (1 - progress) / max(1.0, LANDING * step))
    if not math.isfinite(best_score):
        raise TrainingError("no finite score was reached; try a lower learning_rate")
    return averaged if math.isfinite(score) else good


def skeleton_loss(skeleton: Skeleton, tokens: Tensor, known: Tensor, split: int) -> Tensor:
    """Return the mean cross-entropy in nats of an unknown token, over (B, T) tokens; a scalar."""
    c = skeleton.n_coarse
    coarse = skeleton.losses(tokens[:split], known[:split], fine=False)
    total = unknown_mean(coarse, known[:split, :c]).sum()
    if split < len(tokens):
        fine = skeleton.losses(tokens[split:], known[split:], fine=True)
        total = total + unknown_mean(fine, known[split:, c:]).sum()
    return total / len(tokens)


def fit_detail(
    detail: Detail,
    critic: Critic,
    tokens: Tensor,
    offsets: Tensor,
    config: TrainConfig,
    sizes: Plan,
    noise: torch.Generator,
    budget: float,
    log: Log,
) -> Detail:
    """Train the offset generator against the critic, given true tokens; return averaged weights.

    `budget` is in seconds: this part takes a fifth of what the skeleton may take.
    """
    started = time.monotonic()
    preset = PRESETS[config.preset]
    loss = LOSSES[preset["loss"]]
    regularizer = REGULARIZERS[preset["regularizer"]](config.gradient_penalty)
    regularizer.prepare(critic)
    device, batch_size = tokens.device, sizes.batch_size
    averaged = copy.deepcopy(detail).requires_grad_(False)
    options = {"betas": (0.5, 0.9), "fused": True}
    generator_step = torch.optim.Adam(detail.parameters(), lr=5e-4, **options)  # type: ignore[arg-type]
    critic_step = torch.optim.Adam(critic.parameters(), lr=1e-3, **options)  # type: ignore[arg-type]
    rows = _batches(len(tokens), batch_size, noise, device)

    def draw(condition: Tensor) -> Tensor:
        shape = (len(condition), detail.d_latent)
        latent = torch.randn(shape, generator=noise, device=device)
        out: Tensor = detail(condition, latent)
        return out

    for step in range(1, sizes.critic_steps + 1):
        for _ in range(config.n_critic):
            chosen = next(rows)
            condition, real = tokens[chosen], offsets[chosen]
            with torch.no_grad():
                fake = draw(condition)
            eps = torch.rand(len(real), 1, generator=noise, device=device)
            critic_loss = critic_objective(critic, loss, regularizer, condition, real, fake, eps)
            critic_step.zero_grad(set_to_none=True)
            critic_loss.mean().backward()  # type: ignore[no-untyped-call]
            critic_step.step()
            regularizer.project(critic)

        condition = tokens[next(rows)]
        generator_loss = loss.generator(critic(draw(condition), critic.given(condition))).mean()
        generator_step.zero_grad(set_to_none=True)
        generator_loss.backward()  # type: ignore[no-untyped-call]
        generator_step.step()
        _average(averaged, detail, config.ema if step > WARM_UP else 0.9)

        if step % LOG_EVERY == 0 or step == sizes.critic_steps:
            losses = {"critic_loss": critic_loss.mean().item()}
            losses["generator_loss"] = generator_loss.item()
            if not all(map(math.isfinite, losses.values())):
                raise TrainingError("the adversarial losses are not finite; try critic_steps = 0")
            log({"phase": "detail", "step": step, "steps": sizes.critic_steps, **losses})
        if time.monotonic() - started > budget / 5:
            break
    return averaged


def critic_objective(
    critic: Critic,
    loss: Loss,
    regularizer: Regularizer,
    tokens: Tensor,
    real: Tensor,
    fake: Tensor,
    eps: Tensor,
) -> Tensor:
    """Return the critic's loss of each example, (B,): the one function that every stepper uses."""
    condition = critic.given(tokens)

    def score(offsets: Tensor) -> Tensor:
        out: Tensor = critic(offsets, condition)
        return out

    return loss.critic(score(real), score(fake)) + regularizer.penalty(score, real, fake, eps)


def _batches(
    n_rows: int, batch_size: int, noise: torch.Generator, device: torch.device
) -> Iterator[Tensor]:
    """Yield row indices for ever: each epoch is a new permutation, in batches of equal size."""
    size = min(batch_size, n_rows)
    while True:
        order = torch.randperm(n_rows, generator=noise, device=device)
        for start in range(0, n_rows - size + 1, size):
            yield order[start : start + size]


def _schedule(step: int, progress: float) -> float:
    """Return the factor of the learning rate: a short warm-up, then half a cosine to zero."""
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def _average(averaged: nn.Module, new: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(averaged.parameters()), list(new.parameters()), 1 - decay)
