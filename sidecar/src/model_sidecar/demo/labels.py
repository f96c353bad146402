"""Late labels: a thread that tells the sidecar what the traffic's digits really are, some time after they were answered."""

from __future__ import annotations

import threading
import time
from collections import Counter
from itertools import takewhile
from types import TracebackType
from typing import Self

from model_sidecar.demo.traffic import Answer, Failure, Traffic
from model_sidecar_client import Client, Feedback, FeedbackOutcome
from model_sidecar_client import SidecarError as CallError

_EVERY_S = 0.1


class Labels:
    """Tells the truth of every answer once, from `with` until its end. Any thread may call its methods.

    Attributes:
        delay_s: how long after an answer its label comes. In life that is a click, a complaint or a month's accounts.
    """

    def __init__(self, target: str, traffic: Traffic, *, delay_s: float) -> None:
        """Nothing is told yet; `target` is the sidecar's data address, `traffic` runs."""
        self.delay_s = delay_s
        self._traffic = traffic
        self._client = Client(target)
        self._stop = threading.Event()
        self._lock = threading.Lock()  # guards the two below
        self._outcomes: Counter[FeedbackOutcome] = Counter()
        self._failures: list[Failure] = []
        self._thread = threading.Thread(target=self._tell, name="labels", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def outcomes(self) -> dict[FeedbackOutcome, int]:
        """What became of what was told."""
        with self._lock:
            return dict(self._outcomes)

    def failures(self) -> list[Failure]:
        """Calls that failed."""
        with self._lock:
            return list(self._failures)

    def _tell(self) -> None:
        told = 0
        while not self._stop.wait(_EVERY_S):
            due = self._due(told)
            if due:
                told += len(due)
                self._send(due)

    def _due(self, told: int) -> list[Answer]:
        until = time.monotonic() - self.delay_s
        # Up to the first that is too fresh: of several threads, answers are noted only almost in the order of their time.
        return list(takewhile(lambda each: each.answered_at <= until, self._traffic.answers()[told:]))

    def _send(self, due: list[Answer]) -> None:
        truths = self._traffic.stream.labels
        given = [Feedback(prediction_id=each.id, truth=int(truths[each.row]), source="demo") for each in due]
        try:
            report = self._client.feedback_many(given)
        except CallError as error:
            with self._lock:
                self._failures.append(Failure(time.monotonic(), f"{type(error).__name__}: {error}"))
        else:
            with self._lock:
                self._outcomes.update(report.counts)
