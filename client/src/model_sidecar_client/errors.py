"""Every error that this package raises, in one tree; it leaves out how a gRPC failure becomes one (`rpc_errors`).

SidecarError
├── InvalidRequestError          what was asked makes no sense as it stands; found here or by the sidecar
├── NotFoundError                a model, version or generation that is not there
├── RefusedError                 a well-formed request that the state of things forbids
│   ├── VerificationFailedError  a version that may not answer; `reason` says which check it failed
│   └── PermissionDeniedError    the caller may not do this
├── ConflictError                somebody else moved the head first; `generation`, `version`, `actor` say who
├── OverloadedError              too much at once; `retry_after_s` says when another try is sensible
├── UnavailableError             it answers, but nothing there can predict now
│   └── NotReachableError        nothing answers at that target, or the connection broke
├── DeadlineError                no answer in time; an action goes on in the sidecar
├── CallCancelledError           the call was cancelled, for instance by closing the client
├── CommitStateUnknownError      the record is visible, but perhaps not durable; ask again with the same request id
├── NotSupportedError            this sidecar does not know the call
└── InternalError                the sidecar, or the model in it, failed
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc


class SidecarError(Exception):
    """Base of all errors of this package.

    Attributes:
        reason: the stable word for programs (docs/contract.md lists them), such as "GENERATION_MISMATCH"; "" where
            the failure came from below the sidecar.
        metadata: further facts for programs.
        code: the gRPC status code, also of an error that was found before anything was sent.
        request_id: of the deploy or rollback that failed. The same call with the same id is never done twice.
    """

    default_code = grpc.StatusCode.UNKNOWN
    request_id = ""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        code: grpc.StatusCode | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.code = code or self.default_code

    @property
    def message(self) -> str:
        """What was found, what was expected and what to do, for people."""
        return str(self)


class InvalidRequestError(SidecarError):
    """What was asked makes no sense as it stands: a name, a tensor, a combination of arguments."""

    default_code = grpc.StatusCode.INVALID_ARGUMENT


class NotFoundError(SidecarError):
    """A model, version or generation that is not there."""

    default_code = grpc.StatusCode.NOT_FOUND


class RefusedError(SidecarError):
    """A well-formed request that the state of things forbids. Nothing was changed."""

    default_code = grpc.StatusCode.FAILED_PRECONDITION


class VerificationFailedError(RefusedError):
    """A version that may not answer: its bytes, its signature or its golden examples. The live one answers on."""


class PermissionDeniedError(RefusedError):
    """The caller is unknown to the sidecar, or may not do this."""

    default_code = grpc.StatusCode.PERMISSION_DENIED


class ConflictError(SidecarError):
    """Somebody else moved the head first. Nothing was changed by this call."""

    default_code = grpc.StatusCode.ABORTED

    @property
    def generation(self) -> int:
        """The winner's generation, or 0 where the sidecar did not say."""
        text = self.metadata.get("generation", "")
        return int(text) if text.isascii() and text.isdigit() else 0

    @property
    def version(self) -> str:
        """The winner's version, or ""."""
        return self.metadata.get("version", "")

    @property
    def actor(self) -> str:
        """Who won, or ""."""
        return self.metadata.get("actor", "")


class OverloadedError(SidecarError):
    """More at once than the sidecar takes on.

    Attributes:
        retry_after_s: when another try is sensible, where the sidecar said so.
    """

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED
    retry_after_s: float | None = None


class UnavailableError(SidecarError):
    """The sidecar answers, but cannot do this now: nothing is live yet, or it is draining. Later, it may."""

    default_code = grpc.StatusCode.UNAVAILABLE


class NotReachableError(UnavailableError):
    """Nothing answers at that target, or the connection broke."""


class DeadlineError(SidecarError):
    """No answer in time. A prediction was given up; a deploy or rollback goes on in the sidecar."""

    default_code = grpc.StatusCode.DEADLINE_EXCEEDED


class CallCancelledError(SidecarError):
    """The call was cancelled while it waited, for instance by closing the client."""

    default_code = grpc.StatusCode.CANCELLED


class CommitStateUnknownError(SidecarError):
    """The record is visible, but whether it is durable is not known. Asking again with `request_id` tells."""


class NotSupportedError(SidecarError):
    """What answers at this target does not know the call: an older sidecar, or another kind of server."""

    default_code = grpc.StatusCode.UNIMPLEMENTED


class InternalError(SidecarError):
    """The sidecar, the model in it, or the way between failed. The sidecar's log has the particulars."""

    default_code = grpc.StatusCode.INTERNAL
