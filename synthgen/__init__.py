"""synthgen: a sensitive table in, a validated synthetic table out, through a gate that can say no.

The public names are resolved on first use, so that ``import synthgen`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "RunConfig": "synthgen.config",
    "GatePolicy": "synthgen.config",
    "Column": "synthgen.schema",
    "Constraint": "synthgen.schema",
    "Control": "synthgen.ask.control",
    "TableSchema": "synthgen.schema",
    "RealTable": "synthgen.table",
    "SyntheticTable": "synthgen.table",
    "Split": "synthgen.table",
    "Synthesizer": "synthgen.synthesizer",
    "SynthgenError": "synthgen.errors",
    "SynthgenSampler": "synthgen.augment",
    "pool": "synthgen.ask.completion",
}
__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'synthgen' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
