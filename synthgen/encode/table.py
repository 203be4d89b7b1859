"""A whole table as tokens and offsets, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from synthgen.config import EncodeConfig
from synthgen.encode import datetime as dt
from synthgen.encode.absent import as_matrix
from synthgen.encode.categorical import CategoricalEncoder
from synthgen.encode.column import Codes, ColumnEncoder, EncodedTable, Floats, Layout, State
from synthgen.encode.datetime import from_microseconds, join
from synthgen.encode.groups import Combined, Within
from synthgen.encode.numeric import EVERYWHERE, Intervals, NumericEncoder
from synthgen.encode.relations import Difference, Relation, from_json, reduce
from synthgen.encode.search import find
from synthgen.errors import DataError
from synthgen.rng import stream
from synthgen.schema import Column, TableSchema
from synthgen.table import canonical_dtype, declared_bound

#: A bin of a numeric column should stand for so many rows.
ROWS_PER_BIN = 200
BINS = (8, 32)

#: Intervals of no part: numbers lie anywhere in their cells.
_ANYWHERE: Mapping[int, Intervals] = MappingProxyType({})

_ENCODERS: dict[str, type[CategoricalEncoder] | type[NumericEncoder]] = {
    "categorical": CategoricalEncoder,
    "numeric": NumericEncoder,
}


class Rows(Protocol):
    """A table that need not be in memory as a frame: a `RealTable`, a `PackedTable`."""

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def batches(self) -> Iterator[pd.DataFrame]:
        """Yield the rows in canonical frames; every call starts at the first row."""
        ...


@dataclass(frozen=True, repr=False)
class Part:
    """What one column gives to the token row: all of it, or the days or the clock of a datetime."""

    column: str
    view: str
    encoder: ColumnEncoder


@dataclass(frozen=True, repr=False)
class TableEncoder:
    """A fitted map between canonical frames and `EncodedTable`s. Holds no row.

    Attributes
    ----------
    schema : TableSchema
    parts : tuple of Part
        In column order. Ids, PII, texts and derived columns have none.
    relations : tuple of Relation
        Columns that follow from others, in the order in which they are left out.
    absent : tuple of tuple of int
        For each part those that are missing wherever it is (`encode.absent`); empty: not known.
    """

    schema: TableSchema
    parts: tuple[Part, ...]
    relations: tuple[Relation, ...] = ()
    absent: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def fit(
        cls, rows: pd.DataFrame | Rows, schema: TableSchema, config: EncodeConfig, *, seed: int
    ) -> TableEncoder:
        """Fit every modelled column on at most `config.fit_rows` random rows.

        Cells, levels and their counts are those of this uniform sample, so of fewer rows than the
        table has of each. Where the schema has an entity key, cells and levels are found on one row
        of each entity, so that "k rows" are k entities. Relations hold on every row of the table:
        one that a row outside of the sample breaks is dropped.

        Raises
        ------
        DataError
            If the schema leaves nothing to model.
        """
        if not schema.modelled:
            raise DataError("no column can be modelled: all are ids, PII or free text")
        schema = schema.without_drafts()
        sample = sample_rows(rows, config.fit_rows, seed)
        each = one_row_each(sample, schema, seed)

        def found(proof: pd.DataFrame) -> tuple[Relation, ...]:
            # What is added may be of entities that are there already.
            min_rows = config.min_rows + len(proof) - len(each)
            return find(proof, schema.modelled, min_rows=min_rows, constraints=schema.constraints)

        relations = proven(found, each, rows, schema)
        parts = fit_parts(relations, sample, schema, config, seed)
        return cls(schema, parts, relations)

    @property
    def absences(self) -> npt.NDArray[np.bool_]:
        """Whether the second part is missing wherever the first is, (P, P).

        As `absent` says; and together days and clock of a datetime, a total and the part of it that
        is learnt.
        """
        out = as_matrix(self.absent, len(self.parts))
        place = {(part.column, part.view): i for i, part in enumerate(self.parts)}
        for (column, view), clock in place.items():
            if view == "clock":
                days = place[column, "days"]
                out[days, clock] = out[clock, days] = True
        for relation in self.relations:
            if isinstance(relation, Difference):
                total, other = (place.get((n, "value")) for n in (relation.total, relation.other))
                if total is not None and other is not None:  # each may follow from others itself
                    out[total, other] = out[other, total] = True
        possible = np.array([part.encoder.prior[0] > 0 for part in self.parts])
        return np.asarray(out & possible & possible[:, None])

    def column(self, name: str) -> Column:
        """Return a modelled column as the parts see it: a gap is a number, not a datetime."""
        for relation in self.relations:
            if relation.derived == name and relation.replaced is not None:
                return relation.replaced
        return self.schema.column(name)

    @property
    def derived(self) -> frozenset[str]:
        """Names of the columns that follow from others."""
        return frozenset(r.derived for r in self.relations)

    @property
    def computed(self) -> frozenset[str]:
        """Names of derived columns that no token says: all but numbers inside a range."""
        return frozenset(r.derived for r in self.relations if not isinstance(r, Within))

    @property
    def rules(self) -> TableSchema:
        """The schema, its rules filled with the combinations and bounds that were learnt.

        Each stands for k rows; drawn rows are held against them.
        """
        by_name = {r.derived: r for r in self.relations if isinstance(r, Combined | Within)}
        rules = []
        for rule in self.schema.constraints:
            relation = by_name.get(rule.columns[0])
            if rule.is_learnt and relation is not None:
                rule = relation.filled(rule, self.schema)
            rules.append(rule)
        return replace(self.schema, constraints=tuple(rules))

    @property
    def layout(self) -> Layout:
        """Where each token and offset stands."""
        encoders = [p.encoder for p in self.parts]
        fine_priors = [(i, f) for i, e in enumerate(encoders) if (f := e.fine_prior) is not None]
        numbers = [(i, c) for i, e in enumerate(encoders) if (c := e.linear_cells) is not None]
        fine_at = {i: len(encoders) + j for j, (i, _) in enumerate(fine_priors)}
        sizes = [len(e.prior) for e in encoders] + [f.shape[1] for _, f in fine_priors]
        return Layout(
            sizes=np.array(sizes, np.int64),
            n_coarse=len(encoders),
            parents=np.array([i for i, _ in fine_priors], np.int64),
            priors=tuple(e.prior for e in encoders),
            fine_priors=tuple(f for _, f in fine_priors),
            positions=(
                *(e.positions for e in encoders),
                *(np.linspace(0, 1, f.shape[1]) for _, f in fine_priors),
            ),
            offset_parents=np.array([i for i, _ in numbers], np.int64),
            offset_fines=np.array([fine_at.get(i, -1) for i, _ in numbers], np.int64),
            tails=tuple(encoders[i].tail_cells for i, _ in numbers),
            cells=tuple(_standardised(c, encoders[i]) for i, c in numbers),
        )

    def transform(self, rows: pd.DataFrame | Rows) -> EncodedTable:
        """Return the (N, T) tokens and (N, O) offsets of a canonical frame, or of its batches."""
        layout, n = self.layout, len(rows)
        small = layout.sizes.max() <= np.iinfo(np.int16).max
        tokens = np.empty((n, len(layout.sizes)), np.int16 if small else np.int32)
        offsets = np.empty((n, len(layout.offset_parents)), np.float32)
        start = 0
        for frame in _batches(rows):
            stop = start + len(frame)
            reduced, _ = reduce(self.relations, frame, self.schema.modelled)
            self.encode_reduced(reduced, tokens[start:stop], offsets[start:stop])
            start = stop
        return EncodedTable(tokens, offsets, layout)

    def encode_reduced(
        self, frame: pd.DataFrame, tokens: npt.NDArray[Any], offsets: npt.NDArray[np.float32]
    ) -> None:
        """Fill the (N, T) tokens and (N, O) offsets of a frame that relations have reduced."""
        views: dict[str, dict[str, Any]] = {}
        n_coarse, n_fine, n_offsets = len(self.parts), 0, 0
        for i, part in enumerate(self.parts):
            if part.column not in views:
                views[part.column] = views_of(frame[part.column], self.column(part.column))
            codes = part.encoder.encode(views[part.column][part.view])
            tokens[:, i] = codes.coarse
            if codes.fine is not None:
                tokens[:, n_coarse + n_fine] = codes.fine
                n_fine += 1
            if codes.offset is not None:
                offsets[:, n_offsets] = codes.offset
                n_offsets += 1

    def inverse_transform(
        self,
        table: EncodedTable,
        habits: Sequence[np.random.Generator] | None,
        within: Mapping[int, Intervals] = _ANYWHERE,
    ) -> pd.DataFrame:
        """Return the canonical frame of the modelled columns, in schema order.

        With `habits`, a stream for each part, rounding habits are restored; batch after batch gives
        the values of one large batch. None inverts `transform`. Declared bounds hold. Numbers of
        the parts in `within` lie in its intervals, as far as their cells reach into them.
        """
        frame = self.decode_reduced(table, habits, within)
        for relation in reversed(self.relations):
            relation.restore(frame)
        return self.canonical(frame)

    def decode_reduced(
        self,
        table: EncodedTable,
        habits: Sequence[np.random.Generator] | None,
        within: Mapping[int, Intervals] = _ANYWHERE,
    ) -> pd.DataFrame:
        """Return what `inverse_transform` does, but for the columns that relations derive."""
        layout, decoded = table.layout, dict[str, dict[str, Any]]()
        fines, offsets = layout.fine_at, layout.offset_at
        for i, part in enumerate(self.parts):
            codes = Codes(
                table.tokens[:, i],
                table.tokens[:, fines[i]] if i in fines else None,
                table.offsets[:, offsets[i]] if i in offsets else None,
            )
            rng = None if habits is None else habits[i]
            encoder = part.encoder
            if isinstance(encoder, NumericEncoder):
                values = encoder.decode(codes, rng, within.get(i, EVERYWHERE))
            else:
                values = encoder.decode(codes, rng)
            decoded.setdefault(part.column, {})[part.view] = values
        return self.joined(decoded)

    def joined(self, views: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
        """Return the columns that are modelled, each from the values of its views."""
        return pd.DataFrame(
            {name: _from_views(values, self.column(name)) for name, values in views.items()}
        )

    def canonical(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the modelled columns of a restored frame in schema order, dtypes and bounds."""
        return pd.DataFrame({c.name: _canonical(frame[c.name], c) for c in self.schema.modelled})

    def broken(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Return which rows (N,) of a canonical frame contradict a relation."""
        broken = np.zeros(len(frame), bool)
        for _, rows in _broken(self.relations, frame, self.schema):
            broken |= rows
        return broken

    def to_json(self) -> str:
        """Return the fitted state as JSON; every number in it stands for k rows."""
        parts = [
            {"column": p.column, "view": p.view, "encoder": p.encoder.to_json()} for p in self.parts
        ]
        relations = [r.to_json() for r in self.relations]
        state = {"parts": parts, "relations": relations, "absent": self.absent}
        return json.dumps(state, allow_nan=False)

    def save(self, path: Path) -> None:
        """Write the fitted state as JSON."""
        path.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path, schema: TableSchema) -> TableEncoder:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If its columns are not those of `schema`; anything else if it is no such file at all.
            What comes back can decode: it was tried on a row.
        """
        state = json.loads(path.read_text(encoding="utf-8"))
        relations = tuple(from_json(r) for r in state["relations"])
        absent = tuple(tuple(int(i) for i in others) for others in state.get("absent", ()))
        encoder = cls(schema, tuple(_part(p) for p in state["parts"]), relations, absent)
        known = encoder.derived | {p.column for p in encoder.parts}
        if not encoder.parts or known != {c.name for c in schema.modelled}:
            raise ValueError("the encoder's columns are not the schema's")
        if len(absent) not in (0, n := len(encoder.parts)) or not {*chain(*absent)} <= {*range(n)}:
            raise ValueError("what is missing together are not the encoder's parts")
        encoder.inverse_transform(_one_row(encoder.layout), None)
        return encoder


def _batches(rows: pd.DataFrame | Rows) -> Iterable[pd.DataFrame]:
    return (rows,) if isinstance(rows, pd.DataFrame) else rows.batches()


def sample_rows(rows: pd.DataFrame | Rows, n: int, seed: int) -> pd.DataFrame:
    """Return `n` random rows in their order; all of them if there are no more."""
    chosen = np.arange(len(rows))
    if len(rows) > n:
        chosen = np.sort(stream(seed, "encode").choice(len(rows), n, replace=False))
    frames, start = [], 0
    for frame in _batches(rows):
        first, last = np.searchsorted(chosen, [start, start + len(frame)])
        frames.append(frame.iloc[chosen[first:last] - start])
        start += len(frame)
    return pd.concat(frames, ignore_index=True)


def proven(
    found: Callable[[pd.DataFrame], tuple[Relation, ...]],
    proof: pd.DataFrame,
    rows: pd.DataFrame | Rows,
    schema: TableSchema,
) -> tuple[Relation, ...]:
    """Return the relations `found` on `proof` and on those of all `rows` that speak against them.

    A relation that even rows of the proof break is declared: it stays, and is asked about no more.
    """
    relations = found(proof)
    while len(rows) > len(proof) and relations:
        against = _counterexamples(relations, proof, rows, schema)
        if against.empty:
            break
        proof = pd.concat([proof, against], ignore_index=True)
        relations = found(proof)
    return relations


def _counterexamples(
    relations: Sequence[Relation],
    proof: pd.DataFrame,
    rows: pd.DataFrame | Rows,
    schema: TableSchema,
) -> pd.DataFrame:
    """Return the first row to break each relation that holds on `proof` but not on all rows."""
    known = {i for i, broken in _broken(relations, proof, schema) if broken.any()}
    found: dict[int, pd.DataFrame] = {}
    for frame in _batches(rows):
        for i, broken in _broken(relations, frame, schema):
            if i not in known | found.keys() and broken.any():
                found[i] = frame.iloc[[int(broken.argmax())]]
    return pd.concat(list(found.values()), ignore_index=True) if found else pd.DataFrame()


def _broken(
    relations: Sequence[Relation], frame: pd.DataFrame, schema: TableSchema
) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """Yield each relation's place, and which rows of `frame` break it."""
    reduced, columns = frame.copy(deep=False), list(schema.modelled)
    for i, relation in enumerate(relations):
        yield i, relation.broken(reduced)
        relation.reduce(reduced, columns)


def _one_row(layout: Layout) -> EncodedTable:
    """Return a row of first levels: 1, as 0 is missing, and of fine tokens 0."""
    tokens = np.zeros((1, len(layout.sizes)), np.int32)
    tokens[:, : layout.n_coarse] = 1
    offsets = np.full((1, len(layout.offset_parents)), 0.5, np.float32)
    return EncodedTable(np.minimum(tokens, layout.sizes - 1).astype(np.int32), offsets, layout)


def _part(state: State) -> Part:
    encoder = _ENCODERS[state["encoder"]["type"]].from_json(state["encoder"])
    return Part(state["column"], state["view"], encoder)


def one_row_each(frame: pd.DataFrame, schema: TableSchema, seed: int) -> pd.DataFrame:
    """Return one random row of each entity, in order; all rows where there is no entity key.

    Rows without a key are one entity.
    """
    if schema.entity is None:
        return frame
    keys = pd.factorize(frame[schema.entity.name], use_na_sentinel=False)[0]
    order = stream(seed, "entities").permutation(len(frame))
    chosen = order[np.unique(keys[order], return_index=True)[1]]
    return frame.iloc[np.sort(chosen)].reset_index(drop=True)


def fit_parts(
    relations: Sequence[Relation],
    sample: pd.DataFrame,
    schema: TableSchema,
    config: EncodeConfig,
    seed: int,
) -> tuple[Part, ...]:
    """Return the fitted parts of all columns that `relations` leave.

    What is kept is found on one row of each entity, and then counted on all of them.
    """
    frame, columns = reduce(relations, sample, schema.modelled)
    each = one_row_each(sample, schema, seed)
    found = reduce(relations, each, schema.modelled)[0] if len(each) < len(sample) else frame
    parts = [part for c in columns for part in fit_column(found[c.name], c, config)]
    if found is frame:
        return tuple(parts)
    views = {c.name: views_of(frame[c.name], c) for c in columns}
    return tuple(
        replace(p, encoder=p.encoder.recount(views[p.column][p.view], config.min_rows))
        for p in parts
    )


def fit_column(values: pd.Series, column: Column, config: EncodeConfig) -> list[Part]:
    """Return the fitted parts of one column."""
    if column.kind in ("categorical", "boolean"):
        closed = column.kind == "boolean" or column.categories is not None
        encoder = CategoricalEncoder.fit(
            values, closed=closed, min_rows=config.min_rows, max_levels=config.max_levels
        )
        return [Part(column.name, "value", encoder)]
    views = views_of(values, column)
    micros = dt.to_microseconds(values) if column.kind == "datetime" else None
    if micros is not None and not dt.has_clock(micros, config.min_rows):
        views.pop("clock", None)
    bins = config.bins or int(np.clip(len(values) // ROWS_PER_BIN, *BINS))
    parts = []
    for view, numbers in views.items():
        decimals = column.decimals if column.kind == "numeric" else 0
        options: dict[str, Any] = {}
        if column.kind == "numeric":
            options["bounds"] = (column.minimum, column.maximum)
        if view == "clock":
            options["steps"] = dt.CLOCK_STEPS[column.resolution]
        numeric = NumericEncoder.fit(
            numbers, decimals=decimals, min_rows=config.min_rows, bins=bins, **options
        )
        parts.append(Part(column.name, view, numeric))
    return parts


def views_of(values: pd.Series, column: Column) -> dict[str, Any]:
    """Return what each part of a column encodes, by view."""
    if column.kind == "numeric":
        return {"value": values.to_numpy(np.float64)}
    if column.kind != "datetime":
        return {"value": values}
    micros = dt.to_microseconds(values)
    views = {"days": dt.to_days(micros)}
    if column.resolution != "day":
        views["clock"] = dt.to_clock(micros, column.resolution)
    return views


def _from_views(views: dict[str, Any], column: Column) -> pd.Series:
    """Return the values of one column from its decoded parts."""
    if column.kind != "datetime":
        return pd.Series(views["value"])
    return from_microseconds(join(views["days"], views.get("clock"), column.resolution), column)


def _canonical(values: pd.Series, column: Column) -> pd.Series:
    """Return `values` in the column's dtype and inside its bounds."""
    if column.kind == "boolean":
        values = values.astype(object).map({"True": True, "False": False, True: True, False: False})
    values = values.astype(canonical_dtype(column))  # type: ignore[call-overload]
    if column.kind not in ("numeric", "datetime"):
        return values
    bounds: list[Any] = [column.minimum, column.maximum]
    if column.kind == "datetime":
        bounds = [None if b is None else declared_bound(str(b), column) for b in bounds]
    return values.clip(*bounds)


def _standardised(cells: tuple[Floats, Floats], encoder: ColumnEncoder) -> tuple[Floats, Floats]:
    """Return the bounds of the cells in units of the column's spread, centred; missing is 0."""
    # Scaled first: the squares of large numbers are too large.
    scale = max(float(np.abs(bound).max()) for bound in cells) or 1.0
    lower, upper = (bound / scale for bound in cells)
    fine = encoder.fine_prior
    mass = encoder.prior[:, None] * (np.ones_like(lower) if fine is None else fine)
    mass[0] = 0
    total = mass.sum()
    if total == 0:
        return np.zeros_like(lower), np.zeros_like(upper)
    middle = (lower + upper) / 2
    mean = (mass * middle).sum() / total
    spread = float(np.sqrt((mass * (middle - mean) ** 2).sum() / total)) or 1.0
    out = (lower - mean) / spread, (upper - mean) / spread
    for bound in out:
        bound[0] = 0
    return out
