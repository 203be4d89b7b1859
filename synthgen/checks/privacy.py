"""Whether the synthetic table gives away rows it was trained on, against rows it never saw.

Every test asks the same of train rows and of holdout rows: is there a synthetic row that equals
it, or lies suspiciously close? Both were drawn from one population by chance, so a generator that
learnt the population meets both equally often, and one that memorised meets train more often. The
test is Fisher's exact one, one-sided, so tables that legitimately hold many equal rows are judged
as strictly as others. Controls as in Giomi et al. 2023 (doi:10.56553/popets-2023-0055).

Distances are Gower's: the mean over columns of |rank difference| for numbers (ranks in train,
[0, 1]) and of 0 / 1 for levels and missingness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import hypergeom, norm

from synthgen.checks.check import Area, Check, Evidence, Measurement
from synthgen.checks.features import Bools, Ints, is_numeric, levels, numbers, take
from synthgen.rng import stream

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


def wilson(k: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the Wilson interval of a share. Wilson 1927, doi:10.2307/2276774."""
    middle, spread = (
        k / n + z * z / (2 * n),
        z * math.sqrt(k * (n - k) / n**3 + z * z / (4 * n * n)),
    )
    scale = 1 + z * z / n
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def copies(evidence: Evidence) -> list[Measurement]:
    """Count train and holdout rows that a synthetic row equals in every modelled column.

    ``exact_copies`` looks at all rows; ``unique_copies`` only at rows that nobody else in train
    and holdout shares, which finds a few copies among many legitimate ones. Numbers are compared
    at the schema's decimals.
    """
    names = ("exact_copies", "unique_copies")
    if not evidence.schema.modelled or not all(_sizes(evidence)):
        return [_inconclusive(name, "no modelled column or no rows") for name in names]
    train, holdout, synthetic = row_ids(evidence)
    met_train, met_holdout = np.isin(train, synthetic), np.isin(holdout, synthetic)
    everyone = _hits(met_train, met_holdout)
    occurrences = np.bincount(np.concatenate([train, holdout]))
    alone_train, alone_holdout = occurrences[train] == 1, occurrences[holdout] == 1
    shares = {
        "synthetic_equal_train": float(np.isin(synthetic, train).mean()),
        "synthetic_equal_holdout": float(np.isin(synthetic, holdout).mean()),
    }
    everyone_said = "share of train rows that a synthetic row equals"
    found = [_compared(names[0], everyone, everyone_said, shares)]
    if not alone_train.any() or not alone_holdout.any():
        note = "no row is unique in the real table, so none can be singled out"
        return [
            *found,
            Measurement(
                names[1], "privacy", 0.0, 0.0, 0.0, control=0.0, details={"p": 1.0}, note=note
            ),
        ]
    alone = _hits(met_train[alone_train], met_holdout[alone_holdout])
    alone_said = "the same among rows that occur once in the real table"
    return [*found, _compared(names[1], alone, alone_said, {})]


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
    """
    names = ("near_copies", "isolated_near_copies", "dcr_share")
    if not evidence.schema.modelled or min(_sizes(evidence)) < 2:
        return [_inconclusive(name, "no modelled column or too few rows") for name in names]
    rng = stream(evidence.seed, "near_copies")
    tables = [
        take(f, MAX_DISTANCE_ROWS, rng)
        for f in (evidence.train, evidence.holdout, evidence.synthetic)
    ]
    train, holdout, synthetic = positions(tables, evidence)
    to_synthetic, held_to_synthetic = (nearest(p, synthetic)[0] for p in (train, holdout))
    alone, _ = nearest(train, train, skip_self=True)
    held_alone, _ = nearest(holdout, train)
    tau = float(np.quantile(held_alone, NEAR_QUANTILE)) + TIE
    near = _hits(to_synthetic <= tau, held_to_synthetic <= tau)
    said = f"share of train rows with a synthetic row within {tau:.4f}"
    found = [_compared(names[0], near, said, {"distance": tau})]
    found.append(_isolated(names[1], to_synthetic, held_to_synthetic, alone, held_alone))
    return [*found, _dcr(train, holdout, synthetic, rng)]


@dataclass(frozen=True, repr=False)
class Positions:
    """Rows as points: ranks in [0, 1] with NaN for missing (N, A), and level codes (N, B)."""

    numbers: Distances
    levels: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice | Ints) -> Positions:
        return Positions(self.numbers[rows], self.levels[rows])


def positions(tables: list[pd.DataFrame], evidence: Evidence) -> list[Positions]:
    """Place all tables in one space, numbers ranked among the rows of the first."""
    ranks: list[list[Distances]] = [[] for _ in tables]
    codes: list[list[Ints]] = [[] for _ in tables]
    for column in evidence.schema.modelled:
        parts = [t[column.name] for t in tables]
        if is_numeric(column):
            values = [numbers(p, column) for p in parts]
            known = np.sort(values[0][~np.isnan(values[0])])
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
        return _inconclusive(name, "the isolated rows are all on one side")
    hits = _hits(
        near[chosen] <= ISOLATED_RATIO * alone[chosen] + TIE,
        held_near[held] <= ISOLATED_RATIO * held_alone[held] + TIE,
    )
    said = "share of isolated train rows with a synthetic row within half their distance to others"
    return _compared(name, hits, said, {"isolation": limit})


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


def _hits(train: Bools, holdout: Bools) -> Hits:
    return Hits(int(train.sum()), len(train), int(holdout.sum()), len(holdout))


def _compared(name: str, hits: Hits, said: str, details: dict[str, float]) -> Measurement:
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


def _inconclusive(name: str, note: str) -> Measurement:
    return Measurement(name, "privacy", None, status="inconclusive", note=note)


CHECKS: dict[str, tuple[Area, Check]] = {
    "exact_copies": ("privacy", copies),
    "near_copies": ("privacy", near_copies),
}
