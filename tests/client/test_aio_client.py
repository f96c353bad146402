"""The asyncio clients do what the others do."""

from __future__ import annotations

import asyncio
import gc
import inspect
import time

import grpc
import pytest

from model_sidecar_client import (
    AsyncClient,
    AsyncOperator,
    AsyncPredictionStream,
    Client,
    ConflictError,
    DeadlineError,
    InvalidRequestError,
    NotReachableError,
    Operator,
    PredictionStream,
)
from model_sidecar_client.testing import StandInSidecar

MODEL = "recommendation-v1"
V10, V15 = "2024.01.10.prod", "2024.01.15.prod"


@pytest.mark.parametrize(
    ("awaited", "plain"),
    [(AsyncClient, Client), (AsyncOperator, Operator), (AsyncPredictionStream, PredictionStream)],
)
def test_twins_have_the_same_methods(awaited: type, plain: type) -> None:
    """Names, arguments and defaults are the same, so that either can stand for the other."""

    def signatures(kind: type) -> dict[str, list[inspect.Parameter]]:
        return {
            name: [
                each for each in inspect.signature(function).parameters.values() if each.name != "connection"
            ]
            for name, function in vars(kind).items()
            if inspect.isfunction(function) and (not name.startswith("_") or name == "__init__")
        }

    assert signatures(awaited) == signatures(plain)


def test_predicting(sidecar: StandInSidecar) -> None:
    """Fifty predictions at once on one loop, each answered by a named version."""
    sidecar.answer(MODEL, lambda inputs: {"y": inputs["x"] * 2}, version=V15, inputs={"x": "INT64"})

    async def ask() -> list[tuple[list[int], str]]:
        async with AsyncClient(sidecar.target) as client:
            await client.wait_ready(MODEL, timeout_s=5)
            answers = await asyncio.gather(*(client.predict(MODEL, {"x": [each]}) for each in range(50)))
            return [(each.outputs["y"].tolist(), each.version) for each in answers]

    assert asyncio.run(ask()) == [([2 * each], V15) for each in range(50)]


def test_inputs_have_names(sidecar: StandInSidecar) -> None:
    """Values without names are refused here too."""

    async def story() -> None:
        async with AsyncClient(sidecar.target) as client:
            with pytest.raises(InvalidRequestError, match="expected a mapping of input names to values"):
                await client.predict(MODEL, [[1]])  # type: ignore[arg-type]  # the mistake that is meant

    asyncio.run(story())


def test_a_changed_signature_is_noticed(sidecar: StandInSidecar) -> None:
    """The question what a model takes is asked again here too."""
    sidecar.answer(MODEL, {"y": [1.0]}, version=V10, inputs={"x": "INT64"})

    async def ask() -> list[str]:
        async with AsyncClient(sidecar.target) as client:
            first = await client.predict(MODEL, {"x": [1]})
            sidecar.answer(MODEL, {"y": [1.0]}, version=V15, inputs={"x": "FP32"})
            return [first.version, (await client.predict(MODEL, {"x": [1]})).version]

    assert asyncio.run(ask()) == [V10, V15]


def test_looking(sidecar: StandInSidecar) -> None:
    """Metadata and readiness are awaited likewise."""
    sidecar.answer(MODEL, {"y": [1.0]}, version=V15)

    async def ask() -> tuple[bool, bool, tuple[str, ...], str]:
        async with AsyncClient(sidecar.target) as client:
            return (
                await client.is_ready(),
                await client.is_ready("nobody"),
                (await client.model_metadata(MODEL)).versions,
                (await client.server_metadata()).name,
            )

    assert asyncio.run(ask()) == (True, False, (V15,), "model-sidecar-stand-in")


def test_deadlines_and_missing_sidecars(sidecar: StandInSidecar) -> None:
    """Waiting ends in the same errors."""
    sidecar.answer(MODEL, {"y": [1.0]})

    async def ask() -> None:
        with sidecar.hold("ModelInfer"):
            async with AsyncClient(sidecar.target) as client:
                with pytest.raises(DeadlineError, match=r"within 0\.2 s"):
                    await client.predict(MODEL, {"x": [1.0]}, timeout_s=0.2)
        async with AsyncClient("unix:/nowhere/data.sock") as nowhere:
            with pytest.raises(NotReachableError):
                await nowhere.predict(MODEL, {"x": [1.0]})
            with pytest.raises(DeadlineError, match="nothing answers there"):
                await nowhere.wait_ready(timeout_s=0.2)

    asyncio.run(ask())


def test_cancelling_a_prediction_is_asyncios_own(sidecar: StandInSidecar) -> None:
    """A task that is cancelled ends as tasks do, and the client goes on."""
    sidecar.answer(MODEL, {"y": [1.0]})

    async def ask() -> None:
        async with AsyncClient(sidecar.target) as client:
            with sidecar.hold("ModelInfer") as held:
                task = asyncio.create_task(client.predict(MODEL, {"x": [1.0]}))
                assert await asyncio.to_thread(held.arrived.wait, 5)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert (await client.predict(MODEL, {"x": [1.0]})).outputs["y"].tolist() == [1.0]

    asyncio.run(ask())


def test_a_client_may_be_made_before_the_loop(sidecar: StandInSidecar) -> None:
    """An application can build its clients first and start its loop later."""
    sidecar.answer(MODEL, {"y": [1.0]}, version=V15)
    client = AsyncClient(sidecar.target)

    async def ask() -> str:
        async with client:
            return (await client.predict(MODEL, {"x": [1.0]})).version

    assert asyncio.run(ask()) == V15


def test_operating(sidecar: StandInSidecar) -> None:
    """Deploy, roll back, look and watch, awaited."""
    sidecar.publish(MODEL, V10)
    sidecar.publish(MODEL, V15)

    async def operate() -> None:
        async with AsyncOperator(sidecar.target) as operator:
            first = await operator.deploy(MODEL, V10, environment="prod", expected_generation=0)
            await operator.deploy(MODEL, V15, environment="prod")
            with pytest.raises(ConflictError):
                await operator.deploy(MODEL, V10, environment="prod", expected_generation=first.generation)
            back = await operator.rollback(MODEL, environment="prod", reason="precision alert")
            assert (back.version, back.generation) == (V10, 3)
            assert [each.generation for each in await operator.history(MODEL, environment="prod")] == [
                3,
                2,
                1,
            ]
            assert [each.version for each in await operator.versions(MODEL, environment="prod")] == [V15, V10]
            assert [each.state for each in await operator.status()] == ["READY"]
            assert (await operator.verify(MODEL, V10)).verified
            with pytest.raises(InvalidRequestError, match="at most one target"):
                await operator.rollback(MODEL, environment="prod", version=V10, generation=1)

    asyncio.run(operate())


def test_watching(sidecar: StandInSidecar) -> None:
    """The watch tells the status now, and again after a change; leaving it ends the call."""
    sidecar.answer(MODEL, {"y": [1.0]}, version=V10)

    async def watch() -> list[str]:
        seen = []
        async with AsyncOperator(sidecar.target) as operator:
            changes = operator.watch(MODEL, environment="prod", timeout_s=20)
            async for status in changes:
                assert status.observed
                seen.append(status.observed.version)
                if len(seen) == 2:
                    break
                sidecar.answer(MODEL, {"y": [1.0]}, version=V15)
            await changes.aclose()
            lost = operator.watch("nobody", environment="prod")
            with pytest.raises(Exception, match="no model 'nobody'"):
                await anext(lost)
        return seen

    assert asyncio.run(watch()) == [V10, V15]


def test_what_the_wire_cannot_carry_is_the_callers_mistake(sidecar: StandInSidecar) -> None:
    """Metadata off HTTP/2's grammar are an error of ours here too."""
    sidecar.answer(MODEL, {"y": [1.0]})

    async def ask() -> None:
        async with AsyncClient(sidecar.target) as client:
            with pytest.raises(InvalidRequestError, match="cannot be sent"):
                await client.predict(MODEL, {"x": [1.0]}, metadata=[("No Spaces", "x")])

    asyncio.run(ask())


def test_unavailable_is_tried_again(sidecar: StandInSidecar) -> None:
    """The same retries, without the caller noticing."""
    sidecar.answer(MODEL, {"y": [1.0]}, version=V15)
    sidecar.fail_next("ModelInfer", grpc.StatusCode.UNAVAILABLE, times=2)

    async def ask() -> str:
        async with AsyncClient(sidecar.target) as client:
            return (await client.predict(MODEL, {"x": [1.0]})).version

    assert asyncio.run(ask()) == V15
    assert len(sidecar.received("ModelInfer")) == 3


def test_an_unclosed_client_warns(sidecar: StandInSidecar) -> None:
    """A client that was used and is dropped without close() says so; one that was never used holds nothing."""

    async def forget() -> None:
        AsyncClient("unix:/never/used")
        client = AsyncClient(sidecar.target)
        await client.server_metadata()
        del client
        gc.collect()

    with pytest.warns(ResourceWarning, match=f"unclosed connection to {sidecar.target}") as warnings:
        asyncio.run(forget())
    assert len(warnings) == 1


def test_a_closed_client_makes_no_calls(sidecar: StandInSidecar) -> None:
    """Closing is final, and may be done twice."""

    async def use_after_close() -> None:
        client = AsyncClient(sidecar.target)
        await client.close()
        await client.close()
        with pytest.raises(RuntimeError, match="closed"):
            await client.is_ready()

    asyncio.run(use_after_close())


def test_waiting_does_not_hold_the_loop(sidecar: StandInSidecar) -> None:
    """While one task waits for readiness, others run."""
    sidecar.set_ready(False)
    sidecar.answer(MODEL, {"y": [1.0]})

    async def wait_and_turn() -> float:
        async with AsyncClient(sidecar.target) as client:
            with sidecar.hold("ServerReady") as held:
                waiting = asyncio.create_task(client.wait_ready(timeout_s=20))
                assert await asyncio.to_thread(held.arrived.wait, 5)
            sidecar.set_ready(True)
            started = time.monotonic()
            await waiting
            return time.monotonic() - started

    assert asyncio.run(wait_and_turn()) < 10
