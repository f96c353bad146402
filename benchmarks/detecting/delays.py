"""How soon faults are noticed at the budget that ships: one false alarm in four weeks, ticks of a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from detecting.null import BAND, BUDGET_S, NOW, ROWS_A_TICK
from detecting.rows import Row, at_most
from numpy.typing import NDArray
from support.streams import Classifier, part

from model_sidecar.monitor.drift.drift_watch import DriftWatch
from model_sidecar.monitor.readings import Readings
from model_sidecar.release.baseline import Baseline

Features = NDArray[np.float64]
Fault = Callable[[Classifier, Features, np.random.Generator], Readings]
_HEALTHY_TICKS = 200
_MOST_TICKS = 3000


def _holes(model: Classifier, features: Features, chance: np.random.Generator) -> Readings:
    """The feed of one feature breaks in a fifth of the rows; what the model makes of the hole is as before."""
    broken = features.copy()
    broken[chance.random(len(features)) < 0.2, 3] = np.nan
    return model.answered(features, shown=broken)


FAULTS: Mapping[str, tuple[float, Fault]] = {
    "scaler missing": (30, lambda model, features, _: model.answered(features * 30 + 20)),
    "constant output": (60, lambda model, features, _: model.answered(features, constant=0.3)),
    "NaN in 20 % of one feature": (60, _holes),
    "score +1 sd": (150, lambda model, features, _: model.answered(features, shift=1.0)),
    "score +0.5 sd": (700, lambda model, features, _: model.answered(features, shift=0.5)),
    "score +0.3 sd": (3000, lambda model, features, _: model.answered(features, shift=0.3)),
}


def delays(runs: int) -> list[Row]:
    """The predictions from the first bad one to the alarm, for each kind of fault."""
    model = Classifier()
    baseline = model.baseline()
    return [
        at_most(f"{name}: until the alarm", _delays(model, baseline, fault, runs), goal, "predictions")
        for name, (goal, fault) in FAULTS.items()
    ]


def _delays(model: Classifier, baseline: Baseline, fault: Fault, runs: int) -> list[float]:
    return [_delay(model, baseline, fault, np.random.default_rng(seed)) for seed in range(runs)]


def _delay(model: Classifier, baseline: Baseline, fault: Fault, chance: np.random.Generator) -> float:
    watch = DriftWatch(model.watched(baseline), band=BAND, budget_s=BUDGET_S, thin_s=60.0)
    for tick in range(_HEALTHY_TICKS):
        watch.observe(model.answered(model.rows(chance, ROWS_A_TICK)), now_s=float(tick), now=NOW)
    if watch.alarm_since is not None:
        raise SystemExit("a false alarm before the fault: look at `make detection`'s rows about those first")
    for tick in range(1, _MOST_TICKS + 1):
        rows = fault(model, model.rows(chance, ROWS_A_TICK), chance)
        watch.observe(rows, now_s=float(_HEALTHY_TICKS + tick), now=NOW)
        if watch.alarm_since is not None:
            return float(tick * ROWS_A_TICK)
    return np.inf


def merging(sidecars: tuple[int, ...] = (2, 3, 8, 64)) -> Row:
    """Whether the counts of N sidecars that share the traffic, added in any order, are those of one, and so its evidence."""
    model = Classifier()
    watched = model.watched(model.baseline())
    chance = np.random.default_rng(11)
    one = DriftWatch(watched, band=BAND, budget_s=BUDGET_S, thin_s=60.0)
    same = True
    for count in sidecars:
        fleet, alone = _fresh(one), _fresh(one)
        for _ in range(20):
            rows = model.answered(model.rows(chance, 200), shift=0.2)
            whom = chance.integers(count, size=200)
            all_of_them = np.ones(200, dtype=np.bool_)
            whole = one.streams.count(rows, all_of_them, all_of_them)
            parts = [
                one.streams.count(
                    part(rows, whom == each), all_of_them[whom == each], all_of_them[whom == each]
                )
                for each in chance.permutation(count)
            ]
            same = same and np.array_equal(sum(parts), whole)
            alone.detector.update(*one.bands.events(whole))
            fleet.detector.update(*one.bands.events(np.sum(parts, axis=0)))
        same = same and np.array_equal(fleet.detector.by_side(), alone.detector.by_side())
    return Row(
        "counts and evidence of N sidecars, summed in any order", "those of one, to the bit; N = 2..64",
        "identical" if same else "different", same,
    )  # fmt: skip


def _fresh(watch: DriftWatch) -> DriftWatch:
    return DriftWatch(watch.watched, band=BAND, budget_s=BUDGET_S, thin_s=60.0)
