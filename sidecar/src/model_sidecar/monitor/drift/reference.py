"""A baseline out of rows: the same columns that are watched later, sorted into bins and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_sidecar.monitor.drift.streams import spaced
from model_sidecar.monitor.hashing import answer_bins
from model_sidecar.monitor.quality.truths import same
from model_sidecar.monitor.readings import Readings
from model_sidecar.release.baseline import (
    MAX_CLASSES,
    Baseline,
    Calibration,
    Classes,
    StreamBaseline,
    StreamKind,
    class_name,
)

_DECILES = np.arange(1, 10) / 10
_CALIBRATION_BINS = 20
_ERROR_QUANTILE = 0.9


def baseline_of(
    readings: Readings,
    features: Sequence[str],
    *,
    task: str,
    truth: NDArray[Any] | None = None,
) -> Baseline:
    """The baseline that these rows make.

    Args:
        readings: the rows, n of them.
        features: the names of the columns of `readings.features`; the evenly spaced ones of many are taken.
        task: as in `OutputRoles`; only of a classification the classes are counted.
        truth: (n,) what was true: classes, or numbers; None: not known.
    """
    rows = len(readings.ids)
    streams = [
        _column(features[at], StreamKind.FEATURE, readings.features[:, at]) for at in spaced(len(features))
    ]
    for kind, column in ((StreamKind.SCORE, readings.score), (StreamKind.CONFIDENCE, readings.confidence)):
        if column is not None:
            streams.append(_column(kind.value, kind, column))
    bins = answer_bins(readings, np.arange(rows))
    said = readings.prediction
    classified = task == "classification" and said is not None
    wrong = _wrong(said, truth) if classified and truth is not None and said is not None else None
    return Baseline(
        rows=rows,
        streams=tuple(streams),
        classes=_classes(said) if classified and said is not None else None,
        nonfinite=int(readings.nonfinite.sum()),
        commonest=0 if bins is None else int(np.bincount(bins).max(initial=0)),
        calibration=_calibration(readings.confidence, wrong),
        error_q90=_error(said, truth) if task == "regression" else None,
    )


def _column(name: str, kind: StreamKind, values: NDArray[np.float64]) -> StreamBaseline:
    finite = values[np.isfinite(values)]
    nan = int(np.isnan(values).sum())
    cuts, at_or_below = _cuts(finite)
    return StreamBaseline(
        name=name,
        kind=kind,
        cuts=cuts,
        at_or_below=at_or_below,
        finite=len(finite),
        nan=nan,
        infinite=len(values) - len(finite) - nan,
        low=float(finite.min()) if len(finite) else None,
        high=float(finite.max()) if len(finite) else None,
    )


def _cuts(finite: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """The values whose share at or below is nearest to each decile, each once, and how many are; but not the largest.

    So a value that many rows share, as of a discrete feature, has a cut at it and one below it, never two at it.
    """
    values, counts = np.unique(finite, return_counts=True)
    upto = np.cumsum(counts)[:-1]
    if not len(upto):
        return (), ()
    wanted = _DECILES * len(finite)
    after = np.clip(np.searchsorted(upto, wanted), 0, len(upto) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(np.abs(upto[before] - wanted) < np.abs(upto[after] - wanted), before, after)
    chosen = np.unique(nearest)
    return tuple(values[chosen].tolist()), tuple(upto[chosen].tolist())


def _classes(prediction: NDArray[Any]) -> Classes:
    counts = Counter(class_name(each) for each in prediction.tolist())
    # By name where counts are equal, so that the same rows make the same file.
    named = sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:MAX_CLASSES]
    return Classes(
        names=tuple(name for name, _ in named),
        counts=tuple(count for _, count in named),
        other=len(prediction) - sum(count for _, count in named),
    )


def _wrong(prediction: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.bool_]:
    pairs = zip(prediction.tolist(), truth.tolist(), strict=True)
    return np.array([not same(said, true) for said, true in pairs], dtype=np.bool_)  # as feedback is judged


def _calibration(
    confidence: NDArray[np.float64] | None, wrong: NDArray[np.bool_] | None
) -> Calibration | None:
    if confidence is None or wrong is None:
        return None
    finite = np.isfinite(confidence)
    if not finite.any():
        return None
    confidence, wrong = confidence[finite], wrong[finite]
    wanted = np.arange(1, _CALIBRATION_BINS) / _CALIBRATION_BINS
    edges = np.unique(np.quantile(confidence, wanted, method="lower"))
    bins = np.searchsorted(edges, confidence)
    return Calibration(
        edges=tuple(edges.tolist()),
        rows=tuple(np.bincount(bins, minlength=len(edges) + 1).tolist()),
        errors=tuple(np.bincount(bins[wrong], minlength=len(edges) + 1).tolist()),
    )


def _error(prediction: NDArray[Any] | None, truth: NDArray[Any] | None) -> float | None:
    if prediction is None or truth is None:
        return None
    errors = np.abs(prediction - truth)
    errors = errors[np.isfinite(errors)]
    return float(np.quantile(errors, _ERROR_QUANTILE)) if len(errors) else None
