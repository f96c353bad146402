"""What a request costs a server's process, which is steadier than how many it answers while others want the cores."""

from __future__ import annotations

import time
from dataclasses import dataclass

from support.yard import MODEL

from harness.load import Load, h2load
from harness.models import Subject
from harness.servers import Server

_REST_S = 2.0
_WORKED_OFF_S = 1.3  # what is noted of a request is worked off within a second


@dataclass(frozen=True, slots=True)
class Asked:
    """A load, and microseconds of the server's processor time for each request of it."""

    load: Load
    cost_us: float


@dataclass(frozen=True, slots=True)
class Rested:
    """A server that works for its requests in the background, too.

    Attributes:
        idle_share: how much of a core it takes while nobody asks, which is not the requests'.
    """

    server: Server
    idle_share: float

    @classmethod
    def of(cls, server: Server) -> Rested:
        """See what it takes while nobody asks; before anybody has."""
        before, begun = server.cpu_s(), time.perf_counter()
        time.sleep(_REST_S)
        return cls(server, (server.cpu_s() - before) / (time.perf_counter() - begun))

    def cost_us(self, subject: Subject, *, seconds: float) -> float:
        """Microseconds of processor time for a request, eight in flight, with what is worked off behind it."""
        return asked(self.server, subject, callers=8, seconds=seconds, behind=self).cost_us


def asked(
    server: Server, subject: Subject, *, callers: int, seconds: float, behind: Rested | None = None
) -> Asked:
    """Ask by h2load; with `behind`, count what is done after the last answer as well, but not what is done at rest."""
    before, begun = server.cpu_s(), time.perf_counter()
    load = h2load(
        server.target,
        subject.request(MODEL),
        callers=callers,
        seconds=seconds,
        answer_bytes=len(server.answer),
    )
    # All that the load took, its warm-up too, which was as fast.
    requests = load.rate * (time.perf_counter() - begun)
    if behind is not None:
        time.sleep(_WORKED_OFF_S)
    spent_s = server.cpu_s() - before
    if behind is not None:
        spent_s -= behind.idle_share * (time.perf_counter() - begun)
    return Asked(load, spent_s / requests * 1e6)
