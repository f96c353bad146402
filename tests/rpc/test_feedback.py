"""Notes and feedback on the data plane: a request never waits for them, nor fails by them, and neither does the loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from support.rpc_models import POOLED_S, ComputedModel
from support.rpc_plane import RPC_S, Plane, infer_request

from model_sidecar.monitor.intake import Note
from model_sidecar.monitor.log.feedback import Feedback, FeedbackDesk, FeedbackOutcome, FeedbackReport
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec
from model_sidecar.rpc.feedback import AioFeedback
from model_sidecar_client.wire import feedback as wire
from model_sidecar_client.wire import services
from model_sidecar_client.wire.inference import ModelInferRequest

ROW = np.array([1.5, -2.0], dtype="<f4").tobytes()
OUTPUTS = (TensorSpec("label", Datatype.INT64, (-1,)), TensorSpec("probabilities", Datatype.FP32, (-1, 2)))
CLASSIFIER = Signature((TensorSpec("x", Datatype.FP32, (-1, 2)),), OUTPUTS)


class Noting:
    """Notes that are remembered, or fail."""

    def __init__(self) -> None:
        self.notes: list[tuple[Note, int]] = []
        self.fails = False

    def note(self, note: Note, size: int) -> None:
        if self.fails:
            raise RuntimeError("no")
        self.notes.append((note, size))

    failed = note


class HangingLog:
    """A log that has not answered yet."""

    sample = 1.0

    def __init__(self) -> None:
        self.asked = threading.Event()

    def submit(self, task: Any, *, failed: Any) -> None:
        self.asked.set()


class Desk:
    """As much of the monitor as the service wants."""

    def __init__(self) -> None:
        self.log = HangingLog()
        self.feedback = FeedbackDesk(self.log)

    def model(self, name: str) -> Any:
        raise NotImplementedError(name)


class Joining:
    """A desk that joins everything at once."""

    def __init__(self) -> None:
        self.given: list[Feedback] = []
        self.feedback: Any = self
        self.threads: set[str] = set()

    def record(self, feedback: list[Feedback]) -> Future[FeedbackReport]:
        self.threads.add(threading.current_thread().name)
        self.given += feedback
        future: Future[FeedbackReport] = Future()
        future.set_result(FeedbackReport({FeedbackOutcome.JOINED: len(feedback)}, ()))
        return future

    def model(self, name: str) -> Any:
        raise NotImplementedError(name)


def classified(inputs: dict[str, Any]) -> dict[str, Any]:
    count = len(inputs["x"])
    return {"label": np.ones(count, np.int64), "probabilities": np.full((count, 2), 0.5, np.float32)}


@pytest.fixture
def noting() -> Noting:
    return Noting()


@pytest.fixture
def plane(tmp_path: Path, noting: Noting) -> Iterator[Plane]:
    with Plane(tmp_path, notes=noting).running() as running:
        running.publish(ComputedModel(signature=CLASSIFIER, compute=classified))
        yield running


@pytest.fixture
def call(plane: Plane) -> Iterator[SimpleNamespace]:
    with plane.calling() as calls:
        yield calls


def test_an_answer_is_noted_as_it_went_out(plane: Plane, call: SimpleNamespace, noting: Noting) -> None:
    """One note holds the answer's id, its arrays, its rows and about the bytes that they take."""
    answer = call.ModelInfer(infer_request(ROW), timeout=RPC_S)
    ((note, size),) = noting.notes
    assert note.prediction_id == answer.parameters["prediction_id"].string_param
    assert (note.site, note.rows, note.key) == (plane.site, 1, None)
    assert note.inputs["x"].tolist() == [[1.5, -2.0]]
    assert set(note.outputs) == {"label", "probabilities"}
    assert 0 < size < 1000


def test_a_model_in_a_lane_is_noted_too(plane: Plane, call: SimpleNamespace, noting: Noting) -> None:
    """Whatever thread runs the model."""
    plane.publish(ComputedModel("2024.01.20.prod", signature=CLASSIFIER, compute=classified, cost_s=POOLED_S))
    call.ModelInfer(infer_request(ROW), timeout=RPC_S)
    assert [note.model.version for note, _ in noting.notes] == ["2024.01.20.prod"]


def test_what_is_watched_is_noted_where_less_was_asked_for(call: SimpleNamespace, noting: Noting) -> None:
    """The answer holds the outputs that were asked for; the note also those that the prediction is read from."""
    request = infer_request(ROW)
    request.outputs.add(name="probabilities")
    answer = call.ModelInfer(request, timeout=RPC_S)
    assert [each.name for each in answer.outputs] == ["probabilities"]
    assert set(noting.notes[0][0].outputs) == {"label", "probabilities"}


@pytest.mark.parametrize(
    ("parameter", "key"),
    [({"string_param": "s-1"}, "s-1"), ({"int64_param": 7}, 7), ({"bool_param": True}, None)],
)
def test_the_caller_says_what_rows_depend_on(
    call: SimpleNamespace, noting: Noting, parameter: dict[str, Any], key: object
) -> None:
    """The parameter monitor_key, a string or an int64, stands in the note; anything else is ignored."""
    request = infer_request(ROW)
    request.parameters["monitor_key"].CopyFrom(type(request.parameters["monitor_key"])(**parameter))
    call.ModelInfer(request, timeout=RPC_S)
    assert noting.notes[0][0].key == key


def test_typed_and_empty_requests(call: SimpleNamespace, noting: Noting) -> None:
    """Typed lists may be larger in memory than on the wire, and are noted as such; a request without rows is not noted."""
    typed = ModelInferRequest(model_name="echo")
    tensor = typed.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    tensor.contents.fp32_contents[:] = [1.0, 2.0]
    call.ModelInfer(typed, timeout=RPC_S)
    call.ModelInfer(infer_request(ROW), timeout=RPC_S)
    call.ModelInfer(infer_request(b"", shape=(0, 2)), timeout=RPC_S)
    assert len(noting.notes) == 2
    assert noting.notes[0][1] > 4 * noting.notes[1][1]


def test_a_note_that_fails_fails_no_request(
    call: SimpleNamespace, noting: Noting, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer goes out, and the trouble is told once."""
    noting.fails = True
    for _ in range(3):
        call.ModelInfer(infer_request(ROW), timeout=RPC_S)
    assert caplog.text.count("could not be noted") == 1


def test_a_log_that_hangs_holds_up_nothing(tmp_path: Path) -> None:
    """Feedback is refused after a while with LOG_UNAVAILABLE; predictions are answered meanwhile."""
    desk = Desk()
    with (
        Plane(tmp_path, feedback=AioFeedback(desk)).running() as plane,
        plane.calling() as call,
        grpc.insecure_channel(str(plane.bound[0])) as channel,
    ):
        plane.publish(ComputedModel())
        piece = wire.Feedback(prediction_id="019a2b3c4d500000-9f86d081", number=1.0)
        request = wire.RecordFeedbackRequest(feedback=[piece])
        waiting = services.multicallables(channel, services.FEEDBACK).RecordFeedback.future(
            request, timeout=RPC_S
        )
        assert desk.log.asked.wait(RPC_S)
        call.ModelInfer(infer_request(ROW), timeout=RPC_S)
        assert not waiting.done()
        assert waiting.exception(RPC_S).code() is grpc.StatusCode.UNAVAILABLE
        assert "hangs" in waiting.exception().details()
        # Else gRPC would try it again by itself until the caller's deadline, and the caller would learn no more than that.
        assert dict(waiting.trailing_metadata())["grpc-retry-pushback-ms"] == "-1"


def test_much_feedback_is_made_ready_off_the_loop(tmp_path: Path) -> None:
    """A message of many pieces is worked on by another thread than the one that answers predictions."""
    joining = Joining()
    with (
        Plane(tmp_path, feedback=AioFeedback(joining)).running() as plane,
        grpc.insecure_channel(str(plane.bound[0])) as channel,
    ):
        calls = services.multicallables(channel, services.FEEDBACK)
        piece = wire.Feedback(prediction_id="x", label="fraud", source="s", replace=True)
        answer = calls.RecordFeedback(wire.RecordFeedbackRequest(feedback=[piece] * 500), timeout=RPC_S)
        assert answer.counts.joined == 500
        assert "data-plane" not in joining.threads
        requests = [wire.RecordFeedbackStreamRequest(feedback=[piece] * 2)] * 3
        assert calls.RecordFeedbackStream(iter(requests), timeout=RPC_S).counts.joined == 6
    assert joining.given[0] == Feedback(prediction_id="x", truth="fraud", source="s", replace=True)
