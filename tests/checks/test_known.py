"""Agreement with third parties on the same tables, to 1e-6; see tests/known/README.md."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp, wasserstein_distance

from synthgen.checks.check import Evidence, Measurement
from synthgen.checks.marginals import marginals, shapes, spread
from synthgen.checks.pairs import correlations, pairs
from synthgen.schema import Column, TableSchema

KNOWN = Path(__file__).parent.parent / "known"
VALUES = json.loads((KNOWN / "sdmetrics.json").read_text())


def _tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    spec = importlib.util.spec_from_file_location("known_tables", KNOWN / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.REAL, module.SYNTHETIC


REAL, SYNTHETIC = _tables()
SCHEMA = TableSchema(
    name="known",
    columns=tuple(
        Column(
            name=name,
            kind="categorical" if name in ("job", "town") else "numeric",
            nullable=name in ("weight", "job"),
        )
        for name in REAL.columns
    ),
)
#: sdmetrics' name -> the measure, and how its value becomes theirs
SAME = {
    "KSComplement": ("ks", lambda x: 1 - x),
    "TVComplement": ("tvd", lambda x: 1 - x),
    "MissingValueSimilarity": ("missing", lambda x: 1 - x),
    "RangeCoverage": ("coverage", lambda x: x),
    "CategoryCoverage": ("coverage", lambda x: x),
    "BoundaryAdherence": ("adherence", lambda x: x),
    "CategoryAdherence": ("adherence", lambda x: x),
}


@pytest.fixture(scope="module")
def measured() -> dict[str, Measurement]:
    evidence = Evidence(SCHEMA, REAL, SYNTHETIC, SYNTHETIC)
    found = [m for check in (marginals, shapes, pairs, correlations) for m in check(evidence)]
    return {m.name: m for m in found}


@pytest.mark.parametrize(
    ("metric", "column"), [(m, c) for m in SAME for c in VALUES[m] if VALUES[m][c] != 1]
)
def test_a_column_scores_as_with_sdmetrics(measured, metric, column):
    name, theirs = SAME[metric]
    assert theirs(measured[f"{name}.{column}"].value) == pytest.approx(
        VALUES[metric][column], abs=1e-6
    )


def test_what_is_perfect_with_sdmetrics_is_perfect_here(measured):
    for metric, (name, theirs) in SAME.items():
        for column in (c for c, x in VALUES[metric].items() if x == 1):
            m = measured.get(f"{name}.{column}")
            assert m is None or theirs(m.value) == 1  # None: nothing is missing


def test_column_shapes_is_the_mean_of_both(measured):
    theirs = [*VALUES["KSComplement"].values(), *VALUES["TVComplement"].values()]
    assert 1 - measured["shape_error"].value == pytest.approx(np.mean(theirs), abs=1e-6)


def test_correlations_are_those_of_sdmetrics(measured):
    theirs = np.mean(list(VALUES["CorrelationSimilarity"].values()))
    assert 1 - measured["correlation"].value / 2 == pytest.approx(theirs, abs=1e-6)


def test_a_pair_of_levels_scores_as_with_sdmetrics(measured):
    pair = next(p for p in measured["pair_tv"].details["pairs"] if p["columns"] == ["job", "town"])
    theirs = VALUES["ContingencySimilarity"]["job|town"]
    assert 1 - pair["value"] == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("column", ["age", "gain", "weight"])
def test_distances_are_scipys(measured, column):
    real, synthetic = REAL[column].dropna(), SYNTHETIC[column].dropna()
    statistic = ks_2samp(real, synthetic, method="asymp").statistic
    assert measured[f"ks.{column}"].value == pytest.approx(statistic, abs=1e-12)
    area = wasserstein_distance(real, synthetic) / spread(REAL[column].to_numpy())
    assert measured[f"wasserstein.{column}"].value == pytest.approx(area, abs=1e-9)
