"""How many parts a message has, seen before it is parsed.

A part can be as small as two bytes, and each becomes an object: a message of 16 MiB could keep the interpreter for seconds
and leave gigabytes behind, whoever sent it. Elements of typed contents are no parts, for those a model may want by the million.
"""

from __future__ import annotations

from contextlib import suppress

from model_sidecar.errors import InvalidRequestError
from model_sidecar_client.wire.inference import ModelInferRequest

MOST_PARTS = 8192
"""Fields of a request and of its tensors: a model of sixteen hundred inputs needs no more."""

_TENSORS = frozenset(
    ModelInferRequest.DESCRIPTOR.fields_by_name[name].number for name in ("inputs", "outputs")
)
_SHAPE = ModelInferRequest.InferInputTensor.DESCRIPTOR.fields_by_name["shape"].number
_LONGEST_SHAPE = 1024
"""Bytes; a dimension has ten at most, and arrays have 64 at most (numpy.org, "MAXDIMS")."""
_LEAST_BYTES = 2
_LONGEST_VARINT = 10
# What follows a field's tag (protobuf.dev, "Encoding").
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class _MalformedError(Exception):
    """The bytes are no message; the parser has the better words for that."""


def check_parts(content: bytes) -> None:
    """Nothing, for a request that may be parsed.

    Raises:
        InvalidRequestError: it has too many parts, or too long a shape.
    """
    if len(content) < _LEAST_BYTES * MOST_PARTS:
        return
    with suppress(_MalformedError):
        _count(content, 0, len(content), 0, is_tensor=False)


def _count(content: bytes, at: int, end: int, parts: int, *, is_tensor: bool) -> int:
    """How many parts there are with those between these two places, a request's or a tensor's."""
    while at < end:
        parts += 1
        if parts > MOST_PARTS:
            raise InvalidRequestError(
                f"the message has more than {MOST_PARTS} parts (inputs, outputs, raw_input_contents, parameters and "
                "their fields): send fewer, larger tensors"
            )
        tag, at = _varint(content, at)
        kind = tag & 7
        if kind == _LENGTH:
            size, at = _varint(content, at)
            if not is_tensor and tag >> 3 in _TENSORS:
                # Else it is no tensor, or stands in a group that nobody reads: what follows counts.
                with suppress(_MalformedError):
                    parts = _count(content, at, min(at + size, end), parts, is_tensor=True)
            elif is_tensor and tag >> 3 == _SHAPE and size > _LONGEST_SHAPE:
                raise InvalidRequestError(
                    f"the shape of a tensor has {size} bytes: expected {_LONGEST_SHAPE} at most, for no array has so many "
                    "dimensions"
                )
            at += size
        elif kind == _VARINT:
            _, at = _varint(content, at)
        elif kind == _FIXED32:
            at += 4
        elif kind == _FIXED64:
            at += 8
        # Else a group begins or ends: its fields are fields.
    return parts


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where it ends."""
    if at < len(content) and content[at] < 0x80:
        return content[at], at + 1
    value = 0
    for shift in range(0, _LONGEST_VARINT * 7, 7):
        if at >= len(content):
            break
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _MalformedError
