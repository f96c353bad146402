"""Memory of our own for a file's bytes: no store, and nobody else can reach it, or change it once it is frozen."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
from typing import Self

from model_sidecar.release.digests import Digest, digest_from

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


# An old kernel, or a sandbox that forbids it. Anything else, as being out of descriptors, passes, or a file meets it too.
_NO_MEMFD = frozenset({errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EINVAL})


class SealedFile:
    """A verified file's bytes, in memory that can no longer be written.

    Attributes:
        name: the file's name in its version's directory.
        digest: sha256 of these very bytes.
        size: how many there are.
    """

    __slots__ = ("_file", "digest", "name", "size")

    def __init__(self, name: str, digest: Digest, size: int, fd: int) -> None:
        self.name = name
        self.digest = digest
        self.size = size
        # The file object owns the descriptor: closing twice is harmless, and one forgotten is closed with a warning.
        self._file = os.fdopen(fd, "rb", buffering=0)

    @property
    def fd(self) -> int:
        """The descriptor; ValueError once closed."""
        return self._file.fileno()

    @property
    def path(self) -> str:
        """A path by which this process, and only while this is open, can open the bytes."""
        return f"/proc/self/fd/{self.fd}"

    def read(self) -> bytes:
        """All the bytes; for small files. Any thread may call this."""
        parts = []
        have = 0
        while have < self.size:
            part = os.pread(self.fd, self.size - have, have)
            parts.append(part)
            have += len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Give the memory back, as soon as nobody has the bytes open or mapped any more."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SealedFile({self.name!r}, {self.digest}, size={self.size})"


class PrivateCopy:
    """Bytes on their way to a `SealedFile`. Used by one thread; ends with `freeze` or `close`. Raises plain OSError.

    A memfd, or where the system has none an unlinked temporary file.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._size = 0
        self._fd = _private_file(name)

    def append(self, part: memoryview) -> None:
        """Add bytes at the end."""
        while part:
            written = os.write(self._fd, part)
            self._size += written
            part = part[written:]

    def freeze(self) -> SealedFile:
        """The bytes, which nobody can change any more, and their digest."""
        _seal(self._fd)
        return SealedFile(self._name, _digest(self._fd), self._size, self._fd)

    def close(self) -> None:
        """Give the memory back; after `freeze` that is the sealed file's to do."""
        os.close(self._fd)


def _private_file(name: str) -> int:
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_MEMFD:
            raise
        with tempfile.TemporaryFile(buffering=0) as file:
            return os.dup(file.fileno())


def _seal(copy: int) -> None:
    try:
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        # No memfd. Nobody else can reach the unlinked file, and with its writable descriptor gone neither can we.
        readable = os.open(f"/proc/self/fd/{copy}", os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(readable, copy, inheritable=False)
        os.close(readable)


def _digest(copy: int) -> Digest:
    os.lseek(copy, 0, os.SEEK_SET)
    # In chunks, each read and hashed without the GIL: requests are answered meanwhile.
    with os.fdopen(copy, "rb", buffering=0, closefd=False) as file:
        return digest_from(hashlib.file_digest(file, "sha256"))
