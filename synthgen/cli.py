"""The command line: one short function a verb; what a verb needs is imported inside it.

Exit codes: 0 done, 1 error, 2 usage, configuration or bad input, 3 refused by the gate, 4 target
busy, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM). Results go to stdout, everything else to
stderr.
"""

from __future__ import annotations

import functools
import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from synthgen.errors import ConfigError, DataError, GateRefused, SynthgenError

if TYPE_CHECKING:
    from synthgen.config import RunConfig
    from synthgen.pipeline import Outcome
    from synthgen.plan import Estimate
    from synthgen.progress import Level
    from synthgen.report import Comparison
    from synthgen.run_folder import Listener, RunFolder

P = ParamSpec("P")

app = typer.Typer(
    name="synthgen",
    help="Turn a sensitive table into a synthetic one that may leave the building.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they print local variables, and those hold rows
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
schema_app = typer.Typer(
    help="Draft a schema, or hold a table against one.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(schema_app, name="schema")
runs_app = typer.Typer(rich_markup_mode=None)
app.add_typer(runs_app, name="runs")
models_app = typer.Typer(
    help="Keep bundles by name and version.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(models_app, name="models")

TO = "Target: .csv[.gz|.zst], .parquet, folder/, or a URI: postgresql, sqlite, s3."
To = Annotated[str, typer.Option("--to", help=TO)]
Data = Annotated[
    str | None, typer.Option("--data", help="CSV, Parquet, or a URI: postgresql, sqlite, s3.")
]
Schema = Annotated[Path | None, typer.Option("--schema", help="Schema file; left out: inferred.")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file with any setting.")]
Target = Annotated[str | None, typer.Option("--target", help="The column a model will predict.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Left out: a fresh one, recorded.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
WarmStart = Annotated[
    Path | None,
    typer.Option("--warm-start", help="Bundle of a related table to go on from (tells of it too)."),
]
Epsilon = Annotated[
    float | None,
    typer.Option("--epsilon", help="Train with differential privacy (needs a declared schema)."),
]
Delta = Annotated[float | None, typer.Option("--delta", help="With --epsilon; default 1e-6.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors and the result.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Every event.")]
TensorBoard = Annotated[
    Path | None,
    typer.Option("--tensorboard", help="Folder for TensorBoard: losses, held-out scores."),
]
LogJson = Annotated[bool, typer.Option("--log-json", help="Every event as JSON, on stderr.")]
ChargeMetadata = Annotated[
    bool,
    typer.Option(
        "--charge-metadata",
        help="With --epsilon: find bounds and categories that the schema leaves out, and charge.",
    ),
]
RunDir = Annotated[
    Path | None, typer.Option("--run-dir", help="Run folder; left out: runs/<time>-<random>.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing target.")]
AcceptDrift = Annotated[
    bool,
    typer.Option("--accept-drift", help="Go on although the input has changed; recorded."),
]
Folder = Annotated[Path, typer.Option("--folder", help="Where the run folders are.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def verb(function: Callable[P, None]) -> Callable[P, None]:
    """Turn errors into one message and the exit code; nobody sees a traceback or a cell.

    ``SYNTHGEN_DEBUG=1`` lets unforeseen exceptions through; their texts may show data.
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except SynthgenError as error:
            _say_error(error, as_json=kwargs.get("log_json") is True)
            raise typer.Exit(error.exit_code) from None
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            _say("interrupted")
            raise typer.Exit(130) from None
        except Exception as error:
            if os.environ.get("SYNTHGEN_DEBUG") == "1":
                raise
            _say(
                f"error: unforeseen {type(error).__name__}; its text is withheld, it may quote data"
            )
            raise typer.Exit(1) from None

    return guarded


def main() -> None:
    """Run the command line; the console script ``synthgen``."""
    # Small tensors on busy cores: threads that spin while they wait cost five times the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _terminate)
    app(prog_name="synthgen")


def _terminate(number: int, frame: object) -> None:
    """End by an exception, so that locks and half-written files are let go."""
    raise SystemExit(128 + number)


# --- schema -------------------------------------------------------------------------------------


@schema_app.command("infer")
@verb
def schema_infer(
    data: Annotated[str, typer.Argument(help="CSV, Parquet, or a URI: postgresql, sqlite, s3.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write here, not to stdout.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draft a schema in which every guess carries its reason as a comment.

    Example: synthgen schema infer admissions.csv --out admissions.toml
    """
    from synthgen.files import staged
    from synthgen.pipeline import draft_schema
    from synthgen.sinks.local import check_place

    schema = draft_schema(data)
    if out is None:
        typer.echo(schema.to_toml(), nl=False)
        return
    with staged(check_place(out.absolute(), overwrite=overwrite)) as temporary:
        schema.save(temporary)
    rules = f" and {len(schema.constraints)} rules between them" if schema.constraints else ""
    _say(f"{len(schema.columns)} columns{rules} drafted; read the comments, correct what is wrong:")
    typer.echo(out)


@schema_app.command("check")
@verb
def schema_check(
    data: Annotated[str, typer.Argument(help="CSV, Parquet, or a URI: postgresql, sqlite, s3.")],
    schema: Annotated[Path, typer.Option("--schema", help="Schema file.")],
    as_json: AsJson = False,
) -> None:
    """List everything in a table that breaks its schema: column, rule, count; never a cell.

    Example: synthgen schema check admissions.csv --schema admissions.toml
    """
    from dataclasses import asdict

    from synthgen.conform import violations
    from synthgen.schema import TableSchema
    from synthgen.sources import open_source

    declared = TableSchema.load(schema)
    with open_source(data, declared) as source:
        found = violations(source.batches(), declared)
    if as_json:
        typer.echo(json.dumps([asdict(v) for v in found]))
        raise typer.Exit(2 if found else 0)
    if found:
        raise DataError(f"the data does not conform to schema '{declared.name}':", found)
    typer.echo(f"the data conforms to schema '{declared.name}'")


# --- run ----------------------------------------------------------------------------------------


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
    settings = _settings(
        config,
        data=data,
        schema_path=None if schema is None else str(schema),
        rows=rows,
        to=to,
        target=target,
        seed=seed,
        device=device,
        warm_start=None if warm_start is None else str(warm_start),
        epsilon=epsilon,
        delta=delta,
        charge_metadata=charge_metadata or None,
        overwrite=overwrite or None,
        drift={"reference": compare, "accept": accept_drift or None},
    )
    if dry_run:
        _print_plan(settings, run_dir, as_json=as_json)
    else:
        as_flow = flow or bool(os.environ.get("PREFECT_API_URL"))
        _finish(
            _run(
                settings,
                run_dir,
                _level(quiet, verbose, log_json),
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

    with _progress(_level(quiet, verbose, log_json)) as listener:
        outcome = pipeline.resume(run, progress=listener)
    _finish(outcome, as_json=as_json)


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

    from synthgen.config import RunConfig
    from synthgen.plan import estimate

    options = {
        "data": data,
        "schema_path": None if schema is None else str(schema),
        "rows": rows,
        "device": device,
        "warm_start": None if warm_start is None else str(warm_start),
    }
    base = {} if config is None else RunConfig.load(config).model_dump(exclude_unset=True)
    settings = {**base, **{k: v for k, v in options.items() if v is not None}}
    found = estimate(RunConfig.build(settings))
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        _print_estimate(found)


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
        _finish(
            _run(settings, root, _level(quiet, verbose, log_json), as_flow=True),
            as_json=as_json,
        )


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

    settings = _settings(
        config,
        data=data,
        schema_path=None if schema is None else str(schema),
        to=None if to is None else str(to),
        target=target,
        seed=seed,
        device=device,
        warm_start=None if warm_start is None else str(warm_start),
        epsilon=epsilon,
        delta=delta,
        charge_metadata=charge_metadata or None,
        overwrite=overwrite or None,
    )
    with _progress(_level(quiet, verbose, log_json), tensorboard) as listener:
        is_written = train_bundle(settings, progress=listener)
    if is_written:  # of several processes only the first one writes, and says so
        _say("the bundle was trained on real rows: treat it as personal data")
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
    seed: Seed = None,
    device: Device = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Draw rows from a bundle. Only schema and structure can be checked; the manifest says so.

    Example: synthgen sample patients.bundle --rows 500 --to surgery.csv --where "ward='surgery'"

    Example: synthgen sample patients.bundle --given arrivals.csv --copies 5 --to arrivals-full.csv
    """
    from synthgen.pipeline import sample_bundle
    from synthgen.registry import resolve
    from synthgen.rng import fresh_seed
    from synthgen.uri import absolute

    if (rows is None) == (given is None) or (given and where):
        raise ConfigError("give --rows, with any --where, or --given with any --copies")
    manifest = sample_bundle(
        resolve(bundle),
        absolute(to),
        rows=copies if rows is None else rows,
        given=given,
        seed=fresh_seed() if seed is None else seed,
        where=where or (),
        device=device or "auto",
        overwrite=overwrite,
    )
    _say(manifest.privacy)
    typer.echo(manifest.to_json() if as_json else to)


Bundle = Annotated[Path, typer.Option("--bundle", help="Bundle folder.")]


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
    from synthgen.rng import fresh_seed
    from synthgen.uses import impute_file

    cells = impute_file(
        bundle,
        data,
        to.absolute(),
        seed=fresh_seed() if seed is None else seed,
        multiple=multiple,
        device=device or "auto",
        overwrite=overwrite,
    )
    _say(f"{cells:,} cells filled; the file holds real rows: it has passed no gate")
    typer.echo(to)


@app.command()
@verb
def score(
    data: Annotated[str, typer.Argument(help="Table to score: CSV or Parquet.")],
    bundle: Bundle,
    to: Annotated[Path, typer.Option("--to", help="Target: .csv or .parquet.")],
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Say how unusual each row of a table is, and by which columns; the most unusual first.

    Example: synthgen score claims.csv --bundle claims.bundle --to unusual.csv
    """
    from synthgen.uses import score_file

    rows = score_file(bundle, data, to.absolute(), device=device or "auto", overwrite=overwrite)
    _say(f"{rows:,} rows scored, in nats; what is unusual may point at people: keep it private")
    typer.echo(to)


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

    settings = _settings(
        config,
        data=data,
        schema_path=None if schema is None else str(schema),
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
        tell=lambda done: _say(f"trial {done} of {trials} done"),
    )
    if as_json:
        typer.echo(json.dumps({"rows": n_new, "verdict": found and asdict(found)}))
        return
    if found is not None:
        _say(said(found))
    _say(f"{n_new:,} synthetic rows below the real ones; the file has passed no gate")
    typer.echo(settings.to)


# --- earlier runs -------------------------------------------------------------------------------

Run = Annotated[Path, typer.Argument(help="Run folder.")]


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
            _progress(_level(quiet, verbose, log_json)) as listener,
            listening(listener),
        ):
            pipeline.validate(folder, data_docs=data_docs)
        _finish(pipeline.Outcome(folder, folder.decision, None), as_json=as_json)
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
        _say(f"note: {note}")
    _finish(pipeline.Outcome(folder, folder.decision, None), as_json=as_json)


@app.command()
@verb
def export(
    run: Annotated[str, typer.Argument(help="Run folder, or model from one: NAME[@VERSION].")],
    to: To,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write the synthetic table of a run to another target, by the decision that it has.

    Example: synthgen export runs/20260131-120000-ab12 --to synthetic.parquet
    """
    from synthgen import pipeline
    from synthgen.registry import resolve_run
    from synthgen.run_folder import RunFolder

    folder = RunFolder.open(resolve_run(run))
    manifest = pipeline.export_to(folder, to, overwrite=overwrite)
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
        _print_unjudged(RunFolder.open(run), as_json=as_json)
        return
    folder = RunFolder.judged(run)
    if as_json:
        typer.echo(json.dumps(_summary(folder)))
    else:
        _print_run(folder)
        _print_worst(folder)
        _print_protection(folder)


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
        names = [_short(f.root) for f in folders]
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
        _print_comparison(found, every=every)


# --- operation ----------------------------------------------------------------------------------


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
            f"{_place(e.target)}"
        )
    if not entries:
        _say(f"no run folders in {folder}")


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
    limit: Annotated[int, typer.Option("--limit", min=1, help="Runs at once.")] = 1,
) -> None:
    """Run configurations on a schedule or on trigger, until interrupted. Needs a Prefect server.

    Example: synthgen serve nightly.toml --cron "0 2 * * *" --timezone Europe/Berlin
    """
    from flows.deployments import serve as serve_deployments

    serve_deployments(
        configs,
        cron=cron,
        every=every,
        timezone=timezone,
        only_if_drifted=only_if_drifted,
        limit=limit,
        say=_say,
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
    run, code = trigger_deployment(name, parameters, wait=wait, say=_say)
    typer.echo(run)
    raise typer.Exit(code)


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


# --- models -------------------------------------------------------------------------------------

Model = Annotated[str, typer.Argument(help="NAME, or NAME@VERSION.")]


@models_app.command("add")
@verb
def models_add(
    source: Annotated[Path, typer.Argument(help="Bundle folder, or run folder.")],
    name: Annotated[str, typer.Argument(help="Name of the model.")],
) -> None:
    """Copy a bundle into the registry as the next version of a name.

    The first version is what the name means; a later one once it is promoted.

    Example: synthgen models add runs/20260131-120000-ab12 patients
    """
    from synthgen.registry import Registry

    typer.echo(Registry.default().add(source, name))


@models_app.command("list")
@verb
def models_list(as_json: AsJson = False) -> None:
    """List all models; the version that a name means is marked.

    Example: synthgen models list
    """
    from dataclasses import asdict

    from synthgen.registry import Registry

    found = list(Registry.default().versions())
    if as_json:
        typer.echo(json.dumps([{**asdict(v), "promoted": is_meant} for v, is_meant in found]))
        return
    for version, is_meant in found:
        mark = "*" if is_meant else " "
        typer.echo(f"{mark} {version!s:<24} {version.created}  {version.sha256[:12]}")


@models_app.command("show")
@verb
def models_show(model: Model, as_json: AsJson = False) -> None:
    """Show where a model is, what it came from and what it promises; checks its bytes.

    Example: synthgen models show patients@2
    """
    from dataclasses import asdict

    from synthgen.registry import Registry

    version, path = Registry.default().find(model)
    facts = json.loads((path / "bundle.json").read_text(encoding="utf-8")).get("facts", {})
    shown = {**asdict(version), "bundle": str(path), "facts": facts}
    if as_json:
        typer.echo(json.dumps(shown))
        return
    for key, value in shown.items():
        typer.echo(f"{key + ':':<9}{value if isinstance(value, (str, int)) else json.dumps(value)}")


@models_app.command("rm")
@verb
def models_rm(model: Model) -> None:
    """Forget a version, and its bytes; not the one that its name means, unless it is the last.

    Example: synthgen models rm patients@1
    """
    from synthgen.registry import Registry

    typer.echo(Registry.default().remove(model))


@models_app.command("promote")
@verb
def models_promote(model: Model) -> None:
    """Let a name mean this version from now on.

    Example: synthgen models promote patients@2
    """
    from synthgen.registry import Registry

    typer.echo(Registry.default().promote(model))


# --- parts that verbs share ---------------------------------------------------------------------


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _settings(
    config: Path | None,
    *,
    epsilon: float | None = None,
    delta: float | None = None,
    charge_metadata: bool | None = None,
    **options: Any,
) -> RunConfig:
    """Return the file's settings with the options given on the command line on top."""
    from synthgen.config import RunConfig

    base = {} if config is None else RunConfig.load(config).model_dump(exclude_unset=True)
    asked = {"epsilon": epsilon, "delta": delta, "charge_metadata": charge_metadata}
    private = {k: v for k, v in asked.items() if v is not None}
    if private:
        train = base.get("train", {})
        base["train"] = {**train, "dp": {**(train.get("dp") or {}), **private}}
    options["drift"] = {
        **base.get("drift", {}),
        **{k: v for k, v in (options.get("drift") or {}).items() if v is not None},
    }
    settings = RunConfig.build({**base, **{k: v for k, v in options.items() if v is not None}})
    if not settings.data:
        raise ConfigError("no input: give --data, or 'data' in the configuration")
    if not settings.to:
        raise ConfigError("no target: give --to, or 'to' in the configuration")
    return settings


def _say_error(error: SynthgenError, *, as_json: bool) -> None:
    if not as_json:
        _say(f"error: {error}")
        return
    from synthgen.run_folder import now

    told = {"time": now(), "event": "error", "error": type(error).__name__, "text": str(error)}
    _say(json.dumps(told))


def _level(quiet: bool, verbose: bool, log_json: bool) -> Level:
    if quiet + verbose + log_json > 1:
        raise ConfigError("give one of --quiet, --verbose and --log-json")
    return "quiet" if quiet else "verbose" if verbose else "json" if log_json else "normal"


@contextmanager
def _progress(level: Level, tensorboard: Path | None = None) -> Iterator[Listener]:
    from synthgen.progress import progress

    with progress(level=level) as listener:
        if tensorboard is None:
            yield listener
            return
        from synthgen import tensorboard as board

        with board.tensorboard(tensorboard, listener) as both:
            yield both


def _run(
    settings: RunConfig,
    run_dir: Path | None,
    level: Level,
    *,
    as_flow: bool,
    tensorboard: Path | None = None,
) -> Outcome:
    with _progress(level, tensorboard) as listener:
        if as_flow:
            from flows.environment import use_temporary_server

            use_temporary_server()  # before prefect is imported
            from flows.synthesize import run_flow

            return run_flow(settings, run_dir=run_dir, progress=listener)
        from synthgen import pipeline

        return pipeline.run(settings, run_dir=run_dir, progress=listener)


def _finish(outcome: Outcome, *, as_json: bool) -> None:
    """Print how the run ended; a refusal leaves with code 3."""
    if as_json:
        typer.echo(json.dumps(_summary(outcome.folder)))
    else:
        _print_run(outcome.folder)
    if not outcome.decision.passed:
        _say(f"look at it: synthgen show {_short(outcome.folder.root)}")
        raise typer.Exit(GateRefused.exit_code)


def _summary(folder: RunFolder) -> dict[str, Any]:
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


def _print_run(folder: RunFolder) -> None:
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
    typer.echo(f"run:        {_short(folder.root)}")
    typer.echo(f"report:     {_short(folder.html_path)}")
    if folder.manifest_path.exists():
        typer.echo(f"exported:   {_place(folder.config.to)}")
    elif is_run:
        typer.echo(f"quarantine: {_short(folder.synthetic_path)}")


def _print_unjudged(folder: RunFolder, *, as_json: bool) -> None:
    from dataclasses import asdict

    from synthgen.runs import entry

    found = entry(folder)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    typer.echo(f"{found.state}{f' in {found.stage}' if found.stage else ''}; not judged yet")
    typer.echo(f"run:        {_short(folder.root)}")
    for stage, counted in folder.stages.items():
        typer.echo(f"{stage + ':':<11} {counted['seconds']:.1f} s")
    if found.state != "running":
        typer.echo(f"go on:      synthgen resume {_short(folder.root)}")


def _print_worst(folder: RunFolder, n: int = 5) -> None:
    """Print the columns that are furthest beyond what fresh real rows score."""
    columns = [
        (m.value - (m.control or 0.0), m)
        for m in folder.report
        if m.name.startswith(("ks.", "tvd.", "missing.")) and m.value is not None
    ]
    typer.echo("furthest from the real columns (share, and what fresh real rows score):")
    for _, m in sorted(columns, key=lambda pair: -pair[0])[:n]:
        typer.echo(f"  {m.name:<29} {m.value:.4f}  {m.control or 0.0:.4f}")


def _print_comparison(found: Comparison, *, every: bool) -> None:
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
        _say(f"note: {note}")


def _print_protection(folder: RunFolder) -> None:
    """Print what the encoder suppressed, by column; counts below k are not exact."""
    found = folder.protection
    if found is None:
        return
    of = "rows" if found["of"] == "rows" else f"values of '{found['of']}'"
    typer.echo(f"not learnt, because fewer than {found['k']} {of} hold it:")
    for name, counts in found["columns"].items():
        listed = ", ".join(f"{what.replace('_', ' ')} {n}" for what, n in counts.items())
        typer.echo(f"  {name:<29} {listed}")


def _print_plan(settings: RunConfig, run_dir: Path | None, *, as_json: bool) -> None:
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


def _print_estimate(found: Estimate) -> None:
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


def _place(uri: str) -> str:
    """Return a URI as it is, a path short."""
    return uri if "://" in uri else _short(Path(uri))


def _short(path: Path) -> str:
    """Return `path` relative to the working directory if it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
