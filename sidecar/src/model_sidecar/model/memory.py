"""Memory: given back to the machine, and laid out so that giving it back is quick."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Self

HUGE = 2 << 20
"""What a huge page holds (x86-64, and arm64 with pages of 4 KiB)."""

_MADV_DONTNEED = 4  # madvise(2)
_MADV_COLLAPSE = 25  # linux/mman.h, since Linux 6.1
_LEAST = 16 * HUGE
_FILLED = 0.9
_WORTH_HOLDING = 16 << 20  # a millisecond's worth


def give_back() -> None:
    """Return freed memory to the system; for after a model's release, in a thread that nobody waits for.

    glibc keeps what many small weights occupied: all of a released model's memory stayed with the process until
    this. Takes tens of milliseconds, without the GIL. Does nothing where the C library is another.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def onto_huge_pages() -> None:
    """Have the kernel put large blocks of this process's memory onto huge pages; for after a large model's load.

    Freeing a session holds the GIL, and most of that goes into its pages, one by one: 45 ms for half a gigabyte of large
    weights, 2 ms once they are huge ones (benchmarks/swap.py). Takes about half as long as the load did, without the GIL.

    Nobody's bytes change by it, so it need not be known whose a block is; what is on huge pages already is passed over. Best
    effort: a kernel before 6.1, or one that has no huge pages to give, leaves all as it is.
    """
    with suppress(OSError):
        _advise(tuple(_large_blocks()), _MADV_COLLAPSE)


class MappedFiles:
    """Files that a session maps its weights from, held open so that leaving them is quick. One thread's.

    A session's destructor takes its mappings down page by page, and with the last one of a file that has no name any more the
    file's pages too, all under the GIL: 40 ms for half a gigabyte. Both can be done without it, before and after.
    """

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        """Hold those of these files that are mapped, if they are large; what is mapped takes its room held or not.

        Best effort: a file that cannot be held is left as slowly as it would be without this.
        """
        self._files: list[FileIO] = []
        with suppress(OSError):
            mapped = {file for file, _, _ in _mappings()}
            for path in paths:
                found = path.stat()
                if found.st_size >= _WORTH_HOLDING and (found.st_dev, found.st_ino) in mapped:
                    self._files.append(path.open("rb", buffering=0))

    def __enter__(self) -> Self:
        """Take the pages out of this process; whoever still reads them has the file read again."""
        with suppress(OSError):
            found = [os.fstat(each.fileno()) for each in self._files]
            held = {(each.st_dev, each.st_ino) for each in found}
            if held:
                _advise([(begin, size) for file, begin, size in _mappings() if file in held], _MADV_DONTNEED)
        return self

    def __exit__(self, *_: object) -> None:
        """Let the files go, now that nothing maps them."""
        while self._files:
            self._files.pop().close()


def _advise(blocks: Iterable[tuple[int, int]], advice: int) -> None:
    # By ctypes, so without the GIL.
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for begin, size in blocks:
        madvise(begin, size, advice)


def _mappings() -> Iterator[tuple[tuple[int, int], int, int]]:
    """What is mapped from files: which file (device, inode), where it begins and how long it is."""
    with open("/proc/self/maps", "rb") as mappings:  # noqa: PTH123 - line by line
        for line in mappings:
            # proc_pid_maps(5): address, permissions, offset, device as major:minor in hexadecimal, inode.
            address, _, _, device, inode, *_ = line.split(maxsplit=5)
            if inode != b"0":
                major, minor = (int(each, 16) for each in device.split(b":"))
                begin, end = (int(each, 16) for each in address.split(b"-"))
                yield (os.makedev(major, minor), int(inode)), begin, end - begin


def _large_blocks() -> Iterator[tuple[int, int]]:
    """Where large blocks of private memory begin and how long they are, but for the heap, which is freed piece by piece.

    Only those that are in use nearly throughout: a huge page has no holes, and would fill the others' with memory.
    """
    begin = size = 0
    # proc_pid_smaps(5): a line as in maps for each mapping, and then facts of it.
    with open("/proc/self/smaps", "rb") as mappings:  # noqa: PTH123 - line by line
        for line in mappings:
            first, *rest = line.split(maxsplit=5)
            if not first.endswith(b":"):
                begin, end = (int(each, 16) for each in first.split(b"-"))
                # No file, no name: its path would be the sixth field.
                size = end - begin if rest[0] == b"rw-p" and len(rest) == 4 else 0
            elif first == b"Rss:" and size >= _LEAST and int(rest[0]) << 10 >= _FILLED * size:
                yield begin, size
