"""Feedback: joined once with what was predicted, told to who watches, and found again after a restart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.watching import KeptLog, readings, watched

from model_sidecar.monitor.log.feedback import PROBLEMS, Feedback, FeedbackOutcome
from model_sidecar.monitor.log.segment import Logged, Segment
from model_sidecar.monitor.prediction_ids import PredictionIds
from model_sidecar.monitor.readings import Joined


@pytest.fixture
def log(tmp_path: Path) -> Iterator[KeptLog]:
    with KeptLog(tmp_path / "log") as kept:
        yield kept


def test_a_truth_is_joined_with_its_prediction(log: KeptLog) -> None:
    """What was true of a prediction reaches the observers with what was predicted, and of which version."""
    (first, _) = log.predict(1.0, 0.0)

    assert log.tell(first, 0.0) == "joined"

    ((key, joined),) = log.heard.heard
    assert key == watched().key
    assert joined == Joined(int(first[:16], 16), 0, 1.0, None, 0.75, truth=0.0)


def test_a_label_is_joined_as_it_was_told(log: KeptLog) -> None:
    """A classifier of strings has labels for truths."""
    (prediction_id,) = log.predict("fraud")
    assert log.tell(prediction_id, "honest") == "joined"
    assert (log.heard.heard[0][1].prediction, log.heard.heard[0][1].truth) == ("fraud", "honest")


def test_the_same_feedback_again_changes_nothing(log: KeptLog) -> None:
    """Said twice by one source it is a duplicate, also within one call, and observers hear it once."""
    (prediction_id,) = log.predict(1.0)
    twice = [Feedback(prediction_id=prediction_id, truth=1.0)] * 2

    report = log.tell_all(twice)

    assert report.counts == {FeedbackOutcome.JOINED: 1, FeedbackOutcome.DUPLICATE: 1}
    assert log.tell(prediction_id, 1.0, replace=True) == "duplicate"
    assert log.tell(prediction_id, 0.0) == "duplicate"
    assert len(log.heard.heard) == 1


def test_a_correction_says_what_it_replaces(log: KeptLog) -> None:
    """With `replace` a source may correct itself, and observers learn what they heard before."""
    (prediction_id,) = log.predict(1.0)
    log.tell(prediction_id, 1.0)

    assert log.tell(prediction_id, 0.0, replace=True) == "joined"

    assert (log.heard.heard[-1][1].truth, log.heard.heard[-1][1].replaces) == (0.0, 1.0)


def test_of_several_sources_the_first_counts(log: KeptLog) -> None:
    """Each source may speak of a prediction once; quality would count it twice if it heard both."""
    (prediction_id,) = log.predict(1.0)
    assert log.tell(prediction_id, 1.0, source="analyst") == "joined"
    assert log.tell(prediction_id, 0.0, source="customer") == "joined"
    assert log.tell(prediction_id, 1.0, source="customer", replace=True) == "joined"
    assert [joined.truth for _, joined in log.heard.heard] == [1.0]


def test_a_row_of_several_is_named(log: KeptLog) -> None:
    """A request with several rows has a truth for each, `id#row`; without a row it is not clear which is meant."""
    prediction_id = log.ids.next()
    log.log.record(watched(), readings([prediction_id] * 3, [0.0, 1.0, 2.0], rows=[0, 1, 2]))

    report = log.tell_all(
        [Feedback(prediction_id=f"{prediction_id}{row}", truth=1.0) for row in ("", "#3", "#1")]
    )

    assert report.counts == {FeedbackOutcome.INVALID: 2, FeedbackOutcome.JOINED: 1}
    assert [problem.index for problem in report.problems] == [0, 1]
    assert "had 3 rows" in report.problems[0].message
    assert [joined.row for _, joined in log.heard.heard] == [1]


def test_each_row_of_many_is_found_by_itself(log: KeptLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large request told row by row, each row is read once for each piece, not all of them."""
    read: list[object] = []
    logged = Segment._logged

    def reading(segment: Segment, found: Sequence[Any]) -> Logged:
        read.append(found)
        return logged(segment, found)

    monkeypatch.setattr(Segment, "_logged", reading)
    prediction_id, rows = log.ids.next(), range(500)
    log.log.record(watched(), readings([prediction_id] * len(rows), [1.0] * len(rows), rows=rows))

    for outcome in (FeedbackOutcome.JOINED, FeedbackOutcome.DUPLICATE):
        report = log.tell_all([Feedback(prediction_id=f"{prediction_id}#{row}", truth=1.0) for row in rows])
        assert report.counts == {outcome: len(rows)}

    assert len(read) <= 2 * len(rows) + 2


def test_the_only_row_may_be_named_or_not(log: KeptLog) -> None:
    """`id` and `id#0` are the same prediction where the request had one row."""
    (prediction_id,) = log.predict(1.0)
    assert log.tell(f"{prediction_id}#0", 1.0) == "joined"
    assert log.tell(prediction_id, 1.0) == "duplicate"
    assert log.tell(f"{prediction_id}#1", 1.0) == "invalid"


@pytest.mark.parametrize(
    ("prediction_id", "more", "words"),
    [
        ("no id", {"truth": 1.0}, "expected the id of an answer"),
        ("019a2b3c4d500000-9f86d081#-1", {"truth": 1.0}, "expected the id of an answer"),
        ("f19a2b3c4d500000-9f86d081", {"truth": 1.0}, "expected the id of an answer"),
        ("", {"truth": None}, "expected a number or a label"),
        ("", {"truth": math.nan}, "expected a finite number"),
        ("", {"truth": "x" * 2000}, "found a label of 2000 characters"),
        ("", {"truth": 1.0, "source": "tab\there"}, "printable ASCII"),
    ],
)
def test_what_makes_no_sense_is_told(
    log: KeptLog, prediction_id: str, more: dict[str, object], words: str
) -> None:
    """Feedback that makes no sense is invalid, says why, and spoils nothing for the rest of its call."""
    (good,) = log.predict(1.0)
    broken: dict[str, object] = {"prediction_id": prediction_id or good, **more}

    report = log.tell_all([Feedback(**broken), Feedback(prediction_id=good, truth=1.0)])  # type: ignore[arg-type]

    assert report.counts == {FeedbackOutcome.INVALID: 1, FeedbackOutcome.JOINED: 1}
    assert words in report.problems[0].message


def test_a_regression_takes_numbers(log: KeptLog) -> None:
    """A label cannot be true of a number."""
    (prediction_id,) = log.predict(3.5, version=watched(task="regression"))
    assert log.tell(prediction_id, "much") == "invalid"
    assert log.tell(prediction_id, 4.0) == "joined"


def test_nobody_knows_a_prediction_of_another_sidecar(log: KeptLog) -> None:
    """An id that was made elsewhere is unknown, also where the first part happens to be one of ours."""
    (ours,) = log.predict(1.0)
    assert log.tell(PredictionIds().next(), 1.0) == "unknown"
    assert log.tell(f"{ours[:16]}-00000000", 1.0) == "unknown"


def test_a_prediction_outside_the_sample_is_known_to_be(tmp_path: Path) -> None:
    """Who is not logged is unsampled, not unknown; the others are joined, and the share is about that of the sample."""
    with KeptLog(tmp_path / "log", sample=0.25) as log:
        ids = log.predict(*[1.0] * 4000)
        report = log.tell_all([Feedback(prediction_id=each, truth=1.0) for each in ids])
    assert set(report.counts) == {FeedbackOutcome.JOINED, FeedbackOutcome.UNSAMPLED}
    assert 800 < report.counts[FeedbackOutcome.JOINED] < 1200
    assert len(report.problems) == PROBLEMS


def test_feedback_finds_predictions_of_the_process_before(tmp_path: Path) -> None:
    """After a restart what was logged is there, what was told counts as told, and observers hear it again."""
    with KeptLog(tmp_path / "log") as before:
        told, untold = before.predict(1.0, math.nan)
        before.tell(told, 0.0)
    with KeptLog(tmp_path / "log") as after:
        assert after.tell(untold, 1.0) == "joined"
        assert after.tell(told, 0.0) == "duplicate"
        assert [joined.truth for _, joined in after.heard.heard] == [0.0, 1.0]
        assert after.heard.heard[0] == before.heard.heard[0]
        assert math.isnan(after.heard.heard[1][1].prediction)  # type: ignore[arg-type]


def test_an_observer_that_fails_spoils_nothing(tmp_path: Path) -> None:
    """What one observer raises is the log's, and the others hear everything."""

    class Failing:
        def joined(self, *_: object) -> None:
            raise RuntimeError("no")

    with KeptLog(tmp_path / "log", observers=[Failing()]) as log:
        (prediction_id,) = log.predict(1.0)
        assert log.tell(prediction_id, 1.0) == "joined"
        assert len(log.heard.heard) == 1


def test_without_a_directory_the_log_is_in_memory() -> None:
    """Feedback is joined all the same, until the process ends."""
    with KeptLog(None) as log:
        (prediction_id,) = log.predict(1.0)
        assert log.tell(prediction_id, 1.0) == "joined"
