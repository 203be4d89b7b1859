"""Who did what, when, from what: one line each, every line sealed to the one before.

JSON lines in the data folder of synthgen (``$SYNTHGEN_HOME/audit.jsonl``), mode 0600, synced before
anybody goes on. A line holds its own SHA-256 and that of the line before it: one that is changed,
left out or moved breaks the chain. (The last lines can be cut off unseen; `verify` then misses the
line of the manifest that it is asked about.) Names, digests, counts; never a cell or a secret.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from synthgen.errors import ConfigError
from synthgen.files import append_line, home, reserve

GENESIS = "0" * 64


@dataclass(frozen=True)
class AuditLog:
    """The log at `path`; it need not exist yet."""

    path: Path

    @classmethod
    def default(cls) -> AuditLog:
        """Return the log of this user's data folder."""
        return cls(home() / "audit.jsonl")

    def append(self, what: str, **facts: Any) -> dict[str, Any]:
        """Add one line and return its entry; it is on the disk then.

        Parameters
        ----------
        what : str
            The deed: ``spend``, ``train``, ``refuse``, ``export``, ``sample``, ``promote`` ...
        **facts
            ``run``, ``inputs`` and ``outputs`` (name to SHA-256), ``decision``, ``epsilon``.

        Raises
        ------
        ConfigError
            If the log is damaged: nothing is added to a broken chain.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with reserve(self.path, wait=True):
            entries = self.entries()
            entry = {
                "number": len(entries),
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "who": f"{_user()}@{socket.gethostname()}",
                "what": what,
                **facts,
                "previous": entries[-1]["sha256"] if entries else GENESIS,
            }
            entry["sha256"] = _seal(entry)
            append_line(self.path, json.dumps(entry))
        return entry

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries; ConfigError if the chain is broken."""
        entries, problems = self.read()
        if problems:
            raise ConfigError(
                f"the audit log {self.path} is damaged ({problems[0]}); keep it as evidence, "
                "move it away, and a new one will begin"
            )
        return entries

    def read(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the entries that can be read, and what is broken, by line."""
        if not self.path.exists():
            return [], []
        entries, problems, previous = [], [], GENESIS
        text = self.path.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                entry = json.loads(line)
                if entry["sha256"] != _seal(entry):
                    problems.append(f"line {number} was changed")
                elif entry["previous"] != previous:
                    problems.append(f"line {number} does not follow the line before it")
                previous = str(entry["sha256"])
                entries.append(entry)
            except (ValueError, TypeError, KeyError):
                problems.append(f"line {number} is no entry (cut off?)")
        return entries, problems


def _seal(entry: Mapping[str, Any]) -> str:
    """Return the SHA-256 of an entry without its own."""
    rest = {key: value for key, value in entry.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a number without a name
        return str(os.getuid())
