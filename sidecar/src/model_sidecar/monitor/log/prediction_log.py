"""The prediction log: a thread that keeps what was answered, so that feedback finds it later.

Nobody waits for it but those who give feedback: what it cannot keep up with, it drops in whole blocks and counts, and a
disk that fails, fills or hangs is its trouble alone.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_sidecar.errors import Reason, UnavailableError
from model_sidecar.monitor.log.segment import Columns, Origin, kept
from model_sidecar.monitor.log.segments import Segments
from model_sidecar.monitor.readings import Readings, Watched
from model_sidecar.monitor.sampling import sampled
from model_sidecar.monitor.tallies import Tallies

log = logging.getLogger(__name__)

MEMORY_BYTES = 32 << 20
"""How large the log may become without a directory."""
WAITING_ROWS = 131_072
WAITING_BYTES = 32 << 20
_ROW_BYTES = 64
# After a failure; what comes meanwhile is dropped.
_TRY_AGAIN_S = 5.0
# A transaction costs some hundred microseconds, however few rows it has: what one work of the monitor brings is gathered.
# No longer, whenever the last one was: an answer waits for the monitor's tick before.
_GATHER_S = 0.05

Task = Callable[[Segments], None]


@dataclass(frozen=True, slots=True)
class _Rows:
    """A block of rows on its way; `features` are those of the feature sample, by place."""

    origin: Origin
    ids: NDArray[np.int64]
    rows: NDArray[np.int32]
    prediction: NDArray[Any] | None
    score: NDArray[np.float64] | None
    confidence: NDArray[np.float64] | None
    features: dict[int, bytes]

    @property
    def bytes(self) -> int:
        labels = 0
        if self.prediction is not None and self.prediction.dtype == object:
            labels = sum(map(sys.getsizeof, self.prediction.tolist()))
        return len(self.ids) * _ROW_BYTES + labels + sum(map(len, self.features.values()))

    def columns(self) -> Columns:
        """The rows as a segment takes them."""
        nothing = [None] * len(self.ids)
        return Columns(
            ids=self.ids.tolist(),
            rows=self.rows.tolist(),
            predictions=nothing
            if self.prediction is None
            else [kept(each) for each in self.prediction.tolist()],
            scores=nothing if self.score is None else self.score.tolist(),
            confidences=nothing if self.confidence is None else self.confidence.tolist(),
            features=[self.features.get(place) for place in range(len(self.ids))]
            if self.features
            else nothing,
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """Something that somebody waits for."""

    task: Task
    failed: Callable[[UnavailableError], None]


class PredictionLog:
    """A recorder. `start` and `stop` are the owner's, each once; the rest may be called by any thread."""

    def __init__(
        self,
        folder: Path | None,
        *,
        limit: int,
        sample: float = 1.0,
        feature_sample: float = 0.01,
        tallies: Tallies | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            folder: where its files lie; None: in memory, `MEMORY_BYTES` at most.
            limit: how many bytes they may have, all together.
            sample: the share of answers that are kept.
            feature_sample: the share of those whose features are kept too.
            tallies: where rows are counted, kept and dropped.
        """
        self.sample = sample
        self._feature_share = sample * feature_sample
        self._segments = Segments(folder, limit=limit if folder is not None else min(limit, MEMORY_BYTES))
        self._tallies = tallies or Tallies()
        self._first: Task | None = None
        self._failing = False  # the log's thread's own, as the next
        self._try_again = 0.0
        self._lock = threading.Condition()  # guards everything below
        self._waiting: deque[_Rows | _Asked] = deque()
        self._rows = self._bytes = 0
        self._stopping = self._hurry = False
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    def start(self, *, first: Task | None = None) -> None:
        """Begin to write; `first` is done before anything else, with the files of an earlier process."""
        self._first = first
        self._thread.start()

    def stop(self, *, timeout_s: float) -> None:
        """Write what waits, close the files and end; a disk that hangs is not waited for any longer."""
        with self._lock:
            self._stopping = True
            self._lock.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def record(self, watched: Watched, readings: Readings) -> None:
        """Take in rows of one version, or drop them all where too much waits already."""
        keep = slice(None) if self.sample >= 1 else sampled(readings.ids, self.sample)
        ids, features = readings.ids[keep], readings.features[keep]
        if not len(ids):
            return
        with_features = (
            sampled(ids, self._feature_share) if features.shape[1] else np.zeros(len(ids), np.bool_)
        )
        block = _Rows(
            origin=Origin(
                watched.key,
                readings.process,
                watched.roles.task,
                watched.roles.prediction is not None,
                "\n".join(watched.features),
            ),
            ids=ids,
            rows=readings.rows[keep],
            prediction=None if readings.prediction is None else readings.prediction[keep],
            score=None if readings.score is None else readings.score[keep],
            confidence=None if readings.confidence is None else readings.confidence[keep],
            features={
                place: features[place].astype("<f8").tobytes()
                for place in np.flatnonzero(with_features).tolist()
            },
        )
        size = block.bytes
        with self._lock:
            # What is too much by itself, of wide features, is taken by a log that keeps up.
            room = not self._rows or (
                self._rows + len(block.ids) <= WAITING_ROWS and self._bytes + size <= WAITING_BYTES
            )
            if room:
                if not self._waiting:
                    self._lock.notify()
                self._rows += len(block.ids)
                self._bytes += size
                self._waiting.append(block)
                if self._rows > WAITING_ROWS // 2 or self._bytes > WAITING_BYTES // 2:
                    self._hurry = True
                    self._lock.notify()
        if not room:
            self._tallies.dropped("log", watched.site, len(block.ids))

    def submit(self, task: Task, *, failed: Callable[[UnavailableError], None]) -> None:
        """Do this with the files, after everything that was recorded before; `failed` is told where they are out of order."""
        with self._lock:
            if not self._stopping:
                self._waiting.append(_Asked(task, failed))
                self._hurry = True
                self._lock.notify()
                return
        failed(UnavailableError("this sidecar is going down", reason=Reason.DRAINING))

    def _run(self) -> None:
        try:
            if self._first is not None:
                self._first(self._segments)
        except Exception as error:  # noqa: BLE001 - whatever is the matter, what comes now is tried
            self._complain(error)
        stopping = False
        while not stopping:
            waiting, stopping = self._taken()
            self._handle(waiting)
            del waiting  # it may be hours until something comes
        self._segments.close()

    def _taken(self) -> tuple[deque[_Rows | _Asked], bool]:
        """What waits, once something does, and whether it is the last."""
        with self._lock:
            self._lock.wait_for(lambda: self._stopping or self._waiting)
            self._lock.wait_for(lambda: self._stopping or self._hurry, _GATHER_S)
            self._hurry = False
            waiting, self._waiting = self._waiting, deque()
            self._rows = self._bytes = 0
            return waiting, self._stopping

    def _handle(self, waiting: Iterable[_Rows | _Asked]) -> None:
        blocks: list[_Rows] = []
        for each in waiting:
            if isinstance(each, _Rows):
                blocks.append(each)
                continue
            self._write(blocks)
            blocks = []
            self._ask(each)
        self._write(blocks)

    def _write(self, blocks: Sequence[_Rows]) -> None:
        if not blocks:
            return
        if not self._failing or time.monotonic() >= self._try_again:
            try:
                try:
                    self._written(blocks)
                except (sqlite3.Error, OSError):
                    # Perhaps only this file is out of order.
                    self._segments.give_up_current()
                    self._written(blocks)
            except Exception as error:  # noqa: BLE001 - nothing ends this thread
                self._complain(error)
            else:
                if self._failing:
                    self._failing = False
                    log.info("the prediction log is written again")
                for block in blocks:
                    self._tallies.logged(block.origin.key.site, len(block.ids))
                return
        for block in blocks:
            self._tallies.dropped("log", block.origin.key.site, len(block.ids))

    def _written(self, blocks: Sequence[_Rows]) -> None:
        segment = self._segments.current()
        try:
            segment.begin()
            for block in blocks:
                segment.add(block.origin, block.columns())
            segment.commit()
        except BaseException:
            with suppress(sqlite3.Error):
                segment.undo()
            raise
        self._tallies.log_holds(self._segments.bytes())

    def _ask(self, asked: _Asked) -> None:
        try:
            asked.task(self._segments)
        except Exception as error:  # noqa: BLE001 - whoever waits is told; nothing ends this thread
            log.warning("feedback could not be kept: %s", error)
            asked.failed(
                UnavailableError(
                    f"the prediction log failed: {error}. What was told is not kept: tell it again later",
                    reason=Reason.LOG_UNAVAILABLE,
                )
            )

    def _complain(self, error: Exception) -> None:
        self._try_again = time.monotonic() + _TRY_AGAIN_S
        self._segments.give_up()
        if not self._failing:
            self._failing = True
            log.error(
                "the prediction log cannot be written: %s. Predictions are answered as before; until it can, those that "
                "come are not kept, and feedback on them will be unknown",
                error,
            )
