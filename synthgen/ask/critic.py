"""A critic of whole rows: trees that tell real rows from rows put together of several.

It needs real rows, so it is fitted where these lie, at the moment of asking, and is kept nowhere: a
bundle holds none. Each negative row is a real one half of whose cells are another row's, so columns
say nothing and only what goes together does (Sipple 2020, PMLR 119, samples negatives uniformly).

No row is judged by trees that saw it: by their cells rows fall into `FOLDS` parts, and one asked
about is shown to the trees of the other parts. So the rows that a table was trained on may be asked
about, and a row has the same score in any file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from synthgen.encode.datetime import to_microseconds
from synthgen.errors import ConfigError
from synthgen.rng import derive, stream
from synthgen.schema import Column

Floats = npt.NDArray[np.float64]
#: Parts of the rows; the fewest rows of a critic, and the most that it learns from.
FOLDS, LEAST, MOST = 5, 100, 50_000
#: Cells of a negative row that are another row's.
SHARE = 0.5
#: Levels of a column that are told apart; the rarer ones are one.
LEVELS = 30
#: Trees, and the most that they may be sure of: log odds.
TREES, SURE = 60, float(np.log(99))


@dataclass(frozen=True, repr=False)
class Features:
    """Rows as numbers that trees can split.

    Attributes
    ----------
    columns : sequence of Column
    levels : dict of str to list of str
        The levels that are told apart, of columns that are neither numbers nor dates.
    """

    columns: Sequence[Column]
    levels: dict[str, list[str]]

    @classmethod
    def of(cls, frame: pd.DataFrame, columns: Sequence[Column]) -> Features:
        """Return those of the levels of a canonical frame."""
        named = [c.name for c in columns if c.kind not in ("numeric", "datetime")]
        counts = {name: frame[name].astype("str").value_counts() for name in named}
        return cls(columns, {n: sorted(c.index[:LEVELS].astype("str")) for n, c in counts.items()})

    def matrix(self, frame: pd.DataFrame) -> Floats:
        """Return (N, D): numbers, dates in microseconds (NaN where missing), levels one by one."""
        parts: list[Floats] = []
        for column in self.columns:
            values = frame[column.name]
            if column.name in self.levels:
                texts = values.astype("str").to_numpy(object, na_value="")
                parts += [(texts == x).astype(np.float64) for x in self.levels[column.name]]
            elif column.kind == "datetime":
                parts.append(np.asarray(to_microseconds(values), np.float64))
            else:
                parts.append(values.to_numpy(np.float64, na_value=np.nan))
        return np.column_stack(parts) if parts else np.zeros((len(frame), 0))


@dataclass(frozen=True, repr=False)
class Critic:
    """Trees by fold, each fitted on the rows of the others.

    Attributes
    ----------
    features : Features
    trees : list of HistGradientBoostingClassifier
    """

    features: Features
    trees: list[HistGradientBoostingClassifier]

    @classmethod
    def fit(cls, rows: pd.DataFrame, columns: Sequence[Column]) -> Critic:
        """Fit on real rows, a canonical frame of `columns`.

        Raises
        ------
        ConfigError
            If there are fewer than `LEAST` rows.
        """
        if len(rows) < LEAST:
            raise ConfigError(
                f"{len(rows):,} training rows are too few for a critic (at least {LEAST}); "
                "score with the bundle alone"
            )
        if len(rows) > MOST:
            chosen = stream(0, "critic", "rows").choice(len(rows), MOST, replace=False)
            rows = rows.iloc[np.sort(chosen)]
        features = Features.of(rows, columns)
        fold, trees = folds(features.matrix(rows)), []
        for k in range(FOLDS):
            real = rows[fold != k].reset_index(drop=True)
            x = [features.matrix(f) for f in (real, mixed(real, stream(0, "critic", k)))]
            model = HistGradientBoostingClassifier(
                max_iter=TREES, early_stopping=False, random_state=derive(0, "critic", k) % 2**32
            )
            trees.append(model.fit(np.vstack(x), np.repeat([0, 1], [len(x[0]), len(x[1])])))
        return cls(features, trees)

    def score(self, frame: pd.DataFrame) -> Floats:
        """Return the log odds (N,) that a row is none, within `SURE` of 0."""
        x, out = self.features.matrix(frame), np.zeros(len(frame))
        fold = folds(x)
        for k, model in enumerate(self.trees):
            if (mine := fold == k).any():
                odds = np.asarray(model.decision_function(x[mine]), np.float64)
                out[mine] = odds.clip(-SURE, SURE)
        return out


def folds(x: Floats) -> npt.NDArray[np.int64]:
    """Return the part (N,) of each row (N, D): equal rows are in one part."""
    hashes = pd.util.hash_pandas_object(pd.DataFrame(x), index=False).to_numpy(np.uint64)
    return (hashes % np.uint64(FOLDS)).astype(np.int64)


def mixed(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return as many rows, about `SHARE` of whose cells are those of other rows, one by one."""
    out = {}
    for name in rows.columns:
        at = np.arange(len(rows))
        goes = rng.random(len(rows)) < SHARE
        at[goes] = rng.integers(len(rows), size=int(goes.sum()))
        out[name] = rows[name].iloc[at].reset_index(drop=True)
    return pd.DataFrame(out)
