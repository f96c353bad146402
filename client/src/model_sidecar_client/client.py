"""`Client`: predictions for application code, by plain calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from model_sidecar_client import feedback, inference
from model_sidecar_client.answers import ModelMetadata, Prediction, ServerMetadata
from model_sidecar_client.channels import ChannelOptions, Metadata
from model_sidecar_client.foreign import Predictions
from model_sidecar_client.inference import Parameter, PredictCall, Signatures
from model_sidecar_client.prediction_stream import PredictionStream
from model_sidecar_client.sharing import Sharing
from model_sidecar_client.tensors import Values
from model_sidecar_client.transport import Connection
from model_sidecar_client.truths import Feedback, FeedbackOutcome, FeedbackReport
from model_sidecar_client.wire.services import FEEDBACK, INFERENCE

# The sidecar sees by itself what is not told it in time.
_GOODBYE_S = 1.0


class Client:
    """Asks one sidecar for predictions. Any thread may use it; a forked child must make its own.

        with Client("unix:/run/sidecar/data.sock") as client:
            answer = client.predict("recommendation-v1", {"x": rows})
            answer.outputs["y"], answer.version, answer.prediction_id

    Every call has a deadline. A call that fails with UNAVAILABLE is tried up to three times within it. Every method
    raises SidecarError and nothing else, save RuntimeError once the client is closed.
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
        """Nothing is sent yet, so a sidecar that is not there shows at the first call.

        Args:
            target: `unix:/path/of.sock`, `unix:///path/of.sock` or `host:port`.
            timeout_s: the deadline of each call that names none.
            metadata: gRPC metadata sent with every call.
            options: further gRPC channel options; they win over ours.
            shared_memory: whether tensors of half a mebibyte and more go through shared memory instead of messages. By default
                they do where the sidecar is on this machine, offers it, and runs as the same user; False: never; True:
                always, and NotSupportedError where that cannot be. Some of that memory is kept until the client is closed.
        """
        self._signatures = Signatures()
        self._sharing = None if shared_memory is False else Sharing(target, must=shared_memory is True)
        self._connection = Connection(
            target, INFERENCE, FEEDBACK, timeout_s=timeout_s, metadata=metadata, options=options
        )

    def predict(
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
        """One prediction.

        Args:
            model: its name.
            inputs: a mapping of names to values: numpy arrays and other buffers, nested lists or scalars. They are
                converted to the model's datatypes, lists and arrays alike: floats are rounded to its width (float64
                arrays fit an FP32 input), integers take its width if every value fits, and may stand for floats. A
                float for an integer, or a bool or text for a number, is refused, never guessed
                (`model_sidecar_client.tensors` has the particulars).
            version: "" for the live version, an exact one, or "@previous" for the standby.
            outputs: the names of those wanted; all by default.
            timeout_s: this call's deadline, the question what the model takes included.
            metadata: gRPC metadata for this call, besides the client's.
            request_id: echoed as the prediction's `id`.
            parameters: the request's parameters, as the Open Inference Protocol has them.

        Raises:
            InvalidRequestError: an input is off; `metadata["tensor"]` names it. Possibly found before sending.
            NotFoundError: no such model or version.
            RefusedError: the version exists but is not resident.
            UnavailableError: nothing is live (NotReachableError: nothing answers there), and that was so up to three
                times: UNAVAILABLE is tried again after a short pause, as long as the deadline allows.
            OverloadedError: `retry_after_s` says when to try again.
            DeadlineError: no answer in time.
            InternalError: the model failed on these inputs.
        """
        call = PredictCall(
            model=model,
            inputs=inputs,
            version=version,
            outputs=outputs,
            request_id=request_id,
            parameters=parameters,
        )
        return self._connection.run(
            inference.predict(call, self._signatures, self._sharing), timeout_s=timeout_s, metadata=metadata
        )

    def shared_array(self, shape: Sequence[int], dtype: Any = "float32") -> AbstractContextManager[Values]:
        """An array to be filled in place, that lies in shared memory where the sidecar offers that (`shared_memory` above).

            with client.shared_array((16, 224, 224, 3), np.uint8) as images:
                camera.read_into(images)
                answer = client.predict("detector", {"images": images})

        To predict with it, or with a part of it that lies in one piece, copies nothing here, if it is of the model's
        datatype. Behind the block it is an array like any other. It needs numpy, whose errors it raises for what is no shape
        and no dtype.
        """
        return (self._sharing or Sharing("", must=False)).array(shape, dtype)

    def stream(self, model: str, *, metadata: Metadata | None = None) -> PredictionStream:
        """A stream of predictions, faster than calls where many are asked for.

            with client.stream("recommendation-v1") as stream, ThreadPoolExecutor(8) as threads:
                answers = list(threads.map(lambda rows: stream.predict({"x": rows}), batches))

        It pays where models take microseconds, from one asker on. It costs: answers come in the order of the questions,
        so a slow one keeps those behind it waiting; the sidecar works on at most 32 of a stream at once, and does not
        learn a single prediction's deadline; nothing is tried again; and what ends the stream ends it for all, who open
        another.

        Args:
            model: its name.
            metadata: gRPC metadata for the stream, besides the client's.
        """
        return PredictionStream(self._connection, self._signatures, self._sharing, model, metadata)

    def feedback(
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
        """Say what was true of an earlier prediction. The same again changes nothing and is a `duplicate`.

        Args:
            prediction_id: the answer's; `id#row` (from 0) for one row of several.
            truth: a number, a truth value, or a label.
            source: who says so, at most 64 printable ASCII characters.
            observed_at: when it became known; now by default. Without a time zone it is taken for local time.
            replace: let this take the place of what the same source said before.
            timeout_s: this call's deadline.
            metadata: gRPC metadata for this call, besides the client's.

        Returns:
            What became of it: `joined`; `duplicate`; `unknown`, `unsampled` and `too_late` for a prediction that this
            sidecar's log does not have, never had, or has no more.

        Raises:
            InvalidRequestError: it makes no sense as it stands; the message says why.
            UnavailableError: the log cannot keep it now.
            NotSupportedError: this sidecar takes no feedback.
        """
        given = Feedback(
            prediction_id=prediction_id, truth=truth, source=source, observed_at=observed_at, replace=replace
        )
        return self._connection.run(feedback.feedback(given), timeout_s=timeout_s, metadata=metadata)

    def feedback_many(
        self,
        given: Iterable[Feedback],
        *,
        timeout_s: float | None = None,
        metadata: Metadata | None = None,
    ) -> FeedbackReport:
        """Say what was true of many predictions. The deadline counts for each 25,000 of them.

        What makes no sense is counted as `invalid` and told among the report's problems; the rest is joined.

        Raises:
            InvalidRequestError: a truth that is neither a number nor a string; those before it may be joined.
            UnavailableError, NotSupportedError: as `feedback`.
        """
        done = feedback.Sum()
        for piece in feedback.in_pieces(given):
            report = self._connection.run(
                feedback.feedback_many(piece), timeout_s=timeout_s, metadata=metadata
            )
            done.add(report, pieces=len(piece))
        return done.report()

    def predictions(self, model: str, *, environment: str = "") -> Predictions:
        """Where predictions of this model are told that were made elsewhere.

        client.predictions("fraud").log_prediction("2024.01.15.prod", 1, 0.93)
        """
        return Predictions(self._connection, model, environment)

    def wait_ready(self, model: str | None = None, *, timeout_s: float = 30.0) -> None:
        """Return as soon as the sidecar (or this model) can answer, however long it takes to come up.

        Raises:
            DeadlineError: it could not within `timeout_s`; the message says how far it got.
        """
        self._connection.run(inference.wait_ready(model), timeout_s=timeout_s)

    def is_ready(self, model: str | None = None, *, timeout_s: float | None = None) -> bool:
        """Whether the sidecar (or this model) can answer now. An unreachable sidecar is not ready."""
        return self._connection.run(inference.is_ready(model), timeout_s=timeout_s)

    def model_metadata(
        self, model: str, *, version: str = "", timeout_s: float | None = None
    ) -> ModelMetadata:
        """What a model takes and returns, and which versions of it can answer, the live one first."""
        return self._connection.run(inference.model_metadata(model, version), timeout_s=timeout_s)

    def server_metadata(self, *, timeout_s: float | None = None) -> ServerMetadata:
        """What answers there."""
        return self._connection.run(inference.server_metadata(), timeout_s=timeout_s)

    def close(self) -> None:
        """End the connection. Closing twice is fine; a client that is never closed warns with ResourceWarning."""
        if self._sharing is not None:
            self._connection.run(self._sharing.end(), timeout_s=_GOODBYE_S)
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
