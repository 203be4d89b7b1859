"""The run folder: where each stage leaves its files, and the log that it keeps."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa

from synthgen.checks.check import Measurement, Report
from synthgen.checks.gate import Decision
from synthgen.config import RunConfig
from synthgen.errors import ConfigError, TargetExists
from synthgen.export import Manifest
from synthgen.files import append_line, is_held, reserve, sha256, staged, sweep
from synthgen.schema import TableSchema
from synthgen.table import (
    PackedTable,
    RealTable,
    SyntheticTable,
    write_arrow,
    write_batches,
    write_table,
)

#: The stages of a run, in their order.
STAGES = ("ingest", "train", "generate", "validate", "export")

Event = dict[str, Any]
Listener = Callable[[Event], None]
#: A frame or an Arrow table: its length is its rows.
P = TypeVar("P", bound=Sized)

_listener: ContextVar[Listener | None] = ContextVar("synthgen_listener", default=None)


@contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Send the events of the stages run inside to `listener`: names and numbers, no cells.

    An event has a ``stage`` and an ``event`` (``start``, ``done``, ``kept``, ``failed``,
    ``interrupted``, ``note``, ``device`` or ``step``). Steps have ``step`` and ``steps``; those of
    training a ``loss`` as well, those of drawing count rows and say so: ``unit``.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def is_listened_to() -> bool:
    """Whether somebody hears the events already."""
    return _listener.get() is not None


@dataclass(frozen=True)
class Receipt:
    """What a stage hands on: where its main file is, what is in it by digest, and how many rows."""

    stage: str
    path: str
    sha256: str
    rows: int


@dataclass(frozen=True)
class RunFolder:
    """One run on disk. Every folder has mode 0700, every file 0600.

    Attributes
    ----------
    root : Path
        ``config.toml``, ``schema.toml``, ``log.jsonl``, ``report.json``, ``report.html``,
        ``decision.json``, ``manifest.json``; and ``private/`` with what must not leave: the split,
        the bundle, the training log, and the synthetic table before the gate.
    """

    root: Path

    @property
    def config_path(self) -> Path:
        """The configuration, every path absolute and the seed filled in."""
        return self.root / "config.toml"

    @property
    def schema_path(self) -> Path:
        """The schema that the run used, given or inferred."""
        return self.root / "schema.toml"

    @property
    def expectations_path(self) -> Path:
        """What the owner expects beyond the schema; absent if nothing."""
        return self.root / "expectations.json"

    @property
    def log_path(self) -> Path:
        """One JSON object a line: stages, seconds, rows."""
        return self.root / "log.jsonl"

    @property
    def report_path(self) -> Path:
        """All measurements, as JSON."""
        return self.root / "report.json"

    @property
    def html_path(self) -> Path:
        """The report for people."""
        return self.root / "report.html"

    @property
    def docs_path(self) -> Path:
        """Data Docs of Great Expectations, if they were asked for."""
        return self.root / "data_docs.html"

    @property
    def protection_path(self) -> Path:
        """What the encoder suppressed, as counts by column."""
        return self.root / "protection.json"

    @property
    def protection(self) -> dict[str, Any] | None:
        """What the encoder suppressed; None after a private run, which counts nothing exactly."""
        if not self.protection_path.exists():
            return None
        return dict(json.loads(self.protection_path.read_text(encoding="utf-8")))

    @property
    def decision_path(self) -> Path:
        """The gate's decision."""
        return self.root / "decision.json"

    @property
    def manifest_path(self) -> Path:
        """A copy of the manifest that stands beside the exported file."""
        return self.root / "manifest.json"

    @property
    def private(self) -> Path:
        """What must not leave; mode 0700."""
        return self.root / "private"

    @property
    def train_path(self) -> Path:
        """The real rows that the generator learns from."""
        return self.private / "train.parquet"

    @property
    def holdout_path(self) -> Path:
        """The real rows kept from training."""
        return self.private / "holdout.parquet"

    @property
    def input_path(self) -> Path:
        """Measurements of the input against its schema, as JSON."""
        return self.private / "input.json"

    @property
    def bundle_path(self) -> Path:
        """The synthesizer's bundle."""
        return self.private / "bundle"

    @property
    def checkpoint_path(self) -> Path:
        """The state of training, while it lasts: an interrupted one goes on from it."""
        return self.private / "checkpoint.safetensors"

    @property
    def training_path(self) -> Path:
        """One JSON object a logged training step."""
        return self.private / "training.jsonl"

    @property
    def previews_path(self) -> Path:
        """Pictures of the columns at steps of training (SVG), if they were asked for."""
        return self.private / "preview"

    @property
    def draw_path(self) -> Path:
        """Which bundle drew the synthetic table, with which seed, where."""
        return self.private / "draw.json"

    @property
    def attempts_path(self) -> Path:
        """Which tables of which synthesizer were judged by this folder's rows, as JSON."""
        return self.private / "attempts.json"

    @property
    def parts_path(self) -> Path:
        """Where several processes put the rows that they draw, until they are in one file."""
        return self.private / "parts"

    @property
    def reference_path(self) -> Path:
        """What a later table is compared with; see `synthgen.drift`."""
        return self.private / "reference.json"

    @property
    def drift_path(self) -> Path:
        """How the input differs from that of the run that it was compared with, as JSON."""
        return self.private / "drift.json"

    @property
    def receipts_path(self) -> Path:
        """The receipt of each finished stage, and the digests of the files that it wrote."""
        return self.private / "receipts.json"

    @property
    def charge_path(self) -> Path:
        """What names private training in the privacy ledger while it is not done."""
        return self.private / "charge.json"

    @property
    def synthetic_path(self) -> Path:
        """The synthetic table, whether or not the gate passes it."""
        return self.private / "synthetic.parquet"

    def draw_path_of(self, k: int) -> Path:
        """Return where the `k`-th table (2 and up) is: judged as the first, never exported."""
        return self.private / f"draw_{k}.parquet"

    @classmethod
    def create(cls, root: Path, config: RunConfig) -> RunFolder:
        """Make the folder and write `config` into it.

        Raises
        ------
        TargetExists
            If `root` is there and not an empty folder.
        ConfigError
            If it cannot be made.
        """
        folder = cls(root)
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise TargetExists(f"run folder {root} is there already; name another")
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            root.chmod(0o700)
            folder.private.mkdir(mode=0o700)
            folder.write(folder.config_path, config.to_toml())
            folder.finish(folder.receipt("prepare", folder.config_path, 0))
        except OSError as error:
            shutil.rmtree(root, ignore_errors=True)  # absent or empty before, and no use to anybody
            raise ConfigError(f"cannot make run folder {root}: {error.strerror}") from None
        return folder

    @classmethod
    def open(cls, root: str | Path) -> RunFolder:
        """Return the folder of an earlier run; ConfigError if `root` is none."""
        folder = cls(Path(root).absolute())
        if not folder.config_path.is_file():
            raise ConfigError(f"{root} is not a run folder: it has no config.toml")
        return folder

    @classmethod
    def judged(cls, root: str | Path) -> RunFolder:
        """Return the folder of a run, or of a table from elsewhere, that was judged.

        Raises
        ------
        ConfigError
            If there is no decision in `root`.
        """
        folder = cls(Path(root).absolute())
        if not folder.decision_path.is_file():
            raise ConfigError(f"{root} is not a run folder: nothing was judged there")
        return folder

    @property
    def yardstick(self) -> str | None:
        """Digest of the file of fresh real rows that the table was judged by, if known."""
        if self.holdout_path.exists():
            return sha256(self.holdout_path)
        stored = json.loads(self.report_path.read_text(encoding="utf-8"))
        digest = stored.get("provenance", {}).get("files", {}).get("holdout")
        return None if digest is None else str(digest)

    @property
    def config(self) -> RunConfig:
        """The stored configuration."""
        return RunConfig.load(self.config_path)

    @property
    def schema(self) -> TableSchema:
        """The stored schema."""
        self.require(self.schema_path, "ingest")
        return TableSchema.load(self.schema_path)

    @property
    def decision(self) -> Decision:
        """The stored decision."""
        self.require(self.decision_path, "validate")
        return Decision.from_json(self.decision_path.read_text(encoding="utf-8"))

    @property
    def manifest(self) -> Manifest:
        """The manifest of what was exported."""
        self.require(self.manifest_path, "export")
        return Manifest.from_json(self.manifest_path.read_text(encoding="utf-8"))

    @property
    def draw(self) -> dict[str, Any]:
        """Synthesizer, seed, device and versions of the draw."""
        self.require(self.draw_path, "generate")
        return dict(json.loads(self.draw_path.read_text(encoding="utf-8")))

    def attempt(self, synthesizer: str, table: str) -> int:
        """Count and return how many tables of `synthesizer` were judged, `table` included.

        Both are fingerprints; a table that is judged again is one attempt. Written before the
        judgement, so that a run that is killed has used its attempt.
        """
        judged: dict[str, list[str]] = {}
        if self.attempts_path.exists():
            judged = json.loads(self.attempts_path.read_text(encoding="utf-8"))
        tables = judged.setdefault(synthesizer, [])
        if table not in tables:
            tables.append(table)
            self.write(self.attempts_path, json.dumps(judged))
        return len(tables)

    @property
    def drift(self) -> dict[str, Any] | None:
        """What the input was compared with and what was found; None if it was not compared."""
        if not self.drift_path.exists():
            return None
        return dict(json.loads(self.drift_path.read_text(encoding="utf-8")))

    @property
    def input(self) -> tuple[Measurement, ...]:
        """The measurements of the input against its schema."""
        self.require(self.input_path, "ingest")
        stored = json.loads(self.input_path.read_text(encoding="utf-8"))
        return tuple(Measurement(**m) for m in stored)

    @property
    def training(self) -> list[Event]:
        """The logged steps of training; of steps made twice (an interruption), the last record."""
        steps = _events(self.training_path)
        return list({(s.get("phase"), s.get("step"), *sorted(s)): s for s in steps}.values())

    @property
    def training_notes(self) -> list[str]:
        """What training told people: few rows, a batch halved, an interruption; each once."""
        of = ("train", "note")
        notes = [e["text"] for e in self.events if (e["stage"], e["event"]) == of]
        return list(dict.fromkeys(notes))

    @property
    def events(self) -> list[Event]:
        """What the log holds, oldest first."""
        return _events(self.log_path)

    @property
    def stages(self) -> dict[str, dict[str, float]]:
        """What each stage took when it was last done: seconds, CPU seconds, rows, peak MiB."""
        counted = ("seconds", "cpu_seconds", "rows", "peak_mib")
        done = [e for e in self.events if e["event"] == "done"]
        return {e["stage"]: {k: e[k] for k in counted if k in e} for e in done}

    def has_begun(self, stage: str) -> bool:
        """Whether `stage` was ever started."""
        return any((e["stage"], e["event"]) == (stage, "start") for e in self.events)

    @property
    def report(self) -> Report:
        """The stored report."""
        self.require(self.report_path, "validate")
        return Report.from_json(self.report_path.read_text(encoding="utf-8"))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run folder for this process alone; TargetBusy if another one has it."""
        with reserve(self.private / "run"):
            yield

    @property
    def is_held(self) -> bool:
        """Whether a process is at work in the folder."""
        return is_held(self.private / "run")

    def require(self, path: Path, stage: str) -> None:
        """Raise ConfigError, naming the `stage` that writes it, if `path` is not there."""
        if not path.exists():
            raise ConfigError(
                f"run folder {self.root} has no {path.name}: stage '{stage}' not done"
            )

    def write(self, path: Path, text: str) -> None:
        """Write `text` atomically with mode 0600."""
        with staged(path, mode=0o600) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def write_table(self, path: Path, table: RealTable | PackedTable | SyntheticTable) -> None:
        """Write `table` as Parquet, atomically, with mode 0600."""
        with staged(path, mode=0o600) as temporary:
            write_table(temporary, table)

    def write_batches(self, path: Path, frames: Iterable[pd.DataFrame], schema: TableSchema) -> int:
        """Write canonical frames as Parquet, atomically, with mode 0600; return their rows."""
        with staged(path, mode=0o600) as temporary:
            return write_batches(temporary, frames, schema)

    def write_arrow(self, path: Path, tables: Iterable[pa.Table], schema: TableSchema) -> int:
        """Write what `table.to_arrow` made as Parquet, atomically, with mode 0600; return rows."""
        with staged(path, mode=0o600) as temporary:
            return write_arrow(temporary, tables, schema)

    def log(self, **event: Any) -> None:
        """Append `event` to the log and tell the listener."""
        append_line(self.log_path, json.dumps({"time": now(), **event}), durable=False)
        tell(event)

    def log_step(self, step: Event) -> None:
        """Append one step of training to the private training log and tell the listener.

        A record with a ``note`` is no step: it goes to the run's log.
        """
        if "note" in step:
            self.log(stage="train", event="note", text=step["note"])
            return
        append_line(self.training_path, json.dumps(step), durable=False)
        tell({"event": "step", **step})

    def receipt(self, stage: str, path: Path, rows: int) -> Receipt:
        """Return the receipt of `stage`, whose main file is `path`."""
        return Receipt(stage, str(path), sha256(path), rows)

    def finish(self, receipt: Receipt, *written: Path) -> Receipt:
        """Write down that a stage is done, with the digests of what it has `written` in here.

        A folder stands for the files in it. What the receipt itself names is added if it is in
        this run folder; an exported file is not: a later run may replace it.
        """
        main = Path(receipt.path)
        paths = [main, *written] if main.is_relative_to(self.root) else list(written)
        files = [f for p in paths for f in (sorted(p.iterdir()) if p.is_dir() else [p])]
        digests = {str(f.relative_to(self.root)): sha256(f) for f in files}
        done = {**self._receipts(), receipt.stage: {**asdict(receipt), "files": digests}}
        self.write(self.receipts_path, json.dumps(done, indent=1))
        return receipt

    def finished(self, stage: str, *, check: bool = True) -> Receipt | None:
        """Return the receipt of `stage` if it is done and its files are what it wrote, to the bit.

        None as well if an earlier stage is not done. `check` is False for who has just written it.
        """
        done = self._receipts()
        earlier = ("prepare", *STAGES)
        needed = earlier[: earlier.index(stage) + 1]
        if not all(name in done for name in needed):
            return None
        if check and not all(self._is_whole(done[name]["files"]) for name in needed):
            return None
        found = done[stage]
        # The folder may have been moved since.
        inside = next((f for f, digest in found["files"].items() if digest == found["sha256"]), "")
        path = str(self.root / inside) if inside else found["path"]
        return Receipt(stage, path, found["sha256"], found["rows"])

    def digests(self, stage: str) -> dict[str, str]:
        """Return the SHA-256 of each file in here that `stage` wrote, by its relative path."""
        return dict(self._receipts().get(stage, {}).get("files", {}))

    def forget(self, stage: str) -> None:
        """Drop the receipts of `stage` and of all after it: what it will write replaces them."""
        done = self._receipts()
        gone = set(STAGES[STAGES.index(stage) :]) & set(done)
        if gone:
            kept = {name: done[name] for name in done if name not in gone}
            self.write(self.receipts_path, json.dumps(kept, indent=1))

    def sweep(self) -> None:
        """Remove what a killed process left half-written; for the holder of the folder."""
        for folder in (self.root, self.private):
            for leftover in folder.glob(".????????-*"):
                sweep(folder / leftover.name[len(".????????-") :])

    def _receipts(self) -> dict[str, Any]:
        if not self.receipts_path.exists():
            return {}
        return dict(json.loads(self.receipts_path.read_text(encoding="utf-8")))

    def _is_whole(self, digests: dict[str, str]) -> bool:
        paths = {self.root / name: digest for name, digest in digests.items()}
        return all(path.is_file() and sha256(path) == digest for path, digest in paths.items())


def tell(event: Event) -> None:
    """Hand `event` to the listener, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(event)


def counted(parts: Iterable[P], rows: int, *, stage: str) -> Iterator[P]:
    """Yield `parts`, and tell the listener how many of all `rows` have been used; no log holds it.

    A part counts when the next one is asked for: what its user made of it is done then.
    """
    done, started = 0, time.monotonic()
    for part in parts:
        yield part
        done += len(part)
        seconds = round(time.monotonic() - started, 3)
        place = {"stage": stage, "event": "step", "phase": stage, "unit": "rows"}
        tell({**place, "step": done, "steps": rows, "seconds": seconds})


def now() -> str:
    """Return the time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _events(path: Path) -> list[Event]:
    """Return what a log holds, oldest first; a line that was cut off is left out."""
    found: list[Event] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found
