"""Runs that nobody waits for any more are ended: real models whose cost is in their values, stopped amid their work."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from support.candidates import Candidates
from support.rpc_models import WAIT_S, counted_loop
from support.rpc_plane import ECHO, RPC_S, Plane, infer_request

from model_sidecar.model.brake import Brake
from model_sidecar.model.loader import load
from model_sidecar.model.rehearsal import rehearse
from model_sidecar.rpc.timekeeper import Timekeeper
from model_sidecar_client.wire.inference import ModelInferRequest, ServerLiveRequest

INFER = "/inference.GRPCInferenceService/ModelInfer"
FOR_HOURS = 10**12


def counting(turns: int) -> ModelInferRequest:
    request = infer_request(b"\x00" * 8)
    request.inputs.add(name="turns", datatype="INT64", shape=[])
    request.raw_input_contents.append(np.int64(turns).tobytes())
    return request


@contextmanager
def counter(tmp_path: Path, **settings: Any) -> Iterator[tuple[Plane, SimpleNamespace]]:
    """A plane on which the counting model is live, rehearsed as cheap."""
    candidates, plane = Candidates(tmp_path / "store"), Plane(tmp_path, **settings)
    verified = candidates.verify(counted_loop())
    model = load(verified)
    rehearse(model, verified, timeout_s=WAIT_S)
    with plane.running(), plane.calling() as call:
        plane.publish(model)
        yield plane, call
    model.close()
    candidates.close()


def failed(future: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        future.result()
    return caught.value


def test_a_run_ends_with_its_callers_deadline(tmp_path: Path) -> None:
    """A prediction that would take hours holds the only lane no longer than its caller waits."""
    with counter(tmp_path, lanes=1) as (_, call):
        endless = call.ModelInfer.future(counting(FOR_HOURS), timeout=0.5)
        assert failed(endless).code() is StatusCode.DEADLINE_EXCEEDED
        assert call.ModelInfer(counting(1), timeout=RPC_S).model_version


def test_a_run_ends_when_its_caller_gives_up(tmp_path: Path) -> None:
    """A prediction that is cancelled amid its run gives its lane back."""
    with counter(tmp_path, lanes=1) as (plane, call):
        endless = call.ModelInfer.future(counting(FOR_HOURS))
        with plane.meters.changed:
            assert plane.meters.changed.wait_for(lambda: plane.meters.working.get(ECHO, 0) == 1, WAIT_S)
        endless.cancel()
        assert call.ModelInfer(counting(1), timeout=RPC_S).model_version
        plane.meters.wait_ended(INFER, "CANCELLED")


def test_no_run_takes_longer_than_the_server_allows(tmp_path: Path) -> None:
    """A caller without a deadline is told so, and of the setting, when its run is stopped."""
    with counter(tmp_path, lanes=1, max_run_s=0.3) as (_, call):
        error = failed(call.ModelInfer.future(counting(FOR_HOURS)))
        assert error.code() is StatusCode.DEADLINE_EXCEEDED
        assert "--max-run" in error.details()
        assert call.ModelInfer(counting(1), timeout=RPC_S).model_version


def test_the_first_dear_run_leaves_the_loop_too(tmp_path: Path) -> None:
    """What was taken for cheap and is not is stopped on the loop and run in a lane: meanwhile others are answered."""
    with counter(tmp_path, lanes=2) as (_, call):
        endless = call.ModelInfer.future(counting(FOR_HOURS))
        assert call.ServerLive(ServerLiveRequest(), timeout=RPC_S).live
        assert call.ModelInfer(counting(1), timeout=RPC_S).model_version
        assert not endless.done()
        endless.cancel()


def test_stopping_does_not_wait_for_a_run_that_can_be_stopped(tmp_path: Path) -> None:
    """A drain that is over ends the runs in the lanes: no thread goes on computing for nobody."""
    with counter(tmp_path, lanes=1) as (plane, call):
        call.ModelInfer(counting(100_000), timeout=RPC_S)
        endless = call.ModelInfer.future(counting(FOR_HOURS))
        with plane.meters.changed:
            assert plane.meters.changed.wait_for(lambda: plane.meters.working.get(ECHO, 0) == 1, WAIT_S)
        plane.server.drain(0.1)
        assert failed(endless).code() in {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}
        plane.stage.clear()
        end = time.monotonic() + WAIT_S
        while not plane.released:
            assert time.monotonic() < end, "the run goes on and holds its model"
            time.sleep(0.01)  # the lane has no event for it


def test_a_timekeeper_sleeps_and_wakes() -> None:
    """With nothing to watch for a second it sleeps, and the next run is ended in time all the same."""
    keeper = Timekeeper()
    end = time.monotonic() + WAIT_S
    while not keeper._asleep:
        assert time.monotonic() < end
        time.sleep(0.01)
    over, unlimited = Brake(), Brake()
    keeper.begin(over, time.monotonic())
    kept = keeper.begin(unlimited, time.monotonic() + 3600)
    while not over.pulled:
        assert time.monotonic() < end + WAIT_S
        time.sleep(0.001)
    assert not unlimited.pulled
    keeper.end(kept)
    keeper.stop()


def test_runs_do_not_rouse_a_timekeeper_that_is_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under traffic it looks by itself: a wake-up for each run would cost more than a small model does."""
    roused = 0

    class Counted(threading.Event):
        def set(self) -> None:
            nonlocal roused
            roused += 1
            super().set()

    monkeypatch.setattr("model_sidecar.rpc.timekeeper.threading.Event", Counted)
    keeper = Timekeeper()
    for _ in range(200):
        keeper.end(keeper.begin(Brake(), time.monotonic() + WAIT_S))
    assert roused <= 2
    keeper.stop()


def test_a_brake_that_was_pulled_before_the_run_ends_it() -> None:
    """Whenever it is pulled, before or after the runner takes hold of it, the run hears of it."""
    told: list[str] = []
    brake = Brake()
    brake.pull()
    brake.fit(lambda: told.append("before"))
    later = Brake()
    later.fit(lambda: told.append("after"))
    later.pull()
    assert told == ["before", "after"]
