"""Numbers as protobuf writes them: seven bits in a byte, the lowest first (protobuf.dev, "Encoding")."""

from __future__ import annotations


def varint_at(content: bytes, at: int) -> tuple[int, int]:
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


def as_varint(value: int) -> bytes:
    """A number, 0 at least, as its bytes."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
