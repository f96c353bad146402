"""What a model takes and gives: the Open Inference Protocol's datatypes, tensor specifications, signatures.

Arrays in memory are numpy's, with two conventions where numpy has no type of its own: BYTES are object arrays of
`str` (what onnxruntime takes and gives), and BF16 are uint16 arrays of the bit patterns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
"""Tensors by name."""


class Datatype(StrEnum):
    """The names of the Open Inference Protocol, version 2."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The element type of arrays in memory; little-endian, as on the wire."""
        return _NUMPY[self]


_NUMPY: Mapping[Datatype, np.dtype[Any]] = {
    Datatype.BOOL: np.dtype("?"),
    Datatype.UINT8: np.dtype("u1"),
    Datatype.UINT16: np.dtype("<u2"),
    Datatype.UINT32: np.dtype("<u4"),
    Datatype.UINT64: np.dtype("<u8"),
    Datatype.INT8: np.dtype("i1"),
    Datatype.INT16: np.dtype("<i2"),
    Datatype.INT32: np.dtype("<i4"),
    Datatype.INT64: np.dtype("<i8"),
    Datatype.FP16: np.dtype("<f2"),
    Datatype.BF16: np.dtype("<u2"),
    Datatype.FP32: np.dtype("<f4"),
    Datatype.FP64: np.dtype("<f8"),
    Datatype.BYTES: np.dtype("O"),
}


def described(array: NDArray[Any]) -> str:
    """An array's type and shape, written as a `TensorSpec` is: `FP32[3, 5]`; numpy's own name of a type that has none there."""
    name = next((each for each, dtype in _NUMPY.items() if dtype == array.dtype), array.dtype.str)
    return f"{name}{list(array.shape)}"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor by name, datatype and shape; -1 in the shape stands for any size, `()` is a scalar."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.datatype}{list(self.shape)}"

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape fits."""
        return len(shape) == len(self.shape) and all(
            want in (-1, have) for want, have in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """What a version takes and gives, preprocessing included."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def breaks_from(self, older: Signature) -> tuple[str, ...]:
        """What a caller of `older` would trip over, one line each; empty when every such caller goes on unharmed.

        A caller is unharmed by an input that admits more sizes than before and by an additional output.
        """
        return (
            *_input_breaks(
                {spec.name: spec for spec in self.inputs}, {spec.name: spec for spec in older.inputs}
            ),
            *_output_breaks(
                {spec.name: spec for spec in self.outputs}, {spec.name: spec for spec in older.outputs}
            ),
        )


def _input_breaks(new: Mapping[str, TensorSpec], old: Mapping[str, TensorSpec]) -> list[str]:
    breaks = [f"input {old[name]} is gone" for name in old if name not in new]
    breaks += [f"input {new[name]} is new" for name in new if name not in old]
    for name in old.keys() & new.keys():
        if new[name].datatype != old[name].datatype or not new[name].admits(old[name].shape):
            breaks.append(f"input {old[name]} became {new[name]}")
    return sorted(breaks)


def _output_breaks(new: Mapping[str, TensorSpec], old: Mapping[str, TensorSpec]) -> list[str]:
    breaks = [f"output {old[name]} is gone" for name in old if name not in new]
    breaks += [
        f"output {old[name]} became {new[name]}"
        for name in old.keys() & new.keys()
        if new[name].datatype != old[name].datatype or not old[name].admits(new[name].shape)
    ]
    return sorted(breaks)
