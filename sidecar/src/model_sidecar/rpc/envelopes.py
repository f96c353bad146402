"""ModelStreamInferResponse around an answer or an error, and the id of a request that was perhaps never parsed."""

from __future__ import annotations

import base64

from model_sidecar.model.wire import as_varint
from model_sidecar.rpc.status import Failure
from model_sidecar_client.wire.inference import ModelStreamInferResponse

CODE_KEY = "grpc-status"
"""The parameter that holds an error's gRPC code. The rest of what a unary call would have had in its trailers stands in
parameters of the trailers' names, bytes in base64."""

_INFER_RESPONSE = b"\x12"  # field 2, a message
_ID_FIELD = 3
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
            key, at = _varint(content, at)
            match key & 7:  # the wire types: varint, eight bytes, sized, four bytes
                case 0:
                    _, at = _varint(content, at)
                case 1:
                    at += 8
                case 2:
                    size, at = _varint(content, at)
                    if key >> 3 == _ID_FIELD and size <= _LONGEST_ID:
                        found = content[at : at + size]
                    at += size
                case 5:
                    at += 4
                case _:
                    return ""
    except (IndexError, UnicodeDecodeError):
        return ""  # no such message
    return ""


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where it ends; IndexError where there is none."""
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise IndexError
