"""Protobuf's wire format, read in place: fields are found, weights are stepped over and never touched.

Stricter than protobuf itself where no writer that we know of goes: groups, field numbers and tags beyond 32 bits are
refused instead of skipped, so that nothing can hide from this reader and yet be seen by another one.
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import mmap
import re

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""The kinds of field, the lowest three bits of a tag. 3 and 4 are groups, which ONNX does not use."""

_MAX_TAG = (1 << 32) - 1
_MAX_VARINT_BYTES = 10
_SIZES = {FIXED32: 4, FIXED64: 8}
_RUN = {VARINT: rb"[\x80-\xff]{0,9}[\x00-\x7f]", FIXED32: rb".{4}", FIXED64: rb".{8}"}


class DamagedError(ValueError):
    """The bytes are not a protobuf message of the strict kind; the message says why."""


def tag(number: int, kind: int) -> int:
    """What stands before a field of this number and kind."""
    return number << 3 | kind


def as_varint(value: int) -> bytes:
    """A number, 0 at least, as its bytes."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def varint(content: bytes | mmap.mmap, at: int) -> tuple[int, int]:
    """The number that begins at a position, and the position behind it.

    Raises:
        IndexError: the bytes end before it does.
        DamagedError: it has more than 64 bits.
    """
    value = content[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    for index in range(1, _MAX_VARINT_BYTES):
        byte = content[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise DamagedError("a number has more than 64 bits")


def any_field(content: bytes, at: int) -> tuple[int, int, int]:
    """The field at a position, whatever protobuf itself lets pass: its tag, where its value begins, the position behind it.

    What is neither a number nor BYTES, such as the begin and the end of a group, has no value.

    Raises:
        DamagedError: there is no field.
    """
    try:
        found, at = varint(content, at)
        kind = found & 7
        if kind == BYTES:
            size, at = varint(content, at)
            return found, at, at + size
        if kind == VARINT:
            return found, at, varint(content, at)[1]
    except IndexError:
        raise DamagedError("it ends in the middle of a field") from None
    return found, at, at + _SIZES.get(kind, 0)


class Reader:
    """Finds fields in a buffer. Positions only ever grow, so that reading ends whatever the bytes are."""

    def __init__(self, content: bytes | mmap.mmap) -> None:
        self._content = content
        self._runs: dict[int, re.Pattern[bytes]] = {}

    def field(self, at: int, end: int) -> tuple[int, int, int]:
        """The field at a position of a message that ends at `end`: its tag, its value, the position behind it.

        The value of a VARINT is its number, of BYTES the position at which they begin, of the others 0.

        Raises:
            DamagedError: there is no field, or it reaches past `end`.
        """
        content = self._content
        try:
            found = content[at]
            at += 1
            if found >= 0x80:
                found, at = varint(content, at - 1)
            kind = found & 7
            if kind == BYTES:
                value = content[at]
                at += 1
                if value >= 0x80:
                    value, at = varint(content, at - 1)
                value, at = at, at + value
            elif kind == VARINT:
                value, at = varint(content, at)
            elif kind in _SIZES:
                value, at = 0, at + _SIZES[kind]
            else:
                raise DamagedError(f"a field is of a kind that ONNX does not use ({kind})")
        except IndexError:
            raise DamagedError("it ends in the middle of a field: is the file complete?") from None
        if at > end:
            raise DamagedError(f"a field reaches {at - end} bytes past its end: is the file complete?")
        if not 8 <= found <= _MAX_TAG:
            raise DamagedError(f"field number {found >> 3} is none that protobuf allows")
        return found, value, at

    def behind_run(self, found: int, at: int, end: int) -> int:
        """The position behind further numbers with the tag of the one just read, which is not of kind BYTES.

        The nodes of a large forest are millions of such fields in a row: one by one they would take seconds.
        """
        if found >= 0x80:
            return at
        content = self._content
        while at < end and content[at] == found:
            pattern = self._runs.get(found)
            if pattern is None:
                # A few thousand at a time and no more: the regex engine holds the GIL while it matches.
                one = re.escape(bytes([found])) + _RUN[found & 7]
                pattern = self._runs[found] = re.compile(rb"(?:" + one + rb"){1,4096}+", re.DOTALL)
            match = pattern.match(content, at, end)
            if match is None:
                break
            at = match.end()
        return at
