"""What each site serves and knows at the moment of a scrape: read from its stage and its board, never stored twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

from model_sidecar.events import Event, Site, StoreRead, StoreUnreadable
from model_sidecar.serving.stage import Stage
from model_sidecar.serving.status import StatusBoard

_SITE = ("model", "environment")


class Watched(Protocol):
    """As much of a served site as its metrics need."""

    @property
    def site(self) -> Site: ...
    @property
    def stage(self) -> Stage: ...
    @property
    def board(self) -> StatusBoard: ...


class StandingCollector:
    """A collector over all sites. Any thread may call anything here."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._sites: list[Watched] = []
        self._unreadable_since: dict[Site, float] = {}

    def watch(self, served: Watched) -> None:
        """Show this site from now on."""
        self._sites.append(served)

    def on_event(self, event: Event) -> None:
        """Remember since when a store cannot be read."""
        match event:
            case StoreUnreadable(site=site):
                self._unreadable_since.setdefault(site, self._clock())
            case StoreRead(site=site):
                self._unreadable_since.pop(site, None)
            case _:
                pass

    def collect(self) -> Iterator[Metric]:
        """The metrics, for a registry."""
        active = InfoMetricFamily(
            "model_sidecar_active_version",
            "The version that answers, 1 per site; the generation is empty under an externally managed pointer.",
            labels=_SITE,
        )
        resident = GaugeMetricFamily(
            "model_sidecar_resident_models", "Versions in memory, live and standby.", labels=_SITE
        )
        generation = GaugeMetricFamily(
            "model_sidecar_pointer_generation",
            "Generation of the ledger's head as last seen, 0 for an empty ledger; absent under an externally managed "
            "pointer, and before the first look.",
            labels=_SITE,
        )
        staleness = GaugeMetricFamily(
            "model_sidecar_pointer_staleness_seconds",
            "Age of the last successful look at the pointer and the ledger; before the first, age of this process.",
            labels=_SITE,
        )
        unreachable = GaugeMetricFamily(
            "model_sidecar_store_unreachable_seconds",
            "For how long every look at the store has failed; 0 while it can be read.",
            labels=_SITE,
        )
        unrecorded = GaugeMetricFamily(
            "model_sidecar_unrecorded_rollbacks",
            "1 while an emergency rollback is in effect that is not in the ledger yet, else 0.",
            labels=_SITE,
        )
        for served in self._sites:
            labels = (served.site.model, served.site.environment)
            residents, status = served.stage.residents(), served.board.current()
            live = residents.live
            if live is not None:
                active.add_metric(
                    labels,
                    {
                        "version": live.version,
                        "manifest_sha256": live.manifest.digest,
                        "generation": "" if residents.generation is None else str(residents.generation),
                    },
                )
            resident.add_metric(labels, sum(each is not None for each in (live, residents.standby)))
            if status.last_look is not None and not status.externally_managed:
                desired = status.desired
                if desired is None or desired.generation is not None:
                    generation.add_metric(labels, desired.generation or 0 if desired else 0)
            now = self._clock()
            staleness.add_metric(
                labels, now - (self._began if status.last_look is None else status.last_look)
            )
            unreachable.add_metric(labels, now - self._unreadable_since.get(served.site, now))
            unrecorded.add_metric(labels, status.unrecorded is not None)
        yield from (active, resident, generation, staleness, unreachable, unrecorded)
