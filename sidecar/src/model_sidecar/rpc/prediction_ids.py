"""Names for answers, by which feedback finds them later: unique, and sorted by time within one process."""

from __future__ import annotations

import secrets
import threading
import time

_COUNTER_BITS = 20


class PredictionIds:
    """Makes ids such as `019a2b3c4d500000-9f86d081`; any thread may.

    The first part is milliseconds since the epoch with 20 bits for a counter below them, and only ever grows, also
    when the clock is set back; the second part tells this process from every other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _last
        self._last = 0
        self._suffix = f"-{secrets.token_hex(4)}"

    def next(self) -> str:
        """An id that no other answer has."""
        now = time.time_ns() // 1_000_000 << _COUNTER_BITS
        with self._lock:
            last = self._last
            self._last = last = now if now > last else last + 1
        return f"{last:016x}{self._suffix}"
