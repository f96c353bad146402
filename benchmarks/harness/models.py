"""The models that are measured: two that cost microseconds, one bound by its weights, one by arithmetic; and their requests."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper
from support import models

from model_sidecar_client.wire.inference import ModelInferRequest

_SEED = 5


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to serve, and an input for it.

    Attributes:
        content: the ONNX file, with the input `x` and the output `y`, both FP32, of which the first dimension is free.
        rows: one request's input.
    """

    name: str
    content: bytes
    rows: NDArray[np.float32]

    def request(self, model_name: str, **fields: Any) -> bytes:
        """The serialized ModelInferRequest."""
        request = ModelInferRequest(model_name=model_name, **fields)
        request.inputs.add(name="x", datatype="FP32", shape=self.rows.shape)
        request.raw_input_contents.append(self.rows.tobytes())
        return request.SerializeToString()


def logistic(features: int = 16) -> Subject:
    """`features` to 2, and a softmax."""
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["z"]), helper.make_node("Softmax", ["z"], ["y"])]
    weights = {"w": _weights(features, 2), "b": _weights(2)}
    return _subject(
        "logistic 16→2" if features == 16 else f"logistic {features}→2", nodes, weights, (features,), (2,)
    )


def tiny() -> Subject:
    """A multilayer perceptron 64→64→8: some ten microseconds, so that all else is the server's cost and the client's."""
    return mlp([64, 64, 8], name="tiny MLP 64→64→8")


def mlp(widths: list[int], *, name: str = "", seed: int = _SEED) -> Subject:
    """Layers of these widths, with ReLU between; a large one is bound by reading its weights."""
    nodes: list[Any] = []
    weights: dict[str, NDArray[Any]] = {}
    takes = "x"
    for number, (wide, next_wide) in enumerate(pairwise(widths)):
        last = number == len(widths) - 2
        makes = "y" if last else f"h{number}"
        weights |= {
            f"w{number}": _weights(wide, next_wide, seed=seed + number) / np.float32(np.sqrt(wide)),
            f"b{number}": _weights(next_wide, seed=seed + number),
        }
        nodes.append(
            helper.make_node("Gemm", [takes, f"w{number}", f"b{number}"], [makes if last else f"z{number}"])
        )
        if not last:
            nodes.append(helper.make_node("Relu", [f"z{number}"], [makes]))
        takes = makes
    return _subject(name or f"MLP {len(widths) - 1}×{widths[1]}", nodes, weights, (widths[0],), (widths[-1],))


def weight_bound() -> Subject:
    """Eight layers of 1,024, 32 MB: one row costs the reading of all weights."""
    return mlp([1024] * 9, name="MLP 8×1024 (32 MB)")


def fifty_megabytes(seed: int = _SEED) -> Subject:
    """12.6 million weights, 50 MB: what a reload has to read."""
    return mlp([1024, 3072, 3072], name="MLP of 50 MB", seed=seed)


def conv() -> Subject:
    """A small convolutional net on [1,3,64,64]: some five milliseconds of arithmetic."""
    channels = [3, 32, 64, 88]
    nodes: list[Any] = []
    weights: dict[str, NDArray[Any]] = {}
    takes = "x"
    for number, (deep, next_deep) in enumerate(pairwise(channels)):
        weights[f"k{number}"] = _weights(next_deep, deep, 3, 3, seed=_SEED + number) / np.float32(
            3 * np.sqrt(deep)
        )
        nodes += [
            helper.make_node("Conv", [takes, f"k{number}"], [f"c{number}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{number}"], [f"r{number}"]),
        ]
        takes = f"r{number}"
    weights["w"] = _weights(channels[-1], 8)
    nodes += [
        helper.make_node("GlobalAveragePool", [takes], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    return _subject("conv net [1,3,64,64]", nodes, weights, (3, 64, 64), (8,))


def _subject(
    name: str,
    nodes: list[Any],
    weights: dict[str, NDArray[Any]],
    takes: tuple[int, ...],
    gives: tuple[int, ...],
) -> Subject:
    content = models.build(
        nodes, [models.value("x", shape=(-1, *takes))], [models.value("y", shape=(-1, *gives))], weights
    )
    return Subject(name, content, _weights(1, *takes, seed=_SEED + 100))


def _weights(*shape: int, seed: int = _SEED) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
