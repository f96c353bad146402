"""Threads for predictions that are not cheap, and who may wait for one.

Whoever would wait longer than his deadline leaves him, or longer than anybody should, is refused when he arrives: at ten
times what the lanes can do, those who are taken on are answered in time, and the others know at once. The queue is first
in, first out; an order that favoured the newest would only matter with a queue of people who give up, which this bound
prevents.

A lane that gets free takes the first who waits, and with him whoever waits for the same and gains by it. It never waits
for more to come: who comes alone is not kept waiting, and the more there are, the more are served at once.
"""

from __future__ import annotations

import asyncio
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from model_sidecar.errors import DeadlineOverError, OverloadedError, Reason, UnavailableError
from model_sidecar.rpc.waiting import ALONE, SURELY, Job, Turn, Waiting

_Result = TypeVar("_Result")

_SOONEST_RETRY_S = 0.01


class Lanes:
    """As many turns at once as there are lanes; the rest in a queue that is bounded by the expected wait.

    `run` belongs to one event loop.
    """

    def __init__(self, count: int, *, max_wait_s: float, max_waiting_bytes: int) -> None:
        """Start no thread yet.

        Args:
            count: how many threads.
            max_wait_s: whoever is expected to wait longer for a lane is refused.
            max_waiting_bytes: what all that waits may keep in memory; one may always wait.
        """
        self._count = count
        self._max_wait_s = max_wait_s
        self._max_waiting_bytes = max_waiting_bytes
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()  # one for each lane that is to look again
        self._lock = threading.Lock()  # guards everything below, and the jobs in it
        self._waiting = Waiting()
        self._turns: set[Turn] = set()
        self._threads = 0
        self._idle = 0  # lanes that have found nothing to do, and were not woken since
        self._closed = False

    def expected_wait_s(self) -> float:
        """Seconds until a request that arrives now would get a lane; 0 where one is free."""
        with self._lock:
            return self._wait_s(self._waiting.seconds)

    async def run(self, work: Callable[[], _Result], job: Job) -> _Result:
        """The result of the work, or of its kin's for this job.

        Work that has not begun when its caller gives up, or that could not be done by its end, is not done; of work that
        has begun the brake is pulled when its caller gives up.

        Args:
            work: the job done by itself; holds what it needs, and lets go of it, within itself.
            job: what is known of it.

        Raises:
            OverloadedError: it would wait too long. Never where a lane is free, however wrong the estimates are.
            DeadlineOverError: it has waited, and is not expected to be done before its end.
        """
        answer: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        job.work, job.answer = work, answer
        with self._lock:
            self._admit(job)
            self._waiting.enter(job)
            self._rouse()
        try:
            return await answer
        except asyncio.CancelledError:
            # Before it is looked for: a lane that puts it back looks at its brake.
            job.brake.pull()
            self._forget(job, answer)
            raise

    def close(self) -> None:
        """Take no more work and forget what has not begun; what runs is told to end, and not waited for."""
        with self._lock:
            self._closed = True
            given_up = self._waiting.leave_all()
            running = [job for turn in self._turns for job in turn.jobs]
            for _ in range(self._threads):
                self._wake.put(None)
        for job in given_up:
            if job.answer is not None:
                job.answer.cancel()
        for job in running:
            job.brake.pull()

    # Who is taken on. With the lock held.

    def _admit(self, job: Job) -> None:
        if self._closed:
            raise UnavailableError("this sidecar is going down and runs nothing more", reason=Reason.DRAINING)
        ahead_s, needed_s = self._waiting.ahead_of(job)
        wait_s = self._wait_s(ahead_s)
        if wait_s > 0:
            job.waits = True
            left_s = job.end - time.monotonic()
            if wait_s > self._max_wait_s:
                raise self._refusal(
                    wait_s, f"a request may wait {self._max_wait_s:g} s for one (--max-queue-wait)"
                )
            if SURELY * (wait_s + needed_s) > left_s:
                raise self._refusal(
                    wait_s,
                    f"this request takes about {needed_s:.3g} s, and its deadline is in {left_s:.3g} s",
                )
        held = self._waiting.bytes
        if self._waiting and held + job.size > self._max_waiting_bytes:
            raise self._refusal(wait_s, f"requests of {held} bytes wait already")

    def _wait_s(self, ahead_s: float) -> float:
        if self._waiting.ready + len(self._turns) < self._count:
            return 0.0
        now = time.monotonic()
        # Who is over his time is expected to take as much again: of a run that hangs, no estimate knows the end.
        left = sum(abs(turn.cost_s - (now - turn.begun)) for turn in self._turns)
        return (left + ahead_s) / self._count

    def _refusal(self, wait_s: float, why: str) -> OverloadedError:
        # Spread, so that those who are refused together do not come back together.
        spread = random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        return OverloadedError(
            f"all {self._count} lanes are busy for about {wait_s:.3g} s: {why}",
            retry_after_s=max(_SOONEST_RETRY_S, wait_s * spread),
        )

    def _rouse(self) -> None:
        """Let one lane more look for work, if there is some for it, and one that does not."""
        if not self._waiting.ready:
            return
        if self._idle:
            self._idle -= 1
            self._wake.put(None)
        elif self._threads < self._count:
            # A daemon: a run that never ends does not keep the process.
            lane = threading.Thread(target=self._serve, name=f"lane_{self._threads}", daemon=True)
            self._threads += 1
            lane.start()

    # Who is not to be answered any more, or not so.

    def _forget(self, job: Job, answer: asyncio.Future[_Result]) -> None:
        with self._lock:
            if job in self._waiting:
                self._waiting.leave(job)
        if answer.done() and not answer.cancelled():
            answer.exception()  # it is known that nobody takes it

    def _put_back(self, job: Job) -> None:
        """To be done by itself, and first; unless its caller has given up."""
        with self._lock:
            if not job.brake.pulled and not self._closed:
                job.kin, job.waits = None, True
                self._waiting.enter(job, first=True)
                self._rouse()

    # What a lane does.

    def _serve(self) -> None:
        while not self._closed:
            if not self._take_turn():
                self._wake.get()

    def _take_turn(self) -> bool:
        """Do what is to be done next; False where nothing is. What it holds of it is let go of with it."""
        late: list[Job] = []
        with self._lock:
            turn = self._waiting.next(late)
            if turn is None:
                self._idle += 1
            else:
                self._turns.add(turn)
                self._rouse()  # those of its kin that it leaves may be enough for another lane by now
        words = "the deadline was too near when a lane was free; the model was not run"
        _tell((job, DeadlineOverError(words)) for job in late)
        if turn is None:
            return False
        outcomes = _done(turn.jobs)
        with self._lock:
            self._turns.discard(turn)
            self._waiting.over(turn)
        done = list(zip(turn.jobs, outcomes, strict=True))
        _tell((job, outcome) for job, outcome in done if outcome is not ALONE)
        for job in reversed([job for job, outcome in done if outcome is ALONE]):
            self._put_back(job)
        return True


def _done(jobs: list[Job]) -> list[Any]:
    """For each of these jobs its result, its exception, or ALONE."""
    kin, work = jobs[0].kin, jobs[0].work
    if len(jobs) > 1:
        assert kin is not None, "that is why there are several"
        try:
            return kin.together(jobs)
        except Exception:  # noqa: BLE001 - whatever it is, each may have another fate alone, and is told of it
            return [ALONE] * len(jobs)
    assert work is not None, "given before it waits"
    try:
        return [work()]
    except BaseException as error:  # noqa: BLE001 - it is the caller's, and the lane goes on
        return [error]


def _tell(outcomes: Iterable[tuple[Job, Any]]) -> None:
    """Give the callers what came of their jobs, by one call into their loop for all of them."""
    told = [(job.answer, outcome) for job, outcome in outcomes if job.answer is not None]
    if told:
        with suppress(RuntimeError):  # the loop is closed: nobody waits there any more
            told[0][0].get_loop().call_soon_threadsafe(_answer, told)


def _answer(told: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for answer, outcome in told:
        # Whoever has given up meanwhile has a future that is done; the others are answered all the same.
        if answer.done():
            continue
        if isinstance(outcome, BaseException):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)
