"""One configuration: TOML in and out, every problem at once, no value in an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from synthgen.config import MAX_CONFIG_BYTES, GatePolicy, RunConfig
from synthgen.errors import ConfigError


def test_defaults_round_trip() -> None:
    assert RunConfig.from_toml(RunConfig().to_toml()) == RunConfig()


def test_settings_round_trip() -> None:
    config = RunConfig.build(
        {
            "data": "a.csv",
            "rows": 50,
            "seed": 3,
            "train": {"steps": 10, "max_minutes": 0.5},
            "gate": {"max_c2st": None, "min_utility": 0.5},
        }
    )
    again = RunConfig.from_toml(config.to_toml())
    assert again == config
    assert again.gate.max_c2st is None


def test_a_waived_rule_is_written_as_off() -> None:
    assert 'max_c2st = "off"' in RunConfig(gate=GatePolicy(max_c2st=None)).to_toml()


def test_every_problem_is_listed_by_its_key() -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.build({"rows": 0, "split": {"holdout": 1}, "train": {"width": 1, "stepz": 3}})
    text = str(caught.value)
    assert "has 4 problems" in text
    for key in ("rows", "split.holdout", "train.width", "train.stepz"):
        assert f"  - {key}: " in text


@pytest.mark.parametrize(
    "values",
    [
        {"train": {"steps": 0}},
        {"train": {"steps": "0"}},
        {"train": {"steps": 0.0}},
        {"train": {"preset": "unknown"}},
        {"train": {"learning_rate": float("nan")}},
        {"device": "tpu"},
        {"seed": -1},
        {"seed": 2**31},
        {"encode": {"bins": 1}},
        {"gate": {"max_c2st": 0.5}},
        {"gate": {"max_c2st": "maybe"}},
        {"sample": {"sampling_steps": 0}},
        {"warm_start": "bundle", "train": {"architecture": "conv"}},
        {"train": {"architecture": "cnn"}},
        {"train": {"row_adversary": -1}},
        {"train": {"matching": -1}},
        {"train": {"harmonics": -1}},
        {"unknown": 1},
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RunConfig.build(values)


def test_a_value_is_never_quoted() -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.build({"rows": "sqlite://user:hunter2@db"})
    assert "hunter2" not in str(caught.value)


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValidationError):
        RunConfig().rows = 5


def test_broken_toml_is_an_error() -> None:
    with pytest.raises(ConfigError, match="not valid TOML"):
        RunConfig.from_toml("rows = ")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("rows = 7", encoding="utf-8")
    assert RunConfig.load(path).rows == 7
    with pytest.raises(ConfigError, match="cannot read"):
        RunConfig.load(tmp_path / "none.toml")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read"):
        RunConfig.load(path)
    path.write_bytes(b"#" * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than"):
        RunConfig.load(path)
