"""What the report draws, as numbers: columns, crossed pairs, training curves; no row, no markup.

The page turns it into pictures and `document` into JSON, so that both hold the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from synthgen.checks.check import Evidence, Report
from synthgen.checks.gate import Decision
from synthgen.report.cells import Joint, Picture, Three, axis, joint, picture
from synthgen.report.charts import Line
from synthgen.schema import Column, TableSchema

#: Points of a training curve that are drawn.
MAX_POINTS = 400
#: Pairs of columns that are shown cell by cell: those furthest beyond their control.
WORST_PAIRS = 5

_CURVES = {
    "loss": "training loss",
    "holdout_loss": "held-out loss",
    "critic_loss": "critic",
    "generator_loss": "generator",
}


@dataclass(frozen=True)
class Pair:
    """Two columns: how far their joint distribution is off, and how much they tell of each other.

    Attributes
    ----------
    distance, control : float
        Total variation to the train rows, of synthetic rows and of fresh real ones; in [0, 1].
    real, synthetic : float or None
        Strength of the dependence (Cramer's V) in the train and in the synthetic rows; in [0, 1].
    """

    first: str
    second: str
    distance: float
    control: float
    real: float | None = None
    synthetic: float | None = None

    @property
    def excess(self) -> float:
        """How much further off than fresh real rows."""
        return self.distance - self.control


@dataclass(frozen=True)
class Figures:
    """Everything that is drawn of one judged table.

    Attributes
    ----------
    schema : TableSchema
    columns : dict of str to Picture
        Of every modelled column.
    pairs : tuple of Pair
        The worst first.
    joints : dict of tuple to Joint
        Of the `WORST_PAIRS` first pairs.
    curves : dict of str to tuple of Line
        Losses, by chart.
    seconds : float or None
        Of training, as logged.
    """

    schema: TableSchema
    columns: dict[str, Picture]
    pairs: tuple[Pair, ...]
    joints: dict[tuple[str, str], Joint]
    curves: dict[str, tuple[Line, ...]]
    seconds: float | None = None

    @classmethod
    def of(
        cls, report: Report, evidence: Evidence, training: Sequence[Mapping[str, Any]] = ()
    ) -> Figures:
        """Return what may be drawn of `evidence`.

        Parameters
        ----------
        report : Report
            Its pairs, if measured, say which ones are worst.
        evidence : Evidence
        training : sequence of mappings
            Records of the training log: ``phase``, ``step``, ``seconds`` and any key with ``loss``
            in it; each loss that has two finite values in a phase is drawn.
        """
        schema = evidence.schema
        pairs = tuple(sorted(_pairs(report), key=lambda pair: -pair.excess))
        seconds = [s for record in training if (s := _finite(record.get("seconds"))) is not None]
        return cls(
            schema,
            {
                c.name: picture(c.kind, _three(evidence, c), whole=c.decimals == 0)
                for c in schema.modelled
            },
            pairs,
            _joints(pairs[:WORST_PAIRS], evidence),
            _curves(training),
            max(seconds, default=None),
        )


def document(
    report: Report, decision: Decision, figures: Figures, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the page shows as one JSON object; `Report.from_json` reads its measurements.

    The time and the name of the run are left out, so that judging again gives the same bytes.
    """
    made = {k: v for k, v in provenance.items() if k not in ("created", "run")}
    return {
        "passed": decision.passed,
        "facts": report.facts,
        "rules": [asdict(rule) for rule in decision.rules],
        "measurements": [asdict(m) for m in report],
        "columns": {name: asdict(seen) for name, seen in figures.columns.items()},
        "pairs": [asdict(pair) for pair in figures.pairs],
        "crossed": [
            {"columns": list(names), **asdict(seen)} for names, seen in figures.joints.items()
        ],
        "training": {
            "seconds": figures.seconds,
            "curves": {
                name: {line.name: [list(point) for point in line.points] for line in lines}
                for name, lines in figures.curves.items()
            },
        },
        "provenance": made,
    }


def _three(evidence: Evidence, column: Column) -> Three[pd.Series]:
    return Three(*(f[column.name] for f in (evidence.train, evidence.holdout, evidence.synthetic)))


def _pairs(report: Report) -> list[Pair]:
    m = report.get("pair_tv")
    found = [] if m is None else m.details.get("pairs", ())
    return [
        Pair(
            p["columns"][0],
            p["columns"][1],
            p["value"],
            p["control"],
            p.get("strength"),
            p.get("strength_synthetic"),
        )
        for p in found
    ]


def _joints(pairs: Sequence[Pair], evidence: Evidence) -> dict[tuple[str, str], Joint]:
    if min(len(evidence.train), len(evidence.holdout)) == 0:
        return {}
    columns = {c.name: c for c in evidence.schema.modelled}
    wanted = {name for pair in pairs for name in (pair.first, pair.second)} & set(columns)
    axes = {
        name: axis(
            columns[name].kind,
            _three(evidence, columns[name]),
            whole=columns[name].decimals == 0,
        )
        for name in wanted
    }
    return {
        (pair.first, pair.second): joint(axes[pair.first], axes[pair.second])
        for pair in pairs
        if {pair.first, pair.second} <= wanted
    }


def _curves(log: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Line, ...]]:
    """Return each loss in the log: a chart a phase, the adversarial losses on their own scale."""
    charts: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for i, record in enumerate(log):
        step = _finite(record.get("step"))
        for key, value in record.items():
            if "loss" in key and (y := _finite(value)) is not None:
                chart = charts.setdefault(_chart_of(str(record.get("phase", "")), key), {})
                chart.setdefault(key, []).append((float(i) if step is None else step, y))
    drawn = {
        name: tuple(
            Line(_CURVES.get(key, key.replace("_", " ")), _thin(sorted(points)))
            for key, points in curves.items()
            if len(points) > 1
        )
        for name, curves in charts.items()
    }
    return {name: lines for name, lines in drawn.items() if lines}


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
