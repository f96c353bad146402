"""Whoever asks the monitor for much keeps nobody from the interpreter."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.served import Bench

from model_sidecar.monitor.reports import Reports

SITES = 50


@pytest.fixture
def turns() -> Iterator[Callable[[], int]]:
    """How often another thread has had the interpreter, which is given up here by nobody who does not mean to."""
    had, before = [0], sys.getswitchinterval()
    over = threading.Event()

    def take_turns() -> None:
        while not over.is_set():
            had[0] += 1
            time.sleep(0)

    other = threading.Thread(target=take_turns)
    sys.setswitchinterval(1000.0)
    other.start()
    yield lambda: had[0]
    over.set()
    sys.setswitchinterval(before)
    other.join()


@pytest.mark.parametrize("asked", [Reports.quality_of, Reports.drift_of])
def test_between_two_sites_others_have_their_turn(
    turns: Callable[[], int], asked: Callable[..., list[object]], tmp_path: Path
) -> None:
    """A thread that waits for the interpreter gets it before each site's report, whatever that is made of."""
    served, reports = Bench(tmp_path).served, Reports()
    before = turns()
    for _ in range(SITES):
        asked(reports, served)
    assert turns() >= before + SITES // 2
