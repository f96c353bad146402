"""Names for answers, by which feedback finds them later: unique, and sorted by time within one process."""

from __future__ import annotations

import re
import secrets
import threading
import time
from dataclasses import dataclass

_COUNTER_BITS = 20
_ID = re.compile(r"(?P<id>[0-7][0-9a-f]{15})-(?P<process>[0-9a-f]{8})(?:#(?P<row>[0-9]{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class PredictionId:
    """A prediction id, taken apart. `row` is None where the id names a request and no row of it."""

    id: int
    process: str
    row: int | None


def parse_prediction_id(text: str) -> PredictionId | None:
    """The parts of an id, or of `id#row`; None for anything else."""
    match = _ID.fullmatch(text)
    if match is None:
        return None
    row = match["row"]
    return PredictionId(int(match["id"], 16), match["process"], None if row is None else int(row))


def made_at_ms(id: int) -> int:
    """When an answer was made, in milliseconds since the epoch, by the first part of its id."""
    return id >> _COUNTER_BITS


def first_id_at(ms: int) -> int:
    """The least first part that an answer of this millisecond can have."""
    return ms << _COUNTER_BITS


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
