"""Do translated rows pass for rows of the other domain? Beside quantiles and optimal transport.

    python benchmarks/translating.py --data DIR [--rows 3000] [--asked 1000] [--config FILE]

Adult, whose second half is moved in a known way (`moved`): the old work less, women more hours;
education goes up a step for some, by age; some private work becomes self-employed, among men. A
synthesizer is fitted on each half, and fresh rows of the first are translated, age, sex and race
kept. Printed are how well trees tell the result from fresh rows of the second (AUC; .5 is not at
all), the median distance of hours from where the known change puts them, and what comes back.

`quantiles` maps each number by its rank in its column and couples each category by its frequency;
`transport` gives each row the row of the second half that is nearest, all being used once (exact
optimal transport, kept columns ten times as heavy): it writes real rows of the other domain.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from judge import half_of
from quality import read
from scipy.optimize import linear_sum_assignment
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from synthgen.checks.features import embed, matrix
from synthgen.config import RunConfig
from synthgen.rng import stream
from synthgen.schema import Column
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable

KEEP = ("age", "sex", "race")
KEPT_WEIGHT = 10.0


def moved(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows after the change."""
    out = frame.copy()
    is_woman, age = (frame["sex"] == "Female").to_numpy(), frame["age"].to_numpy()
    hours = frame["hours-per-week"].to_numpy()
    out["hours-per-week"] = np.where(is_woman, hours + 6, hours * 0.9).round().clip(1, 99)
    goes = ~is_woman & (frame["workclass"] == "Private").to_numpy() & (age.astype(int) % 3 == 0)
    out["workclass"] = frame["workclass"].mask(goes, "Self-emp-not-inc")
    out["capital-gain"] = (frame["capital-gain"] * 1.5).round()
    return out


def told_apart(made: pd.DataFrame, real: pd.DataFrame, columns: list[Column]) -> float:
    """Return the AUC of trees, cross-validated."""
    (a, b), is_level = matrix([made, real], columns)
    x, y = np.vstack([a, b]), np.repeat([1, 0], [len(a), len(b)])
    model = HistGradientBoostingClassifier(categorical_features=is_level, random_state=0)
    said = cross_val_predict(model, x, y, cv=3, method="predict_proba")[:, 1]
    return float(roc_auc_score(y, said))


def by_quantiles(
    rows: pd.DataFrame, here: pd.DataFrame, there: pd.DataFrame, columns: list[Column]
) -> pd.DataFrame:
    """Return the rows with each column moved by itself."""
    out, rng = rows.copy(), stream(0, "quantiles")
    for column in columns:
        name = column.name
        if name in KEEP:
            continue
        if column.kind == "numeric":
            known = rows[name].notna()
            first, second = np.sort(here[name].dropna()), np.sort(there[name].dropna())
            low, high = (np.searchsorted(first, rows[name][known], s) for s in ("left", "right"))
            rank = (low + rng.random(len(low)) * (high - low)) / len(first)
            out.loc[known, name] = np.quantile(second, rank.clip(0, 1), method="lower")
            continue
        p, q = (f[name].value_counts(normalize=True) for f in (here, there))
        ratio = (q / p).reindex(p.index).fillna(0)
        goes = rng.random(len(rows)) > rows[name].map(ratio).astype(float).fillna(1)
        room = (q - p.reindex(q.index).fillna(0)).clip(lower=0)
        if goes.any() and room.sum() > 0:
            out.loc[goes, name] = rng.choice(room.index, int(goes.sum()), p=room / room.sum())
    return out


def by_transport(rows: pd.DataFrame, there: pd.DataFrame, columns: list[Column]) -> pd.DataFrame:
    """Return the rows with what is not kept taken from the row that they are assigned to."""
    space = embed([there, rows], columns)
    weights = np.ones(space.rows[0].shape[1])
    for column, span in zip(columns, space.spans, strict=True):
        weights[span] = KEPT_WEIGHT if column.name in KEEP else 1.0
    b, a = (x * np.sqrt(weights) for x in space.rows)
    cost = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    taken = there.iloc[linear_sum_assignment(cost)[1]].reset_index(drop=True)
    return taken.assign(**{name: rows[name] for name in KEEP})


def main() -> None:
    """Print a line for each way to translate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=3_000, help="of each domain, to learn from")
    parser.add_argument("--asked", type=int, default=1_000, help="rows that are translated")
    parser.add_argument("--config", type=Path, help="TOML; how synthesizers are fitted")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = RunConfig.load(args.config) if args.config else RunConfig()
    real = read(half_of(args.data, "adult", "train"), "income")
    columns = list(real.schema.modelled)
    frame, n, m = real.data, args.rows, args.asked
    here, fresh = frame[:n], frame[n : n + m].reset_index(drop=True)
    there = moved(frame[n + m : 2 * n + m]).reset_index(drop=True)
    fresh_there = moved(frame[2 * n + m : 2 * n + 2 * m]).reset_index(drop=True)
    first, second = RealTable(real.schema, here), RealTable(real.schema, there)
    a = Synthesizer.fit(first, config=config, seed=0, device="cpu")
    b = Synthesizer.fit(second, config=config, seed=0, device="cpu", warm_start=a)
    ours = a.translate(fresh, b, keep=KEEP, seed=0)
    back = b.translate(ours, a, keep=KEEP, seed=0)
    expected = moved(fresh)
    for name, rows in {
        "as they are": fresh,
        "known change": expected,
        "synthgen": ours,
        "quantiles": by_quantiles(fresh, here, there, columns),
        "transport": by_transport(fresh, there[:m], columns),
    }.items():
        off = (rows["hours-per-week"] - expected["hours-per-week"]).abs().mean()
        right = (rows["workclass"] == expected["workclass"]).mean()
        print(
            f"{name:13} told apart {told_apart(rows, fresh_there, columns):.3f}, hours off by "
            f"{off:.2f}, work as known {right:.3f}",
            flush=True,
        )
    hours = (back["hours-per-week"] - fresh["hours-per-week"]).abs().mean()
    names = [c.name for c in columns if c.kind != "numeric" and c.name not in KEEP]
    same = np.mean([(back[x].astype("str") == fresh[x].astype("str")).mean() for x in names])
    print(f"there and back: hours off by {hours:.2f}, {same:.3f} of the categories as they were")


if __name__ == "__main__":
    main()
