"""Several judged tables side by side: who is best where, and where nobody can tell.

A difference within the intervals is a tie, and what has no interval is not ranked. What is ranked
is the distance beyond fresh real rows: a table that is as close as these cannot be beaten.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from markupsafe import Markup

from synthgen.checks.check import Measurement, Report
from synthgen.checks.gate import Decision
from synthgen.report import charts
from synthgen.report.page import render_template
from synthgen.report.text import DASH, quantity
from synthgen.report.verdict import QUESTIONS, title

#: mark: (sign, what it means)
MARKS = {
    "best": ("*", "best: the others lie beyond its interval"),
    "tie": ("=", "among the best: the intervals overlap"),
    "behind": ("", "behind the best"),
    "unranked": ("?", "not ranked: no interval, or not measured"),
}


@dataclass(frozen=True)
class Side:
    """One judged table.

    Attributes
    ----------
    name : str
        Of its folder; unique among those compared.
    report, decision
        As they were stored.
    yardstick : str or None
        Digest of the fresh real rows that it was judged by, if known.
    """

    name: str
    report: Report
    decision: Decision
    yardstick: str | None = None


@dataclass(frozen=True)
class Entry:
    """What one table scored on one measure."""

    side: str
    value: float | None
    low: float | None
    high: float | None
    control: float | None
    status: str
    mark: str

    def written(self, unit: str) -> str:
        """Return the value with its mark."""
        sign = MARKS[self.mark][0]
        return f"{DASH if self.value is None else quantity(self.value, unit)} {sign}".rstrip()


@dataclass(frozen=True)
class Row:
    """One measure of all tables."""

    name: str
    area: str
    unit: str
    better: str
    entries: tuple[Entry, ...]

    @property
    def title(self) -> str:
        """What a reader calls it."""
        return title(self.name)

    @property
    def is_whole(self) -> bool:
        """Whether it is about the table rather than one of its columns."""
        return "." not in self.name or (self.area == "schema" and self.name.count(".") == 1)


@dataclass(frozen=True)
class Comparison:
    """All measures that two tables or more have, in the order of the first."""

    sides: tuple[Side, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def areas(self, *, every: bool = False) -> Iterator[tuple[str, list[Row]]]:
        """Yield the questions of a data owner and the rows that answer them.

        Measures of single columns are left out, unless `every` asks for them.
        """
        shown = [row for row in self.rows if every or row.is_whole]
        for area in dict.fromkeys([*QUESTIONS, *(row.area for row in shown)]):
            if rows := [row for row in shown if row.area == area]:
                yield QUESTIONS.get(area, area), rows

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and texts."""
        return {
            "tables": [
                {
                    "name": side.name,
                    "passed": side.decision.passed,
                    "refused_by": [rule.name for rule in side.decision.failing],
                    "rows": side.report.facts.get("rows"),
                }
                for side in self.sides
            ],
            "measurements": [asdict(row) for row in self.rows],
            "notes": list(self.notes),
        }

    def to_html(self) -> str:
        """Return one self-contained page."""
        plots = {row.name: plot for i, row in enumerate(self.rows) if (plot := _plot(i, row))}
        return render_template("compare.html", comparison=self, marks=MARKS, plots=plots)


def compare(sides: Sequence[Side]) -> Comparison:
    """Compare two judged tables or more.

    >>> from synthgen.checks.check import Measurement
    >>> def side(name, value):
    ...     m = Measurement("c2st", "fidelity", value, value - 0.02, value + 0.02, control=0.5)
    ...     return Side(name, Report((m,)), Decision(False, (), ""))
    >>> found = compare([side("a", 0.55), side("b", 0.58), side("c", 0.7)])
    >>> [(entry.side, entry.mark) for entry in found.rows[0].entries]
    [('a', 'tie'), ('b', 'tie'), ('c', 'behind')]
    """
    names = dict.fromkeys(m.name for side in sides for m in side.report)
    rows = []
    for name in names:
        found = [side.report.get(name) for side in sides]
        known = [m for m in found if m is not None]
        if len(known) > 1:
            rows.append(_row(name, known[0], sides, found))
    return Comparison(tuple(sides), tuple(rows), tuple(_notes(sides)))


def _row(
    name: str, first: Measurement, sides: Sequence[Side], found: Sequence[Measurement | None]
) -> Row:
    entries = tuple(
        Entry(
            side.name,
            None if m is None else m.value,
            None if m is None else m.low,
            None if m is None else m.high,
            None if m is None else m.control,
            "missing" if m is None else m.status,
            mark,
        )
        for side, m, mark in zip(sides, found, _marks(found), strict=True)
    )
    return Row(name, first.area, first.unit, first.better, entries)


def _marks(found: Sequence[Measurement | None]) -> list[str]:
    """Return the mark of each; a tie needs intervals that overlap, and so does its absence."""
    spans = [_beyond(m) for m in found]
    ranked = [span for span in spans if span is not None]
    if len(ranked) < 2:
        return ["unranked"] * len(found)
    # The best is the one whose bad end is best: everything that reaches below it ties.
    bar = min(high for _, high in ranked)
    among = [span is not None and span[0] <= bar for span in spans]
    best = "best" if sum(among) == 1 else "tie"
    return [
        "unranked" if span is None else best if is_among else "behind"
        for span, is_among in zip(spans, among, strict=True)
    ]


def _beyond(m: Measurement | None) -> tuple[float, float] | None:
    """Return the interval of how far `m` is worse than fresh real rows, at least 0."""
    if m is None or m.status != "measured" or m.low is None or m.high is None:
        return None
    floor = m.control
    if m.better == "low":
        low, high = m.low, m.high
    else:
        low, high, floor = -m.high, -m.low, None if floor is None else -floor
    return (low, high) if floor is None else (max(low - floor, 0.0), max(high - floor, 0.0))


def _notes(sides: Sequence[Side]) -> Iterator[str]:
    if len({side.yardstick for side in sides}) > 1 or None in {side.yardstick for side in sides}:
        yield (
            "not known to be judged by the same fresh real rows: a part of each difference may be "
            "due to the rows"
        )
    if len({side.report.facts.get("schema") for side in sides}) > 1:
        yield "the schemas differ: only measures of the same name stand side by side"
    if len({str(side.report.facts.get("rows")) for side in sides}) > 1:
        yield "the tables differ in rows: intervals are wider where there are fewer"


def _plot(i: int, row: Row) -> Markup | None:
    """Draw the tables below each other, if the measure is about the whole and has intervals."""
    estimates = [
        charts.Estimate(e.side, e.value, e.low, e.high, e.control)
        for e in row.entries
        if e.value is not None
    ]
    if not row.is_whole or len(estimates) < 2 or all(e.low is None for e in estimates):
        return None
    return charts.forest(f"r{i}", estimates, row.title, unit=row.unit)
