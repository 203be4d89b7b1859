"""What a table is: columns with kind, bounds, categories and role. TOML in and out.

TOML and not YAML, because YAML reads ``no`` as false and ``1e3`` as text.

>>> schema = TableSchema(name="t", columns=(Column(name="age", kind="numeric", decimals=0),))
>>> TableSchema.from_toml(schema.to_toml()) == schema
True
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import tomlkit

from synthgen.errors import SchemaError
from synthgen.files import read_text

Kind = Literal["numeric", "categorical", "datetime", "boolean", "id", "text"]
Role = Literal["target", "entity"]
Pii = Literal["sequence", "name", "email", "phone", "address"]
Source = Literal["declared", "data"]
ConstraintKind = Literal["order", "sum", "product", "constant", "lookup", "combinations", "range"]
Resolution = Literal["day", "hour", "minute", "second", "microsecond"]

KINDS: tuple[str, ...] = get_args(Kind)
MODELLED_KINDS = ("numeric", "categorical", "datetime", "boolean")
FORMAT_VERSION = 1
MAX_SCHEMA_BYTES = 16 * 2**20
MAX_NAME = 200
INF = float("inf")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column and every rule that its values obey.

    Attributes
    ----------
    name : str
        As in the header of the file.
    kind : {"numeric", "categorical", "datetime", "boolean", "id", "text"}
        `id` columns are never modelled but regenerated, unique; `text` is refused with advice.
    nullable : bool
        Whether missing values are allowed.
    missing : tuple of str
        Texts that mean missing in this column, besides the empty field and the table's own list.
    minimum, maximum : float or str or None
        Inclusive bounds: numbers for `numeric`, ISO 8601 text for `datetime`. For `id`, the minimum
        is the whole number that the regenerated sequence starts from (without it ids are texts).
    decimals : int or None
        `numeric`: digits after the point, 0 for whole numbers, None for floats as they come.
    categories : tuple of str or None
        `categorical`: the allowed texts; `boolean`: how false and true are written, in this order.
    format : str or None
        `datetime`: strptime format of the text; None reads ISO 8601.
    timezone : str or None
        `datetime`: IANA zone; None for local times without a zone.
    resolution : str
        `datetime`: the unit that values are whole multiples of.
    role : {"target", "entity"} or None
        `target`: what a model will predict; `entity`: the person or thing that rows belong to.
    sensitive : bool
        Whether an attacker who knows the other columns must not learn this one: the gate tries.
    pii : str or None
        The column identifies people. It is never modelled; this names what replaces it:
        ``sequence``, ``name``, ``email``, ``phone`` or ``address``.
    source : {"declared", "data"}
        Whether bounds and categories are public knowledge or were read from the table: the latter
        are a draft to review, they bind no run and no bundle holds them; see `without_drafts`.
    reason : str
        Why `schema infer` guessed this; written as a comment, not part of equality.

    Raises
    ------
    SchemaError
        Naming the column and each rule that contradicts another.
    """

    name: str
    kind: Kind
    nullable: bool = False
    missing: tuple[str, ...] = ()
    minimum: float | str | None = None
    maximum: float | str | None = None
    decimals: int | None = None
    categories: tuple[str, ...] | None = None
    format: str | None = None
    timezone: str | None = None
    resolution: Resolution = "second"
    role: Role | None = None
    sensitive: bool = False
    pii: Pii | None = None
    source: Source = "declared"
    reason: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        problems = list(_column_problems(self))
        if problems:
            raise SchemaError("\n".join(f"column '{self.name}': {p}" for p in problems))

    @property
    def is_modelled(self) -> bool:
        """Whether the generator learns this column (ids, PII and free text are never learnt)."""
        return self.kind in MODELLED_KINDS and self.pii is None

    @property
    def is_regenerated(self) -> bool:
        """Whether the column is written anew, from nothing the real table holds."""
        return self.kind == "id" or self.pii is not None


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A rule between modelled columns that every row keeps, real or synthetic.

    Attributes
    ----------
    kind : {"order", "sum", "product", "constant", "lookup", "combinations", "range"}
        ``order``: a <= b <= ... where both are known (numbers, or datetimes of one time zone).
        ``sum``: the first is the sum of the others. ``product``: the first is `value` (by default
        1) times the product of the others, rounded to its decimals. ``constant``: all add up to
        `value`. ``lookup``: each level of the first, a category, has one value of the second.
        ``combinations``: of categories or booleans only those combinations are written that are in
        `allowed` and that k rows hold. ``range``: the first, a number, lies within the `bounds` of
        the level of the second, a category.
    columns : tuple of str
    value : float or None
    allowed : tuple of tuple of str, or None
        The combinations, an empty text for missing; None: those that k rows hold.
    bounds : tuple of (level, low, high), or None
        Inclusive, infinite for none; a level that is not listed has no bounds. None: learnt, each
        the mean of the k rows next to it.
    reason : str
        Why `schema infer` proposes it; written as a comment, not part of equality.

    Raises
    ------
    SchemaError
        Naming the columns and what is wrong.
    """

    kind: ConstraintKind
    columns: tuple[str, ...]
    value: float | None = None
    allowed: tuple[tuple[str, ...], ...] | None = None
    bounds: tuple[tuple[str, float, float], ...] | None = None
    reason: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        label = f"constraint {self.kind} of {', '.join(self.columns) or 'no column'}"
        if self.kind not in (known := get_args(ConstraintKind)):
            raise SchemaError(f"{label}: kind is unknown; use one of {', '.join(known)}")
        least, most = _CONSTRAINED[self.kind]
        if not least <= len(self.columns) <= most or len(set(self.columns)) < len(self.columns):
            more = "" if most == least else " or more"
            raise SchemaError(f"{label}: it takes {least}{more} different columns")
        needs, allows = self.kind == "constant", self.kind in ("constant", "product")
        if (needs and self.value is None) or (self.value is not None and not allows):
            raise SchemaError(f"{label}: 'value' is the sum of a constant, or factor of a product")
        if self.value is not None and not _is_finite(self.value):
            raise SchemaError(f"{label}: 'value' must be finite")
        if self.allowed is not None and (
            self.kind != "combinations"
            or not self.allowed
            or any(len(row) != len(self.columns) for row in self.allowed)
            or len(set(self.allowed)) < len(self.allowed)
        ):
            raise SchemaError(
                f"{label}: 'allowed' lists different combinations, a text for each column"
            )
        if self.bounds is not None and (
            self.kind != "range"
            or not self.bounds
            or any(not low <= high or low == INF or high == -INF for _, low, high in self.bounds)
            or len({level for level, _, _ in self.bounds}) < len(self.bounds)
        ):
            raise SchemaError(f"{label}: 'bounds' gives a level [low, high] of the range")

    @property
    def is_learnt(self) -> bool:
        """Whether the rule leaves to the data what it allows."""
        return (self.kind == "combinations" and self.allowed is None) or (
            self.kind == "range" and self.bounds is None
        )


#: Least and most columns of each kind of constraint.
_CONSTRAINED = {
    "order": (2, 20),
    "sum": (3, 50),
    "product": (2, 10),
    "constant": (2, 50),
    "lookup": (2, 2),
    "combinations": (2, 10),
    "range": (2, 2),
}


def constraint_problems(rules: Sequence[Constraint], columns: Sequence[Column]) -> Iterator[str]:
    """Yield what is wrong of `rules` for these columns."""
    by_name = {c.name: c for c in columns if c.is_modelled}
    seen: set[str] = set()
    for rule in rules:
        label = f"constraint {rule.kind} of {', '.join(rule.columns)}"
        if unknown := [n for n in rule.columns if n not in by_name]:
            yield f"{label}: '{unknown[0]}' is no modelled column"
            continue
        kinds = [by_name[n].kind for n in rule.columns]
        dates = rule.kind == "order" and set(kinds) == {"datetime"}
        if rule.kind == "lookup":
            if kinds[0] != "categorical" or kinds[1] == "datetime":
                yield f"{label}: a category decides a category, boolean or number"
        elif rule.kind == "combinations":
            if not set(kinds) <= {"categorical", "boolean"}:
                yield f"{label}: it takes categories or booleans"
        elif rule.kind == "range":
            if kinds != ["numeric", "categorical"]:
                yield f"{label}: it takes a number and a category"
        elif set(kinds) != {"numeric"} and not dates:
            yield f"{label}: it takes numbers" + (", or datetimes" if rule.kind == "order" else "")
        elif dates and len({by_name[n].timezone for n in rule.columns}) > 1:
            yield f"{label}: the datetimes have different time zones"
        shared = {"lookup": rule.columns[1:], "range": rule.columns[:1]}
        bound = shared.get(rule.kind, rule.columns)
        if again := sorted(seen & set(bound)):
            yield f"{label}: '{again[0]}' stands in another constraint already"
        seen |= set(bound)


def _column_problems(c: Column) -> list[str]:
    problems = []
    if not c.name or len(c.name) > MAX_NAME:
        problems.append(f"the name must have 1 to {MAX_NAME} characters")
    if "\0" in c.name:  # it would end there for every library written in C
        problems.append("the name holds a NUL character")
    literals = {"kind": Kind, "role": Role, "pii": Pii, "source": Source, "resolution": Resolution}
    for attribute, literal in literals.items():
        value, allowed = getattr(c, attribute), get_args(literal)
        if value is not None and value not in allowed:
            problems.append(f"{attribute} is unknown; use one of {', '.join(allowed)}")
    bounded: dict[str, Any] = {"numeric": (int, float), "datetime": str, "id": int}
    for attribute in ("minimum", "maximum"):
        value = getattr(c, attribute)
        if value is None:
            continue
        if c.kind not in bounded or isinstance(value, bool):
            problems.append(f"{attribute} does not apply to kind '{c.kind}'")
        elif not isinstance(value, bounded[c.kind]):
            problems.append(f"{attribute} of kind '{c.kind}' must be a number (datetime: a text)")
        elif c.kind == "id" and attribute == "maximum":
            problems.append("maximum does not apply to kind 'id'")
        elif c.kind == "datetime" and not _is_moment(str(value), c.timezone):
            problems.append(f"{attribute} is not ISO 8601, for instance 2024-01-31T00:00:00")
        elif c.kind != "datetime" and not _is_finite(value):
            problems.append(f"{attribute} must be finite")
    if not problems and c.minimum is not None and c.maximum is not None and c.minimum > c.maximum:  # type: ignore[operator]
        problems.append("minimum is above maximum")
    if c.decimals is not None and (c.kind != "numeric" or not 0 <= c.decimals <= 15):
        problems.append("decimals applies to kind 'numeric' and lies in 0..15")
    if c.categories is not None:
        if c.kind not in ("categorical", "boolean"):
            problems.append(f"categories do not apply to kind '{c.kind}'")
        if len(set(c.categories)) != len(c.categories) or not c.categories:
            problems.append("categories must be distinct and at least one")
        if c.kind == "boolean" and len(c.categories) != 2:
            problems.append("a boolean has two categories: how false and true are written")
    if c.kind != "datetime" and (c.format or c.timezone):
        problems.append("format and timezone apply to kind 'datetime'")
    if c.timezone is not None and not is_zone(c.timezone):
        problems.append("timezone is no IANA zone known here, for instance Europe/Berlin or UTC")
    if c.role == "target" and not c.is_modelled:
        problems.append("a target must be modelled: not an id, text or pii column")
    if c.sensitive and not c.is_modelled:
        problems.append("only a modelled column can be sensitive; ids, text and pii never leave")
    return problems


def _without_draft(column: Column) -> Column:
    if column.source == "declared" or column.kind not in ("numeric", "datetime", "categorical"):
        return column
    return dataclasses.replace(column, minimum=None, maximum=None, categories=None)


def _is_moment(text: str, timezone: str | None) -> bool:
    """Whether `text` is ISO 8601, and still lies in the years 1 to 9999 in the column's zone."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None and timezone is not None and is_zone(timezone):
            moment.astimezone(ZoneInfo(timezone))
    except (ValueError, OverflowError):
        return False
    return True


def _is_finite(value: float) -> bool:
    """Whether `value` is a number that a float64 can hold; whole ones of TOML have no end."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_zone(name: str) -> bool:
    """Whether `name` is an IANA time zone that this machine knows."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class TableSchema:
    """The columns of a table, in order, and how its text files are written.

    Attributes
    ----------
    name : str
        Name of the dataset, for reports and file names.
    columns : tuple of Column
        In file order; names are unique; at most one target and one entity key.
    constraints : tuple of Constraint
        Rules between columns. A column stands in one at most, but for what look-ups start from and
        the groups of ranges.
    delimiter, encoding : str
        Of CSV files.
    strip : bool
        Whether blanks around CSV cells are dropped (``39, State-gov`` in UCI files).
    escaped : bool
        Whether CSV cells and names that a spreadsheet would run stand behind an apostrophe, as
        `synthgen` exports them; reading takes it off.
    missing : tuple of str
        Texts that mean missing in every column, besides the empty field, for instance ``?``.
    """

    name: str
    columns: tuple[Column, ...]
    constraints: tuple[Constraint, ...] = ()
    delimiter: str = ","
    encoding: str = "utf-8"
    strip: bool = False
    escaped: bool = False
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = []
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.name):
            problems.append("name: letters, digits, '.', '_' and '-' only, 64 at most")
        if not self.columns:
            problems.append("a schema needs at least one column")
        counts = Counter(c.name for c in self.columns)
        problems += [f"column '{n}' is listed twice" for n, count in counts.items() if count > 1]
        for role in get_args(Role):
            if sum(c.role == role for c in self.columns) > 1:
                problems.append(f"more than one column has the role '{role}'")
        if not re.fullmatch(r"[\x01-\x7f]", self.delimiter) or (
            self.delimiter.isalnum() or self.delimiter in '"\r\n'
        ):
            problems.append(
                "csv.delimiter must be one ASCII character, no letter, digit, quote or line end"
            )
        problems += constraint_problems(self.constraints, self.columns)
        if problems:
            raise SchemaError("\n".join(problems))

    @property
    def names(self) -> list[str]:
        """Column names in file order."""
        return [c.name for c in self.columns]

    @property
    def modelled(self) -> tuple[Column, ...]:
        """The columns that the generator learns, in file order."""
        return tuple(c for c in self.columns if c.is_modelled)

    @property
    def target(self) -> Column | None:
        """The column with the role `target`, if any."""
        return next((c for c in self.columns if c.role == "target"), None)

    @property
    def entity(self) -> Column | None:
        """The column with the role `entity`, if any."""
        return next((c for c in self.columns if c.role == "entity"), None)

    def column(self, name: str) -> Column:
        """Return the column called `name`; SchemaError lists the names that exist."""
        for c in self.columns:
            if c.name == name:
                return c
        raise SchemaError(f"column '{name}' is not in the schema; it has {', '.join(self.names)}")

    def with_target(self, name: str) -> TableSchema:
        """Return a copy in which column `name` is the one target."""
        self.column(name)
        columns = tuple(
            dataclasses.replace(
                c, role="target" if c.name == name else (None if c.role == "target" else c.role)
            )
            for c in self.columns
        )
        return dataclasses.replace(self, columns=columns)

    @property
    def drafts(self) -> list[str]:
        """Names of the columns with bounds or categories that were read from the data."""
        return [c.name for c in self.columns if c != _without_draft(c)]

    def without_drafts(self) -> TableSchema:
        """Return a copy without the bounds and categories that were read from the data.

        Bounds are single rows, and a level that enough rows of a table hold may be rare in its
        training half. How false and true are written stays, and so does where ids start.
        """
        return dataclasses.replace(self, columns=tuple(map(_without_draft, self.columns)))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical TOML, comments left out."""
        return hashlib.sha256(self.to_toml(comments=False).encode()).hexdigest()

    def to_toml(self, *, comments: bool = True) -> str:
        """Return the schema as TOML; with `comments`, each column's `reason` stands above it."""
        document = tomlkit.document()
        document["format"] = FORMAT_VERSION
        document["name"] = self.name
        csv = {
            k: getattr(self, k)
            for k in ("delimiter", "encoding", "strip", "escaped", "missing")
            if getattr(self, k) != _default(TableSchema, k)
        }
        if csv:
            document["csv"] = csv
        columns = tomlkit.aot()
        for column in self.columns:
            table = tomlkit.table()
            if comments and column.reason:
                table.add(tomlkit.comment(_one_line(column.reason)))
            for f in dataclasses.fields(Column):
                value = getattr(column, f.name)
                if f.name != "reason" and value != f.default:
                    table[f.name] = list(value) if isinstance(value, tuple) else value
            columns.append(table)
        document["column"] = columns
        if self.constraints:
            document["constraint"] = _constraints_toml(self.constraints, comments=comments)
        return tomlkit.dumps(document)

    @classmethod
    def from_toml(cls, text: str) -> TableSchema:
        """Read what `to_toml` or a person wrote; SchemaError lists every problem of all columns."""
        try:
            raw = tomllib.loads(text)  # a ValueError also for a number of 5,000 digits
        except (ValueError, RecursionError) as error:
            raise SchemaError(f"the schema is not valid TOML: {error}") from None
        return cls._from_dict(raw)

    @classmethod
    def _from_dict(cls, raw: Mapping[str, Any]) -> TableSchema:
        problems = [
            f"unknown key '{k}'"
            for k in raw
            if k not in ("format", "name", "csv", "column", "constraint")
        ]
        if raw.get("format") != FORMAT_VERSION:
            problems.append(f"'format' must be {FORMAT_VERSION}")
        csv, listed, columns = raw.get("csv", {}), raw.get("column", []), []
        ruled = raw.get("constraint", [])
        if not (isinstance(csv, Mapping) and isinstance(listed, list) and isinstance(ruled, list)):
            raise SchemaError(
                "'csv' must be a table, 'column' and 'constraint' an array of tables: [[column]]"
            )
        allowed_csv = {
            "delimiter": str,
            "encoding": str,
            "strip": bool,
            "escaped": bool,
            "missing": list,
        }
        for key, value in csv.items():
            if key not in allowed_csv or not isinstance(value, allowed_csv[key]):
                problems.append(f"'csv.{key}' is unknown or has the wrong type")
        for number, entry in enumerate(listed, 1):
            try:
                columns.append(_column_from_dict(entry))
            except SchemaError as error:
                problems.append(
                    f"{error}" if "column" in str(error) else f"column {number}: {error}"
                )
        rules = []
        for number, entry in enumerate(ruled, 1):
            try:
                rules.append(_constraint_from_dict(entry))
            except SchemaError as error:
                problems.append(f"constraint {number}: {error}")
        if problems:
            raise SchemaError("\n".join(problems))
        csv = {k: tuple(map(str, v)) if k == "missing" else v for k, v in csv.items()}
        return cls(
            name=str(raw.get("name", "table")),
            columns=tuple(columns),
            constraints=tuple(rules),
            **csv,
        )

    @classmethod
    def load(cls, path: str | Path) -> TableSchema:
        """Read a schema file."""
        path = Path(path)
        try:
            text = read_text(path, MAX_SCHEMA_BYTES)
        except (OSError, ValueError) as error:
            raise SchemaError(f"cannot read schema {path}: {type(error).__name__}") from None
        if text is None:
            raise SchemaError(f"schema {path} is larger than {MAX_SCHEMA_BYTES:,} bytes")
        return cls.from_toml(text)

    def save(self, path: str | Path) -> None:
        """Write the schema with its comments."""
        Path(path).write_text(self.to_toml(), encoding="utf-8")


def _constraints_toml(rules: Sequence[Constraint], *, comments: bool) -> tomlkit.items.AoT:
    array = tomlkit.aot()
    for rule in rules:
        table = tomlkit.table()
        if comments and rule.reason:
            table.add(tomlkit.comment(_one_line(rule.reason)))
        table["kind"] = rule.kind
        table["columns"] = list(rule.columns)
        if rule.value is not None:
            table["value"] = rule.value
        if rule.allowed is not None:
            table["allowed"] = [list(row) for row in rule.allowed]
        if rule.bounds is not None:
            table["bounds"] = {level: [low, high] for level, low, high in rule.bounds}
        array.append(table)
    return array


def _constraint_from_dict(entry: Any) -> Constraint:
    types: dict[str, type | tuple[type, ...]]
    types = {
        "kind": str,
        "columns": list,
        "value": (int, float),
        "allowed": list,
        "bounds": Mapping,
    }
    if not isinstance(entry, Mapping) or not {"kind", "columns"} <= set(entry):
        raise SchemaError("must be a table with 'kind' and 'columns': [[constraint]]")
    for key, value in entry.items():
        if key not in types or not isinstance(value, types[key]) or isinstance(value, bool):
            raise SchemaError(f"'{key}' is unknown or has the wrong type")
    if not all(isinstance(name, str) for name in entry["columns"]):
        raise SchemaError("'columns' must be a list of names")
    value = entry.get("value")
    return Constraint(
        kind=entry["kind"],
        columns=tuple(entry["columns"]),
        value=float(value) if value is not None and _is_finite(value) else value,
        allowed=_allowed_from(entry.get("allowed")),
        bounds=_bounds_from(entry.get("bounds")),
    )


def _allowed_from(listed: Any) -> tuple[tuple[str, ...], ...] | None:
    if listed is None:
        return None
    if not all(isinstance(r, list) and all(isinstance(v, str) for v in r) for r in listed):
        raise SchemaError("'allowed' must be a list of lists of texts")
    return tuple(tuple(row) for row in listed)


def _is_bound(value: Any) -> bool:
    """Whether a bound of a range is a finite number, or infinite: no bound."""
    return type(value) in (int, float) and (value in (INF, -INF) or _is_finite(value))


def _bounds_from(table: Any) -> tuple[tuple[str, float, float], ...] | None:
    if table is None:
        return None
    for ends in table.values():
        if not isinstance(ends, list) or len(ends) != 2 or not all(map(_is_bound, ends)):
            raise SchemaError("'bounds' must give each level [low, high], inf for no bound")
    return tuple((level, float(low), float(high)) for level, (low, high) in table.items())


def _one_line(text: str) -> str:
    """Return `text` as a TOML comment can hold it: one line, no control characters."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def _default(cls: type, name: str) -> Any:
    return next(f.default for f in dataclasses.fields(cls) if f.name == name)


_COLUMN_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "kind": (str,),
    "nullable": (bool,),
    "missing": (list,),
    "minimum": (int, float, str),
    "maximum": (int, float, str),
    "decimals": (int,),
    "categories": (list,),
    "format": (str,),
    "timezone": (str,),
    "resolution": (str,),
    "role": (str,),
    "sensitive": (bool,),
    "pii": (str,),
    "source": (str,),
}


def _column_from_dict(entry: Any) -> Column:
    if not isinstance(entry, Mapping):
        raise SchemaError("must be a table: [[column]]")
    name = entry.get("name")
    label = f"column '{name}'" if isinstance(name, str) else "column without a name"
    problems = []
    for key, value in entry.items():
        if key not in _COLUMN_TYPES:
            problems.append(f"{label}: unknown key '{key}'")
        elif not isinstance(value, _COLUMN_TYPES[key]):
            problems.append(f"{label}: '{key}' has the wrong type")
        elif isinstance(value, list) and not all(isinstance(v, str) for v in value):
            problems.append(f"{label}: '{key}' must be a list of texts")
    problems += [f"{label}: '{key}' is required" for key in ("name", "kind") if key not in entry]
    if problems:
        raise SchemaError("\n".join(problems))
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return Column(**values)
