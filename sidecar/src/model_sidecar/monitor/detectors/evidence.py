"""Evidence that a share has left its band, made so that a false alarm is as rare as was promised.

An e-detector (Shin, Ramdas, Rinaldo: "E-detectors", arXiv 2203.03532) of the Shiryaev-Roberts kind. While a share stays at
or below an edge q, the likelihood ratio L of any larger share p against q has a conditional mean of at most 1 (the ratio is
monotone), so R = (1 + R) L grows by at most 1 a tick on average, and so does any weighted mean of such R, however their
streams depend on one another. An alarm at `mean R >= A` therefore comes after at least A ticks on average. What one tick's
rows are is free, also that a tick has several parts: 1 is added once a tick.

The alternatives are relative: p = q + reach (1 - q). So each is a share for every q, and a row outside the event weighs
log(1 - reach) wherever it is.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class BandDetector:
    """Whether any of many shares has left its band. Not thread-safe.

    A cell is one share, of which k of n rows are counted; its band has two sides. Everything is vectorised over cells.

    Attributes:
        weights: (cells, 2) of the high and the low side; together 1; 0 where a side is not watched.
    """

    def __init__(
        self, low: Floats, high: Floats, reaches: Floats, of_reaches: NDArray[np.uint8], weights: Floats
    ) -> None:
        """Begin without evidence.

        Args:
            low, high: (cells,) the band of each cell; a side that lies outside 0..1 is not watched.
            reaches: (kinds, effects) how far into the rest of the scale each alternative lies.
            of_reaches: (cells,) which of these kinds each cell is.
            weights: (cells,) how much each cell counts for; of any scale.
        """
        self._low, self._high = low, high
        self._reaches, self._of_reaches = reaches, of_reaches
        watched = self._edges() < 1.0
        sides = np.maximum(watched.sum(axis=1, keepdims=True), 1)
        shared = np.where(watched, weights[:, None] / sides, 0.0)
        total = shared.sum()
        # Single precision is a millionth of what one row weighs, and halves what a version costs.
        self.weights = (shared / total if total else shared).astype(np.float32)
        self._logs: NDArray[np.float32]
        self.clear()

    @property
    def nbytes(self) -> int:
        """How much memory the evidence takes, without the arrays it was given."""
        return self.weights.nbytes + self._reaches.nbytes + self._logs.nbytes

    def clear(self) -> None:
        """Forget all evidence."""
        self._logs = np.full((len(self._low), 2, self._reaches.shape[1]), -np.inf, dtype=np.float32)

    def update(self, k: Floats, n: Floats, *, new_tick: bool = True) -> None:
        """Take in rows.

        Args:
            k: (cells,) how many rows were in each cell's event.
            n: (cells,) of how many.
            new_tick: False where this is more of the tick that the last update was of.
        """
        # A cell of which no row tells has no tick: it would gain evidence of nothing by waiting.
        begun = np.logaddexp(0.0, self._logs) if new_tick else self._logs
        before = np.where((n > 0)[:, None, None], begun, self._logs)
        self._logs = (before + self.log_ratios(k, n)).astype(np.float32)

    def log_ratios(self, k: Floats, n: Floats) -> Floats:
        """(…, cells, 2, effects) the logarithms of L for these (…, cells) counts."""
        inside = np.stack([k, n - k], axis=-1)[..., None]
        outside = np.stack([n - k, k], axis=-1)[..., None]
        reaches = self._reaches[self._of_reaches][:, None, :]
        edges = self._edges()[:, :, None]
        ratios: Floats = inside * np.log1p((1.0 - edges) / edges * reaches) + outside * np.log1p(-reaches)
        return ratios

    def by_side(self) -> Floats:
        """(cells, 2) the natural logarithm of each side's evidence: the mean over its alternatives; -inf if not watched."""
        logs = self._logs.astype(np.float64)
        means = np.logaddexp.reduce(logs, axis=2) - math.log(logs.shape[2])
        return np.where(self.weights > 0, means, -np.inf)

    def total(self) -> float:
        """The natural logarithm of all evidence: the weighted mean."""
        return weighted(self.by_side(), self.weights)

    def likely_shares(self) -> Floats:
        """(cells, 2) the share that each side's evidence speaks for: its alternatives' mean, weighted by what each has."""
        logs = self._logs.astype(np.float64)
        tops = logs.max(axis=2, keepdims=True)
        weights = np.exp(np.where(np.isfinite(tops), logs - np.where(np.isfinite(tops), tops, 0.0), 0.0))
        reaches = self._reaches[self._of_reaches][:, None, :]
        reached = (weights * reaches).sum(axis=2) / weights.sum(axis=2)
        edges = self._edges()
        shares: Floats = edges + (1.0 - edges) * reached
        shares[:, 1] = 1.0 - shares[:, 1]
        return shares

    def _edges(self) -> Floats:
        """(cells, 2) the largest share that each side allows; 1 where it is not watched.

        The low side is the high side of the opposite event: at most `high` are inside, at most `1 - low` are outside.
        """
        edges = np.stack([self._high, 1.0 - self._low], axis=1)
        return np.where((edges > 0.0) & (edges < 1.0), edges, 1.0)


def weighted(logs: Floats, weights: NDArray[np.floating]) -> float:
    """The logarithm of the weighted mean of what these are logarithms of; -inf of nothing."""
    counted = weights > 0
    if not counted.any():
        return -math.inf
    chosen = weights[counted].astype(np.float64)
    return float(np.logaddexp.reduce(logs[counted] + np.log(chosen))) - math.log(chosen.sum())


def weighted_each(logs: Floats, weights: NDArray[np.floating], firsts: NDArray[np.intp]) -> Floats:
    """(groups,) `weighted` of each group of cells; a group has those from its first one up to that of the next group."""
    alone = np.full(len(firsts), -math.inf)
    ends = np.append(firsts[1:], len(logs))
    there = firsts < ends  # reduceat would give a group without cells the next one's first
    starts = 2 * firsts[there]
    sums = np.add.reduceat(weights.astype(np.float64).ravel(), starts) if len(starts) else np.zeros(0)
    with np.errstate(divide="ignore", invalid="ignore"):  # what counts for nothing adds nothing
        parts = np.where(weights > 0, logs + np.log(weights.astype(np.float64)), -np.inf).ravel()
        means = (np.logaddexp.reduceat(parts, starts) if len(starts) else sums) - np.log(sums)
    alone[there] = np.where(sums > 0, means, -np.inf)
    return alone


class RateDetector:
    """Whether a share of events has risen above `p0 + tolerance`. Not thread-safe.

    On average at least `arl` updates pass before it alarms of a share that has not.
    """

    _REACHES = (0.015, 0.03, 0.07, 0.15, 0.35)
    """Of what is left to 1: for a share near nothing, risen by 1.5 up to 35 points."""

    def __init__(self, p0: float, tolerance: float, arl: float) -> None:
        """Begin without evidence.

        Args:
            p0: the share that is expected.
            tolerance: by how much it may be larger before that counts; `p0 + tolerance` above 0, or nothing is seen.
            arl: how many updates pass on average before a false alarm.
        """
        self._detector = BandDetector(
            low=np.array([0.0]),
            high=np.array([p0 + tolerance]),
            reaches=np.array([self._REACHES]),
            of_reaches=np.zeros(1, dtype=np.uint8),
            weights=np.array([1.0]),
        )
        self._threshold = math.log(arl)
        self._alarm = False

    def update(self, k: int, n: int) -> None:
        """Take in that k of the next n had the event; n = 0 is no update."""
        if n == 0:
            return
        self._detector.update(np.array([float(k)]), np.array([float(n)]))
        self._alarm = self._alarm or self._detector.total() >= self._threshold

    @property
    def evidence_log10(self) -> float:
        """The evidence; an alarm from log10(arl) on."""
        return self._detector.total() / math.log(10)

    @property
    def alarm(self) -> bool:
        """Whether the evidence has ever been enough; it stays so."""
        return self._alarm
