"""The life of a `serve` process: start, wait for a signal, drain, stop."""

from __future__ import annotations

import logging
import signal
import threading

from model_sidecar.app.endings import ENDINGS
from model_sidecar.app.sidecar import Sidecar
from model_sidecar.config import ServeSettings
from model_sidecar.telemetry.logs import LogFormat, start_logs

log = logging.getLogger(__name__)

_LOOK_S = 0.05


def run(settings: ServeSettings, *, log_format: str, log_level: str) -> None:
    """Serve until one of ENDINGS comes, then drain and return; a second one ends the drain.

    The caller has blocked them (`endings.block`) before it imported this.

    Threads that hang in a model or in the store may be left behind: whoever called this had better end the process
    without waiting for them.

    Raises:
        ConfigurationError: the settings cannot be fulfilled here.
    """
    logs = start_logs(level=logging.getLevelNamesMapping()[log_level.upper()], format=LogFormat(log_format))
    try:
        sidecar = Sidecar(settings)
        try:
            sidecar.start()
            number = signal.sigwait(ENDINGS)
            log.info("%s received: draining", signal.Signals(number).name)
            _drain(sidecar, settings.drain_timeout_s)
        finally:
            sidecar.stop()
    finally:
        logs.stop()


def _drain(sidecar: Sidecar, grace_s: float) -> None:
    """Drain on a thread of its own, so that a second signal can end the wait."""
    thread = threading.Thread(target=sidecar.drain, kwargs={"grace_s": grace_s}, name="drain", daemon=True)
    thread.start()
    while thread.is_alive():
        if signal.sigtimedwait(ENDINGS, _LOOK_S) is not None:
            log.warning("told again to stop: requests in flight are given up")
            return
