"""Streams of predictions and real processes: flips, rollbacks, kills and SIGTERM under streams that never pause."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.rpc_models import counted_loop
from support.sidecars import RunningSidecar, serving
from support.yard import MODEL, PROD, Yard

from model_sidecar_client import (
    AsyncClient,
    AsyncPredictionStream,
    InvalidRequestError,
    NotReachableError,
    Operator,
    Prediction,
    PredictionStream,
    SidecarError,
    UnavailableError,
)

A, B = "2024.01.10.prod", "2024.01.12.prod"
ROWS = {"raw": [[1.0, 2.0]]}
ASKERS = 8


def test_flips_under_streams_lose_nothing_and_tag_right(yard: Yard) -> None:
    """Two streams, each asked by eight tasks without a pause, through ten deploys: every answer is its tag's own."""
    for version in (A, B):
        yard.publish(version)
    expected = {version: yard.expected(version, 1.0) for version in (A, B)}
    answers: list[Prediction] = []

    async def ask(stream: AsyncPredictionStream, over: asyncio.Event) -> None:
        while not over.is_set():
            answers.append(await stream.predict(ROWS))

    def flip(operator: Operator) -> None:
        for _ in range(5):
            operator.deploy(MODEL, B, environment=PROD)
            operator.rollback(MODEL, environment=PROD, version=A, reason="to and fro")

    async def through_flips(sidecar: RunningSidecar) -> None:
        over = asyncio.Event()
        async with (
            AsyncClient(sidecar.data) as client,
            client.stream(MODEL) as one,
            client.stream(MODEL) as other,
            asyncio.TaskGroup() as group,
        ):
            for stream in (one, other):
                for _ in range(ASKERS):
                    group.create_task(ask(stream, over))
            with sidecar.operator() as operator:
                await asyncio.to_thread(flip, operator)
            over.set()

    with serving(yard, A) as sidecar:
        asyncio.run(through_flips(sidecar))

    assert {each.version for each in answers} == {A, B}
    for each in answers:
        assert float(each.outputs["y"][0][0]) == expected[each.version]
    assert len({each.prediction_id for each in answers}) == len(answers)
    generations = {(each.generation, each.version) for each in answers}
    assert len({generation for generation, _ in generations}) == len(generations)


def test_terminated_under_streams_it_answers_what_it_has_read(yard: Yard) -> None:
    """SIGTERM amid streams: answers up to a point, then DRAINING for all that is left; exit code 0, and nothing unsaid."""
    yard.publish(A, model=counted_loop())
    outcomes: Counter[str] = Counter()

    async def ask(stream: AsyncPredictionStream, turns: int, begun: asyncio.Event) -> None:
        while True:
            try:
                await stream.predict({"x": [[0.0, 0.0]], "turns": turns}, timeout_s=30)
            except SidecarError as error:
                outcomes[error.reason or repr(error)] += 1
                return
            outcomes["OK"] += 1
            begun.set()

    async def pester(stream: AsyncPredictionStream, sidecar: RunningSidecar) -> None:
        while not sidecar.dead():
            try:
                await stream.predict({"x": [[0.0, 0.0]], "turns": 1}, timeout_s=30)
            except UnavailableError:
                await asyncio.sleep(
                    0.001
                )  # the next may find the stream at its end, in the middle of being written to

    async def until_the_end(sidecar: RunningSidecar) -> None:
        begun = asyncio.Event()
        async with AsyncClient(sidecar.data) as client:
            cheap, dear, idle, pestered = (client.stream(MODEL) for _ in range(4))
            async with cheap, dear, idle, pestered:
                await idle.predict({"x": [[0.0, 0.0]], "turns": 1})
                async with asyncio.TaskGroup() as group:
                    for stream, turns in ((cheap, 1), (dear, 20_000)):
                        for _ in range(ASKERS):
                            group.create_task(ask(stream, turns, begun))
                    await begun.wait()
                    group.create_task(pester(pestered, sidecar))
                    sidecar.signal(signal.SIGTERM)
                # In time it is refused, and later told that the stream has ended.
                with pytest.raises(UnavailableError):
                    await idle.predict({"x": [[0.0, 0.0]], "turns": 1})

    with serving(yard, A) as sidecar:
        asyncio.run(until_the_end(sidecar))
        assert sidecar.process is not None
        assert sidecar.process.wait(timeout=30) == 0
        assert "Traceback" not in sidecar.log.read_text()
    assert outcomes.pop("OK") > 0
    assert outcomes == {"DRAINING": 2 * ASKERS}


def test_killed_under_a_stream_its_askers_are_told(yard: Yard) -> None:
    """SIGKILL: whoever waits learns that nobody is there, and the next sidecar answers a new stream of the same client."""
    yard.publish(A)

    async def ask(stream: AsyncPredictionStream) -> None:
        while True:
            await stream.predict(ROWS)

    async def through_a_kill(sidecar: RunningSidecar) -> str:
        async with AsyncClient(sidecar.data) as client:
            async with client.stream(MODEL) as stream:
                await stream.predict(ROWS)
                askers = [asyncio.create_task(ask(stream)) for _ in range(ASKERS)]
                await asyncio.sleep(0.1)
                await asyncio.to_thread(sidecar.kill)
                for each in askers:
                    with pytest.raises(NotReachableError):
                        await each
            await asyncio.to_thread(sidecar.start)
            await client.wait_ready(MODEL)
            async with client.stream(MODEL) as stream:
                return (await stream.predict(ROWS)).version

    with serving(yard, A) as sidecar:
        assert asyncio.run(through_a_kill(sidecar)) == A


def test_threads_over_one_stream_go_through_flips(yard: Yard) -> None:
    """Eight threads that ask without a pause, through ten deploys: every answer is its asker's, and its tag's own."""
    for version in (A, B):
        yard.publish(version)
    expected = {(version, x): yard.expected(version, x) for version in (A, B) for x in range(ASKERS)}
    over = threading.Event()

    def ask(stream: PredictionStream, x: int) -> list[Prediction]:
        answers = []
        while not over.is_set():
            answers.append(stream.predict({"raw": [[float(x), 2.0]]}, request_id=f"{x}"))
        return answers

    with (
        serving(yard, A) as sidecar,
        sidecar.client() as client,
        client.stream(MODEL) as stream,
        ThreadPoolExecutor(ASKERS) as threads,
    ):
        asked = [threads.submit(ask, stream, x) for x in range(ASKERS)]
        with sidecar.operator() as operator:
            for _ in range(5):
                operator.deploy(MODEL, B, environment=PROD)
                operator.rollback(MODEL, environment=PROD, version=A, reason="to and fro")
        over.set()
        answers = [each.result() for each in asked]

    for x, own in enumerate(answers):
        assert {each.id for each in own} == {f"{x}"}
        for each in own:
            assert float(each.outputs["y"][0][0]) == expected[each.version, x]
    everything = [each for own in answers for each in own]
    assert {each.version for each in everything} == {A, B}
    assert len({each.prediction_id for each in everything}) == len(everything)


@pytest.mark.parametrize("turns", [1, 20_000], ids=["cheap", "dear"])
def test_terminated_under_threads_it_answers_what_it_has_read(yard: Yard, turns: int) -> None:
    """SIGTERM amid a stream of threads: answers up to a point, then DRAINING for every one of them."""
    yard.publish(A, model=counted_loop())
    begun = threading.Event()

    def ask(stream: PredictionStream) -> SidecarError:
        while True:
            try:
                stream.predict({"x": [[0.0, 0.0]], "turns": turns}, timeout_s=30)
            except SidecarError as error:
                return error
            begun.set()

    with (
        serving(yard, A) as sidecar,
        sidecar.client() as client,
        client.stream(MODEL) as stream,
        ThreadPoolExecutor(ASKERS) as threads,
    ):
        asked = [threads.submit(ask, stream) for _ in range(ASKERS)]
        assert begun.wait(30)
        sidecar.signal(signal.SIGTERM)
        assert [each.result().reason for each in asked] == ["DRAINING"] * ASKERS
        assert sidecar.process is not None
        assert sidecar.process.wait(timeout=30) == 0
        with pytest.raises(UnavailableError):
            stream.predict({"x": [[0.0, 0.0]], "turns": 1})


def test_killed_under_threads_each_is_told(yard: Yard) -> None:
    """SIGKILL: every thread learns that nobody is there, and the next sidecar answers a new stream of the same client."""
    yard.publish(A)
    begun = threading.Event()

    def ask(stream: PredictionStream) -> None:
        while True:
            stream.predict(ROWS, timeout_s=30)
            begun.set()

    with serving(yard, A) as sidecar, sidecar.client() as client:
        with client.stream(MODEL) as stream, ThreadPoolExecutor(ASKERS) as threads:
            asked = [threads.submit(ask, stream) for _ in range(ASKERS)]
            assert begun.wait(30)
            sidecar.kill()
            for each in asked:
                with pytest.raises(NotReachableError):
                    each.result()
        sidecar.start()
        client.wait_ready(MODEL)
        with client.stream(MODEL) as stream:
            assert stream.predict(ROWS).version == A


def test_a_message_that_is_too_large_ends_its_stream_and_nobody_is_told_that_it_was_his(yard: Yard) -> None:
    """Each who asks after that is told that the stream has ended, why, and what to do; another stream answers."""
    yard.publish(A)
    large = {"raw": np.zeros((200_000, 2), np.float32)}
    with serving(yard, A, "--max-message", "1MiB") as sidecar, sidecar.client() as client:
        with client.stream(MODEL) as stream:
            assert stream.predict(ROWS).version == A
            for asked in (large, ROWS):
                with pytest.raises(UnavailableError, match="has ended") as told:
                    stream.predict(asked)
                assert "--max-message" in str(told.value)
                assert "Open another" in str(told.value)
        with client.stream(MODEL) as another:
            assert another.predict(ROWS).version == A
        with pytest.raises(InvalidRequestError, match="larger than max"):
            client.predict(MODEL, large)
