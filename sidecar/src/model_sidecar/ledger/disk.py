"""The calls to the operating system that this room makes, and the few durable steps that are made of them.

`Disk` is the seam: one method per system call, nothing decided in it. Whoever wants to see what happens when a call
fails passes a `Disk` of which one method raises. Everything here raises plain OSError; `store_trouble` turns it into
our words.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_sidecar.errors import StoreError, StoreFullError

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{32}\.tmp", re.ASCII | re.DOTALL)
_LEFTOVER_AGE_S = 3600.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Disk:
    """System calls, one to a method. May be called from any thread."""

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        """Open or make a file, never inherited by child processes."""
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def read(self, fd: int, size: int) -> bytes:
        """Read at most so many bytes."""
        return os.read(fd, size)

    def write(self, fd: int, content: bytes) -> int:
        """Write; returns how many bytes were taken."""
        return os.write(fd, content)

    def fsync(self, fd: int) -> None:
        """Wait until a file, or the names in a directory, are on the disk."""
        os.fsync(fd)

    def close(self, fd: int) -> None:
        """Close. Its error counts: NFS reports there what a write could not."""
        os.close(fd)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name; fails when `target` exists."""
        os.link(source, target)

    def rename(self, source: Path, target: Path) -> None:
        """Move a file over whatever `target` is; a directory only to where nothing is, or an empty directory."""
        os.rename(source, target)

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        os.unlink(path)

    def mkdir(self, path: Path) -> None:
        """Make a directory."""
        os.mkdir(path)

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""
        os.rmdir(path)

    def lstat(self, path: Path) -> os.stat_result:
        """Facts of a name, symbolic links not followed."""
        return os.lstat(path)

    def names(self, directory: Path) -> list[str]:
        """The names in a directory."""
        return os.listdir(directory)


@dataclass(frozen=True, slots=True)
class FileRead:
    """A file as it was read: at most `limit + 1` bytes, or None when it is no regular file."""

    content: bytes | None
    mtime_ns: int
    ctime_ns: int
    inode: int


def read_file(disk: Disk, path: Path, *, limit: int, follow_symlink: bool) -> FileRead:
    """Read a file without ever waiting for a writer, as opening a FIFO otherwise would."""
    fd = disk.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow_symlink else os.O_NOFOLLOW))
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            return FileRead(None, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
        content = b""
        while len(content) <= limit and (part := disk.read(fd, limit + 1 - len(content))):
            content += part
        return FileRead(content, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
    finally:
        os.close(fd)


def write_file(disk: Disk, path: Path, content: bytes) -> float:
    """Write a file that does not exist yet, mode 0644 whatever the umask, and wait until it is on the disk.

    Returns the file's modification time: the present as the file system's own clock has it. After an error the file
    may be there and must not be used; in particular a second fsync of it could lie.
    """
    fd = disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)
    try:
        os.fchmod(fd, 0o644)
        left = content
        while left:
            left = left[disk.write(fd, left) :]
        disk.fsync(fd)
        now_s = os.fstat(fd).st_mtime
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    disk.close(fd)
    return now_s


def write_directory(disk: Disk, directory: Path, files: Mapping[str, bytes]) -> float:
    """Make a directory with these files in it, and wait until it is on the disk with all of them.

    Returns the present (see `write_file`). After an error the directory may be there and must not be used.
    """
    disk.mkdir(directory)
    now_s = 0.0
    for name, content in files.items():
        now_s = write_file(disk, directory / name, content)
    sync_directory(disk, directory)
    return now_s


def sync_directory(disk: Disk, directory: Path) -> None:
    """Wait until the names in the directory are on the disk."""
    fd = disk.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        disk.fsync(fd)
    finally:
        os.close(fd)


def temporary_beside(path: Path) -> Path:
    """A fresh hidden name in the same directory."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def discard(disk: Disk, temporary: Path) -> None:
    """Remove a temporary file, or a temporary directory of files, or leave it to a later sweep."""
    with contextlib.suppress(OSError):
        try:
            disk.unlink(temporary)
        except IsADirectoryError:
            for name in disk.names(temporary):
                disk.unlink(temporary / name)
            disk.rmdir(temporary)


def sweep(disk: Disk, directory: Path, *, now_s: float) -> None:
    """Remove temporary files and directories that killed writers left an hour ago or earlier; best effort.

    By age and not by looking unused, for a slow writer's file looks just so. `now_s` is by the file system's clock
    (see `write_file`), which need not be this machine's.
    """
    with contextlib.suppress(OSError):
        for name in disk.names(directory):
            if _LEFTOVER.fullmatch(name) and disk.lstat(directory / name).st_mtime < now_s - _LEFTOVER_AGE_S:
                discard(disk, directory / name)


def store_trouble(error: OSError, doing: str) -> StoreError:
    """What the failed call means to whoever asked."""
    if error.errno in _FULL:
        return StoreFullError(
            f"{doing}: {error.strerror}. Nothing was changed: free some space and ask again"
        )
    return StoreError(
        f"{doing}: {error.strerror or error}. Check that the store is mounted and may be written"
    )
