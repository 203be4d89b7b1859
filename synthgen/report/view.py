"""From measurements and tables to what the page says: words, formatted numbers and charts.

The template only lays out what is built here; the tables themselves never reach it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from synthgen.checks.check import Evidence, Measurement, Report
from synthgen.checks.gate import Decision
from synthgen.report import charts
from synthgen.report.cells import Cell, K, Picture, picture
from synthgen.report.text import number, quantity, share
from synthgen.report.verdict import MeasureRow, RuleRow, measure_row, rule_rows, summary
from synthgen.schema import Column

#: Columns that a heat map has room for; the calmest are left out.
MAX_HEAT = 40
#: Points of a training curve that are drawn.
MAX_POINTS = 400

_DISTANCES = {
    "ks": "KS distance",
    "tvd": "Total variation",
    "missing": "Missing rate off by",
}


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
    cells: tuple[tuple[str, str, str], ...]


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
    rules: tuple[RuleRow, ...]
    columns: tuple[Card, ...]
    regenerated: tuple[Column, ...]
    column_measures: tuple[MeasureRow, ...]
    areas: dict[str, tuple[MeasureRow, ...]]
    heatmap: Markup
    heat_columns: int
    pairs_left_out: int
    worst_pairs: tuple[tuple[str, str, str, str], ...]
    giveaways: tuple[tuple[str, str], ...]
    training: tuple[tuple[str, Markup], ...]
    training_note: str
    provenance: tuple[Group, ...]
    k: int = K
    shades: tuple[str, ...] = field(
        default=(*(f"up to {end:g}" for end in charts.SHADES), f"above {charts.SHADES[-1]:g}")
    )


def build(
    report: Report,
    decision: Decision,
    evidence: Evidence,
    training: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
) -> Page:
    """Return the page of one judged table."""
    schema = evidence.schema
    areas = _by_section(report, {c.name for c in schema.columns})
    rules = {rule.name: rule for rule in decision.rules}
    rows = {
        section: tuple(measure_row(f"{section}{i}", m, rules) for i, m in enumerate(found))
        for section, found in areas.items()
    }
    heatmap, heat_columns, left_out = _heatmap(_pairs(report), schema.names)
    curves, note = _training(training)
    return Page(
        name=schema.name,
        passed=decision.passed,
        sizes=(
            f"{len(evidence.synthetic):,} synthetic rows, judged against {len(evidence.train):,} "
            f"training rows and {len(evidence.holdout):,} fresh real rows; "
            f"{len(schema.columns):,} columns"
        ),
        summary=tuple(summary(report, decision)),
        rules=rule_rows(decision),
        columns=tuple(_card(f"c{i}", c, report, evidence) for i, c in enumerate(schema.modelled)),
        regenerated=tuple(c for c in schema.columns if not c.is_modelled),
        column_measures=rows.pop("columns"),
        areas=rows,
        heatmap=heatmap,
        heat_columns=heat_columns,
        pairs_left_out=left_out,
        worst_pairs=_worst_pairs(_pairs(report)),
        giveaways=_giveaways(report),
        training=curves,
        training_note=note,
        provenance=tuple(_provenance(report, decision, provenance)),
    )


def _by_section(report: Report, columns: set[str]) -> dict[str, list[Measurement]]:
    """Sort measurements into the page's tables; whatever is unknown stays in its area."""
    sections: dict[str, list[Measurement]] = {
        name: []
        for name in ("columns", "pairs", "detection", "fidelity", "utility", "privacy", "schema")
    }
    for m in report:
        measure, _, rest = m.name.partition(".")
        if m.area == "fidelity" and rest in columns:
            sections["columns"].append(m)
        elif m.area == "fidelity" and measure.startswith("pair"):
            sections["pairs"].append(m)
        elif m.area == "fidelity" and measure.startswith("c2st"):
            sections["detection"].append(m)
        else:
            sections[m.area].append(m)
    return sections


def _card(key: str, column: Column, report: Report, evidence: Evidence) -> Card:
    real, synthetic = evidence.holdout[column.name], evidence.synthetic[column.name]
    seen = picture(column.kind, real, synthetic, whole=column.decimals == 0)
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
        distances=tuple(_distance(m) for m in measured),
        cells=tuple((c.label, share(c.real), share(c.synthetic)) for c in seen.cells),
    )


def _distance(m: Measurement) -> str:
    measure = m.name.partition(".")[0]
    said = f"{_DISTANCES.get(measure, measure)} {quantity(m.value, m.unit)}"
    control = "" if m.control is None else f", fresh real rows {quantity(m.control, m.unit)}"
    return said + control


def _draw(key: str, column: Column, seen: Picture) -> Markup:
    if not seen.cells:
        return Markup()
    chart = charts.histogram if seen.is_ordered else charts.bars
    return chart(f"{key}-chart", seen, f"{column.name}: real and synthetic shares")


def _missing(seen: Picture) -> str:
    if seen.missing_real is None:
        return (
            f"Missing: fewer than {K} real rows differ from the others, "
            f"synthetic {share(seen.missing_synthetic)}."
        )
    if not seen.missing_real and not seen.missing_synthetic:
        return ""
    return f"Missing: real {share(seen.missing_real)}, synthetic {share(seen.missing_synthetic)}."


#: One pair: first and second column, distance, what fresh real rows score.
Pair = tuple[str, str, float, float]


def _pairs(report: Report) -> list[Pair]:
    m = report.get("pair_tv")
    if m is None:
        return []
    return [
        (p["columns"][0], p["columns"][1], p["value"], p["control"])
        for p in m.details.get("pairs", ())
    ]


def _heatmap(pairs: list[Pair], names: list[str]) -> tuple[Markup, int, int]:
    """Return the heat map, how many columns it has, and how many found no room."""
    totals = {name: [p[2] for p in pairs if name in p[:2]] for name in names}
    paired = [name for name in names if totals[name]]
    if not paired:
        return Markup(), 0, 0
    kept = sorted(paired, key=lambda n: -sum(totals[n]) / len(totals[n]))[:MAX_HEAT]
    shown = [name for name in paired if name in kept]
    distances = {(a, b): value for a, b, value, _ in pairs if a in kept and b in kept}
    drawn = charts.heatmap("heat", shown, distances, "Distance of each pair of columns")
    return drawn, len(shown), len(paired) - len(shown)


def _worst_pairs(pairs: list[Pair]) -> tuple[tuple[str, str, str, str], ...]:
    worst = sorted(pairs, key=lambda p: p[3] - p[2])[:5]
    return tuple((f"{a} with {b}", number(v), number(c), number(v - c)) for a, b, v, c in worst)


def _giveaways(report: Report) -> tuple[tuple[str, str], ...]:
    m = report.get("c2st")
    found = [] if m is None else m.details.get("columns", ())
    return tuple((entry["column"], f"{entry['auc_loss']:.3f}") for entry in found)


def _training(log: Sequence[Mapping[str, Any]]) -> tuple[tuple[tuple[str, Markup], ...], str]:
    """Draw each loss in the log: a chart a phase, the adversarial losses on a scale of their own.

    Returns titles with charts, and a sentence on the time that training took.
    """
    lines: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for i, record in enumerate(log):
        step = _finite(record.get("step"))
        for key, value in record.items():
            if "loss" in key and (y := _finite(value)) is not None:
                chart = lines.setdefault(_chart_of(str(record.get("phase", "")), key), {})
                chart.setdefault(key, []).append((float(i) if step is None else step, y))
    drawn: list[tuple[str, Markup]] = []
    for name, curves in lines.items():
        shown = [
            charts.Line(key.replace("_", " "), _thin(sorted(points)))
            for key, points in curves.items()
            if len(points) > 1
        ]
        if shown:
            drawn.append((name, charts.curves(f"curve{len(drawn)}", shown, name, "steps")))
    seconds = [s for record in log if (s := _finite(record.get("seconds"))) is not None]
    note = f"The last logged step came after {max(seconds):,.0f} seconds." if seconds else ""
    return tuple(drawn), note


def _chart_of(phase: str, key: str) -> str:
    adversarial = any(word in key for word in ("critic", "generator", "adversarial"))
    name = "adversarial losses" if adversarial else "loss"
    return f"{phase.capitalize()} phase: {name}" if phase else name.capitalize()


def _finite(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _thin(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Keep at most about `MAX_POINTS`, evenly, the last one always."""
    stride = -(-len(points) // MAX_POINTS)
    return (*points[:-1:stride], points[-1])


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
