"""What verbs print: a run, its measurements, a plan; results on stdout, the rest on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from synthgen.cli.app import say
from synthgen.errors import GateRefused

if TYPE_CHECKING:
    from synthgen.config import RunConfig
    from synthgen.pipeline import Outcome
    from synthgen.plan import Estimate
    from synthgen.report import Comparison
    from synthgen.run_folder import RunFolder


def finish(outcome: Outcome, *, as_json: bool) -> None:
    """Print how the run ended; a refusal leaves with code 3."""
    if as_json:
        typer.echo(json.dumps(summary(outcome.folder)))
    else:
        print_run(outcome.folder)
    if not outcome.decision.passed:
        say(f"look at it: synthgen show {short(outcome.folder.root)}")
        raise typer.Exit(GateRefused.exit_code)


def summary(folder: RunFolder) -> dict[str, Any]:
    """Return what a machine wants to know about a run."""
    from dataclasses import asdict

    decision = folder.decision
    exported = folder.manifest if folder.manifest_path.exists() else None
    return {
        "run": str(folder.root),
        "passed": decision.passed,
        "rules": [asdict(rule) for rule in decision.rules],
        "report": str(folder.html_path),
        "synthetic": str(folder.synthetic_path) if folder.synthetic_path.exists() else None,
        "protection": folder.protection,
        "manifest": None if exported is None else asdict(exported),
    }


def print_run(folder: RunFolder) -> None:
    """Print the decision, rule by rule, and where everything is."""
    decision = folder.decision
    is_run = folder.config_path.exists()  # or a table from elsewhere
    refused = "REFUSED; nothing was exported" if is_run else "REFUSED"
    verdict = "passed" if decision.passed else refused
    typer.echo(f"gate: {verdict}")
    for rule in decision.rules:
        mark = "ok" if rule.passed else "FAILED"
        if not rule.counts:
            mark = "waived" if rule.waived else "silent"
        typer.echo(f"  {mark:<6}  {rule.name:<21} {rule.reason}")
    typer.echo(f"run:        {short(folder.root)}")
    typer.echo(f"report:     {short(folder.html_path)}")
    if folder.manifest_path.exists():
        typer.echo(f"exported:   {place_of(folder.config.to)}")
    elif is_run:
        typer.echo(f"quarantine: {short(folder.synthetic_path)}")


def print_unjudged(folder: RunFolder, *, as_json: bool) -> None:
    """Print the state of a run without a decision, and how to go on."""
    from dataclasses import asdict

    from synthgen.runs import entry

    found = entry(folder)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    typer.echo(f"{found.state}{f' in {found.stage}' if found.stage else ''}; not judged yet")
    typer.echo(f"run:        {short(folder.root)}")
    for stage, counted in folder.stages.items():
        typer.echo(f"{stage + ':':<11} {counted['seconds']:.1f} s")
    if found.state != "running":
        typer.echo(f"go on:      synthgen resume {short(folder.root)}")


def print_worst(folder: RunFolder, n: int = 5) -> None:
    """Print the columns that are furthest beyond what fresh real rows score."""
    columns = [
        (m.value - (m.control or 0.0), m)
        for m in folder.report
        if m.name.startswith(("ks.", "tvd.", "missing.")) and m.value is not None
    ]
    typer.echo("furthest from the real columns (share, and what fresh real rows score):")
    for _, m in sorted(columns, key=lambda pair: -pair[0])[:n]:
        typer.echo(f"  {m.name:<29} {m.value:.4f}  {m.control or 0.0:.4f}")


def print_comparison(found: Comparison, *, every: bool) -> None:
    """Print measurements side by side, question by question."""
    from synthgen.report.compare import MARKS

    sides = found.sides
    width = max(14, *(min(len(side.name), 24) + 2 for side in sides))

    def line(name: str, cells: Iterable[str]) -> str:
        return f"{name[:48]:<48}" + "".join(f"{cell[-(width - 2) :]:>{width}}" for cell in cells)

    typer.echo(line("", [side.name for side in sides]))
    verdicts = ["passed" if side.decision.passed else "REFUSED" for side in sides]
    typer.echo(line("gate", verdicts))
    typer.echo(line("rules not met", [str(len(side.decision.failing)) for side in sides]))
    for question, rows in found.areas(every=every):
        typer.echo(f"\n{question}")
        for row in rows:
            arrow = "" if row.area == "schema" else f" ({row.unit}, {row.better} is better)"
            name = f"  {row.name}{arrow}"
            typer.echo(line(name, [e.written(row.unit) for e in row.entries]))
    typer.echo("")
    for sign, meaning in MARKS.values():
        if sign:
            typer.echo(f"{sign} {meaning}")
    for note in found.notes:
        say(f"note: {note}")


def print_protection(folder: RunFolder) -> None:
    """Print what the encoder suppressed, by column; counts below k are not exact."""
    found = folder.protection
    if found is None:
        return
    of = "rows" if found["of"] == "rows" else f"values of '{found['of']}'"
    typer.echo(f"not learnt, because fewer than {found['k']} {of} hold it:")
    for name, counts in found["columns"].items():
        listed = ", ".join(f"{what.replace('_', ' ')} {n}" for what, n in counts.items())
        typer.echo(f"  {name:<29} {listed}")


def print_plan(settings: RunConfig, run_dir: Path | None, *, as_json: bool) -> None:
    """Print what a dry run found."""
    from synthgen import pipeline

    plan = pipeline.plan(settings, run_dir)
    if as_json:
        typer.echo(json.dumps(plan))
        return
    schema = "inferred" if plan["inferred"] else settings.schema_path
    typer.echo(f"input:       {plan['rows_in']:,} rows of table '{plan['table']}'")
    typer.echo(f"schema:      {schema}")
    for kind, names in plan["modelled"].items():
        typer.echo(f"{kind + ':':<13}{', '.join(names)}")
    typer.echo(f"regenerated: {', '.join(plan['regenerated']) or 'nothing'}")
    typer.echo(f"target:      {plan['target'] or 'none: utility is not judged'}")
    typer.echo(f"would write: {plan['rows']:,} rows to {settings.to}")
    typer.echo(f"run folder:  {plan['run_dir']}")
    for note in plan["notes"]:
        typer.echo(f"note: {note}")


def print_estimate(found: Estimate) -> None:
    """Print sizes, minutes and memory of a run to come."""
    widest = ", ".join(f"{name} {width:,}" for name, width in found.widest)
    typer.echo(f"input:    {found.rows:,} rows, {found.columns} columns to learn")
    typer.echo(f"encoded:  {found.tokens} tokens, {found.logits:,} levels, {found.offsets} offsets")
    typer.echo(f"widest:   {widest}")
    typer.echo(f"network:  {found.parameters:,} parameters")
    typer.echo(
        f"training: {found.steps:,} + {found.critic_steps:,} steps of {found.batch_size} rows "
        f"on {found.device}"
    )
    for stage, minutes in found.minutes.items():
        typer.echo(f"  {stage:<9} {minutes:6.1f} min, {found.cpu_minutes[stage]:.1f} CPU min")
    gib = 2**30
    typer.echo(f"memory:   {found.memory / gib:.1f} of {found.available / gib:.1f} GiB")
    if found.device_available:
        of = f"{found.device_available / gib:.1f} GiB free"
        typer.echo(f"on GPU:   {found.device_memory / gib:.1f} of {of}")


def place_of(uri: str) -> str:
    """Return a URI as it is, a path short."""
    return uri if "://" in uri else short(Path(uri))


def short(path: Path) -> str:
    """Return `path` relative to the working directory if it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
