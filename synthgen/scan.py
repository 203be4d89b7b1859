"""Whether a bundle, or what a run shows, holds anything that fewer than k rows of a table hold.

Every file is searched for *lonely* values, those that fewer than k rows (k entities, where there is
a key) of the table share, and the encoder of a bundle is read by what its numbers mean. What is
told is file, column, rule and count: never a value.

Short numbers and words recur by chance, so only *telling* ones are looked for in bytes: texts of
six characters or more that are no single lower-case word, numbers of seven digits, or of five where
they are among the extremes or have unusually many decimals. What the schema declares is public.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from synthgen.config import RunConfig
from synthgen.conform import conform_packed
from synthgen.encode.categorical import CategoricalEncoder
from synthgen.encode.numeric import NumericEncoder
from synthgen.encode.relations import Lookup
from synthgen.encode.table import Part, TableEncoder, views_of
from synthgen.errors import ConfigError, SynthgenError
from synthgen.infer import infer
from synthgen.schema import Column, TableSchema
from synthgen.sources import open_source

Floats = npt.NDArray[np.float64]

INDEX = "bundle.json"
TABLES = (".csv", ".parquet")
#: Parts of names that a network for sampling has no tensor of.
TRAINING_ONLY = re.compile(r"critic|discriminator|optim|exp_avg|moment|adam|rng|row", re.IGNORECASE)
_NUMBER = re.compile(rb"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w])")
#: Bytes by which texts are looked for.
PREFIX = 6


@dataclass(frozen=True)
class Finding:
    """One rule that one file breaks for one column.

    Attributes
    ----------
    file : str
        Relative to what was audited.
    column : str
        Empty for a rule about the whole file.
    rule : str
    count : int
        Distinct values, files or tensors that break it.
    """

    file: str
    column: str
    rule: str
    count: int

    def __str__(self) -> str:
        column = f"column '{self.column}': " if self.column else ""
        return f"{self.file}: {column}{self.count:,} {self.rule}"


@dataclass(frozen=True, repr=False)
class Lonely:
    """The values of one column that fewer than k rows share.

    Attributes
    ----------
    column : str
    texts : tuple of str
        Telling texts: of categories, ids, personal data.
    dates : tuple of str
        Of a datetime, in ISO 8601.
    numbers : (L,) float64
        Telling numbers.
    """

    column: str
    texts: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    numbers: Floats = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, repr=False)
class Table:
    """What the scan knows of the real table.

    Attributes
    ----------
    frame : DataFrame
        All rows, canonical.
    schema : TableSchema
    k : int
    """

    frame: pd.DataFrame
    schema: TableSchema
    k: int

    def counts(self, values: pd.Series) -> pd.Series:
        """Return the rows, or entities, of each distinct present value of (N,) `values`."""
        if self.schema.entity is None:
            return values.value_counts()
        pairs = pd.DataFrame({"value": values, "key": self.frame[self.schema.entity.name]})
        return pairs.drop_duplicates()["value"].value_counts()

    def few(self, values: pd.Series) -> pd.Index[Any]:
        """Return the distinct values of fewer than k."""
        counts = self.counts(values)
        return counts.index[counts < self.k]

    def lonely(self) -> list[Lonely]:
        """Return the telling values of each column that fewer than k rows share."""
        public = "\n".join(self._public_texts())
        return [self._lonely(c, public) for c in self.schema.columns]

    def _public_texts(self) -> Iterator[str]:
        for column in self.schema.columns:
            yield column.name
            yield from column.categories or ()
            if column.kind in ("categorical", "id", "text"):
                counts = self.counts(self.frame[column.name])
                yield from counts.index[counts >= self.k]

    def _lonely(self, column: Column, public: str) -> Lonely:
        values = self.frame[column.name]
        if column.kind == "numeric":
            few = np.sort(self.few(values).to_numpy(np.float64))
            declared = [b for b in (column.minimum, column.maximum) if b is not None]
            if column.source == "declared":
                few = few[~np.isin(few, np.array(declared, np.float64))]
            return Lonely(column.name, numbers=_telling_numbers(few, values, self.k))
        if column.kind == "datetime":
            return Lonely(column.name, dates=tuple(_dates(self, values)))
        if column.kind == "boolean":
            return Lonely(column.name)
        texts = [t for t in self.few(values) if _is_telling(t) and t not in public]
        return Lonely(column.name, texts=tuple(texts))


def _is_telling(text: str) -> bool:
    if len(text.encode()) < PREFIX or (text.isdigit() and len(text) < 7):
        return False
    return not re.fullmatch(r"[a-z]+", text)


def _telling_numbers(few: Floats, values: pd.Series, k: int) -> Floats:
    """Return the numbers of `few` (sorted) that would not recur by chance."""
    known = np.sort(values.dropna().to_numpy(np.float64))
    if not len(few):
        return few
    ends = known[min(k, len(known)) - 1], known[-min(k, len(known))]
    places = np.array([len(f"{abs(v):.15g}".partition(".")[2]) for v in few])
    usual = np.sort(
        [len(f"{abs(v):.15g}".partition(".")[2]) for v in known[:: len(known) // 1000 + 1]]
    )
    unusual = places > usual[int(0.99 * (len(usual) - 1))]
    digits = np.array([_n_digits(v) for v in few])
    telling = (digits >= 7) | ((digits >= 5) & ((few <= ends[0]) | (few >= ends[1]) | unusual))
    return np.asarray(few[telling])


def _n_digits(value: float) -> int:
    """Return how many significant digits a number is written with.

    >>> _n_digits(918273.64), _n_digits(7_000_000.0), _n_digits(0.05)
    (8, 1, 1)
    """
    return len(f"{abs(value):.14e}".partition("e")[0].replace(".", "").rstrip("0"))


def _n_places(value: float) -> int:
    return len(f"{abs(value):.15g}".partition(".")[2])


def _dates(table: Table, values: pd.Series) -> Iterator[str]:
    """Yield lonely points in time and lonely days, as they may be written."""
    wall = values.dt.tz_localize(None) if values.dt.tz is not None else values
    days = wall.dt.floor("D")
    for day in table.few(days):
        yield day.date().isoformat()
    timed = wall[wall != days]
    for stamp in table.few(timed):
        for separator in ("T", " "):
            yield stamp.isoformat(sep=separator)


# --- where to look ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scan:
    """What was looked at, and what was found.

    Attributes
    ----------
    k : int
    of : str
        What k counts: ``rows``, or the name of the entity key.
    rows : int
    files : tuple of str
    findings : tuple of Finding
    """

    k: int
    of: str
    rows: int
    files: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def scan(place: str | Path, *data: str, schema: str | Path | None = None) -> Scan:
    """Search `place` for what fewer than k rows of `data`, taken together, share.

    Parameters
    ----------
    place : str or Path
        A bundle; a run folder, of which everything outside ``private/`` and the bundle in it is
        looked at; a folder with an exported table; or a file.
    *data : str
        The real table; after a warm start, that of the bundle it started from as well: what was
        kept of it stands for k of its rows.
    schema : str or Path, optional
        Its schema; left out: the one in `place`, or an inferred one.

    Raises
    ------
    ConfigError
        If there is nothing at `place`.
    DataError
        If `data` do not conform to the schema.
    """
    place = Path(place)
    if not place.exists():
        raise ConfigError(f"{place} is not there")
    own = place / "schema.toml"
    if schema is not None:
        known = TableSchema.load(schema)
    else:
        known = TableSchema.load(own) if own.is_file() else infer(open_source(data[0]))
    known = known.without_drafts()
    tables = [conform_packed(open_source(d, known).batches(), known) for d in data]
    frame = pd.concat([t.unpack().data for t in tables], ignore_index=True)
    k = RunConfig().encode.min_rows
    if (place / "config.toml").is_file():
        k = RunConfig.load(place / "config.toml").encode.min_rows
    table = Table(frame, known, k)
    lonely = table.lonely()
    root = place if place.is_dir() else place.parent
    findings: list[Finding] = []
    files = list(_files(place))
    for path in files:
        name = str(path.relative_to(root))
        findings += _search(path, name, lonely)
    for bundle in dict.fromkeys(p.parent for p in files if p.name == INDEX):
        findings += _search_bundle(bundle, bundle.relative_to(root), table)
    of = "rows" if known.entity is None else known.entity.name
    names = tuple(str(p.relative_to(root)) for p in files)
    return Scan(k, of, len(frame), names, tuple(findings))


def _files(place: Path) -> Iterator[Path]:
    """Yield every file to search; of a run folder's private part the bundle only."""
    if place.is_file():
        yield place
        return
    is_run = (place / "private").is_dir()
    for path in sorted(place.rglob("*")):
        inside = path.relative_to(place).parts
        if path.is_file() and not (is_run and inside[0] == "private" and inside[1] != "bundle"):
            yield path


# --- any file -----------------------------------------------------------------------------------


def _search(path: Path, name: str, lonely: Sequence[Lonely]) -> Iterator[Finding]:
    """Yield what the bytes of one file hold; of a table, texts only: its numbers are drawn."""
    is_table = path.suffix in TABLES
    content = _table_bytes(path) if path.suffix == ".parquet" else path.read_bytes()
    for column, count in _texts_in(content, lonely, dates=not is_table):
        yield Finding(name, column, "texts or times that too few rows hold", count)
    if is_table:
        return
    written = _numbers_in(content)
    for one in lonely:
        found = np.isin(one.numbers, written)
        if path.suffix == ".safetensors" or not _is_text(content):
            found |= _is_packed_in(one.numbers, content)
        if found.any():
            yield Finding(name, one.column, "numbers that too few rows hold", int(found.sum()))


def _table_bytes(path: Path) -> bytes:
    table = pq.read_table(path)
    texts = table.select([f.name for f in table.schema if str(f.type).endswith("string")])
    return str(texts.to_pandas().to_csv(index=False)).encode()


def _is_text(content: bytes) -> bool:
    return b"\0" not in content


def _texts_in(
    content: bytes, lonely: Sequence[Lonely], *, dates: bool
) -> Iterator[tuple[str, int]]:
    """Yield each column with the number of its lonely texts that `content` holds."""
    wanted: dict[bytes, set[tuple[str, str]]] = {}
    for one in lonely:
        for text in (*one.texts, *(one.dates if dates else ())):
            for form in _forms(text):
                wanted.setdefault(form, set()).add((one.column, text))
    by_prefix: dict[bytes, list[bytes]] = {}
    for form in wanted:
        by_prefix.setdefault(form[:PREFIX], []).append(form)
    found: set[tuple[str, str]] = set()
    for position in _places_of(content, list(by_prefix)):
        for form in by_prefix[content[position : position + PREFIX]]:
            if content.startswith(form, position):
                found |= wanted[form]
    for column in dict.fromkeys(column for column, _ in sorted(found)):
        yield column, sum(c == column for c, _ in found)


def _forms(text: str) -> set[bytes]:
    """Return how a text may be written: plain, escaped for JSON or HTML, in two bytes a letter."""
    plain = {text, json.dumps(text)[1:-1], html.escape(text)}
    return {t.encode() for t in plain} | {text.encode("utf-16-le")}


def _places_of(content: bytes, prefixes: Sequence[bytes]) -> Iterable[int]:
    """Return where one of the prefixes, `PREFIX` bytes each, stands."""
    raw = np.frombuffer(content, np.uint8).astype(np.uint64)
    if len(raw) < PREFIX or not prefixes:
        return ()
    shifts = [np.uint64(8 * j) for j in range(PREFIX)]
    windows = sum(raw[j : len(raw) - PREFIX + 1 + j] << shift for j, shift in enumerate(shifts))
    wanted = np.array([int.from_bytes(p, "little") for p in prefixes], np.uint64)
    places: list[int] = np.flatnonzero(np.isin(windows, wanted)).tolist()
    return places


def _numbers_in(content: bytes) -> Floats:
    """Return all numbers that are written in `content`."""
    if not _is_text(content):
        return np.zeros(0)
    return np.array([float(m.replace(b",", b"")) for m in _NUMBER.findall(content)], np.float64)


def _is_packed_in(numbers: Floats, content: bytes) -> npt.NDArray[np.bool_]:
    """Return which of (L,) numbers stand in `content` in binary, of eight bytes or of four.

    Of four only large ones, which weights hardly are.
    """
    found = np.zeros(len(numbers), bool)
    for start in range(8):
        size = (len(content) - start) // 8 * 8
        found |= np.isin(numbers, np.frombuffer(content, "<f8", size // 8, start))
    with np.errstate(over="ignore"):
        small = numbers.astype("<f4")
    for start in range(4):
        size = (len(content) - start) // 4 * 4
        packed = np.frombuffer(content, "<f4", size // 4, start)
        found |= (np.abs(numbers) >= 1_000) & np.isfinite(small) & np.isin(small, packed)
    return found


# --- bundles ------------------------------------------------------------------------------------


def _search_bundle(bundle: Path, name: Path, table: Table) -> Iterator[Finding]:
    from synthgen.synthesizer import BUNDLE_FILES, Synthesizer

    expected = {INDEX, *BUNDLE_FILES}
    for path in sorted(bundle.rglob("*")):
        if str(path.relative_to(bundle)) not in expected or path.is_symlink():
            yield Finding(str(name / path.relative_to(bundle)), "", "file that no bundle has", 1)
    yield from _search_tensors(bundle / BUNDLE_FILES[-1], str(name / BUNDLE_FILES[-1]))
    try:
        Synthesizer.load(bundle, device="cpu")
    except SynthgenError:
        yield Finding(str(name / INDEX), "", "bundle that cannot be loaded", 1)
    schema, encoder = _read_encoder(bundle)
    if schema is None or encoder is None:
        yield Finding(str(name / "encoder.json"), "", "encoder that cannot be read", 1)
        return
    for column in schema.drafts:
        rule = "bounds or categories that were read from the data"
        yield Finding(str(name / "schema.toml"), column, rule, 1)
    yield from _search_encoder(encoder, str(name / "encoder.json"), table)


def _read_encoder(bundle: Path) -> tuple[TableSchema | None, TableEncoder | None]:
    try:
        schema = TableSchema.load(bundle / "schema.toml")
        return schema, TableEncoder.load(bundle / "encoder.json", schema)
    except (SynthgenError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return None, None


def _search_tensors(path: Path, name: str) -> Iterator[Finding]:
    try:
        with safe_open(path, framework="np") as file:
            names, metadata = list(file.keys()), file.metadata()
    except (SafetensorError, OSError):
        yield Finding(name, "", "file of weights that cannot be read", 1)
        return
    odd = [n for n in names if TRAINING_ONLY.search(n)]
    if odd:
        yield Finding(name, "", "tensors of a critic, an optimizer or rows", len(odd))
    if metadata:
        yield Finding(name, "", "notes in the header", len(metadata))


def _search_encoder(encoder: TableEncoder, name: str, table: Table) -> Iterator[Finding]:
    """Yield what the encoder keeps of fewer than k rows, by what its numbers mean."""
    if {c.name for c in encoder.schema.modelled} - set(table.frame):
        yield Finding(name, "", "encoder of columns that the table does not have", 1)
        return
    reduced, columns = table.frame.copy(deep=False), list(encoder.schema.modelled)
    for relation in encoder.relations:
        if isinstance(relation, Lookup):
            few = set(table.few(reduced[relation.source].astype("str")))
            if count := len(few & {str(level) for level in relation.levels}):
                yield Finding(name, relation.source, "levels of a look-up in too few rows", count)
        relation.reduce(reduced, columns)
    for part in encoder.parts:
        column = encoder.column(part.column)
        values = views_of(reduced[part.column], column)[part.view]
        for rule, count in _search_part(part, pd.Series(values), column, table):
            if count:
                yield Finding(name, part.column, rule, count)


def _search_part(
    part: Part, values: pd.Series, column: Column, table: Table
) -> Iterator[tuple[str, int]]:
    encoder = part.encoder
    assert isinstance(encoder, CategoricalEncoder | NumericEncoder)
    below = encoder.counts[(encoder.counts > 0) & (encoder.counts < table.k)]
    if below.sum() < table.k and table.k <= encoder.counts.sum():
        yield f"counts below {table.k}", len(below)
    if isinstance(encoder, CategoricalEncoder):
        texts = table.few(values.astype("str") if values.dtype == "boolean" else values)
        yield "levels in too few rows", len(set(texts) & set(encoder.levels))
        return
    few = table.few(values).to_numpy(np.float64)
    public = [b for b in (column.minimum, column.maximum) if isinstance(b, int | float)]
    few = few[~np.isin(few, np.array(public, np.float64))]
    exact = encoder.lower == encoder.upper
    yield "exact values in too few rows", int(np.isin(encoder.lower[exact], few).sum())
    ends = np.unique(np.r_[encoder.lower[~exact], encoder.upper[~exact]])
    yield "boundaries that are the value of too few rows", int(np.isin(ends, few).sum())
