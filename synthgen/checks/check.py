"""What a check sees, what it answers, and the report that all answers make.

A check is a callable from `Evidence` to `Measurement`s. It never decides: `gate` does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pandas as pd

from synthgen.errors import SynthgenError
from synthgen.schema import TableSchema

Status = Literal["measured", "inconclusive", "failed"]
Area = Literal["schema", "fidelity", "utility", "privacy"]


@dataclass(frozen=True, repr=False)
class Evidence:
    """The three tables that a check may look at, in canonical dtypes, and the schema they share.

    Attributes
    ----------
    schema : TableSchema
        Of all three.
    train, holdout, synthetic : DataFrame
        What the generator saw, fresh rows of the same population, and what it wrote.
    seed : int
        Of every subsample and model a check draws.
    draws : tuple of DataFrame
        Further tables of the same generator, drawn for judgement only: the privacy tests ask of
        each what they ask of `synthetic`, because one lucky table proves nothing.
    """

    schema: TableSchema
    train: pd.DataFrame
    holdout: pd.DataFrame
    synthetic: pd.DataFrame
    seed: int = 0
    draws: tuple[pd.DataFrame, ...] = ()

    def __repr__(self) -> str:
        rows = f"{len(self.train):,} / {len(self.holdout):,} / {len(self.synthetic):,}"
        return f"Evidence({self.schema.name!r}, {rows} rows)"


@dataclass(frozen=True)
class Measurement:
    """One number with its uncertainty and its control.

    Attributes
    ----------
    name : str
        Unique in a report, for instance ``ks.age`` or ``c2st``: measure, then column or pair.
    area : {"schema", "fidelity", "utility", "privacy"}
    value : float or None
        None when it could not be measured.
    low, high : float or None
        95 % interval, in the unit of `value`.
    n : int
        Rows behind it.
    unit : str
        ``share``, ``AUC``, ``R2``, ``distance``, ``rows`` ...
    status : {"measured", "inconclusive", "failed"}
        `inconclusive`: ran but cannot say (few rows, no power); `failed`: crashed or not finite.
    control : float or None
        What fresh real data (the holdout) scores on the same measure.
    better : {"low", "high"}
        Which direction is good.
    details : dict
        Further numbers and column names, for the report; never a cell.
    note : str
        One sentence for a reader; why, if inconclusive or failed.
    """

    name: str
    area: Area
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    unit: str = "share"
    status: Status = "measured"
    control: float | None = None
    better: Literal["low", "high"] = "low"
    details: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        numbers = (self.value, self.low, self.high, self.control)
        finite = all(x is None or math.isfinite(x) for x in numbers)
        if self.status == "measured" and (self.value is None or not finite):
            object.__setattr__(self, "status", "failed")
            object.__setattr__(self, "note", "the measure is missing or not finite")
        if not finite:
            for name in ("value", "low", "high", "control"):
                x = getattr(self, name)
                if x is not None and not math.isfinite(x):
                    object.__setattr__(self, name, None)

    @property
    def worst(self) -> float | None:
        """The bad end of the interval: what a gate compares."""
        end = self.high if self.better == "low" else self.low
        return self.value if end is None else end


Check = Callable[[Evidence], Sequence[Measurement]]


@dataclass(frozen=True)
class Report:
    """All measurements of one table, and what they were measured on.

    Attributes
    ----------
    measurements : tuple of Measurement
        Names are unique.
    facts : dict
        Rows, fingerprints and seed: strings and numbers only.
    """

    measurements: tuple[Measurement, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [m.name for m in self.measurements]
        if len(set(names)) != len(names):
            raise ValueError("measurement names are not unique")

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self.measurements)

    def get(self, name: str) -> Measurement | None:
        """Return the measurement called `name`, or None: the gate treats None as a refusal."""
        return next((m for m in self.measurements if m.name == name), None)

    def to_json(self) -> str:
        """Return the report as JSON; NaN cannot occur."""
        body = {"facts": self.facts, "measurements": [asdict(m) for m in self.measurements]}
        return json.dumps(body, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` wrote."""
        body = json.loads(text)
        return cls(tuple(Measurement(**m) for m in body["measurements"]), body["facts"])


def run_checks(evidence: Evidence, checks: dict[str, tuple[Area, Check]]) -> list[Measurement]:
    """Run every check; one that crashes yields a `failed` measurement under its own name.

    The text of an unforeseen exception is withheld: it may quote data.
    """
    results: list[Measurement] = []
    for name, (area, check) in checks.items():
        try:
            results += check(evidence)
        except SynthgenError as error:
            results.append(Measurement(name, area, None, status="failed", note=str(error)))
        except Exception as error:
            note = f"the check crashed with {type(error).__name__}"
            results.append(Measurement(name, area, None, status="failed", note=note))
    return results
