"""Run anonymeter's attacks on the tables of `planted.py` and write what they found.

In an environment of its own (anonymeter forces numpy 1.26; it is no dependency of synthgen):

    python -m venv anonymeter && anonymeter/bin/pip install anonymeter==1.1.0
    anonymeter/bin/python tests/known/run_anonymeter.py FOLDER SECRET OUT.json

Inference guesses the column SECRET from all others; linkability has the even columns on one side
and the odd ones on the other. 95 % intervals. anonymeter.json holds both files' contents by table.
"""

import importlib.metadata
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

ATTACKS = 1_500


def main(folder: Path, secret: str, out: Path) -> None:
    """Attack each synthetic table."""
    # here, since the tests' own environment has no anonymeter
    from anonymeter.evaluators import InferenceEvaluator, LinkabilityEvaluator, SinglingOutEvaluator

    warnings.simplefilter("ignore")
    np.random.seed(0)  # linkability has no seed of its own
    train, holdout = (pd.read_parquet(folder / f"{p}.parquet") for p in ("train", "holdout"))
    names = list(train)
    found = {}
    for path in sorted(folder.glob("synthetic.*.parquet")):
        synthetic = pd.read_parquet(path)
        aux = (names[::2], names[1::2])
        out_of = dict(ori=train, syn=synthetic, control=holdout, n_attacks=ATTACKS)
        attacks = {
            "singling_out_1": (SinglingOutEvaluator(**out_of, seed=0), {"mode": "univariate"}),
            "singling_out_4": (
                SinglingOutEvaluator(**out_of, n_cols=4, seed=0),
                {"mode": "multivariate"},
            ),
            "linkability": (LinkabilityEvaluator(**out_of, aux_cols=aux), {"n_jobs": 1}),
            "attribute_inference": (
                InferenceEvaluator(
                    **out_of, secret=secret, aux_cols=[n for n in names if n != secret]
                ),
                {"n_jobs": 1},
            ),
        }
        cell = found[path.name.removeprefix("synthetic.").removesuffix(".parquet")] = {}
        for name, (evaluator, how) in attacks.items():
            try:
                evaluator.evaluate(**how)
                risk, results = evaluator.risk(), evaluator.results()
                cell[name] = {
                    "risk": round(risk.value, 4),
                    "interval": [round(x, 4) for x in risk.ci],
                    "main": round(results.attack_rate.value, 4),
                    "control": round(results.control_rate.value, 4),
                    "n": ATTACKS,
                }
            except RuntimeError as error:
                cell[name] = {"failed": type(error).__name__}
    packages = ("anonymeter", "numpy", "pandas", "polars", "numba")
    versions = {p: importlib.metadata.version(p) for p in packages}
    out.write_text(json.dumps({"versions": versions, "secret": secret, "found": found}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
