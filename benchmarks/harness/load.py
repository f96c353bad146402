"""Load from outside the server's process: h2load for what a server can do, a Python client for what a caller waits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

METHOD = "/inference.GRPCInferenceService/ModelInfer"
_CALLER = Path(__file__).with_name("caller.py")
_NEED = Path(__file__).resolve().parents[2] / "scripts" / "need.sh"
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Load:
    """What one load found.

    Attributes:
        rate: answers a second, all of them good ones.
        p50_ms, p99_ms: what a caller waited; of h2load the mean stands for the median, and the slowest for the 99th.
    """

    rate: float
    p50_ms: float
    p99_ms: float


class LoadFailedError(Exception):
    """A load that does not count: something was not answered, or not with what was expected."""


def need_h2load() -> None:
    """See to it that there is an h2load; raises CalledProcessError, and says so, where it cannot be had."""
    subprocess.run([_NEED, "h2load"], check=True)


def h2load(target: str, request: bytes, *, callers: int, seconds: float, answer_bytes: int) -> Load:
    """Closed-loop load by a C client, which takes little of the cores: so many calls in flight at all times.

    Args:
        target: as gRPC writes it, `unix:/…` or `host:port`.
        request: a serialized message, of ModelInfer.
        callers: how many calls are in flight, on at most four connections.
        seconds: how long, after a warm-up of a fifth of it.
        answer_bytes: the length of a good answer. h2load sees no gRPC status: a refusal is an HTTP success without a body.

    Raises:
        LoadFailedError: an answer was missing, or they were shorter than good ones.
    """
    connections = min(_CONNECTIONS, callers)
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0" + len(request).to_bytes(4, "big") + request)
        body.flush()
        command = ["h2load", "-c", str(connections), "-m", str(callers // connections), "-D", _ms(seconds)]
        command += ["--warm-up-time", _ms(max(0.2, seconds / 5)), "-d", body.name]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        if target.startswith("unix:"):
            command += ["-B", target, f"http://localhost{METHOD}"]
        else:
            command.append(f"http://{target}{METHOD}")
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise LoadFailedError(f"h2load failed: {done.stderr or done.stdout}")
    return _read_h2load(done.stdout, answer_bytes=answer_bytes, seconds=seconds)


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1e3)}ms"


def _read_h2load(said: str, *, answer_bytes: int, seconds: float) -> Load:
    counts = re.search(r"requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", said)
    data = re.search(r"\((\d+)\) data", said)
    times = re.search(r"time for request: +\S+ +(\S+?)(us|ms|s) +(\S+?)(us|ms|s) ", said)
    if counts is None or data is None or times is None:
        raise LoadFailedError(f"h2load said what is not understood: {said}")
    _, succeeded, failed, errored = (int(each) for each in counts.groups())
    # A frame's five bytes lie before the message. Calls that the end cut off brought nothing or a part.
    whole = int(data.group(1)) / (answer_bytes + 5)
    if failed or errored or not succeeded or whole < 0.98 * succeeded:
        raise LoadFailedError(
            f"{failed} failed, {errored} errored of {succeeded}, and their bytes make {whole:.0f} answers: {said}"
        )
    slowest, slowest_unit, mean, mean_unit = times.groups()
    return Load(succeeded / seconds, float(mean) * _UNITS[mean_unit], float(slowest) * _UNITS[slowest_unit])


def python_client(target: str, request: bytes, *, callers: int, seconds: float) -> Load:
    """Closed-loop load by a bare `grpc.aio` stub in a process of its own: so many callers on one channel.

    Raises:
        LoadFailedError: a call failed; what it said.
    """
    command = [sys.executable, str(_CALLER), target, "--callers", str(callers), "--seconds", str(seconds)]
    return by_caller([*command, "--method", METHOD], request, seconds=seconds)


def by_caller(command: Sequence[str], request: bytes, *, seconds: float) -> Load:
    """What a caller's process found, which is given the request and prints the seconds of each call, of so many in all.

    Raises:
        LoadFailedError: a call failed; what it said.
    """
    done = subprocess.run(command, input=request, capture_output=True, check=False)
    if done.returncode != 0:
        raise LoadFailedError(done.stderr.decode()[-2000:])
    took = sorted(json.loads(done.stdout))
    return Load(len(took) / seconds, 1e3 * took[len(took) // 2], 1e3 * took[int(len(took) * 0.99)])
