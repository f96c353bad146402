"""Values become tensors and come back as the same values."""

from __future__ import annotations

import array
import math
import struct
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_sidecar_client import InternalError, InvalidRequestError, tensors
from model_sidecar_client.datatypes import DATATYPES
from model_sidecar_client.nested import RaggedError, flattened, nested
from model_sidecar_client.tensors import Tensor, decode, decode_elements, encode

NUMPY = {
    "BOOL": "?",
    "INT8": "i1",
    "INT16": "i2",
    "INT32": "i4",
    "INT64": "i8",
    "UINT8": "u1",
    "UINT16": "u2",
    "UINT32": "u4",
    "UINT64": "u8",
    "FP16": "f2",
    "FP32": "f4",
    "FP64": "f8",
}
LISTS: dict[str, Any] = {
    "BOOL": [[True, False], [False, True]],
    "INT8": [-128, 127],
    "INT16": [-(1 << 15), (1 << 15) - 1],
    "INT32": [-(1 << 31), (1 << 31) - 1],
    "INT64": [-(1 << 63), (1 << 63) - 1],
    "UINT8": [0, 255],
    "UINT16": [0, (1 << 16) - 1],
    "UINT32": [0, (1 << 32) - 1],
    "UINT64": [0, (1 << 64) - 1],
    "FP16": [0.5, -2.0, 65504.0],
    "BF16": [0.5, -2.0, 3.0e38 * 0 + 1.0],
    "FP32": [[0.5], [math.inf]],
    "FP64": [0.1, -1e308],
    "BYTES": [["a", b"\xff\x00"], [bytearray(b""), "é"]],
}


def as_bytes(values: Any) -> Any:
    if isinstance(values, list):
        return [as_bytes(value) for value in values]
    return values.encode() if isinstance(values, str) else bytes(values)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_lists_come_back_as_they_went(datatype: str) -> None:
    """Every datatype carries its extreme values through raw contents."""
    values = LISTS[datatype]

    tensor = encode("x", values, datatype)

    assert tensor.datatype == datatype
    expected = as_bytes(values) if datatype == "BYTES" else values
    assert decode(tensor).tolist() == expected


@pytest.mark.parametrize("datatype", NUMPY)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (2, 0), (2, 3, 4)], ids=str)
def test_arrays_come_back_as_they_went(
    datatype: str, order: Literal["<", ">"], shape: tuple[int, ...]
) -> None:
    """Any shape and byte order arrives as the same little-endian row-major tensor."""
    values = np.arange(math.prod(shape)).reshape(shape).astype(np.dtype(NUMPY[datatype]).newbyteorder(order))

    tensor = encode("x", values, datatype)

    little = np.asarray(values).astype(np.dtype(NUMPY[datatype]).newbyteorder("<"))
    assert tensor == Tensor("x", datatype, shape, little.tobytes())
    back = decode(tensor)
    assert back.dtype == np.dtype(NUMPY[datatype])
    assert np.array_equal(back, values)


def test_arrays_are_sent_in_row_major_order_however_they_lie_in_memory() -> None:
    """A transposed or strided view is sent as what it shows."""
    values = np.arange(24, dtype=np.float32).reshape(4, 6)

    assert encode("x", values.T, "FP32").raw == values.T.copy().tobytes()
    assert encode("x", values[::2, 1::3], "FP32").raw == values[::2, 1::3].copy().tobytes()


def test_what_was_received_is_the_callers_own() -> None:
    """Received arrays can be changed in place."""
    received = decode(encode("x", [1.0, 2.0], "FP32"))
    received /= received.sum()

    assert received.tolist() == pytest.approx([1 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("values", "datatype", "expected"),
    [
        (array.array("f", [1, 2]), "FP32", [1.0, 2.0]),
        (array.array("q", [1, -2]), "INT64", [1, -2]),
        (memoryview(struct.pack("4i", 1, 2, 3, 4)).cast("i", [2, 2]), "INT32", [[1, 2], [3, 4]]),
        (memoryview(b"\x01\x02"), "UINT8", [1, 2]),
        (np.float32(0.5), "FP32", 0.5),
        (np.array(["a", "bé"]), "BYTES", [b"a", "bé".encode()]),
        (np.array([b"a", b"bc"]), "BYTES", [b"a", b"bc"]),
        (np.array([["a", b"b"]], dtype=object), "BYTES", [[b"a", b"b"]]),
        (
            [np.array([1.0, 2.0], np.float32), np.array([3.0, 4.0], np.float32)],
            "FP32",
            [[1.0, 2.0], [3.0, 4.0]],
        ),
        ([np.float64(1), 2], "FP32", [1.0, 2.0]),
        ("text", "BYTES", b"text"),
        (b"bytes", "BYTES", b"bytes"),
        (3, "FP64", 3.0),
        (((1, 2), (3, 4)), "INT8", [[1, 2], [3, 4]]),
        ([], "FP32", []),
        ([[], []], "INT64", [[], []]),
    ],
    ids=lambda value: "a memoryview" if isinstance(value, memoryview) else repr(value),
)
def test_whatever_holds_numbers_can_be_sent(values: Any, datatype: str, expected: Any) -> None:
    """Buffers, scalars, lists of arrays and empty lists are tensors too."""
    assert decode(encode("x", values, datatype)).tolist() == expected


@pytest.mark.parametrize(
    ("values", "datatype", "found"),
    [
        (np.array([1.0]), "INT64", "FP64"),
        (np.array([1.0], np.float32), "INT8", "FP32"),
        (np.array([1]), "BOOL", "INT64"),
        (np.array([True]), "FP32", "BOOL"),
        (np.array([1.0]), "BYTES", "FP64"),
        (np.array([0, 1 << 31]), "INT32", "2147483648"),
        (np.array([-1, 5]), "UINT64", "-1"),
        (np.array([(1 << 64) - 1], np.uint64), "INT64", "18446744073709551615"),
        (np.array([0.5, 1e39]), "FP32", "1e+39"),
        (np.array([70000.0], np.float32), "FP16", "70000.0"),
        (np.array([70000]), "FP16", "70000"),
        (array.array("q", [300]), "UINT8", "300"),
        (np.array([True]), "UINT8", "BOOL"),
        (np.array([1], np.int16), "BF16", "INT16"),
        (np.array([1j]), "FP64", "complex"),
        (np.array(["2024-01-15"], "M8[D]"), "INT64", "date"),
        (array.array("d", [1]), "INT32", "FP64"),
        (np.array([0.5], object), "INT32", "float"),
        ([1.5], "INT32", "float"),
        ([True], "INT32", "bool"),
        ([True], "FP32", "bool"),
        ([1], "BOOL", "int"),
        (["1"], "FP32", "str"),
        ([1.0], "BYTES", "float"),
        ([None], "FP32", "NoneType"),
        ({"a": 1}, "FP32", "dict"),
        ([1, 300], "UINT8", "300"),
        ([-1], "UINT64", "-1"),
        ([1e39], "FP32", "1e+39"),
        ([70000.0], "FP16", "70000.0"),
        ([10**400], "FP64", "1000"),
        (["\ud800"], "BYTES", "ud800"),
        ([1.0], "FP128", "FP128"),
    ],
    ids=repr,
)
def test_what_the_model_cannot_take_is_refused_here(values: Any, datatype: str, found: str) -> None:
    """No kind is guessed and no value cut: the error names the tensor, what was found and what was expected."""
    with pytest.raises(InvalidRequestError, match=r"input 'x': found .*, expected ") as raised:
        encode("x", values, datatype)

    assert raised.value.reason == "INVALID_INPUT"
    assert raised.value.metadata["tensor"] == "x"
    assert found in raised.value.metadata["found"]
    assert datatype in raised.value.metadata["expected"] or found == "FP128"


@pytest.mark.parametrize(
    "values",
    [[[1], [1, 2]], [[1], 2], [[[1]], [2]], [[], [1]], [[1, 2], np.array([1])]],
    ids=repr,
)
def test_ragged_lists_are_refused_here(values: Any) -> None:
    """Lists that do not form a tensor say where they do not."""
    with pytest.raises(InvalidRequestError, match=r"input 'x': found lists .* at depth [012], expected"):
        encode("x", values, "INT64")


def test_a_list_in_itself_is_refused_here() -> None:
    """A loop of lists ends in an error, not in a hang."""
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(InvalidRequestError, match="nested deeper than 32"):
        encode("x", endless, "FP32")


def test_bf16_is_cut_from_fp32_or_taken_as_bits() -> None:
    """Floats and float32 arrays are truncated to BF16, uint16 arrays are its bits; all come back as float32."""
    pi = 3.140625  # 3.14159… with the low 16 bits of its FP32 cut off
    from_list = encode("x", [math.pi, -0.0], "BF16")
    from_floats = encode("x", np.array([math.pi, -0.0], np.float32), "BF16")
    from_bits = encode("x", np.array([0x4049, 0x8000], np.uint16), "BF16")

    assert from_list == from_floats == from_bits == Tensor("x", "BF16", (2,), b"\x49\x40\x00\x80")
    assert decode(from_list).dtype == np.float32
    assert decode(from_list).tolist() == [pi, -0.0]


WIDTHS: list[tuple[Any, str, list[Any]]] = [
    (np.array([[0.1, -2.5, math.inf, 1e-60]]), "FP32", [[0.10000000149011612, -2.5, math.inf, 0.0]]),
    (np.array([0.1], ">f8"), "FP32", [0.10000000149011612]),
    (np.array([0.5, 1.0 / 3]), "FP16", [0.5, 0.333251953125]),
    (np.array([math.pi]), "BF16", [3.140625]),
    (np.array([0.5], np.float16), "BF16", [0.5]),
    (np.array([0.1], np.float32), "FP64", [0.10000000149011612]),
    (np.array([-(1 << 31), (1 << 31) - 1]), "INT32", [-(1 << 31), (1 << 31) - 1]),
    (np.array([1, 255], np.int16), "UINT8", [1, 255]),
    (np.array([(1 << 63) - 1], np.uint64), "INT64", [(1 << 63) - 1]),
    (np.array([[1, 2], [3, 4]]), "FP32", [[1.0, 2.0], [3.0, 4.0]]),
    (np.array([(1 << 24) + 1], np.int32), "FP32", [16777216.0]),
    (np.zeros((0, 2)), "FP32", []),
    (np.zeros(0, np.int64), "INT8", []),
    (np.float64(0.5), "FP32", 0.5),  # type: ignore[list-item]  # a scalar's tensor is one value
    (array.array("d", [0.5]), "FP32", [0.5]),
    (array.array("q", [7]), "INT8", [7]),
]


@pytest.mark.parametrize(("values", "datatype", "expected"), WIDTHS, ids=repr)
@pytest.mark.parametrize("with_numpy", [True, False], ids=["numpy", "no numpy"])
def test_arrays_of_another_width_are_converted_as_lists_are(
    values: Any, datatype: str, expected: Any, with_numpy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Float64 rows fit an FP32 input and int64 fits INT32, with numpy's conversion or Python's own, to the same bytes."""
    monkeypatch.setattr(tensors, "numpy_if_there", lambda: np if with_numpy else None)
    sent = encode("x", values, datatype)
    as_list = encode("x", values.tolist(), datatype)
    monkeypatch.undo()

    assert decode(sent).tolist() == expected
    assert (sent.datatype, sent.raw) == (datatype, as_list.raw)
    assert sent.shape == np.shape(values)


def test_what_does_not_fit_is_refused_without_numpy_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first value that does not fit is named, whoever converts."""
    monkeypatch.setattr(tensors, "numpy_if_there", lambda: None)

    for values, datatype, found in (([0.5, 1e39], "FP32", "1e+39"), ([70000.0], "FP16", "70000.0")):
        with pytest.raises(InvalidRequestError, match=r"what FP.. can hold") as raised:
            encode("x", array.array("d", values), datatype)
        assert raised.value.metadata["found"] == found


def test_without_a_datatype_values_speak_for_themselves() -> None:
    """Where no model says what it takes, Python's types decide."""
    chosen = [
        encode("x", each, None).datatype
        for each in ([1.0], [1], [1, 2.0], [True], ["a"], [], np.zeros(1, "f2"))
    ]

    assert chosen == ["FP32", "INT64", "FP32", "BOOL", "BYTES", "FP32", "FP16"]
    with pytest.raises(InvalidRequestError, match="all of one kind"):
        encode("x", [1, "a"], None)


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("y", "FP32", (2,), bytes(7)),
        Tensor("y", "FP32", (2,), bytes(12)),
        Tensor("y", "FP32", (-1,), b""),
        Tensor("y", "FP128", (1,), bytes(16)),
        Tensor("y", "BYTES", (1,), b"\x05\x00\x00\x00abc"),
        Tensor("y", "BYTES", (1,), b"\x05\x00"),
        Tensor("y", "BYTES", (2,), b"\x01\x00\x00\x00a"),
        Tensor("y", "BYTES", (1,), b"\xff\xff\xff\xffabc"),
    ],
    ids=str,
)
def test_a_lying_answer_is_no_answer(tensor: Tensor) -> None:
    """Bytes that do not make up the shape, and lengths that point outside, are refused."""
    with pytest.raises(InternalError, match=r"tensor 'y' is malformed: found .*, expected "):
        decode(tensor)


def test_typed_contents_are_arrays_too() -> None:
    """Elements of typed contents become an array of the datatype, and must be as many as the shape says."""
    received = decode_elements("y", "INT8", [2, 1], [1, -1])

    assert (received.dtype, received.tolist()) == (np.int8, [[1], [-1]])
    assert decode_elements("y", "BYTES", [1], [b"a"]).tolist() == [b"a"]
    with pytest.raises(InternalError, match="found 1 elements, expected 2"):
        decode_elements("y", "INT8", [2], [1])


shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@given(shapes)
def test_nesting_and_flattening_are_each_others_reverse(shape: tuple[int, ...]) -> None:
    """Any shape survives the way into lists and back, down to the first axis without elements."""
    elements = list(range(math.prod(shape)))
    visible = shape[: shape.index(0) + 1] if 0 in shape else shape

    assert flattened(nested(shape, elements)) == (visible, elements)


@given(st.recursive(st.integers(), lambda children: st.lists(children, max_size=3), max_leaves=8))
def test_flattening_takes_what_numpy_takes(values: Any) -> None:
    """What counts as ragged here is what numpy calls inhomogeneous."""
    try:
        expected = np.array(values, dtype=object if not isinstance(values, list) else None).shape
        ragged = False
    except (ValueError, OverflowError):
        expected, ragged = (), True

    try:
        shape, _elements = flattened(values)
    except RaggedError:
        assert ragged
    else:
        assert shape == expected
