"""river's detectors on the same labels, and ours on river's generators."""

from __future__ import annotations

import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from detecting.labels import ACCURACY, first_alarm
from detecting.rows import Row, beside
from numpy.typing import NDArray

_HEALTHY = 3000
_NULL = 100_000
_AFTER = 20_000
_ACCURACIES = (0.95, 0.90, 0.80)


def rows(python: Path | None, runs: int) -> list[Row]:
    """What river says; one line that says so where there is no river.

    Args:
        python: an interpreter that has river; None: there is none.
        runs: per accuracy.
    """
    if python is None:
        return [beside("ADWIN, Page-Hinkley", "skipped: name a Python that has river with --river-python")]
    streams = {f"{accuracy:g}": [_errors(seed, accuracy) for seed in range(runs)] for accuracy in _ACCURACIES}
    streams["null"] = [_errors(99, None)]
    asked = json.dumps({key: [each.astype(int).tolist() for each in value] for key, value in streams.items()})
    told = subprocess.run(
        [python, Path(__file__).with_name("in_river.py")],
        input=asked, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if told.returncode:
        return [
            beside("ADWIN, Page-Hinkley", f"skipped: {python} cannot run river: {told.stderr.strip()[-200:]}")
        ]
    answer = json.loads(told.stdout)
    return [*_of_labels(answer["labels"]), *_of_generators(answer["generators"], answer["before"])]


def _errors(seed: int, accuracy: float | None) -> NDArray[np.bool_]:
    chance = np.random.default_rng(seed)
    if accuracy is None:
        return np.asarray(chance.random(_NULL) < 1 - ACCURACY)
    healthy = chance.random(_HEALTHY) < 1 - ACCURACY
    return np.concatenate([healthy, chance.random(_AFTER) < 1 - accuracy])


def _of_labels(answer: dict[str, Any]) -> list[Row]:
    made = []
    for name, found in answer.items():
        delays = []
        for accuracy in _ACCURACIES:
            after = [
                next((at - _HEALTHY for at in each if at > _HEALTHY), np.inf)
                for each in found[f"{accuracy:g}"]
            ]
            median = statistics.median(after)
            delays.append(f"{median:,.0f}" if np.isfinite(median) else f"> {_AFTER:,}")
        made.append(
            beside(
                f"{name}: accuracy → .95 / .90 / .80",
                f"{' / '.join(delays)} labels; {len(found['null'][0])} false alarms in {_NULL:,}",
            )
        )
    return made


def _of_generators(answer: dict[str, Any], before: int) -> list[Row]:
    made = []
    for name, found in answer.items():
        errors = np.array(found.pop("errors"), dtype=np.bool_)
        p0 = float(errors[:before].mean())
        ours = first_alarm(errors, p0=p0)
        said = [f"ours {_after([] if ours is None else [ours], before)}"]
        said += [f"{detector} {_after(alarms, before)}" for detector, alarms in found.items()]
        drop = (float(errors[before:].mean()) - p0) * 100
        made.append(
            beside(f"river's {name}, {drop:+.1f} points of error: labels until the alarm", "; ".join(said))
        )
    return made


def _after(alarms: list[int], before: int) -> str:
    false = sum(at <= before for at in alarms)
    first = next((f"{at - before:,}" for at in alarms if at > before), "never")
    return f"{first} ({false} false)" if false else first
