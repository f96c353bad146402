"""What is kept of one version's labelled predictions in one hour: counts and sums, from which every metric is made.

Tallies of several hours, or of several sidecars, are merged by adding them. A row that is corrected is taken back with
sign -1 and added again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model_sidecar.monitor.quality.scores import Scores
from model_sidecar.monitor.quality.truths import name_of
from model_sidecar.monitor.readings import Joined

MOST_CLASSES = 20
"""Further ones count together, as the last."""
_NAME_CHARACTERS = 64
LARGEST_ERROR = 1e70
"""Its fourth power still has room for a sum of as many rows as there will be. A larger error is as if there were none."""
HIT, PREDICTED, TRUE = range(3)


class Classes:
    """The classes of one version in the order in which they turned up, and which of two the score is about."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._leanings = [0, 0]

    def place(self, name: str) -> int:
        """The place of the class of this name; that of all others once there are 20."""
        place = self._places.get(name)
        if place is None:
            if len(self._places) >= MOST_CLASSES or len(name) > _NAME_CHARACTERS:
                return MOST_CLASSES
            place = self._places[name] = len(self._places)
        return place

    def lean(self, predicted: int, score: float) -> None:
        """Remember which class was predicted with a high score, or with a low one."""
        if predicted < 2:
            self._leanings[predicted] += 1 if score > 0.5 else -1

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._places)

    @property
    def positive(self) -> int | None:
        """The place of the positive one of two classes: "1"; else the one that high scores go with, the second.

        None where there are not two, or nothing tells them apart.
        """
        if len(self._places) != 2:
            return None
        if "1" in self._places:
            return self._places["1"]
        first, second = self._leanings
        return None if first == second else int(second > first)


@dataclass(slots=True)
class ClassTally:
    """Of a classifier.

    Attributes:
        labels: how many rows.
        right: how many of them were predicted rightly.
        table: (21, 3) int32: for each class, how often it was rightly predicted, predicted, and true.
        scores: of those rows that have a score from 0 to 1 and of which one of the first two classes was true.
    """

    classes: Classes
    labels: int = 0
    right: int = 0
    table: NDArray[np.int32] = field(default_factory=lambda: np.zeros((MOST_CLASSES + 1, 3), np.int32))
    scores: Scores | None = None

    def add(self, row: Joined, truth: float | str, sign: int = 1) -> bool:
        """Take a row in, or with -1 take it back; whether its prediction was wrong."""
        said, is_true = name_of(row.prediction), name_of(truth)
        predicted, true = self.classes.place(said), self.classes.place(is_true)
        right = said == is_true != "nan"  # by name: two of "all others" need not be the same
        if sign < 0 and not self.table[true, TRUE]:
            return not right  # it was told to the process before this one, and never counted here
        self.labels += sign
        self.right += sign * right
        self.table[predicted, PREDICTED] += sign
        self.table[true, TRUE] += sign
        if right:
            self.table[true, HIT] += sign
        if row.score is not None and 0.0 <= row.score <= 1.0:
            if sign > 0:
                self.classes.lean(predicted, row.score)
            if true < 2:
                self.scores = self.scores or Scores()
                self.scores.add(true, row.score, sign)
        return not right

    def merge(self, other: ClassTally) -> None:
        """Add the other's rows; it counts the same classes."""
        self.labels += other.labels
        self.right += other.right
        self.table += other.table
        if other.scores is not None:
            self.scores = self.scores or Scores()
            self.scores.merge(other.scores)


@dataclass(slots=True)
class ValueTally:
    """Of a regression: how many rows, and the sums of |error|, error squared and to the fourth.

    Rows whose prediction or truth is not finite, or whose error is beyond `LARGEST_ERROR`, have no error: they count as
    labels and not as finite, and for the detector they are wrong.
    """

    labels: int = 0
    finite: int = 0
    absolute: float = 0.0
    squared: float = 0.0
    fourth: float = 0.0

    def add(self, row: Joined, truth: float | str, sign: int = 1) -> float:
        """Take a row in, or with -1 take it back; its |error|, infinite where that is none."""
        if sign < 0 and not self.labels:
            return math.inf  # it was told to the process before this one, and never counted here
        self.labels += sign
        error = error_of(row.prediction, truth)
        if not error <= LARGEST_ERROR:  # nor is NaN
            return math.inf
        self.finite += sign
        self.absolute += sign * error
        self.squared += sign * error**2
        self.fourth += sign * error**4
        return error

    def merge(self, other: ValueTally) -> None:
        """Add the other's rows."""
        self.labels += other.labels
        self.finite += other.finite
        self.absolute += other.absolute
        self.squared += other.squared
        self.fourth += other.fourth


def error_of(prediction: float | str, truth: float | str) -> float:
    """|prediction - truth|; NaN where one of them is no number."""
    try:
        return abs(float(prediction) - float(truth))
    except (ValueError, OverflowError):
        return math.nan
