"""Errors as statuses: every one has a row, and none says more than fits or than it should."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from model_sidecar import errors
from model_sidecar.errors import (
    ConflictError,
    InvalidInputError,
    OverloadedError,
    Reason,
    SidecarError,
    StoreFullError,
    VerificationError,
)
from model_sidecar.rpc.status import CODES, DETAILS_KEY, PUSHBACK_KEY, Failure, code_of, failure_of
from model_sidecar_client.wire.error_details import ErrorInfo, RetryInfo
from model_sidecar_client.wire.status import Status


def subclasses(kind: type[SidecarError]) -> set[type[SidecarError]]:
    return {each for direct in kind.__subclasses__() for each in {direct, *subclasses(direct)}}


def trailer(failure: Failure) -> bytes:
    content = dict(failure.trailing)[DETAILS_KEY]
    assert isinstance(content, bytes)
    return content


def details(failure: Failure) -> dict[str, bytes]:
    status = Status.FromString(trailer(failure))
    assert (status.code, status.message) == (failure.code.value[0], failure.message)
    return {each.type_url.rpartition("/")[2]: each.value for each in status.details}


def info(failure: Failure) -> ErrorInfo:
    return ErrorInfo.FromString(details(failure)["google.rpc.ErrorInfo"])


def test_every_error_of_ours_has_a_row() -> None:
    """Each class of the tree, or an ancestor below SidecarError, stands in the table."""
    declared = {
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, SidecarError)
    }
    assert len(declared) > 15
    # The demo stands above this room: what it raises never becomes a status.
    above = {each for each in subclasses(SidecarError) if each.__module__.startswith("model_sidecar.demo")}
    for kind in (subclasses(SidecarError) | declared) - {SidecarError} - above:
        assert any(ancestor in CODES for ancestor in kind.__mro__), kind


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInputError("x"), StatusCode.INVALID_ARGUMENT),
        (VerificationError("x"), StatusCode.FAILED_PRECONDITION),
        (StoreFullError("x"), StatusCode.RESOURCE_EXHAUSTED),
        (ConflictError("x"), StatusCode.ABORTED),
        (errors.StoreError("x"), StatusCode.UNAVAILABLE),
        (errors.CommitStateUnknownError("x"), StatusCode.UNKNOWN),
        (errors.DeadlineOverError("x"), StatusCode.DEADLINE_EXCEEDED),
        (SidecarError("x"), StatusCode.INTERNAL),
        (ValueError("x"), StatusCode.INTERNAL),
    ],
)
def test_the_code_follows_from_the_class(error: Exception, code: StatusCode) -> None:
    """A class without a row of its own has its nearest ancestor's code; a stranger is INTERNAL."""
    assert code_of(error) is code
    assert failure_of(error).code is code


def test_facts_travel_as_error_info() -> None:
    """The reason and the facts are for programs to read."""
    found = info(failure_of(ConflictError("moved", generation=18, version="2024.01.15.prod", actor="ana")))
    assert (found.reason, found.domain) == ("GENERATION_MISMATCH", "model-sidecar")
    assert dict(found.metadata) == {"generation": "18", "version": "2024.01.15.prod", "actor": "ana"}


def test_a_failed_verification_says_that_it_is_one() -> None:
    """Clients tell a version that may not answer from other refusals by its kind."""
    found = info(failure_of(VerificationError("x", reason=Reason.DIGEST_MISMATCH)))
    assert (found.reason, found.metadata["kind"]) == ("DIGEST_MISMATCH", "verification")


def test_overload_says_when_to_come_back() -> None:
    """Pushback stands in the trailer that gRPC's retries obey, and as RetryInfo."""
    failure = failure_of(OverloadedError("full", retry_after_s=0.25))
    assert dict(failure.trailing)[PUSHBACK_KEY] == "250"
    delay = RetryInfo.FromString(details(failure)["google.rpc.RetryInfo"]).retry_delay
    assert (delay.seconds, delay.nanos) == (0, 250_000_000)


@pytest.mark.parametrize(
    "error", [RuntimeError("password=hunter2"), SidecarError("/secret/path", where="/secret/path")]
)
def test_what_goes_wrong_inside_stays_inside(error: Exception) -> None:
    """The caller of a broken sidecar learns nothing of its insides, and the log is to have them."""
    failure = failure_of(error)
    assert failure.for_the_log
    assert "secret" not in str(failure)
    assert "hunter2" not in str(failure)


@pytest.mark.parametrize("text", ["é" * 100_000, "a" * 100_000, "\x1b[31m\n" * 50_000, "\ud800" * 9000])
def test_no_error_outgrows_the_metadata_limit(text: str) -> None:
    """However long its words and facts, a failure fits into gRPC's 8 KiB of metadata, without control characters."""
    failure = failure_of(VerificationError(text, a=text, b=text, c=text, d=text, e=text))
    on_the_wire = 3 * len(failure.message.encode()) + len(trailer(failure)) * 4 // 3
    assert on_the_wire < 7800
    assert failure.message.isprintable()
    assert all(value.isprintable() for value in info(failure).metadata.values())
