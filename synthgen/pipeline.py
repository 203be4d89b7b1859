"""The stages of a run in plain Python.

Each stage takes a `RunFolder`, reads what the stage before wrote, writes its own files atomically
and returns a `Receipt`: path, digest and rows, never data. The receipt is kept in the folder, so
that `advance` runs a stage once and keeps what is done: a run that was cut off at any point goes on
from there. `run` and `resume` compose the stages; so does the Prefect flow in
`flows/synthesize.py`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.audit_log import AuditLog
from synthgen.config import EncodeConfig, RunConfig
from synthgen.drift import Difference, Reference, differences, schema_differences
from synthgen.errors import (
    ConfigError,
    DataError,
    DriftError,
    GateRefused,
    StageError,
    Violation,
    boundary,
)
from synthgen.export import PRIVACY_STATEMENT, Manifest
from synthgen.export import export as write_export
from synthgen.files import reserve, sha256, staged
from synthgen.rng import derive, fresh_seed
from synthgen.run_folder import STAGES, Event, Listener, Receipt, RunFolder, listening, now, tell
from synthgen.runs import accepted, prune
from synthgen.schema import TableSchema
from synthgen.sinks import open_sink
from synthgen.sinks.local import check_place
from synthgen.table import (
    PackedTable,
    Split,
    SyntheticFile,
    read_frame,
    read_packed,
    split,
    split_by_coins,
    write_batches,
)
from synthgen.uri import absolute, local_path, scheme

if TYPE_CHECKING:
    from synthgen.checks.check import Measurement
    from synthgen.checks.expectations import OwnExpectation
    from synthgen.checks.gate import Decision
    from synthgen.synthesizer import Synthesizer

#: Fewer rows cannot be split, learnt and judged.
MIN_ROWS = 50
#: Rows of a table that is drawn only to be judged: the attacks look at no more.
MAX_JUDGED_ROWS = 50_000
#: Rows behind a preview: real ones at most, and drawn ones.
PREVIEW_REAL_ROWS, PREVIEW_ROWS = 20_000, 2_000
#: From here on squares, and with them means and spreads, come near the end of float64.
MAX_MAGNITUDE = 1e100


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
    with folder.held(), reserved(folder.config, overwrite=_may_overwrite(folder)):
        folder.sweep()
        open_sink(folder.config.to).sweep()
        if folder.finished("train") is not None:
            folder.checkpoint_path.unlink(missing_ok=True)
        yield


def _may_overwrite(folder: RunFolder) -> bool:
    """Whether a target that is there may be replaced: it was asked for, or it is this run's own.

    A run that was cut off while it exported has left nothing, a file without its manifest, or both.
    """
    config = folder.config
    if config.overwrite or not folder.has_begun("export"):
        return config.overwrite
    text = open_sink(config.to).manifest()
    if text is None:
        return True
    found = Manifest.from_json(text)
    return (found.facts.get("run"), found.synthesizer) == (
        folder.root.name,
        folder.draw["synthesizer"],
    )


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
    sink.check(overwrite=config.overwrite if overwrite is None else overwrite)
    if config.device == "cuda":  # say now that there is none, not after the data were read
        from synthgen.synthesizer import pick_device

        pick_device(config.device)
    with sink.hold():
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
    seed = fresh_seed() if config.seed is None else config.seed
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
        "notes": list(_notes(table, config, inferred=inferred)),
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


# --- stages -------------------------------------------------------------------------------------


def debugging() -> bool:
    """Whether a developer asked to see unforeseen exceptions, whose texts may quote data."""
    return os.environ.get("SYNTHGEN_DEBUG") == "1"


@contextmanager
def _stage(folder: RunFolder, name: str) -> Iterator[None]:
    """Log start and end; let nothing through the boundary that could quote data."""
    start, cpu = time.monotonic(), time.process_time()
    folder.forget(name)
    folder.log(stage=name, event="start")
    try:
        with nullcontext() if debugging() else boundary(name):
            yield
    except Exception as error:
        folder.log(stage=name, event="failed", error=type(error).__name__)
        raise
    except BaseException:  # Ctrl-C, SIGTERM, a cancelled flow run: no failure
        remedy = f"go on with: synthgen resume {folder.root}"
        folder.log(stage=name, event="interrupted", text=remedy)
        raise
    receipt = folder.finished(name, check=False)
    folder.log(
        stage=name,
        event="done",
        seconds=round(time.monotonic() - start, 2),
        cpu_seconds=round(time.process_time() - cpu, 2),
        rows=0 if receipt is None else receipt.rows,
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1_024,
    )


def ingest(folder: RunFolder) -> Receipt:
    """Read the input by its schema (or an inferred one), refuse what breaks it, split the rest."""
    with _stage(folder, "ingest"):
        from synthgen.checks.expectations import as_json, check_frames, check_own, refuse_broken

        config = folder.config
        table, inferred = read_input(config)
        expected = own_expectations(config, table.schema)
        open_sink(config.to).check_space(rows=config.rows, columns=len(table.schema.columns))
        for note in _notes(table, config, inferred=inferred):
            folder.log(stage="ingest", event="note", text=note)
        _watch_drift(folder, table)
        measured = check_frames(table.batches(), table.schema, name="input")
        refuse_broken(check_own(expected, table))
        halves = _split(table, config, seed_of(config))
        folder.write(folder.schema_path, table.schema.to_toml())
        if expected:
            folder.write(folder.expectations_path, as_json(expected))
        folder.write(folder.input_path, json.dumps([asdict(m) for m in measured]))
        folder.write_table(folder.holdout_path, halves.holdout)
        folder.write_table(folder.train_path, halves.train)
        return folder.finish(
            folder.receipt("ingest", folder.train_path, len(halves.train)),
            folder.schema_path,
            folder.input_path,
            folder.holdout_path,
            folder.reference_path,
            *([folder.drift_path] if folder.drift_path.exists() else []),
        )


def _watch_drift(folder: RunFolder, table: PackedTable) -> None:
    """Compare `table` with the reference of an earlier run; keep one for the next.

    Raises
    ------
    DriftError
        Listing every difference, if there are any and they are not accepted.
    """
    config = folder.config
    found = drift(config, table)
    if found is not None:
        reference = Path(config.drift.reference or "").name
        told = {
            "reference": reference,
            "accepted": config.drift.accept,
            "differences": [str(d) for d in found],
        }
        folder.write(folder.drift_path, json.dumps(told))
        for difference in found:
            folder.log(stage="ingest", event="note", text=f"drift: {difference}")
        if found and not config.drift.accept:
            raise DriftError(drifted(found, reference))
    if config.train.dp is None:
        kept = Reference.of(table, k=config.encode.min_rows)
    else:  # all but names and kinds would tell of the rows
        kept = Reference.of_schema(table.schema)
    folder.write(folder.reference_path, kept.to_json())


def drift(config: RunConfig, table: PackedTable) -> list[Difference] | None:
    """Return how `table` differs from the run in ``drift.reference``; None if there is none.

    With differential privacy only the schema is compared: anything else would tell of the rows.
    """
    if config.drift.reference is None:
        return None
    path = RunFolder.open(config.drift.reference).reference_path
    if not path.exists():
        return None  # a run of an earlier version
    before = Reference.from_json(path.read_text(encoding="utf-8"))
    if config.train.dp is not None or before.rows == 0:
        return list(schema_differences(before, table.schema))
    return differences(before, table, config.drift)


def drifted(found: Sequence[Difference], reference: str) -> str:
    """Return the sentence and the list that say what is no longer as it was."""
    return "\n".join(
        [
            f"the input is not what it was in run {reference}; nothing was learnt. Look into it; "
            "then go on with --accept-drift (recorded), or correct the input",
            *(f"  - {difference}" for difference in found),
        ]
    )


def train(folder: RunFolder) -> Receipt:
    """Fit the synthesizer on the train half; keep its bundle.

    Called again after an interruption, training goes on from its last checkpoint.
    """
    with _stage(folder, "train"):
        from synthgen.synthesizer import Synthesizer, pick_device

        config, schema = folder.config, folder.schema
        folder.log(stage="train", event="device", device=str(pick_device(config.device)))
        real = read_packed(folder.train_path, schema)
        if config.train.dp is not None:
            return _train_privately(folder, real)
        if not folder.checkpoint_path.exists():
            folder.training_path.unlink(missing_ok=True)
        with _gpu_alone(config):
            fitted = Synthesizer.fit(
                real,
                config=config,
                seed=seed_of(config),
                device=config.device,
                log=lambda step: folder.log_step(step),
                checkpoint=folder.checkpoint_path,
                warm_start=bundle_to_start_from(config),
                watch=previews(folder, real),
                apart_from=[read_packed(folder.holdout_path, schema)],
            )
        save_bundle(fitted, folder.bundle_path)
        folder.write(folder.protection_path, json.dumps(fitted.facts["protection"], indent=1))
        receipt = _trained(folder, len(real))
        folder.checkpoint_path.unlink(missing_ok=True)
        return receipt


def uses_gpu(config: RunConfig) -> bool:
    """Whether training by `config` will be on a GPU of this machine."""
    from synthgen.synthesizer import pick_device

    return config.train.dp is None and pick_device(config.device).type == "cuda"


@contextmanager
def _gpu_alone(config: RunConfig) -> Iterator[None]:
    """Wait until no other run of this user trains on the GPU, and hold it meanwhile."""
    from synthgen.dp.ledger import default_folder

    if not uses_gpu(config):
        yield
        return
    default_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    with reserve(default_folder() / "gpu", wait=True):
        yield


def previews(folder: RunFolder, real: PackedTable) -> Callable[[Synthesizer, int], None] | None:
    """Return what draws a picture of the columns every few minutes of training, if asked for.

    It sees training rows only: the holdout stays fresh for the gate.
    """
    config = folder.config
    minutes = config.report.preview_minutes
    if minutes is None:
        return None
    import numpy as np

    from synthgen.report.preview import preview

    stride = -(-len(real) // PREVIEW_REAL_ROWS)
    shown = real.filter(np.arange(len(real)) % stride == 0).unpack().data
    due = time.monotonic() + 60 * minutes

    def watch(fitted: Synthesizer, step: int) -> None:
        nonlocal due
        if time.monotonic() < due:
            return
        try:
            seed = derive(seed_of(config), "preview", step)
            drawn = next(fitted.sample_batches(PREVIEW_ROWS, seed=seed))
            title = f"{fitted.schema.name}, step {step:,}: {len(drawn):,} rows drawn"
            folder.preview(step, preview(fitted.schema, shown, drawn, title))
        except Exception as error:  # a picture is not worth a training, and its text may quote data
            text = f"a preview could not be drawn ({type(error).__name__})"
            folder.log(stage="train", event="note", text=text)
        due = time.monotonic() + 60 * minutes

    return watch


def _trained(folder: RunFolder, rows: int) -> Receipt:
    receipt = folder.receipt("train", folder.bundle_path / "bundle.json", rows)
    return folder.finish(receipt, folder.bundle_path)


def _train_privately(folder: RunFolder, real: PackedTable) -> Receipt:
    """Train with differential privacy, once: a bundle that is there was paid for and is kept."""
    config = folder.config
    if not folder.bundle_path.exists():
        folder.training_path.unlink(missing_ok=True)
        run, attempt = folder.root.name, _attempt(folder)
        try:
            fitted = _fit_privately(
                real, config, seed_of(config), run=run, attempt=attempt, log=folder.log_step
            )
        except Exception:
            # To try until it works would be to choose by what was drawn: the next try pays anew.
            folder.charge_path.unlink(missing_ok=True)
            raise
        save_bundle(fitted, folder.bundle_path)
    folder.charge_path.unlink(missing_ok=True)
    return _trained(folder, len(real))


def _attempt(folder: RunFolder) -> str:
    """Return the name under which the ledger knows this training, an interrupted one's or a new.

    One that was cut off from outside has released nothing, so to go on is the same reading of the
    rows, and it is paid for. A folder that was copied or moved is another: both could be gone on
    with.
    """
    here = {"root": str(folder.root), "inode": folder.private.stat().st_ino}
    if folder.charge_path.exists():
        kept = json.loads(folder.charge_path.read_text(encoding="utf-8"))
        if here == {k: kept[k] for k in here}:
            return str(kept["name"])
    name = secrets.token_hex(16)
    folder.write(folder.charge_path, json.dumps({**here, "name": name}))
    return name


def _fit_privately(
    real: PackedTable,
    config: RunConfig,
    seed: int,
    *,
    run: str,
    log: Callable[[Event], None],
    attempt: str | None = None,
) -> Synthesizer:
    """Fit on `real`, after the ledger of its source has taken the charge."""
    from synthgen.dp.ledger import Ledger, default_folder
    from synthgen.dp.release import Plan
    from synthgen.sources import open_source
    from synthgen.synthesizer import Synthesizer

    asked = config.train.dp
    assert asked is not None
    ledger = Ledger(default_folder())
    is_file = scheme(config.data) == "file"
    place = str(local_path(config.data).resolve()) if is_file else absolute(config.data)
    with open_source(config.data) as data:
        source = ledger.source(place, data.digest())

    def charge(plan: Plan) -> None:
        total = ledger.spend(
            source,
            list(plan.mechanisms.values()),
            delta=plan.delta,
            cap=asked.cap,
            run=run,
            attempt=attempt,
        )
        AuditLog.default().append(
            "spend",
            run=run,
            source=list(source),
            epsilon={"run": plan.epsilon, "total": total, "cap": asked.cap, "delta": plan.delta},
        )
        note = f"epsilon {plan.epsilon:.3g} is spent; {total:.3g} of {asked.cap:g} on this source"
        log({"phase": "skeleton", "step": 0, "steps": 0, "note": note})

    return Synthesizer.fit_privately(real, config=config, seed=seed, charge=charge, log=log)


def _split(table: PackedTable, config: RunConfig, seed: int) -> Split[PackedTable]:
    if config.train.dp is not None:
        return split_by_coins(table, holdout=config.split.holdout)
    return split(table, holdout=config.split.holdout, seed=seed)


def generate(folder: RunFolder) -> Receipt:
    """Draw the rows from the bundle alone and keep them in quarantine.

    So are further draws (``[gate] samples``), by which the gate judges the model and not its luck.
    """
    with _stage(folder, "generate"):
        from synthgen.synthesizer import Synthesizer

        config = folder.config
        folder.require(folder.bundle_path, "train")
        fitted = Synthesizer.load(folder.bundle_path, device=config.device)
        if config.scale.is_on:
            from synthgen.scale import drawn_by_many

            with drawn_by_many(folder) as tables:
                n_rows = folder.write_arrow(folder.synthetic_path, tables, fitted.schema)
        else:
            frames = fitted.sample_batches(config.rows, seed=seed_of(config))
            n_rows = folder.write_batches(folder.synthetic_path, frames, fitted.schema)
        draws = judged_draws(folder)
        for path, seed in draws.items():
            frames = fitted.sample_batches(min(config.rows, MAX_JUDGED_ROWS), seed=seed)
            folder.write_batches(path, frames, fitted.schema)
        draw = {
            "synthesizer": fitted.fingerprint,
            "warm_start": fitted.facts.get("warm_start", []),
            "dp": fitted.facts.get("dp"),
            "seed": seed_of(config),
            "device": str(fitted.device),
            "versions": versions("torch", "numpy"),
        }
        folder.write(folder.draw_path, json.dumps(draw))
        receipt = folder.receipt("generate", folder.synthetic_path, n_rows)
        return folder.finish(receipt, folder.draw_path, *draws)


def validate(folder: RunFolder, *, data_docs: bool = False) -> Receipt:
    """Judge the synthetic table against both halves; write report and decision.

    With `data_docs`, or if the configuration asks for them, also a page of Great Expectations.
    """
    with _stage(folder, "validate"):
        from synthgen.checks.check import Evidence
        from synthgen.checks.expectations import check_file, check_own
        from synthgen.checks.expectations import data_docs as docs_of
        from synthgen.checks.gate import decide, judge
        from synthgen.report import Figures, document, render

        config, schema = folder.config, folder.schema
        folder.decision_path.unlink(missing_ok=True)  # a crash below must not leave an old yes
        table = synthetic_table(folder)
        synthetic = read_frame(table.path, schema)
        draws = judged_draws(folder)
        for path in draws:
            folder.require(path, "generate")
        evidence = Evidence(
            schema,
            read_frame(folder.train_path, schema),
            read_frame(folder.holdout_path, schema),
            synthetic,
            seed=derive(seed_of(config), "validate") % 2**31,
            draws=tuple(read_frame(path, schema) for path in draws),
        )
        output = check_file(folder.synthetic_path, schema, name="output")
        expected = stored_expectations(folder)
        output += check_own(expected, table)
        if data_docs or config.report.data_docs:
            folder.write(folder.docs_path, docs_of(schema, expected, output))
        attempts = folder.attempt(folder.draw["synthesizer"], table.fingerprint)
        report = judge(evidence, extra=(*folder.input, *output), attempts=attempts)
        if folder.draw.get("dp"):
            report = replace(report, facts=report.facts | {"private": BEYOND_EPSILON})
        decision = decide(report, config.gate, fingerprint=table.fingerprint)
        figures, made = Figures.of(report, evidence, folder.training), provenance(folder)
        shown = document(report, decision, figures, made)
        folder.write(folder.report_path, json.dumps(shown, indent=1, allow_nan=False))
        folder.write(folder.html_path, render(report, decision, figures, provenance=made))
        folder.write(folder.decision_path, decision.to_json())
        folder.log(stage="validate", event="note", passed=decision.passed)
        if not decision.passed:
            AuditLog.default().append(
                "refuse",
                run=folder.root.name,
                inputs=folder.digests("ingest"),
                decision={"passed": False, "fingerprint": decision.fingerprint},
                rules=[rule.name for rule in decision.failing],
            )
        return folder.finish(
            folder.receipt("validate", folder.decision_path, len(table)),
            folder.report_path,
            folder.html_path,
        )


def export(
    folder: RunFolder, *, to: str | Path | None = None, overwrite: bool | None = None
) -> Receipt:
    """Write the synthetic table to the target (or `to`), with its manifest, if its decision passed.

    Raises
    ------
    GateRefused
        Naming each rule that refused it.
    """
    may_overwrite = _may_overwrite(folder) if overwrite is None else overwrite
    with _stage(folder, "export"):
        config, decision = folder.config, folder.decision
        if not decision.passed:
            raise GateRefused(refusal(decision))
        AuditLog.default().entries()  # nothing leaves that could not be written down
        manifest = write_export(
            synthetic_table(folder),
            decision,
            config.to if to is None else to,
            # Rows and seconds of the stages are statistics of real rows.
            manifest=provenance(folder)
            | {"stages": {} if folder.draw.get("dp") else folder.stages},
            overwrite=may_overwrite,
            privacy=privacy_statement(folder.draw.get("dp")),
            measured=folder.draw.get("dp") is None,
        )
        folder.write(folder.manifest_path, manifest.to_json())
        target = absolute(config.to if to is None else str(to))
        spent = folder.draw.get("dp")
        _audit_export(
            "export",
            target,
            manifest,
            run=folder.root.name,
            inputs=folder.digests("ingest"),
            epsilon=None if spent is None else spent["epsilon"],
        )
        return folder.finish(
            Receipt("export", target, manifest.sha256, manifest.rows), folder.manifest_path
        )


def _audit_export(what: str, target: str, manifest: Manifest, **facts: Any) -> None:
    """Write down that a table has left."""
    text = manifest.to_json()
    AuditLog.default().append(
        what,
        **facts,
        target=target,
        rows=manifest.rows,
        synthesizer=manifest.synthesizer,
        decision={k: manifest.decision.get(k) for k in ("passed", "fingerprint")},
        outputs={
            "target": manifest.sha256,
            "manifest": hashlib.sha256(text.encode()).hexdigest(),
        },
    )


def export_to(folder: RunFolder, to: str | Path, *, overwrite: bool = False) -> Manifest:
    """Export an earlier run to another target, by the decision that it has."""
    sink = open_sink(str(to))
    sink.check(overwrite=overwrite)
    with folder.held(), sink.hold():
        export(folder, to=to, overwrite=overwrite)
    return folder.manifest


_RUN: dict[str, Callable[[RunFolder], Receipt]] = dict(
    zip(STAGES, (ingest, train, generate, validate, export), strict=True)
)


# --- parts that stages share ---------------------------------------------------------------------


def read_input(config: RunConfig) -> tuple[PackedTable, bool]:
    """Read the whole input by its schema; returns the table, and whether the schema was inferred.

    Raises
    ------
    DataError
        Listing all violations, or saying that the rows cannot be learnt from.
    """
    from synthgen.conform import conform_packed, refuse_unmodelled
    from synthgen.encode.adopt import check_compatible
    from synthgen.infer import infer
    from synthgen.sources import open_source

    if config.train.dp is not None:
        _refuse_unprivate(config)
    declared = None if config.schema_path is None else TableSchema.load(config.schema_path)
    start = bundle_to_start_from(config)
    if start is not None and declared is not None:  # said before data are read
        check_compatible(start.schema, declared)
    with open_source(config.data, declared) as source:  # both readings see the same rows
        schema = (declared or infer(source)).without_drafts()
        if config.target is not None:
            schema = schema.with_target(config.target)
        refuse_unmodelled(schema)
        if start is not None:
            check_compatible(start.schema, schema)
        table = conform_packed(source.batches(), schema)
    _refuse_unlearnable(table)
    return table, config.schema_path is None


def own_expectations(config: RunConfig, schema: TableSchema) -> tuple[OwnExpectation, ...]:
    """Return what stands in ``<schema>.expectations.json`` beside the schema file, if it is there.

    Raises
    ------
    ConfigError
        If that file cannot be used.
    """
    from synthgen.checks.expectations import beside, load_expectations

    if config.schema_path is None or not beside(local_path(config.schema_path)).exists():
        return ()
    return load_expectations(beside(local_path(config.schema_path)), schema)


def stored_expectations(folder: RunFolder) -> tuple[OwnExpectation, ...]:
    """Return the expectations that travelled with the run."""
    from synthgen.checks.expectations import load_expectations

    path = folder.expectations_path
    return load_expectations(path, folder.schema) if path.exists() else ()


def draft_schema(data: str) -> TableSchema:
    """Infer the schema of the table at `data`, with the rules between columns that all rows keep.

    Raises
    ------
    DataError
        If it cannot be read or has no rows.
    """
    from synthgen import constraints
    from synthgen.conform import conform_packed
    from synthgen.encode.search import proposed
    from synthgen.encode.table import sample_rows
    from synthgen.infer import infer
    from synthgen.sources import open_source

    with boundary("infer"), open_source(data) as source:
        schema = infer(source)
        try:
            table = conform_packed(source.batches(), schema)
        except DataError:
            return schema  # what a draft cannot read is for people to decide
        sample = sample_rows(table, EncodeConfig().fit_rows, seed=0)
        rules = proposed(sample, schema, min_rows=EncodeConfig().min_rows)
        found = constraints.Broken(replace(schema, constraints=rules))
        for frame in table.batches() if rules else ():
            found.add(frame)
        kept = tuple(rule for rule, count in found.counts().items() if not count)
        reason = f"All {len(table):,} rows keep it."
        return replace(schema, constraints=tuple(replace(rule, reason=reason) for rule in kept))


def _refuse_unprivate(config: RunConfig) -> None:
    """Raise ConfigError, before data are read, for what differential privacy cannot go with."""
    from synthgen.dp.domain import check_public

    if config.schema_path is None:
        raise ConfigError(
            "differential privacy needs a declared schema: one inferred from the data tells of "
            "them; draft it with 'synthgen schema infer', review it, and give it with --schema "
            "(with --charge-metadata it may leave out bounds and categories)"
        )
    if config.warm_start is not None:
        raise ConfigError("differential privacy starts from nothing: leave warm_start out")
    if config.report.preview_minutes is not None:
        raise ConfigError("a preview shows real columns, not covered by epsilon: leave it out")
    asked = config.train.dp
    charged = asked is not None and asked.charge_metadata
    schema = TableSchema.load(config.schema_path)
    if schema.constraints:
        raise ConfigError(
            "differential privacy does not keep rules between columns yet: drop each [[constraint]]"
        )
    check_public(schema, charge_metadata=charged)


def bundle_to_start_from(config: RunConfig) -> Synthesizer | None:
    """Return what training starts from, loaded; None for a start from nothing.

    Raises
    ------
    BundleError
        If the bundle is missing or damaged.
    """
    if config.warm_start is None:
        return None
    from synthgen.synthesizer import Synthesizer

    return Synthesizer.load(local_path(config.warm_start), device="cpu")


def _refuse_unlearnable(table: PackedTable) -> None:
    if len(table) < MIN_ROWS:
        raise DataError(f"the input has {len(table)} rows; at least {MIN_ROWS} are needed")
    _refuse_huge(table)
    if not table.schema.modelled:
        raise DataError("no column is left to learn: all of them are ids, PII or free text")
    target = table.schema.target
    if target is not None and table.column(target.name).nunique() < 2:
        raise DataError(
            f"column '{target.name}': a target needs at least two different values; "
            "choose another target"
        )


def _refuse_huge(table: PackedTable) -> None:
    rule = f"rows are {MAX_MAGNITUDE:g} or more in size, too large to compute with"
    names = [c.name for c in table.schema.modelled if c.kind == "numeric"]
    counts = {name: int((table.column(name).abs() >= MAX_MAGNITUDE).sum()) for name in names}
    found = [
        Violation(name, rule, count, len(table), "correct them or take their logarithm")
        for name, count in counts.items()
        if count
    ]
    if found:
        raise DataError("numbers that cannot be learnt:", found)


def _notes(table: PackedTable, config: RunConfig, *, inferred: bool) -> Iterator[str]:
    from synthgen.checks.gate import too_few_to_prove
    from synthgen.infer import NOTE

    if inferred:
        yield "no schema was given: one was inferred and written to schema.toml; read its comments"
        for column in table.schema.modelled:
            if NOTE in column.reason:
                yield f"column '{column.name}' is {column.kind}: {column.reason.split(NOTE)[1]}"
    else:
        assert config.schema_path is not None
        if drafts := TableSchema.load(config.schema_path).drafts:
            yield (
                f"bounds or categories of {len(drafts)} columns ({', '.join(drafts)}) were read "
                'from the data and bind nothing; review them and drop source = "data"'
            )
    if config.warm_start is not None:
        yield (
            "training starts from another bundle: the result tells of that bundle's table too, and "
            "the gate compares with rows of this table only"
        )
    smallest = min(round(len(table) * config.split.holdout), config.rows)
    if smallest < config.gate.min_privacy_rows:
        yield (
            f"holdout or output will have about {smallest} rows and the gate asks for "
            f"{config.gate.min_privacy_rows}: expect a refusal"
        )
    if config.gate.prove_power and too_few_to_prove(len(table), config.split.holdout):
        yield (
            "rows are too few for the gate to find copies planted to test it: expect a refusal; "
            "use more rows or a larger split.holdout, or waive it (gate.prove_power = false)"
        )


def save_bundle(fitted: Synthesizer, path: Path) -> None:
    """Write the bundle folder whole or not at all, readable by its owner only."""
    with staged(path, mode=0o700) as temporary:
        fitted.save(temporary)
        for file in temporary.iterdir():
            file.chmod(0o600)


def synthetic_table(folder: RunFolder) -> SyntheticFile:
    """Return the table that waits in quarantine, as the file that it is."""
    folder.require(folder.synthetic_path, "generate")
    draw = folder.draw
    return SyntheticFile(folder.schema, folder.synthetic_path, draw["synthesizer"], draw["seed"])


def judged_draws(folder: RunFolder) -> dict[Path, int]:
    """Return file and seed of each table that is drawn only to be judged, from the second on."""
    config = folder.config
    numbers = range(2, config.gate.samples + 1)
    return {folder.draw_path_of(k): derive(seed_of(config), "draw", k) % 2**31 for k in numbers}


def verify(receipt: Receipt) -> None:
    """Raise StageError unless the file of `receipt` is still the one that its stage wrote."""
    path = Path(receipt.path)
    if not path.is_file() or sha256(path) != receipt.sha256:
        raise StageError(f"what stage '{receipt.stage}' wrote has changed since; run it again")


def refusal(decision: Decision) -> str:
    """Return the sentence and the list that say why `decision` is a no."""
    rules = [f"  - {rule.name}: {rule.reason}" for rule in decision.failing]
    return "\n".join(["the gate refused the synthetic table; nothing was exported", *rules])


def provenance(folder: RunFolder) -> dict[str, Any]:
    """Return what a manifest and a report say about how the table came to be: no cell, no path."""
    draw, config = folder.draw, folder.config
    return {
        "run": folder.root.name,
        "created": now(),
        "seed": config.seed,
        "device": draw["device"],
        "synthesizer": draw["synthesizer"],
        "warm_start": draw.get("warm_start", []),
        "dp": draw.get("dp"),
        "training_notes": [] if draw.get("dp") else folder.training_notes,
        "drift": None if draw.get("dp") else _drift_facts(folder),
        "config": config.model_dump(include={"split", "encode", "train", "sample", "gate"}),
        "versions": draw["versions"] | versions("synthgen", "pandas", "pyarrow"),
    }


#: What the report of a run with differential privacy says of itself.
BEYOND_EPSILON = "measured on real rows: not covered by the guarantee of bundle and table"


def _drift_facts(folder: RunFolder) -> dict[str, Any] | None:
    """Return that the input was compared, and how many differences somebody accepted."""
    found = folder.drift
    return None if found is None else found | {"differences": len(found["differences"])}


def privacy_statement(dp: dict[str, Any] | None) -> str:
    """Return what is promised: the formal guarantee in `dp`, or that there is none."""
    if dp is None:
        return PRIVACY_STATEMENT
    return (
        f"({dp['epsilon']:.4g}, {dp['delta']:.3g})-differential privacy of {dp['unit']}: "
        f"{dp['covers']}. Not covered: {dp['does_not_cover']}."
    )


def versions(*packages: str) -> dict[str, str]:
    """Return the installed version of each package, and of Python."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def seed_of(config: RunConfig) -> int:
    """Return the seed of a stored configuration, which always has one."""
    if config.seed is None:
        raise ConfigError("the run folder's config.toml has no seed")
    return config.seed


# --- without a run folder ------------------------------------------------------------------------

STRUCTURE_CHECKED = (
    "Only schema and structure were checked: a bundle has no holdout to judge fidelity or privacy "
    "by."
)
STRUCTURE_ONLY = f"{STRUCTURE_CHECKED} There is no formal (differential) privacy guarantee."


def train_bundle(config: RunConfig, *, progress: Listener | None = None) -> bool:
    """Fit on the input of `config` and write nothing but the bundle, to the folder `config.to`.

    Started by ``torchrun``, all processes train together. Returns whether this one wrote.
    """
    with boundary("train"):
        from synthgen.synthesizer import Synthesizer, world_of

        with world_of(config.device) as world:
            target = Path(config.to).absolute()
            seed = fresh_seed() if config.seed is None else config.seed
            seed = round(world.first(seed))
            is_first = world.rank == 0
            if is_first:
                check_place(target, overwrite=config.overwrite)
            with listening(progress), reserve(target) if is_first else nullcontext():
                if config.train.dp is not None:
                    if world.size > 1:
                        raise ConfigError("differential privacy trains in one process")
                    rows = _halves(config, seed).train
                    fitted = _fit_privately(rows, config, seed, run=target.name, log=_tell_step)
                else:
                    halves = _halves(config, seed)
                    fitted = Synthesizer.fit(
                        halves.train,
                        config=config,
                        seed=seed,
                        device=config.device,
                        log=_tell_step if is_first else lambda step: None,
                        warm_start=bundle_to_start_from(config),
                        apart_from=[halves.holdout],
                        world=world,
                    )
                if is_first:
                    save_bundle(fitted, target)
                    AuditLog.default().append(
                        "train", target=str(target), synthesizer=fitted.fingerprint
                    )
            return is_first


def _halves(config: RunConfig, seed: int) -> Split[PackedTable]:
    """Return the rows to learn from, and those that a run would judge by."""
    table, _ = read_input(config)
    return _split(table, config, seed)


def _tell_step(step: Event) -> None:
    """Tell the listener of one record of training: a note for people, or a step."""
    if "note" in step:
        tell({"stage": "train", "event": "note", "text": step["note"]})
    else:
        tell({"event": "step", **step})


def sample_bundle(
    bundle: Path,
    target: str | Path,
    *,
    rows: int,
    seed: int,
    where: Sequence[str] = (),
    given: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> Manifest:
    """Draw `rows` from a bare bundle into `target`; only schema and structure can be checked.

    With `given`, a table of some columns, each of its rows is completed `rows` times instead.

    Raises
    ------
    GateRefused
        If the rows break the schema.
    """
    sink = open_sink(str(target))
    sink.check(overwrite=overwrite)
    with sink.hold(), boundary("sample"):
        from synthgen.checks.expectations import check_frames
        from synthgen.synthesizer import Synthesizer
        from synthgen.uses import given_rows

        fitted = Synthesizer.load(bundle, device=device)
        if given is None:
            frames = fitted.sample_batches(rows, seed=seed, where=where)
        else:
            asked = given_rows(given, fitted.schema)
            frames = fitted.complete(asked, seed=seed, copies=rows)
            rows *= len(asked)
        sink.check_space(rows=rows, columns=len(fitted.schema.columns))
        # Many rows do not fit into memory: they wait in a file that nobody else can read.
        with tempfile.TemporaryDirectory(prefix=".synthgen-", dir=sink.scratch()) as folder:
            path = Path(folder) / "drawn.parquet"
            write_batches(path, frames, fitted.schema)
            table = SyntheticFile(fitted.schema, path, fitted.fingerprint, seed)
            measured = check_frames(table.batches(), table.schema, name="output")
            decision = _structure_decision(measured, table.fingerprint)
            if not decision.passed:
                raise GateRefused(refusal(decision))
            facts = {
                "conditions": len(where),
                "given": given is not None,
                "warm_start": fitted.facts.get("warm_start", []),
                "versions": versions("synthgen", "torch", "numpy"),
            }
            spent = fitted.facts.get("dp")
            if spent is not None:
                facts["dp"] = spent
            AuditLog.default().entries()
            manifest = write_export(
                table,
                decision,
                target,
                manifest=facts,
                overwrite=overwrite,
                privacy=_structure_statement(spent),
            )
            _audit_export("sample", absolute(str(target)), manifest)
            return manifest


def _structure_statement(dp: dict[str, Any] | None) -> str:
    return STRUCTURE_ONLY if dp is None else f"{STRUCTURE_CHECKED} {privacy_statement(dp)}"


def _structure_decision(measured: Sequence[Measurement], of: str) -> Decision:
    """Return a decision about the schema alone: every rule was checked and is kept."""
    from synthgen.checks.gate import Decision, RuleResult

    rules = tuple(
        RuleResult(
            m.name,
            m.status == "measured" and m.value == 0,
            value=m.value,
            threshold=0.0,
            reason=m.note or f"{m.value} {m.unit} break the rule",
        )
        for m in measured
    )
    return Decision(all(rule.passed for rule in rules), rules, of)
