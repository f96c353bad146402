"""What kind of server the data plane should be: `grpc.aio`, or gRPC's thread pool with the very same predictor behind it.

    python benchmarks/planes.py [--fast]

Both are put together from the product's own rooms, without admission, meters and monitor, so that nothing but the kind
differs (harness/plane.py); beside them the product's data plane as it is, without meters and monitor too. Asked from outside by h2load, and by a client in Python, which costs a core of its own.
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
PYTHON_CALLERS = (1, 8, 64)
KINDS = {"loop": "2", "threads": "4", "product": "2"}
"""With so many threads for models."""


def measure(*, fast: bool = False) -> Measured:
    """Three models, up to five numbers of callers, two clients; four minutes."""
    need_h2load()
    rounds, seconds = (1, 0.4) if fast else (3, 0.7)
    figures: list[Figure] = []
    outside: list[tuple[str, ...]] = []
    python: list[tuple[str, ...]] = []
    for subject in (models.tiny(), models.weight_bound(), models.conv()):
        with ExitStack() as stack:
            yard = Yard(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            yard.publish(servers.VERSION, model=subject.content)
            running = {
                kind: stack.enter_context(plane(yard, subject, "--kind", kind, "--lanes", KINDS[kind]))
                for kind in KINDS
            }
            for callers in CALLERS:
                made, row = from_outside(running, subject, callers=callers, rounds=rounds, seconds=seconds)
                figures += made
                outside.append(row)
            for callers in PYTHON_CALLERS:
                figure, row = from_python(running, subject, callers=callers, rounds=rounds, seconds=seconds)
                figures.append(figure)
                python.append(row)
    return Measured(
        title=TITLE,
        figures=tuple(figures),
        tables=(
            Table(
                "By h2load.",
                ("", *(f"{kind}, a second" for kind in KINDS), *(f"{kind}, µs a request" for kind in KINDS)),
                tuple(outside),
            ),
            Table(
                "By a client in Python.",
                ("", *(f"{kind}, a second" for kind in KINDS), *(f"{kind}, p99 ms" for kind in KINDS)),
                tuple(python),
            ),
        ),
        notes=(
            "The thread pool has four threads: with two, one slow call holds half of the server; more of them wait for the interpreter.",
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
        Figure(f"{name}, by h2load: answers of a loop, of threads", ratios(rates["loop"], rates["threads"])),
        Figure(
            f"{name}: processor time of a request, a loop, of threads",
            ratios(costs["loop"], costs["threads"]),
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
    figure = Figure(
        f"{name}, by Python: answers of a loop, of threads", ratios(rates["loop"], rates["threads"])
    )
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
