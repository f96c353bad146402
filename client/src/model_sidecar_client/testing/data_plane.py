"""The stand-in's answers to the Open Inference Protocol."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import grpc

from model_sidecar_client.datatypes import DATATYPES
from model_sidecar_client.errors import SidecarError
from model_sidecar_client.inference import tensors_of
from model_sidecar_client.nested import flattened
from model_sidecar_client.tensors import Tensor, Values, decode, encode
from model_sidecar_client.testing.script import Failure
from model_sidecar_client.testing.shelf import Outputs, Published, Shelf
from model_sidecar_client.wire import inference as wire


class DataPlane:
    """inference.GRPCInferenceService over a shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def ServerLive(
        self, request: wire.ServerLiveRequest, context: grpc.ServicerContext
    ) -> wire.ServerLiveResponse:
        return wire.ServerLiveResponse(live=True)

    def ServerReady(
        self, request: wire.ServerReadyRequest, context: grpc.ServicerContext
    ) -> wire.ServerReadyResponse:
        with self._shelf.models() as models:
            return wire.ServerReadyResponse(
                ready=self._shelf.is_ready and all(model.live for model in models.values())
            )

    def ModelReady(
        self, request: wire.ModelReadyRequest, context: grpc.ServicerContext
    ) -> wire.ModelReadyResponse:
        with self._shelf.models() as models:
            known = request.name in models and models[request.name].live
            return wire.ModelReadyResponse(ready=self._shelf.is_ready and bool(known))

    def ServerMetadata(
        self, request: wire.ServerMetadataRequest, context: grpc.ServicerContext
    ) -> wire.ServerMetadataResponse:
        return wire.ServerMetadataResponse(name="model-sidecar-stand-in", version="0")

    def ModelMetadata(
        self, request: wire.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> wire.ModelMetadataResponse:
        with self._shelf.model(request.name) as model:
            published = model.resident(request.version)
            response = wire.ModelMetadataResponse(
                name=request.name,
                versions=[version for version in (model.live, model.standby) if version],
                platform="onnx_onnxv1",
            )
        for name, datatype in published.inputs.items():
            response.inputs.add(name=name, datatype=datatype, shape=[-1])
        return response

    def ModelInfer(
        self, request: wire.ModelInferRequest, context: grpc.ServicerContext
    ) -> wire.ModelInferResponse:
        with self._shelf.model(request.model_name) as model:
            published, generation = model.resident(request.model_version), model.generation
        inputs = _inputs(request, published)
        outputs = _computed(published, inputs)
        response = wire.ModelInferResponse(
            model_name=request.model_name, model_version=published.version, id=request.id
        )
        prediction_id = uuid.uuid4().hex
        self._shelf.answered.add(prediction_id)
        response.parameters["prediction_id"].string_param = prediction_id
        response.parameters["generation"].int64_param = generation
        is_typed = bool(request.inputs) and not request.raw_input_contents
        for tensor in _wanted(outputs, [each.name for each in request.outputs]):
            _add(response, tensor, is_typed=is_typed)
        return response

    def ModelStreamInfer(
        self, request: wire.ModelInferRequest, context: grpc.ServicerContext
    ) -> wire.ModelStreamInferResponse:
        """One message of a stream; `Scripted` takes them off it."""
        return wire.ModelStreamInferResponse(infer_response=self.ModelInfer(request, context))


def inputs_of(request: object) -> Mapping[str, Values]:
    """The decoded inputs of a prediction; none for other requests, and none that cannot be decoded."""
    if not isinstance(request, wire.ModelInferRequest):
        return {}
    try:
        return tensors_of(request.inputs, request.raw_input_contents)
    except SidecarError:
        return {}


def _inputs(request: wire.ModelInferRequest, published: Published) -> Mapping[str, Values]:
    for tensor in request.inputs:
        expected = published.inputs.get(tensor.name, "no such input") if published.inputs else tensor.datatype
        if tensor.datatype != expected:
            raise Failure(
                grpc.StatusCode.INVALID_ARGUMENT,
                "INVALID_INPUT",
                f"input {tensor.name!r}: found {tensor.datatype}, expected {expected}",
                {"tensor": tensor.name, "found": tensor.datatype, "expected": expected},
            )
    try:
        return tensors_of(request.inputs, request.raw_input_contents)
    except SidecarError as error:
        raise Failure(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT", error.message) from error


def _computed(published: Published, inputs: Mapping[str, Values]) -> Outputs:
    if not callable(published.answer):
        return published.answer
    try:
        return published.answer(inputs)
    except Exception as error:
        raise Failure(
            grpc.StatusCode.INTERNAL, "INFERENCE_FAILED", f"the test's answer raised {error!r}"
        ) from error


def _wanted(outputs: Outputs, names: list[str]) -> list[Tensor]:
    missing = [name for name in names if name not in outputs]
    if missing:
        raise Failure(
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_INPUT",
            f"no output {missing[0]!r}: expected {sorted(outputs)}",
        )
    return [encode(name, values, None) for name, values in outputs.items() if not names or name in names]


def _add(response: wire.ModelInferResponse, tensor: Tensor, *, is_typed: bool) -> None:
    output = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    field = DATATYPES[tensor.datatype].contents
    if is_typed and field:
        getattr(output.contents, field).extend(flattened(decode(tensor))[1])
    else:
        response.raw_output_contents.append(bytes(tensor.raw))
