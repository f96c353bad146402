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
from harness.figures import Figure, Measured, Table, ratios, spread
from harness.load import Load, h2load, need_h2load, python_client
from harness.models import Subject
from harness.results import measured_alone
from harness.rounds import in_turns
from harness.servers import Server
from support.yard import MODEL, Yard

TITLE = "What kind of server the data plane should be ([ADR 14](adr/0014-the-data-plane-is-a-loop.md))."
CALLERS = (1, 4, 8, 16, 64)
KINDS = {"aio": ("--kind", "aio", "--lanes", "2"), "threads": ("--kind", "threads", "--lanes", "4")}
"""The thread pool has four threads: with two, one slow call holds half of the server; with more, they only wait for the interpreter."""


def measure(*, fast: bool = False) -> Measured:
    """Three models, five numbers of callers, two clients; four minutes."""
    need_h2load()
    rounds, seconds = (1, 0.4) if fast else (5, 1.0)
    figures: list[Figure] = []
    rows: list[tuple[str, ...]] = []
    for subject in (models.tiny(), models.weight_bound(), models.conv()):
        with ExitStack() as stack:
            yard = Yard(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            yard.publish(servers.VERSION, model=subject.content)
            running = {kind: stack.enter_context(plane(yard, subject, *KINDS[kind])) for kind in KINDS}
            for client in ("h2load", "Python"):
                for callers in CALLERS:
                    ways = {
                        kind: partial(
                            _asked, server, subject, client=client, callers=callers, seconds=seconds
                        )
                        for kind, server in running.items()
                    }
                    found = in_turns(ways, rounds=rounds)
                    name = f"{subject.name}, {callers} in flight, by {client}"
                    rates = {kind: [each.rate for each in found[kind]] for kind in KINDS}
                    waits = {kind: [each.p99_ms for each in found[kind]] for kind in KINDS}
                    figures.append(Figure(f"{name}: aio, of threads", ratios(rates["aio"], rates["threads"])))
                    rows.append(
                        (
                            name,
                            *(spread(rates[kind]) for kind in KINDS),
                            *(spread(waits[kind], "{:,.1f}") for kind in KINDS),
                        )
                    )
    header = ("", "aio, a second", "threads, a second", "aio, slowest ms", "threads, slowest ms")
    return Measured(
        title=TITLE,
        figures=tuple(figures),
        tables=(
            Table(
                "Answers a second; and of h2load the slowest, of Python the 99th percentile.",
                header,
                tuple(rows),
            ),
        ),
    )


def plane(yard: Yard, subject: Subject, *options: str) -> AbstractContextManager[Server]:
    """One kind of it."""
    return servers.started(
        "plane.py", "--store", str(yard.store), *options, request=subject.request(MODEL), expected=subject
    )


def _asked(server: Server, subject: Subject, *, client: str, callers: int, seconds: float) -> Load:
    request = subject.request(MODEL)
    if client == "Python":
        return python_client(server.target, request, callers=callers, seconds=seconds)
    return h2load(server.target, request, callers=callers, seconds=seconds, answer_bytes=len(server.answer))


if __name__ == "__main__":
    measured_alone("planes", measure)
