"""Bundles by name and version, in one folder; what they are is what their bytes are.

``models/objects/<SHA-256>/`` holds each bundle once, ``models/<name>.json`` the versions of a name
and which of them it means. Bundles are sensitive: folders have mode 0700.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from synthgen.audit_log import AuditLog
from synthgen.errors import BundleError, ConfigError
from synthgen.files import home, reserve, sha256, staged, staged_folder

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Version:
    """One bundle under a name.

    Attributes
    ----------
    name : str
    number : int
        From 1; never given twice.
    sha256 : str
        Of the bundle's files, as ``sha256sum`` prints them.
    run : str
        Run folder that it came from; empty for a bare bundle.
    created : str
        UTC, ISO 8601.
    """

    name: str
    number: int
    sha256: str
    run: str
    created: str

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"


@dataclass(frozen=True)
class Registry:
    """The models below `root`."""

    root: Path

    @classmethod
    def default(cls) -> Registry:
        """Return the registry of this user's data folder."""
        return cls(home() / "models")

    def add(self, source: Path, name: str) -> Version:
        """Copy a bundle, or the bundle of a run folder, in as the next version of `name`.

        The first version of a name is what the name means; a later one only once it is promoted.

        Raises
        ------
        ConfigError
            If the name is none.
        BundleError
            If there is no bundle, or it is damaged.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f"model name '{name}': use a-z, 0-9, '-', '_' and '.', at most 64")
        is_run = (source / "config.toml").is_file() and (source / "private").is_dir()
        bundle = source / "private" / "bundle" if is_run else source
        if not (bundle / "bundle.json").is_file():
            raise BundleError(f"{source} is neither a bundle nor a run folder that holds one")
        digest = bundle_sha256(bundle)
        with self._changing(name) as index:
            target = self.path(digest)
            if not target.is_dir():
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with staged_folder(target, mode=0o700) as temporary:
                    shutil.copytree(bundle, temporary, symlinks=True, dirs_exist_ok=True)
            number = index["last"] + 1
            now = datetime.now(UTC).isoformat(timespec="seconds")
            version = Version(name, number, digest, str(source.absolute()) if is_run else "", now)
            index["last"] = number
            index["versions"].append(asdict(version))
            index["promoted"] = index["promoted"] or number
            AuditLog.default().append("add", model=str(version), outputs={"bundle": digest})
        return version

    def find(self, asked: str) -> tuple[Version, Path]:
        """Return the version that ``NAME`` or ``NAME@NUMBER`` means, and its bundle, checked.

        Raises
        ------
        ConfigError
            If there is none of that name or number.
        BundleError
            If its bytes are no longer what they were.
        """
        name, _, number = asked.partition("@")
        index = self._read(name)
        wanted = number or str(index["promoted"])
        found = [v for v in index["versions"] if str(v["number"]) == wanted]
        if not found:
            known = ", ".join(str(v["number"]) for v in index["versions"]) or "none"
            raise ConfigError(f"there is no model '{asked}'; versions of '{name}': {known}")
        version = Version(**found[0])
        path = self.path(version.sha256)
        if not path.is_dir() or bundle_sha256(path) != version.sha256:
            raise BundleError(f"model {version} is damaged: its bytes are not what was added")
        return version, path

    def versions(self) -> Iterator[tuple[Version, bool]]:
        """Yield every version, by name and number, and whether its name means it."""
        for file in sorted(self.root.glob("*.json")):
            index = self._read(file.stem)
            for stored in index["versions"]:
                yield Version(**stored), stored["number"] == index["promoted"]

    def promote(self, asked: str) -> Version:
        """Let the name mean this version from now on."""
        version, _ = self.find(asked)
        with self._changing(version.name) as index:
            index["promoted"] = version.number
            AuditLog.default().append(
                "promote", model=str(version), inputs={"bundle": version.sha256}
            )
        return version

    def remove(self, asked: str) -> Version:
        """Forget a version that is not the promoted one, and its bytes if no other has them.

        Raises
        ------
        ConfigError
            If it is the promoted one of several.
        """
        name, _, number = asked.partition("@")
        if not number:
            raise ConfigError(f"say which version to remove: {name}@NUMBER")
        with self._changing(name) as index:
            found = [v for v in index["versions"] if str(v["number"]) == number]
            if not found:
                raise ConfigError(f"there is no model '{asked}'")
            if found[0]["number"] == index["promoted"] and len(index["versions"]) > 1:
                raise ConfigError(f"{asked} is what '{name}' means; promote another version first")
            index["versions"].remove(found[0])
            if not index["versions"]:
                index["promoted"] = 0
            version = Version(**found[0])
            AuditLog.default().append(
                "remove", model=str(version), inputs={"bundle": version.sha256}
            )
        if all(version.sha256 != other.sha256 for other, _ in self.versions()):
            shutil.rmtree(self.path(version.sha256), ignore_errors=True)
        return version

    def path(self, digest: str) -> Path:
        """Return the folder of the bundle with that SHA-256."""
        return self.root / "objects" / digest

    def _read(self, name: str) -> dict[str, Any]:
        file = self.root / f"{name}.json"
        if not _NAME.fullmatch(name) or not file.is_file():
            return {"last": 0, "promoted": 0, "versions": []}
        return dict(json.loads(file.read_text(encoding="utf-8")))

    @contextmanager
    def _changing(self, name: str) -> Iterator[dict[str, Any]]:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self.root / f"{name}.json"
        with reserve(file, wait=True):
            index = self._read(name)
            yield index
            with staged(file, mode=0o600) as temporary:
                temporary.write_text(json.dumps(index, indent=1), encoding="utf-8")


def resolve(asked: str) -> Path:
    """Return the bundle folder that a path or a model's name means: a path that is there wins."""
    path = Path(asked)
    return path if path.exists() or "/" in asked else Registry.default().find(asked)[1]


def resolve_run(asked: str) -> Path:
    """Return the run folder that a path means, or that a model came from.

    Raises
    ------
    ConfigError
        If the model came from a bare bundle, or its run folder is gone.
    """
    path = Path(asked)
    if path.exists() or "/" in asked:
        return path
    version, _ = Registry.default().find(asked)
    if not version.run or not Path(version.run).is_dir():
        raise ConfigError(
            f"the run folder of model {version} is not there, and with it its table and decision; "
            f"draw new rows: synthgen sample {version} --rows N --to FILE"
        )
    return Path(version.run)


def bundle_sha256(folder: Path) -> str:
    """Return the SHA-256 of the names and digests of a bundle's files."""
    from synthgen.sinks.formats import sha256_of_parts

    return sha256_of_parts({p.name: sha256(p) for p in sorted(folder.iterdir()) if p.is_file()})
