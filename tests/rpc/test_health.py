"""grpc.health.v1 on both servers: SERVING means "can answer now"."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.rpc_control import ADDER, Control
from support.rpc_plane import ECHO, RPC_S, Plane

from model_sidecar.errors import Reason
from model_sidecar.events import Draining, Event, Published, Refused, Site
from model_sidecar.release.digests import digest_of
from model_sidecar.release.names import Environment, ModelName, Version
from model_sidecar.rpc.health import HealthBoard

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
INFERENCE = "inference.GRPCInferenceService"
DEPLOYMENT = "model_sidecar.v1.DeploymentService"


def published(site: Site, version: str = "2024.01.15.prod") -> Published:
    return Published(
        site, Version(version), digest_of(b""), 1, previous=None, standby=None, from_standby=False, took_s=0.0
    )


class Health:
    """A client of one server's health, and the board behind it."""

    def __init__(self, channel: grpc.Channel, board: HealthBoard, site: Site, meters: Any) -> None:
        self.stub: Any = health_pb2_grpc.HealthStub(channel)
        self.tell: Callable[[Event], None] = board.on_event
        self.site = site
        self.meters = meters

    def check(self, service: str) -> Any:
        return self.stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=RPC_S).status

    @contextmanager
    def watching(self, service: str) -> Iterator[queue.Queue[Any]]:
        """Statuses as they are pushed."""
        seen: queue.Queue[Any] = queue.Queue()
        stream = self.stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=RPC_S)

        def follow() -> None:
            try:
                for answer in stream:
                    seen.put(answer.status)
            except grpc.RpcError as error:
                seen.put(error.code())

        thread = threading.Thread(target=follow)
        thread.start()
        yield seen
        stream.cancel()
        thread.join(RPC_S)


@pytest.fixture(params=["data", "control"])
def health(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Health]:
    if request.param == "data":
        plane = Plane(tmp_path)
        with plane.running(), grpc.insecure_channel(str(plane.bound[0])) as channel:
            yield Health(channel, plane.health, ECHO, plane.meters)
    else:
        control = Control(tmp_path)
        with control.running(), control.channel() as channel:
            yield Health(channel, control.health, ADDER, control.meters)


def test_serving_begins_with_the_first_published_version(health: Health) -> None:
    """Before it only liveness and the control plane are SERVING, after it everything is."""
    readiness = ("", "readiness", INFERENCE, health.site.model)
    assert {health.check(service) for service in readiness} == {NOT_SERVING}
    assert {health.check(service) for service in ("liveness", DEPLOYMENT)} == {SERVING}
    health.tell(published(health.site))
    assert {health.check(service) for service in (*readiness, "liveness", DEPLOYMENT)} == {SERVING}


def test_a_later_candidate_that_fails_changes_nothing(health: Health) -> None:
    """What is live can answer, so health stays SERVING."""
    health.tell(published(health.site))
    health.tell(
        Refused(health.site, Version("2024.01.16.prod"), Reason.DIGEST_MISMATCH, "no", verification=True)
    )
    assert health.check("") == SERVING


def test_draining_ends_everything_but_liveness(health: Health) -> None:
    """A sidecar that goes down is alive, and nothing else; no late publication changes that."""
    health.tell(published(health.site))
    health.tell(Draining(health.site))
    health.tell(published(health.site))
    services = ("", "readiness", INFERENCE, DEPLOYMENT, health.site.model)
    assert {health.check(service) for service in services} == {NOT_SERVING}
    assert health.check("liveness") == SERVING


def test_an_unknown_service_is_not_found(health: Health) -> None:
    """Check answers NOT_FOUND to a name that nobody knows."""
    with pytest.raises(grpc.RpcError) as caught:
        health.check("nobody")
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert "'nobody'" in error.details()


def test_a_watch_is_told_of_every_change(health: Health) -> None:
    """A watch begins with the status now, and hears of publication and draining without asking."""
    with health.watching("") as seen, health.watching("nobody") as unknown:
        assert seen.get(timeout=RPC_S) == NOT_SERVING
        assert unknown.get(timeout=RPC_S) == UNKNOWN
        health.tell(published(health.site))
        assert seen.get(timeout=RPC_S) == SERVING
        health.tell(published(health.site, "2024.01.16.prod"))
        health.tell(Draining(health.site))
        assert seen.get(timeout=RPC_S) == NOT_SERVING
        assert unknown.empty()
    health.meters.wait_ended("/grpc.health.v1.Health/Watch", "CANCELLED")


def test_many_watches_hold_no_threads(health: Health) -> None:
    """With more watches open than a pool would have threads, checks are answered and all hear of a change."""
    streams = [
        health.stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=RPC_S) for _ in range(100)
    ]
    assert {next(stream).status for stream in streams} == {NOT_SERVING}
    assert health.check("liveness") == SERVING
    health.tell(published(health.site))
    assert {next(stream).status for stream in streams} == {SERVING}
    for stream in streams:
        stream.cancel()


def test_readiness_waits_for_every_model() -> None:
    """With two models, each is SERVING on its own and the whole only with both."""
    one, two = (Site(ModelName(name), Environment("prod")) for name in ("one", "two"))
    board = HealthBoard([one.model, two.model])
    board.on_event(published(one))
    assert (board.status("one"), board.status("two"), board.status("")) == (SERVING, NOT_SERVING, NOT_SERVING)
    board.on_event(published(two))
    assert {board.status(service) for service in ("two", "", "readiness", INFERENCE)} == {SERVING}
