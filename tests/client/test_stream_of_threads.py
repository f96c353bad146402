"""`Client.stream`: what `test_stream` asks of tasks, of threads; and that its own threads end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from model_sidecar_client import (
    CallCancelledError,
    Client,
    DeadlineError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    NotReachableError,
    OverloadedError,
    Prediction,
    UnavailableError,
)
from model_sidecar_client.pipes import Pipe
from model_sidecar_client.testing import StandInSidecar
from model_sidecar_client.wire.inference import ModelInferRequest, ModelStreamInferResponse

MODEL = "recommendation-v1"
V15 = "2024.01.15.prod"
PATIENCE_S = 10.0


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Neither a stream's own nor gRPC's, which nobody can join: hence the wait."""
    before = set(threading.enumerate())
    yield
    end = time.monotonic() + PATIENCE_S
    while left := [
        each for each in threading.enumerate() if each not in before and not each.name.startswith("stand-in")
    ]:
        assert time.monotonic() < end, left
        time.sleep(0.01)


def test_many_threads_ask_at_once_and_each_gets_its_own_answer(
    sidecar: StandInSidecar, client: Client, threads: ThreadPoolExecutor
) -> None:
    """Four hundred predictions by sixteen threads over one stream."""
    sidecar.answer(MODEL, lambda inputs: {"y": np.asarray(inputs["x"]) * 2}, version=V15)

    with client.stream(MODEL) as stream:

        def ask(x: int) -> Prediction:
            return stream.predict({"x": [float(x)]}, request_id=f"{x}")

        answers = list(threads.map(ask, range(400)))

    assert [(each.outputs["y"].tolist(), each.id) for each in answers] == [
        ([2.0 * x], f"{x}") for x in range(400)
    ]
    assert {(each.version, each.model) for each in answers} == {(V15, MODEL)}
    assert len(sidecar.received("ModelStreamInfer")) == 400
    assert not sidecar.received("ModelInfer")


def test_the_stream_s_metadata_and_the_client_s_are_sent(sidecar: StandInSidecar) -> None:
    """Once, with the stream, as those of a call are."""
    sidecar.answer(MODEL, {"y": [1.0]})
    with (
        Client(sidecar.target, metadata=[("of", "client")]) as client,
        client.stream(MODEL, metadata=[("for", "stream")]) as stream,
    ):
        stream.predict({"x": [1.0]})
    (received,) = sidecar.received("ModelStreamInfer")
    assert {"of": "client", "for": "stream"}.items() <= received.metadata.items()


def test_an_error_is_one_prediction_s_own(sidecar: StandInSidecar, client: Client) -> None:
    """The same classes, reasons and facts as from a call; whoever asks after it is answered."""
    sidecar.answer(MODEL, {"y": [1.0]}, inputs={"x": "FP32"})

    with client.stream(MODEL) as stream:
        sidecar.fail_next(
            "ModelStreamInfer", grpc.StatusCode.RESOURCE_EXHAUSTED, reason="OVERLOADED", retry_after_s=0.5
        )
        with pytest.raises(OverloadedError, match="was told to fail") as overloaded:
            stream.predict({"x": [1.0]})
        assert (overloaded.value.retry_after_s, overloaded.value.reason) == (0.5, "OVERLOADED")
        sidecar.fail_next("ModelStreamInfer", grpc.StatusCode.UNAVAILABLE, reason="NOTHING_LIVE")
        with pytest.raises(UnavailableError, match="NOTHING_LIVE"):
            stream.predict({"x": [1.0]})
        with pytest.raises(NotFoundError):
            stream.predict({"x": [1.0]}, version="2023.01.01.prod")
        with pytest.raises(InvalidRequestError, match="has no input 'z'") as invalid:
            stream.predict({"z": [1.0]})
        assert invalid.value.metadata["tensor"] == "z"
        assert stream.predict({"x": [1.0]}).outputs["y"].tolist() == [1.0]


def test_what_a_model_takes_is_learned_anew_after_a_flip(sidecar: StandInSidecar, client: Client) -> None:
    """A version that takes another datatype goes live in mid-stream, and the next prediction fits it."""
    sidecar.answer(MODEL, {"y": [1.0]}, inputs={"x": "FP32"})
    with client.stream(MODEL) as stream:
        stream.predict({"x": [1.0]})
        sidecar.answer(MODEL, {"y": [2.0]}, version=V15, inputs={"x": "FP64"})
        assert stream.predict({"x": [1.0]}).version == V15


def test_a_prediction_that_is_late_leaves_the_others_theirs(
    sidecar: StandInSidecar, client: Client, threads: ThreadPoolExecutor
) -> None:
    """Answers that nobody waits for any more are passed over, and those behind them go where they belong."""
    sidecar.answer(MODEL, lambda inputs: {"y": inputs["x"]})

    with client.stream(MODEL) as stream:
        stream.predict({"x": [0.0]})
        with sidecar.hold("ModelStreamInfer") as held:
            late = threads.submit(stream.predict, {"x": [1.0]}, timeout_s=0.2)
            assert held.arrived.wait(PATIENCE_S)
            patient = threads.submit(stream.predict, {"x": [3.0]})
            with pytest.raises(DeadlineError, match=r"within 0\.2 s"):
                late.result()
        assert patient.result().outputs["y"].tolist() == [3.0]
        assert stream.predict({"x": [4.0]}, timeout_s=1e300).outputs["y"].tolist() == [4.0]


def test_one_that_is_given_up_in_time_is_not_sent(
    sidecar: StandInSidecar, threads: ThreadPoolExecutor
) -> None:
    """Behind a sidecar that does not read, questions that nobody waits for any more are dropped here."""
    sidecar.answer(MODEL, {"y": [1.0]})
    large = np.zeros(4 << 20, np.float32)  # far beyond what HTTP/2 sends unread

    with Client(sidecar.target, shared_memory=False) as client, client.stream(MODEL) as stream:
        stream.predict({"x": [1.0]})
        with sidecar.hold("ModelStreamInfer") as held:
            first = threads.submit(stream.predict, {"x": [1.0]}, request_id="first", timeout_s=60)
            assert held.arrived.wait(PATIENCE_S)
            second = threads.submit(stream.predict, {"x": large}, request_id="second", timeout_s=60)
            assert stream._pipe is not None
            while len(stream._pipe._awaited) < 2:
                time.sleep(0.001)
            with pytest.raises(DeadlineError):
                stream.predict({"x": [1.0]}, request_id="third", timeout_s=0.2)
        first.result()
        second.result()
        stream.predict({"x": [1.0]}, request_id="fourth")
    requests = [each.request for each in sidecar.received("ModelStreamInfer")]
    asked = [each.id for each in requests if isinstance(each, ModelInferRequest)]
    assert asked == ["", "first", "second", "fourth"]


def test_leaving_the_block_waits_for_what_was_asked(
    sidecar: StandInSidecar, client: Client, threads: ThreadPoolExecutor
) -> None:
    """Threads that still wait when the block ends are answered; after that the stream takes no more."""
    sidecar.answer(MODEL, {"y": [1.0]})

    with sidecar.hold("ModelStreamInfer") as held, client.stream(MODEL) as stream:
        waiting = [threads.submit(stream.predict, {"x": [1.0]}) for _ in range(8)]
        assert held.arrived.wait(PATIENCE_S)
        assert stream._pipe is not None
        while len(stream._pipe._awaited) < len(waiting):
            time.sleep(0.001)  # until all of them have been sent
        threading.Timer(0.1, held.release).start()
    assert [each.result().outputs["y"].tolist() for each in waiting] == [[1.0]] * 8
    with pytest.raises(RuntimeError, match="closed"):
        stream.predict({"x": [1.0]})
    with pytest.raises(RuntimeError, match="opened once"):
        stream.__enter__()
    with pytest.raises(RuntimeError, match="not open"):
        client.stream(MODEL).predict({"x": [1.0]})


def test_leaving_it_waits_no_longer_than_for_a_call(
    sidecar: StandInSidecar, threads: ThreadPoolExecutor
) -> None:
    """What has no answer by then is cancelled."""
    sidecar.answer(MODEL, {"y": [1.0]})
    with Client(sidecar.target, timeout_s=0.5) as client, sidecar.hold("ModelStreamInfer") as held:
        with client.stream(MODEL) as stream:
            waiting = threads.submit(stream.predict, {"x": [1.0]}, timeout_s=60)
            assert held.arrived.wait(PATIENCE_S)
        with pytest.raises(CallCancelledError, match="closed before the answer"):
            waiting.result()


def test_leaving_it_by_an_exception_does_not_wait(
    sidecar: StandInSidecar, client: Client, threads: ThreadPoolExecutor
) -> None:
    """The stream is cancelled, and whoever waits on it is told."""
    sidecar.answer(MODEL, {"y": [1.0]})
    client.predict(MODEL, {"x": [1.0]})
    with sidecar.hold("ModelStreamInfer") as held:
        stream = client.stream(MODEL).__enter__()
        waiting = threads.submit(stream.predict, {"x": [1.0]}, timeout_s=60)
        assert held.arrived.wait(PATIENCE_S)
        stream.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
        with pytest.raises(CallCancelledError, match="closed before the answer"):
            waiting.result()


def test_closing_the_client_ends_its_streams(sidecar: StandInSidecar, threads: ThreadPoolExecutor) -> None:
    """Whoever waits is told, as those who wait for calls are; later ones too, and the block can still be left."""
    sidecar.answer(MODEL, {"y": [1.0]})
    client = Client(sidecar.target)
    client.predict(MODEL, {"x": [1.0]})
    with sidecar.hold("ModelStreamInfer") as held, client.stream(MODEL) as stream:
        waiting = threads.submit(stream.predict, {"x": [1.0]}, timeout_s=60)
        assert held.arrived.wait(PATIENCE_S)
        client.close()
        with pytest.raises(CallCancelledError):
            waiting.result()
        with pytest.raises(CallCancelledError):
            stream.predict({"x": [1.0]})
    with pytest.raises(RuntimeError, match="closed"):
        client.stream(MODEL).__enter__()


def test_a_sidecar_that_goes_away_ends_the_stream_for_all(
    sidecar: StandInSidecar, client: Client, threads: ThreadPoolExecutor
) -> None:
    """Who waits and who asks later get NotReachableError; nothing is tried again behind their backs."""
    sidecar.answer(MODEL, {"y": [1.0]})
    with client.stream(MODEL) as stream:
        stream.predict({"x": [1.0]})
        held = sidecar.hold("ModelStreamInfer")
        waiting: list[Future[Prediction]] = [
            threads.submit(stream.predict, {"x": [1.0]}, timeout_s=60) for _ in range(8)
        ]
        assert held.arrived.wait(PATIENCE_S)
        assert sidecar._server is not None
        sidecar._server.stop(0).wait()
        for each in waiting:
            with pytest.raises((NotReachableError, CallCancelledError)):
                each.result()
        with pytest.raises((NotReachableError, CallCancelledError)):
            stream.predict({"x": [1.0]})
        held.release()


def test_where_nothing_listens() -> None:
    """Opening a stream sends nothing yet that could fail; the first prediction says that nobody is there."""
    with (
        Client("unix:/nowhere/data.sock") as client,
        client.stream(MODEL) as stream,
        pytest.raises(NotReachableError),
    ):
        stream.predict({"x": [1.0]})


def test_an_answer_that_nobody_asked_for_ends_the_stream() -> None:
    """A server that says more than it was asked is told off, and no asker gets another's answer."""

    def talk(
        requests: Iterator[ModelInferRequest], context: grpc.ServicerContext
    ) -> Iterator[ModelStreamInferResponse]:
        for request in requests:
            for _ in range(2):
                yield ModelStreamInferResponse(infer_response={"id": request.id})

    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        method = grpc.stream_stream_rpc_method_handler(
            talk, ModelInferRequest.FromString, ModelStreamInferResponse.SerializeToString
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", {"m": method}),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            begin = channel.stream_stream(
                "/s/m", ModelInferRequest.SerializeToString, ModelStreamInferResponse.FromString
            )
            pipe = Pipe(begin, target="there", translated=lambda error: InternalError(str(error)))
            assert pipe.ask(ModelInferRequest(id="1"), left_s=PATIENCE_S, timeout_s=PATIENCE_S).id == "1"
            pipe._reader.join(PATIENCE_S)
            with pytest.raises(InternalError, match="what nobody had asked"):
                pipe.ask(ModelInferRequest(id="2"), left_s=PATIENCE_S, timeout_s=PATIENCE_S)
            pipe.cancel()
        server.stop(0).wait()


def test_a_forked_child_is_told_and_leaves_its_parent_s_stream_alone(sidecar: StandInSidecar) -> None:
    """The child has none of the stream's threads; it is told so at once, may leave the block, and the parent goes on."""
    sidecar.answer(MODEL, {"y": [1.0]})
    program = f"""
import os
from model_sidecar_client import Client

with Client({sidecar.target!r}) as client, client.stream({MODEL!r}) as stream:
    stream.predict({{"x": [1.0]}})
    stream._pipe._ending.acquire()  # as another thread may have just then
    child = os.fork()
    if not child:
        try:
            stream.predict({{"x": [1.0]}})
        except RuntimeError as error:
            stream.__exit__(None, None, None)
            os._exit(7 if "after a fork" in str(error) else 8)
        os._exit(9)
    stream._pipe._ending.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert stream.predict({{"x": [2.0]}}).outputs["y"].tolist() == [1.0]
"""
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=30, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_stream_that_nobody_closes_does_not_keep_the_process(sidecar: StandInSidecar) -> None:
    """As with a client that nobody closes, the process can end."""
    sidecar.answer(MODEL, {"y": [1.0]})
    program = f"""
from model_sidecar_client import Client

stream = Client({sidecar.target!r}).stream({MODEL!r}).__enter__()
assert stream.predict({{"x": [1.0]}}).outputs["y"].tolist() == [1.0]
"""
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=30, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
