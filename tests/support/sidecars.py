"""Real sidecars: `model-sidecar serve` in processes of their own, spoken to over their sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from support.yard import MODEL, PROD, Yard

from model_sidecar_client import Client, Operator

READY_S = 30.0


class RunningSidecar:
    """A `serve` process on a yard's store. Logs go to a file that a failing test shows."""

    def __init__(
        self,
        yard: Yard,
        *options: str,
        model: str = MODEL,
        descriptors: int | None = None,
        program: Sequence[str] = ("-m", "model_sidecar"),
    ) -> None:
        self.yard = yard
        self.model = model
        # Not below pytest's directories, whose names are longer than a socket's path may be.
        self.run_dir = Path(tempfile.mkdtemp(prefix="sidecar-"))
        self.data = f"unix:{self.run_dir}/data.sock"
        self.control = f"unix:{self.run_dir}/control.sock"
        self.http_file = self.run_dir / "http"
        self.log = self.run_dir / "log"
        self._options = options
        self._program = program  # what Python runs, or something that runs that
        # By a shell, since what this process allows itself less of, it could not have back.
        self._limit = ("bash", "-c", f'ulimit -n {descriptors}; exec "$@"', "_") if descriptors else ()
        self.tcp = ""  # where a test had it listen too
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> RunningSidecar:
        """Start the process; it may take a while to be ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self._limit,
                    *(sys.executable, *self._program, "serve"),
                    *("--store", str(self.yard.store), "--model", self.model, "--environment", PROD),
                    *("--data", self.data, "--control", self.control, "--poll-interval", "100ms"),
                    *self._options,
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONFAULTHANDLER": "1"},
            )
        return self

    def wait_answering(self) -> RunningSidecar:
        """Wait until the control plane answers."""
        quick = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
        with grpc.insecure_channel(self.control, options=quick) as channel:
            grpc.channel_ready_future(channel).result(timeout=READY_S)
        return self

    def wait_ready(self) -> RunningSidecar:
        """Wait until a version is live."""
        with self.client() as client:
            client.wait_ready(self.model, timeout_s=READY_S)
        return self

    def client(self) -> Client:
        """A client of the data plane."""
        return Client(self.data)

    def operator(self) -> Operator:
        """A client of the control plane."""
        return Operator(self.control)

    def predict(self, x: float = 0.0) -> tuple[float, str]:
        """One prediction: the number and the version it is tagged with."""
        with self.client() as client:
            answer = client.predict(self.model, {"raw": [[x, 0.0]]})
            return float(answer.outputs["y"][0][0]), answer.version

    def wait_version(self, version: str, *, timeout_s: float = READY_S) -> Any:
        """Wait, by watching its status, until this version is live; the status that says so."""
        with self.operator() as operator:
            for status in operator.watch(self.model, environment=PROD, timeout_s=timeout_s):
                if status.observed is not None and status.observed.version == version:
                    return status
        raise AssertionError(f"{version} did not become live")

    def wait_error(self, reason: str, *, timeout_s: float = READY_S) -> Any:
        """Wait, by watching its status, until the last error is of this reason; the status that says so."""
        with self.operator() as operator:
            for status in operator.watch(self.model, environment=PROD, timeout_s=timeout_s):
                if status.last_error is not None and status.last_error.reason == reason:
                    return status
        raise AssertionError(f"no error {reason} was reported")

    def wait_logged(self, words: str, *, times: int = 1) -> None:
        """Wait until the process, or those that it was before, have said this so often."""
        end = time.monotonic() + READY_S
        while self.log.read_text().count(words) < times:
            assert time.monotonic() < end, f"never logged: {words}"
            time.sleep(0.01)  # a file has no event to wait for

    def http(self, path: str, *, port: int) -> Any:
        """A GET; JSON decoded where it is JSON."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            content = answer.read().decode()
            return json.loads(content) if "json" in answer.headers["Content-Type"] else content

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, at once."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def dead(self) -> bool:
        """Whether the process has ended."""
        return self.process is None or self.process.poll() is not None

    def stop(self) -> int:
        """SIGTERM, and wait; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=60)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if error is not None and self.log.exists():
            sys.stderr.write(f"\n--- log of the sidecar ---\n{self.log.read_text()[-20000:]}\n")


@contextmanager
def serving(
    yard: Yard, version: str, *options: str, descriptors: int | None = None
) -> Iterator[RunningSidecar]:
    """A sidecar on which this version was deployed and is live."""
    with RunningSidecar(yard, *options, descriptors=descriptors) as sidecar:
        sidecar.wait_answering()
        with sidecar.operator() as operator:
            operator.deploy(MODEL, version, environment=PROD, reason="the test begins")
        yield sidecar
