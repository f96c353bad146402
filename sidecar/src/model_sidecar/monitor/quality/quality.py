"""How well versions predict, by the labels that came for their predictions, hour by hour of the prediction.

Two questions are kept apart. How good is it, over this window? Metrics with bounds answer that, and the label-free
estimate where labels are few. Has it become worse than it was published with? That is asked of every label in the order
of arrival, by one detector that may be looked at after each: it is what raises the alarm.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from model_sidecar.events import Event, Listener, QualityAlarmed, QualityReported, Released, Site
from model_sidecar.monitor.faults import Faults
from model_sidecar.monitor.quality import judging, measures
from model_sidecar.monitor.quality.calibration import counted, estimated_accuracy
from model_sidecar.monitor.quality.hours import Cell, hour_of, moment_of
from model_sidecar.monitor.quality.label_tallies import LARGEST_ERROR, ClassTally
from model_sidecar.monitor.quality.quality_report import QualityMetric, Verdict, VersionQuality
from model_sidecar.monitor.quality.quality_watch import FALSE_ALARM_LABELS, HOUR, HOUR_S, QualityWatch
from model_sidecar.monitor.quality.truths import same
from model_sidecar.monitor.readings import NOWHERE, Joined, Readings, Watched, WatchedKey
from model_sidecar.release.names import Version

__all__ = ["DAY_S", "FALSE_ALARM_LABELS", "Quality", "same"]

DAY_S = 24 * 3600.0
_MOST_VERSIONS = 8
"""Of one site, live, standby and those of which predictions are reported; the one unheard of for longest gives way.
Those that are not in memory here and only told of give way first: whoever tells of many takes no labels from the live one."""


class Quality:
    """The quality of every version that is watched. Any thread may call anything here.

    `observe` is the monitor's, `joined` the log's, `tick` is called about once a second by whoever has a clock.
    """

    def __init__(
        self,
        *,
        on_event: Listener,
        sample: float = 1.0,
        is_resident: Callable[[Site, Version], bool] = lambda _site, _version: True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Begin with nothing.

        Args:
            on_event: is told of hourly reports and alarms.
            sample: the share of predictions that the log keeps; no others can get a label.
            is_resident: whether a version is in memory; what was, and is no longer, is forgotten.
            now: the wall clock.
        """
        self._listener = on_event
        self._sample = sample
        self._is_resident = is_resident
        self._now = now
        self._faults = Faults()
        self._lock = threading.Lock()  # guards everything below
        self._versions: dict[WatchedKey, QualityWatch] = {}
        self._early: dict[WatchedKey, QualityWatch] = {}  # known by their labels only

    def observe(self, watched: Watched, readings: Readings) -> None:
        """Take in one tick's predictions: how many there were in each hour, and how confident."""
        table = watched.baseline.calibration if watched.baseline is not None else None
        with self._lock:
            version = self._of(watched)
            if version is None:
                return
            hours = readings.ids // HOUR
            for hour in np.unique(hours):
                there = hours == hour
                cell = version.hours.cell(int(hour))
                cell.predictions += int(np.count_nonzero(there))
                if table is not None and readings.confidence is not None:
                    cell.add_confidences(counted(table, readings.confidence[there]))
        self.tick()

    def joined(self, key: WatchedKey, rows: Sequence[Joined]) -> None:
        """Take in labels, in the order of their arrival.

        A corrected one takes the earlier one's place in the metrics; what the earlier one was evidence of stays.
        """
        with self._lock:
            version = self._versions.get(key)
            if version is None and rows:
                version = self._known_early(key, rows[0])
            if version is not None:
                version.take(rows)
        self.tick()

    def tick(self) -> None:
        """Tell of alarms, and report where an hour has ended; labels and predictions make it happen, too."""
        told: list[Event] = []
        now = self._now()
        with self._lock:
            for key, version in self._versions.items():
                if self._is_to_be_accused(version):
                    version.alarm_since = now
                    told.append(QualityAlarmed(key.site, **_facts(self._report(version, math.inf, now))))
                if version.reported < hour_of(now):
                    version.reported = hour_of(now)
                    report = self._report(version, HOUR_S, now)
                    if report.predictions + report.labels:
                        told.append(QualityReported(key.site, **_facts(report)))
        for event in told:
            self._listener(event)  # not under the lock: who listens may ask back

    def on_event(self, event: Event) -> None:
        """Forget a version that is no longer resident; a listener for the sites' events."""
        match event:
            case Released(site=site, version=version, manifest=manifest) if not self._is_resident(
                site, version
            ):
                key = WatchedKey(site, version, manifest)
                with self._lock:
                    self._versions.pop(key, None)
                    self._early.pop(key, None)
            case _:
                pass

    def reports(self, site: Site, window_s: float = DAY_S) -> tuple[VersionQuality, ...]:
        """Every version of the site that is watched, over predictions made so long ago or later.

        A window is of whole hours, and says when it begins; one of more than a day is everything since the start.
        """
        now = self._now()
        with self._lock:
            versions = [each for key, each in self._versions.items() if key.site == site]
            return tuple(self._report(each, window_s, now) for each in versions)

    # Under the lock.

    def _of(self, watched: Watched) -> QualityWatch | None:
        key = watched.key
        version = self._versions.pop(key, None)
        if version is None:
            if key.manifest != NOWHERE and not self._is_resident(key.site, key.version):
                return None  # its last readings, after its release
            is_regression = watched.roles.task == "regression"
            version = self._early.pop(key, None)
            if version is None or version.is_regression != is_regression:
                version = QualityWatch(self._now(), is_regression=is_regression)
            version.know(watched)
            _make_room(self._versions, key.site)
        self._versions[key] = version  # the last heard of stands last
        return version

    def _known_early(self, key: WatchedKey, first: Joined) -> QualityWatch:
        version = self._early.pop(key, None)
        if version is None:
            # A regression's score is its value, and it has no confidence.
            is_regression = first.score is not None and first.confidence is None
            version = QualityWatch(self._now(), is_regression=is_regression)
            _make_room(self._early, key.site)
        self._early[key] = version
        return version

    def _is_to_be_accused(self, version: QualityWatch) -> bool:
        if version.alarm_since is not None or version.detector is None or not version.detector.alarm:
            return False
        return self._enough(version.hours.labels, version.hours.predictions)

    def _enough(self, labels: int, predictions: int) -> bool:
        coverage = labels / max(labels, predictions, 1)
        return labels >= judging.FEWEST_LABELS and coverage >= judging.LEAST_COVERAGE * self._sample

    def _report(self, version: QualityWatch, window_s: float, now: datetime) -> VersionQuality:
        watched = version.watched
        assert watched is not None
        start, cell = version.hours.since(now, window_s)
        labels, predictions = cell.tally.labels, cell.predictions
        try:
            shown, verdict, summary = self._judged(version, watched, cell)
        except Exception as error:  # noqa: BLE001 - of one version, and told; the others are told of
            shown, verdict = [], Verdict.INCONCLUSIVE
            summary = self._faults.tell(f"the quality of {watched.version}", error)
        return VersionQuality(
            version=watched.version,
            manifest_sha256=watched.manifest,
            task=watched.roles.task,
            window_start=moment_of(start),
            window_end=now,
            predictions=predictions,
            labels=labels,
            coverage=labels / max(labels, predictions, 1),
            metrics=tuple(shown),
            verdict=verdict,
            evidence_log10=version.detector.evidence_log10 if version.detector is not None else 0.0,
            threshold_log10=math.log10(FALSE_ALARM_LABELS),
            alarm_since=version.alarm_since,
            summary=summary,
        )

    def _judged(
        self, version: QualityWatch, watched: Watched, cell: Cell
    ) -> tuple[list[QualityMetric], Verdict, str]:
        """The metrics of a cell, the verdict on all of them, and both in words."""
        tally, predictions = cell.tally, cell.predictions
        enough = self._enough(tally.labels, predictions)
        found = measures.of_classes(tally) if isinstance(tally, ClassTally) else measures.of_values(tally)
        metrics = [
            judging.judged(each, watched.metrics, enough=enough, baseline=watched.baseline) for each in found
        ]
        shown = [each for each in metrics if each is not None]
        table = watched.baseline.calibration if watched.baseline is not None else None
        if table is not None and cell.confidences is not None:
            guess = estimated_accuracy(table, cell.confidences)
            if guess is not None:
                shown.append(_estimate(guess, watched))
        verdict = judging.overall(shown, alarm=version.alarm_since is not None)
        summary = judging.in_words(
            shown,
            verdict,
            predictions=predictions,
            labels=tally.labels,
            enough=enough,
            alarm_since=version.alarm_since,
        )
        without = 0 if isinstance(tally, ClassTally) else tally.labels - tally.finite
        if without:
            summary += f"; {without:,} of the labels without an error up to {LARGEST_ERROR:g}"
        return shown, verdict, summary


def _make_room(versions: dict[WatchedKey, QualityWatch], site: Site) -> None:
    """Let there be room for one more version of this site; they stand in the order in which they were heard of."""
    others = sorted(
        (each for each in versions if each.site == site), key=lambda each: each.manifest != NOWHERE
    )
    for first in others[: max(0, len(others) + 1 - _MOST_VERSIONS)]:
        del versions[first]


def _facts(report: VersionQuality) -> dict[str, Any]:
    return {
        "version": report.version,
        "manifest": report.manifest_sha256,
        "verdict": report.verdict.value,
        "predictions": report.predictions,
        "labels": report.labels,
        "evidence_log10": report.evidence_log10,
        "metrics": {each.label: each.value for each in report.metrics},
        "summary": report.summary,
    }


def _estimate(guess: measures.Measure, watched: Watched) -> QualityMetric:
    beside = judging.published(watched.metrics, watched.baseline, guess.name)
    return QualityMetric(
        name=guess.name,
        value=guess.value,
        lower=guess.lower,
        upper=guess.upper,
        baseline=beside.value if beside is not None else None,
        by_rows=beside is not None and beside.rows > 0,
        estimated=True,
    )
