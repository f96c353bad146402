"""The tensor datatypes of the Open Inference Protocol, and how one element of each looks in bytes and in Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Contents = Literal[
    "bool_contents",
    "int_contents",
    "int64_contents",
    "uint_contents",
    "uint64_contents",
    "fp32_contents",
    "fp64_contents",
    "bytes_contents",
]


@dataclass(frozen=True, slots=True)
class Datatype:
    """One datatype.

    Attributes:
        name: the protocol's word for it.
        code: `struct`'s letter for one element, which is numpy's too; "" where elements vary in size. BF16, which
            `struct` does not know, travels as the upper half of an FP32.
        size: bytes of one element in raw contents; 0 where it varies.
        contents: the field of typed contents; None where the protocol has only raw contents.
        takes: the Python types that an element of a list may have.
    """

    name: str
    code: str
    size: int
    contents: Contents | None
    takes: tuple[type, ...]


def _datatypes(*datatypes: Datatype) -> Mapping[str, Datatype]:
    return MappingProxyType({datatype.name: datatype for datatype in datatypes})


DATATYPES = _datatypes(
    Datatype("BOOL", "?", 1, "bool_contents", (bool,)),
    Datatype("INT8", "b", 1, "int_contents", (int,)),
    Datatype("INT16", "h", 2, "int_contents", (int,)),
    Datatype("INT32", "i", 4, "int_contents", (int,)),
    Datatype("INT64", "q", 8, "int64_contents", (int,)),
    Datatype("UINT8", "B", 1, "uint_contents", (int,)),
    Datatype("UINT16", "H", 2, "uint_contents", (int,)),
    Datatype("UINT32", "I", 4, "uint_contents", (int,)),
    Datatype("UINT64", "Q", 8, "uint64_contents", (int,)),
    Datatype("FP16", "e", 2, None, (float, int)),
    Datatype("BF16", "f", 2, None, (float, int)),
    Datatype("FP32", "f", 4, "fp32_contents", (float, int)),
    Datatype("FP64", "d", 8, "fp64_contents", (float, int)),
    Datatype("BYTES", "", 0, "bytes_contents", (str, bytes, bytearray)),
)

_INTEGERS = {1: "INT8", 2: "INT16", 4: "INT32", 8: "INT64"}
_UNSIGNED = {1: "UINT8", 2: "UINT16", 4: "UINT32", 8: "UINT64"}
_FLOATS = {2: "FP16", 4: "FP32", 8: "FP64"}


def datatype_of_buffer(letter: str, itemsize: int) -> str | None:
    """The datatype of a buffer's elements, from its format letter (PEP 3118) and size; None where there is none."""
    if letter == "?":
        return "BOOL"
    if letter in "bhilqn":
        return _INTEGERS.get(itemsize)
    if letter in "BHILQN":
        return _UNSIGNED.get(itemsize)
    if letter in "efd":
        return _FLOATS.get(itemsize)
    return None


def datatype_of_elements(kinds: frozenset[type]) -> str | None:
    """The datatype that a list's elements suggest where no model says one; None for a mix that suggests none."""
    if not kinds or all(issubclass(kind, (float, int)) and not issubclass(kind, bool) for kind in kinds):
        return "INT64" if kinds and all(issubclass(kind, int) for kind in kinds) else "FP32"
    for name in ("BOOL", "BYTES"):
        if all(issubclass(kind, DATATYPES[name].takes) for kind in kinds):
            return name
    return None
