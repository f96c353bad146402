"""Predictions under pressure: lanes, admission, deadlines, cancellation, draining; no lease is ever left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from support.candidates import Candidates
from support.rpc_models import INLINE_S, POOLED_S, WAIT_S, ComputedModel, counted_loop
from support.rpc_plane import ECHO, RPC_S, Noted, Plane, error_info, infer_request

from model_sidecar.errors import DeadlineOverError
from model_sidecar.events import Draining
from model_sidecar.model.loader import load
from model_sidecar.model.rehearsal import rehearse
from model_sidecar.rpc.predicting import Call, Predictor
from model_sidecar_client.wire.inference import ModelInferRequest, ModelReadyRequest, ServerLiveRequest

ROW = np.array([1.5, -2.0], dtype="<f4").tobytes()
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    with Plane(tmp_path, lanes=1, max_inflight=3).running() as running:
        yield running


@pytest.fixture
def call(plane: Plane) -> Iterator[SimpleNamespace]:
    with plane.calling() as calls:
        yield calls


def held(plane: Plane, version: str = "2024.01.15.prod", *, cost_s: float = POOLED_S) -> ComputedModel:
    """A slow model, live, whose runs wait for its gate."""
    model = ComputedModel(version, cost_s=cost_s)
    model.hold()
    plane.publish(model)
    return model


def wait_begun(model: ComputedModel) -> None:
    assert model.begun.acquire(timeout=WAIT_S)


def wait_working(plane: Plane, count: int) -> None:
    """Until so many predictions have been admitted."""
    meters: Noted = plane.meters
    with meters.changed:
        assert meters.changed.wait_for(lambda: meters.working.get(ECHO, 0) == count, WAIT_S), meters.working


def test_a_quick_model_runs_on_the_loop_and_a_slow_one_in_a_lane(plane: Plane, call: SimpleNamespace) -> None:
    """Where a prediction runs follows from what it is measured to cost, larger requests costing more."""
    quick = ComputedModel("2024.01.10.prod", cost_s=1e-4, warm_bytes=8)
    plane.publish(quick)
    call.ModelInfer(infer_request(ROW), timeout=RPC_S)
    assert quick.threads == {"data-plane"}

    call.ModelInfer(infer_request(ROW * 200, shape=(200, 2)), timeout=RPC_S)
    assert quick.threads == {"data-plane", "lane_0"}

    slow = ComputedModel("2024.01.15.prod", cost_s=POOLED_S)
    plane.publish(slow)
    call.ModelInfer(infer_request(ROW), timeout=RPC_S)
    assert slow.threads == {"lane_0"}


def counting(turns: int) -> ModelInferRequest:
    request = infer_request(ROW)
    request.inputs.add(name="turns", datatype="INT64", shape=[])
    request.raw_input_contents.append(np.int64(turns).tobytes())
    return request


def test_a_model_whose_cost_is_in_its_values_leaves_the_loop(tmp_path: Path) -> None:
    """A rehearsal with zeros finds a loop cheap; after one dear prediction others are answered beside the next."""
    candidates, plane = Candidates(tmp_path / "store"), Plane(tmp_path, lanes=2)
    verified = candidates.verify(counted_loop())
    model = load(verified)
    rehearse(model, verified, timeout_s=WAIT_S)
    assert model.cost_s < 200e-6, "cheap enough for the loop"
    with plane.running(), plane.calling() as call:
        plane.publish(model)
        call.ModelInfer(counting(20_000), timeout=RPC_S)  # the one that is learned from

        slow = call.ModelInfer.future(counting(1_000_000), timeout=RPC_S)
        wait_working(plane, 1)
        assert call.ModelInfer(counting(1), timeout=RPC_S).model_version == model.version
        assert call.ServerLive(ServerLiveRequest(), timeout=RPC_S).live
        assert not slow.done()
        assert slow.result().model_version == model.version
    model.close()
    candidates.close()


def test_waiting_is_not_held_against_a_model(plane: Plane, call: SimpleNamespace) -> None:
    """What counts is the loop's own work: after a run that had to wait, and was moved, a quick model is on the loop again."""
    model = ComputedModel()
    model.hold()
    plane.publish(model)
    threading.Timer(0.05, model.gate.set).start()
    call.ModelInfer(infer_request(ROW), timeout=RPC_S)
    model.threads.clear()
    call.ModelInfer(infer_request(ROW), timeout=RPC_S)
    assert model.threads == {"data-plane"}


def test_what_was_never_measured_at_such_a_size_runs_in_a_lane(plane: Plane, call: SimpleNamespace) -> None:
    """However cheap it would be in proportion: a cost may grow faster than the rows do."""
    model = ComputedModel(cost_s=1e-9, warm_bytes=8)
    plane.publish(model)
    call.ModelInfer(infer_request(ROW * 100, shape=(100, 2)), timeout=RPC_S)
    assert model.threads == {"data-plane"}
    call.ModelInfer(infer_request(ROW * 400, shape=(400, 2)), timeout=RPC_S)
    assert model.threads == {"data-plane", "lane_0"}


def test_a_slow_model_does_not_hold_up_the_loop(plane: Plane, call: SimpleNamespace) -> None:
    """While every lane is busy, other calls are answered."""
    model = held(plane)
    busy = call.ModelInfer.future(infer_request(ROW), timeout=RPC_S)
    wait_begun(model)
    assert call.ServerLive(ServerLiveRequest(), timeout=RPC_S).live
    model.gate.set()
    assert busy.result().model_version


def test_more_than_is_taken_on_is_refused_with_pushback(plane: Plane, call: SimpleNamespace) -> None:
    """Over the limit a prediction is refused at once, with the limit and a time to come back; the others are answered."""
    model = held(plane)
    taken = [call.ModelInfer.future(infer_request(ROW), timeout=RPC_S) for _ in range(3)]
    wait_working(plane, 3)

    with pytest.raises(grpc.RpcError) as caught:
        call.ModelInfer(infer_request(ROW), timeout=RPC_S)

    error: Any = caught.value
    assert (error.code(), error_info(error).reason) == (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert "--max-inflight" in error.details()
    assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
    model.gate.set()
    assert [each.result().model_version for each in taken] == [model.version] * 3
    assert call.ModelInfer(infer_request(ROW), timeout=RPC_S).model_version
    assert plane.meters.predictions[0]["code"] == "RESOURCE_EXHAUSTED"


def test_what_waits_past_its_deadline_is_never_run(plane: Plane, call: SimpleNamespace) -> None:
    """A prediction whose caller stopped waiting before a lane was free, which nobody expected, costs nothing."""
    model = held(plane, cost_s=1e-3)
    busy = call.ModelInfer.future(infer_request(ROW), timeout=RPC_S)
    wait_begun(model)

    with pytest.raises(grpc.RpcError) as caught:
        call.ModelInfer(infer_request(ROW), timeout=1.0)

    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED
    # At the deadline both sides give up, and the server may hear of the caller's before its own clock says so.
    plane.meters.wait_ended(INFER, "DEADLINE_EXCEEDED", "CANCELLED")
    model.gate.set()
    busy.result()
    call.ModelInfer(infer_request(ROW), timeout=RPC_S)
    assert model.runs == 2


def test_what_is_cancelled_before_a_lane_is_free_is_never_run(plane: Plane, call: SimpleNamespace) -> None:
    """A prediction cancelled while it waits costs nothing."""
    model = held(plane)
    busy = call.ModelInfer.future(infer_request(ROW), timeout=RPC_S)
    wait_begun(model)
    given_up = call.ModelInfer.future(infer_request(ROW), timeout=RPC_S)
    wait_working(plane, 2)

    given_up.cancel()

    plane.meters.wait_ended(INFER, "CANCELLED")
    model.gate.set()
    busy.result()
    call.ModelInfer(infer_request(ROW), timeout=RPC_S)
    assert model.runs == 2
    assert [each["code"] for each in plane.meters.predictions] == ["CANCELLED", "OK", "OK"]


def test_a_cancelled_prediction_holds_its_model_until_the_run_has_ended(
    plane: Plane, call: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """A run cannot be taken back, so its model is released after it and not before; nothing is logged as an error."""
    model = held(plane, "2024.01.01.prod")
    running = call.ModelInfer.future(infer_request(ROW), timeout=RPC_S)
    wait_begun(model)
    for version in ("2024.01.10.prod", "2024.01.15.prod"):
        plane.publish(ComputedModel(version, cost_s=POOLED_S))  # the second pushes the held one off the stage

    running.cancel()
    plane.meters.wait_ended(INFER, "CANCELLED")
    assert plane.released == []

    model.gate.set()
    assert call.ModelInfer(infer_request(ROW), timeout=RPC_S).model_version == "2024.01.15.prod"
    assert plane.released == [model]
    assert "InvalidState" not in caplog.text
    assert "Traceback" not in caplog.text


def test_a_waiting_prediction_is_answered_by_what_is_live_when_it_runs(
    plane: Plane, call: SimpleNamespace
) -> None:
    """A flip does not wait for what waits: that is answered by the new version."""
    model = held(plane, "2024.01.10.prod")
    first = call.ModelInfer.future(infer_request(ROW), timeout=RPC_S)
    wait_begun(model)
    second = call.ModelInfer.future(infer_request(ROW), timeout=RPC_S)
    wait_working(plane, 2)
    plane.publish(ComputedModel("2024.01.15.prod"))
    model.gate.set()
    assert first.result().model_version == "2024.01.10.prod"
    assert second.result().model_version == "2024.01.15.prod"


def test_no_lease_is_left_behind_by_a_storm_of_cancellations(tmp_path: Path) -> None:
    """After hundreds of calls, most given up at random moments, every replaced model was released."""
    with Plane(tmp_path, lanes=2, max_inflight=64).running() as plane, plane.calling() as call:
        models = [
            ComputedModel(f"2024.01.{day:02}.prod", cost_s=POOLED_S if day % 2 else 1e-6)
            for day in range(1, 21)
        ]
        plane.publish(models[0])
        stop = threading.Event()

        def storm(seed: int) -> None:
            waits = np.random.default_rng(seed).uniform(0, 0.003, size=1000)
            for wait in waits:
                if stop.is_set():
                    return
                future = call.ModelInfer.future(infer_request(ROW), timeout=RPC_S)
                stop.wait(wait)
                future.cancel()

        with ThreadPoolExecutor(4) as pool:
            storms = [pool.submit(storm, seed) for seed in range(4)]
            for model in models[1:]:
                assert stop.wait(0.02) is False
                plane.publish(model)
            stop.set()
            for each in storms:
                each.result(WAIT_S)
        # One after all of them through each lane: whatever was running has ended by then.
        for _ in range(4):
            call.ModelInfer(infer_request(ROW), timeout=RPC_S)
        wait_working(plane, 0)
        assert {each.version for each in plane.released} == {each.version for each in models[:-2]}


@pytest.mark.parametrize("cost_s", [1e-6, POOLED_S])
def test_nothing_is_run_for_whom_nobody_waits(plane: Plane, cost_s: float) -> None:
    """A request whose deadline is over when the model would be run is not run, on the loop or in a lane."""
    model = ComputedModel(cost_s=cost_s)
    plane.publish(model)
    call = Call(size=8, arrived=time.perf_counter(), ends=time.monotonic() - 0.001)
    with pytest.raises(DeadlineOverError):
        Predictor(max_message_bytes=1 << 20, max_run_s=WAIT_S).predict(plane.served, infer_request(ROW), call)
    assert model.runs == 0


def test_draining_refuses_the_new_and_answers_the_old(tmp_path: Path) -> None:
    """Going down, predictions in flight are answered, and whoever comes after is told UNAVAILABLE."""
    plane = Plane(tmp_path)
    with plane.running(), plane.calling() as call:
        model = held(plane)
        early = call.ModelInfer.future(infer_request(ROW), timeout=RPC_S)
        wait_begun(model)
        draining = threading.Thread(target=plane.server.drain, args=(WAIT_S,))
        plane.health.on_event(Draining(ECHO))
        draining.start()
        codes = set()
        while StatusCode.UNAVAILABLE not in codes:
            late = call.ModelInfer.future(infer_request(ROW), timeout=0.2)
            codes.add(late.code())
        model.gate.set()
        assert early.result().model_version == model.version
        draining.join(WAIT_S)
        assert not draining.is_alive()


def test_a_drain_is_over_when_the_last_is_answered(tmp_path: Path) -> None:
    """As long as one prediction is in flight, nobody is told that the server may stop."""
    plane, over = Plane(tmp_path), threading.Event()
    with plane.running(), plane.calling() as call:
        model = held(plane)
        last = call.ModelInfer.future(infer_request(ROW), timeout=RPC_S)
        wait_begun(model)
        plane.server._loop.call_soon_threadsafe(plane.server._inference.drain, over.set)  # type: ignore[union-attr]
        call.ServerLive(ServerLiveRequest(), timeout=RPC_S)  # answered after that, by the same loop
        assert not over.is_set()
        model.gate.set()
        assert last.result().model_version == model.version
        assert over.wait(WAIT_S)


def test_refusing_while_draining_names_the_reason(tmp_path: Path) -> None:
    """A call that reaches a draining sidecar on an open connection learns why it is refused, and is not ready."""
    plane = Plane(tmp_path)
    with plane.running(), plane.calling() as call:
        plane.publish(ComputedModel())
        call.ServerLive(ServerLiveRequest(), timeout=RPC_S)
        plane.server._loop.call_soon_threadsafe(plane.server._inference.drain, lambda: None)  # type: ignore[union-attr]
        with pytest.raises(grpc.RpcError) as caught:
            call.ModelInfer(infer_request(ROW), timeout=RPC_S)
        assert (caught.value.code(), error_info(caught.value).reason) == (StatusCode.UNAVAILABLE, "DRAINING")
        assert not call.ModelReady(ModelReadyRequest(name="echo"), timeout=RPC_S).ready


def test_stopping_gives_the_socket_back_and_can_be_repeated(tmp_path: Path) -> None:
    """After a stop nothing stands where the socket was, and another stop does nothing."""
    plane = Plane(tmp_path)
    with plane.running():
        assert Path(plane.bound[0].path or "").is_socket()
    assert not plane.folder.exists(), list(plane.folder.iterdir())
    plane.server.stop()


@pytest.mark.parametrize("cost_s", [INLINE_S, POOLED_S])
def test_a_run_that_never_returns_does_not_keep_the_process(tmp_path: Path, cost_s: float) -> None:
    """Draining and stopping end a second after the grace, with the loop or a lane in the middle of a run."""
    plane = Plane(tmp_path, lanes=1)
    plane.bound = plane.server.start()
    model = ComputedModel(cost_s=cost_s)
    model.hold()
    plane.publish(model)
    with plane.calling() as call:
        endless = call.ModelInfer.future(infer_request(ROW), timeout=RPC_S)
        wait_begun(model)
        begun = time.monotonic()
        plane.server.drain(0.2)
        plane.server.stop()
        assert time.monotonic() - begun < 2
        model.gate.set()
        plane.server._thread.join(WAIT_S)
        endless.cancel()
    assert not plane.server._thread.is_alive()
    plane.folder.rmdir()


def test_a_second_stop_amid_a_drain_is_quick_and_quiet(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Told again to stop, the server gives up what is in flight at once, and prints no tracebacks about it."""
    plane = Plane(tmp_path, lanes=1)
    with plane.running(), plane.calling() as call:
        model = held(plane)
        given_up = [call.ModelInfer.future(infer_request(ROW), timeout=RPC_S) for _ in range(3)]
        wait_begun(model)
        wait_working(plane, 3)
        draining = threading.Thread(target=plane.server.drain, args=(WAIT_S,))
        draining.start()
        plane.server.stop()
        draining.join(2)
        assert not draining.is_alive()
        assert {each.code() for each in given_up} <= {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}
        model.gate.set()
    assert "Traceback" not in capfd.readouterr().err
