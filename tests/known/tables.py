"""Two tables that anybody can make again, digit by digit: out of whole-number arithmetic."""

import pandas as pd

NUMBERS = ("age", "gain", "weight", "flat")
LEVELS = ("job", "town")


def draws(n: int, seed: int) -> list[int]:
    """Return `n` whole numbers in [0, 2**31): the minimal standard generator of Park & Miller."""
    found = []
    for _ in range(n):
        seed = seed * 48_271 % (2**31 - 1)
        found.append(seed)
    return found


def rows(n: int, seed: int, shift: int) -> pd.DataFrame:
    """Return ages with ties, gains with a spike at 0, weights that follow age; some are missing."""
    a, b, c, d, e = (draws(n, seed + 7 * k) for k in range(1, 6))
    age = [17 + shift + x % 60 for x in a]
    gain = [0 if x % 4 else x % 9_973 for x in b]
    weight = [
        float("nan") if y % 11 == 0 else x * 0.5 + y % 17 for x, y in zip(age, c, strict=True)
    ]
    job = [None if x % 13 == 0 else ["clerk", "nurse", "smith", "cook"][x % 7 % 4] for x in d]
    town = [f"t{(x % 5 + (y or 'x').count('c')) % 6}" for x, y in zip(e, job, strict=True)]
    return pd.DataFrame(
        {
            "age": pd.Series(age, dtype="float64"),
            "gain": pd.Series(gain, dtype="float64"),
            "weight": pd.Series(weight, dtype="float64"),
            "flat": pd.Series([1.0] * n),
            "job": pd.Series(job, dtype="str"),
            "town": pd.Series(town, dtype="str"),
        }
    )


REAL = rows(700, 1, 0)
SYNTHETIC = rows(600, 2, 4).query("town != 't2' or job == 'cook'").reset_index(drop=True)
SYNTHETIC.loc[::50, "job"] = "pilot"
