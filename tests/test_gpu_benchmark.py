"""The GPU benchmark's arithmetic, by hand; and that it runs, on a CPU and few rows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from synthgen.encode.column import Layout
from synthgen.gan.train import Plan

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", ROOT / "benchmarks" / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def layout() -> Layout:
    """Three coarse tokens of 10 levels, one fine one of 30."""
    none = np.zeros(0, np.int64)
    sizes = np.array([10, 10, 10, 30])
    return Layout(sizes, 3, none, (), (), (), none, none, (), ())


def test_work_of_a_step_by_hand(gpu: ModuleType, layout: Layout) -> None:
    sizes = Plan(
        steps=1, critic_steps=0, batch_size=4, width=5, depth=2, evaluate_every=1, dropout=0.0
    )
    work = gpu.step_work(layout, sizes, parameters=1_000, n_smooth=7)
    # A row in four is asked for 30 fine levels, the others for 30 coarse ones: 30 logits each.
    trunk = 4 * 4 * 2 * 25  # four rows, four square layers
    heads = 4 * 2 * 5 * 30
    tables = 2 * (60 + 4 + 60) * 7 * 5
    assert work.operations == 3 * (trunk + heads + tables)
    weights = 40 * 1_000 + 3 * 4 * 1_000
    assert work.bytes == weights + 5 * 2 * 4 * 30 + 3 * 2 * 4 * 5 * (4 + 8)


def test_the_slower_of_operations_and_bytes_decides(gpu: ModuleType) -> None:
    assert gpu.Work(10, 1).seconds((5, 1)) == 2
    assert gpu.Work(1, 10).seconds((5, 1)) == 10


def test_an_h200_is_not_taken_for_another(gpu: ModuleType) -> None:
    assert [k for k in gpu.PEAKS if "NVIDIA H200 NVL".startswith(k)] == ["NVIDIA H200"]


def test_met_only_if_all_are(gpu: ModuleType) -> None:
    scores = {"shape_error": 0.008, "trend_error": 0.02, "tstr": 0.91, "c2st_auc": 0.55}
    assert gpu.meets(scores)
    assert not gpu.meets({**scores, "tstr": 0.9})
    assert not gpu.meets({**scores, "c2st_auc": 0.57})


@pytest.mark.slow
def test_it_runs_on_a_cpu(
    gpu: ModuleType, demo_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(demo_files / "admissions.csv")
    gpu.main(["--data", data, "--device", "cpu", "--steps", "41", "--rows", "600"])
    shown = capsys.readouterr().out
    for part in ("skeleton", "detail", "steps/s", "G operations", "rows/s", "no floor", "no GPU"):
        assert part in shown
