"""Two versions on the same requests: how often they differ, how sure each is, how long each takes, which is right."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from model_sidecar.monitor.detectors.mean_detector import MeanDetector
from model_sidecar.monitor.guard.spread import Spread
from model_sidecar.monitor.intake import Note
from model_sidecar.monitor.reading import Sheet, read
from model_sidecar.monitor.readings import Joined, Readings
from model_sidecar.release.tensors import Arrays

SAME_SHARE = 0.05
"""Values are the same that differ by less than this part of the live version's spread."""
_SAME = 1e-6
_SAME_RELATIVE = 1e-5
_TIMES = 1024
_REMEMBERED = 4096
_ROWS_REMEMBERED = 64
_Key = tuple[int, int]
_Any = TypeVar("_Any")
Same = Callable[[object, object], bool]
"""Whether a prediction and a truth are one class."""

_ACCURACY_LOSS = 0.01
"""A point of accuracy, as the quality of a version may fall before that is an alarm (docs/monitoring.md)."""
_ERROR_LOSS = 0.05
ARL = 7 * 28 * 24 * 3600.0
"""In updates: were there one a second, and every one of the guard's seven triggers at its very limit all the time, one of them
would be wrong once in four weeks."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of running a noted request on another version; `problem` says why there are no outputs."""

    outputs: Arrays | None
    seconds: float
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What two versions made of the same requests; "other" is the one that did not answer them.

    Attributes:
        compared: requests that both were asked.
        disagreed: of these, how many were answered differently; a request of several rows counts with the share of its rows.
        failed: how often the other raised, was stopped, or answered NaN or infinity where the live one did not.
        nonfinite: how often the live one answered NaN or infinity.
        nonfinite_in_both: of these, how often the other did so too, and `nonfinite_failed` how often it did not answer at all.
        confidence: mean of the live one's confidences; NaN without any.
        median_s: of one run; NaN without any.
        other_runs: how many of the other's last runs that are, and `other_slow` how many of them took longer than `slow_s`.
        labels: how many predictions were compared with the truth.
        accuracy: share of right predictions (of values: 1 - mean error in spreads), of both over the same ones.
        *_evidence_log10, *_convinced: that the live one's answers are beyond the limit, beside the other's.
    """

    compared: int = 0
    disagreed: float = 0.0
    failed: int = 0
    nonfinite: int = 0
    nonfinite_in_both: int = 0
    nonfinite_failed: int = 0
    confidence: float = float("nan")
    other_confidence: float = float("nan")
    median_s: float = float("nan")
    other_median_s: float = float("nan")
    other_runs: int = 0
    other_slow: int = 0
    labels: int = 0
    accuracy: float = float("nan")
    other_accuracy: float = float("nan")
    disagreement_evidence_log10: float = 0.0
    disagreement_convinced: bool = False
    confidence_evidence_log10: float = 0.0
    confidence_convinced: bool = False
    accuracy_evidence_log10: float = 0.0
    accuracy_convinced: bool = False
    last_problem: str = ""

    @property
    def disagreement(self) -> float:
        """The share of the compared requests that were answered differently; 0.0 without any."""
        return self.disagreed / self.compared if self.compared else 0.0


class Comparison:
    """Takes pairs. Not thread-safe: its owner sees to that.

    What counts as different: another class; a value further away than 5 % of the live version's spread (from the 5th to the
    95th percentile of its last 1,024 values; and never less than 1e-6, or a hundred-thousandth of the value). Until 32 values
    of the live version are known, pairs of values wait. Where no output is known to be the prediction, every output is
    compared that both have. Where the other lacks the one that is the prediction, nothing is compared. Where the live version's
    answer is not finite, that is no difference of opinion, but counted by itself; where only the other's run fails, it is a
    difference if the other is the one that is judged (`failures_differ`), and else a request that was not compared.

    Attributes:
        asked: how many pairs were taken in, those that wait or could not be compared included.

    The evidence holds for requests, not for rows, which within one request are hardly independent.
    """

    def __init__(
        self,
        sheet: Sheet,
        *,
        max_disagreement: float,
        max_confidence_loss: float = 1.0,
        failures_differ: bool = False,
        slow_s: float = float("inf"),
        arl: float = ARL,
    ) -> None:
        """Compare with what `sheet`'s version, the live one, has answered."""
        self.asked = 0
        self._failures_differ = failures_differ
        self._slow_s = slow_s
        self._sheet = sheet
        self._is_value = sheet.watched.roles.task != "classification"
        self._disagreement = MeanDetector(max_disagreement, arl=arl)
        self._confidence = MeanDetector(max_confidence_loss, low=-1.0, arl=arl)
        self._accuracy = MeanDetector(_ERROR_LOSS if self._is_value else _ACCURACY_LOSS, low=-1.0, arl=arl)
        self._spreads: dict[str, Spread] = {}
        self._waiting: deque[tuple[Note, Readings, Readings, Arrays]] = deque()
        self._compared = self._failed = self._nonfinite = self._nonfinite_in_both = self._nonfinite_failed = 0
        self._disagreed = 0.0
        self._confidences = np.zeros(2)
        self._times: deque[float] = deque(maxlen=_TIMES)
        self._other_times: deque[float] = deque(maxlen=_TIMES)
        self._said: OrderedDict[_Key, object] = OrderedDict()
        self._early: OrderedDict[_Key, tuple[Joined, Same]] = OrderedDict()
        self._right = np.zeros(2)
        self._problem = ""

    def add(self, note: Note, ran: Ran, *, sampled: bool = True, live_s: float | None = None) -> None:
        """Take in a pair.

        Args:
            note: what the live version was asked and answered.
            ran: what the other made of it.
            sampled: False for one that was chosen for what the live version answered: it bears witness, and is not counted
                among what is compared.
            live_s: how long the live version takes, where it was run once more for that.
        """
        live = read(self._sheet, [note])
        if not len(live.rows):
            return
        other = None
        if ran.outputs is not None:
            other = read(self._sheet, [note._replace(outputs=ran.outputs)])
        live_bad = bool(live.nonfinite.any())
        other_bad = other is None or bool(other.nonfinite.any())
        if live_bad:
            self._nonfinite += 1
            # A run that fails does not say that the input is to blame.
            self._nonfinite_failed += other is None
            self._nonfinite_in_both += other is not None and other_bad
        if not sampled:
            return
        self.asked += 1
        self._other_times.append(ran.seconds)
        if live_s is not None:
            self._times.append(live_s)
        if live_bad:
            # What NaN means is told apart (`nonfinite`): to answer such a request with numbers is no other opinion.
            self._settle(0.0)
            return
        if other_bad or other is None or ran.outputs is None:
            self._failed += 1
            self._problem = ran.problem or "it answered NaN or infinity"
            if self._failures_differ:
                self._settle(1.0)
            return
        if live.prediction is not None and self._sheet.watched.roles.prediction not in ran.outputs:
            return
        self._compare_confidence(live, other)
        self._remember(live, other)
        self._learn_spread(note, live)
        self._waiting.append((note, live, other, ran.outputs))
        while self._waiting and self._judgeable():
            self._settle(self._difference(*self._waiting.popleft()))

    def joined(self, rows: Sequence[Joined], *, same: Same) -> None:
        """Take in what was true of predictions; it is kept for a while where it comes before the comparison, which may wait."""
        for row in rows:
            if row.replaces is not None:
                continue  # a correction would have to be taken back out of the evidence: the first word counts
            key = row.id, row.row
            if key in self._said:
                self._judge(row, self._said.pop(key), same)
            else:
                _keep(self._early, key, (row, same))

    def compared(self) -> Compared:
        """How it stands."""
        confidences = (
            self._confidences / self._confidence.count if self._confidence.count else (np.nan, np.nan)
        )
        right = self._right / self._accuracy.count if self._accuracy.count else (np.nan, np.nan)
        return Compared(
            compared=self._compared,
            disagreed=self._disagreed,
            failed=self._failed,
            nonfinite=self._nonfinite,
            nonfinite_in_both=self._nonfinite_in_both,
            nonfinite_failed=self._nonfinite_failed,
            confidence=float(confidences[0]),
            other_confidence=float(confidences[1]),
            median_s=median(self._times) if self._times else float("nan"),
            other_median_s=median(self._other_times) if self._other_times else float("nan"),
            other_runs=len(self._other_times),
            other_slow=sum(seconds > self._slow_s for seconds in self._other_times),
            labels=self._accuracy.count,
            accuracy=float(right[0]),
            other_accuracy=float(right[1]),
            disagreement_evidence_log10=self._disagreement.evidence_log10,
            disagreement_convinced=self._disagreement.convinced,
            confidence_evidence_log10=self._confidence.evidence_log10,
            confidence_convinced=self._confidence.convinced,
            accuracy_evidence_log10=self._accuracy.evidence_log10,
            accuracy_convinced=self._accuracy.convinced,
            last_problem=self._problem,
        )

    def _settle(self, difference: float) -> None:
        self._compared += 1
        self._disagreed += difference
        self._disagreement.observe(difference)

    def _compare_confidence(self, live: Readings, other: Readings) -> None:
        if live.confidence is not None and other.confidence is not None:
            means = np.array([fmean(live.confidence.tolist()), fmean(other.confidence.tolist())])
            self._confidences += means
            self._confidence.observe(float(means[1] - means[0]))

    def _remember(self, live: Readings, other: Readings) -> None:
        if other.prediction is None:
            return
        for row, said in enumerate(other.prediction[:_ROWS_REMEMBERED].tolist()):
            key = int(live.ids[0]), row
            early = self._early.pop(key, None)
            if early is None:
                _keep(self._said, key, said)
            else:
                self._judge(early[0], said, early[1])

    def _judge(self, row: Joined, other: Any, same: Same) -> None:
        if self._is_value:
            self._judge_values(row, other)
            return
        right = np.array([same(row.prediction, row.truth), same(other, row.truth)], np.float64)
        self._right += right
        self._accuracy.observe(float(right[1] - right[0]))

    def _judge_values(self, row: Joined, other: Any) -> None:
        spread = self._spread("").value
        if isinstance(row.prediction, str) or isinstance(row.truth, str) or not spread:
            return
        errors = np.minimum(np.abs(np.array([row.prediction, float(other)]) - row.truth) / spread, 1.0)
        self._right += 1 - errors
        self._accuracy.observe(float(errors[0] - errors[1]))

    # Values.

    def _spread(self, name: str) -> Spread:
        return self._spreads.setdefault(name, Spread())

    def _learn_spread(self, note: Note, live: Readings) -> None:
        for name, values in self._values(live, note.outputs).items():
            if values.dtype.kind == "f":
                self._spread(name).add(values)

    def _judgeable(self) -> bool:
        return all(spread.known for spread in self._spreads.values())

    def _values(self, readings: Readings, outputs: Arrays) -> dict[str, NDArray[Any]]:
        """What is compared, by name; "" is the prediction."""
        if readings.prediction is None:
            return dict(outputs)
        if self._is_value or readings.prediction.dtype == object:
            return {"": readings.prediction}
        return {"": readings.prediction.astype(np.int64)}  # classes, which `read` gives as float64

    def _difference(self, note: Note, live: Readings, other: Readings, outputs: Arrays) -> float:
        """The share of rows that differ."""
        rows = len(live.rows)
        differs = np.zeros(rows, np.bool_)
        others = self._values(other, outputs)
        for name, values in self._values(live, note.outputs).items():
            if name and name not in outputs:
                continue
            theirs = others.get(name)
            if theirs is None or theirs.shape != values.shape:
                return 1.0
            apart = self._apart(name, values, theirs)
            by_row = apart.ndim > 0 and len(apart) == rows
            differs |= apart.reshape(rows, -1).any(axis=1) if by_row else apart.any()
        return float(differs.mean())

    def _apart(self, name: str, values: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.bool_]:
        if values.dtype.kind != "f":
            return np.asarray(values != theirs)
        wide = values.astype(np.float64)
        return np.asarray(np.abs(wide - theirs) > tolerance(wide, self._spread(name).value))


def tolerance(values: NDArray[np.float64], spread: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """How far from these values others may lie, and are the same, where the live version's have this spread."""
    return np.maximum(np.maximum(_SAME, SAME_SHARE * spread), _SAME_RELATIVE * np.abs(values))


def _keep(among: OrderedDict[_Key, _Any], key: _Key, value: _Any) -> None:
    """Keep it, and so many of the newest."""
    among[key] = value
    while len(among) > _REMEMBERED:
        among.popitem(last=False)
