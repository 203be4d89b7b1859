"""What a run would take, told before it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from synthgen.cli import app
from synthgen.config import RunConfig, TrainConfig
from synthgen.errors import ConfigError
from synthgen.gan.calibrate import calibrate, device_memory, memory, random_rows
from synthgen.gan.train import Plan
from synthgen.plan import GIB, column_widths, estimate, layout_bytes, refuse_unfit
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable

SMALL = {"steps": 50, "critic_steps": 10, "width": 32, "depth": 1}


@pytest.fixture
def config(demo_files: Path) -> RunConfig:
    settings = {
        "data": str(demo_files / "admissions.csv"),
        "schema_path": str(demo_files / "schema.toml"),
        "rows": 600,
        "device": "cpu",
        "train": SMALL,
    }
    return RunConfig.build(settings)


def test_sizes_are_those_of_the_run(config: RunConfig, demo_table: RealTable) -> None:
    found = estimate(config)
    assert (found.rows, found.train_rows) == (1_500, 1_200)
    assert found.columns == len(demo_table.schema.modelled)
    assert (found.steps, found.critic_steps, found.device) == (50, 10, "cpu")
    assert set(found.minutes) == set(found.cpu_minutes) == {
        "ingest", "train", "generate", "validate"
    }  # fmt: skip
    assert all(0 < m < 5 for m in found.minutes.values())
    assert 2**26 < found.memory < found.available
    assert (found.device_memory, found.device_available) == (0, 0)


def test_a_warm_start_is_planned_as_one(
    config: RunConfig, tiny_synthesizer: Synthesizer, tmp_path: Path
) -> None:
    """25 passes over 1,200 rows in batches of 64 instead of 80; width and depth of the bundle."""
    tiny_synthesizer.save(tmp_path / "bundle")
    settings = {"warm_start": str(tmp_path / "bundle"), "train": TrainConfig(batch_size=64)}
    found = estimate(config.model_copy(update=settings))
    skeleton = tiny_synthesizer.generator.skeleton  # there is no critic, so no offsets' network
    assert found.steps == round(25 * 1_200 / 64)
    assert found.parameters == sum(p.numel() for p in skeleton.parameters())


def test_parameters_are_those_of_the_generator(tiny_synthesizer: Synthesizer) -> None:
    device = torch.device("cpu")
    train, layout = tiny_synthesizer.config.train, tiny_synthesizer.encoder.layout
    cost, generator = calibrate(layout, 1_200, train, device)
    assert cost.parameters == sum(p.numel() for p in tiny_synthesizer.generator.parameters())
    assert generator.state_dict().keys() == tiny_synthesizer.generator.state_dict().keys()


def test_twice_the_steps_take_about_twice_the_time(tiny_synthesizer: Synthesizer) -> None:
    layout, device = tiny_synthesizer.encoder.layout, torch.device("cpu")
    few, many = (
        calibrate(layout, 1_200, TrainConfig(**{**SMALL, "steps": n, "critic_steps": 0}), device)[0]
        for n in (1_000, 10_000)
    )
    assert 4 < many.spent.cpu / few.spent.cpu < 25


def test_a_budget_bounds_the_time(tiny_synthesizer: Synthesizer) -> None:
    config = TrainConfig(**{**SMALL, "steps": 1_000_000, "max_minutes": 0.5})
    cost, _ = calibrate(tiny_synthesizer.encoder.layout, 1_200, config, torch.device("cpu"))
    assert cost.spent.clock == pytest.approx(36)


def test_random_rows_fit_the_layout(tiny_synthesizer: Synthesizer) -> None:
    assert len(random_rows(tiny_synthesizer.encoder.layout, 100)) == 100  # else: ValueError


def test_memory_by_hand(tiny_synthesizer: Synthesizer) -> None:
    layout = tiny_synthesizer.encoder.layout
    sizes = Plan(
        steps=1, critic_steps=0, batch_size=8, width=10, depth=1, evaluate_every=1, dropout=0.0
    )
    rows = 100 * (4 * len(layout.sizes) + 8 * len(layout.offset_parents))
    live = 4 * layout.width + 12 * 10 * 2
    assert memory(layout, 100, sizes, 1_000) == rows + 4 * (8 * 1_000 + 8 * live)


def test_widths_sum_to_the_levels(tiny_synthesizer: Synthesizer) -> None:
    encoder = tiny_synthesizer.encoder
    widths = column_widths(encoder)
    assert widths.total() == encoder.layout.width
    assert set(widths) == {p.column for p in encoder.parts}


def test_what_cannot_fit_names_column_and_remedy() -> None:
    widths = Counter({"zip": 750, "age": 250})
    refuse_unfit(4 * GIB, widths, available=4 * GIB)
    with pytest.raises(ConfigError) as caught:
        refuse_unfit(5 * GIB, widths, available=4 * GIB)
    text = str(caught.value)
    for part in ("5.0 GiB", "4.0", "'zip' takes 75%", "1,000 levels", "encode.max_levels"):
        assert part in text


def test_a_gpu_is_blamed_by_name() -> None:
    refuse_unfit(3 * GIB, Counter({"zip": 1}), 4 * GIB, where="cuda")
    with pytest.raises(ConfigError, match=r"5.0 GiB on the GPU and there are 4.0: column 'zip'"):
        refuse_unfit(5 * GIB, Counter({"zip": 1}), 4 * GIB, where="cuda")


def test_a_cpu_has_no_memory_of_its_own() -> None:
    assert device_memory(torch.device("cpu")) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_memory_on_a_gpu(config: RunConfig) -> None:
    found = estimate(config.model_copy(update={"device": "cuda"}))
    assert 0 < found.device_memory < found.device_available
    assert found.device == "cuda"


def test_arithmetic_comes_before_any_network(
    config: RunConfig, tiny_synthesizer: Synthesizer
) -> None:
    """So that a refusal is a sentence, and no machine that swaps."""
    encoder = tiny_synthesizer.encoder
    huge = config.model_copy(update={"train": TrainConfig(**{**SMALL, "width": 4_096, "depth": 8})})
    small_bytes, huge_bytes = (layout_bytes(encoder, 1_200, c) for c in (config, huge))
    cost, _ = calibrate(encoder.layout, 1_200, config.train, torch.device("cpu"))
    assert 0.5 * cost.memory < small_bytes < cost.memory
    assert huge_bytes > 8 * 4 * 2 * 8 * 4_096**2  # eight copies of sixteen square layers


def test_the_verb(config: RunConfig) -> None:
    options = ["plan", "--data", config.data, "--schema", str(config.schema_path)]
    options += ["--rows", "600", "--device", "cpu"]
    shown = CliRunner().invoke(app, options)
    assert shown.exit_code == 0, shown.output
    assert "1,500 rows" in shown.output
    assert "GiB" in shown.output
    as_json = CliRunner().invoke(app, [*options, "--json"])
    assert json.loads(as_json.stdout)["train_rows"] == 1_200


def test_a_hundred_million_rows(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is minutes and memory, or why it cannot be: the judge reads all of them."""
    many = config.model_copy(update={"rows": 100_000_000})
    monkeypatch.setattr("synthgen.plan.memory_of_machine", lambda: 2**40)
    found = estimate(many)
    assert 2**33 < found.memory < 2**38
    assert found.minutes["generate"] > 10 > found.minutes["ingest"]
    monkeypatch.setattr("synthgen.plan.memory_of_machine", lambda: 2**33)
    with pytest.raises(ConfigError, match=r"to judge 100,000,000 drawn rows takes about .* 8\.0"):
        estimate(many)


def test_bad_input_is_refused_as_by_a_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["plan", "--data", str(tmp_path / "none.csv")])
    assert result.exit_code == 2
