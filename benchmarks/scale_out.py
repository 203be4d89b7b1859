"""How many rows a second one and two Dask workers draw, and what a row costs.

Usage: python benchmarks/scale_out.py [--rows 1000000] [--workers 1 2]

The embedded demo table (10,000 admissions, 14 columns), 300 training steps, default widths, seed 0;
the rows are drawn into files by `synthgen.scale` and read back in order. The clock runs from the
first chunk that is ready to the last; CPU seconds are those of the workers, start included.

PLACEHOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

from synthgen import demo, pipeline
from synthgen.config import RunConfig
from synthgen.run_folder import RunFolder
from synthgen.scale import drawn_by_many
from synthgen.synthesizer import CHUNK_ROWS


def trained(folder: Path, rows: int) -> RunFolder:
    """Return a run folder with a bundle."""
    demo.write_csv(folder / "in.csv", 10_000, 0)
    demo.SCHEMA.save(folder / "schema.toml")
    settings = {
        "data": str(folder / "in.csv"),
        "schema_path": str(folder / "schema.toml"),
        "to": str(folder / "out.parquet"),
        "rows": rows,
        "seed": 0,
        "device": "cpu",
        "train": {"steps": 300},
    }
    run = pipeline.prepare(RunConfig.build(settings), folder / "run")
    pipeline.ingest(run)
    pipeline.train(run)
    return run


def measure(run: RunFolder, rows: int, workers: int) -> dict[str, float]:
    """Draw all rows by so many workers."""
    config = run.config.model_dump(exclude_none=True) | {"scale": {"workers": workers}}
    run.write(run.config_path, RunConfig.build(config).to_toml())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with drawn_by_many(run) as tables:
        next(tables)
        start = time.monotonic()
        for _ in tables:
            pass
        seconds = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "workers": workers,
        "rows_a_second": round((rows - CHUNK_ROWS) / seconds),
        "worker_cpu_us_a_row": round(1e6 * cpu / rows, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        run = trained(Path(place), asked.rows)
        for workers in asked.workers:
            print(json.dumps(measure(run, asked.rows, workers)), flush=True)


if __name__ == "__main__":
    main()
