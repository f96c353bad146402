"""A drift that others planted: NannyML's synthetic car loans, 50,000 rows of reference and 50,000 with a drift in the middle.

The data stand in NannyML's wheel (Apache-2.0), which is downloaded without what it depends on, and never installed.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from detecting.labels import ARL, TOLERANCE
from detecting.null import BAND, BUDGET_S, NOW, ROWS_A_TICK
from detecting.rows import Row, beside
from numpy.typing import NDArray
from support.streams import CLASSIFIER, part, readings, watched

from model_sidecar.monitor.detectors.evidence import RateDetector
from model_sidecar.monitor.drift.drift_watch import DriftWatch
from model_sidecar.monitor.drift.drift_words import report
from model_sidecar.monitor.drift.reference import baseline_of
from model_sidecar.monitor.readings import Readings
from model_sidecar.release.baseline import Calibration

WHEEL = "nannyml==0.13.1"
_DATA = "nannyml/datasets/data/synthetic_car_loan_"
_NUMBERS = ("car_value", "debt_to_income_ratio", "loan_length", "driver_tenure")
_WORDS = ("salary_range", "repaid_loan_on_prev_car", "size_of_downpayment")
_PLANTED = 25_000
_CHUNK = 5_000
_Table = dict[str, list[str]]


def rows() -> list[Row]:
    """What is found in it; one line that says so where the wheel cannot be had."""
    with tempfile.TemporaryDirectory() as directory:
        fetched = subprocess.run(
            [sys.executable, "-m", "pip", "download", WHEEL, "--no-deps", "--quiet", "--dest", directory],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        wheels = list(Path(directory).glob("*.whl"))
        if fetched.returncode or not wheels:
            return [beside("car loan", f"skipped: {WHEEL} cannot be downloaded here")]
        with zipfile.ZipFile(wheels[0]) as wheel:
            tables = [_read(wheel, name) for name in ("reference", "analysis", "analysis_target")]
    reference, analysis, truth = tables
    codes = {name: {word: code for code, word in enumerate(sorted(set(reference[name])))} for name in _WORDS}
    before, after = _readings(reference, codes), _readings(analysis, codes)
    was, true = (np.array(table["repaid"], dtype=np.float64) for table in (reference, truth))
    baseline = baseline_of(before, (*_NUMBERS, *_WORDS), task="classification", truth=was)
    assert after.prediction is not None
    assert baseline.calibration is not None
    wrong = after.prediction != true
    p0 = sum(baseline.calibration.errors) / sum(baseline.calibration.rows)
    return [
        _features(DriftWatch(watched((*_NUMBERS, *_WORDS), baseline, roles=CLASSIFIER), band=BAND, budget_s=BUDGET_S, thin_s=60.0), after),
        _labels(wrong, p0),
        _estimate(baseline.calibration, after, wrong),
    ]  # fmt: skip


def _read(wheel: zipfile.ZipFile, name: str) -> _Table:
    with wheel.open(f"{_DATA}{name}.csv") as file:
        header, *lines = csv.reader(io.TextIOWrapper(file, encoding="utf-8"))
    return dict(zip(header, map(list, zip(*lines, strict=True)), strict=True))


def _readings(table: _Table, codes: dict[str, dict[str, int]]) -> Readings:
    columns = [np.array(table[name], dtype=np.float64) for name in _NUMBERS]
    columns += [
        np.array([codes[name].get(word, -1) for word in table[name]], dtype=np.float64) for name in _WORDS
    ]
    second = np.array(table["y_pred_proba"], dtype=np.float64)
    return readings(
        np.stack(columns, axis=1),
        np.array(table["y_pred"], dtype=np.float64),
        second,
        np.maximum(second, 1 - second),
    )


def _features(watch: DriftWatch, after: Readings) -> Row:
    what, goal = "car loan, drift at row 25,000: first alarm", "after it, ≤ 200 rows"
    for at in range(0, len(after.ids), ROWS_A_TICK):
        watch.observe(part(after, slice(at, at + ROWS_A_TICK)), now_s=float(at), now=NOW)
        if watch.alarm_since is not None:
            late = at + ROWS_A_TICK - _PLANTED
            found = f"{late:+,d} rows, cause {report(watch, watch.evidence(float(at))).cause}"
            return Row(what, goal, found, 0 < late <= 200)
    return Row(what, goal, "none", met=False)


def _labels(wrong: NDArray[np.bool_], p0: float) -> Row:
    detector = RateDetector(p0, TOLERANCE, ARL)
    for at, each in enumerate(wrong.tolist(), start=1):
        detector.update(int(each), 1)
        if detector.alarm:
            return beside("car loan: first alarm of the labels", f"{at - _PLANTED:+,d} rows")
    return beside("car loan: first alarm of the labels", "none")


def _estimate(calibration: Calibration, after: Readings, wrong: NDArray[np.bool_]) -> Row:
    assert after.confidence is not None
    rates = np.array(calibration.errors) / np.maximum(calibration.rows, 1)
    expected = rates[np.searchsorted(calibration.edges, after.confidence)]
    off = [
        abs(float(expected[at : at + _CHUNK].mean() - wrong[at : at + _CHUNK].mean())) * 100
        for at in range(0, len(wrong), _CHUNK)
    ]
    mean = float(np.mean(off))
    return Row(
        "car loan: accuracy without labels, mean error", "≤ 1 point", f"{mean:.2f} points", mean <= 1.0
    )
