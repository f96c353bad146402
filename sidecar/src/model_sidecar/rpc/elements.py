"""How the elements of a tensor stand on the wire: which typed list each datatype has, and the raw form of BYTES.

In memory BYTES are `str`, as onnxruntime takes and gives them, so on the wire they have to be UTF-8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_sidecar.errors import InvalidInputError
from model_sidecar.release.tensors import Datatype

TYPED_LIST: Mapping[Datatype, str] = {
    Datatype.BOOL: "bool_contents",
    Datatype.INT8: "int_contents",
    Datatype.INT16: "int_contents",
    Datatype.INT32: "int_contents",
    Datatype.INT64: "int64_contents",
    Datatype.UINT8: "uint_contents",
    Datatype.UINT16: "uint_contents",
    Datatype.UINT32: "uint_contents",
    Datatype.UINT64: "uint64_contents",
    Datatype.FP32: "fp32_contents",
    Datatype.FP64: "fp64_contents",
    Datatype.BYTES: "bytes_contents",
}
"""The field of InferTensorContents for each datatype that has one: FP16 and BF16 travel raw only (OIP, section
"Tensor Data")."""

AT_ONCE = 16_384
"""Elements of a typed list that are read or written in one go: half a millisecond in which nobody else has the interpreter."""

_LENGTH = struct.Struct("<I")


def strings_from_raw(raw: bytes, count: int, *, where: str) -> NDArray[Any]:
    """The `count` strings that stand in `raw`, each behind its length as 4 little-endian bytes; shape (count,).

    Raises:
        InvalidInputError: a length leads past the end, bytes are left over, or an element is not UTF-8. `where`
            names the tensor.
    """
    size = len(raw)
    if count * _LENGTH.size > size:
        raise InvalidInputError(
            f"{where}: {size} bytes, expected at least {count * _LENGTH.size}: {count} BYTES elements, each behind "
            "its length as 4 little-endian bytes"
        )
    found: list[str] = []
    at = 0
    for index in range(count):
        begin = at + _LENGTH.size
        if begin > size:
            raise InvalidInputError(
                f"{where}: it ends at byte {size}, before the length of element {index} of {count}"
            )
        at = begin + _LENGTH.unpack_from(raw, at)[0]
        if at > size:
            raise InvalidInputError(
                f"{where}: element {index} is said to have {at - begin} bytes, and {size - begin} are left"
            )
        found.append(text(raw[begin:at], index, where=where))
    if at != size:
        raise InvalidInputError(f"{where}: {size - at} bytes are left over behind its {count} elements")
    return strings(found)


def strings_to_raw(array: NDArray[Any]) -> bytes:
    """The raw form of an array of strings, row-major."""
    parts: list[bytes] = []
    for element in array.ravel():
        encoded = encoded_text(element)
        parts += (_LENGTH.pack(len(encoded)), encoded)
    return b"".join(parts)


def strings(values: Iterable[str]) -> NDArray[Any]:
    """An array of `str` objects, shape (n,)."""
    listed = list(values)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def text(element: bytes, index: int, *, where: str) -> str:
    """An element as text, or InvalidInputError."""
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{where}: element {index} is not UTF-8 (byte {error.start} of it): the model takes text"
        ) from error


def encoded_text(element: object) -> bytes:
    """An element of an answer as bytes."""
    return element if isinstance(element, bytes) else str(element).encode()
