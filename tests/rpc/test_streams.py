"""Predictions over a stream: order, errors of single messages, flips, back-pressure, cancellation, draining."""

from __future__ import annotations

import base64
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from support.rpc_models import POOLED_S, WAIT_S, ComputedModel, doubled
from support.rpc_plane import RPC_S, Plane, error_info, infer_request

from model_sidecar.release.tensors import Datatype, Signature, TensorSpec
from model_sidecar.rpc.envelopes import answered, request_id
from model_sidecar_client.wire.inference import (
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)

A, B = "2024.01.10.prod", "2024.01.15.prod"
METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
CHEAP_AND_DEAR = pytest.mark.parametrize("cost_s", [1e-6, POOLED_S])


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    with Plane(tmp_path).running() as running:
        yield running


@pytest.fixture
def call(plane: Plane) -> Iterator[SimpleNamespace]:
    with plane.calling() as calls:
        yield calls


def row(x: float, **fields: Any) -> ModelInferRequest:
    return infer_request(np.array([x, 0], "<f4").tobytes(), **fields)


def number(message: ModelStreamInferResponse) -> float:
    """The first number of an answer."""
    assert not message.error_message
    return float(np.frombuffer(message.infer_response.raw_output_contents[0], "<f4")[0])


def slowly_doubled(inputs: dict[str, Any]) -> dict[str, Any]:
    time.sleep(0.02)
    return doubled(inputs)


class Asker:
    """A stream that is asked one message at a time; `asked` counts how many gRPC has taken of it."""

    def __init__(self, call: SimpleNamespace) -> None:
        self.asked = 0
        self._requests: queue.SimpleQueue[ModelInferRequest | None] = queue.SimpleQueue()
        self.answers: Any = call.ModelStreamInfer(self._outgoing(), timeout=RPC_S)

    def _outgoing(self) -> Iterator[ModelInferRequest]:
        while (request := self._requests.get()) is not None:
            self.asked += 1
            yield request

    def send(self, *requests: ModelInferRequest | None) -> None:
        for request in requests:
            self._requests.put(request)

    def ask(self, request: ModelInferRequest) -> ModelStreamInferResponse:
        self.send(request)
        answer: ModelStreamInferResponse = next(self.answers)
        return answer


@CHEAP_AND_DEAR
def test_answers_come_in_the_order_of_the_requests(
    plane: Plane, call: SimpleNamespace, cost_s: float
) -> None:
    """Two hundred messages in one go are answered one for one, tagged and counted like any prediction."""
    plane.publish(ComputedModel(B, compute=doubled, cost_s=cost_s), generation=7)

    answers = list(call.ModelStreamInfer((row(x, id=f"{x}") for x in range(200)), timeout=RPC_S))

    assert [number(each) for each in answers] == [2 * x for x in range(200)]
    told = [each.infer_response for each in answers]
    assert [each.id for each in told] == [str(x) for x in range(200)]
    assert {(each.model_version, each.parameters["generation"].int64_param) for each in told} == {(B, 7)}
    assert len({each.parameters["prediction_id"].string_param for each in told}) == 200
    plane.meters.wait_ended(METHOD, "OK")
    assert [(each["version"], each["code"]) for each in plane.meters.predictions] == [(B, "OK")] * 200
    assert not any(plane.meters.working.values())


def test_a_fast_message_waits_for_the_slow_one_before_it(plane: Plane, call: SimpleNamespace) -> None:
    """What is ready early is sent in its turn."""
    slow, fast = ComputedModel(A, compute=doubled, cost_s=POOLED_S), ComputedModel(B, compute=doubled)
    plane.publish(slow)
    plane.publish(fast)
    asker = Asker(call)
    assert number(asker.ask(row(1))) == 2
    slow.hold()
    asker.send(row(2, model_version=A), row(3))
    assert slow.begun.acquire(timeout=WAIT_S)
    while fast.runs < 2:
        time.sleep(0.01)
    slow.gate.set()
    assert [next(asker.answers).infer_response.model_version for _ in range(2)] == [A, B]


@CHEAP_AND_DEAR
def test_an_error_is_its_own_messages_and_the_stream_goes_on(
    plane: Plane, call: SimpleNamespace, cost_s: float
) -> None:
    """The words, the id, and in parameters what a unary call has in its trailers; the messages around are answered."""
    plane.shelve("2024.01.01.prod")
    plane.publish(ComputedModel(B, compute=doubled, cost_s=cost_s))
    stranger = row(1, id="stranger")
    stranger.model_name = "other"
    bad = [
        (row(1, name="z", id="misnamed"), "INVALID_INPUT"),
        (row(1, model_version="2024.01.01.prod", id="asleep"), "VERSION_NOT_RESIDENT"),
        (row(1, model_version="2023.01.01.prod", id="never"), "VERSION_NOT_FOUND"),
        (stranger, "MODEL_NOT_FOUND"),
    ]
    requests = [each for request, _ in bad for each in (request, row(5))]

    answers = list(call.ModelStreamInfer(iter(requests), timeout=RPC_S))

    assert [number(each) for each in answers[1::2]] == [10] * len(bad)
    for (request, reason), answer in zip(bad, answers[::2], strict=True):
        with pytest.raises(grpc.RpcError) as caught:
            call.ModelInfer(request, timeout=RPC_S)
        unary: Any = caught.value
        assert (answer.error_message, error_info(unary).reason) == (unary.details(), reason)
        told = answer.infer_response
        assert told.id == request.id
        assert told.parameters["grpc-status"].int64_param == unary.code().value[0]
        details = dict(unary.trailing_metadata())["grpc-status-details-bin"]
        assert base64.b64decode(told.parameters["grpc-status-details-bin"].string_param) == details


def test_a_failure_inside_the_model_stays_vague(
    plane: Plane, call: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """The message's caller learns that the model failed, the log learns why."""

    def broken(inputs: object) -> dict[str, np.ndarray]:
        raise RuntimeError("secret weights at 0xdead")

    plane.publish(ComputedModel(compute=broken))
    (answer,) = call.ModelStreamInfer(iter([row(1, id="7")]), timeout=RPC_S)
    assert "the model failed" in answer.error_message
    assert "0xdead" not in answer.error_message
    assert answer.infer_response.id == "7"
    assert "0xdead" in caplog.text


def test_what_is_no_request_is_one_messages_error(plane: Plane) -> None:
    """Bytes that are no ModelInferRequest, small or large, are answered with INVALID_ARGUMENT, and the next is served."""
    plane.publish(ComputedModel())
    sent = [b"\xff\xff\xff", b"\xff" * 100_000, row(1).SerializeToString()]
    with grpc.insecure_channel(str(plane.bound[0])) as channel:
        stream: Any = channel.stream_stream(METHOD)
        told = [ModelStreamInferResponse.FromString(each) for each in stream(iter(sent), timeout=RPC_S)]
    assert [each.infer_response.parameters["grpc-status"].int64_param for each in told] == [3, 3, 0]


def test_an_answer_that_fits_only_without_its_envelope_is_that_messages_error(tmp_path: Path) -> None:
    """The limit of a message counts for what is sent: the stream survives an answer at the very limit."""
    grown = Signature((TensorSpec("x", Datatype.FP32, (-1, 2)),), (TensorSpec("y", Datatype.FP32, (-1,)),))
    with Plane(tmp_path, max_message_bytes=10_000).running() as plane, plane.calling() as call:
        model = ComputedModel(
            signature=grown, compute=lambda inputs: {"y": np.zeros(int(inputs["x"][0, 0]), "<f4")}
        )
        plane.publish(model)
        sizes = range(2400, 2500)
        answers = list(call.ModelStreamInfer((row(size) for size in sizes), timeout=RPC_S))
    failed = [bool(each.error_message) for each in answers]
    assert failed == sorted(failed)
    assert {False, True} == set(failed)
    assert all("--max-message" in each.error_message for each in answers if each.error_message)


def test_each_message_asks_for_its_own_version_and_flips_are_seen(
    plane: Plane, call: SimpleNamespace
) -> None:
    """A flip in mid-stream changes the next answer's numbers and tag together; the one before can still be asked for."""
    plane.publish(ComputedModel(A), generation=1)
    asker = Asker(call)
    assert asker.ask(row(1)).infer_response.model_version == A
    plane.publish(ComputedModel(B, compute=doubled), generation=2)
    assert [
        (number(answer), answer.infer_response.model_version)
        for answer in (asker.ask(row(3)), asker.ask(row(3, model_version="@previous")))
    ] == [(6, B), (3, A)]


def test_triton_s_parameter_for_empty_responses_changes_nothing(plane: Plane, call: SimpleNamespace) -> None:
    """A client that asks for an empty final response gets its one answer."""
    plane.publish(ComputedModel())
    request = row(4)
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    assert [number(each) for each in call.ModelStreamInfer(iter([request]), timeout=RPC_S)] == [4]


def test_one_stream_alone_is_never_refused_for_what_it_has_sent_ahead(tmp_path: Path) -> None:
    """A model that takes longer than anybody may queue: the stream's messages wait for lanes unread instead of being refused."""
    with Plane(tmp_path, lanes=2, max_queue_wait_s=0.1).running() as plane, plane.calling() as call:
        plane.publish(ComputedModel(cost_s=POOLED_S, compute=slowly_doubled))
        answers = list(call.ModelStreamInfer((row(x) for x in range(40)), timeout=RPC_S))
        assert [number(each) for each in answers] == [2 * x for x in range(40)]


def test_a_full_sidecar_refuses_single_messages(tmp_path: Path) -> None:
    """Beyond --max-inflight a message is told when to try again, and the stream is there for it."""
    with Plane(tmp_path, max_inflight=1).running() as plane, plane.calling() as call:
        model = ComputedModel(cost_s=POOLED_S)
        plane.publish(model)
        model.hold()
        busy = call.ModelInfer.future(row(1), timeout=RPC_S)
        assert model.begun.acquire(timeout=WAIT_S)
        asker = Asker(call)
        refused = asker.ask(row(2))
        assert refused.infer_response.parameters["grpc-status"].int64_param == 8
        assert int(refused.infer_response.parameters["grpc-retry-pushback-ms"].string_param) > 0
        model.gate.set()
        busy.result()
        assert number(asker.ask(row(2))) == 2


def test_who_does_not_read_is_not_read(plane: Plane, call: SimpleNamespace) -> None:
    """A caller who sends on and on and reads no answer stops being worked for, and gets every answer once he reads."""
    model = ComputedModel(compute=lambda inputs: {"y": np.repeat(inputs["x"], 4000, axis=0)})
    plane.publish(model)
    total = 3000
    answers = call.ModelStreamInfer((row(x) for x in range(total)), timeout=RPC_S)
    runs = -1
    while model.runs != runs:
        runs = model.runs
        time.sleep(0.5)
    # 32 kB each: some megabytes in gRPC's windows, and at most four in our hand.
    assert 0 < runs < total / 2
    assert [number(each) for each in answers] == list(range(total))
    assert model.runs == total


def test_no_more_than_so_many_are_read_ahead(plane: Plane, call: SimpleNamespace) -> None:
    """While the first message is being worked on, 31 small ones behind it are, too, and no more."""
    slow, fast = ComputedModel(A, cost_s=POOLED_S), ComputedModel(B)
    plane.publish(slow)
    plane.publish(fast)
    asker = Asker(call)
    asker.ask(row(0))
    slow.hold()
    asker.send(row(0, model_version=A), *(row(x) for x in range(200)))
    assert slow.begun.acquire(timeout=WAIT_S)
    while fast.runs < 32:
        time.sleep(0.01)
    time.sleep(0.2)
    assert fast.runs == 32
    slow.gate.set()
    for _ in range(201):
        assert not next(asker.answers).error_message
    assert fast.runs == 201


def test_cancelling_a_stream_ends_its_work(plane: Plane, call: SimpleNamespace) -> None:
    """Runs under way are stopped, those that wait are not begun, and every lease is given back."""
    model = ComputedModel(A, cost_s=POOLED_S)
    plane.publish(model)
    asker = Asker(call)
    asker.ask(row(0))
    assert model.begun.acquire(timeout=WAIT_S)
    model.hold()
    asker.send(*(row(x) for x in range(8)))
    for _ in range(2):
        assert model.begun.acquire(timeout=WAIT_S)
    asker.answers.cancel()
    assert model.braked.wait(WAIT_S)
    plane.meters.wait_ended(METHOD, "CANCELLED")
    with plane.meters.changed:
        assert plane.meters.changed.wait_for(lambda: set(plane.meters.working.values()) == {0}, WAIT_S)
    model.gate.set()
    for version in (B, "2024.01.16.prod"):
        plane.publish(ComputedModel(version))
    deadline = time.monotonic() + WAIT_S
    while not plane.released:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert (plane.released, model.runs) == ([model], 1)


def test_cancelling_a_stream_whose_answers_nobody_reads_ends_it(plane: Plane, call: SimpleNamespace) -> None:
    """A stream that is stuck in sending ends too, with whatever it has in hand."""
    model = ComputedModel(compute=lambda inputs: {"y": np.repeat(inputs["x"], 100_000, axis=0)})
    plane.publish(model)
    answers = call.ModelStreamInfer((row(x) for x in range(1000)), timeout=RPC_S)
    runs = -1
    while model.runs != runs:
        runs = model.runs
        time.sleep(0.3)
    answers.cancel()
    plane.meters.wait_ended(METHOD, "CANCELLED")
    assert len(plane.server._inference._streams._readers) == 0


def test_a_streams_deadline_is_its_messages_deadline(plane: Plane, call: SimpleNamespace) -> None:
    """A run that lasts longer than the stream may is stopped with it."""
    model = ComputedModel(cost_s=POOLED_S)
    plane.publish(model)
    model.hold()
    answers = call.ModelStreamInfer(iter([row(1)]), timeout=1)
    assert model.begun.acquire(timeout=WAIT_S)
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED
    assert model.braked.wait(WAIT_S)
    model.gate.set()
    plane.meters.wait_ended(METHOD, "DEADLINE_EXCEEDED", "CANCELLED")


def test_a_message_beyond_the_limit_ends_the_stream_in_grpcs_words(tmp_path: Path) -> None:
    """The transport refuses to receive it, and ends the stream in its own words; the sidecar serves on."""
    with Plane(tmp_path, max_message_bytes=10_000).running() as plane, plane.calling() as call:
        plane.publish(ComputedModel())
        large = infer_request(b"\0" * 16_000, shape=(2000, 2))
        answers = call.ModelStreamInfer(iter([row(1), large]), timeout=RPC_S)
        with pytest.raises(grpc.RpcError) as caught:
            list(answers)
        assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
        assert number(next(call.ModelStreamInfer(iter([row(2)]), timeout=RPC_S))) == 2


def test_draining_answers_what_was_taken_on_and_refuses_the_rest(tmp_path: Path) -> None:
    """Messages under way are answered, later ones refused one by one; then streams, idle ones too, end with the reason."""
    plane = Plane(tmp_path, lanes=1)
    with plane.running(), plane.calling() as call:
        model = ComputedModel(cost_s=POOLED_S)
        plane.publish(model)
        idle, busy = Asker(call), Asker(call)
        assert number(idle.ask(row(1))) == 1
        assert number(busy.ask(row(1))) == 1
        for _ in range(2):
            assert model.begun.acquire(timeout=WAIT_S)
        model.hold()
        busy.send(row(2))
        assert model.begun.acquire(timeout=WAIT_S)
        draining = threading.Thread(target=plane.server.drain, args=(WAIT_S,))
        draining.start()
        while not plane.server._inference._predictions.draining:
            time.sleep(0.01)
        busy.send(row(3, id="late"))
        with pytest.raises(grpc.RpcError) as caught:
            list(call.ModelStreamInfer(iter([row(1)]), timeout=RPC_S))
        assert error_info(caught.value).reason == "DRAINING"
        model.gate.set()
        assert number(next(busy.answers)) == 2
        late = next(busy.answers)
        assert ("going down" in late.error_message, late.infer_response.id) == (True, "late")
        for stream in (idle, busy):
            with pytest.raises(grpc.RpcError) as caught:
                next(stream.answers)
            assert (caught.value.code(), error_info(caught.value).reason) == (
                StatusCode.UNAVAILABLE,
                "DRAINING",
            )
        draining.join(WAIT_S)
        assert not draining.is_alive()


def test_open_streams_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that stay open and idle never take the calls that predictions need: one too many is refused, a prediction is not."""
    monkeypatch.setattr("model_sidecar.rpc.streams._STREAMS", 1)
    with Plane(tmp_path).running() as plane, plane.calling() as call:
        plane.publish(ComputedModel())
        first = Asker(call)
        assert number(first.ask(row(1))) == 1
        with pytest.raises(grpc.RpcError) as caught:
            Asker(call).ask(row(1))
        assert error_info(caught.value).reason == "OVERLOADED"
        assert number(first.ask(row(2))) == 2
        assert call.ModelInfer(row(1), timeout=RPC_S).id == ""


def test_an_envelope_is_the_message_that_protobuf_would_write() -> None:
    """Whatever the answer's length, around the borders of its encoding."""
    for length in (0, 1, 100, 125, 126, 127, 128, 16_000, 16_381, 16_384, 3_000_000):
        response = ModelInferResponse(id="x" * length)
        expected = ModelStreamInferResponse(infer_response=response)
        assert answered(response.SerializeToString()) == expected.SerializeToString()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (row(1, id="mine").SerializeToString(), "mine"),
        (row(1, id="größer").SerializeToString(), "größer"),
        (row(1).SerializeToString() + ModelInferRequest(id="late").SerializeToString(), "late"),
        (row(1).SerializeToString(), ""),
        (row(1, id="x" * 5000).SerializeToString(), ""),
        (b"", ""),
        (b"\x1a\x05ab", "ab"),
        (b"\x1a\x02\xff\xfe", ""),
        (b"\xff" * 20, ""),
        (b"\x1b", ""),
        (b"\x08\x01" * 100_000 + b"\x1a\x01x", ""),
        (b"\x09" + b"\0" * 8 + b"\x0d" + b"\0" * 4 + b"\x1a\x01x", "x"),
    ],
)
def test_an_id_is_found_without_parsing(content: bytes, found: str) -> None:
    """In whatever order the fields come; nothing where there is none, or no message at all."""
    assert request_id(content) == found
