"""A shared memory object of somebody else's, read and written in a way that he cannot make fatal.

Whoever made the object can cut it off at any moment, and a touch of a mapping beyond its end is SIGBUS, the end of this
process. So nothing here is ever mapped: bytes are copied by the kernel, between the object's descriptor and memory of our
own. A read beyond the end is short, a write beyond the end is refused, and what was read no longer changes.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from model_sidecar.errors import InvalidRequestError, Reason

# Where glibc and musl keep what shm_open(3) names, and what the key of a region is a name in.
FOLDER = Path("/dev/shm")  # noqa: S108 - no temporary file: the place that the protocol means
_LONGEST_NAME = 255
_SHOWN = 80


class SharedObject:
    """An open shared memory object. Any thread may use it; its descriptor goes with the last who holds it."""

    def __init__(self, key: str) -> None:
        """Open the object that `key` names as shm_open(3) does: leading slashes count for nothing, and no link is followed.

        Raises:
            InvalidRequestError: REGION_INVALID: no such name, no such object, none that this process may read and write,
                or something else than a regular file.
        """
        self._descriptor = -1
        path = FOLDER / _name(key)
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        try:
            self._descriptor = os.open(path, flags)
        except OSError as error:
            raise unusable(
                f"key {key[:_SHOWN]!r}: {path} cannot be opened for reading and writing: {error.strerror}"
            ) from error
        # What is mounted over one of its names may hang whoever reads it.
        found = self._stat()
        if not stat.S_ISREG(found.st_mode) or found.st_dev != FOLDER.stat().st_dev:
            raise unusable(f"key {key[:_SHOWN]!r}: {path} is no shared memory object")
        self._was_locked = not self._can_be_locked()

    def size(self) -> int:
        """Its length in bytes, now."""
        return self._stat().st_size

    def forsaken(self) -> bool:
        """Whether its owner has gone: it has no name any more, and the lock is gone that it had when it was opened.

        An owner who locks it (flock(2)) and removes its name is known to be gone when the lock is: also if he was killed.
        """
        return self._was_locked and self._stat().st_nlink == 0 and self._can_be_locked()

    def read(self, into: memoryview, at: int) -> int:
        """Fill `into`, a row of bytes, with those from `at` on; how many there were: fewer where the object ends before."""
        left = into
        while left:
            count = os.preadv(self._descriptor, [left], at)
            if count == 0:
                break
            left, at = left[count:], at + count
        return len(into) - len(left)

    def write(self, content: memoryview, at: int) -> int:
        """Put `content`, a row of bytes, at `at`; how many those were: all of them.

        An object that is cut off in this very moment may be as long again as it was: a length once looked at does not hold.

        Raises:
            OSError: there is no room for what the object promised.
        """
        left = content
        while left:
            count = os.pwrite(self._descriptor, left, at)
            left, at = left[count:], at + count
        return len(content)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _stat(self) -> os.stat_result:
        return os.fstat(self._descriptor)

    def _can_be_locked(self) -> bool:
        # Shared, so that two sidecars that try at once do not take each other for the owner.
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return True


def unusable(why: str) -> InvalidRequestError:
    """The error of a region that cannot be what it is said to be."""
    return InvalidRequestError(f"shared memory: {why}", reason=Reason.REGION_INVALID)


def _name(key: str) -> str:
    name = key.lstrip("/")
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise unusable(
            f"key {key[:_SHOWN]!r} names no object: expected a name without slashes, such as /input"
        )
    if len(os.fsencode(name)) > _LONGEST_NAME:
        raise unusable(f"key {key[:_SHOWN]!r}… is too long: the system takes {_LONGEST_NAME} bytes")
    return name
