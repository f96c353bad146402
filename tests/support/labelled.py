"""What the monitor is shown, made by hand: a watched version, its readings of an hour, labels for them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
from support.served import SITE, A, B

from model_sidecar.config import GuardMode
from model_sidecar.events import Event, Site
from model_sidecar.monitor.guard.decisions import Decisions, GuardDecision
from model_sidecar.monitor.quality.quality import Quality
from model_sidecar.monitor.readings import Joined, Readings, Watched, WatchedKey
from model_sidecar.release.baseline import Baseline, Calibration, Classes, StreamBaseline, StreamKind
from model_sidecar.release.digests import digest_of
from model_sidecar.release.manifest import OutputRoles
from model_sidecar.release.names import Version

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
Task = Literal["classification", "regression", "none"]


class Clock:
    """A wall clock that is moved by hand; it begins half an hour past noon."""

    def __init__(self) -> None:
        self.now = NOON + timedelta(minutes=30)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


def watched(
    version: Version = A, *, site: Site = SITE, task: Task = "classification", **facts: Any
) -> Watched:
    """A version as the monitor knows it; `facts` are its metrics and its baseline."""
    return Watched(
        site=site,
        version=version,
        manifest=digest_of(version.encode()),
        roles=OutputRoles(task=task, prediction="label", confidence="confidence"),
        features=facts.get("features", ("x",)),
        metrics=facts.get("metrics", {"accuracy": 0.98}),
        baseline=facts.get("baseline"),
    )


def id_at(moment: datetime, counter: int = 0) -> int:
    """The first part of a prediction id that was given at this moment."""
    return (int(moment.timestamp() * 1000) << 20) + counter


def readings(moment: datetime, rows: int, *, confidence: float = 0.9) -> Readings:
    """So many predictions of class 1, made at this moment."""
    return Readings(
        ids=id_at(moment) + np.arange(rows, dtype=np.int64),
        rows=np.zeros(rows, np.int32),
        process="9f86d081",
        features=np.zeros((rows, 1)),
        prediction=np.ones(rows),
        score=np.full(rows, confidence),
        confidence=np.full(rows, confidence),
        nonfinite=np.zeros(rows, np.bool_),
        keys=np.zeros(rows, np.int64),
    )


def labels(moment: datetime, right: Iterable[bool], *, score: float | None = 0.9) -> list[Joined]:
    """One label for each: the prediction was class 1, and that was right or wrong."""
    return [
        Joined(
            id=id_at(moment, counter),
            row=0,
            prediction=1.0,
            score=score,
            confidence=0.9,
            truth="1" if each else "0",
        )
        for counter, each in enumerate(right)
    ]


class Listening:
    """A quality and what it told, under a clock."""

    def __init__(self, *, sample: float = 1.0) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.resident = True
        self.quality = Quality(
            on_event=self.events.append,
            sample=sample,
            is_resident=lambda _site, _version: self.resident,
            now=self.clock,
        )

    def begin(self, version: Watched) -> WatchedKey:
        """Have the version be known, without a prediction so far; its key."""
        self.quality.observe(version, readings(self.clock.now, 0))
        return version.key


def column(name: str = "x", kind: StreamKind = StreamKind.FEATURE, *, rows: int = 20_000) -> StreamBaseline:
    """A column that is spread evenly from 0 to 1 in the baseline."""
    cuts = tuple(n / 10 for n in range(1, 10))
    return StreamBaseline(
        name=name,
        kind=kind,
        cuts=cuts,
        at_or_below=tuple(round(rows * cut) for cut in cuts),
        finite=rows,
        nan=0,
        infinite=0,
        low=0.0,
        high=1.0,
    )


def spread_baseline() -> Baseline:
    """A baseline of 20,000 rows: one feature and the confidence, both spread evenly from 0 to 1, and two classes."""
    return Baseline(
        rows=20_000,
        streams=(column(), column("confidence", StreamKind.CONFIDENCE)),
        classes=Classes(("0", "1"), (10_000, 10_000), 0),
    )


def decided(site: Site = SITE) -> Decisions:
    """The guard's book with one decision in it, of a dry run."""
    decisions = Decisions(GuardMode.DRY_RUN)
    decisions.add(
        site,
        GuardDecision(
            time=NOON,
            decision="would_roll_back",
            trigger="disagreement",
            version=str(B),
            target=str(A),
            generation=0,
            evidence_log10=6.2,
            message="0.41 of 512 predictions differ from 2024.01.10.prod's; dry run",
        ),
    )
    return decisions


def calibrated_baseline() -> Baseline:
    """A baseline of 20,000 rows whose calibration says: above 0.8 two in a hundred are wrong, below ten."""
    return Baseline(rows=20_000, calibration=Calibration((0.8,), (10_000, 10_000), (1_000, 200)))
