"""Large copies, by two threads where there are two cores: the kernel reads a file page by page, well below what memory can do.

Only what is read: whoever writes to a file keeps others from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

# Below it, waking the other thread takes what it gains.
_WORTHWHILE = 8 << 20
_PAGE = 4096

Copy = Callable[[memoryview, int], int]
"""Fills a row of bytes from a place on, and says how many it were."""


class Copying:
    """Halves large copies. Any thread may use it."""

    def __init__(self) -> None:
        cores = len(os.sched_getaffinity(0))
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="copying") if cores > 1 else None

    def run(self, copy: Copy, row: memoryview, at: int) -> int:
        """Have `copy` do all of `row`; how many bytes it were.

        Raises:
            OSError: what `copy` raises.
        """
        if self._helper is None or len(row) < _WORTHWHILE:
            return copy(row, at)
        half = len(row) // 2 // _PAGE * _PAGE
        try:
            second = self._helper.submit(copy, row[half:], at + half)
        except RuntimeError:  # closed meanwhile
            return copy(row, at)
        try:
            done = copy(row[:half], at)
        finally:
            # Where the helper is busy with another's, nobody waits for it.
            cancelled = second.cancel()
            if not cancelled:
                second.exception()
        return done + (copy(row[half:], at + half) if cancelled else second.result())

    def close(self) -> None:
        """End the thread; what is copied from now on, its asker copies alone."""
        if self._helper is not None:
            self._helper.shutdown(wait=False)
