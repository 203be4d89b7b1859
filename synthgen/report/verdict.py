"""The gate's rules and the measurements in words a data owner understands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from synthgen.checks.check import Measurement, Report
from synthgen.checks.gate import Decision, RuleResult
from synthgen.report import charts
from synthgen.report.text import DASH, number, quantity, share

#: What a reader calls the measures and rules that this package makes; others keep their name.
TITLES = {
    "same_table": "Report and table belong together",
    "enough_rows": "Enough rows to prove anything",
    "schema.input": "Input keeps the schema",
    "schema.output": "Output keeps the schema",
    "marginals": "Each column looks real",
    "pair_tv": "Pairs of columns look real",
    "pair_loss": "Dependences are kept",
    "c2st": "Hard to tell from real rows",
    "tstr": "Prediction, trained on synthetic rows",
    "tstr_ratio": "Predictive power survives",
    "exact_copies": "Exact copies of training rows",
    "unique_copies": "Copies of rows that occur once",
    "near_copies": "Near copies of training rows",
    "isolated_near_copies": "Near copies of lonely rows",
    "repeated_copies": "One person written many times",
    "rare_copies": "Copies of unusual rows",
    "membership_distance": "Guessing who was in training, by distance",
    "membership_learned": "Guessing who was in training, by trees",
    "linkability": "Linking two halves of a person",
    "attribute_inference": "Guessing a sensitive column",
    "singling_out_1": "Singling out by one column",
    "singling_out_4": "Singling out by four columns",
    "small_cells": "People alone in a cell",
    "positive_control": "Planted copies are found",
    "negative_control": "Fresh real rows pass",
    "attempts": "Tables of one model judged",
    "dcr_share": "Distance to training rows",
}


@dataclass(frozen=True)
class RuleRow:
    """One line of the gate's table; `state` is met, failing, silent or waived."""

    name: str
    title: str
    state: str
    sign: str
    word: str
    value: str
    threshold: str
    reason: str


@dataclass(frozen=True)
class MeasureRow:
    """One line of a table of measurements, every number formatted in its unit."""

    name: str
    value: str
    interval: str
    control: str
    n: str
    status: str
    note: str
    chart: Markup


_STATES = {  # state: (order, sign, word)
    "failing": (0, "✕", "refused"),
    "met": (1, "✓", "met"),
    "silent": (2, DASH, "no power"),
    "waived": (3, DASH, "waived"),
}


def _state(rule: RuleResult) -> str:
    if rule.waived:
        return "waived"
    if rule.silent:
        return "silent"
    return "met" if rule.passed else "failing"


def rule_rows(decision: Decision) -> tuple[RuleRow, ...]:
    """Return the gate's rules, the refusing ones first and the waived ones last."""
    ordered = sorted(decision.rules, key=lambda rule: _STATES[_state(rule)][0])
    return tuple(_rule_row(rule) for rule in ordered)


def _rule_row(rule: RuleResult) -> RuleRow:
    state = _state(rule)
    _, sign, word = _STATES[state]
    return RuleRow(
        rule.name,
        title(rule.name),
        state,
        sign,
        word,
        number(rule.value),
        number(rule.threshold),
        rule.reason,
    )


def title(name: str) -> str:
    """Return what a reader calls a measure or rule.

    >>> title("exact_copies"), title("ks.age")
    ('Exact copies of training rows', 'ks.age')
    """
    return TITLES.get(name, name)


def summary(report: Report, decision: Decision) -> Iterable[str]:
    """Say in a few sentences what a data owner has to know."""
    required = [r for r in decision.rules if r.counts]
    failing = [r for r in required if not r.passed]
    waived = [r for r in decision.rules if r.waived]
    if decision.passed:
        yield f"All {len(required)} rules of the gate were measured and met."
    elif not required:
        yield "No rule was measured, and what is not known refuses."
    else:
        named = "; ".join(title(r.name).lower() for r in failing)
        yield f"{len(failing)} of {len(required)} rules are not met: {named}."
        yield "A refused table is not exported; the table below gives the reasons."
    if waived:
        yield f"Waived and so not judged: {'; '.join(title(r.name).lower() for r in waived)}."
    if silent := [r for r in decision.rules if r.silent]:
        named = "; ".join(title(r.name).lower() for r in silent)
        yield f"Attacks that had no power on this table, so prove nothing: {named}."
    told = {m.name: m for m in report if m.status == "measured"}
    if (m := told.get("marginals")) and m.worst is not None:
        yield (
            f"The column that differs most from real data{_worst_column(m)} "
            f"lies at most {max(m.worst, 0.0):.3f} beyond what fresh real rows show by chance, "
            "on a scale from 0 to 1."
        )
    if (m := told.get("c2st")) and m.value is not None:
        yield (
            f"A detector tells its rows from real ones with an "
            f"AUC of {m.value:.2f}; 0.50 is chance."
        )
    if (m := told.get("tstr_ratio")) and m.value is not None:
        yield (
            f"Models trained on it keep {share(min(m.value, 1.0))} of the predictive power."
            if m.value > 0
            else "Models trained on it predict no better than guessing."
        )
    if (m := told.get("exact_copies")) and m.value is not None:
        yield (
            f"It repeats {share(m.value)} of the training rows exactly, and "
            f"{share(m.control)} of fresh real rows that it never saw."
        )


def _worst_column(m: Measurement) -> str:
    name = str(m.details.get("worst", "")).partition(".")[2]
    return f", {name}," if name else ""


def measure_row(key: str, m: Measurement, rules: Mapping[str, RuleResult]) -> MeasureRow:
    """Return one line of a table; `key` makes the ids of its picture unique on the page."""
    interval = DASH
    if m.low is not None and m.high is not None:
        interval = f"{quantity(m.low, m.unit)} to {quantity(m.high, m.unit)}"
    return MeasureRow(
        name=title(m.name),
        value=quantity(m.value, m.unit)
        + ("" if m.unit == "share" or m.value is None else f" {m.unit}"),
        interval=interval,
        control=quantity(m.control, m.unit),
        n=number(m.n),
        status=m.status,
        note=m.note,
        chart=_bar(f"m-{key}", m, rules.get(m.name)),
    )


def _bar(key: str, m: Measurement, rule: RuleResult | None) -> Markup:
    if m.value is None:
        return Markup()
    threshold = None if rule is None else _threshold(m, rule)
    numbers = [v for v in (m.value, m.low, m.high, m.control, threshold) if v is not None]
    scale = (min(0.0, *numbers), max(1e-9, *numbers) * 1.08)
    if m.unit == "AUC":
        scale = (min(0.5, *numbers), 1.0)
    return charts.interval(
        key,
        title(m.name),
        m.value,
        m.low,
        m.high,
        scale=scale,
        unit=m.unit,
        control=m.control,
        threshold=threshold,
    )


def _threshold(m: Measurement, rule: RuleResult) -> float | None:
    """Return the rule's threshold on the measure's own scale, None if it compares another number.

    A rule may compare the bad end of the interval, or its excess over the control. The rules on
    copies compare a p value as well, which no line beside an interval could show.
    """
    if rule.value is None or rule.threshold is None or m.worst is None:
        return None
    if math.isclose(rule.value, m.worst, abs_tol=1e-12):
        return rule.threshold
    if m.control is not None and math.isclose(rule.value, m.worst - m.control, abs_tol=1e-12):
        return rule.threshold + m.control
    return None
