"""Ten times what a sidecar can do, asked for by callers in a process of their own: what it could do before, it does on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import open_loop
from support.ports import free_port
from support.rpc_models import counted_loop
from support.sidecars import RunningSidecar, serving
from support.terminations import counting
from support.yard import MODEL, PROD, Yard

pytestmark = pytest.mark.alone

A, B = "2024.01.10.prod", "2024.01.12.prod"
TURNS = 20_000  # some tens of milliseconds
REFUSALS = {"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED (before it was sent)", "CANCELLED"}


def load(sidecar: RunningSidecar, body: bytes, *, rate: float, seconds: float) -> dict[str, Any]:
    settings = ["--rate", str(rate), "--seconds", str(seconds), "--deadline-ms", "2000"]
    done = subprocess.run(
        [sys.executable, str(Path(open_loop.__file__)), sidecar.data, *settings],
        input=body,
        capture_output=True,
        check=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@contextmanager
def flipping(sidecar: RunningSidecar) -> Iterator[list[str]]:
    """Deploy and roll back without a pause; the versions that it was rolled back to."""
    flips: list[str] = []
    stop = threading.Event()

    def go() -> None:
        with sidecar.operator() as operator:
            while not stop.is_set():
                operator.deploy(MODEL, B, environment=PROD)
                flips.append(operator.rollback(MODEL, environment=PROD).version)

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(go)
        try:
            yield flips
        finally:
            stop.set()
            going.result()


@pytest.mark.parametrize("turns", [TURNS, 1])
def test_at_ten_times_its_capacity_it_goes_on(yard: Yard, turns: int) -> None:
    """A model in lanes and one on the loop: most of the goodput is kept, refusals say so, operators come through."""
    for version in (A, B):
        yard.publish(version, model=counted_loop())
    port = free_port()
    # Of the loop's callers few may wait unread, so that a machine of whatever speed has callers in time.
    with serving(yard, A, "--http", f"127.0.0.1:{port}", "--backlog", "64") as sidecar:
        body = counting(turns)
        load(sidecar, body, rate=20, seconds=1)  # what it costs is learned
        with flipping(sidecar) as flips:  # all the while, so that both are measured in the same weather
            rate, able = 50.0, 0.0
            while (found := load(sidecar, body, rate=rate, seconds=1.5)["goodput"]) > 1.1 * able:
                able, rate = found, 2 * rate
            flips.clear()
            report = load(sidecar, body, rate=10 * able, seconds=4)

        print(
            f"\nable {able:.0f}/s, at ten times {report['goodput']:.0f}/s, {len(flips)} rollbacks: {report['codes']}"
        )
        assert set(report["codes"]) <= {"OK", *REFUSALS}
        assert report["goodput"] > able / 3
        assert set(flips) == {A}
        idle = f'model_sidecar_inflight_requests{{environment="prod",model="{MODEL}"}} 0'
        while idle not in sidecar.http("/metrics", port=port):
            pass  # the last of those whose callers gave up are still in a lane
