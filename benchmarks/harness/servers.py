"""Servers to put beside one another, each a process of its own on a Unix socket, and what their processes cost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from support.sidecars import RunningSidecar
from support.yard import MODEL, PROD, Yard

from harness.load import METHOD
from harness.models import Subject
from model_sidecar_client.wire.inference import ModelInferResponse

VERSION = "2024.01.10.prod"
_READY_S = 60.0
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers.

    Attributes:
        target: as gRPC writes it.
        pid: of its process.
        answer: what it said to the first request, serialized.
    """

    target: str
    pid: int
    answer: bytes

    def cpu_s(self) -> float:
        """Processor seconds that its process and that process's children have used, to a hundredth."""
        return sum(_cpu_s(pid) for pid in _family(self.pid))


@contextmanager
def sidecar(subject: Subject, root: Path, *options: str) -> Iterator[Server]:
    """The product as it is shipped, with this model deployed on it. `options` are those of `serve`."""
    yard = Yard(root)
    yard.publish(VERSION, model=subject.content)
    with RunningSidecar(yard, *options) as running:
        running.wait_answering()
        with running.operator() as operator:
            operator.deploy(MODEL, VERSION, environment=PROD)
        assert running.process is not None
        yield Server(
            running.data,
            running.process.pid,
            first_answer(running.data, subject.request(MODEL), expected=subject),
        )


@contextmanager
def echo(answer_bytes: int) -> Iterator[Server]:
    """The bare echo, whose answers are so long."""
    with started("echo.py", "--answer-bytes", str(answer_bytes)) as server:
        yield server


@contextmanager
def started(
    script: str, *arguments: str, request: bytes = b"", expected: Subject | None = None
) -> Iterator[Server]:
    """A script beside this file that serves on the target it is given as its first argument."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        target = f"unix:{folder}/sock"
        command = [sys.executable, str(Path(__file__).with_name(script)), target, *arguments]
        with process(command) as pid:
            yield Server(target, pid, first_answer(target, request, expected=expected))


@contextmanager
def process(command: Sequence[str], **settings: object) -> Iterator[int]:
    """A process that is killed at the end; what it said is shown where it went wrong."""
    with tempfile.TemporaryFile() as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, **settings)  # type: ignore[call-overload]
        try:
            yield running.pid
        except BaseException:
            log.seek(0)
            sys.stderr.write(f"--- what the server said ---\n{log.read().decode(errors='replace')[-4000:]}\n")
            raise
        finally:
            running.kill()
            running.wait()


def first_answer(
    target: str, request: bytes, *, expected: Subject | None = None, ready_s: float = _READY_S
) -> bytes:
    """Wait until a server answers, and see that it computes what the model computes.

    Raises:
        AssertionError: the numbers are others.
        grpc.RpcError: it does not answer.
    """
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
    with grpc.insecure_channel(target, options=options) as channel:
        infer: Any = channel.unary_unary(METHOD)
        answer: bytes = infer(request, wait_for_ready=True, timeout=ready_s)
    if expected is not None:
        said = output(answer)
        np.testing.assert_allclose(said, computed(expected), rtol=1e-3, atol=1e-4)
    return answer


def output(answer: bytes) -> NDArray[np.float32]:
    """The numbers of a serialized ModelInferResponse with one FP32 output."""
    message = ModelInferResponse.FromString(answer)
    (told,) = message.outputs
    if message.raw_output_contents:
        flat = np.frombuffer(message.raw_output_contents[0], dtype="<f4")
    else:
        flat = np.array(told.contents.fp32_contents, dtype=np.float32)
    return flat.reshape(tuple(told.shape))


def computed(subject: Subject) -> NDArray[np.float32]:
    """What raw onnxruntime says."""
    made: NDArray[np.float32] = raw_session(subject).run(None, {"x": subject.rows})[0]
    return made


def raw_session(subject: Subject) -> Any:
    """A session of one thread, as the sidecar has them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(subject.content, options, providers=["CPUExecutionProvider"])


def raw_rate(run: Callable[[], object], *, threads: int, seconds: float) -> float:
    """Runs a second by so many threads of this process."""
    import time

    counts = [0] * threads
    ends = time.perf_counter() + seconds

    def go(place: int) -> None:
        while time.perf_counter() < ends:
            run()
            counts[place] += 1

    workers = [threading.Thread(target=go, args=(place,)) for place in range(threads)]
    begun = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - begun)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += _family(int(child))
    return found
