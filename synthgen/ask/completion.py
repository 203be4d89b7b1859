"""Tables of which some cells are known: completed, imputed; how surprising cells are; pooling.

All three ask the same trained generator, p(unknown | any known). Relations between columns hold:
what a known value decides is computed, not drawn, and known cells stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from synthgen.encode.categorical import RARE, CategoricalEncoder
from synthgen.encode.column import Codes, EncodedTable
from synthgen.encode.datetime import from_microseconds, to_microseconds
from synthgen.encode.groups import Combined, Within
from synthgen.encode.numeric import NumericEncoder
from synthgen.encode.relations import Lookup
from synthgen.encode.table import TableEncoder, views_of
from synthgen.errors import ConfigError
from synthgen.gan.given import Blend, Completer
from synthgen.rng import derive, stream
from synthgen.table import canonical_dtype

#: Relations by which a known value leaves only some levels of another column.
Deciding = Lookup | Combined | Within
#: A frame before a relation reduced it, and which of its cells are known.
Before = tuple[pd.DataFrame, pd.DataFrame]


@dataclass(frozen=True, repr=False)
class Asked:
    """Rows as the generator sees them, and all that leads back from its answer.

    Attributes
    ----------
    frame, known : DataFrame
        What was asked.
    reduced, is_known : DataFrame
        The same without what relations derive.
    before : list of Before
        What each relation saw.
    encoded : EncodedTable
        The reduced rows; where nothing is known its values do not matter.
    mask : (N, T) bool
        Which tokens are known.
    allow : dict of token to (N, L)
        Each row's own log weights.
    """

    frame: pd.DataFrame
    known: pd.DataFrame
    reduced: pd.DataFrame
    is_known: pd.DataFrame
    before: list[Before]
    encoded: EncodedTable
    mask: npt.NDArray[np.bool_]
    allow: dict[int, npt.NDArray[np.float64]]


@dataclass(frozen=True, repr=False)
class Completion:
    """An encoder and a completer of the same columns.

    Frames hold every modelled column in its canonical dtype. `known` (bool, same columns and rows)
    says which cells count; the others may hold anything.
    """

    encoder: TableEncoder
    completer: Completer

    def complete(
        self,
        frame: pd.DataFrame,
        known: pd.DataFrame,
        *,
        seed: int,
        present: Sequence[str] = (),
        vary: float = 0.0,
    ) -> pd.DataFrame:
        """Return `frame` with its unknown cells drawn; equal seeds give equal cells.

        Columns in `present` are not drawn as missing. With `vary`, a known cell is only kept with
        probability 1 - `vary`, and what is computed from other columns always follows them.

        Raises
        ------
        ConfigError
            If such a column was missing on every training row.
        """
        asked = self.ask(frame, known, seed=seed, present=present, vary=vary)
        drawn = self.completer.complete(
            asked.encoded.tokens, asked.mask, seed=seed, rows_allow=asked.allow
        )
        return self.answer(asked, drawn, seed=seed)

    def ask(
        self,
        frame: pd.DataFrame,
        known: pd.DataFrame,
        *,
        seed: int,
        present: Sequence[str] = (),
        vary: float = 0.0,
    ) -> Asked:
        """Return rows as the generator sees them; see `complete`."""
        reduced, is_known, before = self._reduce(frame, known)
        if vary:
            is_known &= stream(seed, "vary").random(is_known.shape) >= vary
            known = self._own(is_known)
            before = [(seen, known[was_known.columns]) for seen, was_known in before]
        encoded, mask = self._encode(reduced, is_known)
        allow = self._allowed(before, present, len(frame))
        return Asked(frame, known, reduced, is_known, before, encoded, mask, allow)

    def answer(self, asked: Asked, drawn: EncodedTable, *, seed: int) -> pd.DataFrame:
        """Return the frame that was asked about, its unknown cells from `drawn`."""
        filled = self._filled(drawn, asked.reduced, asked.is_known, seed)
        return self._restored(filled, asked.before).where(~asked.known, asked.frame)

    def between(
        self, ends: pd.DataFrame, known: pd.DataFrame, *, steps: int, copies: int, seed: int
    ) -> pd.DataFrame:
        """Return `copies` rows at each of `steps` conditions from one row to another, in order.

        Parameters
        ----------
        ends, known : (2, columns) DataFrame
            A cell counts as known where it is in both rows. Known numbers and dates move from one
            to the other in equal steps; of other known cells a row has the second row's with a
            probability that grows from 0 to 1. All else is drawn by log probabilities that are
            interpolated between the two conditions (`gan.given.Blend`).
        steps : int
            2 or more; the first has the first row's condition, the last the second's.
        copies, seed : int
        """
        reduced, is_known, before = self._reduce(ends, known)
        share = np.repeat(np.linspace(0, 1, steps), copies)
        n, both = len(share), is_known.all(axis=0)
        chosen = stream(seed, "between").random(n) < share
        first, second = (self._moved(reduced, share, np.full(n, end)) for end in (False, True))
        rows = self._moved(reduced, share, chosen)
        shown = pd.DataFrame({name: np.full(n, both[name]) for name in rows.columns})
        encoded, mask = self._encode(rows, shown)
        low, high = (self._encode(end, shown)[0].tokens for end in (first, second))
        blend = Blend(low, high, share)
        drawn = self.completer.complete(encoded.tokens, mask, seed=seed, blend=blend)
        filled = self._filled(drawn, rows, shown, seed)
        return self._restored(filled, self._before_moved(reduced, is_known, before, share, chosen))

    def _before_moved(
        self,
        reduced: pd.DataFrame,
        known: pd.DataFrame,
        before: Sequence[Before],
        share: npt.NDArray[np.float64],
        chosen: npt.NDArray[np.bool_],
    ) -> list[Before]:
        """Return `before` for N rows between two: derived cells that both hold move as well.

        Those that follow from other known cells are left to follow them.
        """
        told = reduced.where(known[reduced.columns])
        moved: list[Before] = []
        for relation, (given, was_known) in zip(
            reversed(self.encoder.relations), reversed(before), strict=True
        ):
            name, both = relation.derived, was_known.all(axis=0).to_dict()
            relation.restore(told)
            both[name] = both[name] and bool(told[name].isna().any())
            told[name] = told[name].fillna(given[name].where(was_known[name]))
            shown = pd.DataFrame({c: np.full(len(share), is_known) for c, is_known in both.items()})
            moved.append((self._moved(given[[name]], share, chosen), shown))
        return moved[::-1]

    def _moved(
        self, ends: pd.DataFrame, share: npt.NDArray[np.float64], is_second: npt.NDArray[np.bool_]
    ) -> pd.DataFrame:
        """Return N rows between two: numbers and dates by their share of the way, else an end's."""
        out = ends.iloc[is_second.astype(int)].reset_index(drop=True)
        for name in out.columns:
            if pd.api.types.is_float_dtype(out[name]):
                column = self.encoder.column(name)
                low, high = ends[name].to_numpy(np.float64)
                moved = low + share * (high - low)
                out[name] = moved if column.decimals is None else moved.round(column.decimals)
            elif pd.api.types.is_datetime64_any_dtype(out[name]):
                low, high = to_microseconds(ends[name])
                moved = low + share * (high - low)
                out[name] = from_microseconds(moved, self.encoder.schema.column(name))
        return out

    def _filled(
        self, drawn: EncodedTable, reduced: pd.DataFrame, known: pd.DataFrame, seed: int
    ) -> pd.DataFrame:
        """Return the reduced frame of drawn tokens; known cells are those of `reduced`."""
        habits = [stream(seed, "complete", i) for i in range(len(self.encoder.parts))]
        filled = self.encoder.decode_reduced(drawn, habits)
        columns = filled.columns
        return filled.where(~known[columns], reduced[columns])

    def _own(self, known: pd.DataFrame) -> pd.DataFrame:
        """Return which cells of whole rows stay as they are: none of computed columns."""
        names = [c.name for c in self.encoder.schema.modelled]
        kept = known.reindex(columns=names, fill_value=False)
        kept[sorted(self.encoder.derived)] = False
        return kept

    def guess(self, frame: pd.DataFrame, *, present: Sequence[str]) -> pd.DataFrame:
        """Return `frame` with its missing cells at their best guess by what else the row holds.

        That is the conditional mean of numbers and dates (least squared error) and the likeliest
        level of all else (least error). What other columns decide is computed from these.
        """
        known = frame.notna()
        asked = self.ask(frame, known, seed=0, present=present)
        means = {
            i: part.encoder.means
            for i, part in enumerate(self.encoder.parts)
            if isinstance(part.encoder, NumericEncoder) and part.encoder.prior[1:].any()
        }
        found = self.completer.guess(
            asked.encoded.tokens, asked.mask, means, rows_allow=asked.allow
        )
        views: dict[str, dict[str, Any]] = {}
        for i, part in enumerate(self.encoder.parts):
            values = found[:, i]
            if i not in means:
                values = part.encoder.decode(Codes(values.astype(np.int32)), None)
            views.setdefault(part.column, {})[part.view] = values
        guessed = self.encoder.joined(views)
        for name in views:
            column = self.encoder.column(name)
            if column.kind == "numeric" and column.decimals is not None:
                guessed[name] = guessed[name].round(column.decimals)
        columns = guessed.columns
        filled = guessed.where(~asked.is_known[columns], asked.reduced[columns])
        return self._restored(filled, asked.before).where(~known, frame)

    def nats(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return how surprising each cell is, (N, columns), rows numbered from 0, in nats.

        Surprise is -log p of what the cell holds, given the rest of its row and given parts of it
        (`Completer.surprise`). For numbers p is a density: a wide cell counts as thin
        (`NumericEncoder.thinness`). A value beyond all that was learnt from, or a broken relation
        between columns, adds -log of the share of one row.
        """
        known = pd.DataFrame(True, frame.index, frame.columns)
        reduced, known, before = self._reduce(frame, known)
        encoded, _ = self._encode(reduced, known)
        nats = self._nats(encoded)
        for name, strange in self._never_seen(reduced, before):
            nats.loc[strange, name] += self._rarest
        return nats

    def rows(self, n: int, *, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return `n` rows of the generator's own, and the surprise of their cells (see `nats`)."""
        kinds = {c.name: canonical_dtype(c) for c in self.encoder.schema.modelled}
        empty = pd.DataFrame(index=range(n), columns=list(kinds), dtype=object).astype(kinds)
        asked = self.ask(empty, pd.DataFrame(False, empty.index, empty.columns), seed=seed)
        drawn = self.completer.complete(asked.encoded.tokens, asked.mask, seed=seed)
        return self.answer(asked, drawn, seed=seed), self._nats(drawn)

    def _nats(self, encoded: EncodedTable) -> pd.DataFrame:
        """Return the surprise of N rows by column, derived ones among them."""
        names = [c.name for c in self.encoder.schema.modelled]
        nats = pd.DataFrame(0.0, range(len(encoded)), names)
        by_token = self.completer.surprise(encoded.tokens)
        for token, part in enumerate(self._owners):
            nats[self.encoder.parts[part].column] += by_token[:, token]
        for name, thin in self._thinness(encoded):
            nats[name] += thin
        return nats

    def _thinness(self, encoded: EncodedTable) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
        """Yield column and how thinly rows lie where each of N numbers is, in nats."""
        layout = encoded.layout
        fines, offsets = layout.fine_at, layout.offset_at
        for i, part in enumerate(self.encoder.parts):
            if isinstance(part.encoder, NumericEncoder):
                fine = encoded.tokens[:, fines[i]] if i in fines else None
                codes = Codes(encoded.tokens[:, i], fine, encoded.offsets[:, offsets[i]])
                yield part.column, part.encoder.thinness(codes)

    def _reduce(
        self, frame: pd.DataFrame, known: pd.DataFrame
    ) -> tuple[pd.DataFrame, pd.DataFrame, list[Before]]:
        """Solve and reduce relation after relation; return both frames, and both before each."""
        columns = list(self.encoder.schema.modelled)
        frame, known, before = frame.copy(), known.copy(), list[Before]()
        for relation in self.encoder.relations:
            relation.solve(frame, known)
            before.append((frame.copy(deep=False), known.copy()))
            relation.reduce(frame, columns)
            was_known, known = known, known[[c.name for c in columns]].copy()
            if (name := relation.derived) in known:  # replaced by what takes another column to know
                known[name] &= frame[name].notna() | before[-1][0][name].isna()
                known[name] &= was_known[list(relation.needs)].all(axis=1)
        return frame, known, before

    def _restored(self, reduced: pd.DataFrame, before: Sequence[Before]) -> pd.DataFrame:
        """Return the canonical frame of filled, reduced rows: `_reduce` backwards."""
        for relation, (given, was_known) in zip(
            reversed(self.encoder.relations), reversed(before), strict=True
        ):
            name = relation.derived
            relation.restore(reduced, was_known)
            relation.settle(reduced, given[name], was_known)
            reduced[name] = reduced[name].where(~was_known[name], given[name])
        return self.encoder.canonical(reduced)

    def _encode(
        self, reduced: pd.DataFrame, known: pd.DataFrame
    ) -> tuple[EncodedTable, npt.NDArray[np.bool_]]:
        """Return the reduced rows as tokens, and which of them (N, T) are known."""
        layout = self.encoder.layout
        tokens = np.empty((len(reduced), len(layout.sizes)), np.int32)
        offsets = np.empty((len(reduced), len(layout.offset_parents)), np.float32)
        self.encoder.encode_reduced(reduced, tokens, offsets)
        of_parts = [known[part.column].to_numpy(bool) for part in self.encoder.parts]
        mask = np.column_stack([of_parts[part] for part in self._owners])
        return EncodedTable(tokens, offsets, layout), mask

    @property
    def _owners(self) -> list[int]:
        """Return the part of each token, (T,)."""
        layout = self.encoder.layout
        return [*range(layout.n_coarse), *layout.parents.tolist()]

    @property
    def _rarest(self) -> float:
        """Return -log of the share of one row."""
        return math.log(1 + max(part.encoder.counts.sum() for part in self.encoder.parts))

    def _allowed(
        self, before: Sequence[Before], present: Sequence[str], n: int
    ) -> dict[int, npt.NDArray[np.float64]]:
        """Return each row's own log weights by token: (N, L) of 0 or -inf."""
        weights: dict[int, npt.NDArray[np.float64]] = {}
        for i, part in enumerate(self.encoder.parts):
            prior = part.encoder.prior
            allowed = np.ones((n, len(prior)), bool)
            if part.column in present:
                if not prior[1:].any():
                    raise ConfigError(
                        f"column '{part.column}': missing on every row that the generator learnt "
                        "from, so it cannot be filled; leave it out of the table and train again"
                    )
                allowed[:, 0] = False
            for relation, (frame, known) in zip(self.encoder.relations, before, strict=True):
                if isinstance(relation, Deciding) and relation.source == part.column:
                    assert isinstance(part.encoder, CategoricalEncoder)
                    allowed &= _deciding(relation, part.encoder, frame, known)
            if not allowed.all():
                with np.errstate(divide="ignore"):
                    weights[i] = np.log(allowed.astype(np.float64))
        return weights

    def _never_seen(
        self, reduced: pd.DataFrame, before: Sequence[Before]
    ) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
        """Yield column and rows (N,) of values that nothing was learnt of, and broken relations."""
        for part in self.encoder.parts:
            views = views_of(reduced[part.column], self.encoder.column(part.column))
            yield part.column, part.encoder.is_strange(views[part.view])
        for relation, (frame, _) in zip(self.encoder.relations, before, strict=True):
            yield relation.derived, relation.broken(frame)


def _deciding(
    relation: Deciding, encoder: CategoricalEncoder, frame: pd.DataFrame, known: pd.DataFrame
) -> npt.NDArray[np.bool_]:
    """Return which levels (N, L) decide the known value of a row; all of them where none does."""
    decided = {RARE: np.zeros(len(frame), bool), **relation.deciding(frame[relation.derived])}
    fits = np.column_stack([decided.get(text, decided[RARE]) for text in encoder.texts])
    fits &= encoder.prior > 0
    asked = known[relation.derived].to_numpy(bool) & fits.any(axis=1)
    return np.where(asked[:, None], fits, True)


def impute(completion: Completion, frame: pd.DataFrame, *, seed: int, m: int) -> list[pd.DataFrame]:
    """Return `m` copies of `frame` whose missing cells are drawn (multiple imputation, Rubin 1987).

    Raises
    ------
    ConfigError
        If `m` is below 1, or a column with gaps was missing on every training row.
    """
    if m < 1:
        raise ConfigError("the number of imputations must be at least 1")
    (gaps, holes, present), drawn = _gaps(frame), []
    for copy in range(m):
        filled = frame.copy()
        if len(holes):
            of_copy = derive(seed, "impute", copy) % 2**31
            completed = completion.complete(holes, holes.notna(), seed=of_copy, present=present)
            filled.loc[gaps] = completed.set_axis(gaps)
        drawn.append(filled)
    return drawn


def best_guess(completion: Completion, frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` with every missing cell at its best guess; see `Completion.guess`.

    Raises
    ------
    ConfigError
        If a column with gaps was missing on every training row.
    """
    gaps, holes, present = _gaps(frame)
    out = frame.copy()
    if len(holes):
        out.loc[gaps] = completion.guess(holes, present=present).set_axis(gaps)
    return out


def _gaps(frame: pd.DataFrame) -> tuple[pd.Index, pd.DataFrame, list[str]]:
    """Return which rows have gaps, these rows numbered from 0, and the columns with gaps."""
    gaps = frame.index[frame.isna().any(axis=1)]
    holes = frame.loc[gaps].reset_index(drop=True)
    return gaps, holes, [name for name in frame.columns if holes[name].isna().any()]


@dataclass(frozen=True)
class Pooled:
    """What m imputed tables say together of one quantity (Rubin 1987, chapter 3).

    Attributes
    ----------
    estimate : float
    variance : float
        Within the imputations, plus (1 + 1/m) times that between them.
    degrees_of_freedom : float
        Of the t distribution of the estimate; infinite where the imputations agree.
    """

    estimate: float
    variance: float
    degrees_of_freedom: float


def pool(estimates: Sequence[float], variances: Sequence[float]) -> Pooled:
    """Pool the estimates of m imputed tables, each with its squared standard error.

    >>> pool([1.0, 3.0], [1.0, 1.0])
    Pooled(estimate=2.0, variance=4.0, degrees_of_freedom=1.7777777777777777)

    Raises
    ------
    ConfigError
        If there are fewer than two, or not as many variances as estimates.
    """
    m = len(estimates)
    if m < 2 or m != len(variances):
        raise ConfigError("pooling needs two imputations or more, and a variance for each estimate")
    within, between = float(np.mean(variances)), float(np.var(estimates, ddof=1))
    total = within + (1 + 1 / m) * between
    freedom = math.inf if between == 0 else (m - 1) * (total / ((1 + 1 / m) * between)) ** 2
    return Pooled(float(np.mean(estimates)), total, freedom)
