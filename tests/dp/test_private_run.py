"""The whole way with differential privacy: stages, bundle, manifest, ledger."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from synthgen import pipeline
from synthgen.config import RunConfig
from synthgen.demo import SCHEMA
from synthgen.dp.release import plan
from synthgen.errors import ConfigError
from synthgen.run_folder import RunFolder
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable, split_by_coins

QUICK = {"epsilon": 8.0, "engine": "tree", "steps": 200}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "synthgen" / "ledger.jsonl"


def config(build: Callable[..., RunConfig], to: Path, **dp: object) -> RunConfig:
    return build(to, train={"dp": {**QUICK, **dp}, "width": 16, "depth": 1})


@pytest.mark.parametrize("engine", ["tree", pytest.param("network", marks=pytest.mark.slow)])
def test_a_bundle_with_its_guarantee_samples_the_same_after_loading(
    demo_table: RealTable, tmp_path: Path, engine: str
) -> None:
    asked = RunConfig.build({"train": {"dp": {**QUICK, "engine": engine}, "width": 16}})
    charged = []
    made = Synthesizer.fit_privately(demo_table, config=asked, seed=0, charge=charged.append)
    assert charged[0].epsilon <= 8.0
    made.save(tmp_path / "bundle")
    loaded = Synthesizer.load(tmp_path / "bundle", device="cpu")
    assert loaded.facts["dp"]["unit"] == "one row, added or removed"
    assert loaded.facts["rows"] == pytest.approx(len(demo_table), abs=100)  # noisy
    rows = made.sample(300, seed=3, where=["ward='surgery'"])
    assert rows.data.equals(loaded.sample(300, seed=3, where=["ward='surgery'"]).data)
    assert (rows.data["ward"] == "surgery").all()


def test_the_charge_comes_before_any_row_is_read(demo_table: RealTable) -> None:
    class Unreadable:
        schema = SCHEMA

        def __len__(self) -> int:
            raise AssertionError("a row was counted")

    def refuse(of: object) -> None:
        raise ConfigError("no budget")

    asked = RunConfig.build({"train": {"dp": QUICK}})
    with pytest.raises(ConfigError, match="no budget"):
        Synthesizer.fit_privately(Unreadable(), config=asked, seed=0, charge=refuse)  # type: ignore[arg-type]


def test_the_plain_fit_refuses_to_ignore_what_was_asked_for(demo_table: RealTable) -> None:
    asked = RunConfig.build({"train": {"dp": QUICK}})
    with pytest.raises(ConfigError, match="fit_privately"):
        Synthesizer.fit(demo_table, config=asked, seed=0)


def test_the_plan_is_a_function_of_public_things() -> None:
    asked = RunConfig.build({"train": {"dp": QUICK}}).train.dp
    assert asked is not None
    assert plan(SCHEMA, asked) == plan(SCHEMA, asked)


@pytest.mark.slow
def test_a_run_is_charged_once_and_says_what_holds(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, state: Path
) -> None:
    run_config = config(tiny_config, tmp_path / "out.csv")
    folder = pipeline.prepare(run_config, tmp_path / "run")
    pipeline.ingest(folder)
    receipt = pipeline.train(folder)
    assert pipeline.train(folder) == receipt  # a retry keeps what was paid for
    assert len(state.read_text().splitlines()) == 1
    pipeline.generate(folder)
    pipeline.validate(folder)
    assert folder.decision.passed  # leniently
    pipeline.export(folder)
    manifest = RunFolder.open(folder.root).manifest
    assert "differential privacy of one row" in manifest.privacy
    assert manifest.facts["dp"]["epsilon"] <= 8.0
    # the rules' measured values are statistics of real rows
    assert set(manifest.decision) == {"passed", "fingerprint", "rules"}
    assert all(isinstance(rule, str) for rule in manifest.decision["rules"])
    assert manifest.facts["training_notes"] == []
    with pytest.raises(ConfigError, match="privacy budget"):
        pipeline.train_bundle(
            RunConfig.build({**run_config.model_dump(), "to": str(tmp_path / "bundle")})
        )


def test_without_a_declared_schema_there_is_no_guarantee(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, state: Path
) -> None:
    settings = {**config(tiny_config, tmp_path / "out.csv").model_dump(), "schema_path": None}
    with pytest.raises(ConfigError, match="needs a declared schema"):
        pipeline.read_input(RunConfig.build(settings))
    assert not state.exists()


def test_a_coin_concerns_its_row_alone(demo_table: RealTable) -> None:
    sizes = [len(split_by_coins(demo_table, holdout=0.2).holdout) for _ in range(40)]
    assert np.mean(sizes) == pytest.approx(300, abs=15)  # binomial: 15.5 a split
    assert 8 < np.std(sizes) < 26


@pytest.mark.parametrize(
    "with_it", [{"preset": "wgan-gp"}, {"matching": 1.0}, {"architecture": "conv"}]
)
def test_what_reads_rows_otherwise_is_refused(with_it: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="noised likelihood steps only"):
        RunConfig.build({"train": {"dp": QUICK, **with_it}})
