"""What every column encoder offers, and the encoded table that they fill together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int16 | np.int32]
Floats = npt.NDArray[np.float64]
#: Coarse level, fine level and training rows of a cell.
TailCell = tuple[int, int, int]


@dataclass(frozen=True, repr=False)
class Codes:
    """One column's values as the generator sees them.

    Attributes
    ----------
    coarse : (N,) int32
        Level of each row: missing, an exact value, a category or a bin.
    fine : (N,) int32 or None
        Cell inside the bin; 0 where the level has only one. None: the column needs no second token.
    offset : (N,) float32 in [0, 1] or None
        Place inside the cell; 0.5 where the cell is one exact value.
    """

    coarse: Ints
    fine: Ints | None = None
    offset: npt.NDArray[np.float32] | None = None


class ColumnEncoder(Protocol):
    """A fitted, immutable map between canonical values and `Codes`; holds no row."""

    @property
    def counts(self) -> Floats:
        """Return the training rows of each level or cell."""
        ...

    @property
    def prior(self) -> Floats:
        """Return the levels' frequencies, (L,), summing to one."""
        ...

    @property
    def fine_prior(self) -> Floats | None:
        """Return the cells' frequencies inside each level, (L, F), rows summing to one, or None."""
        ...

    @property
    def positions(self) -> Floats:
        """Return the rank of each level in [0, 1], (L,); NaN for levels without an order."""
        ...

    @property
    def tail_cells(self) -> list[TailCell]:
        """Return the outermost cells of a number."""
        ...

    @property
    def linear_cells(self) -> tuple[Floats, Floats] | None:
        """Return lower and upper bounds of cell (level, fine), each (L, F); None: no numbers.

        They are equal where the offset says nothing of the value in between.
        """
        ...

    def recount(self, values: Any, min_rows: int) -> ColumnEncoder:
        """Return the same levels and cells with the rows of N other values in them."""
        ...

    def encode(self, values: Any) -> Codes:
        """Return the codes of N canonical values."""
        ...

    def is_strange(self, values: Any) -> npt.NDArray[np.bool_]:
        """Return which of N canonical values lie beyond all that was learnt from."""
        ...

    def decode(self, codes: Codes, rng: np.random.Generator | None) -> Any:
        """Return N canonical values; `rng` restores rounding habits, None inverts exactly."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        ...


@dataclass(frozen=True, repr=False)
class EncodedTable:
    """N rows as T tokens and O offsets.

    Attributes
    ----------
    tokens : (N, T) int16 or int32
        The coarse tokens of all parts first, then the fine tokens.
    offsets : (N, O) float32 in [0, 1]
        One column for each numeric part.
    layout : Layout
    """

    tokens: Ints
    offsets: npt.NDArray[np.float32]
    layout: Layout

    def __post_init__(self) -> None:
        if self.tokens.shape[1] != len(self.layout.sizes):
            raise ValueError("tokens do not fit the layout")
        if self.tokens.size and (
            self.tokens.min() < 0 or (self.tokens.max(axis=0) >= self.layout.sizes).any()
        ):
            raise ValueError("a token is out of range")
        if self.offsets.size and not (self.offsets.min() >= 0 and self.offsets.max() <= 1):
            raise ValueError("an offset is outside [0, 1]")

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, repr=False)
class Layout:
    """Where each token and offset stands: all that the networks need to know of the columns.

    Attributes
    ----------
    sizes : (T,) int
        Levels of each token; spans of these widths tile the logits exactly.
    n_coarse : int
        The first `n_coarse` tokens are coarse; token ``n_coarse + j`` refines ``parents[j]``.
    parents : (T - n_coarse,) int
        The coarse token that each fine token refines.
    priors : tuple of (L,) float64
        Frequencies of the coarse tokens' levels.
    fine_priors : tuple of (L, F) float64
        Frequencies of the fine tokens' levels given the parent's.
    positions : tuple of (L,) float64
        For each token the rank of its levels in [0, 1]; NaN for levels without an order.
    offset_parents : (O,) int
        The coarse token that each offset belongs to.
    offset_fines : (O,) int
        The fine token of each offset, or -1.
    tails : tuple of list of (level, fine, rows)
        For each offset: its column's outermost cells, and how many training rows they hold.
    cells : tuple of two (L, F) float64
        For each offset: lower and upper bound of each cell, standardised to the column's spread.
    """

    sizes: npt.NDArray[np.int64]
    n_coarse: int
    parents: npt.NDArray[np.int64]
    priors: tuple[Floats, ...]
    fine_priors: tuple[Floats, ...]
    positions: tuple[Floats, ...]
    offset_parents: npt.NDArray[np.int64]
    offset_fines: npt.NDArray[np.int64]
    tails: tuple[list[TailCell], ...]
    cells: tuple[tuple[Floats, Floats], ...]

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """First logit of each token, (T,)."""
        return np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)

    @property
    def width(self) -> int:
        """Number of logits."""
        return int(self.sizes.sum())

    @property
    def fine_at(self) -> dict[int, int]:
        """The fine token of each coarse one that has one."""
        return {int(p): self.n_coarse + j for j, p in enumerate(self.parents)}

    @property
    def offset_at(self) -> dict[int, int]:
        """The offset of each coarse token that has one."""
        return {int(p): o for o, p in enumerate(self.offset_parents)}


def as_floats(values: Any) -> Floats:
    """Return a float64 array of what JSON gave; null stands for NaN."""
    return np.array([np.nan if v is None else v for v in values], np.float64)


State = Mapping[str, Any]
