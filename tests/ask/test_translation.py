"""Rows of one domain as if from another: ranks cross, levels stay where both laws allow."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from synthgen.ask.translation import Ranked, came_back, in_order, moved_level, moved_number, ties
from synthgen.cli import app
from synthgen.config import RunConfig
from synthgen.encode.categorical import CategoricalEncoder
from synthgen.encode.numeric import NumericEncoder
from synthgen.encode.table import Part
from synthgen.errors import ConfigError, SchemaError
from synthgen.schema import Column, TableSchema
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable, Split
from synthgen.uses import listed

CLI = CliRunner()


def two_values(low: float, high: float) -> NumericEncoder:
    """Level 0 is missing, 1 and 2 are exact values."""
    return NumericEncoder.fit(np.repeat([low, high], 20), decimals=0)


def test_a_number_takes_the_value_of_its_rank() -> None:
    """Halves here and (1/5, 4/5) there: ranks .1 and .3 of the lower level, .75 of the upper."""
    here = Ranked(
        two_values(0, 10),
        np.tile([0.0, 0.5, 0.5], (3, 1)),
        np.array([1, 1, 2]),
        np.array([0.2, 0.6, 0.5]),
    )
    q = np.tile([0.0, 0.2, 0.8], (3, 1))
    level, within = moved_number(here, two_values(5, 7), q, np.full(3, 0.5))
    assert level.tolist() == [1, 2, 2]
    assert within == pytest.approx([0.5, 0.1 / 0.8, 0.55 / 0.8])


def test_missing_cells_stay_as_often_as_both_allow() -> None:
    """Missing 2/5 here and 1/5 there: every other one stays; of those known none goes."""
    here = Ranked(
        two_values(0, 10),
        np.tile([0.4, 0.3, 0.3], (3, 1)),
        np.array([0, 0, 1]),
        np.array([0.0, 0.0, 0.5]),
    )
    q = np.tile([0.2, 0.4, 0.4], (3, 1))
    level, _ = moved_number(here, two_values(0, 10), q, np.array([0.49, 0.9, 0.0]))
    assert level.tolist() == [0, 2, 1]  # .9 is 4/5 of the way through those who do not stay
    # The other way round, of the 4/5 known a quarter goes missing.
    here = Ranked(here.encoder, q, np.array([1, 1, 2]), np.full(3, 0.5))
    level, _ = moved_number(
        here, here.encoder, np.tile([0.4, 0.3, 0.3], (3, 1)), np.array([0.24, 0.26, 0.3])
    )
    assert level.tolist() == [0, 1, 2]


def test_a_level_stays_as_often_as_both_laws_allow() -> None:
    """a: 3/5 here and 3/10 there, so half of them go, to b and to c, which is not known here."""
    values = pd.Series(["a"] * 20 + ["b"] * 20, dtype="str")
    here = CategoricalEncoder.fit(values)
    there = CategoricalEncoder.fit(pd.Series(["a", "b", "c"] * 20, dtype="str"))
    p = np.tile([0.0, 0.6, 0.4, 0.0], (4, 1))
    q = np.tile([0.0, 0.3, 0.5, 0.2, 0.0], (4, 1))
    ranked = Ranked(here, p, np.array([1, 1, 1, 2]), np.zeros(4))
    chances = np.array([[0.49, 0.51, 0.9, 0.99], [0.5, 0.3, 0.4, 0.5]])
    # Room is .1 for b and .2 for c: up to a third of those who go, b.
    assert moved_level(ranked, there, q, chances).tolist() == [1, 2, 3, 2]


def test_what_nobody_shares_moves_first(tiny_synthesizer: Synthesizer) -> None:
    """Two values on half of the rows each: two rows share one with probability 1/2."""
    line = NumericEncoder.fit(np.linspace(0, 1, 400), decimals=None)
    said = CategoricalEncoder.fit(pd.Series(["a"] * 30 + ["b"] * 10, dtype="str"))
    shares = [ties(Part("x", "", e)) for e in (line, two_values(0, 10), said)]
    assert shares == [0.0, 0.5, 0.75**2 + 0.25**2]
    completion = tiny_synthesizer._completion()
    order = [column for column, _ in in_order(completion, completion)]
    assert order.index("crp") < order.index("ward") < order.index("emergency")


def test_what_came_back_is_counted() -> None:
    """Numbers within .05 standard deviations (5 here: .25), levels and gaps if they are equal."""
    was = pd.DataFrame(
        {"x": [-5.0, 5.0, -5.0, 5.0, np.nan, np.nan], "a": ["p", "q", None, "p", "q", None]}
    ).astype({"a": "str"})
    back = pd.DataFrame(
        {"x": [-5.2, 5.6, np.nan, 5.0, np.nan, 0.0], "a": ["p", "p", None, None, "q", "q"]}
    ).astype({"a": "str"})
    assert was["x"].std() == pytest.approx(5 * np.sqrt(4 / 3))
    assert came_back(was, back, ["x", "a"]) == {"x": 3 / 6, "a": 3 / 6}


def test_nothing_moves_inside_one_domain(tiny_synthesizer: Synthesizer, demo_halves: Split) -> None:
    names = [c.name for c in demo_halves.train.schema.modelled]
    rows = demo_halves.holdout.data[names].reset_index(drop=True)
    moved = tiny_synthesizer.translate(rows, tiny_synthesizer, keep=["ward", "cost"], seed=0)
    pd.testing.assert_frame_equal(moved[["ward", "cost"]], rows[["ward", "cost"]])
    for name in ("diagnosis", "emergency", "readmitted"):
        [part] = [p for p in tiny_synthesizer.encoder.parts if p.column == name]
        learnt = rows[name].astype("str").isin(part.encoder.levels)  # rare ones are drawn anew
        assert moved[name][learnt].equals(rows[name][learnt])
    known = rows["crp"].notna()
    assert moved["crp"].notna().equals(known)
    assert moved["crp"][known].corr(rows["crp"][known], method="spearman") > 0.99
    again = tiny_synthesizer.translate(rows, tiny_synthesizer, keep=["ward", "cost"], seed=0)
    pd.testing.assert_frame_equal(moved, again)


def test_what_cannot_be_translated(tiny_synthesizer: Synthesizer, demo_halves: Split) -> None:
    rows = demo_halves.holdout.data
    with pytest.raises(ConfigError, match="wrad"):
        tiny_synthesizer.translate(rows, tiny_synthesizer, keep=["wrad"], seed=0)
    columns = tuple(c for c in tiny_synthesizer.schema.columns if c.name != "cost")
    other = Synthesizer(
        TableSchema(name="other", columns=columns),
        tiny_synthesizer.encoder,
        tiny_synthesizer.generator,
        tiny_synthesizer.config,
    )
    with pytest.raises(SchemaError, match="'cost'"):
        tiny_synthesizer.translate(rows, other, seed=0)


def planted(n: int, seed: int, *, moved: bool) -> pd.DataFrame:
    """A number by a side; in the other domain it is doubled and goes up on one side, down on one.

    And "yes" is three times as frequent there.
    """
    rng = np.random.default_rng(seed)
    side = rng.choice(["p", "q"], n)
    x = rng.normal(size=n)
    if moved:
        x = 2 * x + np.where(side == "p", 10, -10)
    yes = rng.random(n) < (0.6 if moved else 0.2)
    frame = pd.DataFrame({"side": side, "x": x.round(2), "said": np.where(yes, "yes", "no")})
    return frame.astype({"side": "str", "said": "str"})


@pytest.mark.slow
def test_a_planted_shift_is_found_and_undone() -> None:
    schema = TableSchema(
        name="shift",
        columns=(
            Column(name="side", kind="categorical", source="data"),
            Column(name="x", kind="numeric", decimals=2, source="data"),
            Column(name="said", kind="categorical", source="data"),
        ),
    )
    config = RunConfig.build({"train": {"steps": 400, "width": 32, "depth": 1, "batch_size": 64}})
    here, there = (
        Synthesizer.fit(
            RealTable(schema, planted(1_000, seed, moved=moved)),
            config=config,
            seed=0,
            device="cpu",
        )
        for seed, moved in ((0, False), (1, True))
    )
    rows = planted(500, 2, moved=False)
    as_there = here.translate(rows, there, keep=["side"], seed=0)
    assert as_there["side"].equals(rows["side"])
    expected = 2 * rows["x"] + np.where(rows["side"] == "p", 10, -10)
    assert (as_there["x"] - expected).abs().median() < 0.4
    assert (as_there["said"] == "yes").mean() == pytest.approx(0.6, abs=0.08)
    assert (as_there["said"][rows["said"] == "yes"] == "yes").mean() > 0.95
    back = there.translate(as_there, here, keep=["side"], seed=0)
    assert (back["x"] - rows["x"]).abs().median() < 0.05


@pytest.mark.parametrize(
    ("texts", "columns"),
    [
        (["age,sex"], ["age", "sex"]),
        (["city, state"], ["city, state"]),
        (["city", "age"], ["city", "age"]),
        (["city, state", "age , sex,"], ["city, state", "age", "sex"]),
        (["sxe"], ["sxe"]),
        ([""], []),
    ],
)
def test_columns_that_stay_are_listed(texts: list[str], columns: list[str]) -> None:
    """A name with a comma is one, though its parts are columns as well."""
    assert listed(texts, ["age", "sex", "city", "state", "city, state"]) == columns


def test_the_verb(tiny_synthesizer: Synthesizer, demo_files: Path, tmp_path: Path) -> None:
    tiny_synthesizer.save(tmp_path / "north.bundle")
    data = pd.read_csv(demo_files / "admissions.csv", dtype=str).head(60)
    data.to_csv(tmp_path / "north.csv", index=False)
    bundle, out = str(tmp_path / "north.bundle"), tmp_path / "moved.csv"
    arguments = [str(tmp_path / "north.csv"), "--from", bundle, "--to", bundle, "--seed", "1"]
    kept = ["--keep", "ward, cost", "--keep", "emergency"]
    done = CLI.invoke(app, ["translate", *arguments, *kept, "--out", str(out)])
    assert done.exit_code == 0, done.output
    # From a bundle to itself and back: nothing but rare levels, which are drawn anew, may be lost.
    share = re.search(r"there and back ([0-9.]+)% of the cells", done.output)
    assert share is not None
    assert float(share[1]) > 80
    moved = pd.read_csv(out, dtype=str)
    assert list(moved.columns) == list(data.columns)
    for name in ("patient_id", "ward", "emergency"):
        assert moved[name].equals(data[name])
    assert out.stat().st_mode & 0o777 == 0o600
