"""Rows that depend on one another, made fewer: one of each key counts, and then none for a while.

What a detector promises holds for rows of which each says something new. A session that sends a hundred rows a minute says
it once. So of the rows of one key one counts per so many seconds. Memory is fixed: keys are hashed to slots, and two keys of
one slot are taken for one, which drops rows whatever their values are and so misleads nobody.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BYTES = 2048
_SLOT_BITS = (8 * _BYTES).bit_length() - 1


class Thinning:
    """Which rows count. Not thread-safe."""

    def __init__(self, period_s: float) -> None:
        """Begin with no key seen.

        Args:
            period_s: at least so many seconds lie between two rows of one key that count.
        """
        self._period_s = period_s
        # One bit a slot: seen in this period, seen in the one before. A key waits until it is in neither.
        self._now = np.zeros(_BYTES, dtype=np.uint8)
        self._before = np.zeros(_BYTES, dtype=np.uint8)
        self._until = -np.inf

    @property
    def nbytes(self) -> int:
        """How much memory this takes, whatever comes."""
        return self._now.nbytes + self._before.nbytes

    def take(self, keys: NDArray[np.int64], now_s: float) -> NDArray[np.bool_]:
        """(n,) which of the rows with these keys count; those with key 0 always do.

        Args:
            keys: (n,) in the order of arrival.
            now_s: the time on some clock that never goes back.
        """
        self._turn(now_s)
        taken: NDArray[np.bool_] = keys == 0
        keyed = np.flatnonzero(~taken)
        if not len(keyed):
            return taken
        slots = (keys[keyed].view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _SLOT_BITS)
        distinct, first = np.unique(slots, return_index=True)
        byte, bit = (distinct >> np.uint64(3)).astype(np.intp), distinct & np.uint64(7)
        mask = np.left_shift(np.uint8(1), bit.astype(np.uint8))
        free = ((self._now[byte] | self._before[byte]) & mask) == 0
        np.bitwise_or.at(self._now, byte[free], mask[free])
        taken[keyed[first[free]]] = True
        return taken

    def _turn(self, now_s: float) -> None:
        if now_s < self._until:
            return
        late = now_s >= self._until + self._period_s
        self._before, self._now = self._now, self._before
        self._now[:] = 0
        if late:
            self._before[:] = 0
        self._until = now_s + self._period_s
