"""Every error of ours, in one tree, with no transport in it.

    SidecarError
    ├── InvalidRequestError          what was asked makes no sense as it stands
    │   ├── InvalidNameError         a model, version or environment name off the grammar
    │   ├── InvalidInputError        a tensor that the model cannot take
    │   └── RequestIdReusedError     a known request id with another request
    ├── NotFoundError                a model, version or generation that is not there
    ├── VerificationError            a version that may not answer; `reason` says which check it failed
    │   ├── IncompleteVersionError   perhaps still being copied: worth another look when it changes
    │   └── QuarantinedError         one that did harm before, and is not tried again
    ├── RefusedError                 a well-formed request that the state of things forbids
    │   └── RegionExistsError        a shared memory region's name that is taken
    ├── ConflictError                somebody else moved the head first
    ├── CommitStateUnknownError      the record is visible, but perhaps not durable
    ├── StoreError                   the store cannot be read or written
    │   └── StoreFullError
    ├── ShortageError                this machine lacks what it takes now: memory, a process
    ├── UnavailableError             nothing answers now; later, something may
    ├── OverloadedError              too much at once
    ├── DeadlineOverError            the caller no longer waits
    ├── InferenceFailedError         the model itself failed on an input that fits its signature
    └── ConfigurationError           settings that contradict themselves or this machine

An error's message says what was found, what was expected and what to do. Which gRPC code it becomes is the business
of `rpc.status` alone; what `model-sidecar` exits with is the business of `cli` alone.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why something was refused or failed: the stable words of errors, metrics and logs (docs/contract.md)."""

    # requests
    INVALID_NAME = "INVALID_NAME"
    INVALID_INPUT = "INVALID_INPUT"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    VERSION_NOT_FOUND = "VERSION_NOT_FOUND"
    GENERATION_NOT_FOUND = "GENERATION_NOT_FOUND"
    # verification: names and files
    MANIFEST_MISSING = "MANIFEST_MISSING"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_TOO_LARGE = "MANIFEST_TOO_LARGE"
    MANIFEST_CHANGED = "MANIFEST_CHANGED"
    DUPLICATE_KEY = "DUPLICATE_KEY"
    NOT_A_NUMBER = "NOT_A_NUMBER"
    VERSION_MISMATCH = "VERSION_MISMATCH"
    MODEL_MISMATCH = "MODEL_MISMATCH"
    MODEL_HASH_MISMATCH = "MODEL_HASH_MISMATCH"
    FILE_MISSING = "FILE_MISSING"
    FILE_UNLISTED = "FILE_UNLISTED"
    FILE_NAME_UNSAFE = "FILE_NAME_UNSAFE"
    NOT_A_REGULAR_FILE = "NOT_A_REGULAR_FILE"
    SYMLINK_REFUSED = "SYMLINK_REFUSED"
    SIZE_MISMATCH = "SIZE_MISMATCH"
    DIGEST_MISMATCH = "DIGEST_MISMATCH"
    # verification: what the bytes are
    MODEL_INVALID = "MODEL_INVALID"
    OPERATOR_UNKNOWN = "OPERATOR_UNKNOWN"
    EXTERNAL_DATA_REFUSED = "EXTERNAL_DATA_REFUSED"
    OUTPUT_UNSUPPORTED = "OUTPUT_UNSUPPORTED"
    SIGNATURE_MISMATCH = "SIGNATURE_MISMATCH"
    PREPROCESSING_MISMATCH = "PREPROCESSING_MISMATCH"
    SCHEMA_CHANGED = "SCHEMA_CHANGED"
    GOLDEN_INVALID = "GOLDEN_INVALID"
    GOLDEN_MISMATCH = "GOLDEN_MISMATCH"
    BASELINE_INVALID = "BASELINE_INVALID"
    OUTPUT_NOT_FINITE = "OUTPUT_NOT_FINITE"
    # verification: what they do to the process that runs them
    MODEL_CRASHED = "MODEL_CRASHED"
    MODEL_OUT_OF_MEMORY = "MODEL_OUT_OF_MEMORY"
    MODEL_TIMED_OUT = "MODEL_TIMED_OUT"
    MODEL_QUARANTINED = "MODEL_QUARANTINED"
    # the pointer and the ledger
    POINTER_INVALID = "POINTER_INVALID"
    POINTER_EXTERNALLY_MANAGED = "POINTER_EXTERNALLY_MANAGED"
    GENERATION_MISMATCH = "GENERATION_MISMATCH"
    NO_PREVIOUS_VERSION = "NO_PREVIOUS_VERSION"
    LEDGER_INVALID = "LEDGER_INVALID"
    COMMIT_STATE_UNKNOWN = "COMMIT_STATE_UNKNOWN"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    STORE_FULL = "STORE_FULL"
    STORE_UNSUPPORTED = "STORE_UNSUPPORTED"
    VERSION_EXISTS = "VERSION_EXISTS"
    # serving
    NOTHING_LIVE = "NOTHING_LIVE"
    NOT_REACHABLE = "NOT_REACHABLE"
    VERSION_NOT_RESIDENT = "VERSION_NOT_RESIDENT"
    REGION_NOT_FOUND = "REGION_NOT_FOUND"
    REGION_EXISTS = "REGION_EXISTS"
    REGION_INVALID = "REGION_INVALID"
    REGIONS_FULL = "REGIONS_FULL"
    LOG_UNAVAILABLE = "LOG_UNAVAILABLE"
    SHADOW_FAILED = "SHADOW_FAILED"
    MEMORY_SHORT = "MEMORY_SHORT"
    TRIAL_IMPOSSIBLE = "TRIAL_IMPOSSIBLE"
    DRAINING = "DRAINING"
    OVERLOADED = "OVERLOADED"
    DEADLINE_OVER = "DEADLINE_OVER"
    INFERENCE_FAILED = "INFERENCE_FAILED"
    CONFIGURATION_INVALID = "CONFIGURATION_INVALID"
    INTERNAL = "INTERNAL"


class SidecarError(Exception):
    """Base of all errors of ours.

    Attributes:
        reason: the stable word for programs.
        facts: further fields for programs, as strings (the ErrorInfo metadata of an RPC).
    """

    default_reason = Reason.INTERNAL

    def __init__(self, message: str, *, reason: Reason | None = None, **facts: object) -> None:
        super().__init__(message)
        self.reason = reason or self.default_reason
        self.facts = {name: str(value) for name, value in facts.items()}


class InvalidRequestError(SidecarError):
    """What was asked makes no sense as it stands."""

    default_reason = Reason.INVALID_ARGUMENT


class InvalidNameError(InvalidRequestError):
    """A name off the grammar of section 2 of the contract."""

    default_reason = Reason.INVALID_NAME


class InvalidInputError(InvalidRequestError):
    """A tensor that the model cannot take: its name, datatype, shape or bytes."""

    default_reason = Reason.INVALID_INPUT


class RequestIdReusedError(InvalidRequestError):
    """A request id that is already in the ledger, with another request."""

    default_reason = Reason.REQUEST_ID_REUSED


class NotFoundError(SidecarError):
    """A model, version or generation that is not there."""

    default_reason = Reason.VERSION_NOT_FOUND


class VerificationError(SidecarError):
    """A version that may not answer. `reason` says which check it failed."""

    default_reason = Reason.MANIFEST_INVALID


class IncompleteVersionError(VerificationError):
    """A version of which something is not there yet: somebody may be copying it by hand."""

    default_reason = Reason.FILE_MISSING


class QuarantinedError(VerificationError):
    """A version that did harm to a process that ran it, and is not tried again by whoever asked."""

    default_reason = Reason.MODEL_QUARANTINED


class RefusedError(SidecarError):
    """A well-formed request that the state of things forbids."""

    default_reason = Reason.NO_PREVIOUS_VERSION


class RegionExistsError(RefusedError):
    """A shared memory region of this name is registered already."""

    default_reason = Reason.REGION_EXISTS


class ConflictError(SidecarError):
    """Somebody else moved the head first; the facts name the winner's generation, version and actor."""

    default_reason = Reason.GENERATION_MISMATCH


class CommitStateUnknownError(SidecarError):
    """The record is visible, but whether it is durable is not known. Asking again with the same request id tells."""

    default_reason = Reason.COMMIT_STATE_UNKNOWN


class StoreError(SidecarError):
    """The store cannot be read or written."""

    default_reason = Reason.STORE_UNAVAILABLE


class StoreFullError(StoreError):
    """No space, or no quota, is left in the store. Nothing was changed."""

    default_reason = Reason.STORE_FULL


class ShortageError(SidecarError):
    """This machine lacks what it takes now: memory for another model, a process to try it in. Nothing was changed."""

    default_reason = Reason.MEMORY_SHORT


class UnavailableError(SidecarError):
    """Nothing answers now; later, something may."""

    default_reason = Reason.NOTHING_LIVE


class OverloadedError(SidecarError):
    """More at once than the sidecar takes on.

    Attributes:
        retry_after_s: when another try is sensible.
    """

    default_reason = Reason.OVERLOADED

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineOverError(SidecarError):
    """The caller no longer waits, or the server waits no longer: the work was not done, or stopped amid."""

    default_reason = Reason.DEADLINE_OVER


class InferenceFailedError(SidecarError):
    """The model itself failed on an input that fits its signature."""

    default_reason = Reason.INFERENCE_FAILED


class ConfigurationError(SidecarError):
    """Settings that contradict themselves, or that this machine cannot fulfil."""

    default_reason = Reason.CONFIGURATION_INVALID
