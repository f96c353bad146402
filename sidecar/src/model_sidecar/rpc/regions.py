"""The regions of shared memory that callers have registered: a bounded number of windows into objects of theirs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_sidecar.errors import (
    InvalidInputError,
    NotFoundError,
    Reason,
    RegionExistsError,
    ShortageError,
)
from model_sidecar.rpc.copies import Copies
from model_sidecar.rpc.copying import Copying
from model_sidecar.rpc.shared_objects import SharedObject, unusable

_LONGEST_NAME = 1024
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an object, under a name that requests use; `offset` and `byte_size` are bytes of the object."""

    name: str
    key: str
    offset: int
    byte_size: int
    object: SharedObject


@dataclass(frozen=True, slots=True)
class Window:
    """Where one tensor lies in a region, or is to be put; `offset` and `byte_size` are bytes of the region."""

    region: Region
    offset: int
    byte_size: int
    copies: Copies
    copying: Copying

    def read(self) -> NDArray[np.uint8]:
        """A copy of its bytes, shape (byte_size,), that nobody else can change.

        Raises:
            InvalidInputError: the object has become shorter.
            ShortageError: no memory for it.
        """
        copy = self.copies.take(self.byte_size)
        try:
            found = self.copying.run(self.region.object.read, copy.data, self._at)
        except OSError as error:
            raise self._broken(f"it cannot be read: {error.strerror}") from error
        if found < self.byte_size:
            raise self._broken(f"it ends {self.byte_size - found} bytes before the tensor does")
        return copy

    def write(self, content: bytes | NDArray[Any]) -> int:
        """Put an answer there; how many bytes it has.

        Raises:
            InvalidInputError: it does not fit, or the object has become shorter, or has no room for it.
        """
        row = memoryview(content) if isinstance(content, bytes) else _row(content)
        size = row.nbytes
        if size > self.byte_size:
            raise self._broken(f"the answer has {size} bytes, and {self.byte_size} were set aside for it")
        if self.region.object.size() < self._at + size:
            raise self._broken("it ends before the answer would")
        try:
            self.region.object.write(row, self._at)
        except OSError as error:
            raise self._broken(f"it cannot be written: {error.strerror}") from error
        return size

    @property
    def _at(self) -> int:
        return self.region.offset + self.offset

    def _broken(self, why: str) -> InvalidInputError:
        return InvalidInputError(
            f"shared memory region {self.region.name!r}, {self.byte_size} bytes at {self.offset}: {why}",
            reason=Reason.REGION_INVALID,
        )


class Regions:
    """What is registered now. Any thread may ask; a region in use stays until its last user has let go of it."""

    def __init__(self, *, most: int, keep_bytes: int) -> None:
        """Nothing is registered yet.

        Args:
            most: how many regions there may be; each holds a descriptor.
            keep_bytes: how much memory for copies is kept for the next ones, as long as there are regions.
        """
        self._most = most
        self._copies = Copies(keep_bytes)
        self._copying = Copying()
        self._lock = threading.Lock()  # guards the dict
        self._regions: dict[str, Region] = {}

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Make a part of an object known by a name. What forsaken objects left is dropped first.

        Raises:
            InvalidRequestError: REGION_INVALID: no such object, or it is not as long as that.
            RegionExistsError: the name is taken.
            ShortageError: there are too many.
        """
        if not 0 < len(name.encode()) <= _LONGEST_NAME:
            raise unusable(f"a region's name has 1 to {_LONGEST_NAME} bytes, found {len(name.encode())}")
        self._drop_forsaken()
        # Before the object is opened: whoever registers without end holds no descriptors but those that he is granted.
        self._check_room(name)
        found = SharedObject(key)
        length = found.size()
        if byte_size == 0 or offset + byte_size > length:
            raise unusable(
                f"key {key[:_SHOWN]!r}: {byte_size} bytes at {offset} of an object that has {length}: expected a part of "
                "it, of at least one byte"
            )
        with self._lock:
            self._check_room(name)
            self._regions[name] = Region(name, key, offset, byte_size, found)

    def unregister(self, name: str) -> None:
        """Forget a region, if there is one of this name; "" forgets all."""
        with self._lock:
            # Let go of behind the lock: the last descriptor of an object without a name takes its memory along.
            before = self._regions
            self._regions = {each: region for each, region in before.items() if name not in ("", each)}
            empty = not self._regions
        del before
        if empty:
            self._copies.clear()

    def listed(self, name: str) -> list[Region]:
        """The region of this name; all of them for "".

        Raises:
            NotFoundError: REGION_NOT_FOUND.
        """
        with self._lock:
            return [self._found(name)] if name else list(self._regions.values())

    def window(self, name: str, offset: int, byte_size: int, *, where: str) -> Window:
        """The part of a region that a tensor is said to lie in; `where` names the tensor.

        Raises:
            NotFoundError: REGION_NOT_FOUND.
            InvalidInputError: it is not within the region.
        """
        with self._lock:
            region = self._found(name, f"{where}: ")
        if offset < 0 or byte_size < 0 or offset + byte_size > region.byte_size:
            raise InvalidInputError(
                f"{where}: {byte_size} bytes at {offset} of shared memory region {name[:_SHOWN]!r}, which has "
                f"{region.byte_size}",
                reason=Reason.REGION_INVALID,
            )
        return Window(region, offset, byte_size, self._copies, self._copying)

    def close(self) -> None:
        """Forget everything, and end the threads."""
        self.unregister("")
        self._copying.close()

    def _found(self, name: str, where: str = "") -> Region:
        region = self._regions.get(name)
        if region is None:
            raise NotFoundError(
                f"{where}shared memory region {name[:_SHOWN]!r} is not registered here: register it, perhaps again",
                reason=Reason.REGION_NOT_FOUND,
            )
        return region

    def _check_room(self, name: str) -> None:
        if name in self._regions:
            raise RegionExistsError(
                f"shared memory region {name[:_SHOWN]!r} is registered already: unregister it first, or take another name"
            )
        if len(self._regions) >= self._most:
            raise ShortageError(
                f"{self._most} shared memory regions are registered, and no more are taken: unregister some",
                reason=Reason.REGIONS_FULL,
            )

    def _drop_forsaken(self) -> None:
        for region in self.listed(""):
            if region.object.forsaken():
                with self._lock:
                    if self._regions.get(region.name) is region:
                        del self._regions[region.name]


def _row(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
