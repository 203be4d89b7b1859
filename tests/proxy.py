"""An HTTP proxy that misbehaves where a test says: refuses, throttles, or cuts connections."""

from __future__ import annotations

import http.client
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

#: Bytes of an answer that are sent before a connection is cut.
CUT_AFTER = 300


@dataclass
class Faults:
    """What happens to requests: `choose` is given number (from 0), method and path.

    It returns None (pass it on), a status (answer with it), ``"refuse"`` (reset the connection
    unread), ``"lose"`` (pass it on, reset before the answer) or ``"cut"`` (reset in the answer).
    """

    choose: Callable[[int, str, str], int | str | None] = lambda number, method, path: None
    requests: list[tuple[str, str]] = field(default_factory=list)
    happened: int = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: str
    faults: Faults

    def log_message(self, format: str, *args: object) -> None: ...

    def _any(self) -> None:
        faults, lock = self.faults, self.server.lock  # type: ignore[attr-defined]
        with lock:
            number = len(faults.requests)
            faults.requests.append((self.command, self.path))
            fault = faults.choose(number, self.command, self.path)
            faults.happened += fault is not None
        if fault == "refuse":
            self._reset()
            return
        body = self._body()
        if isinstance(fault, int):
            self._answer(fault, {}, b"<Error><Code>SlowDown</Code></Error>")
            return
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "transfer-encoding"}
        headers["Content-Length"] = str(len(body))
        connection.request(self.command, self.path, body, headers)
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        if fault == "lose":
            self._reset()
            return
        sent = content[:CUT_AFTER] if fault == "cut" else content
        self._answer(reply.status, dict(reply.getheaders()), sent, length=len(content))
        if fault == "cut":
            self._reset()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def _answer(
        self, status: int, headers: dict[str, str], body: bytes, *, length: int | None = None
    ) -> None:
        self.send_response_only(status)
        dropped = {"content-length", "transfer-encoding", "connection"}
        size = len(body) if length is None else length
        if self.command == "HEAD" and "Content-Length" in headers:
            size = int(headers["Content-Length"])
        for name, value in headers.items():
            if name.lower() not in dropped:
                self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        """Close with a reset, as a peer that dies does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def handle(self) -> None:
        with suppress(OSError):  # who asked has gone, or was cut off
            super().handle()


@contextmanager
def faulty_s3(faults: Faults) -> Iterator[None]:
    """Stand between clients of ``AWS_ENDPOINT_URL`` and the server there."""
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    handler = type(
        "Handler", (_Handler,), {"upstream": urlsplit(endpoint).netloc, "faults": faults}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.lock = threading.Lock()  # type: ignore[attr-defined]
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield
    finally:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        server.shutdown()
        server.server_close()
