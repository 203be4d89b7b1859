"""Temperature, truncation, variations of rows, rows between two conditions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from synthgen.ask.control import AS_LEARNT, Control, by_column
from synthgen.cli import app
from synthgen.config import RunConfig
from synthgen.errors import ConfigError
from synthgen.gan.given import _blended
from synthgen.gan.sample import PLAIN, Style
from synthgen.schema import Column, TableSchema
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable, Split

CLI = CliRunner()


def shares(logits: torch.Tensor) -> list[float]:
    return [round(float(x), 4) for x in torch.softmax(logits, dim=1)[0]]


def test_temperature_by_hand() -> None:
    """Shares of 1 and 4 fifths: at temperature .5 1 to 16, at 2 1 to 2."""
    logits = torch.tensor([[0.2, 0.8]]).log()
    assert shares(Style(temperature={3: 0.5}).shaped(logits, 3)) == [0.0588, 0.9412]
    assert shares(Style(temperature={3: 2.0}).shaped(logits, 3)) == [0.3333, 0.6667]
    assert shares(Style(temperature={3: 2.0}).shaped(logits, 4)) == [0.2, 0.8]


def test_top_p_by_hand() -> None:
    """Of .1, .5, .3, .1 the likeliest that hold .7 together are .5 and .3: then 5 to 3."""
    logits = torch.tensor([[0.1, 0.5, 0.3, 0.1]]).log()
    assert shares(Style(top_p={0: 0.7}).shaped(logits, 0)) == [0, 0.625, 0.375, 0]
    assert shares(Style(top_p={0: 0.4}).shaped(logits, 0)) == [0, 1, 0, 0]
    # What a condition excludes does not count: of .1, .3 and .1 two hold .7 of the half.
    asked = logits + torch.tensor([[0.0, -1e9, 0.0, 0.0]])
    assert shares(Style(top_p={0: 0.7}).shaped(asked, 0)) in (
        [0.25, 0, 0.75, 0],
        [0, 0, 0.75, 0.25],
    )


def test_nothing_asked_is_nothing_computed() -> None:
    logits = torch.randn(3, 5)
    assert PLAIN.shaped(logits, 0) is logits


def test_half_way_between_two_conditions_by_hand() -> None:
    """Between 1 : 4 and 4 : 1 lies 1 : 1; between 1 : 4 and itself 1 : 4."""
    first, second = torch.tensor([[0.2, 0.8]]).log(), torch.tensor([[0.8, 0.2]]).log()
    assert shares(_blended([first, second], torch.tensor([0.5]))) == [0.5, 0.5]
    assert shares(_blended([first, second], torch.tensor([0.0]))) == [0.2, 0.8]
    assert shares(_blended([first, first], torch.tensor([0.3]))) == [0.2, 0.8]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.8", {None: 0.8}),
        ("income=0.7,age=1.2", {"income": 0.7, "age": 1.2}),
        ("`my col` = 2 , 0.5", {"my col": 2.0, None: 0.5}),
        ("a=b=2", {"a=b": 2.0}),
    ],
)
def test_numbers_by_column(text: str, expected: dict[str | None, float]) -> None:
    assert by_column(text, "temperature") == expected


@pytest.mark.parametrize("text", ["", "hot", "age=", "age=1,age=2", "1,2", "age:1"])
def test_numbers_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="temperature"):
        by_column(text, "temperature")


@pytest.mark.parametrize(
    "control",
    [{"temperature": 0}, {"temperature": {"a": -1.0}}, {"top_p": 1.1}, {"top_p": float("nan")}],
)
def test_numbers_out_of_range(control: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must lie between"):
        Control(**control)


def test_columns_that_are_not_drawn(tiny_synthesizer: Synthesizer) -> None:
    for name, message in (("crpp", "nearest: 'crp'"), ("length_of_stay", "computed from others")):
        with pytest.raises(ConfigError, match=message):
            tiny_synthesizer.sample(9, seed=0, control=Control(temperature={name: 0.5}))


@pytest.fixture(scope="module")
def echo() -> Synthesizer:
    """Letters p (6 of 10), q (3), r (1); `b` repeats `a` on 90 % of rows; x follows a; c is 3 a."""
    rng = np.random.default_rng(0)
    a = rng.choice(3, size=800, p=[0.6, 0.3, 0.1])
    b = np.where(rng.random(800) < 0.9, a, rng.integers(3, size=800))
    letters = np.array(["p", "q", "r"])
    x = (10.0 * a + rng.normal(size=800)).round(1)
    frame = pd.DataFrame({"a": letters[a], "b": letters[b], "x": x, "c": 3 * x})
    frame["c"] = frame["c"].round(1)
    columns = (
        Column(name="a", kind="categorical"),
        Column(name="b", kind="categorical"),
        Column(name="x", kind="numeric", decimals=1),
        Column(name="c", kind="numeric", decimals=1),
    )
    table = RealTable(
        TableSchema(name="echo", columns=columns), frame.astype({"a": "str", "b": "str"})
    )
    config = RunConfig.build({"train": {"steps": 400, "width": 32, "depth": 1, "batch_size": 64}})
    return Synthesizer.fit(table, config=config, seed=0, device="cpu")


def share_of(values: pd.Series, level: str) -> float:
    return float((values == level).mean())


def test_temperature_of_one_column_sharpens_it_alone(echo: Synthesizer) -> None:
    plain = echo.sample(2_000, seed=1).data
    again = echo.sample(2_000, seed=1, control=AS_LEARNT).data
    pd.testing.assert_frame_equal(plain, again)
    cold = echo.sample(2_000, seed=1, control=Control(temperature=0.25)).data
    hot = echo.sample(2_000, seed=1, control=Control(temperature=4.0)).data
    assert share_of(cold["a"], "p") > share_of(plain["a"], "p") + 0.15
    assert share_of(hot["a"], "p") < share_of(plain["a"], "p") - 0.1
    agree = [float((f["a"] == f["b"]).mean()) for f in (cold, plain, hot)]
    assert agree[0] > agree[1] > agree[2]
    assert (cold["c"] - 3 * cold["x"]).abs().max() < 0.16  # relations hold all the same


def test_the_share_of_conditions_is_that_of_drawn_rows(echo: Synthesizer) -> None:
    rows = echo.sample(8_192, seed=2).data
    for where in (["a = p"], ["a = q", "b = q"], ["b = r", "a = p"]):
        held = np.ones(len(rows), bool)
        for text in where:
            name, _, level = text.split()
            held &= (rows[name] == level).to_numpy()
        share = echo.share(where, seed=0)
        assert share is not None
        assert abs(share - held.mean()) < 4 * (held.mean() / len(rows)) ** 0.5 + 0.002


def test_truncation_drops_the_rare_level(echo: Synthesizer) -> None:
    kept = echo.sample(2_000, seed=1, control=Control(top_p={"a": 0.8, "b": 0.8})).data
    assert share_of(echo.sample(2_000, seed=1).data["a"], "r") > 0.05
    assert share_of(kept["a"], "r") < 0.05
    # A condition is kept also where it asks for what is cut.
    asked = echo.sample(50, seed=1, where=["a = r"], control=Control(top_p=0.1)).data
    assert (asked["a"] == "r").all()


@pytest.mark.parametrize(
    ("vary", "least", "most"), [(0.0, 1, 1), (1.0, 0, 0.75), (0.5, 0.55, 0.95)]
)
def test_variations_keep_the_share_of_cells_they_say(
    echo: Synthesizer, vary: float, least: float, most: float
) -> None:
    rows = pd.DataFrame({"a": ["q"] * 300, "b": ["q"] * 300, "x": [10.0] * 300, "c": [30.0] * 300})
    [frame] = echo.complete(rows, seed=0, vary=vary)
    [again] = echo.complete(rows, seed=0, vary=vary)
    pd.testing.assert_frame_equal(frame, again)
    assert least <= share_of(frame["a"], "q") <= most
    assert np.allclose(frame["c"], 3 * frame["x"], atol=0.16)
    if 0 < vary < 1:
        # A kept cell is exactly what it was; redrawn ones follow what is kept.
        assert 0.4 < (frame["x"] == 10.0).mean() < 0.7


def test_variations_of_a_table_with_relations(
    tiny_synthesizer: Synthesizer, demo_halves: Split
) -> None:
    names = [c.name for c in demo_halves.train.schema.modelled]
    rows = demo_halves.holdout.data[names].head(100).reset_index(drop=True)
    [same] = tiny_synthesizer.complete(rows, seed=0, vary=0.0)
    pd.testing.assert_frame_equal(same[names].where(rows.notna()), rows)
    [frame] = tiny_synthesizer.complete(rows, seed=0, vary=0.4)
    days = (frame["discharged"] - frame["admitted"]) / pd.Timedelta(days=1)
    assert (days >= 0).all()
    assert np.allclose(days.round(2), frame["length_of_stay"], atol=0.011)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        next(tiny_synthesizer.complete(rows, seed=0, vary=1.5))


def test_between_two_conditions(echo: Synthesizer) -> None:
    ends = pd.DataFrame({"a": ["p", "r"], "x": [0.0, 20.0]})
    path = echo.interpolate(ends, steps=5, copies=40, seed=0)
    assert len(path) == 200
    x = path["x"].to_numpy().reshape(5, 40)
    assert (x == np.array([0.0, 5.0, 10.0, 15.0, 20.0])[:, None]).all()
    is_second = (path["a"] == "r").to_numpy().reshape(5, 40).mean(axis=1)
    assert (is_second[0], is_second[-1]) == (0, 1)
    assert 0.2 < is_second[2] < 0.8
    follows = (path["b"] == "r").to_numpy().reshape(5, 40).mean(axis=1)
    assert follows[0] < 0.2
    assert follows[-1] > 0.6
    assert np.allclose(path["c"], 3 * path["x"], atol=0.16)
    for bad, steps in ((ends.head(1), 5), (ends, 1), (ends.assign(a=None, x=np.nan), 5)):
        with pytest.raises(ConfigError, match="interpolating takes"):
            echo.interpolate(bad, steps=steps, seed=0)


def test_a_column_that_follows_from_others_moves_between_two_conditions(
    tiny_synthesizer: Synthesizer,
) -> None:
    moments = pd.to_datetime(["2023-03-01 10:00", "2023-07-01 10:00"]).as_unit("us")
    ends = pd.DataFrame({"discharged": moments})
    path = tiny_synthesizer.interpolate(ends, steps=3, copies=20, seed=0)
    discharged = path["discharged"].to_numpy().reshape(3, 20)
    middle = moments[0] + (moments[1] - moments[0]) / 2
    assert (discharged == np.array([moments[0], middle, moments[1]], "M8[us]")[:, None]).all()
    assert (path["admitted"] <= path["discharged"]).all()
    stay = (path["discharged"] - path["admitted"]).dt.total_seconds() / 86_400
    assert np.allclose(stay, path["length_of_stay"], atol=0.011)


def test_the_options(tiny_synthesizer: Synthesizer, demo_files: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "demo.bundle"
    tiny_synthesizer.save(bundle)
    mine = pd.read_csv(demo_files / "admissions.csv", dtype=str).head(2)
    mine[["ward", "emergency", "crp", "cost"]].to_csv(tmp_path / "mine.csv", index=False)

    def sample(name: str, *more: str) -> tuple[int, str]:
        to = str(tmp_path / f"{name}.csv")
        done = CLI.invoke(app, ["sample", str(bundle), "--to", to, "--seed", "1", *more])
        return done.exit_code, done.output

    rows = str(tmp_path / "mine.csv")
    asked = {
        "fair": ["--rows", "60", "--fair", "emergency,readmitted", "--temperature", "0.5,crp=1.2"],
        "like": ["--seed-row", rows, "--vary", "0.5", "--copies", "4"],
        "path": ["--between", rows, "--steps", "3", "--copies", "2"],
    }
    said = {name: sample(name, *more) for name, more in asked.items()}
    assert all(code == 0 for code, _ in said.values()), said
    lengths = {name: len(pd.read_csv(tmp_path / f"{name}.csv")) for name in asked}
    assert lengths == {"fair": 60, "like": 8, "path": 6}
    assert "demographic parity difference" in said["fair"][1]
    assert "as private as these" in said["like"][1]
    for more, message in (
        (["--rows", "5", "--given", rows], "give one of --rows"),
        (["--given", rows, "--match", "ward=surgery:1"], "drawn freely"),
        (["--rows", "5", "--fair", "ward"], "SENSITIVE,TARGET"),
    ):
        code, output = sample("wrong", *more)
        assert code == 2
        assert message in output
