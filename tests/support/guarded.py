"""Versions that go wrong in the ways that the guard knows, and callers who keep asking until something happens."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper
from support import models
from support.sidecars import RunningSidecar
from support.yard import MODEL, PROD

from model_sidecar_client import Feedback, InternalError, Record

A, B, C = "2024.01.10.prod", "2024.01.12.prod", "2024.01.15.prod"
SOON_S = 40.0
_ROWS = np.random.default_rng(7).normal(size=(4096, 2)).astype(np.float32)
"""Requests of one row; half of them are positive in their first value, and half are greater there than in their second."""

_ZERO, _ONE = np.zeros(1, np.float32), np.ones(1, np.float32)


def sensible(sharpness: float = 2.0) -> bytes:
    """Model: raw FP32[-1,2] → y, the shares of two classes: the greater value's is the likelier."""
    nodes = [helper.make_node("Mul", ["raw", "sharpness"], ["m"]), helper.make_node("Softmax", ["m"], ["y"])]
    return _built(nodes, sharpness=np.array([sharpness], np.float32))


def contrary() -> bytes:
    """The same, with the classes swapped: as sure, and never of the same opinion."""
    return sensible(-2.0)


def biased() -> bytes:
    """As sure, and of another opinion in a fifth of the requests: it leans to the first class."""
    nodes = [
        helper.make_node("Mul", ["raw", "two"], ["m"]),
        helper.make_node("Add", ["m", "bias"], ["b"]),
        helper.make_node("Softmax", ["b"], ["y"]),
    ]
    return _built(nodes, two=_ONE * 2, bias=np.array([1.5, 0], np.float32))


def timid() -> bytes:
    """The same classes, hardly surer of one than of the other."""
    return sensible(0.01)


def constant() -> bytes:
    """Always the same shares, whatever it is asked."""
    nodes = [
        helper.make_node("Mul", ["raw", "zero"], ["m"]),
        helper.make_node("Add", ["m", "bias"], ["b"]),
        helper.make_node("Softmax", ["b"], ["y"]),
    ]
    return _built(nodes, zero=_ZERO, bias=np.array([0.5, -0.25], np.float32))


def rootless(sharpness: float = 2.0) -> bytes:
    """NaN wherever a value is negative: it takes a root."""
    nodes = [
        helper.make_node("Sqrt", ["raw"], ["root"]),
        helper.make_node("Mul", ["root", "sharpness"], ["m"]),
        helper.make_node("Softmax", ["m"], ["y"]),
    ]
    return _built(nodes, sharpness=np.array([sharpness], np.float32))


def slow(rounds: int = 3) -> bytes:
    """As `sensible`, after a few large products."""
    nodes = [
        helper.make_node("ReduceMean", ["raw"], ["mean"], keepdims=0),
        helper.make_node("Expand", ["mean", "size"], ["m0"]),
        *(helper.make_node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]) for i in range(rounds)),
        helper.make_node("ReduceMean", [f"m{rounds}"], ["result"], keepdims=0),
        helper.make_node("Mul", ["result", "zero"], ["nothing"]),
        helper.make_node("Add", ["raw", "nothing"], ["same"]),
        helper.make_node("Mul", ["same", "two"], ["m"]),
        helper.make_node("Softmax", ["m"], ["y"]),
    ]
    return _built(nodes, size=np.array([400, 400], np.int64), zero=_ZERO, two=_ONE * 2)


def picky() -> bytes:
    """Fails inside the model wherever the first value is positive: there is no row of that number in its table."""
    nodes = [
        helper.make_node("Slice", ["raw", "from", "to", "axis"], ["first"]),
        helper.make_node("Sign", ["first"], ["sign"]),
        helper.make_node("Relu", ["sign"], ["bad"]),
        helper.make_node("Mul", ["bad", "far"], ["far_away"]),
        helper.make_node("Cast", ["far_away"], ["index"], to=7),
        helper.make_node("Gather", ["rows", "index"], ["row"]),
        helper.make_node("Add", ["raw", "row"], ["sum"]),
        helper.make_node("Softmax", ["sum"], ["y"]),
    ]
    return _built(
        nodes,
        **{"from": np.array([0]), "to": np.array([1]), "axis": np.array([1])},
        far=np.array([99], np.float32),
        rows=_ZERO,
    )


def _built(nodes: list[Any], **weights: NDArray[Any]) -> bytes:
    return models.build(nodes, [models.value("raw")], [models.value("y")], weights)


def ask_until(
    sidecar: RunningSidecar, happened: Callable[[], Any], *, positive: bool = False, for_s: float = SOON_S
) -> Any:
    """Keep asking, a row at a time, and give back what `happened` says once that is something.

    `positive`: only rows without a negative value.
    """
    rows = np.abs(_ROWS) if positive else _ROWS
    end = time.monotonic() + for_s
    with sidecar.client() as client:
        for count in itertools.count():
            # A version may fail; that is what the guard is to see.
            with suppress(InternalError):
                client.predict(MODEL, {"raw": rows[count % len(rows)][None]})
            if count % 50 == 49 and (found := happened()):
                return found
            if time.monotonic() >= end:
                return happened()
    raise AssertionError("it never ends by itself")


def tell_truths(sidecar: RunningSidecar, happened: Callable[[], Any], *, for_s: float = SOON_S) -> Any:
    """Ask, and tell a few seconds later what was true: that the greater value's class was right. Until something happened."""
    end = time.monotonic() + for_s
    late: deque[tuple[float, Feedback]] = deque()
    with sidecar.client() as client:
        for count in itertools.count():
            row = _ROWS[count % len(_ROWS)]
            answer = client.predict(MODEL, {"raw": row[None]})
            assert answer.prediction_id is not None
            late.append(
                (
                    time.monotonic() + 3,
                    Feedback(prediction_id=answer.prediction_id, truth=float(row.argmax())),
                )
            )
            if count % 50 == 49:
                due = []
                while late and late[0][0] <= time.monotonic():
                    due.append(late.popleft()[1])
                if due:
                    client.feedback_many(due)
                if (found := happened()) or time.monotonic() >= end:
                    return found
            time.sleep(
                0.002
            )  # labels of some seconds are to be remembered, not of tens of thousands of requests
    raise AssertionError("it never ends by itself")


def ask(sidecar: RunningSidecar, times: int, *, positive: bool = False) -> None:
    """Ask so often."""
    left = itertools.count(1)
    ask_until(sidecar, lambda: next(left) * 50 >= times, positive=positive)


def head(sidecar: RunningSidecar) -> Record:
    """The newest record."""
    with sidecar.operator() as operator:
        return operator.history(MODEL, environment=PROD, limit=1)[0]


def rolled_back(sidecar: RunningSidecar) -> Record | None:
    """The guard's rollback, if it is the newest record."""
    record = head(sidecar)
    return record if record.actor.method == "guard" else None
