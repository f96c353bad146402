"""Predictions over a stream: pipelined, in order, with the errors of single predictions; what ends a stream ends it for all."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest

from model_sidecar_client import (
    AsyncClient,
    CallCancelledError,
    DeadlineError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    NotReachableError,
    OverloadedError,
)
from model_sidecar_client.rpc_errors import told
from model_sidecar_client.testing import StandInSidecar
from model_sidecar_client.wire.inference import ModelStreamInferResponse

MODEL = "recommendation-v1"
V15 = "2024.01.15.prod"


def test_many_are_asked_at_once_and_each_gets_its_own_answer(sidecar: StandInSidecar) -> None:
    """Two hundred tasks over one stream; the sidecar was asked one stream, and in the order of the questions."""
    sidecar.answer(MODEL, lambda inputs: {"y": np.asarray(inputs["x"]) * 2}, version=V15)

    async def ask() -> None:
        async with AsyncClient(sidecar.target) as client, client.stream(MODEL) as stream:
            answers = await asyncio.gather(
                *(stream.predict({"x": [float(x)]}, request_id=f"{x}") for x in range(200))
            )
        assert [(each.outputs["y"].tolist(), each.id) for each in answers] == [
            ([2.0 * x], f"{x}") for x in range(200)
        ]
        assert {(each.version, each.model) for each in answers} == {(V15, MODEL)}

    asyncio.run(ask())
    assert len(sidecar.received("ModelStreamInfer")) == 200
    assert not sidecar.received("ModelInfer")


def test_an_error_is_one_predictions_own(sidecar: StandInSidecar) -> None:
    """The same classes, reasons and facts as from a call; whoever asks beside or after it is answered."""
    sidecar.answer(MODEL, {"y": [1.0]}, inputs={"x": "FP32"})

    async def ask() -> None:
        async with AsyncClient(sidecar.target) as client, client.stream(MODEL) as stream:
            sidecar.fail_next(
                "ModelStreamInfer", grpc.StatusCode.RESOURCE_EXHAUSTED, reason="OVERLOADED", retry_after_s=0.5
            )
            with pytest.raises(OverloadedError, match="was told to fail") as overloaded:
                await stream.predict({"x": [1.0]})
            assert (overloaded.value.retry_after_s, overloaded.value.reason) == (0.5, "OVERLOADED")
            sidecar.fail_next("ModelStreamInfer", grpc.StatusCode.UNAVAILABLE, reason="NOTHING_LIVE")
            with pytest.raises(Exception, match="NOTHING_LIVE"):
                await stream.predict({"x": [1.0]})
            with pytest.raises(NotFoundError):
                await stream.predict({"x": [1.0]}, version="2023.01.01.prod")
            with pytest.raises(InvalidRequestError, match="has no input 'z'") as invalid:
                await stream.predict({"z": [1.0]})
            assert invalid.value.metadata["tensor"] == "z"
            assert (await stream.predict({"x": [1.0]})).outputs["y"].tolist() == [1.0]

    asyncio.run(ask())


def test_another_server_s_words_are_an_internal_error() -> None:
    """A message that has an error's words only, as Triton's do; or parameters that are damaged."""
    bare = told(ModelStreamInferResponse(error_message="in ensemble, oops"))
    assert (type(bare), bare.message, bare.code) == (
        InternalError,
        "in ensemble, oops",
        grpc.StatusCode.UNKNOWN,
    )
    damaged = ModelStreamInferResponse(error_message="oops")
    damaged.infer_response.parameters["grpc-status"].int64_param = 5
    damaged.infer_response.parameters["grpc-status-details-bin"].string_param = "x"
    assert isinstance(told(damaged), NotFoundError)


def test_what_a_model_takes_is_learned_anew_after_a_flip(sidecar: StandInSidecar) -> None:
    """A version that takes another datatype goes live in mid-stream, and the next prediction fits it."""
    sidecar.answer(MODEL, {"y": [1.0]}, inputs={"x": "FP32"})

    async def ask() -> str:
        async with AsyncClient(sidecar.target) as client, client.stream(MODEL) as stream:
            await stream.predict({"x": [1.0]})
            sidecar.answer(MODEL, {"y": [2.0]}, version=V15, inputs={"x": "FP64"})
            return (await stream.predict({"x": [1.0]})).version

    assert asyncio.run(ask()) == V15


def test_a_prediction_that_is_late_or_given_up_leaves_the_others_theirs(sidecar: StandInSidecar) -> None:
    """Answers that nobody waits for any more are passed over, whichever came first."""
    sidecar.answer(MODEL, lambda inputs: {"y": inputs["x"]})

    async def ask() -> None:
        async with AsyncClient(sidecar.target) as client, client.stream(MODEL) as stream:
            await stream.predict({"x": [0.0]})
            with sidecar.hold("ModelStreamInfer") as held:
                late = asyncio.create_task(stream.predict({"x": [1.0]}, timeout_s=0.2))
                given_up = asyncio.create_task(stream.predict({"x": [2.0]}))
                patient = asyncio.create_task(stream.predict({"x": [3.0]}))
                assert await asyncio.to_thread(held.arrived.wait, 5)
                with pytest.raises(DeadlineError, match=r"within 0\.2 s"):
                    await late
                given_up.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await given_up
            assert (await patient).outputs["y"].tolist() == [3.0]
            assert (await stream.predict({"x": [4.0]})).outputs["y"].tolist() == [4.0]

    asyncio.run(ask())


def test_leaving_the_block_waits_for_what_was_asked(sidecar: StandInSidecar) -> None:
    """Tasks that still wait when the block ends are answered; after that the stream takes no more."""
    sidecar.answer(MODEL, {"y": [1.0]})

    async def ask() -> None:
        async with AsyncClient(sidecar.target) as client:
            async with client.stream(MODEL) as stream:
                await stream.predict({"x": [1.0]})
                tasks = [asyncio.create_task(stream.predict({"x": [1.0]})) for _ in range(20)]
                await asyncio.sleep(0)
            assert [(await each).outputs["y"].tolist() for each in tasks] == [[1.0]] * 20
            with pytest.raises(RuntimeError, match="closed"):
                await stream.predict({"x": [1.0]})
            with pytest.raises(RuntimeError, match="opened once"):
                await stream.__aenter__()
            with pytest.raises(RuntimeError, match="not open"):
                await client.stream(MODEL).predict({"x": [1.0]})

    asyncio.run(ask())


def test_leaving_it_by_an_exception_does_not_wait(sidecar: StandInSidecar) -> None:
    """The stream is cancelled, and whoever waits on it is told."""
    sidecar.answer(MODEL, {"y": [1.0]})

    async def ask() -> None:
        async with AsyncClient(sidecar.target) as client:
            await client.predict(MODEL, {"x": [1.0]})
            with sidecar.hold("ModelStreamInfer") as held:
                stream = await client.stream(MODEL).__aenter__()
                waiting = asyncio.create_task(stream.predict({"x": [1.0]}))
                assert await asyncio.to_thread(held.arrived.wait, 5)
                await stream.__aexit__(ZeroDivisionError, ZeroDivisionError(), None)
                with pytest.raises(CallCancelledError):
                    await waiting

    asyncio.run(ask())


def test_a_sidecar_that_goes_away_ends_the_stream_for_all(sidecar: StandInSidecar) -> None:
    """Who waits and who asks later get NotReachableError; nothing is tried again behind their backs."""
    sidecar.answer(MODEL, {"y": [1.0]})

    async def ask() -> None:
        async with AsyncClient(sidecar.target) as client, client.stream(MODEL) as stream:
            await stream.predict({"x": [1.0]})
            hold = sidecar.hold("ModelStreamInfer")
            waiting = [asyncio.create_task(stream.predict({"x": [1.0]})) for _ in range(3)]
            assert await asyncio.to_thread(hold.arrived.wait, 5)
            assert sidecar._server is not None
            await asyncio.to_thread(sidecar._server.stop(0).wait)
            for each in waiting:
                with pytest.raises((NotReachableError, CallCancelledError)):
                    await each
            with pytest.raises((NotReachableError, CallCancelledError)):
                await stream.predict({"x": [1.0]})
            hold.release()

    asyncio.run(ask())


def test_where_nothing_listens() -> None:
    """Opening a stream sends nothing yet that could fail; the first prediction says that nobody is there."""

    async def ask() -> None:
        async with AsyncClient("unix:/nowhere/data.sock") as client, client.stream(MODEL) as stream:
            with pytest.raises(NotReachableError):
                await stream.predict({"x": [1.0]})

    asyncio.run(ask())
