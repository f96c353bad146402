"""The data plane alone, put together from the product's own rooms, so that one thing at a time can be left out or changed.

    python plane.py unix:/…/data.sock --store STORE [--kind product|loop|threads] [--meters] [--lanes 2]

`product` is the product's server. `loop` and `threads` are the same predictor without its admission, so that nothing but
the kind of server differs: behind `grpc.aio`, which runs cheap models itself and hands others to a lane; and behind gRPC's
thread pool, where the thread that took a call also runs it. Nothing watches here: no notes are taken.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.yard import MODEL, PROD

from harness.echo import OPTIONS
from model_sidecar.app.ledgers import open_ledger
from model_sidecar.app.preparing import preparer
from model_sidecar.config import Address
from model_sidecar.events import Site
from model_sidecar.rpc.convert import parse_request
from model_sidecar.rpc.health import HealthBoard
from model_sidecar.rpc.inference import InferenceService
from model_sidecar.rpc.meters import Meters
from model_sidecar.rpc.predicting import Call, Predictor
from model_sidecar.rpc.servers import DataServer
from model_sidecar.rpc.sites import Sites
from model_sidecar.serving.orders import DeployOrder, Outcome, RollbackOrder
from model_sidecar.serving.site import ServedSite
from model_sidecar.serving.stage import Stage
from model_sidecar.serving.status import Status, StatusBoard
from model_sidecar.store.versions import VersionStore
from model_sidecar.telemetry.metrics import Metrics
from model_sidecar_client.wire import services

SITE = Site(MODEL, PROD)
MESSAGE_BYTES, INFLIGHT, BACKLOG, SECONDS = 64 << 20, 256, 1024, 60.0
INLINE_S = 200e-6
"""As in rpc.predictions."""


class Unmetered:
    """Counts nothing."""

    def started(self, method: str) -> None:
        """Nothing."""

    def handled(self, method: str, code: str, seconds: float) -> None:
        """Nothing."""

    def predicted(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def inflight(self, site: Site, delta: int) -> None:
        """Nothing."""


class _NoOrders:
    def submit(self, order: DeployOrder | RollbackOrder) -> Future[Outcome]:
        raise NotImplementedError(order)


def site_of(store: Path) -> ServedSite:
    """The store's newest version, verified, loaded and live."""
    versions = VersionStore(store)
    stage = Stage(keep_standby=True, on_idle=lambda _: None)
    prepare = preparer(versions, SITE.model, allow_external_data=False)
    prepared = prepare(versions.versions(SITE.model)[0], None)
    stage.publish(prepared.model, generation=1)
    ledger = open_ledger(versions.layout, SITE.model, SITE.environment)
    return ServedSite(
        SITE, stage, StatusBoard(Status(site=SITE, sidecar="one")), _NoOrders(), ledger, versions
    )


def serve_product(served: ServedSite, path: str, meters: Meters, *, lanes: int) -> DataServer:
    """The product's data server, listening."""
    inference = InferenceService(
        [served],
        lanes=lanes,
        max_inflight=INFLIGHT,
        max_queue_wait_s=SECONDS,
        max_run_s=SECONDS,
        max_message_bytes=MESSAGE_BYTES,
        meters=meters,
        software="benchmark",
    )
    server = DataServer(
        inference,
        HealthBoard([SITE.model]),
        addresses=(Address(path=path),),
        max_message_bytes=MESSAGE_BYTES,
        max_inflight=INFLIGHT,
        backlog=BACKLOG,
        socket_mode=0o600,
        meters=meters,
    )
    server.start()
    return server


def _call(content: bytes, context: Any) -> Call:
    left = context.time_remaining()
    ends = None if left is None else time.monotonic() + left
    return Call(size=len(content), arrived=time.perf_counter(), ends=ends)


def serve_threads(served: ServedSite, path: str, _meters: Meters, *, lanes: int) -> grpc.Server:
    """The predictor behind a thread pool, listening."""
    predictor = Predictor(max_message_bytes=MESSAGE_BYTES, max_run_s=SECONDS)
    by_name = Sites([served])

    def infer(content: bytes, context: Any) -> bytes:
        request = parse_request(content)
        answer = predictor.predict(by_name.served(request.model_name), request, _call(content, context))
        assert answer is not None, "only a bound on the cost makes it None"
        return answer

    server = grpc.server(ThreadPoolExecutor(lanes), options=OPTIONS)
    handler: Any = grpc.unary_unary_rpc_method_handler(infer)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(services.INFERENCE, {"ModelInfer": handler}),)
    )
    server.add_insecure_port(f"unix:{path}")
    server.start()
    return server


def serve_loop(served: ServedSite, path: str, _meters: Meters, *, lanes: int) -> threading.Thread:
    """The predictor behind `grpc.aio`, listening."""
    predictor = Predictor(max_message_bytes=MESSAGE_BYTES, max_run_s=SECONDS)
    pool = ThreadPoolExecutor(lanes)

    async def serve() -> None:
        by_name = Sites([served])
        loop = asyncio.get_running_loop()

        async def infer(content: bytes, context: Any) -> bytes:
            request, call = parse_request(content), _call(content, context)
            site = by_name.served(request.model_name)
            answer = predictor.predict(site, request, call, within_s=INLINE_S)
            if answer is None:
                answer = await loop.run_in_executor(pool, predictor.predict, site, request, call)
            assert answer is not None, "only a bound on the cost makes it None"
            return answer

        server = aio.server(options=OPTIONS)
        handler: Any = grpc.unary_unary_rpc_method_handler(infer)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(services.INFERENCE, {"ModelInfer": handler}),)
        )
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        await server.wait_for_termination()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    return thread


KINDS: dict[str, Callable[..., object]] = {
    "product": serve_product,
    "loop": serve_loop,
    "threads": serve_threads,
}


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--kind", choices=sorted(KINDS), default="product")
    parser.add_argument("--meters", action="store_true")
    parser.add_argument("--lanes", type=int, default=2)
    chosen = parser.parse_args()
    sys.setswitchinterval(0.0001)  # as the sidecar
    served = site_of(chosen.store)
    meters: Meters = Unmetered()
    if chosen.meters:
        metrics = Metrics(software="benchmark")
        metrics.watch(served)
        meters = metrics.meters
    path = chosen.target.removeprefix("unix:")
    _running = KINDS[chosen.kind](served, path, meters, lanes=chosen.lanes)
    threading.Event().wait()


if __name__ == "__main__":
    main()
