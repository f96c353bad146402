"""What is known of a version's quality at one moment: the proto's messages of the same names, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version


class Verdict(StrEnum):
    """How something compares with what the version was published with."""

    INCONCLUSIVE = "inconclusive"
    WITHIN = "within"
    BELOW = "below"


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityMetric:
    """One metric; the fields are those of the message (proto/model_sidecar/v1/feedback.proto).

    Attributes:
        lower, upper: bounds of a 95 % confidence interval; None where the sample says nothing about them.
        baseline: the manifest's; of the accuracy else the calibration table's; None where neither tells one.
        by_rows: whether it is the calibration table's, the share that was right of the baseline's rows.
        estimated: made without labels; then the verdict is INCONCLUSIVE, whatever the value.
    """

    name: str
    value: float
    lower: float | None = None
    upper: float | None = None
    baseline: float | None = None
    by_rows: bool = False
    estimated: bool = False
    verdict: Verdict = Verdict.INCONCLUSIVE

    @property
    def label(self) -> str:
        """What it is called among others: an estimate is not taken for what was measured."""
        return f"{self.name}_estimate" if self.estimated else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionQuality:
    """A version's quality over a window; the fields are those of the message.

    Attributes:
        task: "classification", "regression" or "none".
        predictions, labels: how many of this window this process has seen.
        coverage: labels over predictions, at most 1.
        evidence_log10: that it predicts worse than it was published with, over all labels; 0 where nothing is compared.
        alarm_since: None: no alarm.
        summary: one sentence for a person.
    """

    version: Version
    manifest_sha256: Digest
    task: str
    window_start: datetime
    window_end: datetime
    predictions: int
    labels: int
    coverage: float
    metrics: tuple[QualityMetric, ...]
    verdict: Verdict
    evidence_log10: float
    threshold_log10: float
    alarm_since: datetime | None
    summary: str
