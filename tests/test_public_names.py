"""The public surface is a list under test: changing it is a decision, not an accident."""

import subprocess
import sys

import pytest

import synthgen

PUBLIC = [
    "Column",
    "Constraint",
    "Control",
    "GatePolicy",
    "RealTable",
    "RunConfig",
    "Split",
    "Synthesizer",
    "SyntheticTable",
    "SynthgenError",
    "SynthgenSampler",
    "TableSchema",
    "pool",
]


def test_public_names_are_these() -> None:
    assert synthgen.__all__ == PUBLIC
    assert dir(synthgen) == sorted([*PUBLIC, "__version__"])


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_resolves_and_is_documented(name: str) -> None:
    thing = getattr(synthgen, name)
    assert thing.__name__ == name
    assert thing.__doc__


def test_other_names_are_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'pandas'"):
        _ = synthgen.pandas


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import synthgen, sys; print(len([m for m in sys.modules if m.startswith('synthgen')]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
