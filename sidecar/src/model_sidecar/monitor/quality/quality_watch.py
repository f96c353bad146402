"""One version's labels, as they come: counted by the hour of their prediction, and shown to the detector as they arrive."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from model_sidecar.monitor.detectors.evidence import RateDetector
from model_sidecar.monitor.prediction_ids import first_id_at
from model_sidecar.monitor.quality import judging
from model_sidecar.monitor.quality.hours import Hours, hour_of
from model_sidecar.monitor.quality.label_tallies import Classes, ClassTally, ValueTally
from model_sidecar.monitor.readings import Joined, Watched

HOUR_S = 3600
HOUR = first_id_at(HOUR_S * 1000)
"""An hour in the first part of a prediction id."""
FALSE_ALARM_LABELS = 1e5
"""A version that predicts as published is accused once in so many labels, on average."""
_STEPS, _EARLY_STEPS = 64, 2000
"""Labels that come at once are shown in at most so many steps; a step of several is less evidence than they one by one."""
_EARLY_LABELS = 200_000
"""Of a version of which nothing but labels is known yet, as after a start: of so many it is kept what they are evidence of."""


class QualityWatch:
    """Not thread-safe: its owner's lock guards it.

    An outcome is, of a regression, |error|; of a classification 1 for a wrong prediction and 0 for a right one.

    Attributes:
        is_regression: which of the two it is.
        hours: the counts.
        watched: None while nothing but labels is known of it.
        detector: None where nothing tells how often it may be wrong.
        alarm_since: None: no alarm.
        reported: the hour of the last report.
    """

    def __init__(self, now: datetime, *, is_regression: bool) -> None:
        """Begin with nothing."""
        classes = Classes()
        self.is_regression = is_regression
        self.hours = Hours(ValueTally if is_regression else lambda: ClassTally(classes), now)
        self.watched: Watched | None = None
        self.detector: RateDetector | None = None
        self.alarm_since: datetime | None = None
        self.reported = hour_of(now)
        self._limit = 0.5  # an outcome beyond it is an event for the detector
        self._early = array("f")

    def take(self, rows: Sequence[Joined]) -> None:
        """Count labels, in the order of their arrival."""
        outcomes = array("f")
        for row in rows:
            tally = self.hours.cell(row.id // HOUR).tally
            if row.replaces is not None:
                tally.add(row, row.replaces, -1)
                tally.add(row, row.truth)
            else:
                outcomes.append(tally.add(row, row.truth))
        if self.watched is not None:
            self._show(np.array(outcomes), _STEPS)
            return
        self._early += outcomes
        del self._early[: max(0, len(self._early) - _EARLY_LABELS)]

    def know(self, watched: Watched) -> None:
        """Compare the labels, those that came before too, with what the version was published with."""
        if self.is_regression and watched.baseline is not None and watched.baseline.error_q90 is not None:
            self._limit = watched.baseline.error_q90
        self.watched, self.detector = watched, _detector(watched)
        self._show(np.array(self._early), _EARLY_STEPS)
        self._early = array("f")

    def _show(self, outcomes: NDArray[np.float32], steps: int) -> None:
        if self.detector is None or not len(outcomes):
            return
        for step in np.array_split(outcomes > self._limit, min(len(outcomes), steps)):
            self.detector.update(int(step.sum()), len(step))


def _detector(watched: Watched) -> RateDetector | None:
    """Of wrong predictions, or of errors as only one in ten was; None where nothing tells how often either was."""
    baseline = watched.baseline
    rate: float | None = None
    rows = 0
    if watched.roles.task == "regression":
        if baseline is not None and baseline.error_q90 is not None:
            rate, rows = 0.1, baseline.rows
    else:
        accuracy = judging.published(watched.metrics, baseline, "accuracy")
        if accuracy is not None:
            rate, rows = 1.0 - accuracy.value, accuracy.rows
    if rate is None:
        return None
    tolerance = judging.tolerated(rate, rows)
    if rate + tolerance >= 1.0:
        return None
    return RateDetector(rate, tolerance, FALSE_ALARM_LABELS)
