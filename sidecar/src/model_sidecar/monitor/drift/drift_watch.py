"""One version's drift: what is counted of it, the evidence that makes, the alarm and how it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from model_sidecar.monitor.drift.bands import watching
from model_sidecar.monitor.drift.last_hour import LastHour
from model_sidecar.monitor.drift.streams import Streams, spaced
from model_sidecar.monitor.drift.thinning import Thinning
from model_sidecar.monitor.hashing import inputs_hash
from model_sidecar.monitor.readings import Readings, Watched

TICK_S = 1.0
"""What the budget is counted in: evidence begins anew at most so often."""
_ASKED_S = 60.0
"""For so long an input is known again; what is asked over and over tells nothing of how answers differ."""
_CALM_ROWS = 2000
_CALM_S = 600.0
"""An alarm ends when so many rows, of so long, are within the band again."""
_CALM_ERRORS = 2.0
"""Give or take so many standard errors: that is what so few rows can tell."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for drift at one moment.

    Attributes:
        sides: (cells, 2) natural logarithms, of the high and the low side of each share; -inf where it is not watched.
        weights: (cells, 2) how much each counts for.
        likely: (cells, 2) the share that each speaks for.
        total: all together, as compared with the threshold.
        threshold: from where on that is an alarm.
        alarm_since: None: no alarm.
        hour: (bins,) the counts of the last hour.
        rows: how many rows were counted in all.
    """

    sides: NDArray[np.float64]
    weights: NDArray[np.float32]
    likely: NDArray[np.float64]
    total: float
    threshold: float
    alarm_since: datetime | None
    hour: NDArray[np.int64]
    rows: int


class DriftWatch:
    """Watches one version. Not thread-safe: `Drift` has a lock for each."""

    def __init__(self, watched: Watched, *, band: float, budget_s: float, thin_s: float) -> None:
        """Begin without evidence; the arguments are those of `config.MonitorSettings`."""
        self.watched = watched
        self.band = band
        self.streams = Streams(watched)
        self.bands, self.detector = watching(self.streams, band=band)
        self._threshold = math.log(max(budget_s / TICK_S, 1.0))
        self._sessions = Thinning(thin_s)
        self._asked = Thinning(_ASKED_S)
        self._asks = spaced(len(watched.features))
        self._hour = LastHour(self.streams.bins)
        self._totals = np.zeros(self.streams.bins, dtype=np.int64)
        self._rows = 0
        self._tick: int | None = None
        self._alarm_since: datetime | None = None
        self._calm = np.zeros(self.streams.bins, dtype=np.uint32)
        self._calm_rows = 0
        self._calm_from = 0.0

    @property
    def nbytes(self) -> int:
        """How much memory the arrays take, whatever comes."""
        return (
            self.bands.nbytes
            + self.detector.nbytes
            + self._sessions.nbytes
            + self._asked.nbytes
            + self._hour.nbytes
            + self._totals.nbytes
            + self._calm.nbytes
        )

    def observe(self, readings: Readings, *, now_s: float, now: datetime) -> None:
        """Take in rows.

        Args:
            readings: this version's.
            now_s: the time on a clock that never goes back.
            now: the same moment, for people.
        """
        counted = self._sessions.take(readings.keys, now_s)
        rows = int(counted.sum())
        if not rows:
            return
        counts = self.streams.count(readings, counted, self._fresh(readings, now_s))
        self._totals += counts
        self._rows += rows
        self._hour.add(counts, now_s)
        if self._alarm_since is not None:
            self._settle(counts, rows, now_s)
            return
        tick = int(now_s // TICK_S)
        k, n = self.bands.events(counts)
        self.detector.update(k, n, new_tick=tick != self._tick)
        self._tick = tick
        if self.detector.total() >= self._threshold:
            self._alarm_since = now
            self._listen_anew(now_s)

    @property
    def alarm_since(self) -> datetime | None:
        """When the alarm began; None: no alarm."""
        return self._alarm_since

    @property
    def totals(self) -> NDArray[np.int64]:
        """(bins,) all counts so far."""
        return self._totals.copy()

    def evidence(self, now_s: float) -> Evidence:
        """What speaks for drift now."""
        return Evidence(
            sides=self.detector.by_side(),
            weights=self.detector.weights,
            likely=self.detector.likely_shares(),
            total=self.detector.total(),
            threshold=self._threshold,
            alarm_since=self._alarm_since,
            hour=self._hour.total(now_s),
            rows=self._rows,
        )

    def _fresh(self, readings: Readings, now_s: float) -> NDArray[np.bool_]:
        rows, columns = readings.features.shape
        if columns < len(self.watched.features):  # answers that were given elsewhere: to what, nobody knows
            return np.zeros(rows, dtype=np.bool_)
        if not columns:
            return np.ones(rows, dtype=np.bool_)
        return self._asked.take(inputs_hash(readings.features[:, self._asks]), now_s)

    def _settle(self, counts: NDArray[np.int64], rows: int, now_s: float) -> None:
        """End the alarm where enough rows since are within the band again. Till then the evidence stays as it was."""
        self._calm += counts.astype(np.uint32)
        self._calm_rows += rows
        if self._calm_rows < _CALM_ROWS or now_s < self._calm_from + _CALM_S:
            return
        k, n = self.bands.events(self._calm.astype(np.int64))
        if (_excess(k, n, self.bands.high) <= 0).all() and (
            _excess(n - k, n, 1.0 - self.bands.low) <= 0
        ).all():
            self._alarm_since = None
            self.detector.clear()
        self._listen_anew(now_s)

    def _listen_anew(self, now_s: float) -> None:
        self._calm[:] = 0
        self._calm_rows = 0
        self._calm_from = now_s


def _excess(k: NDArray[np.float64], n: NDArray[np.float64], edge: NDArray[np.float64]) -> NDArray[np.float64]:
    """(cells,) by how much k of n rows are more than the edge of the band, and chance, allow."""
    edge = np.clip(edge, 0.0, 1.0)
    return k - edge * n - _CALM_ERRORS * np.sqrt(n * edge * (1.0 - edge))
