"""Predictions for application code, over real gRPC."""

from __future__ import annotations

import gc
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    RefusedError,
    SidecarError,
    TensorSpec,
    UnavailableError,
)
from model_sidecar_client.channels import channel_options
from model_sidecar_client.testing import StandInSidecar
from model_sidecar_client.wire import inference

MODEL = "recommendation-v1"
V10, V15 = "2024.01.10.prod", "2024.01.15.prod"


def doubling(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"y": inputs["x"] * 2}


def test_a_prediction_says_what_computed_it(sidecar: StandInSidecar, client: Client) -> None:
    """Outputs, exact version, prediction id, generation and the echoed request id arrive together."""
    sidecar.answer(MODEL, {"y": [[0.5]], "label": ["cat"]}, version=V15)

    answer = client.predict(MODEL, {"x": [[1.0]]}, request_id="mine")

    assert isinstance(answer, Prediction)
    assert {name: values.tolist() for name, values in answer.outputs.items()} == {
        "y": [[0.5]],
        "label": [b"cat"],
    }
    assert (answer.model, answer.version, answer.generation, answer.id) == (MODEL, V15, 1, "mine")
    assert answer.prediction_id
    assert answer.prediction_id != client.predict(MODEL, {"x": [[1.0]]}).prediction_id


@pytest.mark.parametrize("rows", [[[1, 2]], np.array([[1.0, 2.0]], np.float32)], ids=["lists", "numpy"])
def test_lists_and_arrays_are_the_same_tensor(sidecar: StandInSidecar, client: Client, rows: object) -> None:
    """Lists take the model's datatype, arrays have it."""
    sidecar.answer(MODEL, doubling, version=V15, inputs={"x": "FP32"})

    assert client.predict(MODEL, {"x": rows}).outputs["y"].tolist() == [[2.0, 4.0]]

    request = sidecar.received("ModelInfer")[0].request
    assert isinstance(request, inference.ModelInferRequest)
    assert (request.inputs[0].datatype, list(request.inputs[0].shape)) == ("FP32", [1, 2])
    assert not request.inputs[0].HasField("contents")


def test_float64_rows_are_what_everybody_has(sidecar: StandInSidecar, client: Client) -> None:
    """An array of doubles is rounded to an FP32 input, as a list is; one of floats is no integer input."""
    sidecar.answer(MODEL, doubling, version=V15, inputs={"x": "FP32"})
    sidecar.answer("counts", doubling, version=V15, inputs={"n": "INT32"})

    assert client.predict(MODEL, {"x": np.array([[0.5, 1.5]])}).outputs["y"].tolist() == [[1.0, 3.0]]
    with pytest.raises(InvalidRequestError, match=r"input 'n': found FP64 .*, expected INT32 \(int\)"):
        client.predict("counts", {"n": np.array([1.0])})


@pytest.mark.parametrize("inputs", [[[1]], np.zeros((1, 2)), None, "x", {"x"}], ids=repr)
def test_inputs_have_names(sidecar: StandInSidecar, client: Client, inputs: Any) -> None:
    """Values without names are refused with the form that is expected, before anything is sent."""
    with pytest.raises(
        InvalidRequestError, match=r"found a \w+, expected a mapping of input names to values"
    ) as raised:
        client.predict(MODEL, inputs)

    assert raised.value.reason == "INVALID_INPUT"
    assert sidecar.received() == []


def test_what_a_model_takes_is_asked_once(sidecar: StandInSidecar, client: Client) -> None:
    """Metadata are fetched before the first prediction and remembered."""
    sidecar.answer(MODEL, doubling, inputs={"x": "INT64"})

    for _ in range(3):
        client.predict(MODEL, {"x": [1]})

    assert [each.method for each in sidecar.received()] == ["ModelMetadata", *["ModelInfer"] * 3]


def test_a_new_version_that_takes_another_datatype_is_noticed(
    sidecar: StandInSidecar, client: Client
) -> None:
    """What was remembered of the old version costs one more question, not a failed prediction."""
    sidecar.answer(MODEL, doubling, version=V10, inputs={"x": "INT64"})
    client.predict(MODEL, {"x": [1]})
    sidecar.answer(MODEL, doubling, version=V15, inputs={"x": "FP32"})

    by_the_sidecars_refusal = client.predict(MODEL, {"x": [1]})
    sidecar.answer(MODEL, doubling, version=V10, inputs={"x": "INT64"})
    sidecar.answer(MODEL, doubling, version=V15, inputs={"z": "FP64"})
    with pytest.raises(InvalidRequestError, match=r"has no input 'x': expected z \(FP64 \[-1\]\)"):
        client.predict(MODEL, {"x": [1.5]})

    assert (by_the_sidecars_refusal.version, by_the_sidecars_refusal.outputs["y"].tolist()) == (V15, [2.0])


def test_an_input_that_is_plainly_wrong_stays_wrong(sidecar: StandInSidecar, client: Client) -> None:
    """If the model still takes what it took, the caller gets the first error, and nothing is sent to be computed."""
    sidecar.answer(MODEL, doubling, inputs={"x": "FP32"})
    client.predict(MODEL, {"x": [1.0]})

    with pytest.raises(InvalidRequestError, match=r"input 'x': found BOOL .*, expected FP32") as raised:
        client.predict(MODEL, {"x": np.array([True])})

    assert raised.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(sidecar.received("ModelInfer")) == 1


def test_a_version_can_be_named(sidecar: StandInSidecar, client: Client) -> None:
    """An exact resident version and @previous answer; others are refused by what is wrong with them."""
    for version, value in (("2024.01.01.prod", 1.0), (V10, 2.0), (V15, 3.0)):
        sidecar.answer(MODEL, {"y": [value]}, version=version)

    live, previous, exact = (
        client.predict(MODEL, {"x": [0.0]}, version=each) for each in ("", "@previous", V10)
    )

    assert [(each.version, each.outputs["y"].tolist()) for each in (live, previous, exact)] == [
        (V15, [3.0]),
        (V10, [2.0]),
        (V10, [2.0]),
    ]
    with pytest.raises(RefusedError) as not_resident:
        client.predict(MODEL, {"x": [0.0]}, version="2024.01.01.prod")
    with pytest.raises(NotFoundError) as unknown:
        client.predict(MODEL, {"x": [0.0]}, version="2023.01.01.prod")
    with pytest.raises(NotFoundError) as unknown_model:
        client.predict("nobody", {"x": [0.0]})
    assert [each.value.reason for each in (not_resident, unknown, unknown_model)] == [
        "VERSION_NOT_RESIDENT",
        "VERSION_NOT_FOUND",
        "MODEL_NOT_FOUND",
    ]


def test_outputs_parameters_and_metadata_travel(sidecar: StandInSidecar) -> None:
    """Only the wanted outputs come back; parameters of every kind and both layers of metadata arrive."""
    sidecar.answer(MODEL, {"y": [1.0], "z": [2.0]})
    with Client(sidecar.target, metadata=[("team", "a")]) as client:
        answer = client.predict(
            MODEL,
            {"x": [1.0]},
            outputs=["z"],
            parameters={"flag": True, "count": -3, "weight": 0.5, "note": "é"},
            metadata=[("trace", "t1")],
        )

    received = sidecar.received("ModelInfer")[0]
    assert list(answer.outputs) == ["z"]
    assert isinstance(received.request, inference.ModelInferRequest)
    chosen = {name: each.WhichOneof("parameter_choice") for name, each in received.request.parameters.items()}
    assert chosen == {
        "flag": "bool_param",
        "count": "int64_param",
        "weight": "double_param",
        "note": "string_param",
    }
    assert (received.metadata["team"], received.metadata["trace"]) == ("a", "t1")


def test_a_parameter_that_the_protocol_cannot_carry_is_refused(
    sidecar: StandInSidecar, client: Client
) -> None:
    """Numbers beyond 64 bits, and None, are the caller's mistake."""
    sidecar.answer(MODEL, {"y": [1.0]})
    for value in (1 << 63, None):
        with pytest.raises(InvalidRequestError, match="parameter 'p'"):
            client.predict(MODEL, {"x": [1.0]}, parameters={"p": value})  # type: ignore[dict-item] # the mistake


def test_what_the_wire_cannot_carry_is_the_callers_mistake(sidecar: StandInSidecar, client: Client) -> None:
    """Text that is no Unicode, and metadata off HTTP/2's grammar, are errors of ours like everything else."""
    sidecar.answer(MODEL, {"y": [1.0]})
    no_unicode = "\ud800"
    with pytest.raises(InvalidRequestError):
        client.predict(no_unicode, {"x": [1.0]})
    with pytest.raises(InvalidRequestError):
        client.predict(MODEL, {no_unicode: [1.0]})
    with pytest.raises(InvalidRequestError):
        client.predict(MODEL, {"x": [1.0]}, outputs=[no_unicode])
    wrong: list[tuple[str, str | bytes]] = [
        ("No Spaces", "x"),
        ("a", "é"),
        ("a", b"x"),
        ("a-bin", "x"),
        ("grpc-a", "x"),
    ]
    for each in wrong:
        with pytest.raises(InvalidRequestError, match="cannot be sent"):
            client.predict(MODEL, {"x": [1.0]}, metadata=[each])
        with pytest.raises(InvalidRequestError, match="cannot be sent"):
            Client(sidecar.target, metadata=[each])
    client.predict(MODEL, {"x": [1.0]}, metadata=[("a-bin", b"\xff"), ("a.b_c-1", "x y")])
    assert sidecar.received("ModelInfer")[-1].metadata["a-bin"] == b"\xff"


def test_unavailable_is_tried_again(sidecar: StandInSidecar, client: Client) -> None:
    """Two failures in a row do not reach the caller; the third does, with its reason."""
    sidecar.answer(MODEL, {"y": [1.0]})
    sidecar.fail_next("ModelInfer", grpc.StatusCode.UNAVAILABLE, reason="DRAINING", times=2)
    assert client.predict(MODEL, {"x": [1.0]}).outputs["y"].tolist() == [1.0]

    sidecar.fail_next("ModelInfer", grpc.StatusCode.UNAVAILABLE, reason="NOTHING_LIVE", times=3)
    with pytest.raises(UnavailableError) as raised:
        client.predict(MODEL, {"x": [1.0]})

    assert not isinstance(raised.value, NotReachableError)
    assert raised.value.reason == "NOTHING_LIVE"
    assert len(sidecar.received("ModelInfer")) == 6


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.INTERNAL, InternalError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, OverloadedError),
        (grpc.StatusCode.UNKNOWN, InternalError),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_nothing_else_is_tried_again(
    sidecar: StandInSidecar, client: Client, code: grpc.StatusCode, expected: type[SidecarError]
) -> None:
    """What failed for another reason than UNAVAILABLE reaches the caller at once."""
    sidecar.answer(MODEL, {"y": [1.0]})
    sidecar.fail_next("ModelInfer", code, reason="WHATEVER" if code is grpc.StatusCode.UNKNOWN else "")

    with pytest.raises(expected):
        client.predict(MODEL, {"x": [1.0]})

    assert len(sidecar.received("ModelInfer")) == 1


def test_a_prediction_that_hangs_ends_in_its_deadline(sidecar: StandInSidecar, client: Client) -> None:
    """The deadline covers the whole prediction, and the sidecar is told of it."""
    sidecar.answer(MODEL, {"y": [1.0]})
    with sidecar.hold("ModelInfer") as held:
        started = time.monotonic()
        with pytest.raises(DeadlineError, match=r"ModelInfer: no answer from .* within 0\.2 s"):
            client.predict(MODEL, {"x": [1.0]}, timeout_s=0.2)
        assert held.arrived.wait(5)

    assert time.monotonic() - started < 3


def test_closing_ends_waiting_calls(sidecar: StandInSidecar) -> None:
    """A call that waits in another thread fails when the client is closed, and a closed client makes no calls."""
    sidecar.answer(MODEL, {"y": [1.0]})
    client = Client(sidecar.target)
    failures: list[BaseException] = []

    def predict() -> None:
        try:
            client.predict(MODEL, {"x": [1.0]})
        except SidecarError as error:
            failures.append(error)

    with sidecar.hold("ModelInfer") as held:
        waiting = threading.Thread(target=predict)
        waiting.start()
        assert held.arrived.wait(5)
        client.close()
        client.close()
        waiting.join(5)

    assert [type(each) for each in failures] == [CallCancelledError]
    with pytest.raises(RuntimeError, match="closed"):
        client.is_ready()


def test_an_unclosed_client_warns(sidecar: StandInSidecar) -> None:
    """A client that is dropped without close() says so, and where it led."""

    def forget() -> None:
        Client(sidecar.target)
        gc.collect()

    with pytest.warns(ResourceWarning, match=f"unclosed connection to {sidecar.target}"):
        forget()


def test_readiness(sidecar: StandInSidecar, client: Client) -> None:
    """A sidecar is ready when its models are; an unknown model and an unreachable sidecar are not."""
    sidecar.publish(MODEL, V15)
    before = (client.is_ready(), client.is_ready(MODEL), client.is_ready("nobody"))
    sidecar.answer(MODEL, {"y": [1.0]}, version=V15)
    after = (client.is_ready(), client.is_ready(MODEL), client.is_ready("nobody"))
    with Client("unix:/nowhere/data.sock") as nowhere:
        unreachable = nowhere.is_ready()

    assert (before, after, unreachable) == ((False, False, False), (True, True, False), False)


def test_waiting_for_a_sidecar_that_starts_later(sidecar: StandInSidecar) -> None:
    """wait_ready outlasts a sidecar that is not there, then one that is not ready, and returns when it can answer."""
    sidecar.publish(MODEL, V15)
    with tempfile.TemporaryDirectory(prefix="late-") as directory:
        socket = Path(directory) / "data.sock"
        with Client(f"unix:{socket}") as client:
            not_there = client.is_ready(MODEL)
            # Now the socket appears, where a connection has already failed.
            socket.symlink_to(sidecar.target.removeprefix("unix:"))
            with sidecar.hold("ModelReady") as held:
                waiting = threading.Thread(target=client.wait_ready, args=(MODEL,), kwargs={"timeout_s": 20})
                waiting.start()
                assert held.arrived.wait(10)
            answered_not_ready = client.is_ready(MODEL)
            sidecar.answer(MODEL, {"y": [1.0]}, version=V15)
            waiting.join(20)

            assert (not_there, answered_not_ready, waiting.is_alive()) == (False, False, False)
            assert client.predict(MODEL, {"x": [1.0]}).version == V15


def test_waiting_for_nobody_says_so() -> None:
    """The error of wait_ready tells a sidecar that is not there from one that is not ready."""
    with (
        Client("unix:/nowhere/data.sock") as nowhere,
        pytest.raises(DeadlineError, match="nothing answers there"),
    ):
        nowhere.wait_ready(timeout_s=0.3)
    with (
        StandInSidecar() as sidecar,
        Client(sidecar.target) as client,
        pytest.raises(DeadlineError, match="model 'm' is not ready: it answers, but has nothing live"),
    ):
        client.wait_ready("m", timeout_s=0.3)


def test_metadata(sidecar: StandInSidecar, client: Client) -> None:
    """A model says what it takes and which versions can answer, the live one first."""
    sidecar.answer(MODEL, {"y": [1.0]}, version=V10)
    sidecar.answer(MODEL, {"y": [1.0]}, version=V15, inputs={"x": "FP32"})

    metadata = client.model_metadata(MODEL)

    assert (metadata.model, metadata.versions, metadata.platform) == (MODEL, (V15, V10), "onnx_onnxv1")
    assert metadata.inputs == (TensorSpec("x", "FP32", (-1,)),)
    assert client.server_metadata().name == "model-sidecar-stand-in"


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("", "expected unix:"),
        ("/run/sidecar/data.sock", "such as unix:/run/sidecar/data.sock"),
        ("http://127.0.0.1:8001", "is a URL"),
        ("127.0.0.1", "names no port"),
        ("unix:", "names no port"),
        (" unix:/x", "expected unix:"),
    ],
)
def test_a_target_that_can_lead_nowhere_is_refused(target: str, says: str) -> None:
    """To gRPC these would be host names; the error says what was meant."""
    with pytest.raises(InvalidRequestError, match=says):
        Client(target)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
def test_a_call_has_a_deadline(timeout_s: float) -> None:
    """No timeout means the default one, and none that is no deadline is taken."""
    with pytest.raises(InvalidRequestError, match="timeout_s"):
        Client("unix:/x", timeout_s=timeout_s)


@pytest.mark.parametrize("form", ["unix:{}", "unix://{}"])
def test_both_forms_of_a_socket_path(sidecar: StandInSidecar, form: str) -> None:
    """unix:/p and unix:///p are the same socket."""
    with Client(form.format(sidecar.target.removeprefix("unix:"))) as client:
        assert client.server_metadata().name


def test_tcp_without_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local target is never sought behind http_proxy."""
    for name in ("http_proxy", "grpc_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with StandInSidecar(tcp=True) as sidecar, Client(sidecar.target) as client:
        assert client.server_metadata().name

    remote, local = (dict(channel_options(each, ())) for each in ("models.example:8001", "localhost:8001"))
    assert ("grpc.enable_http_proxy" in remote, local["grpc.enable_http_proxy"]) == (False, 0)


def test_large_tensors_pass(sidecar: StandInSidecar, client: Client) -> None:
    """The client does not keep gRPC's default limit of 4 MiB."""
    sidecar.answer(MODEL, doubling, inputs={"x": "FP32"})
    rows = np.ones((2, 1 << 20), np.float32)

    assert client.predict(MODEL, {"x": rows}).outputs["y"].sum() == rows.sum() * 2


def test_many_threads_share_a_client(sidecar: StandInSidecar, client: Client) -> None:
    """Every thread gets the answer to its own question."""
    sidecar.answer(MODEL, doubling, inputs={"x": "INT64"})
    answers: dict[int, list[int]] = {}

    def ask(number: int) -> None:
        answers[number] = [
            client.predict(MODEL, {"x": [number + each]}).outputs["y"].item() for each in range(20)
        ]

    threads = [threading.Thread(target=ask, args=(number * 1000,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == {
        number * 1000: [2 * (number * 1000 + each) for each in range(20)] for number in range(6)
    }
