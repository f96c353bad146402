"""Bounds on calls that hold a thread while they wait, so that threads are always left for those that do not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from model_sidecar.errors import OverloadedError

_RETRY_AFTER_S = 1.0


class Slots:
    """So many calls of one kind at once; any thread may take one."""

    def __init__(self, what: str, limit: int) -> None:
        """Have `limit` slots for `what`, such as "watches"."""
        self._what = what
        self.limit = limit
        self._free = threading.BoundedSemaphore(limit)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a slot.

        Raises:
            OverloadedError: all are taken.
        """
        if not self._free.acquire(blocking=False):
            raise OverloadedError(
                f"{self.limit} {self._what} are going on already, and no more are taken at once",
                retry_after_s=_RETRY_AFTER_S,
            )
        try:
            yield
        finally:
            self._free.release()
