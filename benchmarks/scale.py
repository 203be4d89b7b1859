"""What many rows cost: seconds and peak memory of `train` and `sample`, by rows.

    python benchmarks/scale.py DATA.csv 100000 1000000 10000000

Each size is a Parquet file of so many rows: DATA again and again, with noise on every number that
has many values, so that no row is a copy of another. Each verb runs in a process of its own; its
memory is the peak resident set that the kernel counted.

Result (adult's training half, torch 2.13.0, one core of an AMD EPYC shared with twenty other jobs,
so CPU seconds only; 2026-11-22 and 23; each line run by itself, the tables made by `enlarge`):

    rows        verb     CPU s  peak MB
    100,000     train      103      619
    1,000,000   train      181      782
    10,000,000  train       54    2,466   with 300 + 60 steps instead of the planned ones
    100,000     sample      21      632   of a bundle of adult's training half (width 256)
    400,000     sample      59      642
    10,000,000  sample     500      755   of a small network: width 16, depth 1, 2 passes a row

And whole, with default settings (the same half, 3b19919, one thread of a Xeon with AMX, 2026-11-27;
708 seconds by the clock for the draw, which holds 1,360 MB from its first chunks on there):

    10,000,000  train      250    2,518
    10,000,000  sample     715    1,620   14,000 rows per CPU second, schema checked
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

#: A number with more values gets noise of a hundredth of its spread.
MANY_VALUES = 1_000
ROWS_A_PART = 200_000


def enlarge(data: Path, rows: int, out: Path) -> None:
    """Write `rows` rows that look like those of the CSV file `data`."""
    table = pa_csv.read_csv(data)
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(out, table.schema) as writer:
        for start in range(0, rows, ROWS_A_PART):
            n = min(ROWS_A_PART, rows - start)
            writer.write_table(_noisy(table.take(rng.integers(0, len(table), n)), table, rng))


def _noisy(part: pa.Table, table: pa.Table, rng: np.random.Generator) -> pa.Table:
    for i, field in enumerate(table.schema):
        if pa.types.is_integer(field.type) and len(table[i].unique()) > MANY_VALUES:
            known = table[i].to_numpy()
            noise = rng.normal(0, known.std() / 100, len(part)).round().astype(np.int64)
            moved = np.clip(part[i].to_numpy() + noise, known.min(), known.max())
            part = part.set_column(i, field, pa.array(moved, field.type))
    return part


def measured(*arguments: str) -> tuple[float, float, float]:
    """Run a verb; return its seconds by the clock, its CPU seconds and its peak MB."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    # The peak of children is that of the largest one so far: each verb gets a parent of its own.
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", code, sys.executable, "-m", "synthgen", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - started, cpu, int(done.stdout.split()[-1]) / 1_024


def main(data: Path, sizes: list[int]) -> None:
    """Print one line a size and verb."""
    print(f"{'rows':>10}  {'verb':<6} {'seconds':>8} {'CPU s':>8} {'peak MB':>8}")
    with tempfile.TemporaryDirectory(prefix="synthgen-scale-") as folder:
        real, bundle, drawn = (
            Path(folder) / n for n in ("real.parquet", "bundle", "drawn.parquet")
        )
        for rows in sizes:
            enlarge(data, rows, real)
            for verb, arguments in {
                "train": ("--data", real, "--to", bundle, "--seed", 0, "--overwrite"),
                "sample": (bundle, "--rows", rows, "--to", drawn, "--seed", 0, "--overwrite"),
            }.items():
                wall, cpu, peak = measured(verb, *map(str, arguments))
                print(f"{rows:>10,}  {verb:<6} {wall:8.0f} {cpu:8.0f} {peak:8.0f}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(n) for n in sys.argv[2:]])
