"""Predictions over one stream, for who asks for many: by plain calls, and awaited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from model_sidecar_client import inference
from model_sidecar_client.aio_pipes import AsyncPipe
from model_sidecar_client.answers import Prediction
from model_sidecar_client.channels import Metadata
from model_sidecar_client.exchange import Exchange
from model_sidecar_client.inference import Parameter, PredictCall, Signatures
from model_sidecar_client.pipes import Pipe
from model_sidecar_client.sharing import Sharing
from model_sidecar_client.tensors import Values
from model_sidecar_client.transport import AsyncConnection, Connection

_OPENED_ONCE = "a stream is opened once: call client.stream(…) for another"


class _ToOneModel:
    """What both kinds of stream know of the questions that are asked over them."""

    def __init__(
        self, signatures: Signatures, sharing: Sharing | None, model: str, metadata: Metadata | None
    ) -> None:
        self._signatures = signatures
        self._sharing = sharing
        self._model = model
        self._metadata = metadata

    def _asked(
        self,
        inputs: Mapping[str, Values],
        version: str,
        outputs: Sequence[str] | None,
        request_id: str | None,
        parameters: Mapping[str, Parameter] | None,
    ) -> Exchange[Prediction]:
        call = PredictCall(
            model=self._model,
            inputs=inputs,
            version=version,
            outputs=outputs,
            request_id=request_id,
            parameters=parameters,
        )
        return inference.predict(call, self._signatures, self._sharing)


class PredictionStream(_ToOneModel):
    """One open stream to one model, from `Client.stream`; any number of threads may ask over it at once.

        with client.stream("recommendation-v1") as stream, ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda rows: stream.predict({"x": rows}), batches))

    The sidecar reads ahead and answers in the order of the questions. Leaving the block waits for what has been asked,
    as long as one call may take; leaving it by an exception does not. A thread reads the answers as long as it is open.
    """

    def __init__(
        self,
        connection: Connection,
        signatures: Signatures,
        sharing: Sharing | None,
        model: str,
        metadata: Metadata | None,
    ) -> None:
        super().__init__(signatures, sharing, model, metadata)
        self._connection = connection
        self._pipe: Pipe | None = None

    def predict(
        self,
        inputs: Mapping[str, Values],
        *,
        version: str = "",
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
        parameters: Mapping[str, Parameter] | None = None,
    ) -> Prediction:
        """One prediction. The arguments and errors are those of `Client.predict`, but nothing is tried again.

        An error is this prediction's alone, and the stream goes on; unless it has ended: UnavailableError (where the
        sidecar goes down, what has no answer was not looked at; or where somebody's message was larger than it takes),
        NotReachableError, and so for every later one.
        One that is given up, or is not answered in time, is passed over when its answer comes.
        """
        if self._pipe is None:
            raise RuntimeError("the stream is not open: use `with client.stream(…) as stream:`")
        return self._connection.run(
            self._asked(inputs, version, outputs, request_id, parameters),
            timeout_s=timeout_s,
            metadata=self._metadata,
            pipe=self._pipe,
        )

    def __enter__(self) -> Self:
        if self._pipe is not None:
            raise RuntimeError(_OPENED_ONCE)
        self._pipe = self._connection.pipe(self._metadata)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._pipe is not None, "entered"
        if kind is None:
            self._pipe.close(timeout_s=self._connection.timeout_s)
        else:
            self._pipe.cancel()


class AsyncPredictionStream(_ToOneModel):
    """One open stream to one model, from `AsyncClient.stream`; any number of tasks may ask over it at once.

        async with client.stream("recommendation-v1") as stream:
            answers = await asyncio.gather(*(stream.predict({"x": each}) for each in batches))

    Otherwise as `PredictionStream`.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        signatures: Signatures,
        sharing: Sharing | None,
        model: str,
        metadata: Metadata | None,
    ) -> None:
        super().__init__(signatures, sharing, model, metadata)
        self._connection = connection
        self._pipe: AsyncPipe | None = None

    async def predict(
        self,
        inputs: Mapping[str, Values],
        *,
        version: str = "",
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
        parameters: Mapping[str, Parameter] | None = None,
    ) -> Prediction:
        """See `PredictionStream.predict`."""
        if self._pipe is None:
            raise RuntimeError("the stream is not open: use `async with client.stream(…) as stream:`")
        return await self._connection.run(
            self._asked(inputs, version, outputs, request_id, parameters),
            timeout_s=timeout_s,
            metadata=self._metadata,
            pipe=self._pipe,
        )

    async def __aenter__(self) -> Self:
        if self._pipe is not None:
            raise RuntimeError(_OPENED_ONCE)
        self._pipe = self._connection.pipe(self._metadata)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._pipe is not None, "entered"
        if kind is None:
            await self._pipe.close(timeout_s=self._connection.timeout_s)
        else:
            await self._pipe.cancel()
