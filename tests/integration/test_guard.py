"""The guard with real sidecars and real models: what breaks is rolled back by itself, and what does not is left alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from support.guarded import (
    SOON_S,
    A,
    B,
    C,
    ask,
    ask_until,
    biased,
    constant,
    contrary,
    head,
    picky,
    rolled_back,
    rootless,
    sensible,
    slow,
    tell_truths,
    timid,
)
from support.ports import free_port
from support.sidecars import RunningSidecar, serving
from support.yard import MODEL, PROD, Yard

pytestmark = pytest.mark.timeout(180)

ON = ("--guard", "on", "--guard-min-predictions", "50", "--shadow-sample", "1", "--guard-cooldown", "1ms")


@contextmanager
def guarded(yard: Yard, good: bytes, bad: bytes, *options: str) -> Iterator[RunningSidecar]:
    """A sidecar under guard, on which a good version stands by and a bad one has just become live."""
    yard.put(A, good)
    yard.put(B, bad)
    with serving(yard, A, *(options or ON)) as sidecar:
        ask(sidecar, 50)
        with sidecar.operator() as operator:
            operator.deploy(MODEL, B, environment=PROD, reason="retrained")
        yield sidecar


@pytest.mark.parametrize(
    ("bad", "trigger"),
    [
        pytest.param(rootless(), "nonfinite", id="NaN for some inputs"),
        pytest.param(constant(), "constant", id="always the same"),
        pytest.param(picky(), "errors", id="fails for some inputs"),
        pytest.param(contrary(), "disagreement", id="another opinion"),
        pytest.param(timid(), "confidence", id="unsure"),
    ],
)
def test_a_version_that_breaks_is_rolled_back_with_its_evidence_in_the_ledger(
    yard: Yard, bad: bytes, trigger: str
) -> None:
    """Whoever looks at the ledger afterwards reads that it was the guard, what it saw, and in which numbers."""
    with guarded(yard, sensible(), bad) as sidecar:
        record = ask_until(sidecar, lambda: rolled_back(sidecar))

        assert record is not None, "the guard did nothing"
        assert (record.action, record.version, record.previous_version) == ("ROLLBACK", A, B)
        assert (record.actor.id, record.actor.method) == ("guard", "guard")
        assert record.reason.startswith(f"{trigger}: ")
        assert re.search(r"\d", record.reason)
        sidecar.wait_logged("rolled back to")


def test_a_version_that_is_slow_is_rolled_back(yard: Yard) -> None:
    """It answers, and rightly, but too late."""
    with guarded(yard, sensible(), slow(), *ON, "--slo-latency", "2ms") as sidecar:
        record = ask_until(sidecar, lambda: rolled_back(sidecar))

        assert record is not None
        assert record.reason.startswith("latency: ")


def test_a_version_that_is_wrong_more_often_than_the_one_before_is_rolled_back(yard: Yard) -> None:
    """It differs in no more than it may, and is as sure as ever; the labels, late as they are, tell them apart."""
    with guarded(yard, sensible(), biased()) as sidecar:
        record = tell_truths(sidecar, lambda: rolled_back(sidecar))

        assert record is not None
        assert record.reason.startswith("accuracy: of the same ")


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        pytest.param(rootless(), rootless(3.0), id="both answer NaN"),
        pytest.param(constant(), constant(), id="both always say the same"),
    ],
)
def test_what_the_version_before_shows_as_well_is_the_inputs_fault(
    yard: Yard, good: bytes, bad: bytes
) -> None:
    """Going back would change nothing, so the guard holds, and says why."""
    with guarded(yard, good, bad) as sidecar:
        ask_until(sidecar, lambda: "so the input is to blame" in sidecar.log.read_text())

        sidecar.wait_logged("so the input is to blame")
        assert head(sidecar).version == B


def test_requests_that_both_versions_fail_on_are_the_inputs_fault(yard: Yard) -> None:
    """They begin after the flip, so only the standby's word on the very same requests tells."""
    yard.put(A, picky())
    yard.put(B, picky().replace(b"far_away", b"far_gone"))
    with serving(yard, A, *ON) as sidecar:
        with sidecar.client() as client, sidecar.operator() as operator:
            for _ in range(60):
                client.predict(MODEL, {"raw": -np.ones((1, 2), np.float32)})
            operator.deploy(MODEL, B, environment=PROD, reason="retrained")
        ask_until(sidecar, lambda: "so the input is to blame" in sidecar.log.read_text())

        sidecar.wait_logged("so the input is to blame")
        assert head(sidecar).version == B


def test_what_is_told_of_predictions_made_elsewhere_moves_no_version(yard: Yard) -> None:
    """What answers here has said NaN a few times, as it may; somebody's batch job says so all the time."""
    with guarded(yard, sensible(), rootless(), *ON, "--slo-errors", "0.01") as sidecar:
        ask(sidecar, 200, positive=True)
        with sidecar.client() as client:
            for _ in range(5):
                client.predict(MODEL, {"raw": -np.ones((1, 2), np.float32)})
            told = client.predictions(MODEL)
            for _ in range(300):
                told.log_prediction(B, float("nan"), None)
        ask_until(sidecar, lambda: rolled_back(sidecar), positive=True, for_s=4)

        assert head(sidecar).version == B
        assert "the guard about" not in sidecar.log.read_text()


def test_a_version_that_is_as_good_as_the_one_before_is_left_alone(yard: Yard) -> None:
    """A retrained version differs a little, and nothing happens for as long as anybody asks."""
    with guarded(yard, sensible(2.0), sensible(2.2)) as sidecar:
        ask_until(sidecar, lambda: rolled_back(sidecar), for_s=8)

        assert head(sidecar).version == B
        assert "the guard about" not in sidecar.log.read_text()


def test_a_dry_run_says_once_what_it_would_do(yard: Yard) -> None:
    """Nothing moves; the decision is logged, counted, shown, kept through a restart, and not repeated every second."""
    port, state = free_port(), yard.root / "state"
    options = (
        *("dry-run" if each == "on" else each for each in ON),
        *("--http", f"127.0.0.1:{port}", "--state-dir", str(state)),
    )
    counted = re.compile(r'guard_decisions_total\{[^}]*decision="would_roll_back"[^}]*\} 1')
    with guarded(yard, sensible(), contrary(), *options) as sidecar:
        ask_until(sidecar, lambda: "would be rolled back to" in sidecar.log.read_text())
        ask_until(sidecar, lambda: None, for_s=3)

        assert head(sidecar).version == B
        assert sidecar.log.read_text().count("would be rolled back to") == 1
        assert counted.search(sidecar.http("/metrics", port=port))
        assert "would be rolled back to" in sidecar.http("/statusz", port=port)
        with sidecar.operator() as operator:
            (drift,) = operator.drift(MODEL, environment=PROD)
        assert drift.guard == "dry-run"
        assert [each.decision for each in drift.decisions] == ["would_roll_back"]
        assert sidecar.stop() == 0
        sidecar.start().wait_ready()
        ask_until(sidecar, lambda: None, for_s=4)
        assert sidecar.log.read_text().count("would be rolled back to") == 1
        assert "would be rolled back to" in sidecar.http("/statusz", port=port)


def test_a_version_that_is_deployed_again_after_the_guard_is_left_alone(yard: Yard) -> None:
    """Somebody knows better. The guard has had its say about this version, also after a restart, and for other sidecars."""
    with guarded(yard, sensible(), contrary()) as sidecar:
        assert ask_until(sidecar, lambda: rolled_back(sidecar)) is not None
        with sidecar.operator() as operator:
            operator.deploy(MODEL, B, environment=PROD, reason="I know")
        ask_until(sidecar, lambda: "deployed it again" in sidecar.log.read_text())

        assert head(sidecar).reason == "I know"
        assert sidecar.log.read_text().count("deployed it again") == 1
        assert sidecar.stop() == 0
        sidecar.start().wait_ready()
        ask_until(sidecar, lambda: rolled_back(sidecar), for_s=5)
        assert head(sidecar).reason == "I know"


def test_the_guard_never_goes_back_to_what_it_has_rolled_back_from(yard: Yard) -> None:
    """A third version that breaks while the first bad one stands by is told of, and stays."""
    yard.put(C, rootless())
    with guarded(yard, sensible(), contrary()) as sidecar:
        assert ask_until(sidecar, lambda: rolled_back(sidecar)) is not None
        with sidecar.operator() as operator:
            operator.deploy(MODEL, B, environment=PROD, reason="I know")
            operator.deploy(MODEL, C, environment=PROD, reason="next")
        words = "the guard has rolled back from the version that stands by"
        ask_until(sidecar, lambda: words in sidecar.log.read_text())

        sidecar.wait_logged(words)
        assert head(sidecar).version == C


def test_of_several_sidecars_one_rolls_back(yard: Yard) -> None:
    """All of them see it; the ledger takes one rollback, and nobody fails."""
    with guarded(yard, sensible(), contrary()) as one, RunningSidecar(yard, *ON) as two:
        two.wait_ready()

        def both() -> object:
            ask(two, 50)
            return rolled_back(one)

        assert ask_until(one, both) is not None
        two.wait_version(A)
        with one.operator() as operator:
            records = operator.history(MODEL, environment=PROD)
        by_guards = [record for record in records if record.actor.method == "guard"]
        assert len(by_guards) == 1
        assert "Traceback" not in one.log.read_text() + two.log.read_text()


def test_without_a_standby_the_guard_says_so_and_goes_nowhere(yard: Yard) -> None:
    """There is nothing verified in memory to go back to."""
    options = (*ON, "--standby", "none")
    with guarded(yard, sensible(), rootless(), *options) as sidecar:
        ask_until(sidecar, lambda: "no version stands by" in sidecar.log.read_text(), for_s=SOON_S)

        sidecar.wait_logged("no version stands by in memory")
        assert head(sidecar).version == B
