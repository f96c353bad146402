"""The e-detector: how rare its false alarms are, and what it takes no notice of."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_sidecar.monitor.detectors.evidence import BandDetector, RateDetector, weighted, weighted_each


def band(low: float, high: float) -> BandDetector:
    reaches = np.array([[0.05, 0.2, 0.6]])
    return BandDetector(np.array([low]), np.array([high]), reaches, np.zeros(1, np.uint8), np.array([1.0]))


@pytest.mark.parametrize("rate", [0.05, 0.0153, 0.4])
def test_false_alarms_are_as_rare_as_was_promised(rate: float) -> None:
    """At the very edge of what is tolerated, a hundred runs last on average at least as long as was asked for."""
    chance, arl = np.random.default_rng(2), 30.0
    lengths = []
    for _ in range(100):
        detector, length = RateDetector(rate - 0.01, 0.01, arl), 0
        while not detector.alarm and length < 20 * arl:
            detector.update(int(chance.binomial(5, rate)), 5)
            length += 1
        lengths.append(length)
    assert np.mean(lengths) >= arl


@settings(deadline=None, derandomize=True, database=None, max_examples=100)
@given(
    high=st.floats(0.01, 0.98),
    share=st.floats(0.0, 1.0),
    rows=st.integers(1, 40),
)
def test_a_share_inside_the_band_makes_no_evidence_on_average(high: float, share: float, rows: int) -> None:
    """Whatever the share up to the edge and however many rows a tick has, the mean of each likelihood ratio is at most 1."""
    share *= high
    detector = band(-1.0, high)
    k = np.arange(rows + 1, dtype=np.float64)[:, None]
    ratios = np.exp(detector.log_ratios(k, np.full_like(k, rows)))[:, 0, 0, :]
    chances = np.array(
        [math.comb(rows, int(each)) * share**each * (1 - share) ** (rows - each) for each in k[:, 0]]
    )
    assert (chances @ ratios <= 1 + 1e-9).all()


def test_a_tick_in_parts_is_one_tick() -> None:
    """Rows that come in two parts make the evidence that they make in one."""
    whole, parts = band(0.2, 0.6), band(0.2, 0.6)
    for _ in range(5):
        whole.update(np.array([7.0]), np.array([9.0]))
        parts.update(np.array([3.0]), np.array([4.0]))
        parts.update(np.array([4.0]), np.array([5.0]), new_tick=False)
    assert np.allclose(whole.by_side(), parts.by_side(), atol=1e-5)


def test_without_rows_there_is_no_evidence() -> None:
    """A share of which no row tells gains nothing by waiting."""
    detector, rate = band(0.2, 0.6), RateDetector(0.1, 0.05, 1e4)
    for _ in range(1000):
        detector.update(np.array([0.0]), np.array([0.0]))
        rate.update(0, 0)
    assert detector.total() == -math.inf
    assert rate.evidence_log10 == -math.inf


def test_a_side_beyond_nothing_or_all_is_not_watched() -> None:
    """Where the band reaches below 0 or above 1 nothing can leave it, and nothing that happens there is evidence."""
    detector = band(-0.1, 1.2)
    for _ in range(100):
        detector.update(np.array([10.0]), np.array([10.0]))
    assert detector.total() == -math.inf


def test_both_sides_are_noticed_and_sized() -> None:
    """A share that rises or falls speaks on its own side, and for about what it became."""
    for share, side in ((0.9, 0), (0.1, 1)):
        detector = band(0.4, 0.6)
        for _ in range(200):
            detector.update(np.array([share * 10]), np.array([10.0]))
        assert detector.by_side()[0].argmax() == side
        assert detector.likely_shares()[0, side] == pytest.approx(share, abs=0.1)


def test_an_alarm_stays() -> None:
    """What was once enough evidence is not taken back by good rows after it."""
    detector = RateDetector(0.01, 0.01, 100)
    for _ in range(20):
        detector.update(1, 1)
    assert detector.alarm
    assert detector.evidence_log10 >= 2
    for _ in range(5000):
        detector.update(0, 1)
    assert detector.alarm
    assert detector.evidence_log10 < 2


@given(
    st.lists(
        st.lists(st.tuples(*[st.floats(-50, 50)] * 2, *[st.sampled_from([0.0, 0.25, 1.0])] * 2)), min_size=1
    )
)
def test_groups_at_once_are_as_each_by_itself(groups: list[list[tuple[float, float, float, float]]]) -> None:
    """A group without cells, or of which nothing counts, has no evidence; the others have as much as they have alone."""
    cells = np.array([cell for group in groups for cell in group]).reshape(-1, 4)
    logs, weights = np.where(cells[:, 2:] > 0, cells[:, :2], -np.inf), cells[:, 2:].astype(np.float32)
    ends = np.cumsum([len(group) for group in groups])
    firsts = ends - [len(group) for group in groups]
    alone = [weighted(logs[first:end], weights[first:end]) for first, end in zip(firsts, ends, strict=True)]
    assert weighted_each(logs, weights, firsts).tolist() == pytest.approx(alone)
