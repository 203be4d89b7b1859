"""What Prefect must find in the environment before it is imported. Nothing set by a user changes.

>>> "DO_NOT_TRACK" in DEFAULTS
True
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from synthgen.files import forbid_core_dumps

#: No telemetry; no result or exception of ours pickled by default; start-up limits that a busy
#: machine with two cores meets (the defaults of 20 and 30 s were missed).
DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_LOGGING_LOG_PRINTS": "false",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    # kept in memory, the GPU's slot would stay taken for ever when the server dies
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
}


def set_defaults() -> None:
    """Set what a user left unset, and forbid core dumps."""
    forbid_core_dumps()
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def use_temporary_server() -> None:
    """Give a process without a Prefect of its own a private home that vanishes with it.

    A user with ``PREFECT_API_URL``, ``PREFECT_HOME`` or a profile keeps what they configured.
    """
    set_defaults()
    configured = {"PREFECT_API_URL", "PREFECT_HOME", "PREFECT_PROFILE"} & set(os.environ)
    if configured or (Path.home() / ".prefect" / "profiles.toml").exists():
        return
    home = tempfile.mkdtemp(prefix="synthgen-prefect-")  # mode 0700
    # registered before Prefect is imported, so it runs after Prefect has stopped its server
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ["PREFECT_HOME"] = home
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    # It retries what its database refuses for a moment, but not without a traceback on our stderr.
    # What it cannot do at all reaches us as an error of its API.
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
