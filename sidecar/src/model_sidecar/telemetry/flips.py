"""What became of flips, as counters and gauges that events move."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from model_sidecar.errors import Reason
from model_sidecar.events import Committed, Event, Published, Refused, Restated, Site

_SITE = ("model", "environment")
_PHASE_S = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
)
_TRIGGERS = ("operator", "pointer", "guard")

_NO_VERSION_TRIED = frozenset(
    {
        Reason.GENERATION_MISMATCH,
        Reason.GENERATION_NOT_FOUND,
        Reason.INVALID_ARGUMENT,
        Reason.INVALID_NAME,
        Reason.NO_PREVIOUS_VERSION,
        Reason.POINTER_EXTERNALLY_MANAGED,
        Reason.REQUEST_ID_REUSED,
    }
)
"""An operator's call that was turned down for what it said. Nobody is woken because somebody mistyped."""


class FlipMetrics:
    """Counters of flips. `on_event` may be called from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._flips = Counter(
            "model_sidecar_flips",
            "Flips by outcome: published or refused.",
            (*_SITE, "outcome"),
            registry=registry,
        )
        self._phases = Histogram(
            "model_sidecar_flip_duration_seconds",
            "How long flips took that ended in a swap, by phase: verify, load, warm, commit, swap, and total, from the "
            "order or from noticing the pointer.",
            (*_SITE, "phase"),
            buckets=_PHASE_S,
            registry=registry,
        )
        self._successful = Gauge(
            "model_sidecar_last_flip_successful",
            "1 if the last version that was tried took its place, 0 if it was refused; absent before the first.",
            _SITE,
            registry=registry,
        )
        self._succeeded_at = Gauge(
            "model_sidecar_last_flip_success_timestamp_seconds",
            "When a version last took its place, in Unix time.",
            _SITE,
            registry=registry,
        )
        self._verification_failures = Counter(
            "model_sidecar_verification_failures",
            "Versions and pointers that failed verification, by the check that they failed.",
            (*_SITE, "reason"),
            registry=registry,
        )
        self._rollbacks = Counter(
            "model_sidecar_rollbacks",
            "Rollbacks that this sidecar recorded, by what set them off.",
            (*_SITE, "trigger"),
            registry=registry,
        )

    def watch(self, site: Site) -> None:
        """Show this site's counters at zero, so that rate() sees the first event."""
        for outcome in ("published", "refused"):
            self._flips.labels(site.model, site.environment, outcome)
        for trigger in _TRIGGERS:
            self._rollbacks.labels(site.model, site.environment, trigger)

    def on_event(self, event: Event) -> None:
        """Count it."""
        labels = (event.site.model, event.site.environment)
        match event:
            case Published():
                self._flips.labels(*labels, "published").inc()
                self._successful.labels(*labels).set(1)
                self._succeeded_at.labels(*labels).set_to_current_time()
                for phase, seconds in {**event.phases_s, "total": event.took_s}.items():
                    self._phases.labels(*labels, phase).observe(seconds)
            case Restated():
                # The pointer names what answers: whatever was refused before is wanted no longer.
                self._successful.labels(*labels).set(1)
            case Refused(reason=reason, verification=verification):
                self._flips.labels(*labels, "refused").inc()
                if verification:
                    self._verification_failures.labels(*labels, reason.value).inc()
                if reason not in _NO_VERSION_TRIED:
                    self._successful.labels(*labels).set(0)
            case Committed(action=action, trigger=trigger) if action == "ROLLBACK" or (
                action == "ADOPT" and event.back
            ):
                self._rollbacks.labels(*labels, trigger).inc()
            case _:
                pass
