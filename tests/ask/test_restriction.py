"""Bounds that cut a cell: every row satisfies, and none are piled on the bound."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from synthgen.ask.conditions import parse
from synthgen.ask.restriction import intervals
from synthgen.config import RunConfig
from synthgen.encode.table import TableEncoder
from synthgen.errors import ConfigError
from synthgen.schema import Column, TableSchema
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable

SCHEMA = TableSchema(
    name="visits",
    columns=(
        Column(name="seen", kind="datetime", resolution="minute"),
        Column(name="day", kind="datetime", resolution="minute"),
        Column(name="amount", kind="numeric", decimals=2),
        Column(name="points", kind="numeric", decimals=0),
        Column(name="log_amount", kind="numeric", decimals=6),
    ),
)
N = 3_000


@pytest.fixture(scope="module")
def visits() -> Synthesizer:
    """A hundred days, each from six to eleven in the evening; amounts that thin out."""
    rng = np.random.default_rng(0)
    day, minute = rng.integers(0, 100, N), rng.integers(6 * 60, 23 * 60, N)
    midnights = pd.Series(pd.Timestamp("2024-01-01") + pd.to_timedelta(day, unit="D"))
    frame = pd.DataFrame(
        {
            "seen": (midnights + pd.to_timedelta(minute, unit="min")).astype("datetime64[us]"),
            "day": midnights.astype("datetime64[us]").sample(frac=1, random_state=0).to_numpy(),
            "amount": rng.lognormal(8, 1, N).round(2),
            "points": rng.integers(0, 500, N).astype(float),
        }
    )
    frame["log_amount"] = np.log(frame["amount"]).round(6)
    settings = {"train": {"steps": 40, "critic_steps": 10, "width": 32, "depth": 1}}
    config = RunConfig.build(settings)
    return Synthesizer.fit(RealTable(SCHEMA, frame), config=config, seed=0, device="cpu")


def drawn(visits: Synthesizer, column: str, *where: str, n: int = 1_000) -> pd.Series:
    values = visits.sample(n, seed=1, where=where).data[column]
    for text in where:
        assert parse(text, SCHEMA).holds(values, SCHEMA.column(column)).all()
    return values


def test_an_evening_is_spread_over_its_hours(visits: Synthesizer) -> None:
    """Visits are as many in every minute: 300 of them from six, so that hardly any is the first."""
    seen = drawn(visits, "seen", "seen >= 2024-03-05T18:00", "seen < 2024-03-06")
    assert (seen == "2024-03-05T18:00").mean() < 0.02
    assert pd.Timestamp("2024-03-05T20:00") < seen.median() < pd.Timestamp("2024-03-05T21:00")


def test_a_day_that_a_bound_cuts_has_its_share(visits: Synthesizer) -> None:
    """Five of seventeen hours are left of one of three days: 5 / 39 of the rows."""
    seen = drawn(visits, "seen", "seen >= 2024-03-05T18:00", "seen < 2024-03-08")
    assert (seen < "2024-03-06").mean() == pytest.approx(5 / 39, abs=0.05)


def test_a_moment_alone_is_left_out(visits: Synthesizer) -> None:
    seen = drawn(
        visits, "seen", "seen != 2024-03-05T18:00", "seen >= 2024-03-05", "seen < 2024-03-06"
    )
    assert (seen < "2024-03-05T18:00").any()
    assert (seen > "2024-03-05T18:00").any()


@pytest.mark.parametrize(
    "where",
    [
        ["seen = 2024-03-05T18:00"],
        ["seen in (2024-03-05T18:00, 2024-04-09T07:01)"],
        ["seen >= 2024-03-05T22:55", "seen <= 2024-03-06T06:02"],
        ["seen <= 2024-03-05T07:00"],
        ["amount = 1234.56"],
        ["points != 10", "points <= 20", "points != 12"],
    ],
)
def test_narrow_conditions_hold(visits: Synthesizer, where: list[str]) -> None:
    drawn(visits, where[0].split()[0], *where, n=200)


def test_a_tail_beyond_a_bound_is_that_of_the_model(visits: Synthesizer) -> None:
    free = drawn(visits, "amount", n=20_000)
    beyond, asked = free[free >= 10_000], drawn(visits, "amount", "amount >= 10000")
    shares = np.array([0.1, 0.5, 0.9])
    assert (asked == 10_000).sum() <= 2
    assert asked.quantile(shares).to_numpy() == pytest.approx(beyond.quantile(shares), rel=0.15)


def test_listed_numbers_of_one_cell_are_as_many(visits: Synthesizer) -> None:
    points = drawn(visits, "points", "points in (10, 11, 12)")
    assert points.value_counts(normalize=True).to_numpy() == pytest.approx([1 / 3] * 3, abs=0.12)


@pytest.mark.parametrize(
    ("texts", "days", "clocks"),
    [
        (["seen = 2024-03-05T18:00"], [(19_787, 19_787)], [(1_080, 1_080)]),
        (["seen != 2024-03-05T18:00"], [(-np.inf, np.inf)], None),
        (["seen >= 2024-03-05T18:00"], [(19_787, np.inf)], None),
        (
            ["seen >= 2024-03-05T18:00", "seen <= 2024-03-06T06:00"],
            [(19_787, 19_788)],
            [(-np.inf, 360), (1_080, np.inf)],
        ),
        (
            ["seen in (2024-03-09T07:00, 2024-03-05T07:00)"],
            [(19_787, 19_787), (19_791, 19_791)],
            [(420, 420)],
        ),
    ],
)
def test_days_and_times_of_day_by_hand(
    visits: Synthesizer, texts: list[str], days: object, clocks: object
) -> None:
    found = intervals(visits.encoder, [parse(t, SCHEMA) for t in texts])
    assert (found[0], found.get(1)) == (days, clocks)


def test_midnights_count_from_the_next(visits: Synthesizer) -> None:
    """Of a column that never leaves midnight six in the evening leaves the days after."""
    encoder: TableEncoder = visits.encoder
    assert [p.view for p in encoder.parts if p.column == "day"] == ["days"]
    asked = [parse("day >= 2024-03-05T18:00", SCHEMA)]
    assert intervals(encoder, asked) == {2: [(19_788, np.inf)]}
    drawn(visits, "day", "day >= 2024-03-05T18:00", "day < 2024-03-07", n=100)
    with pytest.raises(ConfigError, match="column 'day': nothing that the generator knows"):
        drawn(visits, "day", "day >= 2024-03-05T18:00", "day < 2024-03-06")


def test_a_time_of_day_that_nobody_came_at(visits: Synthesizer) -> None:
    with pytest.raises(ConfigError, match=r"'seen': .* it knows no such time of day"):
        drawn(visits, "seen", "seen >= 2024-03-05T02:00", "seen <= 2024-03-05T03:00")


def test_what_is_asked_of_a_function_is_asked_of_its_source(visits: Synthesizer) -> None:
    assert "log_amount" in visits.encoder.computed
    condition = "log_amount >= 10.5"  # .6 % of the rows: too few to be waited for
    values = drawn(visits, "log_amount", condition, n=500)
    assert values.nunique() > 100
    (asked,) = intervals(visits.encoder, [parse(condition, SCHEMA)]).values()
    assert asked[0][0] == pytest.approx(np.exp(10.5), rel=1e-4)
