"""The HTTP server over real sockets, among peers who are slow, wrong or gone."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from support.descriptors import open_descriptors

from model_sidecar.config import Address, ServeSettings
from model_sidecar.errors import ConfigurationError
from model_sidecar.release.names import Environment, ModelName
from model_sidecar.telemetry.http import App, HttpServer
from model_sidecar.telemetry.http_messages import Request, Response, text

ANY = Address(host="127.0.0.1", port=0)
Serve = Callable[..., HttpServer]


def echo(request: Request) -> Response:
    """Say what was asked."""
    if request.path == "/fails":
        raise RuntimeError("a mistake of ours")
    if request.path == "/large":
        return Response(HTTPStatus.OK, "application/octet-stream", b"x" * (32 << 20))
    return text(HTTPStatus.OK, f"{request.path}?{request.query} {request.headers.get('accept', '')}")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers, and stop them at the end."""
    servers: list[HttpServer] = []

    def start(app: App = echo, address: Address = ANY, **settings: float) -> HttpServer:
        server = HttpServer(address, app, **settings)  # type: ignore[arg-type]  # as the parameters say
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop(timeout_s=0.2)


def connect(server: HttpServer, *, timeout_s: float = 10) -> socket.socket:
    return socket.create_connection((server.address.host, server.address.port), timeout=timeout_s)


def ask(
    server: HttpServer, method: str = "GET", path: str = "/x", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection(server.address.host, server.address.port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def raw(server: HttpServer, sent: bytes) -> bytes:
    """Everything that is answered to these bytes."""
    with connect(server) as peer:
        peer.sendall(sent)
        answer = b""
        while piece := peer.recv(1 << 16):
            answer += piece
    return answer


def left_running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name in ("http", "http-connection")]


def test_get_is_answered_on_the_port_that_was_found(serve: Serve) -> None:
    """Port 0 becomes a real one, visible at the server; path, query and headers arrive."""
    server = serve()

    assert server.address.port > 0
    status, body, headers = ask(server, path="/a%20b?c=d", accept="text/plain")
    assert (status, body) == (200, b"/a b?c=d text/plain\n")
    assert headers["content-length"] == str(len(body))
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_head_is_get_without_the_body(serve: Serve) -> None:
    """HEAD says how long the body would be."""
    status, body, headers = ask(serve(), "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
def test_nothing_can_be_written(serve: Serve, method: str) -> None:
    """Whatever would act is refused, with what is allowed."""
    status, _, headers = ask(serve(), method)
    assert status == 405
    assert headers["allow"] == "GET, HEAD"


def test_a_refused_body_does_not_swallow_the_refusal(serve: Serve) -> None:
    """Who sends a body along still gets to read the answer, not a reset connection."""
    body = b"x" * (8 << 20)
    answer = raw(serve(), b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert answer.startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET x HTTP/1.1\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
        (b"GET / FTP/1.1\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
        (b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n", 431),
    ],
    ids=[
        "tls",
        "one-word",
        "no-path",
        "no-host",
        "other-protocol",
        "http-2",
        "huge-target",
        "huge-header",
        "many-headers",
    ],
)
def test_what_is_no_request_is_refused(serve: Serve, sent: bytes, status: int) -> None:
    """Each kind of nonsense gets its status, and the server goes on."""
    server = serve()
    answer = raw(server, sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"python" not in answer.lower()
    assert ask(server)[0] == 200


def test_an_absolute_target_and_bare_newlines_are_understood(serve: Serve) -> None:
    """As RFC 9112 asks of servers (sections 3.2.2 and 2.2)."""
    answer = raw(serve(), b"GET http://somewhere:80/metrics?x=1 HTTP/1.1\nHost: somewhere\n\n")
    assert answer.endswith(b"\n/metrics?x=1 \n")


def test_a_mistake_of_ours_is_a_500_and_stays_inside(serve: Serve) -> None:
    """The answer to a failing page does not say why; the server goes on."""
    server = serve()
    status, body, _ = ask(server, path="/fails")
    assert status == 500
    assert b"mistake" not in body
    assert ask(server)[0] == 200


def test_the_log_stays_quiet(
    serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """No request, refusal or peer who leaves early or says nothing is worth a line, here or on the terminal."""
    caplog.set_level(logging.DEBUG)
    server = serve(timeout_s=0.2)
    ask(server)
    ask(server, "POST")
    raw(server, b"nonsense\r\n\r\n")
    with connect(server) as peer:
        peer.sendall(b"GET /large HTTP/1.1\r\n\r\n")
    assert raw(server, b"GET / HT") == b""
    server.stop()
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_slow_peers_do_not_keep_others_waiting(serve: Serve) -> None:
    """With every place taken by peers who send nothing, a request is answered at once."""
    server = serve(connections=4, timeout_s=60)
    idle = [connect(server) for _ in range(12)]
    try:
        for peer in idle:
            peer.sendall(b"GET / HT")
        for _ in range(8):
            began = time.monotonic()
            assert ask(server)[0] == 200
            assert time.monotonic() - began < 5
    finally:
        for peer in idle:
            peer.close()


def test_a_peer_who_does_not_read_makes_room(serve: Serve) -> None:
    """Peers who ask for much and read nothing do not keep others waiting either."""
    server = serve(connections=2, timeout_s=60)
    deaf = [connect(server) for _ in range(2)]
    try:
        for peer in deaf:
            peer.sendall(b"GET /large HTTP/1.1\r\n\r\n")
            assert peer.recv(1) == b"H"
        assert ask(server)[0] == 200
    finally:
        for peer in deaf:
            peer.close()


def test_a_page_that_hangs_takes_its_own_place_only(serve: Serve) -> None:
    """Connections beyond the bound are closed while every place is held by us; then the server goes on."""
    begun, go_on = threading.Semaphore(0), threading.Event()

    def hangs(request: Request) -> Response:
        if request.path == "/hangs":
            begun.release()
            assert go_on.wait(10)
        return text(HTTPStatus.OK, "done")

    server = serve(hangs, connections=2)
    with connect(server) as one, connect(server) as other:
        for peer in (one, other):
            peer.sendall(b"GET /hangs HTTP/1.1\r\n\r\n")
            assert begun.acquire(timeout=10)
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(server)
        go_on.set()
        assert ask(server)[0] == 200


def test_a_silent_peer_is_hung_up_on(serve: Serve) -> None:
    """Who begins a request and does not go on is not waited for."""
    with connect(serve(timeout_s=0.2)) as peer:
        peer.sendall(b"GET / HT")
        assert peer.recv(1) == b""


def test_a_taken_port_is_said(serve: Serve) -> None:
    """A second server on a port fails at once, naming it."""
    server = serve()
    with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{server.address.port}.*in use"):
        HttpServer(server.address, echo)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_said(host: str) -> None:
    """So is one that this machine does not have, or nobody."""
    with pytest.raises(ConfigurationError, match=f"cannot listen on {host}:80"):
        HttpServer(Address(host=host, port=80), echo)


def test_ipv6_is_served(serve: Serve) -> None:
    """A bracketed address of version 6 works where the machine has one."""
    try:
        server = serve(address=Address(host="::1", port=0))
    except ConfigurationError as error:
        pytest.skip(str(error))
    assert ask(server)[0] == 200


def test_a_unix_socket_is_refused() -> None:
    """HTTP is for scrapers and probes, who come over TCP; the settings say so before anything listens."""
    with pytest.raises(ConfigurationError, match=r"--http unix:/run/http\.sock .*expected host:port"):
        ServeSettings(
            store=Path("/srv/ml-models"),
            models=(ModelName("adder"),),
            environment=Environment("prod"),
            data=(Address(path="/run/data.sock"),),
            http=Address(path="/run/http.sock"),
        )


def test_stop_lets_an_answer_out_and_frees_the_port(serve: Serve) -> None:
    """A request that is being answered is answered; afterwards nobody listens, and nothing is left running."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(request: Request) -> Response:
        begun.set()
        assert go_on.wait(10)
        return text(HTTPStatus.OK, "done")

    server = serve(slow)
    with connect(server) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert begun.wait(10)
        stopper = threading.Thread(target=server.stop, kwargs={"timeout_s": 10})
        stopper.start()
        go_on.set()
        assert b"done" in peer.makefile("rb").read()
    stopper.join(10)
    assert not stopper.is_alive()
    with pytest.raises(ConnectionRefusedError):
        connect(server)
    assert not left_running()


def test_stop_waits_for_nobody_who_asked_nothing(serve: Serve) -> None:
    """Silent and deaf peers are hung up on, in the time that was given, and nothing is left running."""
    server = serve(timeout_s=60)
    with connect(server) as silent, connect(server) as deaf:
        silent.sendall(b"GET / HT")
        deaf.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        assert deaf.recv(1) == b"H"
        began = time.monotonic()
        server.stop(timeout_s=0.2)
        assert time.monotonic() - began < 5
        assert not left_running()


def test_descriptors_do_not_grow(serve: Serve) -> None:
    """Two hundred requests, some of them broken off, leave no descriptor open."""
    server = serve()
    ask(server)
    before = open_descriptors()
    for number in range(200):
        if number % 4:
            ask(server)
        else:
            with connect(server) as peer:
                peer.sendall(b"GET / HT")
    server.stop(timeout_s=10)
    assert open_descriptors() <= before
