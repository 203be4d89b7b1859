"""Arrow batches -> a draft schema in which each guess carries its reason.

All rows are read, because a kind that one late row contradicts is a wrong kind. What is looked at
is the levels of a column, its distinct texts with their counts, so that repeated work is rare.
A reason holds counts and percentages; cells stay where they are. The one exception is
`categories`, and they are listed only where every level has at least `MIN_LEVEL_ROWS` rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.conform import MAX_EXACT, parse_datetimes, plain_array
from synthgen.errors import DataError
from synthgen.schema import Column, Pii, Resolution, TableSchema, is_zone
from synthgen.sources import Source

MIN_LEVEL_ROWS = 10  # a rarer level may describe one person; it isn't written into a schema
MAX_LEVELS = 1_000
MERGED = 2**20  # distinct values of a column that wait to be merged, at least
MAX_DECIMALS = 8
MIN_UNIQUE_ROWS = 20  # below it, "all values differ" says nothing
MOSTLY = 0.5
ALMOST_ALL = 0.9

#: Rows without a key are one entity: no key is proposed where they are more than this share.
MAX_KEYLESS = 0.05

MISSING_TOKENS = (
    "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "null", "None", "nan", "NaN", "NaT", "-", "--",
    ".", "\\N",
)  # fmt: skip
_CANONICAL_NUMBER = r"^-?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"

DATE_FORMATS = tuple(
    f"{date}{time}"
    for date in (
        "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d-%b-%Y",
        "%d %b %Y", "%b %d, %Y",
    )
    for time in ("", " %H:%M", " %H:%M:%S")
)  # fmt: skip
TIME_FORMATS = ("%H:%M:%S", "%H:%M")
#: A score of 6:6, or 1:14 of a chapter, is no time of day: all have two digits, hours too.
_TIME = r"^\d\d(:\d\d){1,2}$"
COMPACT_ISO = "%Y%m%dT%H%M%S"
_ADVICE = (
    "It is neither modelled nor copied: drop the column from the file, declare what replaces it "
    '(pii = "name", "email", "phone", "address" or "sequence"), or make it kind = "categorical".'
)

#: Begins what a reason warns of.
NOTE = " Note: "

_EMAIL = r"^[^@\s]+@[^@\s]+\.[A-Za-z]{2,}$"
_PHONE = r"^(\+\d|\(\d|\d+[ ./()-]+\d)[\d ./()x-]{5,20}$"
_SEQUENCES = (
    r"^\d{3}-\d{2}-\d{4}$",  # US social security number
    r"^[A-Z]{2}\d{2}( ?[A-Z0-9]{4}){3,7}( ?[A-Z0-9]{1,3})?$",  # IBAN
    r"^\d{4}([ -]\d{4}){2}[ -]\d{1,4}$",  # payment card
)
_AMOUNT = r"^[-+]? ?[$€£¥]? ?[-+]?\d[\d.,' \x{a0}]*[%$€£¥]?$"
_NO_NUMBER = r"[-+,%$€£¥]"  # what sets an amount apart from a code of digits
_UUID = r"^\{?[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}?$"
_HASH = r"^[0-9A-Fa-f]{16,128}$"

_ID_WORDS = {"id", "ids", "uuid", "guid", "identifier", "uid", "pk"}
_WEAK_ID_WORDS = {"key", "number", "code", "no", "nr", "num", "ref", "reference", "index"}
_PERSON_WORDS = {"surname", "firstname", "lastname", "forename", "fullname", "familyname"}
_PERSON_PAIRS = {("first", "name"), ("last", "name"), ("full", "name"), ("given", "name"),
                 ("family", "name"), ("middle", "name"), ("maiden", "name")}  # fmt: skip
_PERSONS = {"patient", "customer", "client", "employee", "person", "user", "contact", "member",
            "student", "doctor", "owner", "holder", "borrower", "applicant"}  # fmt: skip
_PHONE_WORDS = {"phone", "telephone", "mobile", "fax", "cellphone", "tel"}
_SECRET_WORDS = {"ssn", "passport", "iban", "nin", "nhs", "license", "licence"}


def infer(source: Source, *, name: str | None = None, rows: int = 200_000) -> TableSchema:
    """Draft the schema of `source`.

    Parameters
    ----------
    source : Source
    name : str, optional
        Of the dataset; by default the stem of the file name.
    rows : int
        Distinct values that the costly tests of a column (patterns of texts) look at. Whether all
        cells are numbers, times or unique is always decided on all rows.

    Returns
    -------
    TableSchema
        Its columns have ``source = "data"`` and a `reason` each; the data conforms to it, unless a
        typed column holds infinities, nested values or whole numbers of 2^53 and more.

    Raises
    ------
    DataError
        If the source cannot be read or has no rows.
    """
    levels = _all_levels(source)
    strip = source.format == "csv" and any(_starts_blank(found) for found in levels)
    if strip:
        levels = [found.stripped() for found in levels]
    missing = ("?",) if any(found.has("?") for found in levels) else ()
    columns = [_guess(found.without(missing), rows) for found in levels]
    return TableSchema(
        name=name or _table_name(source),
        columns=tuple(_one_entity(columns)),
        delimiter=source.delimiter,
        encoding=source.encoding,
        strip=strip or source.strip,
        missing=missing,
    )


def _table_name(source: Source) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", source.table).lstrip("-_")[:64] or "table"


def _one_entity(columns: list[Column]) -> list[Column]:
    """Leave the role `entity` to its first holder; further keys become categories."""
    keys = [c.name for c in columns if c.role == "entity"]
    return [
        replace(c, kind="categorical", role=None, minimum=None) if c.name in keys[1:] else c
        for c in columns
    ]


# --- levels: a column as distinct texts with counts -----------------------------------------------


@dataclass(frozen=True, repr=False)
class _Levels:
    """The distinct present values of one column.

    Attributes
    ----------
    name : str
    texts : Array of string, (L,)
        Distinct, none empty.
    counts : ndarray of int, (L,)
        Rows of each.
    n_rows : int
        Of the table.
    type : DataType
        Of the column as read: `string` for every CSV column.
    """

    name: str
    texts: pa.Array
    counts: np.ndarray
    n_rows: int
    type: pa.DataType

    @property
    def n_present(self) -> int:
        return int(self.counts.sum())

    @property
    def n_missing(self) -> int:
        return self.n_rows - self.n_present

    @property
    def is_unique(self) -> bool:
        return len(self.texts) == self.n_present

    @property
    def distinct_share(self) -> float:
        return len(self.texts) / max(self.n_present, 1)

    def has(self, text: str) -> bool:
        return bool(pc.any(pc.equal(self.texts, text), min_count=0).as_py())

    def share(self, pattern: str) -> float:
        """Return the share of levels that match the regular expression."""
        matching = int(pc.match_substring_regex(self.texts, pattern).true_count)
        return matching / max(len(self.texts), 1)

    def head(self, n: int) -> _Levels:
        return replace(self, texts=self.texts[:n], counts=self.counts[:n])

    def without(self, tokens: tuple[str, ...]) -> _Levels:
        keep = pc.invert(pc.is_in(self.texts, value_set=pa.array(tokens, pa.string())))
        mask = keep.to_numpy(zero_copy_only=False)
        return replace(self, texts=self.texts.filter(keep), counts=self.counts[mask])

    def stripped(self) -> _Levels:
        if not pa.types.is_string(self.type):
            return self
        table = pa.table({"text": pc.utf8_trim_whitespace(self.texts), "n": self.counts})
        merged = table.group_by("text", use_threads=False).aggregate([("n", "sum")])
        texts = merged["text"].combine_chunks()
        return replace(self, texts=texts, counts=merged["n_sum"].to_numpy()).without(("",))


@dataclass
class _Counter:
    """Distinct values of one column, counted batch by batch in the order of their first row.

    Memory is that of a few times the distinct values, not of the rows.
    """

    name: str
    type: pa.DataType | None = None
    is_readable: bool = True
    parts: list[pa.Table] = field(default_factory=list)
    waiting: int = 0

    def add(self, array: pa.Array) -> None:
        """Count one batch's cells."""
        self.type = self.type or array.type
        plain = plain_array(array)
        if plain is None:
            self.is_readable = False
            return
        counted = pc.value_counts(plain)
        self.parts.append(pa.table([counted.field(0), counted.field(1)], names=["value", "n"]))
        self.waiting += len(counted)
        # Merged when what waits outweighs what is merged, each value is moved a few times only.
        if self.waiting > max(MERGED, 2 * self.parts[0].num_rows):
            self.merge()

    def merge(self) -> pa.Table:
        """Return the distinct values and their counts, and keep nothing else."""
        groups = pa.concat_tables(self.parts).group_by("value", use_threads=False)
        self.parts = [groups.aggregate([("n", "sum")]).rename_columns(["value", "n"])]
        self.waiting = self.parts[0].num_rows
        return self.parts[0]


def _all_levels(source: Source) -> list[_Levels]:
    counters = [_Counter(name) for name in source.names]
    n_rows = 0
    for batch in source.batches():
        n_rows += batch.num_rows
        for counter, array in zip(counters, batch.columns, strict=True):
            counter.add(array)
    if not n_rows:
        raise DataError(f"{source.uri}: the table has no rows")
    return [_levels(counter, n_rows) for counter in counters]


def _levels(counter: _Counter, n_rows: int) -> _Levels:
    if not counter.is_readable:
        return _Levels(
            counter.name, pa.array([], pa.string()), np.zeros(0, int), n_rows, counter.type
        )
    merged = counter.merge()
    values, counts = merged["value"].combine_chunks(), merged["n"].to_numpy()
    counter.parts.clear()
    present = values.is_valid()
    if pa.types.is_floating(values.type):
        present = pc.and_(present, pc.invert(pc.fill_null(pc.is_nan(values), True)))
    mask = present.to_numpy(zero_copy_only=False)
    texts = values.filter(present).cast(pa.string())
    return _Levels(counter.name, texts, counts[mask], n_rows, values.type).without(("",))


def _starts_blank(levels: _Levels) -> bool:
    return (
        pa.types.is_string(levels.type) and len(levels.texts) > 0 and levels.share(r"^ +\S") == 1.0
    )


# --- guesses, the first that answers wins ---------------------------------------------------------


def _guess(levels: _Levels, rows: int) -> Column:
    for rule in _RULES:
        column = rule(levels, rows)
        if column is not None:
            return column
    raise AssertionError("the last rule takes every column")


def _column(levels: _Levels, reason: str, **facts: Any) -> Column:
    n_missing = levels.n_missing
    if n_missing:
        reason += f" {_percent(n_missing, levels.n_rows)} of the rows are missing."
    facts.setdefault("kind", "categorical")
    return Column(name=levels.name, nullable=n_missing > 0, source="data", reason=reason, **facts)


def _percent(part: float, whole: float) -> str:
    share = 100 * part / max(whole, 1)
    return f"{share:.0f} %" if share >= 9.95 or share == 0 else f"{share:.2g} %"


def _empty(levels: _Levels, rows: int) -> Column | None:
    if plain_array(pa.nulls(0, levels.type)) is None:
        (name,) = re.findall(r"^\w*", str(levels.type))  # no names of what is nested in it
        reason = (
            f"The cells are of a type that cannot be read ({name}): write one text or number a "
            "cell, or drop the column from the file."
        )
        return _column(replace(levels, n_rows=0), reason, kind="text")
    return None if levels.n_present else _column(levels, "There is nothing in the column.")


def _boolean(levels: _Levels, rows: int) -> Column | None:
    if pa.types.is_boolean(levels.type):
        return _column(levels, "The column is of boolean type.", kind="boolean")
    seen = set(levels.head(5).texts.to_pylist())
    if len(levels.texts) > 4 or not {t.lower() for t in seen} <= {"true", "false"}:
        return None
    reason = f"The {len(seen)} texts present are spellings of true and false."
    for style in (str.lower, str.title, str.upper):
        pair = (style("false"), style("true"))
        if seen <= set(pair):
            return _column(levels, reason, kind="boolean", categories=pair)
    return _column(levels, reason, kind="boolean")


# people


def words(name: str) -> list[str]:
    """Return the lower-case words of a column name.

    >>> words("patientFirst_name 2"), words("sqft_lot15"), words("SSN")
    (['patient', 'first', 'name', '2'], ['sqft', 'lot', '15'], ['ssn'])
    """
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
    return [part.lower() for part in parts]


def _person(levels: _Levels, rows: int) -> Column | None:
    found = _pii_by_value(levels.head(rows)) or _pii_by_name(levels.head(rows))
    if found is None:
        return None
    pii, why = found
    kind = "id" if pii == "sequence" and levels.is_unique else "text"
    return _column(levels, f"{why}; it is replaced, never modelled.", kind=kind, pii=pii)


def _pii_by_value(levels: _Levels) -> tuple[Pii, str] | None:
    if not pa.types.is_string(levels.type):
        return None
    n = f"of the {len(levels.texts):,} distinct values"
    if (share := levels.share(_EMAIL)) >= ALMOST_ALL:
        return "email", f"{share:.0%} {n} are email addresses"
    for pattern in _SEQUENCES:
        if (share := levels.share(pattern)) >= ALMOST_ALL and _many(levels):
            return "sequence", f"{share:.0%} {n} look like numbers of people or accounts"
    if (share := levels.share(_PHONE)) >= ALMOST_ALL and _many(levels) and not _is_measured(levels):
        return "phone", f"{share:.0%} {n} are written like phone numbers"
    return None


def _many(levels: _Levels) -> bool:
    return levels.distinct_share > MOSTLY and len(levels.texts) >= MIN_UNIQUE_ROWS


def _is_measured(levels: _Levels) -> bool:
    """Whether all texts are plain numbers, such as 1851.20261, or dates."""
    kept = levels.without(MISSING_TOKENS)
    return _all_numbers(kept) or bool(_fitting_formats(kept))


def _pii_by_name(levels: _Levels) -> tuple[Pii, str] | None:
    named = words(levels.name)
    pairs = set(pairwise(named))
    text = pa.types.is_string(levels.type) and not _all_numbers(levels)
    mostly = levels.distinct_share > MOSTLY and levels.n_present > 1
    why = f"The name says so and {len(levels.texts):,} of {levels.n_present:,} values differ"
    if text and (_PERSON_WORDS & set(named) or pairs & _PERSON_PAIRS):
        return "name", why
    if text and _names_a_person(named) and (mostly or len(levels.texts) > MAX_LEVELS):
        return "name", why
    if text and mostly and {"email", "mail"} & set(named):
        return "email", why
    if mostly and _PHONE_WORDS & set(named) and levels.share(r"\d{3}") >= ALMOST_ALL:
        return "phone", why
    if text and mostly and {"address", "street"} & set(named):
        return "address", why
    if mostly and _SECRET_WORDS & set(named) and levels.share(r"\d") >= ALMOST_ALL:
        return "sequence", why
    return None


def _names_a_person(named: list[str]) -> bool:
    """Whether the words are ``name`` alone or a person's: not ``file name``, ``product name``."""
    return named[-1:] == ["name"] and (len(named) == 1 or named[-2] in _PERSONS)


# numbers


def _numeric(levels: _Levels, rows: int) -> Column | None:
    typed = not pa.types.is_string(levels.type)
    if typed and not _is_number_type(levels.type):
        return None
    kept = levels if typed else levels.without(MISSING_TOKENS)
    if not typed and not _all_numbers(kept):
        return None
    missing = () if typed else _tokens(levels)
    finite = kept.texts.filter(pc.match_substring_regex(kept.texts, r"^[^a-df-zA-DF-Z]*$"))
    values = np.array(finite.cast(pa.float64()).to_numpy(zero_copy_only=False))
    decimals = _decimals(finite)
    if decimals == 0:
        found = _whole_number_id(kept, values)
        if found is not None:
            return replace(found, missing=missing, nullable=kept.n_missing > 0)
        if np.abs(values).max(initial=0) >= MAX_EXACT:
            return (
                None if not typed else _text_or_categories(kept, "whole numbers of 2^53 and more")
            )
    form = "whole numbers" if decimals == 0 else "numbers"
    reason = (
        f"All {kept.n_present:,} values are {form}, {len(kept.texts):,} of them distinct. The "
        "extremes are single rows and not written here: declare minimum and maximum if public."
    )
    return _column(kept, reason, kind="numeric", decimals=decimals, missing=missing)


def _is_number_type(t: pa.DataType) -> bool:
    return bool(pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_decimal(t))


def _all_numbers(levels: _Levels) -> bool:
    """Whether all texts are numbers in their plain form: no leading zero, no plus, finite."""
    if not len(levels.texts) or levels.share(_CANONICAL_NUMBER) < 1:
        return False
    return bool(pc.all(pc.is_finite(levels.texts.cast(pa.float64()))).as_py())


def _tokens(levels: _Levels) -> tuple[str, ...]:
    return tuple(t for t in MISSING_TOKENS if levels.has(t))


def _decimals(texts: pa.Array) -> int | None:
    """Return the most digits after the point, trailing zeros aside; None if that says nothing."""
    if pc.any(pc.match_substring_regex(texts, "[eE]"), min_count=0).as_py():
        return None
    digits = pc.replace_substring_regex(texts, r"^[^.]*\.?|0+$", "")
    most = pc.max(pc.utf8_length(digits)).as_py() or 0
    return most if most <= MAX_DECIMALS else None


def _whole_number_id(levels: _Levels, values: np.ndarray) -> Column | None:
    if not levels.is_unique:
        return _entity(levels)
    n = len(values)
    gapless = n >= MIN_UNIQUE_ROWS and values.max() - values.min() == n - 1
    beyond = np.abs(values).max(initial=0) >= MAX_EXACT
    if not (_says_id(levels) or gapless or beyond):
        return None
    sequence = " and without a gap" if gapless else ""
    reason = f"All {n:,} values are different whole numbers{sequence}; it is regenerated."
    return _column(levels, reason, kind="id", minimum=_id_start(levels))


def _id_start(levels: _Levels) -> int:
    """Return the first number that has more digits than any real one."""
    return int(10 ** (pc.max(pc.utf8_length(pc.utf8_ltrim(levels.texts, "-"))).as_py() or 1))


def _says_id(levels: _Levels) -> bool:
    named = words(levels.name)
    if _ID_WORDS & set(named) and levels.n_present > 1:
        return True
    return (
        named[-1:] != [] and named[-1] in _WEAK_ID_WORDS and (levels.n_present >= MIN_UNIQUE_ROWS)
    )


def _entity(levels: _Levels) -> Column | None:
    """Recognise a key of people or things that several rows share."""
    n, rows_each = len(levels.texts), levels.n_present / max(len(levels.texts), 1)
    if not (_ID_WORDS & set(words(levels.name)) and n >= 100 and rows_each < 50):
        return None
    if levels.n_missing > MAX_KEYLESS * levels.n_rows:
        reason = f"The name says key, but not every row has one: {n:,} values are a category."
        return _column(levels, reason)
    reason = (
        f"The name says key and {n:,} values have {rows_each:.1f} rows each, so it is taken for "
        "the entity that rows belong to."
    )
    whole = levels.share(r"^[1-9]\d*$") == 1
    return _column(
        levels, reason, kind="id", role="entity", minimum=_id_start(levels) if whole else None
    )


# times


def _datetime(levels: _Levels, rows: int) -> Column | None:
    if pa.types.is_timestamp(levels.type):
        return _typed_datetime(levels)
    if not pa.types.is_string(levels.type):
        return None
    kept = levels.without(MISSING_TOKENS)
    fitting = _fitting_formats(kept)
    if not fitting:
        return None
    if len(fitting) > 1:
        return _text_or_categories(kept, "dates whose day and month cannot be told apart")
    (form,) = fitting
    offsets = kept.share(r"[T ]\d\d.*(Z|[+-]\d\d(:?\d\d)?)$") if form is None else 0.0
    zone = "UTC" if offsets else None
    times = parse_datetimes(kept.texts, form, zone)
    kind = f"times in the format {form}" if form else "ISO 8601 times"
    reason = f"All {kept.n_present:,} values are {kind}"
    if form in TIME_FORMATS:
        reason += ", without a date (1900-01-01 stands for it where text cannot be written)"
    if 0 < offsets < 1:
        reason += f", {offsets:.0%} with an offset; the others are read as UTC"
    return _column(
        kept,
        f"{reason}.",
        kind="datetime",
        format=form,
        timezone=zone,
        resolution=_resolution(times),
        missing=_tokens(levels),
    )


def _typed_datetime(levels: _Levels) -> Column:
    zone = levels.type.tz
    if zone is not None and not is_zone(zone):  # a bare offset such as +02:00
        zone = "UTC"
    times = parse_datetimes(levels.texts, None, zone)
    reason = "The column is of a time type."
    return _column(levels, reason, kind="datetime", timezone=zone, resolution=_resolution(times))


def _fitting_formats(levels: _Levels) -> list[str | None]:
    """Return the formats in which every text parses: none, one, or an ambiguous pair."""
    if not len(levels.texts) or levels.share(r"\d") < 1:
        return []
    candidates: list[str | None] = [COMPACT_ISO, None, *DATE_FORMATS, *TIME_FORMATS]
    few = levels.head(50).texts
    fitting = []
    for form in candidates:
        if form == COMPACT_ISO and levels.share(r"^\d{8}T\d{6}$") < 1:
            continue
        if form in TIME_FORMATS and levels.share(_TIME) < 1:
            continue
        zone = "UTC" if form is None else None
        if _parses(few, form, zone) and _parses(levels.texts, form, zone):
            fitting.append(form)
            if form in (COMPACT_ISO, None):
                break
    return fitting


def _parses(texts: pa.Array, form: str | None, zone: str | None) -> bool:
    return not parse_datetimes(texts, form, zone).isna().any()


def _resolution(times: pd.Series) -> Resolution:
    wall = times.dt.tz_localize(None).dropna()
    units: tuple[tuple[Resolution, str], ...] = (
        ("day", "D"), ("hour", "h"), ("minute", "min"), ("second", "s"),
    )  # fmt: skip
    for resolution, unit in units:
        if (wall.dt.floor(unit) == wall).all():
            return resolution
    return "microsecond"


# texts


def _text_id(levels: _Levels, rows: int) -> Column | None:
    if not levels.is_unique:
        return _entity(levels)
    if _says_id(levels):
        why = "the name says so"
    elif levels.n_present < MIN_UNIQUE_ROWS:
        return None
    elif levels.share(_UUID) == 1 or levels.share(_HASH) == 1:
        why = "they are hexadecimal keys"
    elif _one_pattern(levels):
        why = "they share one pattern of letters and digits"
    else:
        return None
    reason = f"All {levels.n_present:,} values differ and {why}; it is regenerated."
    return _column(levels, reason, kind="id")


def _one_pattern(levels: _Levels) -> bool:
    """Whether all texts are letters, digits and signs in the same places: ``AB-0017``."""
    patterns = levels.texts
    for regex, sign in ((r"\d+", "9"), (r"\p{Lu}", "A"), (r"\p{Ll}", "a")):
        patterns = pc.replace_substring_regex(patterns, regex, sign)
    found = patterns.unique()
    if len(found) != 1:
        return False
    pattern = found[0].as_py()
    is_amount = re.fullmatch(r"[-+$€£]*9([.,]9)+[%$€£]*", pattern)
    return "9" in pattern and " " not in pattern and not is_amount


def _text(levels: _Levels, rows: int) -> Column:
    numbers = levels.without(MISSING_TOKENS)
    share = numbers.share(_CANONICAL_NUMBER)
    note = ""
    if MOSTLY < share < 1:
        n_other = round(len(numbers.texts) * (1 - share))
        note = f"{n_other:,} of {len(numbers.texts):,} distinct values are no numbers"
    return _text_or_categories(levels, note)


def _text_or_categories(levels: _Levels, note: str) -> Column:
    n, share = len(levels.texts), _percent(len(levels.texts), levels.n_present)
    if not note and levels.share(_AMOUNT) >= ALMOST_ALL and levels.share(_NO_NUMBER) > 0:
        note = (
            "they are written like amounts (sign, currency, percent, comma), which are learnt as "
            "texts; as plain numbers (1234.5) they would be learnt as numbers"
        )
    note = f"{NOTE}{note}." if note else ""
    if _many(levels):
        lengths = pc.binary_length(levels.head(10_000).texts).to_numpy(zero_copy_only=False)
        reason = (
            f"Free text: {n:,} values ({share}) are distinct, {lengths.mean():.0f} bytes long on "
            f"average.{note} {_ADVICE}"
        )
        return _column(levels, reason, kind="text")
    reason = f"{n:,} distinct texts in {levels.n_present:,} rows."
    n_rare = int((levels.counts < MIN_LEVEL_ROWS).sum())
    if n <= MAX_LEVELS and not n_rare:
        categories = tuple(sorted(levels.texts.to_pylist()))
        return _column(levels, reason + note, categories=categories)
    why = (
        f"{n_rare:,} of them cover fewer than {MIN_LEVEL_ROWS} rows"
        if n_rare
        else f"there are more than {MAX_LEVELS:,}"
    )
    return _column(levels, f"{reason} They are not listed because {why}.{note}")


_RULES: tuple[Callable[[_Levels, int], Column | None], ...] = (
    _empty,
    _boolean,
    _person,
    _numeric,
    _datetime,
    _text_id,
    _text,
)
