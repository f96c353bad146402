"""Threads for predictions that are not cheap, and who may wait for one.

Whoever would wait longer than his deadline leaves him, or longer than anybody should, is refused when he arrives: at ten
times what the lanes can do, those who are taken on are answered in time, and the others know at once. The queue is first
in, first out; an order that favoured the newest would only matter with a queue of people who give up, which this bound
prevents.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from model_sidecar.errors import DeadlineOverError, OverloadedError
from model_sidecar.model.brake import Brake

_Result = TypeVar("_Result")

_SOONEST_RETRY_S = 0.01
# What is expected to take half of the time that is left will be done in it, also where the estimate is wrong by as much:
# else the queue fills up to the last moment, and half of those who are taken on are late.
_SURELY = 2.0


@dataclass(slots=True, eq=False)
class Job:
    """Work for a lane, as the queue sees it.

    Attributes:
        cost_s: how long it is expected to hold its lane.
        size: bytes that it keeps in memory while it waits.
        ends: when nobody waits for it any more, by `time.monotonic`; None for never.
        brake: ends it once it has begun.
        waits: whether it has to wait for a lane.
        begun: when it got one; 0 before.
    """

    cost_s: float
    size: int
    ends: float | None
    brake: Brake
    waits: bool = False
    begun: float = 0.0


class Lanes:
    """As many predictions at once as there are lanes; the rest in a queue that is bounded by the expected wait.

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
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="lane")
        self._lock = threading.Lock()  # guards everything below, and the jobs in it
        self._waiting: set[Job] = set()
        self._waiting_s = 0.0
        self._waiting_bytes = 0
        self._running: set[Job] = set()

    def expected_wait_s(self) -> float:
        """Seconds until a request that arrives now would get a lane; 0 where one is free."""
        now = time.monotonic()
        with self._lock:
            if len(self._waiting) + len(self._running) < self._count:
                return 0.0
            # Who is over his time is expected to take as much again: of a run that hangs, no estimate knows the end.
            left = sum(abs(job.cost_s - (now - job.begun)) for job in self._running)
            return (left + self._waiting_s) / self._count

    async def run(self, work: Callable[[], _Result], job: Job) -> _Result:
        """The work's result.

        Work that has not begun when its caller gives up, or that could not be done by its end, is not done; of work that
        has begun the brake is pulled when its caller gives up.

        Args:
            work: holds what it needs, and lets go of it, within itself.
            job: what is known of it.

        Raises:
            OverloadedError: it would wait too long. Never where a lane is free, however wrong the estimates are.
            DeadlineOverError: it has waited, and is not expected to be done before its end.
        """
        self._admit(job)

        def begin() -> _Result:
            with self._lock:
                self._leave(job)
                job.begun = time.monotonic()
                self._running.add(job)
            try:
                needed_s = job.cost_s if job.waits else 0.0
                if job.ends is not None and job.begun + needed_s >= job.ends:
                    raise DeadlineOverError(
                        "the deadline was too near when a lane was free; the model was not run"
                    )
                return work()
            finally:
                with self._lock:
                    self._running.discard(job)

        future = self._pool.submit(begin)
        future.add_done_callback(lambda done: self._forget(job, done))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            job.brake.pull()
            raise

    def close(self) -> None:
        """Take no more work and forget what has not begun; what runs is told to end, and not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            running = list(self._running)
        for job in running:
            job.brake.pull()

    def _admit(self, job: Job) -> None:
        wait_s = self.expected_wait_s()
        if wait_s > 0:
            job.waits = True
            left_s = float("inf") if job.ends is None else job.ends - time.monotonic()
            if wait_s > self._max_wait_s:
                raise self._refusal(
                    wait_s, f"a request may wait {self._max_wait_s:g} s for one (--max-queue-wait)"
                )
            if _SURELY * (wait_s + job.cost_s) > left_s:
                raise self._refusal(
                    wait_s,
                    f"this request takes about {job.cost_s:.3g} s, and its deadline is in {left_s:.3g} s",
                )
        with self._lock:
            held = self._waiting_bytes
            if not self._waiting or held + job.size <= self._max_waiting_bytes:
                self._waiting.add(job)
                self._waiting_s += job.cost_s
                self._waiting_bytes += job.size
                return
        raise self._refusal(wait_s, f"requests of {held} bytes wait already")

    def _leave(self, job: Job) -> None:
        self._waiting.remove(job)
        self._waiting_bytes -= job.size
        # To zero when nobody waits: sums of floats drift.
        self._waiting_s = self._waiting_s - job.cost_s if self._waiting else 0.0

    def _refusal(self, wait_s: float, why: str) -> OverloadedError:
        # Spread, so that those who are refused together do not come back together.
        spread = random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        return OverloadedError(
            f"all {self._count} lanes are busy for about {wait_s:.3g} s: {why}",
            retry_after_s=max(_SOONEST_RETRY_S, wait_s * spread),
        )

    def _forget(self, job: Job, done: Future[_Result]) -> None:
        if done.cancelled():
            with self._lock:
                self._leave(job)
