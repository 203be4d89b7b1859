"""Anybody's synthetic table: three files in, a decision out; what cannot be judged is said."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from synthgen import demo
from synthgen.cli import app
from synthgen.run_folder import RunFolder

LENIENT = """
[gate]
max_c2st = "off"
max_pair_loss = "off"
min_utility = "off"
prove_power = false
"""


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Admissions as CSV: 900 real rows, 300 fresh ones, and what three tools made of them."""
    folder = tmp_path_factory.mktemp("audit")
    rows = demo.demo_frame(1_600, seed=3).data.drop(columns=["name", "email"])
    for column in demo.SCHEMA.columns:
        if column.kind == "boolean" and column.categories:
            rows[column.name] = np.where(rows[column.name], *column.categories[::-1])
    real, holdout, fresh = rows[:900], rows[900:1200], rows[1200:]
    rng = np.random.default_rng(0)
    shuffled = pd.DataFrame({c: rng.permutation(fresh[c].to_numpy()) for c in fresh})
    for name, frame in {
        "real": real,
        "holdout": holdout,
        "fresh": fresh,
        "copy": real[:400],
        "independent": shuffled,
        "real_ids": fresh.assign(patient_id=real["patient_id"].to_numpy()[:400]),
        "odd": fresh.assign(cost=["Canary-12", *["12.5"] * 399]).drop(columns="patient_id"),
        "narrow": fresh.drop(columns="ward"),
    }.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    (folder / "gate.toml").write_text(LENIENT)
    return folder


@pytest.fixture
def judged(tables: Path, tmp_path: Path) -> Callable[..., Result]:
    def run(synthetic: str, *options: object, **changed: Any) -> Result:
        paths = {"real": "real", "holdout": "holdout"} | changed
        given = [f"--{k}={tables / v}.csv" for k, v in paths.items() if v is not None]
        given.append(f"--synthetic={tables / synthetic}.csv")
        return cli("validate", *given, "--out", tmp_path / "out", *options)

    return run


def rules(out: Path) -> dict[str, bool]:
    return {r.name: r.passed for r in RunFolder.judged(out).decision.rules}


@pytest.mark.slow
def test_a_fresh_sample_passes_and_says_what_was_not_judged(judged, tables, tmp_path):
    done = judged("fresh", "--config", tables / "gate.toml", "--target", "readmitted", "--json")
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert shown["passed"] is True
    assert shown["manifest"] is None
    assert rules(tmp_path / "out")["reused.patient_id"] is True
    for said in ("no schema was given", "no column is declared sensitive", "tried before"):
        assert said in done.stderr
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == [
        "decision.json", "report.html", "report.json", "schema.toml",
    ]  # fmt: skip
    assert out.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in out.iterdir()} == {0o600}
    assert "A table of another tool" in (out / "report.html").read_text()
    assert set(json.loads((out / "report.json").read_text())["provenance"]["files"]) == {
        "real", "holdout", "synthetic",
    }  # fmt: skip
    again = cli("show", out)
    assert again.exit_code == 0
    assert "gate: passed" in again.stdout
    assert "quarantine" not in again.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("synthetic", "refusing"),
    [
        ("copy", "exact_copies"),
        ("independent", "pair_loss"),
        ("real_ids", "reused.patient_id"),
    ],
)
def test_a_copy_and_a_useless_table_are_refused(judged, tmp_path, synthetic, refusing):
    done = judged(synthetic)
    assert done.exit_code == 3, done.output
    assert rules(tmp_path / "out")[refusing] is False


@pytest.mark.slow
def test_cells_that_cannot_be_read_are_counted_and_the_rest_is_judged(judged, tables, tmp_path):
    schema = tables / "schema.toml"
    columns = tuple(c for c in demo.SCHEMA.columns if c.is_modelled)
    replace(demo.SCHEMA, columns=columns).save(schema)
    done = judged("odd", "--schema", schema, "--config", tables / "gate.toml")
    assert done.exit_code == 3, done.output
    found = rules(tmp_path / "out")
    assert found["schema.output"] is False
    assert found["exact_copies"] is True
    assert "Canary-12" not in done.output + (tmp_path / "out" / "report.html").read_text()


def test_without_fresh_rows_nothing_is_judged(judged, tmp_path):
    done = judged("fresh", holdout=None)
    assert done.exit_code == 2
    assert "--holdout is missing" in done.stderr
    assert "before you train" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_training_rows_are_no_holdout(judged):
    done = judged("fresh", holdout="real")
    assert done.exit_code == 2
    assert "--holdout holds the same rows as --real" in done.stderr


def test_other_columns_are_an_error_that_names_them(judged):
    done = judged("narrow")
    assert done.exit_code == 2
    assert "column 'ward' is missing in the synthetic table" in done.stderr
    done = judged("fresh", real="narrow")
    assert done.exit_code == 2
    assert "'ward' in one of them only" in done.stderr


def test_a_run_or_three_files_but_not_both(judged, tmp_path):
    assert cli("validate").exit_code == 2
    assert judged("fresh", tmp_path).exit_code == 2


def test_a_folder_with_something_in_it_is_left_alone(judged, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    assert judged("fresh").exit_code == 2
