"""What shared memory gains: a large tensor through a region against the same as a gRPC message, over the same Unix socket.

    python benchmarks/shared_memory.py [--fast]

Both ways take turns in one run, through `Client` in this process, against one sidecar in a process of its own; the copies
into the region and out of it count. "in" is a model that looks at four elements of each row, "in place" the same with an array
that was filled in shared memory (`Client.shared_array`), "echo" a model that gives all of them back. Each line is the median of the rounds' ratios, with the least and the greatest, and the medians of both ways. Fails
where a tensor of 16 MiB or more gains less than 20 times.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import helper

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support import models
from support.sidecars import serving
from support.yard import MODEL, Yard

from model_sidecar_client import Client

VERSION = "2024.01.10.prod"
MEBIBYTES = (1, 16, 64)
GOAL, GOAL_FROM_MIB = 20.0, 16
TIMEOUT_S = 60.0

Rows = NDArray[np.float32]

_WIDTH = 1 << 18
"""Elements of a row, which is a mebibyte."""
# A message has a little more than its tensor.
MAX_MESSAGE = "80MiB"


@dataclass(frozen=True, slots=True)
class Line:
    """One size, one direction.

    Attributes:
        kind: "in", "in place" or "echo".
        mebibytes: of the tensor.
        message_s: seconds of a call by message, round by round.
        region_s: seconds of a call by region, round by round.
    """

    kind: str
    mebibytes: int
    message_s: tuple[float, ...]
    region_s: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast, round by round."""
        return [message / region for message, region in zip(self.message_s, self.region_s, strict=True)]

    @property
    def ratio(self) -> float:
        """Of the medians of both, which one stray call moves less than a median of ratios."""
        return statistics.median(self.message_s) / statistics.median(self.region_s)


def measure(*, fast: bool = False) -> list[Line]:
    """All lines; `fast` is for a look whether it runs."""
    lines: list[Line] = []
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
                    lines.append(_line(kind, by_message, by_region, rows, rows, rounds=rounds))
                    if kind == "in":
                        with by_region.shared_array(rows.shape) as placed:
                            placed[...] = rows
                            lines.append(
                                _line("in place", by_message, by_region, rows, placed, rounds=rounds)
                            )
    return lines


def _line(kind: str, by_message: Client, by_region: Client, sent: Rows, laid: Rows, *, rounds: int) -> Line:
    for _ in range(3):  # the first tells how large the answers are
        _asked_s(by_region, laid)
    _asked_s(by_message, sent)
    message_s: list[float] = []
    region_s: list[float] = []
    ways = ((message_s, by_message, sent), (region_s, by_region, laid))
    for number in range(rounds):
        for took_s, client, rows in ways if number % 2 else ways[::-1]:
            took_s.append(_asked_s(client, rows))
    return Line(kind, len(sent), tuple(message_s), tuple(region_s))


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


def table(lines: Iterable[Line]) -> str:
    """The lines for people."""
    return "\n".join(
        f"{line.kind:>8} {line.mebibytes:>3} MiB: {statistics.median(line.message_s) * 1e3:7.1f} ms by message, "
        f"{statistics.median(line.region_s) * 1e3:6.1f} ms by region: {line.ratio:5.1f} times "
        f"({min(line.ratios):.1f} to {max(line.ratios):.1f}, {len(line.ratios)} rounds)"
        for line in lines
    )


def main() -> None:
    """Measure, print, and fail where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--fast", action="store_true", help="a few rounds only")
    lines = measure(fast=parser.parse_args().fast)
    print(table(lines))
    sys.exit(any(line.ratio < GOAL for line in lines if line.mebibytes >= GOAL_FROM_MIB))


if __name__ == "__main__":
    main()
