"""What a request costs as it has more features, as more versions are resident, and while the metrics are scraped."""

from __future__ import annotations

import statistics
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from harness import models, servers
from harness.costs import Rested
from harness.figures import Figure, Goal, Line, Plot, ratios, spread
from harness.load import Load, python_client
from harness.models import Subject
from harness.rounds import in_turns
from support.ports import free_port
from support.yard import MODEL, Yard

from model_sidecar.app.publish import PublishFacts, publish
from model_sidecar.release.names import ModelName, parse_version

FEATURES = (16, 256, 1024, 4096, 16384)
FLAT = Goal(1.25, at_most=True)
"""What counts as not growing: a quarter more, which is what repeats of one thing differ by here."""
OTHER_VERSION = "2024.01.12.prod"
MORE_MODELS = 7
SCRAPES_A_SECOND = 10


def by_features(*, rounds: int, seconds: float) -> tuple[list[Figure], Plot]:
    """Processor time of a request, by how many features it has, beside an echo's of the same bytes."""
    with ExitStack() as stack:
        subjects = {count: models.logistic(count) for count in FEATURES}
        running = {
            count: stack.enter_context(servers.sidecar(subject, _folder(stack)))
            for count, subject in subjects.items()
        }
        echo = stack.enter_context(servers.echo(len(running[FEATURES[0]].answer)))
        ways = {
            (who, count): partial(Rested.of(server).cost_us, subject, seconds=seconds)
            for count, subject in subjects.items()
            for who, server in (("sidecar", running[count]), ("bare echo", echo))
        }
        found = in_turns(ways, rounds=rounds)
    lines = tuple(
        Line(who, tuple((count, statistics.median(found[who, count])) for count in FEATURES))
        for who in ("sidecar", "bare echo")
    )
    first, last = FEATURES[0], FEATURES[-1]
    figures = [
        Figure(
            f"a request of {last:,} features, of one of {first}, processor time: {who}",
            ratios(found[who, last], found[who, first]),
            note=f"{spread(found[who, last])} µs beside {spread(found[who, first])} µs",
        )
        for who in ("sidecar", "bare echo")
    ]
    thousand = ratios(found["sidecar", 1024], found["sidecar", first])
    figures.insert(
        0, Figure(f"a request of 1,024 features, of one of {first}, processor time", thousand, FLAT)
    )
    return figures, Plot("features", "Processor time of a request", "features", "µs", lines)


def by_versions(*, rounds: int, seconds: float) -> list[Figure]:
    """Processor time of a request with one version resident, two, and sixteen of eight models."""
    subject = models.tiny()
    with ExitStack() as stack:
        yard = Yard(_folder(stack))
        other = models.mlp([64, 64, 8], name="another", seed=9)
        yard.publish(servers.VERSION, model=subject.content)
        yard.publish(OTHER_VERSION, model=other.content)
        alone = Yard(_folder(stack))
        alone.publish(servers.VERSION, model=subject.content)
        names = [ModelName(f"also-{number}") for number in range(MORE_MODELS)]
        for name in names:
            for version, each in ((servers.VERSION, subject), (OTHER_VERSION, other)):
                _publish(yard, name, version, each)
        also = [option for name in names for option in ("--model", name)]
        two = [(MODEL, OTHER_VERSION), (MODEL, servers.VERSION)]
        sixteen = two + [(name, version) for name in names for version in (OTHER_VERSION, servers.VERSION)]
        serve = partial(servers.serving, request=subject.request(MODEL), expected=subject)
        copy = Yard(_folder(stack))
        for version, each in ((servers.VERSION, subject), (OTHER_VERSION, other)):
            copy.publish(version, model=each.content)
        running = {
            1: stack.enter_context(serve(alone, "--standby", "none", deploy=two[1:])),
            2: stack.enter_context(serve(copy, deploy=two)),
            16: stack.enter_context(serve(yard, *also, deploy=sixteen)),
        }
        ways = {
            count: partial(Rested.of(server).cost_us, subject, seconds=seconds)
            for count, server in running.items()
        }
        found = in_turns(ways, rounds=rounds)
    return [
        Figure(
            f"a request with {count} versions resident, of with one, processor time",
            ratios(found[count], found[1]),
            FLAT,
            note=f"{spread(found[count])} µs beside {spread(found[1])} µs",
        )
        for count in (2, 16)
    ]


def while_scraped(*, rounds: int, seconds: float) -> list[Figure]:
    """What a caller waits while /metrics is read ten times a second, over what he waits while nobody reads it."""
    subject = models.tiny()
    port = free_port()
    with ExitStack() as stack:
        server = stack.enter_context(servers.sidecar(subject, _folder(stack), "--http", f"127.0.0.1:{port}"))
        ask = partial(python_client, server.target, subject.request(MODEL), callers=1, seconds=seconds)

        def scraped() -> Load:
            with _scraping(port):
                return ask()

        ways: dict[str, Callable[[], Load]] = {"scraped": scraped, "calm": ask}
        found = in_turns(ways, rounds=rounds)
    figures = []
    for what in ("p50_ms", "p99_ms"):
        scraped_ms, calm_ms = ([getattr(each, what) for each in found[name]] for name in ("scraped", "calm"))
        figures.append(
            Figure(
                f"{what[:3]} of one caller while /metrics is read {SCRAPES_A_SECOND} times a second, of calm",
                ratios(scraped_ms, calm_ms),
                FLAT if what == "p50_ms" else None,
                note=f"{spread(scraped_ms, '{:.2f}')} ms beside {spread(calm_ms, '{:.2f}')} ms",
            )
        )
    return figures


@contextmanager
def _scraping(port: int) -> Iterator[None]:
    stop = threading.Event()

    def scrape() -> None:
        while not stop.wait(1 / SCRAPES_A_SECOND):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                assert answer.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _publish(yard: Yard, name: ModelName, version: str, subject: Subject) -> None:
    with tempfile.TemporaryDirectory() as build:
        Path(build, "model.onnx").write_bytes(subject.content)
        facts = PublishFacts(data_snapshot_id="none", framework="benchmark", training_date="2024-01-01")
        publish(Path(build), yard.versions, model=name, version=parse_version(version), facts=facts)


def _folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory()))
