"""Messages of very many parts are refused before they are parsed; no others are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_sidecar.errors import InvalidRequestError
from model_sidecar.rpc.convert import parse_request
from model_sidecar.rpc.parts import MOST_PARTS, check_parts
from model_sidecar_client.wire.inference import ModelInferRequest


def of_inputs(count: int) -> ModelInferRequest:
    made = ModelInferRequest()
    for _ in range(count):
        made.inputs.add()
    return made


def of_outputs(count: int) -> ModelInferRequest:
    made = ModelInferRequest()
    for _ in range(count):
        made.outputs.add()
    return made


def of_parameters(count: int) -> ModelInferRequest:
    made = ModelInferRequest()
    for number in range(count):
        made.parameters[str(number)].bool_param = True
    return made


def of_parameters_of_an_input(count: int) -> ModelInferRequest:
    made = of_inputs(1)
    for number in range(count - 1):
        made.inputs[0].parameters[str(number)].bool_param = True
    return made


def of_raws(count: int) -> ModelInferRequest:
    return ModelInferRequest(raw_input_contents=[b""] * count)


KINDS = (of_inputs, of_outputs, of_parameters, of_parameters_of_an_input, of_raws)


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_of_too_many_parts_is_refused(kind: Callable[[int], ModelInferRequest]) -> None:
    """Whichever parts: as many as may be are let through, one more is not, and what may be instead is said."""
    check_parts(kind(MOST_PARTS).SerializeToString())
    with pytest.raises(InvalidRequestError, match=f"more than {MOST_PARTS} parts .*send fewer"):
        parse_request(kind(MOST_PARTS + 1).SerializeToString())


def test_elements_of_typed_contents_are_no_parts() -> None:
    """A tensor of a million numbers or a hundred thousand texts is two or three parts."""
    made = of_inputs(2)
    made.inputs[0].contents.fp32_contents.extend([0.5] * 1_000_000)
    made.inputs[1].contents.bytes_contents.extend([b"text"] * 100_000)
    assert parse_request(made.SerializeToString()) == made


def test_a_shape_that_no_array_has_is_refused() -> None:
    """Dimensions stand in one part, however many they are."""
    made = of_inputs(1)
    made.inputs[0].shape.extend([1 << 40] * 64)
    made.raw_input_contents.append(b"x" * 2 * MOST_PARTS)
    assert parse_request(made.SerializeToString()) == made
    made.inputs[0].shape.extend([1] * 100_000)
    with pytest.raises(
        InvalidRequestError, match="shape of a tensor has 100384 bytes: expected 1024 at most"
    ):
        parse_request(made.SerializeToString())


def test_more_inputs_than_any_model_has_are_refused() -> None:
    """Also in a small message: each input would be looked at on the loop."""
    with pytest.raises(InvalidRequestError, match="has 2049 inputs: expected 2048 at most"):
        parse_request(of_inputs(2049).SerializeToString())


@pytest.mark.parametrize(
    "tail",
    [
        b"\x2a",
        b"\x2a\xff",
        b"\x2a\x7f",
        b"\xff" * 11,
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0f",
    ],
)
def test_bytes_that_are_no_message_are_left_to_the_parser(tail: bytes) -> None:
    """A field that is cut off, of an absurd length, or of no kind: its words are the better ones."""
    head = ModelInferRequest(raw_input_contents=[b"x" * 2 * MOST_PARTS]).SerializeToString()
    with pytest.raises(InvalidRequestError, match=r"is not an inference\.ModelInferRequest"):
        parse_request(head + tail)


def test_a_flood_does_not_hide_behind_what_nobody_reads() -> None:
    """In a group of an unknown field, what looks like an input that is cut off is passed over, and what follows counts."""
    hiding = b"\xa3\x06" + b"\x2a\x0b" + b"\xff" * 11 + b"\xa4\x06"
    assert parse_request(hiding).ByteSize()
    with pytest.raises(InvalidRequestError, match=f"more than {MOST_PARTS} parts"):
        check_parts(hiding + of_inputs(MOST_PARTS + 1).SerializeToString())


@given(st.binary(max_size=64), st.integers(0, 63))
def test_no_bytes_break_the_count(content: bytes, shift: int) -> None:
    """Whatever is in a message, also amid one that is whole: it is counted, refused, or left to the parser."""
    whole = of_parameters_of_an_input(MOST_PARTS // 2).SerializeToString()
    with suppress(InvalidRequestError):
        check_parts(whole[:shift] + content + whole[shift:])
