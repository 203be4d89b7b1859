"""Unusual rows: by their cells, as a whole, to a critic that only the private folder allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from synthgen.ask.critic import Critic, Features, folds, mixed
from synthgen.ask.scoring import ISOLATION, Scale
from synthgen.cli import app
from synthgen.config import RunConfig
from synthgen.errors import ConfigError
from synthgen.pipeline import Outcome
from synthgen.run_folder import RunFolder
from synthgen.schema import Column
from synthgen.synthesizer import Synthesizer
from synthgen.table import Split

CLI = CliRunner()
TWO = [Column(name="a", kind="categorical"), Column(name="x", kind="numeric")]


def pairs(n: int) -> pd.DataFrame:
    """Rows whose level says the number: p is 0, q is 10."""
    first = np.arange(n) % 2 == 0
    noise = np.random.default_rng(0).normal(size=n)
    frame = pd.DataFrame({"a": np.where(first, "p", "q"), "x": np.where(first, 0.0, 10.0) + noise})
    return frame.astype({"a": "str"})


def test_a_scale_is_the_median_and_the_mean_deviation() -> None:
    scale = Scale.of(np.array([0.0, 1.0, 2.0, 7.0]))  # distances from 1.5: 1.5, .5, .5, 5.5
    assert scale.middle == 1.5
    assert scale.spread == pytest.approx(1.25 * 2.0)
    assert scale.above(np.array([4.0])) == pytest.approx([1.0])


def test_features_are_numbers_dates_and_levels() -> None:
    columns = [*TWO, Column(name="d", kind="datetime")]
    frame = pd.DataFrame({"a": ["p", "q", None], "x": [1.5, np.nan, 2.0]}).astype({"a": "str"})
    frame["d"] = pd.to_datetime(["1970-01-01", "1970-01-02", None]).astype("datetime64[us]")
    x = Features.of(frame, columns).matrix(frame)
    day = 86_400e6
    expected = [[1, 0, 1.5, 0], [0, 1, np.nan, day], [0, 0, 2.0, np.nan]]
    assert np.array_equal(x, np.array(expected), equal_nan=True)


def test_equal_rows_are_in_one_fold_and_a_mixed_row_has_cells_of_others() -> None:
    x = np.random.default_rng(0).normal(size=(200, 2))
    assert np.array_equal(folds(np.vstack([x, x])), np.tile(folds(x), 2))
    assert len(set(folds(x))) == 5
    rows = pairs(2_000)
    wrong = mixed(rows, np.random.default_rng(0))
    fits = (wrong["a"] == "q") == (wrong["x"] > 5)
    # Half of the cells move, to the other level by half: a row fits unless exactly one changed.
    assert fits.mean() == pytest.approx(1 - 2 * 0.25 * 0.75, abs=0.04)


def test_a_critic_finds_what_does_not_go_together_and_has_not_seen_the_rows_it_judges() -> None:
    rows = pairs(600)
    asked = pd.DataFrame({"a": ["p", "q", "p", "q"], "x": [0.0, 10.0, 10.0, 0.0]})
    asked = asked.astype({"a": "str"})
    critic = Critic.fit(rows, TWO)
    said = critic.score(asked)
    assert said[2:].min() > said[:2].max() + 2
    assert np.array_equal(critic.score(asked.tail(1)), said[3:])
    # Rows of no rule: judged by trees that saw them they would seem more real than fresh ones.
    rng = np.random.default_rng(1)
    noise = pd.DataFrame({"a": rng.choice(["p", "q"], 800), "x": rng.normal(size=800)})
    noise = noise.astype({"a": "str"})
    own, fresh = noise[:400].reset_index(drop=True), noise[400:].reset_index(drop=True)
    both = Critic.fit(own, TWO).score(pd.concat([own, fresh], ignore_index=True))
    assert abs(roc_auc_score(np.repeat([0, 1], 400), both) - 0.5) < 0.06
    with pytest.raises(ConfigError, match="too few for a critic"):
        Critic.fit(rows.head(50), TWO)


def test_rows_far_out_in_many_columns_are_isolated(
    tiny_synthesizer: Synthesizer, demo_halves: Split
) -> None:
    names = [c.name for c in tiny_synthesizer.schema.modelled]
    rows = demo_halves.holdout.data[names].head(200).reset_index(drop=True)
    far = rows.head(20).copy()
    for name in ("cost", "crp", "creatinine"):
        far[name] = rows[name].max() * 3
    parts = tiny_synthesizer.score(pd.concat([rows, far], ignore_index=True))
    assert list(parts.columns) == [*names, ISOLATION]
    assert (parts[names] >= 0).all().all()
    isolated = parts[ISOLATION]
    assert abs(isolated[:200].median()) < 1
    assert isolated[200:].median() > isolated[:200].quantile(0.9)


def test_what_is_usual_is_drawn_once(
    tiny_synthesizer: Synthesizer, demo_halves: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [c.name for c in tiny_synthesizer.schema.modelled]
    rows = demo_halves.holdout.data[names].head(20).reset_index(drop=True)
    first = tiny_synthesizer.score(rows)
    monkeypatch.setattr("synthgen.ask.completion.Completion.rows", None)
    pd.testing.assert_frame_equal(tiny_synthesizer.score(rows), first)


def test_a_run_folder_gives_a_critic_and_keeps_none(
    finished: Outcome, demo_files: Path, tmp_path: Path
) -> None:
    folder = finished.folder
    before = {p: p.read_bytes() for p in folder.root.rglob("*") if p.is_file()}
    data, out = str(demo_files / "admissions.csv"), tmp_path / "scores.csv"
    done = CLI.invoke(app, ["score", data, "--run", str(folder.root), "--to", str(out)])
    assert done.exit_code == 0, done.output
    scores = pd.read_csv(out)
    assert {"isolation", "critic"} <= set(scores)
    assert (scores["critic"] >= 0).all()
    assert scores["critic"].max() > 1
    parts = scores.drop(columns=["row", "score"]).sum(axis=1)
    assert np.allclose(scores["score"], parts, atol=0.01)
    assert {p: p.read_bytes() for p in folder.root.rglob("*") if p.is_file()} == before
    assert out.stat().st_mode & 0o777 == 0o600

    alone = tmp_path / "alone.csv"
    arguments = ["score", data, "--bundle", str(folder.bundle_path), "--to", str(alone)]
    assert CLI.invoke(app, arguments).exit_code == 0
    assert "critic" not in pd.read_csv(alone)


def test_a_critic_is_refused_where_it_would_tell_too_much_or_has_no_rows(
    tiny_synthesizer: Synthesizer, demo_halves: Split, demo_files: Path, tmp_path: Path
) -> None:
    names = [c.name for c in tiny_synthesizer.schema.modelled]
    rows = demo_halves.holdout.data[names].head(5).reset_index(drop=True)
    private = RunConfig.build({"train": {"dp": {"epsilon": 1.0}}})
    copy = Synthesizer(
        tiny_synthesizer.schema, tiny_synthesizer.encoder, tiny_synthesizer.generator, private
    )
    with pytest.raises(ConfigError, match="differential privacy"):
        copy.score(rows, critic_of=demo_halves.train.data[names])
    (tmp_path / "run").mkdir()
    arguments = ["score", str(demo_files / "admissions.csv"), "--to", str(tmp_path / "s.csv")]
    for more in ([], ["--run", str(tmp_path / "run")]):
        done = CLI.invoke(app, [*arguments, *more])
        assert done.exit_code == 2, done.output
    assert not RunFolder(tmp_path / "run").train_path.exists()
