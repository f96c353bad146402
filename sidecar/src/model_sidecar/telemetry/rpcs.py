"""The RPCs that may stand in a metric's label, and gRPC's codes as the gRPC ecosystem's metrics spell them."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.descriptor import MethodDescriptor

from model_sidecar_client.wire.pool import pool

_SERVICES = (
    "inference.GRPCInferenceService",
    "model_sidecar.v1.DeploymentService",
    "model_sidecar.v1.FeedbackService",
)
_HEALTH = "/grpc.health.v1.Health"
_STANDARD = {
    f"{_HEALTH}/Check": "unary",
    f"{_HEALTH}/List": "unary",
    f"{_HEALTH}/Watch": "server_stream",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": "bidi_stream",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": "bidi_stream",
}

CODES: Mapping[str, str] = {
    "OK": "OK",
    "CANCELLED": "Canceled",
    "UNKNOWN": "Unknown",
    "INVALID_ARGUMENT": "InvalidArgument",
    "DEADLINE_EXCEEDED": "DeadlineExceeded",
    "NOT_FOUND": "NotFound",
    "ALREADY_EXISTS": "AlreadyExists",
    "PERMISSION_DENIED": "PermissionDenied",
    "RESOURCE_EXHAUSTED": "ResourceExhausted",
    "FAILED_PRECONDITION": "FailedPrecondition",
    "ABORTED": "Aborted",
    "OUT_OF_RANGE": "OutOfRange",
    "UNIMPLEMENTED": "Unimplemented",
    "INTERNAL": "Internal",
    "UNAVAILABLE": "Unavailable",
    "DATA_LOSS": "DataLoss",
    "UNAUTHENTICATED": "Unauthenticated",
}
"""A code's name, and how `grpc_code` spells it: as go-grpc-prometheus does, for whose values public alerts look."""


def known_rpcs() -> dict[str, str]:
    """Full method names, such as "/inference.GRPCInferenceService/ModelInfer", and their `grpc_type`."""
    own = {
        f"/{service}/{method.name}": _type(method)
        for service in _SERVICES
        for method in pool().FindServiceByName(service).methods
    }
    return own | _STANDARD


def _type(method: MethodDescriptor) -> str:
    match method.client_streaming, method.server_streaming:
        case False, False:
            return "unary"
        case True, False:
            return "client_stream"
        case False, True:
            return "server_stream"
        case _:
            return "bidi_stream"
