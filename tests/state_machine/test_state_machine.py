"""Whatever happens to a store in whatever order, the promises hold: hypothesis looks for an order in which they do not."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from support.machine import Store

StoreTest = Store.TestCase
StoreTest.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    derandomize=True,  # the same examples in every run: what CI finds, everybody can repeat
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
