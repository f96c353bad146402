"""Real ONNX models that do harm to the process that runs them: they end it, never return, or eat its memory.

Each is a few hundred bytes, valid, and loads in any checker. That onnxruntime divides the smallest integer by -1, which
the processor answers with SIGFPE, is what ends a process; a later release may have mended it, and then `CRASHING` needs
another idea.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from support import models

SMALLEST = -(2**63)
"""The input on which `crashes_on_the_smallest` ends the process; exact as FP32, too."""


def crashes_when_run(*, takes: str = "x") -> bytes:
    """Model: FP32[-1,2] → y; its first run ends the process by SIGFPE."""
    nodes = [
        helper.make_node("Mul", [takes, "zero"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["integer"], to=TensorProto.INT64),
        helper.make_node("Add", ["integer", "smallest"], ["dividend"]),
        helper.make_node("Div", ["dividend", "minus_one"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["y"], to=TensorProto.FLOAT),
    ]
    return models.build(nodes, [models.value(takes)], [models.value("y")], _WEIGHTS)


def crashes_when_loaded(*, takes: str = "x") -> bytes:
    """Model: FP32[-1,2] → y; onnxruntime computes its constants when it loads it, and that ends the process by SIGFPE."""
    nodes = [
        helper.make_node("Div", ["smallest", "minus_one"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["constant"], to=TensorProto.FLOAT),
        helper.make_node("Add", [takes, "constant"], ["y"]),
    ]
    return models.build(nodes, [models.value(takes)], [models.value("y")], _WEIGHTS)


def crashes_on_the_smallest(constant: float = 0.0, *, takes: str = "raw") -> bytes:
    """Model: FP32[-1,2] → y = input + constant; ends the process by SIGFPE when somebody sends SMALLEST."""
    nodes = [
        helper.make_node("Cast", [takes], ["integer"], to=TensorProto.INT64),
        helper.make_node("Div", ["integer", "minus_one"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["back"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["back", "zero"], ["nothing"]),
        helper.make_node("Add", [takes, "nothing"], ["same"]),
        helper.make_node("Add", ["same", "constant"], ["y"]),
    ]
    weights: dict[str, NDArray[Any]] = {**_WEIGHTS, "constant": np.asarray([constant], np.float32)}
    return models.build(nodes, [models.value(takes)], [models.value("y")], weights)


def never_loads(*, takes: str = "x") -> bytes:
    """Model: FP32[-1,2] → y by 48 functions, each of which calls the next one twice: inlined, 2^48 operators."""
    imports = [helper.make_opsetid("", models.OPSET), helper.make_opsetid("f", 1)]

    def called(number: int, source: str, target: str) -> onnx.NodeProto:
        if number == 48:
            return helper.make_node("Neg", [source], [target])
        return helper.make_node(f"F{number}", [source], [target], domain="f")

    functions = [
        helper.make_function(
            "f", f"F{i}", ["a"], ["c"], [called(i + 1, "a", "b"), called(i + 1, "b", "c")], imports
        )
        for i in range(48)
    ]
    graph = helper.make_graph([called(0, takes, "y")], "doubling", [models.value(takes)], [models.value("y")])
    return models.content(
        helper.make_model(graph, ir_version=models.IR_VERSION, opset_imports=imports, functions=functions)
    )


def grows_when_run(*, takes: str = "x") -> bytes:
    """Model: FP32[-1,2] → y, by way of a tensor that is doubled fifty times: 8 PiB, were there as many."""
    body = helper.make_graph(
        [
            helper.make_node("Concat", ["carried", "carried"], ["next"], axis=0),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            models.value("carried", shape=None),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), models.value("next", shape=None)],
    )
    nodes = [
        helper.make_node("Loop", ["turns", "yes", takes], ["large"], body=body),
        helper.make_node("ReduceMean", ["large"], ["mean"], keepdims=0),
        helper.make_node("Add", [takes, "mean"], ["y"]),
    ]
    weights = {"turns": np.array(50), "yes": np.array(True)}
    return models.build(nodes, [models.value(takes)], [models.value("y")], weights)


def grows_when_loaded(gibibytes: int = 1 << 10, *, takes: str = "x") -> bytes:
    """Model: FP32[-1,2] → y = input + 1, by way of a constant of this size, which onnxruntime makes when it loads it."""
    one = numpy_helper.from_array(np.ones(1, np.float32))
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["large"], value=one),
        helper.make_node("ReduceMean", ["large"], ["mean"], keepdims=0),
        helper.make_node("Add", [takes, "mean"], ["y"]),
    ]
    weights = {"size": np.array([gibibytes << 28])}
    return models.build(nodes, [models.value(takes)], [models.value("y")], weights)


_WEIGHTS: Mapping[str, NDArray[Any]] = {
    "zero": np.zeros(1, np.float32),
    "smallest": np.array([SMALLEST]),
    "minus_one": np.array([-1]),
}

KILLERS: Mapping[str, tuple[Callable[..., bytes], str]] = {
    "crashes when it is loaded": (crashes_when_loaded, "MODEL_CRASHED"),
    "crashes when it is run": (crashes_when_run, "MODEL_CRASHED"),
    "never loads": (never_loads, "MODEL_TIMED_OUT"),
    "never answers": (models.endless, "MODEL_TIMED_OUT"),
    "eats memory when it is loaded": (grows_when_loaded, "MODEL_OUT_OF_MEMORY"),
    "eats memory when it is run": (grows_when_run, "MODEL_OUT_OF_MEMORY"),
}
"""What each does, how to build it, and the reason for which it is refused."""
