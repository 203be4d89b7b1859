"""Verbs on judged tables: judge, show, compare, search, let out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from synthgen.cli.app import app, say, verb
from synthgen.cli.options import (
    AsJson,
    KeepFormulas,
    LogJson,
    Overwrite,
    Quiet,
    Run,
    Schema,
    Target,
    To,
    Verbose,
)
from synthgen.cli.printing import (
    finish,
    print_comparison,
    print_protection,
    print_run,
    print_unjudged,
    print_worst,
    short,
    summary,
)
from synthgen.cli.settings import level_of, listening_to
from synthgen.errors import ConfigError, GateRefused


@app.command()
@verb
def validate(
    run: Annotated[Path | None, typer.Argument(help="Run folder to judge again.")] = None,
    real: Annotated[str | None, typer.Option("--real", help="What was learnt from.")] = None,
    holdout: Annotated[
        str | None, typer.Option("--holdout", help="Real rows that the generator never saw.")
    ] = None,
    synthetic: Annotated[str | None, typer.Option("--synthetic", help="What it wrote.")] = None,
    schema: Schema = None,
    target: Target = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML; [gate] is used.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the checks.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the report.")] = None,
    data_docs: Annotated[
        bool, typer.Option("--data-docs", help="Of a run, Great Expectations' page, no samples.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_json: LogJson = False,
    as_json: AsJson = False,
) -> None:
    """Judge the table of a run again, or any synthetic table: CSV or Parquet, other tools' too.

    Exit code 3 says that the gate refuses it; report.html and decision.json say why.

    Example: synthgen validate --real train.csv --holdout fresh.csv --synthetic theirs.csv
    """
    from synthgen import pipeline
    from synthgen.run_folder import RunFolder, listening

    if run is not None:
        if (real, holdout, synthetic) != (None, None, None):
            raise ConfigError("give a run folder, or --real, --holdout and --synthetic: not both")
        folder = RunFolder.open(run)
        with (
            folder.held(),
            listening_to(level_of(quiet, verbose, log_json)) as listener,
            listening(listener),
        ):
            pipeline.validate(folder, data_docs=data_docs)
        finish(pipeline.Outcome(folder, folder.decision, None), as_json=as_json)
        return
    if data_docs:
        raise ConfigError("--data-docs needs a run folder")
    from synthgen.audit import NO_HOLDOUT, Files, audit
    from synthgen.config import RunConfig

    if real is None or synthetic is None:
        raise ConfigError("nothing to judge: give a run folder, or --real, --holdout, --synthetic")
    if holdout is None:
        raise ConfigError(NO_HOLDOUT)
    folder, notes = audit(
        Files(real, holdout, synthetic),
        pipeline.new_run_dir(out),
        schema_path=schema,
        target=target,
        policy=None if config is None else RunConfig.load(config).gate,
        seed=seed,
    )
    for note in notes:
        say(f"note: {note}")
    finish(pipeline.Outcome(folder, folder.decision, None), as_json=as_json)


@app.command()
@verb
def export(
    run: Annotated[str, typer.Argument(help="Run folder, or model from one: NAME[@VERSION].")],
    to: To,
    overwrite: Overwrite = False,
    keep_formulas: KeepFormulas = False,
    as_json: AsJson = False,
) -> None:
    """Write the synthetic table of a run to another target, by the decision that it has.

    Example: synthgen export runs/20260131-120000-ab12 --to synthetic.parquet
    """
    from synthgen import pipeline
    from synthgen.registry import resolve_run
    from synthgen.run_folder import RunFolder

    folder = RunFolder.open(resolve_run(run))
    manifest = pipeline.export_to(folder, to, overwrite=overwrite, keep_formulas=keep_formulas)
    typer.echo(manifest.to_json() if as_json else to)


@app.command()
@verb
def show(run: Run, as_json: AsJson = False) -> None:
    """Show what the gate decided, the rules that refused, and where everything is.

    Of a run that was not judged: its state, and how to go on.

    Example: synthgen show runs/20260131-120000-ab12
    """
    from synthgen.run_folder import RunFolder

    if not RunFolder(run).decision_path.exists() and RunFolder(run).config_path.exists():
        print_unjudged(RunFolder.open(run), as_json=as_json)
        return
    folder = RunFolder.judged(run)
    if as_json:
        typer.echo(json.dumps(summary(folder)))
    else:
        print_run(folder)
        print_worst(folder)
        print_protection(folder)


@app.command()
@verb
def audit(
    place: Annotated[
        Path, typer.Argument(help="Bundle, run folder, folder of an export, or file.")
    ],
    data: Annotated[
        list[str],
        typer.Option("--data", help="The real table; of a warm start the earlier one as well."),
    ],
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Search a bundle or what a run shows for what fewer than k rows hold; 3 if something is found.

    Prints file, column, rule and count, never a value. Clean is no proof: weights may memorise.

    Example: synthgen audit patients.bundle --data patients.csv --schema patients.toml
    """
    from dataclasses import asdict

    from synthgen.errors import boundary
    from synthgen.scan import scan

    with boundary("audit"):
        found = scan(place, *data, schema=schema)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        unit = "rows" if found.of == "rows" else f"values of '{found.of}'"
        typer.echo(
            f"{len(found.files)} files searched for what fewer than {found.k} {unit} of "
            f"{found.rows:,} rows hold"
        )
        for finding in found.findings:
            typer.echo(f"  {finding}")
        typer.echo("clean" if found.is_clean else "NOT CLEAN")
    if not found.is_clean:
        raise typer.Exit(GateRefused.exit_code)


@app.command()
@verb
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more folders of judged tables.")],
    html: Annotated[Path | None, typer.Option("--html", help="Write one page as well.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Measures of single columns too.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Show the measurements of several runs side by side; what intervals cannot tell is a tie.

    Example: synthgen compare runs/first runs/second --html compared.html
    """
    from synthgen.files import staged
    from synthgen.report import Side
    from synthgen.report import compare as compare_sides
    from synthgen.run_folder import RunFolder
    from synthgen.sinks.local import check_place

    if len(runs) < 2:
        raise ConfigError("one run cannot be compared: name two or more")
    folders = [RunFolder.judged(run) for run in runs]
    names = [f.root.name for f in folders]
    if len(set(names)) < len(names):
        names = [short(f.root) for f in folders]
    if len(set(names)) < len(names):
        raise ConfigError("a run is named twice: name different ones")
    found = compare_sides(
        [
            Side(name, f.report, f.decision, f.yardstick)
            for name, f in zip(names, folders, strict=True)
        ]
    )
    if html is not None:
        with staged(check_place(html.absolute(), overwrite=overwrite), mode=0o600) as temporary:
            temporary.write_text(found.to_html(), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(found.to_dict(), allow_nan=False))
    else:
        print_comparison(found, every=every)


@app.command()
@verb
def verify(
    manifest: Annotated[
        str, typer.Argument(help="Manifest: a path, s3:// URI, or the URI of a database's table.")
    ],
    log: Annotated[
        Path | None, typer.Option("--log", help="Audit log; left out: $SYNTHGEN_HOME/audit.jsonl.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every hash that a manifest names, and its line in the audit log; exit 1 if one broke.

    Example: synthgen verify synthetic.csv.manifest.json
    """
    from dataclasses import asdict

    from synthgen import provenance
    from synthgen.audit_log import AuditLog

    chosen = AuditLog.default() if log is None else AuditLog(log.absolute())
    found = provenance.verify(manifest, chosen)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in found]))
    else:
        for finding in found:
            typer.echo(f"{'ok' if finding.holds else 'BROKEN':<7} {finding.what}: {finding.detail}")
    raise typer.Exit(0 if all(finding.holds for finding in found) else 1)
