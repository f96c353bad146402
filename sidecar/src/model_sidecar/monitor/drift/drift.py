"""Drift: every version that answers here, watched for having left what it was published with."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from model_sidecar.config import MonitorSettings
from model_sidecar.events import DriftAlarmed, Event, Listener, Published, Released, Site, StandbyReady
from model_sidecar.monitor.drift.drift_report import VersionDrift
from model_sidecar.monitor.drift.drift_watch import DriftWatch, Evidence
from model_sidecar.monitor.drift.drift_words import report
from model_sidecar.monitor.drift.streams import Counts, Stream
from model_sidecar.monitor.faults import Faults
from model_sidecar.monitor.readings import NOWHERE, Readings, Watched, WatchedKey
from model_sidecar.release.digests import Digest

_MOST_TOLD = 64
"""Versions at once that are not in memory here, and only told of; of more, those that are watched longest are forgotten.
Whoever tells of many makes none be forgotten that is in memory: of those there are two of each model."""


_MOST_GONE = 1024
"""What is read of a version after its release comes within a tick or two: so many are not released meanwhile."""


@dataclass(frozen=True, slots=True)
class BinTotals:
    """All counts of a version since it is watched, (bins,), and whose bins they are."""

    watched: Watched
    streams: Sequence[Stream]
    counts: Counts


class Drift:
    """An observer with a watch for each version; `observe` is for one thread, everything else for any."""

    def __init__(
        self,
        settings: MonitorSettings,
        *,
        on_event: Listener = lambda _event: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Begin with no version.

        Args:
            settings: band, budget and thinning.
            on_event: told when an alarm begins, and when it ends.
            clock: seconds that never go back.
            wall_clock: the time for people.
        """
        self._settings = settings
        self._on_event = on_event
        self._clock = clock
        self._wall_clock = wall_clock
        self._faults = Faults()
        self._lock = threading.Lock()  # guards both below, and every watch; never held for long
        self._watches: dict[WatchedKey, DriftWatch] = {}
        self._gone: dict[tuple[Site, Digest], None] = {}  # in the order of their going

    def observe(self, watched: Watched, readings: Readings) -> None:
        """Take in one tick's rows of one version, or a part of them."""
        with self._lock:
            if (watched.site, watched.manifest) in self._gone:
                return
            watch = self._watches.get(watched.key) or self._begin(watched)
            before = watch.alarm_since
            watch.observe(readings, now_s=self._clock(), now=self._wall_clock())
            if (watch.alarm_since is None) == (before is None):
                return
            evidence = watch.evidence(self._clock())
        self._on_event(_news(report(watch, evidence), watched.site))

    def snapshot(self, site: Site) -> tuple[VersionDrift, ...]:
        """What is known of each version that is watched there, the one that was watched last first."""
        now_s = self._clock()
        with self._lock:
            known = [(each, each.evidence(now_s)) for each in self._of(site)]
        return tuple(self._report(watch, evidence) for watch, evidence in known)

    def totals(self, site: Site) -> tuple[BinTotals, ...]:
        """All counts of each version that is watched there, for counters; in the order of `snapshot`."""
        with self._lock:
            return tuple(
                BinTotals(each.watched, each.streams.streams, each.totals) for each in self._of(site)
            )

    def on_event(self, event: Event) -> None:
        """A listener: a version that is not resident any more is forgotten, also what is read of it after that."""
        match event:
            case Released(site=site, version=version, manifest=manifest):
                with self._lock:
                    self._watches.pop(WatchedKey(site, version, manifest), None)
                    self._gone[site, manifest] = None
                    while len(self._gone) > _MOST_GONE:
                        del self._gone[next(iter(self._gone))]
            case Published(site=site, manifest=manifest) | StandbyReady(site=site, manifest=manifest):
                with self._lock:
                    self._gone.pop((site, manifest), None)
            case _:
                pass

    def _report(self, watch: DriftWatch, evidence: Evidence) -> VersionDrift:
        try:
            return report(watch, evidence)
        except Exception as error:  # noqa: BLE001 - of one version, and told; the others are told of
            watched = watch.watched
            return VersionDrift(
                version=watched.version,
                manifest_sha256=watched.manifest,
                baseline_rows=watched.baseline.rows if watched.baseline is not None else 0,
                band=watch.band,
                rows=evidence.rows,
                evidence_log10=0.0,
                threshold_log10=evidence.threshold / math.log(10),
                alarm_since=evidence.alarm_since,
                cause="",
                cause_kind=None,
                summary=self._faults.tell(f"the drift of {watched.version}", error),
                most_log10={},
                streams=(),
                notes=(),
            )

    def _begin(self, watched: Watched) -> DriftWatch:
        watch = DriftWatch(
            watched,
            band=self._settings.drift_band,
            budget_s=self._settings.drift_budget_s,
            thin_s=self._settings.thin_s,
        )
        if watched.manifest == NOWHERE:
            told = [key for key in self._watches if key.manifest == NOWHERE]
            for oldest in told[: max(0, len(told) + 1 - _MOST_TOLD)]:
                del self._watches[oldest]
        self._watches[watched.key] = watch
        return watch

    def _of(self, site: Site) -> list[DriftWatch]:
        return [watch for key, watch in reversed(self._watches.items()) if key.site == site]


def _news(drift: VersionDrift, site: Site) -> DriftAlarmed:
    return DriftAlarmed(
        site,
        version=drift.version,
        manifest=drift.manifest_sha256,
        ended=drift.alarm_since is None,
        cause=drift.cause,
        kind=drift.cause_kind.value if drift.cause_kind is not None else "",
        evidence_log10=drift.evidence_log10,
        rows=drift.rows,
        summary=drift.summary,
    )
