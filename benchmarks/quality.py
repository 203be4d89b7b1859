"""How good are the rows? Fit on half a real table, sample as many, ask an independent judge.

    python benchmarks/quality.py --data DIR [--tables adult,bank,king] [--seeds 0,1,2]
        [--judge BENCH] [--python JUDGES_PYTHON] [--config FILE]

`BENCH` is the third-party judge's folder (see judge.py) and `--python` the interpreter that it runs
on (sdmetrics, xgboost; made from peers/judge.txt when not given). `DIR` holds ``<table>.train.csv``
and ``<table>.holdout.csv``. CPU seconds are those of one core: start it under ``taskset -c 0``.

The last results, with the machine, are in docs/model.md.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.csv as pc
import torch
from judge import TARGETS, arguments, half_of, judge, parse

from synthgen.config import RunConfig
from synthgen.conform import conform
from synthgen.infer import infer
from synthgen.sources import open_source
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable, to_arrow

HEADER = "table    seed  shape  trend pairtv   TSTR   C2ST    DCR copies/holdout  fit s smp s   MiB"


def read(path: Path, target: str) -> RealTable:
    """Read a CSV by its inferred schema, as `synthgen run` does without one."""
    source = open_source(str(path))
    return conform(source.batches(), infer(source).with_target(target))


@dataclass(frozen=True)
class Made:
    """A synthetic CSV of as many rows as the training half, and the CPU seconds it took."""

    path: Path
    fit_s: float
    sample_s: float


@contextmanager
def made(half: Path, config: RunConfig, table: str, seed: int) -> Iterator[Made]:
    """Fit the training half, draw as many rows, write them to a file that does not stay."""
    real = read(half, TARGETS[table])
    start = time.process_time()
    fitted = Synthesizer.fit(real, config=config, seed=seed, device="cpu")
    fit_s, start = time.process_time() - start, time.process_time()
    rows = fitted.sample(len(real), seed=seed + 1)
    sample_s = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{table}.csv"
        pc.write_csv(to_arrow(rows.data, rows.schema), path)
        yield Made(path, fit_s, sample_s)


def measure(args: argparse.Namespace, config: RunConfig, table: str, seed: int) -> None:
    """Fit, sample, judge; print one line."""
    with made(half_of(args.data, table, "train"), config, table, seed) as one:
        e = judge(args, table, one.path, one.path.with_suffix(".json"))
    percent = " ".join(
        f"{100 * float(str(e[name])):6.2f}" for name in ("shape_error", "trend_error", "pair_tv")
    )
    tstr = e["tstr"]
    assert isinstance(tstr, dict)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{table:8} {seed:4} {percent} {tstr.get('auc', tstr.get('r2')):6.3f} {e['c2st_auc']:6.3f} "
        f"{e['dcr_share']:6.3f} {e['exact_match_share']:.4f}/{e['exact_match_share_holdout']:.4f} "
        f"{one.fit_s:6.1f} {one.sample_s:6.2f} {memory:6}",
        flush=True,
    )


def main() -> None:
    """Print the table of all runs."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--config", default=None, help="a TOML configuration to compare with")
    args = parse(parser)
    config = RunConfig.from_toml(Path(args.config).read_text()) if args.config else RunConfig()
    torch.set_num_threads(1)
    print(HEADER)
    for table in args.tables:
        for seed in args.seeds:
            measure(args, config, table, seed)


if __name__ == "__main__":
    main()
