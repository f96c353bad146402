"""The monitor's thread: what was noted is shown once, nothing waits for it, and what has no room is counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from support.rpc_models import ComputedModel
from support.rpc_plane import ECHO

from model_sidecar.events import Released
from model_sidecar.monitor import pieces
from model_sidecar.monitor.intake import BLOCK_ROWS, Intake, Note, Told
from model_sidecar.monitor.monitor import Monitor
from model_sidecar.monitor.prediction_ids import PredictionIds, parse_prediction_id
from model_sidecar.monitor.reading import NOTES_AT_ONCE
from model_sidecar.monitor.readings import Readings, Watched
from model_sidecar.monitor.tallies import Tallies
from model_sidecar.release.manifest import OutputRoles
from model_sidecar.release.names import Version
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec

IDS = PredictionIds()
WAIT_S = 20.0


class Seen:
    """An observer, a recorder and a mirror that remember."""

    def __init__(self) -> None:
        self.observed: list[tuple[Watched, Readings]] = []
        self.recorded: list[tuple[Watched, Readings]] = []
        self.mirrored: list[Note] = []
        self.threads: set[str] = set()

    def observe(self, watched: Watched, readings: Readings) -> None:
        self.threads.add(threading.current_thread().name)
        self.observed.append((watched, readings))

    def record(self, watched: Watched, readings: Readings) -> None:
        self.recorded.append((watched, readings))

    def mirror(self, watched: Watched, notes: Sequence[Note], readings: Readings) -> None:
        assert sum(note.rows for note in notes) == len(readings.ids) <= NOTES_AT_ONCE
        self.mirrored += notes

    def mirror_failed(self, watched: Watched, note: Note) -> None:
        self.mirrored.append(note)


class Failing:
    """Whoever fails at everything."""

    def observe(self, *_: object) -> None:
        raise RuntimeError("no")

    record = mirror = mirror_failed = observe


def note(model: ComputedModel, value: float = 0.0, *, rows: int = 1) -> Note:
    """An answer of the model, which gives what it gets."""
    array = np.full((rows, 2), value, np.float32)
    return Note(ECHO, model, IDS.next(), {"x": array}, {"y": array}, rows, None)


def rows(shown: Sequence[tuple[Watched, Readings]], version: str) -> int:
    return sum(len(readings.ids) for watched, readings in shown if watched.version == version)


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_everything_noted_is_shown_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each row reaches observers and recorders once, by version, and a failing one in front of them changes nothing."""
    intake, seen, failing = Intake(), Seen(), Failing()
    monitor = Monitor(
        intake,
        recorders=[failing, seen],
        observers=[failing, seen],
        mirrors=[failing, seen],
        tallies=Tallies(),
    )
    models = ComputedModel("2024.01.10.prod"), ComputedModel("2024.01.15.prod")
    monitor.start()
    for number in range(5000):
        intake.note(note(models[number % 2], number), 100)
    monitor.stop(timeout_s=WAIT_S)

    for shown in (seen.observed, seen.recorded):
        assert [rows(shown, model.version) for model in models] == [2500, 2500]
    first = [readings for watched, readings in seen.observed if watched.version == models[0].version]
    assert np.concatenate([each.features[:, 0] for each in first]).tolist() == list(range(0, 5000, 2))
    assert len(seen.mirrored) == 5000
    assert seen.threads == {"monitor"}
    assert "Failing failed" in caplog.text


def test_a_tick_is_shown_in_one_piece() -> None:
    """However many answers there were, an observer sees those of a version once."""
    intake, seen, model = Intake(), Seen(), ComputedModel()
    monitor = Monitor(intake, observers=[seen])
    for _ in range(700):
        intake.note(note(model), 100)
    monitor.start()
    monitor.stop(timeout_s=WAIT_S)
    assert [len(readings.ids) for _, readings in seen.observed] == [700]


def test_what_has_no_room_is_dropped_and_counted() -> None:
    """A block holds so many rows and bytes; the rest is counted, whatever its size, until the block was taken."""
    tallies, seen, model = Tallies(), Seen(), ComputedModel()
    intake = Intake(rows=10, bytes_=100_000)
    for _ in range(12):
        intake.note(note(model), 100)
    intake.note(note(model), 100)
    monitor = Monitor(intake, observers=[seen], tallies=tallies)
    monitor.start()
    monitor.stop(timeout_s=WAIT_S)
    assert (rows(seen.observed, model.version), dict(tallies.current().dropped)) == (10, {("notes", ECHO): 3})

    by_size = Intake(bytes_=100_000)
    by_size.note(note(model), 200_000)
    by_size.note(note(model), 100)
    block = by_size.take()
    assert (block.notes, block.dropped) == ([], {ECHO: 2})
    by_size.note(note(model), 100)
    assert len(by_size.take().notes) == 1
    assert BLOCK_ROWS > 10_000


def test_a_block_that_fills_is_taken_before_its_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the room calls the monitor: answers, and predictions that were told of, find room long before a tick is over."""
    monkeypatch.setattr("model_sidecar.monitor.monitor.TICK_S", 3600.0)
    seen, model, version = Seen(), ComputedModel(), Version("2024.01.10.prod")
    intake = Intake(rows=10)
    monitor = Monitor(intake, recorders=[seen])
    monitor.start()
    for noted in (6, 12, 18):
        for _ in range(6):
            intake.note(note(model), 100)
        until(lambda: rows(seen.recorded, model.version) == noted)  # noqa: B023 - it is over before the next
    intake.tell([Told(ECHO, version, IDS.next(), 1.0, float("nan"))] * 6)
    until(lambda: sum(len(readings.ids) for _, readings in seen.recorded) == 24)
    monitor.stop(timeout_s=WAIT_S)


def test_what_an_intake_brings_that_fills_again_and_again_is_not_gathered_for_a_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Observers are shown sooner what would fill the memory: no more waits for them than about two blocks have."""
    monkeypatch.setattr("model_sidecar.monitor.monitor.TICK_S", 3600.0)
    monkeypatch.setattr("model_sidecar.monitor.monitor.BLOCK_ROWS", 10)
    seen, model = Seen(), ComputedModel()
    intake = Intake(rows=10)
    monitor = Monitor(intake, recorders=[seen], observers=[seen])
    monitor.start()
    for noted in (6, 12):
        for _ in range(6):
            intake.note(note(model), 100)
        until(lambda: rows(seen.recorded, model.version) == noted)  # noqa: B023 - it is over before the next
    until(lambda: bool(seen.observed))
    assert [len(readings.ids) for _, readings in seen.observed] == [12]
    monitor.stop(timeout_s=WAIT_S)


def test_numbers_and_labels_that_are_told_of_one_version_stay_apart() -> None:
    """Nobody knows that version here: whether it says classes or values goes by each prediction, in one tick, too."""
    intake, seen, version = Intake(), Seen(), Version("2024.01.10.prod")
    monitor = Monitor(intake, recorders=[seen], observers=[seen])
    nan = float("nan")
    for said in (3.0, "cat", 4.0):
        intake.tell([Told(ECHO, version, IDS.next(), said, nan)])
    monitor.start()
    monitor.stop(timeout_s=WAIT_S)
    for shown in (seen.recorded, seen.observed):
        found = {watched.roles.task: readings.prediction for watched, readings in shown}
        assert {task: None if column is None else column.tolist() for task, column in found.items()} == {
            "regression": [3.0, 4.0],
            "classification": ["cat"],
        }


def test_a_work_that_fails_is_not_the_last(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No memory to join up what was read: that is logged and lost, and whoever waits is called; then all goes on."""
    intake, seen, model = Intake(), Seen(), ComputedModel()
    monitor = Monitor(intake, recorders=[seen], observers=[seen])
    join, called = pieces.joined_up, threading.Event()

    def full(_: Sequence[Readings]) -> Readings:
        monkeypatch.setattr(pieces, "joined_up", join)
        raise MemoryError

    monkeypatch.setattr(pieces, "joined_up", full)
    monitor.start()
    first = note(model)
    intake.note(first, 100)
    parsed = parse_prediction_id(first.prediction_id)
    assert parsed is not None
    monitor.once_recorded(parsed.id, called.set)
    assert called.wait(WAIT_S)
    intake.note(note(model), 100)
    monitor.stop(timeout_s=WAIT_S)
    assert rows(seen.recorded, model.version) == rows(seen.observed, model.version) == 1
    assert "the monitor's work failed" in caplog.text


def test_an_answer_that_cannot_be_read_spoils_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong with one version's notes is logged; the others are shown, and the thread goes on."""
    intake, seen = Intake(), Seen()
    monitor = Monitor(intake, observers=[seen])
    good, bad = ComputedModel("2024.01.10.prod"), ComputedModel("2024.01.15.prod")
    intake.note(note(bad)._replace(inputs={}), 100)
    intake.note(note(good), 100)
    monitor.start()
    monitor.stop(timeout_s=WAIT_S)
    assert rows(seen.observed, good.version) == 1
    assert "reading answers failed" in caplog.text


PAIR = Signature(
    (TensorSpec("a", Datatype.FP32, (-1, 2)), TensorSpec("b", Datatype.FP32, (-1, 2))),
    (TensorSpec("y", Datatype.FP32, (-1, -1)),),
)


def answered(model: ComputedModel, a: int, b: int, y: tuple[int, ...]) -> Note:
    """An answer to so many rows of `a` and of `b`, of this shape."""
    inputs = {"a": np.full((a, 2), a, np.float32), "b": np.full((b, 2), b, np.float32)}
    return Note(ECHO, model, IDS.next(), inputs, {"y": np.full(y, 0.5, np.float32)}, a, None)


@pytest.mark.parametrize(
    ("odd", "is_read"),
    [
        ([(3, 1, (3, 2))], False),  # a model may add a row to three
        ([(3, 1, (3, 2)), (1, 3, (1, 2))], False),  # in sum as many as they should be
        ([(1, 1, (1, 1))], True),
        ([(1, 1, (1, 0))], False),
        ([(1, 1, (2, 2)), (2, 2, (1, 2))], True),  # without lines for rows: no prediction, all else
    ],
    ids=["rows of one input", "rows that make up for each other", "width", "no width", "rows of the output"],
)
def test_what_one_caller_sends_costs_nobody_elses_answers(
    odd: list[tuple[int, int, tuple[int, ...]]], is_read: bool
) -> None:
    """Among two hundred usual answers stand odd ones: every usual one is shown with its own values and its prediction."""
    intake, seen, tallies = Intake(), Seen(), Tallies()
    model = ComputedModel(signature=PAIR)
    object.__setattr__(model.manifest, "outputs", OutputRoles("classification", "y", None))
    monitor = Monitor(intake, recorders=[seen], observers=[seen], mirrors=[seen], tallies=tallies)
    usual = [answered(model, 1, 1, (1, 2)) for _ in range(200)]
    strange = [answered(model, *each) for each in odd]
    for each in (*usual[:100], strange[0], *usual[100:], *strange[1:]):
        intake.note(each, 100)
    monitor.start()
    monitor.stop(timeout_s=WAIT_S)

    ids = {parsed.id for each in usual if (parsed := parse_prediction_id(each.prediction_id))}
    for shown in (seen.recorded, seen.observed):
        found: dict[int, float] = {}
        for _, readings in shown:
            if readings.prediction is not None:
                found.update(zip(readings.ids.tolist(), readings.prediction.tolist(), strict=True))
                if readings.ids[0] in ids:
                    assert (readings.features == 1).all()
        assert ids <= set(found)
    lost = 0 if is_read else sum(each.rows for each in strange)
    assert tallies.current().dropped.get(("notes", ECHO), 0) == lost


def test_answers_of_a_hundred_shapes_are_read_up_to_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    """Reading each shape apart costs time: the most frequent are read, the rest is counted and told in one line."""
    intake, seen, tallies = Intake(), Seen(), Tallies()
    model = ComputedModel(signature=PAIR)
    object.__setattr__(model.manifest, "outputs", OutputRoles("classification", "y", None))
    monitor = Monitor(intake, recorders=[seen], tallies=tallies)
    for width in range(1, 101):
        intake.note(answered(model, 1, 1, (1, width)), 100)
        intake.note(answered(model, 1, 1, (1, 2)), 100)
    monitor.start()
    monitor.stop(timeout_s=WAIT_S)
    assert rows(seen.recorded, model.version) == 101 + 15
    assert tallies.current().dropped["notes", ECHO] == 84
    assert caplog.text.count("are not watched") == 1


def test_who_asks_for_a_fresh_answer_waits_until_it_is_recorded() -> None:
    """`once_recorded` calls back behind the record of an answer made just now, and at once for an old one."""
    intake, seen, model = Intake(), Seen(), ComputedModel()
    monitor = Monitor(intake, recorders=[seen])
    monitor.start()
    made = note(model)
    intake.note(made, 100)
    parsed = parse_prediction_id(made.prediction_id)
    assert parsed is not None
    called, recorded = threading.Event(), []

    def then() -> None:
        recorded.append(rows(seen.recorded, model.version))
        called.set()

    monitor.once_recorded(parsed.id, then)
    assert called.wait(WAIT_S)
    assert recorded == [1]
    monitor.stop(timeout_s=WAIT_S)
    called.clear()
    monitor.once_recorded(parsed.id, then)
    assert called.is_set()


def test_a_version_is_made_out_once_and_forgotten_when_it_leaves() -> None:
    """What is known of a version is put together at its first answer, and again after it was released."""
    asked: list[str] = []

    def baseline_of(_site: Any, model: Any) -> None:
        asked.append(model.version)

    intake, model = Intake(), ComputedModel()
    monitor = Monitor(intake, baseline_of=baseline_of)
    monitor.start()

    def answered() -> None:
        made = note(model)
        intake.note(made, 100)
        done = threading.Event()
        monitor.once_recorded(int(made.prediction_id[:16], 16), done.set)
        assert done.wait(WAIT_S)

    answered()
    answered()
    assert asked == [model.version]
    monitor.on_event(Released(ECHO, model.version, model.manifest.digest))
    answered()
    answered()
    assert asked == [model.version] * 2
    monitor.stop(timeout_s=WAIT_S)


def test_predictions_from_elsewhere_are_those_of_the_version_in_memory() -> None:
    """They are shown under the version's manifest where it is resident, else as of nowhere, without features."""
    seen, model, intake = Seen(), ComputedModel("2024.01.10.prod"), Intake()
    monitor = Monitor(
        intake,
        observers=[seen],
        resident_of=lambda _site, version: model if version == model.version else None,
    )
    intake.tell([Told(ECHO, model.version, IDS.next(), 1.0, 0.5)])
    intake.tell([Told(ECHO, Version("2023.12.01.prod"), IDS.next(), "fraud", 0.5)])
    monitor.start()
    monitor.stop(timeout_s=WAIT_S)
    shown = {
        watched.version: (watched.manifest, readings.features.shape) for watched, readings in seen.observed
    }
    assert shown == {model.version: (model.manifest.digest, (1, 0)), "2023.12.01.prod": ("", (1, 0))}
