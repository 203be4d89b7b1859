"""The stage `generate`: rows from the bundle alone, into quarantine."""

from __future__ import annotations

import json
from pathlib import Path

from synthgen.pipeline.stage import seed_of, stage, versions
from synthgen.rng import derive
from synthgen.run_folder import Receipt, RunFolder, counted
from synthgen.table import SyntheticFile

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
            frames = fitted.sample_batches(config.rows, seed=seed_of(config))
            frames = counted(frames, config.rows, stage="generate")
            n_rows = folder.write_batches(folder.synthetic_path, frames, fitted.schema)
        draws = judged_draws(folder)
        for path, seed in draws.items():
            n_judged = min(config.rows, MAX_JUDGED_ROWS)
            frames = counted(fitted.sample_batches(n_judged, seed=seed), n_judged, stage="generate")
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
