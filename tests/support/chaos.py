"""A proxy before a Unix socket that does to calls what networks do: delays, stalls, cuts, half-closes, trickles.

It reads the frames of HTTP/2 (RFC 9113, section 4.1) just far enough to know when a request is complete, and draws a
trouble for each. The one that matters most is LOSE_REPLY: the request arrives, and its sender will never know.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

_PREFACE = 24
_HEADER = 9
_CHUNK = 64 << 10


class Trouble(Enum):
    """What may become of a call."""

    NONE = auto()
    DELAY = auto()
    """The request waits before it is passed on."""
    STALL = auto()
    """The reply waits, perhaps longer than the caller."""
    TRICKLE = auto()
    """The reply comes a few bytes at a time."""
    LOSE_REQUEST = auto()
    """The connection is cut before the request is complete."""
    LOSE_REPLY = auto()
    """The connection is cut after the request was passed on, before the reply."""
    HALF_CLOSE = auto()
    """The request is passed on, and then the end of all that is sent: its reply may still come."""


CALM: Mapping[Trouble, float] = {Trouble.NONE: 1}
ROUGH: Mapping[Trouble, float] = {
    Trouble.NONE: 70,
    Trouble.DELAY: 5,
    Trouble.STALL: 5,
    Trouble.TRICKLE: 5,
    Trouble.LOSE_REQUEST: 4,
    Trouble.LOSE_REPLY: 8,
    Trouble.HALF_CLOSE: 3,
}


class Requests:
    """Counts the complete requests in what a client sends."""

    def __init__(self) -> None:
        self._left = bytearray()
        self._skip = _PREFACE

    def completed(self, sent: bytes) -> int:
        """How many requests end within these bytes, which follow those of the last call."""
        self._left += sent
        ended = 0
        while True:
            if self._skip:
                taken = min(self._skip, len(self._left))
                del self._left[:taken]
                self._skip -= taken
            if self._skip or len(self._left) < _HEADER:
                return ended
            kind, flags = self._left[3], self._left[4]
            ended += kind <= 1 and flags & 1  # END_STREAM of DATA or HEADERS
            self._skip = _HEADER + int.from_bytes(self._left[:3])


class ChaosProxy:
    """Listens at one path and passes on to another; all calls are the event loop's.

    Attributes:
        odds: how likely each trouble is; may be replaced at any time.
        met: how often each trouble was dealt out.
    """

    def __init__(
        self, listen: Path, to: Path, *, chance: random.Random, odds: Mapping[Trouble, float] = ROUGH
    ) -> None:
        self.odds = odds
        self.met: Counter[Trouble] = Counter()
        self._listen = listen
        self._to = to
        self._chance = chance
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def target(self) -> str:
        """Where callers connect to."""
        return f"unix:{self._listen}"

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_unix_server(self._connected, self._listen)

    async def stop(self) -> None:
        """Cut every connection and listen no more."""
        if self._server is not None:
            self._server.close()
        for each in self._connections:
            each.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        # A task of its own: asyncio's streams (3.11) log an error for each handler that is cancelled.
        task = asyncio.create_task(self._serve(client_in, client_out))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        try:
            server_in, server_out = await asyncio.open_unix_connection(self._to)
        except OSError:
            client_out.transport.abort()
            return
        connection = _Connection(self, client_in, client_out, server_in, server_out)
        try:
            await connection.pass_on()
        finally:
            client_out.transport.abort()
            server_out.transport.abort()

    def draw(self) -> Trouble:
        """What happens to the next request."""
        (trouble,) = self._chance.choices([*self.odds], [*self.odds.values()])
        self.met[trouble] += 1
        return trouble

    def moment(self, longest_s: float) -> float:
        """Some time."""
        return self._chance.uniform(0, longest_s)


class _Connection:
    """One caller's connection and the one made for it."""

    def __init__(
        self,
        proxy: ChaosProxy,
        client_in: asyncio.StreamReader,
        client_out: asyncio.StreamWriter,
        server_in: asyncio.StreamReader,
        server_out: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._client_in, self._client_out = client_in, client_out
        self._server_in, self._server_out = server_in, server_out
        self._replies_flow = asyncio.Event()
        self._replies_flow.set()
        self._trickles = False

    async def pass_on(self) -> None:
        """Until either side is through with it, or it is cut."""
        there, back = asyncio.create_task(self._there()), asyncio.create_task(self._back())
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            if there.done() and not there.cancelled() and there.exception() is None and there.result():
                await back  # half-closed: what still comes back is passed on
        finally:
            there.cancel()
            back.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(there, back, return_exceptions=True)

    async def _there(self) -> bool:
        """Pass requests on. Returns whether replies may still come."""
        requests = Requests()
        while sent := await self._client_in.read(_CHUNK):
            trouble = self._proxy.draw() if requests.completed(sent) else Trouble.NONE
            if trouble is Trouble.LOSE_REQUEST:
                self._server_out.write(sent[: len(sent) // 2])
                return False
            if trouble is Trouble.DELAY:
                await asyncio.sleep(self._proxy.moment(0.3))
            if trouble in (Trouble.LOSE_REPLY, Trouble.STALL):
                self._replies_flow.clear()
            if trouble is Trouble.TRICKLE:
                self._trickles = True
            self._server_out.write(sent)
            await self._server_out.drain()
            if trouble is Trouble.LOSE_REPLY:
                await asyncio.sleep(self._proxy.moment(0.1))
                return False
            if trouble is Trouble.HALF_CLOSE:
                self._server_out.write_eof()
                return True
            if trouble is Trouble.STALL:
                await asyncio.sleep(self._proxy.moment(1.5))
                self._replies_flow.set()
        return False

    async def _back(self) -> None:
        while got := await self._server_in.read(_CHUNK):
            await self._replies_flow.wait()
            step = 16 if self._trickles else len(got)
            for at in range(0, len(got), step):
                self._client_out.write(got[at : at + step])
                await self._client_out.drain()
                if self._trickles:
                    await asyncio.sleep(0.001)
