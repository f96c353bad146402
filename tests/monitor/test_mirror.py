"""What is mirrored, how much of it may wait, and that a run of it never outlasts its limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.resident import Adder

from model_sidecar.errors import DeadlineOverError, InferenceFailedError
from model_sidecar.events import Site
from model_sidecar.model.brake import Brake
from model_sidecar.monitor.guard.mirror import Mirrored, MirrorQueue, Runner, chosen, rest_s
from model_sidecar.monitor.intake import Note
from model_sidecar.monitor.reading import read, sheet_of
from model_sidecar.monitor.readings import requests_of
from model_sidecar.monitor.sampling import sampled
from model_sidecar.release.names import Environment, ModelName
from model_sidecar.release.tensors import Arrays

SITE = Site(ModelName("adder"), Environment("prod"))
MODEL = Adder("2024.01.10.prod")
SHEET = sheet_of(SITE, MODEL, None)


def note(number: int, value: float = 1.0, *, rows: int = 1) -> Note:
    array = np.full((rows, 2), value, np.float32)
    return Note(SITE, MODEL, f"{number:016x}-00000000", {"x": array}, {"y": array}, rows, None)


def mirrored(number: int, *, rows: int = 1) -> Mirrored:
    return Mirrored(SHEET.watched, note(number, rows=rows), sampled=True)


def taken(queue: MirrorQueue) -> list[int]:
    numbers = []
    while (each := queue.take(timeout_s=0)) is not None:
        numbers.append(int(each.note.prediction_id[:16], 16))
    return numbers


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_a_sample_has_the_share_that_was_asked_for_and_is_the_same_everywhere(share: float) -> None:
    """By a hash of the ids, which count up."""
    ids = (np.int64(1_700_000_000_000) << 20) + np.arange(20_000)

    chosen_ones = sampled(ids, share)

    assert chosen_ones.mean() == pytest.approx(share, abs=0.01)
    assert (sampled(ids[::-1], share)[::-1] == chosen_ones).all()


def test_what_is_not_finite_is_always_mirrored_and_says_why() -> None:
    """It is what the standby should be asked; and as it was chosen for its answer, it is no part of the sample."""
    notes = [note(number, float("nan") if number == 3 else 1.0, rows=2) for number in range(1, 6)]

    found = chosen(SHEET.watched, notes, requests_of(read(SHEET, notes)), share=0.0)

    assert [(each.note.prediction_id[:16], each.sampled) for each in found] == [(f"{3:016x}", False)]


def test_witnesses_can_be_asked_for_besides() -> None:
    """A few, whatever they were answered."""
    notes = [note(number) for number in range(1, 6)]

    found = chosen(SHEET.watched, notes, requests_of(read(SHEET, notes)), share=0.0, besides=2)

    assert [each.sampled for each in found] == [False, False]


def test_where_there_is_no_room_the_oldest_are_dropped() -> None:
    """In number, and in bytes."""
    few = MirrorQueue(notes=3)
    few.offer([mirrored(number) for number in range(1, 7)])
    small = MirrorQueue(bytes_=3000)
    small.offer([mirrored(number) for number in range(1, 7)])
    small.offer([mirrored(99, rows=1000)])

    assert taken(few) == [4, 5, 6]
    assert taken(small) == [5, 6]


def test_closing_wakes_whoever_waits() -> None:
    """Nobody outlives the sidecar for a request that never comes."""
    queue = MirrorQueue()
    found: list[Mirrored | None] = []
    waiting = threading.Thread(target=lambda: found.append(queue.take(timeout_s=60)))
    waiting.start()
    queue.offer([])
    queue.close()
    waiting.join(10)
    queue.offer([mirrored(1)])

    assert found == [None]
    assert queue.take(timeout_s=0) is None


class Endless(Adder):
    """Runs until it is stopped, as a model with an endless loop does."""

    def run(
        self, inputs: Arrays, outputs: Sequence[str] | None = None, *, brake: Brake | None = None
    ) -> dict[str, NDArray[Any]]:
        stopped = threading.Event()
        assert brake is not None
        brake.fit(stopped.set)
        assert stopped.wait(30)
        raise DeadlineOverError("stopped")


class Broken(Adder):
    """Fails as a model may, with an error of ours or of anybody's."""

    def __init__(self, error: Exception) -> None:
        super().__init__("2024.01.12.prod")
        self.error = error

    def run(
        self, inputs: Arrays, outputs: Sequence[str] | None = None, *, brake: Brake | None = None
    ) -> dict[str, NDArray[Any]]:
        raise self.error


def test_a_run_that_hangs_is_stopped_and_counts_as_failed() -> None:
    """After the limit, not before, and not never."""
    began = time.monotonic()

    runner = Runner(limit_s=0.2)
    ran = runner.run(Endless("2024.01.12.prod"), note(1))
    runner.stop()

    assert ran.outputs is None
    assert "0.2 s" in ran.problem
    assert time.monotonic() - began >= 0.2


def test_a_run_is_stopped_with_its_runner() -> None:
    """Shutdown does not wait for a limit."""
    runner = Runner(limit_s=600)
    found: list[Any] = []
    running = threading.Thread(target=lambda: found.append(runner.run(Endless("2024.01.12.prod"), note(1))))
    running.start()
    runner.stop()
    running.join(20)

    assert [ran.outputs for ran in found] == [None]


@pytest.mark.parametrize("error", [InferenceFailedError("no such row"), RuntimeError("no such row")])
def test_a_run_that_raises_counts_as_failed(error: Exception) -> None:
    """Whatever it raises, and it says what."""
    runner = Runner()
    ran = runner.run(Broken(error), note(1))
    runner.stop()

    assert ran.outputs is None
    assert "no such row" in ran.problem


class Strict(Adder):
    """Knows no output that it does not have, as real models do."""

    def run(
        self, inputs: Arrays, outputs: Sequence[str] | None = None, *, brake: Brake | None = None
    ) -> dict[str, NDArray[Any]]:
        if outputs is not None and set(outputs) - {"y"}:
            raise InferenceFailedError(f"no such output: {outputs}")
        return super().run(inputs, outputs, brake=brake)


def test_a_model_is_asked_only_for_outputs_that_it_has() -> None:
    """The version that answered may have more: to add one breaks nobody."""
    noted = note(1)
    noted = noted._replace(outputs={**noted.outputs, "added": noted.outputs["y"]})
    runner = Runner()
    ran = runner.run(Strict("2024.01.10.prod"), noted)
    runner.stop()

    assert ran.outputs is not None, ran.problem


def test_runs_take_a_fifth_of_a_core() -> None:
    """Rest is four times as long as work."""
    assert rest_s(0.05) == pytest.approx(0.2)
