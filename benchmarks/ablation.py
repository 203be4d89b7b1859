"""Which parts of the model earn their place? One change at a time against the defaults.

    python benchmarks/ablation.py --data DIR [--tables adult,bank,king] [--seeds 0,1,2]
        [--judge BENCH] [--python JUDGES_PYTHON] [--cells default,no-critic,ns-gan]

The options are those of quality.py, and so are the measures: a line is one fit of one cell.

FIGURES
"""

from __future__ import annotations

from typing import Any

import torch
from quality import HEADER, arguments, measure

from synthgen.config import PRESETS, RunConfig

#: What each cell changes in ``[train]``.
CELLS: dict[str, dict[str, Any]] = {
    "default": {},
    "no-critic": {"critic_steps": 0},
    **{name: {"preset": name} for name in PRESETS if name != "wgan-gp"},
    "gp-10": {"gradient_penalty": 10.0},
    "n-critic-5": {"n_critic": 5},
    "critic-x3": {"critic_steps": 1_200},
    "pac-8": {"pac": 8},
    "minibatch": {"preset": "hinge-sn", "minibatch_discrimination": 16},
    "layer-norm": {"critic_norm": "layer"},
    "batch-norm": {"preset": "ns-gan", "critic_norm": "batch"},
    "clip-grad": {"clip_grad": 1.0},
    "unroll-3": {"unroll": 3},
    "no-ema": {"ema": 0.0},
    "no-dropout": {"dropout": 0.0},
    "no-decay": {"weight_decay": 0.0},
    "width-128": {"width": 128},
    "width-384": {"width": 384},
}


def main() -> None:
    """Print the table of all cells."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--cells", default=",".join(CELLS))
    args = parser.parse_args()
    args.data = args.data.absolute()
    torch.set_num_threads(1)
    print(f"{'cell':18}{HEADER}")
    for table in args.tables.split(","):
        for seed in args.seeds.split(","):
            for cell in args.cells.split(","):
                print(f"{cell:18}", end="", flush=True)
                measure(args, RunConfig.build({"train": CELLS[cell]}), table, int(seed))


if __name__ == "__main__":
    main()
