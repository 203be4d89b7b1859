"""Several processes that train one generator together, each on its share of the rows.

After every backward pass the gradients are averaged over all processes (one flat all-reduce: gloo
between CPUs, nccl between GPUs), so that equal weights stay equal and a step is that of all batches
joined. Whatever else decides how training goes on (scores, the clock) is averaged or that of the
first process.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

# Not used here, but imported before there is a group: its functions take as default the group that
# there is when they are defined, and torch.optim imports it at the first step. The group would then
# live until Python ends, when a thread of gloo that gives back a gradient, for which it needs the
# interpreter, aborts the process.
import torch.distributed.nn
from torch import Tensor, nn

from synthgen.encode.column import Floats
from synthgen.errors import TrainingError


@dataclass(frozen=True)
class World:
    """One process among those that train together; alone, each method returns what it was given.

    Attributes
    ----------
    rank : int
        Number of this process; 0 writes files and logs.
    size : int
        Number of processes.
    device : torch.device
        Where numbers are exchanged: ``cpu``, or this process's GPU.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009

    def average(self, net: nn.Module) -> None:
        """Replace the gradients of `net` by their means over all processes."""
        if self.size == 1:
            return
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        means = torch.split(flat / self.size, [g.numel() for g in gradients])
        shaped = [m.view_as(g) for m, g in zip(means, gradients, strict=True)]
        torch._foreach_copy_(gradients, shaped)

    def share(self, net: nn.Module) -> None:
        """Give every process the weights and buffers of the first one."""
        if self.size > 1:
            with torch.no_grad():
                for tensor in net.state_dict().values():
                    dist.broadcast(tensor, src=0)

    def first(self, value: float) -> float:
        """Return the first process's value."""
        if self.size == 1:
            return value
        shared = self._number(value)
        dist.broadcast(shared, src=0)
        return float(shared.item())

    def mean(self, value: float) -> float:
        """Return the mean of all processes' values."""
        if self.size == 1:
            return value
        shared = self._number(value)
        dist.all_reduce(shared)
        return float(shared.item()) / self.size

    def total(self, values: Floats) -> Floats:
        """Return the sum of all processes' arrays."""
        if self.size == 1:
            return values
        shared = torch.as_tensor(values, dtype=torch.float64, device=self.device).clone()
        dist.all_reduce(shared)
        return np.asarray(shared.cpu())

    def check_equal(self, net: nn.Module) -> None:
        """Raise TrainingError if the weights of `net` are not those of the first process."""
        if self.size == 1:
            return
        digest = hashlib.sha256()
        for tensor in net.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        own = int.from_bytes(digest.digest()[:6])  # 48 bits: exact as a float64
        if self.mean(float(own != int(self.first(own)))):
            raise TrainingError("the processes ended with different weights")

    def _number(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64, device=self.device)


#: A process that trains by itself.
ALONE = World()


def launched() -> bool:
    """Whether this process was started by ``torchrun`` together with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Join the processes that ``torchrun`` started, until the block ends; alone, do nothing.

    `device` is the kind of device to train on; of several GPUs each process takes its own.
    """
    if not launched():
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        device = torch.device("cuda", torch.cuda.current_device())
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
