"""The data plane alone, put together from the product's own rooms, so that one thing at a time can be left out or changed.

    python plane.py unix:/…/data.sock --store STORE [--kind aio|threads] [--meters] [--lanes 2]

`aio` is the product's server. `threads` is what it could be instead: the same predictor behind gRPC's thread pool, where
the thread that took a call also runs it, for the predictor is any thread's. Nothing watches here: no notes are taken.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.yard import MODEL, PROD

from harness.echo import OPTIONS
from model_sidecar.app.ledgers import open_ledger
from model_sidecar.app.preparing import preparer
from model_sidecar.config import Address
from model_sidecar.events import Site
from model_sidecar.rpc.calls import ThreadCalls
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


def serve_aio(served: ServedSite, path: str, meters: Meters, *, lanes: int) -> DataServer:
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


def serve_threads(served: ServedSite, path: str, meters: Meters, *, lanes: int) -> grpc.Server:
    """The same predictor behind a thread pool, listening."""
    predictor = Predictor(max_message_bytes=MESSAGE_BYTES, max_run_s=SECONDS)
    by_name = Sites([served])

    def infer(content: bytes, context: Any) -> bytes:
        left = context.time_remaining()
        ends = None if left is None else time.monotonic() + left
        call = Call(size=len(content), arrived=time.perf_counter(), ends=ends)
        request = parse_request(content)
        found = by_name.served(request.model_name)
        meters.inflight(found.site, 1)
        try:
            answer = predictor.predict(found, request, call)
            assert answer is not None, "only a bound on the cost makes it None"
            return answer
        finally:
            meters.inflight(found.site, -1)
            meters.predicted(
                found.site,
                call.version,
                code="OK",
                total_s=time.perf_counter() - call.arrived,
                inference_s=call.timings.infer_s,
                queue_s=call.timings.queue_s,
                rows=call.rows,
            )

    server = grpc.server(ThreadPoolExecutor(lanes), options=OPTIONS)
    handler: Any = grpc.unary_unary_rpc_method_handler(infer)
    handlers = [grpc.method_handlers_generic_handler(services.INFERENCE, {"ModelInfer": handler})]
    server.add_generic_rpc_handlers((ThreadCalls(handlers, meters),))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    return server


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--kind", choices=["aio", "threads"], default="aio")
    parser.add_argument("--meters", action="store_true")
    parser.add_argument("--lanes", type=int, default=2)
    chosen = parser.parse_args()
    sys.setswitchinterval(0.0005)  # as the sidecar
    served = site_of(chosen.store)
    meters: Meters = Unmetered()
    if chosen.meters:
        metrics = Metrics(software="benchmark")
        metrics.watch(served)
        meters = metrics.meters
    path = chosen.target.removeprefix("unix:")
    serve = serve_aio if chosen.kind == "aio" else serve_threads
    _running = serve(served, path, meters, lanes=chosen.lanes)
    threading.Event().wait()


if __name__ == "__main__":
    main()
