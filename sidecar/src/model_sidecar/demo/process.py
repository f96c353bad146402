"""The sidecar of the demo: a real `model-sidecar serve` in a process of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from model_sidecar.demo.traffic import StoryError
from model_sidecar.demo.versions import DIGITS, PROD
from model_sidecar_client import Operator
from model_sidecar_client import SidecarError as CallError

PREFIX = "MODEL_SIDECAR_"
_UP_S = 30.0
_DOWN_S = 30.0


class Sidecar:
    """A `serve` process, from `with` until its end, or beyond it after `keep`.

    Attributes:
        data: the address of its data plane.
        control: the address of its control plane.
        http: the address of its metrics and pages.
        log: the file that it writes its log to.
        options: what it was told besides.
    """

    def __init__(self, *, store: Path, state: Path, log: Path, options: Sequence[str] = ()) -> None:
        # Not below the demo's directory: a socket's path has at most 107 bytes.
        self._sockets = Path(tempfile.mkdtemp(prefix="model-sidecar-demo-", dir=_short_temporary()))
        self.data = f"unix:{self._sockets}/data.sock"
        self.control = f"unix:{self._sockets}/control.sock"
        self.http = f"127.0.0.1:{_free_port()}"
        self.log = log
        self.options = tuple(options)
        self._arguments = arguments(
            store=str(store),
            state=str(state),
            data=self.data,
            control=self.control,
            http=self.http,
            options=options,
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._kept = False

    @property
    def pid(self) -> int:
        """The process's id, once it runs."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "model_sidecar", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is the demo's to handle; and a sidecar that is kept outlives the terminal.
                start_new_session=True,
                # The settings are those of the demo, whatever this shell has set for other sidecars.
                env={name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if not self._kept or error is not None:
            self.stop()

    def command(self) -> str:
        """The command line, as one would type it."""
        return shlex.join(["model-sidecar", *self._arguments])

    def wait_up(self, operator: Operator) -> float:
        """Wait until its control plane answers; the seconds since now that it took.

        Raises:
            StoryError: it ended, or did not answer in time.
        """
        began = time.monotonic()
        while time.monotonic() - began < _UP_S:
            try:
                operator.status()
            except CallError:
                # It failed after the client's own retries and their pauses, so this does not spin.
                if self._process is not None and self._process.poll() is not None:
                    break
            else:
                return time.monotonic() - began
        raise StoryError(f"the sidecar does not answer. Its log, {self.log}, ends:\n{self._log_tail()}")

    def get(self, path: str) -> tuple[int, str]:
        """The status and text of one of its HTTP pages."""
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def keep(self) -> None:
        """Let it run on when the demo ends."""
        self._kept = True

    def stop(self) -> None:
        """SIGTERM, wait until it has ended, and remove its sockets. Again does nothing."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_DOWN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


def arguments(
    *, store: str, state: str, data: str, control: str, http: str, options: Sequence[str] = ()
) -> list[str]:
    """What follows `model-sidecar` on the command line."""
    return [
        *("serve", "--store", store, "--model", DIGITS, "--environment", PROD, "--state-dir", state),
        *("--data", data, "--control", control, "--http", http),
        *options,
    ]


def _short_temporary() -> str | None:
    return "/tmp" if len(tempfile.gettempdir()) > 60 and Path("/tmp").is_dir() else None  # noqa: S108


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert isinstance(port, int)
        return port
