"""For how long does somebody who looks keep the interpreter from those who are being answered?

    python benchmarks/looking.py [--fast]

A sidecar whose process carries a thread besides that only looks at the clock (`harness.ticker`); its longest stall while each page
and each call for operators is asked for 20 times, one after another, and while nobody asks. It serves 64 features with a
baseline, has a standby, a ledger and a log with labels; and the same with eight models. What a caller waits while the metrics are
read is told under growth.
"""

from __future__ import annotations

import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np
from harness.figures import Figure, Goal, Measured, Table, spread
from harness.results import measured_alone
from harness.rounds import in_turns
from harness.ticker import Longest
from onnx import helper
from support.models import build, value
from support.ports import free_port
from support.sidecars import RunningSidecar
from support.yard import MODEL, PROD, Yard

from model_sidecar.app.publish import PublishFacts, publish
from model_sidecar.release.baseline import ENOUGH_ROWS
from model_sidecar.release.names import ModelName, parse_version
from model_sidecar.release.tensors import Datatype
from model_sidecar_client import Client, Feedback, Operator, UnavailableError

PROGRAM = Path(__file__).with_name("harness") / "ticking_sidecar.py"
FEATURES = 64
ASKED = 20
GENERATIONS = 24
VERSIONS = ("2024.01.10.prod", "2024.01.12.prod")
PREDICTIONS, ROWS, LABELS = 20, 256, 1_000
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
NOBODY = "nobody asks"
STALL = Goal(1.0, at_most=True)
_TRIES = 20
SEEN_S = 3.0
"""The monitor works more often than once a second: by then all predictions are counted."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What asking so often has shown, in ms: the longest stall that was worked through, and by the clock; an answer's time and cost."""

    stall_ms: float
    clock_ms: float
    took_ms: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Watched:
    """A sidecar that can be asked, and whose longest stall is told."""

    longest: Longest
    pid: int
    ways: Mapping[str, Callable[[], object]]

    def ask(self, name: str, *, times: int) -> Asked:
        """Ask so often, one after another."""
        # clock_getcpuclockid(3): what a process has used, all its threads.
        clock, ask = (~self.pid << 3) | 2, self.ways[name]
        ask()
        self.longest.reset()
        used, began = time.clock_gettime(clock), time.perf_counter()
        for _ in range(times):
            ask()
        took_s, used_s = time.perf_counter() - began, time.clock_gettime(clock) - used
        return Asked(self.longest.worked_ms(), self.longest.ms(), took_s / times * 1e3, used_s / times * 1e3)


def content(*, flipped: bool) -> bytes:
    """FP32[-1,64] to a label and probabilities; the other way round gives the other class."""
    weights = np.random.default_rng(5).standard_normal((FEATURES, 2)).astype(np.float32)
    return build(
        [
            helper.make_node("MatMul", ["raw", "w"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
        ],
        [value("raw", shape=(-1, FEATURES))],
        [value("label", Datatype.INT64, (-1,)), value("probabilities")],
        {"w": -weights if flipped else weights},
    )


def rows(count: int, *, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """So many inputs."""
    return np.random.default_rng(seed).standard_normal((count, FEATURES), dtype=np.float32)


def published(yard: Yard, models: list[ModelName], *, baseline_rows: int) -> None:
    """Two versions of each model, each with a baseline."""
    data = yard.root / "baseline.npz"
    np.savez(data, raw=rows(baseline_rows, seed=1))
    yard.store.mkdir()
    facts = PublishFacts(
        data_snapshot_id="none", framework="benchmark", training_date="2024-01-01", metrics={"accuracy": 0.5}
    )
    for version, flipped in zip(VERSIONS, (False, True), strict=True):
        for model in models:
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "model.onnx").write_bytes(content(flipped=flipped))
                publish(
                    Path(folder),
                    yard.versions,
                    model=model,
                    version=parse_version(version),
                    facts=facts,
                    baseline_data=data,
                )


@contextmanager
def watched(count: int, *, baseline_rows: int) -> Iterator[Watched]:
    """A sidecar with so many models, each of which was deployed often, has answered, and was told what was true."""
    models = [ModelName(MODEL), *(ModelName(f"also-{number}") for number in range(1, count))]
    with ExitStack() as stack:
        yard = Yard(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        published(yard, models, baseline_rows=baseline_rows)
        port, stalls = free_port(), yard.root / "longest"
        sidecar = RunningSidecar(
            yard,
            *(option for model in models[1:] for option in ("--model", model)),
            *("--state-dir", str(yard.root / "state"), "--http", f"127.0.0.1:{port}"),
            *("--poll-interval", "1s"),  # as it is by default
            program=(str(PROGRAM), str(stalls)),
        )
        stack.enter_context(sidecar).wait_answering()
        operator = stack.enter_context(sidecar.operator())
        with sidecar.client() as client:
            for number in range(GENERATIONS):
                for model in models:
                    operator.deploy(model, VERSIONS[number % 2], environment=PROD, reason="the next one")
                    if number >= GENERATIONS - 2:
                        used(client, model)
        time.sleep(SEEN_S)
        assert sidecar.process is not None
        yield Watched(Longest.in_file(stalls), sidecar.process.pid, ways(operator, models, port))


def used(client: Client, model: str) -> None:
    """Let the live version predict, and tell it what was true of some of it."""
    labels: list[Feedback] = []
    for number in range(PREDICTIONS):
        answer = client.predict(model, {"raw": rows(ROWS, seed=number)})
        wrong = np.arange(ROWS) % 3 == 0
        truths = np.asarray(answer.outputs["label"]) ^ wrong
        labels += [
            Feedback(prediction_id=f"{answer.prediction_id}#{row}", truth=int(truth))
            for row, truth in enumerate(truths[: LABELS // PREDICTIONS])
        ]
    for _ in range(_TRIES):
        try:
            client.feedback_many(labels)
            return
        except UnavailableError:  # the log is behind: tell it again later, it says
            time.sleep(0.5)
    raise TimeoutError("the prediction log took no labels")


def ways(operator: Operator, models: list[ModelName], port: int) -> Mapping[str, Callable[[], object]]:
    """Everything that can be looked at."""

    def page(path: str, **headers: str) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - the sidecar's own
            content: bytes = answer.read()
        assert content
        return content

    one = models[-1]
    return {
        NOBODY: lambda: time.sleep(0.05),
        "/metrics": lambda: page("/metrics"),
        "/metrics as OpenMetrics": lambda: page("/metrics", Accept=OPENMETRICS),
        "/statusz": lambda: page("/statusz"),
        "GetStatus": operator.status,  # and so WatchStatus, which is made of the same
        "ListDeployments": lambda: operator.history(one, environment=PROD),
        "ListVersions": lambda: operator.versions(one, environment=PROD),
        "GetQuality": operator.quality,
        "GetDrift": operator.drift,
    }


def measure(*, fast: bool = False) -> Measured:
    """With one model, and with eight."""
    rounds, counts, baseline_rows = (2, (1,), 1_000) if fast else (5, (1, 8), ENOUGH_ROWS)
    figures, rows_of = [], []
    for count in counts:
        said = "1 model" if count == 1 else f"{count} models"
        with watched(count, baseline_rows=baseline_rows) as sidecar:
            found = in_turns(
                {name: partial(sidecar.ask, name, times=ASKED) for name in sidecar.ways}, rounds=rounds
            )
        for name, each in found.items():
            stalls, clock, took, used_ms = zip(
                *((one.stall_ms, one.clock_ms, one.took_ms, one.cpu_ms) for one in each), strict=True
            )
            goal = None if name == NOBODY else STALL
            note = f"{spread(clock, '{:.2f}')} ms with what others waited for a core"
            figures.append(Figure(f"{said}, longest stall, {name}", stalls, goal, "ms", note))
            rows_of.append((f"{said}: {name}", spread(took, "{:.1f}"), spread(used_ms, "{:.1f}")))
    return Measured(
        title=f"For how long does somebody who looks keep others from the interpreter? {FEATURES} features, asked {ASKED} times.",
        figures=tuple(figures),
        tables=(
            Table("What an answer takes", ("asked for", "took, ms", "processor time, ms"), tuple(rows_of)),
        ),
        notes=(
            (
                "A thread that keeps the interpreter is asked for it after a tenth of a millisecond, and lets go of it where its call "
                "ends. What is longer is one call, or several threads that were let in one after another."
            ),
        ),
    )


if __name__ == "__main__":
    measured_alone("looking", measure)
