"""Checkpoints of training: one file, whole or absent, that an interrupted run goes on from.

Tensors and facts stand in one safetensors file (facts as JSON in its header), so that a rename
replaces both at once and nothing in it can execute. It belongs to one training: same encoded rows,
same settings, same seed. It holds weights of a generator fitted on real rows and is as sensitive as
a bundle: mode 0600.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from synthgen.config import TrainConfig
from synthgen.encode.column import EncodedTable
from synthgen.files import staged, sweep
from synthgen.gan.transplant import Start

Tensors = dict[str, Tensor]
Facts = dict[str, Any]

FORMAT = "synthgen checkpoint 1"


@dataclass(frozen=True, repr=False)
class Saved:
    """What a checkpoint holds: tensors by dotted name, and numbers and short strings."""

    tensors: Tensors
    facts: Facts

    def group(self, name: str) -> Tensors:
        """Return the tensors written under ``name.``, without that prefix."""
        start = f"{name}."
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}


@dataclass(frozen=True)
class Checkpoint:
    """The place where one training keeps its state.

    Attributes
    ----------
    path : Path
        In a folder that is there and that others cannot read.
    fingerprint : str
        Of everything that decides the weights; see `fingerprint`.
    """

    path: Path
    fingerprint: str

    def write(self, groups: Mapping[str, Mapping[str, Tensor]], facts: Facts) -> None:
        """Replace the checkpoint by these tensors, ``{group: {name: tensor}}``, and facts."""
        tensors = {
            f"{group}.{name}": tensor.detach().cpu().contiguous()
            for group, named in groups.items()
            for name, tensor in named.items()
        }
        header = {"format": FORMAT, "fingerprint": self.fingerprint, "facts": json.dumps(facts)}
        with staged(self.path, mode=0o600) as temporary:
            save_file(tensors, temporary, metadata=header)

    def read(self) -> Saved | None:
        """Return what was written, or None if there is nothing that this training can go on from.

        A file of another training, of another format, or damaged, is nothing to go on from.
        """
        sweep(self.path)
        if self.path.is_symlink() or not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                if (header.get("format"), header.get("fingerprint")) != (FORMAT, self.fingerprint):
                    return None
                return Saved(
                    {name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118
                    dict(json.loads(header["facts"])),
                )
        except (SafetensorError, OSError, KeyError, ValueError, TypeError):
            return None

    def remove(self) -> None:
        """Delete the file; training is done."""
        sweep(self.path)
        self.path.unlink(missing_ok=True)


def fingerprint(
    table: EncodedTable,
    config: TrainConfig,
    sizes: Any,
    *,
    seed: int,
    device: torch.device,
    start: Start | None = None,
) -> str:
    """Return the SHA-256 of everything that decides the weights: rows, layout, settings, seed.

    A warm start adds the weights that it starts from; how their levels correspond follows from both
    layouts and their columns.
    """
    layout = table.layout
    settings = [config.model_dump(), asdict(sizes), seed, device.type, layout.n_coarse]
    digest = hashlib.sha256(json.dumps(settings).encode())
    pairs = (bound for cell in layout.cells for bound in cell)
    single = (layout.sizes, layout.parents, layout.offset_parents, layout.offset_fines)
    arrays: Iterable[np.ndarray] = (
        *single, *layout.priors, *layout.fine_priors, *layout.positions, *pairs,
        table.tokens, table.offsets,
    )  # fmt: skip
    for array in arrays:
        digest.update(str((array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).data)
    for name, tensor in {} if start is None else start.tensors.items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def optimizer_state(optimizer: torch.optim.Optimizer) -> Tensors:
    """Return the moments and step counts of an optimizer: ``{"3.exp_avg": tensor, ...}``."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{key}": value for i, entry in state.items() for key, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Give a new optimizer of the same parameters the state that `optimizer_state` returned."""
    state: dict[int, Tensors] = {}
    for name, tensor in tensors.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def random_state(noise: torch.Generator) -> Tensors:
    """Return the states of `noise` and of torch's own streams, which dropout draws from."""
    states = {"noise": noise.get_state(), "cpu": torch.get_rng_state()}
    if noise.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(noise.device)
    return states


def restore_random(noise: torch.Generator, states: Tensors) -> None:
    """Set the streams back to what `random_state` returned."""
    noise.set_state(states["noise"])
    torch.set_rng_state(states["cpu"])
    if noise.device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], noise.device)
