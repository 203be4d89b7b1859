"""What somebody who holds the synthetic table can find out about people: attacks with controls.

Every attack is made on train rows (main), on as good as equal holdout rows (control), and by
somebody who has no synthetic table (baseline). What it finds out about the holdout it knows from
the population, and what remains is the leak: risk = (main - control) / (1 - control), after Giomi
et al. 2023 (doi:10.56553/popets-2023-0055), who follow the three criteria of WP29 05/2014: singling
out, linkability, inference. As train and holdout are a random split, Fisher's exact test applies.

An attack that does no better than its baseline is `inconclusive`: it has no power here, and that it
found nothing is no reason to pass. Written from the papers; no code is taken from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from synthgen.checks.check import Area, Check, Evidence, Measurement
from synthgen.checks.contrast import wilson
from synthgen.checks.distances import Distances, nearest, positions
from synthgen.checks.features import Bools, Ints, is_numeric, levels, matrix, numbers, take
from synthgen.checks.privacy import (
    LEARNT_ODDS,
    MIN_TARGETS,
    Hits,
    attacked,
    clopper_pearson,
    hits_of,
    inconclusive,
    membership,
)
from synthgen.rng import derive, stream
from synthgen.schema import Column

#: Rows a side that are attacked, synthetic rows that an attacker searches, predicates tried.
MAX_TARGETS, MAX_SEARCHED, MAX_PREDICATES = 2_000, 10_000, 2_000
#: Rows a side that the learnt membership attack looks at, and that it is trained on.
MAX_MEMBERS, MAX_FIT_ROWS = 10_000, 5_000
#: Rows that small cells are sought in, and pairs of columns that make them; more are sampled.
MAX_CELL_ROWS, MAX_CELL_PAIRS = 50_000, 50
#: A guessed number counts as right within this rank distance of the truth.
RIGHT_RANK = 0.05
#: With the control at or above this an attribute is easy to guess for anybody: no power.
EASY = 0.8
#: Columns in a predicate of the multivariate singling-out attack.
PREDICATE_COLUMNS = 4
#: A risk whose interval is wider than this is not known well enough to be compared with a limit.
MAX_WIDTH = 0.2
#: Random halves of the columns that linkability is tried with.
LINK_SPLITS = 3
TOO_FEW = f"fewer than {MIN_TARGETS} rows a side"


def membership_learned(evidence: Evidence) -> list[Measurement]:
    """Guess who was in train by trees that tell synthetic rows from rows of the population.

    Half of the holdout stands for the population, the other half is attacked: the score is the
    logit that a row is synthetic (as the discriminator of Hayes et al. 2019, doi:10.2478/
    popets-2019-0008, with the calibration of van Breugel et al. 2023, arXiv 2302.12580).
    """
    name = "membership_learned"
    rng = stream(evidence.seed, name)
    inside, held, _ = attacked(evidence, MAX_MEMBERS, 0, rng)
    half = len(held) // 2
    n = min(half, len(evidence.synthetic), MAX_FIT_ROWS)
    if min(n, len(inside)) < MIN_TARGETS or not evidence.schema.modelled:
        return [inconclusive(name, TOO_FEW)]
    frames = [take(evidence.synthetic, n, rng), held[:half].head(n), inside, held[half:]]
    (fake, real, members, others), is_level = matrix(frames, evidence.schema.modelled)
    trees = HistGradientBoostingClassifier(
        max_iter=60,
        categorical_features=is_level,
        early_stopping=False,
        random_state=derive(evidence.seed, name) % 2**31,
    ).fit(np.concatenate([fake, real]), np.arange(2 * n) < n)
    scores = [trees.decision_function(x).astype("float32") for x in (members, others)]
    said = "AUC of guessing train rows by how synthetic they look to trees"
    return membership(name, scores[0], scores[1], said)


def linkability(evidence: Evidence) -> list[Measurement]:
    """Link two halves of a person's columns by the one synthetic row that is nearest to both.

    `LINK_SPLITS` random halves of the columns; a person counts as linked if one of them links her.
    The baseline links by chance.
    """
    name, columns = "linkability", evidence.schema.modelled
    rng = stream(evidence.seed, name)
    frames = attacked(evidence, MAX_TARGETS, MAX_SEARCHED, rng)
    if len(columns) < 2 or _smallest(frames) < MIN_TARGETS:
        return [inconclusive(name, "fewer than two modelled columns, or " + TOO_FEW)]
    linked = [np.zeros(len(f), bool) for f in frames[:2]]
    for _ in range(LINK_SPLITS):
        order = rng.permutation(len(columns))
        halves = [[columns[i] for i in part] for part in np.array_split(order, 2)]
        places = [positions(frames, half) for half in halves]
        for side in (0, 1):
            a, b = (nearest(p[side], p[2]).index for p in places)
            linked[side] |= a == b
    chance = LINK_SPLITS / len(frames[2])
    said = "train rows whose halves meet in one synthetic row, beyond the holdout's"
    return [_attack(name, hits_of(*linked), chance, said)]


def attribute_inference(evidence: Evidence) -> list[Measurement]:
    """Guess each declared sensitive column from all others, by the nearest synthetic row.

    A number is guessed right within `RIGHT_RANK` of its rank. The baseline guesses with the value
    of a random synthetic row. The value is that of the column with the smallest p among those that
    not everybody guesses (`EASY`); p is Bonferroni's over all columns.
    """
    name, modelled = "attribute_inference", evidence.schema.modelled
    sensitive = [c for c in modelled if c.sensitive]
    if not sensitive:
        return [inconclusive(name, "no column is declared sensitive: none was guessed")]
    rng = stream(evidence.seed, name)
    frames = attacked(evidence, MAX_TARGETS, MAX_SEARCHED, rng)
    if len(modelled) < 2 or _smallest(frames) < MIN_TARGETS:
        return [inconclusive(name, "fewer than two modelled columns, or " + TOO_FEW)]
    found = {c.name: _inferred(name, c, frames, modelled, rng) for c in sensitive}
    hard = [m for m in found.values() if m.details["control"] < EASY]
    worst = min(hard or found.values(), key=lambda m: m.details["p"])
    least = min(m.details["p"] for m in found.values())
    details = worst.details | {
        "p": min(1.0, least * len(found)),
        "columns": {
            column: {"risk": m.value, "control": m.details["control"], "p": m.details["p"]}
            for column, m in found.items()
        },
    }
    if hard:
        return [replace(worst, details=details)]
    note = f"{worst.note}: anybody guesses {EASY:.0%} of it, so the attack has no power"
    return [replace(worst, details=details, status="inconclusive", note=note)]


def _inferred(
    name: str,
    column: Column,
    frames: list[pd.DataFrame],
    modelled: Sequence[Column],
    rng: np.random.Generator,
) -> Measurement:
    """Attack one column of the train and holdout rows in `frames`; the last are searched."""
    places = positions(frames, [c for c in modelled if c is not column])
    guesses = [nearest(p, places[2]).index for p in places[:2]]
    right = _right(frames, column, guesses)
    blind = [rng.integers(0, len(frames[2]), len(g)) for g in guesses]
    by_chance = float(_right(frames, column, blind)[0].mean())
    said = f"'{column.name}' guessed right from the other columns, beyond the holdout's"
    return _attack(name, hits_of(*right), by_chance, said)


def singling_out(evidence: Evidence) -> list[Measurement]:
    """Say something of one synthetic row that holds for exactly one real row.

    ``singling_out_1``: one value that a single synthetic row has.
    ``singling_out_4``: of a random synthetic row, four columns at once: a level as it is, a number
    on its side of the median. Main and control are the shares of claims that hold for exactly one
    of as many train as holdout rows; the baseline puts the four conditions of different rows
    together. Claims about one person are no independent trials, so ``p`` is Fisher's over people:
    who is alone, in train and holdout together, with what some claim says?
    """
    names = ("singling_out_1", f"singling_out_{PREDICATE_COLUMNS}")
    columns = evidence.schema.modelled
    rng = stream(evidence.seed, "singling_out")
    train, holdout, synthetic = attacked(evidence, MAX_SEARCHED, MAX_SEARCHED, rng)
    n = min(len(train), len(holdout))
    frames = [train.head(n), holdout.head(n), synthetic]
    if not columns or _smallest(frames) < MIN_TARGETS:
        return [inconclusive(name, TOO_FEW) for name in names]
    codes = _codes(frames, columns)
    one = _claims_of_values(codes, rng)
    four, mixed = (_claims_of_rows(codes, columns, rng, mix=mix) for mix in (False, True))
    said = "claims about a synthetic row that hold for one train row, beyond the holdout's"
    return [
        _attack(names[0], one.hits, 0.0, said + "; one column", p=one.people.p),
        _attack(
            names[1],
            four.hits,
            mixed.hits.train / max(mixed.hits.n_train, 1),
            said + "; four columns",
            p=four.people.p,
        ),
    ]


def small_cells(evidence: Evidence) -> list[Measurement]:
    """Count people who alone hold a value or a pair of levels, and whose cell is written.

    A cell with one person in the whole real table is in train or holdout by chance; a generator
    that learnt the population writes both equally often. Rows with such a cell are counted, not
    cells, because one person's cells come and go together. What was seen once is a little likelier
    to any model that learnt than what was not: odds up to `LEARNT_ODDS` are no leak yet.
    """
    name, columns = "small_cells", evidence.schema.modelled
    rng = stream(evidence.seed, name)
    frames = attacked(evidence, MAX_CELL_ROWS, MAX_CELL_ROWS, rng)
    if not columns or not _smallest(frames):
        return [inconclusive(name, "no modelled column or no rows")]
    codes = _codes(frames, columns)
    named = [i for i, c in enumerate(columns) if not is_numeric(c)]
    pairs = [(i, j) for i in named for j in named if i < j]
    chosen = [pairs[k] for k in rng.permutation(len(pairs))[:MAX_CELL_PAIRS]]
    cells = [(i,) for i in range(len(columns))] + chosen
    alone, met = [[np.zeros(len(f), bool) for f in frames[:2]] for _ in range(2)]
    for cell in cells:
        ids = _joint([[c[:, i] for i in cell] for c in codes])
        held = np.bincount(np.concatenate(ids[:2]), minlength=int(max(i.max() for i in ids)) + 1)
        for side in (0, 1):
            single = held[ids[side]] == 1
            alone[side] |= single
            met[side] |= single & np.isin(ids[side], ids[2])
    if not alone[0].any() or not alone[1].any():
        return [inconclusive(name, "nobody is alone with a value or a pair of levels")]
    hits = hits_of(met[0][alone[0]], met[1][alone[1]])
    said = "people alone in a cell that is written, beyond the holdout's"
    return [_attack(name, hits, 0.0, said, p=hits.p_beyond(LEARNT_ODDS))]


# --- parts ---------------------------------------------------------------------------------------


def difference(hits: Hits) -> tuple[float, float, float]:
    """Return the risk (main - control) / (1 - control) and its 95 % interval.

    Newcombe's hybrid score interval of a difference (1998, doi:10.1002/(SICI)1097-0258(19980430)
    17:8<873::AID-SIM779>3.0.CO;2-I), divided by 1 - control.
    """
    a, b = hits.train / hits.n_train, hits.holdout / hits.n_holdout
    (a_low, a_high), (b_low, b_high) = (
        wilson(hits.train, hits.n_train),
        wilson(hits.holdout, hits.n_holdout),
    )
    scale = max(1 - b, 1 / hits.n_holdout)
    low = a - b - float(np.hypot(a - a_low, b_high - b))
    high = a - b + float(np.hypot(a_high - a, b - b_low))
    return (a - b) / scale, max(-1.0, low / scale), min(1.0, high / scale)


def _attack(
    name: str, hits: Hits, baseline: float, said: str, p: float | None = None
) -> Measurement:
    """Return the risk; inconclusive if it is not certainly above the baseline, or not precise.

    `p` replaces Fisher's of `hits` where these are no independent trials, or more is allowed.
    """
    if not hits.n_train or not hits.n_holdout:
        return inconclusive(name, "there was nothing to attack")
    risk, low, high = difference(hits)
    why = ""
    if min(hits.n_train, hits.n_holdout) < MIN_TARGETS:
        why = TOO_FEW
    elif clopper_pearson(hits.train, hits.n_train)[0] <= baseline:
        why = "no better than guessing without the synthetic rows"
    elif high - low > MAX_WIDTH:
        why = f"the interval is wider than {MAX_WIDTH}"
    return Measurement(
        name,
        "privacy",
        risk,
        low,
        high,
        n=hits.n_train,
        unit="risk",
        status="inconclusive" if why else "measured",
        control=0.0,
        details={
            "p": hits.p if p is None else p,
            "main": hits.train / hits.n_train,
            "control": hits.holdout / hits.n_holdout,
            "baseline": baseline,
            "n_holdout": hits.n_holdout,
        },
        note=f"{said}: {why}" if why else said,
    )


def _smallest(frames: Sequence[pd.DataFrame]) -> int:
    return min(map(len, frames))


def _right(frames: list[pd.DataFrame], column: Column, guesses: Sequence[Ints]) -> list[Bools]:
    """Whether the synthetic rows `guesses` hold the value of train's and the holdout's rows."""
    places = positions(frames, [column])
    right: list[Bools] = []
    for truth, guess in zip(places[:2], guesses, strict=True):
        told = places[2][guess]
        if not is_numeric(column):
            right.append((truth.levels == told.levels).ravel())
            continue
        gap: Distances = np.abs(truth.numbers - told.numbers).ravel()
        both_gone = (np.isnan(truth.numbers) & np.isnan(told.numbers)).ravel()
        right.append((gap <= RIGHT_RANK) | both_gone)
    return right


def _codes(frames: Sequence[pd.DataFrame], columns: Sequence[Column]) -> list[Ints]:
    """Return every column's value as an integer, (N, C) a frame; numbers in their order.

    A column is contiguous in memory, and stays so when tables are concatenated.
    """
    parts: list[list[Ints]] = [[] for _ in frames]
    for column in columns:
        series = [f[column.name] for f in frames]
        coded = _ordered(series, column) if is_numeric(column) else levels(series, column)
        for part, codes in zip(parts, coded, strict=True):
            part.append(codes)
    return [np.stack(p).T for p in parts]


def _ordered(series: Sequence[pd.Series], column: Column) -> list[Ints]:
    values = np.concatenate([numbers(s, column) for s in series])
    _, codes = np.unique(values, return_inverse=True)  # NaN is one value, the last
    return np.split(codes.astype("int64"), np.cumsum([len(s) for s in series])[:-1])


def _joint(tables: Sequence[Sequence[Ints]]) -> list[Ints]:
    """Return one integer a row that is equal where all of its codes are."""
    joined = [np.concatenate(c) for c in zip(*tables, strict=True)]
    ids = np.zeros(len(joined[0]), "int64")
    for codes in joined:
        ids = pd.factorize(ids * (int(codes.max()) + 1) + codes)[0].astype("int64")
    return np.split(ids, np.cumsum([len(t[0]) for t in tables])[:-1])


@dataclass(frozen=True, repr=False)
class _Claims:
    """Claims that held for exactly one row of a side, and people who are alone with one."""

    hits: Hits
    people: Hits

    @classmethod
    def of(cls, held_by: list[Ints], n: int) -> _Claims:
        """Count claims, each given by the real rows that it holds for; those below `n` are train's.

        A claim counts for a side if one row of that side has it, for a person if she is the only
        one on both sides: what is asked of a person must not depend on where she is.
        """
        of_train = [int((rows < n).sum()) for rows in held_by]
        one = [
            np.array([count == 1 for count in counts], bool)
            for counts in (of_train, [len(r) - k for r, k in zip(held_by, of_train, strict=True)])
        ]
        alone = np.zeros(2 * n, bool)
        for rows in held_by:
            if len(rows) == 1:
                alone[rows] = True
        return cls(hits_of(*one), hits_of(alone[:n], alone[n:]))


def _claims_of_values(codes: list[Ints], rng: np.random.Generator) -> _Claims:
    """Claim the values that one synthetic row alone has."""
    real = np.concatenate(codes[:2])
    claims = []
    for i in range(real.shape[1]):
        values, counts = np.unique(codes[2][:, i], return_counts=True)
        claims += [(i, value) for value in values[counts == 1]]
    tried = [claims[k] for k in rng.permutation(len(claims))[:MAX_PREDICATES]]
    return _Claims.of([np.flatnonzero(real[:, i] == value) for i, value in tried], len(codes[0]))


def _claims_of_rows(
    codes: list[Ints], columns: Sequence[Column], rng: np.random.Generator, *, mix: bool
) -> _Claims:
    """Claim four conditions of one synthetic row (`mix`: of four)."""
    real, n_columns = np.concatenate(codes[:2]), len(columns)
    width = min(PREDICATE_COLUMNS, n_columns)
    numeric = np.array([is_numeric(c) for c in columns])
    middle = np.median(codes[2], axis=0)
    held_by = []
    for _ in range(MAX_PREDICATES):
        chosen = rng.permutation(n_columns)[:width]
        rows = rng.integers(0, len(codes[2]), width if mix else 1)
        told = codes[2][rows, chosen] if mix else codes[2][rows[0], chosen]
        left: Ints | None = None  # all rows
        for i, value in zip(chosen, told, strict=True):
            here = real[:, i] if left is None else real[left, i]
            if not numeric[i]:
                holds = here == value
            else:
                holds = here >= value if value > middle[i] else here <= value
            left = np.flatnonzero(holds) if left is None else left[holds]
        assert left is not None  # a table without columns is not attacked
        held_by.append(left)
    return _Claims.of(held_by, len(codes[0]))


CHECKS: dict[str, tuple[Area, Check]] = {
    "membership_learned": ("privacy", membership_learned),
    "linkability": ("privacy", linkability),
    "attribute_inference": ("privacy", attribute_inference),
    "singling_out_1": ("privacy", singling_out),
    "small_cells": ("privacy", small_cells),
}
