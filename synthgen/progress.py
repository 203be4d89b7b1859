"""What goes on, on stderr: work watched live on a terminal, a line now and then elsewhere.

Or nothing, or every event, or every event as JSON: names and numbers, never a cell.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from synthgen.run_folder import Event, Listener, now

#: How much is told.
Level = Literal["quiet", "normal", "verbose", "json"]
SECONDS_BETWEEN_LINES = 10.0
#: Heights of a curve, and the same for a terminal that knows no others than ASCII.
BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-~=+*#"
#: Characters of a curve.
WIDTH = 40


@contextmanager
def progress(console: Console | None = None, level: Level = "normal") -> Iterator[Listener]:
    """Yield a listener for the events of a run (see `synthgen.run_folder.listening`)."""
    console = console or Console(stderr=True, highlight=False)

    def write(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    if level == "quiet":
        yield lambda event: None
    elif level == "json":
        yield lambda event: write(json.dumps({"time": now(), **event}))
    elif level == "verbose":
        yield lambda event: write(_stage_line(event) or _plain(event))
    elif console.is_terminal:
        view = _View(console)
        with Live(view, console=console, transient=True, refresh_per_second=4):
            yield view
    else:
        yield lines(write)


def lines(write: Callable[[str], None]) -> Listener:
    """Return a listener that writes a line when a stage ends, and now and then while it goes on."""
    return _Lines(write)


def sparkline(values: Sequence[float], blocks: str = BLOCKS, width: int = WIDTH) -> str:
    """Draw `values` in at most `width` characters, each the mean of its part; the least is low.

    >>> sparkline([0, 1, 2, 3]), sparkline([5, 5]), sparkline([])
    ('▁▃▆█', '▁▁', '')
    """
    n = min(width, len(values))
    cuts = [round(i * len(values) / n) for i in range(n + 1)] if n else []
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, span = min(means, default=0.0), max(means, default=0.0) - min(means, default=0.0)
    return "".join(blocks[round(7 * (m - low) / span) if span else 0] for m in means)


class Watch:
    """What is known of a training or a draw so far, in words: losses, held-out scores, pace.

    >>> watch = Watch()
    >>> watch.see({"event": "step", "step": 20, "steps": 100, "loss": 2.5, "seconds": 4.0})
    >>> watch.see({"event": "step", "step": 20, "steps": 100, "holdout_loss": 2.25})
    >>> watch.line()
    'step 20 of 100, loss 2.500, held-out 2.250, about 16 s left'
    """

    def __init__(self) -> None:
        self.device = ""
        self._forget("")

    def _forget(self, phase: str) -> None:
        self._phase, self._step, self._steps, self._seconds = phase, 0, 0, 0.0
        self._unit = ""
        self._curves: dict[str, list[float]] = {}
        self._best = (0, float("inf"))

    def see(self, event: Event) -> None:
        """Take note of one event; a new phase of training starts from nothing."""
        if event["event"] == "device":
            self.device = str(event["device"])
        if event["event"] != "step":
            return
        phase = str(event.get("phase", ""))
        if phase != self._phase:
            self._forget(phase)
        self._step, self._steps = int(event.get("step", 0)), int(event.get("steps", 0))
        self._seconds = float(event.get("seconds", self._seconds))
        self._unit = str(event.get("unit", ""))
        for key, value in event.items():
            if key.endswith("loss") and isinstance(value, float):
                self._curves.setdefault(_name(key), []).append(value)
        if "holdout_loss" in event:
            self._best = min(self._best, (self._step, event["holdout_loss"]), key=lambda b: b[1])

    @property
    def left(self) -> str:
        """The time left at this pace; training may end sooner."""
        if not (self._step and self._seconds) or self._steps < self._step:
            return ""
        seconds = self._seconds / self._step * (self._steps - self._step)
        return (
            f"about {seconds:.0f} s left" if seconds < 120 else f"about {seconds / 60:.0f} min left"
        )

    def line(self) -> str:
        """Everything in one line, for a log."""
        losses = [f"{name} {values[-1]:.3f}" for name, values in self._curves.items()]
        count = f"step {self._step} of {self._steps}"
        if self._unit:
            count = f"{self._step:,} of {self._steps:,} {self._unit}"
        return ", ".join(filter(None, [count, *losses, self.left]))

    def lines(self, blocks: str = BLOCKS) -> list[str]:
        """Curves and pace, for a terminal; nothing before the first loss."""
        if not self._curves:
            return []
        drawn = []
        for name, values in self._curves.items():
            best = f" (best {self._best[1]:.3f} at step {self._best[0]})"
            said = f"{values[-1]:.3f}{best if name == 'held-out' else ''}"
            drawn.append(f"  {name:<10}{sparkline(values, blocks):<{WIDTH}}  {said}")
        pace = f"{self._step / self._seconds:.1f} steps/s" if self._seconds else ""
        drawn.append("  " + ", ".join(filter(None, [self.device, pace, self.left])))
        return drawn


def _name(key: str) -> str:
    return {"holdout_loss": "held-out"}.get(key, key.removesuffix("_loss"))


def _stage_line(event: Event) -> str | None:
    """Return what is said of a stage's end or note; None for events that say nothing."""
    if event["event"] == "note" and "text" in event:
        return f"note: {event['text']}"
    if event["event"] == "kept":
        return f"{event['stage']:<9} was done"
    if event["event"] == "interrupted":
        return f"{event['stage']:<9} interrupted; {event['text']}"
    if event["event"] == "done":
        return f"{event['stage']:<9} done in {event['seconds']:.1f} s"
    return None


def _plain(event: Event) -> str:
    """Return any event as words: ``train     step step=20 steps=40 loss=3.1``."""
    known = ("stage", "event", "phase", "time")
    rest = " ".join(f"{k}={v}" for k, v in event.items() if k not in known)
    place = event.get("phase", event.get("stage", "train"))
    return f"{place:<9} {event['event']} {rest}".rstrip()


class _View:
    """One bar a stage that counts steps, training's curves below; a line when a stage ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._watch = Watch()

    def __rich__(self) -> RenderableType:
        lines = self._watch.lines(ASCII_BLOCKS if self._console.options.ascii_only else BLOCKS)
        return Group(self._bars, Text("\n".join(lines), no_wrap=True, overflow="crop"))

    def __call__(self, event: Event) -> None:
        line = _stage_line(event)
        if line is not None:
            self._console.print(line, markup=False)
        self._watch.see(event)
        stage = str(event.get("phase", event.get("stage", "train")))
        if event["event"] == "start":
            self._tasks[stage] = self._bars.add_task(stage, total=None)
        elif event["event"] == "step":
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=None)
            self._bars.update(
                self._tasks[stage], completed=event.get("step"), total=event.get("steps")
            )
        elif event["event"] in ("done", "failed", "interrupted"):
            for task in self._tasks.values():
                self._bars.remove_task(task)
            self._tasks.clear()
            self._watch = Watch()


class _Lines:
    """A line when a stage ends, and every few seconds while steps go on."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._next = time.monotonic() + SECONDS_BETWEEN_LINES
        self._watch = Watch()

    def __call__(self, event: Event) -> None:
        line = _stage_line(event)
        self._watch.see(event)
        if line is not None:
            self._write(line)
        elif event["event"] == "step" and time.monotonic() >= self._next:
            self._next = time.monotonic() + SECONDS_BETWEEN_LINES
            self._write(f"{event.get('stage', 'train'):<9} {self._watch.line()}")
