"""One caller that asks a model again and again, with a short pause: what did it wait, and who answered?

It is a process of its own, `python asker.py TARGET MODEL INPUT WIDTH`, whose clock (`time.monotonic`) is everybody's here. Each
line that it writes is one answer: when it was asked for, when it came, and the version that it is tagged with.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

PAUSE_S = 0.001
_WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer: when it was asked for and when it came (monotonic seconds), and its version."""

    asked: float
    came: float
    version: str


class Asker:
    """The caller, from where it is measured; a context manager that starts and ends it."""

    def __init__(self, target: str, *, model: str, takes: str, width: int) -> None:
        self._command = [sys.executable, str(Path(__file__)), target, model, takes, str(width)]
        self._answers: list[Answered] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="asker")

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()

    def first(self, version: str, *, since: float) -> Answered:
        """The first answer by this version that came after this moment; waits for it."""
        seen = 0
        with self._news:
            while True:
                for answer in self._answers[seen:]:
                    if answer.came >= since and answer.version == version:
                        return answer
                seen = len(self._answers)
                if not self._news.wait(_WAIT_S):
                    raise TimeoutError(f"nobody answered as {version}")

    def between(self, begin: float, end: float) -> list[Answered]:
        """The answers to what was asked in this time; waits until all have come."""
        with self._news:
            while not self._answers or self._answers[-1].asked < end:
                if not self._news.wait(_WAIT_S):
                    raise TimeoutError("the caller has stopped asking")
            return [each for each in self._answers if begin <= each.asked < end]

    def longest_gap_ms(self, begin: float, end: float) -> float:
        """The longest time between two answers in this time, less the caller's own pause."""
        came = [begin, *(each.came for each in self.between(begin, end)), end]
        return max(after - before for before, after in pairwise(came)) * 1e3 - PAUSE_S * 1e3

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            asked, came, version = line.split()
            with self._news:
                self._answers.append(Answered(float(asked), float(came), version))
                self._news.notify_all()


def main(target: str, model: str, takes: str, width: str) -> None:
    """Ask until told to end."""
    import numpy as np

    from model_sidecar_client import Client

    row = {takes: np.zeros((1, int(width)), np.float32)}
    with Client(target) as client:
        while True:
            asked = time.monotonic()
            version = client.predict(model, row).version
            sys.stdout.write(f"{asked} {time.monotonic()} {version}\n")
            sys.stdout.flush()
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
