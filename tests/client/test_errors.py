"""A failed call becomes an error of ours, whatever failed."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import re
import socket
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from model_sidecar_client import AsyncClient, Client, Operator, errors, rpc_errors
from model_sidecar_client.wire import inference, services
from model_sidecar_client.wire.error_details import ErrorInfo, RetryInfo
from model_sidecar_client.wire.status import Status

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


class Aborting:
    """A server that ends every ServerMetadata with one status and these trailers."""

    def __init__(self, code: grpc.StatusCode, trailers: tuple[tuple[str, str | bytes], ...]) -> None:
        self.code, self.trailers = code, trailers

    def ServerMetadata(self, request: inference.ServerMetadataRequest, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata(self.trailers)
        context.abort(self.code, "words of the server")

    def ModelMetadata(self, request: inference.ModelMetadataRequest, context: grpc.ServicerContext) -> Any:
        return inference.ModelMetadataResponse(name=request.name)

    def ModelInfer(self, request: inference.ModelInferRequest, context: grpc.ServicerContext) -> Any:
        return inference.ModelInferResponse()


@contextmanager
def aborting(
    code: grpc.StatusCode, *details: Any, trailers: tuple[tuple[str, str | bytes], ...] = ()
) -> Iterator[str]:
    if details:
        status = Status(code=code.value[0], message="words of the server")
        for detail in details:
            status.details.add().Pack(detail)
        trailers += (("grpc-status-details-bin", status.SerializeToString()),)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((services.handler(services.INFERENCE, Aborting(code, trailers)),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()


def failure_of(code: grpc.StatusCode, *details: Any, **further: Any) -> errors.SidecarError:
    with (
        aborting(code, *details, **further) as target,
        Client(target) as client,
        pytest.raises(errors.SidecarError) as raised,
    ):
        client.server_metadata()
    return raised.value


def info(reason: str, **metadata: str) -> ErrorInfo:
    return ErrorInfo(reason=reason, domain="model-sidecar", metadata=metadata)


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_every_status_code_becomes_an_error_of_ours(code: grpc.StatusCode) -> None:
    """Whatever a server answers, the caller meets SidecarError with that code, the server's words and the cause."""
    failure = failure_of(code)

    assert type(failure) is not errors.SidecarError
    assert failure.code is code
    assert failure.reason == ""
    assert failure.metadata == {}
    assert isinstance(failure.__cause__, grpc.RpcError)
    # A deadline's words are ours: the server's own would only repeat the code.
    assert "words of the server" in failure.message or code is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_every_status_code_becomes_the_same_error_awaited(code: grpc.StatusCode) -> None:
    """The asyncio client raises what the other one raises."""

    async def ask(target: str) -> errors.SidecarError:
        async with AsyncClient(target) as client:
            with pytest.raises(errors.SidecarError) as raised:
                await client.server_metadata()
            return raised.value

    with aborting(code, info("SOME_REASON", a="b")) as target:
        failure = asyncio.run(ask(target))

    assert type(failure) is type(failure_of(code, info("SOME_REASON", a="b")))
    assert (failure.reason, failure.metadata) == ("SOME_REASON", {"a": "b"})


def test_no_status_code_is_left_out_of_the_table() -> None:
    """A code that gRPC may add must be given its meaning here."""
    assert set(rpc_errors._BY_CODE) == set(grpc.StatusCode)


@pytest.mark.parametrize(
    ("code", "detail", "expected"),
    [
        (grpc.StatusCode.FAILED_PRECONDITION, info("NO_PREVIOUS_VERSION"), errors.RefusedError),
        (
            grpc.StatusCode.FAILED_PRECONDITION,
            info("DIGEST_MISMATCH", kind="verification"),
            errors.VerificationFailedError,
        ),
        (
            grpc.StatusCode.INVALID_ARGUMENT,
            info("MANIFEST_INVALID", kind="verification"),
            errors.VerificationFailedError,
        ),
        (grpc.StatusCode.UNKNOWN, info("COMMIT_STATE_UNKNOWN"), errors.CommitStateUnknownError),
        (grpc.StatusCode.UNAVAILABLE, info("NOTHING_LIVE"), errors.UnavailableError),
        (grpc.StatusCode.UNAVAILABLE, info("DRAINING"), errors.UnavailableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, info("OVERLOADED"), errors.OverloadedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, info("STORE_FULL"), errors.RefusedError),
        (grpc.StatusCode.INTERNAL, info("INFERENCE_FAILED"), errors.InternalError),
    ],
    ids=lambda value: value.reason if isinstance(value, ErrorInfo) else "",
)
def test_a_reason_says_more_than_a_code(code: grpc.StatusCode, detail: ErrorInfo, expected: type) -> None:
    """Where the sidecar gives a reason, the error is the one that the reason means."""
    failure = failure_of(code, detail)

    assert type(failure) is expected
    assert failure.reason == detail.reason
    assert failure.message == "words of the server"


def test_a_conflict_names_the_winner() -> None:
    """Whoever comes second learns who came first."""
    failure = failure_of(
        grpc.StatusCode.ABORTED,
        info("GENERATION_MISMATCH", generation="42", version="2024.01.15.prod", actor="ana"),
    )

    assert isinstance(failure, errors.ConflictError)
    assert (failure.generation, failure.version, failure.actor) == (42, "2024.01.15.prod", "ana")


def test_a_conflict_without_facts_has_empty_ones() -> None:
    """A winner's generation that is no number does not turn one error into another."""
    failure = failure_of(grpc.StatusCode.ABORTED, info("GENERATION_MISMATCH", generation="many"))

    assert isinstance(failure, errors.ConflictError)
    assert (failure.generation, failure.version, failure.actor) == (0, "", "")


def test_overload_says_when_to_try_again() -> None:
    """The retry pushback arrives as seconds, from gRPC's trailer or from google.rpc.RetryInfo."""
    delay = RetryInfo()
    delay.retry_delay.nanos = 750_000_000
    by_trailer = failure_of(grpc.StatusCode.RESOURCE_EXHAUSTED, trailers=(("grpc-retry-pushback-ms", "250"),))
    by_detail = failure_of(grpc.StatusCode.RESOURCE_EXHAUSTED, info("OVERLOADED"), delay)
    by_neither = failure_of(grpc.StatusCode.RESOURCE_EXHAUSTED, trailers=(("grpc-retry-pushback-ms", "-1"),))

    assert [getattr(each, "retry_after_s", "?") for each in (by_trailer, by_detail, by_neither)] == [
        0.25,
        0.75,
        None,
    ]


def test_details_that_are_broken_or_somebody_elses_are_no_obstacle() -> None:
    """What a proxy adds or mangles leaves the bare status to be translated."""
    mangled = failure_of(grpc.StatusCode.NOT_FOUND, trailers=(("grpc-status-details-bin", b"\xff\xff\xff"),))
    foreign = failure_of(grpc.StatusCode.NOT_FOUND, ErrorInfo(reason="TEAPOT", domain="a.proxy"))

    assert [(type(each), each.reason) for each in (mangled, foreign)] == [(errors.NotFoundError, "")] * 2


def test_nothing_listens_there() -> None:
    """A target without a sidecar is told from a sidecar without a model, and named."""
    with Client("unix:/nowhere/data.sock") as client, pytest.raises(errors.NotReachableError) as raised:
        client.predict("m", {"x": [1.0]})

    assert raised.value.code is grpc.StatusCode.UNAVAILABLE
    assert "unix:/nowhere/data.sock" in raised.value.message


def test_a_message_over_the_servers_limit_is_the_callers_mistake() -> None:
    """It is no overload, for no later try helps; the server's limit stands in the message."""
    with (
        aborting(grpc.StatusCode.INTERNAL) as target,
        Client(target) as client,
        pytest.raises(errors.InvalidRequestError, match=r"larger than max \(\d+ vs\. 4194304\)"),
    ):
        client.predict("m", {"x": bytes(5 << 20)})


def test_a_server_of_another_kind_is_told_from_a_broken_one() -> None:
    """A call that the server does not have is NotSupportedError."""
    with (
        aborting(grpc.StatusCode.INTERNAL) as target,
        Client(target) as client,
        pytest.raises(errors.NotSupportedError, match="ServerReady"),
    ):
        client.is_ready()


def test_the_wrong_one_of_two_sockets_is_guessed() -> None:
    """A sidecar's data socket that is asked for deployments, or the other way round, leads to a hint which is which."""
    with (
        aborting(grpc.StatusCode.INTERNAL) as target,
        Client(target) as client,
        Operator(target) as operator,
    ):
        with pytest.raises(errors.NotSupportedError, match=r"Method not found! \(is this the data socket\?"):
            operator.status()
        with pytest.raises(
            errors.NotSupportedError, match=r"Method not found! \(is this the control socket\?"
        ):
            client.is_ready()
        for ask in (operator.quality, operator.drift):
            with pytest.raises(
                errors.NotSupportedError, match=r"\(is this the data socket\? quality and drift"
            ):
                ask("m", environment="prod")
        with pytest.raises(errors.NotSupportedError, match=r"--no-monitor, takes no feedback"):
            client.feedback("x", 1)


def test_a_server_that_accepts_and_is_silent_ends_in_the_deadline() -> None:
    """Connections that go nowhere end in DeadlineError, which says how long was waited and for whom."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            Client(target, timeout_s=0.2) as client,
            pytest.raises(errors.DeadlineError, match=f"{target} within 0.2 s"),
        ):
            client.server_metadata()


def test_every_error_stands_in_the_drawn_tree_where_it_belongs() -> None:
    """The tree at the top of errors.py is the tree of the classes."""
    drawn: dict[str, str] = {}
    parents = {0: "SidecarError"}
    for line in inspect.cleandoc(str(errors.__doc__)).splitlines():
        match = re.match(r"(?P<bars>[│ ├└─]+)(?P<name>\w+Error)", line)
        if match:
            depth = len(match["bars"]) // 4
            drawn[match["name"]] = parents[depth - 1]
            parents[depth] = match["name"]

    defined = {
        name: each.__mro__[1].__name__
        for name, each in vars(errors).items()
        if inspect.isclass(each) and issubclass(each, errors.SidecarError) and each is not errors.SidecarError
    }
    assert drawn == defined


def test_errors_travel_between_processes() -> None:
    """A worker pool hands errors over by pickle, facts included."""
    failure = failure_of(grpc.StatusCode.ABORTED, info("GENERATION_MISMATCH", generation="42"))

    copy = pickle.loads(pickle.dumps(failure))  # noqa: S301 - our own bytes

    assert (type(copy), copy.message, copy.code, copy.generation) == (
        errors.ConflictError,
        "words of the server",
        grpc.StatusCode.ABORTED,
        42,
    )
