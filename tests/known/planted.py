"""Tables with a known share of copied rows, which anonymeter's attacks and ours are both made on.

    python -m tests.known.planted FOLDER [adult.csv schemas/adult.toml]

writes the frames that `run_anonymeter.py` reads; without a table, the demo's. Rows are made or
shuffled by seed 0 and cut into train, holdout and fresh ones; the first share of the fresh rows
gives way to as many train rows. Dates become seconds, since anonymeter has no dates.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from synthgen import demo
from synthgen.checks.features import is_numeric, numbers
from synthgen.conform import conform
from synthgen.schema import TableSchema
from synthgen.sources import open_source

SHARES = (0.0, 0.05, 0.2)
#: Rows of train, holdout and synthetic table.
ROWS = {"demo": (3_000, 2_000, 3_000), "adult": (8_000, 4_000, 8_000)}


def cut(rows: pd.DataFrame, name: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the first rows as train, the next as holdout, the next as fresh rows."""
    train, holdout, fresh = ROWS[name]
    parts = (rows[:train], rows[train : train + holdout], rows[train + holdout :][:fresh])
    a, b, c = (p.reset_index(drop=True) for p in parts)
    return a, b, c


def planted(train: pd.DataFrame, fresh: pd.DataFrame, share: float) -> pd.DataFrame:
    """Return the fresh rows, the first `share` of them replaced by train rows."""
    n = round(share * len(fresh))
    return pd.concat([train[:n], fresh[n:]], ignore_index=True)


def demo_tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return train, holdout and fresh rows of the demo table."""
    return cut(demo.demo_frame(sum(ROWS["demo"]), seed=0).data, "demo")


def _plain(frame: pd.DataFrame, schema: TableSchema) -> pd.DataFrame:
    columns = {
        c.name: numbers(frame[c.name], c) if is_numeric(c) else frame[c.name].astype("str")
        for c in schema.modelled
    }
    return pd.DataFrame(columns)


def main(folder: Path, table: str | None = None, schema_path: str | None = None) -> None:
    """Write train, holdout and one synthetic table a share."""
    if table is None or schema_path is None:
        schema, (train, holdout, fresh) = demo.SCHEMA, demo_tables()
    else:
        schema = TableSchema.load(schema_path)
        rows = conform(open_source(table, schema).batches(), schema).data
        train, holdout, fresh = cut(rows.sample(frac=1, random_state=0), "adult")
    folder.mkdir(parents=True, exist_ok=True)
    frames = {"train": train, "holdout": holdout}
    frames |= {f"synthetic.{share}": planted(train, fresh, share) for share in SHARES}
    for name, frame in frames.items():
        _plain(frame, schema).to_parquet(folder / f"{name}.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
