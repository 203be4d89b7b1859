"""Verbs that make a bundle or use one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from synthgen.cli.app import app, say, verb
from synthgen.cli.options import (
    AsJson,
    Bundle,
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
    Schema,
    Seed,
    Target,
    TensorBoard,
    To,
    Verbose,
    WarmStart,
)
from synthgen.cli.settings import level_of, listening_to, settings_from
from synthgen.errors import ConfigError


@app.command()
@verb
def train(
    data: Data = None,
    to: Annotated[Path | None, typer.Option("--to", help="Bundle folder to write.")] = None,
    schema: Schema = None,
    target: Target = None,
    config: Config = None,
    seed: Seed = None,
    device: Device = None,
    warm_start: WarmStart = None,
    epsilon: Epsilon = None,
    delta: Delta = None,
    charge_metadata: ChargeMetadata = False,
    overwrite: Overwrite = False,
    tensorboard: TensorBoard = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_json: LogJson = False,
) -> None:
    """Learn from a table and keep only the synthesizer's bundle (itself sensitive).

    Several processes or GPUs learn together: torchrun --nproc-per-node 2 -m synthgen train ...

    Example: synthgen train --data patients.csv --schema patients.toml --to patients.bundle
    """
    from synthgen.pipeline import train_bundle

    settings = settings_from(
        config,
        data=data,
        schema_path=schema,
        to=to,
        target=target,
        seed=seed,
        device=device,
        warm_start=warm_start,
        epsilon=epsilon,
        delta=delta,
        charge_metadata=charge_metadata or None,
        overwrite=overwrite or None,
    )
    with listening_to(level_of(quiet, verbose, log_json), tensorboard) as listener:
        is_written = train_bundle(settings, progress=listener)
    if is_written:  # of several processes only the first one writes, and says so
        say("the bundle was trained on real rows: treat it as personal data")
        typer.echo(settings.to)


@app.command()
@verb
def sample(
    bundle: Annotated[str, typer.Argument(help="Bundle folder, or model: NAME[@VERSION].")],
    to: To,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Rows to draw.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", help="Condition, exact; may be repeated: \"ward='surgery'\"."),
    ] = None,
    given: Annotated[
        str | None,
        typer.Option("--given", help="Rows to complete: some columns; empty cells are drawn too."),
    ] = None,
    copies: Annotated[int, typer.Option("--copies", min=1, help="Completions of a row.")] = 1,
    match: Annotated[
        list[str] | None,
        typer.Option(
            "--match", help='Shares a column shall have, exact; may be repeated: "sex=F:0.5,M:0.5".'
        ),
    ] = None,
    fair: Annotated[
        str | None,
        typer.Option("--fair", help="SENSITIVE,TARGET: make the target independent, by counts."),
    ] = None,
    temperature: Annotated[
        str | None,
        typer.Option("--temperature", help="0.8, or income=0.7,age=1.2: below 1 less varied."),
    ] = None,
    top_p: Annotated[
        str | None,
        typer.Option("--top-p", help="0.95, or age=0.9: drop the unlikely rest of each cell."),
    ] = None,
    seed_row: Annotated[
        str | None,
        typer.Option("--seed-row", help="Rows of your own to vary; the result is not private."),
    ] = None,
    vary: Annotated[
        float, typer.Option("--vary", min=0, max=1, help="With --seed-row: share of cells redrawn.")
    ] = 0.3,
    between: Annotated[
        str | None,
        typer.Option("--between", help="Table of two rows: go from one condition to the other."),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=2, help="With --between.")] = 5,
    seed: Seed = None,
    device: Device = None,
    overwrite: Overwrite = False,
    keep_formulas: KeepFormulas = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_json: LogJson = False,
) -> None:
    """Draw rows from a bundle. Only schema and structure can be checked; the manifest says so.

    Example: synthgen sample patients.bundle --rows 500 --to surgery.csv --where "ward='surgery'"

    Example: synthgen sample patients.bundle --given arrivals.csv --copies 5 --to arrivals-full.csv

    Example: synthgen sample patients.bundle --rows 1000 --to even.csv --match "sex=F:0.5,M:0.5"

    Example: synthgen sample patients.bundle --rows 1000 --to fair.csv --fair sex,readmitted

    Example: synthgen sample patients.bundle --rows 1000 --to calm.csv --temperature 0.8,age=1.2

    Example: synthgen sample patients.bundle --seed-row mine.csv --vary 0.3 --copies 9 --to like.csv

    Example: synthgen sample patients.bundle --between two.csv --steps 5 --copies 20 --to path.csv
    """
    from synthgen.ask.control import Control, by_column
    from synthgen.pipeline import Draw, sample_bundle
    from synthgen.registry import resolve
    from synthgen.rng import seed_or_fresh
    from synthgen.uri import absolute

    if sum(x is not None for x in (rows, given, seed_row, between)) != 1:
        raise ConfigError(
            "give one of --rows (with any --where, --match, --fair), --given, --seed-row, --between"
        )
    draw = Draw(
        rows=copies if rows is None else rows,
        where=tuple(where or ()),
        match=tuple(match or ()),
        fair=None if fair is None else _pair(fair),
        given=given if seed_row is None else seed_row,
        vary=0.0 if seed_row is None else vary,
        ends=between,
        steps=steps,
        control=Control(
            temperature=1.0 if temperature is None else by_column(temperature, "temperature"),
            top_p=1.0 if top_p is None else by_column(top_p, "top_p"),
        ),
    )
    with listening_to(level_of(quiet, verbose, log_json)) as listener:
        manifest = sample_bundle(
            resolve(bundle),
            absolute(to),
            draw,
            seed=seed_or_fresh(seed),
            device=device or "auto",
            overwrite=overwrite,
            keep_formulas=keep_formulas,
            progress=listener,
        )
    if parity := manifest.facts.get("parity_difference"):
        say(
            f"demographic parity difference: {parity[0]:.3f} as drawn, {parity[1]:.3f} in this file"
        )
    if seed_row is not None:
        say(
            "variations hold cells of the rows they vary: as private as these, whatever was redrawn"
        )
    say(manifest.privacy)
    typer.echo(manifest.to_json() if as_json else to)


def _pair(text: str) -> tuple[str, str]:
    """Read SENSITIVE,TARGET."""
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or names[0] == names[1]:
        raise ConfigError("--fair reads SENSITIVE,TARGET: two different columns")
    return names[0], names[1]


@app.command()
@verb
def impute(
    data: Annotated[str, typer.Argument(help="Table with gaps: CSV or Parquet.")],
    bundle: Bundle,
    to: Annotated[Path, typer.Option("--to", help="Target: .csv or .parquet.")],
    multiple: Annotated[
        int | None,
        typer.Option("--multiple", min=1, help="So many tables of draws, for pooled estimates."),
    ] = None,
    seed: Seed = None,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Fill the missing cells of a table, and nothing else. The output holds its real rows.

    Left alone, each gap gets its best guess; --multiple M gives M tables of independent draws
    below each other, told apart by the column 'imputation'.

    Example: synthgen impute patients.csv --bundle patients.bundle --to complete.csv
    """
    from synthgen.rng import seed_or_fresh
    from synthgen.uses import impute_file

    cells = impute_file(
        bundle,
        data,
        to.absolute(),
        seed=seed_or_fresh(seed),
        multiple=multiple,
        device=device or "auto",
        overwrite=overwrite,
    )
    say(f"{cells:,} cells filled; the file holds real rows: it has passed no gate")
    typer.echo(to)


@app.command()
@verb
def score(
    data: Annotated[str, typer.Argument(help="Table to score: CSV or Parquet.")],
    to: Annotated[Path, typer.Option("--to", help="Target: .csv or .parquet.")],
    bundle: Annotated[Path | None, typer.Option("--bundle", help="Bundle folder.")] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Run folder instead: a critic of its training rows as well."),
    ] = None,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Say how unusual each row of a table is, and by what; the most unusual first.

    With a run folder a critic of whole rows, fitted now on its private rows, adds to the score.

    Example: synthgen score claims.csv --bundle claims.bundle --to unusual.csv
    """
    from synthgen.run_folder import RunFolder
    from synthgen.uses import score_file

    if (bundle is None) == (run is None):
        raise ConfigError("give --bundle, or --run for the critic as well; not both")
    critic_of = None
    if run is not None:
        bundle, critic_of = RunFolder(run).bundle_path, RunFolder(run).train_path
        if not critic_of.exists():
            raise ConfigError(
                f"{run}: no private training rows there, and a critic needs them; use --bundle"
            )
    assert bundle is not None
    rows = score_file(
        bundle,
        data,
        to.absolute(),
        critic_of=critic_of,
        device=device or "auto",
        overwrite=overwrite,
    )
    say(f"{rows:,} rows scored; what is unusual may point at people: keep it private")
    typer.echo(to)


@app.command()
@verb
def translate(
    data: Annotated[str, typer.Argument(help="Rows of the first domain: CSV or Parquet.")],
    source: Annotated[Path, typer.Option("--from", help="Bundle of the rows' own domain.")],
    domain: Annotated[Path, typer.Option("--to", help="Bundle of the other domain.")],
    out: Annotated[Path, typer.Option("--out", help="Target: .csv or .parquet.")],
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", help="Columns that stay, with commas between; may be repeated."),
    ] = None,
    seed: Seed = None,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Rewrite rows of one domain (a site, a year) as if from another, row by row.

    Each number takes the value of the same rank among like rows of the other domain; a category
    stays as often as both allow. Ids and personal data stay. The output tells of real rows. What
    share of cells comes back, if the rows are translated back, is said.

    Example: synthgen translate north.csv --from north.bundle --to south.bundle --keep age,sex
    --out as-if-south.csv
    """
    from synthgen.rng import seed_or_fresh
    from synthgen.uses import translate_file

    done = translate_file(
        source,
        domain,
        data,
        out.absolute(),
        seed=seed_or_fresh(seed),
        keep=keep or (),
        device=device or "auto",
        overwrite=overwrite,
    )
    say(str(done))
    say("the file tells of real rows: it has passed no gate")
    typer.echo(out)


@app.command()
@verb
def augment(
    data: Data = None,
    target: Target = None,
    to: Annotated[str | None, typer.Option("--to", help="Target: .csv or .parquet.")] = None,
    ratio: Annotated[
        float, typer.Option("--ratio", help="Rows of each class to one of the largest; 1 balances.")
    ] = 1.0,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="New rows instead.")] = None,
    only_class: Annotated[
        str | None, typer.Option("--only-class", help="Add to this class alone.")
    ] = None,
    verdict: Annotated[
        bool, typer.Option("--verdict/--no-verdict", help="Measure first whether it helps.")
    ] = True,
    trials: Annotated[int, typer.Option("--trials", min=3, help="Of the verdict.")] = 10,
    schema: Schema = None,
    config: Config = None,
    seed: Seed = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a table again with synthetic rows of its scarce classes below, if that helps.

    First it is measured on real rows, beside class weights, repeated rows and SMOTE; "do not use
    it" writes nothing (exit code 3). The output holds the real rows.

    Example: synthgen augment --data claims.csv --target fraud --ratio 0.25 --to more-claims.csv
    """
    from dataclasses import asdict

    from synthgen.uses import augment_file, said

    settings = settings_from(
        config,
        data=data,
        schema_path=schema,
        to=to,
        target=target,
        seed=seed,
        overwrite=overwrite or None,
    )
    if settings.target is None:
        raise ConfigError("give --target: the column whose scarce classes get more rows")
    n_new, found = augment_file(
        settings,
        target=settings.target,
        ratio=ratio,
        rows=rows,
        only_class=only_class,
        trials=trials if verdict else None,
        tell=lambda done: say(f"trial {done} of {trials} done"),
    )
    if as_json:
        typer.echo(json.dumps({"rows": n_new, "verdict": found and asdict(found)}))
        return
    if found is not None:
        say(said(found))
    say(f"{n_new:,} synthetic rows below the real ones; the file has passed no gate")
    typer.echo(settings.to)
