"""The exchanges of feedback, and of predictions that were made elsewhere: what clients of both kinds ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from model_sidecar_client.errors import InternalError, InvalidRequestError
from model_sidecar_client.exchange import Ask, Exchange, made
from model_sidecar_client.truths import Feedback, FeedbackOutcome, FeedbackProblem, FeedbackReport
from model_sidecar_client.wire import feedback as wire

AT_ONCE = 25_000
"""Pieces of one call of the stream: each call has the client's whole deadline."""
_MESSAGE = 500
_PROBLEMS = 100


def feedback(given: Feedback) -> Exchange[FeedbackOutcome]:
    """Say what was true of one prediction.

    Raises:
        InvalidRequestError: it makes no sense as it stands.
    """
    request = wire.RecordFeedbackRequest(feedback=[_message(given)])
    reply: wire.RecordFeedbackResponse = yield Ask("RecordFeedback", request)
    for problem in reply.problems:
        if problem.outcome == FeedbackOutcome.INVALID:
            raise InvalidRequestError(f"feedback on {problem.prediction_id!r}: {problem.message}")
        return FeedbackOutcome(problem.outcome)
    return FeedbackOutcome.JOINED


def feedback_many(given: Sequence[Feedback]) -> Exchange[FeedbackReport]:
    """Say what was true of many predictions, at most `AT_ONCE`."""
    messages = [_message(each) for each in given]
    requests = [
        wire.RecordFeedbackStreamRequest(feedback=messages[at : at + _MESSAGE])
        for at in range(0, len(messages), _MESSAGE)
    ]
    reply: wire.RecordFeedbackStreamResponse = yield Ask("RecordFeedbackStream", requests)
    return FeedbackReport(
        {each: getattr(reply.counts, each.value) for each in FeedbackOutcome},
        tuple(
            FeedbackProblem(each.index, each.prediction_id, FeedbackOutcome(each.outcome), each.message)
            for each in reply.problems
        ),
    )


def log_predictions(
    model: str, environment: str, predictions: Sequence[wire.ForeignPrediction]
) -> Exchange[list[str]]:
    """Have predictions watched that were made elsewhere."""
    request = made(
        wire.RecordPredictionsRequest, model=model, environment=environment, predictions=predictions
    )
    reply: wire.RecordPredictionsResponse = yield Ask("RecordPredictions", request)
    if len(reply.prediction_ids) != len(predictions):
        raise InternalError(
            f"RecordPredictions: {len(reply.prediction_ids)} ids for {len(predictions)} predictions"
        )
    return list(reply.prediction_ids)


def foreign_prediction(
    version: str, value: object, confidence: float | None, ground_truth: object
) -> wire.ForeignPrediction:
    """The message of a prediction that was made elsewhere.

    Raises:
        InvalidRequestError: a value that is neither a number nor a label.
    """
    message = made(
        wire.ForeignPrediction,
        version=version,
        confidence=None if confidence is None else _number("confidence", confidence),
    )
    _put(message, "prediction", value, number="number", label="label")
    if ground_truth is not None:
        _put(message, "ground_truth", ground_truth, number="true_number", label="true_label")
    return message


def in_pieces(given: Iterable[Feedback]) -> Iterator[list[Feedback]]:
    """Lists of at most `AT_ONCE`, in the same order."""
    left = iter(given)
    while piece := list(islice(left, AT_ONCE)):
        yield piece


class Sum:
    """The reports of several calls, as one."""

    def __init__(self) -> None:
        self._counts: Counter[FeedbackOutcome] = Counter()
        self._problems: list[FeedbackProblem] = []
        self._seen = 0

    def add(self, report: FeedbackReport, *, pieces: int) -> None:
        """One call's report; its pieces come behind those before."""
        self._counts.update(report.counts)
        for each in report.problems[: _PROBLEMS - len(self._problems)]:
            self._problems.append(
                FeedbackProblem(self._seen + each.index, each.prediction_id, each.outcome, each.message)
            )
        self._seen += pieces

    def report(self) -> FeedbackReport:
        """All of them."""
        return FeedbackReport({each: self._counts[each] for each in FeedbackOutcome}, tuple(self._problems))


def _message(given: Feedback) -> wire.Feedback:
    message = made(
        wire.Feedback, prediction_id=given.prediction_id, source=given.source, replace=given.replace
    )
    _put(message, "truth", given.truth, number="number", label="label")
    if given.observed_at is not None:
        if not isinstance(given.observed_at, datetime):
            raise InvalidRequestError(
                f"observed_at: found a {type(given.observed_at).__name__}, expected a datetime"
            )
        # As an instant: the Timestamp's own FromDatetime takes a naive one for UTC.
        message.observed_at.FromNanoseconds(round(given.observed_at.timestamp() * 1e6) * 1000)
    return message


def _put(message: Any, what: str, value: object, *, number: str, label: str) -> None:
    if isinstance(value, str):
        field, wanted = label, value
    else:
        field, wanted = number, _number(what, value)
    try:
        setattr(message, field, wanted)
    except (TypeError, ValueError) as error:  # text that is no Unicode
        raise InvalidRequestError(f"{what}: {error}") from error


def _number(what: str, value: object) -> Any:
    # A scalar of numpy is none of Python's numbers; its item is.
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", 0) == 0:
        value = item()
    if isinstance(value, bool | int | float):
        return float(value)
    raise InvalidRequestError(f"{what}: found a {type(value).__name__}, expected a number or a string")
