"""Deployments for real: a server, a serving process, a schedule that fires, triggers by CLI."""

import importlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml

from flows.environment import DEFAULTS
from synthgen.config import RunConfig
from synthgen.files import sha256
from synthgen.runs import listed
from tests.conftest import TINY_TRAIN, wait_until

Configure = Callable[..., RunConfig]
SYNTHGEN = [sys.executable, "-m", "synthgen"]
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Site:
    """A folder with configurations, and how its clients reach the server."""

    folder: Path
    environment: dict[str, str]

    def synthgen(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*SYNTHGEN, *arguments],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    def said(self) -> str:
        return (self.folder / "serve.log").read_text()

    def deployments(self) -> list[dict[str, object]]:
        """What the server knows of, asked without a process of its own."""
        request = urllib.request.Request(
            f"{self.environment['PREFECT_API_URL']}/deployments/filter",
            data=b"{}",
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return list(json.load(answer))

    def runs(self) -> list[dict[str, object]]:
        return list(json.loads(self.synthgen("runs", "--json").stdout))


@dataclass(frozen=True)
class Served(Site):
    """One whose configuration is served with a schedule."""

    serving: subprocess.Popen[str]


@pytest.fixture(scope="module")
def site(
    prefect_server: dict[str, str],
    tiny_config: Configure,
    demo_files: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("site")
    to = folder / "out.csv"
    (folder / "nightly.toml").write_text(tiny_config(to, overwrite=True).to_toml())
    frame = pd.read_csv(demo_files / "admissions.csv", dtype=str, keep_default_na=False)
    frame.loc[frame.index % 2 == 0, "ward"] = frame["ward"].mode()[0]
    frame.to_csv(folder / "other.csv", index=False)
    other = tiny_config(to, overwrite=True, data=str(folder / "other.csv"))
    (folder / "other.toml").write_text(other.to_toml())
    environment = {**prefect_server, "PYTHONPATH": str(ROOT)}
    # once, at a minute that can be met; what needs no run is tested in the meantime
    at = datetime.now(UTC) + timedelta(seconds=100)
    command = [*SYNTHGEN, "serve", "nightly.toml", "--cron", f"{at.minute} {at.hour} * * *"]
    with (folder / "serve.log").open("w") as log:
        serving = subprocess.Popen(
            # as a script starts it in the background: with SIGINT ignored
            ["sh", "-c", 'trap "" INT; exec "$@"', "serve", *command],
            cwd=folder, env=environment, stdout=log, stderr=log, text=True,
        )  # fmt: skip
    try:
        yield Served(folder, environment, serving)
    finally:
        serving.kill()
        serving.wait()


@pytest.mark.slow
class TestServed:
    """In this order: each test goes on where the one before ended."""

    def test_what_cannot_be_triggered(self, site: Served) -> None:
        wait_until(site.deployments, 240, site.said)
        unknown = site.synthgen("trigger", "weekly")
        assert unknown.returncode == 2
        assert "no deployment 'weekly'; there are: nightly" in unknown.stderr
        refused = site.synthgen("trigger", "nightly", "--param", "rows=5")
        assert refused.returncode == 2
        assert "it takes path, accept_drift" in refused.stderr

    def test_without_a_server_the_message_says_how_to_start_one(self, tmp_path: Path) -> None:
        kept = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
        for url, code in ((None, 2), ("http://somebody:secret@127.0.0.1:9/api", 1)):
            environment = kept if url is None else {**kept, "PREFECT_API_URL": url}
            done = subprocess.run(
                [*SYNTHGEN, "trigger", "nightly"],
                env=environment, cwd=tmp_path, capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == code, done.stderr
            assert "PREFECT_API_URL" in done.stderr
            assert "prefect server start" in done.stderr
            assert "secret" not in done.stderr

    def test_the_schedule_fires(self, site: Served) -> None:
        manifest = site.folder / "out.csv.manifest.json"
        wait_until(manifest.exists, 400, site.said)
        (run,) = site.runs()
        assert run["state"] == "exported"
        facts = json.loads(manifest.read_text())
        assert facts["facts"]["run"] == Path(str(run["run"])).name
        assert facts["facts"]["seed"] != 1, "derived from the configuration's"
        assert set(facts["facts"]["stages"]) == {"ingest", "train", "generate", "validate"}

    def test_a_trigger_waits_and_leaves_with_the_run_s_exit_code(self, site: Served) -> None:
        before = sha256(site.folder / "out.csv")
        (run,) = site.runs()
        done = site.synthgen("trigger", "nightly", "--wait", "--param", f"path={run['run']}")
        assert done.returncode == 0, done.stderr
        assert "validate  was done" in done.stderr
        assert "run       Completed" in done.stderr
        assert sha256(site.folder / "out.csv") == before

        path = site.folder / "other.toml"
        drifted = site.synthgen("trigger", "nightly", "--wait", "--param", f"path={path}")
        assert drifted.returncode == 2, drifted.stderr
        assert "column 'ward': PSI" in drifted.stderr
        assert "run       Drifted" in drifted.stderr
        assert len(site.runs()) == 1

    def test_a_sigterm_pauses_the_schedule(self, site: Served) -> None:
        site.serving.send_signal(signal.SIGTERM)
        assert site.serving.wait(240) == 0
        assert "schedules are paused" in site.said()
        assert "never awaited" not in site.said()
        (deployment,) = site.deployments()
        assert deployment["paused"]


HOLDER = """
import time
from flows.synthesize import gpu_slot
with gpu_slot():
    print("held", flush=True)
    time.sleep(3_600)
"""


@contextmanager
def group(command: list[str], site: Site, log: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process with a group of its own, in which its children are too."""
    with (site.folder / log).open("w") as file:
        started = subprocess.Popen(
            command, cwd=site.folder, env=site.environment, stdout=file, stderr=file,
            text=True, start_new_session=True,
        )  # fmt: skip
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


@pytest.mark.slow
def test_a_run_killed_with_its_worker_is_gone_on_with_by_the_next_one(
    prefect_server: dict[str, str], tiny_config: Configure, tmp_path: Path
) -> None:
    """As deployed: prefect.yaml, automations.yaml, a process pool; then ``kill -9`` in training."""
    environment = {
        **prefect_server,
        "PYTHONPATH": str(ROOT),
        "SYNTHGEN_HOME": str(tmp_path),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }
    site = Site(tmp_path, environment)
    # steps enough that the kill comes before their end
    config = tiny_config(tmp_path / "out.csv", train={**TINY_TRAIN, "steps": 3_000})
    (tmp_path / "nightly.toml").write_text(config.to_toml())
    prefect = [str(Path(sys.executable).with_name("prefect")), "--no-prompt"]
    worker = [*prefect, "worker", "start", "--pool", "local", "--type", "process", "--limit", "1"]

    def ask(path: str, **sent: Any) -> Any:
        asked = urllib.request.Request(
            f"{prefect_server['PREFECT_API_URL']}/{path}",
            data=json.dumps(sent).encode() if sent else None,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked) as answer:
            return json.loads(answer.read())

    def set_up(*words: str) -> None:
        done = subprocess.run(
            [*prefect, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr

    # at two in the morning the test would not be alone
    deployed = (ROOT / "prefect.yaml").read_text().replace("active: true", "active: false")
    (tmp_path / "prefect.yaml").write_text(deployed)
    set_up("work-pool", "create", "local", "--type", "process")
    set_up("deploy", "--name", "nightly")
    set_up("automation", "create", "--from-file", str(ROOT / "automations.yaml"))
    with (
        group(worker, site, "worker.log") as first,
        group([sys.executable, "-c", HOLDER], site, "holder.log") as holder,
    ):
        nightly = ask("deployments/name/synthgen/nightly")["id"]
        run = ask(f"deployments/{nightly}/create_flow_run", tags=["test"])["id"]
        checkpoints = (tmp_path / "runs").glob
        wait_until(
            lambda: any(checkpoints("*/private/checkpoint.safetensors")), 300,
            (tmp_path / "worker.log").read_text, every=0.02,  # training may end within a second
        )  # fmt: skip
        # the run has a session of its own: left alone it goes on until it speaks to the worker
        for process in [*psutil.Process(first.pid).children(recursive=True), first]:
            process.kill()
        wait_until(lambda: "held" in (tmp_path / "holder.log").read_text(), 60)
        holder.kill()
    (folder,) = (tmp_path / "runs").iterdir()
    # the processes that were killed may take a moment to let go of their locks
    wait_until(lambda: [e.state for e in listed(folder.parent)] == ["interrupted"], 60)
    assert not (tmp_path / "out.csv").exists()
    wait_until(lambda: ask(f"flow_runs/{run}")["state"]["name"] == "Crashed", 240)

    with group(worker, site, "next.log"):
        done = site.synthgen("trigger", "nightly", "--wait", "--param", f"path={folder}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ingest    was done" in done.stderr
    assert "training goes on from step" in done.stderr
    assert json.loads((folder / "manifest.json").read_text())["rows"] == 400
    assert (
        sha256(tmp_path / "out.csv")
        == json.loads((tmp_path / "out.csv.manifest.json").read_text())["sha256"]
    )
    # its lease of 60 s ended with nobody to renew it
    slots = "v2/concurrency_limits/synthgen-gpu"
    wait_until(lambda: ask(slots)["active_slots"] == 0, 120)


def test_prefect_yaml_names_flows_and_parameters_that_exist() -> None:
    found = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    for deployment in found["deployments"]:
        module, _, name = deployment["entrypoint"].rpartition(".")
        flow = getattr(importlib.import_module(module), name)
        assert set(deployment["parameters"]) <= set(flow.parameters.properties)
        needed = {} if "schedules" in deployment else {"path": "given by a trigger"}
        flow.validate_parameters({**needed, **deployment["parameters"]})
    assert {d["name"] for d in found["deployments"]} == {"nightly", "watch", "validate", "augment"}


def test_a_worker_finds_the_settings_that_come_too_late_for_it() -> None:
    deployed = yaml.safe_load((ROOT / "prefect.yaml").read_text())["definitions"]["environment"]
    of_the_client = {k: v for k, v in DEFAULTS.items() if not k.startswith("PREFECT_SERVER_")}
    assert of_the_client.items() <= deployed.items()
