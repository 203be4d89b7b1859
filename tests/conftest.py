"""Fixtures that many tests share: one small demo table, one tiny synthesizer, one finished run.

They are made once a session. Tests must not write into them; copy a folder to change it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import servers

from flows.environment import DEFAULTS
from synthgen import demo
from synthgen.config import RunConfig
from synthgen.pipeline import Outcome, run
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable, Split, split

DEMO_ROWS = 1_500
#: Files that take longest: they begin first, so that no process is left with one at the end.
LONGEST = (
    *(
        "test_load.py",
        "test_kills.py",
        "test_deployments.py",
        "test_planted_facts.py",
        "test_canary.py",
        "test_private_run.py",
    ),
    *("test_flows.py", "test_dp_black_box.py", "test_resume.py", "test_world.py", "test_cli.py"),
)
#: Seconds of training: enough for a path, not for quality.
TINY_TRAIN: dict[str, Any] = {"steps": 40, "critic_steps": 10, "width": 32, "depth": 1}
#: What only a good generator meets is not asked for; copies, schema and enough rows still are.
LENIENT_GATE: dict[str, Any] = {
    "max_marginal_excess": None,
    "max_pair_loss": None,
    "max_c2st": None,
    "min_utility": None,
    "max_dcr_z": None,
    "max_membership_auc": None,
    "max_attack_risk": None,
    "prove_power": False,  # a few hundred rows cannot
    "samples": 1,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the `LONGEST` files first; every process of pytest-xdist must do it alike."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session", autouse=True)
def _data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep audit log, models and locks of tests, subprocesses included, out of the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SYNTHGEN_HOME", raising=False)
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data-home")))
        yield


@pytest.fixture(scope="session")
def demo_table() -> RealTable:
    """1,500 made-up admissions."""
    return demo.demo_frame(DEMO_ROWS, seed=0)


@pytest.fixture(scope="session")
def demo_halves(demo_table: RealTable) -> Split:
    """The demo table, four fifths for training."""
    return split(demo_table, holdout=0.2, seed=0)


@pytest.fixture(scope="session")
def demo_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``admissions.csv`` and its ``schema.toml``."""
    folder = tmp_path_factory.mktemp("demo")
    demo.write_csv(folder / "admissions.csv", DEMO_ROWS, 0)
    demo.SCHEMA.save(folder / "schema.toml")
    return folder


@pytest.fixture(scope="session")
def tiny_synthesizer(demo_halves: Split) -> Synthesizer:
    """A synthesizer of the demo table after a few steps: right in form, poor in quality."""
    config = RunConfig.build({"train": TINY_TRAIN})
    return Synthesizer.fit(demo_halves.train, config=config, seed=0, device="cpu")


@pytest.fixture(scope="session")
def tiny_config(demo_files: Path) -> Callable[..., RunConfig]:
    """Return a function from a target (and changes) to the configuration of a quick run."""

    def build(to: Path, **changes: Any) -> RunConfig:
        settings = {
            "data": str(demo_files / "admissions.csv"),
            "schema_path": str(demo_files / "schema.toml"),
            "to": str(to),
            "rows": 400,
            "seed": 1,
            "device": "cpu",
            "train": TINY_TRAIN,
            "gate": LENIENT_GATE,
        }
        return RunConfig.build({**settings, **changes})

    return build


@pytest.fixture(scope="session")
def finished(
    tiny_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    """One run that the lenient gate passed, exported to ``out.csv`` beside its folder."""
    folder = tmp_path_factory.mktemp("finished")
    return run(tiny_config(folder / "out.csv"), run_dir=folder / "run")


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real Prefect server on loopback, schedules and all; the environment of its clients."""
    with servers.database_of_prefect() as database:
        yield from _serve_prefect(tmp_path_factory, database)


def _serve_prefect(
    tmp_path_factory: pytest.TempPathFactory, database: str | None
) -> Iterator[dict[str, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    its_database = {"PREFECT_API_DATABASE_CONNECTION_URL": database} if database else {}
    environment = {
        **kept,
        **DEFAULTS,
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    command += ["--host", "127.0.0.1", "--no-ui"]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as file:
        server = subprocess.Popen(
            command, env={**environment, **its_database}, stdout=file, stderr=file
        )
    try:
        wait_until(lambda: _answers(environment["PREFECT_API_URL"]), 300, log.read_text)
        yield environment
    finally:
        server.terminate()
        server.wait(60)


def wait_until(
    holds: Callable[[], object],
    seconds: float,
    otherwise: Callable[[], str] = lambda: "",
    *,
    every: float = 0.5,
) -> None:
    """Return when `holds`; fail after so many seconds, with what `otherwise` tells."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, otherwise()[-3_000:]
        time.sleep(every)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URI of an empty PostgreSQL of the session, without a table."""
    with servers.postgres() as uri:
        yield uri


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """URI of a bucket of the session, ``s3://bucket``; the environment knows its endpoint."""
    with servers.s3():
        yield f"s3://{servers.BUCKET}"


# --- faults, counted for docs/reliability.md (benchmarks/faults.py) -------------------------------


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let the report of a test tell which fault it survives."""
    mark = item.get_closest_marker("survives")
    if mark is not None:
        item.user_properties.append(("survives", list(mark.args)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add a line for a fault that was tried to the file ``$SYNTHGEN_FAULTS``, if it is named."""
    record, facts = os.environ.get("SYNTHGEN_FAULTS"), dict(report.user_properties)
    is_worker = "PYTEST_XDIST_WORKER" in os.environ  # its reports come again, to who started it
    if not record or is_worker or "survives" not in facts:
        return
    if report.when == "call" or (report.when == "setup" and not report.passed):
        part, fault = facts["survives"]
        told = {"part": part, "fault": fault, "tried": facts.get("tried", 1)}
        with Path(record).open("a") as file:
            file.write(json.dumps({**told, "outcome": report.outcome}) + "\n")
