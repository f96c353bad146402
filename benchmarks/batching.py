"""What running requests together gains: a weight-bound model, batched against each by itself; and what a lane costs a convolution.

    python benchmarks/batching.py [--fast]

Two sidecars serve the same version, one with `--max-batch-rows 1`, and h2load (Debian's nghttp2-client) asks one after
the other, in turns. The convolution gains nothing by batches, so it stays in lanes: its rate is held against that of bare
onnxruntime, on as many threads as there are lanes, measured in between. Each line is the median of the rounds' ratios,
with the least and the greatest.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import onnxruntime as ort
from onnx import helper

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support import models
from support.sidecars import RunningSidecar, serving
from support.yard import MODEL, Yard

from model_sidecar_client.wire import services
from model_sidecar_client.wire.inference import ModelInferRequest

VERSION = "2024.01.10.prod"
_TRIES = 3
METHOD = "/inference.GRPCInferenceService/ModelInfer"
LANES = 2
WIDTH, LAYERS = 1024, 8
PIXELS = 80
GOALS = {"MLP, 64 in flight": 4.0, "convolution, 8 in flight": 0.85, "convolution, 16 in flight": 0.85}


@dataclass(frozen=True, slots=True)
class Figure:
    """One comparison.

    Attributes:
        name: of what, and how.
        rates: answers a second of the first, and of what it is held against, round by round.
        against: what that is.
    """

    name: str
    rates: tuple[tuple[float, float], ...]
    against: str

    @property
    def ratios(self) -> list[float]:
        """First over second, round by round."""
        return [one / other for one, other in self.rates]

    @property
    def ratio(self) -> float:
        """Their median."""
        return statistics.median(self.ratios)

    @property
    def goal(self) -> float | None:
        """What it should reach; None where it is only told."""
        return GOALS.get(self.name)

    def __str__(self) -> str:
        one, other = (statistics.median(each) for each in zip(*self.rates, strict=True))
        goal = f"; goal {self.goal:g}" if self.goal else ""
        return (
            f"{self.name:<26} {one:7.0f}/s, {self.against} {other:7.0f}/s: {self.ratio:.2f} times "
            f"({min(self.ratios):.2f} to {max(self.ratios):.2f}){goal}"
        )


def measure(*, fast: bool) -> list[Figure]:
    """All figures; `fast` only shows that it works."""
    seconds, rounds = (0.5, 2) if fast else (2.0, 5)
    with tempfile.TemporaryDirectory() as root:
        return [*_mlp(Path(root), seconds, rounds), *_convolution(Path(root), seconds, rounds)]


def _mlp(root: Path, seconds: float, rounds: int) -> Iterator[Figure]:
    request = _request((1, WIDTH))
    with (
        _sidecar(root / "mlp", mlp(), execution="batched") as batched,
        _sidecar(root / "one", mlp(), "--max-batch-rows", "1", execution="lanes") as alone,
    ):
        for callers in (1, 8, 64):
            ways = [_asking(each, request, callers=callers, seconds=seconds) for each in (batched, alone)]
            yield Figure(f"MLP, {callers} in flight", _in_turns(ways, rounds), "each by itself")


def _convolution(root: Path, seconds: float, rounds: int) -> Iterator[Figure]:
    model, shape = convolution(), (1, 1, PIXELS, PIXELS)
    with _sidecar(root / "convolution", model, execution="lanes") as sidecar:
        for callers in (8, 16):
            asking = _asking(sidecar, _request(shape), callers=callers, seconds=seconds)
            ways = [asking, lambda: bare_rate(model, shape, seconds=seconds)]
            yield Figure(
                f"convolution, {callers} in flight",
                _in_turns(ways, rounds),
                f"onnxruntime on {LANES} threads",
            )


def _in_turns(ways: list[Callable[[], float]], rounds: int) -> tuple[tuple[float, float], ...]:
    for way in ways:
        way()  # warm
    measured = []
    for number in range(rounds):
        order = range(2) if number % 2 == 0 else range(1, -1, -1)
        found = {which: ways[which]() for which in order}
        measured.append((found[0], found[1]))
    return tuple(measured)


@contextmanager
def _sidecar(root: Path, model: bytes, *options: str, execution: str) -> Iterator[RunningSidecar]:
    root.mkdir()
    yard = Yard(root)
    yard.publish(VERSION, model=model)
    with serving(yard, VERSION, "--threads", str(LANES), *options) as sidecar:
        with sidecar.operator() as operator:
            (status,) = operator.status(MODEL)
        if status.resident[0].execution != execution:
            sys.exit(
                f"the model runs {status.resident[0].execution!r}, and not {execution!r}: on a quieter machine, perhaps"
            )
        yield sidecar


def _asking(
    sidecar: RunningSidecar, request: ModelInferRequest, *, callers: int, seconds: float
) -> Callable[[], float]:
    with grpc.insecure_channel(sidecar.data) as channel:
        answer = services.multicallables(channel, services.INFERENCE).ModelInfer(request, timeout=30)
    size, content = len(answer.SerializeToString()), request.SerializeToString()
    return lambda: served_rate(sidecar.data, content, callers=callers, seconds=seconds, answer_bytes=size)


def served_rate(target: str, request: bytes, *, callers: int, seconds: float, answer_bytes: int) -> float:
    """Answers a second to so many calls in flight; fails where they are not all answered, and in full."""
    connections = min(4, callers)
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0" + len(request).to_bytes(4, "big") + request)
        body.flush()
        command = [
            *("h2load", "-c", str(connections), "-m", str(callers // connections)),
            *("-D", f"{round(seconds * 1000)}ms", "--warm-up-time", "300ms", "-d", body.name),
            *("-H", "content-type: application/grpc", "-H", "te: trailers"),
            *("-B", target, f"http://localhost{METHOD}"),
        ]
        for _ in range(_TRIES):
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            # On a busy machine it sometimes sees its warm-up end and then nothing more.
            if " 0 succeeded" not in said:
                break
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", said)
    data = re.search(r"\((\d+)\) data", said)
    if counts is None or data is None:
        sys.exit(f"h2load said what is not understood: {said}")
    succeeded, failed, errored = map(int, counts.groups())
    # It knows no gRPC status: a refusal is an HTTP success without a body.
    if failed or errored or not succeeded or int(data.group(1)) < 0.98 * succeeded * (answer_bytes + 5):
        sys.exit(f"not everything was answered: {said}")
    return succeeded / seconds


def bare_rate(model: bytes, shape: tuple[int, ...], *, seconds: float) -> float:
    """Runs a second of onnxruntime itself, on as many threads as the sidecar has lanes."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {"x": _random(shape)}
    counts = [0] * LANES
    ends = time.perf_counter() + seconds

    def work(which: int) -> None:
        while time.perf_counter() < ends:
            session.run(None, feed)
            counts[which] += 1

    threads = [threading.Thread(target=work, args=(which,)) for which in range(LANES)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return sum(counts) / seconds


def mlp() -> bytes:
    """Model: x FP32[-1,1024] → y FP32[-1,1024] through 8 layers of 1024: 32 MiB of weights, which a row alone reads whole."""
    random = np.random.default_rng(0)
    nodes, weights, before = [], {}, "x"
    for layer in range(LAYERS):
        weights[f"w{layer}"] = (random.standard_normal((WIDTH, WIDTH)) * (2 / WIDTH) ** 0.5).astype(
            np.float32
        )
        made = "y" if layer == LAYERS - 1 else f"r{layer}"
        nodes.append(helper.make_node("MatMul", [before, f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [made]))
        before = made
    ends = [models.value(name, shape=(-1, WIDTH)) for name in ("x", "y")]
    return models.build(nodes, ends[:1], ends[1:], weights)


def convolution() -> bytes:
    """Model: x FP32[-1,1,80,80] → y FP32[-1,10], two convolutions and a pool: some milliseconds of computing for 25 KiB."""
    random = np.random.default_rng(0)
    weights = {
        name: (random.standard_normal(shape) * 0.1).astype(np.float32)
        for name, shape in (("w1", (32, 1, 3, 3)), ("w2", (128, 32, 3, 3)), ("d", (128, 10)))
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["c"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("MatMul", ["f", "d"], ["y"]),
    ]
    return models.build(
        nodes,
        [models.value("x", shape=(-1, 1, PIXELS, PIXELS))],
        [models.value("y", shape=(-1, 10))],
        weights,
    )


def _random(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def _request(shape: tuple[int, ...]) -> ModelInferRequest:
    request = ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="x", datatype="FP32", shape=shape)
    request.raw_input_contents.append(_random(shape).tobytes())
    return request


def main() -> None:
    """Measure, print, and fail where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--fast", action="store_true", help="only show that it works")
    options = parser.parse_args()
    figures = measure(fast=options.fast)
    for each in figures:
        print(each, flush=True)
    sys.exit(not options.fast and any(each.goal is not None and each.ratio < each.goal for each in figures))


if __name__ == "__main__":
    main()
