"""gRPC over a bare socket: just enough HTTP/2 for callers that are cheap by the thousand, or that misbehave on purpose.

Frames are RFC 9113's, header fields RFC 7541's. The peer is asked to keep no dynamic header table, and gRPC writes its
own fields as plain text, so a status can be read without a decoder.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
REFUSED_STREAM, CANCEL = 7, 8
HEADER_TABLE_SIZE, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 1, 3, 4
_WIDE = (1 << 31) - 1
_DEFAULT_WINDOW = 65_535
INFER = "/inference.GRPCInferenceService/ModelInfer"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(**values: int) -> bytes:
    """A SETTINGS frame: no header table, and windows so wide that answers are never held back, unless told otherwise."""
    chosen = {HEADER_TABLE_SIZE: 0, INITIAL_WINDOW_SIZE: values.get("initial_window", _WIDE)}
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", each, value) for each, value in chosen.items()))


def request_fields(path: str = INFER, *, timeout_ms: int | None = None) -> bytes:
    """The header block of a gRPC request."""
    # POST and http from the static table, :path and :authority by their static names, the rest as literals.
    block = b"\x83\x86" + b"\x04" + _text(path) + b"\x01" + _text("sidecar")
    block += b"\x00" + _text("te") + _text("trailers") + b"\x0f\x10" + _text("application/grpc")
    if timeout_ms is not None:
        block += b"\x00" + _text("grpc-timeout") + _text(f"{timeout_ms}m")
    return block


def message(content: bytes) -> bytes:
    """A gRPC message: not compressed, its length, its bytes."""
    return struct.pack(">BI", 0, len(content)) + content


def status_of(block: bytes) -> int | None:
    """The grpc-status in a block of trailers; None where there is none."""
    at = block.find(b"grpc-status")
    if at < 0:
        return None
    length = block[at + 11]
    return int(block[at + 12 : at + 12 + length])


def connect(target: str, *, timeout_s: float = 20.0) -> socket.socket:
    """A blocking socket to `unix:/path` or `host:port`."""
    if target.startswith("unix:"):
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(timeout_s)
        made.connect(target.removeprefix("unix:"))
        return made
    host, _, port = target.rpartition(":")
    made = socket.create_connection((host, int(port)), timeout=timeout_s)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


@dataclass(slots=True)
class Frame:
    """A frame that was received."""

    kind: int
    flags: int
    stream: int
    payload: bytes


@dataclass
class Frames:
    """Bytes as they come, cut into frames."""

    _rest: bytes = b""

    def feed(self, received: bytes) -> Iterator[Frame]:
        """The frames that are complete by now."""
        rest = self._rest + received
        at, end = 0, len(rest)
        while end - at >= 9:
            length = int.from_bytes(rest[at : at + 3], "big")
            if end - at < 9 + length:
                break
            kind, flags, stream = struct.unpack_from(">BBI", rest, at + 3)
            yield Frame(kind, flags, stream, rest[at + 9 : at + 9 + length])
            at += 9 + length
        self._rest = rest[at:]


class Request:
    """A request that is sent many times: its two frames, but for the stream's number.

    Attributes:
        size: what it takes of the server's window.
    """

    def __init__(self, fields: bytes, content: bytes) -> None:
        body = message(content)
        headers, data = frame(HEADERS, END_HEADERS, 0, fields), frame(DATA, END_STREAM, 0, body)
        self.size = len(body)
        self.before = headers[:5]
        self.between = headers[9:] + data[:5]
        self.after = data[9:]


@dataclass
class Connection:
    """One connection's state as a polite client keeps it; the owner moves the bytes.

    Attributes:
        out: what is to be sent.
        limit: how many streams the server allows at once.
        window: how many bytes of DATA the server takes now.
        going_away: the last stream that the server will answer; None until it says so.
    """

    out: bytearray = field(default_factory=bytearray)
    limit: int = 100  # until the server's settings are there
    window: int = _DEFAULT_WINDOW
    going_away: int | None = None
    _frames: Frames = field(default_factory=Frames)
    _next: int = 1
    _owed: int = 0

    def __post_init__(self) -> None:
        self.out += PREFACE + settings()
        self.out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", _WIDE - _DEFAULT_WINDOW))

    def ask(self, request: Request) -> int:
        """Send one request; its stream. The caller has looked at `limit` and `window`."""
        stream = self._next
        self._next += 2
        self.window -= request.size
        number = stream.to_bytes(4, "big")
        self.out += request.before + number + request.between + number + request.after
        return stream

    def cancel(self, stream: int) -> None:
        """Give a request up."""
        self.out += frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))

    def take(self, received: bytes) -> Iterator[Frame]:
        """The frames about streams; those about the connection are dealt with here."""
        for each in self._frames.feed(received):
            match each.kind:
                case 4 if not each.flags & ACK:
                    self._settled(each.payload)
                case 6 if not each.flags & ACK:
                    self.out += frame(PING, ACK, 0, each.payload)
                case 7:
                    self.going_away = int.from_bytes(each.payload[:4], "big")
                case 8 if each.stream == 0:
                    self.window += int.from_bytes(each.payload, "big")
                case 0 | 1 | 3:
                    self._owed += len(each.payload) if each.kind == DATA else 0
                    yield each
        if self._owed > 1 << 20:
            self.out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._owed))
            self._owed = 0

    def _settled(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == MAX_CONCURRENT_STREAMS:
                self.limit = value
        self.out += frame(SETTINGS, ACK, 0)


def _text(text: str) -> bytes:
    content = text.encode()
    assert len(content) < 127, "longer lengths take more bytes"
    return bytes([len(content)]) + content
