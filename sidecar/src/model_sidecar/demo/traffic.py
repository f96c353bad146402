"""Traffic: threads that ask for one labelled digit after the other, and note every answer and every failure.

The client's retries are switched off: a request that a flip loses would be seen here, not asked again behind our back.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model_sidecar.demo.digits import Digits, faded
from model_sidecar.demo.versions import DIGITS, INPUT, LABEL, PROBABILITIES
from model_sidecar.errors import SidecarError
from model_sidecar_client import Client
from model_sidecar_client import SidecarError as CallError

# What gRPC may not keep, it cannot send again: this is what switches off the retries that the client asks it for.
_NO_RETRIES = (("grpc.per_rpc_retry_buffer_size", 0),)


class StoryError(SidecarError):
    """The demo cannot go on: what it waited for did not happen."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered request. Times are `time.monotonic()` seconds.

    Attributes:
        row: which digit of the stream was asked for.
        version: the tag of the answer.
        label: the digit that the version sees.
        probabilities: shape (10,).
        id: the answer's prediction id, by which labels come later.
        light: how bright the scanner's lamp was.
    """

    asked_at: float
    answered_at: float
    row: int
    version: str
    label: int
    probabilities: NDArray[np.float32]
    id: str = ""
    light: float = 1.0


@dataclass(frozen=True, slots=True)
class Failure:
    """One request that was not answered."""

    at: float
    message: str


class Traffic:
    """Asks, in several threads, from `with` until its end. Any thread may call its methods.

    Attributes:
        stream: the digits that are asked for, in a circle.
        light: how bright the scanner's lamp is that reads them; may be set at any time.
    """

    def __init__(self, target: str, stream: Digits, *, threads: int, pause_s: float) -> None:
        """Nothing is sent yet.

        Args:
            target: the sidecar's data address.
            stream: what to ask for.
            threads: how many ask at once.
            pause_s: how long each waits between two requests: this machine has more to do.
        """
        self.stream = stream
        self.light = 1.0
        self._client = Client(target, options=_NO_RETRIES)
        self._pause_s = pause_s
        self._stop = threading.Event()
        # Guards the lists and the counts below, and tells those who wait for more.
        self._more = threading.Condition()
        self._answers: list[Answer] = []
        self._failures: list[Failure] = []
        self._by_version: Counter[str] = Counter()
        self._threads = [
            threading.Thread(target=self._ask, args=(first, threads), name=f"traffic-{first}", daemon=True)
            for first in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask no more, and wait for what is asked already. Again does nothing."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._client.close()

    def answers(self) -> list[Answer]:
        """Every answer so far, in the order in which they came."""
        with self._more:
            return list(self._answers)

    def of(self, version: str, *, since: float) -> list[Answer]:
        """The answers of this version since a monotonic moment."""
        return [each for each in self.answers() if each.version == version and each.answered_at > since]

    def failures(self) -> list[Failure]:
        """Every failure so far."""
        with self._more:
            return list(self._failures)

    def wait_answers(self, version: str, *, more: int, timeout_s: float = 30.0) -> list[Answer]:
        """Wait until this version has given so many more answers; these answers, and what came between them.

        Raises:
            StoryError: it did not in time.
        """
        with self._more:
            begin, enough = len(self._answers), self._by_version[version] + more
            if not self._more.wait_for(lambda: self._by_version[version] >= enough, timeout_s):
                failed = f"; the last failure: {self._failures[-1].message}" if self._failures else ""
                raise StoryError(
                    f"{version} gave {self._by_version[version] - enough + more} answers in {timeout_s:g} s, "
                    f"expected {more}{failed}"
                )
            return self._answers[begin:]

    def first_answer_after(self, moment: float, version: str) -> Answer:
        """The first answer of this version that came after this moment; waits for it.

        Raises:
            StoryError: none came in time.
        """
        self.wait_answers(version, more=1)
        return next(each for each in self.answers() if each.answered_at > moment and each.version == version)

    def _ask(self, first: int, step: int) -> None:
        row = first
        while not self._stop.is_set():
            light = self.light
            pixels = faded(self.stream.pixels[row : row + 1], light)
            asked_at = time.monotonic()
            try:
                answer = self._client.predict(DIGITS, {INPUT: pixels})
            except CallError as error:
                self._note_failure(Failure(time.monotonic(), f"{type(error).__name__}: {error}"))
            else:
                label, probabilities = (
                    np.asarray(answer.outputs[LABEL]),
                    np.asarray(answer.outputs[PROBABILITIES]),
                )
                self._note(
                    Answer(
                        asked_at,
                        time.monotonic(),
                        row,
                        answer.version,
                        int(label[0]),
                        probabilities[0],
                        answer.prediction_id,
                        light,
                    )
                )
            row = (row + step) % len(self.stream)
            self._stop.wait(self._pause_s)

    def _note(self, answer: Answer) -> None:
        with self._more:
            self._answers.append(answer)
            self._by_version[answer.version] += 1
            self._more.notify_all()

    def _note_failure(self, failure: Failure) -> None:
        with self._more:
            self._failures.append(failure)
            self._more.notify_all()
