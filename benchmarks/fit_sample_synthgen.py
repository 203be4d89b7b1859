"""synthgen as one more peer of compare.py: the same options and the same stats as BENCH's runners.

Reading, the inferred schema and conforming count as fitting. `common` is BENCH's: compare.py puts
it onto the path, so that synthgen is timed by the same lines as everybody else.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pandas as pd
from common import peer_args, run_peer, version_of
from quality import read

from synthgen.config import RunConfig
from synthgen.synthesizer import Synthesizer


def commit() -> str:
    """Return the commit that is measured, ``+`` where files differ from it; "" outside git."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    """Fit on a CSV file, sample as many rows, write them and the stats."""
    args = peer_args(__doc__)

    def fit(_: pd.DataFrame) -> Synthesizer:
        table = read(Path(args.train), args.target)
        return Synthesizer.fit(table, config=RunConfig(), seed=args.seed, device="cpu")

    def sample(fitted: Synthesizer, n: int) -> pd.DataFrame:
        return fitted.sample(n, seed=args.seed + 1).data

    version = {**version_of("synthgen", "torch"), "commit": commit()}
    run_peer(args, version, {"everything": "defaults, no schema given"}, fit, sample)


if __name__ == "__main__":
    main()
