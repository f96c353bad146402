"""How well versions predict: what is told of them, when they are accused, and what is not said."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from support.labelled import (
    NOON,
    Listening,
    calibrated_baseline,
    id_at,
    labels,
    readings,
    watched,
)
from support.served import SITE, A, B

from model_sidecar.events import QualityAlarmed, QualityReported, Released, Site
from model_sidecar.monitor.quality.judging import judged
from model_sidecar.monitor.quality.label_tallies import LARGEST_ERROR
from model_sidecar.monitor.quality.measures import share
from model_sidecar.monitor.quality.quality_report import QualityMetric, Verdict, VersionQuality
from model_sidecar.monitor.readings import NOWHERE, Joined
from model_sidecar.release.baseline import Baseline, Calibration
from model_sidecar.release.names import Environment, Version


@pytest.fixture
def here() -> Listening:
    return Listening()


def only(here: Listening, **window: float) -> VersionQuality:
    (report,) = here.quality.reports(SITE, **window)
    return report


def metric(report: VersionQuality, name: str, *, estimated: bool = False) -> QualityMetric:
    (found,) = [each for each in report.metrics if (each.name, each.estimated) == (name, estimated)]
    return found


def outcomes(count: int, *, wrong: float, seed: int = 3) -> list[bool]:
    return [bool(each >= wrong) for each in np.random.default_rng(seed).random(count)]


def test_quality_stands_beside_what_was_published(here: Listening) -> None:
    """Two thousand labels of three thousand predictions, two in a hundred wrong: as published, and it says so."""
    version = watched(metrics={"accuracy": 0.98, "Log-Loss": 0.16, "auc": 98.2})
    here.quality.observe(version, readings(NOON, 3000))
    here.quality.joined(version.key, labels(NOON, outcomes(2000, wrong=0.02)))

    report = only(here)
    assert (report.version, report.manifest_sha256, report.task) == (A, version.manifest, "classification")
    assert (report.predictions, report.labels) == (3000, 2000)
    assert report.coverage == pytest.approx(2 / 3)
    accuracy = metric(report, "accuracy")
    assert accuracy.baseline == 0.98
    assert accuracy.value == pytest.approx(0.98, abs=0.01)
    assert accuracy.verdict is report.verdict is Verdict.WITHIN
    assert metric(report, "log_loss").baseline == 0.16
    assert metric(report, "auc").baseline is None, "a percentage is not compared with a share"
    assert report.alarm_since is None
    assert "within what was published" in report.summary
    assert here.events == []


def test_a_version_that_became_worse_is_accused_once(here: Listening) -> None:
    """Twenty wrong in a hundred where two were published: an alarm within a hundred labels, told once, and it stays."""
    version = watched()
    here.quality.observe(version, readings(NOON, 5000))
    rows = labels(NOON, outcomes(400, wrong=0.2))
    for begin in range(0, len(rows), 10):
        here.quality.joined(version.key, rows[begin : begin + 10])
        here.clock.forward(seconds=1)
    here.quality.tick()

    (alarm,) = here.events
    assert isinstance(alarm, QualityAlarmed)
    assert (alarm.site, alarm.version, alarm.verdict) == (SITE, A, "below")
    assert alarm.labels <= 100
    report = only(here)
    assert report.alarm_since is not None
    assert report.verdict is Verdict.BELOW
    assert report.evidence_log10 > report.threshold_log10 == 5
    assert "below what was published; alarm since 2026-11-23 12:30 UTC" in report.summary


def test_a_version_as_good_as_published_is_not_accused(here: Listening) -> None:
    """Ten thousand labels at the published rate, and at the edge of the tolerance, raise no alarm."""
    for wrong, version in ((0.02, watched(A)), (0.03, watched(B))):
        here.begin(version)
        here.quality.joined(version.key, labels(NOON, outcomes(10_000, wrong=wrong)))
    assert here.events == []


def test_too_little_is_not_judged(here: Listening) -> None:
    """All wrong, but twenty-nine labels only: inconclusive; with the thirtieth the alarm comes."""
    version = watched()
    here.begin(version)
    here.quality.joined(version.key, labels(NOON, [False] * 29))
    report = only(here)
    assert (report.verdict, report.alarm_since) == (Verdict.INCONCLUSIVE, None)
    assert "too few to judge" in report.summary

    here.quality.joined(version.key, labels(NOON, [False]))
    assert only(here).verdict is Verdict.BELOW
    assert len(here.events) == 1


def test_labels_of_a_few_predictions_are_not_taken_for_all(here: Listening) -> None:
    """Below one label in a hundred predictions nothing is said; once there are more labels, the alarm comes."""
    version = watched()
    here.quality.observe(version, readings(NOON, 10_000))
    here.quality.joined(version.key, labels(NOON, [False] * 99))
    assert only(here).verdict is Verdict.INCONCLUSIVE
    assert here.events == []

    here.quality.joined(version.key, labels(NOON, [False]))
    assert only(here).verdict is Verdict.BELOW

    sparse = Listening(sample=0.1)
    sparse.quality.observe(version, readings(NOON, 10_000))
    sparse.quality.joined(version.key, labels(NOON, [False] * 40))
    assert only(sparse).verdict is Verdict.BELOW, (
        "the log keeps one in ten: no more than that can have a label"
    )


def test_a_label_counts_in_the_hour_of_its_prediction(here: Listening) -> None:
    """Labels that come an hour late speak of the predictions of that hour, and a window shows its own."""
    version = watched()
    here.quality.observe(version, readings(NOON - timedelta(hours=3), 100))
    here.quality.observe(version, readings(NOON, 50))
    here.quality.joined(version.key, labels(NOON - timedelta(hours=3), [True] * 40))
    here.quality.joined(version.key, labels(NOON - timedelta(days=9), [True] * 7))

    assert [(each.predictions, each.labels) for each in (only(here, window_s=60), only(here))] == [
        (50, 0),
        (150, 40),
    ]
    assert only(here, window_s=1e9).labels == 47
    assert only(here, window_s=60).window_start == NOON
    assert only(here, window_s=1e9).window_start == NOON - timedelta(days=9)


def test_a_corrected_truth_takes_the_first_ones_place(here: Listening) -> None:
    """A correction changes the metric and not the count; what was evidence once is not counted again."""
    version = watched()
    here.begin(version)
    here.quality.joined(version.key, labels(NOON, [False, True, True, True]))
    evidence = only(here).evidence_log10
    corrected = Joined(
        id=id_at(NOON), row=0, prediction=1.0, score=0.9, confidence=0.9, truth=1.0, replaces="0"
    )
    here.quality.joined(version.key, [corrected])

    report = only(here)
    assert (report.labels, metric(report, "accuracy").value) == (4, 1.0)
    assert report.evidence_log10 == evidence

    afresh = Listening()
    afresh.quality.joined(
        afresh.begin(version), [corrected]
    )  # what it corrects was told before this process began
    assert (only(afresh).labels, metric(only(afresh), "accuracy").value) == (1, 1.0)


def test_a_regression_is_accused_by_its_large_errors(here: Listening) -> None:
    """Where the baseline knows nine in ten errors to be small, three in ten large ones are an alarm; NaN is one."""
    version = watched(
        task="regression",
        metrics={"rmse": 1.0, "mean_absolute_error": 0.8},
        baseline=Baseline(rows=20_000, error_q90=1.6),
    )
    rng = np.random.default_rng(5)
    rows = [
        Joined(
            id=id_at(NOON, n),
            row=0,
            prediction=float("nan") if n % 50 == 0 else 10.0 + error,
            score=None,
            confidence=None,
            truth=10.0,
        )
        for n, error in enumerate(rng.normal(0, 2.0, 600).tolist())
    ]
    here.quality.joined(here.begin(version), rows)

    report = only(here)
    assert report.task == "regression"
    assert metric(report, "rmse").value == pytest.approx(2.0, abs=0.2)
    assert metric(report, "rmse").verdict is metric(report, "mae").verdict is Verdict.BELOW
    assert [type(each) for each in here.events] == [QualityAlarmed]


@pytest.mark.parametrize("truth", [1e69, 1e71, 1e100, -1e200, 1.7e308])
def test_one_truth_beyond_measure_spoils_no_report(here: Listening, truth: float) -> None:
    """A truth that no error can be taken to counts as a label and as wrong; the others' metrics go on, and it is said."""
    version = watched(task="regression", metrics={"rmse": 1.0}, baseline=Baseline(rows=20_000, error_q90=1.6))
    truths = [1.0, truth, 3.0, 1.0]
    key = here.begin(version)
    here.quality.joined(
        key, [Joined(id_at(NOON, n), 0, 2.0, 2.0, None, each) for n, each in enumerate(truths)]
    )

    report = only(here)
    assert report.labels == 4
    if abs(truth) > LARGEST_ERROR:
        assert metric(report, "mae").value == metric(report, "rmse").value == 1.0
        assert "1 of the labels without an error up to 1e+70" in report.summary
    else:
        assert metric(report, "mae").value == pytest.approx(truth / 4)


def test_a_version_whose_numbers_nobody_foresaw_costs_no_other_its_report(
    here: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    """Where one version's report fails it says so, with its counts; the other's is told, and the log says it once."""
    broken = watched(B, task="regression", metrics={"rmse": "?"}, baseline=Baseline(rows=9, error_q90=1.6))
    whole = watched(A)
    for each in (broken, whole):
        here.quality.observe(each, readings(NOON, 10))
        here.quality.joined(each.key, labels(NOON, [True] * 5))
    here.clock.forward(hours=1)
    here.quality.tick()

    for _ in range(3):
        failed, told = here.quality.reports(SITE)
    assert (failed.version, failed.labels, failed.metrics) == (B, 5, ())
    assert "cannot be told here: TypeError" in failed.summary
    assert metric(told, "accuracy").value == 1.0
    assert [type(each) for each in here.events] == [QualityReported, QualityReported]
    assert caplog.text.count("the quality of") == 1


def test_without_labels_there_is_an_estimate_and_no_verdict(here: Listening) -> None:
    """Low confidences alone make a low estimate, marked as one: it accuses nobody."""
    version = watched(baseline=calibrated_baseline())
    here.quality.observe(version, readings(NOON, 900, confidence=0.6))
    here.quality.observe(version, readings(NOON, 100, confidence=0.9))

    report = only(here)
    estimate = metric(report, "accuracy", estimated=True)
    assert estimate.value == pytest.approx(1 - 0.9 * 0.1 - 0.1 * 0.02)
    assert estimate.baseline == 0.98
    assert (estimate.verdict, report.verdict) == (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE)
    assert "estimated accuracy 0.908" in report.summary
    assert report.summary.endswith(", published 0.98"), "nothing follows, so no comma"
    assert here.events == []


def test_nothing_promised_nothing_compared(here: Listening) -> None:
    """Without metrics in the manifest the numbers are told, and nobody is judged by them."""
    here.quality.observe(watched(metrics={}), readings(NOON, 500))
    here.quality.joined(watched(metrics={}).key, labels(NOON, [False] * 500))
    report = only(here)
    assert (report.verdict, report.evidence_log10, report.alarm_since) == (Verdict.INCONCLUSIVE, 0.0, None)
    assert "the manifest tells no metric to compare with" in report.summary


def test_without_a_promised_accuracy_the_baselines_rows_tell_one(here: Listening) -> None:
    """They had 0.94 right: labels beside it are within, or below with the alarm, and it says what they are compared with."""
    version = watched(metrics={}, baseline=calibrated_baseline())
    here.begin(version)
    here.quality.joined(version.key, labels(NOON, outcomes(3000, wrong=0.05)))
    report = only(here)
    accuracy = metric(report, "accuracy")
    assert accuracy.baseline == pytest.approx(0.94)
    assert (accuracy.verdict, report.verdict) == (Verdict.WITHIN, Verdict.WITHIN)
    assert "published 0.94 (by the baseline's rows), on 3,000 labels" in report.summary

    here.quality.joined(version.key, labels(NOON, [False] * 600))
    report = only(here)
    assert (metric(report, "accuracy").verdict, report.verdict) == (Verdict.BELOW, Verdict.BELOW)
    assert report.alarm_since is not None
    assert ": below what was published; alarm since" in report.summary


def test_what_few_rows_promise_has_a_margin() -> None:
    """Of 100 rows 94 right: what lies no farther below than so few rows can tell is not called worse."""
    few = Baseline(rows=100, calibration=Calibration((), (100,), (6,)))
    found = {
        rows: judged(share("accuracy", 9000, 10_000), {}, enough=True, baseline=baseline)
        for rows, baseline in ((100, few), (20_000, calibrated_baseline()))
    }
    assert {rows: each.verdict for rows, each in found.items() if each is not None} == {
        100: Verdict.WITHIN,
        20_000: Verdict.BELOW,
    }


def test_an_alarm_of_which_no_metric_tells_says_what_it_rests_on(here: Listening) -> None:
    """A regression without metrics is accused by the baseline's errors, not for want of a metric."""
    version = watched(task="regression", metrics={}, baseline=Baseline(rows=20_000, error_q90=1.0))
    rows = [
        Joined(id=id_at(NOON, n), row=0, prediction=5.0, score=None, confidence=None, truth=9.0)
        for n in range(400)
    ]
    here.quality.joined(here.begin(version), rows)
    assert ": worse than over the baseline's rows; alarm since" in only(here).summary


def test_every_hour_is_reported_once(here: Listening) -> None:
    """At the end of an hour one line a version, and none for an hour in which nothing happened."""
    version = watched()
    here.quality.observe(version, readings(NOON, 200))
    here.quality.joined(version.key, labels(NOON, outcomes(100, wrong=0.02)))
    here.quality.tick()
    assert here.events == []

    here.clock.forward(minutes=30)
    here.quality.tick()
    here.quality.tick()
    (report,) = here.events
    assert isinstance(report, QualityReported)
    assert (report.predictions, report.labels) == (200, 100)
    assert report.metrics["accuracy"] == pytest.approx(0.98, abs=0.03)

    here.clock.forward(hours=5)
    here.quality.tick()
    assert len(here.events) == 1


def test_a_released_version_is_forgotten_until_it_is_back(here: Listening) -> None:
    """What leaves memory leaves the reports, readings that come after it too; loaded again, it begins anew."""
    version = watched()
    here.quality.observe(version, readings(NOON, 10))
    here.quality.on_event(Released(SITE, A, version.manifest))
    assert only(here).predictions == 10, "another load of it is in memory still"

    here.resident = False
    here.quality.on_event(Released(SITE, A, version.manifest))
    here.quality.observe(version, readings(NOON, 10))
    assert here.quality.reports(SITE) == ()

    here.resident = True
    here.quality.observe(version, readings(NOON, 4))
    assert only(here).predictions == 4


def test_what_only_answers_elsewhere_is_watched_too(here: Listening) -> None:
    """A version that is not in memory here, and of which predictions are reported, has a quality of its own."""
    here.resident = False
    version = replace(watched(B, metrics={}), manifest=NOWHERE)
    here.quality.observe(version, readings(NOON, 50))
    here.quality.joined(version.key, labels(NOON, [True] * 50))
    assert (only(here).version, only(here).labels) == (B, 50)


def test_labels_may_come_before_anything_else(here: Listening) -> None:
    """After a start the log tells what was joined before: it waits, counts once the version is seen, and can accuse it."""
    version = watched()
    here.quality.joined(version.key, labels(NOON, [False] * 300))
    assert here.quality.reports(SITE) == ()
    here.quality.observe(version, readings(NOON, 1))
    assert only(here).labels == 300
    assert only(here).verdict is Verdict.BELOW

    assert len(here.events) == 1

    for number in range(20):
        key = watched(Version(f"2023.01.{number + 1:02}.prod")).key
        here.quality.joined(key, labels(NOON, [True] * 10))
    assert len(here.quality._early) == 8


def test_a_regression_is_recognised_by_its_labels(here: Listening) -> None:
    """Labels that come first are tallied as what they are: values have errors, and large ones accuse once the limit is known."""
    version = watched(task="regression", metrics={}, baseline=Baseline(rows=20_000, error_q90=1.0))
    rows = [
        Joined(
            id=id_at(NOON, n), row=0, prediction=5.0, score=5.0, confidence=None, truth=5.0 + 2.0 * (n % 2)
        )
        for n in range(400)
    ]
    here.quality.joined(version.key, rows)
    here.begin(version)
    assert metric(only(here), "mae").value == 1.0
    assert only(here).alarm_since is not None


def test_sites_are_apart_and_versions_bounded(here: Listening) -> None:
    """Whoever reports predictions of a thousand versions leaves eight; another environment has its own."""
    elsewhere = Site(SITE.model, Environment("staging"))
    for day in range(1, 29):
        here.quality.observe(watched(Version(f"2024.02.{day:02}.prod")), readings(NOON, 1))
    here.quality.observe(watched(site=elsewhere), readings(NOON, 5))

    assert [each.version[8:10] for each in here.quality.reports(SITE)] == [f"{n}" for n in range(21, 29)]
    assert [each.predictions for each in here.quality.reports(elsewhere)] == [5]


@pytest.mark.parametrize("is_known", [True, False], ids=["watched", "known by its labels"])
def test_versions_that_are_only_told_of_take_no_labels_from_the_live_one(
    here: Listening, *, is_known: bool
) -> None:
    """Whoever tells of predictions and labels of a month of other versions leaves the live one its labels and its alarm."""
    live = watched(metrics={"accuracy": 0.98})
    if is_known:
        here.quality.observe(live, readings(NOON, 300))
    here.quality.joined(live.key, labels(NOON, [False] * 100))
    for day in range(1, 29):
        told = replace(watched(Version(f"2024.02.{day:02}.prod")), manifest=NOWHERE)
        here.quality.joined(told.key, labels(NOON, [True]))
        if is_known:
            here.quality.observe(told, readings(NOON, 1))
    here.quality.observe(live, readings(NOON, 1))

    reports = {each.version: each for each in here.quality.reports(SITE)}
    assert len(reports) <= 8
    assert reports[A].labels == 100
    assert reports[A].alarm_since is not None


def test_state_is_bounded(here: Listening) -> None:
    """A week of labels in every hour of it, of a hundred classes, is held in less than 64 KiB of arrays."""
    version = watched(baseline=calibrated_baseline())
    for hour in range(24 * 7):
        moment = NOON + timedelta(hours=hour)
        here.clock.now = moment
        here.quality.observe(version, readings(moment, 3))
        rows = [
            Joined(
                id=id_at(moment, n),
                row=0,
                prediction=float(n % 100),
                score=0.3,
                confidence=0.3,
                truth=float(n % 2),
            )
            for n in range(100)
        ]
        here.quality.joined(version.key, rows)
    (kept,) = here.quality._versions.values()
    cells = [*kept.hours._cells.values(), kept.hours._older]
    arrays = 0
    for cell in cells:
        tally = cell.tally
        arrays += tally.table.nbytes + tally.scores.counts.nbytes + tally.scores.losses.nbytes * 2  # type: ignore[union-attr]
        arrays += cell.confidences.nbytes if cell.confidences is not None else 0
    assert len(cells) == 26
    assert arrays < 64 << 10


def test_readers_and_writers_meet(here: Listening) -> None:
    """Labels, readings and reports from three threads at once lose nothing."""
    version = watched()
    here.begin(version)

    def write() -> None:
        for _ in range(50):
            here.quality.joined(version.key, labels(NOON, [True] * 20))

    def watch() -> None:
        for _ in range(50):
            here.quality.observe(version, readings(NOON, 20))
            here.quality.reports(SITE)

    threads = [threading.Thread(target=each) for each in (write, watch, write)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (only(here).predictions, only(here).labels) == (1000, 2000)
