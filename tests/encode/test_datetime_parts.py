"""Dates and times: one part or two, zones with a skipped and a repeated hour, before 1970."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.config import EncodeConfig, RunConfig
from synthgen.encode import datetime as dt
from synthgen.encode.table import TableEncoder
from synthgen.schema import Column, TableSchema
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable, canonical_dtype

BERLIN = "Europe/Berlin"


def stamps(values: Any, **settings: Any) -> tuple[pd.Series, Column]:
    column = Column(name="t", kind="datetime", **settings)
    return pd.Series(values).astype(canonical_dtype(column)), column  # type: ignore[call-overload]


def fit(values: pd.Series, column: Column) -> tuple[TableEncoder, pd.DataFrame]:
    frame = pd.DataFrame({"t": values})
    schema = TableSchema(name="d", columns=(column,))
    return TableEncoder.fit(frame, schema, EncodeConfig(), seed=0), frame


def round_trip(encoder: TableEncoder, frame: pd.DataFrame) -> pd.Series:
    return encoder.inverse_transform(encoder.transform(frame), None)["t"]


def test_a_day_and_a_clock() -> None:
    micros = dt.to_microseconds(stamps(["1970-01-02T03:04:05"])[0])
    assert dt.to_days(micros).tolist() == [1]
    assert dt.to_clock(micros, "second").tolist() == [3 * 3_600 + 4 * 60 + 5]
    assert dt.to_clock(micros, "minute").tolist() == [3 * 60 + 4]


def test_before_1970() -> None:
    values, column = stamps(["1969-12-31T23:59:59", "1901-02-03T04:05:06"])
    micros = dt.to_microseconds(values)
    assert dt.to_days(micros)[0] == -1
    assert dt.to_clock(micros, "second")[0] == 86_399
    back = dt.from_microseconds(
        dt.join(dt.to_days(micros), dt.to_clock(micros, "second"), "second"), column
    )
    pd.testing.assert_series_equal(back, values)


def test_missing_stays_missing() -> None:
    values, column = stamps([None, "2024-01-01"])
    micros = dt.to_microseconds(values)
    assert np.isnan(micros).tolist() == [True, False]
    assert dt.from_microseconds(micros, column).isna().tolist() == [True, False]


def test_all_missing() -> None:
    values, column = stamps([None] * 40, nullable=True)
    encoder, frame = fit(values, column)
    back = round_trip(encoder, frame)
    assert back.isna().all()
    assert str(back.dtype) == "datetime64[us]"


@pytest.mark.parametrize(
    ("resolution", "times", "views"),
    [
        ("day", 0, ["days"]),
        ("second", 0, ["days"]),  # midnights only: the clock says nothing
        ("second", 3_600, ["days", "clock"]),
    ],
)
def test_a_clock_that_never_moves_has_no_part(
    resolution: Any, times: int, views: list[str]
) -> None:
    days = pd.date_range("2020-01-01", periods=300, unit="us")
    values, column = stamps(days + pd.Timedelta(times, unit="s"), resolution=resolution)
    encoder, _ = fit(values, column)
    assert [p.view for p in encoder.parts] == views


def test_days_and_clock_are_missing_together() -> None:
    """Else a barely trained generator wrote every other cell as missing."""
    minutes = np.random.default_rng(0).integers(0, 525_600, 600)
    moments = pd.Timestamp("2023-01-01") + pd.Series(pd.to_timedelta(minutes, unit="min"))
    values, column = stamps(moments.where(moments.index % 10 > 2), resolution="minute",
                            nullable=True)  # fmt: skip
    config = RunConfig.build({"train": {"steps": 20, "critic_steps": 0, "width": 16, "depth": 1}})
    table = RealTable(TableSchema(name="d", columns=(column,)), values.to_frame("t"))
    fitted = Synthesizer.fit(table, config=config, seed=0, device="cpu")
    assert [p.view for p in fitted.encoder.parts] == ["days", "clock"]
    assert fitted.sample(4_000, seed=0).data["t"].isna().mean() == pytest.approx(0.3, abs=0.06)


def test_a_skipped_hour_moves_forward() -> None:
    # On 31 March 2024, 2:30 does not exist in Berlin.
    micros = dt.to_microseconds(stamps(["2024-03-31T02:30:00"])[0])
    (stamp,) = dt.as_datetimes(micros, BERLIN)
    assert stamp == pd.Timestamp("2024-03-31T03:00:00", tz=BERLIN)


def test_a_repeated_hour_is_the_first_of_the_two() -> None:
    # On 27 October 2024, 2:30 comes twice in Berlin: at 0:30 and at 1:30 UTC.
    twice, column = stamps(
        pd.to_datetime(["2024-10-27T00:30:00", "2024-10-27T01:30:00"], utc=True), timezone=BERLIN
    )
    micros = dt.to_microseconds(twice)
    assert micros[0] == micros[1]
    back = dt.from_microseconds(micros, column)
    assert (back == twice[0]).all()


def test_a_zone_round_trips_away_from_the_repeated_hour() -> None:
    hours = pd.date_range("2024-03-29", "2024-04-02", freq="h", tz=BERLIN, unit="us")
    values, column = stamps(hours, timezone=BERLIN, resolution="hour")
    encoder, frame = fit(values, column)
    again = encoder.inverse_transform(encoder.transform(frame), None)["t"]
    assert again.dtype == values.dtype
    assert (again.dt.minute == 0).all()
    assert ((again - values).abs() <= pd.Timedelta("60D")).all()


@pytest.mark.parametrize("resolution", ["day", "hour", "minute", "second"])
def test_values_are_whole_units(resolution: Any) -> None:
    rng = np.random.default_rng(0)
    unit = dt.MICROSECONDS[resolution] // 10**6
    seconds = rng.integers(-(10**9), 10**9, 2_000) // unit * unit
    values, column = stamps(pd.to_datetime(seconds, unit="s"), resolution=resolution)
    encoder, frame = fit(values, column)
    table = encoder.transform(frame)
    for habits in (None, [rng] * len(encoder.parts)):
        back = encoder.inverse_transform(table, habits)["t"]
        assert (dt.to_microseconds(back) % dt.MICROSECONDS[resolution] == 0).all()
    exact = encoder.inverse_transform(table, None)["t"]
    middle = (values > values.quantile(0.05)) & (values < values.quantile(0.95))
    # The first and last minutes of a day are held by too few rows to be kept.
    assert (exact == values)[middle].mean() > 0.99
    assert (exact - values)[middle].abs().max() <= pd.Timedelta("10min")


def test_declared_bounds_hold() -> None:
    rng = np.random.default_rng(1)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 100, 500), unit="D")
    values, column = stamps(
        days, resolution="day", minimum="2020-01-01", maximum="2020-04-09", source="data"
    )
    encoder, frame = fit(values, column)
    table = encoder.transform(frame)
    table.offsets[:] = rng.integers(0, 2, table.offsets.shape)
    back = encoder.inverse_transform(table, [rng] * len(encoder.parts))["t"]
    assert back.min() >= pd.Timestamp("2020-01-01")
    assert back.max() <= pd.Timestamp("2020-04-09")


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.datetimes(
            min_value=pd.Timestamp("1850-01-01").to_pydatetime(),
            max_value=pd.Timestamp("2200-01-01").to_pydatetime(),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_parts_invert_on_any_wall_clock(moments: list[Any]) -> None:
    values, column = stamps(moments, resolution="microsecond")
    micros = dt.to_microseconds(values)
    parts = dt.to_days(micros), dt.to_clock(micros, "microsecond")
    assert ((parts[1] >= 0) & (parts[1] < 86_400_000_000)).all()
    back = dt.from_microseconds(dt.join(*parts, "microsecond"), column)
    pd.testing.assert_series_equal(back, values, check_names=False)
