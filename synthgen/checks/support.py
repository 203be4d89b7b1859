"""Whole rows as points of the judge's own space: where they lie, how varied they are.

The space is that of `features.embed`: ranks among train and levels one-hot. It knows nothing of any
generator's encoding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from synthgen.checks.check import Evidence, Measurement
from synthgen.checks.contrast import (
    GROUPS,
    NO_ROWS,
    NOTHING_MODELLED,
    Z95,
    Sides,
    inconclusive,
    interval,
    jackknife,
    wilson,
)
from synthgen.checks.features import Floats, Ints, embed, is_numeric, levels, take
from synthgen.checks.privacy import row_ids
from synthgen.rng import stream

#: Rows a side that are placed and searched for neighbours; for means and covariances.
MAX_POINTS, MAX_MOMENT_ROWS = 5_000, 20_000
#: Fewer rows a side fill no space.
MIN_POINTS = 2 * GROUPS
#: Shells between the centre and the farthest row, as in the reference code of Alaa et al.
SHELLS = np.linspace(0, 1, 30)
#: A level is rare below this share of train, and must be expected so often to be missed.
RARE_SHARE, EXPECTED = 0.01, 5
#: Columns that the details of a measure name.
WORST = 5
#: Rows of a block of the distance matrix.
BLOCK_ROWS = 512


def precision_recall(evidence: Evidence) -> list[Measurement]:
    """Measure ``alpha_precision``, ``beta_recall``, ``authenticity`` and ``diversity``.

    The first three are those of Alaa et al. 2022 (arXiv 2102.08921). NOTE[DIFF]: the judge's
    encoding in the place of a one-class embedding. A fresh sample has a precision near 1 and a
    recall near .5, which is what the control shows. Authenticity, the share of synthetic rows that
    lie farther from the nearest train row than its own nearest train row does, is information only:
    any rows far from train have it.

    ``diversity`` is the mean distance of a synthetic row to its nearest other one over that of as
    many train rows: below 1 where a generator has collapsed onto few kinds of rows.
    """
    names = ("alpha_precision", "beta_recall", "authenticity", "diversity")
    points = _points(evidence, "precision_recall")
    if isinstance(points, str):
        return [inconclusive(name, points) for name in names]
    train, holdout, synthetic = points
    inside = nearest_points(train, train, skip_self=True)[0]
    return [
        _alpha(names[0], train, holdout, synthetic),
        _beta(names[1], train, holdout, synthetic, inside, stream(evidence.seed, names[1])),
        _authenticity(names[2], train, holdout, synthetic, inside),
        _diversity(names[3], holdout, synthetic, inside),
    ]


def frechet(evidence: Evidence) -> list[Measurement]:
    """Return ``frechet``: the Frechet distance of two normal distributions, as FID is one.

    |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)) of means and covariances in the judge's space; Dowson &
    Landau 1982 (doi:10.1016/0047-259X(82)90077-X), Heusel et al. 2017 (arXiv 1706.08500).
    """
    name = "frechet"
    sides = Sides.of(evidence, MAX_MOMENT_ROWS)
    if not evidence.schema.modelled or sides.n < MIN_POINTS:
        return [inconclusive(name, _why_not(evidence))]
    frames = [sides.train, sides.holdout, sides.synthetic]
    train, holdout, synthetic = embed(frames, evidence.schema.modelled).rows
    real = Moments.of(train)
    root = _root(real.covariance)

    def distance(rows: Floats) -> float:
        return frechet_distance(Moments.of(rows), real, root)

    return [
        interval(
            name,
            float(np.mean([distance(synthetic[b]) for b in sides.blocks])),
            jackknife([distance(synthetic[sides.groups != g]) for g in range(GROUPS)]),
            n=len(synthetic),
            unit="distance",
            control=distance(holdout),
            note="distance of means and covariances of whole rows in the judge's own encoding",
        )
    ]


def collapse(evidence: Evidence) -> list[Measurement]:
    """Measure ``duplicates``, rows written more than once, and ``rare_levels`` that still occur.

    A rare level has less than a hundredth of train and would be expected at least five times among
    as many fresh rows.
    """
    sides = Sides.of(evidence)
    names = ("duplicates", "rare_levels")
    if not sides.n or not evidence.schema.modelled:
        why = NO_ROWS if not sides.n else NOTHING_MODELLED
        return [inconclusive(name, why) for name in names]
    return [_duplicates(names[0], evidence, sides), _rare_levels(names[1], evidence, sides)]


# --- distances and their averages ----------------------------------------------------------------


def alpha_precision(synthetic: Floats, train: Floats) -> float:
    """Return how evenly synthetic rows (N, D) fill the shells around the mean of train (M, D).

    1 - sum |k - a_k| / sum k over `SHELLS`, a_k the share within the k-quantile of train's own
    distances from its mean.
    """
    centre = train.mean(axis=0)
    radii = np.quantile(_length(train - centre), SHELLS)
    return _evenness(np.sort(_length(synthetic - centre)), radii)


def beta_recall(synthetic: Floats, train: Floats, inside: Floats) -> tuple[float, Floats]:
    """Return how evenly shells of synthetic rows (N, D) cover train (M, D), and each row's part.

    A train row is covered at k if a synthetic one is as near as the nearest other train row
    (`inside`: (M,)) and that one lies within the k-quantile of such ones' distances from the
    synthetic mean. The parts (M, K) average to the covered shares.
    """
    distance, index = nearest_points(train, synthetic)
    outwards = _length(synthetic - synthetic.mean(axis=0))[index]
    radii = np.quantile(outwards, SHELLS)
    parts = (distance <= inside)[:, None] & (outwards[:, None] <= radii)
    return _closeness(parts.mean(axis=0)), parts.astype("float64")


def _evenness(distances: Floats, radii: Floats) -> float:
    return _closeness(np.searchsorted(distances, radii, side="right") / max(len(distances), 1))


def _closeness(shares: Floats) -> float:
    return float(1 - np.abs(SHELLS - shares).sum() / SHELLS.sum())


@dataclass(frozen=True, repr=False)
class Moments:
    """Mean (D,) and covariance (D, D) of rows."""

    mean: Floats
    covariance: Floats

    @classmethod
    def of(cls, rows: Floats) -> Moments:
        """Return those of `rows` (N, D), N at least 2."""
        centred = rows - rows.mean(axis=0)
        return cls(rows.mean(axis=0), centred.T @ centred / (len(rows) - 1))


def frechet_distance(a: Moments, b: Moments, root: Floats | None = None) -> float:
    """Return the Frechet distance; `root` is the square root of b's covariance, if it is known."""
    root = _root(b.covariance) if root is None else root
    shared = np.linalg.eigvalsh(root @ a.covariance @ root)
    overlap = np.sqrt(np.clip(shared, 0, None)).sum()
    apart = ((a.mean - b.mean) ** 2).sum()
    return float(max(0.0, apart + np.trace(a.covariance) + np.trace(b.covariance) - 2 * overlap))


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)


def nearest_points(a: Floats, b: Floats, *, skip_self: bool = False) -> tuple[Floats, Ints]:
    """Return each row of `a`'s (N, D) Euclidean distance to its nearest row of `b`, and which.

    With `skip_self`, `a` is `b` and no row is its own neighbour. Memory is bounded by one block.
    Neighbours are found in float32; their distances are exact, so that equal rows are 0 apart.
    """
    x, y = a.astype("float32"), b.astype("float32")
    lengths = (y * y).sum(axis=1)
    index = np.empty(len(a), "int64")
    for start in range(0, len(a), BLOCK_ROWS):
        rows = np.arange(start, min(start + BLOCK_ROWS, len(a)))
        block = lengths - 2 * (x[rows] @ y.T)
        if skip_self:
            block[np.arange(len(rows)), rows] = np.inf
        index[rows] = block.argmin(axis=1)
    return _length(a - b[index]), index


def _length(rows: Floats) -> Floats:
    return np.asarray(np.sqrt((rows**2).sum(axis=1)))


# --- measurements --------------------------------------------------------------------------------


def _why_not(evidence: Evidence) -> str:
    few = f"fewer than {MIN_POINTS} rows a side"
    return few if evidence.schema.modelled else NOTHING_MODELLED


def _points(evidence: Evidence, name: str) -> list[Floats] | str:
    """Return train, holdout and synthetic points, equally many; or why there are none."""
    tables = (evidence.train, evidence.holdout, evidence.synthetic)
    n = min(*map(len, tables), MAX_POINTS)
    if n < MIN_POINTS or not evidence.schema.modelled:
        return _why_not(evidence)
    rng = stream(evidence.seed, name)
    return embed([take(f, n, rng) for f in tables], evidence.schema.modelled).rows


def _alpha(name: str, train: Floats, holdout: Floats, synthetic: Floats) -> Measurement:
    groups = np.arange(len(synthetic)) % GROUPS
    left_out = [alpha_precision(synthetic[groups != g], train) for g in range(GROUPS)]
    return interval(
        name,
        alpha_precision(synthetic, train),
        jackknife(left_out),
        bounds=(0.0, 1.0),
        n=len(synthetic),
        control=alpha_precision(holdout, train),
        better="high",
        note="how evenly synthetic rows fill the space that train rows fill",
    )


def _beta(
    name: str,
    train: Floats,
    holdout: Floats,
    synthetic: Floats,
    inside: Floats,
    rng: np.random.Generator,
) -> Measurement:
    value, parts = beta_recall(synthetic, train, inside)
    n = len(train)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=100) / n
    drawn = [_closeness(shares) for shares in weights @ parts]
    return interval(
        name,
        value,
        Z95 * float(np.std(drawn, ddof=1)),
        bounds=(0.0, 1.0),
        n=n,
        control=beta_recall(holdout, train, inside)[0],
        better="high",
        note="how evenly synthetic rows cover train rows; the control shows what is to be reached",
    )


def _authenticity(
    name: str, train: Floats, holdout: Floats, synthetic: Floats, inside: Floats
) -> Measurement:
    shares = []
    for rows in (synthetic, holdout):
        distance, index = nearest_points(rows, train)
        shares.append(float((distance > inside[index]).mean()))
    n = len(synthetic)
    low, high = wilson(shares[0] * n, n)
    said = "share of synthetic rows not nearer to train than train rows are to each other"
    return Measurement(
        name, "fidelity", shares[0], low, high, n, control=shares[1], better="high", note=said
    )


def _diversity(name: str, holdout: Floats, synthetic: Floats, inside: Floats) -> Measurement:
    scale = float(inside.mean())
    if not scale:
        return inconclusive(name, "every train row has an equal one")
    apart, fresh = (nearest_points(rows, rows, skip_self=True)[0] for rows in (synthetic, holdout))
    value = float(apart.mean()) / scale
    errors = (apart.std() / scale, value * inside.std() / scale)
    return interval(
        name,
        value,
        Z95 * float(np.hypot(*errors)) / math.sqrt(len(apart)),
        n=len(apart),
        unit="ratio",
        control=float(fresh.mean()) / scale,
        better="high",
        note="distance of a synthetic row to the nearest other one, over that of train rows",
    )


def _duplicates(name: str, evidence: Evidence, sides: Sides) -> Measurement:
    cut = replace(evidence, train=sides.train, holdout=sides.holdout, synthetic=sides.synthetic)
    _, holdout, synthetic = row_ids(cut)

    def share(ids: Ints) -> float:
        return 1 - len(np.unique(ids)) / len(ids)

    value = float(np.mean([share(synthetic[b]) for b in sides.blocks]))
    low, high = wilson(value * len(synthetic), len(synthetic))
    said = f"share of {sides.n:,} synthetic rows that equal an earlier one"
    return Measurement(
        name, "fidelity", value, low, high, len(synthetic), control=share(holdout), note=said
    )


def _rare_levels(name: str, evidence: Evidence, sides: Sides) -> Measurement:
    expected, met, fresh = 0, 0.0, 0
    columns: list[dict[str, Any]] = []
    for column in evidence.schema.modelled:
        if is_numeric(column):
            continue
        train, holdout, synthetic = levels(sides.parts(column), column)
        share = np.bincount(train) / len(train)
        rare = np.flatnonzero((share > 0) & (share < RARE_SHARE) & (share * sides.n >= EXPECTED))
        if not len(rare):
            continue
        present = float(np.mean([np.isin(rare, synthetic[b]).sum() for b in sides.blocks]))
        expected, met = expected + len(rare), met + present
        fresh += int(np.isin(rare, holdout).sum())
        columns.append({"column": column.name, "levels": len(rare), "share": present / len(rare)})
    if not expected:
        return inconclusive(name, "no column has a level that is rare and yet to be expected")
    low, high = wilson(met, expected)
    return Measurement(
        name,
        "fidelity",
        met / expected,
        low,
        high,
        n=sides.n,
        control=fresh / expected,
        better="high",
        details={"levels": expected, "columns": sorted(columns, key=_share_of)[:WORST]},
        note="share of the rare levels that occur; as many fresh rows have nearly all",
    )


def _share_of(entry: dict[str, Any]) -> float:
    return float(entry["share"])
