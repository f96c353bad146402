"""How many threads there are of each kind, counted at the moment of a scrape."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

_NUMBER = re.compile(r"((?<=^Thread)|(?<=^Dummy))-[0-9]+( \(.*\))?$|_[0-9]+$")
"""What Python, and a pool, put behind the name that all of a kind have; `-2` may well be a model's own."""


class ThreadsCollector:
    """A collector of the interpreter's threads; those that libraries started for themselves are not among them."""

    def collect(self) -> Iterator[Metric]:
        """The metric, for a registry."""
        threads = GaugeMetricFamily(
            "model_sidecar_threads",
            "Threads of the interpreter, by what they are there for.",
            labels=("name",),
        )
        for name, count in sorted(
            Counter(_NUMBER.sub("", each.name) for each in threading.enumerate()).items()
        ):
            threads.add_metric((name,), count)
        yield threads
