"""Counts of the last hour, in twelve buckets of five minutes that are used again and again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BUCKETS = 12
_BUCKET_S = 300.0


class LastHour:
    """What was counted in the last hour, up to five minutes less. Not thread-safe."""

    def __init__(self, bins: int) -> None:
        """Begin with nothing.

        Args:
            bins: how many counts there are.
        """
        self._counts = np.zeros((_BUCKETS, bins), dtype=np.uint32)
        self._newest: int | None = None

    @property
    def nbytes(self) -> int:
        """How much memory this takes, whatever comes."""
        return self._counts.nbytes

    def add(self, counts: NDArray[np.int64], now_s: float) -> None:
        """Add these counts at this time, on a clock that never goes back."""
        self._counts[self._turn(now_s)] += counts.astype(np.uint32)

    def total(self, now_s: float) -> NDArray[np.int64]:
        """(bins,) the counts of the hour before this time."""
        self._turn(now_s)
        total: NDArray[np.int64] = self._counts.sum(axis=0, dtype=np.int64)
        return total

    def _turn(self, now_s: float) -> int:
        """The bucket of this time, with those in between emptied."""
        now = int(now_s // _BUCKET_S)
        newest = now if self._newest is None else self._newest
        for passed in range(newest + 1, min(now, newest + _BUCKETS) + 1):
            self._counts[passed % _BUCKETS] = 0
        self._newest = max(now, newest)
        return self._newest % _BUCKETS
