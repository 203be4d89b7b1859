"""The only way out: a synthetic table with its own passed decision gets to a sink, with a manifest.

What is written is read back and checked before it is put in place as a whole, and its manifest
follows last: who finds a manifest finds the whole table that it describes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from synthgen.checks.check import Measurement
from synthgen.checks.expectations import check_file
from synthgen.checks.gate import Decision
from synthgen.errors import GateRefused
from synthgen.schema import TableSchema
from synthgen.sinks import Synthetic, Written, open_sink

PRIVACY_STATEMENT = (
    "Measured, not proven: the checks named here found no copies or near copies beyond what fresh "
    "real rows show. There is no formal (differential) privacy guarantee."
)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What was exported, from what, and who decided that it may leave.

    Attributes
    ----------
    file, sha256, bytes, rows, parts
        Name (of a table of a database: its URI), digest and sizes of what it describes; see
        `Written`.
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
    parts: dict[str, str] = field(default_factory=dict)
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


def export(
    table: Synthetic,
    decision: Decision,
    target: str | Path,
    *,
    manifest: Mapping[str, Any],
    overwrite: bool = False,
    keep_formulas: bool = False,
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
        A path or URI as `open_sink` takes it.
    manifest : mapping
        Further facts for the manifest: strings and numbers, never a cell.
    overwrite : bool
        Whether an existing target is replaced.
    keep_formulas : bool
        Of CSV: whether texts that a spreadsheet would run are written as they are.
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
    allowed = int(decision.policy.get("max_schema_violations", 0))

    def judge(path: Path, schema: TableSchema) -> None:
        _refuse_violations(check_file(path, schema, name="output"), allowed)

    def describe(written: Written) -> Manifest:
        return Manifest(
            file=written.file,
            sha256=written.sha256,
            bytes=written.bytes,
            rows=written.rows,
            table={
                "name": table.schema.name,
                "fingerprint": table.schema.fingerprint,
                "columns": table.schema.names,
            },
            synthesizer=table.synthesizer,
            seed=table.seed,
            decision=json.loads(decision.to_json()) if measured else _unmeasured(decision),
            escaped=dict(written.escaped),
            parts=dict(written.parts),
            facts=dict(manifest),
            privacy=privacy,
            created=created,
        )

    created = datetime.now(UTC).isoformat(timespec="seconds")
    sink = open_sink(str(target), keep_formulas=keep_formulas)
    written = sink.put(table, judge, lambda w: describe(w).to_json(), overwrite=overwrite)
    return describe(written)


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
