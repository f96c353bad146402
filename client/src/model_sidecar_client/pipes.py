"""A pipe: one bidirectional call under any number of threads that ask, answered in the order of their questions."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
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


@dataclass(slots=True, eq=False)
class _Asked:
    """A question, and where its asker waits."""

    request: wire.ModelInferRequest
    answer: SimpleQueue[wire.ModelStreamInferResponse | SidecarError] = field(default_factory=SimpleQueue)
    given_up: bool = False


class Pipe:
    """An open ModelStreamInfer. A thread of its own reads the answers until the call ends; gRPC's own sends the questions.

    What it has not sent yet it keeps: how much that may be, its askers decide, for each of them waits. How much is on
    its way, the sidecar decides: it reads no further than it can work, and gRPC holds the rest back.
    """

    def __init__(
        self,
        begin: Callable[[Iterator[wire.ModelInferRequest]], Any],
        *,
        target: str,
        translated: Callable[[grpc.RpcError], SidecarError],
    ) -> None:
        """Talk over the call that `begin` makes of questions; its failures become what `translated` makes of them."""
        self._target = target
        self._translated = translated
        self._process = os.getpid()
        self._outgoing: SimpleQueue[_Asked | None] = SimpleQueue()
        self._awaited: deque[_Asked] = deque()
        # Whoever is neither awaited nor outgoing when the call ends must see that it has.
        self._ending = threading.Lock()
        self._ended: Callable[[], SidecarError] | None = None  # a new error for each asker
        self._closing = False
        self._cancelled = False
        self._call = begin(self._questions())
        # A daemon, as gRPC's own are: a stream that nobody closes does not keep the process from ending.
        self._reader = threading.Thread(target=self._read, name="model-sidecar-stream", daemon=True)
        self._reader.start()

    def ask(
        self, request: wire.ModelInferRequest, *, left_s: float, timeout_s: float
    ) -> wire.ModelInferResponse:
        """The answer to one question; `timeout_s` is what its asker named of which `left_s` is left.

        Raises:
            SidecarError: the answer tells of a failure, or there is none: in time, or because the call has ended.
            RuntimeError: the pipe is closed, or another process's.
        """
        if os.getpid() != self._process:
            raise RuntimeError(
                f"the stream to {self._target} is that of process {self._process}: after a fork, make a client anew"
            )
        asked = _Asked(request)
        with self._ending:
            if self._closing:
                raise RuntimeError(f"the stream to {self._target} is closed")
            if self._ended is not None:
                raise self._ended()
            self._outgoing.put(asked)
        try:
            reply = asked.answer.get(timeout=min(left_s, threading.TIMEOUT_MAX))
        except Empty:
            raise DeadlineError(
                f"ModelStreamInfer: no answer from {self._target} within {timeout_s:g} s"
            ) from None
        finally:
            # Where it has been sent, its answer is passed over in its turn.
            asked.given_up = True
        if isinstance(reply, SidecarError):
            raise reply
        if reply.error_message:
            raise told(reply)
        return reply.infer_response

    def close(self, *, timeout_s: float) -> None:
        """Say that no more is coming, and wait until everything is answered, for so long at most."""
        if self._shut():
            self._outgoing.put(None)
            self._reader.join(min(timeout_s, threading.TIMEOUT_MAX))
            self.cancel()

    def cancel(self) -> None:
        """End the call; whoever still waits gets CallCancelledError."""
        if self._shut():
            self._cancelled = True
            self._call.cancel()
            self._reader.join()

    def _shut(self) -> bool:
        """Let nobody ask any more, unless the call is a parent's, of which a forked child has neither threads nor say."""
        if os.getpid() != self._process:
            return False
        with self._ending:
            self._closing = True
        return True

    def _questions(self) -> Iterator[wire.ModelInferRequest]:
        while (asked := self._outgoing.get()) is not None:
            with self._ending:
                if self._ended is not None:
                    asked.answer.put(self._ended())
                    return
                if asked.given_up:
                    continue
                self._awaited.append(asked)
            yield asked.request

    def _read(self) -> None:
        try:
            for reply in self._call:
                if not self._awaited:
                    self._end(lambda: InternalError(f"{self._target} answered what nobody had asked"))
                    self._call.cancel()
                    return
                self._awaited.popleft().answer.put(reply)
            self._end(lambda: UnavailableError(f"{self._target} has ended the stream"))
        except grpc.RpcError as failure:
            error = failure
            if self._cancelled:
                self._end(
                    lambda: CallCancelledError(
                        f"ModelStreamInfer at {self._target}: the stream was closed before the answer"
                    )
                )
            else:
                self._end(lambda: ended(self._translated(error)))

    def _end(self, error: Callable[[], SidecarError]) -> None:
        with self._ending:
            self._ended = error
            waiting: list[_Asked | None] = [*self._awaited]
            self._awaited.clear()
            with suppress(Empty):
                while True:
                    waiting.append(self._outgoing.get_nowait())
        for each in waiting:
            if each is not None:
                each.answer.put(error())
        # gRPC's thread may be waiting for a question, for ever.
        self._outgoing.put(None)
