"""What is installed: licences, pins, the bill of materials of the image, telemetry."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import Distribution
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def chain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chain", ROOT / "docker" / "supply_chain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(folder: Path, name: str, *lines: str) -> Distribution:
    """Return a package of that name, version 1.0, with these lines of metadata."""
    place = folder / f"{name}-1.0.dist-info"
    place.mkdir()
    head = ("Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0")
    (place / "METADATA").write_text("\n".join([*head, *lines, ""]))
    return Distribution.at(place)


def test_what_is_installed_may_be_passed_on_and_is_what_was_tested(chain: ModuleType) -> None:
    found = chain.installed()
    edges = chain.wanted(["dev"], found)
    assert {"torch", "prefect", "great-expectations", "pytest"} <= set(edges)
    runtime = set(chain.wanted([], found))
    assert chain.licence_problems(edges, found, runtime=runtime) == []
    constraints = (ROOT / "constraints.txt").read_text()
    assert chain.pin_problems(edges, found, constraints) == []


@pytest.mark.parametrize(
    ("line", "good"),
    [
        ("License-Expression: MIT", True),
        ("License-Expression: Apache-2.0 AND BSD-3-Clause", True),
        ("Classifier: License :: OSI Approved :: BSD License", True),
        ("License: BSD 3-Clause License", True),
        ("License-Expression: GPL-3.0-or-later", False),
        ("License-Expression: MIT AND LGPL-2.1", False),
        ("Classifier: License :: OSI Approved :: GNU General Public License (GPL)", False),
        ("License: Business Source License (BUSL)", False),
        ("License: see LICENSE", False),
        ("Summary: says nothing", False),
    ],
)
def test_copyleft_and_unknown_licences_are_found(
    chain: ModuleType, tmp_path: Path, line: str, good: bool
) -> None:
    found = {"thing": package(tmp_path, "thing", line)}
    problems = chain.licence_problems(["thing"], found, runtime={"thing"})
    assert (problems == []) is good


def test_a_licence_for_developers_is_none_for_users(chain: ModuleType, tmp_path: Path) -> None:
    found = {"hypothesis": package(tmp_path, "hypothesis", "License-Expression: MPL-2.0")}
    assert chain.licence_problems(found, found, runtime=set()) == []
    assert len(chain.licence_problems(found, found, runtime={"hypothesis"})) == 1


def test_what_a_cuda_build_of_torch_brings_is_known(chain: ModuleType, tmp_path: Path) -> None:
    """Torch pins it; the image with CUDA could not be built otherwise."""
    proprietary = "License: NVIDIA Proprietary Software"
    names = ("nvidia-cublas-cu12", "cuda-bindings", "triton")
    found = {name: package(tmp_path, name, proprietary) for name in names}
    assert chain.licence_problems(found, found, runtime=set(found)) == []
    assert chain.pin_problems(found, found, "") == []


def test_missing_and_other_pins_are_found(chain: ModuleType, tmp_path: Path) -> None:
    found = {name: package(tmp_path, name) for name in ("one", "two", "three")}
    assert chain.pin_problems(found, found, "One==1.0\ntwo==1.1\n") == [
        "three 1.0: is not in constraints.txt",
        "two 1.0: constraints.txt pins 1.1",
    ]


def test_the_bill_lists_each_package_and_what_it_asks_for(
    chain: ModuleType, tmp_path: Path
) -> None:
    asks = ("Requires-Dist: one", 'Requires-Dist: two; extra == "more"', "Requires-Dist: absent")
    found = {
        "synthgen": package(tmp_path, "synthgen", *asks, "License-Expression: Apache-2.0"),
        "one": package(tmp_path, "one", "Requires-Dist: two", "License-Expression: MIT"),
        "two": package(tmp_path, "two"),
        "stranger": package(tmp_path, "stranger"),
    }
    bill = chain.bill_of_materials(chain.wanted([], found), found)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "synthgen"
    assert [c["purl"] for c in bill["components"]] == ["pkg:pypi/one@1.0", "pkg:pypi/two@1.0"]
    assert [c["licenses"][0]["license"]["name"] for c in bill["components"]] == ["MIT", "unknown"]
    depends = {d["ref"].split("/")[1]: d["dependsOn"] for d in bill["dependencies"]}
    assert depends["one@1.0"] == ["pkg:pypi/two@1.0"]
    assert depends["synthgen@1.0"] == ["pkg:pypi/one@1.0"]
    assert bill == chain.bill_of_materials(chain.wanted([], found), found)


SETTINGS = """
from flows.environment import set_defaults
set_defaults()
import prefect.settings
from prefect._internal.analytics.enabled import is_telemetry_enabled
assert prefect.settings.get_current_settings().server.analytics_enabled is False
assert not is_telemetry_enabled()
"""


@pytest.mark.slow
def test_telemetry_is_off_before_it_could_begin(tmp_path: Path) -> None:
    """Of Prefect, the only library here that has any; tests/test_canary.py watches the sockets."""
    kept = {k: os.environ[k] for k in ("PATH", "HOME") if k in os.environ}
    environment = {**kept, "PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SETTINGS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
