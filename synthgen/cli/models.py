"""Verbs on the registry of bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from synthgen.cli.app import models_app, verb
from synthgen.cli.options import AsJson, Model


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
