"""Models for tests of the wire: they take and give what they are told, and can be held up in the middle of a run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from support import models
from support.resident import manifest_of

from model_sidecar.errors import DeadlineOverError
from model_sidecar.model.brake import Brake
from model_sidecar.model.execution import Batching
from model_sidecar.release.baseline import Baseline
from model_sidecar.release.names import ModelName
from model_sidecar.release.tensors import Arrays, Datatype, Signature, TensorSpec

Compute = Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]

INLINE_S = 1e-6
POOLED_S = 1.0
WAIT_S = 20.0

ROWS = Signature((TensorSpec("x", Datatype.FP32, (-1, 2)),), (TensorSpec("y", Datatype.FP32, (-1, 2)),))


def echo_signature(datatype: Datatype, shape: tuple[int, ...] = (-1,)) -> Signature:
    """One input `x` and one output `y` of this type and shape."""
    return Signature((TensorSpec("x", datatype, shape),), (TensorSpec("y", datatype, shape),))


class ComputedModel:
    """A resident version that answers with a function of its inputs; the first input under `y` unless told otherwise.

    Attributes:
        begun: set when a run has begun.
        gate: a run goes on once this is set; set from the start unless `hold` is called.
        runs: how many runs have ended.
        given: how many rows each run that has begun was given; of the first input.
        braked: set once somebody has pulled a run's brake.
        closed: set once its memory was given back.
    """

    def __init__(
        self,
        version: str = "2024.01.15.prod",
        *,
        signature: Signature = ROWS,
        compute: Compute | None = None,
        cost_s: float = INLINE_S,
        warm_bytes: int = 64,
        batching: Batching | None = None,
        model: str = "echo",
    ) -> None:
        self.model = ModelName(model)
        self.manifest = manifest_of(version, salt=str(signature))
        self.version = self.manifest.version
        self.signature = signature
        self.baseline: Baseline | None = None
        self.loaded_at = datetime.now(UTC)
        self.cost_s = cost_s
        self.warm_bytes = warm_bytes
        self.batching = batching
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.runs = 0
        self.given: list[int] = []
        self.threads: set[str] = set()
        self.braked = threading.Event()
        self.closed = threading.Event()
        self._compute = compute or (lambda inputs: {"y": next(iter(inputs.values()))})

    def hold(self) -> None:
        """Let runs wait in the middle until `gate` is set."""
        self.gate.clear()

    def pass_one(self) -> None:
        """Let the run that waits in the middle go on, and hold those that begin from now on."""
        gate, self.gate = self.gate, threading.Event()
        gate.set()

    def run(
        self, inputs: Arrays, outputs: Sequence[str] | None = None, *, brake: Brake | None = None
    ) -> dict[str, NDArray[Any]]:
        """One answer; a released model must never be asked."""
        assert not self.closed.is_set(), f"{self.version} was run after its release"
        self.threads.add(threading.current_thread().name)
        first = next(iter(inputs.values()))
        self.given.append(first.shape[0] if first.ndim else 1)
        self.begun.release()
        if brake is not None:
            # The operator then at work is done first: a held run ends when the gate opens, and not before.
            brake.fit(self.braked.set)
        assert self.gate.wait(WAIT_S), "nobody opened the gate"
        if brake is not None and brake.pulled:
            raise DeadlineOverError("the model was stopped before it had answered")
        made = self._compute(dict(inputs))
        self.runs += 1
        return {name: array for name, array in made.items() if outputs is None or name in outputs}

    def close(self) -> None:
        """Give the memory back."""
        self.closed.set()


def doubled(inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Twice the input."""
    return {"y": np.asarray(inputs["x"] * 2, dtype=inputs["x"].dtype)}


def counted_loop() -> bytes:
    """Model: x FP32[-1,2], turns INT64[] → y = x + turns, counted up one by one: what a call costs is in its values."""
    body = helper.make_graph(
        [helper.make_node("Add", ["carried", "one"], ["next"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            models.value("carried"),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), models.value("next")],
        [numpy_helper.from_array(np.ones(1, dtype=np.float32), "one")],
    )
    node = helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=body)
    inputs = [models.value("x"), models.value("turns", Datatype.INT64, ())]
    return models.build([node], inputs, [models.value("y")], {"yes": np.array(1, dtype=bool)})
