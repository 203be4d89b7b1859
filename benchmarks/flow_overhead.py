"""What a Prefect flow costs over the same stages in plain Python.

Usage: PREFECT_API_URL=http://127.0.0.1:4200/api python benchmarks/flow_overhead.py

The embedded demo table, 1,500 rows, 40 training steps, 400 rows drawn, seed 1. Cold: `synthgen run`
with and without ``--flow``, a process each, at a server that runs. Warm: the second of two runs in
one process. CPU seconds of the client's processes; the server's are its own.

PLACEHOLDER
"""

from __future__ import annotations

import json
import os
import resource
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


def warm(folder: Path, name: str, run: Callable[..., Any]) -> tuple[float, float]:
    """Return CPU seconds and seconds of the second of two runs in this process."""
    for number in range(2):
        start, clock = time.process_time(), time.monotonic()
        run(config(folder, f"{name}{number}"), run_dir=folder / f"{name}{number}")
    return time.process_time() - start, time.monotonic() - clock


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        demo.write_csv(folder / "in.csv", 1_500, 0)
        demo.SCHEMA.save(folder / "schema.toml")
        told: dict[str, Any] = {"cold": {"plain": cold(folder), "flow": cold(folder, "--flow")}}
        print(json.dumps(told), flush=True)
        from flows.synthesize import run_flow
        from synthgen.pipeline import run

        told["warm"] = {"plain": warm(folder, "plain", run), "flow": warm(folder, "flow", run_flow)}
        print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
