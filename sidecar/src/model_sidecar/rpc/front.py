"""The door of the control plane's Unix socket: asks the kernel who connects, and tells gRPC by the address it uses.

Each connection is passed on, byte by byte, to the server's own socket in a folder that only this user can enter. The
connection made for it comes from a bound name such as `u1000-p77-n5` (user, process, number), which is what
`context.peer()` shows inside gRPC and `peer` reads.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count

from model_sidecar.rpc.peer import outgoing_name

log = logging.getLogger(__name__)

_CONNECTIONS = 128
_OWN_CONNECTIONS = 8  # what one process may well need
_AT_ONCE = 32
_QUEUE = 4096
_CHUNK = 64 << 10
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_START_S = 5.0
_STOP_S = 1.0
_FIRST_BYTE_S = 5.0  # a gRPC client speaks at once
_LOG_EVERY_S = 10.0


class _Connection:
    """A caller that is connected. Belongs to the front's loop.

    Attributes:
        process: user and process id of who connected.
        owner: whose connections count together.
        heard_at: when something was last passed on, either way, by `time.monotonic`.
        silent: whether the caller has not sent anything yet.
    """

    __slots__ = ("_writer", "heard_at", "owner", "process", "silent")

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        incoming = writer.get_extra_info("socket")
        pid, uid, _gid = _CREDENTIALS.unpack(
            incoming.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        self.process = (uid, pid)
        # Of a caller in another process namespace (another container) the kernel tells process 0: that may be anybody.
        self.owner = (uid, pid or -id(self))
        self.heard_at = time.monotonic()
        self.silent = True
        self._writer = writer

    def heard(self, *, from_caller: bool) -> None:
        """Note that something is passed on."""
        self.heard_at = time.monotonic()
        self.silent = self.silent and not from_caller

    def cut(self) -> None:
        """End it now. Not cancelled: asyncio's streams (3.11) log an error for each handler that is cancelled."""
        self._writer.transport.abort()

    def cut_if_silent(self) -> None:
        """End it unless the caller has spoken."""
        if self.silent:
            self.cut()


class Front:
    """Passes connections on until it is stopped; one thread of its own with a loop in it."""

    def __init__(self, listening: socket.socket, *, inner: str, names: str) -> None:
        """Take a listening Unix socket over.

        Args:
            listening: where callers connect; closed at the end.
            inner: address of the server's own socket.
            names: the folder, as short as socket addresses want it, where outgoing names are bound.
        """
        self._listening = listening
        self._inner = inner
        self._names = names
        self._numbers = count(1)
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._logged = -_LOG_EVERY_S
        self._end: Callable[[], object] = lambda: None
        self._serving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control-front", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()
        self._serving.wait(_START_S)

    def stop(self, *, timeout_s: float = _STOP_S) -> None:
        """Close the door and every connection; wait for that so long at most."""
        with suppress(RuntimeError):  # the loop is closed: stopped before
            self._end()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        ended = asyncio.Event()
        self._end = partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
        server = await asyncio.start_unix_server(self._pass_on, sock=self._listening, backlog=_AT_ONCE)
        # asyncio accepts as many at once as may queue, before room is made for any of them. But to a Unix socket whose
        # queue is full, nobody can even begin to connect.
        self._listening.listen(_QUEUE)
        self._serving.set()
        await ended.wait()
        server.close()
        for connection in self._open:
            connection.cut()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_S)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio runs this in one"
        self._tasks.add(task)
        try:
            await self._passed_on(_Connection(writer), reader, writer)
        except OSError as error:
            log.debug("a control connection ended: %s", error)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _passed_on(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if len(self._open) >= _CONNECTIONS:
            self._make_room()
        self._open.add(connection)
        # Else whoever only connects would hold a place until the server's keepalive ends it, more than a minute later.
        first_byte = asyncio.get_running_loop().call_later(_FIRST_BYTE_S, connection.cut_if_silent)
        outgoing: asyncio.StreamWriter | None = None
        try:
            answers, outgoing = await self._connected(connection)
            await asyncio.gather(
                _pump(reader, outgoing, passing=partial(connection.heard, from_caller=True)),
                _pump(answers, writer, passing=partial(connection.heard, from_caller=False)),
            )
        finally:
            first_byte.cancel()
            self._open.discard(connection)
            if outgoing is not None:
                outgoing.close()

    def _make_room(self) -> None:
        """Cut the connection that is missed least.

        That is one of the process that has most of them, if those are many; among them one that never spoke; among
        those the quietest. A call that waits is quiet too: were it enough to be the quietest, many idle connections of
        one process would cost somebody else's deploy its answer.
        """
        held = Counter(connection.owner for connection in self._open)

        def missed(connection: _Connection) -> tuple[int, bool, float]:
            many = held[connection.owner]
            return -many if many > _OWN_CONNECTIONS else 0, not connection.silent, connection.heard_at

        least = min(self._open, key=missed)
        self._open.discard(least)
        least.cut()
        if time.monotonic() - self._logged >= _LOG_EVERY_S:
            self._logged = time.monotonic()
            uid, pid = least.process
            log.warning(
                "%d control connections are open, %d of them by process %d of user %d: its quietest is cut for a new one",
                _CONNECTIONS,
                held[least.owner],
                pid,
                uid,
            )

    async def _connected(self, connection: _Connection) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        uid, pid = connection.process
        name = f"{self._names}/{outgoing_name(uid=uid, pid=pid, number=next(self._numbers))}"
        outgoing = socket.socket(socket.AF_UNIX)
        try:
            outgoing.setblocking(False)  # noqa: FBT003 - the socket module's
            outgoing.bind(name)
            try:
                await asyncio.get_running_loop().sock_connect(outgoing, self._inner)
            finally:
                os.unlink(name)  # noqa: PTH108 - the address stays with the connection, the file has done its part
            return await asyncio.open_unix_connection(sock=outgoing)
        except BaseException:
            outgoing.close()
            raise


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, passing: Callable[[], object]
) -> None:
    # Waiting for each chunk to drain bounds what is held for a slow reader.
    while chunk := await reader.read(_CHUNK):
        passing()
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof() and not writer.is_closing():
        writer.write_eof()
