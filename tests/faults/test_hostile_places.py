"""Issue 8, part 6: places that lead elsewhere or never end; configurations that are no files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from synthgen.config import RunConfig
from synthgen.errors import BundleError, ConfigError, SchemaError, TargetExists
from synthgen.schema import TableSchema
from synthgen.sinks import open_sink
from synthgen.synthesizer import Synthesizer
from synthgen.uri import table_address


@pytest.mark.survives(
    "Hostile files", "pipes, devices and links in the place of files: refused, not waited for"
)
def test_what_never_ends_is_not_read_to_its_end() -> None:
    with pytest.raises(SchemaError, match="larger than"):
        TableSchema.load("/dev/zero")
    with pytest.raises(ConfigError, match="larger than"):
        RunConfig.load("/dev/zero")
    with pytest.raises(ConfigError, match="larger than"):
        table_address("sqlite:///a.db?query=/dev/zero").select()


@pytest.mark.survives(
    "Hostile files", "pipes, devices and links in the place of files: refused, not waited for"
)
@pytest.mark.parametrize("name", ["a\0b", "no/such/file", "."])
def test_what_is_no_file_is_refused(name: str) -> None:
    with pytest.raises(SchemaError, match="cannot read"):
        TableSchema.load(name)
    with pytest.raises(ConfigError, match="cannot read"):
        RunConfig.load(name)


@pytest.mark.survives(
    "Hostile files", "pipes, devices and links in the place of files: refused, not waited for"
)
def test_a_bundle_of_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    for name in ("bundle.json", "schema.toml", "config.toml", "encoder.json"):
        (tmp_path / name).write_text("{}")
    os.mkfifo(tmp_path / "generator.safetensors")
    with pytest.raises(BundleError, match=r"lacks generator\.safetensors"):
        Synthesizer.load(tmp_path)


@pytest.mark.survives(
    "Hostile files", "pipes, devices and links in the place of files: refused, not waited for"
)
def test_a_target_that_is_a_link_is_there_already(tmp_path: Path) -> None:
    """Also one that leads nowhere yet: what is written never goes where a link points."""
    (tmp_path / "out.csv").symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(TargetExists):
        open_sink(str(tmp_path / "out.csv")).check(overwrite=False)
