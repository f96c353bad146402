"""What is usual, beside what ships: tests and distances of windows with a threshold, and an alarm that knows nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from detecting.rows import Row, beside
from numpy.typing import NDArray

_STREAMS = 21
_WINDOWS = 168
"""An hour each: a week."""
_REFERENCE = 20_000
_FAULT_SD = 0.5
_PERIOD = 1000

Values = NDArray[np.float64]
Alarms = Callable[[Values], bool]


def rows(seed: int = 0) -> list[Row]:
    """False alarms in a week of hourly windows, and how many predictions half a sd takes them."""
    chance = np.random.default_rng(seed)
    reference = np.sort(chance.normal(size=_REFERENCE))
    deciles = np.quantile(reference, np.arange(1, 10) / 10)
    made = []
    for size in (100, 1000):
        methods: dict[str, Alarms] = {
            "Kolmogorov-Smirnov, p < 0.05": lambda window: _ks_p(window, reference) < 0.05,
            "PSI > 0.1": lambda window: _psi(window, deciles) > 0.1,
        }
        for name, alarms in methods.items():
            null = sum(
                any(alarms(chance.normal(size=size)) for _ in range(_STREAMS)) for _ in range(_WINDOWS)
            )
            delay = _delay(alarms, size, chance)
            made.append(
                beside(
                    f"{name}, any of {_STREAMS} streams, windows of {size}",
                    f"{null} false alarms a week; score +{_FAULT_SD} sd after {delay}",
                )
            )
    made.append(
        beside(
            f"an alarm every {_PERIOD:,} predictions, whatever comes (10 a second)",
            f"{7 * 24 * 3600 * 10 // _PERIOD:,} false alarms a week; any fault after {_PERIOD // 2} predictions",
        )
    )
    return made


def _delay(alarms: Alarms, size: int, chance: np.random.Generator) -> str:
    for window in range(1, 100):
        if alarms(chance.normal(_FAULT_SD, 1.0, size)):
            return f"{window * size:,} predictions"
    return f"more than {100 * size:,} predictions"


def _ks_p(window: Values, reference: Values) -> float:
    """The p-value of the two-sample test, asymptotic (Kolmogorov's distribution)."""
    values = np.sort(window)
    own = np.arange(1, len(values) + 1) / len(values)
    others = np.searchsorted(reference, values, side="right") / len(reference)
    distance = float(max(np.abs(own - others).max(), np.abs(own - 1 / len(values) - others).max()))
    at = distance * math.sqrt(len(values) * len(reference) / (len(values) + len(reference)))
    return 2.0 * sum((-1.0) ** (term - 1) * math.exp(-2 * (term * at) ** 2) for term in range(1, 101))


def _psi(window: Values, deciles: Values) -> float:
    """The population stability index over the reference's deciles; empty bins are floored at 1e-4."""
    shares = np.bincount(np.searchsorted(deciles, window), minlength=10) / len(window)
    shares = np.maximum(shares, 1e-4)
    return float(((shares - 0.1) * np.log(shares / 0.1)).sum())
