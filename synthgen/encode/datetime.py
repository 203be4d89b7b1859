"""Dates and times as numbers, and back; resolution and time zone are kept.

A datetime becomes one part (days), or two where the time of day varies: days and time of day. So
that office hours and midnights are learnt once and not once a day.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from synthgen.encode.column import Floats
from synthgen.schema import Column, Resolution
from synthgen.table import localize

MICROSECONDS: dict[Resolution, int] = {
    "day": 86_400_000_000,
    "hour": 3_600_000_000,
    "minute": 60_000_000,
    "second": 1_000_000,
    "microsecond": 1,
}
_DAY = MICROSECONDS["day"]
#: Rounding steps of a time of day, in units of the resolution; each divides the next.
CLOCK_STEPS: dict[Resolution, tuple[int, ...]] = {
    "day": (1,),
    "hour": (1,),
    "minute": (1, 5, 15, 30, 60),
    "second": (1, 5, 10, 30, 60, 300, 900, 1_800, 3_600),
    "microsecond": (1, 1_000, 1_000_000, 60_000_000),
}


def to_microseconds(values: pd.Series) -> Floats:
    """Return (N,) microseconds since 1970 of the wall clock, NaN for missing."""
    local = values.dt.tz_localize(None) if values.dt.tz is not None else values
    stamps = local.to_numpy("datetime64[us]").astype(np.int64).astype(np.float64)
    return np.where(values.isna(), np.nan, stamps)


def from_microseconds(micros: Floats, column: Column) -> pd.Series:
    """Return canonical datetimes of (N,) wall-clock microseconds, in whole units of `column`."""
    unit = MICROSECONDS[column.resolution]
    return as_datetimes(np.round(micros / unit) * unit, column.timezone)


def as_datetimes(micros: Floats, timezone: str | None) -> pd.Series:
    """Return datetimes of (N,) whole wall-clock microseconds, NaN for missing."""
    missing = np.isnan(micros)
    stamps = np.where(missing, 0, micros).astype(np.int64).astype("datetime64[us]")
    stamps[missing] = np.datetime64("NaT", "us")
    series = pd.Series(stamps)
    return series if timezone is None else localize(series, timezone)


def has_clock(values: Floats, min_rows: int) -> bool:
    """Whether at least `min_rows` of the (N,) microseconds are not a midnight."""
    return bool((values[~np.isnan(values)] % _DAY != 0).sum() >= min_rows)


def to_days(micros: Floats) -> Floats:
    """Return (N,) whole days since 1970."""
    return np.floor(micros / _DAY)


def to_clock(micros: Floats, resolution: Resolution) -> Floats:
    """Return (N,) times of day in units of `resolution`."""
    return np.floor((micros - to_days(micros) * _DAY) / MICROSECONDS[resolution])


def join(days: Floats, clock: Floats | None, resolution: Resolution) -> Floats:
    """Return (N,) microseconds of days and times of day; missing if either is."""
    micros = days * _DAY
    return micros if clock is None else micros + clock * MICROSECONDS[resolution]
