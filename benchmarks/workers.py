"""What more processes would bring: two sidecars on one store beside one, asked by the same load. The most that `--workers` could.

    python benchmarks/workers.py [--fast]

Two whole sidecars share nothing but the store, so two workers behind one listener could hardly be faster than they are.
"""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import models, servers
from harness.figures import Figure, Measured, ratios, spread
from harness.load import h2load, need_h2load
from harness.models import Subject
from harness.results import measured_alone
from harness.rounds import in_turns
from harness.servers import Server
from support.yard import MODEL, Yard

CALLERS = 32


def measure(*, fast: bool = False) -> Measured:
    """A model of microseconds, which one core answers, and one of milliseconds, which the lanes spread by themselves."""
    need_h2load()
    seconds, rounds = (0.6, 2) if fast else (2.0, 7)
    figures = tuple(
        two_over_one(subject, seconds=seconds, rounds=rounds) for subject in (models.tiny(), models.conv())
    )
    return Measured(
        title="What a second process would bring.",
        figures=figures,
        notes=("Load and sidecars share the machine's cores, as they do in a pod.",),
    )


def two_over_one(subject: Subject, *, seconds: float, rounds: int) -> Figure:
    """Answers a second of two sidecars over those of one, with as many calls in flight."""
    with tempfile.TemporaryDirectory() as root, ExitStack() as running:
        yard = Yard(Path(root))
        yard.publish(servers.VERSION, model=subject.content)
        request = subject.request(MODEL)
        first, second = (
            running.enter_context(
                servers.serving(
                    yard,
                    deploy=[(MODEL, servers.VERSION)] if number == 0 else [],
                    request=request,
                    expected=subject,
                )
            )
            for number in range(2)
        )
        ways = {
            "one": partial(rate, (first,), request, seconds),
            "two": partial(rate, (first, second), request, seconds),
        }
        found = in_turns(ways, rounds=rounds)
    return Figure(
        f"{subject.name}, {CALLERS} callers: two processes over one",
        ratios(found["two"], found["one"]),
        note=f"{spread(found['two'])} a second beside {spread(found['one'])}",
    )


def rate(asked: tuple[Server, ...], request: bytes, seconds: float) -> float:
    """Answers a second of all of them together, each asked by its share of the callers at the same time."""
    with ThreadPoolExecutor(len(asked)) as pool:
        loads = [
            pool.submit(
                h2load,
                server.target,
                request,
                callers=CALLERS // len(asked),
                seconds=seconds,
                answer_bytes=len(server.answer),
            )
            for server in asked
        ]
        return sum(load.result().rate for load in loads)


if __name__ == "__main__":
    measured_alone("workers", measure)
