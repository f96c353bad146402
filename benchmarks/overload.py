"""Ten times what the sidecar can do: how much of its best goodput is left, and do health checks and rollbacks come through?

One `serve` process on one half of the cores; callers in a process of their own on the other half, as a caller's work is
not the sidecar's, open loop, over Unix sockets: requests come when they come, and an answer counts if it comes within
the deadline. First the peak is searched, then ten times as much is asked for; all the while real clients ask the
control plane for health and rollbacks. One model takes some microseconds and runs on the loop, the others take
milliseconds and run in lanes.

    make overload ARGS='--seconds 60'          (--models micro,20ms; --deadline-ms; --serve='--backlog 64')
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.rpc_models import counted_loop
from support.sidecars import RunningSidecar, serving
from support.yard import MODEL, PROD, Yard

from model_sidecar_client.wire.inference import ModelInferRequest

OPEN_LOOP = Path(__file__).resolve().parent.parent / "tests" / "support" / "open_loop.py"
VERSIONS = ("2024.01.10.prod", "2024.01.12.prod")
# Turns of a loop inside the graph, found by measuring: so that a model takes about so long on whatever machine.
MODELS = {"micro": None, "5ms": 0.005, "20ms": 0.020, "100ms": 0.100}
OVER = 10
HEALTH_S, ROLLBACK_S = 0.02, 0.25


def request(turns: int | None) -> bytes:
    """A serialized ModelInferRequest: of the adder, or of the counter with so many turns."""
    made = ModelInferRequest(model_name=MODEL)
    made.inputs.add(name="raw" if turns is None else "x", datatype="FP32", shape=[1, 2])
    made.raw_input_contents.append(np.zeros(2, dtype="<f4").tobytes())
    if turns is not None:
        made.inputs.add(name="turns", datatype="INT64", shape=[])
        made.raw_input_contents.append(np.int64(turns).tobytes())
    return made.SerializeToString()


def load(
    sidecar: RunningSidecar, body: bytes, *, rate: float, seconds: float, deadline_ms: float
) -> dict[str, Any]:
    """One open-loop load; its report."""
    command = [sys.executable, str(OPEN_LOOP), sidecar.data]
    settings = {"--rate": rate, "--seconds": seconds, "--deadline-ms": deadline_ms}
    flat = [str(each) for pair in settings.items() for each in pair]
    done = subprocess.run([*command, *flat], input=body, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def peak(sidecar: RunningSidecar, body: bytes, *, seconds: float, deadline_ms: float) -> float:
    """The best goodput over loads that grow by a quarter until twice in a row they bring no more."""
    rate, best, worse = 40.0, 0.0, 0
    while worse < 3:
        goodput = load(sidecar, body, rate=rate, seconds=seconds, deadline_ms=deadline_ms)["goodput"]
        worse = 0 if goodput > 1.02 * best else worse + 1
        best = max(best, goodput)
        rate *= 1.6 if goodput > 0.95 * rate else 1.25
    return best


@contextmanager
def sidecars_half(cores: list[int]) -> Iterator[None]:
    """What is started in here gets the first half of the cores, and all else the second, from then on."""
    half = max(1, len(cores) // 2)
    os.sched_setaffinity(0, cores[:half])
    yield
    os.sched_setaffinity(0, cores[half:] or cores)


@contextmanager
def asked_meanwhile(act: Callable[[], object], every_s: float) -> Iterator[list[float]]:
    """Act at fixed times on a thread of its own; the milliseconds that each took, from when it was due."""
    took: list[float] = []
    stop = threading.Event()

    def go() -> None:
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            act()
            took.append(1e3 * (time.monotonic() - due))
            due = max(due + every_s, time.monotonic())

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield took
    finally:
        stop.set()
        thread.join()


def turns_for(sidecar: RunningSidecar, seconds: float) -> int:
    """How many turns take so long, alone."""
    turns = 1000
    with grpc.insecure_channel(sidecar.data) as channel:
        infer: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        while True:
            took = []
            for _ in range(9):
                begun = time.perf_counter()
                infer(request(turns), timeout=30)
                took.append(time.perf_counter() - begun)
            if sorted(took)[4] >= seconds:
                return turns
            turns = int(turns * min(4.0, max(1.1, seconds / sorted(took)[4])))


def quantile(values: list[float], share: float) -> float:
    """Of a list that need not be sorted; 0 of an empty one."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def measure(name: str, options: argparse.Namespace) -> None:
    """Peak and overload of one model, in a process of its own."""
    cost_s = MODELS[name]
    with tempfile.TemporaryDirectory() as root:
        yard = Yard(Path(root))
        yard.store.mkdir()
        for version in VERSIONS:
            yard.publish(version, model=None if cost_s is None else counted_loop())
        with ExitStack() as running:
            with sidecars_half(options.cores):
                sidecar = running.enter_context(serving(yard, VERSIONS[0], *shlex.split(options.serve)))
            turns = None if cost_s is None else turns_for(sidecar, cost_s)
            body = request(turns)
            with ExitStack() as stack:
                channel = stack.enter_context(grpc.insecure_channel(sidecar.control))
                check = health_pb2_grpc.HealthStub(channel).Check
                operator = stack.enter_context(sidecar.operator())
                flips = iter(range(1, 1 << 30))

                def healthy() -> None:
                    asked = health_pb2.HealthCheckRequest(service=MODEL)
                    assert check(asked, timeout=10).status == health_pb2.HealthCheckResponse.SERVING

                def roll_back() -> None:
                    target = VERSIONS[next(flips) % 2]
                    operator.rollback(MODEL, environment=PROD, version=target, reason="overload")

                operator.deploy(MODEL, VERSIONS[1], environment=PROD)
                health = stack.enter_context(asked_meanwhile(healthy, HEALTH_S))
                rollbacks = stack.enter_context(asked_meanwhile(roll_back, ROLLBACK_S))
                best = peak(sidecar, body, seconds=6, deadline_ms=options.deadline_ms)
                health.clear()
                rollbacks.clear()
                report = load(
                    sidecar, body, rate=OVER * best, seconds=options.seconds, deadline_ms=options.deadline_ms
                )
            codes = ", ".join(f"{code} {count}" for code, count in sorted(report["codes"].items()))
            print(
                f"{name:<8}{best:>9.0f}{report['goodput']:>9.0f}{100 * report['goodput'] / best:>7.0f}%"
                f"{report['p99_ms']:>10.0f}{quantile(health, 0.99):>9.1f}{quantile(rollbacks, 0.99):>10.1f}"
                f"{len(rollbacks):>6}   {codes}",
                flush=True,
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--deadline-ms", type=float, default=2000)
    parser.add_argument("--serve", default="", help="further options of serve")
    options = parser.parse_args()
    options.cores = sorted(os.sched_getaffinity(0))
    print(
        f"{len(options.cores)} cores, one half the sidecar's, one the callers'; deadline {options.deadline_ms:g} ms"
    )
    print(
        f"{'model':<8}{'peak/s':>9}{f'at {OVER}x':>9}{'kept':>8}{'p99 ms':>10}{'health':>9}{'rollback':>10}"
        f"{'n':>6}   p99 in ms of health checks and rollbacks meanwhile; how requests ended"
    )
    for name in options.models.split(","):
        measure(name, options)


if __name__ == "__main__":
    main()
