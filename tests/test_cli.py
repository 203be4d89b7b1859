"""The command line as a person and a script meet it: texts, exit codes, streams."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from synthgen import demo
from synthgen.cli import app
from synthgen.config import RunConfig
from synthgen.files import reserve
from synthgen.pipeline import Outcome, save_bundle
from synthgen.run_folder import RunFolder
from synthgen.synthesizer import Synthesizer

VERBS = [
    ("schema", "infer"), ("schema", "check"), ("run",), ("demo",), ("train",), ("sample",),
    ("validate",), ("export",), ("show",), ("compare",),
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("SYNTHGEN_DEBUG", raising=False)


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def settings(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> Path:
    """A configuration file for a quick run."""
    config = tiny_config(tmp_path / "out.csv").model_dump(exclude_none=True)
    path = tmp_path / "quick.toml"
    path.write_text(RunConfig.build({**config, "to": ""}).to_toml())
    return path


# --- help -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_help_shows_an_example(verb: tuple[str, ...]) -> None:
    shown = cli(*verb, "--help")
    assert shown.exit_code == 0
    assert f"Example: synthgen {' '.join(verb)}" in " ".join(shown.stdout.split())


def test_help_costs_little() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "synthgen", "--help"]
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 0.5


@pytest.mark.parametrize(
    "arguments",
    ["nonsense", "run --nonsense", "sample bundle --rows 0 --to x.csv", "show"],
)
def test_usage_errors_are_2(arguments: str) -> None:
    assert cli(*arguments.split()).exit_code == 2


# --- schema ---------------------------------------------------------------------------------------


def test_infer_writes_a_draft_that_fits(demo_files: Path, tmp_path: Path) -> None:
    data, draft = demo_files / "admissions.csv", tmp_path / "draft.toml"
    assert cli("schema", "infer", data, "--out", draft).exit_code == 0
    assert "# " in draft.read_text()
    assert cli("schema", "check", data, "--schema", draft).exit_code == 0
    assert cli("schema", "infer", data, "--out", draft).exit_code == 2
    assert cli("schema", "infer", data).stdout == draft.read_text()


def test_check_lists_all_violations_and_no_cell(demo_files: Path, tmp_path: Path) -> None:
    text = (demo_files / "admissions.csv").read_text()
    bad = tmp_path / "bad.csv"
    bad.write_text(text.replace('"internal"', '"CANARY"').replace('"no"', '"maybe"'))
    schema = demo_files / "schema.toml"
    found = cli("schema", "check", bad, "--schema", schema)
    assert found.exit_code == 2
    assert "column 'ward'" in found.stderr
    assert "column 'emergency'" in found.stderr
    assert "CANARY" not in found.output
    listed = json.loads(cli("schema", "check", bad, "--schema", schema, "--json").stdout)
    assert {v["column"] for v in listed} == {"ward", "emergency", "readmitted"}


# --- run ------------------------------------------------------------------------------------------


def test_run_passes_and_says_where(settings: Path, tmp_path: Path) -> None:
    to, folder = tmp_path / "out.csv", tmp_path / "run"
    done = cli("run", "--config", settings, "--to", to, "--run-dir", folder)
    assert done.exit_code == 0, done.output
    assert "gate: passed" in done.stdout
    assert str(to) in done.stdout
    assert "validate" in done.stderr
    assert to.exists()
    again = cli("run", "--config", settings, "--to", to, "--run-dir", tmp_path / "second")
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert not (tmp_path / "second").exists()


def test_a_refused_run_is_3_and_names_the_rule(settings: Path, tmp_path: Path) -> None:
    settings.write_text(settings.read_text().replace('max_c2st = "off"', "max_c2st = 0.51"))
    folder = tmp_path / "run"
    done = cli("run", "--config", settings, "--to", tmp_path / "out.csv", "--run-dir", folder)
    assert done.exit_code == 3, done.output
    assert re.search(r"FAILED\s+c2st", done.stdout)
    assert "synthgen show" in done.stderr
    assert not (tmp_path / "out.csv").exists()
    assert (folder / "private" / "synthetic.parquet").exists()
    shown = cli("show", folder)
    assert shown.exit_code == 0
    assert "REFUSED" in shown.stdout
    exported = cli("export", folder, "--to", tmp_path / "sneak.csv")
    assert exported.exit_code == 3
    assert "c2st" in exported.stderr
    assert not (tmp_path / "sneak.csv").exists()


def test_a_busy_target_is_4(settings: Path, tmp_path: Path) -> None:
    to = tmp_path / "out.csv"
    with reserve(to):
        done = cli("run", "--config", settings, "--to", to, "--run-dir", tmp_path / "run")
    assert done.exit_code == 4
    assert not (tmp_path / "run").exists()


def test_dry_run_writes_nothing(demo_files: Path, tmp_path: Path) -> None:
    data, to = demo_files / "admissions.csv", tmp_path / "out.csv"
    done = cli("run", "--data", data, "--rows", 500, "--to", to, "--dry-run", "--target", "ward")
    assert done.exit_code == 0, done.output
    assert "regenerated: patient_id, name, email" in done.stdout
    assert "schema:      inferred" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rows", "0"), "rows"),
        (("--device", "tpu"), "device"),
        (("--target", "gone"), "'gone'"),
        (("--schema", "gone.toml"), "cannot read schema"),
        (("--config", "gone.toml"), "cannot read configuration"),
        (("--data", "gone.csv"), "no such file"),
        (("--to", "out.xlsx"), "must end in"),
        (("--to", "gone/out.csv"), "does not exist"),
    ],
)
def test_bad_settings_are_2_and_leave_nothing(
    options: tuple[str, str], message: str, settings: Path, tmp_path: Path
) -> None:
    given = {"--config": settings, "--to": tmp_path / "out.csv", "--run-dir": tmp_path / "run"}
    merged = {**given, options[0]: options[1]}
    if options[0] == "--config":
        merged["--data"] = "x.csv"
    done = cli("run", *(word for pair in merged.items() for word in pair))
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["quick.toml"]


@pytest.mark.parametrize("verb", ["run", "run --dry-run", "plan", "train", "sample"])
def test_a_device_that_is_not_there_is_2_and_named(
    verb: str, finished: Outcome, demo_files: Path, tmp_path: Path
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    words: list[object] = [*verb.split(), "--device", "cuda", "--rows", 100]
    if verb == "train":
        words = words[:-2]
    words += [finished.folder.bundle_path] if verb == "sample" else []
    words += ["--data", demo_files / "admissions.csv"] if verb != "sample" else []
    words += ["--to", tmp_path / "out.csv"] if verb != "plan" else []
    done = cli(*words)
    assert done.exit_code == 2, done.output
    assert "'cuda' was demanded, but there is none; use 'auto' or 'cpu'" in done.stderr
    assert not list(tmp_path.iterdir())


def test_sample_names_an_unknown_device(finished: Outcome, tmp_path: Path) -> None:
    bundle = finished.folder.bundle_path
    options = ("--rows", 10, "--to", tmp_path / "out.csv", "--device", "tpu")
    done = cli("sample", bundle, *options)
    assert done.exit_code == 2
    assert "'tpu' is unknown" in done.stderr


def test_sample_tells_of_rows_drawn_and_checked(finished: Outcome, tmp_path: Path) -> None:
    options = ("--rows", 10, "--to", tmp_path / "out.csv", "--log-json")
    done = cli("sample", finished.folder.bundle_path, *options)
    assert done.exit_code == 0
    told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    counts = [(e["stage"], e["step"], e["steps"], e["unit"]) for e in told]
    assert counts == [("draw", 10, 10, "rows"), ("check", 10, 10, "rows")]


def test_unknown_keys_are_named_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("rowz = 1\n[train]\nstepz = 2\n")
    done = cli("run", "--config", path)
    assert done.exit_code == 2
    assert "rowz" in done.stderr
    assert "train.stepz" in done.stderr


def test_an_unforeseen_error_says_its_type_only(
    finished: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.folder.root, folder)
    (folder / "decision.json").write_text('{"secret CANARY": 1}')
    done = cli("show", folder)
    assert done.exit_code == 1
    assert "CANARY" not in done.output
    assert "Traceback" not in done.output
    monkeypatch.setenv("SYNTHGEN_DEBUG", "1")
    assert cli("show", folder).exception is not None


# --- earlier runs ---------------------------------------------------------------------------------


def test_show_export_and_validate(finished: Outcome, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.folder.root, folder)
    summary = json.loads(cli("show", folder, "--json").stdout)
    assert summary["passed"] is True
    assert summary["report"] == str(folder / "report.html")
    done = cli("export", folder, "--to", tmp_path / "again.parquet", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"] == 400
    before = RunFolder.open(folder).decision
    judged = cli("validate", folder)
    assert judged.exit_code == 0, judged.output
    assert RunFolder.open(folder).decision == before


@pytest.mark.parametrize("verb", ["show", "validate"])
def test_a_folder_that_is_no_run_is_2(verb: str, tmp_path: Path) -> None:
    done = cli(verb, tmp_path)
    assert done.exit_code == 2
    assert "not a run folder" in done.stderr


# --- bundles --------------------------------------------------------------------------------------


def test_train_then_sample(settings: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    assert cli("train", "--config", settings, "--to", bundle).exit_code == 0
    assert cli("train", "--config", settings, "--to", bundle).exit_code == 2
    to = tmp_path / "surgery.csv"
    done = cli("sample", bundle, "--rows", 50, "--to", to, "--where", "ward='surgery'", "--seed", 1)
    assert done.exit_code == 0, done.output
    assert "Only schema and structure" in done.stderr
    assert to.read_text().count("surgery") == 50
    manifest = json.loads((tmp_path / "surgery.csv.manifest.json").read_text())
    assert manifest["privacy"].startswith("Only schema and structure")


def test_a_bundle_samples_in_a_fresh_process(tiny_synthesizer: Synthesizer, tmp_path: Path) -> None:
    save_bundle(tiny_synthesizer, tmp_path / "bundle")
    here = tiny_synthesizer.sample(20, seed=3).data
    command = [sys.executable, "-m", "synthgen", "sample", "bundle", "--rows", "20", "--seed", "3"]
    subprocess.run([*command, "--to", "out.csv"], cwd=tmp_path, check=True, capture_output=True)
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0].split(",") == demo.SCHEMA.names
    assert [line.split(",")[0] for line in lines[1:]] == here["patient_id"].to_list()


@pytest.mark.slow
def test_the_demo_goes_through_the_flow(tmp_path: Path) -> None:
    """So few rows may be refused (docs/privacy.md); whatever is decided is then consistent."""
    command = [sys.executable, "-m", "synthgen", "demo", "--rows", "600", "--json"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    done = subprocess.run(
        [*command, "--run-dir", "one"], cwd=tmp_path, capture_output=True, text=True,
        env={**clean, "HOME": str(tmp_path)},
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert done.returncode == (0 if told["passed"] else 3), done.stderr
    assert (tmp_path / "one-admissions.csv").exists() == told["passed"]
    assert Path(told["report"]).is_file()
    assert "Traceback" not in done.stderr
    assert "great_expectations" not in done.stderr


@pytest.mark.slow
def test_a_prefect_server_that_is_not_there(settings: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "synthgen", "run", "--config", str(settings)]
    nowhere = {**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api", "HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, "--to", "out.csv"], cwd=tmp_path, capture_output=True, text=True, env=nowhere
    )
    assert done.returncode == 1
    assert "can the Prefect server be reached" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("unread", "options"), [("stdout", ["--json"]), ("stderr", [])])
def test_a_reader_that_goes_away_changes_no_exit_code(
    demo_files: Path, tmp_path: Path, unread: str, options: list[str]
) -> None:
    """A table that breaks its schema ends with 2, also if nobody reads what is said of it."""
    broken = (demo_files / "admissions.csv").read_text().replace("surgery", "sugery")
    (tmp_path / "broken.csv").write_text(broken)
    command = [sys.executable, "-m", "synthgen", "schema", "check", str(tmp_path / "broken.csv")]
    command += ["--schema", str(demo_files / "schema.toml"), *options]
    reading, writing = os.pipe()
    os.close(reading)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, unread: writing}
    done = subprocess.run(command, text=True, **streams)
    os.close(writing)
    assert done.returncode == 2
    assert not done.stdout
    assert not done.stderr


INTERRUPTED = """
import os, signal, sys
from synthgen.cli import main
# a job in the background of a script starts with the interrupt ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
def press(event, args):
    if event == "import" and args[0] == "synthgen.infer":
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(press)
sys.argv = ["synthgen", "schema", "infer", sys.argv[1]]
main()
"""


def test_ctrl_c_is_130(tmp_path: Path) -> None:
    """An interrupt in the middle of a verb: no traceback, no litter."""
    (tmp_path / "in.csv").write_text("a\n1\n")
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "in.csv")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["in.csv"]


CORE_LIMIT = """
import resource, sys
soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
from synthgen.cli import main
sys.argv = ["synthgen", "--help"]
try:
    main()
except SystemExit:
    sys.exit(resource.getrlimit(resource.RLIMIT_CORE)[0])
"""


def test_a_process_that_dies_leaves_no_image_of_its_memory() -> None:
    """Whatever the shell allows: a core dump would hold rows."""
    done = subprocess.run([sys.executable, "-c", CORE_LIMIT], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
