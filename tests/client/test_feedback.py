"""Feedback and predictions from elsewhere, from both clients."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import grpc
import pytest

from model_sidecar_client import (
    AsyncClient,
    Client,
    Feedback,
    FeedbackOutcome,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from model_sidecar_client.testing import StandInSidecar

MODEL = "recommendation-v1"
WHEN = datetime(2024, 1, 15, 9, 30, 0, 250_000, tzinfo=UTC)


@pytest.fixture
def prediction_id(sidecar: StandInSidecar, client: Client) -> str:
    sidecar.answer(MODEL, {"y": [1.0]})
    return client.predict(MODEL, {"x": [0.0]}).prediction_id


def test_what_was_true_is_told_once(client: Client, prediction_id: str) -> None:
    """It is joined, then a duplicate, and with `replace` another truth takes its place."""
    said = [
        client.feedback(prediction_id, 1),
        client.feedback(prediction_id, 1.0),
        client.feedback(prediction_id, 0),
    ]
    assert said == ["joined", "duplicate", "duplicate"]
    assert client.feedback(prediction_id, 0, replace=True) is FeedbackOutcome.JOINED
    assert client.feedback("nobody's", 0) is FeedbackOutcome.UNKNOWN


def test_everything_said_goes_over_the_wire(
    sidecar: StandInSidecar, client: Client, prediction_id: str
) -> None:
    """Truth, source, time and replacement arrive as they were told."""
    client.feedback(prediction_id, "fraud", source="analyst", observed_at=WHEN, replace=True)
    client.feedback(f"{prediction_id}#2", True)

    first, second = (each.request.feedback[0] for each in sidecar.received("RecordFeedback"))  # type: ignore[attr-defined]
    assert (first.label, first.source, first.replace) == ("fraud", "analyst", True)
    assert first.observed_at.ToDatetime(tzinfo=UTC) == WHEN
    assert (second.number, second.prediction_id) == (1.0, f"{prediction_id}#2")
    assert not second.HasField("observed_at")


def test_many_are_counted(client: Client, prediction_id: str) -> None:
    """Feedback by the thousand is counted by what became of it; what was not joined says which piece it was."""

    def given() -> Iterator[Feedback]:
        for source in range(1200):
            yield Feedback(prediction_id=prediction_id, truth=1, source=str(source))
        yield Feedback(prediction_id="nobody's", truth=1)

    report = client.feedback_many(given())

    assert (report.joined, report.counts[FeedbackOutcome.UNKNOWN]) == (1200, 1)
    assert [(each.index, each.prediction_id) for each in report.problems] == [(1200, "nobody's")]
    assert client.feedback_many([]).joined == 0


def test_a_truth_that_is_none_is_refused_before_sending(
    sidecar: StandInSidecar, client: Client, prediction_id: str
) -> None:
    """Neither a list nor nothing can be true of a prediction."""
    for truth in ([1], None, b"x"):
        with pytest.raises(InvalidRequestError, match="expected a number or a string"):
            client.feedback(prediction_id, truth)  # type: ignore[arg-type]
    assert sidecar.received("RecordFeedback") == []


def test_errors_are_those_of_every_call(sidecar: StandInSidecar, client: Client, prediction_id: str) -> None:
    """A log that hangs is UnavailableError, with the reason."""
    sidecar.fail_next("RecordFeedback", grpc.StatusCode.UNAVAILABLE, reason="LOG_UNAVAILABLE", times=3)
    with pytest.raises(UnavailableError) as caught:
        client.feedback(prediction_id, 1)
    assert caught.value.reason == "LOG_UNAVAILABLE"


def test_predictions_made_elsewhere_get_ids(client: Client, prediction_id: str) -> None:
    """Feedback on them is joined like that on answers."""
    elsewhere = client.predictions(MODEL)
    first = elsewhere.log_prediction("2024.01.10.prod", 1, 0.9)
    second = elsewhere.log_prediction("2024.01.10.prod", "fraud", None, "honest")
    assert client.feedback(first, 0) == "joined"
    assert client.feedback(second, "honest") == "duplicate"
    with pytest.raises(NotFoundError):
        client.predictions("nobody").log_prediction("2024.01.10.prod", 1, None)


def test_all_of_it_can_be_awaited(sidecar: StandInSidecar, prediction_id: str) -> None:
    """AsyncClient has the same calls."""

    async def story() -> None:
        given = [Feedback(prediction_id=prediction_id, truth=1, source=source) for source in "abc"]
        async with AsyncClient(sidecar.target) as client:
            assert await client.feedback(prediction_id, 1) == "joined"
            assert (await client.feedback_many(given)).joined == 3
            assert (await client.feedback_many(given[:1])).counts[FeedbackOutcome.DUPLICATE] == 1
            foreign = await client.predictions(MODEL).log_prediction("2024.01.10.prod", 1, 0.5)
            assert await client.feedback(foreign, 1) == "joined"

    asyncio.run(story())
