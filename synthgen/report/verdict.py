"""The gate's rules and the measurements in words a data owner understands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from synthgen.checks.check import Measurement, Report
from synthgen.checks.gate import PRIVACY_TESTS, Decision, RuleResult
from synthgen.report.charts import Estimate
from synthgen.report.text import DASH, number, quantity, share

#: What a reader calls the measures and rules that this package makes; others keep their name.
TITLES = {
    "same_table": "Report and table belong together",
    "enough_rows": "Enough rows to prove anything",
    "schema.input": "Input keeps the schema",
    "schema.output": "Output keeps the schema",
    "marginals": "Each column looks real",
    "shape_error": "Columns look real on average",
    "wasserstein": "Numbers are where they should be",
    "pair_tv": "Pairs of columns look real",
    "pair_loss": "Dependences are kept",
    "mutual_information": "Columns tell as much about each other",
    "correlation": "Numbers are correlated alike",
    "co_missing": "Values are missing together",
    "dependencies": "Columns that decide others still do",
    "c2st": "Hard to tell from real rows",
    "c2st_linear": "Hard to tell by a linear model",
    "pmse_ratio": "Propensity error over chance",
    "alpha_precision": "Rows lie where real rows lie",
    "beta_recall": "Real rows are covered",
    "authenticity": "Rows are not nearest to training rows",
    "diversity": "Rows are as varied",
    "frechet": "Whole rows, Frechet distance",
    "duplicates": "Rows written more than once",
    "rare_levels": "Rare levels occur",
    "tstr": "Prediction, trained on synthetic rows",
    "tstr_linear": "Prediction by a linear model",
    "tstr_linear_ratio": "Linear predictive power survives",
    "importance": "The same columns matter",
    "ece": "Confidence off by",
    "brier": "Error of probabilities",
    "tstr_ratio": "Predictive power survives",
    "exact_copies": "Exact copies of training rows",
    "unique_copies": "Copies of rows that occur once",
    "near_copies": "Near copies of training rows",
    "isolated_near_copies": "Near copies of lonely rows",
    "isolated_copies": "Copies of lonely rows",
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
    "nndr": "Rows that cling to one training row",
    "membership_distance.tpr_1": "Members found by distance, 1 % false",
    "membership_distance.tpr_01": "Members found by distance, .1 % false",
    "membership_learned.tpr_1": "Members found by trees, 1 % false",
    "membership_learned.tpr_01": "Members found by trees, .1 % false",
    "draw_2": "A second table of the model",
    "draw_3": "A third table of the model",
}
#: The same for measures that are made of each column: ``ks.age``.
MEASURES = {
    "reused": "Real values repeated",
    "ks": "KS distance",
    "tvd": "Total variation",
    "missing": "Missing rate off by",
    "wasserstein": "Wasserstein distance",
    "tail_99": "99 % quantile off by",
    "tail_999": "99.9 % quantile off by",
    "coverage": "Range or levels covered",
    "adherence": "Values within the real range or levels",
    "season_month": "Months, total variation",
    "season_weekday": "Weekdays, total variation",
    "season_hour": "Hours, total variation",
}

#: What a data owner asks, by area; rules on the evidence itself have no area.
QUESTIONS = {
    "privacy": "Is it safe?",
    "fidelity": "Does it look real?",
    "utility": "Is it useful?",
    "schema": "Is it well-formed?",
    "evidence": "Can the verdict be trusted?",
}
_EVIDENCE = ("same_table", "enough_rows", "attempts", "positive_control", "negative_control")
_AREAS = {  # of rules whose measurement is missing
    "schema.output": "schema",
    "marginals": "fidelity",
    "pair_loss": "fidelity",
    "c2st": "fidelity",
    "tstr_ratio": "utility",
    **dict.fromkeys(("dcr_share", "draw_2", "draw_3"), "privacy"),
    **dict.fromkeys(PRIVACY_TESTS, "privacy"),
    **dict.fromkeys(_EVIDENCE, "evidence"),
}

#: state: (order, sign, word)
STATES = {
    "failing": (0, "✕", "refused"),
    "met": (1, "✓", "met"),
    "silent": (2, DASH, "no power"),
    "waived": (3, DASH, "waived"),
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
class Tile:
    """One question of a data owner, its answer at a glance, and the rules behind it."""

    area: str
    question: str
    state: str
    sign: str
    word: str
    headline: str
    said: str
    count: str
    rules: tuple[RuleRow, ...]


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


def title(name: str) -> str:
    """Return what a reader calls a measure or rule.

    >>> title("exact_copies"), title("ks.age"), title("a_new_measure"), title("tail.age")
    ('Exact copies of training rows', 'KS distance: age', 'A new measure', 'Tail: age')
    """
    if name in TITLES:
        return TITLES[name]
    measure, _, rest = name.partition(".")
    said = MEASURES.get(measure) or measure.replace("_", " ")
    return f"{said[:1].upper()}{said[1:]}" + (f": {rest}" if rest else "")


def area_of(name: str, report: Report) -> str:
    """Return the area of a rule: that of its measurement, except for rules on the evidence."""
    m = report.get(name)
    return _AREAS.get(name) or ("evidence" if m is None else m.area)


def tiles(report: Report, decision: Decision) -> tuple[Tile, ...]:
    """Return the questions that some rule answers."""
    grouped: dict[str, list[RuleResult]] = {}
    for rule in decision.rules:
        grouped.setdefault(area_of(rule.name, report), []).append(rule)
    order = [*QUESTIONS, *(area for area in grouped if area not in QUESTIONS)]
    return tuple(_tile(area, grouped[area], report) for area in order if area in grouped)


def _tile(area: str, rules: Sequence[RuleResult], report: Report) -> Tile:
    states = [_state(rule) for rule in rules]
    state = min(states, key=lambda s: STATES[s][0])
    met, asked = states.count("met"), states.count("met") + states.count("failing")
    headline, said = _HEADLINES.get(area, _no_headline)(report)
    rest = [f"{states.count(s)} {STATES[s][2]}" for s in ("silent", "waived") if s in states]
    return Tile(
        area,
        QUESTIONS.get(area, area.capitalize()),
        state,
        STATES[state][1],
        {"met": "Yes", "failing": "No", "silent": "Not known", "waived": "Not asked"}[state],
        headline,
        said,
        ", ".join([f"{met} of {asked} rules met", *rest]),
        tuple(_rule_row(r) for r in sorted(rules, key=lambda rule: STATES[_state(rule)][0])),
    )


def _state(rule: RuleResult) -> str:
    if rule.waived:
        return "waived"
    if rule.silent:
        return "silent"
    return "met" if rule.passed else "failing"


def _rule_row(rule: RuleResult) -> RuleRow:
    state = _state(rule)
    _, sign, word = STATES[state]
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


def reasons(decision: Decision) -> tuple[RuleRow, ...]:
    """Return the rules that refuse."""
    return tuple(map(_rule_row, decision.failing))


def summary(decision: Decision) -> Iterable[str]:
    """Say in a few sentences what the gate made of it."""
    required = [r for r in decision.rules if r.counts]
    failing = [r for r in required if not r.passed]
    if decision.passed:
        yield f"All {len(required)} rules of the gate were measured and met."
    elif not required:
        yield "No rule was measured, and what is not known refuses."
    else:
        are = "is" if len(failing) == 1 else "are"
        yield f"{len(failing)} of {len(required)} rules {are} not met, so it may not leave."
    if waived := [r for r in decision.rules if r.waived]:
        yield f"Waived and so not judged: {_named(waived)}."
    if silent := [r for r in decision.rules if r.silent]:
        yield f"Attacks that had no power on this table, so prove nothing: {_named(silent)}."


def _named(rules: Iterable[RuleResult]) -> str:
    return "; ".join(title(r.name).lower() for r in rules)


def _measured(report: Report, name: str) -> Measurement | None:
    m = report.get(name)
    return m if m is not None and m.status == "measured" and m.value is not None else None


def _safe(report: Report) -> tuple[str, str]:
    m = _measured(report, "exact_copies")
    if m is None:
        return "", "Copies of training rows could not be counted."
    return (
        share(m.value),
        f"of the training rows are repeated exactly. Fresh real rows, which it never saw: "
        f"{share(m.control)}.",
    )


def _real(report: Report) -> tuple[str, str]:
    m = _measured(report, "c2st")
    said = ""
    if m is not None and m.value is not None:
        said = "is how well a detector tells its rows from real ones (AUC); 0.50 is guessing."
    worst = _measured(report, "marginals")
    if worst is not None and worst.worst is not None:
        name = str(worst.details.get("worst", "")).partition(".")[2]
        said += (
            f" The column furthest off{f', {name},' if name else ''} lies "
            f"{max(worst.worst, 0.0):.3f} beyond chance, of 1."
        )
    return ("" if m is None or m.value is None else f"{m.value:.2f}"), said.strip()


def _useful(report: Report) -> tuple[str, str]:
    m = _measured(report, "tstr_ratio")
    if m is None or m.value is None:
        return "", "It needs a column with the role of target in the schema."
    target = m.details.get("target", "the target")
    if m.value <= 0:
        return "0\u00a0%", f"Models trained on it predict '{target}' no better than guessing."
    kept = share(min(m.value, 1.0))
    return kept, f"of the power to predict '{target}' is kept by models trained on it."


def _valid(report: Report) -> tuple[str, str]:
    m = _measured(report, "schema.output")
    if m is None or m.value is None:
        return "", "The rules of the schema could not be checked on the output."
    rules = m.details.get("rules")
    said = "cells of the written file break the schema"
    return number(m.value), said + (f"; {rules} rules were checked." if rules else ".")


def _proven(report: Report) -> tuple[str, str]:
    rows = report.facts.get("rows") or {}
    n = rows.get("holdout")
    if not isinstance(n, int):
        return "", "The rows behind the verdict are not known."
    said = "fresh real rows, which the generator never saw, are the yardstick."
    planted = _measured(report, "positive_control")
    if planted is not None:
        said += f" To test the tests, {planted.n:,} copies were planted."
    return f"{n:,}", said


def _no_headline(report: Report) -> tuple[str, str]:
    return "", ""


_HEADLINES = {
    "privacy": _safe,
    "fidelity": _real,
    "utility": _useful,
    "schema": _valid,
    "evidence": _proven,
}


def measure_row(m: Measurement) -> MeasureRow:
    """Return one line of a table."""
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
    )


def estimate(m: Measurement, rules: Mapping[str, RuleResult]) -> Estimate | None:
    """Return a row of a forest plot; None if there is no number."""
    if m.value is None:
        return None
    rule = rules.get(m.name)
    return Estimate(
        title(m.name),
        m.value,
        m.low,
        m.high,
        m.control,
        None if rule is None else threshold(m, rule),
        is_refused=rule is not None and _state(rule) == "failing",
    )


def threshold(m: Measurement, rule: RuleResult) -> float | None:
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
