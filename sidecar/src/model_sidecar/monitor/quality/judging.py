"""A metric beside what the manifest promised: which number that is, and what may be said of the two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from model_sidecar.monitor.quality.measures import Measure
from model_sidecar.monitor.quality.quality_report import QualityMetric, Verdict
from model_sidecar.release.baseline import Baseline

FEWEST_LABELS = 30
"""With fewer nothing is judged. A fault that makes a fifth of the predictions wrong shows after about forty."""
LEAST_COVERAGE = 0.01
"""Where fewer of the logged predictions have a label, those that have one are hardly like the others: not judged."""
TOLERANCE = 0.01
"""So much below the baseline a share, such as the accuracy, may be."""
RELATIVE_TOLERANCE = 0.05
"""By so much of itself an error, such as the RMSE, may be above the baseline."""

_MARGIN_Z = 2.33
"""What the baseline's rows do not know, being a sample, is allowed for at its 99 % bound."""

_SHARES = frozenset({"accuracy", "f1", "precision", "recall", "auc"})
_SPELLINGS = {
    "accuracy": ("accuracy", "acc"),
    "f1": ("f1", "f1_score"),
    "precision": ("precision",),
    "recall": ("recall",),
    "auc": ("auc", "roc_auc", "auroc"),
    "log_loss": ("log_loss", "logloss"),
    "mae": ("mae", "mean_absolute_error"),
    "rmse": ("rmse", "root_mean_squared_error"),
}
_ONLY_BESIDE_A_BASELINE = frozenset({"precision", "recall"})


def promised(metrics: Mapping[str, float], name: str) -> float | None:
    """The manifest's metric of this meaning, by any of its usual names; None where it has none.

    A share above 1 is a percentage or a mistake, and is not compared with.
    """
    folded = {key.lower().replace("-", "_").replace(" ", "_"): value for key, value in metrics.items()}
    for spelling in _SPELLINGS[name]:
        value = folded.get(spelling)
        if value is not None and value >= 0.0 and (value <= 1.0 or name not in _SHARES):
            return value
    return None


@dataclass(frozen=True, slots=True)
class Published:
    """What a metric is compared with.

    Attributes:
        value: the metric, as it was published.
        rows: over how many of the baseline's rows it was counted; 0: the manifest tells it.
    """

    value: float
    rows: int = 0


def published(metrics: Mapping[str, float], baseline: Baseline | None, name: str) -> Published | None:
    """The manifest's metric; of the accuracy else the calibration table's, on which the alarm rests, too; or None."""
    value = promised(metrics, name)
    if value is not None:
        return Published(value)
    table = baseline.calibration if baseline is not None else None
    if name != "accuracy" or table is None or not any(table.rows):
        return None
    rows = sum(table.rows)
    return Published(1.0 - sum(table.errors) / rows, rows)


def tolerated(share: float, rows: int) -> float:
    """How far off a share may be that was counted over so many rows; 0 rows: it is taken as it was told."""
    return TOLERANCE + (_MARGIN_Z * math.sqrt(share * (1 - share) / rows) if rows else 0.0)


def judged(
    measure: Measure, metrics: Mapping[str, float], *, enough: bool, baseline: Baseline | None = None
) -> QualityMetric | None:
    """The metric beside what was published; None for one that is of interest only there.

    WITHIN and BELOW are said where all of the interval lies on that side of the tolerance; `enough` says whether there
    are labels enough to say either. With a `baseline` its calibration table stands in for an accuracy that the manifest
    does not tell.
    """
    beside = published(metrics, baseline, measure.name)
    if beside is None and measure.name in _ONLY_BESIDE_A_BASELINE:
        return None
    return QualityMetric(
        name=measure.name,
        value=measure.value,
        lower=measure.lower,
        upper=measure.upper,
        baseline=beside.value if beside is not None else None,
        by_rows=beside is not None and beside.rows > 0,
        verdict=_compared(measure, beside) if enough and beside is not None else Verdict.INCONCLUSIVE,
    )


def overall(metrics: Sequence[QualityMetric], *, alarm: bool) -> Verdict:
    """One verdict of all: an alarm counts, then any metric that is BELOW, then the first that has a baseline."""
    verdicts = [each.verdict for each in metrics if each.baseline is not None and not each.estimated]
    if alarm or Verdict.BELOW in verdicts:
        return Verdict.BELOW
    return verdicts[0] if verdicts else Verdict.INCONCLUSIVE


def in_words(
    metrics: Sequence[QualityMetric],
    verdict: Verdict,
    *,
    predictions: int,
    labels: int,
    enough: bool,
    alarm_since: datetime | None,
) -> str:
    """One sentence for a person: the metric that says most, on how many labels, and what follows."""
    measured = [each for each in metrics if not each.estimated]
    estimates = [each for each in metrics if each.estimated]
    alarm = f"; alarm since {alarm_since:%Y-%m-%d %H:%M} UTC" if alarm_since is not None else ""
    if not predictions and not labels:
        return f"no predictions in this window{alarm}"
    seen = f"{labels:,} labels of {max(predictions, labels):,} predictions"
    if not measured:
        guess = f"; {_number(estimates[0], word='estimated')}" if estimates else ""
        return f"{seen}{guess}{alarm}"
    told = next(
        (each for each in measured if each.verdict is verdict and each.baseline is not None), measured[0]
    )
    if not enough:
        judgement = "too few to judge"
    elif told.baseline is None and alarm_since is not None:
        judgement = "worse than over the baseline's rows"
    elif told.baseline is None:
        judgement = "the manifest tells no metric to compare with"
    else:
        judgement = {
            Verdict.WITHIN: "within what was published",
            Verdict.BELOW: "below what was published",
            Verdict.INCONCLUSIVE: "not enough to tell it from what was published",
        }[verdict]
    comma = "," if told.baseline is not None else ""
    return f"{_number(told)}{comma} on {seen}: {judgement}{alarm}"


def _compared(measure: Measure, beside: Published) -> Verdict:
    if measure.lower is None or measure.upper is None:
        return Verdict.INCONCLUSIVE
    if measure.name in _SHARES:
        edge, worst, best = (
            beside.value - tolerated(beside.value, beside.rows),
            measure.lower,
            measure.upper,
        )
    else:
        edge, worst, best = -beside.value * (1 + RELATIVE_TOLERANCE), -measure.upper, -measure.lower
    if best < edge:
        return Verdict.BELOW
    return Verdict.WITHIN if worst >= edge else Verdict.INCONCLUSIVE


def _number(metric: QualityMetric, *, word: str = "") -> str:
    bounds = (
        f" [{metric.lower:.4g}, {metric.upper:.4g}]"
        if metric.lower is not None and metric.upper is not None
        else ""
    )
    whose = " (by the baseline's rows)" if metric.by_rows else ""
    beside = f", published {metric.baseline:.4g}{whose}" if metric.baseline is not None else ""
    return f"{word + ' ' if word else ''}{metric.name} {metric.value:.4g}{bounds}{beside}"
