"""A training step that is recorded once and replayed, where launching its kernels would cost most.

A step of the skeleton is about a hundred small kernels. On a large GPU each of them takes a few
microseconds, and so does asking for it: the device waits for Python. A CUDA graph asks once for
all. Elsewhere a step is what it was, a call.

`torch.compile` would do as much, but its first call takes half a minute, which is more than the
whole training, and it can silently drop the graph of `torch.autograd.grad` (PyTorch #181581).

What a step must be like: tensors of fixed sizes, no look at a value from the host, random numbers
from the device's own streams, the learning rate in a tensor. `tests/gan/test_graphs.py` runs the
step on tensors without values, which proves this on a machine without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: One step: row numbers (B,) in, the detached loss, a scalar on the device, out.
Step = Callable[[Tensor], Tensor]
#: Steps made one kernel at a time before the recording: libraries load, moments are allocated.
WARM = 4


def replayed(step: Step, noise: torch.Generator, say: Callable[[str], None]) -> Step:
    """Return `step`; on a CUDA device as one that is recorded at its fifth call.

    Parameters
    ----------
    step : callable
        Always called with as many rows.
    noise : torch.Generator
        What the step draws from, besides torch's own stream of the device.
    say : callable
        Told why, if the step cannot be recorded; it is then called as before.
    """
    return Replayed(step, noise, say) if noise.device.type == "cuda" else step


class Replayed:
    """A `Step` on a CUDA device: called `WARM` times, recorded, then replayed.

    Whole-network capture of the PyTorch manual ("CUDA semantics, CUDA Graphs"): forward, backward
    and optimizer, with the row numbers in a buffer that is overwritten before each replay. The
    generators are registered, so that each replay draws new numbers.
    """

    def __init__(self, step: Step, noise: torch.Generator, say: Callable[[str], None]) -> None:
        self._step, self._noise, self._say = step, noise, say
        self._stream = torch.cuda.Stream(noise.device)  # type: ignore[no-untyped-call]
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._rows = self._loss = torch.empty(0)

    def __call__(self, rows: Tensor) -> Tensor:
        """Make one step; the result is overwritten by the next one."""
        self._calls += 1
        if self._graph is not None:
            self._rows.copy_(rows)
            self._graph.replay()
            return self._loss
        if self._calls <= WARM:
            return self._aside(rows)
        if self._calls == WARM + 1 and self._record(rows):
            return self(rows)
        return self._step(rows)

    def _aside(self, rows: Tensor) -> Tensor:
        """Make a step on the stream of the recording, as the manual asks of the first ones."""
        main = torch.cuda.current_stream(self._noise.device)
        self._stream.wait_stream(main)
        with torch.cuda.stream(self._stream):
            loss = self._step(rows)
        main.wait_stream(self._stream)
        return loss

    def _record(self, rows: Tensor) -> bool:
        """Record the step, without making it; return whether that went well."""
        buffer, graph = rows.clone(), torch.cuda.CUDAGraph()
        try:
            graph.register_generator_state(self._noise)
            # The outer context is the one that restores the stream when a recording breaks off.
            with (
                torch.cuda.stream(self._stream),
                torch.cuda.graph(graph, stream=self._stream),
            ):
                loss = self._step(buffer)
        except RuntimeError as error:
            # By type alone: the message of a driver is no help, and might quote anything.
            self._say(
                f"the training step could not be recorded as a CUDA graph ({type(error).__name__});"
                " its kernels are launched one by one, which is slower and otherwise the same"
            )
            self._release()
            return False
        self._graph, self._rows, self._loss = graph, buffer, loss
        return True

    def _release(self) -> None:
        """Take the random streams out of a recording that broke off.

        They would go on to believe that they are being recorded, and refuse to draw; a copy of
        their state does not.
        """
        device = self._noise.device
        index = torch.cuda.current_device() if device.index is None else device.index
        for generator in (self._noise, torch.cuda.default_generators[index]):
            generator.graphsafe_set_state(generator.clone_state())
