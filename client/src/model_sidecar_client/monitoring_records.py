"""What is known of quality and drift: frozen records, the fields those of proto/model_sidecar/v1/feedback.proto."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Verdict(StrEnum):
    """How something compares with what the version was published with.

    INCONCLUSIVE: there is nothing to compare with, or too little to compare. UNKNOWN: this client is too old to know.
    """

    INCONCLUSIVE = "inconclusive"
    WITHIN = "within"
    BELOW = "below"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityMetric:
    """One metric over a window.

    Attributes:
        name: "accuracy", "f1", "auc", "log_loss", "mae", "rmse"; "precision" and "recall" where the manifest has them.
        lower, upper: bounds of a 95 % confidence interval; None where there are none.
        baseline: the manifest's; None where it tells none.
        estimated: made of confidences and the published calibration, without labels.
    """

    name: str
    value: float
    lower: float | None
    upper: float | None
    baseline: float | None
    estimated: bool
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionQuality:
    """How well one version predicts.

    Attributes:
        task: "classification", "regression" or "none".
        coverage: labels over predictions.
        evidence_log10: that it predicts worse than it was published with; from `threshold_log10` on it is an alarm.
        alarm_since: None: no alarm.
        summary: one sentence for a person.
    """

    version: str
    manifest_sha256: str
    task: str
    window_start: datetime | None
    window_end: datetime | None
    predictions: int
    labels: int
    coverage: float
    metrics: tuple[QualityMetric, ...]
    verdict: Verdict
    evidence_log10: float
    threshold_log10: float
    alarm_since: datetime | None
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelQuality:
    """The versions of one model that are watched, the live one first."""

    model: str
    environment: str
    versions: tuple[VersionQuality, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftBin:
    """One bin of a stream: its share of the baseline's rows, and of the last hour's."""

    label: str
    baseline_share: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftStream:
    """One stream: a feature, an output, or how often something is wrong with them.

    Attributes:
        kind: "feature", "score", "confidence", "class", "nonfinite", "range" or "constant".
        rows: seen in the last hour.
        direction: where the most evidence points: "up", "down", "more", "less", or "".
        size: how far the share is from the baseline's there.
    """

    name: str
    kind: str
    baseline_rows: int
    rows: int
    evidence_log10: float
    direction: str
    size: float
    alarm: bool
    bins: tuple[DriftBin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDrift:
    """How far one version has drifted from what it was published with.

    Attributes:
        band: by how much a share may differ before that counts.
        evidence_log10: of all streams together; from `threshold_log10` on it is an alarm.
        alarm_since: None: no alarm.
        cause, cause_kind: the stream that says most; "" while none says anything.
        summary: what it says, in one sentence for a person.
        notes: what limits what can be said.
    """

    version: str
    manifest_sha256: str
    baseline_rows: int
    band: float
    rows: int
    evidence_log10: float
    threshold_log10: float
    alarm_since: datetime | None
    cause: str
    cause_kind: str
    summary: str
    streams: tuple[DriftStream, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardDecision:
    """What the guard decided, and on what grounds.

    Attributes:
        decision: "rolled_back", "would_roll_back" (dry run), "held" (a condition forbade it), "failed".
        trigger: such as "nonfinite", "errors" or "accuracy".
        generation: of the record that it made; 0 for none.
    """

    time: datetime | None
    decision: str
    trigger: str
    version: str
    target: str
    generation: int
    evidence_log10: float
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDrift:
    """The versions of one model that are watched, the live one first, and its guard.

    Attributes:
        guard: "off", "dry-run" or "on".
        decisions: newest first.
    """

    model: str
    environment: str
    versions: tuple[VersionDrift, ...]
    guard: str
    decisions: tuple[GuardDecision, ...]
