"""What a manifest and a report say about how a table came to be, and what is promised."""

from __future__ import annotations

from typing import Any

from synthgen.export import PRIVACY_STATEMENT
from synthgen.pipeline.stage import versions
from synthgen.run_folder import RunFolder, now

#: What the report of a run with differential privacy says of itself.
BEYOND_EPSILON = "measured on real rows: not covered by the guarantee of bundle and table"


def provenance(folder: RunFolder) -> dict[str, Any]:
    """Return what a manifest and a report say about how the table came to be: no cell, no path."""
    draw, config = folder.draw, folder.config
    return {
        "run": folder.root.name,
        "created": now(),
        "seed": config.seed,
        "device": draw["device"],
        "synthesizer": draw["synthesizer"],
        "warm_start": draw.get("warm_start", []),
        "dp": draw.get("dp"),
        "training_notes": [] if draw.get("dp") else folder.training_notes,
        "drift": None if draw.get("dp") else _drift_facts(folder),
        "config": config.model_dump(include={"split", "encode", "train", "sample", "gate"}),
        "versions": draw["versions"] | versions("synthgen", "pandas", "pyarrow"),
    }


def _drift_facts(folder: RunFolder) -> dict[str, Any] | None:
    """Return that the input was compared, and how many differences somebody accepted."""
    found = folder.drift
    return None if found is None else found | {"differences": len(found["differences"])}


def privacy_statement(dp: dict[str, Any] | None) -> str:
    """Return what is promised: the formal guarantee in `dp`, or that there is none."""
    if dp is None:
        return PRIVACY_STATEMENT
    return (
        f"({dp['epsilon']:.4g}, {dp['delta']:.3g})-differential privacy of {dp['unit']}: "
        f"{dp['covers']}. Not covered: {dp['does_not_cover']}."
    )
