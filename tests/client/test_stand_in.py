"""The stand-in that applications test against: it has to behave as the sidecar does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest

from model_sidecar_client import (
    Client,
    InternalError,
    InvalidRequestError,
    Operator,
    OverloadedError,
    RefusedError,
)
from model_sidecar_client.testing import StandInSidecar, names
from model_sidecar_client.wire import inference, services

MODEL = "recommendation-v1"
V10, V15 = "2024.01.10.prod", "2024.01.15.prod"


@pytest.fixture
def channel(sidecar: StandInSidecar) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(sidecar.target) as connected:
        yield connected


def test_the_version_changes_between_two_answers(sidecar: StandInSidecar, client: Client) -> None:
    """`answer` again is a flip: the next prediction carries the other version, and the first one is the standby."""
    sidecar.answer(MODEL, {"y": [1.0]}, version=V10)
    before = client.predict(MODEL, {"x": [0.0]})
    sidecar.answer(MODEL, {"y": [2.0]}, version=V15)
    after = client.predict(MODEL, {"x": [0.0]})

    assert [(each.version, each.generation, each.outputs["y"].tolist()) for each in (before, after)] == [
        (V10, 1, [1.0]),
        (V15, 2, [2.0]),
    ]


def test_a_deploy_changes_what_answers(sidecar: StandInSidecar, client: Client, operator: Operator) -> None:
    """Published versions answer once they are deployed, and no longer after a rollback."""
    sidecar.answer(MODEL, {"y": [1.0]}, version=V10)
    sidecar.publish(MODEL, V15, {"y": [2.0]})

    operator.deploy(MODEL, V15, environment="prod")
    deployed = client.predict(MODEL, {"x": [0.0]})
    operator.rollback(MODEL, environment="prod")
    rolled_back = client.predict(MODEL, {"x": [0.0]})

    assert [(each.version, each.outputs["y"].tolist()) for each in (deployed, rolled_back)] == [
        (V15, [2.0]),
        (V10, [1.0]),
    ]


def test_a_function_answers_from_the_inputs(sidecar: StandInSidecar, client: Client) -> None:
    """It gets decoded values by name; what it raises becomes INTERNAL, with the exception in the message."""
    sidecar.answer(MODEL, lambda inputs: {"sum": inputs["a"] + inputs["b"]})
    answer = client.predict(MODEL, {"a": np.array([1, 2]), "b": np.array([10, 20])})

    assert answer.outputs["sum"].tolist() == [11, 22]
    with pytest.raises(InternalError, match="KeyError"):
        client.predict(MODEL, {"a": [1]})


def test_the_next_call_fails_as_told(sidecar: StandInSidecar, client: Client) -> None:
    """Code, reason, facts and pushback arrive as from the real sidecar; the call after that is answered."""
    sidecar.answer(MODEL, {"y": [1.0]})
    sidecar.fail_next(
        "ModelInfer",
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        reason="OVERLOADED",
        message="too much",
        metadata={"limit": "8"},
        retry_after_s=0.5,
    )

    with pytest.raises(OverloadedError, match="too much") as raised:
        client.predict(MODEL, {"x": [1.0]})

    assert (raised.value.reason, raised.value.metadata, raised.value.retry_after_s) == (
        "OVERLOADED",
        {"limit": "8"},
        0.5,
    )
    assert client.predict(MODEL, {"x": [1.0]}).outputs["y"].tolist() == [1.0]


def test_calls_are_noted(sidecar: StandInSidecar, client: Client) -> None:
    """Method, message, metadata and decoded inputs of every call can be looked at, failed ones included."""
    sidecar.answer(MODEL, {"y": [1.0]})
    sidecar.fail_next("ModelInfer", grpc.StatusCode.INTERNAL)
    with pytest.raises(InternalError):
        client.predict(MODEL, {"x": [[1.0, 2.0]]}, metadata=[("user", "u1")])

    (noted,) = sidecar.received("ModelInfer")
    assert noted.inputs["x"].tolist() == [[1.0, 2.0]]
    assert noted.metadata["user"] == "u1"
    assert [each.method for each in sidecar.received()] == ["ModelMetadata", "ModelInfer"]


def test_a_held_call_is_answered_after_release(sidecar: StandInSidecar, client: Client) -> None:
    """A test can act while a call is under way, without sleeping."""
    sidecar.answer(MODEL, {"y": [1.0]}, version=V10)
    versions = []
    with sidecar.hold("ModelInfer") as held:
        asking = threading.Thread(target=lambda: versions.append(client.predict(MODEL, {"x": [1.0]}).version))
        asking.start()
        assert held.arrived.wait(5)
        sidecar.answer(MODEL, {"y": [2.0]}, version=V15)
        assert versions == []
    asking.join(5)

    assert versions == [V15]


def test_typed_requests_get_typed_answers(sidecar: StandInSidecar, channel: grpc.Channel) -> None:
    """The encoding is mirrored: a client that speaks typed contents can be tested too."""
    sidecar.answer(MODEL, lambda inputs: {"y": inputs["x"], "s": ["a"]})
    request = inference.ModelInferRequest(model_name=MODEL)
    tensor = request.inputs.add(name="x", datatype="INT32", shape=[2])
    tensor.contents.int_contents.extend([1, -2])

    reply = services.multicallables(channel, services.INFERENCE).ModelInfer(request, timeout=5)

    assert not reply.raw_output_contents
    assert [list(reply.outputs[0].contents.int_contents), list(reply.outputs[1].contents.bytes_contents)] == [
        [1, -2],
        [b"a"],
    ]


def test_inputs_that_lie_are_refused(sidecar: StandInSidecar, channel: grpc.Channel) -> None:
    """Bytes that do not fit their shape are INVALID_ARGUMENT, not a dead stand-in."""
    sidecar.answer(MODEL, {"y": [1.0]})
    request = inference.ModelInferRequest(model_name=MODEL, raw_input_contents=[bytes(3)])
    request.inputs.add(name="x", datatype="FP32", shape=[1])

    with pytest.raises(grpc.RpcError) as raised:
        services.multicallables(channel, services.INFERENCE).ModelInfer(request, timeout=5)

    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_wrong_inputs_and_outputs_are_refused(sidecar: StandInSidecar, client: Client) -> None:
    """With declared inputs, others are refused; so is an output that the answer does not have."""
    sidecar.answer(MODEL, {"y": [1.0]}, inputs={"x": "FP32"})

    with pytest.raises(InvalidRequestError, match="no output 'z'"):
        client.predict(MODEL, {"x": [1.0]}, outputs=["z"])
    with pytest.raises(InvalidRequestError, match="has no input 'w'"):
        client.predict(MODEL, {"w": [1.0]})


def test_a_sidecar_of_one_environment(operator: Operator, sidecar: StandInSidecar) -> None:
    """What it does not serve it does not deploy."""
    sidecar.publish(MODEL, V10)

    with pytest.raises(Exception, match="serves environment 'prod', not 'staging'"):
        operator.deploy(MODEL, V10, environment="staging")


def test_a_request_id_of_another_request(operator: Operator, sidecar: StandInSidecar) -> None:
    """An id that was used for something else is refused, as the sidecar does."""
    sidecar.publish(MODEL, V10)
    operator.deploy(MODEL, V10, environment="prod", request_id="r1")

    with pytest.raises(InvalidRequestError) as raised:
        operator.rollback(MODEL, environment="prod", request_id="r1")

    assert raised.value.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    "method", ["Nope", "modelinfer", "_status", "__init__", "RepositoryIndex", ""], ids=repr
)
def test_a_method_that_there_is_not(sidecar: StandInSidecar, method: str) -> None:
    """A typing mistake in a plan, or in a look at the calls, is no silent pass."""
    for plan in (
        lambda: sidecar.fail_next(method, grpc.StatusCode.INTERNAL),
        lambda: sidecar.hold(method),
        lambda: sidecar.received(method),
    ):
        with pytest.raises(ValueError, match=r"is not one of the stand-in's: expected one of .*ModelInfer"):
            plan()


def test_a_failure_that_fails_nothing(sidecar: StandInSidecar) -> None:
    """No calls, or a status that is none, is a mistake."""
    with pytest.raises(ValueError, match="expected at least 1"):
        sidecar.fail_next("Deploy", grpc.StatusCode.INTERNAL, times=0)
    with pytest.raises(ValueError, match="and an error"):
        sidecar.fail_next("Deploy", grpc.StatusCode.OK)


def test_what_the_sidecar_refuses_cannot_be_published(sidecar: StandInSidecar) -> None:
    """Names off the grammar and datatypes that there are not are refused, and nothing is there afterwards."""
    with pytest.raises(ValueError, match="model name 'M!' is not valid"):
        sidecar.answer("M!", {"y": [1.0]})
    with pytest.raises(ValueError, match="version name 'v1' is not valid"):
        sidecar.answer(MODEL, {"y": [1.0]}, version="v1")
    with pytest.raises(ValueError, match="a date that the calendar has"):
        sidecar.publish(MODEL, "2024.01.99.prod")
    with pytest.raises(ValueError, match="input 'x': found 'FP23', expected one of BOOL"):
        sidecar.publish(MODEL, V10, inputs={"x": "FP23"})
    with pytest.raises(ValueError, match="environment name 'Prod' is not valid"):
        StandInSidecar(environment="Prod")
    with Operator(sidecar.target) as operator:
        assert operator.status() == []


def verdict(check: Callable[[str], str], text: str, refusal: type[Exception]) -> str | None:
    try:
        return check(text)
    except refusal:
        return None


def test_names_are_the_sidecars() -> None:
    """The stand-in's grammar of names is the real one's."""
    real = pytest.importorskip("model_sidecar.release.names", reason="the sidecar is not installed")
    stage, further = (
        "a" * 32,
        (V10, "2024.02.30.prod", "2024.01.15.7.prod", "2024.01.15.0.prod", "2024.1.1.x", "v1"),
    )
    samples = (
        "",
        "a",
        "A",
        "a" * 63,
        "a" * 64,
        "m.n_o-p",
        "-a",
        "a\n",
        "é",
        "environments",
        "environments2",
        "0",
        "a/b",
    )
    for text in (
        *samples,
        stage,
        stage + "a",
        *further,
        f"2024.01.15.{stage}",
        f"2024.01.15.{stage}a",
        V10 + "\n",
    ):
        for kind in ("model", "environment", "version"):
            its = verdict(getattr(real, f"parse_{kind}"), text, real.InvalidNameError)
            assert verdict(getattr(names, f"checked_{kind}"), text, ValueError) == its, (kind, text)


def test_a_name_off_the_grammar_is_not_merely_unknown(sidecar: StandInSidecar, operator: Operator) -> None:
    """Deploy and rollback tell a typing mistake from a version that is not there, as the sidecar does."""
    sidecar.answer(MODEL, {"y": [1.0]}, version=V10)

    with pytest.raises(InvalidRequestError) as deploying:
        operator.deploy(MODEL, "2024.01.99.prod", environment="prod")
    with pytest.raises(InvalidRequestError) as rolling_back:
        operator.rollback(MODEL, environment="prod", version="v1")

    assert [each.value.reason for each in (deploying, rolling_back)] == ["INVALID_NAME"] * 2


def test_status_of_one_environment(sidecar: StandInSidecar, operator: Operator) -> None:
    """Without a model, only the models of the environment that was asked for are listed."""
    sidecar.answer(MODEL, {"y": [1.0]})

    assert len(operator.status(environment="prod")) == 1
    assert operator.status(environment="staging") == []


def test_nothing_to_roll_back_to(operator: Operator, sidecar: StandInSidecar) -> None:
    """The first version has no previous one."""
    sidecar.answer(MODEL, {"y": [1.0]}, version=V10)

    with pytest.raises(RefusedError) as raised:
        operator.rollback(MODEL, environment="prod")

    assert raised.value.reason == "NO_PREVIOUS_VERSION"


def test_a_stand_in_that_was_not_started_says_so() -> None:
    """The commonest mistake has a clear message."""
    with pytest.raises(RuntimeError, match="with StandInSidecar"):
        _ = StandInSidecar().target
