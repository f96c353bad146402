"""ModelInferRequest to arrays and arrays to ModelInferResponse; the tensors themselves are in `tensors_in`, `_out`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from model_sidecar.errors import InferenceFailedError, InvalidRequestError
from model_sidecar.release.names import ModelName, Version
from model_sidecar.rpc.parts import check_parts
from model_sidecar.rpc.pieces import Pieces, too_large
from model_sidecar.rpc.plan import Plan
from model_sidecar.rpc.tensors_in import Taken
from model_sidecar.rpc.tensors_out import give
from model_sidecar_client.wire.inference import ModelInferRequest, ModelInferResponse

_MOST_INPUTS = 2048
"""More than any model takes; each is looked at on the loop, a microsecond for each."""


def parse_request(content: bytes) -> ModelInferRequest:
    """The request in these bytes; InvalidRequestError otherwise."""
    check_parts(content)
    try:
        request = ModelInferRequest.FromString(content)
    except DecodeError as error:
        raise InvalidRequestError(f"the message is not an inference.ModelInferRequest: {error}") from error
    if len(request.inputs) > _MOST_INPUTS:
        raise InvalidRequestError(
            f"the message has {len(request.inputs)} inputs: expected {_MOST_INPUTS} at most"
        )
    return request


def answer(
    arrays: Mapping[str, NDArray[Any]],
    *,
    plan: Plan,
    taken: Taken,
    model: ModelName,
    version: Version,
    generation: int | None,
    id: str,
    prediction_id: str,
    max_bytes: int,
    pieces: Pieces,
) -> bytes:
    """The serialized ModelInferResponse: the outputs that were asked for, in the request's form, tagged.

    Raises:
        InferenceFailedError: the arrays are not what the version's signature says.
        InvalidRequestError: the answer is larger than a message may be, or than what was set aside for it.
    """
    wanted = (
        tuple(plan.outputs.values())
        if taken.outputs is None
        else [plan.outputs[name] for name in taken.outputs]
    )
    try:
        if not taken.typed and not taken.windows:
            head = model, version, generation
            return pieces.joined(
                arrays, wanted, head=head, id=id, prediction_id=prediction_id, max_bytes=max_bytes
            )
        response = ModelInferResponse(model_name=model, model_version=version, id=id)
        response.parameters["prediction_id"].string_param = prediction_id
        if generation is not None:
            response.parameters["generation"].int64_param = generation
        give(response, arrays, wanted, typed=taken.typed, windows=taken.windows)
        content = response.SerializeToString()
    except (ValueError, UnicodeError) as error:
        # Text that is not Unicode, or a message of more than 2 GiB.
        raise InferenceFailedError(f"the answer cannot be put into a message: {error}") from error
    if len(content) > max_bytes:
        raise too_large(len(content), max_bytes)
    return content
