"""What a request costs a server's process, which is steadier than how many it answers while others want the cores."""

from __future__ import annotations

import time
from dataclasses import dataclass

from support.yard import MODEL

from harness.load import Load, h2load
from harness.models import Subject
from harness.servers import Server


@dataclass(frozen=True, slots=True)
class Asked:
    """A load, and microseconds of the server's processor time for each request of it."""

    load: Load
    cost_us: float


def asked(server: Server, subject: Subject, *, callers: int, seconds: float) -> Asked:
    """Ask by h2load."""
    before, begun = server.cpu_s(), time.perf_counter()
    load = h2load(
        server.target,
        subject.request(MODEL),
        callers=callers,
        seconds=seconds,
        answer_bytes=len(server.answer),
    )
    # All that the load took, its warm-up too, which was as fast.
    spent_s, took_s = server.cpu_s() - before, time.perf_counter() - begun
    return Asked(load, spent_s / (load.rate * took_s) * 1e6)


def cost_us(server: Server, subject: Subject, *, seconds: float) -> float:
    """Microseconds of the server's processor time for a request, eight in flight."""
    return asked(server, subject, callers=8, seconds=seconds).cost_us
