"""Opening what the store holds: from its root down, component by component, never through a symlink.

The root itself is configuration and may be a symlink. Whatever is below it was put there by whoever can write to the
store, so a name is looked up below the descriptor of the directory that was just opened, and what it led to is asked
what it is. A path is never opened twice: between two looks it could become something else.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from model_sidecar.disk.calls import Disk
from model_sidecar.disk.faults import store_error, store_faults
from model_sidecar.disk.steps import release
from model_sidecar.errors import Reason, VerificationError

# O_NONBLOCK: opening a FIFO that nobody writes to must not wait for a writer. O_NOCTTY: nor may a terminal device
# become ours. Without O_DIRECTORY, as that would hide a symlink behind "not a directory".
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_root(disk: Disk, root: Path) -> int:
    """A descriptor of the store's directory.

    Raises:
        StoreError: it is not there, no directory, or not readable.
    """
    with store_faults(root):
        return disk.open(root, os.O_RDONLY | os.O_DIRECTORY)


def open_directory(disk: Disk, parent: int, name: str, *, shown: Path) -> int | None:
    """A descriptor of the directory `name` in the directory `parent`; None if there is no such directory.

    Args:
        disk: the system calls.
        parent: descriptor of the directory to look in.
        name: one component.
        shown: the whole path, for messages.

    Raises:
        VerificationError: SYMLINK_REFUSED.
        StoreError: it cannot be opened.
    """
    opened = _open(disk, parent, name, shown=shown)
    if opened is None:
        return None
    descriptor, mode = opened
    if stat.S_ISDIR(mode):
        return descriptor
    release(disk, descriptor)
    return None


def open_file(disk: Disk, parent: int, name: str, *, shown: Path) -> int | None:
    """A descriptor, for reading, of the regular file `name` in the directory `parent`; None if nothing is there.

    Args:
        disk: the system calls.
        parent: descriptor of the directory to look in.
        name: one component.
        shown: the whole path, for messages.

    Raises:
        VerificationError: SYMLINK_REFUSED, or NOT_A_REGULAR_FILE.
        StoreError: it cannot be opened.
    """
    opened = _open(disk, parent, name, shown=shown)
    if opened is None:
        return None
    descriptor, mode = opened
    if stat.S_ISREG(mode):
        return descriptor
    release(disk, descriptor)
    raise _irregular(shown, _KINDS.get(stat.S_IFMT(mode), "something else"))


def _open(disk: Disk, parent: int, name: str, *, shown: Path) -> tuple[int, int] | None:
    if "/" in name or name in ("", ".", ".."):
        raise ValueError(f"{name!r} is not one component of a path")
    try:
        descriptor = disk.open(name, _FLAGS, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        match error.errno:
            case errno.ELOOP:
                raise VerificationError(
                    f"{shown} is a symlink: below the store's directory none is followed; put the real thing there",
                    reason=Reason.SYMLINK_REFUSED,
                    path=shown,
                ) from error
            case errno.ENXIO | errno.ENODEV:
                raise _irregular(shown, "a socket or a device") from error
            case _:
                raise store_error(error, shown) from error
    try:
        with store_faults(shown):
            return descriptor, disk.fstat(descriptor).st_mode
    except BaseException:
        release(disk, descriptor)
        raise


def _irregular(shown: Path, kind: str) -> VerificationError:
    return VerificationError(
        f"{shown} is {kind}: expected a regular file", reason=Reason.NOT_A_REGULAR_FILE, path=shown
    )
