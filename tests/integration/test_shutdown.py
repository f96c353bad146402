"""Going down under load: nobody who asked is left without an answer or a word, whatever else is going on."""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest
from support import models
from support.rpc_models import counted_loop
from support.sidecars import RunningSidecar, serving
from support.terminations import VERSION, ended, lost, terminate
from support.versions import write_version
from support.yard import MODEL, PROD, Yard

from model_sidecar.release.names import parse_version
from model_sidecar_client import SidecarError
from model_sidecar_client.records import State

OTHER = "2024.01.12.prod"


def test_terminated_under_load_it_loses_no_request(yard: Yard) -> None:
    """Of requests that callers sent, each is answered, refused as DRAINING, or by gRPC's own word not looked at."""
    yard.publish(VERSION, model=counted_loop())
    chance, outcomes = random.Random(3), Counter[str]()
    for turns in (1, 20_000):
        outcomes += terminate(yard, chance, turns=turns)
    assert lost(outcomes) == {}
    assert outcomes["OK"] >= 2
    assert outcomes["refused: DRAINING"] >= 2


def ask_in_vain(act: Callable[[], object]) -> threading.Thread:
    """Somebody whose call the end of the sidecar cuts short."""

    def ask() -> None:
        with suppress(SidecarError):
            act()

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


@pytest.mark.parametrize("live", [True, False])
def test_terminated_while_a_candidate_is_tried(yard: Yard, live: bool) -> None:
    """A candidate that never ends its rehearsal, with its deploy waiting and a live version or none: exit code 0."""
    yard.publish(VERSION)
    write_version(
        yard.store, model=MODEL, version=parse_version(OTHER), files={"model.onnx": models.endless()}
    )
    with RunningSidecar(yard, "--drain-timeout", "2s") as sidecar:
        sidecar.wait_answering()
        with sidecar.operator() as operator:
            if live:
                operator.deploy(MODEL, VERSION, environment=PROD)
            waiting = ask_in_vain(
                lambda: operator.deploy(
                    MODEL, OTHER, environment=PROD, timeout_s=60, allow_schema_change=True
                )
            )
            for status in operator.watch(MODEL, environment=PROD, timeout_s=30):
                if status.state is State.LOADING:
                    break
            assert ended(sidecar) == 0
            waiting.join(20)
            assert not waiting.is_alive()


def test_terminated_while_control_calls_wait(yard: Yard) -> None:
    """Watches of status and health end with the process; none of them keeps it."""
    yard.publish(VERSION)
    with serving(yard, VERSION) as sidecar, sidecar.operator() as operator:
        watches = [
            ask_in_vain(lambda: list(operator.watch(MODEL, environment=PROD, timeout_s=60))) for _ in range(4)
        ]
        assert ended(sidecar) == 0
        for each in watches:
            each.join(20)
            assert not each.is_alive()


def test_terminated_before_it_has_begun(yard: Yard) -> None:
    """SIGTERM while the process is still starting, at whatever moment: it goes down in order, exit code 0."""
    yard.publish(VERSION)
    for pause in (0.05, 0.4, 0.8):
        with RunningSidecar(yard) as sidecar:
            assert not threading.Event().wait(pause)
            sidecar.signal(signal.SIGTERM)
            assert sidecar.process is not None
            # Before the interpreter has come to our first line, the signal's own effect is all there can be.
            assert sidecar.process.wait(timeout=30) in {0, -signal.SIGTERM}
            assert not list(sidecar.run_dir.glob("*.sock"))
