"""What a stream gains: predictions a second over one stream, against calls, by the same client and the same sidecar.

    python benchmarks/streaming.py [--fast]

The client is in this process, `AsyncClient` under tasks and `Client` under threads; the sidecar is a process of its own
with a model of one addition, so that what is measured is the way there and back.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from harness.figures import Figure, Goal, Measured, ratios, spread
from harness.results import measured_alone
from support.sidecars import serving
from support.yard import MODEL, Yard

from model_sidecar_client import AsyncClient, Client, Prediction

VERSION = "2024.01.10.prod"
ROWS = np.ones((1, 2), np.float32)
ASKERS = (1, 8, 32)
GOAL = Goal(2.0)

Predict = Callable[[], Awaitable[Prediction]]
PlainPredict = Callable[[], Prediction]


def rate_of_threads(predict: PlainPredict, *, askers: int, seconds: float) -> float:
    """Predictions a second by so many threads, each of which asks again as soon as it is answered."""
    ends = time.perf_counter() + seconds

    def ask(_: int) -> int:
        answered = 0
        while time.perf_counter() < ends:
            predict()
            answered += 1
        return answered

    begun = time.perf_counter()
    with ThreadPoolExecutor(askers) as threads:
        answered = sum(threads.map(ask, range(askers)))
    return answered / (time.perf_counter() - begun)


def compare_threads(target: str, *, askers: int, seconds: float, rounds: int) -> list[tuple[float, float]]:
    """Rates of calls and of a stream, round by round, by threads."""
    inputs = {"raw": ROWS}
    with Client(target) as client, client.stream(MODEL) as stream:

        def call() -> Prediction:
            return client.predict(MODEL, inputs)

        def over_stream() -> Prediction:
            return stream.predict(inputs)

        ways: tuple[PlainPredict, PlainPredict] = (call, over_stream)
        for way in ways:
            rate_of_threads(way, askers=askers, seconds=0.5)
        measured = []
        for number in range(rounds):
            order = ways if number % 2 == 0 else ways[::-1]
            found = {way: rate_of_threads(way, askers=askers, seconds=seconds) for way in order}
            measured.append((found[call], found[over_stream]))
        return measured


async def rate(predict: Predict, *, askers: int, seconds: float) -> float:
    """Predictions a second by so many tasks, each of which asks again as soon as it is answered."""
    answered, ends = 0, time.perf_counter() + seconds

    async def ask() -> None:
        nonlocal answered
        while time.perf_counter() < ends:
            await predict()
            answered += 1

    begun = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(askers)))
    return answered / (time.perf_counter() - begun)


async def compare(target: str, *, askers: int, seconds: float, rounds: int) -> list[tuple[float, float]]:
    """Rates of calls and of a stream, round by round, by tasks."""
    inputs = {"raw": ROWS}
    async with AsyncClient(target) as client, client.stream(MODEL) as stream:

        async def call() -> Prediction:
            return await client.predict(MODEL, inputs)

        async def over_stream() -> Prediction:
            return await stream.predict(inputs)

        ways: tuple[Predict, Predict] = (call, over_stream)
        for way in ways:
            await rate(way, askers=askers, seconds=0.5)
        measured = []
        for number in range(rounds):
            order = ways if number % 2 == 0 else ways[::-1]
            found = {way: await rate(way, askers=askers, seconds=seconds) for way in order}
            measured.append((found[call], found[over_stream]))
        return measured


def measure(*, fast: bool = False) -> Measured:
    """Streams over calls, for one asker and for many, tasks and threads."""
    seconds, rounds = (0.5, 2) if fast else (1.5, 7)
    figures = []
    with tempfile.TemporaryDirectory() as root:
        yard = Yard(Path(root))
        yard.publish(VERSION)
        with serving(yard, VERSION) as sidecar:
            for askers in ASKERS:
                by_tasks = asyncio.run(compare(sidecar.data, askers=askers, seconds=seconds, rounds=rounds))
                by_threads = compare_threads(sidecar.data, askers=askers, seconds=seconds, rounds=rounds)
                figures += [
                    figure(
                        f"{askers} at once over one stream, of calls", by_tasks, GOAL if askers > 1 else None
                    ),
                    figure(
                        f"{askers} {'threads' if askers > 1 else 'thread'} over one stream, of calls",
                        by_threads,
                    ),
                ]
    return Measured(title="What a stream gains, from Python.", figures=tuple(figures))


def figure(name: str, measured: list[tuple[float, float]], goal: Goal | None = None) -> Figure:
    """The figure of these rates of calls and of a stream."""
    calls, streamed = zip(*measured, strict=True)
    return Figure(
        name,
        ratios(streamed, calls),
        goal,
        note=f"{spread(streamed)} a second beside {spread(calls)}",
    )


if __name__ == "__main__":
    measured_alone("streaming", measure)
