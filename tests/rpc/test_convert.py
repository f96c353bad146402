"""Tensors on the wire and in memory: every datatype in both forms, and every lie that a request can tell."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from support.rpc_models import echo_signature

from model_sidecar.errors import InferenceFailedError, InvalidInputError, InvalidRequestError
from model_sidecar.monitor.prediction_ids import PredictionIds
from model_sidecar.release.names import ModelName, Version
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec
from model_sidecar.rpc.convert import answer, parse_request
from model_sidecar.rpc.elements import TYPED_LIST, strings, strings_from_raw, strings_to_raw
from model_sidecar.rpc.pieces import Pieces
from model_sidecar.rpc.plan import plan_of
from model_sidecar.rpc.tensors_in import Taken, take
from model_sidecar_client.wire.inference import InferTensorContents, ModelInferRequest, ModelInferResponse

NUMERIC = [each for each in Datatype if each is not Datatype.BYTES]
EDGES: dict[Datatype, list[Any]] = {
    Datatype.BOOL: [True, False],
    Datatype.UINT8: [0, 255],
    Datatype.UINT16: [0, 65535],
    Datatype.UINT32: [0, 2**32 - 1],
    Datatype.UINT64: [0, 2**64 - 1],
    Datatype.INT8: [-128, 127],
    Datatype.INT16: [-(2**15), 2**15 - 1],
    Datatype.INT32: [-(2**31), 2**31 - 1],
    Datatype.INT64: [-(2**63), 2**63 - 1],
    Datatype.FP16: [-0.5, 65504.0],
    Datatype.BF16: [0x3F80, 0xFFFF],
    Datatype.FP32: [-0.1, float("inf")],
    Datatype.FP64: [-0.1, float("nan")],
    Datatype.BYTES: ["", "grün\0 and more"],
}


def array_of(datatype: Datatype, values: list[Any]) -> NDArray[Any]:
    return strings(values) if datatype is Datatype.BYTES else np.array(values, dtype=datatype.numpy)


def raw_of(datatype: Datatype, array: NDArray[Any]) -> bytes:
    return strings_to_raw(array) if datatype is Datatype.BYTES else array.tobytes()


def request(
    *tensors: tuple[str, str, tuple[int, ...]], raws: tuple[bytes, ...] = (), outputs: tuple[str, ...] = ()
) -> ModelInferRequest:
    made = ModelInferRequest(model_name="echo", raw_input_contents=raws)
    for name, datatype, shape in tensors:
        made.inputs.add(name=name, datatype=datatype, shape=shape)
    for name in outputs:
        made.outputs.add(name=name)
    return made


def typed(datatype: Datatype, values: list[Any], shape: tuple[int, ...]) -> ModelInferRequest:
    made = request(("x", datatype.value, shape))
    elements = [each.encode() for each in values] if datatype is Datatype.BYTES else values
    getattr(made.inputs[0].contents, TYPED_LIST[datatype]).extend(elements)
    return made


def answered(
    signature: Signature, taken: Taken, arrays: dict[str, NDArray[Any]], **fields: Any
) -> ModelInferResponse:
    facts = {
        "generation": 1,
        "id": "",
        "prediction_id": PredictionIds().next(),
        "max_bytes": 1 << 30,
        "pieces": Pieces(),
        **fields,
    }
    content = answer(
        arrays,
        plan=plan_of(signature),
        taken=taken,
        model=ModelName("echo"),
        version=Version("2024.01.15.prod"),
        **facts,
    )
    return ModelInferResponse.FromString(content)


def same(left: NDArray[Any], right: NDArray[Any]) -> bool:
    """Equal to the bit, NaN included."""
    if left.dtype == object:
        return left.shape == right.shape and left.ravel().tolist() == right.ravel().tolist()
    return left.shape == right.shape and left.dtype == right.dtype and left.tobytes() == right.tobytes()


@pytest.mark.parametrize("datatype", list(Datatype))
@pytest.mark.parametrize("shape", [(2,), (2, 1), (1, 2, 1)])
def test_raw_tensors_go_through_unchanged(datatype: Datatype, shape: tuple[int, ...]) -> None:
    """Each datatype's extreme values come in raw as they were sent, and go out raw the same."""
    signature = echo_signature(datatype, (-1,) * len(shape))
    array = array_of(datatype, EDGES[datatype]).reshape(shape)
    sent = request(("x", datatype.value, shape), raws=(raw_of(datatype, array),))

    taken = take(sent, plan_of(signature))
    response = answered(signature, taken, {"y": taken.arrays["x"]})

    assert same(taken.arrays["x"], array)
    assert response.raw_output_contents[0] == sent.raw_input_contents[0]
    assert not response.outputs[0].HasField("contents")
    assert (response.outputs[0].datatype, tuple(response.outputs[0].shape)) == (datatype.value, shape)


@pytest.mark.parametrize("datatype", [each for each in Datatype if each in TYPED_LIST])
@pytest.mark.parametrize("shape", [(2,), (1, 2)])
def test_typed_tensors_go_through_unchanged(datatype: Datatype, shape: tuple[int, ...]) -> None:
    """Each datatype that has a typed list comes in and goes out by it, extreme values included."""
    signature = echo_signature(datatype, (-1,) * len(shape))
    array = array_of(datatype, EDGES[datatype]).reshape(shape)

    taken = take(typed(datatype, EDGES[datatype], shape), plan_of(signature))
    response = answered(signature, taken, {"y": taken.arrays["x"]})

    assert same(taken.arrays["x"], array)
    assert not response.raw_output_contents
    (filled,) = response.outputs[0].contents.ListFields()
    assert filled[0].name == TYPED_LIST[datatype]
    back = take(_returned(response), plan_of(signature)).arrays["x"]
    assert same(back, array)


def _returned(response: ModelInferResponse) -> ModelInferRequest:
    """The answer, sent back as a request."""
    tensor = response.outputs[0]
    made = request(("x", tensor.datatype, tuple(tensor.shape)), raws=tuple(response.raw_output_contents))
    if tensor.HasField("contents"):
        made.inputs[0].contents.CopyFrom(tensor.contents)
    return made


@pytest.mark.parametrize("datatype", list(Datatype))
@pytest.mark.parametrize("shape", [(), (0,), (0, 5)])
def test_scalars_and_empty_tensors_keep_their_shape(datatype: Datatype, shape: tuple[int, ...]) -> None:
    """A scalar's shape is [], and a tensor without elements keeps all its dimensions."""
    signature = echo_signature(datatype, shape)
    array = array_of(datatype, EDGES[datatype][:1] if shape == () else []).reshape(shape)

    taken = take(request(("x", datatype.value, shape), raws=(raw_of(datatype, array),)), plan_of(signature))
    response = answered(signature, taken, {"y": taken.arrays["x"]})

    assert same(taken.arrays["x"], array)
    assert tuple(response.outputs[0].shape) == shape
    assert response.raw_output_contents[0] == raw_of(datatype, array)


def test_raw_input_is_not_copied_again() -> None:
    """A raw tensor is a view of the request's bytes, which cannot be written."""
    taken = take(request(("x", "FP32", (2,)), raws=(bytes(8),)), plan_of(echo_signature(Datatype.FP32)))
    assert not taken.arrays["x"].flags.owndata
    assert not taken.arrays["x"].flags.writeable


def test_no_content_at_all_is_answered_raw() -> None:
    """Where nothing says which form the caller likes, the answer is raw: tritonclient reads no other."""
    signature = echo_signature(Datatype.FP32)
    taken = take(request(("x", "FP32", (0,))), plan_of(signature))
    assert not taken.typed
    assert list(answered(signature, taken, {"y": taken.arrays["x"]}).raw_output_contents) == [b""]


def test_an_output_without_a_typed_form_makes_the_whole_answer_raw() -> None:
    """FP16 and BF16 travel raw only, and forms are never mixed."""
    signature = Signature(
        (TensorSpec("x", Datatype.FP32, (-1,)),),
        (TensorSpec("y", Datatype.FP32, (-1,)), TensorSpec("half", Datatype.FP16, (-1,))),
    )
    taken = take(typed(Datatype.FP32, [1.0], (1,)), plan_of(signature))
    arrays = {"y": np.ones(1, "<f4"), "half": np.ones(1, "<f2")}

    both = answered(signature, taken, arrays)
    assert len(both.raw_output_contents) == 2
    assert not any(each.HasField("contents") for each in both.outputs)

    only_typed = Taken(taken.arrays, ("y",), taken.typed, 1)
    assert not answered(signature, only_typed, arrays).raw_output_contents


def test_asked_for_outputs_come_in_the_order_asked() -> None:
    """Only the outputs that were asked for are answered, in that order."""
    signature = Signature(
        (TensorSpec("x", Datatype.FP32, (-1,)),),
        (TensorSpec("a", Datatype.FP32, (-1,)), TensorSpec("b", Datatype.INT64, ())),
    )
    taken = take(request(("x", "FP32", (1,)), raws=(bytes(4),), outputs=("b", "a")), plan_of(signature))
    assert taken.outputs == ("b", "a")
    arrays = {"a": np.zeros(1, "<f4"), "b": np.array(3, "<i8")}
    assert [(each.name, list(each.shape)) for each in answered(signature, taken, arrays).outputs] == [
        ("b", []),
        ("a", [1]),
    ]


def test_tensors_that_are_not_contiguous_go_out_row_by_row() -> None:
    """A transposed answer is sent as what it shows, not as what lies in memory."""
    signature = echo_signature(Datatype.INT32, (-1, -1))
    taken = Taken({}, None, False, 1)
    array = np.arange(6, dtype="<i4").reshape(2, 3).T
    assert (
        answered(signature, taken, {"y": array}).raw_output_contents[0]
        == np.ascontiguousarray(array).tobytes()
    )


def test_rows_are_counted_along_an_open_first_dimension() -> None:
    """A request has as many rows as its first input's open first dimension, and one where that is fixed."""
    sent = request(("x", "FP32", (3, 2)), raws=(bytes(24),))
    assert take(sent, plan_of(echo_signature(Datatype.FP32, (-1, 2)))).rows == 3
    assert take(sent, plan_of(echo_signature(Datatype.FP32, (3, 2)))).rows == 1


FP32_2 = echo_signature(Datatype.FP32, (-1, 2))
TWO = Signature(
    (TensorSpec("a", Datatype.FP32, (1,)), TensorSpec("b", Datatype.BOOL, (2,))),
    (TensorSpec("y", Datatype.FP32, ()),),
)


def _with_contents(sent: ModelInferRequest, **lists: list[Any]) -> ModelInferRequest:
    sent.inputs[0].contents.CopyFrom(InferTensorContents(**lists))
    return sent


def _with_parameter(sent: ModelInferRequest, *, output: bool = False) -> ModelInferRequest:
    tensor = sent.outputs[0] if output else sent.inputs[0]
    tensor.parameters["shared_memory_region"].string_param = "region"
    return sent


ROW = bytes(8)
HOSTILE: dict[str, tuple[Signature, ModelInferRequest, tuple[str, ...]]] = {
    "unknown name": (FP32_2, request(("z", "FP32", (1, 2)), raws=(ROW,)), ("'z'", "x FP32[-1, 2]")),
    "missing input": (TWO, request(("a", "FP32", (1,)), raws=(bytes(4),)), ("missing", "b BOOL[2]")),
    "no inputs": (FP32_2, request(), ("missing", "x FP32[-1, 2]")),
    "the same input twice": (
        TWO,
        request(("a", "FP32", (1,)), ("a", "FP32", (1,)), raws=(bytes(4), bytes(4))),
        ("'a'", "twice"),
    ),
    "other datatype": (
        FP32_2,
        request(("x", "INT64", (1, 2)), raws=(bytes(16),)),
        ("'x'", "INT64", "expected FP32"),
    ),
    "invented datatype": (FP32_2, request(("x", "FP128", (1, 2)), raws=(ROW,)), ("'FP128'", "expected FP32")),
    "numpy's name of a datatype": (
        FP32_2,
        request(("x", "float32", (1, 2)), raws=(ROW,)),
        ("'float32'", "FP32"),
    ),
    "other rank": (FP32_2, request(("x", "FP32", (2,)), raws=(ROW,)), ("shape [2]", "expected [-1, 2]")),
    "other size": (
        FP32_2,
        request(("x", "FP32", (1, 3)), raws=(bytes(12),)),
        ("shape [1, 3]", "expected [-1, 2]"),
    ),
    "negative size": (FP32_2, request(("x", "FP32", (-1, 2)), raws=(ROW,)), ("shape [-1, 2]", "negative")),
    "huge size": (
        FP32_2,
        request(("x", "FP32", (2**62, 2)), raws=(ROW,)),
        ("'x'", "more elements than can be counted"),
    ),
    "sizes whose product wraps to what was sent": (
        echo_signature(Datatype.FP32, (-1, -1)),
        request(("x", "FP32", (2**32, 2**32)), raws=(b"",)),
        ("more elements",),
    ),
    "huge size beside a zero": (
        echo_signature(Datatype.FP32, (-1, -1)),
        request(("x", "FP32", (0, 2**62)), raws=(b"",)),
        ("more elements",),
    ),
    "many dimensions": (FP32_2, request(("x", "FP32", (1,) * 5000), raws=(ROW,)), ("…", "expected [-1, 2]")),
    "too few bytes": (FP32_2, request(("x", "FP32", (1, 2)), raws=(bytes(7),)), ("7 bytes", "expected 8")),
    "too many bytes": (FP32_2, request(("x", "FP32", (1, 2)), raws=(bytes(9),)), ("9 bytes", "expected 8")),
    "fewer raw contents than inputs": (
        TWO,
        request(("a", "FP32", (1,)), ("b", "BOOL", (2,)), raws=(bytes(4),)),
        ("1 raw_input_contents", "2 inputs"),
    ),
    "more raw contents than inputs": (
        FP32_2,
        request(("x", "FP32", (1, 2)), raws=(ROW, ROW)),
        ("2 raw_input_contents", "1 inputs"),
    ),
    "raw and typed at once": (
        FP32_2,
        _with_contents(request(("x", "FP32", (1, 2)), raws=(ROW,)), fp32_contents=[1, 2]),
        ("'x'", "typed contents beside raw_input_contents"),
    ),
    "no content": (FP32_2, request(("x", "FP32", (1, 2))), ("0 elements", "expected 2")),
    "too few elements": (
        FP32_2,
        _with_contents(request(("x", "FP32", (1, 2))), fp32_contents=[1]),
        ("1 elements", "fp32_contents", "expected 2"),
    ),
    "the wrong list": (
        FP32_2,
        _with_contents(request(("x", "FP32", (1, 2))), fp64_contents=[1, 2]),
        ("fp64_contents", "expected only contents.fp32_contents"),
    ),
    "two lists": (
        FP32_2,
        _with_contents(request(("x", "FP32", (1, 2))), fp32_contents=[1, 2], int_contents=[1, 2]),
        ("int_contents", "fp32_contents"),
    ),
    "typed FP16": (
        echo_signature(Datatype.FP16),
        _with_contents(request(("x", "FP16", (1,))), fp32_contents=[1.0]),
        ("FP16", "send it raw"),
    ),
    "typed BF16": (
        echo_signature(Datatype.BF16),
        _with_contents(request(("x", "BF16", (1,))), fp32_contents=[1.0]),
        ("BF16", "send it raw"),
    ),
    "BOOL of 2": (
        echo_signature(Datatype.BOOL),
        request(("x", "BOOL", (2,)), raws=(b"\1\2",)),
        ("'x'", "neither 0 nor 1"),
    ),
    "unknown output": (
        FP32_2,
        request(("x", "FP32", (1, 2)), raws=(ROW,), outputs=("z",)),
        ("output 'z'", "y FP32[-1, 2]"),
    ),
    "an output twice": (
        FP32_2,
        request(("x", "FP32", (1, 2)), raws=(ROW,), outputs=("y", "y")),
        ("'y'", "twice"),
    ),
    "an input in shared memory": (
        FP32_2,
        _with_parameter(request(("x", "FP32", (1, 2)))),
        ("input 'x'", "shared memory is not enabled"),
    ),
    "an output in shared memory": (
        FP32_2,
        _with_parameter(request(("x", "FP32", (1, 2)), raws=(ROW,), outputs=("y",)), output=True),
        ("output 'y'", "shared memory is not enabled"),
    ),
}


@pytest.mark.parametrize("lie", HOSTILE)
def test_what_does_not_fit_is_refused_by_name(lie: str) -> None:
    """Each kind of misfit is refused with words that name the tensor, what was found and what was expected."""
    signature, sent, words = HOSTILE[lie]
    with pytest.raises(InvalidInputError) as caught:
        take(parse_request(sent.SerializeToString()), plan_of(signature))
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        (Datatype.INT8, 128),
        (Datatype.INT8, -129),
        (Datatype.INT16, 2**15),
        (Datatype.INT16, -(2**15) - 1),
        (Datatype.UINT8, 256),
        (Datatype.UINT16, 65536),
    ],
)
def test_a_typed_value_that_does_not_fit_its_type_is_refused(datatype: Datatype, value: int) -> None:
    """Narrow types share a wider list on the wire; a value beyond them is named, and never wrapped around."""
    with pytest.raises(InvalidInputError, match=f"element 1 is {value}, expected .* {datatype}"):
        take(typed(datatype, [0, value], (2,)), plan_of(echo_signature(datatype)))


@pytest.mark.parametrize("datatype", [each for each in NUMERIC if each in TYPED_LIST])
def test_long_typed_lists_become_arrays_piece_by_piece(datatype: Datatype) -> None:
    """Each number in its place, also at the seams, and back; one that does not fit is still named by its own."""
    values, signature = (EDGES[datatype] * 20_001)[:40_001], echo_signature(datatype)
    asked = typed(datatype, values, (40_001,))
    taken = take(asked, plan_of(signature))
    assert same(taken.arrays["x"], array_of(datatype, values))
    (given,) = answered(signature, taken, {"y": taken.arrays["x"]}).outputs
    assert given.contents.SerializeToString() == asked.inputs[0].contents.SerializeToString()
    if datatype in (Datatype.INT8, Datatype.UINT16):
        values[33_000] = 70_000
        with pytest.raises(InvalidInputError, match=f"element 33000 is 70000, expected .* {datatype}"):
            take(typed(datatype, values, (40_001,)), plan_of(echo_signature(datatype)))


def test_of_a_flood_of_tensors_the_first_that_does_not_fit_is_named() -> None:
    """However many there are, of inputs, dimensions and outputs: no more are looked at than there may be."""
    tensor = ("x", "FP32", (1, 2))
    for sent, words in (
        (request(*[tensor] * 500, raws=(ROW,) * 500), "'x' is there twice"),
        (request(*[("", "", ())] * 500), "input '' is unknown"),
        (request(*[tensor] * 500, raws=(ROW,)), "1 raw_input_contents for 500 inputs"),
        (request(tensor, raws=(ROW,) * 500), "500 raw_input_contents for 1 inputs"),
        (request(("x", "FP32", (1,) * 500), raws=(ROW,)), "shape \\[1, 1, .*, …\\], expected \\[-1, 2\\]"),
        (request(tensor, raws=(ROW,), outputs=("y",) * 500), "'y' is asked for twice"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            take(sent, plan_of(FP32_2))


def _packed(*lengths_and_bytes: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack("<I", length) + content for length, content in lengths_and_bytes)


@pytest.mark.parametrize(
    ("raw", "count", "words"),
    [
        (b"", 1, "0 bytes, expected at least 4"),
        (b"\1\0\0", 1, "3 bytes, expected at least 4"),
        (_packed((5, b"four")), 1, "element 0 is said to have 5 bytes, and 4 are left"),
        (_packed((0xFFFFFFFF, b"four")), 1, "4294967295 bytes, and 4 are left"),
        (_packed((1, b"a"), (2, b"bc")), 1, "6 bytes are left over"),
        (_packed((6, b"abcdef")), 2, "before the length of element 1"),
        (_packed((2, b"ab"), (9, b"")), 2, "element 1 is said to have 9 bytes, and 0 are left"),
        (_packed((1, b"\xff")), 1, "element 0 is not UTF-8"),
        (_packed((1, b"a"), (3, b"\xed\xa0\x80")), 2, "element 1 is not UTF-8"),
        (b"", 10**15, "expected at least 4000000000000000"),
    ],
)
def test_lengths_that_lie_are_refused(raw: bytes, count: int, words: str) -> None:
    """Every length of a BYTES tensor is checked against what is there, and every element has to be text."""
    with pytest.raises(InvalidInputError, match=f"here: .*{words}"):
        strings_from_raw(raw, count, where="here")


def test_typed_strings_have_to_be_text() -> None:
    """A typed BYTES element that is not UTF-8 is refused with its index."""
    sent = request(("x", "BYTES", (2,)))
    sent.inputs[0].contents.bytes_contents.extend([b"ok", b"\xff"])
    with pytest.raises(InvalidInputError, match="element 1 is not UTF-8"):
        take(sent, plan_of(echo_signature(Datatype.BYTES)))


def test_a_model_that_gives_something_else_than_it_says_is_a_failure_inside() -> None:
    """A missing output and one of another type are the model's failure, not the caller's."""
    signature, taken = echo_signature(Datatype.FP32), Taken({}, None, False, 1)
    with pytest.raises(InferenceFailedError, match="no output 'y'"):
        answered(signature, taken, {})
    with pytest.raises(InferenceFailedError, match="float64, expected FP32"):
        answered(signature, taken, {"y": np.zeros(1)})


@pytest.mark.parametrize("generation", [None, 7])
@pytest.mark.parametrize("id", ["", "größer"])
def test_an_answer_from_pieces_is_the_one_that_protobuf_would_write(generation: int | None, id: str) -> None:
    """Two answers of one version, scalars and arrays that lie apart among them: every field, and nothing left of the first."""
    signature = Signature(
        (),
        (
            TensorSpec("a", Datatype.FP32, (-1, -1)),
            TensorSpec("s", Datatype.INT64, ()),
            TensorSpec("n", Datatype.BYTES, (-1,)),
        ),
    )
    pieces, ids = Pieces(), PredictionIds()
    whole = np.arange(400, dtype=np.float32).reshape(20, 20)
    for a in (whole, whole[::2, ::3], whole[:0]):
        arrays: dict[str, NDArray[Any]] = {"a": a, "s": np.array(-5, np.int64), "n": strings(["", "ä"])}
        prediction_id = ids.next()
        found = answered(
            signature,
            Taken({}, ("n", "a", "s"), False, 1),
            arrays,
            generation=generation,
            id=id,
            prediction_id=prediction_id,
            pieces=pieces,
        )
        expected = ModelInferResponse(model_name="echo", model_version="2024.01.15.prod", id=id)
        expected.parameters["prediction_id"].string_param = prediction_id
        if generation is not None:
            expected.parameters["generation"].int64_param = generation
        expected.outputs.add(name="n", datatype="BYTES", shape=[2])
        expected.outputs.add(name="a", datatype="FP32", shape=a.shape)
        expected.outputs.add(name="s", datatype="INT64", shape=[])
        expected.raw_output_contents.extend(
            [b"\0\0\0\0\2\0\0\0" + "ä".encode(), a.tobytes(), arrays["s"].tobytes()]
        )
        assert found == expected


def test_an_answer_over_the_limit_is_refused() -> None:
    """An answer larger than a message may be says both sizes."""
    signature, taken = echo_signature(Datatype.FP32), Taken({}, None, False, 1)
    with pytest.raises(InvalidRequestError, match=r"has 10\d\d bytes, and a message at most 100"):
        answered(signature, taken, {"y": np.zeros(240, "<f4")}, max_bytes=100)


arrays = st.sampled_from(NUMERIC).flatmap(
    lambda datatype: st.tuples(
        st.just(datatype),
        hnp.arrays(datatype.numpy, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)),
    )
)
words = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=20)


@given(arrays, st.booleans())
def test_any_numbers_survive_a_round_trip(case: tuple[Datatype, NDArray[Any]], raw: bool) -> None:
    """Whatever numbers go in come out the same to the bit, in either form."""
    datatype, array = case
    signature = echo_signature(datatype, (-1,) * array.ndim)
    if raw or datatype not in TYPED_LIST:
        sent = request(("x", datatype.value, array.shape), raws=(array.tobytes(),))
    else:
        sent = typed(datatype, array.ravel().tolist(), array.shape)
    taken = take(sent, plan_of(signature))
    back = take(_returned(answered(signature, taken, {"y": taken.arrays["x"]})), plan_of(signature)).arrays[
        "x"
    ]
    if np.issubdtype(array.dtype, np.floating) and not raw:
        # protobuf's floats keep values, not the payload bits of a NaN.
        assert np.array_equal(back, array, equal_nan=True)
    else:
        assert same(back, array)


@given(words, st.booleans())
def test_any_text_survives_a_round_trip(values: list[str], raw: bool) -> None:
    """Whatever text goes in comes out the same, in either form."""
    signature = echo_signature(Datatype.BYTES)
    shape = (len(values),)
    sent = (
        request(("x", "BYTES", shape), raws=(strings_to_raw(strings(values)),))
        if raw
        else typed(Datatype.BYTES, values, shape)
    )
    taken = take(sent, plan_of(signature))
    back = take(_returned(answered(signature, taken, {"y": taken.arrays["x"]})), plan_of(signature)).arrays[
        "x"
    ]
    assert back.tolist() == values


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 20))
def test_no_bytes_break_the_reader_of_strings(raw: bytes, count: int) -> None:
    """Any bytes are either text that packs to the very same bytes, or refused."""
    try:
        found = strings_from_raw(raw, count, where="x")
    except InvalidInputError:
        return
    assert found.shape == (count,)
    assert strings_to_raw(found) == raw


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader_of_requests(content: bytes) -> None:
    """Any bytes are a request that fits, or refused as one of our errors."""
    with suppress(InvalidRequestError):
        take(parse_request(content), plan_of(FP32_2))


shapes = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3), max_size=5)


@settings(max_examples=300)
@given(shapes, st.binary(max_size=64), st.sampled_from([each.value for each in Datatype]))
def test_no_shape_makes_room_for_what_was_not_sent(shape: list[int], raw: bytes, datatype: str) -> None:
    """A tensor that is taken has exactly the shape and the bytes that were sent; all else is refused."""
    signature = echo_signature(Datatype(datatype), (-1,) * len(shape))
    try:
        taken = take(request(("x", datatype, tuple(shape)), raws=(raw,)), plan_of(signature))
    except InvalidInputError:
        return
    assert list(taken.arrays["x"].shape) == shape
    assert raw_of(Datatype(datatype), taken.arrays["x"]) == raw
