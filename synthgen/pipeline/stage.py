"""What every stage does: log its start and end, let nothing through that quotes data."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from synthgen.config import RunConfig
from synthgen.errors import ConfigError, StageError, boundary
from synthgen.files import sha256
from synthgen.run_folder import Receipt, RunFolder


def debugging() -> bool:
    """Whether a developer asked to see unforeseen exceptions, whose texts may quote data."""
    return os.environ.get("SYNTHGEN_DEBUG") == "1"


@contextmanager
def stage(folder: RunFolder, name: str) -> Iterator[None]:
    """Log start and end; let nothing through the boundary that could quote data."""
    start, cpu = time.monotonic(), time.process_time()
    try:
        with nullcontext() if debugging() else boundary(name):
            folder.forget(name)
            folder.log(stage=name, event="start")
            yield
            receipt = folder.finished(name, check=False)
            folder.log(
                stage=name,
                event="done",
                seconds=round(time.monotonic() - start, 2),
                cpu_seconds=round(time.process_time() - cpu, 2),
                rows=0 if receipt is None else receipt.rows,
                peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1_024,
            )
    except Exception as error:
        with suppress(OSError):  # a full disk takes no line more: the failure itself is told
            folder.log(stage=name, event="failed", error=type(error).__name__)
        raise
    except BaseException:  # Ctrl-C, SIGTERM, a cancelled flow run: no failure
        remedy = f"go on with: synthgen resume {folder.root}"
        with suppress(OSError):
            folder.log(stage=name, event="interrupted", text=remedy)
        raise


def seed_of(config: RunConfig) -> int:
    """Return the seed of a stored configuration, which always has one."""
    if config.seed is None:
        raise ConfigError("the run folder's config.toml has no seed")
    return config.seed


def versions(*packages: str) -> dict[str, str]:
    """Return the installed version of each package, and of Python."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def verify(receipt: Receipt) -> None:
    """Raise StageError unless the file of `receipt` is still the one that its stage wrote."""
    path = Path(receipt.path)
    if not path.is_file() or sha256(path) != receipt.sha256:
        raise StageError(f"what stage '{receipt.stage}' wrote has changed since; run it again")
