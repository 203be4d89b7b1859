"""A bundle without a run folder: trained, or drawn from."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.audit_log import AuditLog
from synthgen.config import RunConfig
from synthgen.errors import (
    ConfigError,
    GateRefused,
    boundary,
)
from synthgen.export import Manifest
from synthgen.export import export as write_export
from synthgen.files import reserve
from synthgen.pipeline.judging import refusal
from synthgen.pipeline.leaving import audit_export
from synthgen.pipeline.reading import bundle_to_start_from, read_input, split_rows
from synthgen.pipeline.stage import versions
from synthgen.pipeline.statements import privacy_statement
from synthgen.pipeline.training import fit_privately, save_bundle
from synthgen.rng import fresh_seed
from synthgen.run_folder import Event, Listener, listening, tell
from synthgen.sinks import open_sink
from synthgen.sinks.local import check_place
from synthgen.table import (
    PackedTable,
    Split,
    SyntheticFile,
    write_batches,
)
from synthgen.uri import absolute

if TYPE_CHECKING:
    from synthgen.checks.check import Measurement
    from synthgen.checks.gate import Decision

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
                    fitted = fit_privately(rows, config, seed, run=target.name, log=_tell_step)
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
    return split_rows(table, config, seed)


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
            audit_export("sample", absolute(str(target)), manifest)
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
