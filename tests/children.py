"""Work in forked processes, which are cut off, or run short of something, where a test says.

A fork of a test's own process has everything imported: a round costs what the work itself costs.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthgen.cli import main
from synthgen.cli.app import terminate

#: What opens, makes, moves or removes a file, as Python's audit events have it: before it happens.
_FILE_EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate"}
_TICKS = os.sysconf("SC_CLK_TCK")


def start(work: Callable[[], Any]) -> int:
    """Begin `work` in a forked process; return its number. It ends with `work`'s exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.signal(signal.SIGTERM, terminate)  # as the command line does
            work()
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:  # as Python itself would end
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    return pid


def command(said: Path, *arguments: str, limit: Callable[[], None] | None = None) -> int:
    """Begin ``synthgen ARGUMENTS`` in a forked process, under `limit`; it speaks to `said`."""

    def work() -> None:
        handle = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(handle, 2)
        os.dup2(handle, 1)
        sys.stderr = sys.stdout = os.fdopen(2, "w", closefd=False)
        sys.argv = ["synthgen", *arguments]
        if limit is not None:
            limit()
        try:
            main()
        finally:
            sys.stderr.flush()

    return start(work)


def ended(pid: int) -> int:
    """Wait for a process; return its exit code, negative for a signal's number."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_a_child(work: Callable[[], Any]) -> int:
    """Run `work` in a forked process; return its exit code, negative for a signal's number."""
    return ended(start(work))


def cut_at_rename(name: str) -> None:
    """Let this process be killed when a file is about to get its final `name`."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "os.rename" and Path(args[1]).name == name:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def on_files_of(root: Path, act: Callable[[int], None]) -> None:
    """Let this process call `act` with 0, 1, 2 ... before each thing it does to a file in `root`.

    A file that is only read does not count.
    """
    count = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in _FILE_EVENTS or not str(args[0]).startswith(str(root)):
            return
        if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        count += 1
        act(count - 1)

    sys.addaudithook(hook)


def signal_after(pid: int, cpu_seconds: float, number: int) -> None:
    """Send signal `number` once the child has used so much processor time (or has ended)."""
    stat = Path(f"/proc/{pid}/stat")
    while True:
        fields = stat.read_text().rpartition(")")[2].split()
        used = (int(fields[11]) + int(fields[12])) / _TICKS
        if fields[0] == "Z" or used >= cpu_seconds:
            break
        time.sleep(0.003)
    os.kill(pid, number)
