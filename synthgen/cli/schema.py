"""Verbs on schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from synthgen.cli.app import say, schema_app, verb
from synthgen.cli.options import AsJson, Overwrite
from synthgen.errors import DataError


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
    say(f"{len(schema.columns)} columns{rules} drafted; read the comments, correct what is wrong:")
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
