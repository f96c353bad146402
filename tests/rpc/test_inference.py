"""Predictions and questions over a real socket, with the codes and reasons that the contract promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from support.rpc_models import POOLED_S, ComputedModel, doubled
from support.rpc_plane import RPC_S, Noted, Plane, error_info, infer_request

from model_sidecar.config import Address
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec
from model_sidecar_client.wire.inference import (
    ModelInferRequest,
    ModelMetadataRequest,
    ModelReadyRequest,
    ModelStatisticsRequest,
    RepositoryIndexRequest,
    ServerLiveRequest,
    ServerMetadataRequest,
    ServerReadyRequest,
)

ROW = np.array([1.5, -2.0], dtype="<f4").tobytes()


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    with Plane(tmp_path).running() as running:
        yield running


@pytest.fixture
def call(plane: Plane) -> Iterator[SimpleNamespace]:
    with plane.calling() as calls:
        yield calls


def refused(call: Any, request: object) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=RPC_S)
    return caught.value


def test_a_prediction_is_tagged_with_what_computed_it(plane: Plane, call: SimpleNamespace) -> None:
    """An answer holds the model's numbers, its exact version, the caller's id, a prediction id and the generation."""
    plane.publish(ComputedModel("2024.01.15.prod", compute=doubled), generation=7)

    answer = call.ModelInfer(infer_request(ROW, id="mine"), timeout=RPC_S)

    assert np.frombuffer(answer.raw_output_contents[0], "<f4").tolist() == [3.0, -4.0]
    assert (answer.model_name, answer.model_version, answer.id) == ("echo", "2024.01.15.prod", "mine")
    assert answer.parameters["generation"].int64_param == 7
    assert len(answer.parameters["prediction_id"].string_param) == 25
    assert [(each.name, each.datatype, list(each.shape)) for each in answer.outputs] == [
        ("y", "FP32", [1, 2])
    ]


def test_an_externally_managed_version_has_no_generation(plane: Plane, call: SimpleNamespace) -> None:
    """Without a ledger there is no generation, and none is made up."""
    plane.publish(ComputedModel(), generation=None)
    assert "generation" not in call.ModelInfer(infer_request(ROW), timeout=RPC_S).parameters


def test_a_version_is_asked_for_by_name_or_as_the_previous_one(plane: Plane, call: SimpleNamespace) -> None:
    """The live version, the standby by its name and `@previous` answer, each under its own name and generation."""
    generations = {"2024.01.10.prod": 7, "2024.01.15.prod": 8}
    for version, generation in generations.items():
        plane.publish(ComputedModel(version), generation=generation)

    for asked, answered in {
        "": "2024.01.15.prod",
        "2024.01.15.prod": "2024.01.15.prod",
        "2024.01.10.prod": "2024.01.10.prod",
        "@previous": "2024.01.10.prod",
    }.items():
        answer = call.ModelInfer(infer_request(ROW, model_version=asked), timeout=RPC_S)
        assert answer.model_version == answered
        assert answer.parameters["generation"].int64_param == generations[answered]


@pytest.mark.parametrize("cost_s", [1e-6, POOLED_S])
@pytest.mark.parametrize(
    ("request_fields", "code", "reason", "words"),
    [
        (
            {"model_version": "2024.01.01.prod"},
            StatusCode.FAILED_PRECONDITION,
            "VERSION_NOT_RESIDENT",
            "not resident",
        ),
        ({"model_version": "2023.01.01.prod"}, StatusCode.NOT_FOUND, "VERSION_NOT_FOUND", "2024.01.15.prod"),
        ({"model_version": "3"}, StatusCode.NOT_FOUND, "VERSION_NOT_FOUND", "'3' is not valid"),
        ({"model_version": "x" * 9000}, StatusCode.NOT_FOUND, "VERSION_NOT_FOUND", "is not valid"),
        ({"model_version": "@previous"}, StatusCode.FAILED_PRECONDITION, "VERSION_NOT_RESIDENT", "@previous"),
    ],
)
def test_a_version_that_is_not_resident_is_told_from_one_that_does_not_exist(
    plane: Plane,
    call: SimpleNamespace,
    request_fields: dict[str, Any],
    code: StatusCode,
    reason: str,
    words: str,
    cost_s: float,
) -> None:
    """What the store has but nobody loaded is FAILED_PRECONDITION; what nobody ever published is NOT_FOUND."""
    plane.shelve("2024.01.01.prod")
    plane.publish(ComputedModel("2024.01.15.prod", cost_s=cost_s))

    error = refused(call.ModelInfer, infer_request(ROW, **request_fields))

    assert (error.code(), error_info(error).reason) == (code, reason)
    assert words in error.details()


def test_nothing_live_is_unavailable(call: SimpleNamespace) -> None:
    """Before the first deployment a prediction is UNAVAILABLE, and the words say what to do."""
    error = refused(call.ModelInfer, infer_request(ROW))
    assert (error.code(), error_info(error).reason) == (StatusCode.UNAVAILABLE, "NOTHING_LIVE")
    assert "sidecarctl deploy" in error.details()


def test_an_unknown_model_is_not_found(plane: Plane, call: SimpleNamespace) -> None:
    """Another model's name is NOT_FOUND, names the one served here, and is not counted as this model's failure."""
    plane.publish(ComputedModel())
    request = infer_request(ROW)
    request.model_name = "other\nmodel"

    error = refused(call.ModelInfer, request)

    assert (error.code(), error_info(error).reason) == (StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert "echo" in error.details()
    assert "\n" not in error.details()
    assert plane.meters.predictions == []


def test_a_failure_inside_the_model_stays_vague(
    plane: Plane, call: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller learns that the model failed, the log learns why."""

    def broken(inputs: object) -> dict[str, np.ndarray]:
        raise RuntimeError("secret weights at 0xdead")

    plane.publish(ComputedModel(compute=broken))

    error = refused(call.ModelInfer, infer_request(ROW))

    assert (error.code(), error_info(error).reason) == (StatusCode.INTERNAL, "INFERENCE_FAILED")
    assert "0xdead" not in error.details()
    assert "0xdead" in caplog.text
    assert plane.meters.predictions[-1]["code"] == "INTERNAL"


def test_a_model_that_breaks_its_signature_is_not_believed(plane: Plane, call: SimpleNamespace) -> None:
    """Numbers of another type than the signature says are an inner failure, and never sent under a wrong name."""
    plane.publish(ComputedModel(compute=lambda inputs: {"y": inputs["x"].astype("f8")}))
    assert refused(call.ModelInfer, infer_request(ROW)).code() is StatusCode.INTERNAL


def test_what_is_not_a_request_is_refused(plane: Plane) -> None:
    """Bytes that are no ModelInferRequest are INVALID_ARGUMENT."""
    with grpc.insecure_channel(str(plane.bound[0])) as channel:
        raw: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        error = refused(raw, b"\xff\xff\xff")
    assert error.code() is StatusCode.INVALID_ARGUMENT


def test_an_oversized_message_is_refused_and_the_sidecar_lives(tmp_path: Path) -> None:
    """A message over the limit is RESOURCE_EXHAUSTED with both sizes, and the next request is answered."""
    with Plane(tmp_path, max_message_bytes=1 << 20).running() as plane, plane.calling() as call:
        plane.publish(ComputedModel())
        too_many = (1 << 20) // 8 + 100
        error = refused(call.ModelInfer, infer_request(bytes(too_many * 8), shape=(too_many, 2)))
        assert error.code() is StatusCode.RESOURCE_EXHAUSTED
        assert "1048576" in error.details()
        assert call.ModelInfer(infer_request(ROW), timeout=RPC_S).model_version


def test_an_oversized_answer_is_refused_with_its_size(tmp_path: Path) -> None:
    """An answer over the limit names the limit's option, and the next request is answered."""
    many = ComputedModel(compute=lambda inputs: {"y": np.tile(inputs["x"], (200_000, 1))})
    with Plane(tmp_path, max_message_bytes=1 << 20).running() as plane, plane.calling() as call:
        plane.publish(many)
        error = refused(call.ModelInfer, infer_request(ROW))
        assert error.code() is StatusCode.INVALID_ARGUMENT
        assert "1048576" in error.details()
        assert "--max-message" in error.details()
        assert call.ServerLive(ServerLiveRequest(), timeout=RPC_S).live


def test_a_large_request_is_answered_like_a_small_one(plane: Plane, call: SimpleNamespace) -> None:
    """A request that is parsed off the loop gets the same answer, and the same refusals."""
    model = ComputedModel(
        compute=doubled, warm_bytes=1 << 30
    )  # so that its cost is no reason to leave the loop
    plane.publish(model)
    rows = np.arange(40_000, dtype="<f4").reshape(20_000, 2)

    answer = call.ModelInfer(infer_request(rows.tobytes(), shape=(20_000, 2)), timeout=RPC_S)
    assert np.array_equal(np.frombuffer(answer.raw_output_contents[0], "<f4"), rows.ravel() * 2)
    assert model.threads == {"lane_0"}

    error = refused(call.ModelInfer, infer_request(rows.tobytes()[:-4], shape=(20_000, 2)))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    other = infer_request(rows.tobytes(), shape=(20_000, 2))
    other.model_name = "other"
    assert refused(call.ModelInfer, other).code() is StatusCode.NOT_FOUND


def test_live_and_ready_say_what_they_mean(plane: Plane, call: SimpleNamespace) -> None:
    """The server is live from the start and ready with its first live version; an unknown model is simply not ready."""
    assert call.ServerLive(ServerLiveRequest(), timeout=RPC_S).live
    assert not call.ServerReady(ServerReadyRequest(), timeout=RPC_S).ready
    assert not call.ModelReady(ModelReadyRequest(name="echo"), timeout=RPC_S).ready

    plane.publish(ComputedModel("2024.01.15.prod"))

    assert call.ServerReady(ServerReadyRequest(), timeout=RPC_S).ready
    for name, version, ready in [
        ("echo", "", True),
        ("echo", "2024.01.15.prod", True),
        ("echo", "2024.01.10.prod", False),
        ("echo", "@previous", False),
        ("other", "", False),
    ]:
        assert call.ModelReady(ModelReadyRequest(name=name, version=version), timeout=RPC_S).ready is ready


def test_server_metadata_lists_only_what_is_there(call: SimpleNamespace) -> None:
    """The server says its name, its version and the extensions that it has."""
    answer = call.ServerMetadata(ServerMetadataRequest(), timeout=RPC_S)
    assert (answer.name, answer.version, list(answer.extensions)) == (
        "model-sidecar",
        "0.1.0",
        ["parameters", "statistics"],
    )


def test_model_metadata_is_the_signature(plane: Plane, call: SimpleNamespace) -> None:
    """Metadata has the resident versions, the live one first, and the tensors with -1 for sizes that vary."""
    older = Signature((TensorSpec("text", Datatype.BYTES, (-1, 1)),), (TensorSpec("s", Datatype.INT64, ()),))
    plane.publish(ComputedModel("2024.01.10.prod", signature=older))
    plane.publish(ComputedModel("2024.01.15.prod"))

    live = call.ModelMetadata(ModelMetadataRequest(name="echo"), timeout=RPC_S)
    assert (live.platform, list(live.versions)) == ("onnx_onnxv1", ["2024.01.15.prod", "2024.01.10.prod"])
    assert [(each.name, each.datatype, list(each.shape)) for each in live.inputs] == [("x", "FP32", [-1, 2])]

    previous = call.ModelMetadata(ModelMetadataRequest(name="echo", version="@previous"), timeout=RPC_S)
    assert [(each.name, each.datatype, list(each.shape)) for each in previous.inputs] == [
        ("text", "BYTES", [-1, 1])
    ]
    assert [(each.name, each.datatype, list(each.shape)) for each in previous.outputs] == [("s", "INT64", [])]

    assert refused(call.ModelMetadata, ModelMetadataRequest(name="other")).code() is StatusCode.NOT_FOUND
    absent = ModelMetadataRequest(name="echo", version="2023.01.01.prod")
    assert refused(call.ModelMetadata, absent).code() is StatusCode.NOT_FOUND


def test_the_repository_index_tells_resident_from_stored(plane: Plane, call: SimpleNamespace) -> None:
    """Resident versions are READY, stored ones UNAVAILABLE with the reason; `ready` leaves the latter out."""
    for version in ("2024.01.01.prod", "2024.01.15.prod"):
        plane.shelve(version)
    plane.publish(ComputedModel("2024.01.15.prod"))

    everything = call.RepositoryIndex(RepositoryIndexRequest(), timeout=RPC_S).models
    assert [(each.name, each.version, each.state) for each in everything] == [
        ("echo", "2024.01.15.prod", "READY"),
        ("echo", "2024.01.01.prod", "UNAVAILABLE"),
    ]
    assert "not loaded" in everything[1].reason
    ready = call.RepositoryIndex(RepositoryIndexRequest(ready=True), timeout=RPC_S).models
    assert [each.version for each in ready] == ["2024.01.15.prod"]


def test_an_unreadable_store_hurts_only_questions_about_it(tmp_path: Path) -> None:
    """While the store is gone, its index is UNAVAILABLE and predictions are answered."""
    with Plane(tmp_path / "gone").running() as plane, plane.calling() as call:
        plane.publish(ComputedModel())
        error = refused(call.RepositoryIndex, RepositoryIndexRequest())
        assert (error.code(), error_info(error).reason) == (StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
        assert call.ModelInfer(infer_request(ROW), timeout=RPC_S).model_version


def test_statistics_count_each_resident_version(plane: Plane, call: SimpleNamespace) -> None:
    """Successes, failures, rows and runs are counted per version, with the time they took."""
    plane.publish(ComputedModel("2024.01.15.prod"))
    for _ in range(3):
        call.ModelInfer(infer_request(ROW * 4, shape=(4, 2)), timeout=RPC_S)
    refused(call.ModelInfer, infer_request(ROW, shape=(3, 2)))

    (found,) = call.ModelStatistics(ModelStatisticsRequest(name="echo"), timeout=RPC_S).model_stats

    assert (found.name, found.version) == ("echo", "2024.01.15.prod")
    assert (found.inference_count, found.execution_count) == (12, 3)
    stats = found.inference_stats
    assert (stats.success.count, stats.fail.count, stats.compute_infer.count) == (3, 1, 3)
    assert 0 < stats.compute_infer.ns < stats.success.ns
    assert found.last_inference > 1_700_000_000_000


def test_what_is_not_offered_is_unimplemented(plane: Plane) -> None:
    """Shared memory and repository control are UNIMPLEMENTED, as clients expect of what is not there."""
    with grpc.insecure_channel(str(plane.bound[0])) as channel:
        for method in ("SystemSharedMemoryStatus", "RepositoryModelLoad", "ModelConfig"):
            error = refused(channel.unary_unary(f"/inference.GRPCInferenceService/{method}"), b"")
            assert error.code() is StatusCode.UNIMPLEMENTED, method


def test_every_call_and_prediction_is_measured(plane: Plane, call: SimpleNamespace) -> None:
    """Meters hear of calls with their codes, and of predictions with version, rows and times."""
    plane.publish(ComputedModel("2024.01.15.prod"))
    call.ModelInfer(infer_request(ROW * 2, shape=(2, 2)), timeout=RPC_S)
    refused(call.ModelInfer, ModelInferRequest(model_name="echo"))

    meters: Noted = plane.meters
    method = "/inference.GRPCInferenceService/ModelInfer"
    meters.wait_ended(method, "OK")
    meters.wait_ended(method, "INVALID_ARGUMENT")
    good, bad = meters.predictions
    assert (good["version"], good["code"], good["rows"]) == ("2024.01.15.prod", "OK", 2)
    assert 0 <= good["inference_s"] <= good["total_s"]
    assert good["queue_s"] >= 0
    assert (bad["version"], bad["code"], bad["inference_s"]) == ("2024.01.15.prod", "INVALID_ARGUMENT", None)
    assert meters.begun.count(method) == 2
    assert not any(meters.working.values())


def test_a_failing_meter_fails_no_request(tmp_path: Path) -> None:
    """Whatever meters do, predictions are answered."""

    class Broken:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(name)

    with Plane(tmp_path, meters=Broken()).running() as plane, plane.calling() as call:
        plane.publish(ComputedModel())
        assert call.ModelInfer(infer_request(ROW), timeout=RPC_S).model_version


def test_predictions_are_answered_over_tcp_too(tmp_path: Path) -> None:
    """Port 0 is bound to a free port, which is told, and answers."""
    with (
        Plane(tmp_path, addresses=(Address(host="127.0.0.1", port=0),)).running() as plane,
        plane.calling() as call,
    ):
        assert plane.bound[0].port > 0
        plane.publish(ComputedModel())
        assert call.ModelInfer(infer_request(ROW), timeout=RPC_S).model_version
