"""Versions that crash, hang or swell: each is refused in a child process, remembered, and never takes the sidecar with it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support import killers, models
from support.ledgers import intent
from support.sidecars import RunningSidecar, serving
from support.traffic import Traffic
from support.trials import trial_of
from support.yard import MODEL, PROD, Yard

from model_sidecar.release.digests import Digest, digest_of
from model_sidecar.release.names import Version
from model_sidecar_client import SidecarError

GOOD, BAD, NEXT = "2024.01.10.prod", "2024.01.12.prod", "2024.01.15.prod"
TIGHT = ("--load-timeout", "6s", "--load-memory", "128MiB")
WAIT_S = 60.0


def trials_of(sidecar: RunningSidecar, version: str) -> int:
    """How many child processes this version was given, over all starts of the sidecar."""
    return sidecar.log.read_text().count(f"{version} is tried in process")


def identity(yard: Yard, version: str) -> Digest:
    """The digest of a version's manifest."""
    return digest_of((yard.version_dir(version) / "manifest.json").read_bytes())


def refused(sidecar: RunningSidecar, version: str) -> SidecarError:
    """What an operator is told who orders this version."""
    with sidecar.operator() as operator, pytest.raises(SidecarError) as error:
        operator.deploy(MODEL, version, environment=PROD, reason="it looked good")
    return error.value


def awaited(what: Callable[[], bool], words: str) -> None:
    """Wait until something outside of this process is so."""
    end = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < end, f"never: {words}"
        time.sleep(0.002)


@pytest.mark.alone
def test_whatever_a_version_does_when_it_is_tried_the_live_one_answers(yard: Yard, tmp_path: Path) -> None:
    """Six ways to kill, ordered under traffic: each refused for its reason, no request failed, nothing recorded."""
    yard.publish(GOOD)
    with serving(yard, GOOD, *TIGHT, "--state-dir", str(tmp_path / "state")) as sidecar:
        pid = sidecar.process.pid if sidecar.process else 0
        with Traffic(sidecar, callers=2) as traffic:
            for day, (build, reason) in enumerate(killers.KILLERS.values(), start=11):
                version = yard.put(f"2024.02.{day}.prod", build(takes="raw"))
                error = refused(sidecar, version)
                assert error.reason == reason, str(error)
                assert trials_of(sidecar, version) == 1

        assert (traffic.failures, traffic.mistagged) == ([], [])
        assert {seen.version for seen in traffic.answers} == {GOOD}
        assert sidecar.process is not None
        assert (sidecar.process.pid, sidecar.process.poll()) == (pid, None)
        assert [record.version for record in yard.ledger().records()] == [GOOD]
        print(f"\n{len(traffic.answers)} answers; the longest gap: {traffic.longest_gap_s():.3f} s")


def test_a_pointer_to_a_killer_costs_one_child_whatever_is_started_anew(yard: Yard, tmp_path: Path) -> None:
    """A pending edit is tried once, not at each look and not after a restart; the head answers; another edit is followed."""
    for version in (GOOD, NEXT):
        yard.publish(version)
    yard.put(BAD, killers.crashes_when_loaded(takes="raw"))
    with serving(yard, GOOD, *TIGHT, "--state-dir", str(tmp_path / "state")) as sidecar:
        yard.edit_pointer(BAD)
        sidecar.wait_error("MODEL_CRASHED")
        for _ in range(2):
            assert sidecar.stop() == 0
            sidecar.start().wait_answering()
            status = sidecar.wait_error("MODEL_QUARANTINED")
            assert status.observed.version == GOOD
            assert "MODEL_CRASHED" in status.last_error.message
        assert sidecar.predict(1.0) == (yard.expected(GOOD, 1.0), GOOD)
        assert trials_of(sidecar, BAD) == 1
        yard.edit_pointer(NEXT)
        sidecar.wait_version(NEXT)


@pytest.mark.parametrize("durable", [True, False], ids=["state-dir", "no state-dir"])
def test_a_killer_at_the_head_is_no_crash_loop(yard: Yard, tmp_path: Path, durable: bool) -> None:
    """Another sidecar has recorded it: this one starts, says why it does not answer, tries once, and takes the next order."""
    yard.publish(GOOD)
    yard.put(BAD, killers.crashes_when_run(takes="raw"))
    wish = replace(intent(Version(BAD)), manifest_sha256=identity(yard, BAD))
    yard.ledger().commit(wish, expected_generation=0)
    state = ("--state-dir", str(tmp_path / "state")) if durable else ()
    with RunningSidecar(yard, *TIGHT, *state) as sidecar:
        for start in (1, 2):
            sidecar.wait_answering()
            sidecar.wait_error("MODEL_QUARANTINED" if durable and start == 2 else "MODEL_CRASHED")
            if start == 1:
                sidecar.stop()
                sidecar.start()
        assert trials_of(sidecar, BAD) == (1 if durable else 2)
        with sidecar.operator() as operator:
            operator.deploy(MODEL, GOOD, environment=PROD, reason="the way out")
        assert sidecar.predict(1.0) == (yard.expected(GOOD, 1.0), GOOD)


def test_an_operator_has_a_version_tried_again(yard: Yard, tmp_path: Path) -> None:
    """A version whose trial was killed from outside is in quarantine, until an order finds that it is innocent."""
    yard.publish(GOOD)
    slow = yard.put(NEXT, models.slow(60, takes="raw"))
    state = ("--state-dir", str(tmp_path / "state"))
    with serving(yard, GOOD, *state) as sidecar:
        pid = sidecar.process.pid if sidecar.process else 0
        killer = threading.Thread(target=lambda: os.kill(trial_of(pid), signal.SIGKILL))
        killer.start()
        assert refused(sidecar, slow).reason == "MODEL_OUT_OF_MEMORY"
        killer.join()
        yard.edit_pointer(slow)
        sidecar.wait_error("MODEL_QUARANTINED")
        assert trials_of(sidecar, slow) == 1

        with sidecar.operator() as operator:
            operator.deploy(MODEL, slow, environment=PROD, reason="it was not its fault")
        assert sidecar.predict(0.0)[1] == slow
        assert trials_of(sidecar, slow) == 2
        sidecar.stop()
        sidecar.start().wait_ready()
        assert sidecar.predict(0.0)[1] == slow
        assert trials_of(sidecar, slow) == 2


def test_a_version_that_crashes_the_sidecar_twice_is_not_loaded_a_third_time(
    yard: Yard, tmp_path: Path
) -> None:
    """Its trial knows no input that kills, a caller does: after two crashes it is barred, by file, until that is removed."""
    yard.publish(GOOD)
    bad = yard.put(BAD, killers.crashes_on_the_smallest())
    with serving(yard, GOOD, *TIGHT, "--state-dir", str(tmp_path / "state")) as sidecar:
        with sidecar.operator() as operator:
            operator.deploy(MODEL, bad, environment=PROD, allow_schema_change=True)
        for _ in range(2):
            sidecar.wait_ready()
            _crash(sidecar)
            sidecar.start().wait_answering()
        status = sidecar.wait_error("MODEL_QUARANTINED")
        assert "ended this sidecar 2 times while answering" in status.last_error.message
        status = sidecar.wait_version(GOOD)
        assert (status.state, status.desired.version, status.observed.generation) == ("DEGRADED", bad, 1)
        assert sidecar.predict(1.0) == (yard.expected(GOOD, 1.0), GOOD)
        assert refused(sidecar, bad).reason == "MODEL_QUARANTINED"
        with sidecar.operator() as operator:
            operator.deploy(MODEL, GOOD, environment=PROD, reason="the way out", allow_schema_change=True)
        assert sidecar.predict(1.0) == (yard.expected(GOOD, 1.0), GOOD)

        Path(status.last_error.message.rpartition("remove ")[2]).unlink()
        sidecar.stop()
        sidecar.start().wait_ready()
        with sidecar.operator() as operator:
            operator.deploy(MODEL, bad, environment=PROD, allow_schema_change=True)
        assert sidecar.predict(1.0) == (1.0, bad)


def test_who_kills_the_sidecar_from_outside_blames_no_version(yard: Yard, tmp_path: Path) -> None:
    """SIGKILL and even a SIGSEGV from outside, while a version merely answers, are not its doing: it needs no new trial."""
    yard.publish(GOOD)
    with serving(yard, GOOD, *TIGHT, "--state-dir", str(tmp_path / "state")) as sidecar:
        for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT):
            sidecar.wait_ready()
            sidecar.signal(number)
            assert sidecar.process is not None
            assert sidecar.process.wait(WAIT_S) == -number
            sidecar.start().wait_answering()
        sidecar.wait_ready()

        assert sidecar.predict(1.0) == (yard.expected(GOOD, 1.0), GOOD)
        assert trials_of(sidecar, GOOD) == 1


@pytest.mark.alone  # it has to be killed within a load
def test_two_deaths_while_it_is_loaded_bar_a_version(yard: Yard, tmp_path: Path) -> None:
    """Whatever ends the sidecar while it loads a version, twice: the third start does not load it, and answers orders."""
    state = tmp_path / "state"
    yard.publish(GOOD)
    large = yard.put(NEXT, models.large(64, takes="raw"), width=models.side_of_large(64))
    mark = state / "trials" / f"{identity(yard, large).removeprefix('sha256:')}.loading"
    with serving(yard, GOOD, "--state-dir", str(state)) as sidecar:
        ordering = threading.Thread(target=lambda: refused(sidecar, large))
        ordering.start()
        for deaths in (1, 2):
            awaited(mark.exists, "the load began")
            sidecar.kill()
            ordering.join()
            yard.edit_pointer(large)
            sidecar.start()
            sidecar.wait_logged(f"died in {MODEL} {large}", times=deaths)
        sidecar.wait_answering()
        status = sidecar.wait_error("MODEL_QUARANTINED")

        assert "ended this sidecar 2 times while being loaded" in status.last_error.message
        assert sidecar.predict(1.0) == (yard.expected(GOOD, 1.0), GOOD)


def test_stopping_does_not_wait_for_a_trial(yard: Yard) -> None:
    """SIGTERM in the middle of a trial: the sidecar ends at once, and the child with it."""
    yard.publish(GOOD)
    endless = yard.put(BAD, models.endless(takes="raw"))
    with serving(yard, GOOD) as sidecar:
        ordering = threading.Thread(target=lambda: refused(sidecar, endless))
        ordering.start()
        child = trial_of(sidecar.process.pid if sidecar.process else 0)
        assert sidecar.stop() == 0
        ordering.join()

        awaited(lambda: not Path(f"/proc/{child}").exists(), "the child ended")


def _crash(sidecar: RunningSidecar) -> None:
    """Send what the live version does not survive."""
    with sidecar.client() as client, pytest.raises(SidecarError):
        client.predict(MODEL, {"raw": [[float(killers.SMALLEST), 0.0]]}, timeout_s=5.0)
    assert sidecar.process is not None
    assert sidecar.process.wait(WAIT_S) == -signal.SIGFPE
