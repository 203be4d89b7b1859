"""Whether the synthetic table gives away rows it was trained on, against rows it never saw.

Every test asks the same of train rows and of holdout rows: is there a synthetic row that equals
it, or lies suspiciously close? Both were drawn from one population by chance, so a generator that
learnt the population meets both equally often, and one that memorised meets train more often. The
test is Fisher's exact one, one-sided, so tables that legitimately hold many equal rows are judged
as strictly as others. Controls as in Giomi et al. 2023 (doi:10.56553/popets-2023-0055).

Distances are Gower's: the mean over columns of |rank difference| for numbers (ranks of the
different values in train, [0, 1]) and of 0 / 1 for levels and missingness.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta, binom, hypergeom, norm

from synthgen.checks.check import Area, Check, Evidence, Measurement
from synthgen.checks.contrast import wilson
from synthgen.checks.detection import auc, auc_error
from synthgen.checks.features import Bools, Floats, Ints, is_numeric, levels, numbers, take
from synthgen.rng import stream
from synthgen.schema import Column

Distances = NDArray[np.float32]

#: Rows of each table that distances are computed for; exact copies are sought among all rows.
MAX_DISTANCE_ROWS = 10_000
#: Share of holdout rows that lie nearer to a train row than what "near" means.
NEAR_QUANTILE = 0.01
#: The rows that stand alone: this share of both tables, and at least so many train rows.
ISOLATED_SHARE = 0.05
MIN_ISOLATED = 100
#: A synthetic row at less than this share of the way to the nearest real row is too near.
ISOLATED_RATIO = 0.5
#: Rows whose cells are the rarest: this share of train and holdout together.
RARE_SHARE = 0.2
#: Level at which a row's total decides whether it counts as a test of `repeated_copies`.
REPEATED_LEVEL = 1e-3
#: An AUC of membership up to here is what any model that learnt shows.
LEARNT_AUC = 0.52
#: Fewer rows a side leave a membership attack nothing to say.
MIN_TARGETS = 100
#: Distances closer than this are ties (float32 sums).
TIE = 1e-6
#: Rows and columns of one block of the distance matrix: 2 MB, so that it stays in the cache.
BLOCK_ROWS, BLOCK_COLUMNS = 128, 4_096


@dataclass(frozen=True)
class Hits:
    """How many train and holdout rows were met by a synthetic row, of how many."""

    train: int
    n_train: int
    holdout: int
    n_holdout: int

    @property
    def p(self) -> float:
        """One-sided p value of "train rows are met no more often than holdout rows" (Fisher)."""
        total = self.n_train + self.n_holdout
        return float(hypergeom.sf(self.train - 1, total, self.n_train, self.train + self.holdout))

    @property
    def excess(self) -> float:
        """Share of train rows met, less the share of holdout rows met."""
        return self.train / self.n_train - self.holdout / self.n_holdout

    def smallest_seen(self, level: float) -> int | None:
        """Fewest further train rows that would have brought p below `level`; None: no number."""
        for more in _doubling_then_all(self.n_train - self.train):
            raised = Hits(self.train + more, self.n_train, self.holdout, self.n_holdout)
            if raised.p < level:
                return more
        return None


def _doubling_then_all(limit: int) -> list[int]:
    steps = sorted({round(1.1**k) for k in range(200) if 1.1**k < limit} | {max(limit, 0)})
    return [0, *steps]


def copies(evidence: Evidence) -> list[Measurement]:
    """Count train and holdout rows that a synthetic row equals in every modelled column.

    ``exact_copies`` looks at all rows; ``unique_copies`` only at rows that nobody else in train
    and holdout shares, which finds a few copies among many legitimate ones; ``repeated_copies``
    at how often one such row of train is written; ``rare_copies`` at the fifth of rows whose cells
    are the rarest, where copies by chance are rarest too. Numbers are compared at the schema's
    decimals.
    """
    names = ("exact_copies", "unique_copies", "repeated_copies", "rare_copies")
    if not evidence.schema.modelled or not all(_sizes(evidence)):
        return [inconclusive(name, "no modelled column or no rows") for name in names]
    train, holdout, synthetic = row_ids(evidence)
    met_train, met_holdout = np.isin(train, synthetic), np.isin(holdout, synthetic)
    everyone = hits_of(met_train, met_holdout)
    occurrences = np.bincount(np.concatenate([train, holdout]))
    alone_train, alone_holdout = occurrences[train] == 1, occurrences[holdout] == 1
    shares = {
        "synthetic_equal_train": float(np.isin(synthetic, train).mean()),
        "synthetic_equal_holdout": float(np.isin(synthetic, holdout).mean()),
    }
    everyone_said = "share of train rows that a synthetic row equals"
    found = [
        compared(names[0], everyone, everyone_said, shares),
        _repeated(names[2], train, holdout, synthetic),
        _rare(names[3], evidence, met_train, met_holdout),
    ]
    if not alone_train.any() or not alone_holdout.any():
        note = "no row is unique in the real table, so none can be singled out"
        return [
            *found,
            Measurement(
                names[1], "privacy", 0.0, 0.0, 0.0, control=0.0, details={"p": 1.0}, note=note
            ),
        ]
    alone = hits_of(met_train[alone_train], met_holdout[alone_holdout])
    alone_said = "the same among rows that occur once in the real table"
    return [*found, compared(names[1], alone, alone_said, {})]


def _repeated(name: str, train: Ints, holdout: Ints, synthetic: Ints) -> Measurement:
    """Test whether a train row that occurs once in the real table is written too many times.

    Given how often a row occurs in real and synthetic rows together, the synthetic share of that is
    binomial if both come from one population. Rows that occur too rarely to be significant at all
    are not counted as tests (Tarone 1990, doi:10.2307/2531456); Bonferroni over the others.
    """
    size = int(max(train.max(), holdout.max(), synthetic.max())) + 1
    in_train, in_real, written = (
        np.bincount(ids, minlength=size)
        for ids in (train, np.concatenate([train, holdout]), synthetic)
    )
    share = len(synthetic) / (len(synthetic) + len(train) + len(holdout))
    total = in_real + written
    floors = np.sort(share ** total[total > 0])
    tests = 1
    while tests < len(floors) and floors[tests] * (tests + 1) < REPEATED_LEVEL:
        tests += 1
    single = (in_train == 1) & (in_real == 1) & (written > 0)
    tails = binom.sf(written[single] - 1, total[single], share)
    most = int(written[single].max(initial=0))
    return Measurement(
        name,
        "privacy",
        float(most),
        n=int(single.sum()),
        unit="rows",
        details={"p": min(1.0, float(tails.min(initial=1.0)) * tests), "tests": tests},
        note="most often that one train row, single in the real table, is written",
    )


def _rare(name: str, evidence: Evidence, train: Bools, holdout: Bools) -> Measurement:
    """Count the copies among the rows of the least likely cells, columns taken by themselves."""
    surprise = np.zeros(len(train) + len(holdout))
    for column in evidence.schema.modelled:
        parts = [f[column.name] for f in (evidence.train, evidence.holdout)]
        if is_numeric(column):
            codes = _twentieths(np.concatenate([numbers(p, column) for p in parts]))
        else:
            codes = np.concatenate(levels(parts, column))
        surprise -= np.log(np.bincount(codes)[codes] / len(codes))
    rare = surprise >= np.quantile(surprise, 1 - RARE_SHARE)
    of_train, of_holdout = rare[: len(train)], rare[len(train) :]
    if not of_train.any() or not of_holdout.any():
        return inconclusive(name, "the rarest rows are all on one side")
    said = "share of the rarest train rows that a synthetic row equals"
    return compared(name, hits_of(train[of_train], holdout[of_holdout]), said, {})


def _twentieths(values: Floats) -> Ints:
    """Return which of twenty bins of equal mass each value (N,) lies in; missing is one more."""
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, np.arange(1, 20) / 20)) if len(known) else known
    codes = np.searchsorted(edges, values, "left").astype("int64")
    codes[np.isnan(values)] = len(edges) + 1
    return codes


def row_ids(evidence: Evidence) -> tuple[Ints, Ints, Ints]:
    """Return integers that are equal where rows are: (N,) for train, holdout and synthetic."""
    frames = [evidence.train, evidence.holdout, evidence.synthetic]
    joint = np.zeros(sum(map(len, frames)), "int64")
    for column in evidence.schema.modelled:
        codes = np.concatenate(levels([f[column.name] for f in frames], column))
        joint = pd.factorize(joint * (int(codes.max()) + 1) + codes)[0].astype("int64")
    train, holdout, synthetic = np.split(joint, np.cumsum([len(f) for f in frames])[:-1])
    return train, holdout, synthetic


def near_copies(evidence: Evidence) -> list[Measurement]:
    """Count train and holdout rows that a synthetic row comes too near to.

    ``near_copies``: nearer than the first percentile of the distances from holdout rows to train.
    ``isolated_near_copies``: among the most isolated rows, nearer than half the way to the nearest
    other train row. ``dcr_share``: synthetic rows nearer to train than to as many holdout rows,
    ties half; .5 is ideal and proves nothing (Yao et al. 2025, arXiv 2505.01524).
    ``membership_distance``: who was in train, guessed from how much nearer than to other real rows
    a row is to the nearest synthetic one (k = 1). The density ratio of DOMIAS (van Breugel et al.
    2023, arXiv 2302.12580). NOTE[DIFF]: nearest neighbours for densities, the other train rows for
    the reference, which is an attacker who knows everybody else.
    """
    names = ("near_copies", "isolated_near_copies", "dcr_share", "membership_distance")
    if not evidence.schema.modelled or min(_sizes(evidence)) < 2:
        return [inconclusive(name, "no modelled column or too few rows") for name in names]
    rng = stream(evidence.seed, "near_copies")
    tables = [
        take(f, MAX_DISTANCE_ROWS, rng)
        for f in (evidence.train, evidence.holdout, evidence.synthetic)
    ]
    train, holdout, synthetic = positions(tables, evidence.schema.modelled)
    to_synthetic, held_to_synthetic = (nearest(p, synthetic)[0] for p in (train, holdout))
    alone, _ = nearest(train, train, skip_self=True)
    held_alone, _ = nearest(holdout, train)
    tau = float(np.quantile(held_alone, NEAR_QUANTILE)) + TIE
    near = hits_of(to_synthetic <= tau, held_to_synthetic <= tau)
    said = f"share of train rows with a synthetic row within {tau:.4f}"
    found = [compared(names[0], near, said, {"distance": tau})]
    found.append(_isolated(names[1], to_synthetic, held_to_synthetic, alone, held_alone))
    found.append(_dcr(train, holdout, synthetic, rng))
    ratio = [
        np.log(apart + TIE) - np.log(reached + TIE)
        for apart, reached in ((alone, to_synthetic), (held_alone, held_to_synthetic))
    ]
    said = "AUC of guessing train rows by how near a synthetic row is, given how near others are"
    return [*found, membership(names[3], ratio[0], ratio[1], said)]


def membership(name: str, inside: Distances, outside: Distances, said: str) -> Measurement:
    """Judge scores (N,) of train rows against scores (M,) of holdout rows; high says "in train".

    The value is the AUC. ``p`` is twice the smaller of two p values: that of an AUC above
    `LEARNT_AUC`, and Fisher's of how many train rows are among the top hundredth of all scores.
    ``tpr_1`` and ``tpr_01`` are the shares of train rows found at false positive rates of 1 % and
    .1 %, with Clopper-Pearson intervals (Carlini et al. 2022, arXiv 2112.03570); None if there are
    too few holdout rows to speak of such a rate.
    """
    n, m = len(inside), len(outside)
    if min(n, m) < MIN_TARGETS:
        return inconclusive(name, f"{min(n, m)} rows a side; {MIN_TARGETS} are needed")
    scores = np.concatenate([inside, outside]).astype("float64")
    if not np.isfinite(scores).all():
        return Measurement(name, "privacy", None, status="failed", note="a score is not finite")
    area = auc(np.arange(n + m) < n, scores)
    error = max(auc_error(area, n, m), TIE)
    limit = float(np.quantile(scores, 0.99))
    top = hits_of(inside > limit, outside > limit)
    p = min(float(norm.sf((area - LEARNT_AUC) / error)), top.p)
    half = float(norm.ppf(0.975)) * error
    details: dict[str, float | None] = {"p": min(1.0, 2 * p), "n_holdout": m}
    for label, rate in (("tpr_1", 0.01), ("tpr_01", 0.001)):
        found = int((inside > np.quantile(outside, 1 - rate, method="higher")).sum())
        low, high = clopper_pearson(found, n)
        enough = m * rate >= 1
        values = (found / n, low, high) if enough else (None,) * 3
        details |= dict(zip((label, f"{label}_low", f"{label}_high"), values, strict=True))
    return Measurement(
        name,
        "privacy",
        area,
        max(0.0, area - half),
        min(1.0, area + half),
        n=n,
        unit="AUC",
        control=0.5,
        details=details,
        note=said,
    )


def clopper_pearson(k: int, n: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share. Clopper & Pearson 1934, doi:10.2307/2331986."""
    low = 0.0 if k == 0 else float(beta.ppf(0.025, k, n - k + 1))
    return low, 1.0 if k == n else float(beta.ppf(0.975, k + 1, n - k))


@dataclass(frozen=True, repr=False)
class Positions:
    """Rows as points: ranks in [0, 1] with NaN for missing (N, A), and level codes (N, B)."""

    numbers: Distances
    levels: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice | Ints) -> Positions:
        return Positions(self.numbers[rows], self.levels[rows])


def positions(tables: Sequence[pd.DataFrame], columns: Sequence[Column]) -> list[Positions]:
    """Place all tables in one space, numbers ranked among the different values of the first.

    Among values and not rows, so that a small step off a value that half of the rows hold is small.
    """
    ranks: list[list[Distances]] = [[] for _ in tables]
    codes: list[list[Ints]] = [[] for _ in tables]
    for column in columns:
        parts = [t[column.name] for t in tables]
        if is_numeric(column):
            values = [numbers(p, column) for p in parts]
            known = np.unique(values[0][~np.isnan(values[0])])
            for block, v in zip(ranks, values, strict=True):
                middle = np.searchsorted(known, v, "left") + np.searchsorted(known, v, "right")
                rank = middle / (2 * max(len(known), 1))
                block.append(np.where(np.isnan(v), np.nan, rank).astype("float32"))
        else:
            for block_of_codes, c in zip(codes, levels(parts, column), strict=True):
                block_of_codes.append(c)
    return [
        Positions(
            np.array(r, "float32").reshape(len(r), len(t)).T,
            np.array(c, "int32").reshape(len(c), len(t)).T,
        )
        for t, r, c in zip(tables, ranks, codes, strict=True)
    ]


def nearest(a: Positions, b: Positions, *, skip_self: bool = False) -> tuple[Distances, Ints]:
    """Return each row of `a`'s distance to its nearest row of `b`, and which: two (N,) arrays.

    Memory is bounded by one block. With `skip_self`, `a` is `b` and no row is its own neighbour.
    """
    distance = np.full(len(a), np.inf, "float32")
    index = np.zeros(len(a), "int64")
    for i in range(0, len(a), BLOCK_ROWS):
        rows = np.arange(i, min(i + BLOCK_ROWS, len(a)))
        for j in range(0, len(b), BLOCK_COLUMNS):
            block = gower(a[i : i + BLOCK_ROWS], b[j : j + BLOCK_COLUMNS])
            if skip_self:
                block[rows[:, None] == np.arange(j, j + block.shape[1])] = np.inf
            at = block.argmin(axis=1)
            found = block[np.arange(len(rows)), at]
            nearer = found < distance[rows]
            distance[rows[nearer]], index[rows[nearer]] = found[nearer], at[nearer] + j
    return distance, index


def gower(a: Positions, b: Positions) -> Distances:
    """Return all distances between two tables: (N, M) in [0, 1]. Gower 1971, doi:10.2307/2528823.

    NOTE[DIFF]: numbers are compared by rank; missing is a value: equal to itself, 1 from others.
    """
    total = np.zeros((len(a), len(b)), "float32")
    for x, y in zip(a.numbers.T, b.numbers.T, strict=True):
        gap = np.abs(x[:, None] - y)
        x_gone, y_gone = np.isnan(x), np.isnan(y)
        if x_gone.any() or y_gone.any():
            gap = np.where(np.isnan(gap), x_gone[:, None] != y_gone, gap)
        total += gap
    for u, v in zip(a.levels.T, b.levels.T, strict=True):
        total += u[:, None] != v
    total /= a.numbers.shape[1] + a.levels.shape[1]
    return total


def _isolated(
    name: str, near: Distances, held_near: Distances, alone: Distances, held_alone: Distances
) -> Measurement:
    share = min(1.0, max(ISOLATED_SHARE, MIN_ISOLATED / len(alone)))
    limit = float(np.quantile(np.concatenate([alone, held_alone]), 1 - share))
    chosen, held = alone >= limit, held_alone >= limit
    if not chosen.any() or not held.any():
        return inconclusive(name, "the isolated rows are all on one side")
    hits = hits_of(
        near[chosen] <= ISOLATED_RATIO * alone[chosen] + TIE,
        held_near[held] <= ISOLATED_RATIO * held_alone[held] + TIE,
    )
    said = "share of isolated train rows with a synthetic row within half their distance to others"
    return compared(name, hits, said, {"isolation": limit})


def _dcr(
    train: Positions, holdout: Positions, synthetic: Positions, rng: np.random.Generator
) -> Measurement:
    """Share of synthetic rows whose nearest row, of train and holdout mixed, is a train row.

    The standard error is that of relabelling the real rows at random. One real row can be the
    nearest of many synthetic ones, which the binomial error does not know.
    """
    n, n_synthetic = min(len(train), len(holdout)), len(synthetic)
    order = rng.permutation(2 * n)  # ties go to the first row: to train or holdout by chance
    mixed = Positions(
        np.concatenate([train.numbers[:n], holdout.numbers[:n]])[order],
        np.concatenate([train.levels[:n], holdout.levels[:n]])[order],
    )
    _, index = nearest(synthetic, mixed)
    share = float((order[index] < n).mean())
    weight = np.bincount(index, minlength=2 * n) / n_synthetic
    error = math.sqrt(float((weight**2).sum() - 1 / (2 * n)) * n / (2 * (2 * n - 1)))
    half = float(norm.ppf(0.975)) * error
    return Measurement(
        "dcr_share",
        "privacy",
        share,
        max(0.0, share - half),
        min(1.0, share + half),
        n_synthetic,
        control=0.5,
        details={"z": (share - 0.5) / max(error, TIE)},
        note="share of synthetic rows nearer to train than to the holdout; .5 proves nothing",
    )


def hits_of(train: Bools, holdout: Bools) -> Hits:
    """Count which train rows (N,) and which holdout rows (M,) were met."""
    return Hits(int(train.sum()), len(train), int(holdout.sum()), len(holdout))


def compared(name: str, hits: Hits, said: str, details: dict[str, float]) -> Measurement:
    """Return the share of train rows met, the holdout's as its control, and Fisher's p."""
    low, high = wilson(hits.train, hits.n_train)
    seen = hits.smallest_seen(1e-3)
    return Measurement(
        name,
        "privacy",
        hits.train / hits.n_train,
        low,
        high,
        n=hits.n_train,
        control=hits.holdout / hits.n_holdout,
        details={
            "p": hits.p,
            "excess": hits.excess,
            "train_hits": hits.train,
            "holdout_hits": hits.holdout,
            "n_holdout": hits.n_holdout,
            "detectable_rows": seen,
            **details,
        },
        note=said,
    )


def _sizes(evidence: Evidence) -> list[int]:
    return [len(f) for f in (evidence.train, evidence.holdout, evidence.synthetic)]


def inconclusive(name: str, note: str) -> Measurement:
    """Return the measurement of a test that cannot say anything, and why."""
    return Measurement(name, "privacy", None, status="inconclusive", note=note)


CHECKS: dict[str, tuple[Area, Check]] = {
    "exact_copies": ("privacy", copies),
    "near_copies": ("privacy", near_copies),
}
