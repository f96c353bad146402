"""Traffic as the monitor reads it: a small classifier of Gaussian rows, well or with a fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_sidecar.events import Site
from model_sidecar.monitor.drift.reference import baseline_of
from model_sidecar.monitor.readings import Readings, Watched
from model_sidecar.release.baseline import Baseline
from model_sidecar.release.digests import digest_of
from model_sidecar.release.manifest import OutputRoles
from model_sidecar.release.names import Environment, ModelName, Version

Rows = NDArray[np.float64]
SITE = Site(ModelName("digits"), Environment("prod"))
CLASSIFIER = OutputRoles("classification", "label", "probabilities")


class Classifier:
    """Two classes of `width` independent Gaussian features: the score's logit is their weighted sum, of sd 1.

    Attributes:
        names: the features'.
        pull: by how much the logit moves when every feature moves by 1.
    """

    def __init__(self, width: int = 20) -> None:
        self.width = width
        weights = np.random.default_rng(0).normal(size=width)
        self._weights = weights / np.linalg.norm(weights)
        self.pull = float(self._weights.sum())
        self.names = tuple(f"f{index}" for index in range(width))

    def rows(self, chance: np.random.Generator, count: int) -> Rows:
        """Features as they are in good times."""
        return chance.normal(size=(count, self.width))

    def answered(
        self,
        features: Rows,
        *,
        shift: float = 0.0,
        constant: float | None = None,
        shown: Rows | None = None,
    ) -> Readings:
        """What is read of the answers; `shift` moves the logit by so many sd, `constant` replaces it.

        `shown`: the features as the monitor sees them, where those are not what the model takes.
        """
        with np.errstate(invalid="ignore"):
            logit = features @ self._weights + shift
        if constant is not None:
            logit = np.full(len(features), constant)
        second = 1 / (1 + np.exp(-2 * logit))
        finite = np.isfinite(second)
        label = np.where(finite, second > 0.5, np.nan).astype(np.float64)
        return readings(
            features if shown is None else shown, label, second, np.maximum(second, 1 - second), ~finite
        )

    def baseline(self, rows: int = 20_000, seed: int = 1) -> Baseline:
        """What it is published with."""
        chance = np.random.default_rng(seed)
        return baseline_of(
            self.answered(self.rows(chance, rows)), self.names, task="classification", truth=None
        )

    def watched(self, baseline: Baseline | None) -> Watched:
        """As the monitor shows it."""
        return watched(self.names, baseline)


def watched(
    features: tuple[str, ...], baseline: Baseline | None, *, roles: OutputRoles = CLASSIFIER, name: str = "a"
) -> Watched:
    """A version that is watched."""
    return Watched(
        site=SITE,
        version=Version("2024.01.15.prod"),
        manifest=digest_of(name.encode()),
        roles=roles,
        features=features,
        metrics={},
        baseline=baseline,
    )


def readings(
    features: Rows,
    prediction: NDArray[Any] | None = None,
    score: Rows | None = None,
    confidence: Rows | None = None,
    nonfinite: NDArray[np.bool_] | None = None,
    keys: NDArray[np.int64] | None = None,
) -> Readings:
    """Rows with these columns."""
    count = len(features)
    return Readings(
        ids=np.arange(count, dtype=np.int64),
        rows=np.zeros(count, dtype=np.int32),
        process="0000000000000000",
        features=features,
        prediction=prediction,
        score=score,
        confidence=confidence,
        nonfinite=np.zeros(count, dtype=np.bool_) if nonfinite is None else nonfinite,
        keys=np.zeros(count, dtype=np.int64) if keys is None else keys,
    )


def part(whole: Readings, rows: NDArray[Any] | slice) -> Readings:
    """Some of the rows."""

    def cut(column: Any) -> Any:
        return None if column is None else column[rows]

    names = (
        "ids",
        "rows",
        "features",
        "prediction",
        "score",
        "confidence",
        "nonfinite",
        "keys",
    )
    return replace(whole, **{name: cut(getattr(whole, name)) for name in names})


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def classification_baseline() -> Baseline:
    """A small one with all there can be in it."""
    model = Classifier(2)
    chance = np.random.default_rng(3)
    answers = model.answered(model.rows(chance, 400))
    assert answers.prediction is not None
    truth = np.where(chance.random(400) < 0.9, answers.prediction, 1.0)
    return replace(
        baseline_of(answers, model.names, task="classification", truth=truth), error_q90=0.5, nonfinite=3
    )


Fault = Callable[[Rows, np.random.Generator], Readings]
