"""Our errors as gRPC statuses. This table is the only place that knows which error becomes which code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from model_sidecar.errors import (
    CommitStateUnknownError,
    ConfigurationError,
    ConflictError,
    DeadlineOverError,
    InferenceFailedError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    Reason,
    RefusedError,
    RegionExistsError,
    ShortageError,
    SidecarError,
    StoreError,
    StoreFullError,
    UnavailableError,
    VerificationError,
)
from model_sidecar_client.wire.error_details import ErrorInfo, RetryInfo
from model_sidecar_client.wire.status import Status

DOMAIN = "model-sidecar"
DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"

CODES: Mapping[type[SidecarError], grpc.StatusCode] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    VerificationError: grpc.StatusCode.FAILED_PRECONDITION,
    RefusedError: grpc.StatusCode.FAILED_PRECONDITION,
    RegionExistsError: grpc.StatusCode.ALREADY_EXISTS,
    ConflictError: grpc.StatusCode.ABORTED,
    CommitStateUnknownError: grpc.StatusCode.UNKNOWN,
    StoreError: grpc.StatusCode.UNAVAILABLE,
    StoreFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ShortageError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineOverError: grpc.StatusCode.DEADLINE_EXCEEDED,
    InferenceFailedError: grpc.StatusCode.INTERNAL,
    ConfigurationError: grpc.StatusCode.FAILED_PRECONDITION,
}
"""An error without a row of its own has that of its nearest ancestor; one without any is INTERNAL."""

# gRPC's peers take 8 KiB of metadata. The message travels twice: percent-encoded (three bytes for each that is not
# ASCII) and, with the facts, in base64.
_MESSAGE_BYTES = 1024
_FACT_BYTES = 256
_FACTS_BYTES = 1024

_VAGUE: Mapping[Reason, str] = {
    Reason.INFERENCE_FAILED: "the model failed on this input; the sidecar's log has the particulars",
}
_VAGUE_OTHERWISE = "the sidecar failed; its log has the particulars"


@dataclass(frozen=True, slots=True)
class Failure:
    """A call's failure as it goes over the wire.

    Attributes:
        code: gRPC's.
        message: for people; bounded, printable.
        trailing: metadata for programs.
        for_the_log: whether the caller was told too little to understand it, so that the log has to.
    """

    code: grpc.StatusCode
    message: str
    trailing: tuple[tuple[str, str | bytes], ...]
    for_the_log: bool


def code_of(error: BaseException) -> grpc.StatusCode:
    """The code that this error becomes."""
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return grpc.StatusCode.INTERNAL


def failure_of(error: BaseException) -> Failure:
    """This error as the caller may see it: ours whole, what went wrong inside only in vague words."""
    code = code_of(error)
    inside = code is grpc.StatusCode.INTERNAL or not isinstance(error, SidecarError)
    reason = error.reason if isinstance(error, SidecarError) else Reason.INTERNAL
    message = _VAGUE.get(reason, _VAGUE_OTHERWISE) if inside else printable(str(error), limit=_MESSAGE_BYTES)
    facts = error.facts if isinstance(error, SidecarError) and not inside else {}
    if isinstance(error, VerificationError):
        facts = {"kind": "verification", **facts}
    status = Status(code=code.value[0], message=message)
    _add(status, "ErrorInfo", ErrorInfo(reason=reason, domain=DOMAIN, metadata=_bounded(facts)))
    trailing: list[tuple[str, str | bytes]] = []
    if isinstance(error, OverloadedError):
        milliseconds = max(1, round(error.retry_after_s * 1000))
        trailing.append((PUSHBACK_KEY, str(milliseconds)))
        delay = RetryInfo()
        delay.retry_delay.FromMilliseconds(milliseconds)
        _add(status, "RetryInfo", delay)
    elif reason is Reason.LOG_UNAVAILABLE:
        # Not again by gRPC itself: that would use up the caller's deadline, and hide from him what is the matter.
        trailing.append((PUSHBACK_KEY, "-1"))
    trailing.append((DETAILS_KEY, status.SerializeToString()))
    return Failure(code, message, tuple(trailing), for_the_log=inside)


def printable(text: str, *, limit: int) -> str:
    """The text without control characters (each becomes its escape) and of at most `limit` bytes in UTF-8.

    Log lines cannot be forged with it, nor terminals steered.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    encoded = text.encode()
    return text if len(encoded) <= limit else encoded[: limit - 3].decode(errors="ignore") + "…"


def _bounded(facts: Mapping[str, str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    left = _FACTS_BYTES
    for name, value in facts.items():
        shown = printable(value, limit=_FACT_BYTES)
        left -= len(name.encode()) + len(shown.encode())
        if left < 0:
            break
        kept[name] = shown
    return kept


def _add(status: Status, name: str, detail: ErrorInfo | RetryInfo) -> None:
    # By name instead of Any.Pack: our classes live in a pool of their own.
    status.details.add(type_url=f"type.googleapis.com/google.rpc.{name}", value=detail.SerializeToString())
