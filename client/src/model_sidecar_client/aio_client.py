"""`AsyncClient`: predictions for application code, awaited. What each method does is said once, in `Client`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from model_sidecar_client import feedback, inference
from model_sidecar_client.answers import ModelMetadata, Prediction, ServerMetadata
from model_sidecar_client.channels import ChannelOptions, Metadata
from model_sidecar_client.foreign import AsyncPredictions
from model_sidecar_client.inference import Parameter, PredictCall, Signatures
from model_sidecar_client.prediction_stream import AsyncPredictionStream
from model_sidecar_client.sharing import Sharing
from model_sidecar_client.tensors import Values
from model_sidecar_client.transport import AsyncConnection
from model_sidecar_client.truths import Feedback, FeedbackOutcome, FeedbackReport
from model_sidecar_client.wire.services import FEEDBACK, INFERENCE

_GOODBYE_S = 1.0  # as in `client`


class AsyncClient:
    """`Client` with every method awaited. It belongs to the event loop of its first call.

    async with AsyncClient("unix:/run/sidecar/data.sock") as client:
        answer = await client.predict("recommendation-v1", {"x": rows})
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = 5.0,
        metadata: Metadata = (),
        options: ChannelOptions = (),
        shared_memory: bool | None = None,
    ) -> None:
        """The arguments are those of `Client`. It may be made outside of an event loop."""
        self._signatures = Signatures()
        self._sharing = None if shared_memory is False else Sharing(target, must=shared_memory is True)
        self._connection = AsyncConnection(
            target, INFERENCE, FEEDBACK, timeout_s=timeout_s, metadata=metadata, options=options
        )

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, Values],
        *,
        version: str = "",
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        metadata: Metadata | None = None,
        request_id: str | None = None,
        parameters: Mapping[str, Parameter] | None = None,
    ) -> Prediction:
        """See `Client.predict`."""
        call = PredictCall(
            model=model,
            inputs=inputs,
            version=version,
            outputs=outputs,
            request_id=request_id,
            parameters=parameters,
        )
        return await self._connection.run(
            inference.predict(call, self._signatures, self._sharing), timeout_s=timeout_s, metadata=metadata
        )

    def shared_array(self, shape: Sequence[int], dtype: Any = "float32") -> AbstractContextManager[Values]:
        """See `Client.shared_array`: a plain `with`."""
        return (self._sharing or Sharing("", must=False)).array(shape, dtype)

    def stream(self, model: str, *, metadata: Metadata | None = None) -> AsyncPredictionStream:
        """See `Client.stream`: an `async with`, and tasks of this client's loop for threads."""
        return AsyncPredictionStream(self._connection, self._signatures, self._sharing, model, metadata)

    async def feedback(
        self,
        prediction_id: str,
        truth: float | str,
        *,
        source: str = "",
        observed_at: datetime | None = None,
        replace: bool = False,
        timeout_s: float | None = None,
        metadata: Metadata | None = None,
    ) -> FeedbackOutcome:
        """See `Client.feedback`."""
        given = Feedback(
            prediction_id=prediction_id, truth=truth, source=source, observed_at=observed_at, replace=replace
        )
        return await self._connection.run(feedback.feedback(given), timeout_s=timeout_s, metadata=metadata)

    async def feedback_many(
        self,
        given: Iterable[Feedback],
        *,
        timeout_s: float | None = None,
        metadata: Metadata | None = None,
    ) -> FeedbackReport:
        """See `Client.feedback_many`."""
        done = feedback.Sum()
        for piece in feedback.in_pieces(given):
            report = await self._connection.run(
                feedback.feedback_many(piece), timeout_s=timeout_s, metadata=metadata
            )
            done.add(report, pieces=len(piece))
        return done.report()

    def predictions(self, model: str, *, environment: str = "") -> AsyncPredictions:
        """See `Client.predictions`; its methods are awaited."""
        return AsyncPredictions(self._connection, model, environment)

    async def wait_ready(self, model: str | None = None, *, timeout_s: float = 30.0) -> None:
        """See `Client.wait_ready`."""
        await self._connection.run(inference.wait_ready(model), timeout_s=timeout_s)

    async def is_ready(self, model: str | None = None, *, timeout_s: float | None = None) -> bool:
        """See `Client.is_ready`."""
        return await self._connection.run(inference.is_ready(model), timeout_s=timeout_s)

    async def model_metadata(
        self, model: str, *, version: str = "", timeout_s: float | None = None
    ) -> ModelMetadata:
        """See `Client.model_metadata`."""
        return await self._connection.run(inference.model_metadata(model, version), timeout_s=timeout_s)

    async def server_metadata(self, *, timeout_s: float | None = None) -> ServerMetadata:
        """See `Client.server_metadata`."""
        return await self._connection.run(inference.server_metadata(), timeout_s=timeout_s)

    async def close(self) -> None:
        """See `Client.close`."""
        if self._sharing is not None:
            await self._connection.run(self._sharing.end(), timeout_s=_GOODBYE_S)
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
