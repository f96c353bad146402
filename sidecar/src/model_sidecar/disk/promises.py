"""What the ledger and the store rely on a file system for, each tried once in a scratch directory.

Each function tries one promise in `scratch`, an empty directory that only this process knows, and returns what it found
instead: "" where the promise is kept. What fails for another reason than that the file system does not offer it (no
space, an I/O error) tells nothing, and is raised as OSError.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from model_sidecar.disk.calls import Disk
from model_sidecar.disk.steps import read_file, sync_directory, write_file

# How file systems say that they do not know a call: link(2), fsync(2) and fuse(4) name these between them.
_NOT_OFFERED = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF, errno.EMLINK, errno.EXDEV}
)
# How they say that they will not move a directory over what is there: rename(2), and what SMB servers make of it.
_IN_THE_WAY = (
    frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EACCES, errno.EBUSY}) | _NOT_OFFERED
)


def exclusive_link(disk: Disk, scratch: Path) -> str:
    """A link fails where the name is taken, says so with EEXIST, and leaves what is there."""
    ours, theirs, slot = (scratch / name for name in ("ours", "theirs", "slot"))
    for path in (ours, theirs):
        write_file(disk, path, [path.name.encode()])
    if refusal := _refusal(lambda: disk.link(theirs, slot), _NOT_OFFERED):
        return f"link is not offered ({_said(refusal)})"
    if not _holds(disk, slot, theirs.name):
        return "link says that it gave a name, and nothing has it"
    refusal = _refusal(lambda: disk.link(ours, slot), _NOT_OFFERED | {errno.EEXIST})
    if not _holds(disk, slot, theirs.name):
        return "link replaces what has the name already"
    if refusal is None:
        return "link says that it gave a name which was taken"
    if refusal.errno != errno.EEXIST:
        return f"link to a name that is taken fails with {_said(refusal)}, not with EEXIST"
    return ""


def exclusive_directory(disk: Disk, scratch: Path) -> str:
    """Renaming a directory fails where a directory that is not empty, or a file, has the name, and leaves that there."""
    ours, theirs, slot, file = (scratch / name for name in ("our", "their", "place", "file"))
    for directory in (ours, theirs):
        disk.mkdir(directory)
        write_file(disk, directory / "record", [directory.name.encode()])
    write_file(disk, file, [file.name.encode()])
    if refusal := _refusal(lambda: disk.rename(theirs, slot), _NOT_OFFERED):
        return f"a directory cannot be renamed ({_said(refusal)})"
    over_directory = _refusal(lambda: disk.rename(ours, slot), _IN_THE_WAY)
    if over_directory is None or not _holds(disk, slot / "record", theirs.name):
        return "a directory that is not empty is replaced by rename"
    over_file = _refusal(lambda: disk.rename(ours, file), _IN_THE_WAY)
    if over_file is None or not _holds(disk, file, file.name):
        return "a file is replaced by the rename of a directory"
    return ""


def replacing_rename(disk: Disk, scratch: Path) -> str:
    """Renaming a file puts it in the place of the file that has the name."""
    new, pointer = scratch / "new", scratch / "pointer"
    write_file(disk, pointer, [b"old"])
    write_file(disk, new, [b"new"])
    if refusal := _refusal(lambda: disk.rename(new, pointer), _IN_THE_WAY):
        return f"a file is not replaced by rename ({_said(refusal)})"
    return "" if _holds(disk, pointer, "new") else "the old file is still there after a rename"


def durable_files(disk: Disk, scratch: Path) -> str:
    """That of a file can be waited for, by fsync. Whether it then is on the disk, nobody can see from here."""
    refusal = _refusal(lambda: write_file(disk, scratch / "synced", [b"synced"]), _NOT_OFFERED)
    return f"fsync of a file is not offered ({_said(refusal)})" if refusal else ""


def durable_names(disk: Disk, scratch: Path) -> str:
    """So can the names in a directory."""
    refusal = _refusal(lambda: sync_directory(disk, scratch), _NOT_OFFERED)
    return f"fsync of a directory is not offered ({_said(refusal)})" if refusal else ""


def _refusal(attempt: Callable[[], object], expected: frozenset[int]) -> OSError | None:
    try:
        attempt()
    except OSError as error:
        if error.errno not in expected:
            raise
        return error
    return None


def _holds(disk: Disk, path: Path, content: str) -> bool:
    try:
        return read_file(disk, path, limit=64, follow_symlink=False).content == content.encode()
    except (FileNotFoundError, NotADirectoryError):
        return False


def _said(error: OSError) -> str:
    return error.strerror or os.strerror(error.errno or 0)
