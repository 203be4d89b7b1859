"""Categories: a vocabulary with a rare bucket and a missing level."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from synthgen.encode.column import Codes, Floats, State, TailCell
from synthgen.errors import RejectColumn

#: What the rare bucket is written as, where it is written at all.
RARE = "__rare__"
#: A rare bucket with less mass is never drawn: its rows become conditional draws of the rest.
MIN_RARE_SHARE = 0.01


@dataclass(frozen=True, repr=False)
class CategoricalEncoder:
    """One token: missing | levels | rare bucket.

    Attributes
    ----------
    levels : tuple of str
        The kept texts, sorted; each held by at least `min_rows` rows.
    counts : (L,) float64
        Rows of each token, in the order missing, levels, rare; 0 or at least `min_rows`.
    closed : bool
        Whether the schema lists all texts that may be written, so that the rare bucket is not.
    """

    levels: tuple[str, ...]
    counts: Floats
    closed: bool = False

    @classmethod
    def fit(
        cls,
        values: pd.Series,
        *,
        closed: bool = False,
        min_rows: int = 10,
        max_levels: int = 1_000,
    ) -> CategoricalEncoder:
        """Choose the levels of `values` (str or boolean dtype).

        A level needs `min_rows` rows, also where a schema declares it: that it may occur is public,
        that it does is not. Of more than `max_levels`, the most frequent stay. Fewer than
        `min_rows` rows that are missing, or rare, are taken for the most frequent level.

        Raises
        ------
        RejectColumn
            If `values` are neither texts nor booleans.
        """
        if not (pd.api.types.is_string_dtype(values) or pd.api.types.is_bool_dtype(values)):
            raise RejectColumn(f"column '{values.name}' is neither text nor boolean")
        texts = values.astype("str") if values.dtype == "boolean" else values
        counts: dict[str, int] = texts.value_counts().to_dict()  # type: ignore[assignment]
        kept = [t for t, c in counts.items() if c >= min_rows][:max_levels]
        levels = tuple(sorted(kept))
        unknown = cls(levels, np.ones(len(levels) + 2), closed)
        return unknown.recount(values, min_rows)

    def recount(self, values: pd.Series, min_rows: int) -> CategoricalEncoder:
        """Return the same levels with (N,) `values` counted in them."""
        every = replace(self, counts=np.ones(len(self.counts)))  # nothing is taken for another
        counts = np.bincount(every.encode(values).coarse, minlength=len(self.counts)).astype(float)
        for token in (0, -1):
            if counts[token] < min_rows:
                few, counts[token] = counts[token], 0
                counts[counts.argmax() if counts.any() else token] += few
        return replace(self, counts=counts)

    @property
    def prior(self) -> Floats:
        """Frequencies of missing, levels, rare, (L,)."""
        total = self.counts.sum()
        return self.counts / total if total else np.full(len(self.counts), 1 / len(self.counts))

    @property
    def fine_prior(self) -> None:
        """No second token."""
        return

    @property
    def positions(self) -> Floats:
        """No order: (L,) of NaN."""
        return np.full(len(self.counts), np.nan)

    @property
    def tail_cells(self) -> list[TailCell]:
        """No numbers."""
        return []

    @property
    def linear_cells(self) -> None:
        """No numbers."""
        return

    @property
    def is_rare_drawn(self) -> bool:
        """Whether the rare bucket is written: it holds a real share, or there is nothing else.

        Else its rows are drawn anew from the levels, by what else is known of each row.
        """
        share = not self.closed and self.prior[-1] >= MIN_RARE_SHARE
        return bool(share or self.counts[:-1].sum() == 0)

    def encode(self, values: pd.Series) -> Codes:
        """Return the tokens of (N,) texts; a text that is not a level goes to the rare bucket.

        Missing and rare are the most frequent token where no row was counted for them.
        """
        texts = values.astype("str") if values.dtype == "boolean" else values
        codes = pd.Index(self.levels, dtype="str").get_indexer(pd.Index(texts))
        tokens = np.where(codes < 0, len(self.levels), codes) + 1
        tokens = np.where(texts.isna(), 0, tokens)
        if self.counts.any():
            empty = [t for t in (0, len(self.counts) - 1) if self.counts[t] == 0]
            tokens = np.where(np.isin(tokens, empty), self.counts.argmax(), tokens)
        return Codes(tokens.astype(np.int32))

    def is_strange(self, values: pd.Series) -> npt.NDArray[np.bool_]:
        """Return which of (N,) texts are no level, where no training row was rare."""
        return np.asarray(
            (self.encode(values).coarse == len(self.counts) - 1) & (self.counts[-1] == 0)
        )

    @property
    def texts(self) -> list[str | None]:
        """What each level is written as, (L,): None for missing, `RARE` for the last."""
        return [None, *self.levels, RARE]

    def decode(self, codes: Codes, rng: np.random.Generator | None) -> pd.Series:
        """Return (N,) texts."""
        return pd.Series(pd.array(self.texts, dtype="str").take(codes.coarse))

    def to_json(self) -> dict[str, Any]:
        """Return levels and counts."""
        return {
            "type": "categorical",
            "levels": list(self.levels),
            "counts": self.counts.tolist(),
            "closed": self.closed,
        }

    @classmethod
    def from_json(cls, state: State) -> CategoricalEncoder:
        """Rebuild what `to_json` wrote; ValueError for what it never writes."""
        counts, levels = np.array(state["counts"], np.float64), state["levels"]
        texts = all(isinstance(level, str) for level in levels)
        if not texts or len(set(levels)) < len(levels) or counts.shape != (len(levels) + 2,):
            raise ValueError("levels are distinct texts, each with its count")
        if not (np.isfinite(counts).all() and (counts >= 0).all()):
            raise ValueError("counts are finite and not negative")
        return cls(tuple(levels), counts, bool(state["closed"]))
