"""The system calls that the store needs, one to a method: the seam between our code and a file system.

Nothing is decided here. Whoever wants to see what happens when a call fails, lies, or is lost in a power cut passes a
`Disk` of which a method does so. All of them raise plain OSError; `faults` turns it into our words.
"""

from __future__ import annotations

import os
from pathlib import Path


class Disk:
    """System calls, one to a method. May be called from any thread.

    A name is a path, or with `dir_fd` one that begins at that open directory.
    """

    def open(self, name: Path | str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        """Open or make a file, never inherited by child processes."""
        return os.open(name, flags | os.O_CLOEXEC, mode, dir_fd=dir_fd)

    def read(self, fd: int, size: int) -> bytes:
        """Read at most so many bytes."""
        return os.read(fd, size)

    def read_into(self, fd: int, buffer: memoryview) -> int:
        """Read at most as many bytes as the buffer holds; returns how many."""
        return os.readv(fd, [buffer])

    def write(self, fd: int, content: bytes | memoryview) -> int:
        """Write; returns how many bytes were taken."""
        return os.write(fd, content)

    def fchmod(self, fd: int, mode: int) -> None:
        """Set a file's mode, whatever the umask."""
        os.fchmod(fd, mode)

    def fsync(self, fd: int) -> None:
        """Wait until a file, or the names in a directory, are on the disk."""
        os.fsync(fd)

    def close(self, fd: int) -> None:
        """Close. Its error counts: NFS reports there what a write could not."""
        os.close(fd)

    def link(self, source: Path | str, target: Path | str) -> None:
        """Give a file a second name; fails when `target` exists."""
        os.link(source, target)

    def rename(self, source: Path | str, target: Path | str, *, dir_fd: int | None = None) -> None:
        """Move a file over whatever `target` is; a directory only to where nothing is, or an empty directory."""
        os.rename(source, target, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)

    def unlink(self, name: Path | str, *, dir_fd: int | None = None) -> None:
        """Remove a name that is no directory's."""
        os.unlink(name, dir_fd=dir_fd)

    def mkdir(self, name: Path | str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        """Make a directory."""
        os.mkdir(name, mode, dir_fd=dir_fd)

    def rmdir(self, name: Path | str, *, dir_fd: int | None = None) -> None:
        """Remove an empty directory."""
        os.rmdir(name, dir_fd=dir_fd)

    def names(self, directory: Path | int) -> list[str]:
        """The names in a directory, which may be given as a descriptor."""
        return os.listdir(directory)

    def fstat(self, fd: int) -> os.stat_result:
        """Facts of what is open."""
        return os.fstat(fd)

    def lstat(self, name: Path | str, *, dir_fd: int | None = None) -> os.stat_result:
        """Facts of a name, symbolic links not followed."""
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)

    def stat(self, name: Path | str) -> os.stat_result:
        """Facts of what a name leads to."""
        return os.stat(name)

    def statvfs(self, name: Path | str) -> os.statvfs_result:
        """Facts of the mount that a name is on."""
        return os.statvfs(name)

    def access(self, name: Path | str, mode: int) -> bool:
        """Whether this process may do that there: root may everything, but for what a mount forbids."""
        return os.access(name, mode)
