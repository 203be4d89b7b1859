"""How a draw departs from what was learnt: temperature and truncation, by column.

>>> by_column("0.8,age=1.2", "temperature")
{None: 0.8, 'age': 1.2}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthgen.errors import ConfigError

#: A number for all columns, or one by column; None stands for all others.
ByColumn = float | Mapping[str | None, float]
#: Least and most of each number.
RANGES = {"temperature": (0.01, 100.0), "top_p": (0.001, 1.0)}


def numbers(value: ByColumn) -> Mapping[str | None, float]:
    """Return the numbers by column, that of all others under None."""
    return value if isinstance(value, Mapping) else {None: float(value)}


@dataclass(frozen=True)
class Control:
    """What is asked of a draw beside conditions; by default nothing.

    Attributes
    ----------
    temperature : float or mapping of column to float
        Log probabilities are divided by it: below 1 what is likely becomes likelier, above 1 rows
        vary more. From .01 to 100.
    top_p : float or mapping of column to float
        Of each cell's levels only the likeliest are drawn that hold so much of the probability
        together (nucleus sampling, Holtzman et al. 2020). From .001 to 1.

    Raises
    ------
    ConfigError
        If a number is outside its range.
    """

    temperature: ByColumn = 1.0
    top_p: ByColumn = 1.0

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            for value in numbers(getattr(self, name)).values():
                if not least <= value <= most:
                    raise ConfigError(f"{name} must lie between {least:g} and {most:g}")

    @property
    def facts(self) -> dict[str, Any]:
        """Return the numbers that are not 1, for a manifest; ``*`` stands for all other columns."""
        named = {name: numbers(getattr(self, name)) for name in RANGES}
        return {n: {k or "*": x for k, x in v.items()} for n, v in named.items() if v != {None: 1}}


#: Nothing: rows as they were learnt.
AS_LEARNT = Control()


def by_column(text: str, name: str) -> dict[str | None, float]:
    """Read ``0.8``, ``income=0.7,age=1.2`` or both: a number for all others stands alone."""
    found: dict[str | None, float] = {}
    for item in text.split(","):
        column, _, number = item.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            raise ConfigError(
                f"{name} reads NUMBER or COLUMN=NUMBER,..., for instance 0.8 or income=0.7,age=1.2"
            ) from None
        key = column.strip().strip("`\"'") or None
        if key in found:
            of = "a number for all others" if key is None else f"column '{key}'"
            raise ConfigError(f"{name}: {of} is given twice")
        found[key] = value
    return found
