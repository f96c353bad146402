"""Who noticed what, and when: asks the sidecar what it says of a version, and keeps what it said first."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from model_sidecar.demo.traffic import Traffic
from model_sidecar.demo.versions import DIGITS, PROD
from model_sidecar_client import GuardDecision, Operator, Record, VersionDrift, VersionQuality

_EVERY_S = 0.1


class Watcher(StrEnum):
    """Those in the sidecar who may notice something."""

    LABELS = "labels"
    DRIFT = "drift"
    GUARD = "guard"


@dataclass(frozen=True, slots=True)
class Noticed:
    """What one of them noticed.

    Attributes:
        at: when the sidecar was first seen to say so, monotonic seconds.
        predictions: how many answers the version had given by then, since the fault began.
        words: the sidecar's own.
    """

    by: Watcher
    at: float
    predictions: int
    words: str


class Lookout:
    """Looks at one version, since a moment at which something went wrong with it. One thread's.

    Attributes:
        since: that moment, monotonic seconds.
        noticed: what was noticed, in the order in which that was seen.
        quality, drift: what the sidecar said of it when last looked; None before, and of a version that is not watched.
        decisions: the guard's about this version, newest first.
    """

    def __init__(self, operator: Operator, traffic: Traffic, version: str, *, since: float) -> None:
        self.version = version
        self.since = since
        self.noticed: dict[Watcher, Noticed] = {}
        self.quality: VersionQuality | None = None
        self.drift: VersionDrift | None = None
        self.decisions: tuple[GuardDecision, ...] = ()
        self._operator = operator
        self._traffic = traffic

    def look(self) -> None:
        """Ask the sidecar once."""
        (rated,), (moved,) = (
            self._operator.quality(DIGITS, environment=PROD),
            self._operator.drift(DIGITS, environment=PROD),
        )
        # A version is watched from its first prediction on.
        self.quality = next((each for each in rated.versions if each.version == self.version), None)
        self.drift = next((each for each in moved.versions if each.version == self.version), None)
        self.decisions = tuple(each for each in moved.decisions if each.version == self.version)
        if self.quality is not None and self.quality.alarm_since is not None:
            self._note(Watcher.LABELS, self.quality.summary)
        if self.drift is not None and self.drift.alarm_since is not None:
            self._note(Watcher.DRIFT, self.drift.summary)
        if self.decisions:
            self._note(Watcher.GUARD, self.decisions[-1].message)

    def look_until(self, enough: Callable[[], bool], *, timeout_s: float = 60.0) -> bool:
        """Look again and again until there is enough; whether there was in time."""
        end = time.monotonic() + timeout_s
        while True:
            self.look()
            if enough():
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(_EVERY_S)

    def has(self, *watchers: Watcher) -> bool:
        """Whether all of these have noticed something."""
        return all(each in self.noticed for each in watchers)

    def seconds(self, noticed: Noticed) -> float:
        """From the beginning of the fault until that."""
        return noticed.at - self.since

    def _note(self, by: Watcher, words: str) -> None:
        if by not in self.noticed:
            at = time.monotonic()
            answers = len(self._traffic.of(self.version, since=self.since))
            self.noticed[by] = Noticed(by, at, answers, words)


def by_guard(record: Record) -> bool:
    """Whether it was the guard that did this; no caller can have its method."""
    return record.actor.method == "guard"
