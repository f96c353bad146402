"""How accurate a version should be by its own confidence: an estimate without labels, and no more than that.

What is counted is how many predictions fell into each bin of confidence; the baseline knows how many of a bin's rows
were wrong when the version was published. The idea is NannyML's confidence-based performance estimation (CBPE), with a
table in the place of a fitted calibration. It holds while rows of equal confidence are as often wrong as they were:
it sees a shift of the input, and is blind where the world changed what is true.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from model_sidecar.monitor.quality.measures import Measure
from model_sidecar.release.baseline import Calibration

_Z = 1.959963984540054


def counted(calibration: Calibration, confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many of these confidences fall into each bin; those that are not finite into none."""
    finite = confidence[np.isfinite(confidence)]
    places = np.searchsorted(np.asarray(calibration.edges), finite, side="left")
    return np.bincount(places, minlength=len(calibration.rows)).astype(np.int64)


def estimated_accuracy(calibration: Calibration, counts: NDArray[np.int64]) -> Measure | None:
    """The accuracy to be expected of predictions with these counts.

    A bin of the table without rows is taken to be as wrong as the whole table. The bounds count two chances: that of the
    predictions, and that of the rows the table was made of. None without predictions, or without a table.
    """
    rows, errors = np.asarray(calibration.rows, np.float64), np.asarray(calibration.errors, np.float64)
    total, seen = float(rows.sum()), float(counts.sum())
    if not total or not seen:
        return None
    share_wrong = np.where(rows > 0, errors / np.maximum(rows, 1.0), errors.sum() / total)
    weights = counts / seen
    value = 1.0 - float(weights @ share_wrong)
    chance = share_wrong * (1.0 - share_wrong)
    variance = float(weights @ chance) / seen + float(weights**2 @ (chance / np.maximum(rows, 1.0)))
    half = _Z * math.sqrt(variance)
    return Measure("accuracy", value, max(0.0, value - half), min(1.0, value + half))
