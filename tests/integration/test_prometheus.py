"""A real Prometheus beside a real sidecar: what is scraped, and the alert that wakes somebody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.ports import free_port
from support.prometheus import PROMETHEUS, scraping
from support.sidecars import RunningSidecar, serving
from support.yard import MODEL, PROD, Yard

A = "2024.01.10.prod"
_ROWS = 20_000

pytestmark = pytest.mark.skipif(
    PROMETHEUS is None, reason="no prometheus here: scripts/need.sh prometheus installs it"
)


@contextmanager
def asked(sidecar: RunningSidecar, shift: float) -> Iterator[None]:
    """Requests of a row each, one after the other, whose first column is shifted by so many standard deviations."""
    stop = threading.Event()
    rng = np.random.default_rng(3)

    def go() -> None:
        with sidecar.client() as client:
            while not stop.is_set():
                row = rng.normal(size=(1, 2)).astype(np.float32)
                client.predict(MODEL, {"raw": row + np.array([[shift, 0]], np.float32)})

    caller = threading.Thread(target=go)
    caller.start()
    try:
        yield
    finally:
        stop.set()
        caller.join()


def test_prometheus_is_told_of_drift_and_fires(tmp_path: Path) -> None:
    """Traffic as in the baseline: no alert. One column shifts: ModelDrift fires within seconds, and names it."""
    yard = Yard(tmp_path)
    rows = tmp_path / "rows.npz"
    np.savez(rows, raw=np.random.default_rng(1).normal(size=(_ROWS, 2)).astype(np.float32))
    yard.publish(A, baseline=rows)
    address = f"127.0.0.1:{free_port()}"
    with (
        serving(yard, A, "--http", address) as sidecar,
        scraping(address, tmp_path / "prometheus") as prometheus,
    ):
        with asked(sidecar, shift=0.0):
            evidence = (
                f'model_sidecar_drift_evidence_log10{{model="{MODEL}",environment="{PROD}",kind="all"}}'
            )
            prometheus.wait(lambda: prometheus.query(evidence))
            answered = 'sum(model_sidecar_predictions_total{code="OK"}) > 300'
            prometheus.wait(lambda: prometheus.query(answered))
            assert prometheus.firing("ModelDrift") == []

        with asked(sidecar, shift=3.0):
            (alert,) = prometheus.wait(lambda: prometheus.firing("ModelDrift"))

    labels = alert["labels"]
    assert (labels["model"], labels["environment"], labels["version"]) == (MODEL, PROD, A)
    assert labels["cause"] == "raw[0]"
    assert labels["severity"] == "page"
