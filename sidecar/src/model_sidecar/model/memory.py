"""Memory: given back to the machine, and laid out so that giving it back is quick."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import suppress

HUGE = 2 << 20
"""What a huge page holds (x86-64, and arm64 with pages of 4 KiB)."""

_MADV_COLLAPSE = 25  # linux/mman.h, since Linux 6.1
_LEAST = 16 * HUGE
_FILLED = 0.9


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
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with suppress(OSError):
        for begin, size in tuple(_large_blocks()):
            madvise(begin, size, _MADV_COLLAPSE)


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
