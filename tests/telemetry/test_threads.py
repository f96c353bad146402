"""Threads are counted by what they are there for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from model_sidecar.telemetry.threads import ThreadsCollector


def counted() -> dict[str, float]:
    (family,) = ThreadsCollector().collect()
    return {sample.labels["name"]: sample.value for sample in family.samples}


def test_threads_are_counted_by_kind() -> None:
    """A pool's are one kind, and so are those that nobody named; models whose names end in a number stay apart."""
    gate = threading.Event()
    before = counted()
    named = [threading.Thread(target=gate.wait, name=name) for name in ("manager-fraud-1", "manager-fraud-2")]
    nameless = [threading.Thread(target=gate.wait) for _ in range(2)]
    pool = ThreadPoolExecutor(2, thread_name_prefix="ledger-fraud-1")
    try:
        for each in (*named, *nameless):
            each.start()
        for _ in range(2):
            pool.submit(gate.wait)
        found = counted()
    finally:
        gate.set()
        pool.shutdown()
        for each in (*named, *nameless):
            each.join()
    assert {
        name: found[name] - before.get(name, 0) for name in found if found[name] != before.get(name, 0)
    } == {
        "manager-fraud-1": 1,
        "manager-fraud-2": 1,
        "ledger-fraud-1": 2,
        "Thread": 2,
    }
