"""The end-to-end audit of benchmarks/dp_audit.py: by hand, and in short."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from synthgen.config import RunConfig

ROOT = Path(__file__).parents[2]
#: Fits on each neighbour: half of them decide, and tables told apart in all of 30 prove 2.03. With
#: the noise of epsilon 1 some look alike, so leaking metadata take more.
RUNS, RUNS_IN_NOISE = 60, 150


@pytest.fixture
def black_box(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("dp_audit")


def spending(epsilon: float) -> RunConfig:
    return RunConfig.build({"train": {"dp": {"epsilon": epsilon, "engine": "tree"}}})


def test_what_scores_prove(black_box: ModuleType) -> None:
    # Apart in all of 200 runs: 100 decide, so at least .0366 ** (1 / 100) = .9638 true positives
    # and at most 1 - .9638 false ones (Clopper & Pearson at 97.5 %): log(.9638 / .0362) = 3.28
    apart = black_box.lower_bound(np.ones(200), np.zeros(200))
    assert apart == pytest.approx(np.log(0.025**0.01 / (1 - 0.025**0.01)), abs=1e-3)
    same = np.random.default_rng(0).normal(size=400)
    assert black_box.lower_bound(same[:200], same[200:]) < 0.5


def test_neighbours_differ_in_one_row(black_box: ModuleType) -> None:
    more, fewer = black_box.table(odd=True), black_box.table(odd=False)
    assert more.schema == fewer.schema
    assert more.data.iloc[:-1].equals(fewer.data)


@pytest.mark.slow
def test_fit_and_sample_show_no_more_than_is_claimed(black_box: ModuleType) -> None:
    assert black_box.audit(spending(1.0), RUNS) <= 1.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("epsilon", "observed", "runs"), [(100.0, False, RUNS), (1.0, True, RUNS_IN_NOISE)]
)
def test_noise_and_metadata_that_leak_are_found(
    black_box: ModuleType, epsilon: float, observed: bool, runs: int
) -> None:
    assert black_box.audit(spending(epsilon), runs, observed=observed) > 1.0
