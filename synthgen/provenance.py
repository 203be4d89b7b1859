"""Whether what a manifest says still holds: every hash again, and its line in the audit log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from synthgen.audit_log import AuditLog
from synthgen.errors import ConfigError, SynthgenError
from synthgen.export import Manifest
from synthgen.run_folder import STAGES, RunFolder
from synthgen.sinks import open_sink
from synthgen.sinks.formats import sha256_of_parts
from synthgen.sinks.local import FOLDER_MANIFEST
from synthgen.sources import open_source
from synthgen.stores import filesystem, stored
from synthgen.uri import scheme

_ENDING = ".manifest.json"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what : str
    holds : bool
    detail : str
        What is broken, or what was compared.
    """

    what: str
    holds: bool
    detail: str


def verify(manifest: str, log: AuditLog) -> list[Finding]:
    """Check the manifest at a path or URI; a table of a database stands for its own.

    Parameters
    ----------
    manifest : str
        ``adult.csv.manifest.json``, ``adult/_manifest.json``, their ``s3://`` URIs, a run folder's
        ``manifest.json``, or ``postgresql://host/database?table=name``.
    log : AuditLog

    Raises
    ------
    ConfigError
        If there is no manifest, or it is none.
    """
    text = _text(manifest)
    try:
        found = Manifest.from_json(text)
    except (ValueError, TypeError):
        raise ConfigError(f"{manifest} is not a manifest of synthgen") from None
    return [
        _checked("decision", found.decision.get("passed") is True, "passed", "did not pass"),
        _target(manifest, found),
        *_run_folder(manifest, found),
        *_logged(text, log),
    ]


def _checked(what: str, holds: bool, good: str, bad: str) -> Finding:
    return Finding(what, holds, good if holds else bad)


def _text(manifest: str) -> str:
    if scheme(manifest) in ("postgresql", "sqlite"):
        text = open_sink(manifest).manifest()
        if text is None:
            raise ConfigError(f"{manifest}: no manifest of that table is in the database")
        return text
    system, path = filesystem(manifest)
    try:
        with stored(manifest), system.open_input_stream(path, compression=None) as stream:
            return str(stream.read().decode())
    except (SynthgenError, UnicodeDecodeError):
        raise ConfigError(f"{manifest}: there is no manifest that can be read") from None


def _target(manifest: str, found: Manifest) -> Finding:
    """Hash what the manifest describes once more."""
    place = _place(manifest, found)
    try:
        digests = dict(_digests(place, found))
    except SynthgenError as error:
        return Finding("target", False, f"cannot be read: {error}")
    broken = [name for name, (was, now) in digests.items() if was != now]
    if broken:
        return Finding("target", False, f"{place}: changed since: {', '.join(broken)}")
    return Finding("target", True, f"{place}: {len(digests)} SHA-256 as they were")


def _place(manifest: str, found: Manifest) -> str:
    """Return the path or URI of what a manifest stands beside, or in."""
    if "://" in found.file:
        return found.file
    if manifest.endswith(_ENDING):
        return manifest.removesuffix(_ENDING)
    if PurePosixPath(manifest).name == FOLDER_MANIFEST:
        return manifest.removesuffix(FOLDER_MANIFEST)
    folder = RunFolder.open(Path(manifest).absolute().parent)
    exported = folder.finished("export")
    return folder.config.to if exported is None else exported.path


def _digests(place: str, found: Manifest) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield name, digest of the manifest, digest now."""
    if scheme(place) in ("postgresql", "sqlite"):
        with open_source(place) as source:
            yield found.file, (found.sha256, source.digest())
        return
    if not found.parts:
        yield found.file, (found.sha256, _sha256(place))
        return
    yield found.file, (found.sha256, sha256_of_parts(found.parts))
    for name, digest in found.parts.items():
        yield name, (digest, _sha256(f"{place.rstrip('/')}/{name}"))


def _sha256(uri: str) -> str:
    system, path = filesystem(uri)
    digest = hashlib.sha256()
    with stored(uri), system.open_input_stream(path, compression=None) as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _run_folder(manifest: str, found: Manifest) -> Iterator[Finding]:
    """Check the receipts of a run, if the manifest is the copy in its folder."""
    root = Path(manifest).absolute().parent
    if scheme(manifest) != "file" or not (root / "config.toml").is_file():
        return
    folder = RunFolder.open(root)
    for stage in STAGES:
        good, bad = "files as they were written", "files missing or changed since"
        yield _checked(f"stage {stage}", folder.finished(stage) is not None, good, bad)
    if "policy" in found.decision:  # with differential privacy the manifest names the rules only
        same = found.decision == json.loads(folder.decision.to_json())
        yield _checked("decision.json", same, "as in the manifest", "not that of the manifest")


def _logged(text: str, log: AuditLog) -> Iterator[Finding]:
    entries, problems = log.read()
    yield Finding("audit log", not problems, "; ".join(problems) or f"{len(entries)} lines, sealed")
    digest = hashlib.sha256(text.encode()).hexdigest()
    lines = [e["number"] for e in entries if e.get("outputs", {}).get("manifest") == digest]
    yield _checked(
        "entry",
        bool(lines),
        f"line {lines[0] + 1 if lines else 0} of the audit log is about this manifest",
        f"no line of {log.path} is about this manifest",
    )
