"""Metrics from tallies, each with the bounds of a 95 % confidence interval.

The bounds are those of one look; whoever looks every hour will see some of them miss. The alarm does not rest on them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from model_sidecar.monitor.quality.label_tallies import HIT, PREDICTED, TRUE, ClassTally, ValueTally
from model_sidecar.monitor.quality.scores import area_under_curve

_Z = 1.959963984540054
"""The standard normal's 97.5 % quantile."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric's value and bounds; they are None where the sample says nothing about them."""

    name: str
    value: float
    lower: float | None = None
    upper: float | None = None


def of_classes(tally: ClassTally) -> Iterator[Measure]:
    """Accuracy and F1; of two classes also precision, recall, AUC and log loss, as far as they are defined."""
    if not tally.labels:
        return
    yield share("accuracy", tally.right, tally.labels)
    positive = tally.classes.positive
    if positive is None:
        if len(tally.classes.names) > 2:
            yield _macro_f1(tally)
        return
    hit, predicted, true = (int(tally.table[positive, column]) for column in (HIT, PREDICTED, TRUE))
    if predicted + true:
        yield _f1("f1", hit, predicted, true, tally.labels)
    if predicted:
        yield share("precision", hit, predicted)
    if true:
        yield share("recall", hit, true)
    if tally.scores is not None:
        negatives, positives = tally.scores.by_outcome(positive)
        area = area_under_curve(negatives, positives)
        if area is not None:
            yield _auc(area, int(negatives.sum()), int(positives.sum()))
        yield _mean("log_loss", *tally.scores.loss(positive))


def of_values(tally: ValueTally) -> Iterator[Measure]:
    """MAE and RMSE."""
    if not tally.finite:
        return
    yield _mean("mae", tally.finite, tally.absolute, tally.squared)
    # By the delta method: the root's spread is the mean square's over twice the root.
    square = _mean("", tally.finite, tally.squared, tally.fourth)
    root = math.sqrt(max(0.0, square.value))
    if square.upper is None or not root:
        yield Measure("rmse", root)
        return
    spread = (square.upper - square.value) / (2 * root)
    yield Measure("rmse", root, max(0.0, root - spread), root + spread)


def share(name: str, count: int, of: int) -> Measure:
    """A share with E. B. Wilson's score interval (Journal of the American Statistical Association 22, 1927)."""
    value, z2 = count / of, _Z**2
    middle = (value + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z / (1 + z2 / of) * math.sqrt(value * (1 - value) / of + z2 / (4 * of * of))
    return Measure(name, value, max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half)))


def _f1(name: str, hit: int, predicted: int, true: int, labels: int) -> Measure:
    """F1 = 2p / (2p + q), p the share of hits and q that of false and missed ones; the spread by the delta method.

    With the covariances of a multinomial that comes to 4pq(p + q) / ((2p + q)^4 n).
    """
    p, q = hit / labels, (predicted + true - 2 * hit) / labels
    value = 2 * p / (2 * p + q)
    half = _Z * math.sqrt(4 * p * q * (p + q) / ((2 * p + q) ** 4 * labels))
    return Measure(name, value, max(0.0, value - half), min(1.0, value + half))


def _macro_f1(tally: ClassTally) -> Measure:
    """The mean of the classes' F1.

    Its bounds are the means of theirs: as wide as if all classes erred together, so never too narrow for that reason.
    """
    each = [
        _f1("", int(hit), int(predicted), int(true), tally.labels)
        for hit, predicted, true in tally.table
        if predicted + true
    ]
    return Measure(
        "f1",
        sum(one.value for one in each) / len(each),
        sum(one.lower or 0.0 for one in each) / len(each),
        sum(one.upper or 0.0 for one in each) / len(each),
    )


def _auc(area: float, negatives: int, positives: int) -> Measure:
    """With the standard error of J. A. Hanley and B. J. McNeil (Radiology 143, 1982)."""
    both_positive, both_negative = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (
        area * (1 - area)
        + (positives - 1) * (both_positive - area**2)
        + (negatives - 1) * (both_negative - area**2)
    ) / (positives * negatives)
    half = _Z * math.sqrt(max(0.0, variance))
    return Measure("auc", area, max(0.0, area - half), min(1.0, area + half))


def _mean(name: str, count: int, total: float, squares: float) -> Measure:
    """A mean of what is never negative, with normal bounds; none for fewer than two."""
    mean = total / count
    if count < 2:
        return Measure(name, mean)
    variance = max(0.0, (squares - count * mean**2) / (count - 1))
    half = _Z * math.sqrt(variance / count)
    return Measure(name, mean, max(0.0, mean - half), mean + half)
