"""Connections: the only code that makes gRPC calls. One drives exchanges by calling, the other by awaiting."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from model_sidecar_client.aio_pipes import AsyncPipe
from model_sidecar_client.channels import (
    ChannelOptions,
    Metadata,
    channel_options,
    checked_metadata,
    checked_target,
    checked_timeout,
)
from model_sidecar_client.errors import SidecarError
from model_sidecar_client.exchange import Ask, Exchange, Pause
from model_sidecar_client.pipes import Pipe
from model_sidecar_client.rpc_errors import translated
from model_sidecar_client.wire import services
from model_sidecar_client.wire.inference import ModelInferRequest

T = TypeVar("T")

# gRPC takes a deadline of zero for none at all in some places; this one is over at once everywhere.
_OVER_S = 1e-3


class _Way:
    """What both kinds of connection know: where they lead, and the defaults of every call."""

    def __init__(
        self, target: str, *service: str, timeout_s: float, metadata: Metadata, options: ChannelOptions
    ) -> None:
        self.target = checked_target(target)
        self._services = service
        self.timeout_s = checked_timeout(timeout_s)
        self._metadata = checked_metadata(metadata)
        self._options = channel_options(self.target, options)

    def _deadline(self, timeout_s: float | None) -> _Deadline:
        return _Deadline(self.timeout_s if timeout_s is None else checked_timeout(timeout_s))

    def _keywords(self, metadata: Metadata | None) -> dict[str, Any]:
        return {"metadata": (*self._metadata, *checked_metadata(metadata)) if metadata else self._metadata}

    def _translated(self, error: grpc.RpcError, ask: Ask, timeout_s: float | None) -> SidecarError:
        service = services.service_of(ask.method, self._services)
        return translated(error, target=self.target, service=service, method=ask.method, timeout_s=timeout_s)


class _Deadline:
    """One deadline over all the calls of an exchange."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._over_at = time.monotonic() + timeout_s

    def left_s(self) -> float:
        return max(self._over_at - time.monotonic(), _OVER_S)


class Connection(_Way):
    """A channel to services of a sidecar, whose methods have names of their own. Any thread may use it; forked children must make their own."""

    def __init__(
        self,
        target: str,
        *service: str,
        timeout_s: float,
        metadata: Metadata = (),
        options: ChannelOptions = (),
    ) -> None:
        super().__init__(target, *service, timeout_s=timeout_s, metadata=metadata, options=options)
        self._channel: grpc.Channel | None = grpc.insecure_channel(self.target, options=self._options)
        self._methods = services.multicallables(self._channel, *service)

    def run(
        self,
        exchange: Exchange[T],
        *,
        timeout_s: float | None = None,
        metadata: Metadata | None = None,
        pipe: Pipe | None = None,
    ) -> T:
        """Carry an exchange to its end, under one deadline; its predictions by way of `pipe`, if there is one.

        Raises:
            SidecarError: what the exchange did not catch.
        """
        deadline = self._deadline(timeout_s)
        answer: Message | None = None
        failure: SidecarError | None = None
        while True:
            try:
                step = exchange.throw(failure) if failure else exchange.send(answer)
            except StopIteration as finished:
                result: T = finished.value
                return result
            try:
                answer, failure = self._perform(step, deadline, metadata, pipe), None
            except SidecarError as error:
                answer, failure = None, error

    def stream(
        self, ask: Ask, *, timeout_s: float | None = None, metadata: Metadata | None = None
    ) -> Generator[Message, None, None]:
        """The answers of a server-streaming call, until the server ends it or the iterator is closed."""
        call = self._method(ask)(
            ask.request,
            timeout=None if timeout_s is None else checked_timeout(timeout_s),
            **self._keywords(metadata),
        )
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._translated(error, ask, timeout_s) from error
        finally:
            call.cancel()

    def pipe(self, metadata: Metadata | None = None) -> Pipe:
        """A stream of predictions, open until it is closed."""
        ask = Ask("ModelStreamInfer", ())
        method, keywords = self._method(ask), self._keywords(metadata)
        return Pipe(
            lambda requests: method(requests, **keywords),
            target=self.target,
            translated=lambda error: self._translated(error, ask, timeout_s=None),
        )

    def close(self) -> None:
        """End the connection; calls that still wait fail with CallCancelledError. Closing twice is fine."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def __del__(self) -> None:
        if getattr(self, "_channel", None) is not None:
            warnings.warn(f"unclosed {_unclosed(self)}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def _perform(
        self, step: Ask | Pause, deadline: _Deadline, metadata: Metadata | None, pipe: Pipe | None
    ) -> Message | None:
        if isinstance(step, Pause):
            time.sleep(min(step.seconds, deadline.left_s()))
            return None
        if pipe is not None and isinstance(step.request, ModelInferRequest):
            return pipe.ask(step.request, left_s=deadline.left_s(), timeout_s=deadline.timeout_s)
        method, keywords = self._method(step), self._keywords(metadata)
        request = iter(step.request) if isinstance(step.request, Sequence) else step.request
        try:
            answer: Message = method(
                request, timeout=deadline.left_s(), wait_for_ready=step.wait_for_ready, **keywords
            )
        except grpc.RpcError as error:
            raise self._translated(error, step, deadline.timeout_s) from error
        return answer

    def _method(self, ask: Ask) -> Any:
        if self._channel is None:
            raise RuntimeError(_closed(self))
        return getattr(self._methods, ask.method)


class AsyncConnection(_Way):
    """The same over grpc.aio. It belongs to the event loop of its first call."""

    def __init__(
        self,
        target: str,
        *service: str,
        timeout_s: float,
        metadata: Metadata = (),
        options: ChannelOptions = (),
    ) -> None:
        super().__init__(target, *service, timeout_s=timeout_s, metadata=metadata, options=options)
        self._channel: grpc.aio.Channel | None = None
        self._methods: Any = None
        self._is_closed = False

    async def run(
        self,
        exchange: Exchange[T],
        *,
        timeout_s: float | None = None,
        metadata: Metadata | None = None,
        pipe: AsyncPipe | None = None,
    ) -> T:
        """Carry an exchange to its end, under one deadline; its predictions by way of `pipe`, if there is one.

        Raises:
            SidecarError: what the exchange did not catch.
        """
        deadline = self._deadline(timeout_s)
        answer: Message | None = None
        failure: SidecarError | None = None
        while True:
            try:
                step = exchange.throw(failure) if failure else exchange.send(answer)
            except StopIteration as finished:
                result: T = finished.value
                return result
            try:
                answer, failure = await self._perform(step, deadline, metadata, pipe), None
            except SidecarError as error:
                answer, failure = None, error

    async def stream(
        self, ask: Ask, *, timeout_s: float | None = None, metadata: Metadata | None = None
    ) -> AsyncGenerator[Message, None]:
        """The answers of a server-streaming call, until the server ends it or the iterator is closed."""
        call = self._method(ask)(
            ask.request,
            timeout=None if timeout_s is None else checked_timeout(timeout_s),
            **self._keywords(metadata),
        )
        try:
            async for answer in call:
                yield answer
        except grpc.RpcError as error:
            raise self._translated(error, ask, timeout_s) from error
        finally:
            call.cancel()

    def pipe(self, metadata: Metadata | None = None) -> AsyncPipe:
        """A stream of predictions, open until it is closed."""
        ask = Ask("ModelStreamInfer", ())
        call = self._method(ask)(**self._keywords(metadata))
        return AsyncPipe(
            call, target=self.target, translated=lambda error: self._translated(error, ask, timeout_s=None)
        )

    async def close(self) -> None:
        """End the connection. Closing twice is fine."""
        self._is_closed = True
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def __del__(self) -> None:
        if getattr(self, "_channel", None) is not None:
            warnings.warn(f"unclosed {_unclosed(self)}", ResourceWarning, source=self, stacklevel=2)

    async def _perform(
        self, step: Ask | Pause, deadline: _Deadline, metadata: Metadata | None, pipe: AsyncPipe | None
    ) -> Message | None:
        if isinstance(step, Pause):
            await asyncio.sleep(min(step.seconds, deadline.left_s()))
            return None
        if pipe is not None and isinstance(step.request, ModelInferRequest):
            return await pipe.ask(step.request, left_s=deadline.left_s(), timeout_s=deadline.timeout_s)
        method, keywords = self._method(step), self._keywords(metadata)
        request = iter(step.request) if isinstance(step.request, Sequence) else step.request
        try:
            answer: Message = await method(
                request, timeout=deadline.left_s(), wait_for_ready=step.wait_for_ready, **keywords
            )
        except grpc.RpcError as error:
            raise self._translated(error, step, deadline.timeout_s) from error
        return answer

    def _method(self, ask: Ask) -> Any:
        if self._is_closed:
            raise RuntimeError(_closed(self))
        if self._channel is None:
            # Not in __init__: a client may be made before there is a loop, and a channel clings to the one it finds.
            self._channel = grpc.aio.insecure_channel(self.target, options=self._options)
            self._methods = services.multicallables(self._channel, *self._services)
        return getattr(self._methods, ask.method)


def _unclosed(way: _Way) -> str:
    return f"connection to {way.target}: use `with`, or call close()"


def _closed(way: _Way) -> str:
    return f"the client of {way.target} is closed"
