"""How many of something, in words for people."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """`1 file`, `2 files`, `12,000 bytes`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def agreeing(examples: int) -> str:
    """Golden examples that agree: `1 example agrees`, `2 examples agree`."""
    return f"{counted(examples, 'example')} agree{'s' if examples == 1 else ''}"
