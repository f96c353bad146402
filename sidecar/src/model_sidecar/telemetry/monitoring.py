"""What the monitor counts, as metrics: read from its snapshots at the moment of a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from model_sidecar.events import Site
from model_sidecar.monitor.tallies import MonitorTallies

_SITE = ("model", "environment")
_PLACES = ("notes", "log")


class MonitoringCollector:
    """A collector of what the monitor says of itself. Any thread may call it."""

    def __init__(self, sites: Sequence[Site], tallies: Callable[[], MonitorTallies]) -> None:
        """Show the counts of these sites, from zero on."""
        self._sites = tuple(sites)
        self._tallies = tallies

    def collect(self) -> Iterator[Metric]:
        """The metrics, for a registry."""
        yield from _log_and_feedback(self._sites, self._tallies())


def _log_and_feedback(sites: Sequence[Site], tallies: MonitorTallies) -> Iterator[Metric]:
    feedback = CounterMetricFamily(
        "model_sidecar_feedback",
        "Feedback by what became of it; the version is empty where it led to none that is in memory.",
        labels=(*_SITE, "version", "outcome"),
    )
    for (told_of, version, outcome), count in sorted(tallies.feedback.items(), key=str):
        where = ("", "") if told_of is None else (told_of.model, told_of.environment)
        feedback.add_metric((*where, version, outcome), count)
    dropped = CounterMetricFamily(
        "model_sidecar_monitor_dropped",
        "Rows that the monitor had no room for: notes of answers that came too fast, or rows that the log did not take.",
        labels=(*_SITE, "where"),
    )
    rows = CounterMetricFamily("model_sidecar_log_rows", "Rows that the prediction log took.", labels=_SITE)
    for site in sites:
        labels = (site.model, site.environment)
        for place in _PLACES:
            dropped.add_metric((*labels, place), tallies.dropped.get((place, site), 0))
        rows.add_metric(labels, tallies.logged.get(site, 0))
    size = GaugeMetricFamily("model_sidecar_log_bytes", "How large the prediction log is.")
    size.add_metric((), tallies.log_bytes)
    ticked = GaugeMetricFamily(
        "model_sidecar_monitor_last_tick_timestamp_seconds",
        "When the monitor last looked at what was answered, in Unix time; absent before the first time.",
    )
    if tallies.last_tick is not None:
        ticked.add_metric((), tallies.last_tick)
    yield from (feedback, dropped, rows, size, ticked)
