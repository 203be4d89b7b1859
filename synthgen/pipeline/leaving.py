"""The stage `export`: out of the run folder, by its own passed decision, and written down."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from synthgen.audit_log import AuditLog
from synthgen.errors import GateRefused
from synthgen.export import Manifest
from synthgen.export import export as write_export
from synthgen.pipeline.drawing import synthetic_table
from synthgen.pipeline.judging import refusal
from synthgen.pipeline.stage import stage
from synthgen.pipeline.statements import privacy_statement, provenance
from synthgen.run_folder import Receipt, RunFolder
from synthgen.sinks import open_sink
from synthgen.uri import absolute


def export(
    folder: RunFolder,
    *,
    to: str | Path | None = None,
    overwrite: bool | None = None,
    keep_formulas: bool = False,
) -> Receipt:
    """Write the synthetic table to the target (or `to`), with its manifest, if its decision passed.

    Raises
    ------
    GateRefused
        Naming each rule that refused it.
    """
    replace = may_overwrite(folder) if overwrite is None else overwrite
    with stage(folder, "export"):
        config, decision = folder.config, folder.decision
        if not decision.passed:
            raise GateRefused(refusal(decision))
        AuditLog.default().entries()  # nothing leaves that could not be written down
        manifest = write_export(
            synthetic_table(folder),
            decision,
            config.to if to is None else to,
            # Rows and seconds of the stages are statistics of real rows.
            manifest=provenance(folder)
            | {"stages": {} if folder.draw.get("dp") else folder.stages},
            overwrite=replace,
            keep_formulas=keep_formulas or config.export.keep_formulas,
            privacy=privacy_statement(folder.draw.get("dp")),
            measured=folder.draw.get("dp") is None,
        )
        folder.write(folder.manifest_path, manifest.to_json())
        target = absolute(config.to if to is None else str(to))
        spent = folder.draw.get("dp")
        audit_export(
            "export",
            target,
            manifest,
            run=folder.root.name,
            inputs=folder.digests("ingest"),
            epsilon=None if spent is None else spent["epsilon"],
        )
        return folder.finish(
            Receipt("export", target, manifest.sha256, manifest.rows), folder.manifest_path
        )


def audit_export(what: str, target: str, manifest: Manifest, **facts: Any) -> None:
    """Write down that a table has left."""
    text = manifest.to_json()
    AuditLog.default().append(
        what,
        **facts,
        target=target,
        rows=manifest.rows,
        synthesizer=manifest.synthesizer,
        decision={k: manifest.decision.get(k) for k in ("passed", "fingerprint")},
        outputs={
            "target": manifest.sha256,
            "manifest": hashlib.sha256(text.encode()).hexdigest(),
        },
    )


def export_to(
    folder: RunFolder, to: str | Path, *, overwrite: bool = False, keep_formulas: bool = False
) -> Manifest:
    """Export an earlier run to another target, by the decision that it has."""
    sink = open_sink(str(to))
    sink.check(overwrite=overwrite)
    with folder.held(), sink.hold():
        export(folder, to=to, overwrite=overwrite, keep_formulas=keep_formulas)
    return folder.manifest


def may_overwrite(folder: RunFolder) -> bool:
    """Whether a target that is there may be replaced: it was asked for, or it is this run's own.

    A run that was cut off while it exported has left nothing, a file without its manifest, or both.
    """
    config = folder.config
    if config.overwrite or not folder.has_begun("export"):
        return config.overwrite
    text = open_sink(config.to).manifest()
    if text is None:
        return True
    found = Manifest.from_json(text)
    return (found.facts.get("run"), found.synthesizer) == (
        folder.root.name,
        folder.draw["synthesizer"],
    )
