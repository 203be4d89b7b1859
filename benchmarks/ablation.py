"""Which parts of the model earn their place? One change at a time against the defaults.

    python benchmarks/tables.py DIR                  # halves of demo, weather, flights
    python benchmarks/ablation.py --data DIR --out grid.jsonl --seeds 0,1,2
        --tables adult,bank,king,demo,weather,flights [--rows 4000] [--steps 1000]
        [--cells default,wgan-gp,...] [--judge BENCH] [--python JUDGES_PYTHON]
    python benchmarks/ablation.py --report grid.jsonl

A line of `grid.jsonl` is one fit of one cell on one table with one seed, and what the judge says of
as many drawn rows. What is there is not run again, so a grid can be stopped and gone on with. All
cells of a seed come before the next seed: a grid that was stopped is whole for the seeds it has.

`--rows` and `--steps` make a grid affordable, about 25 s a line on one core, and make it another
question: models that are trained less, on less. A part that keeps rows from being learnt by heart
(dropout, decay) has less to do there.

The table shows the mean over seeds, and after it the mean difference to "default" with the same
seed, plus or minus its standard error; "all" are the differences over tables and seeds together.

Results, 2026-11-22 and 23, one core of an AMD EPYC that others used as well (CPU seconds are up to
a third too high); differences, plus or minus their standard errors.

At full size, three seeds each of adult, bank and king, "wgan-gp" against the default (no critic):

    table   shape %      pair TV %    TSTR            C2ST            DCR share       fit s
    king    +0.04±0.04   +0.00±0.05   +0.0012±0.0007  -0.0077±0.0017  +0.0156±0.0033  +16 of 56
    bank    -0.03±0.01   -0.04±0.03   -0.0012±0.0018  -0.0038±0.0033  -0.0016±0.0028  +20 of 61
    adult   +0.03±0.02   +0.05±0.01   +0.0001±0.0009  +0.0029±0.0018  -0.0005±0.0049  +21 of 54
    all     +0.01±0.02   +0.00±0.02   +0.0001±0.0007  -0.0029±0.0020  +0.0045±0.0034  +19 of 57

At 4,000 rows and 1,000 steps, three seeds each of adult, bank, king, demo, weather and flights (18
pairs), on the code of 2026-11-22 23:59. The WGAN-GP was the default then, and is in every cell but
"no-critic"; differences are to it:

    cell         shape %      pair TV %    TSTR            C2ST            DCR share       fit s
    no-critic    +0.00±0.03   +0.00±0.03   +0.003±0.007    +0.0008±0.0018  +0.0022±0.0019  -4 of 18
    ns-gan       -0.00±0.00   +0.00±0.00   -0.002±0.003    -0.0000±0.0007  -0.0002±0.0001  -1
    rows-.1      +0.03±0.03   +0.09±0.04   -0.017±0.010    +0.0021±0.0016  -0.0022±0.0019  +16
    match-10     +0.00±0.03   +0.05±0.04   -0.006±0.008    +0.0042±0.0018  -0.0007±0.0023  +4
    conv         -0.00±0.05   +0.31±0.07   -0.028±0.009    +0.0231±0.0049  -0.0055±0.0023  +10
    no-smooth    +0.04±0.04   +0.50±0.08   -0.055±0.017    +0.0661±0.0083  -0.0050±0.0019  -3
    no-dropout   +0.02±0.03   -0.01±0.03   -0.004±0.007    -0.0076±0.0023  +0.0027±0.0015  -1

The other cells (the rest of the family, pac, minibatch discrimination, norms, clipping, unrolled
steps, EMA, decay, widths) have hardly been run: one table and one seed of wgan-gp-one-sided,
wgan-clip, gan and hinge-sn, none of which moves C2ST by more than .008.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from judge import arguments, half_of, judge, parse, words
from quality import made

from synthgen.checks.marginals import ks, tvd
from synthgen.config import PRESETS, RunConfig
from synthgen.errors import SynthgenError

Record = dict[str, Any]

#: What each cell changes in ``[train]``.
CELLS: dict[str, dict[str, Any]] = {
    "default": {},
    **{name: {"preset": name} for name in PRESETS},
    "gp-10": {"preset": "wgan-gp", "gradient_penalty": 10.0},
    "n-critic-5": {"preset": "wgan-gp", "n_critic": 5},
    "critic-x3": {"critic_steps": 1_200},
    "pac-8": {"preset": "wgan-gp", "pac": 8},
    "minibatch": {"preset": "hinge-sn", "minibatch_discrimination": 16},
    "layer-norm": {"preset": "wgan-gp", "critic_norm": "layer"},
    "batch-norm": {"preset": "ns-gan", "critic_norm": "batch"},
    "clip-grad": {"clip_grad": 1.0},
    "unroll-3": {"preset": "wgan-gp", "unroll": 3},
    "rows-.01": {"row_adversary": 0.01},
    "rows-.1": {"row_adversary": 0.1},
    "rows-ns-.1": {"row_adversary": 0.1, "preset": "ns-gan"},
    "match-10": {"matching": 10.0},
    "match-100": {"matching": 100.0},
    "conv": {"architecture": "conv"},
    "no-smooth": {"harmonics": 0},
    "no-ema": {"ema": 0.0},
    "no-dropout": {"dropout": 0.0},
    "no-decay": {"weight_decay": 0.0},
    "width-128": {"width": 128},
    "width-384": {"width": 384},
}
#: What a line is of.
KEY = ("cell", "table", "seed", "rows", "steps")
#: What a line holds, how it is shown, and its factor there.
MEASURES = {
    "shape": ("shape %", 100, 2),
    "pair_tv": ("pair TV %", 100, 2),
    "tstr": ("TSTR", 1, 4),
    "c2st_auc": ("C2ST", 1, 4),
    "dcr_share": ("DCR share", 1, 4),
    "fit_s": ("fit s", 1, 1),
}
#: Of `evaluate.py`: shape is measured here, and sdmetrics takes half of the judge's time.
PARTS = "pairs,tstr,c2st,privacy"
#: A number with more different values than this is compared as a number.
LEVELS = 20


def config_of(cell: str, steps: int | None) -> RunConfig:
    """Return the configuration of a cell, with `steps` of the skeleton and a share of the critic's.

    None stands for the steps of the whole table.
    """
    train = dict(CELLS[cell])
    if steps is not None:
        train["steps"] = steps
        if "critic_steps" in train:
            train["critic_steps"] = min(train["critic_steps"], 3 * (steps // 5))
    return RunConfig.build({"train": train})


def measure(args: argparse.Namespace, cell: str, table: str, seed: int) -> Record:
    """Fit, sample as many rows, judge; return the line."""
    half = half_of(args.data, table, "train")
    with made(half, config_of(cell, args.steps), table, seed) as one:
        json_path = one.path.with_suffix(".json")
        scores: Record = dict(judge(args, table, one.path, json_path, parts=PARTS))
        shape = shape_error(*map(pd.read_csv, (half, one.path)))
    tstr = scores["tstr"].get("auc", scores["tstr"].get("r2"))
    kept = ("pair_tv", "c2st_auc", "dcr_share", "exact_match_share", "exact_match_share_holdout")
    return {
        "shape": shape,
        "tstr": tstr,
        **{name: scores[name] for name in kept},
        "fit_s": one.fit_s,
        "sample_s": one.sample_s,
    }


def shape_error(real: pd.DataFrame, synthetic: pd.DataFrame) -> float:
    """Return the mean over columns of the Kolmogorov-Smirnov or total variation distance."""
    gaps = []
    for column in real:
        a, b = real[column], synthetic[column]
        is_number = pd.api.types.is_numeric_dtype(a)
        if is_number and a.nunique() > LEVELS:
            gaps.append(ks(a.dropna().to_numpy(float), b.dropna().to_numpy(float)).value)
            continue
        kind = float if is_number else object  # 1 and 1.0 are one level
        both = pd.concat([a.astype(kind), b.astype(kind)])
        codes = pd.factorize(both, use_na_sentinel=False)[0]
        gaps.append(tvd(codes[: len(a)], codes[len(a) :]).value)
    return float(np.mean(gaps))


# --- the grid


def key(line: Record) -> tuple[Any, ...]:
    """Return what a line is of."""
    return tuple(line[name] for name in KEY)


def lines(path: Path) -> list[Record]:
    """Return the lines of an earlier call; one that was cut off in writing is left out."""
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in whole]


def run(args: argparse.Namespace) -> None:
    """Write the line of every cell that has none; a cell that fails leaves its reason."""
    done = {key(line) for line in lines(args.out) if "error" not in line}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("a+b") as file:  # a line that was cut off is cut away
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
    with args.out.open("a", encoding="utf-8") as out:
        for seed in args.seeds:
            for table in args.tables:
                for cell in args.cells:
                    place = dict(zip(KEY, (cell, table, seed, args.rows, args.steps), strict=True))
                    if key(place) in done:
                        continue
                    try:
                        found = measure(args, cell, table, seed)
                    except (SynthgenError, subprocess.CalledProcessError, KeyError) as error:
                        # A measure that the judge could not take is a key that is not there.
                        found = {"error": f"{type(error).__name__}: {error}"}
                    out.write(json.dumps({**place, **found}) + "\n")
                    out.flush()


def capped(args: argparse.Namespace, folder: Path) -> Path:
    """Return a folder with the first `args.rows` rows of each half."""
    for table in args.tables:
        for half in ("train", "holdout"):
            text = half_of(args.data, table, half).read_text(encoding="utf-8")
            rows = text.splitlines(keepends=True)[: args.rows + 1]
            half_of(folder, table, half).write_text("".join(rows), encoding="utf-8")
    return folder


# --- the table


def differences(found: Sequence[Record], cell: str, name: str) -> list[float]:
    """Return the differences of a cell to "default" with the same table, seed and size."""
    base = {key(line)[1:]: line[name] for line in found if line["cell"] == "default"}
    return [
        line[name] - base[key(line)[1:]]
        for line in found
        if line["cell"] == cell and key(line)[1:] in base
    ]


def shown(values: Sequence[float], name: str, *, signed: bool) -> str:
    """Return the mean, and plus or minus its standard error where it is a difference."""
    _, factor, digits = MEASURES[name]
    if not values:
        return "-"
    scaled = factor * np.asarray(values)
    if not signed:
        spread = f" ({scaled.std(ddof=1):.{digits}f})" if len(scaled) > 1 else ""
        return f"{scaled.mean():.{digits}f}{spread}"
    error = f"±{scaled.std(ddof=1) / len(scaled) ** 0.5:.{digits}f}" if len(scaled) > 1 else ""
    return f"{scaled.mean():+.{digits}f}{error}"


def report(path: Path) -> str:
    """Return a table in Markdown for each table, and one of all."""
    every = lines(path)
    found = [line for line in every if "error" not in line]
    titles = [title for title, _, _ in MEASURES.values()]
    text = [f"{len(found)} lines, {len(every) - len(found)} failed. Mean (spread over seeds)."]
    groups: dict[str, list[Record]] = {}
    for line in found:
        where = f"{line['table']}, rows {line['rows'] or 'all'}, steps {line['steps'] or 'default'}"
        groups.setdefault(where, []).append(line)
    for title, group in [*groups.items(), ("all", found)]:
        text += ["", f"### {title}", "", "| cell | n | " + " | ".join(titles) + " |"]
        text.append("|---" * (len(titles) + 2) + "|")
        for cell in [c for c in CELLS if any(line["cell"] == c for line in group)]:
            mine = [line for line in group if line["cell"] == cell]
            entries = []
            for name in MEASURES:
                values = shown([line[name] for line in mine], name, signed=False)
                change = shown(differences(group, cell, name), name, signed=True)
                is_base, is_all = cell == "default", title == "all"
                entries.append(values if is_base else change if is_all else f"{values} {change}")
            text.append(f"| {cell} | {len(mine)} | " + " | ".join(entries) + " |")
    return "\n".join(text)


def options() -> argparse.ArgumentParser:
    """Return the options."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--cells", type=words, default=",".join(CELLS))
    parser.add_argument("--rows", type=int, help="of each half; all when not given")
    parser.add_argument("--steps", type=int, help="of the skeleton; planned when not given")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation.jsonl"))
    return parser


def main() -> None:
    """Fill the grid, and print what it says."""
    if sys.argv[1:2] == ["--report"]:
        print(report(Path(sys.argv[2])))
        return
    args = parse(options())
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if args.rows:
            args.data = capped(args, Path(folder))
        run(args)
    print(report(args.out))


if __name__ == "__main__":
    main()
