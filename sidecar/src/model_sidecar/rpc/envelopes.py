"""ModelStreamInferResponse around an answer or an error, and the id of a request that was perhaps never parsed."""

from __future__ import annotations

import base64

from model_sidecar.model.wire import BYTES, FIXED32, FIXED64, VARINT, DamagedError, any_field, as_varint, tag
from model_sidecar.rpc.status import Failure
from model_sidecar_client.wire.inference import ModelStreamInferResponse

CODE_KEY = "grpc-status"
"""The parameter that holds an error's gRPC code. The rest of what a unary call would have had in its trailers stands in
parameters of the trailers' names, bytes in base64."""

_INFER_RESPONSE = b"\x12"  # field 2, a message
_ID = tag(3, BYTES)
# Who writes the id behind a thousand other fields, or makes it longer than this, gets an error without it: neither the
# time to find it nor the room for it is bounded by anything else.
_MOST_FIELDS = 1000
_LONGEST_ID = 4096


def answered(content: bytes) -> bytes:
    """The message with this serialized ModelInferResponse in it; built around it, for parsing it again would cost more."""
    return b"".join((_INFER_RESPONSE, as_varint(len(content)), content))


def failed(request: bytes, failure: Failure) -> bytes:
    """The message that tells of a failure: our words in `error_message`, the request's id and the status beside them."""
    response = ModelStreamInferResponse(error_message=failure.message)
    told = response.infer_response
    told.id = request_id(request)
    told.parameters[CODE_KEY].int64_param = failure.code.value[0]
    for key, value in failure.trailing:
        text = value if isinstance(value, str) else base64.b64encode(value).decode("ascii")
        told.parameters[key].string_param = text
    return response.SerializeToString()


def request_id(content: bytes) -> str:
    """The id in a serialized ModelInferRequest, without a look at its tensors; "" where there is none to be found."""
    at, found = 0, b""
    try:
        for _ in range(_MOST_FIELDS):
            if at >= len(content):
                return found.decode()
            key, begin, at = any_field(content, at)
            if key & 7 not in (VARINT, FIXED64, BYTES, FIXED32):
                return ""
            if key == _ID and at - begin <= _LONGEST_ID:
                found = content[begin:at]
    except (DamagedError, UnicodeDecodeError):
        return ""  # no such message
    return ""
