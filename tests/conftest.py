"""Fixtures that many tests share: one small demo table, one tiny synthesizer, one finished run.

They are made once a session. Tests must not write into them; copy a folder to change it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synthgen import demo
from synthgen.config import RunConfig
from synthgen.pipeline import Outcome, run
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable, Split, split

DEMO_ROWS = 1_500
#: Seconds of training: enough for a path, not for quality.
TINY_TRAIN: dict[str, Any] = {"steps": 40, "critic_steps": 10, "width": 32, "depth": 1}
#: What only a good generator meets is not asked for; copies, schema and enough rows still are.
LENIENT_GATE: dict[str, Any] = {
    "max_marginal_excess": None,
    "max_pair_loss": None,
    "max_c2st": None,
    "min_utility": None,
    "max_dcr_z": None,
    "prove_power": False,  # a few hundred rows cannot
    "samples": 1,
}


@pytest.fixture(scope="session")
def demo_table() -> RealTable:
    """1,500 made-up admissions."""
    return demo.demo_frame(DEMO_ROWS, seed=0)


@pytest.fixture(scope="session")
def demo_halves(demo_table: RealTable) -> Split:
    """The demo table, four fifths for training."""
    return split(demo_table, holdout=0.2, seed=0)


@pytest.fixture(scope="session")
def demo_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``admissions.csv`` and its ``schema.toml``."""
    folder = tmp_path_factory.mktemp("demo")
    demo.write_csv(folder / "admissions.csv", DEMO_ROWS, 0)
    demo.SCHEMA.save(folder / "schema.toml")
    return folder


@pytest.fixture(scope="session")
def tiny_synthesizer(demo_halves: Split) -> Synthesizer:
    """A synthesizer of the demo table after a few steps: right in form, poor in quality."""
    config = RunConfig.build({"train": TINY_TRAIN})
    return Synthesizer.fit(demo_halves.train, config=config, seed=0, device="cpu")


@pytest.fixture(scope="session")
def tiny_config(demo_files: Path) -> Callable[..., RunConfig]:
    """Return a function from a target (and changes) to the configuration of a quick run."""

    def build(to: Path, **changes: Any) -> RunConfig:
        settings = {
            "data": str(demo_files / "admissions.csv"),
            "schema_path": str(demo_files / "schema.toml"),
            "to": str(to),
            "rows": 400,
            "seed": 1,
            "device": "cpu",
            "train": TINY_TRAIN,
            "gate": LENIENT_GATE,
        }
        return RunConfig.build({**settings, **changes})

    return build


@pytest.fixture(scope="session")
def finished(
    tiny_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    """One run that the lenient gate passed, exported to ``out.csv`` beside its folder."""
    folder = tmp_path_factory.mktemp("finished")
    return run(tiny_config(folder / "out.csv"), run_dir=folder / "run")
