"""The data plane's exchanges: what `Client` and `AsyncClient` ask, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from model_sidecar_client.answers import ModelMetadata, Prediction, ServerMetadata, TensorSpec
from model_sidecar_client.datatypes import DATATYPES
from model_sidecar_client.errors import DeadlineError, InternalError, InvalidRequestError, UnavailableError
from model_sidecar_client.exchange import Ask, Exchange, Pause, made
from model_sidecar_client.laying import REGION, content_of
from model_sidecar_client.regions import Region
from model_sidecar_client.sharing import Sharing
from model_sidecar_client.tensors import Tensor, Values, decode, decode_elements, encode
from model_sidecar_client.wire import inference as wire

Parameter = bool | int | float | str

_Like = tuple[str, str, tuple[tuple[str, str, tuple[int, ...]], ...]]
"""A model, the version asked for, and its inputs' names, datatypes and shapes."""

DescribedTensor = wire.ModelInferRequest.InferInputTensor | wire.ModelInferResponse.InferOutputTensor

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
_REMEMBERED = 256


class PredictCall(NamedTuple):
    """The arguments of one `predict`. Made for every call: a tuple takes a third of a frozen dataclass's time."""

    model: str
    inputs: Mapping[str, Values]
    version: str = ""
    outputs: Sequence[str] | None = None
    request_id: str | None = None
    parameters: Mapping[str, Parameter] | None = None


class Signatures:
    """What models take, remembered per model and requested version, so that it is asked for once.

    Any thread may use it. Two that miss at once both ask, and the later answer stays: no harm, so no lock.

    Attributes:
        described: requests without contents, serialized, so that the next one like it need not be made again.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], ModelMetadata] = {}
        self.described: dict[_Like, bytes] = {}

    def get(self, model: str, version: str) -> ModelMetadata | None:
        """The metadata as they were last received."""
        return self._known.get((model, version))

    def put(self, version: str, metadata: ModelMetadata) -> None:
        """Remember what was just received for this requested version ("" is the live one)."""
        if len(self._known) >= _REMEMBERED:
            # Only a caller that names hundreds of exact versions gets here; asking again is cheap.
            self._known.clear()
        self._known[metadata.model, version] = metadata

    def describe(self, key: _Like, request: bytes) -> None:
        """Remember a request without contents."""
        if len(self.described) >= _REMEMBERED:
            self.described.clear()
        self.described[key] = request


def predict(
    call: PredictCall, signatures: Signatures, sharing: Sharing | None = None
) -> Exchange[Prediction]:
    """Ask for one prediction, first for what the model takes if that is not known yet.

    What is remembered may be of a version that is no longer live. So when it leads to an InvalidRequestError, here or
    in the sidecar, it is asked for again, and if the model now takes something else, so is the prediction. Large tensors go
    through shared memory where `sharing` finds a way.

    Raises:
        InvalidRequestError: inputs without names; nothing was sent.
    """
    # Not only a Mapping: a table of named columns will do.
    if not hasattr(call.inputs, "items"):
        raise InvalidRequestError(
            f"inputs: found a {type(call.inputs).__name__}, expected a mapping of input names to values, such as "
            '{"x": rows}',
            reason="INVALID_INPUT",
        )
    signature = signatures.get(call.model, call.version)
    if signature is None:
        signature = yield from _learn(call, signatures)
        return (yield from _infer(call, signature, signatures, sharing))
    try:
        return (yield from _infer(call, signature, signatures, sharing))
    except InvalidRequestError:
        newer = yield from _learn(call, signatures)
        if newer.inputs == signature.inputs:
            raise
    return (yield from _infer(call, newer, signatures, sharing))


def model_metadata(model: str, version: str = "") -> Exchange[ModelMetadata]:
    """Ask what a model takes and returns."""
    reply: wire.ModelMetadataResponse = yield Ask(
        "ModelMetadata", made(wire.ModelMetadataRequest, name=model, version=version)
    )
    return ModelMetadata(
        model=model,
        versions=tuple(reply.versions),
        platform=reply.platform,
        inputs=tuple(TensorSpec(each.name, each.datatype, tuple(each.shape)) for each in reply.inputs),
        outputs=tuple(TensorSpec(each.name, each.datatype, tuple(each.shape)) for each in reply.outputs),
    )


def server_metadata() -> Exchange[ServerMetadata]:
    """Ask what answers there."""
    reply: wire.ServerMetadataResponse = yield Ask("ServerMetadata", wire.ServerMetadataRequest())
    return ServerMetadata(name=reply.name, version=reply.version, extensions=tuple(reply.extensions))


def is_ready(model: str | None) -> Exchange[bool]:
    """Ask whether the sidecar (or one model of it) can answer; an unreachable one cannot."""
    try:
        return (yield from _ready(model, wait_for_ready=False))
    except (UnavailableError, DeadlineError):
        return False


def wait_ready(model: str | None) -> Exchange[None]:
    """Ask again and again until the sidecar (or one model of it) can answer.

    Raises:
        DeadlineError: it could not in time; the message says how far it got.
    """
    what = f"model {model!r}" if model else "the sidecar"
    seen, pause_s = "nothing answers there", _FIRST_PAUSE_S
    while True:
        try:
            if (yield from _ready(model, wait_for_ready=True)):
                return
            seen = "it answers, but has nothing live to answer with"
        except UnavailableError as error:
            seen = str(error)
        except DeadlineError as error:
            raise DeadlineError(f"{what} is not ready: {seen} ({error})") from error
        yield Pause(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


def _ready(model: str | None, *, wait_for_ready: bool) -> Exchange[bool]:
    if model:
        reply = yield Ask("ModelReady", made(wire.ModelReadyRequest, name=model), wait_for_ready)
    else:
        reply = yield Ask("ServerReady", wire.ServerReadyRequest(), wait_for_ready)
    return bool(reply.ready)


def _learn(call: PredictCall, signatures: Signatures) -> Exchange[ModelMetadata]:
    metadata = yield from model_metadata(call.model, call.version)
    signatures.put(call.version, metadata)
    return metadata


def _infer(
    call: PredictCall, signature: ModelMetadata, signatures: Signatures, sharing: Sharing | None
) -> Exchange[Prediction]:
    inputs = _tensors(call, signature)
    request = _described(call, inputs, signatures)
    if sharing is not None:
        known = (spec.name for spec in signature.outputs)
        shared = sharing.worth(call.model, call.version, inputs, asked=call.outputs or (), known=known)
        if shared is not None:
            answer = yield from sharing.infer(request, shared, prediction)
            if answer is not None:
                return answer
    reply = yield Ask("ModelInfer", _with_contents(request, inputs, call))
    if sharing is not None:
        sharing.learn(call.model, call.version, inputs, reply)
    return prediction(reply)


def _tensors(call: PredictCall, signature: ModelMetadata) -> list[Tensor]:
    """The inputs of this call.

    A model whose metadata name no inputs (a stand-in) takes any, with datatypes derived from the values.

    Raises:
        InvalidRequestError: an input that the model does not have, or values that it cannot take.
    """
    inputs = []
    takes = {spec.name: spec.datatype for spec in signature.inputs}
    for name, values in call.inputs.items():
        if takes and name not in takes:
            listed = ", ".join(
                f"{spec.name} ({spec.datatype} {list(spec.shape)})" for spec in signature.inputs
            )
            raise InvalidRequestError(
                f"model {call.model!r} has no input {name!r}: expected {listed}",
                reason="INVALID_INPUT",
                metadata={"tensor": name, "expected": listed},
            )
        inputs.append(encode(name, values, takes.get(name)))
    return inputs


def _described(call: PredictCall, inputs: Sequence[Tensor], signatures: Signatures) -> wire.ModelInferRequest:
    """The request for this call without contents and outputs.

    Raises:
        InvalidRequestError: what the wire cannot carry.
    """
    if call.request_id is not None or call.parameters:
        return _described_anew(call, inputs)
    key = call.model, call.version, tuple([(each.name, each.datatype, each.shape) for each in inputs])
    described = signatures.described.get(key)
    if described is None:
        request = _described_anew(call, inputs)
        signatures.describe(key, request.SerializeToString())
        return request
    return wire.ModelInferRequest.FromString(described)


def _described_anew(call: PredictCall, inputs: Sequence[Tensor]) -> wire.ModelInferRequest:
    request = made(
        wire.ModelInferRequest,
        model_name=call.model,
        model_version=call.version,
        id=call.request_id,
        parameters={name: _parameter(name, value) for name, value in (call.parameters or {}).items()},
    )
    for tensor in inputs:
        described = made(
            wire.ModelInferRequest.InferInputTensor,
            name=tensor.name,
            datatype=tensor.datatype,
            shape=tensor.shape,
        )
        request.inputs.append(described)
    return request


def _with_contents(
    request: wire.ModelInferRequest, inputs: Iterable[Tensor], call: PredictCall
) -> wire.ModelInferRequest:
    request.raw_input_contents.extend([bytes(each.raw) for each in inputs])
    for name in call.outputs or ():
        request.outputs.append(made(wire.ModelInferRequest.InferRequestedOutputTensor, name=name))
    return request


def prediction(reply: wire.ModelInferResponse, region: Region | None = None) -> Prediction:
    """The prediction in a response, whether its contents are raw or typed, or lie in this region.

    Raises:
        InternalError: a response that contradicts itself.
    """
    outputs = tensors_of(reply.outputs, reply.raw_output_contents, region)
    told = reply.parameters
    prediction_id, generation = told.get("prediction_id"), told.get("generation")
    return Prediction(
        outputs=outputs,
        version=reply.model_version,
        prediction_id="" if prediction_id is None else prediction_id.string_param,
        generation=0 if generation is None else generation.int64_param,
        model=reply.model_name,
        id=reply.id,
    )


def tensors_of(
    described: Iterable[DescribedTensor], raw: Sequence[bytes], region: Region | None = None
) -> dict[str, Values]:
    """The values of a message's tensors, by name, whether its contents are raw or typed, or lie in this region.

    Raises:
        InternalError: a message that contradicts itself.
    """
    tensors = list(described)
    if raw and len(raw) != len(tensors):
        raise InternalError(f"malformed message: {len(raw)} raw contents for {len(tensors)} tensors")
    values = {}
    for index, tensor in enumerate(tensors):
        if region is not None and REGION in tensor.parameters:
            try:
                content = content_of(tensor.parameters, region)
            except ValueError as error:
                raise InternalError(f"malformed message: tensor {tensor.name!r}: {error}") from error
            values[tensor.name] = decode(
                Tensor(tensor.name, tensor.datatype, tuple(tensor.shape[:]), content)
            )
        elif raw:
            values[tensor.name] = decode(
                Tensor(tensor.name, tensor.datatype, tuple(tensor.shape[:]), raw[index])
            )
        else:
            known = DATATYPES.get(tensor.datatype)
            elements = getattr(tensor.contents, known.contents) if known and known.contents else ()
            values[tensor.name] = decode_elements(tensor.name, tensor.datatype, tensor.shape, elements)
    return values


def _parameter(name: str, value: Parameter) -> wire.InferParameter:
    match value:
        case bool():
            return wire.InferParameter(bool_param=value)
        case int() if -(1 << 63) <= value < 1 << 63:
            return wire.InferParameter(int64_param=value)
        case float():
            return wire.InferParameter(double_param=value)
        case str():
            return made(wire.InferParameter, string_param=value)
    raise InvalidRequestError(
        f"parameter {name!r}: found {value!r}, expected a bool, a 64-bit int, a float or a str"
    )
