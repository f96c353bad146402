"""The durable steps that are made of a disk's calls: what is written is on the disk when they return.

Names are as `Disk` takes them: paths, or with `dir_fd` names in that open directory. Everything here raises plain
OSError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model_sidecar.disk.calls import Disk

LEFTOVER_AGE_S = 3600.0
_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{32}\.tmp", re.ASCII | re.DOTALL)
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class FileRead:
    """A file as it was read: at most `limit + 1` bytes, or None when it is no regular file."""

    content: bytes | None
    facts: os.stat_result

    @property
    def is_directory(self) -> bool:
        """Whether a directory stands there."""
        return stat.S_ISDIR(self.facts.st_mode)


def read_file(disk: Disk, path: Path, *, limit: int, follow_symlink: bool) -> FileRead:
    """Read a file without ever waiting for a writer, as opening a FIFO otherwise would."""
    fd = disk.open(path, _READ | (0 if follow_symlink else os.O_NOFOLLOW))
    try:
        facts = disk.fstat(fd)
        return FileRead(read_to(disk, fd, limit=limit) if stat.S_ISREG(facts.st_mode) else None, facts)
    finally:
        release(disk, fd)


def read_to(disk: Disk, fd: int, *, limit: int) -> bytes:
    """The rest of an open file, but at most `limit + 1` bytes: enough to see that there are more than the limit."""
    parts: list[bytes] = []
    left = limit + 1
    while left and (part := disk.read(fd, min(left, _CHUNK))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def write_file(disk: Disk, name: Path | str, parts: Iterable[bytes], *, dir_fd: int | None = None) -> float:
    """Write a file that does not exist yet, mode 0644 whatever the umask, and wait until it is on the disk.

    Returns the file's modification time: the present as the file system's own clock has it. After an error the file
    may be there and must not be used; in particular a second fsync of it could lie.
    """
    fd = disk.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        # Other sidecars may run as other users.
        disk.fchmod(fd, 0o644)
        size = sum(write_all(disk, fd, part) for part in parts)
        disk.fsync(fd)
        facts = disk.fstat(fd)
        if facts.st_size != size:
            raise OSError(errno.EIO, f"{size} bytes were written, but the file has {facts.st_size}")
    except BaseException:
        release(disk, fd)
        raise
    disk.close(fd)
    return facts.st_mtime


def write_all(disk: Disk, fd: int, content: bytes) -> int:
    """Write, in as many calls as it takes. Returns how many bytes there were."""
    left = memoryview(content)
    while left:
        if not (taken := disk.write(fd, left)):
            raise OSError(errno.EIO, "the file takes no more bytes, and does not say why")
        left = left[taken:]
    return len(content)


def write_directory(disk: Disk, directory: Path, files: Mapping[str, bytes]) -> float:
    """Make a directory with these files in it, and wait until it is on the disk with all of them.

    Everybody may read it whatever the umask, as the files in it; who may write to it is the umask's to say. Returns the present (see `write_file`). After an error the directory may be there and must not be used.
    """
    disk.mkdir(directory)
    now_s = 0.0
    for name, content in files.items():
        now_s = write_file(disk, directory / name, [content])
    with opened_directory(disk, directory) as fd:
        disk.fchmod(fd, stat.S_IMODE(disk.fstat(fd).st_mode) | 0o555)
        disk.fsync(fd)
    return now_s


def replace_file(disk: Disk, path: Path, content: bytes) -> None:
    """Put a file in the place of what stands there, as a whole, and wait until it is on the disk."""
    temporary = temporary_beside(path)
    try:
        write_file(disk, temporary, [content])
        disk.rename(temporary, path)
    finally:
        discard(disk, temporary)
    sync_directory(disk, path.parent)


def make_directories(disk: Disk, directory: Path) -> None:
    """Make a directory, and those above it that are missing, for this user alone (0700), durably."""
    if is_directory(disk, directory):
        return
    make_directories(disk, directory.parent)
    with contextlib.suppress(FileExistsError):
        disk.mkdir(directory, 0o700)
    sync_directory(disk, directory.parent)


@contextmanager
def opened_directory(disk: Disk, name: Path | str, *, dir_fd: int | None = None) -> Iterator[int]:
    """A descriptor of a directory."""
    fd = disk.open(
        name, os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if dir_fd is not None else 0), dir_fd=dir_fd
    )
    try:
        yield fd
    finally:
        release(disk, fd)


def release(disk: Disk, fd: int) -> None:
    """Close what was only read, or is given up: an error of that says nothing that matters."""
    with contextlib.suppress(OSError):
        disk.close(fd)


def sync_directory(disk: Disk, directory: Path) -> None:
    """Wait until the names in the directory are on the disk."""
    with opened_directory(disk, directory) as fd:
        disk.fsync(fd)


def is_directory(disk: Disk, path: Path) -> bool:
    """Whether the path leads to a directory. That it cannot be told is an OSError, not a no."""
    try:
        return stat.S_ISDIR(disk.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def temporary_beside(path: Path) -> Path:
    """A fresh hidden name in the same directory, as `sweep` knows it."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def is_temporary(path: Path) -> bool:
    """Whether this is such a name: a file that is still being written, or was given up."""
    return _LEFTOVER.fullmatch(path.name) is not None


def discard(disk: Disk, name: Path | str, *, dir_fd: int | None = None) -> None:
    """Remove a temporary file, or a temporary directory with all that is in it, or leave it to a later sweep."""
    with contextlib.suppress(OSError):
        try:
            disk.unlink(name, dir_fd=dir_fd)
        except IsADirectoryError:
            with opened_directory(disk, name, dir_fd=dir_fd) as directory:
                for each in disk.names(directory):
                    discard(disk, each, dir_fd=directory)
            disk.rmdir(name, dir_fd=dir_fd)


def sweep(disk: Disk, directory: Path | int, *, now_s: float, leftover: re.Pattern[str] = _LEFTOVER) -> None:
    """Remove temporary files and directories that killed writers left an hour ago or earlier; best effort.

    By age and not by looking unused, for a slow writer's file looks just so. `now_s` is by the file system's clock
    (see `write_file`), which need not be this machine's.
    """
    with contextlib.suppress(OSError):
        if isinstance(directory, Path):
            with opened_directory(disk, directory) as fd:
                sweep(disk, fd, now_s=now_s, leftover=leftover)
            return
        for name in filter(leftover.fullmatch, disk.names(directory)):
            with contextlib.suppress(OSError):
                if last_written(disk, name, dir_fd=directory) < now_s - LEFTOVER_AGE_S:
                    discard(disk, name, dir_fd=directory)


def last_written(disk: Disk, name: str, *, dir_fd: int) -> float:
    """When anything in a file or directory was written last: a large file may take its writer longer than an hour."""
    found = disk.lstat(name, dir_fd=dir_fd)
    if not stat.S_ISDIR(found.st_mode):
        return found.st_mtime
    with opened_directory(disk, name, dir_fd=dir_fd) as fd:
        return max([found.st_mtime, *(last_written(disk, each, dir_fd=fd) for each in disk.names(fd))])
