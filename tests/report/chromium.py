"""A headless Chromium over its own debugging pipe: no driver, no port, nothing to install with pip.

https://chromedevtools.github.io/devtools-protocol/ says what can be asked.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-sync hide-scrollbars "
    "disable-background-networking disable-component-update remote-debugging-pipe"
)


class Tab:
    """One page; `events` is everything that the browser told about it."""

    def __init__(self, to: int, from_: int) -> None:
        self._to, self._from, self._id = to, from_, 0
        self._rest, self._session = b"", ""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; RuntimeError if the browser refuses it."""
        self._id += 1
        message: dict[str, Any] = {"id": self._id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    def open(self, path: Path) -> None:
        """Load a file and wait until it is loaded."""
        self.ask("Page.navigate", url=path.as_uri())
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self._read()

    def value(self, script: str) -> Any:
        """Return what a JavaScript expression is."""
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"]
        return result.get("value")

    def press(self, key: str) -> None:
        """Press and release Tab or Enter."""
        code, text = {"Tab": (9, ""), "Enter": (13, "\r")}[key]
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.ask("Input.dispatchKeyEvent", **common, **down)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **common)

    def media(self, media: str = "screen", scheme: str = "light") -> None:
        """Pretend to be a screen or a printer, light or dark, of a reader who wants no motion."""
        wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.ask("Emulation.setEmulatedMedia", media=media, features=features)

    def resize(self, width: int, height: int = 900) -> None:
        """Set the size of the window."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def said(self, *methods: str) -> list[dict[str, Any]]:
        """Return the events of these kinds."""
        return [e["params"] for e in self.events if e["method"] in methods]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._from, 2**20)
            if not part:
                raise RuntimeError("the browser has gone")
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message


@contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """Start Chromium with a new profile and yield one tab."""
    browser_reads, we_write = os.pipe()
    we_read, browser_writes = os.pipe()
    # Chromium takes commands on descriptor 3 and answers on 4; ours must be neither.
    theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (browser_reads, browser_writes)]
    flags = [*(f"--{flag}" for flag in FLAGS.split()), f"--user-data-dir={profile}"]
    command = f"exec {shlex.join([str(CHROMIUM), *flags])} 3<&{theirs[0]} 4>&{theirs[1]}"
    process = subprocess.Popen(
        ["/bin/bash", "-c", command],
        pass_fds=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for fd in (browser_reads, browser_writes, *theirs):
        os.close(fd)
    try:
        yield Tab(we_write, we_read)
    finally:
        process.terminate()
        process.wait(timeout=30)
        os.close(we_write)
        os.close(we_read)
