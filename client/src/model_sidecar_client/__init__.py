"""model-sidecar for applications and operators: ask for predictions, deploy, roll back, look.

    from model_sidecar_client import Client, Operator        # AsyncClient, AsyncOperator: the same methods, awaited

Importing this package loads nothing; a name loads its module (and gRPC) when it is first used, so that `sidecarctl`
starts fast. `model_sidecar_client.testing` has a sidecar to test against, without a model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_sidecar_client.aio_client import AsyncClient
    from model_sidecar_client.aio_operator import AsyncOperator
    from model_sidecar_client.answers import ModelMetadata, Prediction, ServerMetadata, TensorSpec
    from model_sidecar_client.client import Client
    from model_sidecar_client.errors import (
        CallCancelledError,
        CommitStateUnknownError,
        ConflictError,
        DeadlineError,
        InternalError,
        InvalidRequestError,
        NotFoundError,
        NotReachableError,
        NotSupportedError,
        OverloadedError,
        PermissionDeniedError,
        RefusedError,
        SidecarError,
        UnavailableError,
        VerificationFailedError,
    )
    from model_sidecar_client.foreign import AsyncPredictions, Predictions
    from model_sidecar_client.monitoring_records import (
        DriftBin,
        DriftStream,
        GuardDecision,
        ModelDrift,
        ModelQuality,
        QualityMetric,
        Verdict,
        VersionDrift,
        VersionQuality,
    )
    from model_sidecar_client.operator import Operator
    from model_sidecar_client.prediction_stream import AsyncPredictionStream, PredictionStream
    from model_sidecar_client.records import (
        Action,
        Actor,
        Deployed,
        LastError,
        Record,
        ResidentVersion,
        Shadow,
        ShadowReport,
        Standing,
        State,
        Status,
        Verification,
        VersionSummary,
        Writer,
    )
    from model_sidecar_client.truths import Feedback, FeedbackOutcome, FeedbackProblem, FeedbackReport

__all__ = [
    "Action",
    "Actor",
    "AsyncClient",
    "AsyncOperator",
    "AsyncPredictionStream",
    "AsyncPredictions",
    "CallCancelledError",
    "Client",
    "CommitStateUnknownError",
    "ConflictError",
    "DeadlineError",
    "Deployed",
    "DriftBin",
    "DriftStream",
    "Feedback",
    "FeedbackOutcome",
    "FeedbackProblem",
    "FeedbackReport",
    "GuardDecision",
    "InternalError",
    "InvalidRequestError",
    "LastError",
    "ModelDrift",
    "ModelMetadata",
    "ModelQuality",
    "NotFoundError",
    "NotReachableError",
    "NotSupportedError",
    "Operator",
    "OverloadedError",
    "PermissionDeniedError",
    "Prediction",
    "PredictionStream",
    "Predictions",
    "QualityMetric",
    "Record",
    "RefusedError",
    "ResidentVersion",
    "ServerMetadata",
    "Shadow",
    "ShadowReport",
    "SidecarError",
    "Standing",
    "State",
    "Status",
    "TensorSpec",
    "UnavailableError",
    "Verdict",
    "Verification",
    "VerificationFailedError",
    "VersionDrift",
    "VersionQuality",
    "VersionSummary",
    "Writer",
]

_ROOMS = {
    **dict.fromkeys(
        (
            "DriftBin",
            "DriftStream",
            "GuardDecision",
            "ModelDrift",
            "ModelQuality",
            "QualityMetric",
            "Verdict",
            "VersionDrift",
            "VersionQuality",
        ),
        "monitoring_records",
    ),
    "AsyncClient": "aio_client",
    "AsyncOperator": "aio_operator",
    "Client": "client",
    "Operator": "operator",
    **dict.fromkeys(("AsyncPredictionStream", "PredictionStream"), "prediction_stream"),
    **dict.fromkeys(("AsyncPredictions", "Predictions"), "foreign"),
    **dict.fromkeys(("Feedback", "FeedbackOutcome", "FeedbackProblem", "FeedbackReport"), "truths"),
    **dict.fromkeys(("ModelMetadata", "Prediction", "ServerMetadata", "TensorSpec"), "answers"),
    **dict.fromkeys(
        (
            "Action",
            "Actor",
            "Deployed",
            "LastError",
            "Record",
            "ResidentVersion",
            "Shadow",
            "ShadowReport",
            "Standing",
            "State",
            "Status",
            "Verification",
            "VersionSummary",
            "Writer",
        ),
        "records",
    ),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Everything that has no room of its own above is an error.
    module = import_module(f"{__name__}.{_ROOMS.get(name, 'errors')}")
    globals()[name] = value = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
