"""A run: its folder and target held, its stages one after the other."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.config import RunConfig
from synthgen.errors import ConfigError, SynthgenError, boundary
from synthgen.export import Manifest
from synthgen.pipeline.drawing import generate
from synthgen.pipeline.judging import validate
from synthgen.pipeline.leaving import export, may_overwrite
from synthgen.pipeline.reading import ingest, notes, read_input
from synthgen.pipeline.training import train
from synthgen.rng import derive, seed_or_fresh
from synthgen.run_folder import STAGES, Listener, Receipt, RunFolder, listening
from synthgen.runs import accepted, prune
from synthgen.sinks import open_sink
from synthgen.uri import absolute, local_path, scheme

if TYPE_CHECKING:
    from synthgen.checks.gate import Decision


@dataclass(frozen=True)
class Outcome:
    """How a run ended: passed and exported, or refused with the table left in quarantine."""

    folder: RunFolder
    decision: Decision
    manifest: Manifest | None


def run(
    config: RunConfig, *, run_dir: str | Path | None = None, progress: Listener | None = None
) -> Outcome:
    """Read, learn, draw, judge; export if the gate passes.

    Parameters
    ----------
    config : RunConfig
        With `data`, `to` and `rows`.
    run_dir : str or Path, optional
        The run folder, absent or empty; default ``runs/<time>-<random>``.
    progress : callable, optional
        Gets each event (see `listening`).

    Raises
    ------
    SynthgenError
        Of the stage that failed. An input that cannot be used leaves nothing behind.
    """
    with listening(progress), reserved(config):
        folder = prepare(config, run_dir)
        with folder.held():
            return _go_on(folder)


def resume(run_dir: str | Path, *, progress: Listener | None = None) -> Outcome:
    """Go on with a run that was cut off, from its last finished stage and its last checkpoint.

    A stage is finished if the digests of all its files are those of its receipt. On a CPU what is
    exported in the end has the bytes of a run that was never cut off; with differential privacy
    nothing is charged twice.

    Raises
    ------
    ConfigError
        If `run_dir` is no run folder, or its configuration has changed since it was prepared.
    SynthgenError
        As `run`.
    """
    folder = RunFolder.open(run_dir)
    if folder.finished("export") is not None:
        # killed after its last stage, it has left its lock files: who holds them next removes them
        with suppress(SynthgenError), folder.held(), open_sink(folder.config.to).hold():
            pass
        return Outcome(folder, folder.decision, folder.manifest)
    with listening(progress), at_work(folder):
        return _go_on(folder)


def _go_on(folder: RunFolder) -> Outcome:
    with discarding_unless_read(folder):
        advance(folder, "ingest")
    for stage in ("train", "generate", "validate"):
        advance(folder, stage)
    decision = folder.decision
    if decision.passed:
        advance(folder, "export")
    retain(folder)
    return Outcome(folder, decision, folder.manifest if decision.passed else None)


def retain(folder: RunFolder) -> None:
    """Delete the oldest run folders of this target beside `folder`, if ``runs.keep`` says so."""
    config = folder.config
    if config.runs.keep is not None:
        for gone in prune(folder.root.parent, config.runs.keep, target=config.to):
            folder.log(stage="runs", event="pruned", run=gone.name)


_RUN: dict[str, Callable[[RunFolder], Receipt]] = dict(
    zip(STAGES, (ingest, train, generate, validate, export), strict=True)
)


def advance(folder: RunFolder, stage: str) -> Receipt:
    """Run `stage`, or return the receipt that it left when it was run before."""
    kept = folder.finished(stage)
    if kept is None:
        return _RUN[stage](folder)
    folder.log(stage=stage, event="kept", rows=kept.rows)
    return kept


@contextmanager
def at_work(folder: RunFolder) -> Iterator[None]:
    """Hold a prepared run folder and its target; clear away what a killed process left there.

    Raises
    ------
    ConfigError
        If its configuration is no longer the one that it was prepared with.
    TargetBusy
        If another process is at work in it, or on its target.
    """
    if folder.finished("prepare") is None:
        raise ConfigError(
            f"run folder {folder.root} cannot go on: its config.toml is not the one that it was "
            "prepared with; start a new run"
        )
    with folder.held(), reserved(folder.config, overwrite=may_overwrite(folder)):
        folder.sweep()
        if folder.finished("train") is not None:
            folder.checkpoint_path.unlink(missing_ok=True)
        yield


@contextmanager
def reserved(config: RunConfig, *, overwrite: bool | None = None) -> Iterator[None]:
    """Check the target of `config` before any work is done, and hold it until the end.

    `overwrite` stands for that of the configuration.
    """
    if not config.data:
        raise ConfigError("no input: give --data, or 'data' in the configuration")
    if not config.to:
        raise ConfigError("no target: give --to, or 'to' in the configuration")
    sink = open_sink(config.to)
    if _same_place(config.data, config.to):
        raise ConfigError(f"target {sink.uri} is the input itself; name another")
    may_overwrite = config.overwrite if overwrite is None else overwrite
    sink.check(overwrite=may_overwrite)
    if config.device == "cuda":  # say now that there is none, not after the data were read
        from synthgen.synthesizer import pick_device

        pick_device(config.device)
    with sink.hold():
        sink.check(overwrite=may_overwrite)  # who held it until now may have filled it
        yield


def _same_place(data: str, to: str) -> bool:
    if scheme(data) == scheme(to) == "file":
        one, other = local_path(data), local_path(to)
        return one.exists() and other.exists() and one.samefile(other)
    return absolute(data) == absolute(to)


def prepare(
    config: RunConfig, run_dir: str | Path | None = None, *, scheduled: bool = False
) -> RunFolder:
    """Make the run folder for `config`, with absolute paths and a seed.

    A `scheduled` run repeats a configuration: its seed is a new one each time, derived from that of
    the configuration (if it has one) and the name of the run folder, so that no two nights draw the
    same rows; and its input is compared with that of the last accepted run.
    """
    root = new_run_dir(run_dir)
    paths = {
        key: absolute(value)
        for key in ("data", "schema_path", "warm_start", "to")
        if (value := getattr(config, key))
    }
    seed = seed_or_fresh(config.seed)
    if scheduled and config.seed is not None:
        seed = derive(config.seed, "run", root.name) % 2**31
    config = config.model_copy(update={**paths, "seed": seed})
    drift = config.drift.model_copy(update={"reference": _reference(config, root, scheduled)})
    return RunFolder.create(root, config.model_copy(update={"drift": drift}))


def _reference(config: RunConfig, root: Path, scheduled: bool) -> str | None:
    """Return the run folder that the input will be compared with, found now and written down."""
    asked = config.drift.reference or ("last" if scheduled else "off")
    if asked == "off":
        return None
    if asked != "last":
        return str(RunFolder.open(asked).root)
    last = next(accepted(root.parent, config.to), None)
    return None if last is None else str(last.root)


def new_run_dir(run_dir: str | Path | None = None) -> Path:
    """Return the absolute path of `run_dir`, or of a new folder under ``runs/``."""
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    return (Path("runs") / name if run_dir is None else Path(run_dir)).absolute()


def plan(config: RunConfig, run_dir: str | Path | None = None) -> dict[str, Any]:
    """Return what a run would do, after reading the whole input; write nothing.

    Raises what `run` would raise about target and input.
    """
    with reserved(config), boundary("plan"):
        table, inferred = read_input(config)
    schema = table.schema
    kinds = {c.kind: [d.name for d in schema.modelled if d.kind == c.kind] for c in schema.modelled}
    return {
        "table": schema.name,
        "rows_in": len(table),
        "inferred": inferred,
        "modelled": kinds,
        "regenerated": [c.name for c in schema.columns if c.is_regenerated],
        "target": None if schema.target is None else schema.target.name,
        "rows": config.rows,
        "run_dir": str(new_run_dir(run_dir)),
        "notes": list(notes(table, config, inferred=inferred)),
    }


@contextmanager
def discarding_unless_read(folder: RunFolder) -> Iterator[None]:
    """Remove the new run folder if the block fails before the input was read and split.

    One that was interrupted stays, to be gone on with.
    """
    try:
        yield
    except Exception:
        discard(folder)
        raise


def discard(folder: RunFolder) -> None:
    """Remove a run folder that holds no split yet, and ``runs/`` if it was the only one."""
    if folder.root.exists() and not folder.train_path.exists():
        shutil.rmtree(folder.root)
        runs = folder.root.parent
        if runs.name == "runs" and not any(runs.iterdir()):
            runs.rmdir()
