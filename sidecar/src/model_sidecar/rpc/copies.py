"""Memory that large tensors are copied into, used again once nobody looks at it any more.

A fresh 64 MiB costs as much to be given its pages as to be filled, so some of what was used is kept.
"""

from __future__ import annotations

import mmap
import threading
import weakref

import numpy as np
from numpy.typing import NDArray

from model_sidecar.errors import ShortageError

# What is smaller comes from the allocator, which keeps it ready anyway.
_LEAST = 1 << 20
# Memory this much larger than what is wanted is left for something larger.
_ROOMIER = 4


class Copies:
    """Gives memory out as arrays; it comes back by itself when the last view of such an array has gone."""

    def __init__(self, keep_bytes: int) -> None:
        """Keep at most so much that nobody uses."""
        self._keep_bytes = keep_bytes
        self._lock = threading.Lock()  # of those who take, against each other
        # Appended to without the lock: by a destructor, which may run in a thread that holds it.
        self._free: list[mmap.mmap] = []

    def take(self, size: int) -> NDArray[np.uint8]:
        """An array of shape (size,), aligned for every datatype, with anything in it.

        Raises:
            ShortageError: there is no memory for it.
        """
        if size < _LEAST:
            return np.empty(size, np.uint8)
        memory = self._reused(size) or _fresh(size)
        array = np.frombuffer(memory, np.uint8)
        # Views of views are views of this one: it lives as long as any of them.
        weakref.finalize(array, self._give_back, memory).atexit = False
        return array[:size]

    def clear(self) -> None:
        """Let go of what nobody uses."""
        self._free = []

    def _reused(self, size: int) -> mmap.mmap | None:
        with self._lock:
            fitting = [each for each in self._free if size <= len(each) <= _ROOMIER * size]
            best = min(fitting, key=len, default=None)
            if best is not None:
                self._free.remove(best)
            return best

    def _give_back(self, memory: mmap.mmap) -> None:
        if sum(map(len, self._free)) + len(memory) <= self._keep_bytes:
            self._free.append(memory)


def _fresh(size: int) -> mmap.mmap:
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise ShortageError(f"no memory for {size} bytes from shared memory: {error.strerror}") from error
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
