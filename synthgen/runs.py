"""Many run folders: what state each is in, which was accepted last, which may go."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from synthgen.errors import SynthgenError, TargetBusy
from synthgen.run_folder import RunFolder


@dataclass(frozen=True)
class Entry:
    """One run folder at a glance.

    Attributes
    ----------
    run : str
        Its path.
    state : str
        ``exported``, ``refused`` (by the gate), ``running``, ``failed``, ``interrupted`` (or
        killed), or ``damaged``.
    stage : str
        The last stage that it began.
    rows : int
        Synthetic rows that were exported, or are asked for.
    target, created : str
        Where to; UTC, ISO 8601.
    age_hours : float
    """

    run: str
    state: str
    stage: str
    rows: int
    target: str
    created: str
    age_hours: float


def folders(runs: Path) -> list[RunFolder]:
    """Return the run folders directly below `runs`, newest first."""
    found = [p.parent for p in runs.glob("*/config.toml") if (p.parent / "private").is_dir()]
    return [RunFolder(p) for p in sorted(found, key=lambda p: (_made(p), p.name), reverse=True)]


def listed(runs: Path) -> list[Entry]:
    """Return an entry for each run folder below `runs`, newest first."""
    return [entry(folder) for folder in folders(runs)]


def accepted(runs: Path, target: str) -> Iterator[RunFolder]:
    """Yield the run folders below `runs` that exported to `target`, newest first."""
    for folder in folders(runs):
        if folder.manifest_path.exists() and _target(folder) == target:
            yield folder


def prune(runs: Path, keep: int, *, target: str | None = None) -> list[Path]:
    """Delete all but the `keep` newest run folders of each target (or of one); return the deleted.

    The last one that was exported stays, because the next is compared with it; so does one that a
    process is at work in.
    """
    by_target: dict[str, list[RunFolder]] = {}
    for folder in folders(runs):
        by_target.setdefault(_target(folder), []).append(folder)
    gone = []
    for name, group in by_target.items():
        if name and target in (None, name):
            last = next(accepted(runs, name), None)
            gone += [f.root for f in group[keep:] if f != last and _delete(f)]
    return gone


def _delete(folder: RunFolder) -> bool:
    try:
        with folder.held():
            # Renamed first, so that one that is killed here leaves no half of a run folder.
            doomed = folder.root.with_name(f".gone-{folder.root.name}")
            folder.root.rename(doomed)
    except TargetBusy:
        return False
    finally:
        for leftover in folder.root.parent.glob(".gone-*"):
            shutil.rmtree(leftover, ignore_errors=True)
    return True


def entry(folder: RunFolder) -> Entry:
    """Return one run folder at a glance; a damaged one as well."""
    made = datetime.fromtimestamp(_made(folder.root), UTC)
    age = (datetime.now(UTC) - made).total_seconds() / 3600
    try:
        config, events = folder.config, folder.events
        stage = next((str(e["stage"]) for e in reversed(events) if e["event"] == "start"), "")
        rows = folder.manifest.rows if folder.manifest_path.exists() else config.rows
        state, target = _state(folder), config.to
    except (SynthgenError, ValueError, KeyError, TypeError):
        state, stage, rows, target = "damaged", "", 0, ""
    created = made.isoformat(timespec="seconds")
    return Entry(str(folder.root), state, stage, rows, target, created, round(age, 2))


def _state(folder: RunFolder) -> str:
    if folder.is_held:
        return "running"
    if folder.decision_path.exists() and not folder.decision.passed:
        return "refused"
    if folder.manifest_path.exists():
        return "exported"
    return "failed" if folder.events and folder.events[-1]["event"] == "failed" else "interrupted"


def _target(folder: RunFolder) -> str:
    try:
        return folder.config.to
    except SynthgenError:
        return ""


def _made(root: Path) -> float:
    return (root / "config.toml").stat().st_mtime
