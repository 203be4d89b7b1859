"""What Prefect shows of a judged run: the verdict in words and the measurements; never a cell.

Reasons and notes are the gate's and the checks' own, which hold counts and column names only.
"""

from __future__ import annotations

import re
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from synthgen.report.text import visible
from synthgen.report.verdict import measure_row, reasons, summary, tiles
from synthgen.run_folder import RunFolder

VERDICT, MEASUREMENTS = "synthgen-verdict", "synthgen-measurements"


def publish(folder: RunFolder) -> None:
    """Show the verdict and the measurements of `folder` beside the task run."""
    verdict = "passed" if folder.decision.passed else "refused"
    create_markdown_artifact(markdown(folder), VERDICT, f"{folder.root.name}: {verdict}")
    create_table_artifact(table(folder), MEASUREMENTS, f"Measurements of {folder.root.name}")


def markdown(folder: RunFolder) -> str:
    """Return the verdict, why, the answers to a data owner's questions, and where the report is."""
    report, decision = folder.report, folder.decision
    lines = [
        f"# {'Passed' if decision.passed else 'Refused'}: {_text(folder.schema.name)}",
        "",
        " ".join(map(_text, summary(decision))),
        "",
        *(f"- **{_text(rule.title)}**: {_text(rule.reason)}" for rule in reasons(decision)),
        "",
        "| question | answer | | rules |",
        "|---|---|---|---|",
    ]
    for tile in tiles(report, decision):
        said = f"{tile.headline} {tile.said}".strip()
        cells = (tile.question, f"{tile.sign} {tile.word}", said, tile.count)
        lines.append(f"| {' | '.join(map(_text, cells))} |")
    report_at = f"Report: [`{_code(folder.html_path)}`]({folder.html_path.absolute().as_uri()})"
    return "\n".join([*lines, "", report_at, ""])


def table(folder: RunFolder) -> list[dict[str, Any]]:
    """Return one row a measurement."""
    rows = ((m.area, measure_row(m)) for m in folder.report)
    return [
        {
            "area": area,
            "measure": row.name,
            "value": row.value,
            "95 % interval": row.interval,
            "fresh real rows": row.control,
            "rows": row.n,
            "status": row.status,
        }
        for area, row in rows
    ]


def _text(text: str) -> str:
    """Return `text` so that Markdown shows it as it is: names of columns come from outside."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", visible(text))


def _code(path: object) -> str:
    return visible(str(path)).replace("`", "'")
