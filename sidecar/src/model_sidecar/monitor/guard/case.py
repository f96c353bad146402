"""What is seen of one live version from its flip on, as the guard judges it: rows, counters, and pairs with the version before."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_sidecar.config import GuardSettings
from model_sidecar.monitor.detectors.mean_detector import MeanDetector
from model_sidecar.monitor.guard.comparison import ARL, Comparison, Ran, Same, tolerance
from model_sidecar.monitor.guard.guard import BURN, SLOW_SHARE, Facts, Rate
from model_sidecar.monitor.guard.spread import Spread
from model_sidecar.monitor.intake import Note
from model_sidecar.monitor.reading import Sheet, read
from model_sidecar.monitor.readings import Joined, Readings, Requests
from model_sidecar.release.digests import Digest
from model_sidecar.release.tensors import Arrays

_ENOUGH_WITNESSES = 64
_LEARNED_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Ended:
    """How many of a version's predictions have ended since it became resident.

    Attributes:
        failed: inside the model, or were stopped there after a second or more; what the caller or the sidecar's load is to
            blame for is none of them.
        slow: how often the model took longer than --slo-latency.
    """

    ended: int = 0
    failed: int = 0
    slow: int = 0


class Case:
    """One version's. Any thread may call."""

    def __init__(
        self, sheet: Sheet, settings: GuardSettings, *, before: Ended, previous: Ended | None
    ) -> None:
        """Begin at the flip.

        Args:
            sheet: how the version's answers are read.
            settings: the limits.
            before: what the counters say already, of an earlier time that it was live.
            previous: what they say of the version before; None where it was not live here.
        """
        self.sheet = sheet
        self._settings = settings
        self._lock = threading.Lock()  # guards everything below
        self._last = before
        self._first = before
        failing, slow = BURN * settings.slo_errors, BURN * SLOW_SHARE
        self._nonfinite = MeanDetector(failing, arl=ARL)
        self._failed = MeanDetector(failing, arl=ARL)
        self._slow = MeanDetector(slow, arl=ARL)
        ended = max(1, previous.ended) if previous is not None else 1
        self._previous_failed = previous is not None and previous.failed / ended > failing
        self._previous_slow = previous is not None and previous.slow / ended > slow
        self._run = _Alike()
        self._witnesses = 0
        self._said: set[int] = set()
        self._target_said: set[int] = set()
        self._target_apart = 0
        self._target_last: NDArray[np.float64] | None = None
        self._failed_asked = self._failed_in_both = 0
        self._failing_since: float | None = None  # monotonic
        self._target: Digest | None = None
        self._comparison = self._begin()

    def observe(self, readings: Readings, requests: Requests) -> None:
        """Rows that it has answered, and the requests that they came with."""
        with self._lock:
            self._nonfinite.update(int(requests.nonfinite.sum()), len(requests.ids))
            if self._run.go_on(readings):
                self._forget_witnesses()

    def count(self, ended: Ended) -> None:
        """What the counters say now."""
        with self._lock:
            news = ended.ended - self._last.ended
            self._failed.update(ended.failed - self._last.failed, news)
            self._slow.update(ended.slow - self._last.slow, news)
            self._last = ended
            if self._failing_since is None and ended.failed > self._first.failed:
                self._failing_since = time.monotonic()

    def pair(self, target: Digest, note: Note, ran: Ran, *, sampled: bool) -> None:
        """One of its answers (without outputs: a failure), and what the version that stands by makes of the same request."""
        with self._lock:
            if target != self._target:
                self._target = target
                self._comparison = self._begin()
                self._forget_witnesses()
                self._failed_asked = self._failed_in_both = 0
            if not note.outputs:
                self._failed_asked += 1
                self._failed_in_both += ran.outputs is None
                return
            self._comparison.add(note, ran, sampled=sampled)
            self._bear_witness(note, ran)

    def joined(self, rows: Sequence[Joined], *, same: Same) -> None:
        """What was true of its predictions."""
        with self._lock:
            self._comparison.joined(rows, same=same)

    @property
    def wants_witnesses(self) -> bool:
        """Whether it looks as if it always answered the same, so that the version before should be asked more often."""
        return 2 * self._run.rows >= self._settings.min_predictions

    @property
    def wants_failures(self) -> bool:
        """Whether the version before should be asked what this one has failed on."""
        return self._failed_asked < _ENOUGH_WITNESSES or self._failed_asked < self._last.failed // 2

    def facts(self, target: Digest | None) -> Facts:
        """What is known, beside the version of this identity."""
        with self._lock:
            asked = target is not None and target == self._target
            return Facts(
                predictions=self._last.ended - self._first.ended,
                nonfinite=_rate(self._nonfinite),
                failed=_rate(self._failed),
                slow=_rate(self._slow),
                alike=self._run.rows if len(self._said) <= 1 else 0,
                alike_witnesses=self._witnesses if asked else 0,
                alike_in_both=asked and 2 * min(len(self._target_said), self._target_apart) < self._witnesses,
                failed_asked=self._failed_asked if asked else 0,
                failed_in_both=self._failed_in_both if asked else 0,
                failing_s=0.0 if self._failing_since is None else time.monotonic() - self._failing_since,
                previous_failed=self._previous_failed,
                previous_slow=self._previous_slow,
                compared=self._comparison.compared() if asked else Facts().compared,
            )

    def _begin(self) -> Comparison:
        return Comparison(
            self.sheet,
            max_disagreement=self._settings.max_disagreement,
            max_confidence_loss=self._settings.max_confidence_loss,
            slow_s=float("inf") if self._settings.slo_latency_s is None else self._settings.slo_latency_s,
        )

    def _bear_witness(self, note: Note, ran: Ran) -> None:
        """Whether answers that look alike are so to the last bit, and whether the version before tells these requests apart."""
        if not self._run.rows or ran.outputs is None or self._witnesses >= _ENOUGH_WITNESSES:
            return
        self._said.add(_numbers(note.outputs))
        self._target_said.add(_numbers(ran.outputs))
        self._witnesses += 1
        values = _columns(read(self.sheet, [note._replace(outputs=ran.outputs)]))
        if values is not None and len(values):
            self._target_apart += self._run.apart(values, self._target_last)
            self._target_last = values[-1:]

    def _forget_witnesses(self) -> None:
        self._witnesses, self._said, self._target_said = 0, set(), set()
        self._target_apart, self._target_last = 0, None


class _Alike:
    """How many rows in a row were answered with the very same numbers, the last one among them.

    Only numbers count, not classes: a class that is rare may not come for long. Where there are none, nothing is alike.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._last: NDArray[np.float64] | None = None
        self._spreads: tuple[Spread, ...] = ()

    def go_on(self, readings: Readings) -> bool:
        """Take in more rows; whether there is a difference among them, or between them and the last one."""
        values = _columns(readings)
        if values is None:
            self.rows = 0
            return True
        if self._last is None or self._last.shape[1] != values.shape[1]:
            self._last = values[:1] + np.nan
            self._spreads = tuple(Spread() for _ in range(values.shape[1]))
        changes = np.flatnonzero((values != np.concatenate([self._last, values[:-1]])).any(axis=1))
        self.rows = self.rows + len(values) if not len(changes) else len(values) - int(changes[-1])
        self._last = values[-1:]
        for spread, column in zip(self._spreads, values[changes[-_LEARNED_AT_ONCE:]].T, strict=True):
            spread.add(column)
        return bool(len(changes))

    def apart(self, values: NDArray[np.float64], last: NDArray[np.float64] | None) -> bool:
        """Whether one of these rows, another version's, is further from the one before than what counts as the same here.

        That goes by the spread of what was answered before: a run of the same counts as one value, however long it is.
        """
        if last is not None and last.shape[1] == values.shape[1]:
            values = np.concatenate([last, values])
        spreads = np.zeros(values.shape[1])
        if len(spreads) == len(self._spreads):
            spreads[:] = [spread.value if spread.known else 0.0 for spread in self._spreads]
        return bool((np.abs(np.diff(values, axis=0)) > tolerance(values[1:], spreads)).any())


def _columns(readings: Readings) -> NDArray[np.float64] | None:
    """(n, k) the numbers of these rows; None where there are only classes."""
    if readings.score is None and readings.confidence is None:
        return None
    columns = (readings.score, readings.confidence, readings.prediction)
    return np.stack([column for column in columns if column is not None and column.dtype.kind == "f"], axis=1)


def _numbers(outputs: Arrays) -> int:
    """A hash of the numbers in these outputs; rows that are the same count once."""
    return hash(
        tuple(
            np.unique(array.reshape(len(array), -1), axis=0).tobytes() if array.ndim else array.tobytes()
            for _name, array in sorted(outputs.items(), key=lambda each: each[0])
            if array.dtype.kind == "f"
        )
    )


def _rate(detector: MeanDetector) -> Rate:
    return Rate(
        count=round(detector.mean * detector.count),
        of=detector.count,
        evidence_log10=detector.evidence_log10,
        convinced=detector.convinced,
    )
