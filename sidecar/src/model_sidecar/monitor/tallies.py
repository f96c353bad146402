"""What the monitor counts of its own work, for metrics: rows dropped and logged, feedback by what became of it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from model_sidecar.events import Event, Released, Site
from model_sidecar.monitor.readings import WatchedKey
from model_sidecar.release.names import Version

IsResident = Callable[[Site, Version], bool]


@dataclass(frozen=True, slots=True)
class MonitorTallies:
    """The counts at one moment.

    Attributes:
        dropped: rows that there was no room for, by where ("notes", "log") and site.
        logged: rows that the log took, by site.
        feedback: by site, version and outcome. The version is "" where none is known, or it is no longer in memory; the
            site is None where the feedback led to none.
        log_bytes: how large the log is.
        last_tick: when observers were last shown what came in, in Unix time; None before the first time.
    """

    dropped: Mapping[tuple[str, Site], int]
    logged: Mapping[Site, int]
    feedback: Mapping[tuple[Site | None, str, str], int]
    log_bytes: int
    last_tick: float | None


class Tallies:
    """The counts. Any thread may call anything here."""

    def __init__(self, *, is_resident: IsResident = lambda _site, _version: True) -> None:
        """Begin at zero; versions that are not resident have no counts of their own, so that label sets stay few."""
        self._is_resident = is_resident
        self._lock = threading.Lock()  # guards everything below
        self._dropped: Counter[tuple[str, Site]] = Counter()
        self._logged: Counter[Site] = Counter()
        self._feedback: Counter[tuple[Site | None, str, str]] = Counter()
        self._log_bytes = 0
        self._last_tick: float | None = None

    def dropped(self, where: str, site: Site, rows: int) -> None:
        """Count rows that are watched or logged no further."""
        with self._lock:
            self._dropped[where, site] += rows

    def logged(self, site: Site, rows: int) -> None:
        """Count rows that the log took."""
        with self._lock:
            self._logged[site] += rows

    def fed_back(self, key: WatchedKey | None, outcome: str, count: int = 1) -> None:
        """Count what became of feedback; `key` is None where it led to no version."""
        site, version = (None, "") if key is None else (key.site, key.version)
        if key is not None and not self._is_resident(key.site, key.version):
            version = ""
        with self._lock:
            self._feedback[site, version, outcome] += count

    def log_holds(self, bytes_: int) -> None:
        """The log has become so large."""
        with self._lock:
            self._log_bytes = bytes_

    def ticked(self) -> None:
        """Observers were shown what came in, now."""
        with self._lock:
            self._last_tick = time.time()

    def on_event(self, event: Event) -> None:
        """A listener: forget the counts of a version that has left."""
        match event:
            case Released(site=site, version=version) if not self._is_resident(site, version):
                with self._lock:
                    for key in [key for key in self._feedback if key[:2] == (site, version)]:
                        del self._feedback[key]
            case _:
                pass

    def current(self) -> MonitorTallies:
        """The counts now."""
        with self._lock:
            return MonitorTallies(
                dict(self._dropped),
                dict(self._logged),
                dict(self._feedback),
                self._log_bytes,
                self._last_tick,
            )
