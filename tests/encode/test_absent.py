"""What is missing wherever another cell is, stays so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthgen.config import RunConfig
from synthgen.encode.absent import as_matrix, count_absent, implied_absent
from synthgen.encode.table import TableEncoder
from synthgen.schema import Column, TableSchema
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable

N = 1_000


def absences(*missing: np.ndarray) -> list[tuple[int, int]]:
    tokens = np.where(np.column_stack(missing), 0, 3)
    found = implied_absent(count_absent(tokens), len(tokens))
    return [(int(a), int(b)) for a, b in np.argwhere(as_matrix(found, len(missing)))]


def test_one_row_speaks_against_it() -> None:
    some = np.arange(N) < 300
    other = some.copy()
    assert absences(some, other) == [(0, 1), (1, 0)]
    other[299] = False
    assert absences(some, other) == [(1, 0)]


def test_what_chance_would_do_as_well_says_nothing() -> None:
    few = np.arange(N) < 10
    assert absences(few, np.arange(N) < 500) == []  # ten rows of which half would have been odd
    assert absences(few, np.arange(N) < 990) == []


def test_what_follows_from_two_is_one() -> None:
    a, b, c = (np.arange(N) < n for n in (13, 800, 990))
    # a alone would say nothing of c, but b does
    assert absences(np.arange(N) < 100, b, np.arange(N) < 900) == [(0, 1), (0, 2), (1, 2)]
    assert absences(a, c) == []


@pytest.fixture(scope="module")
def survey() -> RealTable:
    """Who has no job has no hours and no pay; two measurements are taken together."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(40, 5, (N, 5)).round(1), columns=list("jhpxy"))
    frame.loc[rng.random(N) < 0.2, "h"] = np.nan
    frame.loc[rng.random(N) < 0.4, ["h", "p"]] = np.nan
    frame.loc[rng.random(N) < 0.5, ["x", "y"]] = np.nan
    columns = tuple(Column(name=n, kind="numeric", decimals=1, nullable=n != "j") for n in frame)
    return RealTable(TableSchema(name="survey", columns=columns), frame)


@pytest.fixture(scope="module")
def fitted(survey: RealTable) -> Synthesizer:
    config = RunConfig.build({"train": {"steps": 20, "width": 16, "depth": 1}})
    return Synthesizer.fit(survey, config=config, seed=0, device="cpu")


def test_rows_of_a_barely_trained_generator_keep_it(fitted: Synthesizer, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    for synthesizer in (fitted, Synthesizer.load(tmp_path, device="cpu")):
        gone = synthesizer.sample(4_000, seed=1).data.isna()
        assert (gone["x"] == gone["y"]).all()
        assert (gone["h"] >= gone["p"]).all()
        assert gone["x"].mean() == pytest.approx(0.5, abs=0.05)
        assert gone["p"].mean() > 0.2


def test_a_condition_says_what_else_is_there(fitted: Synthesizer) -> None:
    rows = fitted.sample(200, seed=1, where=["h is not null", "x is null"]).data
    assert rows[["h", "p"]].notna().all(axis=None)
    assert rows[["x", "y"]].isna().all(axis=None)


@pytest.mark.parametrize("absent", [[[1]], [[9], [], [], [], []]])
def test_an_encoder_that_names_other_parts_is_refused(
    fitted: Synthesizer, absent: list[list[int]], tmp_path: Path
) -> None:
    state = json.loads(fitted.encoder.to_json()) | {"absent": absent}
    (tmp_path / "encoder.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match="missing together"):
        TableEncoder.load(tmp_path / "encoder.json", fitted.schema)
