"""The stage: who is live, who stands by, and when a model may go."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.resident import Adder

from model_sidecar.errors import NotFoundError, Reason, RefusedError, UnavailableError
from model_sidecar.serving.stage import Lease, Stage

A, B, C = "2024.01.10.prod", "2024.01.12.prod", "2024.01.15.prod"


def a_stage(*, keep_standby: bool = True) -> Stage:
    return Stage(keep_standby=keep_standby, on_idle=lambda model: model.close())


def test_an_empty_stage_has_nothing_to_lease() -> None:
    """Before the first version is live, a lease says so."""
    with pytest.raises(UnavailableError, match="no version is live yet"):
        a_stage().lease()


def test_a_lease_is_on_the_live_model_and_names_its_generation() -> None:
    """A request gets the live model and the generation it answers under."""
    stage = a_stage()
    stage.publish(Adder(A), generation=7)

    with stage.lease() as lease:
        assert (lease.model.version, lease.generation) == (A, 7)


def test_the_model_that_was_live_stands_by_and_can_be_asked_for() -> None:
    """After a flip the previous version answers to `@previous` and to its own name."""
    stage = a_stage()
    stage.publish(Adder(A), generation=1)
    stage.publish(Adder(B), generation=2)

    assert stage.lease().model.version == B
    assert stage.lease("@previous").model.version == A
    assert stage.lease(A).model.version == A


def test_a_version_that_is_not_resident_cannot_be_leased() -> None:
    """What is not in memory is not found here, and `@previous` without a standby is refused."""
    stage = a_stage()
    stage.publish(Adder(A), generation=1)

    with pytest.raises(NotFoundError, match="not resident"):
        stage.lease(C)
    with pytest.raises(RefusedError) as refused:
        stage.lease("@previous")
    assert refused.value.reason is Reason.VERSION_NOT_RESIDENT


def test_taking_the_standby_releases_nobody() -> None:
    """A rollback to the standby swaps the two: both stay in memory."""
    stage, old, new = a_stage(), Adder(A), Adder(B)
    stage.publish(old, generation=1)
    stage.publish(new, generation=2)

    stage.publish(old, generation=3)

    residents = stage.residents()
    assert (residents.live, residents.standby, residents.generation) == (old, new, 3)
    assert not old.closed.is_set()
    assert not new.closed.is_set()


def test_the_version_before_the_standby_leaves_when_its_last_request_is_answered() -> None:
    """A model that left the stage is released by its last lease, not earlier."""
    stage, first = a_stage(), Adder(A)
    stage.publish(first, generation=1)
    lease = stage.lease()
    stage.publish(Adder(B), generation=2)
    stage.publish(Adder(C), generation=3)

    assert not first.closed.is_set()
    lease.release()
    assert first.closed.is_set()


def test_without_a_standby_the_previous_version_leaves_at_once() -> None:
    """`standby = none` keeps one model in memory."""
    stage, first = a_stage(keep_standby=False), Adder(A)
    stage.publish(first, generation=1)
    stage.publish(Adder(B), generation=2)

    assert first.closed.is_set()
    assert stage.residents().standby is None


def test_restating_changes_the_generation_of_later_leases_only() -> None:
    """A record that names the live version again shows in the answers that begin after it."""
    stage = a_stage()
    stage.publish(Adder(A), generation=1)
    before = stage.lease()
    stage.restate(generation=2)

    assert before.generation == 1
    assert stage.lease().generation == 2


def test_eight_callers_never_meet_a_released_model_or_a_torn_answer() -> None:
    """Under eight threads of requests and 2,000 flips, each answer is of the version that its lease names."""
    stage = a_stage()
    stage.publish(Adder(A, 0.0), generation=0)
    constants: dict[int, float] = {0: 0.0}
    stop = threading.Event()
    wrong: list[object] = []

    def ask() -> None:
        one = np.ones((1, 2), dtype=np.float32)
        while not stop.is_set():
            try:
                with stage.lease() as lease:
                    answer = lease.model.run({"x": one})["y"][0][0]
                    if answer != 1 + lease.model.constant:  # type: ignore[attr-defined]
                        wrong.append((lease.model.version, answer))
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test shows it
                wrong.append(error)
                return

    callers = [threading.Thread(target=ask) for _ in range(8)]
    for caller in callers:
        caller.start()
    for generation in range(1, 2001):
        constants[generation] = float(generation)
        stage.publish(Adder((A, B, C)[generation % 3], float(generation)), generation=generation)
    stop.set()
    for caller in callers:
        caller.join()

    assert not wrong


class StageMachine(RuleBasedStateMachine):
    """Any sequence of publishes, swaps, leases and releases keeps what the stage promises."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = a_stage()
        self.models: list[Adder] = []
        self.leases: list[Lease] = []

    @rule()
    def publish_new(self) -> None:
        self.models.append(Adder((A, B, C)[len(self.models) % 3]))
        self.stage.publish(self.models[-1], generation=len(self.models))

    @precondition(lambda self: self.stage.residents().standby is not None)
    @rule()
    def go_back(self) -> None:
        standby = self.stage.residents().standby
        assert standby is not None
        self.stage.publish(standby, generation=None)

    @precondition(lambda self: self.models)
    @rule(previous=st.booleans())
    def lease(self, previous: bool) -> None:
        if not previous or self.stage.residents().standby is not None:
            self.leases.append(self.stage.lease("@previous" if previous else ""))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1))).release()

    @invariant()
    def a_model_is_released_exactly_when_nobody_holds_it_and_it_is_off_the_stage(self) -> None:
        residents = self.stage.residents()
        held = {id(lease.model) for lease in self.leases}
        for model in self.models:
            needed = model is residents.live or model is residents.standby or id(model) in held
            assert model.closed.is_set() is not needed


StageMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestStageMachine = StageMachine.TestCase
