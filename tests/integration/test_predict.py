"""Predict over the wire: what fits is answered, what does not is told exactly, and the sidecar lives on."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from support import models
from support.sidecars import RunningSidecar, serving
from support.yard import MODEL, PROD, Yard

from model_sidecar_client.wire.inference import ModelInferRequest, ModelInferResponse

A, B, C = "2024.01.10.prod", "2024.01.12.prod", "2024.01.15.prod"
METHOD = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSidecar]:
    yard = Yard(tmp_path_factory.mktemp("predict"))
    for version in (A, B, C):
        yard.publish(version)
    with serving(yard, A, "--max-message", "1MiB") as running:
        with running.operator() as operator:
            operator.deploy(MODEL, B, environment=PROD)
        yield running


@pytest.fixture(scope="module")
def strings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSidecar]:
    yard = Yard(tmp_path_factory.mktemp("strings"))
    yard.publish(A, model=models.string_identity())
    with serving(yard, A) as running:
        yield running


def request(**changes: Any) -> ModelInferRequest:
    """A request that is answered, or with one thing changed, one that is not."""
    made = ModelInferRequest(
        model_name=changes.get("model", MODEL), model_version=changes.get("version", ""), id="r-1"
    )
    made.inputs.add(
        name=changes.get("name", "raw"),
        datatype=changes.get("datatype", "FP32"),
        shape=changes.get("shape", [1, 2]),
    )
    raw = changes.get("raw", np.zeros((1, 2), np.float32).tobytes())
    if raw is not None:
        made.raw_input_contents.append(raw)
    return made


def infer(sidecar: RunningSidecar, wanted: ModelInferRequest) -> ModelInferResponse:
    """One call, by a bare stub."""
    with grpc.insecure_channel(sidecar.data) as channel:
        call = channel.unary_unary(
            METHOD,
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=ModelInferResponse.FromString,
        )
        answer: ModelInferResponse = call(wanted, timeout=10)
        return answer


def typed(**changes: Any) -> ModelInferRequest:
    made = request(raw=None, **changes)
    made.inputs[0].contents.fp32_contents.extend([0.0, 0.0])
    return made


def test_an_answer_mirrors_the_request_and_names_its_version(sidecar: RunningSidecar) -> None:
    """Raw in, raw out; typed in, typed out; id echoed, exact version, prediction id, generation."""
    raw, plain = infer(sidecar, request()), infer(sidecar, typed())

    assert (raw.id, raw.model_name, raw.model_version) == ("r-1", MODEL, B)
    assert np.frombuffer(raw.raw_output_contents[0], np.float32)[0] == sidecar.yard.expected(B, 0.0)
    assert not raw.outputs[0].HasField("contents")
    assert next(iter(plain.outputs[0].contents.fp32_contents)) == sidecar.yard.expected(B, 0.0)
    assert not plain.raw_output_contents
    assert raw.parameters["prediction_id"].string_param != plain.parameters["prediction_id"].string_param
    assert raw.parameters["generation"].int64_param == 2


def test_a_version_may_be_asked_for(sidecar: RunningSidecar) -> None:
    """The exact version, or `@previous`, is answered by the resident model of that name."""
    assert infer(sidecar, request(version=A)).model_version == A
    assert infer(sidecar, request(version="@previous")).model_version == A
    assert infer(sidecar, request(version=B)).model_version == B


BAD: dict[str, tuple[dict[str, Any], grpc.StatusCode, tuple[str, ...]]] = {
    "unknown model": ({"model": "nobody"}, grpc.StatusCode.NOT_FOUND, ("nobody",)),
    "unknown version": ({"version": "2023.01.01.prod"}, grpc.StatusCode.NOT_FOUND, ("2023.01.01.prod",)),
    "a version that is none": ({"version": "latest"}, grpc.StatusCode.NOT_FOUND, ("latest",)),
    "a version that is not resident": ({"version": C}, grpc.StatusCode.FAILED_PRECONDITION, (C,)),
    "wrong name": ({"name": "y"}, grpc.StatusCode.INVALID_ARGUMENT, ("raw", "y")),
    "wrong datatype": ({"datatype": "FP64"}, grpc.StatusCode.INVALID_ARGUMENT, ("raw", "FP32", "FP64")),
    "unknown datatype": ({"datatype": "FLOAT"}, grpc.StatusCode.INVALID_ARGUMENT, ("raw", "FLOAT")),
    "wrong rank": ({"shape": [2]}, grpc.StatusCode.INVALID_ARGUMENT, ("raw", "[-1, 2]", "[2]")),
    "wrong size": ({"shape": [1, 3]}, grpc.StatusCode.INVALID_ARGUMENT, ("raw", "[-1, 2]", "[1, 3]")),
    "negative size": ({"shape": [-1, 2]}, grpc.StatusCode.INVALID_ARGUMENT, ("raw", "[-1, 2]")),
    "overflowing shape": ({"shape": [1 << 62, 2]}, grpc.StatusCode.INVALID_ARGUMENT, ("raw",)),
    "too few bytes": ({"raw": b"\0" * 7}, grpc.StatusCode.INVALID_ARGUMENT, ("raw", "8", "7")),
    "too many bytes": ({"raw": b"\0" * 9}, grpc.StatusCode.INVALID_ARGUMENT, ("raw", "8", "9")),
    "no bytes": ({"raw": None}, grpc.StatusCode.INVALID_ARGUMENT, ("raw",)),
}


@pytest.mark.parametrize(("changes", "code", "words"), BAD.values(), ids=BAD.keys())
def test_what_does_not_fit_is_told_exactly(
    sidecar: RunningSidecar, changes: dict[str, Any], code: grpc.StatusCode, words: tuple[str, ...]
) -> None:
    """The code of the contract, and a message that names the tensor, what was expected and what was found."""
    with pytest.raises(grpc.RpcError) as refused:
        infer(sidecar, request(**changes))

    assert refused.value.code() is code
    for word in words:
        assert word in (refused.value.details() or "")
    assert infer(sidecar, request()).model_version == B


def test_raw_and_typed_contents_do_not_mix(sidecar: RunningSidecar) -> None:
    """A request with both forms is refused."""
    both = typed()
    both.raw_input_contents.append(b"\0" * 8)
    with pytest.raises(grpc.RpcError) as refused:
        infer(sidecar, both)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack("<I", 100) + b"abc",
        struct.pack("<I", 0xFFFFFFFF) + b"abc",
        struct.pack("<I", 1) + b"abc",
        b"\1\0",
        struct.pack("<I", 2) + b"\xff\xfe",
    ],
    ids=["longer than the rest", "longest", "shorter than the rest", "cut length", "not UTF-8"],
)
def test_lengths_of_bytes_that_lie_are_refused(strings: RunningSidecar, raw: bytes) -> None:
    """A BYTES element whose length does not fit its buffer is refused, and good ones are answered."""
    made = request(name="x", datatype="BYTES", shape=[1], raw=raw)
    with pytest.raises(grpc.RpcError) as refused:
        infer(strings, made)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "x" in (refused.value.details() or "")

    good = struct.pack("<I", 6) + "grüße"[:5].encode()[:6]
    answer = infer(strings, request(name="x", datatype="BYTES", shape=[1], raw=good))
    assert answer.raw_output_contents[0] == good


def test_a_message_over_the_limit_is_refused_and_the_sidecar_lives(sidecar: RunningSidecar) -> None:
    """A request larger than --max-message is RESOURCE_EXHAUSTED with the sizes in its message."""
    rows = 200_000
    with pytest.raises(grpc.RpcError) as refused:
        infer(sidecar, request(shape=[rows, 2], raw=b"\0" * (8 * rows)))

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(1 << 20) in (refused.value.details() or "")
    assert infer(sidecar, request()).model_version == B


def test_many_rows_are_answered_in_the_shape_they_have(sidecar: RunningSidecar) -> None:
    """A dynamic axis takes any number of rows, also none."""
    for rows in (0, 1, 1000):
        wanted = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
        answer = infer(sidecar, request(shape=[rows, 2], raw=wanted.tobytes()))
        got = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(answer.outputs[0].shape)
        np.testing.assert_array_equal(got, wanted + np.float32(sidecar.yard.expected(B, 0.0)))
