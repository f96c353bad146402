"""Elements as a datatype's bytes: from Python's values, from another datatype's bytes; what does not fit is named.

It leaves out which kinds may stand for which: `tensors` decides that before it asks.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from model_sidecar_client.datatypes import Datatype


class UnfitError(ValueError):
    """An element that the datatype cannot hold; the message is the first such element, in ASCII."""


def packed(elements: Sequence[Any], datatype: Datatype) -> bytes:
    """Elements of kinds that the datatype takes, as its little-endian bytes. Floats are rounded, BF16 is cut.

    Raises:
        UnfitError: an integer or float beyond its range, or text that is no Unicode.
    """
    try:
        if not datatype.size:
            return b"".join(map(_prefixed, elements))
        raw = struct.pack(f"<{len(elements)}{datatype.code}", *elements)
    except (struct.error, OverflowError, UnicodeEncodeError):
        raise UnfitError(_first_unfit(elements, datatype)) from None
    return _upper_halves(raw) if datatype.name == "BF16" else raw


def converted(raw: bytes, found: Datatype, wanted: Datatype, np: ModuleType | None) -> bytes:
    """The bytes of one numeric datatype as those of another: the values of `packed`, without a Python object for each.

    Args:
        raw: little-endian elements of `found`.
        found: a datatype that buffers can have.
        wanted: one that its kind may stand for. UINT16 elements are BF16's bits.
        np: numpy, or None where it is not installed.

    Raises:
        UnfitError: an element beyond the range of `wanted`.
    """
    if wanted.name == "BF16" and found.name in {"UINT16", "FP32"}:
        return raw if found.name == "UINT16" else _upper_halves(raw)
    if np is None:
        return packed(struct.unpack(f"<{len(raw) // found.size}{found.code}", raw), wanted)
    source = np.frombuffer(raw, "<" + found.code)
    with np.errstate(all="ignore"):
        target = source.astype("<" + wanted.code)
    if float in wanted.takes:
        unfit = source[np.isinf(target) & np.isfinite(source)][:1].tolist()
    else:
        # As Python's integers, for numpy may compare int64 with uint64 as floats.
        limits = np.iinfo(target.dtype)
        extremes = (int(source.min()), int(source.max())) if source.size else ()
        unfit = [each for each in extremes if not limits.min <= each <= limits.max]
    if unfit:
        raise UnfitError(ascii(unfit[0]))
    raw = target.tobytes()
    return _upper_halves(raw) if wanted.name == "BF16" else raw


def from_upper_halves(bf16: bytes) -> bytes:
    """BF16 elements as FP32."""
    fp32 = bytearray(len(bf16) * 2)
    fp32[2::4], fp32[3::4] = bf16[0::2], bf16[1::2]
    return bytes(fp32)


def _upper_halves(fp32: bytes) -> bytes:
    """FP32 elements truncated to BF16: of each little-endian four bytes the last two."""
    halves = bytearray(len(fp32) // 2)
    halves[0::2], halves[1::2] = fp32[2::4], fp32[3::4]
    return bytes(halves)


def _prefixed(element: str | bytes | bytearray) -> bytes:
    content = element.encode() if isinstance(element, str) else bytes(element)
    return struct.pack("<I", len(content)) + content


def _first_unfit(elements: Sequence[Any], datatype: Datatype) -> str:
    for element in elements:
        try:
            if datatype.size:
                struct.pack("<" + datatype.code, element)
            else:
                _prefixed(element)
        except (struct.error, OverflowError, UnicodeEncodeError):
            return ascii(element)[:80]
    raise AssertionError("all of it fits")
