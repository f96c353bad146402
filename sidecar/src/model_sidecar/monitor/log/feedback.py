"""Feedback: what was true of predictions, found in the log, kept there once, and told to whoever watches quality."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Protocol

import numpy as np

from model_sidecar.errors import Reason, UnavailableError
from model_sidecar.monitor.log.prediction_log import Task
from model_sidecar.monitor.log.segment import Answer, DamagedError, Logged, Segment, damage_told
from model_sidecar.monitor.log.segments import Segments
from model_sidecar.monitor.prediction_ids import PredictionId, first_id_at, parse_prediction_id
from model_sidecar.monitor.readings import Joined, TruthObserver, WatchedKey
from model_sidecar.monitor.sampling import sampled
from model_sidecar.monitor.tallies import Tallies

log = logging.getLogger(__name__)

PROBLEMS = 100
"""So many problems are told of one call."""
REPLAYED_S = 24 * 3600.0
_REPLAYED_ROWS = 200_000
_TOLD_AT_ONCE = 256
_WAITING = 65_536
_WAITING_BYTES = 64 << 20
LONGEST_LABEL = 1024
"""Characters of a truth, or of a prediction that was made elsewhere."""
_LATEST = 253_402_300_800.0  # the year 10000
_SOURCE = re.compile(r"[\x20-\x7e]{0,64}", re.ASCII)


class FeedbackOutcome(StrEnum):
    """What became of a piece of feedback; the words of the wire and of metrics."""

    JOINED = "joined"
    DUPLICATE = "duplicate"
    UNKNOWN = "unknown"
    UNSAMPLED = "unsampled"
    TOO_LATE = "too_late"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What was true of one prediction.

    Attributes:
        prediction_id: as the answer has it, or `id#row`.
        truth: a number or a label; None where nothing was said.
        observed_at: when it became known, in Unix time; None: now.
        source: who says so.
        replace: let this take the place of what the same source said before.
    """

    prediction_id: str
    truth: float | str | None
    observed_at: float | None = None
    source: str = ""
    replace: bool = False


@dataclass(frozen=True, slots=True)
class FeedbackProblem:
    """A piece of feedback that was not joined. `index` counts the pieces of its call from 0."""

    index: int
    prediction_id: str
    outcome: FeedbackOutcome
    message: str


@dataclass(frozen=True, slots=True)
class FeedbackReport:
    """What became of the feedback of one call; the first `PROBLEMS` problems."""

    counts: Mapping[FeedbackOutcome, int]
    problems: tuple[FeedbackProblem, ...]


_NOTHING = FeedbackReport({}, ())


class FeedbackLog(Protocol):
    """As much of the prediction log as feedback needs."""

    @property
    def sample(self) -> float: ...
    def submit(self, task: Task, *, failed: Callable[[UnavailableError], None]) -> None: ...


class FeedbackDesk:
    """Takes feedback. Any thread may call it; nobody waits in it."""

    def __init__(
        self,
        log_: FeedbackLog,
        *,
        once_recorded: Callable[[int, Callable[[], None]], None] = lambda _id, then: then(),
        observers: Sequence[TruthObserver] = (),
        tallies: Tallies | None = None,
    ) -> None:
        """Join feedback with what this log has.

        Args:
            log_: where predictions are, and where feedback is kept beside them.
            once_recorded: as `Monitor.once_recorded`: feedback may come before its prediction has been logged.
            observers: are told what was joined.
            tallies: where outcomes are counted.
        """
        self._log = log_
        self._once_recorded = once_recorded
        self._observers = tuple(observers)
        self._tallies = tallies or Tallies()
        self._lock = threading.Lock()  # guards those below
        self._waiting = self._waiting_bytes = 0

    def record(self, feedback: Sequence[Feedback]) -> Future[FeedbackReport]:
        """Join these. The future ends with what became of each, once that is kept.

        It ends with UnavailableError where the log failed; then none of them was kept. Nor is any of them where the future
        was cancelled before the log came to it.

        Raises:
            UnavailableError: too much feedback waits for the log already.
        """
        told_at = time.time()
        future: Future[FeedbackReport] = Future()
        if not feedback:
            future.set_result(_NOTHING)
            return future
        size = sum(map(_size, feedback))
        self._wait(len(feedback), size)
        names = [parse_prediction_id(each.prediction_id) for each in feedback]

        def ended(end: FeedbackReport | UnavailableError) -> None:
            # Only here, and not where the caller gives up: until the log comes to it, this feedback takes its room.
            self._wait(-len(feedback), -size)
            _settle(future, end)

        def task(segments: Segments) -> None:
            while not future.cancelled():
                try:
                    return ended(self._joined(segments, feedback, names, told_at))
                except DamagedError as error:
                    # Nothing is kept yet: once more, without the file.
                    segments.set_aside(error.number, error)
            return ended(_NOTHING)

        newest = max((name.id for name in names if name is not None), default=0)
        self._once_recorded(newest, partial(self._log.submit, task, failed=ended))
        return future

    def replay(self, segments: Segments) -> None:
        """Tell observers what was joined in the last 24 hours before this process: the log's first task."""
        if not self._observers:
            return
        since = first_id_at(int((time.time() - REPLAYED_S) * 1000))
        rows: defaultdict[WatchedKey, list[Joined]] = defaultdict(list)
        for key, joined in segments.joined(since, _REPLAYED_ROWS):
            rows[key].append(joined)
            if len(rows[key]) >= _TOLD_AT_ONCE:
                self._tell(key, rows.pop(key))
        for key, each in rows.items():
            self._tell(key, each)

    def _joined(
        self,
        segments: Segments,
        feedback: Sequence[Feedback],
        names: Sequence[PredictionId | None],
        told_at: float,
    ) -> FeedbackReport:
        """On the log's thread: what becomes of each, in one transaction."""
        ids = np.array([0 if name is None else name.id for name in names], np.int64)
        session = _Session(segments, told_at)
        counts: Counter[FeedbackOutcome] = Counter()
        problems: list[FeedbackProblem] = []
        settled: Counter[tuple[WatchedKey | None, FeedbackOutcome]] = Counter()
        try:
            for index, (each, name, is_sampled) in enumerate(
                zip(feedback, names, sampled(ids, self._log.sample).tolist(), strict=True)
            ):
                outcome, message, key = session.settle(each, name, is_sampled=is_sampled)
                counts[outcome] += 1
                settled[key, outcome] += 1
                if outcome is not FeedbackOutcome.JOINED and len(problems) < PROBLEMS:
                    problems.append(FeedbackProblem(index, each.prediction_id[:200], outcome, message))
            session.commit()
        except BaseException:
            session.undo()
            raise
        for (key, outcome), count in settled.items():
            self._tallies.fed_back(key, outcome.value, count)
        for key, rows in session.told.items():
            for at in range(0, len(rows), _TOLD_AT_ONCE):
                self._tell(key, rows[at : at + _TOLD_AT_ONCE])
        return FeedbackReport(dict(counts), tuple(problems))

    def _tell(self, key: WatchedKey, rows: Sequence[Joined]) -> None:
        for observer in self._observers:
            try:
                observer.joined(key, rows)
            except Exception:
                log.exception("%s failed on what was joined; the rest go on", type(observer).__name__)

    def _wait(self, count: int, size: int) -> None:
        """So much more waits for the log, or less."""
        with self._lock:
            full = self._waiting + count > _WAITING or self._waiting_bytes + size > _WAITING_BYTES
            if count > 0 and self._waiting and full:
                raise UnavailableError(
                    f"{self._waiting} pieces of feedback wait for the prediction log already: its disk hangs, or it is far "
                    "behind. Tell it again later",
                    reason=Reason.LOG_UNAVAILABLE,
                )
            self._waiting += count
            self._waiting_bytes += size


class _Session:
    """One call's feedback being joined, on the log's thread.

    Attributes:
        told: what observers are to be told once it is kept, by version.
    """

    def __init__(self, segments: Segments, told_at: float) -> None:
        self._segments = segments
        self._told_at = told_at
        self._touched: dict[int, Segment] = {}
        self._found: dict[tuple[int, str], tuple[Segment, Answer] | None] = {}
        self.told: defaultdict[WatchedKey, list[Joined]] = defaultdict(list)

    def settle(
        self, feedback: Feedback, name: PredictionId | None, *, is_sampled: bool
    ) -> tuple[FeedbackOutcome, str, WatchedKey | None]:
        """What becomes of it, in words, and of which version it is."""
        wrong = _wrong_with(feedback)
        if name is None:
            wrong = (
                "prediction_id: expected the id of an answer, such as 019a2b3c4d500000-9f86d081, or id#row"
            )
        if wrong or name is None:
            return FeedbackOutcome.INVALID, wrong, None
        if not is_sampled:
            return FeedbackOutcome.UNSAMPLED, "the log does not keep this prediction (--log-sample)", None
        found = self._find(name)
        if found is None:
            if self._segments.has_lost(name.id):
                return FeedbackOutcome.TOO_LATE, "it is older than what the log keeps (--log-size)", None
            return FeedbackOutcome.UNKNOWN, "this sidecar's log has no such prediction", None
        segment, answer = found
        first, last = answer.first, answer.last
        key = first.key
        if name.row is None:
            logged = first if first.row == last else None
        else:
            with damage_told(segment.number):
                logged = segment.row(name.id, name.row)
        if logged is None:
            what = f"the request had {last + 1} rows" if last else "the request had one row"
            return FeedbackOutcome.INVALID, f"{what}: expected {_rows_of(last)}", key
        if logged.prediction is None:
            return (
                FeedbackOutcome.INVALID,
                "the version's manifest does not say which output is its prediction (`outputs`), and it shows from none",
                key,
            )
        truth = feedback.truth
        assert truth is not None
        if logged.task == "regression" and isinstance(truth, str):
            return (
                FeedbackOutcome.INVALID,
                f"found the label {truth[:80]!r}: expected a number, as predicted",
                key,
            )
        with damage_told(segment.number):
            outcome, message = self._kept(segment, logged, feedback, truth)
        return outcome, message, key

    def commit(self) -> None:
        """Keep all of it."""
        for segment in self._touched.values():
            with damage_told(segment.number):
                segment.commit()

    def undo(self) -> None:
        """Keep none of it."""
        for segment in self._touched.values():
            try:
                segment.undo()
            except Exception:
                log.exception("feedback could not be undone")

    def _find(self, name: PredictionId) -> tuple[Segment, Answer] | None:
        # Kept for the call: its pieces are often the rows of one answer.
        which = name.id, name.process
        if which not in self._found:
            self._found[which] = self._segments.find(*which)
        return self._found[which]

    def _kept(
        self, segment: Segment, logged: Logged, feedback: Feedback, truth: float | str
    ) -> tuple[FeedbackOutcome, str]:
        assert logged.prediction is not None
        told = {source: (before, counts) for source, before, counts in segment.told(logged.id, logged.row)}
        before, counts = told.get(feedback.source, (None, not told))
        if before is not None and (before == truth or not feedback.replace):
            said = "the same" if before == truth else "something else, and replace is not set"
            return FeedbackOutcome.DUPLICATE, f"this source said {said} of it before"
        if segment.number not in self._touched:
            self._touched[segment.number] = segment
            segment.begin()
        segment.tell(
            logged,
            source=feedback.source,
            truth=truth,
            observed_at=self._told_at if feedback.observed_at is None else feedback.observed_at,
            told_at=self._told_at,
            counts=counts,
        )
        if counts:
            # Of several sources, the first to speak of a prediction counts: two of them would count it twice.
            self.told[logged.key].append(
                Joined(
                    *(logged.id, logged.row, logged.prediction, logged.score, logged.confidence),
                    truth=truth,
                    replaces=before,
                )
            )
        return FeedbackOutcome.JOINED, ""


def _wrong_with(feedback: Feedback) -> str:
    """What makes no sense about it as it stands, or ""."""
    truth = feedback.truth
    if truth is None:
        return "truth: found none, expected a number or a label"
    if isinstance(truth, float) and not math.isfinite(truth):
        return f"truth: found {truth}, expected a finite number"
    if isinstance(truth, str) and len(truth) > LONGEST_LABEL:
        return f"truth: found a label of {len(truth)} characters, expected at most {LONGEST_LABEL}"
    if feedback.observed_at is not None and not 0 <= feedback.observed_at < _LATEST:
        return f"observed_at: found {feedback.observed_at:g} s, expected a time between 1970 and 9999"
    if not _SOURCE.fullmatch(feedback.source):
        return "source: expected at most 64 printable ASCII characters"
    return ""


def _rows_of(last: int) -> str:
    return f"a row of it, from #0 to #{last}" if last else "#0, or no row at all"


def _size(feedback: Feedback) -> int:
    truth = feedback.truth
    text = len(truth) if isinstance(truth, str) else 0
    return len(feedback.prediction_id) + len(feedback.source) + text


def _settle(future: Future[FeedbackReport], end: FeedbackReport | UnavailableError) -> None:
    if future.set_running_or_notify_cancel():
        if isinstance(end, Exception):
            future.set_exception(end)
        else:
            future.set_result(end)
