"""Verbs that take a table through the stages, or say what that would take."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from synthgen.cli.app import app, verb
from synthgen.cli.options import (
    TO,
    AcceptDrift,
    AsJson,
    ChargeMetadata,
    Config,
    Data,
    Delta,
    Device,
    Epsilon,
    KeepFormulas,
    LogJson,
    Overwrite,
    Quiet,
    RunDir,
    Schema,
    Seed,
    Target,
    TensorBoard,
    Verbose,
    WarmStart,
)
from synthgen.cli.printing import finish, print_estimate, print_plan
from synthgen.cli.settings import level_of, listening_to, merged, run_stages, settings_from


@app.command()
@verb
def run(
    data: Data = None,
    schema: Schema = None,
    rows: Annotated[int | None, typer.Option("--rows", help="Synthetic rows.")] = None,
    to: Annotated[str | None, typer.Option("--to", help=TO)] = None,
    target: Target = None,
    config: Config = None,
    seed: Seed = None,
    run_dir: RunDir = None,
    device: Device = None,
    warm_start: WarmStart = None,
    epsilon: Epsilon = None,
    delta: Delta = None,
    charge_metadata: ChargeMetadata = False,
    flow: Annotated[bool, typer.Option("--flow", help="As a Prefect flow run.")] = False,
    compare: Annotated[
        str | None,
        typer.Option("--compare", help='Run folder whose input this must look like, or "last".'),
    ] = None,
    accept_drift: AcceptDrift = False,
    overwrite: Overwrite = False,
    keep_formulas: KeepFormulas = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read, plan, write nothing.")] = False,
    tensorboard: TensorBoard = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_json: LogJson = False,
    as_json: AsJson = False,
) -> None:
    """Learn from a table, write a synthetic one, judge it; it leaves only if the gate passes it.

    Example: synthgen run --data patients.csv --schema patients.toml --rows 10000 --to synthetic.csv
    """
    settings = settings_from(
        config,
        data=data,
        schema_path=schema,
        rows=rows,
        to=to,
        target=target,
        seed=seed,
        device=device,
        warm_start=warm_start,
        epsilon=epsilon,
        delta=delta,
        charge_metadata=charge_metadata or None,
        overwrite=overwrite or None,
        export={"keep_formulas": keep_formulas or None},
        drift={"reference": compare, "accept": accept_drift or None},
    )
    if dry_run:
        print_plan(settings, run_dir, as_json=as_json)
    else:
        as_flow = flow or bool(os.environ.get("PREFECT_API_URL"))
        finish(
            run_stages(
                settings,
                run_dir,
                level_of(quiet, verbose, log_json),
                as_flow=as_flow,
                tensorboard=tensorboard,
            ),
            as_json=as_json,
        )


@app.command()
@verb
def resume(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_json: LogJson = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a run that was interrupted, killed or failed, from where it was.

    Example: synthgen resume runs/20260131-120000-ab12
    """
    from synthgen import pipeline

    with listening_to(level_of(quiet, verbose, log_json)) as listener:
        outcome = pipeline.resume(run, progress=listener)
    finish(outcome, as_json=as_json)


@app.command()
@verb
def plan(
    data: Annotated[
        str, typer.Option("--data", help="CSV, Parquet, or a URI: postgresql, sqlite, s3.")
    ],
    schema: Schema = None,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Synthetic rows.")] = None,
    config: Config = None,
    device: Device = None,
    warm_start: WarmStart = None,
    as_json: AsJson = False,
) -> None:
    """Say what a run would take: sizes, minutes, memory; refuse what cannot fit. Writes nothing.

    Example: synthgen plan --data patients.csv --schema patients.toml --rows 10000
    """
    from dataclasses import asdict

    from synthgen.plan import estimate

    settings = merged(
        config, data=data, schema_path=schema, rows=rows, device=device, warm_start=warm_start
    )
    found = estimate(settings)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        print_estimate(found)


@app.command()
@verb
def demo(
    rows: Annotated[int, typer.Option("--rows", help="Real and synthetic rows.")] = 10_000,
    seed: Seed = 0,
    run_dir: RunDir = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_json: LogJson = False,
    as_json: AsJson = False,
) -> None:
    """Run the embedded demo table (made-up hospital admissions) through the whole flow.

    Example: synthgen demo --rows 20000
    """
    import tempfile

    from synthgen import demo as table
    from synthgen.config import RunConfig
    from synthgen.pipeline import new_run_dir

    root = new_run_dir(run_dir)
    with tempfile.TemporaryDirectory(prefix="synthgen-demo-") as folder:
        data, schema = Path(folder) / "admissions.csv", Path(folder) / "admissions.toml"
        table.write_csv(data, rows, seed or 0)
        table.SCHEMA.save(schema)
        to = root.parent / f"{root.name}-admissions.csv"
        settings = RunConfig.build(
            {
                "data": str(data),
                "schema_path": str(schema),
                "rows": rows,
                "to": str(to),
                "seed": seed,
            }
        )
        to.parent.mkdir(parents=True, exist_ok=True)
        finish(
            run_stages(settings, root, level_of(quiet, verbose, log_json), as_flow=True),
            as_json=as_json,
        )
