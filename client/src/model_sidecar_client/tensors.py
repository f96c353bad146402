"""Values become tensors and tensors become values, with numpy where it is there and without it where it is not.

What may be sent as a tensor:

- a numpy array (or numpy scalar), an `array.array`, a memoryview, or anything else with a buffer or `__array__`. Arrays
  of strings or objects count as lists.
- nested lists or tuples of bool, int, float, str or bytes, or one such scalar; str is sent as UTF-8.

Both are converted to the model's datatype by one rule. Of the kinds bool, integer, float and text, an integer may stand
for a float, nothing else for anything else. Floats are rounded to the model's width (so float64 arrays fit an FP32
input), BF16 is cut from FP32. Integers take the model's width if every value fits. A value beyond the datatype's range
is refused, as is a float where the model takes integers. One exception: integer arrays for BF16 are its bits and must
be UINT16.

What is received: numpy arrays, the caller's own to change, where numpy is importable; else nested lists. BYTES elements
are `bytes`, BF16 elements are float32 (or float).
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from functools import cache, lru_cache
from math import prod
from types import ModuleType
from typing import Any, NamedTuple

from model_sidecar_client.datatypes import DATATYPES, Datatype, datatype_of_buffer, datatype_of_elements
from model_sidecar_client.errors import InternalError, InvalidRequestError
from model_sidecar_client.nested import RaggedError, flattened, nested
from model_sidecar_client.packing import UnfitError, converted, from_upper_halves, packed

# A copy of less costs nothing beside what else a call does.
_VIEWED_BYTES = 64 << 10

# numpy.ndarray where numpy is importable, nested lists elsewhere. A union would make every caller narrow it.
Values = Any


class Tensor(NamedTuple):
    """A tensor as the wire has it: its elements' bytes in row-major order, little-endian.

    A large one's `raw` may be a view of what it was made from, to be copied before anything else happens.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | memoryview


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
    found, is_big_endian = (None, False) if view is None else _elements_of(view.format or "B", view.itemsize)
    if view is None or found is None:
        return _encode_elements(name, values, wanted)
    if is_big_endian:
        raw: bytes | memoryview = _swapped(view.tobytes(), view.itemsize)
    else:
        raw = _row(view)
    if wanted and wanted is not found:
        if not _stands_for(found, wanted):
            raise _mismatch(
                name, f"{found.name} ({type(values).__name__})", f"{wanted.name} ({_names(wanted.takes)})"
            )
        try:
            raw = converted(bytes(raw), found, wanted, numpy_if_there())
        except UnfitError as error:
            raise _mismatch(name, str(error), f"what {wanted.name} can hold") from None
    return Tensor(name, (wanted or found).name, tuple(view.shape or ()), raw)


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
        raw = bytes(tensor.raw) if datatype.name != "BF16" else from_upper_halves(bytes(tensor.raw))
        return nested(tensor.shape, struct.unpack(f"<{count}{datatype.code}", raw))
    if datatype.name == "BF16":
        bits = np.frombuffer(tensor.raw, "<u2").astype("<u4") << 16
        return bits.view("<f4").reshape(tensor.shape)
    # A copy, because an array over bytes would be read-only.
    return np.frombuffer(tensor.raw, "<" + datatype.code).reshape(tensor.shape).copy()


def decode_elements(name: str, datatype: str, shape: Sequence[int], elements: Sequence[Any]) -> Values:
    """The values of a tensor that came with typed contents.

    Raises:
        InternalError: elements that do not make up this shape.
    """
    known, count = _received(name, datatype, shape)
    if len(elements) != count:
        raise _malformed(name, f"{len(elements)} elements", f"{count} for {tuple(shape)}")
    try:
        return _shaped(list(elements), known, shape)
    except (OverflowError, TypeError, ValueError) as error:
        # The typed lists are wider than some datatypes: an INT8 arrives among int32.
        raise _malformed(name, str(error), f"elements of {datatype}") from None


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
        return Tensor(name, wanted.name, shape, packed(elements, wanted))
    except UnfitError as error:
        raise _mismatch(name, str(error), f"what {wanted.name} can hold") from None


def _takes(datatype: Datatype, kind: type) -> bool:
    # bool is an int to Python; to a model, a truth value among numbers is a mistake.
    return issubclass(kind, datatype.takes) and (bool in datatype.takes or not issubclass(kind, bool))


def _stands_for(found: Datatype, wanted: Datatype) -> bool:
    """Whether a buffer of one datatype may be sent as another."""
    if wanted.name == "BF16" and int in found.takes and float not in found.takes:
        # No buffer has BF16, so those who have its bits keep them in UINT16; other integers would be a guess.
        return found.name == "UINT16"
    return _takes(wanted, found.takes[0])


def _split_bytes(tensor: Tensor, count: int) -> list[bytes]:
    """The elements of BYTES contents; every length is checked against what is there."""
    elements: list[bytes] = []
    raw = bytes(tensor.raw)
    at, end = 0, len(raw)
    while at < end:
        length = int.from_bytes(raw[at : at + 4], "little")
        at += 4
        if at + length > end:
            raise _malformed(tensor.name, f"an element of {length} bytes", f"at most {max(end - at, 0)}")
        elements.append(raw[at : at + length])
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
    if datatype not in DATATYPES or min(shape, default=0) < 0:
        raise _malformed(name, f"{datatype!r} of shape {tuple(shape)}", "a datatype and a shape")
    return DATATYPES[datatype], prod(shape)


def _row(view: memoryview) -> bytes | memoryview:
    """A view's bytes in row-major order; not copied where they are many and lie so already."""
    if view.nbytes >= _VIEWED_BYTES and view.c_contiguous:
        try:
            return view.cast("B")
        except TypeError:
            pass  # a format that memoryview does not know by this name, such as one that says little-endian
    return view.tobytes()


@lru_cache(maxsize=64)
def _elements_of(format_: str, itemsize: int) -> tuple[Datatype | None, bool]:
    """The datatype of such a buffer's elements, None where there is none, and whether their highest byte comes first."""
    name = datatype_of_buffer(format_.lstrip("@=<>!"), itemsize)
    is_big_endian = itemsize > 1 and (format_[0] in ">!" or (sys.byteorder == "big" and format_[0] != "<"))
    return None if name is None else DATATYPES[name], is_big_endian


def _swapped(raw: bytes, size: int) -> bytes:
    swapped = bytearray(len(raw))
    for byte in range(size):
        swapped[byte::size] = raw[size - 1 - byte :: size]
    return bytes(swapped)


def _names(kinds: Sequence[type] | frozenset[type]) -> str:
    return " or ".join(sorted(kind.__name__ for kind in kinds))


def _mismatch(name: str, found: str, expected: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"input {name!r}: found {found}, expected {expected}",
        reason="INVALID_INPUT",
        metadata={"tensor": name, "found": found, "expected": expected},
    )


def _malformed(name: str, found: str, expected: str) -> InternalError:
    return InternalError(f"tensor {name!r} is malformed: found {found}, expected {expected}")
