"""Faults of reports: one of them costs what it is in and no more, and is logged once, however often somebody looks."""

from __future__ import annotations

import logging
import threading

log = logging.getLogger(__name__)

_MOST = 256


class Faults:
    """Which faults were told. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._told: set[tuple[str, type[Exception]]] = set()

    def tell(self, what: str, error: Exception) -> str:
        """Log, the first time only, that `what` failed with this; and what to say in its place, for a person."""
        key = what, type(error)
        with self._lock:
            is_first = key not in self._told
            if is_first:
                if len(self._told) >= _MOST:
                    self._told.clear()
                self._told.add(key)
        if is_first:
            log.error("%s cannot be told; everything else is", what, exc_info=error)
        return f"{what} cannot be told here: {type(error).__name__}, see the sidecar's log"
