"""The gate: a report and a policy in, a decision out. Whatever is not known refuses.

>>> decide(Report((), {}), GatePolicy(), fingerprint="").passed
False
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from synthgen.checks import fidelity, privacy, utility
from synthgen.checks.check import Area, Check, Evidence, Measurement, Report, run_checks
from synthgen.config import GatePolicy
from synthgen.table import fingerprint as fingerprint_of

#: Level at which an excess of copies above the allowance counts as more than chance.
EXCESS_LEVEL = 0.05

CHECKS: dict[str, tuple[Area, Check]] = {**fidelity.CHECKS, **utility.CHECKS, **privacy.CHECKS}


def judge(evidence: Evidence, extra: Sequence[Measurement] = ()) -> Report:
    """Run every check on `evidence` and return the report; `extra` are measurements made elsewhere.

    The facts hold rows, the seed, the target's name and the fingerprint of the synthetic rows, by
    which `decide` knows what table the report is about.
    """
    facts = {
        "rows": {
            "train": len(evidence.train),
            "holdout": len(evidence.holdout),
            "synthetic": len(evidence.synthetic),
        },
        "fingerprint": fingerprint_of(evidence.synthetic),
        "schema": evidence.schema.fingerprint,
        "target": None if evidence.schema.target is None else evidence.schema.target.name,
        "seed": evidence.seed,
    }
    return Report((*extra, *run_checks(evidence, CHECKS)), facts)


@dataclass(frozen=True)
class RuleResult:
    """One rule of the policy and how the table did.

    Attributes
    ----------
    name : str
        Of the rule; that of its measurement where it has one.
    passed : bool
        True only if it was measured and met.
    waived : bool
        The policy does not ask for it; `passed` is then False and does not count.
    value, threshold, control : float or None
        What was compared (the bad end of the interval), with what, and what fresh rows score.
    reason : str
        In plain words, no cell.
    """

    name: str
    passed: bool
    waived: bool = False
    value: float | None = None
    threshold: float | None = None
    control: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Decision:
    """Whether one table may leave, rule by rule.

    Attributes
    ----------
    passed : bool
        Every rule that was not waived was measured and met, and there is at least one.
    rules : tuple of RuleResult
    fingerprint : str
        Of the one table that this is about.
    policy : dict
        The thresholds that were used.
    """

    passed: bool
    rules: tuple[RuleResult, ...]
    fingerprint: str
    policy: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        required = [r for r in self.rules if not r.waived]
        if self.passed != (bool(required) and all(r.passed for r in required)):
            raise ValueError("a decision contradicts its own rules")

    @property
    def failing(self) -> tuple[RuleResult, ...]:
        """The rules that refuse."""
        return tuple(r for r in self.rules if not r.passed and not r.waived)

    def to_json(self) -> str:
        """Return the decision as JSON; NaN cannot occur."""
        return json.dumps(asdict(self), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Decision:
        """Read what `to_json` wrote; ValueError if it says passed and its rules do not."""
        body = json.loads(text)
        rules = tuple(RuleResult(**r) for r in body.pop("rules"))
        return cls(rules=rules, **body)


def decide(report: Report, policy: GatePolicy, *, fingerprint: str) -> Decision:
    """Decide whether the table with `fingerprint` may leave.

    Missing, failed, inconclusive and non-finite measurements refuse, with a reason that says so.
    The bad end of each interval counts. A policy threshold of None waives its rule, in writing.
    """
    rules = (
        _same_table(report, fingerprint),
        _enough_rows(report, policy.min_privacy_rows),
        _rule(report, "schema.output", policy.max_schema_violations, _at_most("violations")),
        _rule(report, "marginals", policy.max_marginal_excess, _at_most("excess")),
        _rule(report, "pair_loss", policy.max_pair_loss, _pair_loss),
        _rule(report, "c2st", policy.max_c2st, _at_most("AUC")),
        _utility_rule(report, policy.min_utility),
        *(
            _rule(report, name, policy.max_copy_excess, _copies(policy.copy_p))
            for name in ("exact_copies", "unique_copies")
        ),
        *(
            _rule(report, name, policy.copy_p, _near)
            for name in ("near_copies", "isolated_near_copies")
        ),
        _rule(report, "dcr_share", policy.max_dcr_z, _dcr(policy.max_dcr_share)),
    )
    passed = all(r.passed for r in rules if not r.waived)
    return Decision(passed, rules, fingerprint, policy.model_dump())


#: Compares a measurement with a threshold: (met, value compared, reason).
Compare = Callable[[Measurement, float], tuple[bool, float | None, str]]


def _rule(report: Report, name: str, threshold: float | None, compare: Compare) -> RuleResult:
    """Apply one rule; everything that is not a finite measurement refuses here, in one place."""
    if threshold is None:
        return RuleResult(name, False, waived=True, reason="waived by the policy")
    m = report.get(name)
    if m is None:
        return RuleResult(name, False, threshold=threshold, reason="was not measured")
    if m.status != "measured":
        reason = f"{m.status}: {m.note}" if m.note else m.status
        return RuleResult(name, False, threshold=threshold, control=m.control, reason=reason)
    met, value, reason = compare(m, threshold)
    if value is None or not math.isfinite(value):
        return RuleResult(name, False, threshold=threshold, control=m.control, reason="not finite")
    return RuleResult(name, met, False, value, threshold, m.control, reason)


def _at_most(unit: str) -> Compare:
    def compare(m: Measurement, threshold: float) -> tuple[bool, float | None, str]:
        worst = _worst(m)
        at = f" ({m.details['worst']})" if "worst" in m.details else ""
        return worst <= threshold, worst, f"{unit} {worst:.4g}{at}, at most {threshold:.4g} allowed"

    return compare


def _pair_loss(m: Measurement, threshold: float) -> tuple[bool, float | None, str]:
    """Refuse what may be too large a loss, and what is certainly half of that."""
    worst, best = _worst(m), math.nan if m.low is None else m.low
    said = (
        f"share lost {best:.3g} to {worst:.3g}; refused if it may be above {threshold:.3g} or is "
        f"certainly above {threshold / 2:.3g}"
    )
    return worst <= threshold and best <= threshold / 2, worst, said


def _utility_rule(report: Report, threshold: float | None) -> RuleResult:
    if "target" in report.facts and report.facts["target"] is None:
        return RuleResult("tstr_ratio", False, waived=True, reason="the schema has no target")
    return _rule(report, "tstr_ratio", threshold, _at_least)


def _at_least(m: Measurement, threshold: float) -> tuple[bool, float | None, str]:
    """Refuse what may lose too much, and what certainly loses half of that; as `_pair_loss`."""
    worst, best = _worst(m), math.nan if m.high is None else m.high
    half_way = (1 + threshold) / 2
    said = (
        f"{worst:.3f} to {best:.3f} of the predictive power survives; refused if that may be below "
        f"{threshold:.3g} or is certainly below {half_way:.3g}"
    )
    return worst >= threshold and best >= half_way, worst, said


def _copies(level: float) -> Compare:
    def compare(m: Measurement, threshold: float) -> tuple[bool, float | None, str]:
        p, excess = _detail(m, "p"), _excess(m)
        refused = p < level or (excess > threshold and p < EXCESS_LEVEL)
        met = math.isfinite(p) and not refused
        said = (
            f"{_percent(m.value)} of train rows met against {_percent(m.control)} of the holdout's "
            f"(p = {p:.2g}; refused below {level:.2g}, or below {EXCESS_LEVEL} with an excess of "
            f"more than {threshold:.2%})"
        )
        return met, excess, said

    return compare


def _near(m: Measurement, threshold: float) -> tuple[bool, float | None, str]:
    p = _detail(m, "p")
    said = (
        f"{_percent(m.value)} of train rows met against {_percent(m.control)} of the holdout's "
        f"(p = {p:.2g}, refused below {threshold:.2g})"
    )
    return p >= threshold, p, said


def _dcr(allowed: float) -> Compare:
    """Refuse a share that is certain and large; with many rows every trace is certain."""

    def compare(m: Measurement, threshold: float) -> tuple[bool, float | None, str]:
        z, share = _detail(m, "z"), math.nan if m.value is None else m.value
        said = (
            f"share {_percent(m.value)}, z = {z:.1f}; refused above {allowed:.0%} with z above "
            f"{threshold:.2g}; proves nothing"
        )
        return z <= threshold or share <= allowed, z, said

    return compare


def _same_table(report: Report, fingerprint: str) -> RuleResult:
    same = bool(fingerprint) and report.facts.get("fingerprint") == fingerprint
    reason = "the report is about this table" if same else "the report is about another table"
    return RuleResult("same_table", same, reason=reason)


def _enough_rows(report: Report, least: int) -> RuleResult:
    rows = report.facts.get("rows")
    sizes = [rows.get(k, 0) for k in ("train", "holdout", "synthetic")] if rows else [0]
    few = min(sizes)
    said = f"the smallest of train, holdout and synthetic has {few:,} rows, {least:,} needed"
    return RuleResult("enough_rows", few >= least, False, float(few), float(least), reason=said)


def _worst(m: Measurement) -> float:
    return math.nan if m.worst is None else m.worst


def _excess(m: Measurement) -> float:
    return math.nan if m.value is None or m.control is None else m.value - m.control


def _detail(m: Measurement, key: str) -> float:
    value = m.details.get(key)
    return float(value) if isinstance(value, int | float) else math.nan


def _percent(x: float | None) -> str:
    return "?" if x is None else f"{x:.2%}"
