"""Bytes that nobody can change any more: copied once out of the store, sealed, and only then hashed.

What is loaded is what was hashed because both are this copy. The store's file may be rewritten, replaced or deleted
at any moment; a path that was hashed and is opened again may lead to other bytes (23 of 3,000 times under a concurrent
swap, measured).
"""

from __future__ import annotations

from pathlib import Path

from model_sidecar.disk.calls import Disk
from model_sidecar.disk.faults import store_faults
from model_sidecar.errors import IncompleteVersionError, Reason, StoreError, VerificationError
from model_sidecar.release.manifest import FileEntry
from model_sidecar.store.private import PrivateCopy, SealedFile

__all__ = ["SealedFile", "check_size", "seal"]

_CHUNK = 4 << 20


def seal(source: int, *, name: str, listed: FileEntry, shown: Path, disk: Disk | None = None) -> SealedFile:
    """Copy what the descriptor `source` holds, seal the copy, hash it, and compare it with what is listed.

    Args:
        source: an open regular file, at its beginning. It stays the caller's to close.
        name: the file's name in its version's directory.
        listed: what the manifest says of it. Where that is no size, the file's size now is what is expected.
        shown: the whole path, for messages.
        disk: the system calls by which the store is read.

    Raises:
        IncompleteVersionError: SIZE_MISMATCH; it is smaller than listed, or still growing.
        VerificationError: SIZE_MISMATCH; it is larger than listed. DIGEST_MISMATCH, or MODEL_HASH_MISMATCH where the
            manifest knows the file by its `model_hash` alone.
        StoreError: it cannot be read, or there is no room for the copy.
    """
    disk = disk or Disk()
    with store_faults(shown):
        there = disk.fstat(source).st_size
    expected = there if listed.size is None else listed.size
    check_size(there, expected, shown=shown)
    try:
        copy = PrivateCopy(name)
    except OSError as error:
        raise _no_room(error, shown) from error
    try:
        copied = _copy(disk, source, copy, limit=expected, shown=shown)
        if listed.size is None and copied != expected:
            raise IncompleteVersionError(
                f"{shown} changes while it is read, it had {expected} bytes: perhaps it is still being copied",
                reason=Reason.SIZE_MISMATCH,
                file=name,
            )
        check_size(copied, expected, shown=shown)
        sealed = copy.freeze()
    except OSError as error:  # the copy's: the store's have become ours already
        copy.close()
        raise _no_room(error, shown) from error
    except BaseException:
        copy.close()
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


def _copy(disk: Disk, source: int, target: PrivateCopy, *, limit: int, shown: Path) -> int:
    """Copy at most `limit` + 1 bytes: enough to see that there are more than expected. Returns how many.

    By read and write rather than by sendfile, so that a failing store (StoreError) can be told from a machine without
    memory (OSError).
    """
    buffer = memoryview(bytearray(min(_CHUNK, limit + 1)))
    copied = 0
    while copied <= limit:
        with store_faults(shown):
            got = disk.read_into(source, buffer[: limit + 1 - copied])
        if got == 0:
            break
        target.append(buffer[:got])
        copied += got
    return copied


def _no_room(error: OSError, shown: Path) -> StoreError:
    return StoreError(
        f"no private copy of {shown} can be kept: {error.strerror}. It needs a descriptor, and memory for the file's size, "
        "or where the system has no memfd room in the temporary folder",
        path=shown,
    )
