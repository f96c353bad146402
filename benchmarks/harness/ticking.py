"""A process with a thread that only looks at the clock: how long did others keep the interpreter from it?

python ticking.py STORE MODEL        then, on stdin, one command a line; each is answered by one line of JSON:

swap VERSION    verify, load, settle, rehearse and release it here, as a sidecar's loader and janitor do, step by step
watch           begin to look
seen            the longest stall since then
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.ticker import Longest, Ticker

STEPS = ("verify", "load", "settle", "rehearse", "release")


class Ticking:
    """Such a process, from where it is measured; a context manager that starts and ends it."""

    def __init__(self, store: Path, model: str) -> None:
        self._command = [sys.executable, str(Path(__file__)), str(store), model]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def swap(self, version: str) -> dict[str, dict[str, float]]:
        """For each step: seconds, seconds of processor time of its thread, and the longest stall in milliseconds."""
        return self._ask(f"swap {version}")  # type: ignore[no-any-return]

    def longest_stall_ms(self, act: Callable[[], object]) -> float:
        """The longest stall while something else happens elsewhere."""
        self._ask("watch")
        act()
        return float(self._ask("seen"))

    def _ask(self, command: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the ticking process ended at {command!r}")
        return json.loads(line)


def main(store: str, model: str) -> None:
    """Do as told."""
    from model_sidecar.model.loaded import LoadedModel
    from model_sidecar.model.loader import load
    from model_sidecar.model.rehearsal import rehearse
    from model_sidecar.release.names import parse_model, parse_version
    from model_sidecar.store.versions import VersionStore

    sys.setswitchinterval(0.0001)  # as the sidecar's
    versions = VersionStore(Path(store), allow_external_data=True)
    longest = Longest.anew()
    Ticker(longest).start()

    def swap(name: str) -> dict[str, dict[str, float]]:
        found = {}

        def step(called: str, act: Callable[[], Any]) -> Any:
            longest.reset()
            began, worked = time.perf_counter(), time.thread_time()
            result = act()
            took_s, work_s = time.perf_counter() - began, time.thread_time() - worked
            found[called] = {"s": took_s, "cpu_s": work_s, "stall_ms": longest.ms()}
            return result

        verified = step("verify", lambda: versions.verify(parse_model(model), parse_version(name)))
        loaded: LoadedModel = step("load", lambda: load(verified, allow_external_data=True))
        step("settle", loaded.settle)
        step("rehearse", lambda: rehearse(loaded, verified))
        verified.close()
        step("release", loaded.close)
        return found

    for line in sys.stdin:
        command, _, name = line.strip().partition(" ")
        answer: object = None
        match command:
            case "swap":
                answer = swap(name)
            case "watch":
                longest.reset()
            case "seen":
                answer = longest.ms()
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
