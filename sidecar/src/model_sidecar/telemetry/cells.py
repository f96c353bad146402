"""Histograms for a request's path: plain cells under their owner's lock, exposed by a collector when scraped.

prometheus_client's own children take a lock and several calls per observation; a prediction makes ten of them.
`docs/metrics.md` has the two measured side by side.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from prometheus_client.utils import floatToGoString

LATENCY_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Upper bounds in seconds. Wider ones, such as OpenTelemetry's, begin where a local model has long answered."""

RPC_S = (*LATENCY_S, 2.5, 10.0, 60.0)
"""The same, and on to how long a deployment may take."""

_BOUND: Callable[[float], str] = floatToGoString

ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


class Tally:
    """How many observations fell below each bound, and their sum. Not locked: its owner's lock guards it."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self._counts)

    def copy(self) -> Tally:
        """The same numbers, to be read without the lock."""
        made = Tally(self._bounds)
        made._counts = self._counts.copy()
        made.sum = self.sum
        return made

    def cumulative(self) -> list[tuple[str, float]]:
        """Upper bound, as the exposition format writes it, and how many observations were at or below it."""
        made, below = [], 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            below += count
            made.append((_BOUND(bound), float(below)))
        return made

    def quantile(self, share: float) -> float | None:
        """An estimate as PromQL's histogram_quantile makes it; None without observations.

        Beyond the last bound nothing is known, so the last bound is what is said.
        """
        rank, below, lower = share * self.count, 0, 0.0
        if not self.count:
            return None
        for bound, count in zip(self._bounds, self._counts, strict=False):
            if count and below + count >= rank:
                return lower + (bound - lower) * (rank - below) / count
            below, lower = below + count, bound
        return lower
