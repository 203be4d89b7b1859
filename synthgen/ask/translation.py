"""Rows of one domain rewritten as if from another: another site, another year, other people.

A fitted generator answers p(column | any others), so it says at which rank a cell lies among rows
that agree in what is kept and in the columns before. The cell of the same rank under the other
domain's generator takes its place: the Knothe-Rosenblatt rearrangement of one conditional law into
the other (Rosenblatt 1952, doi:10.1214/aoms/1177729394). Where both generators are right, so is the
law of the result given the kept columns, and the way back leads to the row that one came from, as
far as rows do not share values (`came_back` counts it). CycleGAN (Zhu et al. 2017, arXiv
1703.10593) trains two further networks for both; benchmarks/translating.py compares.

Levels without an order have no rank: they stay as they are as often as both laws allow (maximal
coupling, Lindvall 1992, chapter I.5), and so does whether a cell is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from synthgen.ask.completion import Asked, Completion
from synthgen.encode.categorical import CategoricalEncoder
from synthgen.encode.column import EncodedTable, Floats
from synthgen.encode.numeric import NumericEncoder
from synthgen.encode.table import Part
from synthgen.rng import stream

Levels = npt.NDArray[np.int64]
#: A number or date has come back if it is this near, in standard deviations of its column.
NEAR = 0.05
#: Rows that are translated together.
BATCH = 2_048
_TINY = 1e-12


def translate(
    source: Completion, target: Completion, frame: pd.DataFrame, *, keep: Collection[str], seed: int
) -> pd.DataFrame:
    """Return the rows of `frame`, of the source's domain, as if they were of the target's.

    Parameters
    ----------
    source, target : Completion
        Of the same columns. Only ranks and the names of levels cross from one to the other, so
        their encoders may differ.
    frame : DataFrame
        N rows of every modelled column, canonical dtypes.
    keep : collection of str
        Columns that stay as they are.
    seed : int
        Equal seeds give equal rows. Decides where a row lies among rows of the same level.
    """
    kept = {name: name in keep for name in frame.columns}
    known = pd.DataFrame(kept, frame.index)
    asked, wanted = source.ask(frame, known, seed=seed), target.ask(frame, known, seed=seed)
    order = in_order(source, target)
    here, there = Side(source, order), Side(target, order)
    luck = {part: stream(seed, "translate", *part).random((2, len(frame))) for part in there.parts}
    tokens, offsets = np.array(wanted.encoded.tokens), np.array(wanted.encoded.offsets)
    for rows in _batches(len(frame)):
        chances = {part: both[:, rows] for part, both in luck.items()}
        ranked = here.ranks(asked, rows, chances)
        tokens[rows], offsets[rows] = there.rows(wanted, rows, ranked, chances)
    moved = EncodedTable(tokens, offsets, target.encoder.layout)
    return target.answer(wanted, moved, seed=seed)


def came_back(frame: pd.DataFrame, back: pd.DataFrame, names: Collection[str]) -> dict[str, float]:
    """Return the share of rows whose cell is as it was, by column of `names`.

    That is how well a translation keeps its cycle: `back` is `frame` translated to the other domain
    and from there to its own. A number or date is as it was within `NEAR` standard deviations of
    its column in `frame`; all else if equal; a missing cell if it is missing again.

    >>> was = pd.DataFrame({"x": [0.0, 10.0, None, 5.0]})
    >>> came_back(was, pd.DataFrame({"x": [0.1, 7.0, None, None]}), ["x"])
    {'x': 0.5}
    """
    shares = {}
    for name in names:
        a, b = frame[name].reset_index(drop=True), back[name].reset_index(drop=True)
        gone = a.isna() & b.isna()
        if pd.api.types.is_datetime64_any_dtype(a) or pd.api.types.is_float_dtype(a):
            same = (a - b).abs() <= NEAR * a.std()
        else:
            same = (a == b).fillna(False)
        shares[name] = float((same | gone).astype(bool).mean()) if len(a) else 1.0
    return shares


@dataclass(frozen=True)
class Ranked:
    """Where the cells of B rows lie under one generator.

    Attributes
    ----------
    encoder : NumericEncoder or CategoricalEncoder
    p : (B, L) float64
        Probabilities of the levels, given what is kept and the columns before.
    level : (B,) int
    within : (B,) float64 in [0, 1]
        Rank among cells of the same level.
    """

    encoder: NumericEncoder | CategoricalEncoder
    p: Floats
    level: Levels
    within: Floats


Key = tuple[str, str]
Chances = Mapping[Key, Floats]


class Side:
    """One generator: the ranks of rows under it, and the rows of ranks.

    Parameters
    ----------
    completion : Completion
    order : list of (column, view)
        In which parts are moved; the same for both generators.

    Attributes
    ----------
    parts : dict of (column, view) to int
        The coarse token of each part of the encoder, in that order.
    """

    def __init__(self, completion: Completion, order: Sequence[Key]) -> None:
        self._completer, self._parts = completion.completer, completion.encoder.parts
        layout = completion.encoder.layout
        at = {_key(p): i for i, p in enumerate(self._parts)}
        self.parts: dict[Key, int] = {key: at[key] for key in order if key in at}
        self._fine = {i: layout.fine_at[i] for i in self.parts.values() if i in layout.fine_at}
        self._offset = layout.offset_at

    def ranks(self, asked: Asked, rows: slice, chances: Chances) -> dict[Key, Ranked]:
        """Return where the cells of some rows lie.

        Rows that hold one exact value are spread over its rank by chance.
        """
        tokens, offsets = asked.encoded.tokens[rows], asked.encoded.offsets[rows]
        walk = self._completer.walk(tokens, asked.mask[rows], _of(asked, rows))
        coarse, fine = self._completer.phases
        p: dict[int, Floats] = {}
        for phase, those in ((coarse, self.parts.values()), (fine, self._fine.values())):
            walk.show_known(phase)
            for token in those:
                if len(walk.unknown(token)):
                    p[token] = walk.probabilities(token)
                    walk.tell(token, tokens[:, token])
        found = {}
        for key, i in self.parts.items():
            if i not in p:
                continue
            encoder, level = self._parts[i].encoder, tokens[:, i].astype(np.int64)
            assert isinstance(encoder, NumericEncoder | CategoricalEncoder)
            within = np.zeros(len(level))
            if isinstance(encoder, NumericEncoder):
                cell = tokens[:, self._fine[i]] if i in self._fine else np.zeros_like(level)
                lower, upper = encoder.cells
                is_wide = upper[level, cell] > lower[level, cell]
                by_chance = chances[key][1] if key in chances else 0.5
                within = np.where(is_wide, offsets[:, self._offset[i]], by_chance)
                if i in self._fine:
                    within = _rank(p[self._fine[i]], cell.astype(np.int64), within)
            found[key] = Ranked(encoder, p[i], level, within)
        return found

    def rows(
        self, wanted: Asked, rows: slice, ranked: Mapping[Key, Ranked], chances: Chances
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Return the tokens (B, T) and offsets (B, O) of the same ranks under this generator.

        A part that the other generator does not have is drawn.
        """
        walk = self._completer.walk(
            wanted.encoded.tokens[rows], wanted.mask[rows], _of(wanted, rows)
        )
        coarse, fine = self._completer.phases
        offsets, within = np.array(wanted.encoded.offsets[rows]), dict[int, Floats]()
        walk.show_known(coarse)
        for key, i in self.parts.items():
            if len(walk.unknown(i)):
                q, encoder = walk.probabilities(i), self._parts[i].encoder
                if key not in ranked:
                    level, within[i] = _at(q, chances[key][0])
                elif isinstance(encoder, NumericEncoder):
                    level, within[i] = moved_number(ranked[key], encoder, q, chances[key][0])
                else:
                    assert isinstance(encoder, CategoricalEncoder)
                    level = moved_level(ranked[key], encoder, q, chances[key])
                walk.tell(i, level)
        walk.show_known(fine)
        for i, token in self._fine.items():
            if len(walk.unknown(token)):
                cell, within[i] = _at(walk.probabilities(token), within[i])
                walk.tell(token, cell)
        for i, o in self._offset.items():
            if i in within:
                offsets[:, o] = within[i].clip(0, 1)
        return walk.tokens, offsets


def in_order(source: Completion, target: Completion) -> list[Key]:
    """Return the parts of both encoders, those first of which the fewest rows share a value.

    Where rows share one value it is lost which of them a row was, so that such a cell may not come
    back, and then all that were moved given it do not either.
    """
    shared: dict[Key, float] = {}
    for side in (source, target):
        for part in side.encoder.parts:
            shared[_key(part)] = shared.get(_key(part), 0.0) + ties(part)
    return sorted(shared, key=lambda key: shared[key])


def ties(part: Part) -> float:
    """Return how likely two rows are to share a value of a part (missing ones are one value)."""
    encoder = part.encoder
    if not isinstance(encoder, NumericEncoder):
        return float((encoder.prior**2).sum())
    of_cells = encoder.counts / max(encoder.counts.sum(), 1.0)
    is_exact = np.r_[True, encoder.lower == encoder.upper]
    return float((of_cells[is_exact] ** 2).sum())


def moved_number(
    of: Ranked, encoder: NumericEncoder, q: Floats, chance: Floats
) -> tuple[Levels, Floats]:
    """Return level (B,) and rank in it of the same rank among what is not missing.

    `q` (B, L) are the other law's probabilities; level 0 is missing and stays so as often as both
    laws allow, by `chance` (B,).
    """
    here, there = _order(of.encoder), _order(encoder)
    gone_p, gone_q = of.p[:, 0], q[:, 0]
    is_gone = of.level == 0
    # Of those who are missing there is room for a share; of the others, perhaps, some must go.
    share = np.where(
        is_gone, gone_q / gone_p.clip(_TINY), (gone_q - gone_p) / (1 - gone_p).clip(_TINY)
    )
    share = share.clip(0, 1)
    place = np.zeros(len(of.level), np.int64)
    place[~is_gone] = np.argsort(here)[of.level[~is_gone] - 1]
    rank = _rank(of.p[:, here], place, of.within)
    rank = np.where(is_gone, (chance - share) / (1 - share).clip(_TINY), rank).clip(0, 1)
    at, within = _at(q[:, there], rank)
    goes = chance < share
    return np.where(goes, 0, there[at]), within


def moved_level(of: Ranked, encoder: CategoricalEncoder, q: Floats, chances: Floats) -> Levels:
    """Return level (B,) under `q` (B, L): the same text as often as both laws allow.

    Else one of those that the other law holds more of. `chances` (2, B) decide.
    """
    assert isinstance(of.encoder, CategoricalEncoder)
    names = {name: level for level, name in enumerate(encoder.texts)}
    theirs = np.array([names.get(name, -1) for name in of.encoder.texts])
    put = np.zeros_like(q)
    put[:, theirs[theirs >= 0]] = of.p[:, theirs >= 0]
    rows, same = np.arange(len(q)), theirs[of.level]
    own_p = of.p[rows, of.level]
    own_q = np.where(same >= 0, q[rows, same], 0.0)
    stays = chances[0] * own_p < own_q
    room = (q - put).clip(0)
    drawn, _ = _at(np.where(room.sum(axis=1, keepdims=True) > _TINY, room, q), chances[1])
    return np.where(stays, same, drawn)


def _order(encoder: NumericEncoder | CategoricalEncoder) -> Levels:
    """Return the levels that are no missing one, (L - 1,), in the order of their numbers."""
    return np.argsort(encoder.positions[1:], kind="stable") + 1


def _rank(p: Floats, place: Levels, within: Floats) -> Floats:
    """Return the rank in [0, 1] of a place inside one of L cells with masses `p` (B, L).

    >>> _rank(np.array([[0.25, 0.5, 0.25]]), np.array([1]), np.array([0.5]))
    array([0.5])
    """
    rows, up_to = np.arange(len(p)), p.cumsum(axis=1)
    own = p[rows, place]
    return np.asarray((up_to[rows, place] - own * (1 - within)) / up_to[:, -1].clip(_TINY))


def _at(q: Floats, rank: Floats) -> tuple[Levels, Floats]:
    """Return the cell (B,) of each rank, and the place in it: the inverse of `_rank`.

    >>> _at(np.array([[0.25, 0.5, 0.25]]), np.array([0.5]))
    (array([1]), array([0.5]))
    """
    up_to = q.cumsum(axis=1)
    mass = rank.clip(0, 1 - _TINY) * up_to[:, -1]
    cell = (up_to <= mass[:, None]).sum(axis=1).clip(max=q.shape[1] - 1)
    rows = np.arange(len(q))
    own = q[rows, cell]
    return cell, 1 - (up_to[rows, cell] - mass) / own.clip(_TINY)


def _of(asked: Asked, rows: slice) -> dict[int, Floats]:
    return {token: weights[rows] for token, weights in asked.allow.items()}


def _key(part: Part) -> Key:
    return part.column, part.view


def _batches(n: int) -> Iterator[slice]:
    return (slice(start, start + BATCH) for start in range(0, n, BATCH))
