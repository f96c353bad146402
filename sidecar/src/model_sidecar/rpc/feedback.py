"""`model_sidecar.v1.FeedbackService`: what was true of predictions, and predictions made elsewhere.

The data plane's loop and the control plane's threads hand them to the monitor, and wait only so long for the log.
GetQuality and GetDrift are other classes' methods, composed with `ThreadFeedback` for the control plane.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotDoneError
from typing import Any, Protocol, TypeVar

import grpc

from model_sidecar.errors import Reason, UnavailableError
from model_sidecar.monitor.log.feedback import FeedbackDesk, FeedbackReport
from model_sidecar.monitor.log.foreign import Foreigners
from model_sidecar.rpc.control_sites import check_environment
from model_sidecar.rpc.feedback_messages import Sum, feedback_of, predictions_of
from model_sidecar.rpc.slots import Slots
from model_sidecar_client.wire.feedback import (
    RecordFeedbackRequest,
    RecordFeedbackResponse,
    RecordFeedbackStreamRequest,
    RecordFeedbackStreamResponse,
    RecordPredictionsRequest,
    RecordPredictionsResponse,
)

_Made = TypeVar("_Made")

# Less than a client's usual deadline: whoever waits is told what is the matter.
_LOG_S = 3.0
# So many pieces are taken on the loop; of more, a thread makes what the log needs.
_INLINE = 64


class Watching(Protocol):
    """As much of the monitor as this service needs."""

    @property
    def feedback(self) -> FeedbackDesk: ...
    def model(self, name: str) -> Foreigners: ...


class AioFeedback:
    """The application's calls, for a `grpc.aio` server. Belongs to its loop."""

    def __init__(self, monitoring: Watching) -> None:
        self._monitoring = monitoring

    async def RecordFeedback(self, request: RecordFeedbackRequest, context: Any) -> RecordFeedbackResponse:
        """Joins what was true with what was predicted; answers once that is kept."""
        made = Sum()
        await self._record(request, made)
        return RecordFeedbackResponse(counts=made.counts(), problems=made.problems())

    async def RecordFeedbackStream(
        self, requests: AsyncIterator[RecordFeedbackStreamRequest], context: Any
    ) -> RecordFeedbackStreamResponse:
        """The same for each message of a stream, one after another."""
        made = Sum()
        async for request in requests:
            await self._record(request, made)
        return RecordFeedbackStreamResponse(counts=made.counts(), problems=made.problems())

    async def RecordPredictions(
        self, request: RecordPredictionsRequest, context: Any
    ) -> RecordPredictionsResponse:
        """Watches predictions that were made elsewhere; answers with their ids once their truths are kept."""
        count = len(request.predictions)
        ids, future = await _off_loop(count, lambda: _told(self._monitoring, request))
        await _kept(future)
        return RecordPredictionsResponse(prediction_ids=ids)

    async def _record(self, request: RecordFeedbackRequest | RecordFeedbackStreamRequest, made: Sum) -> None:
        count = len(request.feedback)
        future = await _off_loop(
            count, lambda: self._monitoring.feedback.record(feedback_of(request.feedback))
        )
        made.add(await _kept(future), pieces=count)


class ThreadFeedback:
    """The same calls for a server with a thread pool; its threads call it."""

    def __init__(self, monitoring: Watching) -> None:
        self._monitoring = monitoring
        self._slots = Slots("feedback", 4)

    @property
    def waiting_calls(self) -> int:
        """How many threads its calls may hold for long, all together."""
        return self._slots.limit

    def RecordFeedback(self, request: RecordFeedbackRequest, context: Any) -> RecordFeedbackResponse:
        """As `AioFeedback.RecordFeedback`."""
        made = Sum()
        with self._slots.taken():
            self._record(request, made)
        return RecordFeedbackResponse(counts=made.counts(), problems=made.problems())

    def RecordFeedbackStream(
        self, requests: Iterator[RecordFeedbackStreamRequest], context: Any
    ) -> RecordFeedbackStreamResponse:
        """As `AioFeedback.RecordFeedbackStream`."""
        made = Sum()
        with self._slots.taken():
            try:
                for request in requests:
                    self._record(request, made)
            except grpc.RpcError:
                if context.is_active():
                    raise
                # Its caller gave it up: what came before is kept, and nobody is left to hear of it.
        return RecordFeedbackStreamResponse(counts=made.counts(), problems=made.problems())

    def RecordPredictions(self, request: RecordPredictionsRequest, context: Any) -> RecordPredictionsResponse:
        """As `AioFeedback.RecordPredictions`."""
        with self._slots.taken():
            ids, future = _told(self._monitoring, request)
            _waited(future)
        return RecordPredictionsResponse(prediction_ids=ids)

    def _record(self, request: RecordFeedbackRequest | RecordFeedbackStreamRequest, made: Sum) -> None:
        future = self._monitoring.feedback.record(feedback_of(request.feedback))
        made.add(_waited(future), pieces=len(request.feedback))


def _told(
    monitoring: Watching, request: RecordPredictionsRequest
) -> tuple[list[str], Future[FeedbackReport]]:
    model = monitoring.model(request.model)
    check_environment(model.site, request.environment)
    return model.record(predictions_of(request.predictions))


async def _off_loop(count: int, make: Callable[[], _Made]) -> _Made:
    return make() if count <= _INLINE else await asyncio.to_thread(make)


async def _kept(future: Future[FeedbackReport]) -> FeedbackReport:
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), _LOG_S)
    except TimeoutError as error:
        raise _hangs() from error


def _waited(future: Future[FeedbackReport]) -> FeedbackReport:
    try:
        return future.result(_LOG_S)
    except NotDoneError as error:
        raise _hangs() from error


def _hangs() -> UnavailableError:
    return UnavailableError(
        f"the prediction log has not answered within {_LOG_S:g} s: its disk hangs, or it is far behind. Tell it again later",
        reason=Reason.LOG_UNAVAILABLE,
    )
