"""Swaps under traffic: the promise of the product, measured on a real process."""

from __future__ import annotations

import os
import time

import pytest
from support.footprint import Footprint
from support.ports import free_port
from support.sidecars import serving
from support.traffic import Traffic
from support.yard import MODEL, PROD, Yard

pytestmark = pytest.mark.alone

POOLS = {"control": 32, "lane": len(os.sched_getaffinity(0)), "store-look": 2}
"""Threads that are started when there is work for one more, and kept: so many at most."""
A, B, C = "2024.01.10.prod", "2024.01.12.prod", "2024.01.15.prod"
SWAPS = 500


@pytest.mark.timeout(300)
def test_five_hundred_swaps_under_traffic_lose_nothing_and_grow_nothing(yard: Yard) -> None:
    """500 deploys and rollbacks under concurrent callers: none fails, is mis-tagged, or is older than acknowledged."""
    for version in (A, B, C):
        yard.publish(version)
    acknowledged: list[tuple[float, int]] = []
    footprints: dict[int, Footprint] = {}
    port = free_port()
    with (
        serving(yard, A, "--http", f"127.0.0.1:{port}") as sidecar,
        sidecar.operator() as operator,
        Traffic(sidecar) as traffic,
    ):
        assert sidecar.process is not None
        for swap in range(1, SWAPS + 1):
            if swap % 3 == 0:
                done = operator.rollback(MODEL, environment=PROD, reason=f"swap {swap}")
            else:
                target = next(
                    each for each in (A, B, C) if each != _live(operator) and each != _standby(operator)
                )
                done = operator.deploy(MODEL, target, environment=PROD, reason=f"swap {swap}")
            acknowledged.append((time.monotonic(), done.generation))
            if swap in (SWAPS // 5, SWAPS):
                footprints[swap] = Footprint.of(sidecar.process.pid, sidecar.http("/metrics", port=port))
        records = operator.history(MODEL, environment=PROD)
    early, late = footprints[SWAPS // 5], footprints[SWAPS]
    print(
        f"\n{SWAPS} swaps beside {len(traffic.answers)} predictions: {len(traffic.failures)} failed, "
        f"{len(traffic.mistagged)} mis-tagged; longest time without any answer {traffic.longest_gap_s() * 1e3:.0f} ms; "
        f"memory {early.memory >> 20} -> {late.memory >> 20} MiB, threads {early.threads} -> {late.threads}, "
        f"descriptors {early.descriptors} -> {late.descriptors}"
    )

    assert traffic.failures == []
    assert traffic.mistagged == []
    assert traffic.stale_after(acknowledged) == []
    assert {seen.version for seen in traffic.answers} == {A, B, C}
    assert [record.generation for record in records] == list(range(SWAPS + 1, 0, -1))
    assert {name: count for name, count in late.kinds.items() if name and name not in POOLS} == {
        name: count for name, count in early.kinds.items() if name and name not in POOLS
    }
    assert late.kinds[""] <= early.kinds[""] + 1  # gRPC's, which has a pool too
    assert all(late.kinds.get(name, 0) <= most for name, most in POOLS.items()), late.kinds
    assert late.descriptors <= early.descriptors + 4
    assert late.memory <= early.memory + (16 << 20)


def test_a_rollback_to_the_standby_is_answered_by_the_old_version_in_milliseconds(yard: Yard) -> None:
    """From the call to the first answer of the old version; the time is printed, for the README."""
    for version in (A, B):
        yard.publish(version)
    taken_ms = []
    with serving(yard, A) as sidecar, sidecar.operator() as operator, sidecar.client() as client:
        operator.deploy(MODEL, B, environment=PROD, reason="worse")
        for turn in range(20):
            back, forth = (A, B) if turn % 2 == 0 else (B, A)
            assert client.predict(MODEL, {"raw": [[0.0, 0.0]]}).version == forth
            began = time.monotonic()
            done = operator.rollback(MODEL, environment=PROD, version=back, reason="precision alert")
            answer = client.predict(MODEL, {"raw": [[0.0, 0.0]]})
            taken_ms.append((time.monotonic() - began) * 1e3)
            assert (answer.version, answer.generation) == (back, done.generation)
    taken_ms.sort()
    print(
        f"\nfrom the rollback's call to the first answer of the old version: median {taken_ms[len(taken_ms) // 2]:.1f} ms, "
        f"best {taken_ms[0]:.1f} ms, worst {taken_ms[-1]:.1f} ms"
    )


def _live(operator: object) -> str:
    return _resident(operator, "live")


def _standby(operator: object) -> str:
    return _resident(operator, "standby")


def _resident(operator: object, role: str) -> str:
    (status,) = operator.status(MODEL, environment=PROD)  # type: ignore[attr-defined]
    return next((each.version for each in status.resident if each.role == role), "")
