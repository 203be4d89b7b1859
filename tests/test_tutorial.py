"""The tutorial is run as it stands, from its first block to its last."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from synthgen.cli import app

PAGE = Path(__file__).parent.parent / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(bash|python|toml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_tutorial_runs_from_the_first_command_to_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(text, PAGE.name, "exec"), namespace)
        elif language == "toml":
            Path(text.split()[1]).write_text(text)
        else:
            for line in text.splitlines():
                name, *words = shlex.split(line, comments=True)
                assert name == "synthgen"
                done = CliRunner().invoke(app, words)
                assert done.exit_code == 0, f"{line}\n{done.output}"
    made = {"synthetic.csv", "synthetic.parquet", "surgery.csv", "unusual.csv", "moved.csv"}
    assert made <= {path.name for path in tmp_path.iterdir()}
