"""Evidence that a mean lies above its limit: of shares, of differences between pairs, of anything bounded."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_STAKES = np.array([0.01, 0.03, 0.1, 0.3, 0.6, 0.95])
"""Parts of what may be staked: each is best against a mean so far above the limit, and none is far from the best."""
_LOWEST = 1e-6
_HIGHEST = 1 - 1e-6


class MeanDetector:
    """Whether values in [low, 1] have a mean above `limit`; not thread-safe.

    On average at least `arl` updates pass before there is an alarm of values whose mean is at the limit, whatever their
    spread, and however often somebody looks: each update multiplies a stake by 1 + s (value - limit), whose mean is at most 1,
    and the Shiryaev-Roberts sum over all beginnings needs `arl` of them for `arl` (Shin, Ramdas and Rinaldo, "E-detectors",
    arXiv 2203.03532; the stakes are those of Waudby-Smith and Ramdas, arXiv 2010.09686). Of values 0 and 1 it is the likelihood
    ratio of two shares.
    """

    def __init__(self, limit: float, *, arl: float, low: float = 0.0) -> None:
        self.limit = min(max(limit, low + _LOWEST), _HIGHEST)
        self._low = low
        self._threshold_log10 = math.log10(arl)
        self._stakes = _STAKES / (self.limit - low)
        self._sums = np.full(len(_STAKES), -np.inf)  # natural logarithms
        self._values = 0.0
        self.count = 0

    def update(self, total: float, count: int) -> None:
        """Take in that the next `count` values are 0 or 1 and `total` of them are 1; none are no update."""
        if count > 0:
            won = np.log1p(self._stakes * (1 - self.limit))
            lost = np.log1p(-self._stakes * self.limit)
            self._go_on(total * won + (count - total) * lost, total, count)

    def observe(self, value: float) -> None:
        """Take in one value; what lies outside of [low, 1] counts as the end that it is beyond."""
        value = min(max(value, self._low), 1.0)
        self._go_on(np.log1p(self._stakes * (value - self.limit)), value, 1)

    def _go_on(self, factors: NDArray[np.float64], total: float, count: int) -> None:
        self._sums = np.logaddexp(0.0, self._sums) + factors
        self._values += total
        self.count += count

    @property
    def mean(self) -> float:
        """Of all values so far; 0.0 before the first."""
        return self._values / self.count if self.count else 0.0

    @property
    def evidence_log10(self) -> float:
        """The evidence now, 0 for none; it goes down again where the mean does."""
        if not self.count:
            return 0.0
        return max(0.0, float(np.logaddexp.reduce(self._sums) - math.log(len(_STAKES))) / math.log(10))

    @property
    def convinced(self) -> bool:
        """Whether the evidence suffices now, and what was seen in all lies above the limit as well."""
        return self.evidence_log10 >= self._threshold_log10 and self.mean > self.limit
