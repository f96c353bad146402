"""A sidecar at work, and a store whose calls fail: it answers on, says what is wrong, and comes to what is wanted after.

A few kinds of weather; `make weather` has all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from support import strace
from support.sidecars import RunningSidecar, serving
from support.traffic import Traffic
from support.weather import endure, failing_calls, few_descriptors
from support.yard import MODEL, Yard

VERSIONS = ("2024.01.10.prod", "2024.01.12.prod", "2024.01.15.prod")
FOR_S = 1.2

needs_strace = pytest.mark.skipif(bool(why := strace.problem()), reason=why)


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSidecar]:
    yard = Yard(tmp_path_factory.mktemp("running"))
    yard.store.mkdir()
    for version in VERSIONS:
        yard.publish(version)
    with serving(yard, VERSIONS[0], "--state-dir", str(yard.root / "state")) as sidecar:
        yield sidecar
        assert sidecar.stop() == 0


@needs_strace
def test_a_store_of_which_every_call_fails_is_told_and_outlived(sidecar: RunningSidecar) -> None:
    """No prediction fails, every order is refused with the store's own error, and a hand edit is followed afterwards."""
    with Traffic(sidecar, callers=2) as traffic:
        endured = endure(sidecar, traffic, failing_calls(sidecar, "EIO"), VERSIONS, for_s=FOR_S)
    assert endured.problems == []
    assert set(endured.reasons) == {"STORE_UNAVAILABLE"}
    assert set(endured.status) == {"STORE_UNAVAILABLE"}


@needs_strace
def test_a_pointer_that_cannot_be_replaced_lags_and_is_told_without_a_storm(sidecar: RunningSidecar) -> None:
    """Orders are carried out, Status says why the pointer lags, and neither log nor processor is kept busy by it."""
    with Traffic(sidecar, callers=2) as traffic:
        endured = endure(sidecar, traffic, failing_calls(sidecar, "EPERM", "rename"), VERSIONS, for_s=FOR_S)
    assert endured.problems == []
    assert set(endured.reasons) == {"ok"}
    assert endured.status["STORE_UNAVAILABLE"] > 0
    lags = sidecar.log.read_text().count("but the pointer lags behind")
    assert lags <= 2 * endured.reasons["ok"] + 2, "it is told once for each record, not for each look"


@pytest.mark.parametrize("left", [0, 4])
def test_a_process_out_of_descriptors_refuses_nothing_for_good(sidecar: RunningSidecar, left: int) -> None:
    """With no descriptor, or few, candidates fail as the store does, and are tried again once there are more."""
    with Traffic(sidecar, callers=2) as traffic:
        endured = endure(sidecar, traffic, few_descriptors(sidecar, left=left), VERSIONS, for_s=FOR_S)
    assert endured.problems == []


def test_after_bad_weather_every_thread_is_still_at_work(sidecar: RunningSidecar) -> None:
    """After all of the above it looks, loads, swaps, releases and keeps copies as before."""
    before = sidecar.log.read_text().count('"event": "released"')
    with Traffic(sidecar, callers=2) as traffic:
        for version in (*VERSIONS, *VERSIONS):
            sidecar.yard.replace_pointer(version)
            sidecar.wait_version(version)
    assert not traffic.failures
    assert not traffic.mistagged
    end = time.monotonic() + 30
    kept = sidecar.yard.root / "state" / "kept" / MODEL
    while (
        sidecar.log.read_text().count('"event": "released"') < before + 3
        or not (kept / VERSIONS[-1]).exists()
    ):
        assert time.monotonic() < end, "the janitor, or who keeps copies, has gone"
        time.sleep(0.02)
