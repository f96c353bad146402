"""Predictions whose large tensors go through shared memory: when, and what becomes of it where that fails.

It is used by itself where the sidecar is on this machine and offers it (`serve --shared-memory`). Whatever stands in its way
(another user's sidecar, another /dev/shm, memory that is short, a sidecar that was restarted) the prediction goes as a
message instead, or into a new region; nobody is told but who asked for shared memory and nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

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
from model_sidecar_client.laying import (
    LEAST_TENSOR_BYTES,
    Held,
    InPlace,
    Key,
    Shared,
    address,
    is_large,
    laid,
    room,
    size_of,
)
from model_sidecar_client.regions import NO_REGION, Pool, Region
from model_sidecar_client.tensors import Tensor, numpy_if_there
from model_sidecar_client.wire import inference as wire

T = TypeVar("T")

EXTENSION = "system_shared_memory"

# From here on it is faster than a message (benchmarks/shared_memory.py).
LEAST_BYTES = 512 << 10
# Who said no may be another by then.
_ASK_AGAIN_S = 60.0
_REMEMBERED = 256
# What would have become of the prediction, too.
_OF_THE_WAY = (CallCancelledError, DeadlineError, NotReachableError)


class Sharing:
    """What one client knows of shared memory. Any thread may use it; what two find out at once is found out twice."""

    def __init__(self, target: str, *, must: bool) -> None:
        """Share with what answers at `target`, where that can be; `must`: or say that it cannot."""
        self._must = must
        self._may = self._must or is_local(target)
        self._target = target
        self._process = os.getpid()
        self._pool = Pool()
        self._ask_at = 0.0  # monotonic: not offered before
        self._offered = False
        self._outputs: dict[Key, Mapping[str, int] | None] = {}
        self._held: tuple[Held, ...] = ()

    def worth(
        self,
        model: str,
        version: str,
        inputs: Sequence[Tensor],
        *,
        asked: Sequence[str],
        known: Iterable[str],
    ) -> Shared | None:
        """This prediction as one that goes through shared memory, or None where a message is the better way.

        Args:
            model: its name.
            version: as it is asked for.
            inputs: as they would be sent.
            asked: the outputs that are wanted; empty for all.
            known: all outputs of the model.
        """
        if not self._may:
            return None
        total = sum(len(each.raw) for each in inputs if is_large(each))
        if total < LEAST_BYTES and not self._outputs:
            return None
        key = _key(model, version, inputs)
        names = list(asked or known)
        sizes = self._outputs.get(key) or {}
        outputs = {name: size for name, size in sizes.items() if name in names}
        if total + sum(outputs.values()) < LEAST_BYTES:
            return None
        return Shared(key=key, inputs=inputs, outputs=outputs, asked=names if outputs else asked)

    def learn(
        self, model: str, version: str, inputs: Sequence[Tensor], reply: wire.ModelInferResponse
    ) -> None:
        """Remember how large the outputs of such a prediction are, which went as a message."""
        if self._may and sum(map(len, reply.raw_output_contents)) >= LEAST_BYTES:
            self._learn(_key(model, version, inputs), reply)

    @contextmanager
    def array(self, shape: Sequence[int], dtype: Any) -> Iterator[Any]:
        """An array in a region of its own, for as long as the context lasts; anywhere else where that cannot be.

        Raises:
            NotSupportedError: there is no numpy here.
        """
        np = numpy_if_there()
        if np is None:
            raise NotSupportedError("an array in shared memory needs numpy, which is not installed here")
        array = np.empty(shape, dtype)
        held = self._hold(np, array.nbytes) if self._may and array.nbytes else None
        if held is None:
            yield array
            return
        self._held = (*self._held, held)
        try:
            yield np.frombuffer(held.region.get(0, array.nbytes), array.dtype).reshape(array.shape)
        finally:
            self._held = tuple(each for each in self._held if each is not held)
            held.region.close()

    def infer(
        self,
        request: wire.ModelInferRequest,
        shared: Shared,
        understood: Callable[[wire.ModelInferResponse, Region | None], T],
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
        self._leave_to_parent()
        for _ in range(
            2
        ):  # a region that the sidecar knew and knows no more, and one that it has just been told of
            in_place = self._in_place(shared)
            if not (yield from self._all_registered(in_place)):
                break
            size = room(shared, in_place)
            region = (yield from self._region(size)) if size else None
            if size and region is None:
                break
            is_ours = False
            try:
                reply = yield Ask("ModelInfer", laid(request, shared, region, in_place))
                is_ours = True
                self._learn(shared.key, reply)
                return understood(reply, region)
            except SidecarError as error:
                # An answer of the sidecar's own: it does nothing more. Else it may still write an output there.
                is_ours = bool(error.reason) and error.reason != "REGION_NOT_FOUND"
                if isinstance(error, InvalidRequestError) and error.reason in ("", "REGION_INVALID"):
                    self._distrust(shared)
                    break
                if not isinstance(error, NotFoundError) or error.reason != "REGION_NOT_FOUND":
                    raise
                for held, _at in in_place.values():
                    held.is_lost = True
            finally:
                if region is not None:
                    (self._pool.put_back if is_ours else self._pool.lose)(region)
        if self._must:
            raise NotSupportedError(
                f"{self._target} cannot be reached through shared memory: it runs without --shared-memory, or as another "
                "user, or with another /dev/shm"
            )
        return None

    def end(self) -> Exchange[None]:
        """Have the sidecar forget our regions, as far as it can be told."""
        self._leave_to_parent()
        for name in self._pool.drain():
            try:
                yield Ask("SystemSharedMemoryUnregister", wire.SystemSharedMemoryUnregisterRequest(name=name))
            except SidecarError:
                return  # it sees by itself that they are forsaken

    def _leave_to_parent(self) -> None:
        """After a fork: regions are the parent's, who would find our tensors in them."""
        if os.getpid() != self._process:
            self._process, self._pool, self._held = os.getpid(), Pool(), ()

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
            registered = yield from self._registered(region)
        finally:
            if not registered:
                self._pool.lose(region)
        return region if registered else None

    def _registered(self, region: Region) -> Exchange[bool]:
        try:
            yield Ask(
                "SystemSharedMemoryRegister",
                wire.SystemSharedMemoryRegisterRequest(
                    name=region.name, key=region.key, byte_size=region.size
                ),
            )
        except _OF_THE_WAY:
            raise
        except SidecarError as error:
            if error.reason != "REGION_EXISTS":  # two at once with one array
                self._offered, self._ask_at = False, time.monotonic() + _ASK_AGAIN_S
                return False
        region.drop_name()
        return True

    def _all_registered(self, in_place: InPlace) -> Exchange[bool]:
        for held, _at in in_place.values():
            if not held.is_registered:
                held.is_registered = (yield from self._is_offered()) and (
                    yield from self._registered(held.region)
                )
            if not held.is_registered:
                return False
        return True

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

    def _hold(self, np: Any, size: int) -> Held | None:
        try:
            region = Region(size)
        except NO_REGION:
            return None
        return Held(region, address(np, region.get(0, size)))

    def _in_place(self, shared: Shared) -> InPlace:
        found: dict[str, tuple[Held, int]] = {}
        np = numpy_if_there() if self._held else None
        if np is None:
            return found
        for tensor in shared.inputs:
            if not is_large(tensor) or isinstance(tensor.raw, bytes):
                continue
            begin = address(np, tensor.raw)
            for held in self._held:
                at = begin - held.address
                if at >= 0 and at + len(tensor.raw) <= held.region.size and not held.is_lost:
                    found[tensor.name] = held, at
        return found

    def _learn(self, key: Key, reply: wire.ModelInferResponse) -> None:
        if self._outputs.get(key, {}) is None:
            return
        contents = zip(reply.outputs, reply.raw_output_contents, strict=False)
        sizes = {tensor.name: size_of(tensor.parameters, raw) for tensor, raw in contents}
        large = {name: size for name, size in sizes.items() if size >= LEAST_TENSOR_BYTES}
        if sum(large.values()) >= LEAST_BYTES and self._outputs.get(key) != large:
            self._remember(key, large)

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


def _key(model: str, version: str, inputs: Sequence[Tensor]) -> Key:
    return model, version, tuple((each.name, each.shape) for each in inputs)
