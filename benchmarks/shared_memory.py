"""What shared memory gains: a large tensor through a region against the same as a gRPC message, over the same Unix socket.

    python benchmarks/shared_memory.py [--fast]

Both ways take turns in one run, through `Client` in this process, against one sidecar in a process of its own; the copies
into the region and out of it count.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import helper

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness.figures import Figure, Goal, Measured, ratios, spread
from harness.results import measured_alone
from harness.rounds import in_turns
from support import models
from support.sidecars import serving
from support.yard import MODEL, Yard

from model_sidecar_client import Client

VERSION = "2024.01.10.prod"
MEBIBYTES = (1, 16, 64)
GOAL, GOAL_FROM_MIB = Goal(20.0), 16
TIMEOUT_S = 60.0

Rows = NDArray[np.float32]

_WIDTH = 1 << 18
"""Elements of a row, which is a mebibyte."""
# A message has a little more than its tensor.
MAX_MESSAGE = "80MiB"


def measure(*, fast: bool = False) -> Measured:
    """All sizes, in and echoed; `fast` is for a look whether it runs."""
    figures: list[Figure] = []
    for kind, model in (("in", _first_four()), ("echo", models.identity(shape=(-1, _WIDTH), takes="raw"))):
        with tempfile.TemporaryDirectory() as root:
            yard = Yard(Path(root))
            yard.publish(VERSION, model=model, golden=False)
            with (
                serving(yard, VERSION, "--shared-memory", "--max-message", MAX_MESSAGE) as sidecar,
                Client(sidecar.data, shared_memory=False, timeout_s=TIMEOUT_S) as by_message,
                Client(sidecar.data, shared_memory=True, timeout_s=TIMEOUT_S) as by_region,
            ):
                for mebibytes in MEBIBYTES:
                    rounds = 3 if fast else max(11, 96 // mebibytes)
                    rows = np.random.default_rng(mebibytes).random((mebibytes, _WIDTH), np.float32)
                    figures.append(_figure(kind, by_message, by_region, rows, rows, rounds=rounds))
                    if kind == "in":
                        with by_region.shared_array(rows.shape) as placed:
                            placed[...] = rows
                            figures.append(
                                _figure("in place", by_message, by_region, rows, placed, rounds=rounds)
                            )
    return Measured(
        title="What shared memory gains: a large tensor through a region, against the same as a message.",
        figures=tuple(figures),
        notes=(
            '"In" goes to a model that looks at four elements of each row; "echo" comes back whole.',
            '"In place" goes in as an array that was filled in shared memory (`Client.shared_array`).',
            "Both ways through `Client`, over the same Unix socket; its copies into the region and out of it count.",
        ),
    )


def _figure(
    kind: str, by_message: Client, by_region: Client, sent: Rows, laid: Rows, *, rounds: int
) -> Figure:
    for _ in range(3):  # the first tells how large the answers are
        _asked_s(by_region, laid)
    _asked_s(by_message, sent)
    found = in_turns(
        {"message": lambda: _asked_s(by_message, sent), "region": lambda: _asked_s(by_region, laid)},
        rounds=rounds,
    )
    message, region = ([1e3 * each for each in found[name]] for name in ("message", "region"))
    return Figure(
        f"{len(sent)} MiB {kind}, by message over by region",
        ratios(message, region),
        GOAL if len(sent) >= GOAL_FROM_MIB else None,
        note=f"{spread(message, '{:.1f}')} ms beside {spread(region, '{:.1f}')} ms",
    )


def _asked_s(client: Client, rows: Rows) -> float:
    begun = time.perf_counter()
    answer = client.predict(MODEL, {"raw": rows}).outputs["y"]
    took_s = time.perf_counter() - begun
    assert (answer[:, :4] == rows[:, :4]).all(), "an answer to another question"
    return took_s


def _first_four() -> bytes:
    """Model: raw FP32[-1,_WIDTH] → y FP32[-1,4], the first four of each row."""
    bounds = {"start": np.array([0]), "end": np.array([4]), "axis": np.array([1])}
    return models.build(
        [helper.make_node("Slice", ["raw", *bounds], ["y"])],
        [models.value("raw", shape=(-1, _WIDTH))],
        [models.value("y", shape=(-1, 4))],
        bounds,
    )


if __name__ == "__main__":
    measured_alone("shared_memory", measure)
