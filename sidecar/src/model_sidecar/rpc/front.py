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
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count

from model_sidecar.rpc.peer import outgoing_name

log = logging.getLogger(__name__)

_CONNECTIONS = 128
_CHUNK = 64 << 10
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_WAIT_S = 5.0


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
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._end: Callable[[], object] = lambda: None
        self._serving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control-front", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()
        self._serving.wait(_WAIT_S)

    def stop(self) -> None:
        """Close the door and every connection."""
        with suppress(RuntimeError):  # the loop is closed: stopped before
            self._end()
        self._thread.join(_WAIT_S)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        ended = asyncio.Event()
        self._end = partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
        server = await asyncio.start_unix_server(self._pass_on, sock=self._listening)
        self._serving.set()
        await ended.wait()
        server.close()
        # Cut, not cancelled: asyncio's streams (3.11) log an error for each handler that is cancelled.
        for writer in self._open.values():
            writer.transport.abort()
        if self._open:
            await asyncio.wait(self._open, timeout=_WAIT_S)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._open) >= _CONNECTIONS:
            log.warning("a control connection was closed: %d are open already", len(self._open))
            writer.close()
            return
        self._open[task] = writer
        outgoing: asyncio.StreamWriter | None = None
        try:
            answers, outgoing = await self._connected(writer)
            await asyncio.gather(_pump(reader, outgoing), _pump(answers, writer))
        except OSError as error:
            log.info("a control connection ended: %s", error)
        finally:
            del self._open[task]
            for each in (writer, outgoing):
                if each is not None:
                    each.close()

    async def _connected(
        self, writer: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        incoming = writer.get_extra_info("socket")
        pid, uid, _gid = _CREDENTIALS.unpack(
            incoming.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
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


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # Waiting for each chunk to drain bounds what is held for a slow reader.
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof() and not writer.is_closing():
        writer.write_eof()
