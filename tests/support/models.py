"""Tiny ONNX models, built anew by every test that wants one. The same call gives the same bytes."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from model_sidecar.release.tensors import Datatype

OPSET = 19
IR_VERSION = 10
Shape = Sequence[int | str | None]

ELEMENTS: Mapping[Datatype, int] = {
    Datatype.BOOL: TensorProto.BOOL,
    Datatype.UINT8: TensorProto.UINT8,
    Datatype.UINT16: TensorProto.UINT16,
    Datatype.UINT32: TensorProto.UINT32,
    Datatype.UINT64: TensorProto.UINT64,
    Datatype.INT8: TensorProto.INT8,
    Datatype.INT16: TensorProto.INT16,
    Datatype.INT32: TensorProto.INT32,
    Datatype.INT64: TensorProto.INT64,
    Datatype.FP16: TensorProto.FLOAT16,
    Datatype.BF16: TensorProto.BFLOAT16,
    Datatype.FP32: TensorProto.FLOAT,
    Datatype.FP64: TensorProto.DOUBLE,
    Datatype.BYTES: TensorProto.STRING,
}


def value(
    name: str, datatype: Datatype = Datatype.FP32, shape: Shape | None = (-1, 2)
) -> onnx.ValueInfoProto:
    """An input or output; -1 and None are free dimensions, a shape of None tells nothing."""
    free = None if shape is None else [None if size == -1 else size for size in shape]
    return helper.make_tensor_value_info(name, ELEMENTS[datatype], free)


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Mapping[str, NDArray[Any]] | None = None,
    *,
    domains: Sequence[str] = (),
    **fields: Any,
) -> bytes:
    """A model of these nodes. `fields` are `onnx.helper.make_model`'s."""
    initializers = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "tiny", list(inputs), list(outputs), initializers)
    imports = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
    fields = {"ir_version": IR_VERSION, "opset_imports": imports, **fields}
    return content(helper.make_model(graph, **fields))


def content(model: onnx.ModelProto) -> bytes:
    """A model's bytes."""
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def add_constant(constant: float, *, width: int = 2, takes: str = "x", makes: str = "y") -> bytes:
    """Model: x FP32[-1,width] → y = x + constant."""
    return build(
        [helper.make_node("Add", [takes, "constant"], [makes])],
        [value(takes, shape=(-1, width))],
        [value(makes, shape=(-1, width))],
        {"constant": _floats([constant])},
    )


def add_constant_before(constant: float, *, width: int = 2, takes: str = "raw", makes: str = "x") -> bytes:
    """Preprocessing: raw FP32[-1,width] → x = raw + constant. ONNX forbids that it makes the name that it takes."""
    return add_constant(constant, width=width, takes=takes, makes=makes)


def scale(factor: float, *, width: int = 2, takes: str = "raw", makes: str = "x") -> bytes:
    """Preprocessing: raw FP32[-1,width] → x = raw * factor."""
    return build(
        [helper.make_node("Mul", [takes, "factor"], [makes])],
        [value(takes, shape=(-1, width))],
        [value(makes, shape=(-1, width))],
        {"factor": _floats([factor])},
    )


def identity(
    datatype: Datatype = Datatype.FP32, shape: Shape | None = (-1, 2), *, takes: str = "x", makes: str = "y"
) -> bytes:
    """Model: x → y = x, of any datatype and shape."""
    node = helper.make_node("Identity", [takes], [makes])
    return build([node], [value(takes, datatype, shape)], [value(makes, datatype, shape)])


def string_identity() -> bytes:
    """Model: x BYTES[-1] → y = x."""
    return identity(Datatype.BYTES, (-1,))


def bf16_cast() -> bytes:
    """Model: x BF16[-1,2], n INT64[-1] → y BF16 = x + 1, full FP32 = x + 1, m INT64 = n."""
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["wide", "one"], ["full"]),
        helper.make_node("Cast", ["full"], ["y"], to=TensorProto.BFLOAT16),
        helper.make_node("Identity", ["n"], ["m"]),
    ]
    inputs = [value("x", Datatype.BF16), value("n", Datatype.INT64, (-1,))]
    outputs = [value("y", Datatype.BF16), value("full"), value("m", Datatype.INT64, (-1,))]
    return build(nodes, inputs, outputs, {"one": _floats([1])})


def two_inputs() -> bytes:
    """Model: a FP32[-1,2], b FP32[-1,2] → sum, difference."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
    ]
    return build(nodes, [value("a"), value("b")], [value("sum"), value("difference")])


def scalar_input() -> bytes:
    """Model: x FP32[-1,2], factor FP32[] → y = x * factor, total FP32[] = the sum of y."""
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["y"]),
        helper.make_node("ReduceSum", ["y"], ["total"], keepdims=0),
    ]
    return build(nodes, [value("x"), value("factor", shape=())], [value("y"), value("total", shape=())])


def default_input(default: float = 10.0) -> bytes:
    """Model: x FP32[-1,2], offset FP32[1] with a default in the file → y = x + offset."""
    return build(
        [helper.make_node("Add", ["x", "offset"], ["y"])],
        [value("x"), value("offset", shape=(1,))],
        [value("y")],
        {"offset": _floats([default])},
    )


def positive_only() -> bytes:
    """Model: x FP32[-1,2] → y = the positive elements of x, of which nobody knows beforehand how many there are."""
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["chosen"]),
        helper.make_node("Reshape", ["chosen", "all"], ["flat"]),
        helper.make_node("Compress", ["x", "flat"], ["y"]),
    ]
    weights: dict[str, NDArray[Any]] = {"zero": _floats([0]), "all": _integers(-1)}
    return build(nodes, [value("x")], [value("y", shape=(-1,))], weights)


def table(*rows: float) -> bytes:
    """Model: i INT64[-1] → y = the row at each index. Fails inside the model for an index that is none."""
    node = helper.make_node("Gather", ["rows", "i"], ["y"])
    return build(
        [node], [value("i", Datatype.INT64, (-1,))], [value("y", shape=(-1,))], {"rows": _floats(rows)}
    )


def nan_model(found: float = float("nan")) -> bytes:
    """Model: x FP32[-1,2] → y = x + NaN."""
    return add_constant(found)


def unknown_domain() -> bytes:
    """Model: x → y by an operator of a domain that nobody has."""
    node = helper.make_node("Magic", ["x"], ["y"], domain="com.nobody.has.it")
    return build([node], [value("x")], [value("y")], domains=["com.nobody.has.it"])


def sequence_output() -> bytes:
    """Model: x FP32[-1,2] → y, a sequence of tensors."""
    tensors = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    return build([helper.make_node("SplitToSequence", ["x"], ["y"])], [value("x")], [tensors])


def endless(*, takes: str = "x") -> bytes:
    """Model: FP32[-1,2] → y, after a loop of 2^63 turns."""
    body = helper.make_graph(
        [helper.make_node("Add", ["carried", "one"], ["next"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            value("carried"),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), value("next")],
        [numpy_helper.from_array(_floats([1]), "one")],
    )
    node = helper.make_node("Loop", ["turns", "yes", takes], ["y"], body=body)
    weights = {"turns": np.array(2**63 - 1), "yes": np.array(True)}
    return build([node], [value(takes)], [value("y")], weights)


def slow(rounds: int = 1, *, takes: str = "x") -> bytes:
    """Model: x FP32[-1,2] → y = x, after `rounds` products of 640 by 640 matrices: more than 5 ms each."""
    nodes = [
        helper.make_node("ReduceMean", [takes], ["mean"], keepdims=0),
        helper.make_node("Expand", ["mean", "size"], ["m0"]),
        *(helper.make_node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]) for i in range(rounds)),
        helper.make_node("ReduceMean", [f"m{rounds}"], ["result"], keepdims=0),
        helper.make_node("Mul", ["result", "zero"], ["nothing"]),
        helper.make_node("Add", [takes, "nothing"], ["y"]),
    ]
    return build(nodes, [value(takes)], [value("y")], {"size": _integers(640, 640), "zero": _floats(0)})


def large(megabytes: float, layout: Literal["few", "many"] = "few", *, takes: str = "x") -> bytes:
    """Model: x FP32[-1,side] → y FP32[-1,side], with weights of this size: 2 of them, or 2,000 with an operator after each."""
    count = 2 if layout == "few" else 2000
    side = side_of_large(megabytes, count)
    pattern = (np.random.default_rng(0).random(1 << 20, dtype=np.float32) - np.float32(0.5)) / np.float32(
        side
    )
    # No two weights alike, for onnxruntime keeps equal ones only once.
    values = np.resize(pattern, side * side + count)
    nodes, weights, last = [], [], takes
    for i in range(count):
        raw = values[i : i + side * side].tobytes()
        weights.append(helper.make_tensor(f"w{i}", TensorProto.FLOAT, [side, side], raw, raw=True))
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"p{i}"]))
        if layout == "many":
            nodes.append(helper.make_node("Relu", [f"p{i}"], [f"r{i}"]))
        last = nodes[-1].output[0]
    nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        nodes, "large", [value(takes, shape=(-1, side))], [value("y", shape=(-1, side))], weights
    )
    imports = [helper.make_opsetid("", OPSET)]
    return content(helper.make_model(graph, ir_version=IR_VERSION, opset_imports=imports))


def side_of_large(megabytes: float, count: int = 2) -> int:
    """How wide the inputs and outputs of `large` are, with so many weights."""
    return max(1, int((megabytes * (1 << 20) / 4 / count) ** 0.5))


def external_data(directory: Path, *, location: str = "weights.bin", constant: float = 7.0) -> bytes:
    """Model: x FP32[-1,2] → y = x + constant, which stands in a file of its own: that is written to the directory."""
    weights = _floats([constant] * 64)
    if "/" not in location:
        (directory / location).write_bytes(weights.tobytes())
    tensor = helper.make_tensor("constant", TensorProto.FLOAT, [64], weights.tobytes(), raw=True)
    make_external(tensor, location)
    nodes = [
        helper.make_node("ReduceMean", ["constant"], ["mean"], keepdims=0),
        helper.make_node("Add", ["x", "mean"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "outside", [value("x")], [value("y")], [tensor])
    imports = [helper.make_opsetid("", OPSET)]
    return content(helper.make_model(graph, ir_version=IR_VERSION, opset_imports=imports))


def make_external(tensor: onnx.TensorProto, location: str) -> onnx.TensorProto:
    """Let a tensor's bytes stand in another file."""
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", location), ("offset", "0"), ("length", str(size))):
        tensor.external_data.add(key=key, value=text)
    return tensor


@functools.cache
def zipmap_classifier(*, zipmap: bool = True) -> bytes:
    """A classifier as skl2onnx exports it: with a list of maps for its probabilities unless told otherwise."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    rows = np.random.default_rng(0).random((40, 3), dtype=np.float32)
    classifier = LogisticRegression().fit(rows, (rows.sum(axis=1) > 1.5).astype(int))
    return content(to_onnx(classifier, rows[:1], options={"zipmap": zipmap}, target_opset=OPSET))


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """An `.npz` file; lists of numbers become FP32."""
    typed = {
        name: each if isinstance(each, np.ndarray) else np.asarray(each, dtype=np.float32)
        for name, each in arrays.items()
    }
    np.savez(path, **typed)  # type: ignore[arg-type]  # numpy's own keyword is a boolean


def _floats(values: ArrayLike) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def _integers(*values: int) -> NDArray[np.int64]:
    return np.asarray(values, dtype=np.int64)
