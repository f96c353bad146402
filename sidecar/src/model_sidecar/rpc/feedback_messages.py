"""Feedback and predictions from elsewhere, from messages and into them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from model_sidecar.errors import InvalidRequestError
from model_sidecar.monitor.log.feedback import (
    PROBLEMS,
    Feedback,
    FeedbackOutcome,
    FeedbackProblem,
    FeedbackReport,
)
from model_sidecar.monitor.log.foreign import ForeignPrediction, foreign_prediction
from model_sidecar.rpc.status import printable
from model_sidecar_client.wire import feedback as wire

MOST_AT_ONCE = 10_000
"""Pieces in one message: some tenths of a second of the log's time."""
_MESSAGE_BYTES = 512


def feedback_of(messages: Sequence[wire.Feedback]) -> list[Feedback]:
    """What these messages say, unchecked.

    Raises:
        InvalidRequestError: they are too many for one message.
    """
    _check_count(len(messages), "feedback")
    return [
        Feedback(
            prediction_id=each.prediction_id,
            truth=_either(each, each.WhichOneof("truth")),
            observed_at=each.observed_at.seconds + each.observed_at.nanos / 1e9
            if each.HasField("observed_at")
            else None,
            source=each.source,
            replace=each.replace,
        )
        for each in messages
    ]


def predictions_of(messages: Sequence[wire.ForeignPrediction]) -> list[ForeignPrediction]:
    """The predictions in these messages.

    Raises:
        InvalidRequestError, InvalidNameError: one of them makes no sense, or they are too many for one message.
    """
    _check_count(len(messages), "predictions")
    return [
        foreign_prediction(
            each.version,
            _either(each, each.WhichOneof("prediction")),
            each.confidence if each.HasField("confidence") else None,
            _either(each, each.WhichOneof("ground_truth")),
        )
        for each in messages
    ]


class Sum:
    """The reports of one call's messages, added up."""

    def __init__(self) -> None:
        self._counts: Counter[FeedbackOutcome] = Counter()
        self._problems: list[FeedbackProblem] = []
        self._seen = 0

    def add(self, report: FeedbackReport, *, pieces: int) -> None:
        """One message's report; its pieces come behind those before."""
        self._counts.update(report.counts)
        for problem in report.problems[: PROBLEMS - len(self._problems)]:
            self._problems.append(
                FeedbackProblem(
                    self._seen + problem.index, problem.prediction_id, problem.outcome, problem.message
                )
            )
        self._seen += pieces

    def counts(self) -> wire.FeedbackCounts:
        """How many ended how."""
        return wire.FeedbackCounts(**{outcome.value: count for outcome, count in self._counts.items()})

    def problems(self) -> list[wire.FeedbackProblem]:
        """Those that were not joined, as far as they are told."""
        return [
            wire.FeedbackProblem(
                index=each.index,
                prediction_id=printable(each.prediction_id, limit=_MESSAGE_BYTES),
                outcome=each.outcome.value,
                message=printable(each.message, limit=_MESSAGE_BYTES),
            )
            for each in self._problems
        ]


def _check_count(count: int, what: str) -> None:
    if count > MOST_AT_ONCE:
        raise InvalidRequestError(
            f"{what}: found {count} in one message, expected at most {MOST_AT_ONCE}: send several"
        )


def _either(message: wire.Feedback | wire.ForeignPrediction, field: str | None) -> float | str | None:
    if field is None:
        return None
    value: float | str = getattr(message, field)
    return value
