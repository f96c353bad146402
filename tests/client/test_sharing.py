"""What the client asks, and in which order, where tensors are large: its exchanges, driven by hand; the regions are real."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message

from model_sidecar_client import (
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    NotSupportedError,
    OverloadedError,
    Prediction,
    SidecarError,
)
from model_sidecar_client.exchange import Ask, Exchange
from model_sidecar_client.inference import PredictCall, Signatures, predict
from model_sidecar_client.sharing import Sharing
from model_sidecar_client.wire import inference as wire

ROWS = np.arange(1 << 18, dtype=np.float32).reshape(1, -1)
TARGET = "unix:/nobody.sock"
WITH = wire.ServerMetadataResponse(extensions=["system_shared_memory"])
WITHOUT = wire.ServerMetadataResponse(extensions=["statistics"])
METADATA = wire.ModelMetadataResponse(name="m")
METADATA.inputs.add(name="x", datatype="FP32", shape=[-1, -1])
METADATA.outputs.add(name="y", datatype="FP32", shape=[-1, -1])
DONE = wire.SystemSharedMemoryRegisterResponse()

Reply = Message | SidecarError


class Conversation:
    """One client's exchanges, whose answers a test gives."""

    def __init__(self, target: str = TARGET, *, must: bool = False) -> None:
        self.signatures = Signatures()
        self.sharing = Sharing(target, must=must)
        self.exchange: Exchange[Prediction]

    def begin(self, rows: Any = ROWS) -> Ask:
        """Ask for a prediction; what the client asks first."""
        call = PredictCall(model="m", inputs={"x": rows})
        self.exchange = predict(call, self.signatures, self.sharing)
        return self._asked(next(self.exchange))

    def reply(self, reply: Reply) -> Ask:
        """Answer; what the client asks next."""
        step = self.exchange.throw(reply) if isinstance(reply, SidecarError) else self.exchange.send(reply)
        return self._asked(step)

    def end(self, reply: Reply) -> Prediction:
        """Answer; the prediction that comes of it."""
        with pytest.raises(StopIteration) as caught:
            self.reply(reply)
        found: Prediction = caught.value.value
        return found

    def up_to_infer(self) -> wire.ModelInferRequest:
        """A prediction, with every question before it answered as a sidecar with shared memory does."""
        ask = self.begin()
        answers: dict[str, Message] = {
            "ModelMetadata": METADATA,
            "ServerMetadata": WITH,
            "SystemSharedMemoryRegister": DONE,
        }
        while ask.method != "ModelInfer":
            ask = self.reply(answers[ask.method])
        assert isinstance(ask.request, wire.ModelInferRequest)
        return ask.request

    @staticmethod
    def _asked(step: object) -> Ask:
        assert isinstance(step, Ask)
        return step


def region_of(tensor: Any) -> str:
    """Which region this tensor is said to lie in; "" for none."""
    parameters = tensor.parameters
    return parameters["shared_memory_region"].string_param if "shared_memory_region" in parameters else ""


def echoed(rows: Any = ROWS) -> wire.ModelInferResponse:
    """An answer by message."""
    reply = wire.ModelInferResponse(model_name="m", model_version="v", raw_output_contents=[rows.tobytes()])
    reply.outputs.add(name="y", datatype="FP32", shape=rows.shape)
    return reply


def test_it_is_asked_for_once_and_a_region_is_used_again() -> None:
    """The first large prediction asks what is offered; once it is known how large an answer is, that goes by region, too."""
    talk = Conversation()
    first = talk.up_to_infer()
    assert region_of(first.inputs[0])
    assert (len(first.raw_input_contents), len(first.outputs)) == (0, 0)
    np.testing.assert_array_equal(talk.end(echoed()).outputs["y"], ROWS)
    second = talk.up_to_infer()
    region = region_of(second.inputs[0])
    assert region_of(second.outputs[0]) == region != region_of(first.inputs[0]), (
        "it had room for the input only"
    )
    talk.end(echoed())

    ask = talk.begin()

    assert ask.method == "ModelInfer"
    assert region_of(ask.request.inputs[0]) == region  # type: ignore[union-attr]  # a ModelInferRequest


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (DeadlineError("no answer in time"), False),
        (OverloadedError("too much", reason="OVERLOADED"), True),
        (InvalidRequestError("a NaN too many", reason="INVALID_INPUT"), True),
    ],
)
def test_a_region_is_used_again_only_after_an_answer(error: SidecarError, again: bool) -> None:
    """What the sidecar has answered, be it an error, is over; where it has not, it may still write to the region."""
    talk = Conversation()
    before = region_of(talk.up_to_infer().inputs[0])
    with pytest.raises(type(error)):
        talk.reply(error)

    assert (region_of(talk.up_to_infer().inputs[0]) == before) is again


def test_a_prediction_that_is_dropped_takes_its_region_along() -> None:
    """As a deadline does: a cancelled task says no word."""
    talk = Conversation()
    before = region_of(talk.up_to_infer().inputs[0])
    talk.exchange.close()
    assert region_of(talk.up_to_infer().inputs[0]) != before


def test_a_region_that_is_not_known_any_more_is_made_anew() -> None:
    """After a restart of the sidecar the same prediction is asked for once more, with a region of its own."""
    talk = Conversation()
    before = region_of(talk.up_to_infer().inputs[0])
    ask = talk.reply(NotFoundError("no such region", reason="REGION_NOT_FOUND"))
    assert ask.method == "SystemSharedMemoryRegister"
    ask = talk.reply(DONE)
    assert region_of(ask.request.inputs[0]) not in ("", before)  # type: ignore[union-attr]  # a ModelInferRequest
    np.testing.assert_array_equal(talk.end(echoed()).outputs["y"], ROWS)


def test_an_output_that_did_not_fit_goes_by_message_from_then_on() -> None:
    """Where the shapes of the inputs do not say how large an output is, it is not guessed twice."""
    talk = Conversation()
    talk.up_to_infer()
    talk.end(echoed())
    assert len(talk.up_to_infer().outputs) == 1
    ask = talk.reply(InvalidRequestError("too large", reason="REGION_INVALID"))
    assert ask.method == "ModelInfer"
    assert len(ask.request.raw_input_contents) == 1  # type: ignore[union-attr]  # a ModelInferRequest
    talk.end(echoed())
    assert len(talk.up_to_infer().outputs) == 0


@pytest.mark.parametrize("must", [False, True])
@pytest.mark.parametrize(
    "answers",
    [
        {"ServerMetadata": WITHOUT},
        {
            "ServerMetadata": WITH,
            "SystemSharedMemoryRegister": InvalidRequestError("no such object", reason="REGION_INVALID"),
        },
    ],
    ids=["not offered", "not seen"],
)
def test_where_it_cannot_be_the_message_goes_as_ever(answers: dict[str, Reply], must: bool) -> None:
    """Nobody is told, and nobody asks again at once; who insists is told."""
    talk = Conversation(must=must)
    ask = talk.begin()
    told = {"ModelMetadata": METADATA, **answers}
    if must:
        *before, last = [told[name] for name in ("ModelMetadata", *answers)]
        for reply in before:
            talk.reply(reply)
        with pytest.raises(NotSupportedError):
            talk.reply(last)
        return
    while ask.method != "ModelInfer":
        ask = talk.reply(told[ask.method])
    assert len(ask.request.raw_input_contents) == 1  # type: ignore[union-attr]  # a ModelInferRequest
    talk.end(echoed())
    assert talk.begin().method == "ModelInfer"


def test_what_is_small_or_far_away_asks_for_nothing() -> None:
    """Neither a small tensor nor a sidecar on another machine is worth a question."""
    for talk, rows in ((Conversation(), ROWS[:, :1000]), (Conversation("far.example:8001"), ROWS)):
        assert talk.begin(rows).method == "ModelMetadata"
        assert talk.reply(METADATA).method == "ModelInfer"
