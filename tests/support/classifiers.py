"""A yard whose versions classify, so that there is a prediction to give feedback on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper
from support.models import build, value
from support.yard import Yard

from model_sidecar.release.tensors import Datatype

A, B = "2024.01.10.prod", "2024.01.12.prod"
"""Two versions: the second gives the other class."""


def classifier(*, flipped: bool = False) -> bytes:
    """Raw FP32[-1,2] → label INT64[-1], the index of the greater, and probabilities FP32[-1,2], their softmax."""
    return build(
        [
            helper.make_node("Mul", ["raw", "sign"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
        ],
        [value("raw")],
        [value("label", Datatype.INT64, (-1,)), value("probabilities")],
        {"sign": np.array([-1.0 if flipped else 1.0], np.float32)},
    )


def classifying(root: Path) -> Yard:
    """A yard with both versions."""
    yard = Yard(root)
    yard.publish(A, model=classifier())
    yard.publish(B, model=classifier(flipped=True))
    return yard
