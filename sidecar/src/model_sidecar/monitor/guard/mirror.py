"""Live requests, run once more on another version: a sample of them, off their path, within a share of one core.

What runs here answers nobody. A run that raises, hangs or is refused is a finding, and touches nothing else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_sidecar.errors import DeadlineOverError, SidecarError
from model_sidecar.model.brake import Brake
from model_sidecar.monitor.guard.comparison import Ran
from model_sidecar.monitor.intake import Note
from model_sidecar.monitor.readings import Requests, Watched
from model_sidecar.monitor.sampling import sampled
from model_sidecar.serving.stage import Model

log = logging.getLogger(__name__)

QUEUE_NOTES = 512
QUEUE_BYTES = 16 << 20
DUTY = 0.2
"""The share of one core that mirrored runs may take, waiting included."""
RUN_LIMIT_S = 5.0
_LONGEST_PAUSE_S = 30.0
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A noted request that is to run once more; `sampled` is False where it was chosen for what it was answered."""

    watched: Watched
    note: Note
    sampled: bool


class MirrorQueue:
    """Requests that wait to be run, the newest of them: bounded in number and bytes. Any thread may call."""

    def __init__(self, *, notes: int = QUEUE_NOTES, bytes_: int = QUEUE_BYTES) -> None:
        self._notes = notes
        self._limit = bytes_
        self._ready = threading.Condition()  # guards everything below
        self._waiting: deque[tuple[Mirrored, int]] = deque()
        self._bytes = 0
        self._closed = False

    def offer(self, mirrored: Sequence[Mirrored]) -> None:
        """Let these run; where there is no room, the oldest do not. Does not wait."""
        with self._ready:
            if self._closed:
                return
            for each in mirrored:
                size = _size_of(each.note)
                if size <= self._limit:
                    self._waiting.append((each, size))
                    self._bytes += size
            while len(self._waiting) > self._notes or self._bytes > self._limit:
                self._bytes -= self._waiting.popleft()[1]
            self._ready.notify_all()

    def take(self, *, timeout_s: float) -> Mirrored | None:
        """The oldest, waiting for it; None when the time is over or the queue is closed."""
        with self._ready:
            self._ready.wait_for(lambda: self._waiting or self._closed, timeout=max(0.0, timeout_s))
            if not self._waiting:
                return None
            mirrored, size = self._waiting.popleft()
            self._bytes -= size
            return mirrored

    def pause(self, seconds: float) -> None:
        """Wait so long, or until the queue is closed."""
        with self._ready:
            self._ready.wait_for(lambda: self._closed, timeout=min(seconds, _LONGEST_PAUSE_S))

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._closed

    def close(self) -> None:
        """Take nothing more, forget what waits, and wake whoever does."""
        with self._ready:
            self._closed = True
            self._waiting.clear()
            self._bytes = 0
            self._ready.notify_all()


class Runner:
    """Runs noted requests on a model, each for `limit_s` at most. `run` is one thread's; `stop` is anybody's, and is owed.

    One thread watches all runs: a timer for each would cost several times what a small model does.
    """

    def __init__(self, *, limit_s: float = RUN_LIMIT_S) -> None:
        self._limit_s = limit_s
        self._ends = 0.0
        self._brake: Brake | None = None
        self._stopped = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, name="mirror-limit", daemon=True)

    def run(self, model: Model, note: Note) -> Ran:
        """What the model makes of this request; the model is the caller's to hold.

        It is asked for those of the outputs noted that it has: the version that answered may have more.
        """
        if self._watchdog.ident is None:
            self._watchdog.start()
        brake = Brake()
        self._ends = time.monotonic() + self._limit_s  # before the brake: whoever sees that finds its own end
        self._brake = brake
        if self._stopped.is_set():
            brake.pull()
        has = {spec.name for spec in model.signature.outputs}
        wanted = tuple(name for name in note.outputs if name in has) or None
        began = time.perf_counter()
        try:
            outputs = model.run(note.inputs, wanted, brake=brake)
        except DeadlineOverError:
            return Ran(None, time.perf_counter() - began, f"it had not answered after {self._limit_s:g} s")
        except SidecarError as error:
            return Ran(None, time.perf_counter() - began, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the model's
            return Ran(None, time.perf_counter() - began, f"{type(error).__name__}: {error}")
        else:
            return Ran(outputs, time.perf_counter() - began)
        finally:
            self._brake = None

    def stop(self) -> None:
        """End the run that is under way, and every one that comes."""
        self._stopped.set()
        brake = self._brake
        if brake is not None:
            brake.pull()
        if self._watchdog.ident is not None:
            self._watchdog.join()

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOK_S):
            brake = self._brake
            if brake is not None and time.monotonic() >= self._ends:
                brake.pull()


def rest_s(worked_s: float, *, duty: float = DUTY) -> float:
    """How long to rest after so long a run."""
    return worked_s * (1 / duty - 1)


def chosen(
    watched: Watched, notes: Sequence[Note], requests: Requests, *, share: float, besides: int = 0
) -> list[Mirrored]:
    """Which of these notes are mirrored: a sample, those whose answer is not finite, and so many `besides`."""
    ids = requests.ids
    in_sample = sampled(ids, share)
    wanted = in_sample | requests.nonfinite
    if besides:
        others = np.flatnonzero(~wanted)[:besides]
        wanted[others] = True
    if not wanted.any():
        return []
    by_id = {int(note.prediction_id[:16], 16): note for note in notes}
    return [
        Mirrored(watched, by_id[key], sampled=was_sampled)
        for key, was_sampled in zip(ids[wanted].tolist(), in_sample[wanted].tolist(), strict=True)
        if key in by_id
    ]


def _size_of(note: Note) -> int:
    return sum(array.nbytes for arrays in (note.inputs, note.outputs) for array in arrays.values()) + 1024
