"""Who waits for a lane: in the order in which they came, with those of a kind found together.

While a lane works for a kin, another one joins it only once as many rows wait as that one has in hand: a run of few rows
costs nearly what a run of many does, and takes the cores from those who would bring more. Nobody waits longer by that
than until the first lane is done.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from model_sidecar.model.brake import Brake


class Kin(Protocol):
    """What jobs have in common that may be done at once: those of equal kins may. It can be hashed."""

    @property
    def max_rows(self) -> int:
        """The most rows that may be done at once."""
        ...

    def cost_s(self, rows: int) -> float:
        """Seconds that so many rows are expected to hold a lane, if they are done at once."""
        ...

    def together(self, jobs: Sequence[Job]) -> list[Any]:
        """Do several jobs at once: for each its result, its exception, or ALONE where it must be done by itself."""
        ...


# What is expected to take half of the time that is left will be done in it, also where the estimate is wrong by as much:
# else the queue fills up to the last moment, and half of those who are taken on are late.
SURELY = 2.0
ALONE = object()
"""What `Kin.together` answers for a job that it could not do."""


@dataclass(slots=True, eq=False)
class Job:
    """Work for a lane, as the queue sees it.

    Attributes:
        cost_s: how long it is expected to hold its lane, by itself.
        size: bytes that it keeps in memory while it waits.
        ends: when nobody waits for it any more, by `time.monotonic`; None for never.
        brake: ends it once it has begun.
        kin: with which others it may be done at once; None: with none.
        rows: how many rows it has, of those that its kin counts.
        waits: whether it has to wait for a lane.
        work: it, done by itself; set by whoever runs it, as is the next.
        answer: where its caller waits for what comes of it.
    """

    cost_s: float
    size: int
    ends: float | None
    brake: Brake
    kin: Kin | None = None
    rows: int = 1
    waits: bool = False
    work: Callable[[], Any] | None = None
    answer: asyncio.Future[Any] | None = None

    @property
    def end(self) -> float:
        """As `ends`; infinite for never."""
        return float("inf") if self.ends is None else self.ends


@dataclass(slots=True, eq=False)
class Turn:
    """What one lane does at once.

    Attributes:
        jobs: one, or several of a kin.
        kin: theirs; None where it is one that is done by itself.
        rows: how many they have.
        cost_s: how long they are expected to hold the lane.
        begun: when it began, by `time.monotonic`.
    """

    jobs: list[Job]
    kin: Kin | None
    rows: int
    cost_s: float
    begun: float


@dataclass(slots=True)
class _Group:
    """The waiting jobs of one kin, how many rows they have, and how long they are expected to hold lanes.

    `urgent`: one of them cannot wait until the lanes are done that work for its kin.
    """

    jobs: OrderedDict[Job, None] = field(default_factory=OrderedDict)
    rows: int = 0
    cost_s: float = 0.0
    urgent: bool = False


class Waiting:
    """The jobs that wait, and the turns that lanes are at. Not guarded: whoever has it has a lock.

    Attributes:
        seconds: for how long all of them are expected to hold lanes, those of a kin together.
        bytes: what they keep in memory.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.bytes = 0
        self._jobs: OrderedDict[Job, None] = OrderedDict()
        self._groups: dict[Kin, _Group] = {}
        self._turns: dict[Kin, list[Turn]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job: Job) -> bool:
        return job in self._jobs

    @property
    def ready(self) -> int:
        """How many of them a free lane would take one of now."""
        return len(self._jobs) - sum(
            len(self._groups[kin].jobs)
            for kin in self._turns
            if kin in self._groups and self._held_back(kin, self._groups[kin])
        )

    def enter(self, job: Job, *, first: bool = False) -> None:
        """Let it wait, as the last or as the first."""
        self._jobs[job] = None
        if first:
            self._jobs.move_to_end(job, last=False)
        self.bytes += job.size
        if job.kin is None:
            self.seconds += job.cost_s
        else:
            group = self._groups.setdefault(job.kin, _Group())
            group.jobs[job] = None
            self._regroup(job.kin, group, job.rows)
            over = max((turn.begun + turn.cost_s for turn in self._turns.get(job.kin, ())), default=0.0)
            job.waits = job.waits or self._held_back(job.kin, group)
            group.urgent = group.urgent or over + SURELY * job.kin.cost_s(group.rows) > job.end

    def leave(self, job: Job) -> None:
        """It waits no more."""
        del self._jobs[job]
        self.bytes -= job.size
        if job.kin is None:
            self.seconds -= job.cost_s
        else:
            group = self._groups[job.kin]
            del group.jobs[job]
            self._regroup(job.kin, group, -job.rows)
            if not group.jobs:
                del self._groups[job.kin]
        if not self._jobs:
            self.seconds = 0.0  # sums of floats drift

    def leave_all(self) -> list[Job]:
        """Nobody waits any more; who did."""
        jobs = list(self._jobs)
        for job in jobs:
            self.leave(job)
        return jobs

    def ahead_of(self, job: Job) -> tuple[float, float]:
        """Seconds that lanes are held by what is done before this job, which comes now, and by what it is done in."""
        group = self._groups.get(job.kin) if job.kin is not None else None
        if job.kin is None or group is None:
            return self.seconds, job.cost_s
        joined = group.rows % job.kin.max_rows
        if not joined or joined + job.rows > job.kin.max_rows:
            return self.seconds, job.cost_s
        # It joins the last of its kin's turns, which is therefore not ahead of it.
        return self.seconds - job.kin.cost_s(joined), job.kin.cost_s(joined + job.rows)

    def next(self, late: list[Job]) -> Turn | None:
        """Who has his turn now, and waits no more; None where nobody does. Those for whom it is too late go to `late`."""
        while (job := self._first()) is not None:
            now = time.monotonic()
            if job.kin is not None:
                job = self._more_urgent(job, job.kin, now)
            self.leave(job)
            if now + (job.cost_s if job.waits else 0.0) >= job.end:
                late.append(job)
                continue
            turn = Turn([job], job.kin, job.rows, job.cost_s, now)
            if job.kin is not None:
                if job.kin in self._groups:
                    self._fill(turn, job.kin, self._groups[job.kin])
                self._turns.setdefault(job.kin, []).append(turn)
            return turn
        return None

    def over(self, turn: Turn) -> None:
        """A lane is done with this turn."""
        if turn.kin is not None:
            turns = self._turns[turn.kin]
            turns.remove(turn)
            if not turns:
                del self._turns[turn.kin]

    def _first(self) -> Job | None:
        return next(
            (
                job
                for job in self._jobs
                if job.kin is None or not self._held_back(job.kin, self._groups[job.kin])
            ),
            None,
        )

    def _held_back(self, kin: Kin, group: _Group) -> bool:
        """Whether a lane that is free leaves this group to those that work for its kin."""
        if group.urgent:
            return False
        # Of a run that takes much longer than it should, nobody knows the end: it keeps nobody.
        now = time.monotonic()
        at_work = (turn.rows for turn in self._turns.get(kin, ()) if now < turn.begun + SURELY * turn.cost_s)
        return group.rows < max(at_work, default=0)

    def _more_urgent(self, first: Job, kin: Kin, now: float) -> Job:
        """Who of a kin cannot be run with its first, but by himself, in time; where there is nobody, the first."""
        job = min(self._groups[kin].jobs, key=lambda each: each.end)
        both, alone = kin.cost_s(first.rows + job.rows), kin.cost_s(job.rows)
        return job if job.end < first.end and now + both >= job.end > now + alone else first

    def _fill(self, turn: Turn, kin: Kin, group: _Group) -> None:
        """Let those of one kin join a turn, who has least time first, as long as nobody in it would be late by that."""
        soonest = turn.jobs[0].end
        for job in sorted(group.jobs, key=lambda each: each.end):
            if turn.rows >= kin.max_rows or turn.begun + kin.cost_s(turn.rows + 1) >= soonest:
                break
            cost_s = kin.cost_s(turn.rows + job.rows)
            if turn.rows + job.rows > kin.max_rows or turn.begun + cost_s >= min(soonest, job.end):
                continue
            self.leave(job)
            turn.jobs.append(job)
            turn.rows += job.rows
            turn.cost_s = cost_s
            soonest = min(soonest, job.end)

    def _regroup(self, kin: Kin, group: _Group, rows: int) -> None:
        group.rows += rows
        whole, rest = divmod(group.rows, kin.max_rows)
        cost_s = whole * kin.cost_s(kin.max_rows) + (kin.cost_s(rest) if rest else 0.0)
        self.seconds += cost_s - group.cost_s
        group.cost_s = cost_s
