"""The audit log cannot be changed unseen, models are what was added, manifests are held to it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from synthgen.audit_log import GENESIS, AuditLog
from synthgen.cli import app
from synthgen.errors import BundleError, ConfigError
from synthgen.pipeline import Outcome, export_to
from synthgen.provenance import Finding, verify
from synthgen.registry import Registry, resolve_run
from synthgen.run_folder import RunFolder
from synthgen.synthesizer import Synthesizer


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SYNTHGEN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def bundle(tiny_synthesizer: Synthesizer, tmp_path: Path) -> Path:
    tiny_synthesizer.save(tmp_path / "bundle")
    return tmp_path / "bundle"


def broken(found: list[Finding]) -> list[str]:
    return [finding.what for finding in found if not finding.holds]


# --- the log --------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path / "audit.jsonl")
    for number in range(3):
        log.append("export", run=f"run-{number}", outputs={"manifest": str(number)})
    return log


def test_lines_are_sealed_and_private(log: AuditLog) -> None:
    entries, problems = log.read()
    assert problems == []
    assert [e["number"] for e in entries] == [0, 1, 2]
    assert [e["previous"] for e in entries] == [GENESIS, entries[0]["sha256"], entries[1]["sha256"]]
    assert log.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda lines: [lines[0], lines[1].replace("run-1", "run-9"), lines[2]],
            "line 2 was changed",
        ),
        (lambda lines: [lines[0], lines[2]], "line 2 does not follow the line before it"),
        (lambda lines: [lines[1], lines[0], lines[2]], "line 1 does not follow"),
        (lambda lines: [*lines[:2], lines[2][:40]], r"line 3 is no entry \(cut off\?\)"),
        (lambda lines: [*lines, "[]"], "line 4 is no entry"),
    ],
)
def test_what_is_done_to_the_log_is_seen(log: AuditLog, change, told: str) -> None:  # type: ignore[no-untyped-def]
    lines = log.path.read_text().splitlines()
    log.path.write_text("\n".join(change(lines)) + "\n")
    with pytest.raises(ConfigError, match=f"is damaged .*{told}"):
        log.append("export")


# --- verify ---------------------------------------------------------------------------------------


@pytest.fixture
def run(finished: Outcome, tmp_path: Path, home: Path) -> RunFolder:
    shutil.copytree(finished.folder.root, tmp_path / "run")
    return RunFolder.open(tmp_path / "run")


def test_an_export_is_verified_until_something_changes(
    run: RunFolder, tmp_path: Path, home: Path
) -> None:
    target = tmp_path / "out.csv.gz"
    export_to(run, target)
    manifest, log = f"{target}.manifest.json", AuditLog.default()
    assert log.path == home / "audit.jsonl"
    assert broken(verify(manifest, log)) == []
    assert broken(verify(str(run.manifest_path), log)) == []
    (entry,) = log.entries()
    assert (entry["what"], entry["run"], entry["rows"]) == ("export", "run", 400)
    assert set(entry["inputs"]) >= {"private/train.parquet", "private/holdout.parquet"}
    shown = CliRunner().invoke(app, ["verify", manifest])
    assert (shown.exit_code, shown.output.count("ok ")) == (0, 4)
    target.write_bytes(target.read_bytes() + b"x")
    assert broken(verify(manifest, log)) == ["target"]
    target.unlink()
    assert broken(verify(manifest, log)) == ["target"]
    train = run.train_path.read_bytes()
    run.train_path.write_bytes(train + b"x")
    assert broken(verify(str(run.manifest_path), log))[:2] == ["target", "stage ingest"]
    run.train_path.write_bytes(train)
    text = json.loads(Path(manifest).read_text()) | {"rows": 7}
    Path(manifest).write_text(json.dumps(text))
    told = CliRunner().invoke(app, ["verify", manifest, "--log", str(log.path)])
    assert told.exit_code == 1
    assert f"no line of {log.path} is about this manifest" in told.output


def test_folders_and_tables_are_verified(run: RunFolder, tmp_path: Path, home: Path) -> None:
    table = f"sqlite:///{tmp_path}/out.db?table=admissions"
    export_to(run, f"{tmp_path}/out/")
    export_to(run, table)
    for manifest in (f"{tmp_path}/out/_manifest.json", table):
        assert broken(verify(manifest, AuditLog.default())) == []
    part = tmp_path / "out" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    (found,) = (
        f for f in verify(f"{tmp_path}/out/_manifest.json", AuditLog.default()) if not f.holds
    )
    assert found.detail.endswith("changed since: part-00000.parquet")


def test_what_is_no_manifest(tmp_path: Path, home: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    for uri, told in (
        (f"{tmp_path}/none.json", "no manifest that can be read"),
        (f"{tmp_path}/x.json", "is not a manifest"),
    ):
        with pytest.raises(ConfigError, match=told):
            verify(uri, AuditLog.default())


def test_nothing_leaves_that_cannot_be_written_down(
    run: RunFolder, tmp_path: Path, home: Path
) -> None:
    home.mkdir()
    (home / "audit.jsonl").write_text("not a log\n")
    with pytest.raises(ConfigError, match=r"audit\.jsonl is damaged"):
        export_to(run, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


# --- models ---------------------------------------------------------------------------------------


def test_models_by_name_and_version(bundle: Path, home: Path, tmp_path: Path) -> None:
    models = Registry.default()
    first = models.add(bundle, "patients")
    other = tmp_path / "other"
    shutil.copytree(bundle, other)
    (other / "README").write_text("another")
    second = models.add(other, "patients")
    assert (str(first), str(second)) == ("patients@1", "patients@2")
    assert models.find("patients")[0] == first
    assert models.promote("patients@2") == second
    assert models.find("patients")[0] == second
    assert [(str(v), meant) for v, meant in models.versions()] == [
        ("patients@1", False),
        ("patients@2", True),
    ]
    with pytest.raises(ConfigError, match="promote another version first"):
        models.remove("patients@2")
    assert models.remove("patients@1") == first
    assert not models.path(first.sha256).exists()
    assert str(models.add(bundle, "patients")) == "patients@3"  # a number is never given twice
    assert [e["what"] for e in AuditLog.default().entries()] == [
        "add", "add", "promote", "remove", "add",
    ]  # fmt: skip
    assert models.find("patients")[1].stat().st_mode & 0o777 == 0o700


def test_equal_bundles_are_kept_once(bundle: Path, home: Path) -> None:
    models = Registry.default()
    one, two = models.add(bundle, "a"), models.add(bundle, "b")
    assert one.sha256 == two.sha256
    models.remove("a@1")
    assert models.find("b")[1].is_dir()


def test_a_damaged_model_is_refused(bundle: Path, home: Path) -> None:
    models = Registry.default()
    path = models.path(models.add(bundle, "patients").sha256)
    (path / "bundle.json").write_bytes((path / "bundle.json").read_bytes() + b" ")
    with pytest.raises(BundleError, match=r"patients@1 is damaged"):
        models.find("patients")


def test_what_is_no_model(bundle: Path, home: Path, tmp_path: Path) -> None:
    models = Registry.default()
    with pytest.raises(ConfigError, match="no model 'nothing'; versions of 'nothing': none"):
        models.find("nothing")
    with pytest.raises(ConfigError, match=r"model name '\.\./x'"):
        models.add(bundle, "../x")
    with pytest.raises(BundleError, match="neither a bundle nor a run folder"):
        models.add(tmp_path, "x")
    models.add(bundle, "bare")
    with pytest.raises(ConfigError, match="draw new rows: synthgen sample bare@1"):
        resolve_run("bare")


def test_a_model_is_sampled_and_its_run_exported_by_name(
    run: RunFolder, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "home" if home.exists() else tmp_path)
    said = CliRunner().invoke(app, ["models", "add", str(run.root), "clinic"])
    assert said.output.strip() == "clinic@1"
    to = str(tmp_path / "drawn.csv")
    assert CliRunner().invoke(app, ["sample", "clinic", "--rows", "5", "--to", to]).exit_code == 0
    assert (tmp_path / "drawn.csv").read_text().count("\n") == 6
    out = str(tmp_path / "out.parquet")
    assert CliRunner().invoke(app, ["export", "clinic@1", "--to", out]).exit_code == 0
    assert broken(verify(f"{out}.manifest.json", AuditLog.default())) == []
    listed = CliRunner().invoke(app, ["models", "list", "--json"])
    assert [m["name"] for m in json.loads(listed.output)] == ["clinic"]
    assert "clinic" in CliRunner().invoke(app, ["models", "show", "clinic"]).output
