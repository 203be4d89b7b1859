"""What training would cost on this device: a second of real steps on random rows of the layout."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from synthgen.config import TrainConfig
from synthgen.encode.column import EncodedTable, Layout
from synthgen.gan.nets import MLP, Critic, Form, Generator, d_row
from synthgen.gan.rows import RowAdversary
from synthgen.gan.train import (
    MAX_VALIDATION,
    Plan,
    Record,
    fit_detail,
    fit_skeleton,
    new_generator,
    plan,
)
from synthgen.rng import stream

#: Seconds of real steps.
CALIBRATION = 1.0
#: Steps of the adversarial part; so few, because they cannot be cut by the clock.
DETAIL_STEPS = 6
#: Cost of a held-out row, forward only, as a share of a row of a training step.
FORWARD = 1 / 3
#: Copies of the weights that training holds: new, averaged, best, gradient, two moments of AdamW,
#: and two more while a checkpoint is written.
COPIES = 8
#: Numbers a row that a step keeps for each logit, and for each unit of each layer.
LIVE_LOGITS, LIVE_UNITS = 4, 12
FLOAT = 4


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, which a busy machine stretches, and of processor time."""

    clock: float = 0.0
    cpu: float = 0.0

    def times(self, factor: float) -> Spent:
        """Return both, `factor` times."""
        return Spent(self.clock * factor, self.cpu * factor)

    def plus(self, other: Spent) -> Spent:
        """Return the sums."""
        return Spent(self.clock + other.clock, self.cpu + other.cpu)


class Stopwatch:
    """What was spent between laps."""

    def __init__(self) -> None:
        self._last = Spent(time.perf_counter(), time.process_time())

    def lap(self) -> Spent:
        """Return what was spent since the last lap."""
        before, self._last = self._last, Spent(time.perf_counter(), time.process_time())
        return self._last.plus(before.times(-1))


@dataclass(frozen=True)
class Cost:
    """What one training takes.

    Attributes
    ----------
    sizes : Plan
    parameters : int
        Of the generator.
    spent : Spent
        Of both parts, if training is not cut short by patience.
    memory : int
        Bytes on the device: rows, weights and their copies, and one step.
    """

    sizes: Plan
    parameters: int
    spent: Spent
    memory: int


def calibrate(
    layout: Layout,
    n_rows: int,
    config: TrainConfig,
    device: torch.device,
    *,
    start: Generator | None = None,
) -> tuple[Cost, Generator]:
    """Time real steps on random rows; return the cost, and a generator of that size, not trained.

    Parameters
    ----------
    layout : Layout
    n_rows : int
        Training rows, at least 2.
    config : TrainConfig
    device : torch.device
    start : Generator, optional
        What training goes on from: it decides width, depth and, unless asked for, steps.
    """
    sizes = plan(config, layout, n_rows, start=start)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        generator = new_generator(layout, config, sizes).to(device)
        a_step = _skeleton_step(generator, layout, config, sizes, device)
        a_critic_step = _detail_step(generator, layout, config, sizes, device)
    scored = min(MAX_VALIDATION, n_rows // 20) * sizes.steps / sizes.evaluate_every
    steps = sizes.steps + FORWARD * scored / sizes.batch_size
    spent = a_step.times(steps).plus(a_critic_step.times(sizes.critic_steps))
    if config.max_minutes is not None:
        most = 60 * config.max_minutes * 1.2  # the detail part may take a fifth more
        spent = spent.times(min(1.0, most / spent.clock))
    parameters = sum(p.numel() for p in generator.parameters())
    form = Form.of(config)
    cost = Cost(sizes, parameters, spent, memory(layout, n_rows, sizes, parameters, form))
    return cost, generator.eval()


def memory(layout: Layout, n_rows: int, sizes: Plan, parameters: int, form: Form = MLP) -> int:
    """Return the bytes that training `n_rows` rows holds at its peak, but for the libraries."""
    n_tokens, n_offsets = len(layout.sizes), len(layout.offset_parents)
    # Encoded rows (int16, float32): all, and those not held out.
    rows = n_rows * (n_tokens * (2 + 2) + n_offsets * (4 + 4))
    units = max(sizes.width, math.prod(d_row(layout, sizes.width, form)))
    live = LIVE_LOGITS * layout.width + LIVE_UNITS * units * (sizes.depth + 1)
    seen = max(sizes.batch_size, min(MAX_VALIDATION, n_rows // 20))
    return rows + FLOAT * (COPIES * parameters + seen * live)


def device_memory(device: torch.device) -> int | None:
    """Return the bytes that are free on a GPU; None for a CPU, which has no memory of its own."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None


def random_rows(layout: Layout, n: int) -> EncodedTable:
    """Return `n` rows of uniform tokens and offsets: of the right form, and of no table."""
    rng = stream(0, "calibrate")
    tokens = rng.integers(0, layout.sizes, (n, len(layout.sizes))).astype(np.int32)
    offsets = rng.random((n, len(layout.offset_parents)), np.float32)
    return EncodedTable(tokens, offsets, layout)


def _skeleton_step(
    generator: Generator, layout: Layout, config: TrainConfig, sizes: Plan, device: torch.device
) -> Spent:
    """Return what one step takes; of the second run, since the first one warms up."""
    rows = random_rows(layout, 4 * sizes.batch_size)
    tokens = torch.from_numpy(rows.tokens).to(device, torch.int64)
    noise = torch.Generator(device).manual_seed(0)
    records: list[Record] = []
    watch = Stopwatch()
    # No step is scored but the last one, and that on no rows.
    quiet = replace(sizes, steps=2**40, evaluate_every=2**40)
    for budget in (CALIBRATION / 4, CALIBRATION):
        watch.lap()
        adversary = RowAdversary.wanted(layout, sizes.width, config, device)
        fit_skeleton(
            generator.skeleton,
            tokens,
            tokens[:0],
            config,
            quiet,
            noise,
            budget,
            records.append,
            adversary=adversary,
        )
    return watch.lap().times(1 / int(records[-1]["step"]))


def _detail_step(
    generator: Generator, layout: Layout, config: TrainConfig, sizes: Plan, device: torch.device
) -> Spent:
    """Return what one step of the adversarial part takes; nothing where there is none."""
    if generator.detail is None:
        return Spent()
    rows = random_rows(layout, 4 * sizes.batch_size)
    tokens = torch.from_numpy(rows.tokens).to(device, torch.int64)
    offsets = torch.from_numpy(rows.offsets).to(device)
    noise = torch.Generator(device).manual_seed(0)
    critic = Critic(layout, generator.detail.width, config).to(device)
    for n in (1, DETAIL_STEPS):
        watch = Stopwatch()
        few = replace(sizes, critic_steps=n)
        fit_detail(
            generator.detail, critic, tokens, offsets, config, few, noise, np.inf, lambda r: None
        )
        spent = watch.lap()
    return spent.times(1 / DETAIL_STEPS)
