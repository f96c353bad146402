"""Memory given back to the machine, and how much of it this process holds."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


def give_back() -> None:
    """Return freed memory to the system; for after a model's release, in a thread that nobody waits for.

    glibc keeps what many small weights occupied: all of a released model's memory stayed with the process until
    this. Takes tens of milliseconds, without the GIL. Does nothing where the C library is another.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    """How much memory this process holds, shared pages included; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
