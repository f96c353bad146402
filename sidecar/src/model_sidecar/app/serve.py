"""The life of a `serve` process: start, wait for a signal, drain, stop."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType

from model_sidecar.app.sidecar import Sidecar
from model_sidecar.config import ServeSettings
from model_sidecar.telemetry.logs import LogFormat, start_logs

log = logging.getLogger(__name__)


def run(settings: ServeSettings, *, log_format: str, log_level: str) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return; a second signal ends the drain.

    Raises:
        ConfigurationError: the settings cannot be fulfilled here.
    """
    told, told_again = threading.Event(), threading.Event()

    def on_signal(number: int, _: FrameType | None) -> None:
        log.info("%s received", signal.Signals(number).name)
        (told_again if told.is_set() else told).set()

    logs = start_logs(level=logging.getLevelNamesMapping()[log_level.upper()], format=LogFormat(log_format))
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        sidecar = Sidecar(settings)
        try:
            sidecar.start()
            told.wait()
            _drain(sidecar, settings.drain_timeout_s, told_again)
        finally:
            sidecar.stop()
    finally:
        logs.stop()


def _drain(sidecar: Sidecar, grace_s: float, cut_short: threading.Event) -> None:
    """Drain on a thread of its own, so that a second signal can end the wait."""
    drained = threading.Event()

    def drain() -> None:
        try:
            sidecar.drain(grace_s=grace_s)
        finally:
            drained.set()
            cut_short.set()

    threading.Thread(target=drain, name="drain", daemon=True).start()
    cut_short.wait()
    if not drained.is_set():
        log.warning("told again to stop: requests in flight are given up")
