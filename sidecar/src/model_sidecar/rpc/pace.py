"""How often a second the loop says no: what it costs to refuse a call is taken from those that could be answered."""

from __future__ import annotations

import time

_A_SECOND = 500.0
_AT_ONCE = 50.0


class Pace:
    """Lets refusals pass freely up to a rate, and makes the loop rest after each one beyond it. Belongs to that loop.

    To receive a call and refuse it costs gRPC's Python about a third of a millisecond, as much as answering one with a
    small model. At ten times what the lanes can do, that alone would take a core from them. While the loop rests, the
    lanes run; calls wait in gRPC's own queue, and beyond `--backlog` gRPC cuts them off for some microseconds each.
    """

    def __init__(self) -> None:
        self._left = _AT_ONCE
        self._counted = 0.0

    def refused(self) -> None:
        """Count a refusal, and rest where there were too many: the calling thread, not only the coroutine."""
        now = time.monotonic()
        self._left = min(_AT_ONCE, self._left + (now - self._counted) * _A_SECOND) - 1
        self._counted = now
        if self._left < 0:
            time.sleep(1 / _A_SECOND)
