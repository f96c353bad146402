"""The read-only HTTP listener: the standard library's threaded server, among peers who are slow, wrong or gone.

One request per connection, a thread for each, a bounded wait for every read and write, and a bounded number of
connections of which the oldest makes room for a new one: nobody can hold up somebody else's scrape or probe. What is
answered is the application's part.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from model_sidecar.config import Address
from model_sidecar.errors import ConfigurationError
from model_sidecar.telemetry.http_messages import Request, Response, text

log = logging.getLogger(__name__)

_POLL_S = 0.1
_PAUSE_S = 0.5

App = Callable[[Request], Response]
"""Answers GET; HEAD gets the same without its body. Called on several threads at once."""


class HttpServer(ThreadingHTTPServer):
    """The server. `start` and `stop` are its owner's, each once; the rest is for the standard library to call."""

    request_queue_size = 128
    allow_reuse_port = False  # some versions of Python let a second server have the same port

    def __init__(self, address: Address, app: App, *, timeout_s: float = 5.0, connections: int = 32) -> None:
        """Take the address, so that whoever connects from now on is answered after `start`.

        Args:
            timeout_s: how long a peer may keep us waiting to read, or to be read from.
            connections: how many there can be at once.

        Raises:
            ConfigurationError: the address cannot be had: taken, forbidden, or not of this machine.
        """
        assert not address.is_unix, "ServeSettings takes none for HTTP"
        self.app = app
        self._timeout_s = timeout_s
        self._most = connections
        # Oldest first. The accepting thread's own, and after its end that of the one who stops it.
        self._open: dict[threading.Thread, socket.socket] = {}
        self._closing = threading.Lock()  # guards descriptors: nobody hangs up on one that is reused by now
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            self.address_family = found[0][0]
            super().__init__((address.host, address.port), _Handler)
        except (OSError, UnicodeError) as error:
            raise ConfigurationError(
                f"cannot listen on {address}: {getattr(error, 'strerror', None) or error}. "
                "Name a free port of this machine with --http"
            ) from error
        self.address = replace(address, port=self.socket.getsockname()[1])
        self._thread = threading.Thread(target=self.serve_forever, args=(_POLL_S,), name="http", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self, *, timeout_s: float = 2.0) -> None:
        """Take no more connections, and let those at hand be answered as far as the time allows."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()
        # Who has asked can still be answered: SHUT_RD leaves what has arrived. Then who does not read is hung up on.
        for how, patience_s in ((socket.SHUT_RD, timeout_s), (socket.SHUT_RDWR, _PAUSE_S)):
            until = time.monotonic() + patience_s
            for connection in self._open.values():
                self._hang_up(connection, how)
            for thread in self._open:
                thread.join(max(0.0, until - time.monotonic()))

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # not HTTPServer's: that asks DNS for this machine's name, which may hang

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            connection, peer = super().get_request()
        except OSError as error:
            # Out of descriptors, most likely. The connection stays in the backlog: without a pause, a busy loop.
            log.warning("cannot accept an HTTP connection: %s", error.strerror)
            time.sleep(_PAUSE_S)
            raise
        connection.settimeout(self._timeout_s)
        return connection, peer

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - socketserver's
        """Whether there is room, or the oldest connection made some."""
        self._open = {thread: connection for thread, connection in self._open.items() if thread.is_alive()}
        if len(self._open) < self._most:
            return True
        oldest = next(iter(self._open))
        self._open[oldest] = self._open.pop(oldest)  # should a page hold it up, another one is next
        self._hang_up(self._open[oldest], socket.SHUT_RDWR)
        oldest.join(_PAUSE_S)
        return not oldest.is_alive()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread of its own, as the base class does; but that cannot say which there are."""
        serve, peer = self.process_request_thread, (request, client_address)
        thread = threading.Thread(target=serve, args=peer, name="http-connection", daemon=True)
        thread.start()
        self._open[thread] = request

    def close_request(self, request: Any) -> None:
        with self._closing:
            super().close_request(request)

    def _hang_up(self, connection: socket.socket, how: int) -> None:
        with self._closing, contextlib.suppress(OSError):
            connection.shutdown(how)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's
        error = sys.exception()
        if not isinstance(error, OSError):  # a peer who went away is no news
            log.error("an HTTP connection failed", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    """One connection. Methods without a `do_`, and what cannot be parsed, arrive at `send_error`."""

    server: HttpServer
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # 0.9 would be refused without a status line
    disable_nagle_algorithm = True  # head and body are two writes

    def do_GET(self) -> None:
        try:
            target = urlsplit(self.path)
            path = unquote(target.path) or "/"
        except ValueError:
            path = ""
        if not path.startswith("/"):
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        headers = {name.lower(): ", ".join(self.headers.get_all(name, [])) for name in self.headers}
        try:
            response = self.server.app(Request(self.command, path, target.query, headers))
        except Exception:
            log.exception("GET %s failed", path)
            response = text(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the log has the rest")
        self._send(response)

    do_HEAD = do_GET  # noqa: N815 - the base class looks for this name

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Refuse, in plain words and without an echo of what was sent."""
        if code == HTTPStatus.NOT_IMPLEMENTED:  # what the base class answers to a method without a `do_`
            refusal = text(HTTPStatus.METHOD_NOT_ALLOWED, "this server only reads: GET and HEAD")
            self._send(replace(refusal, headers={"Allow": "GET, HEAD"}))
        else:
            self._send(text(HTTPStatus(code), HTTPStatus(code).phrase))

    def _send(self, response: Response) -> None:
        self.send_response_only(response.status)  # "only": no header that names Python, and no line of log
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def finish(self) -> None:
        super().finish()
        # Closing over bytes that were not read resets the connection, and the peer may never see the answer.
        until = time.monotonic() + _PAUSE_S
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_PAUSE_S)
            while time.monotonic() < until and self.connection.recv(1 << 16):
                pass

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged per request."""
