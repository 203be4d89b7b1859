"""Whether the synthetic table gives away rows it was trained on, against rows it never saw.

Every test asks the same of train rows and of holdout rows: is there a synthetic row that equals
it, or lies suspiciously close? Both were drawn from one population by chance, so a generator that
learnt the population meets both equally often, and one that memorised meets train more often. The
test is Fisher's exact one, one-sided, so tables that legitimately hold many equal rows are judged
as strictly as others. Controls as in Giomi et al. 2023 (doi:10.56553/popets-2023-0055).

The test is exact because the split was random and whether a row is met does not depend on its side:
ranks, rarity and uniqueness are those of train and holdout together. What was split at random are
people: where the schema has an entity key, the rows of one key are counted once.

Distances are Gower's (`distances`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.special import gammaln
from scipy.stats import beta, binom, norm

from synthgen.checks.check import Area, Check, Evidence, Measurement
from synthgen.checks.contrast import wilson
from synthgen.checks.detection import auc, auc_error
from synthgen.checks.distances import (
    Distances,
    Neighbours,
    Positions,
    nearest,
    nearest_both,
    nearest_others,
    positions,
)
from synthgen.checks.features import Bools, Floats, Ints, is_numeric, levels, numbers, take
from synthgen.rng import stream
from synthgen.schema import TableSchema

#: Rows of each table that distances are computed for; exact copies are sought among all rows.
MAX_DISTANCE_ROWS = 20_000
#: Share of holdout rows that lie nearer to a train row than what "near" means.
NEAR_QUANTILE = 0.01
#: The rows that stand alone: this share of both tables, and at least so many train rows.
ISOLATED_SHARE = 0.05
MIN_ISOLATED = 100
#: A synthetic row at less than this share of the way to the nearest real row is too near.
ISOLATED_RATIO = 0.5
#: Rows whose cells are the rarest: this share of train and holdout together.
RARE_SHARE = 0.2
#: Level at which a row's total decides whether it counts as a test of `repeated_copies`: its p
#: values are valid up to here.
REPEATED_LEVEL = 0.01
#: An AUC of membership up to here is what any model that learnt shows.
LEARNT_AUC = 0.52
#: Odds of a train row to be met (nearly, or by its rarest cell), to those of a holdout row, up to
#: which any model that learnt shows.
LEARNT_ODDS = 1.25
#: Fewer rows a side leave a membership attack nothing to say.
MIN_TARGETS = 100
#: A nearest row at less than such a share of the way to the second nearest is suspiciously near.
NNDR_LIMITS = (0.05, 0.1)
#: Distances closer than this are ties (float32 sums).
TIE = 1e-6


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
        return self.p_beyond(1.0)

    def p_beyond(self, odds: float) -> float:
        """One-sided p value of "the odds of train rows are at most `odds` times the holdout's".

        The tail of Fisher's noncentral hypergeometric distribution (Fisher 1935, McCullagh & Nelder
        1989, section 7.3); `odds` 1 is Fisher's exact test.
        """
        met = self.train + self.holdout
        train = np.arange(max(0, met - self.n_holdout), min(met, self.n_train) + 1)
        holdout = met - train
        log = train * math.log(odds) - (
            gammaln(train + 1)
            + gammaln(self.n_train - train + 1)
            + gammaln(holdout + 1)
            + gammaln(self.n_holdout - holdout + 1)
        )
        mass = np.exp(log - log.max())
        return float(mass[train >= self.train].sum() / mass.sum())

    @property
    def excess(self) -> float:
        """Share of train rows met, less the share of holdout rows met."""
        return self.train / self.n_train - self.holdout / self.n_holdout

    def smallest_seen(self, level: float, odds: float = 1.0) -> int | None:
        """Fewest further train rows that would have brought p below `level`; None: no number."""
        for more in _doubling_then_all(self.n_train - self.train):
            raised = Hits(self.train + more, self.n_train, self.holdout, self.n_holdout)
            if raised.p_beyond(odds) < level:
                return more
        return None


def _doubling_then_all(limit: int) -> list[int]:
    steps = sorted({round(1.1**k) for k in range(200) if 1.1**k < limit} | {max(limit, 0)})
    return [0, *steps]


@dataclass(frozen=True, repr=False)
class People:
    """Whose each real row is: integers (N,), train's rows first; without an entity key its own."""

    owner: Ints
    n_train_rows: int

    def hits(self, met: Bools, among: Bools | None = None) -> Hits:
        """Count people with a met row; with `among`, of those who have such a row, by those."""
        asked = np.ones(len(met), bool) if among is None else among
        sides = (slice(None, self.n_train_rows), slice(self.n_train_rows, None))
        counts = [
            len(np.unique(self.owner[side][chosen[side]]))
            for side in sides
            for chosen in (met & asked, asked)
        ]
        return Hits(*counts)


def people(evidence: Evidence) -> People:
    """Return whose the rows of train and holdout are."""
    return People(_owners([evidence.train, evidence.holdout], evidence.schema), len(evidence.train))


def _owners(frames: Sequence[pd.DataFrame], schema: TableSchema) -> Ints:
    if schema.entity is None:
        return np.arange(sum(map(len, frames)))
    keys = pd.concat([f[schema.entity.name] for f in frames], ignore_index=True)
    return pd.factorize(keys, use_na_sentinel=False)[0].astype("int64")


def holders(ids: Ints, sides: People, size: int = 0) -> Ints:
    """Return how many people have each of `size` kinds of rows; `ids` (N,) are the real rows'."""
    each = pd.DataFrame({"id": ids, "owner": sides.owner}).drop_duplicates()["id"]
    return np.bincount(each, minlength=size)


def attacked(
    evidence: Evidence, n_real: int, n_synthetic: int, rng: np.random.Generator
) -> list[pd.DataFrame]:
    """Return a row each of at most `n_real` people of train and of the holdout, and rows drawn.

    More rows of one person would be no independent trials, and each other's neighbours.
    """
    real = (evidence.train, evidence.holdout)
    targets = [take_people(f, n_real, evidence.schema, rng) for f in real]
    return [*targets, take(evidence.synthetic, n_synthetic, rng)]


def take_people(
    frame: pd.DataFrame, n: int, schema: TableSchema, rng: np.random.Generator
) -> pd.DataFrame:
    """Return a random row of each of `n` people, in random order; of all if there are fewer."""
    order = rng.permutation(len(frame))
    if schema.entity is not None:
        owners = _owners([frame], schema)[order]
        order = order[np.sort(np.unique(owners, return_index=True)[1])]
    return frame.iloc[order[:n]].reset_index(drop=True)


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
    real, sides = np.concatenate([train, holdout]), people(evidence)
    met = np.isin(real, synthetic)
    alone = holders(real, sides)[real] == 1
    shares = {
        "synthetic_equal_train": float(np.isin(synthetic, train).mean()),
        "synthetic_equal_holdout": float(np.isin(synthetic, holdout).mean()),
    }
    said = "share of train rows that a synthetic row equals"
    return [
        compared(names[0], sides.hits(met), said, shares),
        _among(names[1], sides, met, alone, "the same among rows that one person alone has"),
        _repeated(names[2], sides, real, synthetic),
        _among(names[3], sides, met, _rare(evidence), "the same among the rarest rows"),
    ]


def _among(name: str, sides: People, met: Bools, chosen: Bools, said: str) -> Measurement:
    """Compare how many of the people with `chosen` rows have one that was met."""
    hits = sides.hits(met, chosen)
    if not hits.n_train or not hits.n_holdout:
        note = f"{said}: no such row on one side, so none can be met"
        return Measurement(
            name, "privacy", 0.0, 0.0, 0.0, control=0.0, details={"p": 1.0}, note=note
        )
    return compared(name, hits, said, {})


def reused(evidence: Evidence) -> list[Measurement]:
    """Count people whose id or personal datum the table repeats: ``reused.<column>``.

    One measurement for each column that is not modelled, for tables of other tools; ours writes
    such columns anew. Numbers that everybody counts from 1 occur in train and holdout alike, and
    what was taken from train occurs there more often. Missing values are nobody's.
    """
    found, sides = [], people(evidence)
    frames = (evidence.train, evidence.holdout, evidence.synthetic)
    for column in evidence.schema.columns:
        if column.is_modelled or not all(column.name in f for f in frames):
            continue
        train, holdout, synthetic = (f[column.name] for f in frames)
        real = pd.concat([train, holdout], ignore_index=True)
        is_known = real.notna().to_numpy()
        met = is_known & real.isin(synthetic.dropna()).to_numpy()
        said = "share of people of train whose value is written"
        one = _among(f"reused.{column.name}", sides, met, is_known, said)
        hits = sides.hits(met, is_known)
        note = f"{hits.train:,} values of train and {hits.holdout:,} of the holdout are written"
        found.append(replace(one, note=note))
    return found


def _repeated(name: str, sides: People, real: Ints, synthetic: Ints) -> Measurement:
    """Test whether a row that one person of train alone has is written too many times.

    Given how often a row occurs in real and synthetic rows together, the synthetic share of that is
    binomial if both come from one population. Rows that occur too rarely to be significant at all
    are not counted as tests (Tarone 1990, doi:10.2307/2531456); Bonferroni over the others.
    NOTE: the one test without the holdout as its yardstick, which a single row cannot have. A
    generator that writes an ordinary row far too often is refused too.
    """
    size = int(max(real.max(), synthetic.max())) + 1
    held, written = (np.bincount(ids, minlength=size) for ids in (real, synthetic))
    share = len(synthetic) / (len(synthetic) + len(real))
    total = held + written
    floors = np.sort(share ** total[total > 0])
    tests = 1
    while tests < len(floors) and floors[tests] * (tests + 1) < REPEATED_LEVEL:
        tests += 1
    of_train = np.zeros(size, bool)
    of_train[real[: sides.n_train_rows]] = True
    single = of_train & (holders(real, sides, size) == 1) & (written > 0)
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


def _rare(evidence: Evidence) -> Bools:
    """Which real rows (N,), train's first, have the least likely cells, columns by themselves."""
    surprise = np.zeros(len(evidence.train) + len(evidence.holdout))
    for column in evidence.schema.modelled:
        parts = [f[column.name] for f in (evidence.train, evidence.holdout)]
        if is_numeric(column):
            codes = _twentieths(np.concatenate([numbers(p, column) for p in parts]))
        else:
            codes = np.concatenate(levels(parts, column))
        surprise -= np.log(np.bincount(codes)[codes] / len(codes))
    return surprise >= np.quantile(surprise, 1 - RARE_SHARE)


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


@dataclass(frozen=True, repr=False, eq=False)
class RealRows:
    """Real rows that distances are computed for: the same for all tables that a model wrote.

    Attributes
    ----------
    evidence : Evidence
        Of one of them: its rows of train and holdout are taken, a row a person, by its seed.
    """

    evidence: Evidence

    @cached_property
    def frames(self) -> list[pd.DataFrame]:
        """At most `MAX_DISTANCE_ROWS` rows of train and of the holdout."""
        rng = stream(self.evidence.seed, "near_copies", "real")
        tables = (self.evidence.train, self.evidence.holdout)
        return [take_people(f, MAX_DISTANCE_ROWS, self.evidence.schema, rng) for f in tables]

    @cached_property
    def apart(self) -> tuple[Distances, Distances]:
        """How far each row of train is from the nearest other one of train, each held one too."""
        tables = [*self.frames, self.evidence.synthetic.head(0)]
        train, holdout, _ = positions(tables, self.evidence.schema.modelled)
        return nearest_others(train).distance, nearest(holdout, train).distance


def near_copies(evidence: Evidence, real: RealRows | None = None) -> list[Measurement]:
    """Count train and holdout rows that a synthetic row comes too near to.

    ``near_copies``: nearer than the first percentile of the distances from holdout rows to train;
    odds up to `LEARNT_ODDS` are what learning brings.
    ``isolated_near_copies``: among the most isolated rows, nearer than half the way to the nearest
    other train row; ``isolated_copies``: among these, equal, which by chance hardly any is.
    ``dcr_share``: synthetic rows nearer to train than to as many holdout rows,
    ties half; .5 is ideal and proves nothing (Yao et al. 2025, arXiv 2505.01524).
    ``nndr``: real rows that lie at less than `NNDR_LIMITS` of the way from a synthetic row to the
    second nearest real one (the nearest neighbour distance ratio, counted on the real side), which
    finds edited copies where rows are sparse and where they are dense.
    ``membership_distance``: who was in train, guessed from how much nearer than to other real rows
    a row is to the nearest synthetic one (k = 1). The density ratio of DOMIAS (van Breugel et al.
    2023, arXiv 2302.12580). NOTE[DIFF]: nearest neighbours for densities, the other train rows for
    the reference, which is an attacker who knows everybody else.
    """
    names = (
        *("near_copies", "isolated_near_copies", "isolated_copies"),
        *("dcr_share", "nndr", "membership_distance"),
    )
    real = RealRows(evidence) if real is None else real
    rng = stream(evidence.seed, "near_copies")
    written = take(evidence.synthetic, MAX_DISTANCE_ROWS, rng)
    tables = [*real.frames, written]
    if not evidence.schema.modelled or min(map(len, tables)) < 2:
        return [inconclusive(name, "no modelled column or too few rows") for name in names]
    train, holdout, synthetic = positions(tables, evidence.schema.modelled)
    n = min(len(train), len(holdout))
    reached, to_first, to_train = _both_ways(train, synthetic, n)
    held_reached, to_held_first, to_held = _both_ways(holdout, synthetic, n)
    alone, held_alone = real.apart
    tau = float(np.quantile(held_alone, NEAR_QUANTILE)) + TIE
    near = hits_of(reached <= tau, held_reached <= tau)
    said = f"share of train rows with a synthetic row within {tau:.4f}"
    ratio = [
        np.log(apart + TIE) - np.log(to + TIE)
        for apart, to in ((alone, reached), (held_alone, held_reached))
    ]
    guessed = "AUC of guessing train rows by how near a synthetic row is, given how near others are"
    return [
        compared(names[0], near, said, {"distance": tau}, odds=LEARNT_ODDS),
        *_isolated(reached, held_reached, alone, held_alone),
        _dcr_share(to_first, to_held_first, n, rng),
        _clung_to(to_train.among(to_held, len(train)), len(train), len(holdout)),
        *membership(names[-1], ratio[0], ratio[1], guessed),
    ]


def membership(name: str, inside: Distances, outside: Distances, said: str) -> list[Measurement]:
    """Judge scores (N,) of train rows against scores (M,) of holdout rows; high says "in train".

    The value is the AUC. ``p`` is twice the smaller of two p values: that of an AUC above
    `LEARNT_AUC`, and Fisher's of how many train rows are among the top hundredth of all scores.
    Further measurements, ``<name>.tpr_1`` and ``<name>.tpr_01``: the shares of train rows found
    at false positive rates of 1 % and .1 % (Carlini et al. 2022, arXiv 2112.03570).
    """
    n, m = len(inside), len(outside)
    if min(n, m) < MIN_TARGETS:
        return [inconclusive(name, f"{min(n, m)} rows a side; {MIN_TARGETS} are needed")]
    scores = np.concatenate([inside, outside]).astype("float64")
    if not np.isfinite(scores).all():
        return [Measurement(name, "privacy", None, status="failed", note="a score is not finite")]
    area = auc(np.arange(n + m) < n, scores)
    error = max(auc_error(area, n, m), TIE)
    limit = float(np.quantile(scores, 0.99))
    top = hits_of(inside > limit, outside > limit)
    p = min(float(norm.sf((area - LEARNT_AUC) / error)), top.p)
    half = float(norm.ppf(0.975)) * error
    guessed = Measurement(
        name,
        "privacy",
        area,
        max(0.0, area - half),
        min(1.0, area + half),
        n=n,
        unit="AUC",
        control=0.5,
        details={"p": min(1.0, 2 * p), "n_holdout": m},
        note=said,
    )
    rates = (("tpr_1", 0.01), ("tpr_01", 0.001))
    return [guessed, *(_found_at(f"{name}.{label}", inside, outside, r) for label, r in rates)]


def _found_at(name: str, inside: Distances, outside: Distances, rate: float) -> Measurement:
    """Return the share of members scored above all but a share `rate` of the others.

    The threshold is itself uncertain, as it rests on ``rate * M`` rows. The interval takes the
    strictest and the loosest one that these allow and Clopper-Pearson's interval there, each with
    half of the error.
    """
    n, m = len(inside), len(outside)
    if m * rate < 1:
        return inconclusive(name, f"{m:,} holdout rows cannot show a rate of {rate:.1%}")
    few, many = (int(k) for k in binom.ppf([0.0125, 0.9875], m, rate))
    highest = np.sort(outside)[::-1]
    least, found, most = (
        int((inside > highest[min(k, m - 1)]).sum()) for k in (few, int(m * rate), many + 1)
    )
    low, high = clopper_pearson(least, n, 0.975)[0], clopper_pearson(most, n, 0.975)[1]
    return Measurement(
        name,
        "privacy",
        found / n,
        low,
        high,
        n=n,
        control=rate,
        note=f"share of train rows found where {rate:.1%} of the holdout's are; decides nothing",
    )


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share. Clopper & Pearson 1934, doi:10.2307/2331986."""
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else float(beta.ppf(tail, k, n - k + 1))
    return low, 1.0 if k == n else float(beta.ppf(1 - tail, k + 1, n - k))


def _isolated(
    near: Distances, held_near: Distances, alone: Distances, held_alone: Distances
) -> list[Measurement]:
    share = min(1.0, max(ISOLATED_SHARE, MIN_ISOLATED / len(alone)))
    limit = float(np.quantile(np.concatenate([alone, held_alone]), 1 - share))
    chosen, held = alone >= limit, held_alone >= limit
    found = []
    for name, ratio, how in (
        ("isolated_near_copies", ISOLATED_RATIO, "within half their distance to others"),
        ("isolated_copies", 0.0, "equal to them"),
    ):
        if not chosen.any() or not held.any():
            found.append(inconclusive(name, "the isolated rows are all on one side"))
            continue
        hits = hits_of(
            near[chosen] <= ratio * alone[chosen] + TIE,
            held_near[held] <= ratio * held_alone[held] + TIE,
        )
        said = f"share of isolated train rows with a synthetic row {how}"
        found.append(compared(name, hits, said, {"isolation": limit}))
    return found


def _both_ways(
    real: Positions, synthetic: Positions, n: int
) -> tuple[Distances, Neighbours, Neighbours]:
    """Return how near real rows come to synthetic ones, and these to the first `n` and to all."""
    (first, to_first), (rest, to_rest) = (
        nearest_both(part, synthetic) for part in (real[:n], real[n:])
    )
    reached = np.concatenate([first.distance, rest.distance])
    return reached, to_first, to_first.among(to_rest, n)


def _dcr_share(
    to_train: Neighbours, to_held: Neighbours, n: int, rng: np.random.Generator
) -> Measurement:
    """Say where synthetic rows lie among `n` rows of each side.

    The standard error is that of relabelling the real rows at random. One real row can be the
    nearest of many synthetic ones, which the binomial error does not know.
    """
    n_synthetic = len(to_train.distance)
    ties = to_train.distance == to_held.distance
    nearer = (to_train.distance < to_held.distance) | (ties & (rng.random(n_synthetic) < 0.5))
    share = float(nearer.mean())
    index = np.where(nearer, to_train.index, n + to_held.index)
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


def _clung_to(to_real: Neighbours, n_train: int, n_holdout: int) -> Measurement:
    """Count the real rows, train's first, that a synthetic row lies suspiciously near to.

    A synthetic row between two equally near ones clings to neither. Bonferroni over `NNDR_LIMITS`.
    """
    by_limit = []
    for limit in NNDR_LIMITS:
        met = np.zeros(n_train + n_holdout, bool)
        met[to_real.index[to_real.distance + TIE < limit * to_real.second]] = True
        by_limit.append(hits_of(met[:n_train], met[n_train:]))
    p = min(1.0, len(by_limit) * min(hits.p for hits in by_limit))
    said = (
        f"share of train rows to which a synthetic row lies {1 / NNDR_LIMITS[-1]:.0f} times nearer "
        "than to any other real row"
    )
    return compared("nndr", by_limit[-1], said, {"p": p})


def hits_of(train: Bools, holdout: Bools) -> Hits:
    """Count which train rows (N,) and which holdout rows (M,) were met."""
    return Hits(int(train.sum()), len(train), int(holdout.sum()), len(holdout))


def compared(
    name: str, hits: Hits, said: str, details: dict[str, float], *, odds: float = 1.0
) -> Measurement:
    """Return the share of train rows met, the holdout's as its control, and Fisher's p.

    `odds` of train rows to the holdout's are no leak yet.
    """
    low, high = wilson(hits.train, hits.n_train)
    seen = hits.smallest_seen(1e-3, odds)
    return Measurement(
        name,
        "privacy",
        hits.train / hits.n_train,
        low,
        high,
        n=hits.n_train,
        control=hits.holdout / hits.n_holdout,
        details={
            "p": hits.p_beyond(odds),
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
