"""The monitor of one sidecar: intake, thread, and everybody who watches, put together. `None` of it with --no-monitor."""

from __future__ import annotations

from collections.abc import Sequence

from model_sidecar.config import ServeSettings
from model_sidecar.events import Event, Site
from model_sidecar.monitor.intake import Intake
from model_sidecar.monitor.monitor import Mirror, Monitor
from model_sidecar.monitor.readings import Observer, TruthObserver
from model_sidecar.monitor.tallies import Tallies
from model_sidecar.release.baseline import Baseline
from model_sidecar.release.names import Version
from model_sidecar.serving.site import ServedSite
from model_sidecar.serving.stage import Model

_STOP_S = 5.0


class Monitoring:
    """What watches the answers of a process. Whoever owns it starts it after the data plane and stops it after that.

    Attributes:
        intake: where the data plane notes its answers.
        tallies: what the monitor counts of its own work, for metrics.
    """

    def __init__(self, settings: ServeSettings, served: Sequence[ServedSite]) -> None:
        """Build everything; nothing runs yet."""
        self._settings = settings.monitor
        self._sites = {each.site: each for each in served}
        self.intake = Intake()
        self.tallies = Tallies(is_resident=lambda site, version: self._resident(site, version) is not None)
        # Whoever watches is made and named here: drift, quality, guard. See the Protocols for who is shown what.
        observers: list[Observer] = []
        mirrors: list[Mirror] = []
        truth_observers: list[TruthObserver] = []  # noqa: F841
        self._monitor = Monitor(
            self.intake,
            observers=observers,
            mirrors=mirrors,
            tallies=self.tallies,
            resident_of=self._resident,
            baseline_of=_baseline,
        )

    def start(self) -> None:
        """Begin to watch."""
        self._monitor.start()

    def stop(self) -> None:
        """Work off what is noted, and end; nothing that was answered before is lost."""
        self._monitor.stop(timeout_s=_STOP_S)

    def on_event(self, event: Event) -> None:
        """A listener."""
        self._monitor.on_event(event)
        self.tallies.on_event(event)

    def _resident(self, site: Site, version: Version) -> Model | None:
        served = self._sites.get(site)
        if served is None:
            return None
        residents = served.stage.residents()
        for model in (residents.live, residents.standby):
            if model is not None and model.version == version:
                return model
        return None


def _baseline(_site: Site, _model: Model) -> Baseline | None:
    """What a version was published with; asked on the monitor's thread, once for each that is loaded."""
    return None
