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
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from synthgen.config import TrainConfig
from synthgen.encode.column import EncodedTable, Layout
from synthgen.errors import ConfigError, TrainingError
from synthgen.gan.checkpoint import (
    Checkpoint,
    Saved,
    fingerprint,
    optimizer_state,
    random_state,
    restore_optimizer,
    restore_random,
)
from synthgen.gan.condition import random_known, unknown_mean
from synthgen.gan.graphs import Step, replayed
from synthgen.gan.losses import LOSSES
from synthgen.gan.matching import histogram_distance
from synthgen.gan.nets import (
    Critic,
    Detail,
    Form,
    Generator,
    Skeleton,
    TokenSequence,
    half_precision,
)
from synthgen.gan.objective import critic_objective, descend
from synthgen.gan.regularizers import REGULARIZERS
from synthgen.gan.rows import EVERY, RowAdversary
from synthgen.gan.transplant import Start
from synthgen.gan.world import ALONE, World
from synthgen.rng import derive

Record = dict[str, float | int | str]
Log = Callable[[Record], None]
#: Is shown the generator as it is, and its step, at every held-out score; must not train it.
Watch = Callable[[Generator, int], None]

WARM_UP = 100
LOG_EVERY = 20
MAX_VALIDATION = 2_048
#: A validation score this much above the best one means that the generator learns rows by heart.
OVERFIT = 1.01
#: What is left of training, as a share of what was made, once rows are learnt by heart.
LANDING = 0.25
#: From so many rows on, less dropout is enough.
MANY_ROWS = 12_000
#: Weight decay of a large table; below so many rows it grows as rows get fewer, up to a limit.
DECAY, DECAYING_ROWS, MAX_DECAY = 0.3, 5_000, 10.0
#: Held-out rows times masks that a score rests on, at least: few rows are shown more than once.
MIN_SCORED = 256
#: Passes over the rows of a small table.
EPOCHS = 120
#: The same, and the factor of the learning rate, where training starts from an earlier generator.
WARM_EPOCHS = 25
WARM_RATE = 0.25
#: Rounds of bad luck (not finite, rolled back) that training survives.
MAX_ROLLBACKS = 3
#: Fewer rows teach little: training says so.
FEW_ROWS = 1_000
OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)


@dataclass(frozen=True)
class Plan:
    """What None in a `TrainConfig` stands for, given rows and tokens.

    Attributes
    ----------
    steps, critic_steps, batch_size, width, depth, evaluate_every : int
    dropout, weight_decay : float
    rate : float
        Factor of the learning rate: a warm start takes smaller steps.
    """

    steps: int
    critic_steps: int
    batch_size: int
    width: int
    depth: int
    evaluate_every: int
    dropout: float
    rate: float = 1.0
    weight_decay: float = DECAY


def plan(
    config: TrainConfig, layout: Layout, n_rows: int, *, start: Generator | None = None
) -> Plan:
    """Choose sizes from rows and tokens: capacity grows slowly with both, steps with the rows.

    The figures come from adult, bank and king (10k to 23k rows, 15 to 30 tokens); docs/model.md.
    With `start`, training goes on from its weights: width and depth are its own.
    """
    n_tokens = len(layout.sizes)
    batch = config.batch_size or int(2 ** np.clip(round(math.log2(n_rows / 24 + 1)), 4, 9))
    epochs = EPOCHS if start is None else WARM_EPOCHS
    full = epochs * min(n_rows, 16_000) / batch * max(1.0, n_rows / 16_000) ** 0.25
    steps = max(300, round(full)) if config.steps is None else config.steps
    medium = n_rows >= 1_000 or (n_rows >= 300 and n_tokens > 24)
    width = config.width or (256 if n_rows >= 3_000 else 128 if medium else 64)
    depth = config.depth or (3 if n_tokens > 24 and n_rows >= 3_000 else 2)
    if start is not None:
        width, depth = start.skeleton.width, start.skeleton.depth
    # Fewer rows are sooner learnt by heart: king's DCR share falls from .535 to .526.
    dropout = 0.1 if n_rows >= MANY_ROWS else 0.3
    # As if the rows were weighed against a prior of fixed strength: the fewer, the more it says.
    # A warm start has a better one: the weights that it starts from.
    few = n_rows < DECAYING_ROWS and start is None
    decay = min(MAX_DECAY, 2 * DECAY * DECAYING_ROWS / max(1, n_rows)) if few else DECAY
    default_critic = min(steps // 5, 400) if config.has_critic else 0
    critic = default_critic if config.critic_steps is None else config.critic_steps
    return Plan(
        steps=steps,
        critic_steps=critic if len(layout.offset_parents) else 0,
        batch_size=min(batch, max(2, n_rows)),
        width=width,
        depth=depth,
        evaluate_every=config.evaluate_every or max(1, steps // 15),
        dropout=dropout if config.dropout is None else config.dropout,
        rate=1.0 if start is None else WARM_RATE,
        weight_decay=decay if config.weight_decay is None else config.weight_decay,
    )


def fit(
    table: EncodedTable,
    config: TrainConfig,
    *,
    seed: int,
    device: torch.device,
    log: Log = lambda record: None,
    checkpoint: Path | None = None,
    start: Start | None = None,
    world: World = ALONE,
    watch: Watch | None = None,
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
        Receives one record for every `LOG_EVERY` steps, and a record with a ``note`` where a person
        should know of something: few rows, a batch halved for memory, a training gone on with.
    checkpoint : Path, optional
        A file where training keeps its state at every held-out score and between its two parts. If
        it is there and of this very training (rows, settings, seed), training goes on from it, and
        on a CPU ends with the same weights to the bit as without the interruption.
    start : Start, optional
        An earlier generator, of its width and depth, whose weights training goes on from.
    world : World, optional
        The processes that train together: `table` holds this one's rows, a batch is made of an
        equal part from each, and all return the same weights. Without checkpoint.
    watch : callable, optional
        Is shown a copy of the generator at every held-out score of the skeleton. What it draws and
        how long it takes changes nothing of the training.

    Raises
    ------
    ConfigError
        If `config` asks for another width or depth than that of `start`.
    TrainingError
        If no step could be made, or losses stay not finite.
    """
    layout = table.layout
    if world.size > 1 and checkpoint is not None:
        raise TrainingError("several processes keep no checkpoint; train in one")
    if start is not None:
        _refuse_other_sizes(config, start.generator.skeleton)
    n_rows = round(world.mean(len(table)) * world.size)
    sizes = plan(config, layout, n_rows, start=None if start is None else start.generator)
    sizes = replace(sizes, batch_size=max(1, sizes.batch_size // world.size))
    budget = math.inf if config.max_minutes is None else 60 * config.max_minutes
    kept = None
    if checkpoint is not None:
        of = fingerprint(table, config, sizes, seed=seed, device=device, start=start)
        kept = Checkpoint(checkpoint, of)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # Initial weights and dropout draw from torch's own stream: seeded here, restored after.
        torch.manual_seed(derive(seed, "torch"))
        return _fit(table, config, sizes, seed, device, budget, log, kept, start, world, watch)


def _fit(
    table: EncodedTable,
    config: TrainConfig,
    sizes: Plan,
    seed: int,
    device: torch.device,
    budget: float,
    log: Log,
    checkpoint: Checkpoint | None,
    start: Start | None,
    world: World,
    watch: Watch | None = None,
) -> Generator:
    layout = table.layout
    saved = _resumable(checkpoint, sizes, log)
    generator = new_generator(layout, config, sizes)
    if start is not None:
        start.give(generator, layout)
    generator.to(device)
    world.share(generator)
    noise = torch.Generator(device).manual_seed(derive(seed, "train"))
    if world.rank:  # others than the first draw other noise
        noise.manual_seed(derive(seed, "train", world.rank))
        torch.manual_seed(derive(seed, "torch", world.rank))
    # As small as they come: a batch becomes int64, a big table would be four times its size.
    tokens = torch.from_numpy(table.tokens).to(device)
    offsets = torch.from_numpy(table.offsets).to(device)
    order = torch.randperm(len(table), generator=noise, device=device)
    n_validation = min(MAX_VALIDATION, len(table) // 20)
    held, kept = order[:n_validation], order[n_validation:]
    if sizes.steps < 1 or len(kept) < 1:
        raise TrainingError("zero training steps would return an untrained generator")
    if len(table) < FEW_ROWS:
        log({"phase": "skeleton", "step": 0, "steps": sizes.steps, "note": _advice(len(table))})
    kept_tokens, kept_offsets = tokens[kept], offsets[kept]
    if saved is None or saved.facts["phase"] == "skeleton":
        generator.skeleton = fit_skeleton(
            generator.skeleton,
            kept_tokens,
            tokens[held].long(),
            config,
            sizes,
            noise,
            budget,
            log,
            checkpoint,
            saved,
            RowAdversary.wanted(layout, sizes.width, config, device, world),
            world,
            None if watch is None else _shown(watch, generator, device),
        )
        if checkpoint is not None:
            groups = {"skeleton": generator.skeleton.state_dict(), "random": random_state(noise)}
            checkpoint.write(groups, {"phase": "detail", "step": sizes.steps})
    else:
        generator.skeleton.load_state_dict(saved.group("skeleton"))
        restore_random(noise, saved.group("random"))
    if generator.detail is not None:
        generator.detail = _fit_detail(
            generator.detail,
            layout,
            kept_tokens,
            kept_offsets,
            config,
            sizes,
            noise,
            budget,
            log,
            world,
        )
    world.check_equal(generator)
    return generator.eval()


def _shown(
    watch: Watch, generator: Generator, device: torch.device
) -> Callable[[Skeleton, int], None]:
    """Return what shows a skeleton to `watch`, in a copy of `generator`, random streams kept."""

    def show(skeleton: Skeleton, step: int) -> None:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            copied = copy.deepcopy(generator)
            copied.skeleton.load_state_dict(skeleton.state_dict())
            watch(copied.eval(), step)

    return show


def new_generator(layout: Layout, config: TrainConfig, sizes: Plan) -> Generator:
    """Return an untrained generator of the planned sizes; weights come from torch's own stream."""
    return Generator(
        layout,
        width=sizes.width,
        depth=sizes.depth,
        latent=config.latent,
        detail=sizes.critic_steps > 0,
        dropout=sizes.dropout,
        form=Form.of(config),
    )


def _refuse_other_sizes(config: TrainConfig, skeleton: Skeleton) -> None:
    """Raise ConfigError if the earlier generator is not of the form and sizes asked for."""
    if config.architecture != "mlp" or isinstance(skeleton.tokens, TokenSequence):
        raise ConfigError('a warm start needs architecture = "mlp", here and in its bundle')
    asked = {"width": (config.width, skeleton.width), "depth": (config.depth, skeleton.depth)}
    wrong = [
        f"train.{k} = {a}, the bundle's is {b}" for k, (a, b) in asked.items() if a not in (None, b)
    ]
    if wrong:
        raise ConfigError(
            f"a warm start keeps the sizes of its bundle: {'; '.join(wrong)}; leave them out"
        )


def _resumable(checkpoint: Checkpoint | None, sizes: Plan, log: Log) -> Saved | None:
    """Return what an earlier, interrupted call of this very training left behind; say so."""
    if checkpoint is None:
        return None
    saved = checkpoint.read()
    if saved is not None:
        note = f"training goes on from step {saved.facts['step']:,}"
        log({"phase": "skeleton", "step": saved.facts["step"], "steps": sizes.steps, "note": note})
    elif checkpoint.path.exists():
        note = "a checkpoint is damaged or of another training: training starts anew"
        log({"phase": "skeleton", "step": 0, "steps": sizes.steps, "note": note})
    return saved


def _advice(n_rows: int) -> str:
    return (
        f"{n_rows:,} training rows: expect right columns one by one, but weak relations between "
        "them, and rare levels left out; consider more rows, fewer columns, or coarser levels"
    )


def _fit_detail(
    detail: Detail,
    layout: Layout,
    tokens: Tensor,
    offsets: Tensor,
    config: TrainConfig,
    sizes: Plan,
    noise: torch.Generator,
    budget: float,
    log: Log,
    world: World = ALONE,
) -> Detail:
    """Call `fit_detail`; where memory runs out, again with half the batch."""
    while True:
        critic = Critic(layout, detail.width, config).to(tokens.device)
        try:
            return fit_detail(
                copy.deepcopy(detail),
                critic,
                tokens,
                offsets,
                config,
                sizes,
                noise,
                budget,
                log,
                world,
            )
        except OUT_OF_MEMORY:
            pass  # outside this block the traceback, and with it the failed step, is let go
        place: Record = {"phase": "detail", "step": 0, "steps": sizes.critic_steps}
        sizes = replace(sizes, batch_size=_halved(sizes.batch_size, place, log, world))


def _halved(batch_size: int, place: Record, log: Log, world: World) -> int:
    """Return half the batch size and say so; TrainingError if there is nothing to halve."""
    if world.size > 1:  # the others go on with whole batches
        raise TrainingError("memory ran out in one of several processes; set a lower batch_size")
    if batch_size < 2:
        raise TrainingError("not even one row fits into memory; use fewer columns or a lower width")
    log({**place, "note": f"memory ran out: the batch is {batch_size // 2} rows from now on"})
    return batch_size // 2


@dataclass
class _Place:
    """Where the training of the skeleton stands: all of its state that is no tensor."""

    batch_size: int
    pace: float
    step: int = 0
    progress: float = 0.0
    seconds: float = 0.0
    rate: float = 1.0
    best_score: float = math.inf
    waited: int = 0
    rollbacks: int = 0


def fit_skeleton(
    skeleton: Skeleton,
    tokens: Tensor,
    held: Tensor,
    config: TrainConfig,
    sizes: Plan,
    noise: torch.Generator,
    budget: float,
    log: Log,
    checkpoint: Checkpoint | None = None,
    saved: Saved | None = None,
    adversary: RowAdversary | None = None,
    world: World = ALONE,
    show: Callable[[Skeleton, int], None] | None = None,
) -> Skeleton:
    """Minimise the conditional cross-entropy; return the averaged weights at the end.

    Where the settings ask for them, histograms and the `adversary` of whole rows have their say.

    `checkpoint` is written after each finite score; `saved` is what it held when training was
    interrupted. `budget` is in seconds. Progress runs from 0 to 1 over the planned steps, or
    faster: with the clock where time is short, and once the score on the `held` rows says that rows
    are learnt by heart.
    """
    device, n_tokens = tokens.device, tokens.shape[1]
    averaged = copy.deepcopy(skeleton).requires_grad_(False).eval()
    optimizer = skeleton_optimizer(skeleton, config, sizes, device)
    # The same masks for every evaluation, so that scores differ by the weights only.
    score_noise = torch.Generator(device).manual_seed(noise.initial_seed() ^ 1)
    held = held.repeat(max(1, MIN_SCORED // max(1, len(held))), 1)
    masks = random_known(len(held), n_tokens, skeleton.n_coarse, score_noise, device)
    place: Record = {"phase": "skeleton", "steps": sizes.steps}
    at = _Place(sizes.batch_size, 1.0 / sizes.steps, rate=sizes.rate)
    if saved is not None:
        at = _Place(**saved.facts["place"])
        skeleton.load_state_dict(saved.group("skeleton"))
        averaged.load_state_dict(saved.group("averaged"))
        restore_optimizer(optimizer, saved.group("optimizer"))
        if adversary is not None:
            adversary.critic.load_state_dict(saved.group("row_critic"))
            restore_optimizer(adversary.optimizer, saved.group("row_optimizer"))
        restore_random(noise, saved.group("random"))
    good = copy.deepcopy(averaged)
    rows = _batches(len(tokens), at.batch_size, noise, device, first=at.step)

    def judged(batch: Tensor) -> Tensor | float:
        """Return what the critic of whole rows adds to the loss of a batch."""
        if adversary is None or at.step % EVERY:
            return 0.0
        return config.row_adversary * adversary.loss(skeleton, batch, noise)

    step = skeleton_step(skeleton, optimizer, tokens, config, noise, judged, world)
    # Whose turn it is, the adversary's or another process's, is the host's to decide.
    if config.cuda_graphs and adversary is None and world.size == 1:
        step = replayed(step, noise, lambda note: log({**place, "step": at.step, "note": note}))
    started = time.monotonic() - at.seconds
    while at.progress < 1 - 1e-9:
        rate = at.rate * config.learning_rate * _schedule(at.step, at.progress)
        _set_rate(optimizer, rate)
        out_of_memory = False
        try:
            loss = step(next(rows))
        except OUT_OF_MEMORY:
            out_of_memory = True  # dealt with below, when the traceback has let go of the step
        if out_of_memory:
            at.batch_size = _halved(at.batch_size, {**place, "step": at.step}, log, world)
            rows = _batches(len(tokens), at.batch_size, noise, device, first=at.step)
            continue
        _average(averaged, skeleton, config.ema if at.step > WARM_UP else 0.9)
        at.step += 1
        at.seconds = time.monotonic() - started
        spent = 0.0 if math.isinf(budget) else world.first(at.seconds) / budget
        at.progress = max(at.progress + at.pace, spent)
        last = at.progress >= 1 - 1e-9

        if at.step % LOG_EVERY == 0 or last:
            measured = {"loss": loss.item(), "seconds": round(at.seconds, 3)}
            log({**place, "step": at.step, **measured})
        if at.step % sizes.evaluate_every and not last:
            continue
        score = loss.item()
        if len(held):
            with torch.no_grad():
                score = skeleton_loss(averaged, held, *masks).item()
        score = world.mean(score)
        if not math.isfinite(score):
            at.rollbacks, at.rate = at.rollbacks + 1, at.rate / 2
            if at.rollbacks > MAX_ROLLBACKS:
                raise TrainingError("the loss stays not finite; try a lower learning_rate")
            skeleton.load_state_dict(good.state_dict())
            averaged.load_state_dict(good.state_dict())
            _forget(optimizer)
            if adversary is not None:
                adversary.restart()
            continue
        log({**place, "step": at.step, "holdout_loss": score})
        if show is not None:
            show(averaged, at.step)
            started = time.monotonic() - at.seconds  # looking is no time of training
        good.load_state_dict(averaged.state_dict())
        at.best_score = min(at.best_score, score)
        at.waited = at.waited + 1 if score > OVERFIT * at.best_score else 0
        if at.waited == config.patience:
            at.pace = max(at.pace, (1 - at.progress) / max(1.0, LANDING * at.step))
        if checkpoint is not None and not last:
            groups = {
                "skeleton": skeleton.state_dict(),
                "averaged": averaged.state_dict(),
                "optimizer": optimizer_state(optimizer),
                "random": random_state(noise),
            }
            if adversary is not None:
                groups["row_critic"] = adversary.critic.state_dict()
                groups["row_optimizer"] = optimizer_state(adversary.optimizer)
            checkpoint.write(groups, {"phase": "skeleton", "step": at.step, "place": asdict(at)})
    if not math.isfinite(at.best_score):
        raise TrainingError("no finite score was reached; try a lower learning_rate")
    return averaged if math.isfinite(score) else good


def skeleton_step(
    skeleton: Skeleton,
    optimizer: torch.optim.Optimizer,
    tokens: Tensor,
    config: TrainConfig,
    noise: torch.Generator,
    judged: Callable[[Tensor], Tensor | float] = lambda batch: 0.0,
    world: World = ALONE,
) -> Step:
    """Return the step from row numbers of `tokens` (N, T): forward, backward, optimizer.

    `judged` is given the batch (B, T) and returns what to add to its loss.
    """
    device, n_tokens = tokens.device, tokens.shape[1]

    def step(rows: Tensor) -> Tensor:
        batch = tokens[rows].long()
        known, split = random_known(len(batch), n_tokens, skeleton.n_coarse, noise, device)
        with half_precision(device):
            loss = skeleton_loss(skeleton, batch, known, split, config.matching)
        loss = loss + judged(batch)
        descend(loss, skeleton, optimizer, config.clip_grad, world)
        return loss.detach()

    return step


def skeleton_loss(
    skeleton: Skeleton, tokens: Tensor, known: Tensor, split: int, matching: float = 0.0
) -> Tensor:
    """Return the mean cross-entropy in nats of an unknown token, over (B, T) tokens; a scalar.

    Plus `matching` times the distance of histograms, where that is not 0.
    """
    total = tokens.new_zeros((), dtype=torch.float32)
    c = skeleton.n_coarse
    for logits, choices, rows, columns in zip(
        skeleton.logits(tokens, known, split),
        (skeleton.coarse, skeleton.fine),
        (slice(0, split), slice(split, len(tokens))),
        (slice(0, c), slice(c, None)),
        strict=True,
    ):
        if not len(logits):
            continue
        asked, given = tokens[rows, columns], known[rows, columns]
        total = total + unknown_mean(choices.cross_entropies(logits, asked), given).sum()
        if matching:
            blocks = choices.split(logits)
            distance = histogram_distance(blocks, asked, ~given, tokens[rows], known[rows])
            total = total + matching * len(logits) * distance
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
    world: World = ALONE,
) -> Detail:
    """Train the offset generator against the critic, given true tokens; return averaged weights.

    `budget` is in seconds: this part takes a fifth of what the skeleton may take.
    """
    started = time.monotonic()
    loss_name, regularizer_name = config.adversary
    loss, regularizer = LOSSES[loss_name], REGULARIZERS[regularizer_name](config)
    critic = regularizer.prepare(critic)
    world.share(critic)
    device, pac = tokens.device, config.pac
    batch_size = min(sizes.batch_size, len(tokens)) // pac * pac
    if pac > 1 and batch_size < 2 * pac:
        raise TrainingError(f"pac = {pac} needs batches and tables of {2 * pac} rows at least")
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

    def train_critic(critic: Critic, critic_step: torch.optim.Optimizer) -> Tensor:
        chosen = next(rows)
        condition, real = tokens[chosen].long(), offsets[chosen]
        with torch.no_grad():
            fake = draw(condition)
        eps = torch.rand(len(real) // pac, 1, generator=noise, device=device)
        losses = critic_objective(critic, loss, regularizer, condition, real, fake, eps)
        descend(losses.mean(), critic, critic_step, config.clip_grad, world)
        regularizer.project(critic)
        return losses.mean().detach()

    for step in range(1, sizes.critic_steps + 1):
        for _ in range(config.n_critic):
            critic_loss = train_critic(critic, critic_step)

        judge = critic
        if config.unroll:
            # NOTE[DIFF] to Metz et al. 2017, eq. 9: the generator faces the critic k steps on,
            # but its gradient does not run through these steps.
            judge, judge_step = copy.deepcopy((critic, critic_step))
            for _ in range(config.unroll):
                train_critic(judge, judge_step)
        condition = tokens[next(rows)].long()
        scores = judge(critic.pack(draw(condition)), judge.given(condition))
        generator_loss = loss.generator(scores).mean()
        descend(generator_loss, detail, generator_step, config.clip_grad, world)
        _average(averaged, detail, config.ema if step > WARM_UP else 0.9)

        if step % LOG_EVERY == 0 or step == sizes.critic_steps:
            losses = {"critic_loss": critic_loss.item(), "generator_loss": generator_loss.item()}
            if not all(map(math.isfinite, losses.values())):
                raise TrainingError("the adversarial losses are not finite; try critic_steps = 0")
            log({"phase": "detail", "step": step, "steps": sizes.critic_steps, **losses})
        if not math.isinf(budget) and world.first(time.monotonic() - started) > budget / 5:
            break
    return averaged


def _batches(
    n_rows: int, batch_size: int, noise: torch.Generator, device: torch.device, *, first: int = 0
) -> Iterator[Tensor]:
    """Yield row indices for ever: each epoch is a new permutation, in batches of equal size.

    Batch number `first` is the first one. A batch depends on its number and the seed of `noise`
    alone, so that training can go on in the middle of an epoch; `noise` itself is not drawn from.
    """
    size = min(batch_size, n_rows)
    done, skip = divmod(first, n_rows // size)
    for epoch in itertools.count(done):
        shuffle = torch.Generator(device).manual_seed(derive(noise.initial_seed(), "epoch", epoch))
        order = torch.randperm(n_rows, generator=shuffle, device=device)
        for start in range(skip * size, n_rows - size + 1, size):
            yield order[start : start + size]
        skip = 0


def skeleton_optimizer(
    skeleton: Skeleton, config: TrainConfig, sizes: Plan, device: torch.device
) -> torch.optim.AdamW:
    """Return AdamW; on a GPU its learning rate is a tensor, which a replayed step reads anew.

    Stronger decay is for what relates columns. Biases, the marginals' log frequencies among them,
    are decayed as in a large table.
    """
    named = list(skeleton.named_parameters())
    biases = [w for name, w in named if w.dim() < 2 or name.startswith("fine_bias")]
    matrices = [w for name, w in named if not (w.dim() < 2 or name.startswith("fine_bias"))]
    on_gpu = device.type == "cuda"
    rate = config.learning_rate
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": sizes.weight_decay},
            {"params": biases, "weight_decay": min(DECAY, sizes.weight_decay)},
        ],
        lr=torch.tensor(rate, device=device) if on_gpu else rate,
        betas=(0.9, 0.99),
        fused=True,
        capturable=on_gpu,
    )


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate; one that is a tensor keeps its place in memory."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _forget(optimizer: torch.optim.Optimizer) -> None:
    """Set moments and step counts to zero, in place."""
    for entry in optimizer.state.values():
        for value in entry.values():
            value.zero_()


def _schedule(step: int, progress: float) -> float:
    """Return the factor of the learning rate: a short warm-up, then half a cosine to zero."""
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def _average(averaged: nn.Module, new: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(averaged.parameters()), list(new.parameters()), 1 - decay)
