"""Deployments for real: a server, a serving process, a schedule that fires, triggers by CLI."""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import yaml

from synthgen.config import RunConfig
from synthgen.files import sha256
from tests.conftest import wait_until

Configure = Callable[..., RunConfig]
SYNTHGEN = [sys.executable, "-m", "synthgen"]
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Site:
    """A folder with configurations, one of them served with a schedule."""

    folder: Path
    environment: dict[str, str]
    serving: subprocess.Popen[str]

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


@pytest.fixture(scope="module")
def site(
    prefect_server: dict[str, str],
    tiny_config: Configure,
    demo_files: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
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
        yield Site(folder, environment, serving)
    finally:
        serving.kill()
        serving.wait()


@pytest.mark.slow
class TestServed:
    """In this order: each test goes on where the one before ended."""

    def test_what_cannot_be_triggered(self, site: Site) -> None:
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

    def test_the_schedule_fires(self, site: Site) -> None:
        manifest = site.folder / "out.csv.manifest.json"
        wait_until(manifest.exists, 400, site.said)
        (run,) = site.runs()
        assert run["state"] == "exported"
        facts = json.loads(manifest.read_text())
        assert facts["facts"]["run"] == Path(str(run["run"])).name
        assert facts["facts"]["seed"] != 1, "derived from the configuration's"
        assert set(facts["facts"]["stages"]) == {"ingest", "train", "generate", "validate"}

    def test_a_trigger_waits_and_leaves_with_the_run_s_exit_code(self, site: Site) -> None:
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

    def test_a_sigterm_pauses_the_schedule(self, site: Site) -> None:
        site.serving.send_signal(signal.SIGTERM)
        assert site.serving.wait(240) == 0
        assert "schedules are paused" in site.said()
        assert "never awaited" not in site.said()
        (deployment,) = site.deployments()
        assert deployment["paused"]


def test_prefect_yaml_names_flows_and_parameters_that_exist() -> None:
    from flows import synthesize

    found = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    for deployment in found["deployments"]:
        path, name = deployment["entrypoint"].split(":")
        assert (ROOT / path).is_file()
        flow = getattr(synthesize, name)
        assert set(deployment["parameters"]) <= set(flow.parameters.properties)
        flow.validate_parameters(deployment["parameters"])
