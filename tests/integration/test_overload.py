"""Ten times what a sidecar can do, asked for by callers in a process of their own: what it could do before, it does on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
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
        rate, able = 50.0, 0.0
        while (found := load(sidecar, body, rate=rate, seconds=1.5)["goodput"]) > 1.1 * able:
            able, rate = found, 2 * rate
        reports: list[dict[str, Any]] = []
        loading = threading.Thread(
            target=lambda: reports.append(load(sidecar, body, rate=10 * able, seconds=4))
        )
        loading.start()
        flips = 0
        with sidecar.operator() as operator:
            while loading.is_alive():
                operator.deploy(MODEL, B, environment=PROD)
                assert operator.rollback(MODEL, environment=PROD).version == A
                flips += 1
        loading.join()
        (report,) = reports

        print(
            f"\nable {able:.0f}/s, at ten times {report['goodput']:.0f}/s, {flips} rollbacks: {report['codes']}"
        )
        assert set(report["codes"]) <= {"OK", *REFUSALS}
        # The cheaper the answers, the more of them the refusals take (docs/reliability.md): nine refusals come for each answer,
        # and of a model of microseconds each costs a good part of one.
        assert report["goodput"] > able / (3 if turns == TURNS else 8)
        assert flips
        idle = f'model_sidecar_inflight_requests{{environment="prod",model="{MODEL}"}} 0'
        while idle not in sidecar.http("/metrics", port=port):
            pass  # the last of those whose callers gave up are still in a lane
