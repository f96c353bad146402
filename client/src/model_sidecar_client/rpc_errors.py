"""A failed gRPC call becomes one of our errors: by its ErrorInfo where the sidecar sent one, else by its status code."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

import grpc
from google.protobuf.message import DecodeError

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
from model_sidecar_client.wire.error_details import ErrorInfo, RetryInfo
from model_sidecar_client.wire.inference import ModelStreamInferResponse
from model_sidecar_client.wire.services import DEPLOYMENT, FEEDBACK, INFERENCE
from model_sidecar_client.wire.status import Status

DOMAIN = "model-sidecar"
DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
CODE_KEY = "grpc-status"
"""In a stream, an error's code and trailers are parameters of the answer, bytes in base64."""

_BY_CODE: dict[grpc.StatusCode, type[SidecarError]] = {
    grpc.StatusCode.OK: InternalError,
    grpc.StatusCode.CANCELLED: CallCancelledError,
    grpc.StatusCode.UNKNOWN: InternalError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: RefusedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: PermissionDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.FAILED_PRECONDITION: RefusedError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.UNIMPLEMENTED: NotSupportedError,
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DATA_LOSS: InternalError,
}

_UNKNOWN = grpc.StatusCode.UNKNOWN
_CODES = {code.value[0]: code for code in grpc.StatusCode}

# The commonest ways to ask somebody who does not know the call.
_OTHER_SOCKET = {
    DEPLOYMENT: " (is this the data socket? deployments are asked for at the control socket)",
    FEEDBACK: " (an older sidecar, or one that runs with --no-monitor, takes no feedback)",
    INFERENCE: " (is this the control socket? predictions are asked for at the data socket)",
}
# Of FeedbackService, the data socket has only what applications ask.
_OTHER_SOCKET_BY_METHOD = dict.fromkeys(
    ("GetQuality", "GetDrift"),
    " (is this the data socket? quality and drift are asked for at the control socket; an older sidecar, or one that "
    "runs with --no-monitor, has neither)",
)


@dataclass(frozen=True, slots=True)
class _Details:
    """What the sidecar added to the bare status."""

    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None


def translated(
    error: grpc.RpcError, *, target: str, service: str, method: str, timeout_s: float | None = None
) -> SidecarError:
    """Our error for gRPC's; the caller raises it `from` the original.

    Args:
        error: as a synchronous or an aio call raised it.
        target: where the call went, for the message.
        service: which the RPC belongs to, for the message.
        method: the RPC's name, for the message.
        timeout_s: how long the caller was ready to wait, for the message.
    """
    code = error.code()
    # By iteration: aio metadata look like a mapping to dict(), and in older releases are none.
    found = _details(dict(iter(cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ()))))
    kind = _class(code, found, error.details() or "")
    message = _message(
        kind,
        found,
        error.details() or code.name,
        target=target,
        service=service,
        method=method,
        timeout_s=timeout_s,
    )
    return _made(kind, message, found, code)


def ended(error: SidecarError) -> SidecarError:
    """The same error, of a stream that has ended by it, for whoever waits for an answer or asks after that.

    A message that was too large is its sender's fault and nobody else's, and gRPC does not tell whose it was: to all of
    them the stream is not there any more.
    """
    words = f"the stream has ended, and what has no answer gets none: {error}. Open another: client.stream(…)"
    if isinstance(error, InvalidRequestError):
        return UnavailableError(
            f"{words}. A message larger than the sidecar's --max-message ends the stream that it is sent over"
        )
    error.args = (words,)
    return error


def told(reply: ModelStreamInferResponse) -> SidecarError:
    """The error that one answer of a stream tells of; of an InternalError where it says nothing but words."""
    parameters = reply.infer_response.parameters
    code = _CODES.get(parameters[CODE_KEY].int64_param if CODE_KEY in parameters else -1, _UNKNOWN)
    trailing = {key: parameters[key].string_param for key in (DETAILS_KEY, PUSHBACK_KEY) if key in parameters}
    try:
        details = base64.b64decode(trailing.pop(DETAILS_KEY, ""))
    except ValueError:
        details = b""  # as below
    found = _details({**trailing, DETAILS_KEY: details})
    kind = _class(code, found, reply.error_message)
    return _made(kind, reply.error_message, found, code)


def _made(kind: type[SidecarError], message: str, found: _Details, code: grpc.StatusCode) -> SidecarError:
    ours = kind(message, reason=found.reason, metadata=found.metadata, code=code)
    if isinstance(ours, OverloadedError):
        ours.retry_after_s = found.retry_after_s
    return ours


def _class(code: grpc.StatusCode, found: _Details, details: str) -> type[SidecarError]:
    if found.metadata.get("kind") == "verification":
        return VerificationFailedError
    if found.reason == "COMMIT_STATE_UNKNOWN":
        return CommitStateUnknownError
    if code is grpc.StatusCode.UNAVAILABLE and not found.reason:
        # A sidecar that refuses says why; a bare UNAVAILABLE is the transport's own.
        return NotReachableError
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if "larger than max" in details:
            # gRPC's words for a message over a limit: no later try helps, so it is not overload.
            return InvalidRequestError
        if found.reason not in {"", "OVERLOADED"}:
            return RefusedError
    return _BY_CODE.get(code, InternalError)


def _message(
    kind: type[SidecarError],
    found: _Details,
    details: str,
    *,
    target: str,
    service: str,
    method: str,
    timeout_s: float | None,
) -> str:
    if found.reason:
        return details
    if kind is NotReachableError:
        return f"{method}: no sidecar answers at {target}: {details}"
    if kind is DeadlineError:
        waited = "in time" if timeout_s is None else f"within {timeout_s:g} s"
        return f"{method}: no answer from {target} {waited}"
    if kind is NotSupportedError:
        hint = _OTHER_SOCKET_BY_METHOD.get(method) or _OTHER_SOCKET.get(service, "")
        return f"{method}: what answers at {target} does not know this call: {details}{hint}"
    return f"{method} at {target}: {details}"


def _details(trailing: Mapping[str, str | bytes]) -> _Details:
    info, retry_after_s = ErrorInfo(), _pushback_s(trailing.get(PUSHBACK_KEY))
    try:
        status = Status.FromString(_as_bytes(trailing.get(DETAILS_KEY, b"")))
        for detail in status.details:
            # Read by name: whose pool the class of an Any's content belongs to must not matter.
            match detail.type_url.rpartition("/")[2]:
                case "google.rpc.ErrorInfo":
                    candidate = ErrorInfo.FromString(detail.value)
                    info = candidate if candidate.domain == DOMAIN else info
                case "google.rpc.RetryInfo" if retry_after_s is None:
                    delay = RetryInfo.FromString(detail.value).retry_delay
                    retry_after_s = delay.seconds + delay.nanos / 1e9
    except DecodeError:
        # Whatever stands between us and the sidecar may rewrite trailers; the bare status still says enough.
        return _Details(retry_after_s=retry_after_s)
    return _Details(info.reason, dict(info.metadata), retry_after_s)


def _pushback_s(value: str | bytes | None) -> float | None:
    # A negative pushback means "do not retry" (gRFC A6).
    text = _as_bytes(value or b"").decode("ascii", "replace")
    return int(text) / 1000 if text.isascii() and text.isdigit() else None


def _as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
