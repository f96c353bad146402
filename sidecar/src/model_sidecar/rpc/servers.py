"""The two gRPC servers: predictions on a loop of their own, control on threads of its own.

Overload of the one never delays the other, so a rollback or a probe is answered while predictions are refused.
"""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import grpc
from grpc import aio

from model_sidecar.config import Address
from model_sidecar.errors import ConfigurationError
from model_sidecar.rpc import health, reflection
from model_sidecar.rpc.calls import AioCalls, ThreadCalls
from model_sidecar.rpc.deployment import DeploymentService
from model_sidecar.rpc.feedback import AioFeedback, ThreadFeedback
from model_sidecar.rpc.front import Front
from model_sidecar.rpc.health import AioHealth, HealthBoard, ThreadHealth, health_handler
from model_sidecar.rpc.inference import InferenceService
from model_sidecar.rpc.meters import GuardedMeters, Meters
from model_sidecar.rpc.monitoring import MonitoringCalls, serialized
from model_sidecar.rpc.sockets import Placed, placed, placing
from model_sidecar_client.wire import services

_START_S = 30.0
# After the grace. A model that never returns from a run cannot be stopped, and must not keep the process: each of the
# two servers is waited for so long at most, all calls of `stop` and `drain` together.
_STOP_S = 1.0
_SETTLE_S = 2.0
_QUIET_S = 0.25
_GLANCE_S = 0.05
_HELD_S = 2.0
_ENDED_S = 0.25
_TOLD_S = 0.2
_TELL_S = 5.0
_SPARE_THREADS = 8
# A backstop behind --max-inflight, which has the better words: calls that wait for the loop are not seen by that.
_SPARE_CALLS = 1024
_CONTROL_CALLS = 512
_STREAMS = 2
# Data connections leave so many descriptors to everything else: the control plane's connections, each of which takes
# three, models that are loaded, the store, a rollback's record.
_OTHER_DESCRIPTORS = 512
_MOST_CONNECTIONS = 4096
_FEWEST_CONNECTIONS = 16


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        # Else a second sidecar on the same port starts silently and takes half the calls.
        ("grpc.so_reuseport", 0),
        # It widens each stream's window by what the whole connection brings: of a hundred streams that nobody reads, each
        # would be taken 40 MiB instead of 7. Whoever is near gains nothing by it.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        # Whoever connects and does not speak HTTP/2 is not kept for the two minutes that gRPC would give him.
        ("grpc.server_handshake_timeout_ms", 10_000),
    ]


class DataServer:
    """The data plane: a `grpc.aio` server on a thread with a loop of its own."""

    def __init__(
        self,
        inference: InferenceService,
        board: HealthBoard,
        *,
        addresses: Iterable[Address],
        max_message_bytes: int,
        max_inflight: int,
        backlog: int,
        socket_mode: int,
        meters: Meters,
        feedback: AioFeedback | None = None,
    ) -> None:
        self._inference = inference
        self._feedback = feedback
        self._health = AioHealth(board)
        self._addresses = tuple(addresses)
        self._max_message_bytes = max_message_bytes
        self._max_inflight = max_inflight
        self._backlog = backlog
        self._socket_mode = socket_mode
        self._meters = GuardedMeters(meters)
        self._places = ExitStack()
        self._bound: Future[tuple[Address, ...]] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = asyncio.Event()
        self._settled_at = self._held_until = 0.0  # in the loop's time
        self._given_up_at = float("inf")  # monotonic
        self._thread = threading.Thread(target=self._run, name="data-plane", daemon=True)

    def start(self) -> tuple[Address, ...]:
        """Listen; the addresses as they are bound, with the real port for port 0.

        Raises:
            ConfigurationError: an address is taken or cannot be used.
        """
        self._thread.start()
        return self._bound.result(_START_S)

    def drain(self, grace_s: float) -> None:
        """Refuse new predictions, answer those in flight within `grace_s`, then stop. A later call can only shorten it.

        At the end the sockets are gone, and what was still in flight is cancelled. Returns within `grace_s` and a second:
        a run that holds the loop or a lane is not waited for any longer.
        """
        if self._loop is None:
            return
        self._given_up_at = min(self._given_up_at, time.monotonic() + grace_s + _STOP_S)
        with suppress(RuntimeError):  # the loop is closed: stopped before
            self._loop.call_soon_threadsafe(self._end, grace_s)
        self._thread.join(max(0.0, self._given_up_at - time.monotonic()))

    def stop(self) -> None:
        """Stop at once."""
        self.drain(0)

    def _end(self, grace_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._settled_at = loop.time() + min(grace_s, _SETTLE_S)
        self._held_until = loop.time() + min(grace_s, _SETTLE_S + _HELD_S)
        self._inference.drain(self._over.set)
        loop.call_later(grace_s, self._over.set)

    async def _quiet(self, *, until: float) -> None:
        """Wait until nobody has asked for a moment, or it is so late.

        A moment in which this loop itself was held up counts for nothing: callers on a busy machine are held up as well.
        """
        loop = asyncio.get_running_loop()
        calm_since = now = loop.time()
        while now < until and now - calm_since < _QUIET_S:
            await asyncio.sleep(_GLANCE_S)
            before, now = now, loop.time()
            if now - before > 2 * _GLANCE_S or self._inference.quiet_s < now - before:
                calm_since = now

    async def _hang_up(self, server: aio.Server) -> None:
        """Stop the server, so that no caller is left without a word.

        When a server stops, gRPC cancels every call that has arrived and was not taken on yet, and there always is one
        where somebody asks again as soon as he is refused. So the last refusals are held back until callers were told
        (GOAWAY) to send nothing more on this connection.
        """
        if not self._inference.idle:
            await server.stop(None)  # given up
            return
        self._inference.hold_refusals()
        await self._quiet(until=self._held_until)
        # They would use the grace up, which is for answers on a busy machine; without them a stop ends as soon as it can.
        self._health.end_watches()
        self._inference.end_streams()
        # Once only: grpc.aio (1.85) crashes the process where two stops overlap.
        stopping = asyncio.create_task(server.stop(_TELL_S))
        await asyncio.sleep(_TOLD_S)
        self._inference.send_refusals()
        await stopping

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._bound.done():
                raise
            self._bound.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = aio.server(
            options=[
                *_options(self._max_message_bytes),
                # What waits in gRPC's own queue is not seen by any of our limits, and is older the longer that queue
                # is. Cut off there it costs some microseconds, and a third of a millisecond where Python refuses it.
                ("grpc.server.max_pending_requests", self._backlog),
                ("grpc.server.max_pending_requests_hard_limit", self._backlog),
                # For one connection alone; those that were reset count until gRPC has forgotten them.
                ("grpc.max_concurrent_streams", _STREAMS * self._backlog),
                ("grpc.max_allowed_incoming_connections", _most_connections()),
            ],
            maximum_concurrent_rpcs=self._max_inflight + _SPARE_CALLS,
        )
        handlers = [*self._inference.handlers(), health_handler(self._health)]
        if self._feedback is not None:
            handlers.append(services.handler(services.FEEDBACK, self._feedback))
        server.add_generic_rpc_handlers((AioCalls(handlers, self._meters),))
        with self._places:
            try:
                bound = tuple(self._bind(server, address) for address in self._addresses)
                await server.start()
                self._bound.set_result(bound)
                await self._over.wait()
                # DRAINING, until callers have taken notice.
                await self._quiet(until=self._settled_at)
                await self._hang_up(server)
                await _cancelled_calls()
            finally:
                self._inference.close()

    def _bind(self, server: aio.Server, address: Address) -> Address:
        if address.path is None:
            return _bind_tcp(server.add_insecure_port, address)
        path = Path(address.path)
        with placing(path, mode=self._socket_mode) as name:
            server.add_insecure_port(f"unix:{name}")
        self._places.callback(placed(path).remove)
        return address


class ControlServer:
    """The control plane: DeploymentService, FeedbackService, health and reflection on a thread pool."""

    def __init__(
        self,
        deployment: DeploymentService,
        board: HealthBoard,
        *,
        monitoring: MonitoringCalls,
        addresses: Iterable[Address],
        max_message_bytes: int,
        socket_mode: int,
        meters: Meters,
        feedback: ThreadFeedback | None = None,
    ) -> None:
        self._deployment = deployment
        self._addresses = tuple(addresses)
        self._socket_mode = socket_mode
        self._places = ExitStack()
        self._fronts: list[Front] = []
        handlers = [
            services.handler(services.DEPLOYMENT, deployment),
            services.handler(services.FEEDBACK, monitoring, serializers={"GetDrift": serialized}),
            health_handler(ThreadHealth(board)),
        ]
        shown = (services.DEPLOYMENT, services.FEEDBACK, health.SERVICE)
        threads = deployment.waiting_calls + reflection.STREAMS + _SPARE_THREADS
        if feedback is not None:
            handlers.append(services.handler(services.FEEDBACK, feedback))
            threads += feedback.waiting_calls
        handlers.append(reflection.Reflection(shown).handler())
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="control")
        self._server = grpc.server(
            self._pool, options=_options(max_message_bytes), maximum_concurrent_rpcs=_CONTROL_CALLS
        )
        self._server.add_generic_rpc_handlers((ThreadCalls(handlers, GuardedMeters(meters)),))

    def start(self) -> tuple[Address, ...]:
        """Listen; the addresses as they are bound, with the real port for port 0.

        Raises:
            ConfigurationError: an address is taken or cannot be used.
        """
        try:
            bound = tuple(self._bind(address) for address in self._addresses)
        except BaseException:
            self._places.close()
            raise
        self._server.start()
        for front in self._fronts:
            front.start()
        return bound

    def stop(self, grace_s: float = 0) -> None:
        """End watches, let other calls end within `grace_s`, and take the sockets away; a second longer at most."""
        ends = time.monotonic() + grace_s + _STOP_S
        self._deployment.stop()
        self._server.stop(grace_s).wait(grace_s + _STOP_S / 2)
        for front in self._fronts:
            front.stop(timeout_s=max(0.0, ends - time.monotonic()))
        self._places.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _bind(self, address: Address) -> Address:
        if address.path is None:
            return _bind_tcp(self._server.add_insecure_port, address)
        path = Path(address.path)
        listening = socket.socket(socket.AF_UNIX)
        self._places.callback(listening.close)
        with placing(path, mode=self._socket_mode) as name:
            inner = self._inner_folder(path)
            listening.bind(name)
            listening.listen(128)
        socket_at_place: Placed = placed(path)
        self._places.callback(socket_at_place.remove)
        own = f"{inner}/{secrets.token_hex(8)}"  # random for the reason that `placing` gives
        self._server.add_insecure_port(f"unix:{own}")
        self._fronts.append(Front(listening, inner=own, names=inner))
        return address

    def _inner_folder(self, path: Path) -> str:
        # Its name is fixed, so that a sidecar that was killed leaves nothing that its successor does not reuse.
        folder = path.parent / f".{path.name}.inner"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            self._places.callback(os.close, descriptor)
            if os.fstat(descriptor).st_uid != os.geteuid():
                raise PermissionError(f"{folder} belongs to another user")
            os.fchmod(descriptor, 0o700)
            for left in folder.iterdir():
                left.unlink()
        except OSError as error:
            raise ConfigurationError(f"cannot listen on unix:{path}: {error}") from error
        self._places.callback(_remove_folder, folder)
        return f"/proc/self/fd/{descriptor}"


async def _cancelled_calls() -> None:
    """Wait, for a moment, until the calls that the server's stop has cancelled have ended.

    Left to the end of the loop, grpc.aio (1.85) prints a traceback for each of them.
    """
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=_ENDED_S)


def _most_connections() -> int:
    """How many data connections may be open at once. Each takes some ten kilobytes, and a descriptor."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(_FEWEST_CONNECTIONS, min(_MOST_CONNECTIONS, soft - _OTHER_DESCRIPTORS))


def _bind_tcp(add: Callable[[str], int], address: Address) -> Address:
    try:
        port = add(str(address))
    except RuntimeError as error:
        raise ConfigurationError(
            f"cannot listen on {address}: the port is taken, by another sidecar perhaps, or the host has no such address"
        ) from error
    return replace(address, port=port)


def _remove_folder(folder: Path) -> None:
    try:
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()
    except OSError:
        return  # the next start clears it
