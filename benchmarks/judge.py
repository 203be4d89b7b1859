"""What the benchmarks share: their options, the third-party judge, and environments made from pins.

The judge is a folder of scripts that is no part of this repository, because whoever measures must
not be whoever is measured. It holds `evaluate.py` (CSV files in, JSON out; it knows nothing of
synthgen), `common.py` and, for `compare.py`, a runner `fit_sample_<peer>.py` a peer, all taking
``--train --target --out --stats --seed``. `parse` says what is missing of it.

Neither torch nor synthgen is imported here: what a parent process holds counts as a high-water
mark of the processes that it starts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: What is predicted in each table; demo, weather and flights are made by tables.py.
TARGETS = {
    "adult": "income",
    "bank": "y",
    "king": "price",
    "demo": "readmitted",
    "weather": "temp",
    "flights": "sched_arr_time",
}
#: What `evaluate.py` is asked for; the rest of it is slow and tells nothing more.
PARTS = "sdmetrics,pairs,tstr,c2st,privacy"
#: One requirements file an environment, every version pinned.
PINS = Path(__file__).parent / "peers"
#: CPU seconds compare only where nobody starts threads of their own, and nothing writes into BENCH.
QUIET = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSONL file of results; none if there is no file."""
    return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []


def words(text: str) -> list[str]:
    """Split at commas: ``"adult,king"`` is ``["adult", "king"]``."""
    return [word for word in text.split(",") if word]


def numbers(text: str) -> list[int]:
    """Split at commas: ``"0,1"`` is ``[0, 1]``."""
    return [int(word) for word in words(text)]


def arguments(description: str) -> argparse.ArgumentParser:
    """Return the options of every benchmark that uses the judge."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder with <table>.train.csv and <table>.holdout.csv",
    )
    parser.add_argument("--tables", type=words, default="adult,bank,king")
    parser.add_argument("--seeds", type=numbers, default="0")
    parser.add_argument(
        "--judge",
        type=Path,
        default=Path("../shared/bench"),
        metavar="BENCH",
        help="folder with evaluate.py, common.py and the peers' runners; not in this repository",
    )
    parser.add_argument(
        "--python",
        type=Path,
        help="interpreter with sdmetrics and xgboost (default: made from benchmarks/peers)",
    )
    parser.add_argument(
        "--venvs",
        type=Path,
        default=Path("runs/venvs"),
        help="folder of the environments that are made (default: %(default)s)",
    )
    return parser


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None, *, scripts: str = ""
) -> argparse.Namespace:
    """Return the options with absolute paths.

    `scripts` is a pattern of further files that BENCH must hold. Ends the process with a usage
    error that lists everything that is missing.
    """
    args = parser.parse_args(argv)
    args.data, args.judge, args.venvs = (p.absolute() for p in (args.data, args.judge, args.venvs))
    if args.python:
        args.python = args.python.absolute()
    if lacking := missing(args.judge, args.data, args.tables, scripts):
        parser.error("\n  ".join(["", *lacking]))
    return args


def missing(bench: Path, data: Path, tables: Sequence[str], scripts: str = "") -> list[str]:
    """Return what a benchmark needs and does not find, with the remedy; empty when all is there."""
    out = [
        f"{bench / name} is missing: --judge names the folder of the third-party judge"
        for name in ("evaluate.py", "common.py")
        if not (bench / name).is_file()
    ]
    if scripts and not any(bench.glob(scripts)):
        out.append(f"{bench} has no {scripts}: there is no peer to compare with")
    for table in tables:
        if table not in TARGETS:
            out.append(f"table {table!r} has no target in benchmarks/judge.py: {sorted(TARGETS)}")
        out += [
            f"{half_of(data, table, half)} is missing: make both halves with BENCH's make_split.py"
            for half in ("train", "holdout")
            if not half_of(data, table, half).is_file()
        ]
    return out


def half_of(data: Path, table: str, half: str) -> Path:
    """Return the path of the ``train`` or ``holdout`` half of a table."""
    return data / f"{table}.{half}.csv"


def environment(folder: Path, name: str) -> Path:
    """Return the interpreter of environment `name`, made from ``peers/<name>.txt`` where needed.

    Raises
    ------
    subprocess.CalledProcessError
        If pip cannot make it; the next call starts afresh.
    """
    pins, home = PINS / f"{name}.txt", folder / name
    python, stamp = home / "bin" / "python", home / "pins.txt"
    if stamp.exists() and stamp.read_text() == pins.read_text():
        return python
    print(f"making the environment {home}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet"]
    # torch by itself and first: asked for by another package it would take a CUDA build. The rest
    # as listed, without what it asks for: mostlyai-engine would take a torchvision that breaks it.
    torch = [line for line in pins.read_text().splitlines() if line.startswith("torch==")]
    if torch:
        subprocess.run([*install, *torch], check=True)
    subprocess.run([*install, "--no-deps", "--requirement", str(pins)], check=True)
    shutil.copyfile(pins, stamp)
    return python


def judge(
    args: argparse.Namespace,
    table: str,
    synthetic: Path,
    out: Path,
    *,
    parts: str = PARTS,
    holdout: Path | None = None,
) -> dict[str, object]:
    """Return the third-party measures of a synthetic CSV, and keep them in `out`.

    Parameters
    ----------
    args : argparse.Namespace
        Of `parse`.
    table : str
        Whose halves to judge by.
    synthetic, out : Path
        `out` appears whole or not at all; beside it, ``<out>.log`` holds what a failure said.
    parts : str
        Of `evaluate.py`.
    holdout : Path, optional
        Stands in for the table's holdout half.

    Raises
    ------
    subprocess.CalledProcessError
        If the judge fails.
    """
    python = args.python or environment(args.venvs, "judge")
    part, log = out.with_name(f"{out.name}.part"), out.with_name(f"{out.name}.log")
    with log.open("w") as stream:
        subprocess.run(
            [
                python,
                "evaluate.py",
                f"--train={half_of(args.data, table, 'train')}",
                f"--holdout={holdout or half_of(args.data, table, 'holdout')}",
                f"--synth={synthetic}",
                f"--target={TARGETS[table]}",
                f"--out={part}",
                f"--parts={parts}",
            ],
            cwd=args.judge,
            check=True,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **QUIET},
        )
    log.unlink()
    part.replace(out)
    scores: dict[str, object] = json.loads(out.read_text())
    return scores
