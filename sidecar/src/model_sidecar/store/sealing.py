"""Bytes that nobody can change any more: copied once out of the store, sealed, and only then hashed.

What is loaded is what was hashed because both are this copy. The store's file may be rewritten, replaced or deleted
at any moment; a path that was hashed and is opened again may lead to other bytes (23 of 3,000 times under a concurrent
swap, measured).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Self

from model_sidecar.errors import IncompleteVersionError, Reason, StoreError, VerificationError
from model_sidecar.release.digests import Digest, digest_from
from model_sidecar.release.manifest import FileEntry
from model_sidecar.store.faults import store_faults

_CHUNK = 4 << 20
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


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


def seal(source: int, *, name: str, listed: FileEntry, shown: Path) -> SealedFile:
    """Copy what the descriptor `source` holds, seal the copy, hash it, and compare it with what is listed.

    Args:
        source: an open regular file, at its beginning. It stays the caller's to close.
        name: the file's name in its version's directory.
        listed: what the manifest says of it. Where that is no size, the file's size now is what is expected.
        shown: the whole path, for messages.

    Raises:
        IncompleteVersionError: SIZE_MISMATCH; it is smaller than listed, or still growing.
        VerificationError: SIZE_MISMATCH; it is larger than listed. DIGEST_MISMATCH, or MODEL_HASH_MISMATCH where the
            manifest knows the file by its `model_hash` alone.
        StoreError: it cannot be read, or there is no room for the copy.
    """
    with store_faults(shown):
        there = os.fstat(source).st_size
    expected = there if listed.size is None else listed.size
    check_size(there, expected, shown=shown)
    copy = _private_file(name, shown)
    try:
        copied = _copy(source, copy, limit=expected, shown=shown)
        if listed.size is None and copied != expected:
            raise IncompleteVersionError(
                f"{shown} changes while it is read, it had {expected} bytes: perhaps it is still being copied",
                reason=Reason.SIZE_MISMATCH,
                file=name,
            )
        check_size(copied, expected, shown=shown)
        copy = _sealed(copy)
        sealed = SealedFile(name, _digest(copy), copied, copy)
    except BaseException:
        os.close(copy)
        raise
    if sealed.digest != listed.digest:
        sealed.close()
        reason, says = (
            (Reason.MODEL_HASH_MISMATCH, "model_hash")
            if listed.size is None
            else (Reason.DIGEST_MISMATCH, "the manifest")
        )
        raise VerificationError(
            f"{shown}: its digest is {sealed.digest}, but {says} says {listed.digest}: these are not the bytes that "
            "were published; publish the version again under another name",
            reason=reason,
            file=name,
        )
    return sealed


def check_size(found: int, listed: int, *, shown: Path) -> None:
    """Refuse a file that has another size than its manifest lists.

    Raises:
        IncompleteVersionError: SIZE_MISMATCH; it is smaller, so it may still be on its way.
        VerificationError: SIZE_MISMATCH; it is larger.
    """
    if found == listed:
        return
    if found < listed:
        raise IncompleteVersionError(
            f"{shown} has {found} bytes, the manifest lists {listed}: perhaps it is still being copied",
            reason=Reason.SIZE_MISMATCH,
            file=shown.name,
        )
    raise VerificationError(
        f"{shown} has more than the {listed} bytes that the manifest lists",
        reason=Reason.SIZE_MISMATCH,
        file=shown.name,
    )


def _private_file(name: str, shown: Path) -> int:
    """An empty file that only this process knows: a memfd, or where that is missing an unlinked temporary file."""
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):
        pass  # an old kernel, or a sandbox that forbids it
    try:
        with tempfile.TemporaryFile(buffering=0) as file:
            return os.dup(file.fileno())
    except OSError as error:
        raise _no_room(error, shown) from error


def _copy(source: int, target: int, *, limit: int, shown: Path) -> int:
    """Copy at most `limit` + 1 bytes: enough to see that there are more than expected. Returns how many.

    By read and write rather than by sendfile, so that a failing store can be told from a machine without memory.
    """
    buffer = memoryview(bytearray(min(_CHUNK, limit + 1)))
    copied = 0
    while copied <= limit:
        with store_faults(shown):
            got = os.readv(source, [buffer[: limit + 1 - copied]])
        if got == 0:
            break
        try:
            written = 0
            while written < got:
                written += os.write(target, buffer[written:got])
        except OSError as error:
            raise _no_room(error, shown) from error
        copied += got
    return copied


def _no_room(error: OSError, shown: Path) -> StoreError:
    return StoreError(
        f"no private copy of {shown} can be kept: {error.strerror}. It needs memory for the file's size, or room in "
        f"{tempfile.gettempdir()} where the system has no memfd",
        path=shown,
    )


def _sealed(copy: int) -> int:
    """The descriptor of the same file, which nobody can write any more."""
    try:
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        # No memfd. Nobody else can reach the unlinked file, and with its writable descriptor gone neither can we.
        readable = os.open(f"/proc/self/fd/{copy}", os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(readable, copy, inheritable=False)
        os.close(readable)
    return copy


def _digest(copy: int) -> Digest:
    os.lseek(copy, 0, os.SEEK_SET)
    # In chunks, each read and hashed without the GIL: requests are answered meanwhile.
    with os.fdopen(copy, "rb", buffering=0, closefd=False) as file:
        return digest_from(hashlib.file_digest(file, "sha256"))
