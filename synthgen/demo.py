"""The embedded demo table: made-up hospital admissions with planted facts.

One row is one patient; nothing in it is real. `FACTS` names what was planted, each as a test on a
frame in canonical dtypes that the real table passes and a faithful synthetic copy passes too:

==============================  ====================================================================
discharge_after_admission       discharged >= admitted on at least 99 % of rows
stay_is_the_difference          length_of_stay is discharged - admitted, to a day, on 90 % of rows
children_in_paediatrics         the median patient of the ward paediatrics is a child
ward_follows_diagnosis          65 % of patients and more lie in the home ward of their diagnosis
diagnoses_are_skewed            the first diagnosis has 15 to 35 % of rows, the ten rarest below 8 %
zero_cost                       8 to 16 % of costs are exactly zero
cost_is_skewed                  the mean positive cost is 1.3 times its median or more
cost_grows_with_stay            rank correlation of positive cost and length of stay above 0.4
labs_follow_diagnosis           CRP is highest in infections, creatinine in renal disease and
                                haemoglobin lowest in anaemia
labs_correlate                  rank correlation of creatinine and haemoglobin below -0.15
missing_share                   3 to 7 % of laboratory values are missing
missing_not_at_random           planned patients miss them 1.5 times as often as emergencies
outcome_share                   4 to 8 % of patients are readmitted
outcome_depends                 CRP, age and stay together rank readmitted patients with AUC > 0.6
==============================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
from faker import Faker

from synthgen.rng import derive, stream
from synthgen.schema import TableSchema
from synthgen.table import RealTable, canonical_dtype, to_arrow

WARDS = ("internal", "surgery", "cardiology", "maternity", "paediatrics", "neurology")

# diagnosis: home ward, group, share of emergencies, typical days of stay; most frequent first
DIAGNOSES: dict[str, tuple[str, str, float, float]] = {
    "pneumonia": ("internal", "infection", 0.70, 6.0),
    "childbirth": ("maternity", "other", 0.25, 3.0),
    "heart failure": ("cardiology", "other", 0.55, 7.0),
    "hip fracture": ("surgery", "other", 0.85, 9.0),
    "gallstones": ("surgery", "other", 0.25, 3.0),
    "stroke": ("neurology", "other", 0.90, 10.0),
    "atrial fibrillation": ("cardiology", "other", 0.45, 3.0),
    "urinary infection": ("internal", "infection", 0.55, 4.0),
    "bronchiolitis": ("paediatrics", "infection", 0.75, 3.0),
    "type 2 diabetes": ("internal", "other", 0.20, 4.0),
    "appendicitis": ("surgery", "infection", 0.90, 3.0),
    "chronic kidney disease": ("internal", "renal", 0.25, 6.0),
    "iron deficiency anaemia": ("internal", "anaemia", 0.20, 2.0),
    "hernia": ("surgery", "other", 0.10, 1.5),
    "myocardial infarction": ("cardiology", "other", 0.95, 6.0),
    "epilepsy": ("neurology", "other", 0.50, 3.0),
    "sepsis": ("internal", "infection", 0.90, 12.0),
    "knee replacement": ("surgery", "other", 0.02, 6.0),
    "gastroenteritis": ("paediatrics", "infection", 0.60, 2.0),
    "acute kidney injury": ("internal", "renal", 0.80, 8.0),
    "pre-eclampsia": ("maternity", "renal", 0.60, 5.0),
    "migraine": ("neurology", "other", 0.40, 1.5),
    "gastric bleeding": ("internal", "anaemia", 0.90, 5.0),
    "tonsillectomy": ("paediatrics", "other", 0.05, 1.5),
    "meningitis": ("neurology", "infection", 0.95, 11.0),
    "valve replacement": ("cardiology", "other", 0.10, 12.0),
    "multiple sclerosis": ("neurology", "other", 0.15, 4.0),
    "sickle cell crisis": ("paediatrics", "anaemia", 0.90, 5.0),
    "placenta praevia": ("maternity", "anaemia", 0.50, 6.0),
    "nephrotic syndrome": ("paediatrics", "renal", 0.30, 7.0),
}
LABS = ("crp", "creatinine", "haemoglobin")
OUTCOME_SHARE = 0.06
# mean of log CRP (mg/l), log creatinine (mg/dl), haemoglobin (g/dl)
_LAB_MEANS = {
    "infection": (4.3, 0.0, 12.8),
    "renal": (2.2, 1.0, 11.5),
    "anaemia": (1.8, 0.0, 8.5),
    "other": (1.8, -0.1, 13.5),
}
_LAB_SPREAD = np.array([0.8, 0.25, 1.3])
_LAB_CORRELATION = np.array([[1.0, 0.3, -0.3], [0.3, 1.0, -0.4], [-0.3, -0.4, 1.0]])
_FIRST_DAY = np.datetime64("2022-01-01", "m")
_MINUTES_A_DAY = 1440

_SCHEMA = """
format = 1
name = "demo"

[[column]]
name = "patient_id"
kind = "id"

[[column]]
name = "name"
kind = "text"
pii = "name"

[[column]]
name = "email"
kind = "text"
pii = "email"

[[column]]
name = "birth_date"
kind = "datetime"
minimum = "1900-01-01"
maximum = "2025-12-31"
format = "%Y-%m-%d"
resolution = "day"

[[column]]
name = "admitted"
kind = "datetime"
minimum = "2022-01-01T00:00:00"
maximum = "2025-12-31T23:59:00"
resolution = "minute"

[[column]]
name = "discharged"
kind = "datetime"
minimum = "2022-01-01T00:00:00"
maximum = "2026-12-31T23:59:00"
resolution = "minute"

[[column]]
name = "ward"
kind = "categorical"
categories = [WARDS]

[[column]]
name = "diagnosis"
kind = "categorical"
categories = [DIAGNOSES]

[[column]]
name = "emergency"
kind = "boolean"
categories = ["no", "yes"]

[[column]]
name = "cost"
kind = "numeric"
minimum = 0
maximum = 1000000
decimals = 2

[[column]]
name = "crp"
kind = "numeric"
nullable = true
minimum = 0
maximum = 600
decimals = 1

[[column]]
name = "creatinine"
kind = "numeric"
nullable = true
minimum = 0
maximum = 25
decimals = 2

[[column]]
name = "haemoglobin"
kind = "numeric"
nullable = true
minimum = 2
maximum = 25
decimals = 1

[[column]]
name = "length_of_stay"
kind = "numeric"
minimum = 0
maximum = 200
decimals = 2

[[column]]
name = "readmitted"
kind = "boolean"
categories = ["no", "yes"]
role = "target"
"""


def _listed(texts: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{text}"' for text in texts) + "]"


SCHEMA: TableSchema = TableSchema.from_toml(
    _SCHEMA.replace("[WARDS]", _listed(WARDS)).replace("[DIAGNOSES]", _listed(tuple(DIAGNOSES)))
)


def demo_frame(rows: int = 10_000, seed: int = 0) -> RealTable:
    """Return `rows` made-up admissions; equal seeds give equal tables.

    Parameters
    ----------
    rows : int
        At least 1.
    seed : int
    """
    rng = stream(seed, "demo")
    frame = _people(rows, seed, rng)
    diagnosis = _diagnoses(rows, rng)
    home, group, emergency_share, typical_stay = _look_up(diagnosis)
    frame["diagnosis"] = diagnosis
    frame["ward"] = np.where(rng.random(rows) < 0.75, home, rng.choice(WARDS, rows))
    frame["emergency"] = emergency = rng.random(rows) < emergency_share
    age = _ages(frame["ward"].to_numpy(), rng)
    stay = typical_stay * np.exp(0.006 * (age - 50) + 0.15 * emergency + rng.normal(0, 0.5, rows))
    minutes = np.clip(np.round(stay * _MINUTES_A_DAY), 60, 180 * _MINUTES_A_DAY).astype("int64")
    admitted = _admissions(emergency, rng)
    frame["admitted"] = admitted
    frame["discharged"] = admitted + minutes.astype("timedelta64[m]")
    frame["length_of_stay"] = days = np.round(minutes / _MINUTES_A_DAY, 2)
    frame["birth_date"] = (
        admitted - (age * 365.25 * _MINUTES_A_DAY).astype("timedelta64[m]")
    ).astype("datetime64[D]")
    frame["cost"] = _costs(days, emergency, rng)
    labs = _labs(group, rng)
    frame["readmitted"] = _outcomes(labs[:, 0], age, days, rng)
    labs[_missing(emergency, days, rng)] = np.nan
    frame[list(LABS)] = labs
    return RealTable(SCHEMA, _canonical(frame))


def write_csv(path: str | Path, rows: int = 10_000, seed: int = 0) -> None:
    """Write `demo_frame` as a CSV file that `SCHEMA` describes."""
    table = to_arrow(demo_frame(rows, seed).data, SCHEMA)
    for i, column in enumerate(SCHEMA.columns):
        if column.kind == "boolean":
            no, yes = column.categories or ("false", "true")
            texts = np.where(table.column(i).to_numpy(), yes, no)
            table = table.set_column(i, column.name, pa.array(texts))
        elif column.resolution == "day":
            table = table.set_column(i, column.name, table.column(i).cast(pa.date32()))
    pa_csv.write_csv(table, path)


def _people(rows: int, seed: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return ids, names and addresses; Faker fills a pool, because it is slow row by row."""
    faker = Faker("en_US")
    faker.seed_instance(derive(seed, "demo", "names"))
    first = np.array([faker.first_name() for _ in range(1_000)])[rng.integers(1_000, size=rows)]
    last = np.array([faker.last_name() for _ in range(1_000)])[rng.integers(1_000, size=rows)]
    number = rng.permutation(rows) + 10 ** len(str(rows))
    return pd.DataFrame(
        {
            "patient_id": [f"P-{i}" for i in number],
            "name": [f"{a} {b}" for a, b in zip(first, last, strict=True)],
            "email": [
                f"{a}.{b}{i}@example.org".lower()
                for a, b, i in zip(first, last, number, strict=True)
            ],
        }
    )


def _diagnoses(rows: int, rng: np.random.Generator) -> np.ndarray:
    """Draw from the Zipf-Mandelbrot law: the k-th diagnosis has weight 1 / (k + 3)^2."""
    weights = 1 / (np.arange(1, len(DIAGNOSES) + 1) + 3.0) ** 2
    return rng.choice(np.array(list(DIAGNOSES)), rows, p=weights / weights.sum())


def _look_up(diagnosis: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(
        np.array(facts) for facts in zip(*map(DIAGNOSES.__getitem__, diagnosis), strict=True)
    )


def _ages(ward: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return years of age: children, mothers, and everybody else."""
    age = np.clip(rng.normal(62, 17, len(ward)), 18, 99)
    age = np.where(ward == "paediatrics", rng.uniform(0.1, 17.9, len(ward)), age)
    return np.where(ward == "maternity", np.clip(rng.normal(31, 5, len(ward)), 18, 48), age)


def _admissions(emergency: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return times in three years: more in winter, planned ones between 7 and 11 o'clock."""
    n = len(emergency)
    day = rng.integers(3 * 365, size=n)
    summer = np.cos(2 * np.pi * day / 365) < 0
    day = np.where(summer & (rng.random(n) < 0.3), (day + 182) % (3 * 365), day)
    minute = np.where(emergency, rng.integers(_MINUTES_A_DAY, size=n), rng.integers(420, 660, n))
    return _FIRST_DAY + (day * _MINUTES_A_DAY + minute).astype("timedelta64[m]")


def _costs(days: np.ndarray, emergency: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return lognormal costs that grow with the stay; 12 % pay nothing, emergencies more often."""
    cost = 900 * days**0.8 * np.exp(rng.normal(0, 0.6, len(days)))
    free = rng.random(len(days)) < np.where(emergency, 0.17, 0.07)
    return np.where(free, 0.0, np.round(cost, 2))


def _labs(group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (N, 3) CRP, creatinine and haemoglobin."""
    means = np.array([_LAB_MEANS[g] for g in group])
    noise = rng.multivariate_normal(np.zeros(3), _LAB_CORRELATION, len(group)) * _LAB_SPREAD
    values: np.ndarray = means + noise
    values[:, :2] = np.exp(values[:, :2])
    values[:, 0] = np.round(np.clip(values[:, 0], 0.1, 600), 1)
    values[:, 1] = np.round(np.clip(values[:, 1], 0.1, 25), 2)
    values[:, 2] = np.round(np.clip(values[:, 2], 3, 20), 1)
    return values


def _outcomes(
    crp: np.ndarray, age: np.ndarray, days: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return who is readmitted: logistic in CRP, age and stay, shifted to `OUTCOME_SHARE`."""
    risk = 0.5 * np.log(crp) + 0.02 * age + 0.07 * days
    low, high = -30.0, 30.0
    for _ in range(60):  # bisection: the share grows with the shift
        shift = (low + high) / 2
        share = (1 / (1 + np.exp(-risk - shift))).mean()
        low, high = (shift, high) if share < OUTCOME_SHARE else (low, shift)
    chance = 1 / (1 + np.exp(-risk - shift))
    return np.asarray(rng.random(len(crp)) < chance)


def _missing(emergency: np.ndarray, days: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (N, 3): which values nobody measured. Emergencies and long stays are measured more."""
    chance = np.where(emergency, 0.025, 0.07) * np.where(days > 5, 0.8, 1.15)
    panel = rng.random(len(days)) < chance / 2  # the whole panel at once
    return np.asarray(panel[:, None] | (rng.random((len(days), 3)) < chance[:, None] / 2))


def _canonical(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {c.name: pd.Series(frame[c.name], dtype=canonical_dtype(c)) for c in SCHEMA.columns}
    )


# --- planted facts --------------------------------------------------------------------------------

Fact = Callable[[pd.DataFrame], bool]


def _group(frame: pd.DataFrame) -> pd.Series[str]:
    return frame["diagnosis"].map({name: facts[1] for name, facts in DIAGNOSES.items()})


def _days(frame: pd.DataFrame) -> pd.Series[float]:
    return (frame["discharged"] - frame["admitted"]).dt.total_seconds() / 86_400


def _age(frame: pd.DataFrame) -> pd.Series[float]:
    return (frame["admitted"] - frame["birth_date"]).dt.days / 365.25


def _rank_correlation(frame: pd.DataFrame, a: str, b: str) -> float:
    pair = frame[[a, b]].dropna().rank()
    return float(pair[a].corr(pair[b]))


def _ward_follows_diagnosis(frame: pd.DataFrame) -> bool:
    home = frame["diagnosis"].map({name: facts[0] for name, facts in DIAGNOSES.items()})
    return bool((home == frame["ward"]).mean() >= 0.65)


def _diagnoses_are_skewed(frame: pd.DataFrame) -> bool:
    share = frame["diagnosis"].value_counts(normalize=True).reindex(list(DIAGNOSES), fill_value=0)
    return bool(0.15 <= share.iloc[0] <= 0.35 and share.iloc[-10:].sum() < 0.08)


def _cost_is_skewed(frame: pd.DataFrame) -> bool:
    positive = frame.loc[frame["cost"] > 0, "cost"]
    return bool(positive.mean() >= 1.3 * positive.median())


def _labs_follow_diagnosis(frame: pd.DataFrame) -> bool:
    medians = frame[list(LABS)].groupby(_group(frame)).median()
    return (
        medians["crp"].idxmax() == "infection"
        and medians["creatinine"].idxmax() == "renal"
        and medians["haemoglobin"].idxmin() == "anaemia"
    )


def _missing_not_at_random(frame: pd.DataFrame) -> bool:
    missing = frame[list(LABS)].isna().mean(axis=1)
    emergency = frame["emergency"].astype(bool)
    return bool(missing[~emergency].mean() >= 1.5 * missing[emergency].mean())


def _outcome_depends(frame: pd.DataFrame) -> bool:
    risk = 0.5 * np.log(frame["crp"].clip(lower=0.1)) + 0.02 * _age(frame)
    risk += 0.07 * frame["length_of_stay"]
    rank, positive = risk.dropna().rank(), frame["readmitted"].astype(bool)[risk.notna()]
    n = int(positive.sum())
    auc = (rank[positive].sum() - n * (n + 1) / 2) / max(n * (len(rank) - n), 1)
    return bool(auc > 0.6)


FACTS: dict[str, Fact] = {
    "discharge_after_admission": lambda f: bool((f["discharged"] >= f["admitted"]).mean() >= 0.99),
    "stay_is_the_difference": lambda f: bool(
        ((f["length_of_stay"] - _days(f)).abs() <= 1).mean() >= 0.9
    ),
    "children_in_paediatrics": lambda f: bool(_age(f)[f["ward"] == "paediatrics"].median() < 18),
    "ward_follows_diagnosis": _ward_follows_diagnosis,
    "diagnoses_are_skewed": _diagnoses_are_skewed,
    "zero_cost": lambda f: bool(0.08 <= (f["cost"] == 0).mean() <= 0.16),
    "cost_is_skewed": _cost_is_skewed,
    "cost_grows_with_stay": lambda f: (
        _rank_correlation(f[f["cost"] > 0], "cost", "length_of_stay") > 0.4
    ),
    "labs_follow_diagnosis": _labs_follow_diagnosis,
    "labs_correlate": lambda f: _rank_correlation(f, "creatinine", "haemoglobin") < -0.15,
    "missing_share": lambda f: bool(0.03 <= f[list(LABS)].isna().to_numpy().mean() <= 0.07),
    "missing_not_at_random": _missing_not_at_random,
    "outcome_share": lambda f: bool(0.04 <= f["readmitted"].mean() <= 0.08),
    "outcome_depends": _outcome_depends,
}
