"""A whole sidecar: the rooms put together, started in order, stopped in reverse."""

from __future__ import annotations

import logging
import os
import resource
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from model_sidecar.app.contact import Contact
from model_sidecar.app.crashes import last_words_kept
from model_sidecar.app.heap import Heap
from model_sidecar.app.ledgers import open_ledger
from model_sidecar.app.monitoring import Monitoring
from model_sidecar.app.preparing import ShadowOf, preparer
from model_sidecar.app.state_dir import StateDirectory
from model_sidecar.config import Address, GuardMode, ServeSettings, StandbyPolicy, SwapMode
from model_sidecar.errors import ConfigurationError, SidecarError, StoreError
from model_sidecar.events import Draining, Event, Listener, Site
from model_sidecar.model.graph import named_in
from model_sidecar.model.session import RUNTIME, check_runtime
from model_sidecar.model.trial import Trials
from model_sidecar.monitor.guard.decisions import Decisions
from model_sidecar.monitor.guard.guarding import Guard
from model_sidecar.monitor.guard.shadow import Shadows
from model_sidecar.monitor.prediction_ids import PredictionIds
from model_sidecar.monitor.quality.truths import same
from model_sidecar.monitor.reports import Reports
from model_sidecar.release.names import ModelName, Version
from model_sidecar.release.tensors import Signature
from model_sidecar.rpc.deployment import DeploymentService
from model_sidecar.rpc.feedback import AioFeedback, ThreadFeedback
from model_sidecar.rpc.health import HealthBoard
from model_sidecar.rpc.inference import InferenceService
from model_sidecar.rpc.monitoring import MonitoringCalls
from model_sidecar.rpc.servers import ControlServer, DataServer
from model_sidecar.serving.emergency import Emergency
from model_sidecar.serving.flip import Flip
from model_sidecar.serving.janitor import Janitor
from model_sidecar.serving.keeper import Keeper
from model_sidecar.serving.loading import Loader, ShadowWish
from model_sidecar.serving.manager import Manager
from model_sidecar.serving.orders import ShadowReport
from model_sidecar.serving.patience import Patience
from model_sidecar.serving.quarantine import Quarantine
from model_sidecar.serving.scribe import Scribe
from model_sidecar.serving.site import ServedSite
from model_sidecar.serving.source import Source
from model_sidecar.serving.stage import Model, Stage
from model_sidecar.serving.status import Status, StatusBoard
from model_sidecar.serving.watch import Watch
from model_sidecar.software import SOFTWARE_VERSION
from model_sidecar.store.kept import KeptVersions
from model_sidecar.store.versions import VersionStore
from model_sidecar.telemetry.event_log import EventLog
from model_sidecar.telemetry.http import HttpServer
from model_sidecar.telemetry.metrics import Metrics
from model_sidecar.telemetry.pages import Pages
from model_sidecar.telemetry.readiness import Readiness
from model_sidecar.telemetry.statusz import StatusPage

log = logging.getLogger(__name__)

_SWITCH_INTERVAL_S = 0.0001
"""How long a Python thread keeps the interpreter from the data plane's: with the default of 5 ms, one busy thread makes
the median answer 13 times as slow; with this, once and a half (measured; docs/adr/0003). Where several want it, one waits for all
before it."""
_THREAD_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class _RunningSite:
    """A served model with the threads behind it."""

    served: ServedSite
    manager: Manager
    source: Source
    watch: Watch | None

    def start(self) -> None:
        """Begin to follow the pointer."""
        self.manager.start(look_again=self.source.wake)
        self.source.start()

    def stop(self) -> None:
        """Follow the pointer no more; what is live stays on the stage."""
        if self.watch is not None:
            self.watch.stop()
        self.source.stop(timeout_s=_THREAD_STOP_S)
        self.manager.stop(timeout_s=_THREAD_STOP_S)
        self.served.board.close()


class Sidecar:
    """One process's sidecar. `start` and `stop` are the main thread's, each once."""

    def __init__(self, settings: ServeSettings) -> None:
        """Build everything; nothing listens and nothing is read yet.

        Raises:
            ConfigurationError: this machine or installation cannot do what the settings say.
        """
        check_runtime()
        _allow_descriptors()
        self._settings = settings
        self._ending = ExitStack()
        self._state = StateDirectory(settings.state_dir) if settings.state_dir is not None else None
        _check_store(settings.store, settings.models, may_be_away=self._state is not None)
        self._sidecar_id = settings.sidecar_id or f"{socket.gethostname()}-{os.getpid()}"
        self._metrics = Metrics(software=SOFTWARE_VERSION, slow_s=settings.guard.slo_latency_s)
        self._health = HealthBoard(settings.models)
        self._heap = Heap()
        self._listeners: list[Listener] = [self._metrics.on_event, EventLog().on_event, self._health.on_event]
        self._listeners.append(self._heap.on_event)
        self._janitor = Janitor(on_event=self._tell)
        self._store = VersionStore(settings.store, allow_external_data=settings.allow_external_data)
        self._copies = KeptVersions(self._store, self._state.kept) if self._state is not None else None
        self._keeper = self._build_keeper()
        self._quarantine = Quarantine(
            self._state.trials if self._state is not None else None, runtime=RUNTIME
        )
        self._shadows = Shadows() if settings.monitor.enabled else None
        self._sites = [self._build_site(model) for model in settings.models]
        served = [site.served for site in self._sites]
        self._decisions = Decisions(settings.guard.mode, path_of=self._decisions_path)
        for each in served:
            self._decisions.recall(each.site)
        ids = PredictionIds()
        self._monitoring = self._build_monitoring(served, ids) if settings.monitor.enabled else None
        reports = (
            self._monitoring.reports if self._monitoring is not None else Reports(decisions=self._decisions)
        )
        if self._monitoring is not None:
            self._listeners.append(self._monitoring.on_event)
            self._metrics.watch_monitor([each.site for each in served], self._monitoring.tallies.current)
            self._metrics.watch_versions(served, reports, stream_counters=settings.monitor.stream_counters)
        self._data = DataServer(
            InferenceService(
                served,
                lanes=settings.lanes,
                max_inflight=settings.max_inflight,
                max_queue_wait_s=settings.max_queue_wait_s,
                max_run_s=settings.max_run_s,
                max_message_bytes=settings.max_message_bytes,
                meters=self._metrics.meters,
                software=SOFTWARE_VERSION,
                notes=self._monitoring.intake if self._monitoring is not None else None,
                ids=ids,
                shared_memory=settings.shared_memory,
            ),
            self._health,
            addresses=settings.data,
            max_message_bytes=settings.max_message_bytes,
            max_inflight=settings.max_inflight,
            backlog=settings.backlog,
            socket_mode=settings.socket_mode,
            meters=self._metrics.meters,
            feedback=AioFeedback(self._monitoring) if self._monitoring is not None else None,
        )
        self._control = ControlServer(
            DeploymentService(served),
            self._health,
            monitoring=MonitoringCalls(served, reports),
            addresses=settings.control,
            max_message_bytes=settings.max_message_bytes,
            socket_mode=settings.socket_mode,
            meters=self._metrics.meters,
            feedback=ThreadFeedback(self._monitoring) if self._monitoring is not None else None,
        )
        self._http = self._build_http(served, settings.http) if settings.http is not None else None

    def start(self) -> None:
        """Listen, then begin to follow the pointers; whoever asks before a version is live is told so.

        Raises:
            ConfigurationError: an address is taken or cannot be used; `stop` takes down what had begun.
        """
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self._heap.settle()
        if self._state is not None:
            self._ending.callback(self._state.release)
        crash = self._ending.enter_context(
            last_words_kept(self._state.crash if self._state is not None else None)
        )
        for died in self._quarantine.count_deaths(named_in(crash)):
            log.error("the process before this one died in %s %s", died.model, died.version)
        self._ending.callback(self._quarantine.close)
        self._ending.callback(self._janitor.stop)
        for site in self._sites:
            self._ending.callback(site.served.stage.clear)
        if self._http is not None:
            self._ending.callback(self._http.stop)
        if self._monitoring is not None:
            self._monitoring.start()
            self._ending.callback(self._monitoring.stop)
        data = self._data.start()
        self._ending.callback(self._data.stop)
        control = self._control.start()
        self._ending.callback(self._control.stop)
        if self._http is not None:
            self._http.start()
        log.info(
            "listening: data on %s; control on %s; http on %s",
            ", ".join(map(str, data)),
            ", ".join(map(str, control)) or "nothing",
            self._http.address if self._http is not None else "nothing",
        )
        for site in self._sites:
            site.start()
            self._ending.callback(site.stop)
        if self._keeper is not None:
            self._keeper.start()
            self._ending.callback(self._keeper.stop, timeout_s=_THREAD_STOP_S)

    def drain(self, *, grace_s: float) -> None:
        """Say that nothing new is taken, and wait until what is in flight is answered, at most `grace_s`."""
        for site in self._sites:
            self._tell(Draining(site.served.site))
        self._data.drain(grace_s)

    def stop(self) -> None:
        """End what was started, in the reverse order."""
        self._ending.close()

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def _build_site(self, model: ModelName) -> _RunningSite:
        settings, site = self._settings, Site(model, self._settings.environment)
        keep_standby = settings.standby is StandbyPolicy.RESIDENT
        state = self._state
        ledger = open_ledger(
            self._store.layout,
            model,
            settings.environment,
            sidecar_id=self._sidecar_id,
            memory=state.memory(model, settings.environment) if state is not None else None,
        )
        ledger.recall()
        scribe = Scribe(ledger, Patience(f"ledger-{model}"))
        stage = Stage(keep_standby=keep_standby, on_idle=partial(self._release, site))
        board = StatusBoard(Status(site=site, sidecar=self._sidecar_id))
        flip = Flip(
            site,
            stage=stage,
            scribe=scribe,
            signature_of=partial(self._signature_of, model),
            janitor=self._janitor,
            on_event=self._tell,
        )
        if self._keeper is not None:
            self._keeper.watch(site, stage)
        trials = Trials(
            allow_external_data=settings.allow_external_data,
            scratch=settings.state_dir,
            max_batch_rows=settings.max_batch_rows,
        )
        prepare = preparer(
            self._copies or self._store,
            model,
            allow_external_data=settings.allow_external_data,
            scratch=settings.state_dir,
            contact=Contact(
                trials=trials,
                quarantine=self._quarantine,
                timeout_s=settings.load_timeout_s,
                memory_bytes=settings.load_memory_bytes,
            ),
            shadow_of=_shadow_of(self._shadows, site, stage) if self._shadows is not None else None,
        )
        manager = Manager(
            site,
            flip=flip,
            scribe=scribe,
            emergency=Emergency(state.pending(model, settings.environment) if state is not None else None),
            loader=Loader(prepare, name=f"load-{model}", give_up=trials.stop),
            board=board,
            keep_standby=keep_standby,
            may_give_way=settings.swap_mode is SwapMode.UNLOAD_FIRST,
            on_event=self._tell,
        )
        watch: Watch | None = None
        source = Source(
            site,
            ledger=ledger,
            fingerprint=partial(self._store.fingerprint, model),
            deliver=manager.sighted,
            before_look=lambda: watch.renew() if watch is not None else None,
            on_event=self._tell,
            poll_interval_s=settings.poll_interval_s,
        )
        if settings.file_events:
            watch = Watch(self._store.layout.pointer(model, settings.environment), wake=source.wake)
        served = ServedSite(site, stage, board, manager, ledger, self._store)
        self._metrics.watch(served)
        return _RunningSite(served, manager, source, watch)

    def _build_monitoring(self, served: list[ServedSite], ids: PredictionIds) -> Monitoring:
        guard: Guard | None = None
        if self._settings.guard.mode is not GuardMode.OFF:
            guard = Guard(
                served,
                self._settings.guard,
                counters=self._metrics.meters,
                same=same,
                decisions=self._decisions,
                on_event=self._tell,
            )
        return Monitoring(
            self._settings,
            served,
            folder=self._state.log if self._state is not None else None,
            on_event=self._tell,
            shadows=self._shadows,
            guard=guard,
            decisions=self._decisions,
            ids=ids,
        )

    def _decisions_path(self, site: Site) -> Path | None:
        return self._state.decisions(site.model, site.environment) if self._state is not None else None

    def _build_keeper(self) -> Keeper | None:
        if self._copies is None:
            return None
        keeper = Keeper(self._copies, keep_standby=self._settings.standby is StandbyPolicy.RESIDENT)
        self._listeners.append(keeper.on_event)
        return keeper

    def _signature_of(self, model: ModelName, version: Version) -> Signature | None:
        try:
            return self._store.manifest(model, version).signature
        except SidecarError:
            return None

    def _release(self, site: Site, model: Model) -> None:
        self._janitor.release(model, site=site)

    def _build_http(self, served: list[ServedSite], address: Address) -> HttpServer:
        readiness = Readiness(served)
        self._listeners.append(readiness.on_event)
        page = StatusPage(
            served,
            meters=self._metrics.meters,
            readiness=readiness,
            software=SOFTWARE_VERSION,
            control=str(self._settings.control[0]) if self._settings.control else "",
            reports=self._monitoring.reports if self._monitoring is not None else None,
        )
        pages = Pages(served, registry=self._metrics.registry, readiness=readiness, status_page=page)
        return HttpServer(address, pages)


def _shadow_of(shadows: Shadows, site: Site, stage: Stage) -> ShadowOf:
    def shadow_of(candidate: Model, wish: ShadowWish) -> ShadowReport:
        return shadows.run(site, stage, candidate, wish.plan, is_over=wish.is_over)

    return shadow_of


def _allow_descriptors() -> None:
    # The soft limit is low for the sake of programs that use select(2), which nothing here does.
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _check_store(store: Path, models: Sequence[ModelName], *, may_be_away: bool) -> None:
    """Refuse a store that is not there, unless this sidecar may know what to serve without it; miss its models aloud."""
    patience = Patience("first-look")
    missing: list[ModelName] = []
    try:
        found = patience.call(store.is_dir)
        problem = "is not a directory: make it, or mount it"
        missing = patience.call(lambda: [model for model in models if not (store / model).is_dir()])
    except (StoreError, OSError) as error:
        found, problem = False, f"cannot be looked at: {error}"
    finally:
        patience.close()
    if not found and not may_be_away:
        raise ConfigurationError(f"--store {store} {problem}")
    if not found:
        log.warning("--store %s %s. Serving what --state-dir remembers of it", store, problem)
        return
    for model in missing:
        log.warning(
            "--store %s has no directory %s: is the store mounted, and --model right? Publish a version, if it is new",
            store,
            model,
        )
