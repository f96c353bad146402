"""Whether the sidecar as a whole can answer now."""

from __future__ import annotations

from collections.abc import Sequence

from model_sidecar.events import Draining, Event
from model_sidecar.telemetry.standing import Watched


class Readiness:
    """Ready means: every site has a live version, and the sidecar is not going down. Any thread may ask."""

    def __init__(self, sites: Sequence[Watched]) -> None:
        self._sites = tuple(sites)
        self._draining = False

    def on_event(self, event: Event) -> None:
        """A listener: from Draining on, nothing is ready."""
        if isinstance(event, Draining):
            self._draining = True

    def obstacles(self) -> tuple[str, ...]:
        """What stands in the way, one line each; empty when ready."""
        if self._draining:
            return ("draining: the sidecar is going down",)
        return tuple(
            f"{served.site}: no version is live"
            for served in self._sites
            if served.stage.residents().live is None
        )
