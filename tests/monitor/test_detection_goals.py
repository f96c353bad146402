"""The goals of `make detection`, with fewer runs of each: no change of the detector may lose one unnoticed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "detecting"]:
        del sys.modules[name]


def test_faults_are_noticed_soon_enough() -> None:
    """Scaler, constant answers, holes and shifts of the score, each within its goal in predictions, at the shipped budget."""
    from detecting.delays import delays

    late = [row for row in delays(5) if not row.met]
    assert not late


def test_lost_accuracy_is_noticed_soon_enough() -> None:
    """Drops of the accuracy, sudden and slow, each within its goal in labels, and no alarm of labels that are as good as ever."""
    from detecting.labels import delays, false_alarms, slow_loss

    late = [row for row in (*delays(9), false_alarms(20_000), *slow_loss(3)) if not row.met]
    assert not late


@pytest.mark.parametrize("wobble", [0.0, 0.1])
def test_a_hundred_healthy_weeks_make_no_alarm_to_speak_of(wobble: float) -> None:
    """In weeks of 21 streams, still or going up and down by a tenth of a sd each day, at most one in four has an alarm."""
    from detecting.null import false_alarms

    found = false_alarms(100, wobble=wobble, minutes=5 if wobble else 40)
    assert found.met, found


def test_the_mean_run_to_a_false_alarm_is_longer_than_promised() -> None:
    """At the band's edge, and for rows that hang together but are thinned by a key."""
    from detecting.null import dependent_rows, run_lengths

    assert run_lengths(5, arl=50.0).met
    assert dependent_rows(3, thinned=True, arl=50.0) >= 1
