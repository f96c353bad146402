"""What watching costs: the note on the request's path, the background, and a whole request with and without it.

    python benchmarks/noting.py [--seconds 10] [--rounds 3]

Prints one line for each figure and fails where one is over its goal:

- the note itself, in nanoseconds, p50 and p99 (goals 1,000 and 3,000);
- processor time of the monitor's thread and the log's for a prediction, at 5,000 rows a second, 21 features: everything
  logged, and a tenth (goal: 3 us);
- processor time of a real sidecar for a request, with --monitor and with --no-monitor (goal: 1.05 times).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.classifiers import A, classifying
from support.rpc_models import ComputedModel
from support.rpc_plane import ECHO, infer_request
from support.sidecars import RunningSidecar, serving
from support.yard import MODEL

from model_sidecar.monitor.intake import Intake, Note, new_note
from model_sidecar.monitor.log.prediction_log import PredictionLog
from model_sidecar.monitor.monitor import Monitor
from model_sidecar.monitor.prediction_ids import PredictionIds
from model_sidecar.monitor.tallies import Tallies
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec
from model_sidecar.rpc.notes import monitor_key

FEATURES = 21
ROWS_A_SECOND = 5_000
GOAL_P50_NS, GOAL_P99_NS, GOAL_BACKGROUND_US, GOAL_RATIO = 1_000, 3_000, 3.0, 1.05
SIGNATURE = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, FEATURES)),),
    (TensorSpec("label", Datatype.INT64, (-1,)), TensorSpec("probabilities", Datatype.FP32, (-1, 2))),
)


def note_of(model: ComputedModel, prediction_id: str) -> Note:
    """What a request of one row leaves."""
    inputs = {"x": np.zeros((1, FEATURES), np.float32)}
    outputs: dict[str, Any] = {
        "label": np.ones(1, np.int64),
        "probabilities": np.array([[0.25, 0.75]], np.float32),
    }
    return Note(ECHO, model, prediction_id, inputs, outputs, 1, None)


def noting() -> tuple[float, float]:
    """Nanoseconds of one note, with the look at its key and the tuple: p50 and p99."""
    intake, model = Intake(), ComputedModel(signature=SIGNATURE)
    made = note_of(model, PredictionIds().next())
    request = infer_request(bytes(4 * FEATURES), shape=(1, FEATURES))
    taken: list[int] = []
    clock = time.perf_counter_ns
    for _ in range(20):
        for _ in range(5_000):
            begun = clock()
            key = monitor_key(request)
            intake.note(new_note((ECHO, model, made.prediction_id, made.inputs, made.outputs, 1, key)), 200)
            taken.append(clock() - begun)
        intake.take()
    cuts = statistics.quantiles(taken, n=100)
    return cuts[49], cuts[98]


def background(seconds: float, *, sample: float, folder: Path) -> tuple[float, float]:
    """Microseconds of processor time for a prediction, in the monitor's thread and the log's; and the share that was logged."""
    tallies = Tallies()
    log = PredictionLog(folder, limit=1 << 30, sample=sample, feature_sample=0.01, tallies=tallies)
    intake, model, ids = Intake(), ComputedModel(signature=SIGNATURE), PredictionIds()
    monitor = Monitor(intake, recorders=[log], observers=[_Nothing()], tallies=tallies)
    log.start()
    monitor.start()
    count = 0
    clocks = [
        time.pthread_getcpuclockid(thread.ident)
        for thread in threading.enumerate()
        if thread.name in ("monitor", "prediction-log") and thread.ident is not None
    ]
    assert len(clocks) == 2, threading.enumerate()
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        for _ in range(ROWS_A_SECOND // 50):
            intake.note(note_of(model, ids.next()), 200)
            count += 1
        time.sleep(max(0.0, begun + count / ROWS_A_SECOND - time.monotonic()))
    time.sleep(2.5)  # the last rows belong to it: read, shown and written
    spent = sum(map(time.clock_gettime, clocks))
    monitor.stop(timeout_s=10)
    log.stop(timeout_s=10)
    counted = tallies.current()
    assert not counted.dropped, counted.dropped
    return spent / count * 1e6, sum(counted.logged.values()) / count


class _Nothing:
    """An observer, so that readings are put together as for one."""

    def observe(self, *_: object) -> None:
        """Look away."""


def cpu_s(sidecar: RunningSidecar) -> float:
    """Processor seconds that the sidecar's process has used."""
    assert sidecar.process is not None
    fields = Path(f"/proc/{sidecar.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def requests_us(sidecars: Sequence[RunningSidecar], seconds: float) -> list[float]:
    """Microseconds of each sidecar's processor time for one request; asked in turns, so that both have the same weather."""
    rows = np.zeros((1, 2), np.float32)
    with ExitStack() as open_:
        clients = [open_.enter_context(sidecar.client()) for sidecar in sidecars]
        for client in clients * 200:
            client.predict(MODEL, {"raw": rows})
        begun, counts, end = (
            [cpu_s(each) for each in sidecars],
            [0] * len(sidecars),
            time.monotonic() + seconds,
        )
        while time.monotonic() < end:
            for place, client in enumerate(clients):
                for _ in range(50):
                    client.predict(MODEL, {"raw": rows})
                counts[place] += 50
        time.sleep(1.2)  # the last tick belongs to it
        return [
            (cpu_s(each) - before) / count * 1e6
            for each, before, count in zip(sidecars, begun, counts, strict=True)
        ]


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    failed = False

    p50, p99 = noting()
    print(f"note: p50 {p50:.0f} ns, p99 {p99:.0f} ns (goals {GOAL_P50_NS}, {GOAL_P99_NS})")
    failed |= p50 > GOAL_P50_NS or p99 > GOAL_P99_NS

    with tempfile.TemporaryDirectory() as root:
        for sample in (1.0, 0.1):
            spent, share = background(chosen.seconds, sample=sample, folder=Path(root) / f"{sample}")
            print(f"background: {spent:.2f} us a prediction, {share:.0%} logged")
        print(f"background: goal {GOAL_BACKGROUND_US:g} us where a tenth is logged")
        failed |= spent > GOAL_BACKGROUND_US

    with tempfile.TemporaryDirectory() as root:
        yard = classifying(Path(root))
        state = ("--state-dir", f"{root}/state")
        with serving(yard, A, *state) as watched, serving(yard, A, "--no-monitor") as plain:
            ratios = []
            for _ in range(chosen.rounds):
                watched_us, plain_us = requests_us((watched, plain), 2 * chosen.seconds)
                ratios.append(watched_us / plain_us)
                print(
                    f"request: {watched_us:.0f} us with the monitor, {plain_us:.0f} us without: {ratios[-1]:.3f}"
                )
    ratio = statistics.median(ratios)
    print(f"request: ratio {ratio:.3f} (goal {GOAL_RATIO})")
    failed |= ratio > GOAL_RATIO
    sys.exit(failed)


if __name__ == "__main__":
    main()
