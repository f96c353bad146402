"""Models for tests of batching: such that answer each row by itself, and such that look as if they did."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper
from support.models import OPSET, build, content, value

from model_sidecar.release.tensors import Datatype


def mlp(*, width: int = 256, layers: int = 8) -> bytes:
    """Model: x FP32[-1,width] → y FP32[-1,width]: what it costs is mostly to read its weights, however many rows there are."""
    nodes, weights = _layers("x", width=width, layers=layers)
    return build(nodes, [value("x", shape=(-1, width))], [value("y", shape=(-1, width))], weights)


def embedded(rows: int, *, width: int = 256) -> bytes:
    """Model: i INT64[-1] → y FP32[-1,width]: an MLP of the row at each index. Fails for an index that is none."""
    nodes, weights = _layers("x", width=width, layers=8)
    lookup = helper.make_node("Gather", ["rows", "i"], ["x"])
    weights["rows"] = _normal((rows, width))
    inputs = [value("i", Datatype.INT64, (-1,))]
    return build([lookup, *nodes], inputs, [value("y", shape=(-1, width))], weights)


def _layers(before: str, *, width: int, layers: int) -> tuple[list[Any], dict[str, NDArray[Any]]]:
    weights: dict[str, NDArray[Any]] = {}
    nodes: list[Any] = []
    for layer in range(layers):
        weights[f"w{layer}"] = _normal((width, width), seed=layer) * np.float32((2 / width) ** 0.5)
        made = "y" if layer == layers - 1 else f"r{layer}"
        nodes.append(helper.make_node("MatMul", [before, f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [made]))
        before = made
    return nodes, weights


def convolution(*, pixels: int = 64) -> bytes:
    """Model: x FP32[-1,3,pixels,pixels] → y FP32[-1,16]: bound by computing, so that rows gain nothing together."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["y"]),
    ]
    weights: dict[str, NDArray[Any]] = {"w1": _normal((16, 3, 3, 3)), "w2": _normal((16, 16, 3, 3))}
    return build(nodes, [value("x", shape=(-1, 3, pixels, pixels))], [value("y", shape=(-1, 16))], weights)


def recurrent() -> bytes:
    """Model: x FP32[-1,-1,8] (rows, steps, features) → y FP32[-1,16]: steps of any number, the same for all rows."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w", "r"], ["all", "last", "cells"], hidden_size=16),
        helper.make_node("Squeeze", ["last", "first"], ["y"]),
    ]
    weights: dict[str, NDArray[Any]] = {
        "w": _normal((1, 64, 8)),
        "r": _normal((1, 64, 16)),
        "first": np.array([0], np.int64),
    }
    return build(nodes, [value("x", shape=(-1, -1, 8))], [value("y", shape=(-1, 16))], weights)


@functools.cache
def forest() -> bytes:
    """A classifier of ai.onnx.ml, as skl2onnx exports it: X FP32[-1,4] → label INT64[-1], probabilities FP32[-1,3]."""
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier

    random = np.random.default_rng(0)
    rows = random.standard_normal((200, 4)).astype(np.float32)
    trees = RandomForestClassifier(20, max_depth=5, random_state=0).fit(rows, random.integers(0, 3, 200))
    return content(to_onnx(trees, rows[:1], options={"zipmap": False}, target_opset=OPSET))


def texts() -> bytes:
    """Model: x BYTES[-1,1], n INT64[-1,2] → y BYTES[-1,1] = x, m INT64[-1,2] = n + 1, code INT64[-1,1] of x."""
    code = helper.make_node(
        "LabelEncoder", ["x"], ["code"], domain="ai.onnx.ml", keys_strings=["a", "b"], values_int64s=[1, 2]
    )
    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("Add", ["n", "one"], ["m"]),
        code,
    ]
    return build(
        nodes,
        [value("x", Datatype.BYTES, (-1, 1)), value("n", Datatype.INT64, (-1, 2))],
        [
            value("y", Datatype.BYTES, (-1, 1)),
            value("m", Datatype.INT64, (-1, 2)),
            value("code", Datatype.INT64, (-1, 1)),
        ],
        {"one": np.array([1], np.int64)},
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)],
    )


def _of(*nodes: Any, outputs: Mapping[str, tuple[Any, ...]] | None = None, **weights: NDArray[Any]) -> bytes:
    made = [value(name, shape=shape) for name, shape in (outputs or {"y": (-1, 4)}).items()]
    return build(nodes, [value("x", shape=(-1, 4))], made, weights)


def _statistics(mode: str) -> bytes:
    """X + (x - mean over the rows), as a normalisation that was exported in its training mode."""
    return _of(
        helper.make_node(mode, ["x", "rows"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["apart"]),
        helper.make_node("Add", ["x", "apart"], ["y"]),
        rows=np.array([0], np.int64),
    )


def quantized() -> bytes:
    """Model: x FP32[-1,1024] → y FP32[-1,1024] = x between -1 and 1, in 255 steps of the widest of all rows.

    Nearly every row that is made up is as wide as that allows, and so is in the same steps alone.
    """
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["clipped"]),
        helper.make_node("DynamicQuantizeLinear", ["clipped"], ["steps", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["steps", "scale", "zero"], ["y"]),
    ]
    limits = {"low": np.array(-1, np.float32), "high": np.array(1, np.float32)}
    return build(nodes, [value("x", shape=(-1, 1024))], [value("y", shape=(-1, 1024))], limits)


def scaled() -> bytes:
    """Model: x FP32[-1,1024] → y FP32[-1,1024] = x between -1 and 1, NaN as 0, over the greatest of all rows."""
    nodes = [
        helper.make_node("IsNaN", ["x"], ["none"]),
        helper.make_node("Where", ["none", "zero", "x"], ["numbers"]),
        helper.make_node("Clip", ["numbers", "low", "high"], ["clipped"]),
        helper.make_node("Abs", ["clipped"], ["sizes"]),
        helper.make_node("ReduceMax", ["sizes"], ["greatest"], keepdims=0),
        helper.make_node("Div", ["clipped", "greatest"], ["y"]),
    ]
    limits = {name: np.array(at, np.float32) for name, at in (("low", -1), ("zero", 0), ("high", 1))}
    return build(nodes, [value("x", shape=(-1, 1024))], [value("y", shape=(-1, 1024))], limits)


MIXING: Mapping[str, Callable[[], bytes]] = {
    "softmax over rows": lambda: _of(
        helper.make_node("Softmax", ["x"], ["shares"], axis=0),
        helper.make_node("Mul", ["x", "shares"], ["y"]),
    ),
    "mean over rows": lambda: _statistics("ReduceMean"),
    "greatest of rows": lambda: _statistics("ReduceMax"),
    "running sum of rows": lambda: _of(
        helper.make_node("CumSum", ["x", "axis"], ["y"]), axis=np.array(0, np.int64)
    ),
    "rows in reverse": lambda: _of(
        helper.make_node("Slice", ["x", "last", "before", "zero", "back"], ["y"]),
        last=np.array([-1], np.int64),
        before=np.array([np.iinfo(np.int64).min], np.int64),
        zero=np.array([0], np.int64),
        back=np.array([-1], np.int64),
    ),
    "rows sorted": lambda: _of(
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["count"]),
        helper.make_node("TopK", ["x", "count"], ["y", "order"], axis=0),
        zero=np.array([0], np.int64),
        one=np.array([1], np.int64),
    ),
    "a number drawn": lambda: _of(
        helper.make_node("RandomUniformLike", ["x"], ["noise"]),
        helper.make_node("Add", ["x", "noise"], ["y"]),
    ),
    "one answer for all rows": lambda: _of(
        helper.make_node("ReduceSum", ["x", "rows"], ["y"], keepdims=1),
        rows=np.array([0], np.int64),
    ),
    "not a number spreads": lambda: _of(
        helper.make_node("ReduceSum", ["x", "all"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
        all=np.array([0, 1], np.int64),
        zero=np.array([0], np.float32),
    ),
    "a flag that is hardly ever raised": lambda: _of(
        helper.make_node("Add", ["x", "x"], ["y"]),
        helper.make_node("ReduceMax", ["x", "all"], ["most"], keepdims=1),
        helper.make_node("Greater", ["most", "huge"], ["raised"]),
        helper.make_node("Cast", ["raised"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "number"], ["flag"]),
        outputs={"y": (-1, 4), "flag": (-1, 4)},
        all=np.array([0, 1], np.int64),
        huge=np.array([1e30], np.float32),
        zero=np.array([0], np.float32),
    ),
    "only positive elements": lambda: _of(
        helper.make_node("Greater", ["x", "zero"], ["chosen"]),
        helper.make_node("Reshape", ["chosen", "all"], ["flat"]),
        helper.make_node("Compress", ["x", "flat"], ["y"]),
        outputs={"y": (-1,)},
        zero=np.array([0], np.float32),
        all=np.array([-1], np.int64),
    ),
}
"""Models x FP32[-1,4] → y that look as if each row were answered by itself, and for which that is not so."""


def dies_of_zero() -> bytes:
    """Model: x FP32[-1,1024], n INT64[-1,1] → y: ends the process by SIGFPE where n is 0 (see `killers`)."""
    nodes = [
        *(helper.make_node("MatMul", [f"m{i}" if i else "x", "w"], [f"m{i + 1}"]) for i in range(8)),
        helper.make_node("Add", ["n", "smallest"], ["dividend"]),
        helper.make_node("Div", ["dividend", "minus_one"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["back"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["back", "zero"], ["nothing"]),
        helper.make_node("Add", ["m8", "nothing"], ["y"]),
    ]
    weights = {
        "w": _normal((1024, 1024)) * np.float32(0.05),
        "smallest": np.array([-(2**63)], np.int64),
        "minus_one": np.array([-1], np.int64),
        "zero": np.array([0], np.float32),
    }
    inputs = [value("x", shape=(-1, 1024)), value("n", Datatype.INT64, (-1, 1))]
    return build(nodes, inputs, [value("y", shape=(-1, 1024))], weights)


def _normal(shape: tuple[int, ...], *, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
