"""Which faults does the product survive? Counts what `make faults` tried, for the page.

    python benchmarks/faults.py LINES [--page docs/reliability.md] [--note "cut short after ..."]

LINES is the file to which tests/conftest.py adds a line a test that is marked ``survives(part,
fault)``. Their sums go to ``reliability.json`` beside the page, and from there into its table: no
count is made by hand. A test that failed is a fault that was not survived, one that was skipped (a
right that the user lacks) was not tried.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- faults: written by make faults -->", "<!-- faults: end -->"
ROOT = Path(__file__).parent.parent


def summed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row a fault, in the order in which they were met: tried, survived, skipped tests.

    >>> line = {"part": "IO", "fault": "a cut", "tried": 3}
    >>> summed([{**line, "outcome": "passed"}, {**line, "outcome": "failed"}])
    [{'part': 'IO', 'fault': 'a cut', 'tried': 6, 'survived': 3, 'skipped': 0}]
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        key = (line["part"], line["fault"])
        new = {"part": key[0], "fault": key[1], "tried": 0, "survived": 0, "skipped": 0}
        row = rows.setdefault(key, new)
        row["skipped"] += line["outcome"] == "skipped"
        row["tried"] += line["tried"] * (line["outcome"] != "skipped")
        row["survived"] += line["tried"] * (line["outcome"] == "passed")
    parts = list(dict.fromkeys(part for part, _ in rows))
    return sorted(rows.values(), key=lambda row: parts.index(row["part"]))


def table(found: dict[str, Any]) -> str:
    """Return the table of the page: Markdown."""
    rows = found["rows"]
    tried, survived = (sum(row[k] for row in rows) for k in ("tried", "survived"))
    lines = [
        f"{survived:,} of {tried:,} faults survived, {found['date']}, {found['machine']}."
        + (f" {found['note']}" if found["note"] else ""),
        "",
        "| part | fault | tried | survived |",
        "|---|---|---:|---:|",
    ]
    for row in rows:
        skipped = f" ({row['skipped']} skipped)" if row["skipped"] else ""
        fault = row["fault"].replace("|", "\\|")
        lines.append(
            f"| {row['part']} | {fault}{skipped} | {row['tried']:,} | {row['survived']:,} |"
        )
    return "\n".join(lines)


def written_into(page: str, found: dict[str, Any]) -> str:
    """Return the text of the page with the table of what was found."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{table(found)}\n{END}{after}"


def machine() -> str:
    """Return what the faults were tried on."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} CPU cores, {gib:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}"
    )


def main() -> None:
    """Sum, keep, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", type=Path)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "reliability.md")
    parser.add_argument("--note", default="", help="What a reader of the counts has to know.")
    asked = parser.parse_args()
    lines = [json.loads(line) for line in asked.lines.read_text().splitlines()]
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "note": asked.note,
        "rows": summed(lines),
    }
    asked.page.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    asked.page.write_text(written_into(asked.page.read_text(encoding="utf-8"), found))
    print(table(found))


if __name__ == "__main__":
    main()
