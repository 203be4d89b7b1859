"""A bundle without a run folder: trained, or drawn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.ask.control import AS_LEARNT, Control
from synthgen.audit_log import AuditLog
from synthgen.config import RunConfig
from synthgen.errors import ConfigError, GateRefused, boundary
from synthgen.export import Manifest
from synthgen.export import export as write_export
from synthgen.files import reserve
from synthgen.pipeline.judging import refusal
from synthgen.pipeline.leaving import audit_export
from synthgen.pipeline.reading import bundle_to_start_from, read_input, split_rows
from synthgen.pipeline.stage import versions
from synthgen.pipeline.statements import privacy_statement
from synthgen.pipeline.training import fit_privately, previews, save_bundle
from synthgen.rng import seed_or_fresh
from synthgen.run_folder import Event, Listener, counted, listening, tell
from synthgen.sinks import open_sink
from synthgen.sinks.local import check_place
from synthgen.table import PackedTable, Split, SyntheticFile, write_batches
from synthgen.uri import absolute

if TYPE_CHECKING:
    import pandas as pd

    from synthgen.checks.check import Measurement
    from synthgen.checks.gate import Decision
    from synthgen.synthesizer import Synthesizer

STRUCTURE_CHECKED = (
    "Only schema and structure were checked: a bundle has no holdout to judge fidelity or privacy "
    "by."
)
STRUCTURE_ONLY = f"{STRUCTURE_CHECKED} There is no formal (differential) privacy guarantee."


def train_bundle(config: RunConfig, *, progress: Listener | None = None) -> bool:
    """Fit on the input of `config` and write nothing but the bundle, to the folder `config.to`.

    Started by ``torchrun``, all processes train together. Returns whether this one wrote. Previews,
    if the configuration asks for them, go to the private folder ``<config.to>.preview``.
    """
    with boundary("train"):
        from synthgen.synthesizer import Synthesizer, world_of

        with world_of(config.device) as world:
            target = Path(config.to).absolute()
            seed = seed_or_fresh(config.seed)
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
                    pictures = target.with_name(f"{target.name}.preview")
                    fitted = Synthesizer.fit(
                        halves.train,
                        config=config,
                        seed=seed,
                        device=config.device,
                        log=_tell_step if is_first else lambda step: None,
                        warm_start=bundle_to_start_from(config),
                        apart_from=[halves.holdout],
                        world=world,
                        watch=previews(config, halves.train, pictures, seed, _tell_note)
                        if is_first
                        else None,
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


def _tell_note(text: str) -> None:
    tell({"stage": "train", "event": "note", "text": text})


def _tell_step(step: Event) -> None:
    """Tell the listener of one record of training: a note for people, or a step."""
    if "note" in step:
        _tell_note(str(step["note"]))
    else:
        tell({"event": "step", **step})


@dataclass(frozen=True)
class Draw:
    """What `sample` is asked for: so many rows, or so many for each row of a file.

    Attributes
    ----------
    rows : int
        Of the table; with `given` completions of each of its rows, with `ends` rows a step.
    where, match : tuple of str
    fair : tuple of two str, optional
        See `Synthesizer.sample`.
    given : str, optional
        Table of some columns, whose rows are completed.
    vary : float
        Probability with which a cell of `given` is drawn anew all the same.
    ends : str, optional
        Table of two rows, to go from one to the other in `steps`.
    steps : int
    control : Control
    """

    rows: int
    where: tuple[str, ...] = ()
    match: tuple[str, ...] = ()
    fair: tuple[str, str] | None = None
    given: str | None = None
    vary: float = 0.0
    ends: str | None = None
    steps: int = 5
    control: Control = AS_LEARNT

    def __post_init__(self) -> None:
        if self.given is not None and self.ends is not None:
            raise ConfigError("rows are completed or gone between, not both: drop one of the files")
        asked = bool(self.where or self.match or self.fair)
        if asked and (self.given is not None or self.ends is not None):
            raise ConfigError(
                "conditions, matches and fairness are for rows drawn freely, not for given ones"
            )

    def frames(
        self, fitted: Synthesizer, seed: int
    ) -> tuple[Iterator[pd.DataFrame], int, dict[str, Any]]:
        """Return the drawn frames, how many rows they hold, and facts for the manifest."""
        from synthgen.uses import given_rows

        facts: dict[str, Any] = {"conditions": len(self.where), "given": self.given is not None}
        if self.control != AS_LEARNT:
            facts["control"] = self.control.facts
        each: dict[str, Any] = {"seed": seed, "copies": self.rows, "control": self.control}
        if self.ends is not None:
            ends = given_rows(self.ends, fitted.schema)
            frame = fitted.interpolate(ends, steps=self.steps, **each)
            return iter([frame]), len(frame), facts | {"steps": self.steps}
        if self.given is not None:
            asked = given_rows(self.given, fitted.schema)
            frames = fitted.complete(asked, vary=self.vary, **each)
            return frames, self.rows * len(asked), facts | {"vary": self.vary}
        return self._freely(fitted, seed, facts)

    def _freely(
        self, fitted: Synthesizer, seed: int, facts: dict[str, Any]
    ) -> tuple[Iterator[pd.DataFrame], int, dict[str, Any]]:
        """Return what `frames` does, for rows that complete no others."""
        asked: dict[str, Any] = {"seed": seed, "where": self.where, "control": self.control}
        if self.where and (share := fitted.share(self.where, seed=seed)) is not None:
            facts |= {"share": share, "learnt_from": fitted.facts.get("rows", 0)}
        quotas = None
        if self.match or self.fair:
            quotas = fitted.quotas(self.rows, match=self.match, fair=self.fair, **asked)
            facts["cells"] = len(quotas.cells)
            if quotas.parity is not None:
                facts["parity_difference"] = [round(value, 6) for value in quotas.parity]
        return fitted.sample_batches(self.rows, quotas=quotas, **asked), self.rows, facts


def sample_bundle(
    bundle: Path,
    target: str | Path,
    draw: Draw,
    *,
    seed: int,
    device: str = "auto",
    overwrite: bool = False,
    keep_formulas: bool = False,
    progress: Listener | None = None,
) -> Manifest:
    """Draw from a bare bundle into `target`; only schema and structure can be checked.

    `progress` gets each event (see `listening`): rows drawn, then rows checked.

    Raises
    ------
    GateRefused
        If the rows break the schema.
    """
    sink = open_sink(str(target))
    sink.check(overwrite=overwrite)
    with listening(progress), sink.hold(), boundary("sample"):
        from synthgen.checks.expectations import check_frames
        from synthgen.synthesizer import Synthesizer

        fitted = Synthesizer.load(bundle, device=device)
        frames, rows, asked = draw.frames(fitted, seed)
        sink.check_names(fitted.schema.names)
        sink.check_space(rows=rows, columns=len(fitted.schema.columns))
        # Many rows do not fit into memory: they wait in a file that nobody else can read.
        with sink.scratch() as folder:
            path = folder / "drawn.parquet"
            write_batches(path, counted(frames, rows, stage="draw"), fitted.schema)
            table = SyntheticFile(fitted.schema, path, fitted.fingerprint, seed)
            batches = counted(table.batches(), rows, stage="check")
            measured = check_frames(batches, fitted.encoder.rules, name="output")
            decision = _structure_decision(measured, table.fingerprint)
            if not decision.passed:
                raise GateRefused(refusal(decision))
            facts = {
                **asked,
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
                keep_formulas=keep_formulas,
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
