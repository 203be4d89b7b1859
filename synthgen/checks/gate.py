"""The gate: a report and a policy in, a decision out. Whatever is not known refuses.

>>> decide(Report((), {}), GatePolicy(), fingerprint="").passed
False
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from synthgen.checks import attacks, fidelity, privacy, utility
from synthgen.checks.check import Area, Check, Evidence, Measurement, Report, run_checks
from synthgen.checks.features import take
from synthgen.config import GatePolicy
from synthgen.rng import derive, stream
from synthgen.table import fingerprint as fingerprint_of

#: Level at which an excess of copies above the allowance counts as more than chance.
EXCESS_LEVEL = 0.01
#: Share of the train rows that the positive control hides in the output.
PLANTED_SHARE = 0.01
#: The family of tests that ask whether train rows fare otherwise than holdout rows (Holm).
COPY_TESTS = ("exact_copies", "unique_copies")
#: Found among few rows, where a share says little and only the p value counts.
NEAR_TESTS = (
    "repeated_copies",
    "rare_copies",
    "near_copies",
    "nndr",
    "isolated_near_copies",
    "isolated_copies",
)
MEMBERSHIP_TESTS = ("membership_distance", "membership_learned")
RISK_TESTS = (
    "linkability",
    "attribute_inference",
    "singling_out_1",
    "singling_out_4",
    "small_cells",
)
PRIVACY_TESTS = (*COPY_TESTS, *NEAR_TESTS, *MEMBERSHIP_TESTS, *RISK_TESTS)

PRIVACY_CHECKS: dict[str, tuple[Area, Check]] = {**privacy.CHECKS, **attacks.CHECKS}


def positive_control(evidence: Evidence) -> list[Measurement]:
    """Plant a hundredth of the train rows in the output and ask whether the copies are found.

    What the tests answer is kept for `decide`, which knows the levels.
    """
    rng = stream(evidence.seed, "positive_control")
    planted = take(evidence.train, math.ceil(PLANTED_SHARE * len(evidence.train)), rng)
    leaky = pd.concat([evidence.synthetic, planted], ignore_index=True)
    found = privacy.copies(replace(evidence, synthetic=leaky))
    said = f"{len(planted)} train rows were planted in the output; the tests must find them"
    return [_control("positive_control", found, len(planted), said)]


def too_few_to_prove(rows: int, holdout: float) -> bool:
    """Whether `rows` rows, a share of them held out, are too few to find the planted ones.

    If none of k copies is among holdout rows, Fisher's p is about (1 - holdout) ** k.

    >>> too_few_to_prove(2_000, 0.2), too_few_to_prove(2_000, 0.5)
    (True, False)
    """
    planted = math.ceil(PLANTED_SHARE * rows * (1 - holdout))
    return (1 - holdout) ** planted >= EXCESS_LEVEL


def negative_control(evidence: Evidence) -> list[Measurement]:
    """Judge half of the holdout as if it were the output, against the other half: a clean table."""
    owner = privacy.people(evidence).owner[len(evidence.train) :]
    everybody = stream(evidence.seed, "negative_control").permutation(np.unique(owner))
    first = np.isin(owner, everybody[: len(everybody) // 2])
    clean, holdout = (evidence.holdout[rows].reset_index(drop=True) for rows in (first, ~first))
    if min(len(clean), len(holdout)) < 2:
        return [privacy.inconclusive("negative_control", "the holdout is too small to be halved")]
    found = run_checks(
        replace(evidence, holdout=holdout, synthetic=clean),
        PRIVACY_CHECKS,
    )
    said = "half of the holdout was judged as if it were the output; no test may refuse it"
    return [_control("negative_control", found, len(clean), said)]


def further_draws(
    evidence: Evidence, real: privacy.RealRows | None = None
) -> Iterator[Measurement]:
    """Ask the privacy tests about each further table of the model, ``draw_2`` being the second.

    What they answer is kept whole for `decide`, which applies the same rules to every table.
    """
    checks = against(PRIVACY_CHECKS, privacy.RealRows(evidence) if real is None else real)
    for k, frame in enumerate(evidence.draws, start=2):
        seed = derive(evidence.seed, "draw", k)
        alone = replace(evidence, synthetic=frame, draws=(), seed=seed)
        found = run_checks(alone, checks)
        yield Measurement(
            f"draw_{k}",
            "privacy",
            min((m.details["p"] for m in found if "p" in m.details), default=None),
            n=len(frame),
            unit="p",
            details={"measurements": [asdict(m) for m in found]},
            note="another table of the model, drawn only to be judged; value: the smallest p",
        )


def _control(name: str, found: Sequence[Measurement], n: int, said: str) -> Measurement:
    """Keep what each test of the family answered; a test that crashed makes the control fail."""
    tests = {m.name: m for m in found if m.name in PRIVACY_TESTS}
    if failed := [m.name for m in found if m.status == "failed"]:
        note = f"{', '.join(failed)} failed on the control"
        return Measurement(name, "privacy", None, status="failed", note=note)
    answers = {
        key: {"p": m.details["p"], "excess": m.details.get("excess", 0.0)}
        for key, m in tests.items()
        if "p" in m.details
    }
    if not answers:
        return privacy.inconclusive(name, "no test could be made")
    least = min(a["p"] for a in answers.values())
    return Measurement(name, "privacy", least, n=n, unit="p", details={"tests": answers}, note=said)


CHECKS: dict[str, tuple[Area, Check]] = {
    **fidelity.CHECKS,
    **utility.CHECKS,
    **PRIVACY_CHECKS,
    "positive_control": ("privacy", positive_control),
    "negative_control": ("privacy", negative_control),
}


def against(
    checks: dict[str, tuple[Area, Check]], real: privacy.RealRows
) -> dict[str, tuple[Area, Check]]:
    """Return `checks` of which distances are measured from `real`, for all tables of a model."""
    return checks | {"near_copies": ("privacy", partial(privacy.near_copies, real=real))}


def judge(
    evidence: Evidence, extra: Sequence[Measurement] = (), *, attempts: int | None = 1
) -> Report:
    """Run every check on `evidence` and return the report; `extra` are measurements made elsewhere.

    `attempts` says how many tables of this model were judged by these rows, this one included.

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
        "attempts": attempts,
    }
    real = privacy.RealRows(evidence)  # the distances between real rows are found once
    measured = (
        *extra,
        *run_checks(evidence, against(CHECKS, real)),
        *further_draws(evidence, real),
    )
    return Report(measured, facts)


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
    silent : bool
        An attack that had no power on this table: it speaks neither for the table nor against it,
        `passed` is False and does not count.
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
    silent: bool = False

    @property
    def counts(self) -> bool:
        """Whether the decision depends on it."""
        return not (self.waived or self.silent)


@dataclass(frozen=True)
class Decision:
    """Whether one table may leave, rule by rule.

    Attributes
    ----------
    passed : bool
        Every rule that counts was measured and met, and there is at least one.
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
        required = [r for r in self.rules if r.counts]
        if self.passed != (bool(required) and all(r.passed for r in required)):
            raise ValueError("a decision contradicts its own rules")

    @property
    def failing(self) -> tuple[RuleResult, ...]:
        """The rules that refuse."""
        return tuple(r for r in self.rules if not r.passed and r.counts)

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
        _attempts(report, policy.max_attempts),
        _rule(report, "schema.output", policy.max_schema_violations, _at_most("violations")),
        *(_rule(report, m.name, 0, _kept) for m in report if m.name.startswith("expectation.")),
        _rule(report, "marginals", policy.max_marginal_excess, _at_most("excess")),
        _rule(report, "pair_loss", policy.max_pair_loss, _pair_loss),
        _rule(report, "c2st", policy.max_c2st, _at_most("AUC")),
        _utility_rule(report, policy.min_utility),
        *privacy_rules(report, policy),
        *_reused_rules(report, policy.copy_p),
        *(_draw_rule(report, k, policy) for k in range(2, policy.samples + 1)),
        *(
            _control_rule(report, name, policy, must_refuse=name == "positive_control")
            for name in ("positive_control", "negative_control")
        ),
    )
    passed = all(r.passed for r in rules if r.counts)
    return Decision(passed, rules, fingerprint, policy.model_dump())


def _reused_rules(report: Report, level: float) -> Iterator[RuleResult]:
    """Refuse ids and personal data that are those of train, where they were looked for."""
    found = {m.name: _detail(m, "p") for m in report if m.name.startswith("reused.")}
    adjusted = holm(found)
    for name in found:
        yield _rule(report, name, level, _significant(adjusted))


def privacy_rules(report: Report, policy: GatePolicy) -> tuple[RuleResult, ...]:
    """Return the rules that every table of the model has to meet."""
    level, adjusted = policy.copy_p, holm(_p_values(report))
    return (
        *(
            _rule(report, name, policy.max_copy_excess, _copies(level, adjusted))
            for name in COPY_TESTS
        ),
        *(_rule(report, name, level, _significant(adjusted)) for name in NEAR_TESTS),
        *(
            _attack_rule(report, name, limit, level, adjusted)
            for names, limit in (
                (MEMBERSHIP_TESTS, policy.max_membership_auc),
                (RISK_TESTS, policy.max_attack_risk),
            )
            for name in names
        ),
        _rule(report, "dcr_share", policy.max_dcr_z, _dcr(policy.max_dcr_share)),
    )


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


def _kept(m: Measurement, threshold: float) -> tuple[bool, float | None, str]:
    """Refuse an expectation of the data's owner that is not met; its note says by how much."""
    return _worst(m) <= threshold, _worst(m), m.note


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


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p values adjusted for their number. Holm 1979, jstor.org/stable/4615733.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    adjusted, largest = {}, 0.0
    for i, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - i) * p_values[name]))
        adjusted[name] = largest
    return adjusted


def _p_values(report: Report) -> dict[str, float]:
    found = {m.name: _detail(m, "p") for m in report if m.name in PRIVACY_TESTS}
    return {name: p for name, p in found.items() if math.isfinite(p)}


def _too_many(p: float, adjusted: float, excess: float, level: float, allowed: float) -> bool:
    """Whether copies are certainly more than chance: a few of them, or a share beyond `allowed`."""
    return adjusted < level or (excess > allowed and p < EXCESS_LEVEL)


def _copies(level: float, adjusted: Mapping[str, float]) -> Compare:
    def compare(m: Measurement, threshold: float) -> tuple[bool, float | None, str]:
        p, excess = adjusted.get(m.name, math.nan), _excess(m)
        refused = _too_many(_detail(m, "p"), p, excess, level, threshold)
        said = (
            f"{_percent(m.value)} of train rows met against {_percent(m.control)} of the holdout's "
            f"(adjusted p = {p:.2g}; refused below {level:.2g}, or if an excess of more than "
            f"{threshold:.2%} has p below {EXCESS_LEVEL})"
        )
        return math.isfinite(p) and not refused, excess if math.isfinite(p) else math.nan, said

    return compare


def _significant(adjusted: Mapping[str, float]) -> Compare:
    def compare(m: Measurement, threshold: float) -> tuple[bool, float | None, str]:
        p = adjusted.get(m.name, math.nan)
        shown = (
            f"{_percent(m.value)} of train rows met against {_percent(m.control)} of the holdout's"
        )
        if m.unit == "rows":
            shown = f"a single train row is written {m.value:.0f} times at most"
        return p >= threshold, p, f"{shown} (adjusted p = {p:.2g}, refused below {threshold:.2g})"

    return compare


def _attack_rule(
    report: Report,
    name: str,
    limit: float | None,
    level: float,
    adjusted: Mapping[str, float],
) -> RuleResult:
    """Refuse a leak that is certain, or that may be above `limit`; no power is nothing in favour.

    An attack that had no power is silent: that the gate as a whole has
    power is what the positive control proves. Missing and failed refuse.
    """
    m, p = report.get(name), adjusted.get(name, math.nan)
    if m is None or m.status != "inconclusive" or limit is None or p < level:
        certain = replace(m, status="measured") if m is not None and p < level else m
        changed = report if certain is None else Report((certain,), report.facts)
        return _rule(changed, name, limit, _attack(level, p))
    reason = f"says nothing either way: {m.note}"
    return RuleResult(name, False, threshold=limit, control=m.control, reason=reason, silent=True)


def _attack(level: float, p: float) -> Compare:
    def compare(m: Measurement, threshold: float) -> tuple[bool, float | None, str]:
        worst = _worst(m)
        said = (
            f"{m.unit} {m.value:.3g}, at most {worst:.3g} (refused above {threshold:.3g}), "
            f"adjusted p = {p:.2g} (refused below {level:.2g})"
        )
        return p >= level and worst <= threshold, worst if math.isfinite(p) else math.nan, said

    return compare


def _draw_rule(report: Report, k: int, policy: GatePolicy) -> RuleResult:
    """Apply the privacy rules to the `k`-th table of the model."""

    def compare(m: Measurement, threshold: float) -> tuple[bool, float | None, str]:
        found = Report(tuple(Measurement(**entry) for entry in m.details["measurements"]))
        failing = [r for r in privacy_rules(found, policy) if r.counts and not r.passed]
        said = "; ".join(f"{r.name}: {r.reason}" for r in failing) or "met every privacy rule"
        return not failing, m.value, f"{m.n:,} rows, {said}"

    return _rule(report, f"draw_{k}", policy.copy_p, compare)


def _control_rule(
    report: Report, name: str, policy: GatePolicy, *, must_refuse: bool
) -> RuleResult:
    """Require that the tests refuse the planted copies, and that they pass fresh real rows."""

    def compare(m: Measurement, threshold: float) -> tuple[bool, float | None, str]:
        tests = m.details["tests"]
        adjusted = holm({key: t["p"] for key, t in tests.items()})
        if must_refuse:  # judged as strictly as the output: by the whole family
            adjusted = {key: len(PRIVACY_TESTS) * t["p"] for key, t in tests.items()}
        refusing = [
            key
            for key, t in tests.items()
            if _too_many(t["p"], adjusted[key], t["excess"], threshold, policy.max_copy_excess)
        ]
        by = f"refused by {', '.join(refusing)}" if refusing else "not refused"
        if must_refuse and not refusing:
            by += (
                ": with this table the tests are blind to such a leak, so nothing is proven; "
                "use more rows or a larger holdout"
            )
        if not must_refuse and refusing:
            by += ": the tests cannot be trusted on this table; use more rows"
        return bool(refusing) == must_refuse, m.value, f"{m.note}: {by}"

    return _rule(report, name, policy.copy_p if policy.prove_power else None, compare)


def _attempts(report: Report, allowed: int) -> RuleResult:
    made = report.facts.get("attempts")
    name, count = "attempts", made if isinstance(made, int) else math.inf
    said = f"table {made} of one model judged by the same rows; at most {allowed}: train it anew"
    value = None if math.isinf(count) else float(count)
    return RuleResult(name, count <= allowed, False, value, float(allowed), reason=said)


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
