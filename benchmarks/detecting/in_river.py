"""river's detectors and generators, asked by `peers`; run by a Python that has river and numpy, and nothing of ours.

Prints one JSON object: for each detector the delays and the false alarms on the streams of errors that stand in standard
input, and for each generator the errors of a model that was right until the drift.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from river import drift
from river.datasets import synth

DETECTORS: dict[str, Callable[[], Any]] = {
    "ADWIN, delta 0.002": lambda: drift.ADWIN(delta=0.002),
    "ADWIN, delta 1e-6": lambda: drift.ADWIN(delta=1e-6),
    "Page-Hinkley, threshold 50": drift.PageHinkley,
    "Page-Hinkley, threshold 10": lambda: drift.PageHinkley(threshold=10),
}
GENERATORS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "SEA": (lambda: synth.SEA(variant=0, seed=0), lambda: synth.SEA(variant=3, seed=1)),
    "Sine": (
        lambda: synth.Sine(classification_function=0, seed=0),
        lambda: synth.Sine(classification_function=2, seed=1),
    ),
    "Agrawal": (
        lambda: synth.Agrawal(classification_function=0, seed=0),
        lambda: synth.Agrawal(classification_function=1, seed=1),
    ),
}
BEFORE, AFTER = 5000, 5000
ASIDE = 5000


def alarms(make: Callable[[], Any], errors: Sequence[int]) -> list[int]:
    """At which of the errors, counted from 1, the detector alarms; it begins anew after each."""
    found, detector = [], make()
    for at, wrong in enumerate(errors, start=1):
        detector.update(wrong)
        if detector.drift_detected:
            found.append(at)
            detector = make()
    return found


def generated() -> dict[str, list[int]]:
    """Of each generator whether a nearest-neighbour model of the first concept is wrong, row by row."""
    import numpy as np

    made = {}
    for name, (first, second) in GENERATORS.items():
        taken = list(first().take(ASIDE + BEFORE)) + list(second().take(AFTER))
        keys = sorted(key for key, value in taken[0][0].items() if isinstance(value, (int, float)))
        rows = np.array([[float(row[key]) for key in keys] for row, _ in taken])
        truth = np.array([int(label) for _, label in taken])
        rows = (rows - rows[:ASIDE].mean(axis=0)) / (rows[:ASIDE].std(axis=0) + 1e-12)
        known, said = rows[:ASIDE], truth[:ASIDE]
        wrong = []
        for row, label in zip(rows[ASIDE:], truth[ASIDE:], strict=True):
            nearest = np.argpartition(((known - row) ** 2).sum(axis=1), 15)[:15]
            wrong.append(int((said[nearest].mean() > 0.5) != label))
        made[name] = wrong
    return made


def main() -> None:
    """Answer what is asked."""
    asked = json.load(sys.stdin)
    errors = generated()
    print(
        json.dumps(
            {
                "labels": {
                    name: {key: [alarms(make, each) for each in streams] for key, streams in asked.items()}
                    for name, make in DETECTORS.items()
                },
                "generators": {
                    name: {"errors": wrong, **{key: alarms(make, wrong) for key, make in DETECTORS.items()}}
                    for name, wrong in errors.items()
                },
                "before": BEFORE,
            }
        )
    )


if __name__ == "__main__":
    main()
