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

class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTION_UNSPECIFIED: _ClassVar[Action]
    ACTION_DEPLOY: _ClassVar[Action]
    ACTION_ROLLBACK: _ClassVar[Action]
    ACTION_ADOPT: _ClassVar[Action]

class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_UNSPECIFIED: _ClassVar[State]
    STATE_NOT_SERVING: _ClassVar[State]
    STATE_LOADING: _ClassVar[State]
    STATE_READY: _ClassVar[State]
    STATE_DEGRADED: _ClassVar[State]
ACTION_UNSPECIFIED: Action
ACTION_DEPLOY: Action
ACTION_ROLLBACK: Action
ACTION_ADOPT: Action
STATE_UNSPECIFIED: State
STATE_NOT_SERVING: State
STATE_LOADING: State
STATE_READY: State
STATE_DEGRADED: State

class Actor(_message.Message):
    __slots__ = ("id", "method", "on_behalf_of")
    ID_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    ON_BEHALF_OF_FIELD_NUMBER: _ClassVar[int]
    id: str
    method: str
    on_behalf_of: str
    def __init__(self, id: _Optional[str] = ..., method: _Optional[str] = ..., on_behalf_of: _Optional[str] = ...) -> None: ...

class Writer(_message.Message):
    __slots__ = ("sidecar", "host", "software")
    SIDECAR_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    sidecar: str
    host: str
    software: str
    def __init__(self, sidecar: _Optional[str] = ..., host: _Optional[str] = ..., software: _Optional[str] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("schema", "generation", "previous_record_sha256", "model", "environment", "action", "version", "manifest_sha256", "previous_version", "actor", "reason", "source_commit", "request_id", "written_by", "timestamp", "status", "record_sha256")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_RECORD_SHA256_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_VERSION_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SOURCE_COMMIT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_BY_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RECORD_SHA256_FIELD_NUMBER: _ClassVar[int]
    schema: int
    generation: int
    previous_record_sha256: str
    model: str
    environment: str
    action: Action
    version: str
    manifest_sha256: str
    previous_version: str
    actor: Actor
    reason: str
    source_commit: str
    request_id: str
    written_by: Writer
    timestamp: _timestamp_pb2.Timestamp
    status: str
    record_sha256: str
    def __init__(self, schema: _Optional[int] = ..., generation: _Optional[int] = ..., previous_record_sha256: _Optional[str] = ..., model: _Optional[str] = ..., environment: _Optional[str] = ..., action: _Optional[_Union[Action, str]] = ..., version: _Optional[str] = ..., manifest_sha256: _Optional[str] = ..., previous_version: _Optional[str] = ..., actor: _Optional[_Union[Actor, _Mapping]] = ..., reason: _Optional[str] = ..., source_commit: _Optional[str] = ..., request_id: _Optional[str] = ..., written_by: _Optional[_Union[Writer, _Mapping]] = ..., timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., status: _Optional[str] = ..., record_sha256: _Optional[str] = ...) -> None: ...

class DeployRequest(_message.Message):
    __slots__ = ("model", "environment", "version", "expected_generation", "request_id", "reason", "validate_only", "allow_schema_change", "on_behalf_of", "source_commit", "shadow")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    ALLOW_SCHEMA_CHANGE_FIELD_NUMBER: _ClassVar[int]
    ON_BEHALF_OF_FIELD_NUMBER: _ClassVar[int]
    SOURCE_COMMIT_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    model: str
    environment: str
    version: str
    expected_generation: int
    request_id: str
    reason: str
    validate_only: bool
    allow_schema_change: bool
    on_behalf_of: str
    source_commit: str
    shadow: ShadowPlan
    def __init__(self, model: _Optional[str] = ..., environment: _Optional[str] = ..., version: _Optional[str] = ..., expected_generation: _Optional[int] = ..., request_id: _Optional[str] = ..., reason: _Optional[str] = ..., validate_only: _Optional[bool] = ..., allow_schema_change: _Optional[bool] = ..., on_behalf_of: _Optional[str] = ..., source_commit: _Optional[str] = ..., shadow: _Optional[_Union[ShadowPlan, _Mapping]] = ...) -> None: ...

class ShadowPlan(_message.Message):
    __slots__ = ("duration", "max_disagreement", "max_slowdown", "min_predictions")
    DURATION_FIELD_NUMBER: _ClassVar[int]
    MAX_DISAGREEMENT_FIELD_NUMBER: _ClassVar[int]
    MAX_SLOWDOWN_FIELD_NUMBER: _ClassVar[int]
    MIN_PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    duration: _duration_pb2.Duration
    max_disagreement: float
    max_slowdown: float
    min_predictions: int
    def __init__(self, duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_disagreement: _Optional[float] = ..., max_slowdown: _Optional[float] = ..., min_predictions: _Optional[int] = ...) -> None: ...

class ShadowReport(_message.Message):
    __slots__ = ("against", "compared", "disagreed", "failed", "median_ms", "against_median_ms", "mean_confidence", "against_mean_confidence", "seconds")
    AGAINST_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    DISAGREED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_MS_FIELD_NUMBER: _ClassVar[int]
    AGAINST_MEDIAN_MS_FIELD_NUMBER: _ClassVar[int]
    MEAN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    AGAINST_MEAN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    against: str
    compared: int
    disagreed: int
    failed: int
    median_ms: float
    against_median_ms: float
    mean_confidence: float
    against_mean_confidence: float
    seconds: float
    def __init__(self, against: _Optional[str] = ..., compared: _Optional[int] = ..., disagreed: _Optional[int] = ..., failed: _Optional[int] = ..., median_ms: _Optional[float] = ..., against_median_ms: _Optional[float] = ..., mean_confidence: _Optional[float] = ..., against_mean_confidence: _Optional[float] = ..., seconds: _Optional[float] = ...) -> None: ...

class DeployResponse(_message.Message):
    __slots__ = ("record", "took_ms", "replayed", "shadow")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    TOOK_MS_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    record: Record
    took_ms: float
    replayed: bool
    shadow: ShadowReport
    def __init__(self, record: _Optional[_Union[Record, _Mapping]] = ..., took_ms: _Optional[float] = ..., replayed: _Optional[bool] = ..., shadow: _Optional[_Union[ShadowReport, _Mapping]] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("model", "environment", "previous", "generation", "version", "expected_generation", "request_id", "reason", "validate_only", "on_behalf_of", "source_commit", "emergency")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    ON_BEHALF_OF_FIELD_NUMBER: _ClassVar[int]
    SOURCE_COMMIT_FIELD_NUMBER: _ClassVar[int]
    EMERGENCY_FIELD_NUMBER: _ClassVar[int]
    model: str
    environment: str
    previous: bool
    generation: int
    version: str
    expected_generation: int
    request_id: str
    reason: str
    validate_only: bool
    on_behalf_of: str
    source_commit: str
    emergency: bool
    def __init__(self, model: _Optional[str] = ..., environment: _Optional[str] = ..., previous: _Optional[bool] = ..., generation: _Optional[int] = ..., version: _Optional[str] = ..., expected_generation: _Optional[int] = ..., request_id: _Optional[str] = ..., reason: _Optional[str] = ..., validate_only: _Optional[bool] = ..., on_behalf_of: _Optional[str] = ..., source_commit: _Optional[str] = ..., emergency: _Optional[bool] = ...) -> None: ...

class RollbackResponse(_message.Message):
    __slots__ = ("record", "took_ms", "replayed")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    TOOK_MS_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    record: Record
    took_ms: float
    replayed: bool
    def __init__(self, record: _Optional[_Union[Record, _Mapping]] = ..., took_ms: _Optional[float] = ..., replayed: _Optional[bool] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("generation", "version", "record_sha256", "manifest_sha256")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RECORD_SHA256_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    generation: int
    version: str
    record_sha256: str
    manifest_sha256: str
    def __init__(self, generation: _Optional[int] = ..., version: _Optional[str] = ..., record_sha256: _Optional[str] = ..., manifest_sha256: _Optional[str] = ...) -> None: ...

class ResidentVersion(_message.Message):
    __slots__ = ("version", "manifest_sha256", "role", "loaded_at", "execution", "cost_seconds", "max_batch_rows")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    LOADED_AT_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    COST_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    version: str
    manifest_sha256: str
    role: str
    loaded_at: _timestamp_pb2.Timestamp
    execution: str
    cost_seconds: float
    max_batch_rows: int
    def __init__(self, version: _Optional[str] = ..., manifest_sha256: _Optional[str] = ..., role: _Optional[str] = ..., loaded_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., execution: _Optional[str] = ..., cost_seconds: _Optional[float] = ..., max_batch_rows: _Optional[int] = ...) -> None: ...

class StatusError(_message.Message):
    __slots__ = ("reason", "message", "version", "generation", "since")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    version: str
    generation: int
    since: _timestamp_pb2.Timestamp
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., version: _Optional[str] = ..., generation: _Optional[int] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ModelStatus(_message.Message):
    __slots__ = ("model", "environment", "state", "desired", "observed", "loaded_at", "resident", "last_error", "pointer_externally_managed", "pointer_staleness_seconds", "sidecar", "live_since", "unrecorded_version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    LOADED_AT_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    POINTER_EXTERNALLY_MANAGED_FIELD_NUMBER: _ClassVar[int]
    POINTER_STALENESS_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SIDECAR_FIELD_NUMBER: _ClassVar[int]
    LIVE_SINCE_FIELD_NUMBER: _ClassVar[int]
    UNRECORDED_VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    environment: str
    state: State
    desired: Standing
    observed: Standing
    loaded_at: _timestamp_pb2.Timestamp
    resident: _containers.RepeatedCompositeFieldContainer[ResidentVersion]
    last_error: StatusError
    pointer_externally_managed: bool
    pointer_staleness_seconds: float
    sidecar: str
    live_since: _timestamp_pb2.Timestamp
    unrecorded_version: str
    def __init__(self, model: _Optional[str] = ..., environment: _Optional[str] = ..., state: _Optional[_Union[State, str]] = ..., desired: _Optional[_Union[Standing, _Mapping]] = ..., observed: _Optional[_Union[Standing, _Mapping]] = ..., loaded_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., resident: _Optional[_Iterable[_Union[ResidentVersion, _Mapping]]] = ..., last_error: _Optional[_Union[StatusError, _Mapping]] = ..., pointer_externally_managed: _Optional[bool] = ..., pointer_staleness_seconds: _Optional[float] = ..., sidecar: _Optional[str] = ..., live_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., unrecorded_version: _Optional[str] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ("model", "environment")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    model: str
    environment: str
    def __init__(self, model: _Optional[str] = ..., environment: _Optional[str] = ...) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("statuses",)
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    statuses: _containers.RepeatedCompositeFieldContainer[ModelStatus]
    def __init__(self, statuses: _Optional[_Iterable[_Union[ModelStatus, _Mapping]]] = ...) -> None: ...

class WatchStatusRequest(_message.Message):
    __slots__ = ("model", "environment")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    model: str
    environment: str
    def __init__(self, model: _Optional[str] = ..., environment: _Optional[str] = ...) -> None: ...

class WatchStatusResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: ModelStatus
    def __init__(self, status: _Optional[_Union[ModelStatus, _Mapping]] = ...) -> None: ...

class ListDeploymentsRequest(_message.Message):
    __slots__ = ("model", "environment", "page_size", "page_token")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    environment: str
    page_size: int
    page_token: str
    def __init__(self, model: _Optional[str] = ..., environment: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDeploymentsResponse(_message.Message):
    __slots__ = ("records", "next_page_token")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[Record]
    next_page_token: str
    def __init__(self, records: _Optional[_Iterable[_Union[Record, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class VersionSummary(_message.Message):
    __slots__ = ("version", "manifest_sha256", "state", "problem", "training_date", "data_snapshot_id", "preprocessing_version", "framework", "metrics")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    TRAINING_DATE_FIELD_NUMBER: _ClassVar[int]
    DATA_SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    PREPROCESSING_VERSION_FIELD_NUMBER: _ClassVar[int]
    FRAMEWORK_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    version: str
    manifest_sha256: str
    state: str
    problem: str
    training_date: str
    data_snapshot_id: str
    preprocessing_version: str
    framework: str
    metrics: _containers.ScalarMap[str, float]
    def __init__(self, version: _Optional[str] = ..., manifest_sha256: _Optional[str] = ..., state: _Optional[str] = ..., problem: _Optional[str] = ..., training_date: _Optional[str] = ..., data_snapshot_id: _Optional[str] = ..., preprocessing_version: _Optional[str] = ..., framework: _Optional[str] = ..., metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ListVersionsRequest(_message.Message):
    __slots__ = ("model", "environment")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    model: str
    environment: str
    def __init__(self, model: _Optional[str] = ..., environment: _Optional[str] = ...) -> None: ...

class ListVersionsResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[VersionSummary]
    def __init__(self, versions: _Optional[_Iterable[_Union[VersionSummary, _Mapping]]] = ...) -> None: ...

class VerifyVersionRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class VerifyVersionResponse(_message.Message):
    __slots__ = ("verified", "manifest_sha256", "files", "reason", "problem")
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    verified: bool
    manifest_sha256: str
    files: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    problem: str
    def __init__(self, verified: _Optional[bool] = ..., manifest_sha256: _Optional[str] = ..., files: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., problem: _Optional[str] = ...) -> None: ...
