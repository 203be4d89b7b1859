"""What the pages say is true: blocks run, verbs exist and are documented, links lead somewhere."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from synthgen import errors
from synthgen.cli.app import app, models_app, schema_app
from synthgen.config import RunConfig

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "schemas").glob("*.md")]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("synthgen ")]


def verbs() -> list[str]:
    plain = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
    groups = {"schema": schema_app, "models": models_app}
    nested = [f"{g} {c.name}" for g, a in groups.items() for c in a.registered_commands]
    return [*plain, *nested, "runs", "runs prune"]


@pytest.mark.parametrize("block", blocks("python"))
def test_python_blocks_run(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert "SyntheticTable" in capsys.readouterr().out


@pytest.mark.parametrize("block", blocks("toml"))
def test_toml_blocks_are_valid_configurations(block: str) -> None:
    assert RunConfig.from_toml(block).rows == tomllib.loads(block)["rows"]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_exist_with_their_options(command: list[str]) -> None:
    words = command[1:]
    in_group = words[0] in ("schema", "models") or words[:2] == ["runs", "prune"]
    verb = words[:2] if in_group else words[:1]
    shown = CliRunner().invoke(app, [*verb, "--help"])
    assert shown.exit_code == 0
    for option in (w for w in words if w.startswith("--")):
        assert option in shown.stdout, f"{' '.join(verb)} has no {option}"


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_is_in_the_readme(verb: str) -> None:
    assert any(" ".join(c).startswith(f"synthgen {verb}") for c in commands())


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_exit_codes_are_as_documented() -> None:
    found = {
        e.exit_code
        for e in vars(errors).values()
        if isinstance(e, type) and hasattr(e, "exit_code")
    }
    assert found == {1, 2, 3, 4}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in link:
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
