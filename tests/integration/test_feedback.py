"""Feedback over the wire: predictions of a real sidecar, joined with what was true, across restarts and kills."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from onnx import helper
from support.classifiers import A, B, classifying
from support.models import build, value
from support.sidecars import RunningSidecar, serving
from support.yard import MODEL, PROD, Yard

from model_sidecar_client import (
    Client,
    Feedback,
    FeedbackOutcome,
    InvalidRequestError,
    NotFoundError,
    NotSupportedError,
    UnavailableError,
)
from model_sidecar_client.wire import feedback as wire
from model_sidecar_client.wire import services

ROWS = [[0.0, 1.0], [1.0, 0.0], [0.0, 2.0]]


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSidecar]:
    root = tmp_path_factory.mktemp("feedback")
    with serving(classifying(root), A, "--state-dir", str(root / "state")) as running:
        yield running


@pytest.fixture
def client(sidecar: RunningSidecar) -> Iterator[Client]:
    with sidecar.client() as client:
        yield client


def predicted(client: Client, rows: list[list[float]] | None = None) -> str:
    """One answer's id."""
    return client.predict(MODEL, {"raw": rows or ROWS[:1]}).prediction_id


def test_feedback_right_after_the_answer_is_joined(client: Client) -> None:
    """Whoever has an answer may say at once what was true; the same again is a duplicate."""
    prediction_id = predicted(client)
    assert client.feedback(prediction_id, 1) == "joined"
    assert client.feedback(prediction_id, 1) == "duplicate"
    assert client.feedback(prediction_id, 0, replace=True) == "joined"


def test_many_are_told_at_once(client: Client) -> None:
    """A stream of feedback is counted by what became of each piece, and says what was wrong with the others."""
    ids = [predicted(client) for _ in range(20)]
    batch = predicted(client, ROWS)
    given = [Feedback(prediction_id=each, truth=1, source="batch job") for each in ids]
    given += [Feedback(prediction_id=f"{batch}#{row}", truth=True) for row in range(3)]
    given += [Feedback(prediction_id=batch, truth=1), Feedback(prediction_id="nonsense", truth="x")]

    report = client.feedback_many(given)

    assert (report.joined, report.counts[FeedbackOutcome.INVALID]) == (23, 2)
    assert [problem.index for problem in report.problems] == [23, 24]
    assert client.feedback_many(iter(given[:3])).counts[FeedbackOutcome.DUPLICATE] == 3


def test_what_makes_no_sense_is_refused(client: Client) -> None:
    """One piece that is invalid is an error, which says what was expected."""
    with pytest.raises(InvalidRequestError, match="expected the id of an answer"):
        client.feedback("nonsense", 1)
    assert client.feedback("019a2b3c4d500000-9f86d081", 1) == "unknown"


def test_an_answer_with_other_outputs_alone_is_watched_all_the_same(client: Client) -> None:
    """Who asks for the probabilities only gets those only, and can say what was true of the label."""
    answer = client.predict(MODEL, {"raw": ROWS}, outputs=["probabilities"])
    assert list(answer.outputs) == ["probabilities"]
    assert client.feedback(f"{answer.prediction_id}#1", 0) == "joined"


def test_the_control_plane_takes_feedback_too(sidecar: RunningSidecar, client: Client) -> None:
    """A batch job beside the sidecar may use the control socket, with the same calls."""
    prediction_id = predicted(client)
    with grpc.insecure_channel(sidecar.control) as channel:
        calls = services.multicallables(channel, services.FEEDBACK)
        one = wire.Feedback(prediction_id=prediction_id, number=1.0)
        answer = calls.RecordFeedback(wire.RecordFeedbackRequest(feedback=[one]), timeout=10)
        assert answer.counts.joined == 1
        stream = iter([wire.RecordFeedbackStreamRequest(feedback=[one, one])])
        assert calls.RecordFeedbackStream(stream, timeout=10).counts.duplicate == 2


def test_predictions_from_elsewhere_are_watched(client: Client) -> None:
    """A prediction that a batch job made gets an id, and its truth comes with it or later."""
    elsewhere = client.predictions(MODEL)
    at_once = elsewhere.log_prediction("2023.12.01.prod", "fraud", 0.9, "honest")
    later = elsewhere.log_prediction(A, 1, None)

    assert client.feedback(at_once, "honest") == "duplicate"
    assert client.feedback(later, np.int64(0)) == "joined"  # type: ignore[arg-type]  # numpy's are taken all the same
    with pytest.raises(NotFoundError, match="not served here"):
        client.predictions("another").log_prediction(A, 1, None)
    with pytest.raises(InvalidRequestError, match="expected 0 to 1"):
        elsewhere.log_prediction(A, 1, 1.5)


def test_predictions_made_here_and_elsewhere_are_named_by_one(client: Client) -> None:
    """No two of them share a name within the log, however many come at once from both sides."""
    elsewhere, stop = client.predictions(MODEL), threading.Event()
    foreign: list[str] = []

    def tell() -> None:
        while not stop.is_set():
            foreign.append(elsewhere.log_prediction(A, 1, None))

    telling = threading.Thread(target=tell)
    telling.start()
    try:
        own = [predicted(client) for _ in range(200)]
    finally:
        stop.set()
        telling.join()

    names = [each.split("-") for each in own + foreign]
    assert len({first for first, _ in names}) == len(names)
    assert len({process for _, process in names}) == 1
    told = client.feedback_many([Feedback(prediction_id=each, truth=1) for each in own + foreign])
    assert told.joined == len(names)


def test_too_many_pieces_in_one_message_are_refused(sidecar: RunningSidecar) -> None:
    """A message holds 10,000 pieces at most: the log's time is everybody's."""
    request = wire.RecordFeedbackRequest(feedback=[wire.Feedback(prediction_id="x", number=1.0)] * 10_001)
    with grpc.insecure_channel(sidecar.data) as channel, pytest.raises(grpc.RpcError) as caught:
        services.multicallables(channel, services.FEEDBACK).RecordFeedback(request, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_clean_stop_loses_nothing(tmp_path: Path) -> None:
    """Everything that was answered before the stop is in the log afterwards, and takes feedback in the next process."""
    state = ("--state-dir", str(tmp_path / "state"))
    with serving(classifying(tmp_path), A, *state) as sidecar:
        with sidecar.client() as client:
            ids = [predicted(client) for _ in range(200)]
            assert client.feedback(ids[0], 1) == "joined"
            ids += [predicted(client) for _ in range(50)]
        assert sidecar.stop() == 0
        sidecar.start().wait_ready()
        with sidecar.client() as client:
            report = client.feedback_many(Feedback(prediction_id=each, truth=1) for each in ids)
    assert (report.joined, report.counts[FeedbackOutcome.DUPLICATE]) == (249, 1)


def test_a_kill_loses_a_second_at_most(tmp_path: Path) -> None:
    """What was answered more than a second before SIGKILL is in the log."""
    state = ("--state-dir", str(tmp_path / "state"))
    with serving(classifying(tmp_path), A, *state) as sidecar:
        ids: list[tuple[float, str]] = []
        with sidecar.client() as client:
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                prediction_id = predicted(client)
                ids.append((time.monotonic(), prediction_id))
        killed = time.monotonic()
        sidecar.kill()
        sidecar.start().wait_ready()
        old = [each for at, each in ids if at < killed - 1.0]
        with sidecar.client() as client:
            report = client.feedback_many(Feedback(prediction_id=each, truth=1) for each in old)
        assert old
        assert report.joined == len(old), report


def test_a_log_that_cannot_be_written_costs_no_prediction(tmp_path: Path) -> None:
    """With something in the log's place, answers go out as ever and feedback is refused; once it is gone, feedback is joined."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "log").write_text("in the way")
    with serving(classifying(tmp_path), A, "--state-dir", str(state)) as sidecar, sidecar.client() as client:
        prediction_id = predicted(client)
        with pytest.raises(UnavailableError) as caught:
            client.feedback(prediction_id, 1)
        assert caught.value.reason == "LOG_UNAVAILABLE"
        (state / "log").unlink()
        sidecar.wait_logged("the prediction log cannot be written")
        end = time.monotonic() + 30
        while client.feedback(predicted(client), 1) != "joined":
            assert time.monotonic() < end, "the log was not tried again"
            time.sleep(0.2)  # it says when it is written, and not when it will try
        assert sidecar.log.read_text().count("the prediction log cannot be written") == 1


def test_the_log_can_be_read_by_others(tmp_path: Path) -> None:
    """It is SQLite: which version, prediction, confidence; and features of the sampled ones as 64-bit floats."""
    options = ("--state-dir", str(tmp_path / "state"), "--feature-sample", "1")
    with serving(classifying(tmp_path), A, *options) as sidecar:
        with sidecar.client() as client:
            predicted(client, [[0.0, 3.0]])
            with sidecar.operator() as operator:
                operator.deploy(MODEL, B, environment=PROD)
            predicted(client, [[0.0, 3.0]])
        assert sidecar.stop() == 0
    (file,) = (tmp_path / "state" / "log").glob("*.db")
    base = sqlite3.connect(file)
    found = base.execute(
        "SELECT v.version, p.prediction, p.confidence, p.features, v.features FROM prediction p JOIN version v ON "
        "v.number = p.version ORDER BY p.id"
    ).fetchall()
    base.close()
    assert [each[:2] for each in found] == [(A, 1.0), (B, 0.0)]
    assert found[0][2] == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert np.frombuffer(found[0][3], "<f8").tolist() == [0.0, 3.0]
    assert found[0][4].split("\n") == ["raw[0]", "raw[1]"]


def test_without_the_monitor_nothing_is_taken(tmp_path: Path) -> None:
    """--no-monitor: predictions are answered as ever, and feedback is a call that nobody knows."""
    with serving(classifying(tmp_path), A, "--no-monitor") as sidecar, sidecar.client() as client:
        prediction_id = predicted(client)
        with pytest.raises(NotSupportedError, match="--no-monitor"):
            client.feedback(prediction_id, 1)


def test_a_sidecar_without_a_directory_takes_feedback(tmp_path: Path) -> None:
    """The log is in memory then."""
    with serving(classifying(tmp_path), A) as sidecar, sidecar.client() as client:
        assert client.feedback(predicted(client), 1) == "joined"


def test_a_version_that_tells_no_prediction_says_so(tmp_path: Path) -> None:
    """Where nobody knows which output is the prediction, feedback is invalid and says what to declare."""
    yard = Yard(tmp_path)
    yard.publish(A, model=_two_outputs())
    with serving(yard, A) as sidecar, sidecar.client() as client:
        prediction_id = predicted(client)
        with pytest.raises(InvalidRequestError, match="outputs"):
            client.feedback(prediction_id, 1)


def _two_outputs() -> bytes:
    nodes = [helper.make_node("Identity", ["raw"], [name]) for name in ("a", "b")]
    return build(nodes, [value("raw")], [value("a"), value("b")])
