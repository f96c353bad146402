import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_INCONCLUSIVE: _ClassVar[Verdict]
    VERDICT_WITHIN: _ClassVar[Verdict]
    VERDICT_BELOW: _ClassVar[Verdict]
VERDICT_UNSPECIFIED: Verdict
VERDICT_INCONCLUSIVE: Verdict
VERDICT_WITHIN: Verdict
VERDICT_BELOW: Verdict

class Feedback(_message.Message):
    __slots__ = ("prediction_id", "number", "label", "observed_at", "source", "replace")
    PREDICTION_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_AT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    prediction_id: str
    number: float
    label: str
    observed_at: _timestamp_pb2.Timestamp
    source: str
    replace: bool
    def __init__(self, prediction_id: _Optional[str] = ..., number: _Optional[float] = ..., label: _Optional[str] = ..., observed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., source: _Optional[str] = ..., replace: _Optional[bool] = ...) -> None: ...

class FeedbackCounts(_message.Message):
    __slots__ = ("joined", "duplicate", "unknown", "unsampled", "too_late", "invalid")
    JOINED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    UNSAMPLED_FIELD_NUMBER: _ClassVar[int]
    TOO_LATE_FIELD_NUMBER: _ClassVar[int]
    INVALID_FIELD_NUMBER: _ClassVar[int]
    joined: int
    duplicate: int
    unknown: int
    unsampled: int
    too_late: int
    invalid: int
    def __init__(self, joined: _Optional[int] = ..., duplicate: _Optional[int] = ..., unknown: _Optional[int] = ..., unsampled: _Optional[int] = ..., too_late: _Optional[int] = ..., invalid: _Optional[int] = ...) -> None: ...

class FeedbackProblem(_message.Message):
    __slots__ = ("index", "prediction_id", "outcome", "message")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    index: int
    prediction_id: str
    outcome: str
    message: str
    def __init__(self, index: _Optional[int] = ..., prediction_id: _Optional[str] = ..., outcome: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class RecordFeedbackRequest(_message.Message):
    __slots__ = ("feedback",)
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    feedback: _containers.RepeatedCompositeFieldContainer[Feedback]
    def __init__(self, feedback: _Optional[_Iterable[_Union[Feedback, _Mapping]]] = ...) -> None: ...

class RecordFeedbackResponse(_message.Message):
    __slots__ = ("counts", "problems")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    counts: FeedbackCounts
    problems: _containers.RepeatedCompositeFieldContainer[FeedbackProblem]
    def __init__(self, counts: _Optional[_Union[FeedbackCounts, _Mapping]] = ..., problems: _Optional[_Iterable[_Union[FeedbackProblem, _Mapping]]] = ...) -> None: ...

class RecordFeedbackStreamRequest(_message.Message):
    __slots__ = ("feedback",)
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    feedback: _containers.RepeatedCompositeFieldContainer[Feedback]
    def __init__(self, feedback: _Optional[_Iterable[_Union[Feedback, _Mapping]]] = ...) -> None: ...

class RecordFeedbackStreamResponse(_message.Message):
    __slots__ = ("counts", "problems")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    counts: FeedbackCounts
    problems: _containers.RepeatedCompositeFieldContainer[FeedbackProblem]
    def __init__(self, counts: _Optional[_Union[FeedbackCounts, _Mapping]] = ..., problems: _Optional[_Iterable[_Union[FeedbackProblem, _Mapping]]] = ...) -> None: ...

class ForeignPrediction(_message.Message):
    __slots__ = ("version", "number", "label", "confidence", "true_number", "true_label")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    TRUE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TRUE_LABEL_FIELD_NUMBER: _ClassVar[int]
    version: str
    number: float
    label: str
    confidence: float
    true_number: float
    true_label: str
    def __init__(self, version: _Optional[str] = ..., number: _Optional[float] = ..., label: _Optional[str] = ..., confidence: _Optional[float] = ..., true_number: _Optional[float] = ..., true_label: _Optional[str] = ...) -> None: ...

class RecordPredictionsRequest(_message.Message):
    __slots__ = ("model", "environment", "predictions")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    environment: str
    predictions: _containers.RepeatedCompositeFieldContainer[ForeignPrediction]
    def __init__(self, model: _Optional[str] = ..., environment: _Optional[str] = ..., predictions: _Optional[_Iterable[_Union[ForeignPrediction, _Mapping]]] = ...) -> None: ...

class RecordPredictionsResponse(_message.Message):
    __slots__ = ("prediction_ids",)
    PREDICTION_IDS_FIELD_NUMBER: _ClassVar[int]
    prediction_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, prediction_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class QualityMetric(_message.Message):
    __slots__ = ("name", "value", "lower", "upper", "baseline", "estimated", "verdict")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOWER_FIELD_NUMBER: _ClassVar[int]
    UPPER_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    lower: float
    upper: float
    baseline: float
    estimated: bool
    verdict: Verdict
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., lower: _Optional[float] = ..., upper: _Optional[float] = ..., baseline: _Optional[float] = ..., estimated: _Optional[bool] = ..., verdict: _Optional[_Union[Verdict, str]] = ...) -> None: ...

class VersionQuality(_message.Message):
    __slots__ = ("version", "manifest_sha256", "task", "window_start", "window_end", "predictions", "labels", "coverage", "metrics", "verdict", "evidence_log10", "threshold_log10", "alarm_since", "summary")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    WINDOW_START_FIELD_NUMBER: _ClassVar[int]
    WINDOW_END_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_LOG10_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_LOG10_FIELD_NUMBER: _ClassVar[int]
    ALARM_SINCE_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    version: str
    manifest_sha256: str
    task: str
    window_start: _timestamp_pb2.Timestamp
    window_end: _timestamp_pb2.Timestamp
    predictions: int
    labels: int
    coverage: float
    metrics: _containers.RepeatedCompositeFieldContainer[QualityMetric]
    verdict: Verdict
    evidence_log10: float
    threshold_log10: float
    alarm_since: _timestamp_pb2.Timestamp
    summary: str
    def __init__(self, version: _Optional[str] = ..., manifest_sha256: _Optional[str] = ..., task: _Optional[str] = ..., window_start: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., window_end: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., predictions: _Optional[int] = ..., labels: _Optional[int] = ..., coverage: _Optional[float] = ..., metrics: _Optional[_Iterable[_Union[QualityMetric, _Mapping]]] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., evidence_log10: _Optional[float] = ..., threshold_log10: _Optional[float] = ..., alarm_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., summary: _Optional[str] = ...) -> None: ...

class GetQualityRequest(_message.Message):
    __slots__ = ("model", "environment", "version", "window")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    model: str
    environment: str
    version: str
    window: _duration_pb2.Duration
    def __init__(self, model: _Optional[str] = ..., environment: _Optional[str] = ..., version: _Optional[str] = ..., window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ModelQuality(_message.Message):
    __slots__ = ("model", "environment", "versions")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    environment: str
    versions: _containers.RepeatedCompositeFieldContainer[VersionQuality]
    def __init__(self, model: _Optional[str] = ..., environment: _Optional[str] = ..., versions: _Optional[_Iterable[_Union[VersionQuality, _Mapping]]] = ...) -> None: ...

class GetQualityResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelQuality]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelQuality, _Mapping]]] = ...) -> None: ...

class DriftBin(_message.Message):
    __slots__ = ("label", "baseline_share", "share")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    BASELINE_SHARE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    label: str
    baseline_share: float
    share: float
    def __init__(self, label: _Optional[str] = ..., baseline_share: _Optional[float] = ..., share: _Optional[float] = ...) -> None: ...

class DriftStream(_message.Message):
    __slots__ = ("name", "kind", "baseline_rows", "rows", "evidence_log10", "direction", "size", "alarm", "bins")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BASELINE_ROWS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_LOG10_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ALARM_FIELD_NUMBER: _ClassVar[int]
    BINS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    baseline_rows: int
    rows: int
    evidence_log10: float
    direction: str
    size: float
    alarm: bool
    bins: _containers.RepeatedCompositeFieldContainer[DriftBin]
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., baseline_rows: _Optional[int] = ..., rows: _Optional[int] = ..., evidence_log10: _Optional[float] = ..., direction: _Optional[str] = ..., size: _Optional[float] = ..., alarm: _Optional[bool] = ..., bins: _Optional[_Iterable[_Union[DriftBin, _Mapping]]] = ...) -> None: ...

class VersionDrift(_message.Message):
    __slots__ = ("version", "manifest_sha256", "baseline_rows", "band", "rows", "evidence_log10", "threshold_log10", "alarm_since", "cause", "cause_kind", "summary", "streams", "notes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    BASELINE_ROWS_FIELD_NUMBER: _ClassVar[int]
    BAND_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_LOG10_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_LOG10_FIELD_NUMBER: _ClassVar[int]
    ALARM_SINCE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_KIND_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    version: str
    manifest_sha256: str
    baseline_rows: int
    band: float
    rows: int
    evidence_log10: float
    threshold_log10: float
    alarm_since: _timestamp_pb2.Timestamp
    cause: str
    cause_kind: str
    summary: str
    streams: _containers.RepeatedCompositeFieldContainer[DriftStream]
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[str] = ..., manifest_sha256: _Optional[str] = ..., baseline_rows: _Optional[int] = ..., band: _Optional[float] = ..., rows: _Optional[int] = ..., evidence_log10: _Optional[float] = ..., threshold_log10: _Optional[float] = ..., alarm_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., cause: _Optional[str] = ..., cause_kind: _Optional[str] = ..., summary: _Optional[str] = ..., streams: _Optional[_Iterable[_Union[DriftStream, _Mapping]]] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class GuardDecision(_message.Message):
    __slots__ = ("time", "decision", "trigger", "version", "target", "generation", "evidence_log10", "message")
    TIME_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_LOG10_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    decision: str
    trigger: str
    version: str
    target: str
    generation: int
    evidence_log10: float
    message: str
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., decision: _Optional[str] = ..., trigger: _Optional[str] = ..., version: _Optional[str] = ..., target: _Optional[str] = ..., generation: _Optional[int] = ..., evidence_log10: _Optional[float] = ..., message: _Optional[str] = ...) -> None: ...

class GetDriftRequest(_message.Message):
    __slots__ = ("model", "environment", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    environment: str
    version: str
    def __init__(self, model: _Optional[str] = ..., environment: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class ModelDrift(_message.Message):
    __slots__ = ("model", "environment", "versions", "guard", "decisions")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    GUARD_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    environment: str
    versions: _containers.RepeatedCompositeFieldContainer[VersionDrift]
    guard: str
    decisions: _containers.RepeatedCompositeFieldContainer[GuardDecision]
    def __init__(self, model: _Optional[str] = ..., environment: _Optional[str] = ..., versions: _Optional[_Iterable[_Union[VersionDrift, _Mapping]]] = ..., guard: _Optional[str] = ..., decisions: _Optional[_Iterable[_Union[GuardDecision, _Mapping]]] = ...) -> None: ...

class GetDriftResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelDrift]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelDrift, _Mapping]]] = ...) -> None: ...
