"""How many labels it takes to see that a model predicts worse than it was published with."""

from __future__ import annotations

import statistics

import numpy as np
from detecting.rows import Row, at_most
from numpy.typing import NDArray

from model_sidecar.monitor.detectors.evidence import RateDetector

ACCURACY = 0.9847
TOLERANCE = 0.01
ARL = 1e5
_HEALTHY = 3000
_DAYS, _LABELS_A_DAY, _LOST = 30, 1000, 0.08


def first_alarm(errors: NDArray[np.bool_], *, p0: float = 1 - ACCURACY) -> int | None:
    """At which of these predictions, counted from 1, there is an alarm."""
    detector = RateDetector(p0, TOLERANCE, ARL)
    for at, wrong in enumerate(errors.tolist(), start=1):
        detector.update(int(wrong), 1)
        if detector.alarm:
            return at
    return None


def delays(runs: int) -> list[Row]:
    """The labels until the alarm, after a drop of the accuracy."""
    rows = []
    for accuracy, goal in ((0.95, 1500), (0.90, 250), (0.80, 80)):
        found = []
        for seed in range(runs):
            chance = np.random.default_rng(seed)
            healthy = chance.random(_HEALTHY) < 1 - ACCURACY
            at = first_alarm(np.concatenate([healthy, chance.random(30_000) < 1 - accuracy]))
            found.append(float("inf") if at is None else float(at - _HEALTHY))
        rows.append(at_most(f"accuracy {ACCURACY} → {accuracy}: until the alarm", found, goal, "labels"))
    return rows


def false_alarms(labels: int) -> Row:
    """Alarms of labels as good as ever."""
    chance = np.random.default_rng(21)
    alarms, left = 0, chance.random(labels) < 1 - ACCURACY
    while (at := first_alarm(left)) is not None:
        alarms, left = alarms + 1, left[at:]
    rate = alarms / labels * 1e5
    return Row(
        f"false alarms, {labels:,} labels of the promised accuracy", "≤ 1 in 100,000", f"{alarms}", rate <= 1
    )


def slow_loss(runs: int) -> list[Row]:
    """Eight points lost evenly over thirty days."""
    total = _DAYS * _LABELS_A_DAY
    share = np.arange(total) / total
    days = []
    for seed in range(runs):
        chance = np.random.default_rng(seed)
        at = first_alarm(chance.random(total) < 1 - ACCURACY + _LOST * share)
        days.append(float("inf") if at is None else at / _LABELS_A_DAY)
    day = statistics.median(days)
    lost = _LOST * day / _DAYS * 100
    return [
        Row(
            "8 points lost over 30 days, 1,000 labels a day: alarm", "by day 10", f"day {day:.1f}", day <= 10
        ),
        Row("… and accuracy lost by then", "≤ 2.7 points", f"{lost:.1f} points", lost <= 2.7),
    ]
