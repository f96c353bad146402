"""Where the tensors of a prediction lie in shared memory, and how its messages say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_sidecar_client.regions import Region
from model_sidecar_client.tensors import Tensor
from model_sidecar_client.wire import inference as wire

REGION, OFFSET, BYTE_SIZE = "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"

# Of a prediction that goes this way, what is smaller still travels in the message.
LEAST_TENSOR_BYTES = 64 << 10
# As wide as any vector of any processor: neither side copies faster or slower for where a tensor begins.
_ALIGNED = 64

Key = tuple[str, str, tuple[tuple[str, tuple[int, ...]], ...]]
"""A model, the version asked for, and the shapes of its inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A prediction that is worth it.

    Attributes:
        key: what its outputs' sizes are remembered by.
        inputs: the tensors, in the request's order.
        outputs: how large those outputs were last time that go through shared memory, by name.
        asked: all outputs that are wanted, by name; empty for all.
    """

    key: Key
    inputs: Sequence[Tensor]
    outputs: Mapping[str, int]
    asked: Sequence[str]


@dataclass(slots=True, eq=False)
class Held:
    """A region that its user fills himself.

    Attributes:
        address: where it begins in this process.
        is_registered: the sidecar has been told of it.
        is_lost: the sidecar cannot be told again, for it has no name any more.
    """

    region: Region
    address: int
    is_registered: bool = False
    is_lost: bool = False


InPlace = Mapping[str, tuple[Held, int]]
"""Tensors that lie in a held region already: where, by name."""


def content_of(parameters: Mapping[str, wire.InferParameter], region: Region) -> memoryview:
    """The bytes of an answered tensor that lies in our region.

    Raises:
        ValueError: it is said to lie beyond it.
    """
    at = parameters[OFFSET].int64_param if OFFSET in parameters else 0
    return region.get(at, parameters[BYTE_SIZE].int64_param)


def room(shared: Shared, in_place: InPlace) -> int:
    """The bytes that have to be laid somewhere."""
    sizes = [len(each.raw) for each in shared.inputs if is_large(each) and each.name not in in_place]
    return sum(map(_aligned, [*sizes, *shared.outputs.values()]))


def laid(
    request: wire.ModelInferRequest, shared: Shared, region: Region | None, in_place: InPlace
) -> wire.ModelInferRequest:
    """The request, with its large tensors laid into the region where they are not in place, and the others in it."""
    laid = wire.ModelInferRequest()
    laid.CopyFrom(request)
    at = 0
    for described, tensor in zip(laid.inputs, shared.inputs, strict=True):
        size = len(tensor.raw)
        if not is_large(tensor):
            laid.raw_input_contents.append(bytes(tensor.raw))
        elif tensor.name in in_place:
            held, there = in_place[tensor.name]
            _say(described.parameters, held.region, there, size)
        else:
            assert region is not None, "there is room for it"
            region.put(tensor.raw, at)
            _say(described.parameters, region, at, size)
            at += _aligned(size)
    for name in shared.asked:
        asked = laid.outputs.add(name=name)
        if name in shared.outputs:
            assert region is not None, "there is room for it"
            _say(asked.parameters, region, at, shared.outputs[name])
            at += _aligned(shared.outputs[name])
    return laid


def address(np: Any, content: memoryview) -> int:
    """Where these bytes begin in this process."""
    found: int = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    return found


def _say(parameters: Mapping[str, wire.InferParameter], region: Region, at: int, size: int) -> None:
    parameters[REGION].string_param = region.name
    parameters[BYTE_SIZE].int64_param = size
    if at:
        parameters[OFFSET].int64_param = at


def size_of(parameters: Mapping[str, wire.InferParameter], raw: bytes) -> int:
    """How many bytes an answered tensor has, wherever they lie."""
    return parameters[BYTE_SIZE].int64_param if REGION in parameters else len(raw)


def is_large(tensor: Tensor) -> bool:
    """Whether it is worth a place in a region."""
    return len(tensor.raw) >= LEAST_TENSOR_BYTES


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
