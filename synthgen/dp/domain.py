"""What is public of a table, and cells of its numbers cut by noisy counts.

Categories and bounds come from the declared schema alone: a value seen once reveals its owner. Only
where the cells of a wide number lie is read from the rows, by histograms that are charged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from synthgen.constraints import said
from synthgen.dp.tails import CLEAR, FAR, Counted, Ended, Interval, outward
from synthgen.encode import datetime as dt
from synthgen.encode.categorical import CategoricalEncoder
from synthgen.encode.column import ColumnEncoder
from synthgen.encode.numeric import NumericEncoder
from synthgen.encode.relations import Excess, Gap, Relation
from synthgen.encode.search import declared
from synthgen.encode.table import Part
from synthgen.errors import ConfigError
from synthgen.schema import Column, TableSchema
from synthgen.table import declared_bound

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
#: Exact integer counts -> noisy ones.
Measure = Callable[[Counts], Counts]

#: A number with no more values has a cell for each of them, at no cost.
FEW_VALUES = 16
#: Children of an interval in one round of cutting.
BRANCHES = 16
#: Positions that a number without a unit is cut into at most.
FINEST = 2**20
#: A number without bounds: positions on either side of 0, and the unit of one without decimals.
OPEN_HALF, OPEN_UNIT = 2**44, 2.0**-16
#: Days on either side of 1970 for a time without bounds.
OPEN_DAYS = 2**17
#: Rounds for a line without bounds: intervals that double away from 0, then 65,536 parts of each.
OPEN_ROUNDS = 5
CHARGE_IT = (
    "or let undeclared bounds and categories be found by noisy counts, for a part of the budget: "
    "charge_metadata = true in [train.dp], or --charge-metadata"
)
#: What a rule that leaves something to the data needs to say all itself.
WANTED = {
    "lookup": "which pairs there are, the rows say; list them as combinations, or drop the rule",
    "combinations": "list those that are allowed",
    "range": "list the bounds of each level",
}
#: The first cell beyond the clearly seen rows has this share of the width of the last before.
FIRST_TAIL = 1 / 2


def check_public(schema: TableSchema, *, charge_metadata: bool = False) -> None:
    """Raise ConfigError listing every column whose values are not public by declaration.

    With `charge_metadata` bounds and categories may be left out: they are found and charged. Rules
    between columns must say all themselves.
    """
    problems = [
        f"  - column '{c.name}': {what}"
        for c in schema.columns
        for what in [*([] if charge_metadata else _lacks(c)), *_tells_of_rows(c)]
    ]
    problems += [
        f"  - the rule {said(rule)}: {WANTED[rule.kind]}"
        for rule in schema.constraints
        if rule.is_learnt or rule.kind == "lookup"
    ]
    if schema.entity is not None and schema.entity.nullable:
        problems.append(
            f"  - column '{schema.entity.name}': rows without an entity would be one entity "
            "together; give each its own and set nullable = false"
        )
    if problems:
        raise ConfigError(
            "\n".join(
                [
                    "differential privacy needs a schema that says from public knowledge what "
                    "values there may be (from a code book, not from the data):",
                    *problems,
                    *([] if charge_metadata else [CHARGE_IT]),
                ]
            )
        )


def _lacks(c: Column) -> list[str]:
    if c.is_modelled and c.kind == "categorical" and c.categories is None:
        return ["declare its categories"]
    return ["declare minimum and maximum"] if _is_open(c) else []


def _is_open(c: Column) -> bool:
    """Whether a number or time has no bound on one side."""
    is_line = c.is_modelled and c.kind in ("numeric", "datetime")
    return is_line and (c.minimum is None or c.maximum is None)


def _tells_of_rows(c: Column) -> list[str]:
    # An id's minimum is where the sequence that replaces it starts, and leaves with every table.
    if c.source == "data" and (c.is_modelled or c.minimum is not None):
        return [
            "what the schema says of it was read from the data; review it (bounds and categories "
            "may be left out where they are charged), then drop source"
        ]
    return []


@dataclass(frozen=True)
class Domain:
    """The public values of one part of the token row.

    Attributes
    ----------
    column, view : str
    nullable : bool
    levels : tuple of str or None
        Of a category; None for numbers.
    low : float
    unit : float
        Step between positions of a number.
    size : int
        Number of positions: values are ``low + unit * {0 .. size - 1}``.
    whole : bool
        Whether values are whole multiples of `unit`; else a position is an interval.
    is_open : bool
        Whether the schema leaves out bounds or categories: then they cost something.
    """

    column: str
    view: str
    nullable: bool
    levels: tuple[str, ...] | None = None
    low: float = 0.0
    unit: float = 1.0
    size: int = 0
    whole: bool = True
    is_open: bool = False

    @property
    def rounds(self) -> int:
        """Histograms that cutting this number costs; 0 for what is public as it is."""
        if self.levels is not None or self.size <= FEW_VALUES:
            return 0
        if self.is_open:
            return OPEN_ROUNDS
        return math.ceil(math.log(self.size, BRANCHES) - 1e-9)

    @property
    def far(self) -> float:
        """Standard deviations of noise that are rows even in a cell away from all others."""
        return FAR if self.is_open else CLEAR


def domains(schema: TableSchema, *, charge_metadata: bool = False) -> list[Domain]:
    """Return the domain of every part, in column order; reads the schema only.

    Categories that are to be found have no levels yet.
    """
    check_public(schema, charge_metadata=charge_metadata)
    return [d for c in modelled(schema)[1] for d in _domains(c)]


def modelled(schema: TableSchema) -> tuple[tuple[Relation, ...], list[Column]]:
    """Return the relations that keep the schema's rules, and the columns that they leave to model.

    What is modelled in the place of a column has bounds where its columns have some.
    """
    found, left = declared(schema.modelled, schema.constraints)
    relations = tuple(_placed(r, schema) for r in found)
    by_name = {r.derived: r for r in relations}
    return relations, [_bounded(c, by_name.get(c.name), schema) for c in left]


def _placed(relation: Relation, schema: TableSchema) -> Relation:
    """Return a gap with what is declared of the earlier datetime in the place of a missing one."""
    if not isinstance(relation, Gap) or _is_open(earlier := schema.column(relation.earlier)):
        return relation
    return replace(relation, middle=sum(_ends(earlier)) / 2)


def _bounded(left: Column, relation: Relation | None, schema: TableSchema) -> Column:
    """Return a column that stands for the distance of two others with its declared bounds."""
    if not isinstance(relation, Excess | Gap):
        return left
    upper = schema.column(relation.derived)
    lower = schema.column(relation.lower if isinstance(relation, Excess) else relation.earlier)
    if _is_open(upper) or _is_open(lower):
        return left
    (a, b), (c, d) = (_ends(x) for x in (upper, lower))
    unit, middle = (relation.unit, relation.middle) if isinstance(relation, Gap) else (1.0, 0.0)
    low, high = max(0.0, (a - d) / unit), max(0.0, (b - c) / unit)
    if lower.nullable:  # then the distance may be that from what stands in for the lower one
        low, high = min(low, (a - middle) / unit), max(high, (b - middle) / unit)
    if isinstance(relation, Gap):
        low = math.floor(low)
    return replace(left, minimum=low, maximum=high, nullable=upper.nullable)


def _ends(c: Column) -> tuple[float, float]:
    """Return the declared bounds of a number, or of a time in microseconds."""
    if c.kind == "numeric":
        assert isinstance(c.minimum, int | float)
        assert isinstance(c.maximum, int | float)
        return float(c.minimum), float(c.maximum)
    first, last = dt.to_microseconds(_declared_moments(c))
    return float(first), float(last)


def _declared_moments(c: Column) -> pd.Series:
    return pd.Series([declared_bound(str(b), c) for b in (c.minimum, c.maximum)])


def _domains(c: Column) -> list[Domain]:
    if c.kind == "boolean":
        return [Domain(c.name, "value", c.nullable, ("False", "True"))]
    if c.kind == "categorical" and c.categories is None:
        return [Domain(c.name, "value", c.nullable, (), is_open=True)]
    if c.kind == "categorical":
        assert c.categories is not None
        return [Domain(c.name, "value", c.nullable, tuple(sorted(c.categories)))]
    if c.kind == "numeric" and _is_open(c):
        unit = OPEN_UNIT if c.decimals is None else 10.0**-c.decimals
        return [_line(c, "value", unit, OPEN_HALF, whole=c.decimals is not None)]
    if c.kind == "numeric":
        low, high = _ends(c)
        width = high - low
        if c.decimals is None:
            unit = width / FINEST or 1.0
            return [Domain(c.name, "value", c.nullable, None, low, unit, FINEST, whole=False)]
        unit = 10.0**-c.decimals
        return [Domain(c.name, "value", c.nullable, None, low, unit, round(width / unit) + 1)]
    if _is_open(c):
        days = _line(c, "days", 1.0, OPEN_DAYS, whole=True)
    else:
        first, last = dt.to_days(dt.to_microseconds(_declared_moments(c)))
        days = Domain(c.name, "days", c.nullable, None, float(first), 1.0, int(last - first) + 1)
    if c.resolution == "day":
        return [days]
    ticks = 86_400_000_000 // dt.MICROSECONDS[c.resolution]
    return [days, Domain(c.name, "clock", c.nullable, None, 0.0, 1.0, ticks)]


def _line(c: Column, view: str, unit: float, half: int, *, whole: bool) -> Domain:
    return Domain(
        c.name, view, c.nullable, None, -half * unit, unit, 2 * half, whole=whole, is_open=True
    )


def part(domain: Domain, cells: Sequence[Interval], ended: Ended | None = None) -> Part:
    """Return the encoder of `domain`; `cells` are the intervals [a, b) of a number's positions.

    All counts are zero: they are for the noisy marginals to fill in. With `ended`, its cells
    are taken, the outermost only as far as they reach.
    """
    encoder: ColumnEncoder
    if domain.levels is not None:
        encoder = CategoricalEncoder(domain.levels, np.zeros(len(domain.levels) + 2))
    else:
        a, b = np.array(cells if ended is None else ended.cells, np.float64).T
        if ended is not None:
            a[0], b[-1] = ended.first, ended.last + 1
        encoder = NumericEncoder(
            lower=domain.low + a * domain.unit,
            upper=domain.low + (b - domain.whole) * domain.unit,
            level=np.arange(1, len(a) + 1),
            fine=np.zeros(len(a), np.int64),
            counts=np.zeros(len(a) + 1),
            unit=domain.unit if domain.whole else None,
            habits=np.ones((len(a) + 1, 1)),
            steps=(1,),
            tails=(1.0, 1.0) if ended is None else ended.powers,
        )
    return Part(domain.column, domain.view, encoder)


def possible(domain: Domain, n_tokens: int) -> npt.NDArray[np.bool_]:
    """Return which tokens of a part may occur at all, (L,): public, so zeros there are exact."""
    out = np.ones(n_tokens, bool)
    out[0] = domain.nullable
    if domain.levels is not None:
        out[-1] = domain.is_open  # the rare bucket: nobody is in it where all levels are declared
    return out


def cut(
    values: Floats, domain: Domain, measure: Measure, std: float, *, mass: float
) -> tuple[list[Interval], Counted]:
    """Cut the positions of a wide number into cells of about `mass` rows, by noisy counts alone.

    Each of ``domain.rounds`` rounds counts the rows in every child of the intervals that clearly
    have some: a row changes one count of a round by one. Every round is measured, always.

    Parameters
    ----------
    values : (N,) float64
        NaN for missing.
    measure : callable
        Adds noise of standard deviation `std` to counts.

    Returns
    -------
    list of (a, b)
        Intervals [a, b) that tile 0 .. size - 1; single positions with many rows stand alone;
        beyond the outermost that clearly have rows, widths double towards the bounds.
    Counted
        All that was counted on the way.
    """
    if domain.rounds == 0:
        return [(a, a + 1) for a in range(domain.size)], Counted((), np.zeros(0), std)
    known = values[~np.isnan(values)]
    place = np.floor((known - domain.low) / domain.unit + 0.5 * domain.whole)
    place = np.sort(place.clip(0, domain.size - 1).astype(np.int64))
    counted: list[tuple[Interval, int]] = []
    leaves: list[tuple[int, int, int]] = []
    children = _roots(domain)
    for remaining in range(domain.rounds - 1, -1, -1):
        edges = np.array(children, np.int64).reshape(-1, 2)
        exact = np.diff(np.searchsorted(place, edges), axis=1)[:, 0]
        noisy = measure(exact).tolist()
        counted += zip(children, noisy, strict=True)
        below = []
        for (a, b), count in zip(children, noisy, strict=True):
            if remaining and b - a > 1 and count > CLEAR * std:
                below += _children(a, b)
            else:
                leaves.append((a, b, count))
        children = below
    intervals, counts = zip(*counted, strict=True)
    seen = Counted(intervals, np.array(counts, np.float64), std)
    return _with_tails(sorted(leaves), domain, std=std, mass=mass), seen


def _roots(domain: Domain) -> list[Interval]:
    """Return the intervals of the first round."""
    if not domain.is_open:
        return _children(0, domain.size)
    zero = domain.size // 2
    return [*outward(zero, 0, 1), *outward(zero, domain.size, 1)]


def _children(a: int, b: int) -> list[Interval]:
    """Return up to `BRANCHES` equal parts of [a, b)."""
    marks = range(a, b, -(-(b - a) // BRANCHES))
    return [(m, min(m + marks.step, b)) for m in marks]


def _with_tails(
    leaves: Sequence[tuple[int, int, int]], domain: Domain, *, std: float, mass: float
) -> list[Interval]:
    """Join the leaves between the outermost clear ones; beyond, cells widen towards the bounds.

    A declared bound is a cell of its own: where values are top-coded, many rows hold it.
    """
    clear = [i for i, (_, _, count) in enumerate(leaves) if count > domain.far * std]
    if not clear:
        return _joined(leaves, std=std, mass=mass)
    body = _joined(leaves[clear[0] : clear[-1] + 1], std=std, mass=mass)
    (start, inner), (outer, end) = body[0], body[-1]
    low, high = 0, domain.size
    if not domain.is_open:
        low, high = min(1, start), max(domain.size - 1, end)
    return [
        *([(0, low)] if low else []),
        *outward(start, low, max(1, round((inner - start) * FIRST_TAIL))),
        *body,
        *outward(end, high, max(1, round((end - outer) * FIRST_TAIL))),
        *([(high, domain.size)] if high < domain.size else []),
    ]


def _joined(leaves: Sequence[tuple[int, int, int]], *, std: float, mass: float) -> list[Interval]:
    """Join neighbouring leaves of clearly no different density, up to `mass` rows.

    So a heavy value stands alone, and where there are no rows there is a cell without rows.
    """
    cells: list[Interval] = []
    start, end, total, joined = *leaves[0], 1
    for a, b, count in leaves[1:]:
        share = (b - a) / (end - start)
        spread = CLEAR * std * math.sqrt(1 + joined * share**2)
        if total >= mass or abs(count - total * share) > spread:
            cells.append((start, end))
            start, end, total, joined = a, b, count, 1
        else:
            end, total, joined = b, total + count, joined + 1
    return [*cells, (start, end)]


def stable_levels(values: pd.Series, measure: Measure, threshold: int) -> tuple[str, ...]:
    """Return the texts of (N,) `values` whose noisy count reaches `threshold`, sorted.

    Texts that no row has are never looked at, which is what the threshold is for: see
    `noise.stability_threshold`.
    """
    counts = values.value_counts()
    noisy = measure(counts.to_numpy().astype(np.int64))
    return tuple(sorted(counts.index[noisy >= threshold].astype(str)))
