"""The stage `validate`: the table in quarantine judged against both halves."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from synthgen.audit_log import AuditLog
from synthgen.pipeline.drawing import judged_draws, synthetic_table
from synthgen.pipeline.stage import seed_of, stage
from synthgen.pipeline.statements import BEYOND_EPSILON, provenance
from synthgen.rng import derive
from synthgen.run_folder import Receipt, RunFolder
from synthgen.table import read_frame

if TYPE_CHECKING:
    from synthgen.checks.expectations import OwnExpectation, Tally
    from synthgen.checks.gate import Decision


def _counted(folder: RunFolder) -> list[Tally]:
    from synthgen.scale import counted_by_many  # brings torch, which judging alone does not need

    return counted_by_many(folder)


def validate(folder: RunFolder, *, data_docs: bool = False) -> Receipt:
    """Judge the synthetic table against both halves; write report and decision.

    With `data_docs`, or if the configuration asks for them, also a page of Great Expectations.
    """
    with stage(folder, "validate"):
        from synthgen.checks.check import Evidence
        from synthgen.checks.expectations import check_file, check_own
        from synthgen.checks.expectations import data_docs as docs_of
        from synthgen.checks.gate import decide, judge
        from synthgen.report import Figures, document, render

        config, schema = folder.config, folder.schema
        folder.decision_path.unlink(missing_ok=True)  # a crash below must not leave an old yes
        table = synthetic_table(folder)
        synthetic = read_frame(table.path, schema)
        draws = judged_draws(folder)
        for path in draws:
            folder.require(path, "generate")
        evidence = Evidence(
            schema,
            read_frame(folder.train_path, schema),
            read_frame(folder.holdout_path, schema),
            synthetic,
            seed=derive(seed_of(config), "validate") % 2**31,
            draws=tuple(read_frame(path, schema) for path in draws),
        )
        output = check_file(
            folder.synthetic_path,
            schema,
            name="output",
            real=evidence.train,
            count=partial(_counted, folder) if config.scale.is_on else None,
        )
        expected = stored_expectations(folder)
        output += check_own(expected, table)
        if data_docs or config.report.data_docs:
            folder.write(folder.docs_path, docs_of(schema, expected, output))
        attempts = folder.attempt(folder.draw["synthesizer"], table.fingerprint)
        report = judge(evidence, extra=(*folder.input, *output), attempts=attempts)
        if folder.draw.get("dp"):
            report = replace(report, facts=report.facts | {"private": BEYOND_EPSILON})
        decision = decide(report, config.gate, fingerprint=table.fingerprint)
        figures, made = Figures.of(report, evidence, folder.training), provenance(folder)
        shown = document(report, decision, figures, made)
        folder.write(folder.report_path, json.dumps(shown, indent=1, allow_nan=False))
        folder.write(folder.html_path, render(report, decision, figures, provenance=made))
        folder.write(folder.decision_path, decision.to_json())
        folder.log(stage="validate", event="note", passed=decision.passed)
        if not decision.passed:
            AuditLog.default().append(
                "refuse",
                run=folder.root.name,
                inputs=folder.digests("ingest"),
                decision={"passed": False, "fingerprint": decision.fingerprint},
                rules=[rule.name for rule in decision.failing],
            )
        return folder.finish(
            folder.receipt("validate", folder.decision_path, len(table)),
            folder.report_path,
            folder.html_path,
        )


def stored_expectations(folder: RunFolder) -> tuple[OwnExpectation, ...]:
    """Return the expectations that travelled with the run."""
    from synthgen.checks.expectations import load_expectations

    path = folder.expectations_path
    return load_expectations(path, folder.schema) if path.exists() else ()


def refusal(decision: Decision) -> str:
    """Return the sentence and the list that say why `decision` is a no."""
    rules = [f"  - {rule.name}: {rule.reason}" for rule in decision.failing]
    return "\n".join(["the gate refused the synthetic table; nothing was exported", *rules])
