"""Ends runs that take longer than anybody waits: one thread, however many requests there are.

Nothing is sorted and nobody is told of a new run: as many are under way at once as there are lanes, and one on the
loop, so the thread looks at all of them every few milliseconds while there are any, and sleeps when there are none.
"""

from __future__ import annotations

import threading
import time

from model_sidecar.model.brake import Brake

_LOOK_S = 0.01
_IDLE_LOOKS = 100


class Run:
    """A run under way.

    Attributes:
        brake: what ends it.
        ends: when it is to be ended, by `time.monotonic`.
    """

    __slots__ = ("brake", "ends")

    def __init__(self, brake: Brake, ends: float) -> None:
        self.brake = brake
        self.ends = ends


class Timekeeper:
    """Watches runs, and pulls the brakes of those that are over time. Any thread may begin and end one."""

    def __init__(self) -> None:
        self._runs: set[Run] = set()
        self._roused = threading.Event()
        self._asleep = False
        self._stopped = False
        self._thread = threading.Thread(target=self._watch, name="timekeeper", daemon=True)
        self._thread.start()

    def begin(self, brake: Brake, ends: float) -> Run:
        """Watch a run; what is given back goes to `end`. A fraction of a microsecond, as is `end`."""
        run = Run(brake, ends)
        self._runs.add(run)
        if self._asleep:
            self._roused.set()
        return run

    def end(self, run: Run) -> None:
        """Watch it no more."""
        self._runs.discard(run)

    def stop(self) -> None:
        """End the thread, and with it every limit."""
        self._stopped = True
        self._roused.set()
        self._thread.join()

    def _watch(self) -> None:
        idle = 0
        while not self._stopped:
            # A copy, made in one step of the interpreter; a run that ends meanwhile does not hear its brake.
            runs = list(self._runs)
            now = time.monotonic()
            for run in runs:
                if now >= run.ends:
                    self._runs.discard(run)
                    run.brake.pull()
            idle = 0 if runs else idle + 1
            if idle < _IDLE_LOOKS:
                if self._roused.wait(_LOOK_S):
                    self._roused.clear()
                continue
            self._asleep = True
            if (
                not self._runs and not self._stopped
            ):  # whoever begins before this line is seen, after it rouses
                self._roused.wait()
            self._asleep = False
            idle = 0
