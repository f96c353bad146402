"""Quality and drift as metrics: read from the monitor's reports at the moment of a scrape."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from model_sidecar.events import Site
from model_sidecar.monitor.drift.drift import BinTotals
from model_sidecar.monitor.drift.drift_report import VersionDrift
from model_sidecar.monitor.quality.quality_report import VersionQuality
from model_sidecar.monitor.reports import Reports
from model_sidecar.release.baseline import StreamKind
from model_sidecar.serving.site import ServedSite
from model_sidecar.telemetry.lines import visible

Report = TypeVar("Report", VersionQuality, VersionDrift)

_VERSION = ("model", "environment", "version")
_ALL = "all"
_LABEL_CHARACTERS = 128
_KEPT_CHARACTERS = 96


class ReportsCollector:
    """A collector of what is known of the versions. Any thread may call it."""

    def __init__(self, sites: Sequence[ServedSite], reports: Reports, *, stream_counters: bool) -> None:
        """Show these sites; `stream_counters`: also each bin of each stream, of which there may be a thousand."""
        self._sites = tuple(sites)
        self._reports = reports
        self._stream_counters = stream_counters

    def collect(self) -> Iterator[Metric]:
        """The metrics, for a registry; a part that fails is missing, and that is one of them."""
        missing = GaugeMetricFamily(
            "model_sidecar_report_missing",
            "1 for a part of the metrics that could not be made, the log says why; else 0.",
            labels=("part",),
        )
        for part, made in (("quality", self._quality), ("drift", self._drift), ("bins", self._bins)):
            try:
                families = list(made())  # all of a part or nothing of it
            except Exception as error:  # noqa: BLE001 - it is told, and costs no more than itself
                self._reports.faults.tell(f"the part {part} of the metrics", error)
                missing.add_metric((part,), 1)
            else:
                missing.add_metric((part,), 0)
                yield from families
        yield missing

    def _quality(self) -> Iterable[Metric]:
        return _quality((each.site, _named_once(self._reports.quality_of(each))) for each in self._sites)

    def _drift(self) -> Iterable[Metric]:
        return _drift((each.site, _named_once(self._reports.drift_of(each))) for each in self._sites)

    def _bins(self) -> Iterable[Metric]:
        drift = self._reports.drift
        if not self._stream_counters or drift is None:
            return ()
        return (_bins((each.site, drift.totals(each.site)) for each in self._sites),)


def _label(name: str) -> str:
    """A name that a publisher chose, such as a class's, as a label's value: all of it seen, and of bounded length.

    A name that is shown otherwise than it is ends in eight digits of its SHA-256: two names are never one series.
    """
    shown = visible(name)
    if shown == name and len(name) <= _LABEL_CHARACTERS:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{shown[:_KEPT_CHARACTERS]}…{digest[:8]}"


def _named_once(reports: Iterable[Report]) -> list[Report]:
    """One for each version's name, the live one: two of a name would be one series twice, which no scraper takes."""
    first: dict[str, Report] = {}
    for each in reports:
        first.setdefault(each.version, each)
    return list(first.values())


def _quality(rated: Iterable[tuple[Site, Sequence[VersionQuality]]]) -> Iterator[Metric]:
    value = GaugeMetricFamily(
        "model_sidecar_quality",
        "Metrics over predictions of the last 24 hours, by the labels so far; those that end in _estimate without labels.",
        labels=(*_VERSION, "metric"),
    )
    baseline = GaugeMetricFamily(
        "model_sidecar_quality_baseline",
        "The same metrics as the manifest tells them.",
        labels=(*_VERSION, "metric"),
    )
    coverage = GaugeMetricFamily(
        "model_sidecar_feedback_coverage_ratio",
        "Labels over predictions, of the last 24 hours.",
        labels=_VERSION,
    )
    evidence = GaugeMetricFamily(
        "model_sidecar_quality_evidence_log10",
        "Evidence that the version predicts worse than it was published with; from 5 on it is an alarm.",
        labels=_VERSION,
    )
    alarm = GaugeMetricFamily(
        "model_sidecar_quality_alarm", "1 from when that evidence was enough, else 0.", labels=_VERSION
    )
    for site, versions in rated:
        for each in versions:
            labels = (site.model, site.environment, each.version)
            for metric in each.metrics:
                value.add_metric((*labels, metric.label), metric.value)
                if metric.baseline is not None and not metric.estimated:
                    baseline.add_metric((*labels, metric.name), metric.baseline)
            coverage.add_metric(labels, each.coverage)
            evidence.add_metric(labels, each.evidence_log10)
            alarm.add_metric(labels, each.alarm_since is not None)
    yield from (value, baseline, coverage, evidence, alarm)


def _drift(drifted: Iterable[tuple[Site, Sequence[VersionDrift]]]) -> Iterator[Metric]:
    alarm = GaugeMetricFamily(
        "model_sidecar_drift_alarm",
        "1 while a version has drifted from its baseline, by the kind and the name of the stream that says most; else 0.",
        labels=(*_VERSION, "kind", "cause"),
    )
    evidence = GaugeMetricFamily(
        "model_sidecar_drift_evidence_log10",
        "Evidence of drift: the most of any stream of a kind, and of all together.",
        labels=(*_VERSION, "kind"),
    )
    threshold = GaugeMetricFamily(
        "model_sidecar_drift_threshold_log10",
        "From which evidence of all streams together it is an alarm.",
        labels=_VERSION,
    )
    for site, versions in drifted:
        for each in versions:
            if not each.streams:
                continue
            labels = (site.model, site.environment, each.version)
            is_alarm = each.alarm_since is not None
            told = (each.cause_kind or "", _label(each.cause)) if is_alarm else ("", "")
            alarm.add_metric((*labels, *told), is_alarm)
            evidence.add_metric((*labels, _ALL), max(0.0, each.evidence_log10))
            for kind in StreamKind:
                if kind in each.most_log10:
                    evidence.add_metric((*labels, kind), each.most_log10[kind])
            threshold.add_metric(labels, each.threshold_log10)
    yield from (alarm, evidence, threshold)


def _bins(totals: Iterable[tuple[Site, Sequence[BinTotals]]]) -> Metric:
    family = CounterMetricFamily(
        "model_sidecar_stream_bin",
        "Rows in each bin of each stream: sums over sidecars are what one sidecar would have counted.",
        labels=(*_VERSION, "stream", "bin"),
    )
    for site, versions in totals:
        seen: set[str] = set()
        for each in versions:
            version = each.watched.version
            if version in seen:
                continue
            seen.add(version)
            for stream in each.streams:
                name = f"{stream.kind}:{_label(stream.name)}"
                for label, count in zip(stream.labels, each.counts[stream.first : stream.end], strict=True):
                    labels = (site.model, site.environment, version, name, _label(label))
                    family.add_metric(labels, float(count))
    return family
