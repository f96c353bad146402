"""`baseline.json`: how often a version saw and said what, over the rows that it was published with.

All of it is counts over fixed bins, and a share is a count over `rows` that had a value: what is compared with it later
is counts over the same bins, so N sidecars' add up to one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

ENOUGH_ROWS = 20_000
"""With fewer the shares are too uncertain for the band as it is told: it is widened, and publish says so."""
MAX_FEATURES = 64
"""Feature streams of a version; of wider inputs evenly spaced columns are taken."""
MAX_CLASSES = 32
"""Classes with a share of their own, the most frequent ones; the others are one."""

ANSWER_BINS = 16
"""Answers are sorted into so many bins by a hash: where nearly all fall into one, nearly all are the same answer."""


class StreamKind(StrEnum):
    """What a stream is about."""

    FEATURE = "feature"
    SCORE = "score"
    CONFIDENCE = "confidence"
    CLASS = "class"
    NONFINITE = "nonfinite"
    RANGE = "range"
    CONSTANT = "constant"


class StreamBaseline(msgspec.Struct, frozen=True, gc=False):
    """The values of one column: nothing that could be part of a circle, so the garbage collector need not know of it.

    It would have to look at each, and lets nobody in meanwhile; eight models have some five hundred.

    Attributes:
        name: the feature's, "score" or "confidence".
        kind: FEATURE, SCORE or CONFIDENCE.
        cuts: ascending, at most nine: near the deciles, each once; none where all values are one.
        at_or_below: how many finite values were at or below each cut; never all of them.
        finite, nan, infinite: how many rows had such a value; together they are the baseline's rows.
        low, high: the smallest and the largest finite value; None where there was none.
    """

    name: str
    kind: StreamKind
    cuts: tuple[float, ...]
    at_or_below: tuple[int, ...]
    finite: int
    nan: int
    infinite: int
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Classes:
    """How often each class was predicted: the most frequent ones by name, the rest together."""

    names: tuple[str, ...]
    counts: tuple[int, ...]
    other: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """How often predictions of a confidence were wrong.

    Attributes:
        edges: ascending, inside 0..1: bin i holds confidences above edges[i - 1] and at or below edges[i], so there is
            one bin more than edges (`numpy.searchsorted(edges, confidence)` is the bin). About 20 bins of equally many rows.
        rows: per bin, how many predictions.
        errors: per bin, how many of them were wrong.
    """

    edges: tuple[float, ...]
    rows: tuple[int, ...]
    errors: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The reference statistics of one version.

    Attributes:
        rows: over how many rows they were counted.
        streams: the columns: features in the input's order, then score and confidence where there are any.
        classes: of a classification; None otherwise.
        nonfinite: rows of which an output held NaN or infinity.
        commonest: of rows sorted into ANSWER_BINS by a hash of their answers, how many were in the fullest bin.
        calibration: for a classification with confidences whose truth was given; None otherwise.
        error_q90: nine in ten predictions of a regression were no farther from the truth than this; None likewise.
    """

    rows: int
    streams: tuple[StreamBaseline, ...] = ()
    classes: Classes | None = None
    nonfinite: int = 0
    commonest: int = 0
    calibration: Calibration | None = None
    error_q90: float | None = None


def class_name(value: float | str) -> str:
    """What a class is called in a baseline and in streams: text as it is, a whole number without a fraction."""
    if isinstance(value, str):
        return value
    return str(int(value)) if float(value).is_integer() else str(float(value))
