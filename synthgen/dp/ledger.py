"""What was spent on each source, written down before it is spent.

One JSON object a line in the user's state folder, mode 0600. A source is known by keyed digests of
its place and of its bytes, so that the ledger names no file, and a copy under another name is the
same source. A crash after the entry leaves the budget spent: that is the safe side.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from synthgen.dp.accountant import Mechanism, epsilon
from synthgen.errors import ConfigError
from synthgen.files import append_line, reserve, sync

KEY_BYTES = 32


def default_folder() -> Path:
    """Return the user's state folder of synthgen (XDG base directories)."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "synthgen"


@dataclass(frozen=True)
class Ledger:
    """The record of all spending.

    Attributes
    ----------
    folder : Path
        Holds ``ledger.jsonl`` and the key of the digests, ``ledger.key``.
    """

    folder: Path

    def source(self, place: str, content: str) -> tuple[str, str]:
        """Return the keyed digests of where a source is, and of what its content's digest is."""
        key = self._key()
        return _digest(key, place), _digest(key, content)

    def spend(
        self,
        source: Sequence[str],
        mechanisms: Sequence[Mechanism],
        *,
        delta: float,
        cap: float,
        run: str,
        attempt: str | None = None,
    ) -> float:
        """Write down that `mechanisms` are about to read `source`; return the total epsilon.

        The total is that of all entries of the source, composed, at the largest delta among them.
        The entry is on the disk when this returns. An entry of the same `attempt`, a secret random
        name, about the same reading was made before an interruption: it is not made twice.

        Raises
        ------
        ConfigError
            If the total would exceed `cap`; then nothing is written.
        """
        self._key()
        with reserve(self.folder / "ledger"):
            reading = {
                "run": run,
                "attempt": attempt,
                "source": list(source),
                "delta": delta,
                "mechanisms": [asdict(m) for m in mechanisms],
            }
            if attempt and any(reading.items() <= e.items() for e in self._entries()):
                return self.spent(source)
            total = self.spent(source, extra=mechanisms, delta=delta)
            if total > cap:
                before = self.spent(source)
                raise ConfigError(
                    f"privacy budget: epsilon {before:.2f} of at most {cap:g} is spent on this "
                    f"source, and with this run it would be {total:.2f}; sample from an earlier "
                    "bundle, which costs nothing, or raise train.dp.cap"
                )
            stamp = datetime.now(UTC).isoformat(timespec="seconds")
            entry = {"time": stamp, "total": total, **reading}
            append_line(self.folder / "ledger.jsonl", json.dumps(entry))
        return total

    def spent(
        self, source: Sequence[str], *, extra: Sequence[Mechanism] = (), delta: float = 0.0
    ) -> float:
        """Return the epsilon of all entries about `source`, by place or by bytes, and of `extra`.

        Raises
        ------
        ConfigError
            If the ledger is damaged: an unreadable entry may have been spending.
        """
        entries = [e for e in self._entries() if set(e["source"]) & set(source)]
        mechanisms = [Mechanism(**m) for e in entries for m in e["mechanisms"]] + list(extra)
        delta = max([delta, *(float(e["delta"]) for e in entries)])
        return epsilon(_merged(mechanisms), delta)

    def _entries(self) -> list[dict[str, Any]]:
        path = self.folder / "ledger.jsonl"
        if not path.exists():
            return []
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            return [_checked(json.loads(line)) for line in lines]
        except (ValueError, TypeError, LookupError):
            raise ConfigError(
                f"the privacy ledger {path} is damaged, so what was spent is not known; "
                "restore it from a backup"
            ) from None

    def _key(self) -> bytes:
        """Return the key of the digests; made once, whole or not at all.

        Without it no source is recognised, and all that was spent would be forgotten.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / "ledger.key"
        if not path.exists():
            if (self.folder / "ledger.jsonl").exists():
                raise ConfigError(
                    f"the key of the privacy ledger, {path}, is gone, so what was spent on a "
                    "source is not known; restore it from a backup"
                )
            self._make_key(path)
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise ConfigError(f"the key of the privacy ledger, {path}, is damaged; restore it")
        return key

    def _make_key(self, path: Path) -> None:
        temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first: its key holds
            os.link(temporary, path)
        temporary.unlink()
        sync(self.folder)


def _checked(entry: dict[str, Any]) -> dict[str, Any]:
    """Return `entry` if it says what was spent on what; else raise what reading it raises."""
    [Mechanism(**m) for m in entry["mechanisms"]]
    if not (float(entry["delta"]) > 0 and all(isinstance(s, str) for s in entry["source"])):
        raise ValueError("an entry without delta or source")
    return entry


def _digest(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _merged(mechanisms: Sequence[Mechanism]) -> list[Mechanism]:
    """Return equal mechanisms as one with their count: composing them is then one step."""
    counts: dict[Mechanism, int] = {}
    for m in mechanisms:
        one = replace(m, what="", count=1)
        counts[one] = counts.get(one, 0) + m.count
    return [replace(one, count=n) for one, n in counts.items()]
