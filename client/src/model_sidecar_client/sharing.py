"""Predictions whose large tensors go through shared memory: when, and what becomes of it where that fails.

It is used by itself where the sidecar is on this machine and offers it (`serve --shared-memory`). Whatever stands in its way
(another user's sidecar, another /dev/shm, memory that is short, a sidecar that was restarted) the prediction goes as a
message instead, or into a new region; nobody is told but who asked for shared memory and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from model_sidecar_client.channels import is_local
from model_sidecar_client.errors import (
    CallCancelledError,
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    NotReachableError,
    NotSupportedError,
    SidecarError,
)
from model_sidecar_client.exchange import Ask, Exchange
from model_sidecar_client.regions import Pool, Region
from model_sidecar_client.tensors import Tensor
from model_sidecar_client.wire import inference as wire

T = TypeVar("T")

EXTENSION = "system_shared_memory"
REGION, OFFSET, BYTE_SIZE = "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"

# From here on it is faster than a message (benchmarks/shared_memory.py).
LEAST_BYTES = 512 << 10
# Of a prediction that goes this way, what is smaller still travels in the message.
_LEAST_TENSOR_BYTES = 64 << 10
# As wide as any vector of any processor: neither side copies faster or slower for where a tensor begins.
_ALIGNED = 64
# Who said no may be another by then.
_ASK_AGAIN_S = 60.0
_REMEMBERED = 256
_NOTHING: Mapping[str, int] = {}
# What would have become of the prediction, too.
_OF_THE_WAY = (CallCancelledError, DeadlineError, NotReachableError)

Key = tuple[str, str, tuple[tuple[str, str, tuple[int, ...]], ...]]
"""A model, the version asked for, and its inputs' names, datatypes and shapes."""


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

    @property
    def size(self) -> int:
        """The bytes of a region that it takes."""
        sizes = [len(each.raw) for each in self.inputs if _is_large(each)] + list(self.outputs.values())
        return sum(map(_aligned, sizes))


class Sharing:
    """What one client knows of shared memory. Any thread may use it; what two find out at once is found out twice."""

    def __init__(self, target: str, *, must: bool) -> None:
        """Share with what answers at `target`, where that can be; `must`: or say that it cannot."""
        self._must = must
        self._may = self._must or is_local(target)
        self._target = target
        self._pool = Pool()
        self._ask_at = 0.0 if self._may else float("inf")  # monotonic: not offered before
        self._offered = False
        self._outputs: dict[Key, Mapping[str, int] | None] = {}

    def worth(
        self, key: Key, inputs: Sequence[Tensor], *, asked: Sequence[str], known: Iterable[str]
    ) -> Shared | None:
        """This prediction as one that goes through shared memory, or None where a message is the better way.

        Args:
            key: of the model and the inputs' shapes.
            inputs: as they would be sent.
            asked: the outputs that are wanted; empty for all.
            known: all outputs of the model.
        """
        if not self._may:
            return None
        outputs = self._outputs.get(key) or _NOTHING
        if not outputs and sum([len(each.raw) for each in inputs]) < LEAST_BYTES:
            return None
        names = list(asked or known)
        outputs = {name: size for name, size in outputs.items() if name in names}
        shared = Shared(key=key, inputs=inputs, outputs=outputs, asked=names if outputs else asked)
        return shared if shared.size >= LEAST_BYTES else None

    def learn(self, key: Key, reply: wire.ModelInferResponse) -> None:
        """Remember how large the outputs of such a prediction are."""
        before = self._outputs.get(key, _NOTHING)
        if not self._may or before is None:
            return
        if before is _NOTHING and sum(map(len, reply.raw_output_contents)) < LEAST_BYTES:
            return  # nearly always, and the quickest way to know it
        contents = zip(reply.outputs, reply.raw_output_contents, strict=False)
        sizes = {tensor.name: _size(tensor.parameters, raw) for tensor, raw in contents}
        large = {name: size for name, size in sizes.items() if size >= _LEAST_TENSOR_BYTES}
        if sum(large.values()) >= LEAST_BYTES and self._outputs.get(key) != large:
            self._remember(key, large)

    def infer(
        self,
        request: wire.ModelInferRequest,
        shared: Shared,
        understood: Callable[[wire.ModelInferResponse, Region], T],
    ) -> Exchange[T | None]:
        """Ask for this prediction; None where it has to go as a message.

        Args:
            request: without tensors' contents, and without outputs.
            shared: its tensors.
            understood: makes of the answer what is wanted of it, while the region is still this prediction's.

        Raises:
            NotSupportedError: it must go this way, and cannot.
            SidecarError: the prediction failed.
        """
        for _ in range(
            2
        ):  # a region that the sidecar knew and knows no more, and one that it has just been told of
            region = yield from self._region(shared.size)
            if region is None:
                break
            is_ours = False
            try:
                reply = yield Ask("ModelInfer", _laid(request, shared, region))
                is_ours = True
                self.learn(shared.key, reply)
                return understood(reply, region)
            except SidecarError as error:
                # An answer of the sidecar's own: it does nothing more. Else it may still write an output there.
                is_ours = bool(error.reason) and error.reason != "REGION_NOT_FOUND"
                if isinstance(error, InvalidRequestError) and error.reason in ("", "REGION_INVALID"):
                    self._distrust(shared)
                    break
                if not isinstance(error, NotFoundError) or error.reason != "REGION_NOT_FOUND":
                    raise
            finally:
                (self._pool.put_back if is_ours else self._pool.lose)(region)
        if self._must:
            raise NotSupportedError(
                f"{self._target} cannot be reached through shared memory: it runs without --shared-memory, or as another "
                "user, or with another /dev/shm"
            )
        return None

    def end(self) -> Exchange[None]:
        """Have the sidecar forget our regions, as far as it can be told."""
        for name in self._pool.drain():
            try:
                yield Ask("SystemSharedMemoryUnregister", wire.SystemSharedMemoryUnregisterRequest(name=name))
            except SidecarError:
                return  # it sees by itself that they are forsaken

    def _region(self, size: int) -> Exchange[Region | None]:
        idle = self._pool.take(size)
        if idle is not None:
            return idle
        if not (yield from self._is_offered()):
            return None
        region = self._pool.make(size)
        if region is None:
            return None
        registered = False
        try:
            yield Ask(
                "SystemSharedMemoryRegister",
                wire.SystemSharedMemoryRegisterRequest(
                    name=region.name, key=region.key, byte_size=region.size
                ),
            )
            registered = True
        except _OF_THE_WAY:
            raise
        except SidecarError:
            self._offered, self._ask_at = False, time.monotonic() + _ASK_AGAIN_S
            return None
        finally:
            if registered:
                region.drop_name()
            else:
                self._pool.lose(region)
        return region

    def _is_offered(self) -> Exchange[bool]:
        if not self._offered and time.monotonic() >= self._ask_at:
            try:
                reply: wire.ServerMetadataResponse = yield Ask("ServerMetadata", wire.ServerMetadataRequest())
                self._offered = EXTENSION in reply.extensions
            except _OF_THE_WAY:
                raise
            except SidecarError:
                self._offered = False
            self._ask_at = time.monotonic() + _ASK_AGAIN_S
        return self._offered

    def _distrust(self, shared: Shared) -> None:
        if shared.outputs:
            # Most likely one did not fit: its size depends on more than the inputs' shapes.
            self._remember(shared.key, None)
        else:
            self._offered, self._ask_at = False, 0.0

    def _remember(self, key: Key, sizes: Mapping[str, int] | None) -> None:
        if len(self._outputs) >= _REMEMBERED:
            self._outputs = {}
        self._outputs[key] = sizes


def content_of(parameters: Mapping[str, wire.InferParameter], region: Region) -> memoryview:
    """The bytes of an answered tensor that lies in our region.

    Raises:
        ValueError: it is said to lie beyond it.
    """
    at = parameters[OFFSET].int64_param if OFFSET in parameters else 0
    return region.get(at, parameters[BYTE_SIZE].int64_param)


def _laid(request: wire.ModelInferRequest, shared: Shared, region: Region) -> wire.ModelInferRequest:
    """The request, with its large tensors laid into the region and the others in it."""
    laid = wire.ModelInferRequest()
    laid.CopyFrom(request)
    at = 0
    for described, tensor in zip(laid.inputs, shared.inputs, strict=True):
        if not _is_large(tensor):
            laid.raw_input_contents.append(bytes(tensor.raw))
            continue
        region.put(tensor.raw, at)
        _say(described.parameters, region, at, len(tensor.raw))
        at += _aligned(len(tensor.raw))
    for name in shared.asked:
        asked = laid.outputs.add(name=name)
        size = shared.outputs.get(name)
        if size is not None:
            _say(asked.parameters, region, at, size)
            at += _aligned(size)
    return laid


def _say(parameters: Mapping[str, wire.InferParameter], region: Region, at: int, size: int) -> None:
    parameters[REGION].string_param = region.name
    parameters[BYTE_SIZE].int64_param = size
    if at:
        parameters[OFFSET].int64_param = at


def _size(parameters: Mapping[str, wire.InferParameter], raw: bytes) -> int:
    return parameters[BYTE_SIZE].int64_param if REGION in parameters else len(raw)


def _is_large(tensor: Tensor) -> bool:
    return len(tensor.raw) >= _LEAST_TENSOR_BYTES


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
