"""The monitor of one sidecar: intake, thread, and everybody who watches, put together. `None` of it with --no-monitor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model_sidecar.config import ServeSettings
from model_sidecar.errors import NotFoundError, Reason
from model_sidecar.events import Event, Listener, Site
from model_sidecar.monitor.drift.drift import Drift
from model_sidecar.monitor.guard.decisions import Decisions
from model_sidecar.monitor.guard.guarding import Guard
from model_sidecar.monitor.guard.shadow import Shadows
from model_sidecar.monitor.intake import Intake
from model_sidecar.monitor.log.feedback import FeedbackDesk
from model_sidecar.monitor.log.foreign import Foreigners
from model_sidecar.monitor.log.prediction_log import PredictionLog
from model_sidecar.monitor.monitor import Mirror, Monitor
from model_sidecar.monitor.prediction_ids import PredictionIds
from model_sidecar.monitor.quality.quality import Quality
from model_sidecar.monitor.readings import Observer, TruthObserver
from model_sidecar.monitor.reports import Reports
from model_sidecar.monitor.tallies import Tallies
from model_sidecar.release.names import Version, parse_model
from model_sidecar.serving.site import ServedSite
from model_sidecar.serving.stage import Model

_STOP_S = 5.0


class Monitoring:
    """What watches the answers of a process. Its owner starts it before the data plane, and stops it after that.

    Attributes:
        intake: where the data plane notes its answers.
        drift: how far versions have moved from what they were published with.
        feedback: takes what was true of predictions.
        tallies: what the monitor counts of its own work, for metrics.
        reports: what those who watch know, for calls, metrics and pages.
    """

    def __init__(
        self,
        settings: ServeSettings,
        served: Sequence[ServedSite],
        *,
        folder: Path | None,
        on_event: Listener,
        shadows: Shadows | None = None,
        guard: Guard | None = None,
        decisions: Decisions | None = None,
        ids: PredictionIds | None = None,
    ) -> None:
        """Build everything; nothing runs yet.

        The log lies in `folder`, or in memory; `on_event` is told what those who watch have to say. `guard` is started and
        stopped here, and None where it is off; `decisions` are what it has decided, then and before. `ids` names
        predictions: the same that names the answers, since the log tells both apart by nothing else.
        """
        self._guard = guard
        self._sites = {each.site: each for each in served}
        self.intake = Intake()
        self.tallies = Tallies(is_resident=self._is_resident)
        # Whoever watches is made and named here: drift, quality, guard. See the Protocols for who is shown what.
        self.drift = Drift(settings.monitor, on_event=on_event)
        self._quality = Quality(
            on_event=on_event,
            sample=settings.monitor.log_sample,
            is_resident=self._is_resident,
        )
        self.reports = Reports(quality=self._quality, drift=self.drift, decisions=decisions)
        observers: list[Observer] = [self.drift, self._quality]
        mirrors: list[Mirror] = [shadows] if shadows is not None else []
        truth_observers: list[TruthObserver] = [self._quality]
        self._log = PredictionLog(
            folder,
            limit=settings.monitor.log_bytes,
            sample=settings.monitor.log_sample,
            feature_sample=settings.monitor.feature_sample,
            tallies=self.tallies,
        )
        if guard is not None:
            mirrors.append(guard)
            truth_observers.append(guard)
        self._monitor = Monitor(
            self.intake,
            recorders=[self._log],
            observers=observers,
            mirrors=mirrors,
            tallies=self.tallies,
            resident_of=self._resident,
            baseline_of=lambda _site, model: model.baseline,
        )
        self.feedback = FeedbackDesk(
            self._log,
            once_recorded=self._monitor.once_recorded,
            observers=truth_observers,
            tallies=self.tallies,
        )
        ids = ids or PredictionIds()
        self._foreigners = {
            each.site.model: Foreigners(each.site, intake=self.intake, feedback=self.feedback, ids=ids)
            for each in served
        }

    def start(self) -> None:
        """Begin to watch."""
        self._log.start(first=self.feedback.replay)
        self._monitor.start()
        if self._guard is not None:
            self._guard.start()

    def stop(self) -> None:
        """Work off and write what is noted, and end; a disk that hangs is waited for a few seconds."""
        if self._guard is not None:
            self._guard.stop(timeout_s=_STOP_S)
        self._monitor.stop(timeout_s=_STOP_S)
        self._log.stop(timeout_s=_STOP_S)

    def model(self, name: str) -> Foreigners:
        """Where predictions of this model are told that were made elsewhere: `model("x").log_prediction(…)`.

        Raises:
            InvalidNameError, NotFoundError: this sidecar does not serve it.
        """
        found = self._foreigners.get(parse_model(name))
        if found is None:
            raise NotFoundError(
                f"model {name!r} is not served here: this sidecar serves {', '.join(self._foreigners)}",
                reason=Reason.MODEL_NOT_FOUND,
            )
        return found

    def on_event(self, event: Event) -> None:
        """A listener."""
        self._monitor.on_event(event)
        self.tallies.on_event(event)
        self.drift.on_event(event)
        self._quality.on_event(event)

    def _is_resident(self, site: Site, version: Version) -> bool:
        return self._resident(site, version) is not None

    def _resident(self, site: Site, version: Version) -> Model | None:
        served = self._sites.get(site)
        if served is None:
            return None
        residents = served.stage.residents()
        for model in (residents.live, residents.standby):
            if model is not None and model.version == version:
                return model
        return None
