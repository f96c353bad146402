"""When a directory need not be listed again: nothing has come or gone since it was seen whole.

A directory's own times change with each name in it. Two things make that less than a proof, and both are asked for here: a
clock that ticks coarsely (two seconds on some file systems) does not tell a change in the tick of the one before, so only
a directory that has stood still for longer is remembered; and some mounts keep no times of directories at all, so nothing
is remembered until a name of our own was seen to change them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

_SETTLED_S = 2.5


@dataclass(frozen=True, slots=True)
class State:
    """What stat(2) says of a directory. Equal states: the same directory, in which nothing has come or gone in between."""

    device: int
    inode: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, facts: os.stat_result) -> State:
        """The state in these facts."""
        return cls(facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns)


class Wholeness:
    """Up to which generation a directory was seen whole. Any thread may call; a race costs a listing too many.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._standing: tuple[State, float] | None = None  # how it was seen last, and since when
        self._listed: tuple[State, int] | None = (
            None  # how it was when it was listed, and how far it was whole then
        )
        self._keeps_times: int | None = (
            None  # the device on which a name of ours was seen to change the times
        )

    def covers(self, head: int, state: State) -> bool:
        """Whether everything up to `head` is there for certain, the directory being as it is now."""
        if self._listed is None or self._keeps_times != state.device:
            return False
        return self._listed[0] == state and head <= self._listed[1]

    def is_due(self, state: State) -> bool:
        """Whether the directory has come to rest like this, and was not listed since."""
        return self._is_settled(state) and (self._listed is None or self._listed[0] != state)

    def listed(self, *, up_to: int, before: State, after: State | None) -> None:
        """A listing between two looks had everything up to here; it is remembered if the directory was at rest."""
        if self._is_settled(before) and before == after:
            self._listed = (before, up_to)

    def wrote(self, *, before: State | None, after: State | None) -> None:
        """A name of our own was put there between two looks."""
        if before is not None and after is not None and before != after:
            self._keeps_times = after.device

    def _is_settled(self, state: State) -> bool:
        now, standing = self._clock(), self._standing
        if standing is None or standing[0] != state:
            self._standing = (state, now)
            return False
        return now - standing[1] >= _SETTLED_S
