"""What a test tells the stand-in to do to calls before it answers them: note them, hold them, fail them."""

from __future__ import annotations

import base64
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
from google.protobuf.message import Message

from model_sidecar_client.rpc_errors import CODE_KEY, DETAILS_KEY, DOMAIN, PUSHBACK_KEY
from model_sidecar_client.tensors import Values
from model_sidecar_client.wire.error_details import ErrorInfo
from model_sidecar_client.wire.inference import ModelInferRequest, ModelStreamInferResponse
from model_sidecar_client.wire.status import Status


@dataclass(frozen=True, slots=True)
class Received:
    """A call that arrived. `inputs` are the decoded ones of a prediction, and empty for every other method."""

    method: str
    request: Message
    metadata: Mapping[str, str | bytes]
    inputs: Mapping[str, Values] = field(default_factory=dict)


@dataclass(eq=False)  # not frozen: Python itself writes to an exception that is raised
class Failure(Exception):  # noqa: N818 - a plan first, raised by the stand-in only to get out of a handler
    """An answer that is an error, with details as the real sidecar sends them."""

    code: grpc.StatusCode
    reason: str = ""
    message: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None

    def abort(self, context: grpc.ServicerContext) -> NoReturn:
        """End this call with the error."""
        context.set_trailing_metadata(tuple(self._trailers()))
        context.abort(self.code, self._words())

    def told(self, request_id: str) -> ModelStreamInferResponse:
        """The error as one answer of a stream."""
        reply = ModelStreamInferResponse(error_message=self._words())
        reply.infer_response.id = request_id
        reply.infer_response.parameters[CODE_KEY].int64_param = self.code.value[0]
        for key, value in self._trailers():
            text = value if isinstance(value, str) else base64.b64encode(value).decode("ascii")
            reply.infer_response.parameters[key].string_param = text
        return reply

    def _words(self) -> str:
        return self.message or f"the stand-in was told to fail with {self.reason or self.code.name}"

    def _trailers(self) -> list[tuple[str, str | bytes]]:
        trailers: list[tuple[str, str | bytes]] = []
        if self.reason:
            info = ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=dict(self.metadata))
            status = Status(code=self.code.value[0], message=self._words())
            status.details.add().Pack(info)
            trailers.append((DETAILS_KEY, status.SerializeToString()))
        if self.retry_after_s is not None:
            trailers.append((PUSHBACK_KEY, str(round(self.retry_after_s * 1000))))
        return trailers


class Hold:
    """Calls that arrive and are not answered until `release`, or the end of the `with` block.

    Attributes:
        arrived: set once a call is being held; wait for it instead of sleeping.
    """

    def __init__(self, lift: Callable[[], None]) -> None:
        self.arrived = threading.Event()
        self._released = threading.Event()
        self._lift = lift

    def release(self) -> None:
        """Let the held calls, and those that follow, be answered."""
        self._lift()
        self._released.set()

    def wait(self) -> None:
        """Be held: for the stand-in's own threads."""
        self.arrived.set()
        self._released.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Script:
    """The plan and the notes. Tests and the server's threads use it at once."""

    def __init__(self) -> None:
        # Guards everything below; never held while a call is.
        self._lock = threading.Lock()
        self._failures: defaultdict[str, deque[Failure]] = defaultdict(deque)
        self._holds: dict[str, Hold] = {}
        self._received: list[Received] = []

    def received(self, method: str | None) -> list[Received]:
        """The calls so far, oldest first: of one method, or all."""
        with self._lock:
            return [each for each in self._received if method in {None, each.method}]

    def fail(self, method: str, failure: Failure, times: int) -> None:
        """Plan to fail the next calls of this method."""
        with self._lock:
            self._failures[method] += [failure] * times

    def hold(self, method: str) -> Hold:
        """Plan to hold the calls of this method from now on."""
        hold = Hold(lambda: self._forget(method))
        with self._lock:
            self._holds[method] = hold
        return hold

    def release_all(self) -> None:
        """Let everything go: the stand-in closes."""
        with self._lock:
            holds = list(self._holds.values())
        for hold in holds:
            hold.release()

    def note(self, received: Received) -> None:
        """Remember a call."""
        with self._lock:
            self._received.append(received)

    def enter(self, method: str) -> None:
        """Hold the call as long as planned, then fail it if planned.

        Raises:
            Failure: this call was to fail.
        """
        with self._lock:
            hold = self._holds.get(method)
        if hold:
            hold.wait()
        with self._lock:
            failure = self._failures[method].popleft() if self._failures[method] else None
        if failure:
            raise failure

    def _forget(self, method: str) -> None:
        with self._lock:
            self._holds.pop(method, None)


class Scripted:
    """A service's implementation as grpc calls it: by the script first. Failures that it raises become the answer."""

    def __init__(
        self, implementation: object, script: Script, inputs_of: Callable[[Any], Mapping[str, Values]]
    ) -> None:
        self._implementation = implementation
        self._script = script
        self._inputs_of = inputs_of

    def __getattr__(self, method: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        # AttributeError goes out to wire.services.handler, which leaves such a method UNIMPLEMENTED.
        function = getattr(self._implementation, method)

        def converse(
            requests: Iterator[ModelInferRequest], context: grpc.ServicerContext
        ) -> Iterator[ModelStreamInferResponse]:
            for request in requests:
                try:
                    yield act(request, context)
                except Failure as failure:
                    yield failure.told(request.id)

        def act(request: Any, context: grpc.ServicerContext) -> Any:
            self._script.note(
                Received(method, request, dict(context.invocation_metadata()), self._inputs_of(request))
            )
            self._script.enter(method)
            return function(request, context)

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                return act(request, context)
            except Failure as failure:
                failure.abort(context)

        return converse if method == "ModelStreamInfer" else answer
