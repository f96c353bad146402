"""`Client`: predictions for application code, by plain calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from model_sidecar_client import inference
from model_sidecar_client.answers import ModelMetadata, Prediction, ServerMetadata
from model_sidecar_client.channels import ChannelOptions, Metadata
from model_sidecar_client.inference import Parameter, PredictCall, Signatures
from model_sidecar_client.tensors import Values
from model_sidecar_client.transport import Connection
from model_sidecar_client.wire.services import INFERENCE


class Client:
    """Asks one sidecar for predictions. Any thread may use it; a forked child must make its own.

        with Client("unix:/run/sidecar/data.sock") as client:
            answer = client.predict("recommendation-v1", {"x": rows})
            answer.outputs["y"], answer.version, answer.prediction_id

    Every call has a deadline. A call that fails with UNAVAILABLE is tried up to three times within it. Every method
    raises SidecarError and nothing else, save RuntimeError once the client is closed.
    """

    def __init__(
        self, target: str, *, timeout_s: float = 5.0, metadata: Metadata = (), options: ChannelOptions = ()
    ) -> None:
        """Nothing is sent yet, so a sidecar that is not there shows at the first call.

        Args:
            target: `unix:/path/of.sock`, `unix:///path/of.sock` or `host:port`.
            timeout_s: the deadline of each call that names none.
            metadata: gRPC metadata sent with every call.
            options: further gRPC channel options; they win over ours.
        """
        self._signatures = Signatures()
        self._connection = Connection(
            target, INFERENCE, timeout_s=timeout_s, metadata=metadata, options=options
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
            inference.predict(call, self._signatures), timeout_s=timeout_s, metadata=metadata
        )

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
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
