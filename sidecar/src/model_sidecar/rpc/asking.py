"""One question to a sidecar's health service, for the probe."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from model_sidecar.errors import Reason, UnavailableError

_REFUSED = frozenset({grpc.StatusCode.NOT_FOUND})


def serves(target: str, *, service: str, timeout_s: float) -> bool:
    """Whether the sidecar at this gRPC target says that the service is SERVING.

    Raises:
        UnavailableError: NOT_REACHABLE, nothing answers there in time.
    """
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask = health_pb2_grpc.HealthStub(channel).Check
        try:
            answer = ask(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code() in _REFUSED:
                return False
            raise UnavailableError(
                f"no sidecar answers at {target}: {error.details()}", reason=Reason.NOT_REACHABLE
            ) from error
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
