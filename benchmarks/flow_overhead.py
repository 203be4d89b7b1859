"""What a Prefect flow costs over the same stages in plain Python.

Usage: PREFECT_API_URL=http://127.0.0.1:4200/api python benchmarks/flow_overhead.py

The embedded demo table, 1,500 rows, 40 training steps, 400 rows drawn, seed 1. Cold: `synthgen
run` with and without ``--flow``, a process each, at a server that runs. Warm: in a process that has
run a flow before, the flow over a run folder in which every stage is done, so that it is all
overhead; and `pipeline.resume` of the same. CPU seconds of the client's processes; the server's are
its own.

2026-11-26, two cores shared with seven other jobs (load 14 to 18), prefect 3.8.8; the server of the
warm ones on PostgreSQL 15. Cold, one run each: 23.8 CPU s plain, 24.0 as a flow. Warm, median of
three: .27 CPU s for the flow, .00 for `resume`; by the clock 11.7 s on that busy machine, so what a
free one takes is not known.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthgen import demo
from synthgen.config import RunConfig

SETTINGS: dict[str, Any] = {
    "rows": 400,
    "seed": 1,
    "device": "cpu",
    "train": {"steps": 40, "critic_steps": 0, "width": 32, "depth": 1},
    "gate": dict.fromkeys(
        ("max_marginal_excess", "max_pair_loss", "max_c2st", "min_utility", "max_dcr_z"), "off"
    )
    | {"prove_power": False},
}


def config(folder: Path, name: str) -> RunConfig:
    """Return the settings of a run into `folder`."""
    paths = {"data": folder / "in.csv", "schema_path": folder / "schema.toml"}
    texts = {k: str(v) for k, v in paths.items()}
    return RunConfig.build({**SETTINGS, **texts, "to": str(folder / f"{name}.csv")})


def cold(folder: Path, *options: str) -> float:
    """Return the CPU seconds of one `synthgen run` in a process of its own."""
    name = f"cold{len(options)}"
    (folder / f"{name}.toml").write_text(config(folder, name).to_toml())
    environment = dict(os.environ)
    if not options:
        environment.pop("PREFECT_API_URL")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "synthgen", "run", "--config", f"{name}.toml", *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 3):  # refused by the gate: the stages before were run
        raise RuntimeError(done.stderr[-2_000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def warm(run: Callable[[str], Any], folder: Path) -> tuple[float, float]:
    """Return CPU seconds and seconds, the median of three after a first, of `run` on `folder`."""
    took = []
    for _ in range(4):
        start, clock = time.process_time(), time.monotonic()
        run(str(folder))
        took.append((time.process_time() - start, time.monotonic() - clock))
    cpu, seconds = (statistics.median(t) for t in zip(*took[1:], strict=True))
    return round(cpu, 2), round(seconds, 2)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        demo.write_csv(folder / "in.csv", 1_500, 0)
        demo.SCHEMA.save(folder / "schema.toml")
        print(json.dumps({"cold": [cold(folder), cold(folder, "--flow")]}), flush=True)
        from flows.synthesize import synthesize
        from synthgen.pipeline import resume

        (done, *_) = (folder / "runs").iterdir()
        print(json.dumps({"warm": [warm(resume, done), warm(synthesize, done)]}))


if __name__ == "__main__":
    main()
