"""How much the synthetic table differs from the real one: all measures of it, in one list."""

from __future__ import annotations

from synthgen.checks import detection, marginals, pairs, support
from synthgen.checks.check import Area, Check

CHECKS: dict[str, tuple[Area, Check]] = {
    "marginals": ("fidelity", marginals.marginals),
    "wasserstein": ("fidelity", marginals.shapes),
    "pair_tv": ("fidelity", pairs.pairs),
    "correlation": ("fidelity", pairs.correlations),
    "co_missing": ("fidelity", pairs.co_missing),
    "dependencies": ("fidelity", pairs.dependencies),
    "alpha_precision": ("fidelity", support.precision_recall),
    "frechet": ("fidelity", support.frechet),
    "duplicates": ("fidelity", support.collapse),
    "c2st": ("fidelity", detection.trees),
    "c2st_linear": ("fidelity", detection.linear),
    "pmse_ratio": ("fidelity", detection.propensity),
}
