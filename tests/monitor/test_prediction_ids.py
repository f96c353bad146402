"""Prediction ids: unique, growing, and told apart from other processes'."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from model_sidecar.monitor.prediction_ids import PredictionIds


def test_ids_grow_and_never_repeat() -> None:
    """Ids made one after another sort in that order, also many within one millisecond."""
    ids = PredictionIds()
    made = [ids.next() for _ in range(50_000)]
    assert made == sorted(set(made))
    assert re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]{8}", made[0])


def test_threads_never_share_an_id() -> None:
    """Eight threads that make ids at once make different ones."""
    ids = PredictionIds()
    with ThreadPoolExecutor(8) as pool:
        made = [
            each
            for batch in pool.map(lambda _: [ids.next() for _ in range(5_000)], range(8))
            for each in batch
        ]
    assert len(set(made)) == 40_000


def test_processes_are_told_apart() -> None:
    """Two makers, as in two processes, have different second parts."""
    assert PredictionIds().next().split("-")[1] != PredictionIds().next().split("-")[1]
