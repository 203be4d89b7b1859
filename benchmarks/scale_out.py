"""What a second Dask worker brings: the stage `generate` by one worker and by two, same bundle.

    python benchmarks/scale_out.py DATA.csv [--rows 10000000] [--workers 1,2]

A run of the default network on DATA.csv is trained once; then its rows are drawn by so many workers
of `synthgen.scale`, into the run folder, as a run with ``[scale]`` draws them. Seconds are by the
clock, so nothing else may run beside: the workers' start, the client that joins their parts and the
two smaller draws that only the gate looks at are in them. The files must be equal byte by byte.

Result (adult's training half, 26 November 2026, two cores of an AMD EPYC, other jobs at the lowest
priority; 27 CPU s of training before):

    10,000,000 rows   1 worker    613 s   16,318 rows/s
                      2 workers   313 s   31,899 rows/s   1.95 x

With MALLOC_TRIM_THRESHOLD_ as Dask sets it a worker drew about 8,000 rows/s.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from judge import numbers

from synthgen import pipeline
from synthgen.config import RunConfig
from synthgen.files import sha256
from synthgen.run_folder import RunFolder


def trained(data: str, rows: int, at: Path) -> RunFolder:
    """Return a run folder with a bundle and nothing drawn."""
    options = {"data": data, "to": str(at / "out.parquet"), "rows": rows, "seed": 0}
    folder = pipeline.prepare(RunConfig.build({**options, "device": "cpu"}), at / "run")
    pipeline.ingest(folder)
    pipeline.train(folder)
    return folder


def seconds(folder: RunFolder, workers: int) -> float:
    """Draw the rows by so many workers; return the seconds by the clock."""
    config = folder.config.model_dump(exclude_none=True)
    scaled = RunConfig.build({**config, "scale": {"workers": workers}})
    folder.write(folder.config_path, scaled.to_toml())
    start = time.monotonic()
    pipeline.generate(RunFolder.open(folder.root))
    return time.monotonic() - start


def main() -> None:
    """Print one line a number of workers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--workers", type=numbers, default="1,2")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="synthgen-scale-out-") as at:
        folder = trained(str(Path(args.data).resolve()), args.rows, Path(at))
        taken = {}
        digests = set()
        for workers in args.workers:
            taken[workers] = seconds(folder, workers)
            digests.add(sha256(folder.synthetic_path))
            ratio = taken[args.workers[0]] / taken[workers]
            rate = args.rows / taken[workers]
            print(f"{workers} workers  {taken[workers]:7.0f} s  {rate:8,.0f} rows/s  {ratio:.2f} x",
                  flush=True)  # fmt: skip
        if len(digests) > 1:
            raise SystemExit("the tables differ")


if __name__ == "__main__":
    main()
