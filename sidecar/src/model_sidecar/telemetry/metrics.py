"""All metrics of this sidecar on one registry that the caller owns; nothing is put on prometheus_client's global one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from prometheus_client import CollectorRegistry, GCCollector, Info, PlatformCollector, ProcessCollector

from model_sidecar.events import Event, Site
from model_sidecar.monitor.reports import Reports
from model_sidecar.monitor.tallies import MonitorTallies
from model_sidecar.serving.site import ServedSite
from model_sidecar.serving.stage import Stage
from model_sidecar.telemetry.flips import FlipMetrics
from model_sidecar.telemetry.guarding import GuardMetrics
from model_sidecar.telemetry.meters import Meters
from model_sidecar.telemetry.monitoring import MonitoringCollector
from model_sidecar.telemetry.rpcs import known_rpcs
from model_sidecar.telemetry.standing import StandingCollector, Watched
from model_sidecar.telemetry.threads import ThreadsCollector
from model_sidecar.telemetry.watched import ReportsCollector

log = logging.getLogger(__name__)


class Metrics:
    """The metrics of the contract's section 8.

    Attributes:
        meters: where the rpc room notes its requests.
        registry: what a scrape shows.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        software: str,
        rpcs: Mapping[str, str] | None = None,
        slow_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Register everything.

        Args:
            registry: where; None makes a new one. Never the global one, which a test could not begin anew.
            software: this distribution's version, for `model_sidecar_build_info`.
            rpcs: full method names and their `grpc_type`, to stand in labels; by default all that the sidecar has.
            slow_s: runs of a model that take longer count as slow, for the guard.
            clock: monotonic seconds, the same as a status' `last_look`.
        """
        self.registry = registry = registry or CollectorRegistry()
        self.meters = Meters(rpcs=known_rpcs() if rpcs is None else rpcs, slow_s=slow_s)
        self._standing = StandingCollector(clock=clock)
        self._flips = FlipMetrics(registry)
        self._guard = GuardMetrics()
        registry.register(self._guard)
        registry.register(self.meters)
        registry.register(self._standing)
        Info("model_sidecar_build", "Which software this is.", registry=registry).info({"version": software})
        registry.register(ThreadsCollector())
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def watch(self, served: Watched) -> None:
        """Show this site. To be called before its first request and its first event."""
        self.meters.watch(served.site, _residents(served.stage))
        self._standing.watch(served)
        self._flips.watch(served.site)

    def watch_monitor(self, sites: Sequence[Site], tallies: Callable[[], MonitorTallies]) -> None:
        """Show what the monitor of these sites counts."""
        self.registry.register(MonitoringCollector(sites, tallies))

    def watch_versions(
        self, sites: Sequence[ServedSite], reports: Reports, *, stream_counters: bool = False
    ) -> None:
        """Show how the versions of these sites predict, and how far they have drifted."""
        self.registry.register(ReportsCollector(sites, reports, stream_counters=stream_counters))

    def on_event(self, event: Event) -> None:
        """A listener. Any thread may call it; it never raises."""
        try:
            self.meters.on_event(event)
            self._standing.on_event(event)
            self._flips.on_event(event)
            self._guard.on_event(event)
        except Exception:
            log.exception("could not count %s", type(event).__name__)


def _residents(stage: Stage) -> Callable[[], Collection[str]]:
    def now() -> Collection[str]:
        residents = stage.residents()
        return {each.version for each in (residents.live, residents.standby) if each is not None}

    return now
