"""False alarms of streams in which nothing is wrong.

A hundred weeks of 604,800 ticks are too many to count row by row. But a minute acts on each component's evidence as
R -> P R + S, where P is the product of its ticks' ratios and S what the minute begins by itself; so a few thousand minutes
are counted row by row, by the code that ships, and each simulated week draws its 10,080 minutes from them. Within a minute
the evidence is taken for the largest that it can be there, so an alarm is never overlooked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from detecting.rows import Row
from numpy.typing import NDArray
from support.streams import Classifier, part, readings, watched

from model_sidecar.monitor.drift.bands import margin
from model_sidecar.monitor.drift.drift_watch import DriftWatch
from model_sidecar.monitor.drift.reference import baseline_of
from model_sidecar.monitor.readings import Readings

BUDGET_S = 28 * 24 * 3600.0
BAND = 0.05
FEATURES = 18
"""With score, confidence and class 21 streams; those about what is not finite, out of range or constant come besides."""
ROWS_A_TICK = 10
NOW = datetime(2024, 1, 15, tzinfo=UTC)
_MINUTE = 60
_WEEK_MINUTES = 7 * 24 * 60
_HOURS = 24


@dataclass(frozen=True, slots=True)
class _Minutes:
    """What minutes do to the evidence R, (minutes, components): it ends as `factor` R + `start`.

    Meanwhile it is no more than `most_factor` R + `most_start`.
    """

    factor: NDArray[np.float32]
    start: NDArray[np.float32]
    most_factor: NDArray[np.float32]
    most_start: NDArray[np.float32]


def false_alarms(weeks: int, *, wobble: float, minutes: int, seed: int = 0) -> Row:
    """How many alarms there are in so many weeks of ten predictions a second at the budget that ships.

    Args:
        weeks: simulated, beside each other.
        wobble: by how many sd every feature goes up and down in a day.
        minutes: how many are counted row by row for each hour of the day.
        seed: of the traffic.
    """
    model = Classifier(FEATURES)
    watch = DriftWatch(model.watched(model.baseline()), band=BAND, budget_s=BUDGET_S, thin_s=60.0)
    cells = len(watch.bands.share)
    effects = watch.detector.log_ratios(np.zeros(cells), np.zeros(cells)).shape[-1]
    weights = np.repeat(watch.detector.weights.ravel(), effects)
    weights /= weights.sum()
    watching = weights > 0
    chance = np.random.default_rng(seed)
    hours = [
        _minutes(
            watch,
            model,
            chance,
            shift=wobble * math.sin(2 * math.pi * hour / _HOURS),
            count=minutes,
            watching=watching,
        )
        for hour in range(_HOURS if wobble else 1)
    ]
    weights = weights[watching]
    evidence = np.zeros((weeks, int(watching.sum())), dtype=np.float32)
    alarms = 0
    for minute in range(_WEEK_MINUTES):
        now = hours[minute // 60 % len(hours)]
        drawn = chance.integers(len(now.factor), size=weeks)
        most = (evidence * now.most_factor[drawn] + now.most_start[drawn]) @ weights
        evidence *= now.factor[drawn]
        evidence += now.start[drawn]
        over = most >= BUDGET_S
        alarms += int(over.sum())
        evidence[over] = 0.0
    what = f"false alarms, 21 streams, {weeks} weeks, " + (
        f"daily wobble of {wobble:g} sd" if wobble else "i.i.d."
    )
    return Row(
        what, "≤ 0.25 a version-week", f"{alarms / weeks:g} ({alarms} in {weeks})", alarms / weeks <= 0.25
    )


def _minutes(
    watch: DriftWatch,
    model: Classifier,
    chance: np.random.Generator,
    *,
    shift: float,
    count: int,
    watching: NDArray[np.bool_],
) -> _Minutes:
    ones = np.ones(ROWS_A_TICK, dtype=np.bool_)
    shape = (count, int(watching.sum()))
    factor, start, most_factor, most_start = (np.zeros(shape) for _ in range(4))
    factor += 1.0
    # Every stream moves by as much, the score too, whatever the weights would make of it.
    features = model.rows(chance, count * _MINUTE * ROWS_A_TICK) + shift
    rows = model.answered(features, shift=shift * (1 - model.pull))
    ticks = [
        watch.bands.events(watch.streams.count(part(rows, slice(at, at + ROWS_A_TICK)), ones, ones))
        for at in range(0, len(rows.ids), ROWS_A_TICK)
    ]
    for tick in range(_MINUTE):
        k = np.array([each[0] for each in ticks[tick::_MINUTE]])
        n = np.array([each[1] for each in ticks[tick::_MINUTE]])
        ratios = np.exp(watch.detector.log_ratios(k, n).reshape(count, -1)[:, watching])
        factor *= ratios
        start = (start + 1.0) * ratios
        most_factor, most_start = np.maximum(most_factor, factor), np.maximum(most_start, start)
    return _Minutes(*(each.astype(np.float32) for each in (factor, start, most_factor, most_start)))


def run_lengths(runs: int, *, arl: float = 200.0) -> Row:
    """How long it takes on average until a false alarm where every share stands at the very edge of its band."""
    chance = np.random.default_rng(5)
    reference = baseline_of(readings(chance.random((20_000, 1))), ("x",), task="none")
    edge = BAND + margin(20_000)
    lengths = []
    for _ in range(runs):
        watch = DriftWatch(watched(("x",), reference), band=BAND, budget_s=arl, thin_s=60.0)
        lengths.append(
            _until_alarm(watch, lambda: readings(np.maximum(chance.random((10, 1)) - edge, 1e-4)), 50 * arl)
        )
    ratio = float(np.mean(lengths)) / arl
    return Row(
        "mean run to a false alarm at the band's edge, over the promised one",
        "≥ 1.0",
        f"{ratio:.1f}",
        ratio >= 1.0,
    )


def dependent_rows(
    runs: int, *, thinned: bool, arl: float = 200.0, rho: float = 0.7, most: float = 20.0
) -> float:
    """The same, over the promised one, in the middle of the band, for rows of which each hangs on the one before (AR(1)).

    Args:
        runs: to an alarm, or to `most` times what is promised.
        thinned: whether ten rows that follow one another say by a key that they belong together.
    """
    chance = np.random.default_rng(6)
    reference = baseline_of(readings(chance.normal(size=(20_000, 1))), ("x",), task="none")
    lengths = []
    for _ in range(runs):
        watch = DriftWatch(watched(("x",), reference), band=BAND, budget_s=arl, thin_s=60.0)
        sequence = _Sequence(chance, rho, thinned=thinned)
        lengths.append(_until_alarm(watch, sequence.next_rows, most * arl))
    return float(np.mean(lengths)) / arl


class _Sequence:
    """Rows of N(0, 1), each `rho` times the one before and something new."""

    def __init__(self, chance: np.random.Generator, rho: float, *, thinned: bool) -> None:
        self._chance, self._rho, self._thinned = chance, rho, thinned
        self._value = chance.normal()
        self._session = 0

    def next_rows(self) -> Readings:
        news = self._chance.normal(size=ROWS_A_TICK) * math.sqrt(1 - self._rho**2)
        values = np.empty((ROWS_A_TICK, 1))
        for at, new in enumerate(news):
            self._value = self._rho * self._value + new
            values[at] = self._value
        self._session += 1
        return readings(values, keys=np.full(ROWS_A_TICK, self._session if self._thinned else 0))


def _until_alarm(watch: DriftWatch, next_rows: Callable[[], Readings], most: float) -> float:
    """After how many ticks there is an alarm; `most` if there is none until then."""
    tick = 0
    while tick < most:
        tick += 1
        watch.observe(next_rows(), now_s=float(tick), now=NOW)
        if watch.alarm_since is not None:
            break
    return float(tick)
