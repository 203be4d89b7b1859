"""Rows of which some cells are known: filled, completed, scored; relations hold, cells stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from synthgen.ask.completion import pool
from synthgen.cli import app
from synthgen.config import RunConfig
from synthgen.conform import conform
from synthgen.encode.amounts import Grid
from synthgen.encode.relations import Difference, Lookup, Product, Relation, Sum
from synthgen.errors import ConfigError
from synthgen.schema import Column, TableSchema
from synthgen.sources import open_source
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable, Split
from synthgen.uses import impute_file

CLI = CliRunner()


def cells(**columns: list[float | str | None]) -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = pd.DataFrame(columns)
    return frame, frame.notna()


@pytest.mark.parametrize(
    ("relation", "given", "solved"),
    [
        (Sum("t", ("a", "b"), 0), {"t": 5.0, "a": 2.0, "b": None}, {"b": 3.0}),
        (Sum("t", ("a", "b"), 0), {"t": 5.0, "a": None, "b": 1.0}, {"a": 4.0}),
        (Sum("t", ("a", "b"), 0), {"t": 5.0, "a": None, "b": None}, {}),
        (Difference("a", "t", "b", 0, None), {"t": None, "a": 2.0, "b": 3.0}, {"t": 5.0}),
        (Difference("a", "t", "b", 0, None), {"t": 5.0, "a": 2.0, "b": None}, {"b": 3.0}),
        (Product("y", ("x",), 1, 0.5), {"y": 3.0, "x": None}, {"x": 6.0}),
        (
            Product("y", ("n", "x"), 2, grids=(Grid(0), Grid(2))),
            {"y": 10.0, "n": 3.0, "x": None},
            {"x": 3.33},
        ),
    ],
)
def test_what_a_known_value_decides_is_solved(
    relation: Relation, given: dict[str, float | None], solved: dict[str, float]
) -> None:
    frame, known = cells(**{name: [value, None] for name, value in given.items()})
    frame = frame.astype(float)
    relation.solve(frame, known)
    row = frame.loc[0].dropna().to_dict()
    assert row == {k: v for k, v in given.items() if v is not None} | solved
    assert set(known.columns[known.loc[0]]) == set(row)
    assert not known.loc[1].any()


def test_a_level_is_solved_where_it_alone_decides_the_value() -> None:
    relation = Lookup("code", "word", ("one", "uno", "two", "__rare__"), (1.0, 1.0, 2.0, 9.0))
    frame, known = cells(word=[None, None, None], code=[1.0, 2.0, 9.0])
    frame["word"] = frame["word"].astype("str")
    relation.solve(frame, known)
    assert frame["word"].fillna("?").tolist() == ["?", "two", "?"]
    assert known["word"].tolist() == [False, True, False]


def test_drawn_parts_are_scaled_to_a_known_total() -> None:
    frame = pd.DataFrame({"t": [40.0], "a": [10.0], "b": [30.0]})
    known = pd.DataFrame({"t": [True], "a": [False], "b": [False]})
    Sum("t", ("a", "b"), 0).settle(frame, pd.Series([20.0]), known)
    assert frame.loc[0, ["a", "b"]].tolist() == [5.0, 15.0]


def test_drawn_factors_make_a_known_product_as_their_columns_can_hold_it() -> None:
    product = Product("y", ("n", "x"), 2, grids=(Grid(0, 1.0), Grid(2, 0.0)))
    frame = pd.DataFrame({"n": [8.0, 8.0, np.nan], "x": [4.5, 4.5, np.nan]})
    given = pd.Series([37.44, 37.41, 2.5])
    known = pd.DataFrame({"y": [True] * 3, "n": [False] * 3, "x": [False] * 3})
    product.settle(frame, given, known)
    # 37.41 is 3 * 29 * 43 cents: of 8 pieces none costs whole cents, of 3 each 12.47
    assert frame["n"].tolist() == [8, 3, 1]
    assert frame["x"].tolist() == [4.68, 12.47, 2.5]
    prime = Product("y", ("n", "m"), 0, grids=(Grid(0, 2.0), Grid(0, 2.0)))
    frame = pd.DataFrame({"n": [3.0], "m": [4.0]})
    prime.settle(frame, pd.Series([11.0]), known.rename(columns={"x": "m"}).head(1))
    assert frame.loc[0].tolist() == [3, 4]  # only near


def test_rubins_rules() -> None:
    # Within 1, between 2, m = 2: 1 + 1.5 * 2 = 4; (2 - 1) * (4 / 3) ** 2 degrees of freedom.
    pooled = pool([1.0, 3.0], [1.0, 1.0])
    assert (pooled.estimate, pooled.variance) == (2.0, 4.0)
    assert pooled.degrees_of_freedom == pytest.approx(16 / 9)
    assert pool([2.0, 2.0], [1.0, 3.0]).degrees_of_freedom == np.inf
    with pytest.raises(ConfigError, match="two imputations"):
        pool([1.0], [1.0])


@pytest.fixture(scope="module")
def holes(demo_halves: Split) -> pd.DataFrame:
    """300 demo rows, a fifth of whose cells are missing."""
    names = [c.name for c in demo_halves.train.schema.modelled]
    frame = demo_halves.holdout.data[names].reset_index(drop=True)
    return frame.mask(np.random.default_rng(0).random(frame.shape) < 0.2)


@pytest.mark.parametrize("multiple", [None, 2])
def test_imputing_fills_the_gaps_and_changes_nothing_else(
    tiny_synthesizer: Synthesizer, holes: pd.DataFrame, multiple: int | None
) -> None:
    filled = tiny_synthesizer.impute(holes, seed=3, multiple=multiple)
    again = tiny_synthesizer.impute(holes, seed=3, multiple=multiple)
    assert len(filled) == (multiple or 1)
    for table, other in zip(filled, again, strict=True):
        pd.testing.assert_frame_equal(table, other)
        assert not table.isna().to_numpy().any()
        pd.testing.assert_frame_equal(table.where(holes.notna()), holes)
    if multiple:
        assert not filled[0].equals(filled[1])


def test_relations_hold_on_imputed_rows(tiny_synthesizer: Synthesizer, holes: pd.DataFrame) -> None:
    """The demo's later date never lies before the earlier one, and the stay is their difference."""
    kept = [r.derived for r in tiny_synthesizer.encoder.relations]
    assert kept == ["discharged", "length_of_stay"]
    [table] = tiny_synthesizer.impute(holes, seed=1)
    days = (table["discharged"] - table["admitted"]) / pd.Timedelta(days=1)
    # Where all three are known a row says what it says: the demo's own do.
    assert (days >= 0).all()
    assert np.allclose(days.round(2), table["length_of_stay"], atol=0.011)


@pytest.fixture(scope="module")
def echo() -> Synthesizer:
    """Four levels, a column that repeats them on 90 % of rows, and a number that follows them."""
    rng = np.random.default_rng(0)
    a = rng.integers(4, size=600)
    b = np.where(rng.random(600) < 0.9, a, rng.integers(4, size=600))
    letters = np.array(["p", "q", "r", "s"])
    frame = pd.DataFrame(
        {"a": letters[a], "b": letters[b], "x": (10.0 * a + rng.normal(size=600)).round(1)}
    ).astype({"a": "str", "b": "str"})
    schema = TableSchema(
        name="echo",
        columns=(
            Column(name="a", kind="categorical", source="data"),
            Column(name="b", kind="categorical", source="data"),
            Column(name="x", kind="numeric", decimals=1, source="data"),
        ),
    )
    config = RunConfig.build({"train": {"steps": 500, "width": 32, "depth": 1, "batch_size": 64}})
    return Synthesizer.fit(RealTable(schema, frame), config=config, seed=0, device="cpu")


def test_a_planted_dependence_is_used(echo: Synthesizer) -> None:
    asked = pd.DataFrame(
        {"a": ["p", "q", "r", "s"] * 25, "b": [None] * 100, "x": [np.nan] * 100}
    ).astype({"b": "str"})
    [table] = echo.impute(asked, seed=0)
    assert (table["b"] == table["a"]).mean() > 0.95
    centre = table["a"].map({"p": 0, "q": 10, "r": 20, "s": 30})
    assert (table["x"] - centre).abs().median() < 2


def test_a_best_guess_is_what_many_draws_say(
    tiny_synthesizer: Synthesizer, holes: pd.DataFrame
) -> None:
    """The mean of 200 draws of each cell, up to their standard error; of a category the mode."""
    asked = pd.concat([holes.head(1)] * 200, ignore_index=True)
    asked["crp"], asked["ward"], asked["cost"] = np.nan, None, np.nan
    asked = asked.astype(holes.dtypes.to_dict())
    [guess] = tiny_synthesizer.impute(asked.head(1), seed=0)
    [draws] = tiny_synthesizer.impute(asked, seed=1, multiple=1)
    for name in ("crp", "cost"):
        error = draws[name].std() / np.sqrt(200)
        assert abs(draws[name].mean() - guess.loc[0, name]) < 4 * error + 0.05
    shares = draws["ward"].value_counts(normalize=True)
    assert shares[guess.loc[0, "ward"]] > shares.max() - 0.1


def test_a_row_that_is_unusual_throughout_is_found(echo: Synthesizer) -> None:
    """Nothing given all others surprises in the middle of nowhere: rows are also judged whole."""
    rows = pd.DataFrame({"a": ["p", "p"], "b": ["p", "s"], "x": [0.0, 14.0]})
    rows = rows.astype({"a": "str", "b": "str"})
    total = echo.score(rows).sum(axis=1)
    assert total[1] > total[0] + 4
    alone = echo.score(rows.tail(1))
    assert np.allclose(alone, echo.score(rows).tail(1), rtol=1e-4)


def test_completions_hold_what_is_given_and_vary_in_the_rest(echo: Synthesizer) -> None:
    given = pd.DataFrame({"a": ["s", "p"]})
    frames = list(echo.complete(given, seed=0, copies=30))
    assert all(f["a"].tolist() == ["s", "p"] for f in frames)
    numbers = pd.concat([f.iloc[[0]] for f in frames])["x"]
    assert numbers.nunique() > 5
    assert abs(numbers.median() - 30) < 4


def test_surprise_points_at_the_cell_that_does_not_fit(echo: Synthesizer) -> None:
    rows = pd.DataFrame(
        {"a": ["p", "p", "p", "zzz"], "b": ["p", "p", "p", "p"], "x": [0.0, 30.0, 900.0, 0.0]}
    ).astype({"a": "str", "b": "str"})
    scores = echo.score(rows)
    total = scores.sum(axis=1)
    assert total.idxmin() == 0
    assert scores["x"].idxmax() == 2  # beyond all that was learnt from
    assert scores.loc[1, "x"] > 3 * abs(scores.loc[0, "x"])
    assert scores["a"].idxmax() == 3  # a level nobody has seen


@pytest.fixture(scope="module")
def bundle(tiny_synthesizer: Synthesizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "demo.bundle"
    tiny_synthesizer.save(path)
    return path


def test_the_verbs(bundle: Path, demo_files: Path, tmp_path: Path) -> None:
    real = pd.read_csv(demo_files / "admissions.csv", dtype=str).head(50)
    holed = real.assign(ward=real["ward"].where(real.index % 2 == 0))
    holed.to_csv(tmp_path / "holed.csv", index=False)
    for to, more in (("full.csv", []), ("many.csv", ["--multiple", "3"])):
        arguments = [str(tmp_path / "holed.csv"), "--bundle", str(bundle), "--seed", "1"]
        done = CLI.invoke(app, ["impute", *arguments, "--to", str(tmp_path / to), *more])
        assert done.exit_code == 0, done.output
    full, many = (pd.read_csv(tmp_path / n, dtype=str) for n in ("full.csv", "many.csv"))
    assert full["ward"].notna().all()
    kept = full["ward"].where(full.index % 2 == 0)
    pd.testing.assert_frame_equal(full.assign(ward=kept)[["ward"]], holed[["ward"]])
    assert many["imputation"].tolist() == ["1"] * 50 + ["2"] * 50 + ["3"] * 50
    assert (tmp_path / "full.csv").stat().st_mode & 0o777 == 0o600

    data = str(demo_files / "admissions.csv")
    done = CLI.invoke(
        app, ["score", data, "--bundle", str(bundle), "--to", str(tmp_path / "scores.csv")]
    )
    assert done.exit_code == 0, done.output
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores["score"].is_monotonic_decreasing
    assert sorted(scores["row"]) == list(range(1, 1_501))
    parts = scores.drop(columns=["row", "score"]).sum(axis=1)
    assert np.allclose(scores["score"], parts, atol=0.01)


def test_given_rows_are_completed(bundle: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.csv"
    given.write_text("ward,emergency\nsurgery,yes\n,no\n")
    arguments = ["sample", str(bundle), "--given", str(given), "--copies", "3", "--seed", "2"]
    done = CLI.invoke(app, [*arguments, "--to", str(tmp_path / "out.csv")])
    assert done.exit_code == 0, done.output
    out = pd.read_csv(tmp_path / "out.csv")
    assert out["emergency"].tolist() == ["yes", "no"] * 3
    assert out["ward"].tolist()[::2] == ["surgery"] * 3
    assert out["ward"].notna().all()
    wrong = CLI.invoke(app, [*arguments, "--rows", "5", "--to", str(tmp_path / "other.csv")])
    assert wrong.exit_code == 2
    assert "--rows" in wrong.output
    given.write_text("wrad\nsurgery\n")
    unknown = CLI.invoke(app, [*arguments, "--to", str(tmp_path / "other.csv")])
    assert unknown.exit_code == 2
    assert "'wrad'" in unknown.output


def test_an_imputed_file_is_read_by_the_same_schema(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    places = rng.choice(["Köln", "a;b"], 300)
    holed = pd.DataFrame({"größe": rng.integers(150, 199, 300), "wo": places})
    holed.loc[::7, "wo"] = None
    source = tmp_path / "in.csv"
    holed.to_csv(source, sep=";", index=False, encoding="cp1252")
    columns = (
        Column(name="größe", kind="numeric", decimals=0),
        Column(name="wo", kind="categorical", nullable=True),
    )
    schema = TableSchema(name="t", columns=columns, delimiter=";", encoding="cp1252")
    table = conform(open_source(str(source), schema).batches(), schema)
    config = RunConfig.build({"train": {"steps": 3, "critic_steps": 0, "width": 8, "depth": 1}})
    Synthesizer.fit(table, config=config, seed=0, device="cpu").save(tmp_path / "bundle")
    impute_file(tmp_path / "bundle", str(source), tmp_path / "out.csv", seed=0)
    filled = conform(open_source(str(tmp_path / "out.csv"), schema).batches(), schema).data
    known = table.data["wo"].notna()
    pd.testing.assert_frame_equal(filled[known], table.data[known])
    assert filled["wo"].notna().all()
