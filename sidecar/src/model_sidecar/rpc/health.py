"""grpc.health.v1 on both servers, from one board: SERVING means "can answer now".

A model is SERVING from its first published version until the sidecar drains: a later candidate that fails changes
nothing. (Under `--swap-mode unload-first`, it is NOT_SERVING while the live version has given way to the next.) "" and "readiness" are SERVING when every model is; "liveness" as long as the process answers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from model_sidecar.errors import NotFoundError, Reason
from model_sidecar.events import Draining, Event, GaveWay, Published
from model_sidecar.release.names import ModelName
from model_sidecar_client.wire import services

SERVICE = "grpc.health.v1.Health"
LIVENESS = "liveness"
READINESS = "readiness"

_SERVING = HealthCheckResponse.SERVING
_NOT_SERVING = HealthCheckResponse.NOT_SERVING
_UNKNOWN = HealthCheckResponse.SERVICE_UNKNOWN
_OVERALL = ("", READINESS, services.INFERENCE)
_Wake = Callable[[], None]


class HealthBoard:
    """What is healthy at the moment. Any thread may read, watch and tell it of events."""

    def __init__(self, models: Iterable[ModelName]) -> None:
        """Begin with every model NOT_SERVING."""
        self._lock = threading.Lock()  # guards everything below
        self._waiting: set[str] = set(models)
        self._draining = False
        self._watchers: set[_Wake] = set()
        self._statuses: dict[str, Any] = dict.fromkeys(
            (LIVENESS, services.DEPLOYMENT, services.FEEDBACK), _SERVING
        )
        self._statuses |= dict.fromkeys((*_OVERALL, *self._waiting), _NOT_SERVING)

    def on_event(self, event: Event) -> None:
        """Take in what happened; a listener for the sites' events."""
        with self._lock:
            if isinstance(event, Published) and not self._draining:
                self._waiting.discard(event.site.model)
                changes: dict[str, Any] = {event.site.model: _SERVING}
                if not self._waiting:
                    changes |= dict.fromkeys(_OVERALL, _SERVING)
            elif isinstance(event, GaveWay):
                self._waiting.add(event.site.model)
                changes = dict.fromkeys((*_OVERALL, event.site.model), _NOT_SERVING)
            elif isinstance(event, Draining):
                self._draining = True
                changes = {service: _NOT_SERVING for service in self._statuses if service != LIVENESS}
            else:
                return
            before = dict(self._statuses)
            self._statuses |= changes
            watchers = list(self._watchers) if self._statuses != before else []
        for wake in watchers:
            wake()

    def status(self, service: str) -> Any:
        """The service's status now; SERVICE_UNKNOWN for one that nobody knows."""
        return self._statuses.get(service, _UNKNOWN)

    def watch(self, wake: _Wake) -> Callable[[], None]:
        """Have `wake` called after every change, on the thread that made it; returns what ends that."""
        with self._lock:
            self._watchers.add(wake)
        return lambda: self._forget(wake)

    def _forget(self, wake: _Wake) -> None:
        with self._lock:
            self._watchers.discard(wake)


class AioHealth:
    """The service for a `grpc.aio` server."""

    def __init__(self, board: HealthBoard) -> None:
        self._board = board
        self._over = False
        self._watches: set[asyncio.Event] = set()

    def end_watches(self) -> None:
        """Let every watch end, and every new one at once. The loop's own."""
        self._over = True
        for changed in self._watches:
            changed.set()

    async def Check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:
        """The status now; NOT_FOUND for an unknown service."""
        return _checked(self._board, request.service)

    async def Watch(self, request: HealthCheckRequest, context: Any) -> AsyncIterator[HealthCheckResponse]:
        """The status now, and again whenever it is another, until the server hangs up."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody watches any more
                loop.call_soon_threadsafe(changed.set)

        forget = self._board.watch(wake)
        self._watches.add(changed)
        try:
            last = None
            while not self._over:
                changed.clear()
                status = self._board.status(request.service)
                if status != last:
                    last = status
                    yield HealthCheckResponse(status=status)
                await changed.wait()
        finally:
            self._watches.discard(changed)
            forget()


class ThreadHealth:
    """The service for a server with a thread pool; a watch holds no thread of it."""

    def __init__(self, board: HealthBoard) -> None:
        self._board = board

    def Check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:
        """The status now; NOT_FOUND for an unknown service."""
        return _checked(self._board, request.service)

    def Watch(
        self, request: HealthCheckRequest, context: Any, send_response_callback: Callable[[Any], None]
    ) -> None:
        """The status now, and again whenever it is another."""
        sending = threading.Lock()  # guards last, and keeps what is sent in order
        last: list[Any] = [None]

        def send() -> None:
            with sending:
                status = self._board.status(request.service)
                if status != last[0]:
                    last[0] = status
                    send_response_callback(HealthCheckResponse(status=status))

        forget = self._board.watch(send)

        def ended() -> None:
            forget()
            send_response_callback(None)

        context.add_callback(ended)
        send()

    # gRPC looks for these on the function (its own health package does the same).
    Watch.experimental_non_blocking = True  # type: ignore[attr-defined]
    Watch.experimental_thread_pool = None  # type: ignore[attr-defined]


def health_handler(implementation: AioHealth | ThreadHealth) -> grpc.GenericRpcHandler:
    """What a server has to be given."""
    read, write = HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
    check: Any = grpc.unary_unary_rpc_method_handler(
        implementation.Check, request_deserializer=read, response_serializer=write
    )
    watch: Any = grpc.unary_stream_rpc_method_handler(
        implementation.Watch, request_deserializer=read, response_serializer=write
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"Check": check, "Watch": watch})


def _checked(board: HealthBoard, service: str) -> HealthCheckResponse:
    status = board.status(service)
    if status == _UNKNOWN:
        raise NotFoundError(
            f"no service or model {service[:200]!r} is known to this sidecar's health",
            reason=Reason.MODEL_NOT_FOUND,
        )
    return HealthCheckResponse(status=status)
