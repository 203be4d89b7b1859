"""Drift: what a reference keeps, what counts as a difference, and what a scheduled run does."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthgen import pipeline
from synthgen.config import DriftConfig, RunConfig
from synthgen.drift import Reference, differences, psi
from synthgen.errors import DriftError
from synthgen.pipeline import Outcome
from synthgen.schema import Column, TableSchema
from synthgen.table import RealTable

Configure = Callable[..., RunConfig]
LIMITS = DriftConfig()
SCHEMA = TableSchema(
    name="t",
    columns=(
        Column(name="x", kind="numeric", nullable=True),
        Column(name="ward", kind="categorical"),
    ),
)
K = 10


def table(x: object, ward: object) -> RealTable:
    frame = pd.DataFrame({"x": x, "ward": ward})
    return RealTable(SCHEMA, frame.astype({"x": "float64", "ward": "str"}))


def told(before: RealTable, after: RealTable, **limits: float) -> list[str]:
    found = differences(Reference.of(before, k=K), after, DriftConfig(**limits))
    return [str(d) for d in found]


def normal(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, n)


def wards(n: int, share: float = 0.5) -> np.ndarray:
    return np.where(np.arange(n) < share * n, "a", "b")


# --- what is kept ---------------------------------------------------------------------------------


def test_levels_that_few_rows_hold_are_kept_neither_by_name_nor_by_their_count() -> None:
    ward = ["a"] * 60 + ["b"] * 25 + ["c"] * 11 + ["d"] * 4
    kept = Reference.of(table(np.arange(100.0), ward), k=K).columns["ward"]
    # four rows alone would be told by what is missing from one: the smallest level joins them
    assert kept["levels"] == {"a": 0.6, "b": 0.25}
    assert kept["rare"] == 0.15


def test_a_few_missing_or_a_few_present_cells_are_not_counted() -> None:
    x = np.where(np.arange(100) < 9, np.nan, 1.0)
    assert Reference.of(table(x, wards(100)), k=K).columns["x"]["missing"] == 0.0
    x = np.where(np.arange(100) < 91, np.nan, 1.0)
    kept = Reference.of(table(x, wards(100)), k=K).columns["x"]
    assert kept == {"kind": "numeric", "missing": 1.0}


def test_edges_are_means_of_k_neighbours_and_bins_hold_k_rows() -> None:
    x = np.arange(40.0)
    kept = Reference.of(table(x, wards(40)), k=K).columns["x"]
    assert kept["edges"] == [19.5]  # two bins of 2 k; the mean of 15 .. 24
    assert kept["shares"] == [0.5, 0.5]
    heavy = np.r_[np.zeros(900), normal(100, 0)]
    kept = Reference.of(table(heavy, wards(1000)), k=K).columns["x"]
    assert min(kept["shares"]) * 1000 >= K
    assert sum(kept["shares"]) == pytest.approx(1, abs=1e-3)


def test_no_rare_value_of_the_demo_table_is_in_its_reference(demo_table: RealTable) -> None:
    text = Reference.of(demo_table, k=K).to_json()
    assert Reference.from_json(text).to_json() == text
    for name in ("patient_id", "email", "name"):
        kept = json.loads(text)["columns"][name]
        assert set(kept) == {"kind", "missing"}
        assert not any(value in text for value in demo_table.data[name].dropna().head(50))


# --- what is a difference -------------------------------------------------------------------------


def test_psi_is_what_a_person_works_out() -> None:
    # (.5 - .75) ln(.5 / .75) + (.5 - .25) ln(.5 / .25) = .25 (ln 1.5 + ln 2) = .25 ln 3
    halves, shifted = np.array([0.5, 0.5]), np.array([0.75, 0.25])
    assert psi(halves, shifted, 100, 100) == pytest.approx(0.25 * np.log(3))
    assert psi(halves, halves, 100, 100) == 0


@pytest.mark.parametrize("n", [60, 300, 5_000])
def test_another_draw_of_the_same_population_is_no_difference(n: int) -> None:
    for seed in range(20):
        before = table(normal(n, seed), np.random.default_rng(seed).permutation(wards(n)))
        after = table(normal(n, seed + 100), wards(n))
        assert not told(before, after)


def test_a_shifted_number_is_told() -> None:
    found = told(table(normal(2000, 0), wards(2000)), table(normal(2000, 1, 1.0), wards(2000)))
    assert [f.split()[2] for f in found] == ["PSI", "KS"]
    assert all(f.startswith("column 'x'") for f in found)


def test_a_share_that_moved_is_told() -> None:
    found = told(table(normal(2000, 0), wards(2000)), table(normal(2000, 1), wards(2000, 0.8)))
    # (.5 - .8) ln(.5 / .8) + (.5 - .2) ln(.5 / .2) = .3 ln 4 = .4159
    assert found == ["column 'ward': PSI 0.42 (at most 0.25)"]


def test_new_levels_are_told_without_their_names() -> None:
    new = np.where(np.arange(2000) % 20 == 0, "secret", wards(2000))
    found = told(table(normal(2000, 0), wards(2000)), table(normal(2000, 1), new))
    assert len(found) == 1
    assert "5.0% of the rows hold other levels than the 2 known ones" in found[0]
    assert "secret" not in found[0]


def test_cells_that_went_missing_are_told() -> None:
    x = np.where(np.arange(2000) % 5 == 0, np.nan, normal(2000, 1))
    found = told(table(normal(2000, 0), wards(2000)), table(x, wards(2000)))
    assert found == ["column 'x': missing 0.0% -> 20.0% (a change of at most 5.0%)"]
    assert not told(table(normal(2000, 0), wards(2000)), table(x, wards(2000)), max_missing=0.2)


def test_columns_that_came_went_or_changed_are_told() -> None:
    before = Reference.of(table(normal(100, 0), wards(100)), k=K)
    other = TableSchema(
        name="t", columns=(Column(name="x", kind="categorical"), Column(name="y", kind="boolean"))
    )
    frame = pd.DataFrame({"x": ["a"] * 100, "y": pd.array([True] * 100, "boolean")})
    found = differences(before, RealTable(other, frame.astype({"x": "str"})), LIMITS)
    assert [str(d) for d in found] == [
        "column 'ward': is gone",
        "column 'x': was numeric and is categorical",
        "column 'y': is new (boolean)",
    ]


# --- in a run -------------------------------------------------------------------------------------


@pytest.fixture
def drifted_csv(demo_files: Path, tmp_path: Path) -> Path:
    """The demo table with half of its wards made one."""
    frame = pd.read_csv(demo_files / "admissions.csv", dtype=str, keep_default_na=False)
    frame.loc[frame.index % 2 == 0, "ward"] = frame["ward"].mode()[0]
    frame.to_csv(tmp_path / "drifted.csv", index=False)
    return tmp_path / "drifted.csv"


def test_a_drifted_input_stops_before_anything_is_learnt(
    finished: Outcome, tiny_config: Configure, drifted_csv: Path, tmp_path: Path
) -> None:
    compared = {"reference": str(finished.folder.root)}
    config = tiny_config(tmp_path / "out.csv", data=str(drifted_csv), drift=compared)
    with pytest.raises(DriftError, match="column 'ward': PSI") as caught:
        pipeline.run(config, run_dir=tmp_path / "run")
    assert "--accept-drift" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_accepted_drift_is_recorded(
    finished: Outcome, tiny_config: Configure, drifted_csv: Path, tmp_path: Path
) -> None:
    compared = {"reference": str(finished.folder.root), "accept": True}
    config = tiny_config(tmp_path / "out.csv", data=str(drifted_csv), drift=compared)
    folder = pipeline.prepare(config, tmp_path / "run")
    pipeline.ingest(folder)
    assert folder.drift is not None
    assert folder.drift["accepted"] is True
    assert folder.drift["reference"] == finished.folder.root.name
    assert any("column 'ward'" in d for d in folder.drift["differences"])
    assert any("drift: column 'ward'" in str(e.get("text")) for e in folder.events)


def test_the_same_input_has_not_drifted(
    finished: Outcome, tiny_config: Configure, tmp_path: Path
) -> None:
    config = tiny_config(tmp_path / "out.csv", drift={"reference": str(finished.folder.root)})
    folder = pipeline.prepare(config, tmp_path / "run")
    pipeline.ingest(folder)
    assert folder.drift == {
        "reference": finished.folder.root.name, "accepted": False, "differences": [],
    }  # fmt: skip


def test_a_scheduled_run_has_a_new_seed_and_is_compared_with_the_last_accepted(
    finished: Outcome, tiny_config: Configure, tmp_path: Path
) -> None:
    config = tiny_config(Path(finished.folder.config.to), overwrite=True)
    beside = finished.folder.root.parent
    plain = pipeline.prepare(config, tmp_path / "plain")
    assert (plain.config.seed, plain.config.drift.reference) == (1, None)
    runs = [
        pipeline.prepare(config, beside / f"night-{i}-{tmp_path.name}", scheduled=True)
        for i in range(2)
    ]
    assert len({1, *(r.config.seed for r in runs)}) == 3
    assert {r.config.drift.reference for r in runs} == {str(finished.folder.root)}
    for run in runs:
        pipeline.discard(run)


def test_with_differential_privacy_only_names_and_kinds_are_kept_and_compared(
    finished: Outcome, tiny_config: Configure, drifted_csv: Path, tmp_path: Path
) -> None:
    config = tiny_config(
        tmp_path / "out.csv",
        data=str(drifted_csv),
        train={"dp": {"epsilon": 1.0}},
        drift={"reference": str(finished.folder.root)},
    )
    folder = pipeline.prepare(config, tmp_path / "run")
    pipeline.ingest(folder)
    assert folder.drift is not None
    assert not folder.drift["differences"]
    kept = json.loads(folder.reference_path.read_text())
    assert kept["rows"] == 0
    assert all(set(c) == {"kind"} for c in kept["columns"].values())
