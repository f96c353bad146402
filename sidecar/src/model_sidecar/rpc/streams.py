"""ModelStreamInfer: predictions over a stream. Each message is a prediction like any other, and answered in its turn.

A stream reads a little ahead of what it has sent, so that lanes have work while answers travel; whoever does not read
his answers is soon not read either, and waits in gRPC's flow control instead of in our memory.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any

from model_sidecar.errors import InvalidRequestError
from model_sidecar.rpc.envelopes import answered, failed
from model_sidecar.rpc.predictions import Predictions
from model_sidecar.rpc.slots import Slots
from model_sidecar.rpc.telling import Telling
from model_sidecar_client.wire import services

_METHOD = f"/{services.INFERENCE}/ModelStreamInfer"
# Each stream takes one of the calls that the server has to spare beside its predictions; never all of them.
_STREAMS = 512
# What one stream may have in hand, read and not sent yet. One message always may be.
_AHEAD = 32
_AHEAD_BYTES = 4 << 20


class Streams:
    """Answers ModelStreamInfer. Belongs to the loop that serves it."""

    def __init__(self, predictions: Predictions, *, max_message_bytes: int) -> None:
        """Answer each message by `predictions`, with at most `max_message_bytes`."""
        self._predictions = predictions
        self._max_message_bytes = max_message_bytes
        self._slots = Slots("streams", _STREAMS)
        self._telling = Telling()
        self._readers: set[asyncio.Task[None]] = set()

    def end(self) -> None:
        """While draining, read no further on any stream: each ends once what it has read is answered or refused."""
        for reader in self._readers:
            reader.cancel()

    async def infer(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """ModelStreamInfer: serialized ModelInferRequests to serialized ModelStreamInferResponses, in their order.

        What is wrong with one message is told in its answer, and the stream goes on.

        Raises:
            OverloadedError: too many streams are open.
            UnavailableError: the sidecar is going down; what has no answer was not looked at.
        """
        await self._predictions.refuse_if_draining()
        left = context.time_remaining()
        ends = None if left is None else time.monotonic() + left
        with self._slots.taken():
            hand = _Hand(self._predictions)
            reader = asyncio.create_task(self._read(requests, hand, ends))
            self._readers.add(reader)
            try:
                while (reply := await hand.first()) is not None:
                    yield reply
                    hand.sent()
                if not reader.cancelled():
                    reader.result()
            finally:
                self._readers.discard(reader)
                reader.cancel()
                hand.drop()
        if not hand.complete:
            await self._predictions.refuse_if_draining()

    async def _read(self, requests: AsyncIterator[bytes], hand: _Hand, ends: float | None) -> None:
        try:
            async for content in requests:
                hand.take(self._reply(content, ends), len(content))
                await hand.room()
            hand.complete = True
        finally:
            hand.end()

    async def _reply(self, content: bytes, ends: float | None) -> bytes:
        try:
            reply = answered(await self._predictions.answer(content, ends))
            if len(reply) > self._max_message_bytes:
                raise InvalidRequestError(
                    f"the answer has {len(reply)} bytes, and a message at most {self._max_message_bytes} (--max-message): "
                    "send fewer rows at once"
                )
        except Exception as error:  # noqa: BLE001 - the edge: whatever it is, this message's answer tells of it
            reply = failed(content, self._telling.failure(error, _METHOD))
        return reply


@dataclass(slots=True)
class _Held:
    """A reply in the making, and what it and its request are expected to take in memory, or take."""

    size: int
    reply: asyncio.Task[bytes] | None = None


class _Hand:
    """What one stream has in hand, in the order of its requests: read, and not sent yet.

    Attributes:
        complete: whether its caller said that no more is coming.
    """

    def __init__(self, predictions: Predictions) -> None:
        self.complete = False
        self._predictions = predictions
        self._held: deque[_Held] = deque()
        self._ended = False
        self._working = 0
        self._bytes = 0
        # The largest answer so far stands for those to come; until one is known, one message is taken at a time.
        self._answer_bytes = _AHEAD_BYTES
        self._answer_known = False
        self._more = asyncio.Event()
        self._room = asyncio.Event()

    def take(self, work: Coroutine[Any, Any, bytes], size: int) -> None:
        """Have a request of `size` bytes worked on."""
        held = _Held(size + self._answer_bytes)
        self._working += 1
        self._bytes += held.size
        held.reply = asyncio.create_task(self._made(held, work))
        self._held.append(held)
        self._more.set()

    async def room(self) -> None:
        """Return once another request may be read."""
        while not self._has_room():
            self._room.clear()
            await self._room.wait()

    def end(self) -> None:
        """Say that nothing more is taken."""
        self._ended = True
        self._more.set()

    async def first(self) -> bytes | None:
        """The next reply to be sent; None after the last."""
        while not self._held:
            if self._ended:
                return None
            self._more.clear()
            await self._more.wait()
        reply = self._held[0].reply
        assert reply is not None, "it is made before it is held"
        return await reply

    def sent(self) -> None:
        """Let go of the first reply."""
        self._bytes -= self._held.popleft().size
        self._room.set()

    def drop(self) -> None:
        """Give up whatever is in hand."""
        for held in self._held:
            if held.reply is not None:
                held.reply.cancel()
        self._held.clear()

    def _has_room(self) -> bool:
        if not self._held:
            return True
        if len(self._held) >= _AHEAD or self._bytes + self._answer_bytes > _AHEAD_BYTES:
            return False
        # Who alone fills the lanes waits for them here. Refused is only what would be if it had come by itself.
        return self._working == 0 or not self._predictions.busy

    async def _made(self, held: _Held, work: Coroutine[Any, Any, bytes]) -> bytes:
        reply = await work
        self._working -= 1
        self._bytes += len(reply) - held.size
        held.size = len(reply)
        self._answer_bytes = max(len(reply), self._answer_bytes if self._answer_known else 0)
        self._answer_known = True
        self._room.set()
        return reply
