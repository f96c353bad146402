"""How far apart a version's values usually lie, so that a difference can be called small."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SPREAD_OF = 1024
_SPREAD_FROM = 32


class Spread:
    """How far apart a version's values lie: from the 5th to the 95th percentile of the last so many."""

    def __init__(self) -> None:
        self._values = np.empty(_SPREAD_OF)
        self._count = 0
        self._measured_at = 0
        self._value = 0.0

    def add(self, values: NDArray[Any]) -> None:
        """Learn values of the live version's; what is not finite says nothing."""
        finite = values.astype(np.float64).ravel()[:_SPREAD_OF]
        for value in finite[np.isfinite(finite)].tolist():
            self._values[self._count % _SPREAD_OF] = value
            self._count += 1

    @property
    def known(self) -> bool:
        """Whether there are enough of them to say."""
        return self._count >= _SPREAD_FROM

    @property
    def value(self) -> float:
        """Measured anew whenever a tenth more values are known, or a tenth of those that are kept are new."""
        if self._count >= self._measured_at + max(1, min(self._count, _SPREAD_OF) // 10):
            low, high = np.quantile(self._values[: min(self._count, _SPREAD_OF)], (0.05, 0.95))
            self._value, self._measured_at = float(high - low), self._count
        return self._value
