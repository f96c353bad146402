"""Evidence that a mean is above its limit: rare where it is not, quick where it is."""

from __future__ import annotations

import numpy as np
import pytest

from model_sidecar.monitor.detectors.mean_detector import MeanDetector


def updates_until_convinced(
    detector: MeanDetector, values: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> int:
    for count, value in enumerate(values.tolist(), 1):
        detector.observe(value)
        if detector.convinced:
            return count
    return len(values)


@pytest.mark.parametrize("spread", ["flags", "small", "skewed"])
def test_at_the_limit_a_false_alarm_is_as_rare_as_was_promised(spread: str) -> None:
    """Nominal 300 updates: the mean run at the very limit is no shorter, whatever the values look like."""
    random = np.random.default_rng(3)
    runs = []
    for _ in range(60):
        values = {
            "flags": (random.random(3000) < 0.3).astype(float),
            "small": 0.3 + 0.1 * random.uniform(-1, 1, 3000),
            "skewed": np.where(random.random(3000) < 0.1, 1.0, 0.2 / 0.9),
        }[spread]
        runs.append(updates_until_convinced(MeanDetector(0.3, arl=300), values))

    assert np.mean(runs) >= 300


@pytest.mark.parametrize(
    ("limit", "low", "mean", "within"),
    [(0.3, 0.0, 1.0, 25), (0.3, 0.0, 0.6, 150), (0.2, -1.0, 0.45, 180), (0.0144, 0.0, 0.2, 120)],
)
def test_beyond_the_limit_it_does_not_take_long(limit: float, low: float, mean: float, within: int) -> None:
    """At once in four weeks of one update a second, times seven."""
    random = np.random.default_rng(5)
    values = (random.random(2000) < mean).astype(float) if low == 0 else np.full(2000, mean)

    assert updates_until_convinced(MeanDetector(limit, low=low, arl=7 * 2_419_200), values) <= within


def test_many_at_once_are_as_good_as_one_after_the_other() -> None:
    """To within what one update per tick instead of one per value loses."""
    one, many = MeanDetector(0.1, arl=1e6), MeanDetector(0.1, arl=1e6)
    for _ in range(20):
        many.update(5, 10)
        for value in (1, 0) * 5:
            one.observe(value)

    assert many.convinced
    assert one.convinced
    assert many.mean == one.mean == 0.5
    assert many.evidence_log10 == pytest.approx(one.evidence_log10, abs=1)


def test_evidence_goes_away_again_where_the_mean_does() -> None:
    """A burst that is over is no reason to do anything now."""
    detector = MeanDetector(0.3, arl=1e4)
    detector.update(20, 20)
    assert detector.convinced
    detector.update(0, 400)

    assert not detector.convinced


@pytest.mark.parametrize("limit", [0.0, 1.0, 14.4])
def test_a_limit_at_an_end_is_no_trouble(limit: float) -> None:
    """--slo-errors 0 and --slo-errors 1 are settings."""
    detector = MeanDetector(limit, arl=1e4)
    detector.update(3, 100)

    assert detector.convinced == (limit == 0.0)
