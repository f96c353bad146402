"""Who may wait for a lane: whoever can be answered in time, by what predictions have really cost; the others know at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from support.rpc_models import WAIT_S, ComputedModel
from support.rpc_plane import ECHO, RPC_S, Plane, error_info, infer_request

from model_sidecar.errors import OverloadedError
from model_sidecar.model.brake import Brake
from model_sidecar.rpc.lanes import Lanes
from model_sidecar.rpc.waiting import Job

ROW = b"\x00" * 8
COST_S = 1.0


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    with Plane(tmp_path, lanes=1, max_queue_wait_s=1.5 * COST_S).running() as running:
        yield running


@pytest.fixture
def call(plane: Plane) -> Iterator[SimpleNamespace]:
    with plane.calling() as calls:
        yield calls


def busy(plane: Plane, call: SimpleNamespace, model: ComputedModel) -> Any:
    """A prediction that holds the only lane until the model's gate is opened."""
    model.hold()
    plane.publish(model)
    running = call.ModelInfer.future(infer_request(ROW), timeout=RPC_S)
    assert model.begun.acquire(timeout=WAIT_S)
    return running


def refused(call: SimpleNamespace, *, timeout: float | None) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call.ModelInfer(infer_request(ROW), timeout=timeout)
    error: Any = caught.value
    assert (error.code(), error_info(error).reason) == (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    return error


def pushback_s(error: Any) -> float:
    return int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) / 1000


def test_who_cannot_be_answered_in_time_is_refused_at_once(plane: Plane, call: SimpleNamespace) -> None:
    """With a second of work ahead of it, a request with half a second left is told when to come back, and never run."""
    model = ComputedModel(cost_s=COST_S)
    running = busy(plane, call, model)

    error = refused(call, timeout=COST_S / 2)

    assert "its deadline is in" in error.details()
    assert 0 < pushback_s(error) <= 1.5 * COST_S
    model.gate.set()
    running.result()
    assert call.ModelInfer(infer_request(ROW), timeout=RPC_S).model_version
    assert model.runs == 2


def test_who_would_wait_longer_than_anybody_should_is_refused(plane: Plane, call: SimpleNamespace) -> None:
    """A caller without a deadline waits as long as the setting says, and the next one is refused with its name."""
    model = ComputedModel(cost_s=COST_S)
    running = busy(plane, call, model)
    waiting = call.ModelInfer.future(infer_request(ROW))
    with plane.meters.changed:
        assert plane.meters.changed.wait_for(lambda: plane.meters.working.get(ECHO, 0) == 2, WAIT_S)

    assert "--max-queue-wait" in refused(call, timeout=None).details()

    model.gate.set()
    assert {running.result().model_version, waiting.result().model_version} == {model.version}


def test_a_free_lane_takes_whatever_comes(plane: Plane, call: SimpleNamespace) -> None:
    """However dear a model is taken to be, it is run where nobody has to wait: else no estimate could ever be mended."""
    plane.publish(ComputedModel(cost_s=1000.0))
    assert call.ModelInfer(infer_request(ROW), timeout=RPC_S).model_version


def test_a_free_lane_is_free_however_busy_the_others_are(tmp_path: Path) -> None:
    """Beside a run that is taken to last very long, the second lane takes a request that could not wait for it."""
    with Plane(tmp_path, lanes=2, max_queue_wait_s=COST_S).running() as plane, plane.calling() as call:
        dear = ComputedModel(cost_s=1000.0)
        running = busy(plane, call, dear)
        plane.publish(ComputedModel("2024.01.16.prod", cost_s=COST_S))
        assert call.ModelInfer(infer_request(ROW), timeout=RPC_S).model_version == "2024.01.16.prod"
        dear.gate.set()
        running.result()


def test_what_predictions_really_cost_counts_more_than_their_rehearsal(
    plane: Plane, call: SimpleNamespace
) -> None:
    """A model that was rehearsed as very slow, and answers quickly, may be waited for after its first answer."""
    model = ComputedModel(cost_s=1000.0)
    plane.publish(model)
    call.ModelInfer(infer_request(ROW), timeout=RPC_S)
    assert model.begun.acquire(timeout=WAIT_S)
    running = busy(plane, call, model)

    waiting = call.ModelInfer.future(infer_request(ROW), timeout=RPC_S)
    with plane.meters.changed:
        assert plane.meters.changed.wait_for(lambda: plane.meters.working.get(ECHO, 0) == 2, WAIT_S)

    model.gate.set()
    assert running.result().model_version == waiting.result().model_version == model.version


def test_what_waits_is_bounded_in_bytes() -> None:
    """Of requests that wait, one may be of any size, and all together only so large; what is let go of makes room."""
    begun, gate = threading.Event(), threading.Event()
    lanes = Lanes(1, max_wait_s=60, max_waiting_bytes=100)

    def job(size: int) -> Job:
        return Job(cost_s=0.01, size=size, ends=None, brake=Brake())

    def held() -> bool:
        begun.set()
        return gate.wait(WAIT_S)

    async def story() -> None:
        async def ask(size: int) -> bool:
            return await lanes.run(held, job(size))

        running = asyncio.create_task(ask(1000))
        await asyncio.to_thread(begun.wait, WAIT_S)
        large = asyncio.create_task(ask(1000))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="1000 bytes wait"):
            await ask(1)
        large.cancel()
        await asyncio.wait([large])
        waiting = asyncio.create_task(ask(60))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="60 bytes wait"):
            await ask(60)
        gate.set()
        assert await running
        assert await waiting

    asyncio.run(story())
    lanes.close()
    assert lanes.expected_wait_s() == 0


def test_a_wait_behind_a_run_that_hangs_is_expected_to_be_long(plane: Plane, call: SimpleNamespace) -> None:
    """Of a run that is over its time nobody knows the end: who comes then is not told that it will be soon."""
    model = ComputedModel(cost_s=1e-3)
    running = busy(plane, call, model)
    lanes = plane.server._inference._predictions._lanes
    before = lanes.expected_wait_s()
    assert not model.gate.wait(0.2)
    assert lanes.expected_wait_s() - before >= 0.19
    model.gate.set()
    running.result()
