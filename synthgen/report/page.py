"""The report of one run as one HTML page that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from synthgen.checks.check import Report
from synthgen.checks.gate import Decision
from synthgen.report.figures import Figures
from synthgen.report.text import share, visible
from synthgen.report.verdict import title
from synthgen.report.view import build

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def render(
    report: Report,
    decision: Decision,
    figures: Figures,
    *,
    provenance: Mapping[str, Any] = _NOTHING,
) -> str:
    """Return the report as one self-contained HTML page.

    Parameters
    ----------
    report, decision
        What was measured and what the gate made of it.
    figures : Figures
        What may be drawn of the tables and of the training.
    provenance : mapping
        Hashes, versions, seeds, possibly nested: shown as they are.

    Returns
    -------
    str
        UTF-8 text; no script, no link to anywhere else, light and dark.
    """
    return render_template("page.html", page=build(report, decision, figures, provenance))


def render_template(name: str, **shown: Any) -> str:
    """Fill one of the package's templates; it finds the style sheet as ``css``."""
    return _environment().get_template(name).render(css=style(), **shown)


def _shown(value: Any) -> Any:
    """Spell out invisible characters of everything that the template prints, safe markup aside."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {"share": share, "title_of": title}
    return environment


@cache
def style() -> Markup:
    """Return the style sheet."""
    return Markup(_asset("style.css"))


def _asset(name: str) -> str:
    return (files("synthgen.report") / name).read_text(encoding="utf-8")
