"""Versions that are watched, and what is read of them, for tests of the monitor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from model_sidecar.events import Site
from model_sidecar.monitor.log.feedback import Feedback, FeedbackDesk, FeedbackReport
from model_sidecar.monitor.log.prediction_log import PredictionLog
from model_sidecar.monitor.prediction_ids import PredictionIds
from model_sidecar.monitor.readings import Joined, Readings, TruthObserver, Watched, WatchedKey
from model_sidecar.monitor.tallies import Tallies
from model_sidecar.release.digests import digest_of
from model_sidecar.release.manifest import OutputRoles
from model_sidecar.release.names import Environment, ModelName, Version

SITE = Site(ModelName("fraud"), Environment("prod"))
WAIT_S = 20.0


def watched(version: str = "2024.01.10.prod", *, task: Any = "classification", features: int = 2) -> Watched:
    """A version that says what it predicts."""
    return Watched(
        site=SITE,
        version=Version(version),
        manifest=digest_of(version.encode()),
        roles=OutputRoles(task, "label", "probabilities"),
        features=tuple(f"x[{index}]" for index in range(features)),
        metrics={"accuracy": 0.98},
        baseline=None,
    )


def readings(
    ids: Sequence[str],
    predictions: Sequence[float | str],
    *,
    rows: Sequence[int] | None = None,
    confidence: float = 0.75,
    features: int = 2,
) -> Readings:
    """One row for each of these ids."""
    count = len(ids)
    values: Any = np.array(predictions, object if isinstance(predictions[0], str) else np.float64)
    return Readings(
        ids=np.array([int(each[:16], 16) for each in ids], np.int64),
        rows=np.array(rows if rows is not None else [0] * count, np.int32),
        process=ids[0][17:],
        features=np.arange(count * features, dtype=np.float64).reshape(count, features),
        prediction=values,
        score=None,
        confidence=np.full(count, confidence),
        nonfinite=np.zeros(count, np.bool_),
        keys=np.zeros(count, np.int64),
    )


class Listening:
    """A truth observer that remembers."""

    def __init__(self) -> None:
        self.heard: list[tuple[WatchedKey, Joined]] = []

    def joined(self, key: WatchedKey, rows: Sequence[Joined]) -> None:
        self.heard += [(key, each) for each in rows]


class KeptLog:
    """A prediction log and the desk that takes feedback on it, from `start` to `stop`."""

    def __init__(
        self,
        folder: Path | None,
        *,
        limit: int = 64 << 20,
        sample: float = 1.0,
        feature_sample: float = 1.0,
        observers: Sequence[TruthObserver] = (),
    ) -> None:
        self.tallies = Tallies()
        self.log = PredictionLog(
            folder, limit=limit, sample=sample, feature_sample=feature_sample, tallies=self.tallies
        )
        self.heard = Listening()
        self.desk = FeedbackDesk(self.log, observers=[self.heard, *observers], tallies=self.tallies)
        self.ids = PredictionIds()

    def __enter__(self) -> Self:
        self.log.start(first=self.desk.replay)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Write everything, and end."""
        self.log.stop(timeout_s=WAIT_S)

    def predict(self, *predictions: float | str, version: Watched | None = None) -> list[str]:
        """Log these predictions, each of a request of its own; their ids."""
        ids = [self.ids.next() for _ in predictions]
        self.log.record(version or watched(), readings(ids, predictions))
        return ids

    def tell(self, prediction_id: str, truth: float | str | None, **more: Any) -> str:
        """One piece of feedback; what became of it."""
        report = self.tell_all([Feedback(prediction_id=prediction_id, truth=truth, **more)])
        ((outcome, count),) = report.counts.items()
        assert count == 1
        return outcome.value

    def tell_all(self, feedback: Sequence[Feedback]) -> FeedbackReport:
        """Several pieces."""
        return self.desk.record(feedback).result(WAIT_S)
