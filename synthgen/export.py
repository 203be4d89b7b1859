"""The only way out: a synthetic table with its own passed decision becomes a file and a manifest.

A file is staged beside its target, read back and checked against the schema as it was written,
synced, put in place with one rename, and its manifest follows last: who finds a manifest finds the
whole file that it describes.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthgen.checks.check import Measurement
from synthgen.checks.expectations import check_file
from synthgen.checks.gate import Decision
from synthgen.errors import ConfigError, GateRefused, SynthgenError, TargetExists
from synthgen.files import sha256, staged
from synthgen.schema import Column, TableSchema
from synthgen.sources import local_path
from synthgen.table import SyntheticFile, SyntheticTable, write_batches

PRIVACY_STATEMENT = (
    "Measured, not proven: the checks named here found no copies or near copies beyond what fresh "
    "real rows show. There is no formal (differential) privacy guarantee."
)
#: Synthetic rows that may leave: in memory, or in a file.
Synthetic = SyntheticTable | SyntheticFile
FREE_SPACE_MARGIN = 2.0

# What spreadsheets run as a formula (OWASP, "CSV Injection"); numbers such as -3.5 are harmless.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What was exported, from what, and who decided that it may leave.

    Attributes
    ----------
    file, sha256, bytes, rows
        Name, digest and sizes of the file that it stands beside.
    table : dict
        Name and fingerprint of the schema, column names.
    synthesizer, seed
        Fingerprint of the bundle that drew the rows, and the seed of the draw.
    decision : dict
        The gate's decision: each rule with its limit and what was measured. No cell.
    escaped : dict
        CSV only: column name to the number of cells given a leading apostrophe, because a
        spreadsheet would have run them; ``(header)`` counts the names.
    facts : dict
        Versions, device, seeds and what else the caller knows.
    privacy : str
        What is promised, and what is not.
    created : str
        UTC, ISO 8601.
    """

    file: str
    sha256: str
    bytes: int
    rows: int
    table: dict[str, Any]
    synthesizer: str
    seed: int
    decision: dict[str, Any]
    escaped: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    privacy: str = PRIVACY_STATEMENT
    created: str = ""
    format: int = 1

    def to_json(self) -> str:
        """Return the manifest as JSON."""
        return json.dumps(asdict(self), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


def manifest_path(target: Path) -> Path:
    """Return where the manifest of `target` stands: ``adult.csv.manifest.json``."""
    return target.with_name(target.name + ".manifest.json")


def export(
    table: Synthetic,
    decision: Decision,
    target: str | Path,
    *,
    manifest: Mapping[str, Any],
    overwrite: bool = False,
    privacy: str = PRIVACY_STATEMENT,
    measured: bool = True,
) -> Manifest:
    """Write `table` to `target` if `decision` was made for it and passed.

    Parameters
    ----------
    table : SyntheticTable or SyntheticFile
        A RealTable is refused, by type and at run time. A file is never read whole.
    decision : Decision
        The gate's, for exactly these rows.
    target : str or Path
        A file ending in ``.csv`` or ``.parquet``, or its ``file://`` URI; its folder exists.
    manifest : mapping
        Further facts for the manifest: strings and numbers, never a cell.
    overwrite : bool
        Whether an existing target is replaced.
    privacy : str
        What the manifest says is promised.
    measured : bool
        Whether the manifest repeats what the gate measured on real rows; with differential privacy
        it must not, and names the rules only.

    Raises
    ------
    TypeError
        If `table` is not synthetic by its type.
    GateRefused
        If the decision failed, belongs to other rows, or the file as written breaks its schema.
    ConfigError, TargetExists, SynthgenError
        If the target cannot be used, is there already, or cannot be written.
    """
    if not isinstance(table, Synthetic):
        raise TypeError(f"only a SyntheticTable can be exported, not a {type(table).__name__}")
    if not decision.passed:
        raise GateRefused("the gate refused this table; nothing was exported")
    if decision.fingerprint != table.fingerprint:
        raise GateRefused("the decision was made for another table; judge this one first")
    path = check_target(target, overwrite=overwrite)
    try:
        return _write(table, decision, path, manifest, privacy, measured=measured)
    except OSError as error:
        raise SynthgenError(
            f"cannot write {path}: {error.strerror}; nothing was exported"
        ) from None


def _write(
    table: Synthetic,
    decision: Decision,
    path: Path,
    facts: Mapping[str, Any],
    privacy: str,
    *,
    measured: bool,
) -> Manifest:
    with staged(path) as temporary:
        schema, escaped = _WRITERS[path.suffix.lower()](temporary, table)
        allowed = int(decision.policy.get("max_schema_violations", 0))
        _refuse_violations(check_file(temporary, schema, name="output"), allowed)
        digest, size = sha256(temporary), temporary.stat().st_size
        # an old manifest must never describe the new file, not even for a moment
        manifest_path(path).unlink(missing_ok=True)
    written = Manifest(
        file=path.name,
        sha256=digest,
        bytes=size,
        rows=len(table),
        table={
            "name": table.schema.name,
            "fingerprint": table.schema.fingerprint,
            "columns": table.schema.names,
        },
        synthesizer=table.synthesizer,
        seed=table.seed,
        decision=json.loads(decision.to_json()) if measured else _unmeasured(decision),
        escaped=escaped,
        facts=dict(facts),
        privacy=privacy,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    with staged(manifest_path(path)) as temporary:
        temporary.write_text(written.to_json(), encoding="utf-8")
    return written


def _unmeasured(decision: Decision) -> dict[str, Any]:
    """Return what a decision says without any number that was computed from real rows."""
    rules = [rule.name for rule in decision.rules]
    return {"passed": decision.passed, "fingerprint": decision.fingerprint, "rules": rules}


def _refuse_violations(measurements: Sequence[Measurement], allowed: int) -> None:
    """Refuse more broken cells in the file as written than the decision's policy allows."""
    summary = next((m for m in measurements if m.name == "schema.output"), None)
    if (
        summary is None
        or summary.status != "measured"
        or summary.value is None
        or summary.value > allowed
    ):
        broken = [m for m in measurements if m is not summary and m.value != 0]
        listed = [f"  - {m.name}: {m.note or f'{m.value:g} {m.unit}'}" for m in broken]
        first = "the file as written breaks its schema; nothing was exported"
        raise GateRefused("\n".join([first, *listed]))


# --- targets ------------------------------------------------------------------------------------


def check_target(target: str | Path, *, overwrite: bool) -> Path:
    """Return `target`, a path or ``file://`` URI, as an absolute path that may be written to.

    Raises
    ------
    DataError
        If its scheme is another one.
    ConfigError
        If its ending names no format, it is a folder, or its folder is missing or read-only.
    TargetExists
        If it (or its manifest) is there and `overwrite` is False.
    """
    path = local_path(str(target)).absolute()
    if path.suffix.lower() not in _WRITERS:
        raise ConfigError(f"target {path}: the name must end in {' or '.join(_WRITERS)}")
    return check_place(path, overwrite=overwrite)


def check_place(path: Path, *, overwrite: bool) -> Path:
    """Return `path` if something may be put there; raises as `check_target`."""
    if not path.parent.is_dir():
        raise ConfigError(f"target {path}: the folder {path.parent} does not exist; create it")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"target {path}: the folder {path.parent} is not writable")
    if path.is_dir() and path.suffix.lower() in _WRITERS:
        raise ConfigError(f"target {path} is a folder; name a file")
    there = [p for p in (path, manifest_path(path)) if p.exists()]
    if there and not overwrite:
        raise TargetExists(f"{there[0]} is there already; use another name or --overwrite")
    return path


def check_space(path: Path, *, rows: int, columns: int) -> None:
    """Raise ConfigError if the disk of `path` cannot hold `rows` x `columns` cells twice over."""
    needed, free = rows * columns * 16 * FREE_SPACE_MARGIN, shutil.disk_usage(path.parent).free
    if needed > free:
        raise ConfigError(
            f"target {path}: about {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
        )


# --- formats ------------------------------------------------------------------------------------


def _write_parquet(path: Path, table: Synthetic) -> tuple[TableSchema, dict[str, int]]:
    write_batches(path, table.batches(), table.schema)
    return table.schema, {}


def _write_csv(path: Path, table: Synthetic) -> tuple[TableSchema, dict[str, int]]:
    """Write UTF-8 with the schema's delimiter; return the schema of what stands in the file."""
    schema, escaped = table.schema, {}
    header = [escape(name) for name in schema.names]
    if header != schema.names:
        escaped["(header)"] = sum(a != b for a, b in zip(header, schema.names, strict=True))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=schema.delimiter, lineterminator="\n")
        writer.writerow(header)
        for block in table.batches():
            columns = []
            for column in schema.columns:
                cells = column_text(block[column.name], column)
                safe = cells if column.kind in ("numeric", "datetime") else [*map(escape, cells)]
                changed = sum(a is not b for a, b in zip(safe, cells, strict=True))
                if changed:
                    escaped[column.name] = escaped.get(column.name, 0) + changed
                columns.append(safe)
            writer.writerows(zip(*columns, strict=True))
    return csv_schema(schema), escaped


_WRITERS: dict[str, Callable[[Path, Synthetic], tuple[TableSchema, dict[str, int]]]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}


def escape(text: str) -> str:
    """Return `text` with a leading apostrophe if a spreadsheet would run it as a formula.

    >>> escape("=1+1"), escape("-3.5"), escape("-x"), escape("plain")
    ("'=1+1", '-3.5', "'-x", 'plain')
    """
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def csv_schema(schema: TableSchema) -> TableSchema:
    """Return the schema of the CSV file that `schema` becomes: UTF-8, formulas escaped."""
    columns = tuple(
        dataclasses.replace(
            c,
            name=escape(c.name),
            categories=None if c.categories is None else tuple(map(escape, c.categories)),
        )
        for c in schema.columns
    )
    return dataclasses.replace(schema, columns=columns, encoding="utf-8")


def column_text(series: pd.Series, column: Column) -> list[str]:
    """Return the cells of a canonical column as they stand in a CSV file; missing is empty.

    Numbers with declared decimals have exactly these, other whole numbers have no ``.0``;
    datetimes follow the column's format, or ISO 8601 to its resolution.
    """
    if column.kind == "numeric":
        return _number_text(series.to_numpy("float64"), column.decimals)
    if column.kind == "datetime":
        return _datetime_text(series, column)
    if column.kind == "boolean":
        false, true = column.categories or ("False", "True")
        return ["" if v is pd.NA else true if v else false for v in series.array]
    return ["" if isinstance(v, float) else v for v in series.to_list()]


def _number_text(values: np.ndarray[Any, np.dtype[np.float64]], decimals: int | None) -> list[str]:
    if decimals is None:
        return ["" if v != v else repr(v).removesuffix(".0") for v in (values + 0.0).tolist()]
    rounded = np.round(values, decimals) + 0.0  # + 0.0 turns -0.0 into 0.0
    return ["" if v != v else f"{v:.{decimals}f}" for v in rounded.tolist()]


_ISO = {"day": "%Y-%m-%d", "microsecond": "%Y-%m-%dT%H:%M:%S.%f"}


def _datetime_text(series: pd.Series, column: Column) -> list[str]:
    iso = _ISO.get(column.resolution, "%Y-%m-%dT%H:%M:%S") + ("%z" if column.timezone else "")
    text = series.dt.strftime(column.format or iso)
    return [str(t) for t in text.where(series.notna(), "")]
