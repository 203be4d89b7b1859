"""The stage `generate`: rows from the bundle alone, into quarantine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from synthgen.pipeline.stage import seed_of, stage, versions
from synthgen.rng import derive
from synthgen.run_folder import Receipt, RunFolder, counted
from synthgen.table import SyntheticFile

if TYPE_CHECKING:
    import pandas as pd

    from synthgen.synthesizer import Synthesizer

#: Rows of a table that is drawn only to be judged: the attacks look at no more.
MAX_JUDGED_ROWS = 50_000


def generate(folder: RunFolder) -> Receipt:
    """Draw the rows from the bundle alone and keep them in quarantine.

    So are further draws (``[gate] samples``), by which the gate judges the model and not its luck.
    """
    with stage(folder, "generate"):
        from synthgen.synthesizer import Synthesizer

        config = folder.config
        folder.require(folder.bundle_path, "train")
        fitted = Synthesizer.load(folder.bundle_path, device=config.device)
        if config.scale.is_on:
            from synthgen.scale import drawn_by_many

            with drawn_by_many(folder) as tables:
                n_rows = folder.write_arrow(folder.synthetic_path, tables, fitted.schema)
        else:
            frames = _drawn(fitted, config.rows, seed_of(config))
            n_rows = folder.write_batches(folder.synthetic_path, frames, fitted.schema)
        draws = judged_draws(folder)
        for path, seed in draws.items():
            frames = _drawn(fitted, min(config.rows, MAX_JUDGED_ROWS), seed)
            folder.write_batches(path, frames, fitted.schema)
        draw = {
            "synthesizer": fitted.fingerprint,
            "warm_start": fitted.facts.get("warm_start", []),
            "dp": fitted.facts.get("dp"),
            "seed": seed_of(config),
            "device": str(fitted.device),
            "versions": versions("torch", "numpy"),
        }
        folder.write(folder.draw_path, json.dumps(draw))
        receipt = folder.receipt("generate", folder.synthetic_path, n_rows)
        return folder.finish(receipt, folder.draw_path, *draws)


def _drawn(fitted: Synthesizer, n: int, seed: int) -> Iterator[pd.DataFrame]:
    """Yield `n` rows, counted for the listener."""
    return counted(fitted.sample_batches(n, seed=seed), n, stage="generate")


def judged_draws(folder: RunFolder) -> dict[Path, int]:
    """Return file and seed of each table that is drawn only to be judged, from the second on."""
    config = folder.config
    numbers = range(2, config.gate.samples + 1)
    return {folder.draw_path_of(k): derive(seed_of(config), "draw", k) % 2**31 for k in numbers}


def synthetic_table(folder: RunFolder) -> SyntheticFile:
    """Return the table that waits in quarantine, as the file that it is."""
    folder.require(folder.synthetic_path, "generate")
    draw = folder.draw
    return SyntheticFile(folder.schema, folder.synthetic_path, draw["synthesizer"], draw["seed"])
