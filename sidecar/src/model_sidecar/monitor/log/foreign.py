"""Predictions that were made elsewhere, taken in by call: they go the way of those that are made here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from model_sidecar.errors import InvalidRequestError
from model_sidecar.events import Site
from model_sidecar.monitor.intake import Intake, Told
from model_sidecar.monitor.log.feedback import LONGEST_LABEL, Feedback, FeedbackDesk, FeedbackReport
from model_sidecar.monitor.prediction_ids import PredictionIds
from model_sidecar.release.names import Version, parse_version


@dataclass(frozen=True, slots=True)
class ForeignPrediction:
    """A prediction that was made elsewhere."""

    version: Version
    prediction: float | str
    confidence: float | None = None
    ground_truth: float | str | None = None


class Foreigners:
    """Takes predictions of one site, `site`. Any thread may call it."""

    def __init__(self, site: Site, *, intake: Intake, feedback: FeedbackDesk, ids: PredictionIds) -> None:
        self.site = site
        self._intake = intake
        self._feedback = feedback
        self._ids = ids

    def log_prediction(
        self,
        version: str,
        prediction: float | str,
        confidence: float | None,
        ground_truth: float | str | None = None,
    ) -> str:
        """Watch a prediction that was made elsewhere, and say at once what was true of it if that is known.

        Args:
            version: which version made it; it need not be one that the sidecar serves.
            prediction: a number, or a label.
            confidence: 0 to 1; None where there is none.
            ground_truth: what was true; else feedback on the id that this returns may tell it later.

        Raises:
            InvalidNameError: no version's name.
            InvalidRequestError: a confidence off 0 to 1, a label that is too long.
            UnavailableError: too much feedback waits already.
        """
        made = foreign_prediction(version, prediction, confidence, ground_truth)
        ids, _ = self.record([made])
        return ids[0]

    def record(self, predictions: Sequence[ForeignPrediction]) -> tuple[list[str], Future[FeedbackReport]]:
        """Watch these; their ids, and what becomes of the truths among them."""
        ids = [self._ids.next() for _ in predictions]
        self._intake.tell(
            [
                Told(
                    self.site,
                    each.version,
                    id_,
                    each.prediction,
                    math.nan if each.confidence is None else each.confidence,
                )
                for id_, each in zip(ids, predictions, strict=True)
            ]
        )
        truths = [
            Feedback(prediction_id=id_, truth=each.ground_truth)
            for id_, each in zip(ids, predictions, strict=True)
            if each.ground_truth is not None
        ]
        return ids, self._feedback.record(truths)


def foreign_prediction(
    version: str,
    prediction: float | str | None,
    confidence: float | None,
    ground_truth: float | str | None,
) -> ForeignPrediction:
    """A prediction as somebody tells it, checked.

    Raises:
        InvalidNameError, InvalidRequestError: as `Foreigners.log_prediction`.
    """
    if prediction is None:
        raise InvalidRequestError("prediction: found none, expected a number or a label")
    for name, value in (("prediction", prediction), ("ground_truth", ground_truth)):
        if isinstance(value, str) and len(value) > LONGEST_LABEL:
            raise InvalidRequestError(
                f"{name}: found a label of {len(value)} characters, expected at most {LONGEST_LABEL}"
            )
    if confidence is not None and not 0 <= confidence <= 1:
        raise InvalidRequestError(f"confidence: found {confidence}, expected 0 to 1")
    return ForeignPrediction(
        parse_version(version),
        prediction if isinstance(prediction, str) else float(prediction),
        confidence,
        ground_truth if isinstance(ground_truth, str) or ground_truth is None else float(ground_truth),
    )
