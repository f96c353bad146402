"""How many parts a message has, seen before it is parsed.

A part can be as small as two bytes, and each becomes an object: a message of 16 MiB could keep the interpreter for seconds
and leave gigabytes behind, whoever sent it. Elements of typed contents are no parts, for those a model may want by the million.
"""

from __future__ import annotations

from contextlib import suppress

from model_sidecar.errors import InvalidRequestError
from model_sidecar.model.wire import BYTES, DamagedError, any_field, tag
from model_sidecar_client.wire.inference import ModelInferRequest

MOST_PARTS = 8192
"""Fields of a request and of its tensors: a model of sixteen hundred inputs needs no more."""

_REQUEST, _INPUT = ModelInferRequest.DESCRIPTOR, ModelInferRequest.InferInputTensor.DESCRIPTOR
_TENSORS = frozenset(tag(_REQUEST.fields_by_name[name].number, BYTES) for name in ("inputs", "outputs"))
_SHAPE = tag(_INPUT.fields_by_name["shape"].number, BYTES)
_LONGEST_SHAPE = 1024
"""Bytes; a dimension has ten at most, and arrays have 64 at most (numpy.org, "MAXDIMS")."""
_LEAST_BYTES = 2


def check_parts(content: bytes) -> None:
    """Nothing, for a request that may be parsed.

    Raises:
        InvalidRequestError: it has too many parts, or too long a shape.
    """
    if len(content) < _LEAST_BYTES * MOST_PARTS:
        return
    with suppress(DamagedError):  # the parser has the better words for that
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
        found, begin, behind = any_field(content, at)
        if not is_tensor and found in _TENSORS:
            # What is damaged is no tensor, or stands in a group that nobody reads: what follows counts.
            with suppress(DamagedError):
                parts = _count(content, begin, min(behind, end), parts, is_tensor=True)
        elif is_tensor and found == _SHAPE and behind - begin > _LONGEST_SHAPE:
            raise InvalidRequestError(
                f"the shape of a tensor has {behind - begin} bytes: expected {_LONGEST_SHAPE} at most, for no array has so "
                "many dimensions"
            )
        at = behind
    return parts
