from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from support.digits import Published

from model_sidecar.demo.traffic import StoryError, Traffic
from model_sidecar_client.testing import StandInSidecar

OLD, NEW = "2024.01.10.prod", "2024.01.15.prod"


@pytest.fixture
def sidecar() -> Iterator[StandInSidecar]:
    with StandInSidecar() as sidecar:
        say(sidecar, 3, version=OLD)
        yield sidecar


def say(sidecar: StandInSidecar, digit: int, *, version: str) -> None:
    outputs = {"label": np.array([digit], np.int64), "probabilities": np.full((1, 10), 0.1, np.float32)}
    sidecar.answer("digits", outputs, version=version)


def traffic_to(sidecar: StandInSidecar, published: Published) -> Traffic:
    return Traffic(sidecar.target, published.stream, threads=3, pause_s=0.001)


def test_every_answer_is_noted_with_its_tag(sidecar: StandInSidecar, published: Published) -> None:
    """What was asked, what came back and from which version; all rows of the stream in turn."""
    with traffic_to(sidecar, published) as traffic:
        traffic.wait_answers(OLD, more=30)
        say(sidecar, 4, version=NEW)
        since = traffic.wait_answers(NEW, more=30)

    answers = traffic.answers()
    assert {(each.version, each.label) for each in answers} == {(OLD, 3), (NEW, 4)}
    assert {each.row for each in answers} >= set(range(30))
    assert all(each.asked_at <= each.answered_at for each in answers)
    assert sum(each.version == NEW for each in since) >= 30
    assert traffic.failures() == []


def test_a_lost_request_is_seen_and_not_asked_again(sidecar: StandInSidecar, published: Published) -> None:
    """UNAVAILABLE, which a client would retry by itself, counts as a failure here."""
    with traffic_to(sidecar, published) as traffic:
        traffic.wait_answers(OLD, more=5)
        sidecar.fail_next("ModelInfer", grpc.StatusCode.UNAVAILABLE)
        traffic.wait_answers(OLD, more=20)

    assert len(traffic.failures()) == 1
    assert (
        "UnavailableError" in traffic.failures()[0].message
        or "NotReachableError" in traffic.failures()[0].message
    )


def test_waiting_for_a_version_that_never_answers_ends(sidecar: StandInSidecar, published: Published) -> None:
    """The story does not hang: it says who did not answer."""
    with traffic_to(sidecar, published) as traffic, pytest.raises(StoryError, match=f"{NEW} gave 0 answers"):
        traffic.wait_answers(NEW, more=1, timeout_s=0.1)


def test_leaving_ends_every_thread(sidecar: StandInSidecar, published: Published) -> None:
    """After `with` nobody asks any more."""
    with traffic_to(sidecar, published) as traffic:
        traffic.wait_answers(OLD, more=3)

    assert not [each for each in threading.enumerate() if each.name.startswith("traffic-")]
