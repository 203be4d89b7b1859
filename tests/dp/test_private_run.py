"""The whole way with differential privacy: stages, bundle, manifest, ledger."""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from safetensors.torch import load_file

from synthgen import pipeline
from synthgen.config import RunConfig
from synthgen.demo import SCHEMA
from synthgen.dp.noise import Noise
from synthgen.dp.release import Plan, plan
from synthgen.dp.tree import Tree
from synthgen.errors import ConfigError
from synthgen.run_folder import RunFolder
from synthgen.schema import Column, TableSchema
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable, one_secret_row_each, split_by_coins

QUICK = {"epsilon": 8.0, "engine": "tree", "steps": 20}


#: Of a manifest: public, drawn from the bundle, or empty with differential privacy.
REVIEWED_FACTS = {
    "run",
    "created",
    "seed",
    "device",
    "synthesizer",
    "warm_start",
    "dp",
    "training_notes",
    "drift",
    "stages",
    "config",
    "versions",
}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "synthgen" / "ledger.jsonl"


def config(build: Callable[..., RunConfig], to: Path, **dp: object) -> RunConfig:
    return build(to, train={"dp": {**QUICK, **dp}, "width": 16, "depth": 1})


class Recorded(Noise):
    """Real noise that remembers how it was asked for: (kind, scale) a call."""

    calls: ClassVar[Counter[tuple[str, float]]] = Counter()

    def counts(self, exact: npt.ArrayLike, std: float) -> npt.NDArray[np.int64]:
        self.calls["discrete-gaussian", std] += 1
        return super().counts(exact, std)

    def choose(self, scores: npt.NDArray[np.float64], epsilon: float, sensitivity: float) -> int:
        assert sensitivity == 1
        self.calls["exponential", 1 / epsilon] += 1
        return super().choose(scores, epsilon, sensitivity)

    def poisson(self, n: int, rate: float) -> npt.NDArray[np.int64]:
        self.calls["poisson", rate] += 1
        return super().poisson(n, rate)

    def normal(self, std: float, size: int) -> npt.NDArray[np.float64]:
        self.calls["normal", std] += 1
        return super().normal(std, size)


@dataclass(frozen=True)
class Fit:
    """What a fit made, what it was charged, and the noise that it asked for."""

    made: Synthesizer
    plan: Plan
    calls: Counter[tuple[str, float]]


NORM = 0.5


@pytest.fixture(scope="module", params=["tree", pytest.param("network", marks=pytest.mark.slow)])
def fit(request: pytest.FixtureRequest, demo_table: RealTable) -> Fit:
    asked = {**QUICK, "engine": request.param, "max_grad_norm": NORM}
    charged: list[Plan] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synthgen.synthesizer.Noise", Recorded)
        patch.setattr("synthgen.synthesizer.DP_PRETRAINING", 50)  # reads no row: quality alone
        Recorded.calls.clear()
        made = Synthesizer.fit_privately(
            demo_table,
            config=RunConfig.build({"train": {"dp": asked, "width": 16, "depth": 1}}),
            seed=0,
            charge=charged.append,
        )
    (plan,) = charged
    return Fit(made, plan, Recorded.calls.copy())


def test_a_bundle_with_its_guarantee_samples_the_same_after_loading(
    fit: Fit, demo_table: RealTable, tmp_path: Path
) -> None:
    assert fit.plan.epsilon <= 8.0
    fit.made.save(tmp_path / "bundle")
    loaded = Synthesizer.load(tmp_path / "bundle", device="cpu")
    assert loaded.facts["dp"]["unit"] == "one row, added or removed"
    assert loaded.facts["rows"] == pytest.approx(len(demo_table), abs=100)  # noisy
    rows = fit.made.sample(300, seed=3, where=["ward='surgery'"])
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
    assert "not covered" in json.loads(folder.report_path.read_text())["facts"]["private"]
    html = folder.html_path.read_text()
    assert html.index("<strong>Private.</strong>") < html.index('id="decision-h"')
    pipeline.export(folder)
    manifest = RunFolder.open(folder.root).manifest
    assert "differential privacy of one row" in manifest.privacy
    assert manifest.facts["dp"]["epsilon"] <= 8.0
    # the rules' measured values are statistics of real rows
    assert set(manifest.decision) == {"passed", "fingerprint", "rules"}
    assert all(isinstance(rule, str) for rule in manifest.decision["rules"])
    assert manifest.facts["training_notes"] == []
    assert manifest.facts["drift"] is None
    assert manifest.facts["stages"] == {}  # numbers of rows
    # Whatever is added here leaves with the table: show that it tells nothing of rows.
    assert set(manifest.facts) == REVIEWED_FACTS
    with pytest.raises(ConfigError, match="privacy budget"):
        pipeline.train_bundle(
            RunConfig.build({**run_config.model_dump(), "to": str(tmp_path / "bundle")})
        )


def test_what_ran_is_what_was_charged(fit: Fit) -> None:
    expected: Counter[tuple[str, float]] = Counter()
    for m in fit.plan.mechanisms.values():
        if m.kind == "sampled-gaussian":
            expected["poisson", m.rate] += m.count
            assert not isinstance(fit.made.generator, Tree)
            weights = len(list(fit.made.generator.skeleton.parameters()))
            expected["normal", m.noise * NORM] += m.count * weights
        else:
            expected[m.kind, m.noise] += m.count
    rounded = Counter({(k, round(x, 9)): n for (k, x), n in fit.calls.items()})
    assert rounded == Counter({(k, round(x, 9)): n for (k, x), n in expected.items()})


def test_neighbours_leave_bundles_of_one_form(tmp_path: Path) -> None:
    """One row with every extreme in it changes noise and nothing else of what is written."""
    columns = (
        Column(name="ward", kind="categorical", categories=("a", "b", "c"), nullable=True),
        Column(name="age", kind="numeric", minimum=0, maximum=9, decimals=0),
    )
    schema = TableSchema(name="t", columns=columns)
    rows = pd.DataFrame({"ward": pd.Series(["a"] * 50, dtype="str"), "age": 1.0})
    outlier = pd.DataFrame({"ward": pd.Series(["c"], dtype="str"), "age": 9.0})
    forms = []
    for name, frame in (("without", rows), ("with", pd.concat([rows, outlier]))):
        made = Synthesizer.fit_privately(
            RealTable(schema, frame.reset_index(drop=True)),
            config=RunConfig.build({"train": {"dp": QUICK}}),
            seed=0,
            charge=lambda plan: None,
        )
        made.save(tmp_path / name)
        index = json.loads((tmp_path / name / "bundle.json").read_text())
        encoder = json.loads((tmp_path / name / "encoder.json").read_text())
        for part in encoder["parts"]:
            part["encoder"]["counts"] = len(part["encoder"]["counts"])
        del index["files"]["encoder.json"], index["files"]["generator.safetensors"]
        del index["facts"]["rows"]  # noisy
        tensors = load_file(tmp_path / name / "generator.safetensors")
        shapes = sorted((k, str(v.dtype), v.numel()) for k, v in tensors.items())
        forms.append((index, encoder, shapes))
    assert forms[0] == forms[1]


@pytest.mark.slow
def test_killed_after_the_measurement_the_budget_is_spent_and_nothing_is_left(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, state: Path
) -> None:
    config_path = tmp_path / "config.toml"
    to = tmp_path / "bundle"
    config_path.write_text(config(tiny_config, to, epsilon=3.0).to_toml())
    code = (
        "import os, signal, sys\n"
        "from synthgen import pipeline\n"
        "from synthgen.config import RunConfig\n"
        "from synthgen.dp import release\n"
        "measure = release.measure\n"
        "def and_die(*args):\n"
        "    measure(*args)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "release.measure = and_die\n"
        "pipeline.train_bundle(RunConfig.load(sys.argv[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(config_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(state.read_text().splitlines()) == 1
    assert not to.exists()
    pipeline.train_bundle(RunConfig.load(config_path))  # fresh noise, so charged anew
    first, second = (json.loads(line) for line in state.read_text().splitlines())
    assert second["total"] > first["total"]


@pytest.mark.parametrize("setting", [{"max_minutes": 1.0}, {"patience": 5}, {"batch_size": 64}])
def test_settings_by_which_rows_or_time_would_decide_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(setting))} would do nothing"):
        RunConfig.build({"train": {"dp": QUICK, **setting}})


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


# --- one person, many rows ------------------------------------------------------------------------


def visits(per_person: list[int]) -> RealTable:
    """Return a table in which person i has ``per_person[i]`` rows, numbered over all."""
    schema = TableSchema(
        name="visits",
        columns=(
            Column(name="person", kind="id", role="entity"),
            Column(name="visit", kind="numeric", minimum=0, maximum=9_999, decimals=0),
        ),
    )
    people = np.repeat(np.arange(len(per_person)), per_person)
    frame = pd.DataFrame({"person": people.astype(str), "visit": np.arange(len(people)) * 1.0})
    return RealTable(schema, frame.astype({"person": "str"}))


def test_one_row_of_each_person_is_read_whichever() -> None:
    table = visits([1, 5, 3])
    picked = np.array([one_secret_row_each(table).data["visit"] for _ in range(600)])
    assert picked.shape == (600, 3)
    assert set(picked[:, 0]) == {0}
    assert set(picked[:, 1]) == {1, 2, 3, 4, 5}
    shares = np.bincount(picked[:, 1].astype(int), minlength=6)[1:] / 600
    assert shares == pytest.approx([0.2] * 5, abs=0.07)  # 4 standard errors


def test_both_halves_of_a_split_have_their_own_people() -> None:
    halves = split_by_coins(visits([3] * 200), holdout=0.3)
    assert 30 < len(halves.holdout) / 3 < 90  # 60 +- 6.5 people
    assert len(halves.train) + len(halves.holdout) == 600


def test_the_guarantee_names_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person with 3,000 rows counts as one: else the noisy number of rows would tell."""
    made = Synthesizer.fit_privately(
        visits([1] * 100 + [3_000]),
        config=RunConfig.build({"train": {"dp": QUICK}}),
        seed=0,
        charge=lambda plan: None,
    )
    assert made.facts["dp"]["unit"].startswith("one value of 'person' with all of its rows")
    assert made.facts["rows"] == pytest.approx(101, abs=60)


@pytest.mark.parametrize(
    "with_it", [{"preset": "wgan-gp"}, {"matching": 1.0}, {"architecture": "conv"}]
)
def test_what_reads_rows_otherwise_is_refused(with_it: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="noised likelihood steps only"):
        RunConfig.build({"train": {"dp": QUICK, **with_it}})
