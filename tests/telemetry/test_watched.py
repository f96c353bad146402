"""Quality and drift as a scraper sees them."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from support.labelled import (
    NOON,
    Listening,
    calibrated_baseline,
    column,
    labels,
    readings,
    spread_baseline,
    watched,
)
from support.served import SITE, A, Bench

from model_sidecar.config import MonitorSettings
from model_sidecar.events import Released
from model_sidecar.monitor.drift.drift import Drift
from model_sidecar.monitor.readings import NOWHERE
from model_sidecar.monitor.reports import Reports
from model_sidecar.release.baseline import Classes
from model_sidecar.telemetry.event_log import EventLog
from model_sidecar.telemetry.watched import ReportsCollector


class Scraped:
    """Observers fed by hand, and what a scrape shows of them."""

    def __init__(self, store: Path, *, stream_counters: bool = False) -> None:
        self.here = Listening()
        self.drift = Drift(MonitorSettings())
        self.registry = CollectorRegistry()
        reports = Reports(quality=self.here.quality, drift=self.drift)
        served = Bench(store).served
        self.registry.register(ReportsCollector([served], reports, stream_counters=stream_counters))

    def value(self, name: str, **further: str) -> float | None:
        site = {"model": SITE.model, "environment": SITE.environment, "version": A}
        return self.registry.get_sample_value(f"model_sidecar_{name}", {**site, **further})


@pytest.fixture
def scraped(tmp_path: Path) -> Scraped:
    return Scraped(tmp_path)


def test_quality_beside_its_baseline(scraped: Scraped) -> None:
    """What was measured, what was published, and what is only estimated are three things."""
    version = watched(baseline=calibrated_baseline())
    scraped.here.quality.observe(version, readings(NOON, 200))
    scraped.here.quality.joined(version.key, labels(NOON, [n % 10 > 0 for n in range(100)]))

    assert scraped.value("quality", metric="accuracy") == 0.9
    assert scraped.value("quality_baseline", metric="accuracy") == 0.98
    assert scraped.value("quality", metric="accuracy_estimate") == pytest.approx(0.98)
    assert scraped.value("quality_baseline", metric="accuracy_estimate") is None
    assert scraped.value("quality_baseline", metric="f1") is None
    assert scraped.value("feedback_coverage_ratio") == 0.5
    assert scraped.value("quality_alarm") == 0

    scraped.here.quality.joined(version.key, labels(NOON, [False] * 100))
    assert scraped.value("quality_alarm") == 1
    assert (scraped.value("quality_evidence_log10") or 0) > 5


def test_drift_names_its_cause_only_in_alarm(scraped: Scraped) -> None:
    """Without an alarm one series says 0; with one, one series says 1 and why."""
    version = watched(baseline=spread_baseline())
    rows = readings(NOON, 400, confidence=0.5)
    scraped.drift.observe(version, readings(NOON, 2, confidence=0.5))
    assert scraped.value("drift_alarm", kind="", cause="") == 0

    for _ in range(50):
        scraped.drift.observe(version, rows)
    (told,) = scraped.drift.snapshot(SITE)
    assert told.cause_kind is not None
    assert scraped.value("drift_alarm", kind="", cause="") is None
    assert scraped.value("drift_alarm", kind=told.cause_kind, cause=told.cause) == 1
    everything = scraped.value("drift_evidence_log10", kind="all")
    threshold = scraped.value("drift_threshold_log10")
    assert everything is not None
    assert threshold is not None
    assert everything > threshold
    assert {"feature", "confidence", "class", "nonfinite"} <= {
        sample.labels["kind"]
        for family in scraped.registry.collect()
        if family.name == "model_sidecar_drift_evidence_log10"
        for sample in family.samples
    }


def test_bins_are_counted_where_that_is_wanted(tmp_path: Path, scraped: Scraped) -> None:
    """A thousand series a version are an option: every row is in one bin of each stream of values."""
    version = watched(baseline=spread_baseline())
    assert b"stream_bin" not in generate_latest(scraped.registry)
    many = Scraped(tmp_path / "many", stream_counters=True)
    many.drift.observe(version, readings(NOON, 30))
    (family,) = [each for each in many.registry.collect() if each.name == "model_sidecar_stream_bin"]
    features = [each.value for each in family.samples if each.labels["stream"] == "feature:x"]
    assert sum(features) == 30
    assert many.value("stream_bin_total", stream="feature:x", bin="<= 0.1") == 30


def test_released_versions_leave_and_names_stand_once(scraped: Scraped) -> None:
    """A version that left memory has no series; one that answers here and elsewhere has one set, not two."""
    version = watched(baseline=spread_baseline())
    elsewhere = replace(version, manifest=NOWHERE)
    for each in (version, elsewhere):
        scraped.here.quality.observe(each, readings(NOON, 10))
        scraped.drift.observe(each, readings(NOON, 10))
    text = generate_latest(scraped.registry).decode()
    assert text.count("model_sidecar_quality_alarm{") == 1
    assert text.count("model_sidecar_drift_alarm{") == 1

    scraped.here.resident = False
    for each in (version, elsewhere):
        scraped.here.quality.on_event(Released(SITE, A, each.manifest))
        scraped.drift.on_event(Released(SITE, A, each.manifest))
    assert A not in generate_latest(scraped.registry).decode()


def test_names_that_a_publisher_chose_are_seen_and_bounded(tmp_path: Path) -> None:
    """Escapes, marks that turn the text and four thousand characters are shown, cut, and still series of their own."""
    odd = ("\x1b[2J", "\\x1b[2J", "\u202egood", "\ud800", "n" * 4096, "n" * 4095 + "m", "plain")
    baseline = replace(
        spread_baseline(),
        streams=(column("\x1b]0;" + "f" * 4000),),
        classes=Classes(odd, (1000,) * len(odd), 0),
    )
    many = Scraped(tmp_path, stream_counters=True)
    version = watched(baseline=baseline, features=("\x1b]0;" + "f" * 4000,))
    for _ in range(50):
        many.drift.observe(version, readings(NOON, 400))

    lines = generate_latest(many.registry).decode("utf-8").splitlines()
    bins = [line for line in lines if 'stream="class:' in line]
    assert len(set(bins)) == len(bins) == len(odd) + 1
    assert any('bin="plain"' in line for line in bins)
    assert any('drift_alarm{cause="' in line and line.endswith(" 1.0") for line in lines)
    for line in lines:
        assert len(line) < 512
        assert "\x1b" not in line
        assert "\u202e" not in line


def test_a_part_that_fails_costs_no_other_part(
    scraped: Scraped, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where quality cannot be made into metrics the scrape has drift all the same, and a series that says what is missing."""
    scraped.drift.observe(watched(baseline=spread_baseline()), readings(NOON, 2))
    monkeypatch.setattr(scraped.here.quality, "reports", lambda *_: 1 / 0)
    for _ in range(3):
        text = generate_latest(scraped.registry).decode()
    assert 'model_sidecar_report_missing{part="quality"} 1.0' in text
    assert "model_sidecar_drift_threshold_log10{" in text
    assert caplog.text.count("ZeroDivisionError") == 1

    monkeypatch.undo()
    assert b'report_missing{part="quality"} 0.0' in generate_latest(scraped.registry)


def test_the_hour_and_the_alarm_are_lines_of_the_log(
    scraped: Scraped, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever has only the log finds the alarm as an error with its numbers, and each hour in one line."""
    version = watched()
    scraped.here.quality.observe(version, readings(NOON, 100))
    scraped.here.quality.joined(version.key, labels(NOON, [False] * 60))
    scraped.here.clock.forward(hours=1)
    scraped.here.quality.tick()
    with caplog.at_level(logging.INFO):
        for event in scraped.here.events:
            EventLog().on_event(event)

    alarm, hour = caplog.records
    assert (alarm.levelno, hour.levelno) == (logging.ERROR, logging.INFO)
    assert alarm.getMessage().startswith(f"{A} predicts worse than it was published with: accuracy 0")
    assert hour.getMessage().startswith(f"{A} in the last hour: accuracy 0")
    facts = vars(alarm)
    assert (facts["event"], vars(hour)["event"]) == ("quality-alarm", "quality")
    assert (facts["version"], facts["verdict"], facts["labels"], facts["accuracy"]) == (A, "below", 60, 0.0)
