"""One column at a time: its distribution, missing rate, tails, range, levels and seasons.

Only modelled columns count; ids, PII and free text are regenerated and never compared. A measure is
called ``<measure>.<column>``. `marginals` sums up what the gate reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from synthgen.checks.check import Evidence, Measurement
from synthgen.checks.contrast import (
    GROUPS,
    NO_ROWS,
    NOTHING_MODELLED,
    Z95,
    Gap,
    Sides,
    contrasted,
    gap_measured,
    inconclusive,
    interval,
    jackknife,
    wilson,
)
from synthgen.checks.features import (
    Bools,
    Floats,
    Ints,
    Values,
    is_numeric,
    known,
    levels,
    numbers,
)
from synthgen.schema import Column

#: The tails that are looked at: quantile p and 1 - p.
TAILS = {"tail_99": 0.99, "tail_999": 0.999}
#: Rows that must lie beyond a quantile for it to be compared.
TAIL_ROWS = 10
#: Present values that each table needs for a column's shape to be measured.
MIN_KNOWN = 50
#: A distance of two samples of present values.
Distance = Callable[..., Gap]


def marginals(evidence: Evidence) -> list[Measurement]:
    """Compare every modelled column: KS or TVD of present values, and the missing rate.

    Names: ``ks.<column>``, ``tvd.<column>``, ``missing.<column>``; ``shape_error``, the mean of the
    first two; and ``marginals``: the largest excess over the control among all, which is what the
    gate reads.
    """
    sides = Sides.of(evidence)
    if not sides.n:
        return [inconclusive("marginals", NO_ROWS)]
    found = [m for c in evidence.schema.modelled for m in _distances(sides, c)]
    if not found:
        return [inconclusive("marginals", NOTHING_MODELLED)]
    excess = {m.name: _number(m.worst) - _number(m.control) for m in found}
    worst = max(excess, key=lambda name: excess[name])
    gate = Measurement(
        "marginals",
        "fidelity",
        value=max(_number(m.value) - _number(m.control) for m in found),
        high=excess[worst],
        n=sides.n,
        unit="excess",
        control=0.0,
        details={"worst": worst, "mean": float(np.mean([m.value for m in found]))},
        note="largest excess of one column's distance to train over the holdout's own",
    )
    return [*found, _shape_error(found), gate]


def _shape_error(found: Sequence[Measurement]) -> Measurement:
    shapes = [m for m in found if not m.name.startswith("missing.")]
    said = "mean distance of the columns to train, each by itself (1 - Column Shapes)"
    return _mean_of("shape_error", shapes, said)


def shapes(evidence: Evidence) -> list[Measurement]:
    """Measure what a largest gap does not tell: how far, how extreme, how wide, at what time.

    Numbers and datetimes: ``wasserstein``, ``tail_99``, ``tail_999``; datetimes also
    ``season_month``, ``season_weekday`` and, if they have a time of day, ``season_hour``; all
    columns ``coverage`` and ``adherence``. ``wasserstein`` by itself is the mean over columns.
    """
    name = "wasserstein"
    sides = Sides.of(evidence)
    if not sides.n:
        return [inconclusive(name, NO_ROWS)]
    found = [m for c in evidence.schema.modelled for m in _shape(sides, c)]
    distances = [m for m in found if m.name.startswith(f"{name}.")]
    if not distances:
        return [*found, inconclusive(name, "no column is a number or datetime with enough values")]
    return [*found, _mean_of(name, distances, "mean distance of the numbers to train")]


# --- distances between two samples ---------------------------------------------------------------


def ks(a: Floats, b: Floats) -> Gap:
    """Return the two-sample Kolmogorov-Smirnov distance of finite values; ties count fully.

    Two empty samples are equal (0); an empty one against a filled one is as far as can be (1).
    """
    if not len(a) or not len(b):
        return Gap(float(len(a) != len(b)), float(len(a) > 0), float(len(b) > 0))
    points = np.concatenate([a, b])
    p = np.searchsorted(np.sort(a), points, side="right") / len(a)
    q = np.searchsorted(np.sort(b), points, side="right") / len(b)
    at = int(np.argmax(np.abs(p - q)))
    return Gap(float(abs(p[at] - q[at])), float(p[at]), float(q[at]))


def tvd(a: Ints, b: Ints) -> Gap:
    """Return the total variation distance of two samples of level codes: half the L1 distance."""
    if not len(a) or not len(b):
        return Gap(float(len(a) != len(b)), float(len(a) > 0), float(len(b) > 0))
    size = int(max(a.max(), b.max())) + 1
    p, q = np.bincount(a, minlength=size) / len(a), np.bincount(b, minlength=size) / len(b)
    more = p > q
    return Gap(float(np.abs(p - q).sum() / 2), float(p[more].sum()), float(q[more].sum()))


def wasserstein(a: Floats, b: Floats) -> float:
    """Return the area between the distribution functions of two samples, in the values' unit."""
    (value,) = wassersteins(a, [np.ones(len(a), bool)], b)
    return value


def wassersteins(points: Floats, samples: Sequence[Bools], reference: Floats) -> list[float]:
    """Return W1 of each sample from the `reference` (M,); all are sorted once.

    Parameters
    ----------
    points : (N,)
    samples : list of (N,) masks
        Which points each sample holds; none may be missing.
    reference : (M,)

    Returns
    -------
    list of float
        NaN where the sample or the reference is empty.
    """
    both = np.concatenate([points, reference])
    order = np.argsort(both, kind="stable")
    steps = np.diff(both[order])
    below = np.cumsum(order >= len(points)) / max(len(reference), 1)
    found = []
    for sample in samples:
        held = np.concatenate([sample, np.zeros(len(reference), bool)])[order]
        gap = np.abs(np.cumsum(held) / max(int(sample.sum()), 1) - below)[:-1]
        found.append(float((gap * steps).sum()) if sample.any() and len(reference) else math.nan)
    return found


def quantile_gap(sample: Floats, reference: Floats, p: float) -> float:
    """Return the larger distance of both samples' quantiles at p and 1 - p, in the values' unit."""
    ends = [np.quantile(known(x), (1 - p, p)) for x in (sample, reference)]
    return float(np.abs(ends[0] - ends[1]).max())


def quantile_gap_interval(sample: Floats, reference: Floats, p: float) -> tuple[float, float]:
    """Return the 95 % interval of `quantile_gap`, from order statistics.

    A quantile's interval is the sample's quantiles at p -+ 1.96 standard errors of the share
    beyond it (Woodruff 1952, doi:10.1080/01621459.1952.10483443); here both samples' error.
    """
    x, y = known(sample), known(reference)
    half = Z95 * math.sqrt(p * (1 - p) * (1 / len(x) + 1 / len(y)))
    lows, highs = [], []
    for at in (1 - p, p):
        true = np.quantile(y, at)
        ends = np.quantile(x, np.clip([at - half, at + half], 0, 1))
        lows.append(0.0 if ends[0] <= true <= ends[1] else np.abs(ends - true).min())
        highs.append(np.abs(ends - true).max())
    return float(max(lows)), float(max(highs))


def range_coverage(sample: Floats, reference: Floats) -> float:
    """Return which share of the reference's range lies within the sample's; a constant's is 1."""
    a, b = known(sample), known(reference)
    width = float(np.ptp(b))
    if not len(a) or not width:
        return float(len(a) > 0)
    return float(max(0.0, min(a.max(), b.max()) - max(a.min(), b.min())) / width)


def level_coverage(sample: Ints, reference: Ints) -> float:
    """Return which share of the reference's levels the sample has."""
    return float(np.isin(np.unique(known(reference)), sample).mean())


# --- measurements of one column ------------------------------------------------------------------


def _distances(sides: Sides, column: Column) -> Iterator[Measurement]:
    """Yield the largest gap of the present values and, where any is missing, of the rate."""
    name, values = column.name, _values(sides, column)
    if is_numeric(column):
        yield _gap(f"ks.{name}", ks, values, sides)
    else:
        yield _gap(f"tvd.{name}", tvd, values, sides)
    gone = [p.isna().to_numpy(bool).astype("int64") for p in sides.parts(column)]
    if any(g.any() for g in gone):
        yield _gap(f"missing.{name}", tvd, gone, sides)


def _mean_of(name: str, found: Sequence[Measurement], said: str) -> Measurement:
    """Return the mean of some columns' measures; its interval as if all were off together."""
    value, low, high, control = (
        float(np.mean([_number(getattr(m, field)) for m in found]))
        for field in ("value", "low", "high", "control")
    )
    n, unit = found[0].n, found[0].unit
    return Measurement(name, "fidelity", value, low, high, n, unit=unit, control=control, note=said)


def _shape(sides: Sides, column: Column) -> Iterator[Measurement]:
    values = _values(sides, column)
    samples = [values[0], values[1], *(values[2][b] for b in sides.blocks)]
    if min(len(known(v)) for v in samples) < MIN_KNOWN:
        note = f"fewer than {MIN_KNOWN} rows of a table have a value"
        yield inconclusive(f"coverage.{column.name}", note)
        return
    if is_numeric(column):
        yield _wasserstein(sides, column.name, values)
        yield from (_tail(sides, name, column.name, p, values) for name, p in TAILS.items())
    yield _coverage(sides, column, values)
    yield _adherence(sides, column, values)
    if column.kind == "datetime":
        yield from _seasons(sides, column)


def _values(sides: Sides, column: Column) -> list[Values]:
    """Return `column` in train, holdout and synthetic: numbers or level codes, -1 for missing."""
    parts = sides.parts(column)
    if is_numeric(column):
        return [numbers(p, column) for p in parts]
    codes = levels(parts, column)
    return [np.where(p.isna().to_numpy(bool), -1, c) for p, c in zip(parts, codes, strict=True)]


def _gap(name: str, distance: Distance, parts: Sequence[Values], sides: Sides) -> Measurement:
    train, holdout, synthetic = parts
    blocks = [distance(known(synthetic[b]), known(train)) for b in sides.blocks]
    return gap_measured(name, blocks, distance(known(holdout), known(train)).value, sides)


def _wasserstein(sides: Sides, name: str, values: Sequence[Floats]) -> Measurement:
    train, holdout, synthetic = values
    here = ~np.isnan(synthetic)
    block, group = (np.arange(len(synthetic)) // sides.n)[here], sides.groups[here]
    blocks = [block == i for i in range(len(sides.blocks))]
    left_out = [group != g for g in range(GROUPS)]
    points = synthetic[here]
    found = np.array(wassersteins(points, blocks + left_out, known(train))) / spread(train)
    return interval(
        f"wasserstein.{name}",
        float(found[: len(blocks)].mean()),
        jackknife(found[len(blocks) :]),
        n=len(points),
        unit="spreads",
        control=wasserstein(known(holdout), known(train)) / spread(train),
        note="area between the distribution functions, in train's standard deviations",
    )


def _tail(sides: Sides, measure: str, name: str, p: float, values: Sequence[Floats]) -> Measurement:
    beyond = min(len(known(v)) for v in (values[0], values[1], values[2][sides.blocks[0]])) * (
        1 - p
    )
    if beyond < TAIL_ROWS:
        note = f"{beyond:.1f} rows lie beyond the quantile; {TAIL_ROWS} are needed"
        return inconclusive(f"{measure}.{name}", note)
    train, holdout, synthetic = (v / spread(values[0]) for v in values)
    value = float(np.mean([quantile_gap(synthetic[b], train, p) for b in sides.blocks]))
    low, high = quantile_gap_interval(synthetic, train, p)
    return Measurement(
        f"{measure}.{name}",
        "fidelity",
        value,
        min(low, value),
        max(high, value),
        n=len(known(synthetic)),
        unit="spreads",
        control=quantile_gap(holdout, train, p),
        note=f"how far off the quantiles at {p:g} and {1 - p:.3g} are, in standard deviations",
    )


def _coverage(sides: Sides, column: Column, values: Sequence[Values]) -> Measurement:
    name = f"coverage.{column.name}"
    if is_numeric(column):
        found = contrasted(name, range_coverage, values, sides, bounds=(0.0, 1.0))
        return replace(found, better="high", note="share of train's range that the values span")
    train, holdout, synthetic = values
    value = float(np.mean([level_coverage(synthetic[b], train) for b in sides.blocks]))
    n_levels = len(np.unique(known(train)))
    low, high = wilson(value * n_levels, n_levels)
    return Measurement(
        name,
        "fidelity",
        value,
        low,
        high,
        n=len(known(synthetic)),
        control=level_coverage(holdout, train),
        better="high",
        details={"levels": n_levels},
        note="share of train's levels that occur",
    )


def _adherence(sides: Sides, column: Column, values: Sequence[Values]) -> Measurement:
    """Return the share of present values within train's range, or of a level that train has."""
    train, holdout, synthetic = (known(v) for v in values)
    inside = [_inside(v, train, column) for v in (synthetic, holdout)]
    n = len(synthetic)
    low, high = wilson(int(inside[0].sum()), n)
    said = "share of values within train's range" if is_numeric(column) else ""
    return Measurement(
        f"adherence.{column.name}",
        "fidelity",
        float(inside[0].mean()),
        low,
        high,
        n=n,
        control=float(inside[1].mean()),
        better="high",
        note=said or "share of values whose level train has",
    )


def _inside(values: Values, train: Values, column: Column) -> Bools:
    if is_numeric(column):
        return np.asarray((values >= train.min()) & (values <= train.max()))
    return np.isin(values, train)


def _seasons(sides: Sides, column: Column) -> Iterator[Measurement]:
    """Yield the TVD of months, weekdays and, where there is a time of day, hours; local time."""
    parts = [p.dt for p in sides.parts(column)]
    cycles = {"month": [p.month for p in parts], "weekday": [p.day_of_week for p in parts]}
    if column.resolution != "day":
        cycles["hour"] = [p.hour for p in parts]
    for cycle, values in cycles.items():
        codes = [v.fillna(-1).to_numpy("int64") for v in values]
        yield _gap(f"season_{cycle}.{column.name}", tvd, codes, sides)


def spread(train: Floats) -> float:
    """Return the standard deviation of the known values; 1 for a constant."""
    return float(known(train).std()) or 1.0


def _number(x: float | None) -> float:
    return math.nan if x is None else x
