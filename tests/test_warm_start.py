"""Training that starts from an earlier bundle: what it is worth, what it says, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from synthgen import demo
from synthgen.cli import app
from synthgen.config import RunConfig
from synthgen.errors import BundleError, SchemaError
from synthgen.pipeline import Outcome, run, save_bundle
from synthgen.schema import Column, TableSchema
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable, Split


@pytest.fixture(scope="module")
def bundle(tiny_synthesizer: Synthesizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("earlier") / "earlier.bundle"
    save_bundle(tiny_synthesizer, path)
    return path


@pytest.fixture(scope="module")
def warm_run(
    tiny_config: Callable[..., RunConfig], bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    """A finished run that started from the bundle."""
    folder = tmp_path_factory.mktemp("warm")
    return run(tiny_config(folder / "out.csv", warm_start=str(bundle)), run_dir=folder / "run")


@pytest.mark.slow
def test_a_run_says_which_synthesizer_it_started_from(
    warm_run: Outcome, tiny_synthesizer: Synthesizer, bundle: Path
) -> None:
    folder, earlier = warm_run.folder, tiny_synthesizer.fingerprint
    assert warm_run.manifest is not None
    assert warm_run.manifest.facts["warm_start"] == [earlier]
    assert earlier in folder.html_path.read_text()
    assert "tells of that bundle's table too" in (folder.root / "log.jsonl").read_text()
    fitted = Synthesizer.load(folder.bundle_path)
    assert fitted.facts["warm_start"] == [earlier]
    assert fitted.ancestors == [fitted.fingerprint, earlier]
    assert fitted.config.warm_start is None
    assert all(str(bundle) not in f.read_text("latin-1") for f in folder.bundle_path.iterdir())


@pytest.mark.slow
def test_equal_seeds_equal_bundles_and_another_start_another_one(
    demo_halves: Split, tiny_synthesizer: Synthesizer
) -> None:
    config = RunConfig.build({"train": {"steps": 5, "critic_steps": 2}})
    earlier = tiny_synthesizer
    made = []
    for start in (earlier, earlier, None):
        rows = RealTable(demo_halves.train.schema, demo_halves.train.data.iloc[:200])
        made.append(
            Synthesizer.fit(rows, config=config, seed=3, device="cpu", warm_start=start).fingerprint
        )
    assert made[0] == made[1] != made[2]


def unlike(schema: TableSchema) -> TableSchema:
    """The demo schema without its cost, and with a ward that is a number."""
    columns = [c for c in schema.columns if c.name not in ("cost", "ward")]
    return TableSchema(name="other", columns=(*columns, Column(name="ward", kind="numeric")))


def test_a_schema_that_does_not_fit_is_refused_before_data_are_read(
    tiny_config: Callable[..., RunConfig], bundle: Path, tmp_path: Path
) -> None:
    unlike(demo.SCHEMA).save(tmp_path / "other.toml")
    config = tiny_config(
        tmp_path / "out.csv",
        warm_start=str(bundle),
        schema_path=str(tmp_path / "other.toml"),
        data=str(tmp_path / "is-not-there.csv"),
    )
    with pytest.raises(SchemaError) as caught:
        run(config, run_dir=tmp_path / "run")
    assert "column 'cost': modelled by the bundle, not here" in str(caught.value)
    assert "column 'ward': kind is categorical in the bundle and numeric here" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_bundle_that_is_not_there_is_refused(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = tiny_config(tmp_path / "out.csv", warm_start=str(tmp_path / "nowhere.bundle"))
    with pytest.raises(BundleError, match="lacks"):
        run(config, run_dir=tmp_path / "run")


@pytest.mark.slow
def test_train_on_the_command_line(demo_files: Path, bundle: Path, tmp_path: Path) -> None:
    settings = "[train]\nsteps = 5\ncritic_steps = 2\n[report]\npreview_minutes = 0\n"
    (tmp_path / "few.toml").write_text(settings)
    options: dict[str, Any] = {
        "--data": demo_files / "admissions.csv",
        "--schema": demo_files / "schema.toml",
        "--config": tmp_path / "few.toml",
        "--warm-start": bundle,
        "--to": tmp_path / "new.bundle",
    }
    words = [str(word) for option in options.items() for word in option]
    done = CliRunner().invoke(app, ["train", *words])
    assert done.exit_code == 0, done.output
    facts = json.loads((tmp_path / "new.bundle" / "bundle.json").read_text())["facts"]
    assert len(facts["warm_start"]) == 1
    pictures = tmp_path / "new.bundle.preview"
    assert pictures.stat().st_mode & 0o777 == 0o700
    assert "step-000005.svg" in {p.name for p in pictures.iterdir()}


def admissions(n: int, *, emergency: bool, seed: int) -> RealTable:
    """`n` admissions, all emergencies or all planned: two populations of one hospital."""
    rows = demo.demo_frame(3 * n, seed=seed).data
    rows = rows[rows["emergency"] == emergency].head(n)
    assert len(rows) == n
    return RealTable(demo.SCHEMA, rows.reset_index(drop=True))


def pair_error(made: pd.DataFrame, true: pd.DataFrame) -> float:
    """Return the total variation distance of the joint distribution of ward and diagnosis."""
    shares = [f.groupby(["ward", "diagnosis"]).size() / len(f) for f in (made, true)]
    return float(shares[0].sub(shares[1], fill_value=0).abs().sum() / 2)


@pytest.mark.slow
def test_with_few_rows_it_beats_a_start_from_nothing_at_equal_steps() -> None:
    def config(steps: int) -> RunConfig:
        return RunConfig.build(
            {"train": {"width": 64, "depth": 1, "critic_steps": 0, "steps": steps}}
        )

    planned = admissions(2_000, emergency=False, seed=1)
    earlier = Synthesizer.fit(planned, config=config(400), seed=0, device="cpu")
    few = admissions(200, emergency=True, seed=2)
    fresh = admissions(3_000, emergency=True, seed=3).data
    warm, cold = (
        Synthesizer.fit(few, config=config(100), seed=0, device="cpu", warm_start=start)
        for start in (earlier, None)
    )
    errors = [pair_error(s.sample(3_000, seed=0).data, fresh) for s in (warm, cold)]
    assert errors[0] < 0.8 * errors[1], errors
