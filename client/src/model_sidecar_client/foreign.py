"""Where applications tell of predictions that were made elsewhere, by plain calls and awaited."""

from __future__ import annotations

from model_sidecar_client.feedback import foreign_prediction, log_predictions
from model_sidecar_client.transport import AsyncConnection, Connection


class Predictions:
    """The predictions of one model that the sidecar did not make. From `Client.predictions`."""

    def __init__(self, connection: Connection, model: str, environment: str) -> None:
        self._connection = connection
        self._model = model
        self._environment = environment

    def log_prediction(
        self,
        version: str,
        prediction: float | str,
        confidence: float | None,
        ground_truth: float | str | None = None,
        *,
        timeout_s: float | None = None,
    ) -> str:
        """Have a prediction watched like those that the sidecar makes, and say what was true of it if that is known.

        Args:
            version: which version made it; the sidecar need not serve it.
            prediction: a number or a label.
            confidence: 0 to 1; None where there is none.
            ground_truth: what was true; else `Client.feedback` on the id may say it later.
            timeout_s: this call's deadline.

        Returns:
            The prediction's id.

        Raises:
            InvalidRequestError: a value that makes no sense.
            NotFoundError: the sidecar does not serve this model.
            UnavailableError: what was true could not be kept.
        """
        message = foreign_prediction(version, prediction, confidence, ground_truth)
        exchange = log_predictions(self._model, self._environment, [message])
        return self._connection.run(exchange, timeout_s=timeout_s)[0]


class AsyncPredictions:
    """The same, awaited. From `AsyncClient.predictions`."""

    def __init__(self, connection: AsyncConnection, model: str, environment: str) -> None:
        self._connection = connection
        self._model = model
        self._environment = environment

    async def log_prediction(
        self,
        version: str,
        prediction: float | str,
        confidence: float | None,
        ground_truth: float | str | None = None,
        *,
        timeout_s: float | None = None,
    ) -> str:
        """See `Predictions.log_prediction`."""
        message = foreign_prediction(version, prediction, confidence, ground_truth)
        exchange = log_predictions(self._model, self._environment, [message])
        return (await self._connection.run(exchange, timeout_s=timeout_s))[0]
