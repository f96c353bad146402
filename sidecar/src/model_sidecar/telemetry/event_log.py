"""One log line per change of state: who deployed what and why, what was refused, what answers now."""

from __future__ import annotations

import logging
import threading
import time
from typing import assert_never

from model_sidecar.events import (
    Committed,
    Draining,
    DriftAlarmed,
    Event,
    GaveWay,
    GuardDecided,
    LoadStarted,
    Prepared,
    Published,
    QualityAlarmed,
    QualityReported,
    Refused,
    Released,
    Restated,
    Site,
    StandbyReady,
    StoreRead,
    StoreUnreadable,
)

log = logging.getLogger(__name__)


class EventLog:
    """A listener that writes. Any thread may call it; it never raises."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _unreadable_since
        self._unreadable_since: dict[Site, float] = {}

    def on_event(self, event: Event) -> None:
        """Write the event's line, if it is news."""
        try:
            self._write(event)
        except Exception:
            log.exception("could not log %s", type(event).__name__)

    def _write(self, event: Event) -> None:
        match event:
            case StoreUnreadable():
                self._unreadable(event)
            case StoreRead():
                self._readable(event)
            case LoadStarted() | Prepared() | Refused() | StandbyReady() | Released():
                _tell_of_a_version(event)
            case Committed() | Published() | Restated():
                _tell_of_the_pointer(event)
            case QualityReported():
                _tell_of_quality(event)
            case DriftAlarmed():
                _tell_of_drift(event)
            case GuardDecided():
                _tell_of_the_guard(event)
            case GaveWay(version=version):
                words = f"{version} gives way to one that has no room beside it: nothing answers until that is loaded"
                _say(event, "gave-way", words, logging.WARNING, version=version)
            case Draining():
                _say(event, "draining", "going down: no new request is taken")
            case _:
                pass

    def _unreadable(self, event: StoreUnreadable) -> None:
        with self._lock:
            news = event.site not in self._unreadable_since
            self._unreadable_since.setdefault(event.site, time.monotonic())
        if news:
            words = f"the store cannot be read; what is live answers on: {event.message}"
            _say(event, "store-unreadable", words, logging.ERROR)

    def _readable(self, event: StoreRead) -> None:
        with self._lock:
            since = self._unreadable_since.pop(event.site, None)
        if since is not None:
            seconds = time.monotonic() - since
            words = f"the store can be read again, after {seconds:.1f} s"
            _say(event, "store-readable", words, outage_s=round(seconds, 3))


def _tell_of_a_version(event: LoadStarted | Prepared | Refused | StandbyReady | Released) -> None:
    version = event.version
    match event:
        case LoadStarted():
            _say(event, "loading", f"verifying and loading {version}", version=version)
        case Prepared():
            _say(
                event,
                "prepared",
                f"{version} is verified, loaded and warmed; golden examples: {event.golden_examples}",
                version=version,
                manifest_sha256=event.manifest,
                golden_examples=event.golden_examples,
                **{f"{phase}_s": round(seconds, 6) for phase, seconds in event.phases_s.items()},
            )
        case Refused():
            _say(
                event,
                "refused",
                f"refused{f' {version}' if version else ''}: {event.message}",
                logging.ERROR if event.verification else logging.WARNING,
                version=version,
                reason=event.reason.value,
            )
        case StandbyReady():
            _say(event, "standby", f"{version} stands by", version=version, manifest_sha256=event.manifest)
        case Released():
            _say(event, "released", f"{version} is released", version=version, manifest_sha256=event.manifest)
        case _:
            assert_never(event)


def _tell_of_the_guard(event: GuardDecided) -> None:
    _say(
        event,
        "guard",
        f"the guard about {event.version} ({event.trigger}): {event.message}",
        logging.WARNING,
        version=event.version,
        decision=event.decision,
        trigger=event.trigger,
        target=event.target,
        generation=event.generation,
        evidence_log10=round(event.evidence_log10, 2),
    )


def _tell_of_the_pointer(event: Committed | Published | Restated) -> None:
    version = event.version
    match event:
        case Committed():
            _say(
                event,
                "committed",
                f"generation {event.generation} is recorded: {event.action} {version} by {event.actor}",
                version=version,
                generation=event.generation,
                action=event.action,
                trigger=event.trigger,
                actor=event.actor,
                reason=event.reason,
            )
        case Published():
            _say(
                event,
                "published",
                f"{version} answers from now on, after {event.took_s * 1000:.1f} ms",
                version=version,
                generation=event.generation,
                manifest_sha256=event.manifest,
                previous_version=event.previous,
                standby=event.standby,
                from_standby=event.from_standby,
                duration_ms=round(event.took_s * 1000, 3),
            )
        case Restated():
            _say(
                event,
                "restated",
                f"{version} goes on answering, as generation {event.generation}",
                version=version,
                generation=event.generation,
                manifest_sha256=event.manifest,
            )
        case _:
            assert_never(event)


def _tell_of_quality(event: QualityReported) -> None:
    is_alarm = isinstance(event, QualityAlarmed)
    _say(
        event,
        "quality-alarm" if is_alarm else "quality",
        f"{event.version} predicts worse than it was published with: {event.summary}"
        if is_alarm
        else f"{event.version} in the last hour: {event.summary}",
        logging.ERROR if is_alarm else logging.INFO,
        version=event.version,
        manifest_sha256=event.manifest,
        verdict=event.verdict,
        predictions=event.predictions,
        labels=event.labels,
        evidence_log10=round(event.evidence_log10, 3),
        **{name: round(value, 6) for name, value in event.metrics.items()},
    )


def _tell_of_drift(event: DriftAlarmed) -> None:
    _say(
        event,
        "drift-alarm-ended" if event.ended else "drift-alarm",
        f"{event.version} is within what it was published with again"
        if event.ended
        else f"{event.version} has left what it was published with: {event.summary}",
        logging.INFO if event.ended else logging.ERROR,
        version=event.version,
        manifest_sha256=event.manifest,
        cause=event.cause,
        kind=event.kind,
        evidence_log10=round(event.evidence_log10, 3),
        rows=event.rows,
    )


def _say(event: Event, word: str, sentence: str, level: int = logging.INFO, /, **facts: object) -> None:
    log.log(
        level,
        "%s",
        sentence,
        extra={"event": word, "model": event.site.model, "environment": event.site.environment, **facts},
    )
