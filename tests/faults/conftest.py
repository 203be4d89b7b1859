"""What tests of faults share: a run that takes two seconds, and what it leaves undisturbed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synthgen.config import RunConfig
from synthgen.pipeline import Outcome, run
from tests.conftest import LENIENT_GATE, TINY_TRAIN

Configure = Callable[..., RunConfig]

ROWS = 400


@pytest.fixture(scope="session")
def small_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file of an id, numbers, levels, days and gaps."""
    draw = random.Random(0)
    lines = ["patient,age,sex,ward,cost,seen"]
    for i in range(ROWS):
        age = draw.randint(1, 90) if draw.random() < 0.95 else ""
        day = f"2024-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"
        cost = f"{draw.lognormvariate(5, 1):.2f}"
        lines.append(f"P{i:05},{age},{draw.choice('fm')},{draw.choice('abcd')},{cost},{day}")
    path = tmp_path_factory.mktemp("small") / "visits.csv"
    path.write_text("\n".join([*lines, ""]))
    return path


@pytest.fixture(scope="session")
def small_config(small_table: Path) -> Configure:
    """Return a function from a target (and changes) to the configuration of a very quick run."""

    def build(to: Path | str, **changes: Any) -> RunConfig:
        settings = {
            "data": str(small_table),
            "to": str(to),
            "rows": 200,
            "seed": 1,
            "device": "cpu",
            "train": {**TINY_TRAIN, "critic_steps": 5, "evaluate_every": 5},
            "gate": {**LENIENT_GATE, "min_privacy_rows": 20},
        }
        return RunConfig.build({**settings, **changes})

    return build


@pytest.fixture(scope="session")
def undisturbed(small_config: Configure, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The small run as it ends when nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    outcome = run(small_config(folder / "out.csv"), run_dir=folder / "run")
    assert outcome.manifest is not None
    return outcome
