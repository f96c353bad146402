"""Gives back the memory of models that have left the stage, late and off the hot path.

Dropping a large session holds the interpreter for its whole length, so it is never done by a request, nor by the thread
that has just flipped.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from model_sidecar.events import Listener, Released, Site
from model_sidecar.serving.stage import Model

log = logging.getLogger(__name__)

_LATER_S = 0.05
"""By then the version that has taken the place answers, and everybody was told of it."""


class Janitor:
    """One thread for all sites. `release` may be called from anywhere and only hands the model on."""

    def __init__(self, *, on_event: Listener) -> None:
        self._on_event = on_event
        self._stopping = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="janitor")

    def release(self, model: Model, *, site: Site) -> None:
        """Close the model soon."""
        self._thread.submit(self._close, model, site)

    def stop(self) -> None:
        """Close what was handed over, without another wait, then end."""
        self._stopping.set()
        self._thread.shutdown(wait=True)

    def _close(self, model: Model, site: Site) -> None:
        self._stopping.wait(_LATER_S)
        try:
            model.close()
        except Exception:
            log.exception("releasing %s failed", model.version)
        self._on_event(Released(site, model.version, model.manifest.digest))
