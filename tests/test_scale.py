"""Many rows: memory per row, in a process of its own; `benchmarks/scale.py` has millions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Draws and trains at two sizes each; prints the peak bytes so far after each.
PROGRAM = """
import json, resource, sys
from pathlib import Path
import numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq
from synthgen.config import RunConfig
from synthgen.pipeline import train_bundle
from synthgen.synthesizer import Synthesizer
from synthgen.table import write_batches

folder, rng, peaks = Path(sys.argv[1]), np.random.default_rng(0), {}

def peak(name):
    peaks[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def train(n, k):
    columns = {f"n{i}": rng.integers(0, 5_000, n) for i in range(k)}
    columns |= {f"c{i}": pa.array(rng.choice(["red", "green", "blue"], n)) for i in range(k)}
    pq.write_table(pa.table(columns), folder / "real.parquet")
    train_bundle(RunConfig.build({
        "data": str(folder / "real.parquet"), "to": str(folder / "bundle"), "overwrite": True,
        "seed": 0, "device": "cpu", "encode": {"fit_rows": 50_000},
        "train": {"steps": 5, "critic_steps": 2, "width": 16, "depth": 1},
        "sample": {"sampling_steps": 1},
    }))
    peak(f"train {n}")

def sample(n):
    fitted = Synthesizer.load(folder / "bundle", device="cpu")
    write_batches(folder / "drawn.parquet", fitted.sample_batches(n, seed=0), fitted.schema)
    assert pq.read_metadata(folder / "drawn.parquet").num_rows == n
    peak(f"sample {n}")

for task in sys.argv[2:]:
    verb, *numbers = task.split()
    globals()[verb](*map(int, numbers))
print(json.dumps(peaks))
"""


def peaks(folder: Path, *tasks: str) -> dict[str, int]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(folder), *tasks]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3_000:]
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_memory_of_drawing_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    found = peaks(tmp_path, "train 1000 1", "sample 140000", "sample 400000")
    # 260,000 more rows of a number and a text of four letters are 5 MB.
    assert found["sample 400000"] - found["sample 140000"] < 3 * 2**20


@pytest.mark.slow
def test_memory_of_training_is_a_few_bytes_a_cell(tmp_path: Path) -> None:
    found = peaks(tmp_path, "train 100000 4", "train 400000 4")
    grown = (found["train 400000"] - found["train 100000"]) / 300_000
    assert grown < 300  # bytes a row of 8 columns
