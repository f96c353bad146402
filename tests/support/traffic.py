"""Callers that never stop asking, and check every answer: the number must be that of the version it is tagged with."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Self

from support.sidecars import RunningSidecar
from support.yard import Yard


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer: when it was asked for and when it came (monotonic seconds), its tag, and its generation."""

    asked: float
    answered: float
    version: str
    generation: int


@dataclass
class Traffic:
    """Callers in threads, each with a channel of its own; a context manager that ends them."""

    sidecar: RunningSidecar
    callers: int = 4
    answers: list[Seen] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    mistagged: list[tuple[str, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._first = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(self.callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            assert self._first.acquire(timeout=30), "no caller was answered"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def stale_after(self, acknowledged: list[tuple[float, int]]) -> list[Seen]:
        """Answers to requests that were sent after an order was acknowledged, by an older generation than that."""
        stale, current, pending = [], 0, list(acknowledged)
        for seen in sorted(self.answers, key=lambda each: each.asked):
            while pending and pending[0][0] <= seen.asked:
                current = max(current, pending.pop(0)[1])
            if seen.generation < current:
                stale.append(seen)
        return stale

    def longest_gap_s(self) -> float:
        """The longest time in which no caller at all was answered."""
        moments = sorted(seen.answered for seen in self.answers)
        return max((after - before for before, after in pairwise(moments)), default=0.0)

    def _ask(self, number: int) -> None:
        yard: Yard = self.sidecar.yard
        with self.sidecar.client() as client:
            x = float(number)
            told = False
            while not self._stop.is_set():
                asked = time.monotonic()
                try:
                    answer = client.predict(self.sidecar.model, {"raw": [[x, 0.0]]})
                except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
                    self.failures.append(error)
                    self._first.release()
                    return
                value = float(answer.outputs["y"][0][0])
                if value != yard.expected(answer.version, x):
                    self.mistagged.append((answer.version, x, value))
                self.answers.append(Seen(asked, time.monotonic(), answer.version, answer.generation or 0))
                if not told:
                    self._first.release()
                    told = True
                x = (x + self.callers) % 1000
