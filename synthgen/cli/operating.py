"""Verbs of nightly work: run folders, schedules, triggers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from synthgen.cli.app import app, runs_app, say, verb
from synthgen.cli.options import AsJson, Folder
from synthgen.cli.printing import place_of


@runs_app.callback(invoke_without_command=True)
@verb
def runs(context: typer.Context, folder: Folder = Path("runs"), as_json: AsJson = False) -> None:
    """List run folders (state, rows, age, where to; newest first), or delete old ones.

    Example: synthgen runs --json
    """
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from synthgen.runs import listed

    entries = listed(folder)
    if as_json:
        typer.echo(json.dumps([asdict(e) for e in entries]))
        return
    for e in entries:
        stage = f" in {e.stage}" if e.state in ("running", "failed", "interrupted") else ""
        told = f"{e.state}{stage}"
        typer.echo(
            f"{Path(e.run).name:<22}  {told:<23} {e.rows:>11,} rows  {e.age_hours:>7.1f} h  "
            f"{place_of(e.target)}"
        )
    if not entries:
        say(f"no run folders in {folder}")


@runs_app.command("prune")
@verb
def runs_prune(
    keep: Annotated[int, typer.Option("--keep", min=1, help="Newest to keep of each target.")],
    folder: Folder = Path("runs"),
) -> None:
    """Delete old run folders, real rows in them included; never one at work, or accepted last.

    Example: synthgen runs prune --keep 7
    """
    from synthgen.runs import prune

    for gone in prune(folder, keep):
        typer.echo(gone.name)


@app.command()
@verb
def serve(
    configs: Annotated[list[Path], typer.Argument(help="Configuration files, one a deployment.")],
    cron: Annotated[str | None, typer.Option("--cron", help="As in crontab: '0 2 * * *'.")] = None,
    every: Annotated[
        float | None, typer.Option("--every", min=1, help="Seconds between runs.")
    ] = None,
    timezone: Annotated[str, typer.Option("--timezone", help="Of the schedule.")] = "UTC",
    only_if_drifted: Annotated[
        bool, typer.Option("--only-if-drifted", help="Do nothing while the input is as it was.")
    ] = False,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", help="VARIABLE=BLOCK: a Secret block of Prefect; repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Runs at once.")] = 1,
) -> None:
    """Run configurations on a schedule or on trigger, until interrupted. Needs a Prefect server.

    Example: synthgen serve nightly.toml --cron "0 2 * * *" --timezone Europe/Berlin
    """
    from flows.deployments import parse_parameter
    from flows.deployments import serve as serve_deployments

    serve_deployments(
        configs,
        cron=cron,
        every=every,
        timezone=timezone,
        only_if_drifted=only_if_drifted,
        secrets=dict(parse_parameter(text) for text in secret or ()),
        limit=limit,
        say=say,
    )


@app.command()
@verb
def trigger(
    name: Annotated[str, typer.Argument(help="Deployment: the configuration's file name.")],
    param: Annotated[
        list[str] | None, typer.Option("--param", help="key=value; may be repeated.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow it to its end; leave with its exit code.")
    ] = False,
) -> None:
    """Start a deployment now. Prints the id of its run.

    Example: synthgen trigger nightly --wait --param accept_drift=true
    """
    from flows.deployments import parse_parameter
    from flows.deployments import trigger as trigger_deployment

    parameters = dict(parse_parameter(text) for text in param or ())
    run, code = trigger_deployment(name, parameters, wait=wait, say=say)
    typer.echo(run)
    raise typer.Exit(code)
