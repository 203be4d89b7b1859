"""Judge a synthetic table that anybody's tool made: same checks, same gate, same report.

It takes three files. What the generator learnt from and rows that it never saw are compared with
what it wrote: without the second, a copy could not be told from chance.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from synthgen.checks.check import Evidence
from synthgen.checks.expectations import beside, check_file, check_own, load_expectations
from synthgen.checks.gate import decide, judge
from synthgen.checks.privacy import reused
from synthgen.config import GatePolicy
from synthgen.conform import conform_loosely, conform_packed
from synthgen.errors import ConfigError, DataError, TargetExists, boundary
from synthgen.files import sha256
from synthgen.infer import infer
from synthgen.report import Figures, document, render
from synthgen.run_folder import RunFolder, now
from synthgen.schema import Column, TableSchema
from synthgen.sources import Source, open_source
from synthgen.table import fingerprint
from synthgen.uri import local_path, scheme

NO_HOLDOUT = (
    "--holdout is missing: real rows of the same kind that the generator never saw. Without them a "
    "copy cannot be told from chance, so nothing could be said about privacy. Keep a fifth of the "
    "rows back before you train, train anew, and give them here. Rows split off afterwards do not "
    "help: the generator has seen them, and a table of copies would look as good as a fresh one"
)


@dataclass(frozen=True)
class Files:
    """Paths or URIs of the three tables: what was learnt from, fresh real rows, the output."""

    real: str
    holdout: str
    synthetic: str


@dataclass(frozen=True, repr=False, kw_only=True)
class _Both(Source):
    """A table whose rows go on in another source with the same columns."""

    first: Source
    more: Source

    def batches(self) -> Iterator[pa.RecordBatch]:
        yield from self.first.batches()
        yield from (batch.select(self.names) for batch in self.more.batches())

    def digest(self) -> str:
        return self.first.digest() + self.more.digest()


def audit(
    files: Files,
    out: Path,
    *,
    schema_path: Path | None = None,
    target: str | None = None,
    policy: GatePolicy | None = None,
    seed: int = 0,
) -> tuple[RunFolder, tuple[str, ...]]:
    """Judge ``files.synthetic`` and write report and decision into the folder `out`.

    Parameters
    ----------
    files : Files
    out : Path
        Absent or empty; made with mode 0700.
    schema_path : Path, optional
        With the owner's own expectations beside it, if any. Left out: inferred from the real rows.
        Its bounds and levels are then no rules, because nobody declared them: only types are
        checked in the synthetic table.
    target : str, optional
        The column that a model will predict; without one utility is not judged.
    policy : GatePolicy, optional
    seed : int
        Of every subsample and model of the checks.

    Returns
    -------
    folder : RunFolder
        With ``schema.toml``, ``report.json``, ``report.html`` and ``decision.json``.
    notes : tuple of str
        What could not be judged, or means less than in a run of synthgen's own.

    Raises
    ------
    ConfigError
        If the holdout holds the same rows as the real table.
    DataError
        If a real table breaks the schema, or the synthetic one has other columns.
    TargetExists
        If `out` is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TargetExists(f"folder {out} is there already; name another")
    with boundary("validate"):
        schema = _schema(files, schema_path, target)
        with open_source(files.synthetic) as source:
            schema, absent = _shared(schema, source)
            rules = schema if schema_path is not None else _undeclared(schema)
            rules = _in_dialect(rules, source)
            synthetic = conform_loosely(source.batches(), rules)
        evidence = Evidence(
            schema,
            _real_rows(files.real, schema),
            _real_rows(files.holdout, schema),
            synthetic.unpack().data,
            seed=seed,
        )
        if fingerprint(evidence.train) == fingerprint(evidence.holdout):
            raise ConfigError("--holdout holds the same rows as --real; give rows it never saw")
        notes = tuple(_notes(schema, absent, is_inferred=schema_path is None))
        output = check_file(files.synthetic, rules, name="output")
        if schema_path is not None and beside(schema_path).exists():
            output += check_own(load_expectations(beside(schema_path), schema), synthetic)
        report = judge(evidence, extra=[*output, *reused(evidence)])
        # Another tool's model cannot be asked for further draws; the notes say what that means.
        asked = (policy or GatePolicy()).model_copy(update={"samples": 1})
        decision = decide(report, asked, fingerprint=fingerprint(evidence.synthetic))
        made = _provenance(files, seed, notes)
        figures = Figures.of(report, evidence)
        shown = document(report, decision, figures, made)
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        out.chmod(0o700)
        folder = RunFolder(out)
        folder.write(folder.schema_path, schema.to_toml())
        folder.write(folder.report_path, json.dumps(shown, indent=1, allow_nan=False))
        folder.write(folder.html_path, render(report, decision, figures, provenance=made))
        folder.write(folder.decision_path, decision.to_json())
    return folder, notes


def _schema(files: Files, path: Path | None, target: str | None) -> TableSchema:
    if path is not None:
        schema = TableSchema.load(path)
    else:
        with open_source(files.real) as real, open_source(files.holdout) as holdout:
            if odd := set(real.names) ^ set(holdout.names):
                names = ", ".join(f"'{n}'" for n in sorted(odd))
                raise DataError(
                    f"--real and --holdout have other columns: {names} in one of them only"
                )
            shared = {f.name: getattr(real, f.name) for f in fields(Source)}
            schema = infer(_Both(**shared, first=real, more=holdout))
    return schema if target is None else schema.with_target(target)


def _shared(schema: TableSchema, synthetic: Source) -> tuple[TableSchema, list[Column]]:
    """Return the schema without columns that are not judged and absent, and those columns."""
    absent = [c for c in schema.columns if c.name not in synthetic.names]
    problems = [
        f"column '{c.name}' is missing in the synthetic table" for c in absent if c.is_modelled
    ]
    problems += [
        f"column '{name}' is in the synthetic table only"
        for name in synthetic.names
        if name not in schema.names
    ]
    if problems:
        raise DataError("\n".join(["the synthetic table has other columns:", *problems]))
    kept = tuple(c for c in schema.columns if c not in absent)
    if not any(c.is_modelled for c in kept):
        raise DataError("no column is left to judge: all of them are ids, PII or free text")
    return replace(schema, columns=kept), absent


def _undeclared(schema: TableSchema) -> TableSchema:
    """Return `schema` without the bounds, levels and decimals that were only seen in the data."""
    columns = tuple(
        replace(
            c,
            nullable=True,
            minimum=None,
            maximum=None,
            decimals=None if c.kind == "numeric" else c.decimals,
            categories=c.categories if c.kind == "boolean" else None,
        )
        for c in schema.columns
    )
    return replace(schema, columns=columns)


def _in_dialect(schema: TableSchema, source: Source) -> TableSchema:
    return replace(schema, delimiter=source.delimiter, encoding=source.encoding)


def _real_rows(uri: str, schema: TableSchema) -> pd.DataFrame:
    with open_source(uri) as source:
        schema = _in_dialect(schema, source)
        known = [name for name in source.names if name in schema.names]
        batches = (batch.select(known) for batch in source.batches())
        return conform_packed(batches, schema).unpack().data


def _notes(schema: TableSchema, absent: Sequence[Column], *, is_inferred: bool) -> Iterator[str]:
    if is_inferred:
        yield (
            "no schema was given: only the types of the synthetic cells were checked; bounds, "
            "levels and missing cells are rules once a schema declares them (--schema)"
        )
    if schema.target is None:
        yield "no target was named: usefulness for prediction was not judged (--target)"
    if not any(c.sensitive for c in schema.columns):
        yield "no column is declared sensitive: nobody tried to infer one (--schema)"
    if unjudged := [c.name for c in schema.columns if not c.is_modelled]:
        yield (
            f"of ids, personal data and free text ({', '.join(unjudged)}) one thing was judged: "
            "whether values of real rows are repeated more often than chance explains; see for "
            "yourself that what they hold may leave"
        )
    if absent:
        yield f"not in the synthetic table: {', '.join(c.name for c in absent)}"
    yield (
        "how many tables of this model were tried before is not known; it counts as the first, so "
        "do not judge many and keep the best; and it is this table that is judged, not the model: "
        "another draw may be worse"
    )


def _provenance(files: Files, seed: int, notes: Sequence[str]) -> dict[str, Any]:
    paths = {n: local_path(uri) for n, uri in vars(files).items() if scheme(uri) == "file"}
    return {
        "outside": True,
        "created": now(),
        "seed": seed,
        "files": {name: sha256(path) for name, path in paths.items() if path.is_file()},
        "notes": list(notes),
    }
