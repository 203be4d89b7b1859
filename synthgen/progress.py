"""Progress on stderr: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from synthgen.run_folder import Event, Listener

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(console: Console | None = None) -> Iterator[Listener]:
    """Yield a listener for the events of a run (see `synthgen.run_folder.listening`)."""
    console = console or Console(stderr=True, highlight=False)
    if console.is_terminal:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        ) as bars:
            yield _Bars(bars)
    else:
        yield _Lines(lambda text: console.print(text, markup=False, soft_wrap=True))


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


class _Bars:
    """One bar a stage that counts steps; a line when a stage ends."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        line = _stage_line(event)
        if line is not None:
            self._bars.console.print(line, markup=False)
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


class _Lines:
    """A line when a stage ends, and every few seconds while steps go on."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._next = time.monotonic() + SECONDS_BETWEEN_LINES

    def __call__(self, event: Event) -> None:
        line = _stage_line(event)
        if line is not None:
            self._write(line)
        elif event["event"] == "step" and time.monotonic() >= self._next:
            self._next = time.monotonic() + SECONDS_BETWEEN_LINES
            self._write(f"train     step {event.get('step')} of {event.get('steps')}")
