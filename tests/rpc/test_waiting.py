"""Whose turn it is: those of a kin together, nobody late because of the others, and a lane free for whoever brings more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from model_sidecar.model.brake import Brake
from model_sidecar.rpc.waiting import Job, Turn, Waiting

ONE_S = 1.0
FAR_S = 1000.0


@dataclass(frozen=True)
class Family:
    """Runs of it take a second, and a tenth of one for each row."""

    name: str = "ours"
    max_rows: int = 8

    def cost_s(self, rows: int) -> float:
        return ONE_S + rows * ONE_S / 10

    def together(self, jobs: Sequence[Job]) -> list[Any]:
        raise AssertionError(f"{len(jobs)} were to be run")


OURS, THEIRS = Family(), Family("theirs")


def job(
    rows: int = 1, *, kin: Family | None = OURS, left_s: float | None = None, cost_s: float = ONE_S
) -> Job:
    ends = None if left_s is None else time.monotonic() + left_s
    return Job(cost_s, 1, ends, Brake(), kin, rows, waits=True)


def waiting(*jobs: Job) -> Waiting:
    made = Waiting()
    for each in jobs:
        made.enter(each)
    return made


def turn(queue: Waiting, late: list[Job] | None = None) -> Turn:
    found = queue.next([] if late is None else late)
    assert found is not None
    return found


def test_a_turn_takes_those_of_its_kin_and_leaves_the_others_their_order() -> None:
    """The first of all, and with him his kin from anywhere in the queue; then the next who still waits."""
    a, b, c, d, e = job(), job(kin=None), job(2), job(kin=THEIRS), job(3)
    queue = waiting(a, b, c, d, e)
    assert [turn(queue).jobs for _ in range(3)] == [[a, c, e], [b], [d]]
    assert queue.next([]) is None
    assert (len(queue), queue.seconds, queue.bytes) == (0, 0.0, 0)


def test_no_turn_has_more_rows_than_pay() -> None:
    """One who would make it too large waits on, and smaller ones behind him do not."""
    a, large, small = job(4), job(5), job(4)
    queue = waiting(a, large, small)
    first = turn(queue)
    assert (first.jobs, first.rows) == ([a, small], 8)
    queue.over(first)
    assert turn(queue).jobs == [large]


@pytest.mark.parametrize("first", [True, False])
def test_nobody_is_late_because_of_who_runs_with_him(first: bool) -> None:
    """A run is no longer than its most urgent has time for, whether he comes first or last; the rest are next."""
    urgent, others = job(left_s=1.35), [job() for _ in range(6)]
    queue = waiting(urgent, *others) if first else waiting(*others, urgent)
    found = turn(queue)
    assert urgent in found.jobs
    assert len(found.jobs) == 3, "1.3 s, which is as many as 1.35 s allow"
    queue.over(found)
    assert len(turn(queue).jobs) == 4


def test_who_can_be_in_time_only_alone_is_run_before_the_others() -> None:
    """Though he came last, and nobody else is in his run; those who can wait are next."""
    large, urgent = [job(3), job(3)], job(left_s=1.35)
    queue = waiting(*large, urgent)
    first = turn(queue)
    assert first.jobs == [urgent]
    queue.over(first)
    assert turn(queue).jobs == large


def test_who_has_least_time_is_in_the_next_run() -> None:
    """Where not all can be, it is those who can wait that do."""
    patient = [job(4, left_s=FAR_S), job(4)]
    hurried = job(4, left_s=FAR_S / 2)
    assert turn(waiting(*patient, hurried)).jobs == [patient[0], hurried]


def test_who_cannot_be_in_time_even_alone_is_told_so() -> None:
    """Once it is his turn; those behind him are run."""
    hopeless, other = job(left_s=ONE_S / 2), job()
    late: list[Job] = []
    assert turn(waiting(hopeless, other), late).jobs == [other]
    assert late == [hopeless]


def test_a_second_lane_joins_once_as_many_wait_as_the_first_has() -> None:
    """Until then they are left to the lane that works for their kin; others are not."""
    queue = waiting(job(2), job(2))
    first = turn(queue)
    queue.enter(job(3))
    assert (queue.ready, queue.next([])) == (0, None)
    queue.enter(other := job(kin=THEIRS))
    assert turn(queue).jobs == [other]
    queue.enter(job(1))
    assert queue.ready == 2
    assert turn(queue).rows == first.rows == 4


def test_what_is_left_to_a_lane_is_taken_when_that_is_done() -> None:
    """Few who wait behind many wait for no longer than these take."""
    queue = waiting(job(8))
    first = turn(queue)
    queue.enter(few := job(1))
    assert queue.next([]) is None
    queue.over(first)
    assert turn(queue).jobs == [few]


def test_a_run_that_is_long_over_its_time_keeps_nobody() -> None:
    """Whoever comes then has the next free lane, as if that run were not there."""
    queue = waiting(job(8))
    first = turn(queue)
    first.begun -= 3 * first.cost_s
    queue.enter(few := job(1))
    assert queue.ready == 1
    assert turn(queue).jobs == [few]


def test_who_cannot_wait_for_the_first_lane_has_the_second() -> None:
    """A deadline that would be over by then counts more than what the run costs."""
    queue = waiting(job(8))
    turn(queue)
    queue.enter(hurried := job(1, left_s=2 * ONE_S))
    assert turn(queue).jobs == [hurried]


def test_what_waits_is_expected_to_be_done_together() -> None:
    """The expected time is that of the runs it takes, and who joins one of them does not wait for it."""
    queue = waiting(*(job() for _ in range(10)))
    assert queue.seconds == pytest.approx(OURS.cost_s(8) + OURS.cost_s(2))
    assert queue.ahead_of(job()) == pytest.approx((OURS.cost_s(8), OURS.cost_s(3)))
    assert queue.ahead_of(job(7)) == pytest.approx((queue.seconds, ONE_S))
    assert queue.ahead_of(job(kin=None, cost_s=5.0)) == pytest.approx((queue.seconds, 5.0))
    gone = job(6)
    queue.enter(gone)
    queue.leave(gone)
    assert queue.seconds == pytest.approx(OURS.cost_s(8) + OURS.cost_s(2))
