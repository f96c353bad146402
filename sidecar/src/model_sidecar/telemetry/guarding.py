"""How often the guard decided what, as a counter that events move."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from model_sidecar.events import Event, GuardDecided, Released

_Key = tuple[str, str, str]


class GuardMetrics:
    """A collector. Any thread may call; the label sets of versions that are no longer resident are removed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _made
        self._made: dict[_Key, Counter[str]] = {}

    def on_event(self, event: Event) -> None:
        """Count a decision, or forget a version's."""
        match event:
            case GuardDecided(site=site, version=version, decision=decision):
                with self._lock:
                    made = self._made.setdefault((site.model, site.environment, version), Counter())
                    made[decision] += 1
            case Released(site=site, version=version):
                with self._lock:
                    self._made.pop((site.model, site.environment, version), None)
            case _:
                pass

    def collect(self) -> Iterator[Metric]:
        """The metric, for a registry."""
        family = CounterMetricFamily(
            "model_sidecar_guard_decisions",
            "What the guard decided about versions that showed a symptom: rolled_back, would_roll_back (dry run), held or failed.",
            labels=("model", "environment", "version", "decision"),
        )
        with self._lock:
            for key, made in sorted(self._made.items()):
                for decision, count in sorted(made.items()):
                    family.add_metric((*key, decision), count)
        yield family
