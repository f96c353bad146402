"""Keeps copies of what is on the stage, so that a restart finds it while the store is away."""

from __future__ import annotations

import logging
import os
import threading
from typing import Protocol

from model_sidecar.errors import SidecarError
from model_sidecar.events import Event, Published, Site, StandbyReady
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import ModelName, Version
from model_sidecar.serving.stage import Stage

log = logging.getLogger(__name__)

_RETRY_S = 10.0
_NICE = 10


class Copies(Protocol):
    """Where copies are kept; all of it may block."""

    def has(self, model: ModelName, version: Version, manifest: Digest) -> bool: ...
    def keep(self, model: ModelName, version: Version, manifest: Digest) -> None: ...
    def forget_all_but(self, model: ModelName, versions: set[Version]) -> None: ...


class Keeper:
    """A thread that copies, for all sites of a sidecar. It works behind the traffic's back, and tries again what failed."""

    def __init__(self, copies: Copies, *, keep_standby: bool) -> None:
        """`keep_standby`: whether a version stands by beside each live one."""
        self._copies = copies
        self._keep_standby = keep_standby
        self._stages: dict[Site, Stage] = {}
        self._woken = threading.Event()
        self._stopping = False
        self._told: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def watch(self, site: Site, stage: Stage) -> None:
        """Keep what is on this stage; before `start`."""
        self._stages[site] = stage

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def on_event(self, event: Event) -> None:
        """A listener: look again when another version is live or stands by."""
        if isinstance(event, Published | StandbyReady):
            self._woken.set()

    def stop(self, *, timeout_s: float) -> None:
        """Copy nothing more. A copy that is under way is left to end, or to end with the process."""
        self._stopping = True
        self._woken.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while True:
            complete = True
            for site, stage in self._stages.items():
                complete &= self._kept(site, stage)
            self._woken.wait(None if complete else _RETRY_S)
            if self._stopping:
                return
            self._woken.clear()

    def _kept(self, site: Site, stage: Stage) -> bool:
        try:
            return self._keep(site, stage)
        except Exception:
            log.exception("copying for %s failed unexpectedly", site)
            return False

    def _keep(self, site: Site, stage: Stage) -> bool:
        residents = stage.residents()
        wanted = [model for model in (residents.live, residents.standby) if model is not None]
        complete = True
        for model in wanted:
            try:
                if not self._copies.has(site.model, model.version, model.manifest.digest):
                    self._copies.keep(site.model, model.version, model.manifest.digest)
            except (SidecarError, OSError) as error:
                complete = False
                self._complain(model.version, error)
        # Not before the new ones are safe; nor while the standby, after a start, has still to be loaded from its copy.
        if complete and len(wanted) == 1 + self._keep_standby:
            self._copies.forget_all_but(site.model, {model.version for model in wanted})
        return complete

    def _complain(self, version: Version, error: Exception) -> None:
        if str(error) in self._told:
            return
        self._told = {str(error)}
        log.warning("no copy of %s is kept, so a restart needs the store: %s", version, error)
