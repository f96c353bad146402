"""What kind of server the data plane should be: `grpc.aio`, or gRPC's thread pool with the very same predictor behind it.

    python benchmarks/planes.py [--fast]

Both are put together from the product's own rooms, without meters and without a monitor, so that nothing but the kind
differs (harness/plane.py). Asked from outside by h2load, and by a client in Python, which costs a core of its own.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import models, servers
from harness.costs import asked
from harness.figures import Figure, Measured, Table, ratios, spread
from harness.load import need_h2load, python_client
from harness.models import Subject
from harness.results import measured_alone
from harness.rounds import in_turns
from harness.servers import Server
from support.yard import MODEL, Yard

TITLE = "What kind of server the data plane should be ([ADR 14](adr/0014-the-data-plane-is-a-loop.md))."
CALLERS = (1, 4, 8, 16, 64)
KINDS = {"aio": ("--kind", "aio", "--lanes", "2"), "threads": ("--kind", "threads", "--lanes", "4")}


def measure(*, fast: bool = False) -> Measured:
    """Three models, five numbers of callers, two clients; four minutes."""
    need_h2load()
    rounds, seconds = (1, 0.4) if fast else (3, 0.8)
    figures: list[Figure] = []
    outside: list[tuple[str, ...]] = []
    python: list[tuple[str, ...]] = []
    for subject in (models.tiny(), models.weight_bound(), models.conv()):
        with ExitStack() as stack:
            yard = Yard(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            yard.publish(servers.VERSION, model=subject.content)
            running = {kind: stack.enter_context(plane(yard, subject, *KINDS[kind])) for kind in KINDS}
            for callers in CALLERS:
                made, row = from_outside(running, subject, callers=callers, rounds=rounds, seconds=seconds)
                figures += made
                outside.append(row)
            for callers in CALLERS:
                figure, row = from_python(running, subject, callers=callers, rounds=rounds, seconds=seconds)
                figures.append(figure)
                python.append(row)
    return Measured(
        title=TITLE,
        figures=tuple(figures),
        tables=(
            Table(
                "By h2load.",
                ("", "aio, a second", "threads, a second", "aio, µs a request", "threads, µs a request"),
                tuple(outside),
            ),
            Table(
                "By a client in Python.",
                ("", "aio, a second", "threads, a second", "aio, p99 ms", "threads, p99 ms"),
                tuple(python),
            ),
        ),
        notes=(
            "Four threads: with two, one slow call holds half of the server; more of them wait for the interpreter.",
        ),
    )


def from_outside(
    running: dict[str, Server], subject: Subject, *, callers: int, rounds: int, seconds: float
) -> tuple[list[Figure], tuple[str, ...]]:
    """By h2load: answers a second, and processor time of the server for each."""
    ways = {
        kind: partial(asked, server, subject, callers=callers, seconds=seconds)
        for kind, server in running.items()
    }
    found = in_turns(ways, rounds=rounds)
    rates = {kind: [each.load.rate for each in found[kind]] for kind in KINDS}
    costs = {kind: [each.cost_us for each in found[kind]] for kind in KINDS}
    name = f"{subject.name}, {callers} in flight"
    figures = [
        Figure(f"{name}, by h2load: answers of aio, of threads", ratios(rates["aio"], rates["threads"])),
        Figure(
            f"{name}: processor time of a request, aio, of threads", ratios(costs["aio"], costs["threads"])
        ),
    ]
    told = [spread(each[kind]) for each in (rates, costs) for kind in KINDS]
    return figures, (name, *told)


def from_python(
    running: dict[str, Server], subject: Subject, *, callers: int, rounds: int, seconds: float
) -> tuple[Figure, tuple[str, ...]]:
    """By a client in Python: answers a second, and what the slowest hundredth waits."""
    request = subject.request(MODEL)
    ways = {
        kind: partial(python_client, server.target, request, callers=callers, seconds=seconds)
        for kind, server in running.items()
    }
    found = in_turns(ways, rounds=rounds)
    rates = {kind: [each.rate for each in found[kind]] for kind in KINDS}
    waits = {kind: [each.p99_ms for each in found[kind]] for kind in KINDS}
    name = f"{subject.name}, {callers} in flight"
    figure = Figure(f"{name}, by Python: answers of aio, of threads", ratios(rates["aio"], rates["threads"]))
    return figure, (
        name,
        *(spread(rates[kind]) for kind in KINDS),
        *(spread(waits[kind], "{:,.1f}") for kind in KINDS),
    )


def plane(yard: Yard, subject: Subject, *options: str) -> AbstractContextManager[Server]:
    """One kind of it."""
    return servers.started(
        "plane.py", "--store", str(yard.store), *options, request=subject.request(MODEL), expected=subject
    )


if __name__ == "__main__":
    measured_alone("planes", measure)
