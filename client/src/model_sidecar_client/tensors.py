"""Values become tensors and tensors become values, with numpy where it is there and without it where it is not.

What may be sent as a tensor:

- a numpy array (or numpy scalar), an `array.array`, a memoryview, or anything else with a buffer or `__array__`: its
  element type must be the model's, for nothing is rounded or cut unasked. Two exceptions for BF16, which none of them
  has: FP32 elements are truncated to BF16, and UINT16 elements are taken as BF16 bits. Arrays of strings or objects
  count as lists.
- nested lists or tuples of bool, int, float, str or bytes, or one such scalar: converted to the model's datatype.
  An int may stand for a float, nothing else for anything else; str is sent as UTF-8.

What is received: numpy arrays, the caller's own to change, where numpy is importable; else nested lists. BYTES elements
are `bytes`, BF16 elements are float32 (or float).
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from types import ModuleType
from typing import Any

from model_sidecar_client.datatypes import DATATYPES, Datatype, datatype_of_buffer, datatype_of_elements
from model_sidecar_client.errors import InternalError, InvalidRequestError
from model_sidecar_client.nested import RaggedError, flattened, nested

# numpy.ndarray where numpy is importable, nested lists elsewhere. A union would make every caller narrow it.
Values = Any


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as the wire has it: its elements' bytes in row-major order, little-endian."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes


@cache
def numpy_if_there() -> ModuleType | None:
    """numpy, imported at the first use; None where it is not installed."""
    try:
        import numpy as np
    except ImportError:
        return None
    return np


def encode(name: str, values: Values, datatype: str | None) -> Tensor:
    """The tensor for these values.

    Args:
        name: the tensor's.
        values: see the top of this module.
        datatype: what the model takes; None derives it from the values (float FP32, int INT64).

    Raises:
        InvalidRequestError: values that are no tensor, or none of this datatype; `metadata` has `tensor`, `found` and
            `expected`.
    """
    wanted = None if datatype is None else _known(name, datatype)
    view = _view(values)
    found = None if view is None else datatype_of_buffer((view.format or "B").lstrip("@=<>!"), view.itemsize)
    if view is None or found is None:
        return _encode_elements(name, values, wanted)
    raw = view.tobytes()
    if _is_big_endian(view):
        raw = _swapped(raw, view.itemsize)
    if wanted and wanted.name != found:
        if wanted.name != "BF16" or found not in {"FP32", "UINT16"}:
            raise _mismatch(
                name, f"{found} ({type(values).__name__})", wanted.name, hint=": convert it first"
            )
        raw = raw if found == "UINT16" else _upper_halves(raw)
    return Tensor(name, wanted.name if wanted else found, tuple(view.shape or ()), raw)


def decode(tensor: Tensor) -> Values:
    """The values of a received tensor.

    Raises:
        InternalError: bytes that do not make up this datatype and shape.
    """
    datatype, count = _received(tensor.name, tensor.datatype, tensor.shape)
    if not datatype.size:
        return _shaped(_split_bytes(tensor, count), datatype, tensor.shape)
    if len(tensor.raw) != count * datatype.size:
        raise _malformed(
            tensor.name, f"{len(tensor.raw)} bytes", f"{count * datatype.size} for {tensor.shape}"
        )
    np = numpy_if_there()
    if np is None:
        raw = tensor.raw if datatype.name != "BF16" else _from_upper_halves(tensor.raw)
        return nested(tensor.shape, struct.unpack(f"<{count}{datatype.code}", raw))
    if datatype.name == "BF16":
        bits = np.frombuffer(tensor.raw, "<u2").astype("<u4") << 16
        return bits.view("<f4").reshape(tensor.shape)
    # Through a bytearray, because an array over bytes would be read-only.
    return np.frombuffer(bytearray(tensor.raw), "<" + datatype.code).reshape(tensor.shape)


def decode_elements(name: str, datatype: str, shape: Sequence[int], elements: Sequence[Any]) -> Values:
    """The values of a tensor that came with typed contents.

    Raises:
        InternalError: elements that do not make up this shape.
    """
    known, count = _received(name, datatype, shape)
    if len(elements) != count:
        raise _malformed(name, f"{len(elements)} elements", f"{count} for {tuple(shape)}")
    return _shaped(list(elements), known, shape)


def _view(values: Values) -> memoryview | None:
    """The values' buffer; None for lists, scalars, strings and whatever has no buffer."""
    if isinstance(values, list | tuple | str | bytes | bytearray | int | float):
        return None
    # No buffer, or one whose elements buffers cannot describe (dates, for instance): the values' list may do.
    try:
        return memoryview(values)
    except (TypeError, ValueError):
        np = numpy_if_there() if hasattr(values, "__array__") else None
    try:
        return memoryview(np.asarray(values)) if np else None
    except (TypeError, ValueError, RuntimeError):
        return None


def _encode_elements(name: str, values: Values, wanted: Datatype | None) -> Tensor:
    try:
        shape, elements = flattened(values)
    except RaggedError as error:
        raise InvalidRequestError(
            f"input {name!r}: {error}",
            reason="INVALID_INPUT",
            metadata={"tensor": name, "found": "ragged lists"},
        ) from None
    kinds = frozenset(map(type, elements))
    if wanted is None:
        guess = datatype_of_elements(kinds)
        if guess is None:
            raise _mismatch(name, _names(kinds), "bool, int, float, str or bytes, all of one kind")
        wanted = DATATYPES[guess]
    strangers = [kind for kind in kinds if not _takes(wanted, kind)]
    if strangers:
        raise _mismatch(name, _names(strangers), f"{wanted.name} ({_names(wanted.takes)})")
    try:
        if not wanted.size:
            return Tensor(name, wanted.name, shape, b"".join(map(_prefixed, elements)))
        raw = struct.pack(f"<{len(elements)}{wanted.code}", *elements)
    except (struct.error, OverflowError, UnicodeEncodeError):
        raise _mismatch(name, _first_unfit(wanted, elements), f"what {wanted.name} can hold") from None
    return Tensor(name, wanted.name, shape, _upper_halves(raw) if wanted.name == "BF16" else raw)


def _takes(datatype: Datatype, kind: type) -> bool:
    # bool is an int to Python; to a model, a truth value among numbers is a mistake.
    return issubclass(kind, datatype.takes) and (bool in datatype.takes or not issubclass(kind, bool))


def _first_unfit(datatype: Datatype, elements: Sequence[Any]) -> str:
    for element in elements:
        try:
            if datatype.size:
                struct.pack("<" + datatype.code, element)
            else:
                _prefixed(element)
        except (struct.error, OverflowError, UnicodeEncodeError):
            return ascii(element)[:80]
    raise AssertionError("all of it fits")


def _prefixed(element: str | bytes | bytearray) -> bytes:
    content = element.encode() if isinstance(element, str) else bytes(element)
    return struct.pack("<I", len(content)) + content


def _split_bytes(tensor: Tensor, count: int) -> list[bytes]:
    """The elements of BYTES contents; every length is checked against what is there."""
    elements: list[bytes] = []
    at, end = 0, len(tensor.raw)
    while at < end:
        length = int.from_bytes(tensor.raw[at : at + 4], "little")
        at += 4
        if at + length > end:
            raise _malformed(tensor.name, f"an element of {length} bytes", f"at most {max(end - at, 0)}")
        elements.append(tensor.raw[at : at + length])
        at += length
    if len(elements) != count:
        raise _malformed(tensor.name, f"{len(elements)} elements", f"{count} for {tensor.shape}")
    return elements


def _shaped(elements: list[Any], datatype: Datatype, shape: Sequence[int]) -> Values:
    np = numpy_if_there()
    if np is None:
        return nested(shape, elements)
    array = np.empty(len(elements), "<" + datatype.code if datatype.code else object)
    array[:] = elements
    return array.reshape(tuple(shape))


def _known(name: str, datatype: str) -> Datatype:
    if datatype not in DATATYPES:
        raise _mismatch(name, f"datatype {datatype!r}", f"one of {', '.join(DATATYPES)}")
    return DATATYPES[datatype]


def _received(name: str, datatype: str, shape: Sequence[int]) -> tuple[Datatype, int]:
    if datatype not in DATATYPES or any(size < 0 for size in shape):
        raise _malformed(name, f"{datatype!r} of shape {tuple(shape)}", "a datatype and a shape")
    return DATATYPES[datatype], prod(shape)


def _upper_halves(fp32: bytes) -> bytes:
    """FP32 elements truncated to BF16: of each little-endian four bytes the last two."""
    halves = bytearray(len(fp32) // 2)
    halves[0::2], halves[1::2] = fp32[2::4], fp32[3::4]
    return bytes(halves)


def _from_upper_halves(bf16: bytes) -> bytes:
    fp32 = bytearray(len(bf16) * 2)
    fp32[2::4], fp32[3::4] = bf16[0::2], bf16[1::2]
    return bytes(fp32)


def _is_big_endian(view: memoryview) -> bool:
    order = (view.format or "B")[0]
    return view.itemsize > 1 and (order in ">!" or (sys.byteorder == "big" and order != "<"))


def _swapped(raw: bytes, size: int) -> bytes:
    swapped = bytearray(len(raw))
    for byte in range(size):
        swapped[byte::size] = raw[size - 1 - byte :: size]
    return bytes(swapped)


def _names(kinds: Sequence[type] | frozenset[type]) -> str:
    return " or ".join(sorted(kind.__name__ for kind in kinds))


def _mismatch(name: str, found: str, expected: str, *, hint: str = "") -> InvalidRequestError:
    return InvalidRequestError(
        f"input {name!r}: found {found}, expected {expected}{hint}",
        reason="INVALID_INPUT",
        metadata={"tensor": name, "found": found, "expected": expected},
    )


def _malformed(name: str, found: str, expected: str) -> InternalError:
    return InternalError(f"tensor {name!r} is malformed: found {found}, expected {expected}")
