"""Memory given back to the machine."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Return freed memory to the system; for after a model's release, in a thread that nobody waits for.

    glibc keeps what many small weights occupied: all of a released model's memory stayed with the process until
    this. Takes tens of milliseconds, without the GIL. Does nothing where the C library is another.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
