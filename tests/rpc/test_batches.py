"""Predictions that are run at once: each is answered as if it had been alone, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from numpy.typing import NDArray
from support import batchable
from support.candidates import Candidates
from support.rpc_models import POOLED_S, WAIT_S, Compute, ComputedModel, doubled, echo_signature
from support.rpc_plane import ECHO, RPC_S, Noted, Plane, infer_request
from support.shared import SharedObject, from_region, register

from model_sidecar.errors import InferenceFailedError
from model_sidecar.model.execution import Batching
from model_sidecar.monitor.intake import Note
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec
from model_sidecar_client.wire.inference import ModelInferRequest, ModelStatisticsRequest

INFER = "/inference.GRPCInferenceService/ModelInfer"
BATCHING = Batching(((1, 1.0), (8, 1.2), (64, 2.0)))
FIRST, A, B = "2024.01.05.prod", "2024.01.10.prod", "2024.01.15.prod"


class Notes:
    """Keeps what it is told, as the monitor does for a while."""

    def __init__(self) -> None:
        self.notes: list[Note] = []

    def note(self, note: Note, size: int) -> None:
        assert size > 0
        self.notes.append(note)

    def failed(self, note: Note, size: int) -> None:
        raise AssertionError(f"{note} of {size} bytes was told as failed")


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def plane(tmp_path: Path, notes: Notes) -> Iterator[Plane]:
    with Plane(tmp_path, lanes=1, notes=notes).running() as running:
        yield running


@pytest.fixture
def call(plane: Plane) -> Iterator[SimpleNamespace]:
    with plane.calling() as calls:
        yield calls


def batched(version: str = B, **arguments: Any) -> ComputedModel:
    """A model that is run in lanes, and gains by batches."""
    return ComputedModel(
        version, **{"compute": doubled, "cost_s": POOLED_S, "batching": BATCHING, **arguments}
    )


def asked(rows: Sequence[Sequence[float]], **fields: Any) -> ModelInferRequest:
    array = np.asarray(rows, dtype="<f4")
    return infer_request(array.tobytes(), shape=array.shape, **fields)


def numbers(answer: Any) -> list[list[float]]:
    found: NDArray[Any] = np.frombuffer(answer.raw_output_contents[0], "<f4")
    rows: list[list[float]] = found.reshape(answer.outputs[0].shape[:]).tolist()
    return rows


def wait_working(plane: Plane, count: int) -> None:
    meters: Noted = plane.meters
    with meters.changed:
        assert meters.changed.wait_for(lambda: meters.working.get(ECHO, 0) == count, WAIT_S), meters.working


def behind(
    plane: Plane,
    call: SimpleNamespace,
    model: ComputedModel,
    requests: Sequence[ModelInferRequest],
    *,
    meanwhile: Callable[[list[Any]], None] | None = None,
) -> list[Any]:
    """What came of requests that waited, one after the other, behind a run of this model that held the only lane.

    `meanwhile` is done once all of them wait.
    """
    model.hold()
    plane.publish(model)
    first = call.ModelInfer.future(requests[0], timeout=RPC_S)
    assert model.begun.acquire(timeout=WAIT_S)
    waiting = []
    for number, request in enumerate(requests, start=2):
        waiting.append(call.ModelInfer.future(request, timeout=RPC_S))
        wait_working(plane, number)
    if meanwhile is not None:
        meanwhile(waiting)
    model.gate.set()
    first.result()
    ended = []
    for each in waiting:
        try:
            ended.append(each.result())
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            ended.append(error)
    wait_working(plane, 0)
    return ended


def test_what_waits_for_a_lane_is_run_at_once(plane: Plane, call: SimpleNamespace) -> None:
    """Of any number of rows, raw or typed, each is answered its own rows, in its own form, under its own id."""
    typed = ModelInferRequest(model_name="echo", id="typed")
    tensor = typed.inputs.add(name="x", datatype="FP32", shape=(2, 2))
    tensor.contents.fp32_contents.extend([5, 6, 7, 8])
    model = batched()

    one, other, three = behind(
        plane, call, model, [asked([[1, 2]], id="one"), typed, asked([[9, 10], [11, 12], [13, 14]])]
    )

    assert model.given == [1, 6]
    assert (one.id, numbers(one)) == ("one", [[2, 4]])
    assert (other.id, list(other.outputs[0].contents.fp32_contents)) == ("typed", [10, 12, 14, 16])
    assert numbers(three) == [[18, 20], [22, 24], [26, 28]]
    ids = {each.parameters["prediction_id"].string_param for each in (one, other, three)}
    assert len(ids) == 3
    assert {each.model_version for each in (one, other, three)} == {B}


def test_nobody_waits_for_more_to_come(plane: Plane, call: SimpleNamespace) -> None:
    """Who comes alone is run alone, at once."""
    model = batched()
    plane.publish(model)
    for number in range(3):
        assert numbers(call.ModelInfer(asked([[number, 0]]), timeout=RPC_S)) == [[2 * number, 0]]
    assert model.given == [1, 1, 1]


def test_what_does_not_gain_is_run_by_itself(plane: Plane, call: SimpleNamespace) -> None:
    """A version whose trial found no gain is never batched, however many wait."""
    model = batched(batching=None)
    behind(plane, call, model, [asked([[number, 0]]) for number in range(4)])
    assert model.given == [1] * 5


def real(candidates: Candidates, content: bytes) -> ComputedModel:
    """A real model, with a gate before its runs."""
    loaded = candidates.load(content)
    return batched(signature=loaded.signature, compute=loaded.run, warm_bytes=1 << 20)


def request_of(
    signature: Signature, random: np.random.Generator, *, rows: int, steps: int
) -> ModelInferRequest:
    """A request of random numbers and texts; free dimensions behind the rows have so many steps."""
    request = ModelInferRequest(model_name="echo")
    for spec in signature.inputs:
        shape = (rows, *(steps if size < 0 else size for size in spec.shape[1:]))
        tensor = request.inputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
        if spec.datatype is Datatype.BYTES:
            tensor.contents.bytes_contents.extend(
                random.choice([b"a", b"b", "ä".encode(), b""], size=int(np.prod(shape))).tolist()
            )
        elif spec.datatype is Datatype.INT64:
            tensor.contents.int64_contents.extend(random.integers(-9, 9, size=int(np.prod(shape))).tolist())
        else:
            numbers = random.standard_normal(shape).astype(spec.datatype.numpy)
            tensor.contents.fp32_contents.extend(numbers.ravel().tolist())
    return request


@pytest.mark.parametrize(
    "content",
    [batchable.mlp, batchable.forest, batchable.recurrent, batchable.texts],
    ids=lambda each: each.__name__,
)
def test_an_answer_does_not_depend_on_who_asks_beside(
    plane: Plane, call: SimpleNamespace, tmp_path: Path, content: Callable[[], bytes]
) -> None:
    """For every kind of model, answers of one run are bit for bit those of runs by themselves."""
    candidates = Candidates(tmp_path / "candidates")
    model = real(candidates, content())
    random = np.random.default_rng(3)
    requests = [request_of(model.signature, random, rows=rows, steps=5) for rows in (1, 1, 3, 2, 1, 7)]

    together = behind(plane, call, model, requests)
    alone = [call.ModelInfer(each, timeout=RPC_S) for each in requests]

    assert model.given == [1, 15, *(1, 1, 3, 2, 1, 7)]
    for one, other in zip(together, alone, strict=True):
        assert [each.SerializeToString(deterministic=True) for each in one.outputs] == [
            each.SerializeToString(deterministic=True) for each in other.outputs
        ]
        assert one.raw_output_contents == other.raw_output_contents
    candidates.close()


def test_only_tensors_of_one_shape_are_put_together(
    plane: Plane, call: SimpleNamespace, tmp_path: Path
) -> None:
    """Sequences of different lengths wait in the same queue, and are run with those of their own length."""
    candidates = Candidates(tmp_path / "candidates")
    model = real(candidates, batchable.recurrent())
    random = np.random.default_rng(3)
    requests = [
        request_of(model.signature, random, rows=rows, steps=steps)
        for rows, steps in ((1, 2), (1, 3), (2, 2), (2, 3), (4, 2))
    ]

    ended = behind(plane, call, model, requests)

    assert model.given == [1, 7, 3]
    assert [each.outputs[0].shape[0] for each in ended] == [1, 1, 2, 2, 4]
    candidates.close()


@pytest.mark.parametrize("width", [16 << 10, 1 << 10])
def test_large_ones_are_run_by_themselves(tmp_path: Path, width: int) -> None:
    """More than 64 KiB are not put together with others' (docs/contract.md), in the message or in shared memory."""
    row = np.ones((1, width), "<f4")
    here = infer_request(row.tobytes(), shape=row.shape)
    there = from_region("r", row.nbytes, shape=row.shape)
    for sent in (here, there):
        model = batched(signature=echo_signature(Datatype.FP32, (-1, width)), warm_bytes=1 << 20)
        with (
            Plane(tmp_path, lanes=1, shared_memory=True).running() as plane,
            plane.calling() as call,
            SharedObject(row.nbytes) as shared,
        ):
            register(call, "r", shared.key, row.nbytes)
            behind(plane, call, model, [sent] * 3)
        assert model.given == ([1, 1, 1, 1] if width > 1 << 10 else [1, 3])


def test_a_run_has_no_more_rows_than_pay(plane: Plane, call: SimpleNamespace) -> None:
    """What is more than that waits for the next run; who brings as many by himself is run by himself."""
    model = batched(batching=Batching(((1, 1.0), (8, 2.0))))
    requests = [asked([[number, 0]] * rows) for number, rows in enumerate((5, 5, 3, 9, 2))]
    ended = behind(plane, call, model, requests)
    assert sorted(model.given) == [5, 7, 8, 9]
    assert [numbers(each)[0][0] for each in ended] == [0, 2, 4, 6, 8]


def test_each_is_answered_by_the_version_that_it_asked_for(plane: Plane, call: SimpleNamespace) -> None:
    """The live one and the standby are two runs, whichever way they are named, and every answer is tagged with its own."""
    standby = batched(A, compute=lambda inputs: {"y": inputs["x"] * np.float32(10)})
    plane.publish(standby)
    model = batched()
    requests = [
        asked([[1, 1]], model_version=version) for version in ("", A, "@previous", "", A, "@previous")
    ]

    ended = behind(plane, call, model, requests)

    assert [each.model_version for each in ended] == [B, A, A, B, A, A]
    assert [numbers(each)[0][0] for each in ended] == [2, 10, 10, 2, 10, 10]
    assert model.given == [1, 2]
    assert standby.given == [2, 2]


@pytest.mark.parametrize("gains", [True, False])
def test_what_waited_through_a_flip_is_answered_by_what_is_live(
    plane: Plane, call: SimpleNamespace, gains: bool
) -> None:
    """A batch is leased when it is run: all of it by the new version, together only if that may be batched too."""
    after = batched(
        B,
        batching=BATCHING if gains else None,
        compute=lambda inputs: {"y": inputs["x"] * np.float32(10)},
    )
    ended = behind(
        plane,
        call,
        batched(A),
        [asked([[number, 0]]) for number in range(3)],
        meanwhile=lambda _: plane.publish(after, generation=2),
    )
    assert [numbers(each) for each in ended] == [[[0, 0]], [[10, 0]], [[20, 0]]]
    assert {(each.model_version, each.parameters["generation"].int64_param) for each in ended} == {(B, 2)}
    assert after.given == ([3] if gains else [1, 1, 1])


def test_who_gives_up_while_he_waits_is_not_run(plane: Plane, call: SimpleNamespace) -> None:
    """He is not in the run, and those before and behind him are."""
    model = batched()

    def give_up(waiting: list[Any]) -> None:
        waiting[1].cancel()
        wait_working(plane, 3)

    requests = [asked([[number, 0]]) for number in range(3)]
    ended = behind(plane, call, model, requests, meanwhile=give_up)
    assert isinstance(ended[1], grpc.FutureCancelledError)
    assert [numbers(ended[0]), numbers(ended[2])] == [[[0, 0]], [[4, 0]]]
    assert model.given == [1, 2]


def in_a_run(
    plane: Plane, call: SimpleNamespace, model: ComputedModel, requests: Sequence[ModelInferRequest]
) -> list[Any]:
    """Requests that are being run together, until the gate is opened."""
    waiting = []
    model.hold()
    plane.publish(model)
    first = call.ModelInfer.future(requests[0], timeout=RPC_S)
    assert model.begun.acquire(timeout=WAIT_S)
    for number, request in enumerate(requests, start=2):
        waiting.append(call.ModelInfer.future(request, timeout=RPC_S))
        wait_working(plane, number)
    model.pass_one()
    first.result()
    assert model.begun.acquire(timeout=WAIT_S)
    return waiting


def test_who_gives_up_amid_the_run_takes_nothing_from_the_others(
    plane: Plane, call: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on for those who still wait, and they are answered."""
    model = batched()
    waiting = in_a_run(plane, call, model, [asked([[number, 0]]) for number in range(3)])
    model.braked.clear()
    waiting[0].cancel()
    wait_working(plane, 2)
    assert not model.braked.is_set()
    model.gate.set()
    assert [numbers(each.result()) for each in waiting[1:]] == [[[2, 0]], [[4, 0]]]
    assert model.given == [1, 3]
    assert "InvalidState" not in caplog.text


def test_a_run_that_nobody_waits_for_any_more_is_stopped(plane: Plane, call: SimpleNamespace) -> None:
    """The brake is pulled when the last of them has given up, and the lane is free again."""
    model = batched()
    waiting = in_a_run(plane, call, model, [asked([[number, 0]]) for number in range(3)])
    model.braked.clear()
    for each in waiting:
        each.cancel()
    assert model.braked.wait(WAIT_S)
    model.gate.set()
    assert numbers(call.ModelInfer(asked([[7, 0]]), timeout=RPC_S)) == [[14, 0]]
    assert model.given == [1, 3, 1]


def test_one_that_does_not_fit_is_refused_and_the_others_run(plane: Plane, call: SimpleNamespace) -> None:
    """Wrong bytes for its shape are one caller's affair."""
    bad = infer_request(b"\0" * 12, shape=(1, 2))
    model = batched()
    ended = behind(plane, call, model, [asked([[1, 0]]), bad, asked([[2, 0]])])
    assert ended[1].code() is StatusCode.INVALID_ARGUMENT
    assert [numbers(ended[0]), numbers(ended[2])] == [[[2, 0]], [[4, 0]]]
    assert model.given == [1, 2]


def failing_below_zero(inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    if (inputs["x"] < 0).any():
        raise InferenceFailedError("the model failed on this input")
    return doubled(inputs)


def test_one_on_which_the_model_fails_fails_alone(tmp_path: Path) -> None:
    """Of a run that failed each is run by itself: only the one to blame is told of it."""
    with Plane(tmp_path, lanes=1).running() as plane, plane.calling() as call:
        model = batched(compute=failing_below_zero)
        ended = behind(plane, call, model, [asked([[number, 0]]) for number in (1, 2, -3, 4)])
        assert ended[2].code() is StatusCode.INTERNAL
        assert [numbers(ended[number])[0][0] for number in (0, 1, 3)] == [2, 4, 8]
        assert model.given == [1, 4, 1, 1, 1, 1]


def test_outputs_that_cannot_be_told_apart_end_batching(
    plane: Plane, call: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """A version that gives another number of rows than it was given is run by itself, then and from then on."""
    half: Compute = lambda inputs: {"y": inputs["x"][: max(1, len(inputs["x"]) // 2)]}  # noqa: E731
    model = batched(compute=half)
    requests = [asked([[number, 0]]) for number in range(3)]

    ended = behind(plane, call, model, requests)
    assert [numbers(each) for each in ended] == [[[number, 0]] for number in range(3)]
    assert model.given == [1, 3, 1, 1, 1]
    assert "is not batched any more: for 3 rows, output 'y' has shape [1, 2]" in caplog.text

    model.given.clear()
    behind(plane, call, model, requests)
    assert model.given == [1, 1, 1, 1]


def test_whoever_asks_for_an_output_has_that_alone(plane: Plane, call: SimpleNamespace) -> None:
    """Several outputs of one run are given to those who asked for them."""
    signature = Signature(
        (TensorSpec("x", Datatype.FP32, (-1, 2)),),
        tuple(TensorSpec(name, Datatype.FP32, (-1, 2)) for name in ("y", "z")),
    )
    model = batched(signature=signature, compute=lambda inputs: {"y": inputs["x"], "z": -inputs["x"]})
    of_z = asked([[1, 2]])
    of_z.outputs.add(name="z")

    ended = behind(plane, call, model, [of_z, asked([[3, 4]])])

    assert [[each.name for each in answer.outputs] for answer in ended] == [["z"], ["y", "z"]]
    assert numbers(ended[0]) == [[-1, -2]]
    assert model.given == [1, 2]


def test_each_is_noted_by_itself(plane: Plane, call: SimpleNamespace, notes: Notes) -> None:
    """A note has its own rows only, and none of it keeps the others' in memory."""
    ended = behind(plane, call, batched(), [asked([[number, 0]] * number) for number in (1, 2, 3)])

    told = {each.prediction_id: each for each in notes.notes}
    for number, answer in enumerate(ended, start=1):
        note = told[answer.parameters["prediction_id"].string_param]
        assert note.rows == number
        assert note.inputs["x"].tolist() == [[number, 0]] * number
        assert note.outputs["y"].tolist() == [[2 * number, 0]] * number
        assert note.outputs["y"].base is None


def test_runs_are_counted_once_and_rows_all(plane: Plane, call: SimpleNamespace) -> None:
    """Statistics and metrics tell of two runs for four predictions, with the rows that each run had."""
    behind(plane, call, batched(), [asked([[number, 0]] * 2) for number in range(3)])

    (told,) = call.ModelStatistics(ModelStatisticsRequest(name="echo"), timeout=RPC_S).model_stats
    assert (told.inference_count, told.execution_count) == (8, 2)
    assert told.inference_stats.success.count == told.inference_stats.compute_infer.count == 4
    assert [(each.batch_size, each.compute_infer.count) for each in told.batch_stats] == [(2, 1), (6, 1)]
    assert sorted(each["rows"] for each in plane.meters.predictions) == [0, 0, 2, 6]
    slowed = BATCHING.cost(6) / BATCHING.cost(2)
    assert sorted(each["slowed"] for each in plane.meters.predictions) == [1.0, slowed, slowed, slowed]


def test_who_would_be_late_alone_is_taken_on_where_batches_are_in_time(tmp_path: Path) -> None:
    """A queue of requests that cost seconds each is a second's wait where they are run at once."""
    with Plane(tmp_path, lanes=1, max_queue_wait_s=4 * POOLED_S).running() as plane, plane.calling() as call:
        ended = behind(plane, call, batched(), [asked([[number, 0]]) for number in range(20)])
        assert [numbers(each)[0][0] for each in ended] == [2 * number for number in range(20)]
    with Plane(tmp_path, lanes=1, max_queue_wait_s=4 * POOLED_S).running() as plane, plane.calling() as call:
        model = batched(batching=None)
        model.hold()
        plane.publish(model)
        waiting = [call.ModelInfer.future(asked([[1, 0]]), timeout=RPC_S) for _ in range(20)]
        assert model.begun.acquire(timeout=WAIT_S)
        with plane.meters.changed:
            assert plane.meters.changed.wait_for(
                lambda: (INFER, "RESOURCE_EXHAUSTED") in plane.meters.ended, WAIT_S
            )
        model.gate.set()
        assert {each.code() for each in waiting} == {StatusCode.OK, StatusCode.RESOURCE_EXHAUSTED}
