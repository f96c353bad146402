"""The whole way of a request against the floor of its stack: a bare echo for tiny models, raw onnxruntime for heavy ones.

    python benchmarks/serving.py [--fast]

- tiny models, by h2load at 1, 8 and 64 calls in flight: the sidecar's answers a second over a bare `grpc.aio` echo's;
- a convolution at 8 and 64: over what two threads of raw onnxruntime do in a process of their own choosing;
- monitoring and metrics: the sidecar's processor time for a request over the same data plane's without either.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import models, servers
from harness.costs import Rested
from harness.figures import Figure, Goal, Measured, Table, ratios, spread
from harness.load import Load, h2load, need_h2load, python_client
from harness.models import Subject
from harness.results import measured_alone
from harness.rounds import in_turns
from harness.servers import Server
from support.yard import MODEL

TITLE = "The whole way of a request, against the floor of its stack."
CALLERS = (1, 8, 64)
FLOOR = Goal(0.85)
WATCHING = Goal(1.05, at_most=True)


def measure(*, fast: bool = False) -> Measured:
    """All three parts; three minutes."""
    need_h2load()
    rounds, seconds = (2, 0.6) if fast else (5, 1.5)
    figures: list[Figure] = []
    rows: list[tuple[str, ...]] = []
    for subject in (models.tiny(), models.logistic()):
        made, table = beside_the_echo(subject, rounds=rounds, seconds=seconds)
        figures += made
        rows += table
    made, table = beside_raw_runs(models.conv(), rounds=rounds, seconds=seconds)
    figures += made
    rows += table
    figures += [
        waiting(models.tiny(), rounds=rounds, seconds=seconds),
        watching(models.tiny(), rounds=rounds, seconds=seconds),
    ]
    return Measured(
        title=TITLE,
        figures=tuple(figures),
        tables=(
            Table(
                "Answers a second, median of the rounds (least–greatest).",
                ("", "sidecar", "floor"),
                tuple(rows),
            ),
        ),
        notes=(
            (
                "The echo is `grpc.aio` with the data plane's options, takes bytes and gives as many bytes as the model's answer has; "
                "both servers idle while the other is asked."
            ),
            "Raw onnxruntime: two Python threads, one session of one thread each way, no server and no client beside them.",
            (
                "What watching costs is processor time for a request, of the sidecar as shipped (with `--state-dir`, so that "
                "predictions are logged) and of the same data plane without meters and without a monitor; what either takes while nobody asks is taken off."
            ),
        ),
    )


def beside_the_echo(
    subject: Subject, *, rounds: int, seconds: float
) -> tuple[list[Figure], list[tuple[str, ...]]]:
    """The sidecar's capacity over the echo's, by h2load."""
    figures: list[Figure] = []
    rows: list[tuple[str, ...]] = []
    with (
        tempfile.TemporaryDirectory() as root,
        servers.sidecar(subject, Path(root)) as sidecar,
        servers.echo(len(sidecar.answer)) as echo,
    ):
        ask = partial(_loaded, request=subject.request(MODEL), seconds=seconds)
        for callers in CALLERS:
            ways = {
                name: partial(ask, server, callers) for name, server in (("ours", sidecar), ("echo", echo))
            }
            found = in_turns(ways, rounds=rounds)
            ours, floor = ([each.rate for each in found[name]] for name in ("ours", "echo"))
            name = f"{subject.name}, {_callers(callers)}"
            goal = FLOOR if callers >= 8 else None
            figures.append(Figure(f"{name}, of the bare echo", ratios(ours, floor), goal))
            rows.append((name, spread(ours), spread(floor)))
    return figures, rows


def beside_raw_runs(
    subject: Subject, *, rounds: int, seconds: float
) -> tuple[list[Figure], list[tuple[str, ...]]]:
    """The sidecar's capacity over raw onnxruntime's by two threads."""
    figures: list[Figure] = []
    rows: list[tuple[str, ...]] = []
    session: Any = servers.raw_session(subject)
    with tempfile.TemporaryDirectory() as root, servers.sidecar(subject, Path(root)) as sidecar:
        request = subject.request(MODEL)

        def raw() -> float:
            return servers.raw_rate(
                lambda: session.run(None, {"x": subject.rows}), threads=2, seconds=seconds
            )

        def ours(callers: int) -> float:
            return _loaded(sidecar, callers, request=request, seconds=seconds).rate

        for callers in (8, 64):
            ways: dict[str, Callable[[], float]] = {"ours": partial(ours, callers), "raw": raw}
            found = in_turns(ways, rounds=rounds)
            name = f"{subject.name}, {_callers(callers)}"
            figures.append(Figure(f"{name}, of two raw threads", ratios(found["ours"], found["raw"]), FLOOR))
            rows.append((name, spread(found["ours"]), spread(found["raw"])))
    return figures, rows


def waiting(subject: Subject, *, rounds: int, seconds: float) -> Figure:
    """What one caller in Python waits, over what he waits for the echo."""
    with (
        tempfile.TemporaryDirectory() as root,
        servers.sidecar(subject, Path(root)) as sidecar,
        servers.echo(len(sidecar.answer)) as echo,
    ):
        request = subject.request(MODEL)
        ways = {
            name: partial(python_client, server.target, request, callers=1, seconds=seconds)
            for name, server in (("ours", sidecar), ("echo", echo))
        }
        found = in_turns(ways, rounds=rounds)
    ours, floor = ([each.p50_ms for each in found[name]] for name in ("ours", "echo"))
    note = f"{spread(ours, '{:.2f}')} ms beside {spread(floor, '{:.2f}')} ms"
    return Figure(
        f"{subject.name}, p50 of one Python caller, over the echo's", ratios(ours, floor), note=note
    )


def watching(subject: Subject, *, rounds: int, seconds: float) -> Figure:
    """How much of a request's processor time metrics and monitor take."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        watched = stack.enter_context(servers.sidecar(subject, root, "--state-dir", str(root / "state")))
        request = subject.request(MODEL)
        plain = stack.enter_context(
            servers.started("plane.py", "--store", str(root / "ml-models"), request=request, expected=subject)
        )

        ways = {
            name: partial(Rested.of(server).cost_us, subject, seconds=seconds)
            for name, server in (("watched", watched), ("plain", plain))
        }
        found = in_turns(ways, rounds=rounds)
    rises = ratios(found["watched"], found["plain"])
    return Figure(
        f"{subject.name}, a request's processor time with metrics and monitor, of without", rises, WATCHING
    )


def _loaded(server: Server, callers: int, *, request: bytes, seconds: float) -> Load:
    return h2load(server.target, request, callers=callers, seconds=seconds, answer_bytes=len(server.answer))


def _callers(count: int) -> str:
    return "1 caller" if count == 1 else f"{count} callers"


if __name__ == "__main__":
    measured_alone("serving", measure)
