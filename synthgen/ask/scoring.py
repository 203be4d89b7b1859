"""How unusual rows are: cell by cell, as a whole, and, where real rows are at hand, to a critic.

What is usual, the generator's own rows say. So a bundle is enough, nothing is asked of real rows,
and a row has the same score in any file. Only the critic (`ask.critic`) needs real rows.

Likelihood alone misses rows that are extreme in some columns at once and yet alike (fraud by one
recipe): they lie in a cluster, and the generator learnt it. How few random cuts set a row apart
(isolation forest: Liu et al. 2008, doi:10.1109/ICDM.2008.17) does not, but it looks for no
dependence. benchmarks/scoring.py compares both with their sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import IsolationForest
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline

from synthgen.ask.completion import Completion
from synthgen.ask.critic import Critic, Features
from synthgen.rng import derive
from synthgen.schema import Column

Floats = npt.NDArray[np.float64]
#: Rows that say what is usual, as many again from which the forest learns, and its trees.
USUAL, TREES = 1_000, 200
#: The least spread of a column's surprise, in nats.
LEAST_SPREAD = 0.3
#: Names of what the row as a whole adds, beside those of columns.
ISOLATION, CRITIC = "(isolation)", "(critic)"


@dataclass(frozen=True, repr=False)
class Scale:
    """Where usual rows lie: the median, and the mean distance from it as a standard deviation."""

    middle: float
    spread: float

    @classmethod
    def of(cls, usual: Floats, least: float = 1e-9) -> Scale:
        """Return that of (N,) numbers; of normal ones the spread is the standard deviation."""
        middle = float(np.median(usual))
        return cls(middle, 1.25 * float(np.abs(usual - middle).mean()) + least)

    def above(self, values: Floats) -> Floats:
        """Return how many spreads each lies above the middle; negative below it."""
        return (values - self.middle) / self.spread


@dataclass(frozen=True, repr=False)
class Isolation:
    """How few random cuts set a row apart from usual ones; a missing number counts as the median.

    Attributes
    ----------
    features : Features
    forest : Pipeline
        An imputer and an `IsolationForest`.
    """

    features: Features
    forest: Pipeline

    @classmethod
    def among(cls, usual: pd.DataFrame, columns: Sequence[Column]) -> Isolation:
        """Fit on usual rows, a canonical frame of `columns`."""
        features = Features.of(usual, columns)
        seed = derive(0, "isolation") % 2**32
        forest = make_pipeline(
            SimpleImputer(strategy="median", keep_empty_features=True),
            IsolationForest(n_estimators=TREES, random_state=seed),
        )
        return cls(features, forest.fit(features.matrix(usual)))

    def score(self, frame: pd.DataFrame) -> Floats:
        """Return how isolated rows are, (N,): 0 to 1, the more the fewer cuts."""
        return -np.asarray(self.forest.score_samples(self.features.matrix(frame)), np.float64)


@dataclass(frozen=True, repr=False)
class Scorer:
    """Scores rows by one generator; what is usual is drawn once.

    Parameters
    ----------
    completion : Completion
    """

    completion: Completion

    def score(self, frame: pd.DataFrame, critic: Critic | None = None) -> pd.DataFrame:
        """Return what each column, and the row as a whole, adds to the score of N rows.

        One unit is a standard deviation (by mean deviation) of usual rows, of each of up to three
        sums: surprises of cells, `ISOLATION`, `CRITIC`.

        A column adds how far the surprise of its cell (`Completion.nats`) lies above what is usual
        for this column; 0 where it does not, so one odd cell is not made up for by likely ones.
        `ISOLATION` says how few random cuts set the row apart from the generator's rows; it is
        negative for rows amid them. `CRITIC` is how much less a critic takes the row for real than
        it does usual rows, 0 at least.

        Parameters
        ----------
        frame : (N, columns) DataFrame
            Every modelled column, canonical dtypes.
        critic : Critic, optional

        Returns
        -------
        (N, columns + 1 or 2) DataFrame
        """
        out = self._above(self.completion.nats(frame)) / self._spread_of_rows
        out = out[frame.columns].set_axis(frame.index)
        out[ISOLATION] = self._usually_isolated.above(self._isolation.score(frame))
        if critic is not None:
            usual = Scale.of(critic.score(self._usual[0]))
            out[CRITIC] = usual.above(critic.score(frame)).clip(0)
        return out

    @cached_property
    def _usual(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Usual rows and their surprise by column."""
        return self.completion.rows(USUAL, seed=0)

    @cached_property
    def _scales(self) -> dict[str, Scale]:
        nats = self._usual[1]
        return {str(n): Scale.of(nats[n].to_numpy(), LEAST_SPREAD) for n in nats}

    def _above(self, nats: pd.DataFrame) -> pd.DataFrame:
        """Return how far surprises (N, columns) lie above usual ones of their column, or 0."""
        return pd.DataFrame(
            {n: scale.above(nats[n].to_numpy()).clip(0) for n, scale in self._scales.items()}
        )

    @cached_property
    def _spread_of_rows(self) -> float:
        return Scale.of(self._above(self._usual[1]).sum(axis=1).to_numpy()).spread

    @cached_property
    def _isolation(self) -> Isolation:
        learnt, _ = self.completion.rows(USUAL, seed=1)
        return Isolation.among(learnt, self.completion.encoder.schema.modelled)

    @cached_property
    def _usually_isolated(self) -> Scale:
        return Scale.of(self._isolation.score(self._usual[0]))
