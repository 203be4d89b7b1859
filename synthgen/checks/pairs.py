"""Two columns at a time: two-way tables, dependence, correlation, missing together, exact rules.

All tables of a pair share their bins: numbers are cut at train's quantiles (deciles, from 3,000
rows on), a value on an edge below it, so that a point mass is a bin of its own; missing is a level.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations

import numpy as np

from synthgen.checks.check import Evidence, Measurement
from synthgen.checks.contrast import (
    GROUPS,
    NO_ROWS,
    Sides,
    gap_measured,
    inconclusive,
    interval,
    jackknife,
    wilson,
)
from synthgen.checks.features import Floats, Ints, is_numeric, levels, numbers
from synthgen.checks.marginals import tvd
from synthgen.rng import stream
from synthgen.schema import Column

#: Pairs of columns looked at; more are sampled.
MAX_PAIRS = 1_000
#: Most bins of a number, and most levels of a category, in a two-way table.
MAX_BINS, PAIR_LEVELS = 10, 50
#: Rows wanted for each cell of a two-way table; fewer rows get coarser tables.
ROWS_PER_CELL = 30
#: Pairs that the dependence is judged by: the strongest quarter, at least so many.
LEAST_STRONG = 5
#: Distance between shuffled and fresh rows below which columns count as unrelated.
LEAST_STRUCTURE = 0.02
#: Pairs that the details of a measure name.
WORST = 5
#: A column decides another one if it has at most this share of different values, ...
MAX_KEY_SHARE = 0.2
#: ... if the other is not nearly constant, and if fresh real rows follow to this share.
MAX_CONSTANT_SHARE, MIN_FOLLOWED = 0.95, 0.99
#: Rows that a rule is sought in; one that holds there is held against all of train.
RULE_ROWS = 5_000
#: Ordered pairs of columns that may hold a rule; more are sampled.
MAX_RULES = 10_000
NO_PAIR = "fewer than two modelled columns: there is no pair"


def pairs(evidence: Evidence) -> list[Measurement]:
    """Compare the two-way tables of all pairs of modelled columns with train's.

    ``pair_tv`` is the mean total variation distance; its details hold every pair's distance,
    control and strength (Cramer's V in train and in the synthetic rows), and what train rows with
    every column shuffled score.

    ``pair_loss`` takes the strongest pairs only and puts their distance on a scale from the
    control (0) to the shuffled rows (1): the share of what the columns tell about each other that
    is lost. All pairs would drown it: most are weak, and noise is the same in all.

    ``mutual_information`` is the mean difference of the normalised mutual information of a pair
    (Strehl & Ghosh 2002, jmlr.org/papers/v3/strehl02a: I / sqrt(H H'), 0 to 1) from train's.
    """
    names = [c.name for c in evidence.schema.modelled]
    answers = ("pair_tv", "pair_loss", "mutual_information")
    if len(names) < 2:
        return [inconclusive(name, NO_PAIR) for name in answers]
    sides = Sides.of(evidence)
    if not sides.n:
        return [inconclusive(name, NO_ROWS) for name in answers]
    rng = stream(evidence.seed, "pairs")
    chosen = _chosen_pairs(len(names), rng)
    coded = [_binned(sides, c) for c in evidence.schema.modelled]
    shuffled = [c.train[rng.permutation(len(c.train))[: sides.n]] for c in coded]
    found = [
        _compare(sides, coded[i], coded[j], shuffled[i] * _width(coded[j]) + shuffled[j])
        for i, j in chosen
    ]
    labels = [[names[i], names[j]] for i, j in chosen]
    return [*_distances(found, labels, sides), _information(found, labels, sides)]


def correlations(evidence: Evidence) -> list[Measurement]:
    """Compare Pearson's correlations of all pairs of numbers: mean |difference| from train's.

    Pairwise complete rows; a correlation with a constant is 0, and pairs of which train has a
    constant are left out. ``1 - value / 2`` is CorrelationSimilarity of sdmetrics.
    """
    name = "correlation"
    columns = [c for c in evidence.schema.modelled if is_numeric(c)]
    sides = Sides.of(evidence)
    if len(columns) < 2 or not sides.n:
        note = "fewer than two numbers: there is no pair" if sides.n else NO_ROWS
        return [inconclusive(name, note)]
    train, holdout, synthetic = (
        np.column_stack([numbers(f[c.name], c) for c in columns])
        for f in (sides.train, sides.holdout, sides.synthetic)
    )
    first, second = np.triu_indices(len(columns), 1)
    real = pearson(train)[first, second]
    usable = ~np.isnan(real)
    if not usable.any():
        return [inconclusive(name, "every pair of numbers in train holds a constant")]
    first, second, real = first[usable], second[usable], real[usable]

    def gaps(rows: Floats) -> Floats:
        return np.abs(np.nan_to_num(pearson(rows)[first, second]) - real)

    value = np.mean([gaps(synthetic[b]) for b in sides.blocks], axis=0)
    control = gaps(holdout)
    left_out = [gaps(synthetic[sides.groups != g]).mean() for g in range(GROUPS)]
    labels = [[columns[i].name, columns[j].name] for i, j in zip(first, second, strict=True)]
    return [
        interval(
            name,
            float(value.mean()),
            jackknife(left_out),
            n=len(synthetic),
            unit="correlation",
            control=float(control.mean()),
            details={"pairs": len(labels), "worst": _worst(labels, value, control)},
            note="mean difference of the correlations of two numbers from train's",
        )
    ]


def co_missing(evidence: Evidence) -> list[Measurement]:
    """Compare which columns are missing together: TVD of the patterns of missing values."""
    name = "co_missing"
    sides = Sides.of(evidence)
    if not sides.n:
        return [inconclusive(name, NO_ROWS)]
    gone = [
        np.column_stack([f[c.name].isna().to_numpy(bool) for c in evidence.schema.modelled])
        for f in (sides.train, sides.holdout, sides.synthetic)
        if evidence.schema.modelled
    ]
    if not gone or sum(any(g[:, j].any() for g in gone) for j in range(gone[0].shape[1])) < 2:
        return [inconclusive(name, "fewer than two columns have missing values")]
    patterns = np.packbits(np.concatenate(gone), axis=1)
    _, codes = np.unique(patterns, axis=0, return_inverse=True)
    train, holdout, synthetic = np.split(codes.ravel(), np.cumsum([len(g) for g in gone])[:-1])
    blocks = [tvd(synthetic[b], train) for b in sides.blocks]
    found = gap_measured(name, blocks, tvd(holdout, train).value, sides)
    said = "distance of the patterns in which values are missing together"
    return [replace(found, note=said, details={"patterns": int(codes.max()) + 1})]


def dependencies(evidence: Evidence) -> list[Measurement]:
    """Find columns that decide another one in train, and ask how often synthetic rows follow.

    A functional dependency a -> b (Codd 1972; found as in TANE, Huhtala et al. 1999,
    doi:10.1093/comjnl/42.2.100, with one column on the left): each value of a comes with one value
    of b. What fresh real rows do not follow is chance, and left out. The value is the mean share of
    synthetic rows, of those with an a that train knows, with the b that belongs to it.
    """
    name = "dependencies"
    sides = Sides.of(evidence)
    columns = evidence.schema.modelled
    if len(columns) < 2 or not sides.n:
        return [inconclusive(name, NO_PAIR if sides.n else NO_ROWS)]
    coded = [_Coded(*levels(sides.parts(c), c)) for c in columns]
    found = [
        (i, j, followed)
        for i, j in _rules(coded, stream(evidence.seed, name))
        if (followed := _followed(coded[i], coded[j])) and followed[0] >= MIN_FOLLOWED
    ]
    if not found:
        return [inconclusive(name, "no column follows from another one")]
    controls, shares = (np.array([f[2][k] for f in found]) for k in (0, 1))
    n = len(sides.synthetic)
    low, high = wilson(float(shares.mean()) * n, n)
    labels = [[columns[i].name, columns[j].name] for i, j, _ in found]
    return [
        Measurement(
            name,
            "fidelity",
            float(shares.mean()),
            low,
            high,
            n=n,
            control=float(controls.mean()),
            better="high",
            details={"pairs": len(found), "worst": _worst(labels, shares, controls, largest=False)},
            note="share of rows that follow the rules 'one column decides another'",
        )
    ]


# --- parts ---------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class _Coded:
    """Integer codes of a column, or a pair of columns, in the three tables."""

    train: Ints
    holdout: Ints
    synthetic: Ints


@dataclass(frozen=True)
class _Pair:
    """What one pair of columns scores; `left_out` (G,) without one group of synthetic rows each."""

    distance: float
    control: float
    independent: float
    distance_left_out: Floats
    strength: float
    strength_synthetic: float
    information: float
    information_control: float
    information_left_out: Floats


def _compare(sides: Sides, a: _Coded, b: _Coded, shuffled: Ints) -> _Pair:
    """Count the pair's two-way tables once, by block and group, and compare them with train's."""
    shape = (_width(a), _width(b))
    size = shape[0] * shape[1]
    train, holdout, apart = (
        np.bincount(codes, minlength=size)
        for codes in (a.train * shape[1] + b.train, a.holdout * shape[1] + b.holdout, shuffled)
    )
    cells = len(sides.blocks) * GROUPS * size
    part = (np.arange(len(a.synthetic)) // sides.n) * GROUPS + sides.groups
    codes = part * size + a.synthetic * shape[1] + b.synthetic
    counts = np.bincount(codes, minlength=cells).reshape(len(sides.blocks), GROUPS, size)
    blocks, left_out = counts.sum(axis=1), counts.sum(axis=(0, 1)) - counts.sum(axis=0)
    real = normalised_information(train.reshape(shape))
    synthetic, without = (
        np.array([normalised_information(t.reshape(shape)) for t in tables])
        for tables in (blocks, left_out)
    )
    fresh = normalised_information(holdout.reshape(shape))
    return _Pair(
        float(_half_l1(blocks, train).mean()),
        float(_half_l1(holdout, train)),
        float(_half_l1(apart, train)),
        _half_l1(left_out, train),
        cramers_v(train.reshape(shape)),
        cramers_v(blocks.sum(axis=0).reshape(shape)),
        float(np.abs(synthetic - real).mean()),
        abs(fresh - real),
        np.abs(without - real),
    )


def _half_l1(counts: Ints, reference: Ints) -> Floats:
    """Return the total variation distance of tables (..., K) of counts from one (K,)."""
    shares = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    return np.asarray(np.abs(shares - reference / reference.sum()).sum(axis=-1) / 2)


def _distances(
    found: Sequence[_Pair], labels: list[list[str]], sides: Sides
) -> Iterator[Measurement]:
    value, control, apart, strength, drawn = (
        np.array([getattr(p, field) for p in found])
        for field in ("distance", "control", "independent", "strength", "strength_synthetic")
    )
    left_out = np.array([p.distance_left_out for p in found])
    n = len(sides.synthetic)
    numbers_of = (x.tolist() for x in (value, control, strength, drawn))
    table = [
        {"columns": label, "value": v, "control": c, "strength": s, "strength_synthetic": d}
        for label, v, c, s, d in zip(labels, *numbers_of, strict=True)
    ]
    yield interval(
        "pair_tv",
        float(value.mean()),
        jackknife(left_out.mean(axis=0)),
        bounds=(0.0, 1.0),
        n=n,
        control=float(control.mean()),
        details={"independent": float(apart.mean()), "pairs": table},
        note="mean distance of the two-way tables of pairs of columns, shared bins",
    )
    strong = np.argsort(-strength, kind="stable")[: max(LEAST_STRONG, len(found) // 4)]
    lost = float((value - control)[strong].mean())
    scale = max(float((apart - control)[strong].mean()), LEAST_STRUCTURE)
    yield interval(
        "pair_loss",
        lost / scale,
        jackknife(left_out[strong].mean(axis=0)) / scale,
        bounds=(-math.inf, math.inf),
        n=n,
        control=0.0,
        details={"pairs": len(strong), "distance": lost, "independent": scale},
        note="share of the dependence between columns that is lost; 1: independent columns",
    )


def _information(found: Sequence[_Pair], labels: list[list[str]], sides: Sides) -> Measurement:
    value = np.array([p.information for p in found])
    control = np.array([p.information_control for p in found])
    left_out = np.mean([p.information_left_out for p in found], axis=0)
    return interval(
        "mutual_information",
        float(value.mean()),
        jackknife(left_out),
        bounds=(0.0, 1.0),
        n=len(sides.synthetic),
        control=float(control.mean()),
        details={"pairs": len(found), "worst": _worst(labels, value, control)},
        note="mean difference of the normalised mutual information of two columns from train's",
    )


def _worst(
    labels: list[list[str]], value: Floats, control: Floats, *, largest: bool = True
) -> list[dict[str, object]]:
    """Return the pairs that are farthest off beyond their control."""
    excess = (value - control) * (1 if largest else -1)
    order = np.argsort(-excess, kind="stable")[:WORST]
    return [
        {"columns": labels[k], "value": float(value[k]), "control": float(control[k])}
        for k in order
    ]


def cramers_v(table: Ints) -> float:
    """Return how strongly rows and columns of a table of counts depend on each other, in [0, 1].

    Cramer's V with the bias correction of Bergsma 2013, doi:10.1016/j.jkss.2012.10.002.
    """
    n = table.sum()
    down, across = table.sum(axis=1), table.sum(axis=0)
    rows, columns = int((down > 0).sum()), int((across > 0).sum())
    if min(rows, columns) < 2:  # a constant tells nothing
        return 0.0
    expected = np.outer(down, across) / n
    phi2 = float(((table - expected) ** 2 / np.where(expected, expected, 1)).sum()) / n
    free = (rows - 1) * (columns - 1) / (n - 1)
    sides = [k - (k - 1) ** 2 / (n - 1) for k in (rows, columns)]
    return math.sqrt(max(0.0, phi2 - free) / (min(sides) - 1)) if min(sides) > 1 else 0.0


def normalised_information(table: Ints) -> float:
    """Return the mutual information of a table of counts over sqrt(H H'): 0 to 1; constants 0.

    >>> normalised_information(np.array([[2, 0], [0, 2]]))
    1.0
    """
    shares = table / max(table.sum(), 1)
    down, across, joint = (_entropy(p) for p in (shares.sum(axis=1), shares.sum(axis=0), shares))
    together = down + across - joint
    return max(0.0, together / math.sqrt(down * across)) if down * across > 0 else 0.0


def _entropy(shares: Floats) -> float:
    filled = shares[shares > 0]
    return float(-(filled * np.log(filled)).sum())


def pearson(rows: Floats) -> Floats:
    """Return the correlations of all columns of `rows` (N, C): (C, C), pairwise complete rows.

    NaN where one of the two is constant or fewer than two rows are complete.
    """
    here = ~np.isnan(rows)
    with_rows = here.any(axis=0)
    centre = np.where(with_rows, np.nansum(rows, axis=0) / np.maximum(here.sum(axis=0), 1), 0.0)
    x = np.where(here, rows - centre, 0.0)
    x /= np.maximum(np.abs(x).max(axis=0, initial=0.0), np.finfo(float).tiny)
    one = here.astype("float64")
    n, sums, squares = one.T @ one, x.T @ one, (x * x).T @ one
    covariance = n * (x.T @ x) - sums * sums.T
    spread = np.maximum(n * squares - sums**2, 0.0)
    scale = np.sqrt(spread * spread.T)
    is_flat = (spread <= 1e-12 * n * squares) | (n < 2)
    return np.where(is_flat | is_flat.T, np.nan, covariance / np.where(scale > 0, scale, 1.0))


def _binned(sides: Sides, column: Column) -> _Coded:
    parts = sides.parts(column)
    bins = int(np.clip(math.sqrt(sides.n / ROWS_PER_CELL), 2, MAX_BINS))
    if not is_numeric(column):
        return _Coded(*levels(parts, column, min(PAIR_LEVELS, bins**2)))
    values = [numbers(p, column) for p in parts]
    present = values[0][~np.isnan(values[0])]
    edges = np.unique(np.quantile(present, np.arange(1, bins) / bins)) if len(present) else present
    gone = len(edges) + 1
    return _Coded(
        *(np.where(np.isnan(v), gone, np.searchsorted(edges, v, side="left")) for v in values)
    )


def _chosen_pairs(n_columns: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    every = list(combinations(range(n_columns), 2))
    if len(every) <= MAX_PAIRS:
        return every
    return [every[i] for i in sorted(rng.permutation(len(every))[:MAX_PAIRS])]


def _width(coded: _Coded) -> int:
    return 1 + max(int(x.max(initial=0)) for x in (coded.train, coded.holdout, coded.synthetic))


def _rules(coded: Sequence[_Coded], rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Yield (i, j) where column i decides column j in all of train and neither is trivial."""
    heads = [c.train[:RULE_ROWS] for c in coded]
    different = [len(np.unique(h)) for h in heads]
    candidates = list(permutations(range(len(coded)), 2))
    if len(candidates) > MAX_RULES:
        candidates = [candidates[k] for k in sorted(rng.permutation(len(candidates))[:MAX_RULES])]
    for i, j in candidates:
        if not 1 < different[j] <= different[i] <= MAX_KEY_SHARE * len(heads[i]):
            continue
        if np.bincount(heads[j]).max() > MAX_CONSTANT_SHARE * len(heads[j]):
            continue
        if _decides(heads[i], heads[j]) and _decides(coded[i].train, coded[j].train):
            yield i, j


def _decides(a: Ints, b: Ints) -> bool:
    """Whether every level of `a` (N,) comes with one level of `b` (N,)."""
    of = np.zeros(int(a.max()) + 1, "int64")
    of[a] = b
    return bool((of[a] == b).all())


def _followed(a: _Coded, b: _Coded) -> tuple[float, float] | None:
    """Return which share of the holdout and of the synthetic rows have the b of their a in train.

    None if one of them has no a that train knows.
    """
    of = np.full(_width(a), -1)
    of[a.train] = b.train
    shares = []
    for x, y in ((a.holdout, b.holdout), (a.synthetic, b.synthetic)):
        is_known = of[x] >= 0
        if not is_known.any():
            return None
        shares.append(float((of[x] == y)[is_known].mean()))
    return shares[0], shares[1]
