"""The sidecar beside other servers of ONNX models: same model, same client, in turns.

    python benchmarks/peers.py [--fast]           (make benchmarks ARGS='--only peers --peers mlserver,kserve')

Each peer is installed into an environment of its own the first time, which takes some minutes and a gigabyte.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import grpc
from harness import models, servers
from harness.environments import NotInstalledError
from harness.figures import Figure, Goal, Measured, Table, ratios, spread
from harness.load import METHOD, python_client
from harness.models import Subject
from harness.peers import Peer, start
from harness.results import measured_alone
from harness.rounds import in_turns
from support.sidecars import serving
from support.yard import MODEL, PROD, Yard

TITLE = "The sidecar beside other servers: same model, same client."
PEERS = ("mlserver", "kserve", "triton")
NAMES = {"mlserver": "MLServer", "kserve": "KServe SDK", "triton": "Triton, Python backend"}
TINY = {"mlserver": Goal(1.4), "kserve": Goal(1.4), "triton": Goal(1.0)}
CONV, RELOAD = Goal(1.5), Goal(20)
TWO = "triton, 2 instances"
CALLERS = (1, 8, 64)

Found = tuple[list[Figure], list[tuple[str, ...]]]
"""Figures, and rows of the table."""


def measure(*, fast: bool = False, peers: Sequence[str] = PEERS) -> Measured:
    """Tiny and conv by rate, and how soon another version answers; five minutes, and the installations."""
    rounds, seconds = (1, 0.5) if fast else (5, 1.5)
    absent: dict[str, str] = {}
    figures, rows = tiny(peers, rounds=rounds, seconds=seconds, absent=absent)
    there = [name for name in peers if name not in absent]
    for part in (conv(there, rounds=rounds, seconds=seconds), reloads(there, rounds=rounds)):
        figures += part[0]
        rows += part[1]
    return Measured(
        title=TITLE,
        figures=tuple(figures),
        tables=(Table("Median of the rounds (least–greatest).", ("", "", ""), tuple(rows)),),
        notes=(
            (
                "One Python client in a process of its own, on the same cores, for all of them; each peer in its own environment, tuned as its documents say "
                "(MLServer in process, without debug log and metrics; KServe without a log line for each request), the model run by onnxruntime with one thread."
            ),
            (
                "Not measured, and faster than these: Triton with its C++ ONNX backend, which no package index has. What is called Triton here is its C++ "
                "front end with a Python backend."
            ),
            (
                "A peer's reload: another file is laid in the model's place and its repository call made; ours: a rollback to the version that stands by. "
                "The time is from the call to the first answer with the other version's numbers, seen by one caller who never stops asking."
            ),
            *(f"{NAMES[name]} was not measured: {why}" for name, why in absent.items()),
        ),
    )


def tiny(peers: Sequence[str], *, rounds: int, seconds: float, absent: dict[str, str]) -> Found:
    """Answers a second of a model that costs microseconds."""
    subject = models.tiny()
    figures: list[Figure] = []
    rows: list[tuple[str, ...]] = []
    with _running(subject, peers, absent=absent) as targets:
        for callers in CALLERS:
            rates = _rates(targets, subject, callers=callers, rounds=rounds, seconds=seconds)
            rows += [
                (f"{subject.name}, {callers} in flight", _name(name), f"{spread(rates[name])} a second")
                for name in targets
            ]
            figures += [
                Figure(
                    f"{subject.name}, {callers} in flight, of {NAMES[name]}",
                    ratios(rates["ours"], rates[name]),
                    TINY[name],
                )
                for name in targets
                if name in TINY
            ]
    return figures, rows


def conv(peers: Sequence[str], *, rounds: int, seconds: float) -> Found:
    """Answers a second of a model that costs milliseconds, over the best peer's."""
    subject, callers = models.conv(), 8
    also = [TWO] if "triton" in peers else []
    with _running(subject, [*peers, *also], absent={}) as targets:
        rates = _rates(targets, subject, callers=callers, rounds=rounds, seconds=seconds)
    rows: list[tuple[str, ...]] = [
        (f"{subject.name}, {callers} in flight", _name(name), f"{spread(rates[name])} a second")
        for name in rates
    ]
    figures = []
    if singles := [name for name in rates if name in TINY]:
        best = max(singles, key=lambda name: statistics.median(rates[name]))
        what = f"{subject.name}, {callers} in flight, of the best peer ({NAMES[best]})"
        figures.append(Figure(what, ratios(rates["ours"], rates[best]), CONV))
    if TWO in rates:
        what = f"{subject.name}, {callers} in flight, of Triton with two instances of its Python backend"
        figures.append(Figure(what, ratios(rates["ours"], rates[TWO])))
    return figures, rows


def reloads(peers: Sequence[str], *, rounds: int) -> Found:
    """A rollback over a peer's reload, of a model of 50 MB."""
    subject, other = models.fifty_megabytes(), models.fifty_megabytes(seed=77)
    versions = (servers.VERSION, "2024.01.12.prod")
    with ExitStack() as stack:
        yard = Yard(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        for version, each in zip(versions, (subject, other), strict=True):
            yard.publish(version, model=each.content)
        sidecar = stack.enter_context(serving(yard, versions[0]))
        operator = stack.enter_context(sidecar.operator())
        operator.deploy(MODEL, versions[1], environment=PROD)
        turns = {name: iter(range(1, 1 << 30)) for name in ("ours", *peers)}

        def roll_back() -> None:
            operator.rollback(MODEL, environment=PROD, version=versions[(next(turns["ours"]) + 1) % 2])

        def load(name: str, peer: Peer) -> None:
            peer.reload((subject, other)[next(turns[name]) % 2].content)

        request = subject.request(MODEL)
        ways = {"ours": partial(_other_answers_s, sidecar.data, request, roll_back)}
        for name in peers:
            peer = stack.enter_context(start(name, subject))
            ways[name] = partial(_other_answers_s, peer.server.target, request, partial(load, name, peer))
        found = in_turns(ways, rounds=max(2, rounds))
    rows: list[tuple[str, ...]] = [
        (
            f"{subject.name}: another version answers",
            _name(name),
            f"{spread([1e3 * s for s in found[name]], '{:,.1f}')} ms",
        )
        for name in found
    ]
    if not peers:
        return [], rows
    best = min(peers, key=lambda name: statistics.median(found[name]))
    what = f"{subject.name}, to the other version's first answer: a reload by the best peer ({NAMES[best]}), of our rollback"
    return [Figure(what, ratios(found[best], found["ours"]), RELOAD)], rows


@contextmanager
def _running(subject: Subject, peers: Sequence[str], *, absent: dict[str, str]) -> Iterator[dict[str, str]]:
    """Where the sidecar, the echo and the peers answer; who cannot be had is told in `absent`."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = stack.enter_context(servers.sidecar(subject, root))
        targets = {"ours": ours.target, "echo": stack.enter_context(servers.echo(len(ours.answer))).target}
        for name in peers:
            try:
                targets[name] = stack.enter_context(start(name, subject)).server.target
            except (NotInstalledError, grpc.RpcError) as error:
                absent[name] = str(error).replace("\n", " ")[:300]
                print(f"   without {name}: {error}", flush=True)
        yield targets


def _rates(
    targets: dict[str, str], subject: Subject, *, callers: int, rounds: int, seconds: float
) -> dict[str, list[float]]:
    def rate(target: str) -> float:
        return python_client(target, subject.request(MODEL), callers=callers, seconds=seconds).rate

    return in_turns({name: partial(rate, target) for name, target in targets.items()}, rounds=rounds)


def _other_answers_s(target: str, request: bytes, act: Callable[[], None]) -> float:
    """Seconds from when this was asked for to the first answer with other numbers than before."""
    with grpc.insecure_channel(target) as channel:
        infer: Any = channel.unary_unary(METHOD)
        before = servers.output(infer(request, timeout=10)).tobytes()
        acting = threading.Thread(target=act)
        asked = time.perf_counter()
        acting.start()
        while True:
            try:
                if servers.output(infer(request, timeout=10)).tobytes() != before:
                    took = time.perf_counter() - asked
                    break
            except grpc.RpcError:
                time.sleep(0.001)  # some refuse while they load
            assert time.perf_counter() < asked + 120, "the other version never answered"
        acting.join()
        time.sleep(0.5)  # what is let go of, and cleared away, is not the next one's affair
    return took


def _name(name: str) -> str:
    return {"ours": "sidecar", "echo": "bare echo", TWO: "Triton, Python backend, 2 instances", **NAMES}[name]


if __name__ == "__main__":
    measured_alone("peers", measure)
