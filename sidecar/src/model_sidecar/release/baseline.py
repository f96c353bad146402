"""`baseline.json`: how often a version saw and said what, over the rows that it was published with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StreamKind(StrEnum):
    """What a stream is about."""

    FEATURE = "feature"
    SCORE = "score"
    CONFIDENCE = "confidence"
    CLASS = "class"
    NONFINITE = "nonfinite"
    RANGE = "range"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class Baseline:
    """The reference statistics of one version."""

    rows: int
