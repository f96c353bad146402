"""What the monitor knows, for those who show it: quality, drift and the guard's decisions, each if it is watched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from model_sidecar.breath import breathe
from model_sidecar.config import GuardMode
from model_sidecar.events import Site
from model_sidecar.monitor.drift.drift import Drift
from model_sidecar.monitor.drift.drift_report import VersionDrift
from model_sidecar.monitor.faults import Faults
from model_sidecar.monitor.guard.decisions import Decisions, GuardDecision
from model_sidecar.monitor.quality.quality import DAY_S, Quality
from model_sidecar.monitor.quality.quality_report import VersionQuality
from model_sidecar.serving.site import ServedSite

Report = TypeVar("Report", VersionQuality, VersionDrift)


@dataclass(frozen=True, slots=True)
class Reports:
    """Who may be asked; None where it is not watched. Any thread may call anything here."""

    quality: Quality | None = None
    drift: Drift | None = None
    decisions: Decisions | None = None
    faults: Faults = field(default_factory=Faults)
    """Where whoever shows them tells what could not be shown."""

    def quality_of(self, served: ServedSite, window_s: float = DAY_S) -> list[VersionQuality]:
        """How well the site's versions predict, the live one first."""
        breathe()  # before each site: who looks may look at many
        return _live_first(served, self.quality.reports(served.site, window_s) if self.quality else ())

    def drift_of(self, served: ServedSite) -> list[VersionDrift]:
        """How far the site's versions have drifted, the live one first."""
        breathe()
        return _live_first(served, self.drift.snapshot(served.site) if self.drift else ())

    def decisions_of(self, site: Site) -> Sequence[GuardDecision]:
        """The guard's last decisions at this site, newest first."""
        return self.decisions.recent(site) if self.decisions else ()

    @property
    def guard(self) -> GuardMode:
        """Whether the guard acts."""
        return self.decisions.mode if self.decisions else GuardMode.OFF


def _live_first(served: ServedSite, reports: Iterable[Report]) -> list[Report]:
    residents = served.stage.residents()
    order = [each.manifest.digest for each in (residents.live, residents.standby) if each is not None]
    return sorted(
        reports,
        key=lambda each: order.index(each.manifest_sha256) if each.manifest_sha256 in order else len(order),
    )
