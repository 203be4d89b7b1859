"""The ablation's bookkeeping by hand: what a cell is, what is paired, what is run again."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from synthgen.config import RunConfig

ROOT = Path(__file__).parents[1]


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("ablation")


def line(cell: str, seed: int, c2st: float, table: str = "king", **more: Any) -> dict[str, Any]:
    scores = {"shape": 0.01, "pair_tv": 0.02, "tstr": 0.9, "dcr_share": 0.5, "fit_s": 9.0}
    place = {"cell": cell, "table": table, "seed": seed, "rows": None, "steps": None}
    return {**place, **scores, "c2st_auc": c2st, **more}


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return path


def test_every_cell_is_a_sound_configuration(ablation: ModuleType) -> None:
    seen = [ablation.config_of(cell, None).train for cell in ablation.CELLS]
    assert seen[0] == RunConfig().train
    assert all(a != b for i, a in enumerate(seen) for b in seen[:i])


def test_fewer_steps_keep_the_proportions(ablation: ModuleType) -> None:
    steps = {c: ablation.config_of(c, 1_000).train for c in ("default", "critic-x3", "wgan-gp")}
    assert [t.steps for t in steps.values()] == [1_000] * 3
    assert [t.critic_steps for t in steps.values()] == [None, 600, None]


def test_differences_are_paired_by_table_and_seed(ablation: ModuleType) -> None:
    found = [
        line("default", 0, 0.60),
        line("default", 1, 0.70),
        line("conv", 0, 0.61),
        line("conv", 1, 0.73),
        line("conv", 2, 0.99),  # nothing to compare it with
        line("conv", 0, 0.55, table="adult"),
    ]
    changes = ablation.differences(found, "conv", "c2st_auc")
    assert changes == pytest.approx([0.01, 0.03])
    # Mean .02; standard error: the spread .01 * sqrt(2), over sqrt(2).
    assert ablation.shown(changes, "c2st_auc", signed=True) == "+0.0200±0.0100"
    assert ablation.shown([0.6, 0.7], "c2st_auc", signed=False) == "0.6500 (0.0707)"


def test_the_report(ablation: ModuleType, tmp_path: Path) -> None:
    failed = {k: v for k, v in line("pac-8", 0, 0.0).items() if k in ablation.KEY}
    path = write(
        tmp_path / "grid.jsonl",
        line("default", 0, 0.6),
        line("conv", 0, 0.7, fit_s=12.0),
        {**failed, "error": "too few rows"},
    )
    text = ablation.report(path)
    assert "2 lines, 1 failed" in text
    assert "| conv | 1 |" in text
    assert "0.7000 +0.1000" in text
    assert "12.0 +3.0" in text
    assert "pac-8" not in text


def test_what_is_there_is_not_run_again(
    ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "grid.jsonl", line("default", 0, 0.6))
    with path.open("a", encoding="utf-8") as file:
        file.write('{"cell": "conv", "ta')  # killed in the middle of a line
    ran: list[tuple[str, str, int]] = []

    def measure(args: Any, cell: str, table: str, seed: int) -> dict[str, Any]:
        ran.append((cell, table, seed))
        return {"c2st_auc": 0.5}

    monkeypatch.setattr(ablation, "measure", measure)
    args = ablation.options().parse_args(["--data", str(tmp_path), "--out", str(path)])
    args.tables, args.seeds, args.cells = ["king"], [0], ["default", "conv"]
    for _ in range(2):
        ablation.run(args)
    assert ran == [("conv", "king", 0)]
    assert [one["cell"] for one in ablation.lines(path)] == ["default", "conv"]


def test_shape_by_hand(ablation: ModuleType) -> None:
    real = pd.DataFrame({"level": ["a", "a", "b", None], "number": range(4)})
    fake = pd.DataFrame({"level": ["a", "b", "b", None], "number": [0, 1, 2, 2]})
    # Levels: a from 2 to 1, b from 1 to 2: .25. Four different numbers are levels too: .25.
    assert ablation.shape_error(real, fake) == pytest.approx(0.25)
    many = pd.DataFrame({"number": range(40)})
    # The upper half moved down onto the lower: the distributions differ by a half at its end.
    moved = pd.DataFrame({"number": [i % 20 for i in range(40)]})
    assert ablation.shape_error(many, moved) == pytest.approx(0.5)


def test_capped_halves(ablation: ModuleType, tmp_path: Path) -> None:
    for half in ("train", "holdout"):
        (tmp_path / f"king.{half}.csv").write_text("a,b\n1,2\n3,4\n5,6\n", encoding="utf-8")
    options = ["--data", str(tmp_path), "--rows", "2", "--tables", "king"]
    args = ablation.options().parse_args(options)
    (tmp_path / "capped").mkdir()
    folder = ablation.capped(args, tmp_path / "capped")
    assert (folder / "king.train.csv").read_text(encoding="utf-8") == "a,b\n1,2\n3,4\n"
