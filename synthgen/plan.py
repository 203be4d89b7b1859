"""What a run would take, said before it: sizes, minutes, memory; and a refusal of what cannot fit.

The input is read and the encoder fitted as a run does it, so those are measured; training and
drawing are timed by a second of real steps on random rows; only judging is told by a formula.
"""

from __future__ import annotations

import os
import resource
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthgen.config import RunConfig
from synthgen.encode.table import TableEncoder
from synthgen.errors import ConfigError, boundary
from synthgen.pipeline import MAX_JUDGED_ROWS, bundle_to_start_from, read_input
from synthgen.table import split

if TYPE_CHECKING:
    from synthgen.gan.nets import Generator

GIB = 2**30
#: Seconds of checking the input against its schema.
CHECK_SECONDS = 1.2
#: Seconds of judging: a constant, and for 1,000 cells (rows, up to `JUDGED_ROWS`, times columns).
JUDGE_SECONDS, JUDGE_SECONDS_A_CELL = 4.0, 0.01
JUDGED_ROWS = 20_000
#: Bytes of judging beyond what is resident when it starts: its libraries, and a cell's features.
JUDGE_BYTES, JUDGE_BYTES_A_CELL = 250 * 2**20, 200
#: Rows drawn to time drawing.
DRAWN = 1_024
#: What CUDA's libraries take of a GPU besides the tensors; assumed, not measured.
GPU_BYTES = 256 * 2**20
_PLACES = {"cpu": "", "cuda": " on the GPU"}


@dataclass(frozen=True)
class Estimate:
    """What a run would take.

    Attributes
    ----------
    rows, train_rows, columns : int
        Of the input; rows to train on; modelled columns.
    tokens, logits, offsets : int
        Encoded width of a row: tokens, their levels in all, and offsets.
    widest : tuple of (str, int)
        The columns with the most levels, and how many they have.
    parameters, steps, critic_steps, batch_size : int
    device : str
    minutes : dict of str to float
        By stage: ingest, train, generate, validate; by the clock, which a busy machine stretches.
    cpu_minutes : dict of str to float
        The same in processor time.
    memory : int
        Peak bytes of the process.
    available : int
        Bytes of memory that this process may use.
    device_memory, device_available : int
        Peak bytes of training on the GPU, and those that are free there; 0 on a CPU.
    """

    rows: int
    train_rows: int
    columns: int
    tokens: int
    logits: int
    offsets: int
    widest: tuple[tuple[str, int], ...]
    parameters: int
    steps: int
    critic_steps: int
    batch_size: int
    device: str
    minutes: dict[str, float]
    cpu_minutes: dict[str, float]
    memory: int
    available: int
    device_memory: int = 0
    device_available: int = 0


def estimate(config: RunConfig) -> Estimate:
    """Read the input, fit the encoder, time a second of steps; write nothing.

    Raises
    ------
    BundleError, DataError, SchemaError
        What `run` would raise about the input, or the bundle of a warm start.
    ConfigError
        If the run cannot fit into memory: it names the column that takes most, and the remedy.
    """
    from synthgen.gan.calibrate import Spent, Stopwatch, calibrate, device_memory
    from synthgen.synthesizer import Synthesizer, fit_encoder, pick_device

    with boundary("plan"):
        device = pick_device(config.device)
        watch = Stopwatch()
        table, _ = read_input(config)
        halves = split(table, holdout=config.split.holdout, seed=config.seed or 0)
        ingest = watch.lap()
        rows, schema = halves.train, table.schema
        earlier = bundle_to_start_from(config)
        encoder, begin = fit_encoder(rows, config, seed=config.seed or 0, warm_start=earlier)
        start = None if begin is None else begin.generator
        encoder.transform(rows)
        encode, resident, layout = watch.lap(), _resident(), encoder.layout
        widths = column_widths(encoder)
        free = device_memory(device)
        least = layout_bytes(encoder, len(rows), config, start=start)
        refuse_unfit(least, widths, free, where=device.type)
        cost, generator = calibrate(layout, len(rows), config.train, device, start=start)
        watch.lap()
        drawn = min(DRAWN, config.rows)
        for _ in Synthesizer(schema, encoder, generator, config).sample_batches(drawn, seed=0):
            pass
        judged = (config.gate.samples - 1) * min(config.rows, MAX_JUDGED_ROWS)
        draw = watch.lap().times((config.rows + judged) / drawn)
        draw = Spent(draw.clock / max(1, config.scale.workers), draw.cpu)
    cells = min(max(len(table), config.rows), JUDGED_ROWS) * len(schema.modelled)
    judge = JUDGE_SECONDS + JUDGE_SECONDS_A_CELL * cells / 1_000
    spent = {
        "ingest": ingest.plus(Spent(CHECK_SECONDS, CHECK_SECONDS)),
        "train": encode.plus(cost.spent),
        "generate": draw,
        "validate": Spent(judge, judge),
    }
    frame = next(rows.batches())
    a_row = int(frame.memory_usage(deep=True).sum()) // len(frame)
    judging = JUDGE_BYTES + JUDGE_BYTES_A_CELL * cells + a_row * (len(table) + 2 * config.rows)
    on_gpu = 0 if free is None else cost.memory + GPU_BYTES
    refuse_unfit(on_gpu, widths, free, where=device.type)
    refuse_unjudgeable(judging, config.rows)
    memory = max(_peak(), resident + max(cost.memory if free is None else 0, judging))
    refuse_unfit(memory, widths)
    return Estimate(
        rows=len(table),
        train_rows=len(rows),
        columns=len(schema.modelled),
        tokens=len(layout.sizes),
        logits=layout.width,
        offsets=len(layout.offset_parents),
        widest=tuple(widths.most_common(3)),
        parameters=cost.parameters,
        steps=cost.sizes.steps,
        critic_steps=cost.sizes.critic_steps,
        batch_size=cost.sizes.batch_size,
        device=device.type,
        minutes={stage: round(s.clock / 60, 3) for stage, s in spent.items()},
        cpu_minutes={stage: round(s.cpu / 60, 3) for stage, s in spent.items()},
        memory=memory,
        available=memory_of_machine(),
        device_memory=on_gpu,
        device_available=free or 0,
    )


def layout_bytes(
    encoder: TableEncoder, n_rows: int, config: RunConfig, *, start: Generator | None = None
) -> int:
    """Return the least bytes of training, by arithmetic alone: before a network is built."""
    from synthgen.gan import calibrate, nets, train

    layout = encoder.layout
    sizes = train.plan(config.train, layout, n_rows, start=start)
    # Embeddings and head; hidden layers; a fine token's bias of each level and cell.
    weights = 2 * layout.width * sizes.width + 2 * sizes.depth * sizes.width**2
    weights += sum(p.size for p in layout.fine_priors)
    form = nets.Form.of(config.train)
    return calibrate.memory(layout, n_rows, sizes, weights, form)


def column_widths(encoder: TableEncoder) -> Counter[str]:
    """Return how many levels, of all its tokens together, each column has."""
    layout, widths = encoder.layout, Counter[str]()
    fine = layout.fine_at
    for i, part in enumerate(encoder.parts):
        widths[part.column] += int(layout.sizes[i])
        if i in fine:
            widths[part.column] += int(layout.sizes[fine[i]])
    return widths


def refuse_unfit(
    memory: int, widths: Counter[str], available: int | None = None, *, where: str = "cpu"
) -> None:
    """Raise ConfigError if `memory` bytes are more than there are, naming the widest column.

    `available` is what is free; None: the memory of this process.
    """
    available = memory_of_machine() if available is None else available
    if memory <= available:
        return
    (name, width), total = widths.most_common(1)[0], sum(widths.values())
    raise ConfigError(
        f"the run needs about {memory / GIB:,.1f} GiB{_PLACES[where]} and there are "
        f"{available / GIB:,.1f}: "
        f"column '{name}' takes {width / total:.0%} of the {total:,} levels of a row; declare it "
        "an id if it is one, lower encode.max_levels or train.width, or give fewer rows"
    )


def refuse_unjudgeable(judging: int, rows: int) -> None:
    """Raise ConfigError if the judge, who reads all rows that were drawn, has too little memory."""
    available = memory_of_machine()
    if judging > available:
        raise ConfigError(
            f"to judge {rows:,} drawn rows takes about {judging / GIB:,.1f} GiB and there are "
            f"{available / GIB:,.1f}: give fewer rows, or a machine with more memory"
        )


def memory_of_machine() -> int:
    """Return the bytes of memory that this process may use: the machine's, or its container's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(machine, int(text)) if text.isdecimal() else machine


def _resident() -> int:
    """Return the resident bytes of this process now."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _peak() -> int:
    """Return the peak resident bytes of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024
