"""The stand-in's answers to FeedbackService: each of its predictions takes one truth from each source."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator

import grpc

from model_sidecar_client.testing.shelf import Shelf
from model_sidecar_client.wire import feedback as wire

_PROBLEMS = 100


class FeedbackPlane:
    """model_sidecar.v1.FeedbackService over what the data plane has answered. Only as much as an application sees."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._lock = threading.Lock()  # guards _truths
        self._truths: dict[tuple[str, str], float | str] = {}

    def RecordFeedback(
        self, request: wire.RecordFeedbackRequest, context: grpc.ServicerContext
    ) -> wire.RecordFeedbackResponse:
        counts, problems = self._settled(request.feedback)
        return wire.RecordFeedbackResponse(counts=counts, problems=problems)

    def RecordFeedbackStream(
        self, requests: Iterator[wire.RecordFeedbackStreamRequest], context: grpc.ServicerContext
    ) -> wire.RecordFeedbackStreamResponse:
        counts, problems = self._settled(each for request in requests for each in request.feedback)
        return wire.RecordFeedbackStreamResponse(counts=counts, problems=problems)

    def RecordPredictions(
        self, request: wire.RecordPredictionsRequest, context: grpc.ServicerContext
    ) -> wire.RecordPredictionsResponse:
        with self._shelf.model(request.model, request.environment or None):
            ids = [uuid.uuid4().hex for _ in request.predictions]
        self._shelf.answered.update(ids)
        truths = [
            wire.Feedback(prediction_id=id_, number=each.true_number)
            if each.WhichOneof("ground_truth") == "true_number"
            else wire.Feedback(prediction_id=id_, label=each.true_label)
            for id_, each in zip(ids, request.predictions, strict=True)
            if each.WhichOneof("ground_truth")
        ]
        self._settled(truths)
        return wire.RecordPredictionsResponse(prediction_ids=ids)

    def _settled(
        self, feedback: Iterable[wire.Feedback]
    ) -> tuple[wire.FeedbackCounts, list[wire.FeedbackProblem]]:
        counts: Counter[str] = Counter()
        problems: list[wire.FeedbackProblem] = []
        for index, each in enumerate(feedback):
            outcome = self._outcome(each)
            counts[outcome] += 1
            if outcome != "joined" and len(problems) < _PROBLEMS:
                problems.append(
                    wire.FeedbackProblem(
                        index=index,
                        prediction_id=each.prediction_id,
                        outcome=outcome,
                        message=f"the stand-in found it {outcome}",
                    )
                )
        return wire.FeedbackCounts(**counts), problems

    def _outcome(self, feedback: wire.Feedback) -> str:
        told = feedback.WhichOneof("truth")
        if told is None or not feedback.prediction_id:
            return "invalid"
        if feedback.prediction_id.partition("#")[0] not in self._shelf.answered:
            return "unknown"
        key, truth = (feedback.prediction_id, feedback.source), getattr(feedback, told)
        with self._lock:
            if key in self._truths and (self._truths[key] == truth or not feedback.replace):
                return "duplicate"
            self._truths[key] = truth
        return "joined"
