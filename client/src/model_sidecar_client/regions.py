"""Shared memory objects of our own, registered with the sidecar as regions, to lay large tensors into.

An object has a name only until the sidecar has opened it, and a lock (flock) as long as we live: so nothing is left of it
however this process ends, and the sidecar sees that it is forsaken. Python's resource tracker knows nothing of it.
"""

from __future__ import annotations

import mmap
import os
import secrets
from contextlib import suppress
from threading import Lock

# Where shm_open(3) has its names on Linux. Elsewhere there is no such folder, and then no region either.
_FOLDER = "/dev/shm/"  # noqa: S108 - no temporary file: the place that the protocol means
_GRAIN = 1 << 20
_MOST = 8
_MOST_IDLE = 2

# Other systems have neither flock nor posix_fallocate.
NO_REGION = (OSError, ImportError, AttributeError)
"""What making one raises where there can be none."""


class Region:
    """One object, mapped. It has one user at a time."""

    def __init__(self, size: int) -> None:
        """Make an object of at least `size` bytes that only this user may open.

        Raises:
            NO_REGION: this machine has no shared memory, or not so much.
        """
        import fcntl  # not everywhere

        # An eighth more at most, so that what grows a little still fits.
        grain = max(_GRAIN, 1 << max(size.bit_length() - 4, 0))
        self.size = -(-size // grain) * grain
        self.name = f"model-sidecar-{secrets.token_hex(16)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(_FOLDER + self.name, flags, 0o600)
        self._has_name = True
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            # Not just its length: where memory is short, the first touch of a page would be the end of this process.
            os.posix_fallocate(self._descriptor, 0, self.size)
            self._memory = memoryview(mmap.mmap(self._descriptor, self.size))
        except BaseException:
            self.close()
            raise

    @property
    def key(self) -> str:
        """What the sidecar opens it by."""
        return "/" + self.name

    def put(self, content: bytes | memoryview, at: int) -> None:
        """Lay these bytes at `at`."""
        self._memory[at : at + len(content)] = content

    def get(self, at: int, size: int) -> memoryview:
        """The bytes that lie there now: to be copied before anybody else uses the region."""
        if at < 0 or size < 0 or at + size > self.size:
            raise ValueError(f"{size} bytes at {at} of a region of {self.size}")
        return self._memory[at : at + size]

    def drop_name(self) -> None:
        """Let it live on without a name, once the sidecar has opened it."""
        if self._has_name:
            self._has_name = False
            with suppress(FileNotFoundError):
                os.unlink(_FOLDER + self.name)  # noqa: PTH108 - no pathlib in the client's imports

    def close(self) -> None:
        """Give it up. The sidecar forgets it at the next registration by anybody, if nobody tells it before."""
        self.drop_name()
        self._memory = memoryview(b"")  # a mapping holds the object, and its lock, as a descriptor does
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            self.close()


class Pool:
    """Regions that are used again. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = Lock()  # guards both
        self._idle: list[Region] = []
        self._count = 0

    def take(self, size: int) -> Region | None:
        """A region of at least `size` bytes that is idle, or None. It is the caller's until it is put back or lost."""
        with self._lock:
            fitting = [region for region in self._idle if region.size >= size]
            best = min(fitting, key=lambda region: region.size, default=None)
            if best is not None:
                self._idle.remove(best)
            return best

    def make(self, size: int) -> Region | None:
        """A new region, not registered yet; None where there are enough, or no more memory.

        Where one that is too small lies idle, it goes.
        """
        with self._lock:
            small = self._idle.pop(0) if self._idle else None
            self._count += small is None
            if self._count > _MOST:
                self._count -= 1
                return None
        if small is not None:
            small.close()
        try:
            return Region(size)
        except NO_REGION:
            self._lost()
            return None

    def put_back(self, region: Region) -> None:
        """It is idle again."""
        with self._lock:
            if len(self._idle) < _MOST_IDLE:
                self._idle.append(region)
                return
        self.lose(region)

    def lose(self, region: Region) -> None:
        """It is used no more: the sidecar does not know it, or may still write to it."""
        region.close()
        self._lost()

    def drain(self) -> list[str]:
        """Give up all that are idle; their names, to be unregistered."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._count -= len(idle)
        for region in idle:
            region.close()
        return [region.name for region in idle]

    def _lost(self) -> None:
        with self._lock:
            self._count -= 1
