"""From measurements and figures to what the page says: words, formatted numbers and charts.

The template only lays out what is built here; the tables themselves never reach it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from synthgen.checks.check import Measurement, Report
from synthgen.checks.gate import PRIVACY_TESTS, Decision, RuleResult, holm
from synthgen.report import charts
from synthgen.report.cells import Cell, Joint, K, Picture
from synthgen.report.charts import Estimate
from synthgen.report.figures import Figures, Pair
from synthgen.report.text import DASH, number, quantity, share
from synthgen.report.verdict import (
    MeasureRow,
    RuleRow,
    Tile,
    estimate,
    measure_row,
    reasons,
    summary,
    tiles,
    title,
)
from synthgen.schema import Column

#: Columns that a heat map has room for; the calmest are left out.
MAX_HEAT = 40
#: Rows of the forest plot of columns.
MAX_FOREST = 12
#: What a share or an AUC scores by chance, where that is its control.
HALF = 0.5

#: The page's sections that show measurements.
_SECTIONS = ("columns", "rows", "pairs", "detection", "utility", "privacy", "schema", "other")
#: Where measures of fidelity are shown, by how their name begins; others under "Rows".
_HOMES = {
    "pairs": ("pair", "corr", "mutual", "assoc", "depend", "functional", "co_missing", "relation"),
    "detection": ("c2st", "detect", "propensity", "pmse"),
}
_UNITS = {
    "share": "As shares",
    "AUC": "As AUC: 0.5 is guessing, 1 is certainty",
    "ratio": "As ratios",
    "R2": "As R²",
    "distance": "As distances",
    "excess": "Beyond fresh real rows",
    "risk": "As risk beyond fresh real rows",
}
#: Measures of a column that stand below its picture; the others wait with its numbers.
_TOLD = ("ks.", "tvd.", "missing.")
#: Units whose numbers have no axis in common with each other.
_COUNTED = ("rows", "cells", "violations", "p")


@dataclass(frozen=True)
class Card:
    """One column: its picture, the same in numbers, and what was measured."""

    key: str
    name: str
    kind: str
    chart: Markup
    note: str
    missing: str
    spike: Cell | None
    distances: tuple[str, ...]
    measured: tuple[tuple[str, ...], ...]
    cells: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Plot:
    """A chart with a caption; `wide` ones scroll where there is no room."""

    caption: str
    chart: Markup


@dataclass(frozen=True)
class Crossed:
    """One of the worst pairs, cell by cell."""

    name: str
    said: str
    charts: tuple[Plot, ...]
    cells: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Area:
    """The measurements of one section: forest plots, and all numbers."""

    plots: tuple[Plot, ...] = ()
    rows: tuple[MeasureRow, ...] = ()


@dataclass(frozen=True)
class Group:
    """A titled list of names and values."""

    title: str
    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Page:
    """Everything that the template shows, in its order."""

    name: str
    passed: bool
    sizes: str
    summary: tuple[str, ...]
    reasons: tuple[RuleRow, ...]
    tiles: tuple[Tile, ...]
    columns: tuple[Card, ...]
    regenerated: tuple[Column, ...]
    areas: dict[str, Area]
    heat: tuple[Plot, ...]
    heat_columns: int
    pairs_left_out: int
    crossed: tuple[Crossed, ...]
    pairs: tuple[tuple[str, ...], ...]
    giveaways: tuple[tuple[str, str], ...]
    training: tuple[Plot, ...]
    training_facts: tuple[tuple[str, str], ...]
    training_notes: tuple[str, ...]
    protection: tuple[tuple[str, str], ...]
    provenance: tuple[Group, ...]
    is_beyond_epsilon: bool
    k: int = K


def build(
    report: Report, decision: Decision, figures: Figures, provenance: Mapping[str, Any]
) -> Page:
    """Return the page of one judged table."""
    schema = figures.schema
    heat, heat_columns, left_out = _heat(figures.pairs, schema.names)
    notes = provenance.get("training_notes") or ()
    return Page(
        name=schema.name,
        passed=decision.passed,
        sizes=_sizes(report, figures),
        summary=tuple(summary(decision)),
        is_beyond_epsilon=bool(provenance.get("dp")),
        reasons=reasons(decision),
        tiles=tiles(report, decision),
        columns=tuple(
            _card(f"c{i}", c, report, figures.columns[c.name])
            for i, c in enumerate(schema.modelled)
        ),
        regenerated=tuple(c for c in schema.columns if not c.is_modelled),
        areas=_areas(report, decision, {c.name for c in schema.columns}),
        heat=heat,
        heat_columns=heat_columns,
        pairs_left_out=left_out,
        crossed=tuple(
            _crossed(f"x{i}", pair, figures.joints[pair.first, pair.second])
            for i, pair in enumerate(figures.pairs)
            if (pair.first, pair.second) in figures.joints
        ),
        pairs=tuple(_pair_row(pair) for pair in figures.pairs),
        giveaways=_giveaways(report),
        training=tuple(
            Plot(name, charts.curves(f"curve{i}", lines, name, "steps"))
            for i, (name, lines) in enumerate(figures.curves.items())
        ),
        training_facts=tuple(_training_facts(figures, provenance)),
        training_notes=tuple(str(note) for note in notes),
        protection=tuple(_protection(report, figures, provenance)),
        provenance=tuple(_provenance(report, decision, provenance)),
    )


def _sizes(report: Report, figures: Figures) -> str:
    rows = report.facts.get("rows") or {}
    n = {key: number(rows.get(key)) for key in ("synthetic", "train", "holdout")}
    return (
        f"{n['synthetic']} synthetic rows, judged against {n['train']} training rows and "
        f"{n['holdout']} fresh real rows; {len(figures.schema.columns):,} columns"
    )


# --- measurements --------------------------------------------------------------------------------


def _areas(report: Report, decision: Decision, columns: set[str]) -> dict[str, Area]:
    """Sort measurements into the page's sections; an unknown area has one as well."""
    sections: dict[str, list[Measurement]] = {name: [] for name in _SECTIONS}
    for m in report:
        sections[_section(m, columns, sections)].append(m)
    rules = {rule.name: rule for rule in decision.rules}
    areas = {
        name: Area(
            tuple(_forests(f"f-{name}", found, rules)),
            tuple(measure_row(m) for m in found),
        )
        for name, found in sections.items()
    }
    if chance := _chance(sections["privacy"], decision):
        area = areas["privacy"]
        areas["privacy"] = Area((*area.plots, chance), area.rows)
    return areas


def _section(m: Measurement, columns: set[str], known: Mapping[str, Any]) -> str:
    if m.area != "fidelity":
        return m.area if m.area in known else "other"
    homes = (home for home, begins in _HOMES.items() if m.name.startswith(begins))
    if home := next(homes, None):
        return home
    return "columns" if m.name.partition(".")[2] in columns or m.name == "marginals" else "rows"


def _forests(
    key: str, found: Iterable[Measurement], rules: Mapping[str, RuleResult]
) -> Iterator[Plot]:
    """Draw one forest plot a unit and direction; of many rows those furthest beyond their control.

    Counts and p values have no axis in common. What chance puts at one half has its own plot.
    """
    by_axis: dict[tuple[str, str, bool], list[tuple[Measurement, Estimate]]] = {}
    for m in found:
        row = estimate(m, rules)
        if row is not None and m.unit not in _COUNTED:
            by_axis.setdefault((m.unit, m.better, m.control == HALF), []).append((m, row))
    for i, ((unit, better, is_half), rows) in enumerate(by_axis.items()):
        shown = [row for _, row in rows]
        caption = f"{_UNITS.get(unit, f'In {unit}')}; {better} is better"
        if is_half and unit == "share":
            caption += ", one half is chance"
        if len(shown) > MAX_FOREST:
            worst = sorted(rows, key=lambda pair: -_beyond(pair[0]))[:MAX_FOREST]
            shown = [row for _, row in worst]
            caption += f"; the {MAX_FOREST} furthest beyond fresh real rows"
        start = HALF if is_half or unit == "AUC" else None if better == "high" else 0.0
        yield Plot(caption, charts.forest(f"{key}-{i}", shown, caption, unit=unit, start=start))


def _beyond(m: Measurement) -> float:
    value, control = m.value or 0.0, m.control or 0.0
    return value - control if m.better == "low" else control - value


def _chance(found: Iterable[Measurement], decision: Decision) -> Plot | None:
    """Draw how likely each finding would be by chance alone, adjusted as the gate does it."""
    p = {
        m.name: float(m.details["p"])
        for m in found
        if m.name in PRIVACY_TESTS and isinstance(m.details.get("p"), int | float)
    }
    p = {name: value for name, value in p.items() if math.isfinite(value)}
    if not p:
        return None
    level = decision.policy.get("copy_p")
    level = float(level) if isinstance(level, int | float) else None
    rows = [
        Estimate(
            title(name), value, threshold=level, is_refused=level is not None and value < level
        )
        for name, value in sorted(holm(p).items(), key=lambda item: item[1])
    ]
    caption = "As chance: p of what was found if nothing leaked, adjusted for the number of tests"
    return Plot(caption, charts.forest("f-chance", rows, caption, log=True))


# --- columns and pairs ---------------------------------------------------------------------------


def _card(key: str, column: Column, report: Report, seen: Picture) -> Card:
    measured = [
        m for m in report if m.area == "fidelity" and m.name.partition(".")[2] == column.name
    ]
    return Card(
        key=key,
        name=column.name,
        kind=column.kind + (", target" if column.role == "target" else ""),
        chart=_draw(key, column, seen),
        note=seen.note,
        missing=_missing(seen),
        spike=seen.spike,
        distances=tuple(_distance(m) for m in measured if m.name.startswith(_TOLD)),
        measured=tuple(
            (_measure(m), quantity(m.value, m.unit), quantity(m.control, m.unit)) for m in measured
        ),
        cells=tuple((c.label, *map(share, c.shares)) for c in seen.cells),
    )


def _distance(m: Measurement) -> str:
    control = "" if m.control is None else f", fresh real rows {quantity(m.control, m.unit)}"
    return f"{_measure(m)} {quantity(m.value, m.unit)}{control}"


def _measure(m: Measurement) -> str:
    return title(f"{m.name.partition('.')[0]}.").removesuffix(": ")


def _draw(key: str, column: Column, seen: Picture) -> Markup:
    if not seen.cells:
        return Markup()
    chart = charts.histogram if seen.is_ordered else charts.bars
    return chart(f"{key}-chart", seen, f"{column.name}: train, holdout and synthetic shares")


def _missing(seen: Picture) -> str:
    if seen.missing is None:
        return f"Missing: fewer than {K} real rows differ from the others."
    if not any(seen.missing.shares):
        return ""
    train, holdout, synthetic = map(share, seen.missing.shares)
    return f"Missing: train {train}, holdout {holdout}, synthetic {synthetic}."


def _heat(pairs: tuple[Pair, ...], names: list[str]) -> tuple[tuple[Plot, ...], int, int]:
    """Return the heat maps, how many columns they have, and how many found no room."""
    paired = [n for n in names if any(n in (p.first, p.second) for p in pairs)]
    if not paired:
        return (), 0, 0

    def mean(name: str) -> float:
        found = [p.excess for p in pairs if name in (p.first, p.second)]
        return sum(found) / len(found)

    kept = set(sorted(paired, key=mean, reverse=True)[:MAX_HEAT])
    shown = [name for name in paired if name in kept]
    drawn = [p for p in pairs if {p.first, p.second} <= kept]
    real = {(p.first, p.second): p.real for p in drawn if p.real is not None}
    new = {(p.first, p.second): p.synthetic for p in drawn if p.synthetic is not None}
    change = {pair: new[pair] - real[pair] for pair in new if pair in real}
    plots = [
        Plot(caption, charts.triangle(f"heat-{key}", shown, values, caption, css))
        for key, caption, values, css in (
            ("real", "Dependence in real rows", real, charts.strength_class),
            ("synthetic", "Dependence in synthetic rows", new, charts.strength_class),
            ("change", "Difference: synthetic less real", change, charts.change_class),
        )
        if values
    ]
    return tuple(plots), len(shown), len(paired) - len(shown)


def _crossed(key: str, pair: Pair, seen: Joint) -> Crossed:
    name = f"{pair.first} with {pair.second}"
    captions = ("Real", "Synthetic", "Difference")
    drawn = charts.crossed(key, seen, name)
    cells = tuple(
        (f"{row}, {column}", DASH if real is None else share(real), share(new))
        for row, reals, news in zip(seen.rows, seen.real, seen.synthetic, strict=True)
        for column, real, new in zip(seen.columns, reals, news, strict=True)
    )
    said = f"distance {number(pair.distance)}, fresh real rows {number(pair.control)}"
    return Crossed(name, said, tuple(map(Plot, captions, drawn)), cells)


def _pair_row(pair: Pair) -> tuple[str, ...]:
    numbers = (pair.distance, pair.control, pair.excess, pair.real, pair.synthetic)
    return (f"{pair.first} with {pair.second}", *(number(v) for v in numbers))


def _giveaways(report: Report) -> tuple[tuple[str, str], ...]:
    m = report.get("c2st")
    found = [] if m is None else m.details.get("columns", ())
    return tuple((entry["column"], f"{entry['auc_loss']:.3f}") for entry in found)


# --- how it was made -----------------------------------------------------------------------------


def _training_facts(figures: Figures, provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    lines = [line for chart in figures.curves.values() for line in chart]
    if lines:
        yield "Steps", number(max(line.points[-1][0] for line in lines))
    if figures.seconds is not None:
        yield "Time", f"{figures.seconds:,.0f} s"
    if device := provenance.get("device"):
        yield "Device", str(device)
    for line in lines:
        if line.name == "held-out loss":
            step, best = min(line.points, key=lambda point: point[1])
            yield "Best held-out loss", f"{best:.3f} at step {number(step)}"


def _protection(
    report: Report, figures: Figures, provenance: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Say what kept real people out of the table and of this page, or that nothing did."""
    schema, made = figures.schema, provenance.get("config") or {}
    written_anew = [c.name for c in schema.columns if c.is_regenerated]
    if provenance.get("outside"):
        yield (
            "A table of another tool",
            "How it was made, and what protects it, is not known here: only the result was judged.",
        )
        for i, note in enumerate(provenance.get("notes") or ()):
            yield f"Note {i + 1}", str(note)
    elif written_anew:
        yield (
            "Ids and personal data",
            f"{len(written_anew)} columns are never learnt and written anew: "
            f"{', '.join(written_anew)}.",
        )
    else:
        yield "Ids and personal data", "The schema declares no id and no personal data."
    least = (made.get("encode") or {}).get("min_rows")
    if least is not None:
        yield (
            "Rare values",
            f"A level or an exact number is learnt only if at least {least} training rows share "
            "it; rarer ones are drawn as one group.",
        )
    dp = provenance.get("dp")
    if dp:
        yield (
            "Differential privacy",
            f"epsilon {number(dp.get('epsilon'))}, delta {dp.get('delta'):g}, of "
            f"{dp.get('unit', 'one row')}. It covers {dp.get('covers', 'bundle and samples')}.",
        )
        yield (
            "This report",
            "is not covered by epsilon: it is made from the real rows. Keep it with them.",
        )
    elif provenance and not provenance.get("outside"):
        yield (
            "Differential privacy",
            "None: no formal guarantee. What stands here are tests, which can find a leak and "
            "cannot prove that there is none.",
        )
    if started := provenance.get("warm_start"):
        yield (
            "Earlier tables",
            f"Training went on from {len(started)} earlier synthesizers, so the table tells of "
            "their tables too.",
        )
    for name, value in _flat(provenance.get("protection") or {}).items():
        yield name.replace("_", " ").replace(".", ": ").capitalize(), value
    yield (
        "Plots",
        f"Nothing that fewer than {K} real rows share is drawn or written on this page: rare "
        "levels are merged, edges are rounded, the outermost bins are open, and cells of two "
        f"columns are rounded to multiples of {K} rows.",
    )


def _provenance(
    report: Report, decision: Decision, provenance: Mapping[str, Any]
) -> Iterable[Group]:
    facts = {"table": decision.fingerprint, **_flat(report.facts)}
    for name, entries in (
        ("What was judged", facts),
        ("How it was made", _flat(provenance)),
        ("Thresholds of the gate", _flat(decision.policy)),
    ):
        if entries:
            yield Group(name, tuple(entries.items()))


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested facts as one level of dotted names and written values."""
    flat: dict[str, str] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value is None:
            flat[f"{prefix}{name}"] = "none"
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
