"""What may be drawn of one column: cells that stand for at least `K` real rows, and nothing else.

A picture can leak as well as a table: a lonely bar is a person, and the end of an axis is the
oldest patient. So every cell holds `K` real rows or more, rare levels are merged, bin edges are
round numbers, and the outermost bins are open ("below 20", "90 and more").

>>> import pandas as pd
>>> values = pd.Series(["a"] * 30 + ["b"] * 15 + ["Zorro"] * 2, dtype="str")
>>> [(cell.label, round(cell.real, 2)) for cell in picture("categorical", values, values).cells]
[('a', 0.64), ('other (rare)', 0.36)]
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synthgen.schema import Kind

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Fewest real rows behind anything that is drawn.
K = 10
MAX_LEVELS = 8
N_BINS = 32
#: A value this frequent among many others gets a line of its own, so that the rest can be seen.
SPIKE_SHARE, SPIKE_LEVELS = 0.1, 30

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


@dataclass(frozen=True)
class Cell:
    """One bar: a level, a bin, or everything that is too rare to be shown by itself.

    Attributes
    ----------
    label : str
        The level, or the bin in words.
    real, synthetic : float
        Shares of the rows that have a value, in [0, 1].
    left, right : float
        Ends on the axis in bins of equal width; both 0 for levels.
    """

    label: str
    real: float
    synthetic: float
    left: float = 0.0
    right: float = 0.0


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
    missing_real, missing_synthetic : float or None
        Shares of all rows; None when fewer than `K` real rows (but not zero) are behind it.
    note : str
    """

    cells: tuple[Cell, ...] = ()
    is_ordered: bool = False
    ticks: tuple[tuple[float, str], ...] = ()
    spike: Cell | None = None
    missing_real: float | None = 0.0
    missing_synthetic: float | None = 0.0
    note: str = ""


def picture(kind: Kind, real: pd.Series, synthetic: pd.Series, *, whole: bool = False) -> Picture:
    """Return what may be drawn of a modelled column.

    Parameters
    ----------
    kind : {"numeric", "categorical", "datetime", "boolean"}
    real, synthetic : Series, N and M rows, canonical dtype of `kind`
        The real rows decide on levels and bins; a level or range that only the synthetic table
        has falls into "other" or an outermost bin.
    whole : bool
        Numeric: whole numbers, so no bin is narrower than 1.
    """
    gone, gone_synthetic = _missing(real, synthetic)
    seen = _present(kind, real.dropna(), synthetic.dropna(), whole)
    return replace(seen, missing_real=gone, missing_synthetic=gone_synthetic)


def _present(kind: Kind, real: pd.Series, synthetic: pd.Series, whole: bool) -> Picture:
    if len(real) < K:
        return Picture(note=f"Not drawn: fewer than {K} real rows have a value.")
    if kind in ("categorical", "boolean"):
        cells = _levels(real.astype("str"), synthetic.astype("str"))
        return Picture(cells, note="" if cells else f"Not drawn: no level has {K} real rows.")
    if kind == "datetime":
        return _dates(real, synthetic)
    return _numbers(_finite(real), _finite(synthetic), whole)


def _missing(real: pd.Series, synthetic: pd.Series) -> tuple[float | None, float]:
    """Return the shares of missing rows; None for real ones if it told of fewer than K rows."""
    n_missing, n = int(real.isna().sum()), len(real)
    is_told = n_missing in (0, n) or K <= n_missing <= n - K
    told = n_missing / max(n, 1) if is_told else None
    return told, float(synthetic.isna().mean()) if len(synthetic) else 0.0


def _levels(real: pd.Series, synthetic: pd.Series) -> tuple[Cell, ...]:
    """Levels by falling real frequency; the rest in one cell that itself stands for K rows."""
    counts = real.value_counts().sort_values(ascending=False, kind="stable")
    shown = [level for level in counts.index[:MAX_LEVELS] if counts[level] >= K]
    n_other = int(counts.sum() - counts[shown].sum())
    while shown and 0 < n_other < K:  # else the remainder would be a small cell by subtraction
        n_other += int(counts[shown.pop()])
    if not shown:
        return ()
    other = _OTHER if len(shown) < MAX_LEVELS else "all other levels"
    drawn = synthetic.value_counts().reindex(shown, fill_value=0)
    n_real, n_synthetic = len(real), max(len(synthetic), 1)
    cells = [
        Cell(level, int(counts[level]) / n_real, int(drawn[level]) / n_synthetic) for level in shown
    ]
    n_else = len(synthetic) - int(drawn.sum())
    if n_other or n_else:
        cells.append(Cell(other, n_other / n_real, n_else / n_synthetic))
    return tuple(cells)


def _numbers(x: Floats, y: Floats, whole: bool) -> Picture:
    spike = _spike(x)
    if spike is None:
        return _drawn_numbers(x, y, whole)
    n_rest = int((x != spike).sum())
    if 0 < n_rest < K:  # the spike's share would tell how few the others are
        return Picture(note=f"Not drawn: all but fewer than {K} real rows hold the same value.")
    share = float((y == spike).mean()) if len(y) else 0.0
    cell = Cell(_plain(spike, 0), 1 - n_rest / len(x), share)
    if not n_rest:
        return Picture(spike=cell, note="Every real row with a value holds this one.")
    return replace(_drawn_numbers(x[x != spike], y[y != spike], whole), spike=cell)


def _spike(x: Floats) -> float | None:
    """Return the value that dominates `x` so much that the others could not be seen beside it."""
    levels, counts = np.unique(x, return_counts=True)
    top = int(counts.max(initial=0))
    leaves_few = len(x) - top < 2 * K
    dominates = top >= SPIKE_SHARE * len(x) and len(levels) >= SPIKE_LEVELS
    return float(levels[counts.argmax()]) if top >= K and (leaves_few or dominates) else None


def _drawn_numbers(x: Floats, y: Floats, whole: bool) -> Picture:
    if len(x) < 2 * K:
        return Picture(note=_TOO_FEW)
    low, high = _core(x)
    step = _nice_step(high / N_BINS - low / N_BINS, whole)
    first = math.floor(low / step) + 1
    edges = np.arange(first, max(math.ceil(high / step), first + 1), dtype="float64") * step
    names = [_plain(float(e), step) for e in edges]
    return _binned(x, y, edges, names, is_exact=whole and step == 1)


def _dates(real: pd.Series, synthetic: pd.Series) -> Picture:
    x, y = (_microseconds(s) for s in (real, synthetic))
    if len(x) < 2 * K:
        return Picture(note=_TOO_FEW)
    low, high = (pd.Timestamp(int(v), unit="us") for v in _core(x))
    span = (high - low).total_seconds()
    fits = [unit for unit, (seconds, _) in _TIME_UNITS.items() if span / seconds <= N_BINS]
    unit = fits[0] if fits else "25YS"
    stamps = pd.date_range(low.floor("D" if unit[-1] in "DS" else unit), high, freq=unit)
    stamps = stamps[(stamps > low) & (stamps <= high)]
    edges = _microseconds(pd.Series(stamps))
    return _binned(x, y, edges, [stamp.strftime(_TIME_UNITS[unit][1]) for stamp in stamps])


def _microseconds(stamps: pd.Series) -> Floats:
    """Return local times as microseconds since 1970."""
    local = stamps.dt.tz_localize(None).astype("datetime64[us]")
    array: Floats = local.astype("int64").to_numpy("float64")
    return array


def _finite(values: pd.Series) -> Floats:
    array: Floats = values.to_numpy("float64")
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


def _binned(
    x: Floats, y: Floats, edges: Floats, names: list[str], *, is_exact: bool = False
) -> Picture:
    """Count both tables in the bins between `edges`, open at both ends, small bins merged.

    `names` say the edges; with `is_exact` a bin holds one whole number, its left edge. A single
    bin says nothing and is not drawn.
    """
    real, synthetic = (
        np.bincount(np.searchsorted(edges, v, side="right"), minlength=len(edges) + 1)
        for v in (x, y)
    )
    runs = _merge(real)
    if len(runs) < 2:
        return Picture(note=f"Not drawn: no two bins have {K} real rows.")
    cells = [
        Cell(
            _range(names, start, stop, is_exact),
            float(real[start:stop].sum()) / len(x),
            float(synthetic[start:stop].sum()) / max(len(y), 1),
            float(start),
            float(stop),
        )
        for start, stop in runs
    ]
    inner = sorted({int(cell.right) for cell in cells[:-1]})
    middle = 0.5 if is_exact else 0.0
    ticks = tuple((position + middle, names[position - 1]) for position in _even(inner))
    return Picture(tuple(cells), True, ticks)


def _even(positions: list[int], n: int = 5) -> list[int]:
    """Return about `n` of the sorted `positions`, spread over their range, both ends included."""
    wanted = np.linspace(positions[0], positions[-1], n)
    return sorted({min(positions, key=lambda p: abs(p - w)) for w in wanted})


def _merge(counts: Ints) -> list[tuple[int, int]]:
    """Return half-open runs of bins, left to right, each with at least K rows.

    >>> _merge(np.array([3, 9, 10, 0, 2]))
    [(0, 2), (2, 5)]
    """
    runs, start, total = [], 0, 0
    for position, count in enumerate(counts):
        total += int(count)
        if total >= K:
            runs.append((start, position + 1))
            start, total = position + 1, 0
    if start < len(counts) and runs:
        runs[-1] = (runs[-1][0], len(counts))
    return runs


def _range(names: list[str], start: int, stop: int, is_exact: bool) -> str:
    """Say a run of bins in words; bin i lies between edge i - 1 and edge i."""
    if start == 0:
        return f"below {names[stop - 1]}"
    if stop > len(names):
        return f"{names[start - 1]} and more"
    if is_exact and stop == start + 1:
        return names[start - 1]
    return f"{names[start - 1]} to below {names[stop - 1]}"


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
