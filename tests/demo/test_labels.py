from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from support.digits import Published

from model_sidecar.demo.labels import Labels
from model_sidecar.demo.traffic import Traffic
from model_sidecar_client import Client, FeedbackOutcome
from model_sidecar_client.testing import StandInSidecar

VERSION = "2024.01.10.prod"


@pytest.fixture
def sidecar() -> Iterator[StandInSidecar]:
    with StandInSidecar() as sidecar:
        outputs = {"label": np.array([3], np.int64), "probabilities": np.full((1, 10), 0.1, np.float32)}
        sidecar.answer("digits", outputs, version=VERSION)
        yield sidecar


def wait_told(labels: Labels, count: int) -> None:
    end = time.monotonic() + 30
    while sum(labels.outcomes().values()) < count:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_truth_of_every_answer_is_told_once(sidecar: StandInSidecar, published: Published) -> None:
    """By its id, and what the digit really was, not what the version said; later than the answer."""
    with Traffic(sidecar.target, published.stream, threads=2, pause_s=0.001) as traffic:
        with Labels(sidecar.target, traffic, delay_s=0.2) as labels:
            traffic.wait_answers(VERSION, more=30)
            wait_told(labels, 30)
        traffic.stop()

    told = labels.outcomes()[FeedbackOutcome.JOINED]
    assert told == sum(labels.outcomes().values()) >= 30
    assert labels.failures() == []
    with Client(sidecar.target) as client:
        again = [
            client.feedback(each.id, int(published.stream.labels[each.row]), source="demo", replace=True)
            for each in traffic.answers()[:told]
        ]
    # Another truth would have taken the place of the first, and been joined.
    assert set(again) == {FeedbackOutcome.DUPLICATE}


def test_a_label_that_is_lost_is_seen(sidecar: StandInSidecar, published: Published) -> None:
    """The story does not say that all labels came where some did not."""
    with Traffic(sidecar.target, published.stream, threads=1, pause_s=0.001) as traffic:
        sidecar.fail_next("RecordFeedbackStream", grpc.StatusCode.INVALID_ARGUMENT)
        with Labels(sidecar.target, traffic, delay_s=0.0) as labels:
            wait_told(labels, 10)

    assert len(labels.failures()) == 1
    assert "InvalidRequestError" in labels.failures()[0].message
