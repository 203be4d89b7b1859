"""What may be drawn of columns and pairs: cells that stand for at least `K` real rows.

A picture can leak as well as a table: a lonely bar is a person, and the end of an axis is the
oldest patient. So every cell holds `K` rows or more of both real tables, rare levels are merged,
bin edges are round numbers, and the outermost bins are open ("below 20", "90 and more"). Cells of
two columns are rounded to multiples of `K` rows, so that no total gives a small one away.

>>> import pandas as pd
>>> rows = pd.Series(["a"] * 30 + ["b"] * 15 + ["Zorro"] * 2, dtype="str")
>>> [(c.label, round(c.train, 2)) for c in picture("categorical", Three(rows, rows, rows)).cells]
[('a', 0.64), ('other (rare)', 0.36)]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synthgen.schema import Kind

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
T = TypeVar("T")
U = TypeVar("U")

#: Fewest real rows behind anything that is drawn.
K = 10
MAX_LEVELS = 8
N_BINS = 32
#: A value this frequent among many others gets a line of its own, so that the rest can be seen.
SPIKE_SHARE, SPIKE_LEVELS = 0.1, 30
#: Cells of a column that is crossed with another; synthetic rows that make a cell worth showing.
JOINT_BINS, LEAST_DRAWN = 6, 0.01

_OTHER = "other (rare)"
_TOO_FEW = f"Not drawn: fewer than {2 * K} real rows have such a value."
_TIME_UNITS = {  # pandas frequency: (seconds, how an edge is written)
    "1s": (1, "%H:%M:%S"),
    "1min": (60, "%m-%d %H:%M"),
    "15min": (900, "%m-%d %H:%M"),
    "1h": (3_600, "%m-%d %H:%M"),
    "6h": (21_600, "%m-%d %H:%M"),
    "1D": (86_400, "%Y-%m-%d"),
    "7D": (604_800, "%Y-%m-%d"),
    "MS": (2_629_746, "%Y-%m"),
    "QS": (7_889_238, "%Y-%m"),
    "YS": (31_556_952, "%Y"),
    "5YS": (157_784_760, "%Y"),
    "25YS": (788_923_800, "%Y"),
}


@dataclass(frozen=True, repr=False)
class Three(Generic[T]):
    """One thing of each of the three tables that are compared: a column, its numbers, its counts.

    Attributes
    ----------
    train, holdout : T
        Of real rows, which must not be told one by one.
    synthetic : T
    """

    train: T
    holdout: T
    synthetic: T

    def map(self, function: Callable[[T], U]) -> Three[U]:
        """Return `function` of each."""
        return Three(function(self.train), function(self.holdout), function(self.synthetic))

    @property
    def real(self) -> tuple[T, T]:
        """The two of real rows."""
        return self.train, self.holdout


@dataclass(frozen=True)
class Cell:
    """One bar: a level, a bin, or everything that is too rare to be shown by itself.

    Attributes
    ----------
    label : str
        The level, or the bin in words.
    train, holdout, synthetic : float
        Shares of the rows that have a value, in [0, 1].
    left, right : float
        Ends on the axis in bins of equal width; both 0 for levels.
    """

    label: str
    train: float
    holdout: float
    synthetic: float
    left: float = 0.0
    right: float = 0.0

    @property
    def shares(self) -> tuple[float, float, float]:
        """Train, holdout, synthetic."""
        return self.train, self.holdout, self.synthetic


@dataclass(frozen=True)
class Picture:
    """All that a reader may see of one column.

    Attributes
    ----------
    cells : tuple of Cell
        Empty when nothing can be drawn; `note` then says why.
    is_ordered : bool
        Whether the cells are bins on an axis (with `ticks`) rather than levels.
    ticks : tuple of (float, str)
        Positions on the axis and what stands there.
    spike : Cell or None
        A value so frequent that it is told instead of drawn; `cells` are then the other rows.
    missing : Cell or None
        Shares of all rows without a value; None where fewer than `K` real rows (but not zero)
        would be told by it.
    note : str
    """

    cells: tuple[Cell, ...] = ()
    is_ordered: bool = False
    ticks: tuple[tuple[float, str], ...] = ()
    spike: Cell | None = None
    missing: Cell | None = None
    note: str = ""


def picture(kind: Kind, values: Three[pd.Series], *, whole: bool = False) -> Picture:
    """Return what may be drawn of a modelled column.

    Parameters
    ----------
    kind : {"numeric", "categorical", "datetime", "boolean"}
    values : Three of Series
        Canonical dtype of `kind`. The real rows decide on levels and bins; a level or range that
        only the synthetic table has falls into "other" or an outermost bin.
    whole : bool
        Numeric: whole numbers, so no bin is narrower than 1.
    """
    present = _present(kind, values.map(lambda v: v.dropna()), whole)
    return replace(present, missing=_missing(values))


def _present(kind: Kind, values: Three[pd.Series], whole: bool) -> Picture:
    if min(map(len, values.real)) < K:
        return Picture(note=f"Not drawn: fewer than {K} real rows have a value.")
    if kind in ("categorical", "boolean"):
        cells = _levels(values.map(lambda v: v.astype("str")))
        return Picture(cells, note="" if cells else f"Not drawn: no level has {K} real rows.")
    numbers = values.map(_microseconds if kind == "datetime" else _finite)
    if kind == "datetime":
        return _drawn(numbers, kind, whole)
    return _numbers(numbers, whole)


def _missing(values: Three[pd.Series]) -> Cell | None:
    """Return the shares of missing rows; None if they told of fewer than K real rows."""
    for real in values.real:
        n_missing, n = int(real.isna().sum()), len(real)
        if not (n_missing in (0, n) or K <= n_missing <= n - K):
            return None
    shares = values.map(lambda v: float(v.isna().mean()) if len(v) else 0.0)
    return Cell("missing", shares.train, shares.holdout, shares.synthetic)


def _cells(labels: Sequence[str], counts: Ints, ends: Sequence[tuple[int, int]] = ()) -> list[Cell]:
    """Return cells from counts (3, cells) of train, holdout and synthetic rows."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return [
        Cell(label, float(train), float(holdout), float(synthetic), float(left), float(right))
        for label, (train, holdout, synthetic), (left, right) in zip(
            labels, shares.T, ends or [(0, 0)] * len(labels), strict=True
        )
    ]


def _levels(values: Three[pd.Series]) -> tuple[Cell, ...]:
    """Levels by falling real frequency; the rest in one cell that itself stands for K rows."""
    shown, counts = _counted(values, MAX_LEVELS)
    if not shown:
        return ()
    other = _OTHER if len(shown) < MAX_LEVELS else "all other levels"
    sizes = np.array([[len(values.train)], [len(values.holdout)], [len(values.synthetic)]])
    rest = sizes - counts.sum(axis=1, keepdims=True)
    if rest.any():
        shown, counts = [*shown, other], np.hstack([counts, rest])
    return tuple(_cells(shown, counts))


def _counted(values: Three[pd.Series], limit: int) -> tuple[list[str], Ints]:
    """Return the levels that may be shown, and their counts (3, levels)."""
    found = values.map(lambda v: v.value_counts())
    real = found.train.add(found.holdout, fill_value=0)
    frequent = real.sort_values(ascending=False, kind="stable").index[:limit].tolist()
    counts = np.array(
        [
            table.reindex(frequent, fill_value=0).to_numpy("int64")
            for table in (found.train, found.holdout, found.synthetic)
        ]
    ).reshape(3, -1)
    kept = [i for i in range(len(frequent)) if counts[:2, i].min() >= K]
    sizes = np.array([len(v) for v in values.real])
    # Else the remainder would be a small cell by subtraction.
    while kept and _is_small(sizes - counts[:2, kept].sum(axis=1)):
        kept.pop()
    return [frequent[i] for i in kept], counts[:, kept]


def _is_small(counts: Ints) -> bool:
    """Whether any of these counts of real rows tells of fewer than K rows."""
    return bool(((counts > 0) & (counts < K)).any())


def _numbers(values: Three[Floats], whole: bool) -> Picture:
    spike = _spike(values)
    if spike is None:
        return _drawn(values, "numeric", whole)
    rest = values.map(lambda v: v[v != spike])
    n_rest = np.array([len(v) for v in rest.real])
    if _is_small(n_rest):  # the spike's share would tell how few the others are
        return Picture(note=f"Not drawn: all but fewer than {K} real rows hold the same value.")
    shares = values.map(lambda v: float((v == spike).mean()) if len(v) else 0.0)
    cell = Cell(_plain(spike, 0), shares.train, shares.holdout, shares.synthetic)
    if not n_rest.any():
        return Picture(spike=cell, note="Every real row with a value holds this one.")
    return replace(_drawn(rest, "numeric", whole), spike=cell)


def _spike(values: Three[Floats]) -> float | None:
    """Return the value that dominates so much that the others could not be seen beside it."""
    real = np.concatenate(values.real)
    levels, counts = np.unique(real, return_counts=True)
    if not len(levels):
        return None
    top = float(levels[counts.argmax()])
    n_top, n_rest = zip(*(((v == top).sum(), (v != top).sum()) for v in values.real), strict=True)
    leaves_few = min(n_rest) < 2 * K
    dominates = max(counts) >= SPIKE_SHARE * len(real) and len(levels) >= SPIKE_LEVELS
    return top if min(n_top) >= K and (leaves_few or dominates) else None


@dataclass(frozen=True)
class _Edges:
    """Where an axis is cut: ascending edges, their names, whether a bin is a single value."""

    at: Floats
    names: tuple[str, ...]
    is_exact: bool = False

    def bins(self, values: Floats) -> Ints:
        """Return which bin each value lies in: one more bins than edges, open at both ends."""
        return np.searchsorted(self.at, values, side="right")

    @property
    def short(self) -> tuple[str, ...]:
        """What the bins between neighbouring edges are called where there is little room."""
        inner = (
            self.names if self.is_exact else [f"{a} \u2013 {b}" for a, b in pairwise(self.names)]
        )
        inner = inner[: len(self.names) - 1]
        return (f"below {self.names[0]}", *inner, f"from {self.names[-1]}")

    def label(self, start: int, stop: int) -> str:
        """Say a run of bins in words; bin i lies between edge i - 1 and edge i."""
        if start == 0:
            return f"below {self.names[stop - 1]}"
        if stop > len(self.names):
            return f"{self.names[start - 1]} and more"
        if self.is_exact and stop == start + 1:
            return self.names[start - 1]
        return f"{self.names[start - 1]} to below {self.names[stop - 1]}"


def _edges(values: Three[Floats], kind: Kind, whole: bool, n_bins: int) -> _Edges:
    """Cut the range of the real values at about `n_bins` round edges."""
    ends = [_core(v) for v in values.real]
    low, high = max(end[0] for end in ends), min(end[1] for end in ends)
    if kind == "datetime":
        return _date_edges(low, high, n_bins)
    step = _nice_step(high / n_bins - low / n_bins, whole)
    first = math.floor(low / step) + 1
    at = np.arange(first, max(math.ceil(high / step), first + 1), dtype="float64") * step
    return _Edges(at, tuple(_plain(float(e), step) for e in at), whole and step == 1)


def _date_edges(low: float, high: float, n_bins: int) -> _Edges:
    first, last = (pd.Timestamp(int(v), unit="us") for v in (low, high))
    span = (last - first).total_seconds()
    fits = [unit for unit, (seconds, _) in _TIME_UNITS.items() if span / seconds <= n_bins]
    unit = fits[0] if fits else "25YS"
    stamps = pd.date_range(first.floor("D" if unit[-1] in "DS" else unit), last, freq=unit)
    stamps = stamps[(stamps > first) & (stamps <= last)]
    names = tuple(stamp.strftime(_TIME_UNITS[unit][1]) for stamp in stamps)
    return _Edges(_microseconds(pd.Series(stamps)), names)


def _drawn(values: Three[Floats], kind: Kind, whole: bool) -> Picture:
    """Count the tables in bins, small ones merged; a single bin says nothing and is not drawn."""
    if min(map(len, values.real)) < 2 * K:
        return Picture(note=_TOO_FEW)
    edges = _edges(values, kind, whole, N_BINS)
    n_bins = len(edges.at) + 1
    binned = values.map(lambda v: np.bincount(edges.bins(v), minlength=n_bins))
    counts = np.array([binned.train, binned.holdout, binned.synthetic])
    runs = _merge(counts[:2])
    if len(runs) < 2:
        return Picture(note=f"Not drawn: no two bins have {K} real rows.")
    merged = np.array([counts[:, start:stop].sum(axis=1) for start, stop in runs]).T
    cells = _cells([edges.label(*run) for run in runs], merged, runs)
    inner = sorted({int(cell.right) for cell in cells[:-1]})
    middle = 0.5 if edges.is_exact else 0.0
    ticks = tuple((position + middle, edges.names[position - 1]) for position in _even(inner))
    return Picture(tuple(cells), True, ticks)


def _microseconds(stamps: pd.Series) -> Floats:
    """Return local times as microseconds since 1970."""
    local = stamps.dt.tz_localize(None).astype("datetime64[us]")
    array: Floats = local.astype("int64").to_numpy("float64")
    return array


def _as_float(values: pd.Series) -> Floats:
    array: Floats = values.to_numpy("float64")
    return array


def _finite(values: pd.Series) -> Floats:
    array = _as_float(values)
    return array[np.isfinite(array)]


def _core(x: Floats) -> tuple[float, float]:
    """Return the ends of the drawn range; K rows and 1 % of the rows lie on or beyond each."""
    ordered = np.sort(x)
    beyond = max(K, len(x) // 100) - 1
    return float(ordered[beyond]), float(ordered[len(x) - 1 - beyond])


def _nice_step(width: float, whole: bool) -> float:
    """Return the smallest of 1, 2 (or 2.5), 5 times a power of ten that is not below `width`."""
    if width <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(width))
    ladder = (1, 2, 5, 10) if whole else (1, 2.5, 5, 10)
    step = next((m * power for m in ladder if m * power >= width * (1 - 1e-9)), 10 * power)
    return max(step, 1.0) if whole else step


def _even(positions: list[int], n: int = 5) -> list[int]:
    """Return about `n` of the sorted `positions`, spread over their range, both ends included."""
    wanted = np.linspace(positions[0], positions[-1], n)
    return sorted({min(positions, key=lambda p: abs(p - w)) for w in wanted})


def _merge(counts: Ints) -> list[tuple[int, int]]:
    """Return half-open runs of bins, left to right, each with at least K rows of every table.

    `counts` is (tables, bins).

    >>> _merge(np.array([[3, 9, 10, 0, 2]]))
    [(0, 2), (2, 5)]
    """
    runs, start, total = [], 0, np.zeros(len(counts), "int64")
    for position, count in enumerate(counts.T):
        total = total + count
        if total.min() >= K:
            runs.append((start, position + 1))
            start, total = position + 1, np.zeros_like(total)
    if start < counts.shape[1] and runs:
        runs[-1] = (runs[-1][0], counts.shape[1])
    return runs


def _plain(value: float, step: float) -> str:
    """Write an edge with the digits that its step needs."""
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.3g}"
    comma = "," if abs(value) >= 10_000 else ""  # years are not written 1,984
    if not step:
        return f"{value:{comma}.0f}" if value == round(value) else f"{value:{comma}.6g}"
    power = math.floor(math.log10(step))
    digits = max(0, -power + (round(step / 10**power, 6) == 2.5))
    return f"{value + 0.0:{comma}.{digits}f}"


# --- two columns together ------------------------------------------------------------------------


@dataclass(frozen=True)
class Joint:
    """All that a reader may see of two columns together: shares of all rows, in coarse cells.

    Attributes
    ----------
    rows, columns : tuple of str
        What the cells of the first and the second column are called.
    real : tuple of tuple of float or None
        Shares of the train rows, rounded to multiples of K rows; None for fewer than K rows.
    synthetic : tuple of tuple of float
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    real: tuple[tuple[float | None, ...], ...]
    synthetic: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Axis:
    """A column in few cells: what they are called and in which one each train and new row lies."""

    labels: tuple[str, ...]
    train: Ints
    synthetic: Ints


def axis(kind: Kind, values: Three[pd.Series], *, whole: bool = False) -> Axis:
    """Cut a column into at most about `JOINT_BINS` cells, one more for the rest and for missing."""
    present = values.map(lambda v: v.dropna())
    if kind in ("categorical", "boolean") or min(map(len, present.real)) < 2 * K:
        shown, _ = _counted(present.map(lambda v: v.astype("str")), JOINT_BINS)
        labels, index = [*shown, "other"], pd.Index(shown, dtype="str")

        def cut(column: pd.Series) -> Ints:
            found = index.get_indexer(pd.Index(column.astype("str")))
            return np.where(found < 0, len(shown), found)
    else:
        number = _microseconds if kind == "datetime" else _as_float
        edges = _edges(present.map(number), kind, whole, JOINT_BINS)
        labels = [*edges.short]

        def cut(column: pd.Series) -> Ints:
            return edges.bins(number(column))

    def coded(column: pd.Series) -> Ints:
        return np.where(column.isna(), len(labels), cut(column))

    return Axis((*labels, "missing"), coded(values.train), coded(values.synthetic))


def joint(first: Axis, second: Axis) -> Joint:
    """Cross two columns; rows and columns of cells that would all be blank are left out."""
    shape = (len(first.labels), len(second.labels))
    real, synthetic = np.zeros(shape, "int64"), np.zeros(shape, "int64")
    np.add.at(real, (first.train, second.train), 1)
    np.add.at(synthetic, (first.synthetic, second.synthetic), 1)
    # Rounded, because the totals are told elsewhere and would give a small cell away.
    told = np.round(real / K) * K / max(real.sum(), 1)
    told = np.where(real < K, np.nan, told)
    drawn = synthetic / max(synthetic.sum(), 1)
    worth = np.isfinite(told) | (drawn >= LEAST_DRAWN)
    rows, columns = worth.any(axis=1), worth.any(axis=0)
    return Joint(
        tuple(np.array(first.labels)[rows].tolist()),
        tuple(np.array(second.labels)[columns].tolist()),
        tuple(
            tuple(None if math.isnan(x) else x for x in line)
            for line in told[np.ix_(rows, columns)].tolist()
        ),
        tuple(map(tuple, drawn[np.ix_(rows, columns)].tolist())),
    )
