"""Around every call: counted, timed, and its error made a status. One generic handler for each kind of server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from inspect import isasyncgenfunction
from typing import Any

import grpc

from model_sidecar.rpc.meters import Meters
from model_sidecar.rpc.status import Failure
from model_sidecar.rpc.telling import Telling

_OK = "OK"


class _Calls(grpc.GenericRpcHandler):
    """Finds a method among several handlers and wraps it once."""

    def __init__(self, handlers: Sequence[grpc.GenericRpcHandler], meters: Meters) -> None:
        self._handlers = handlers
        self._meters = meters
        self._wrapped: dict[str, Any] = {}
        self._telling = Telling()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The method's handler, or None: gRPC then answers UNIMPLEMENTED."""
        method = handler_call_details.method
        found = self._wrapped.get(method)
        if found is not None:
            return found
        for handler in self._handlers:
            found = handler.service(handler_call_details)
            if found is not None:
                # Only methods that exist are kept: what callers ask for would have no bound.
                return self._wrapped.setdefault(method, self._wrap(found, method))
        return None

    def _wrap(self, handler: Any, method: str) -> Any:
        raise NotImplementedError


class AioCalls(_Calls):
    """For a `grpc.aio` server."""

    def _wrap(self, handler: Any, method: str) -> Any:
        if handler.unary_unary is not None:
            return handler._replace(unary_unary=self._unary(handler.unary_unary, method))
        if handler.stream_unary is not None:
            return handler._replace(stream_unary=self._unary(handler.stream_unary, method))
        if handler.unary_stream is not None:
            return handler._replace(unary_stream=self._stream(handler.unary_stream, method))
        return handler._replace(stream_stream=self._stream(handler.stream_stream, method))

    def _unary(self, behaviour: Callable[[Any, Any], Any], method: str) -> Callable[[Any, Any], Any]:
        meters, clock = self._meters, time.perf_counter

        async def call(request: Any, context: Any) -> Any:
            meters.started(method)
            began, code = clock(), _OK
            try:
                return await behaviour(request, context)
            except asyncio.CancelledError:
                code = _given_up(context)
                raise
            except Exception as error:  # noqa: BLE001 - the edge: whatever it is becomes a status
                failure = self._telling.failure(error, method)
                code = failure.code.name
                await context.abort(failure.code, failure.message, failure.trailing)
            finally:
                meters.handled(method, code, clock() - began)

        return call

    def _stream(self, behaviour: Callable[[Any, Any], Any], method: str) -> Callable[[Any, Any], Any]:
        meters, clock = self._meters, time.perf_counter
        if not isasyncgenfunction(behaviour):
            raise TypeError(f"{method} must be an async generator")

        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            meters.started(method)
            began, code = clock(), _OK
            try:
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        yield response
            except (asyncio.CancelledError, GeneratorExit):
                code = _given_up(context)
                raise
            except Exception as error:  # noqa: BLE001 - as above
                failure = self._telling.failure(error, method)
                code = failure.code.name
                await context.abort(failure.code, failure.message, failure.trailing)
            finally:
                meters.handled(method, code, clock() - began)

        return call


class ThreadCalls(_Calls):
    """For a server with a thread pool."""

    def _wrap(self, handler: Any, method: str) -> Any:
        if handler.unary_unary is not None:
            return handler._replace(unary_unary=self._unary(handler.unary_unary, method))
        if handler.stream_unary is not None:
            return handler._replace(stream_unary=self._unary(handler.stream_unary, method))
        if handler.unary_stream is not None:
            if getattr(handler.unary_stream, "experimental_non_blocking", False):
                return handler._replace(unary_stream=self._pushed(handler.unary_stream, method))
            return handler._replace(unary_stream=self._stream(handler.unary_stream, method))
        return handler._replace(stream_stream=self._stream(handler.stream_stream, method))

    def _unary(self, behaviour: Callable[[Any, Any], Any], method: str) -> Callable[[Any, Any], Any]:
        def call(request: Any, context: Any) -> Any:
            self._meters.started(method)
            began, failure = time.perf_counter(), None
            response = None
            try:
                response = behaviour(request, context)
            except Exception as error:  # noqa: BLE001 - the edge: whatever it is becomes a status
                failure = self._telling.failure(error, method)
            self._meters.handled(method, _code(failure, context), time.perf_counter() - began)
            if failure is not None:
                _abort(context, failure)
            return response

        return call

    def _stream(self, behaviour: Callable[[Any, Any], Any], method: str) -> Callable[[Any, Any], Any]:
        def call(request: Any, context: Any) -> Iterator[Any]:
            self._meters.started(method)
            began, failure = time.perf_counter(), None
            try:
                yield from behaviour(request, context)
            except Exception as error:  # noqa: BLE001 - as above
                # A stream of requests that its caller gave up raises inside the behaviour: no failure of ours.
                failure = self._telling.failure(error, method) if context.is_active() else None
            finally:
                self._meters.handled(method, _code(failure, context), time.perf_counter() - began)
            if failure is not None:
                _abort(context, failure)

        return call

    def _pushed(self, behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
        def call(request: Any, context: Any, send_response_callback: Callable[[Any], None]) -> None:
            self._meters.started(method)
            began = time.perf_counter()
            context.add_callback(
                lambda: self._meters.handled(
                    method, grpc.StatusCode.CANCELLED.name, time.perf_counter() - began
                )
            )
            behaviour(request, context, send_response_callback)

        # gRPC looks for these on the function: it is called once, and the stream stays open without a thread.
        call.experimental_non_blocking = True  # type: ignore[attr-defined]
        call.experimental_thread_pool = None  # type: ignore[attr-defined]
        return call


def _given_up(context: Any) -> str:
    left: float | None = context.time_remaining()
    code = grpc.StatusCode.CANCELLED if left is None or left > 0 else grpc.StatusCode.DEADLINE_EXCEEDED
    return code.name


def _code(failure: Failure | None, context: Any) -> str:
    if failure is not None:
        return failure.code.name
    return _OK if context.is_active() else _given_up(context)


def _abort(context: Any, failure: Failure) -> None:
    context.set_trailing_metadata(failure.trailing)
    context.abort(failure.code, failure.message)
