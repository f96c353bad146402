"""`Pipe` for tasks of one event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc

from model_sidecar_client.errors import (
    CallCancelledError,
    DeadlineError,
    InternalError,
    SidecarError,
    UnavailableError,
)
from model_sidecar_client.rpc_errors import ended, told
from model_sidecar_client.wire import inference as wire

# What grpc.aio (1.85) says of a call that the server had ended when a message was written to it. The server's own word,
# most often that it is going down, is lost then.
_WRITTEN_TOO_LATE = "Internal error from Core"

_Answer = asyncio.Future[wire.ModelStreamInferResponse]


class AsyncPipe:
    """An open ModelStreamInfer. It belongs to the loop that it was made in; what it keeps and what it sends is as in `Pipe`."""

    def __init__(
        self, call: Any, *, target: str, translated: Callable[[grpc.RpcError], SidecarError]
    ) -> None:
        """Talk over this `grpc.aio` call, just begun; its failures become what `translated` makes of them."""
        self._call = call
        self._target = target
        self._translated = translated
        self._outgoing: asyncio.Queue[tuple[wire.ModelInferRequest, _Answer] | None] = asyncio.Queue()
        self._awaited: deque[_Answer] = deque()
        self._ended: Callable[[], SidecarError] | None = None  # a new error for each asker
        self._closing = False
        self._reader = asyncio.create_task(self._read())
        self._writer = asyncio.create_task(self._write())

    async def ask(
        self, request: wire.ModelInferRequest, *, left_s: float, timeout_s: float
    ) -> wire.ModelInferResponse:
        """The answer to one question; `timeout_s` is what its asker named of which `left_s` is left.

        Raises:
            SidecarError: the answer tells of a failure, or there is none: in time, or because the call has ended.
        """
        if self._closing:
            raise RuntimeError(f"the stream to {self._target} is closed")
        if self._ended is not None:
            raise self._ended()
        answer: _Answer = asyncio.get_running_loop().create_future()
        self._outgoing.put_nowait((request, answer))
        try:
            # Also where it is given up: what is written is answered, and that answer is passed over in its turn.
            async with asyncio.timeout(left_s):
                reply = await answer
        except TimeoutError as error:
            raise DeadlineError(
                f"ModelStreamInfer: no answer from {self._target} within {timeout_s:g} s"
            ) from error
        if reply.error_message:
            raise told(reply)
        return reply.infer_response

    async def close(self, *, timeout_s: float) -> None:
        """Say that no more is coming, and wait until everything is answered, for so long at most."""
        self._closing = True
        self._outgoing.put_nowait(None)
        await asyncio.wait([self._reader], timeout=timeout_s)
        await self.cancel()

    async def cancel(self) -> None:
        """End the call; whoever still waits gets CallCancelledError."""
        self._closing = True
        self._call.cancel()
        self._writer.cancel()
        await asyncio.wait([self._reader, self._writer])

    async def _write(self) -> None:
        with suppress(grpc.RpcError, asyncio.InvalidStateError):  # the call has ended: the reader says how
            while (asked := await self._outgoing.get()) is not None:
                request, answer = asked
                if not answer.done():
                    self._awaited.append(answer)
                    await self._call.write(request)
            await self._call.done_writing()

    async def _read(self) -> None:
        try:
            async for reply in self._call:
                if not self._awaited:
                    self._end(lambda: InternalError(f"{self._target} answered what nobody had asked"))
                    self._call.cancel()
                    return
                answer = self._awaited.popleft()
                if not answer.done():
                    answer.set_result(reply)
            self._end(lambda: UnavailableError(f"{self._target} has ended the stream"))
        except grpc.RpcError as failure:
            error = failure
            if error.details() == _WRITTEN_TOO_LATE:
                self._end(lambda: UnavailableError(f"{self._target} has ended the stream while it was asked"))
            else:
                self._end(lambda: ended(self._translated(error)))
        except asyncio.CancelledError:
            # grpc.aio's word for a call that was cancelled here; nobody cancels this task.
            self._end(
                lambda: CallCancelledError(
                    f"ModelStreamInfer at {self._target}: the stream was closed before the answer"
                )
            )

    def _end(self, error: Callable[[], SidecarError]) -> None:
        self._ended = error
        waiting = list(self._awaited)
        self._awaited.clear()
        while not self._outgoing.empty():
            asked = self._outgoing.get_nowait()
            if asked is not None:
                waiting.append(asked[1])
        for answer in waiting:
            if not answer.done():
                answer.set_exception(error())
        # It may be waiting for something to write, for ever.
        self._outgoing.put_nowait(None)
