"""The guard's judgement as a table, and what holds of it whatever it is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_sidecar.config import GuardMode, GuardSettings
from model_sidecar.monitor.guard.comparison import Compared
from model_sidecar.monitor.guard.guard import (
    Facts,
    Hold,
    Rate,
    Ruling,
    Situation,
    Symptom,
    Trigger,
    Verdict,
    judge,
    symptoms,
)
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version

LIVE, STANDBY, OTHER = Digest("sha256:b"), Digest("sha256:a"), Digest("sha256:c")
SETTINGS = GuardSettings(mode=GuardMode.ON, min_predictions=100, slo_latency_s=0.05)
FINE = Facts(predictions=1000, compared=Compared(compared=500))
AT = Situation(
    live=Version("2024.01.12.prod"),
    live_manifest=LIVE,
    generation=2,
    head=2,
    target=Version("2024.01.10.prod"),
    target_manifest=STANDBY,
    previous_good=STANDBY,
)
BURNS = Rate(count=300, of=1000, evidence_log10=30.0, convinced=True)


def with_pairs(**fields: object) -> Facts:
    return replace(FINE, compared=replace(FINE.compared, **fields))  # type: ignore[arg-type]


BROKEN = {
    Trigger.NONFINITE: replace(with_pairs(nonfinite=40), nonfinite=BURNS),
    Trigger.CONSTANT: replace(FINE, alike=100, alike_witnesses=10),
    Trigger.ERRORS: replace(FINE, failed=BURNS, failed_asked=3, failed_in_both=1),
    Trigger.LATENCY: replace(with_pairs(other_runs=100, other_slow=14), slow=BURNS),
    Trigger.ACCURACY: with_pairs(accuracy_convinced=True, labels=200),
    Trigger.DISAGREEMENT: with_pairs(disagreement_convinced=True),
    Trigger.CONFIDENCE: with_pairs(confidence_convinced=True),
}


def found_in(facts: Facts) -> tuple[Symptom, ...]:
    return symptoms(facts, SETTINGS, has_standby=True)


def verdict_on(facts: Facts, at: Situation = AT, mode: GuardMode = GuardMode.ON) -> Verdict | None:
    return judge(symptoms(facts, SETTINGS, has_standby=at.target is not None), facts, at, mode)


def test_failures_wait_for_the_word_of_the_version_before_but_not_for_ever() -> None:
    """However fast they come: the standby is asked the same within seconds, unless it cannot be."""
    unheard = replace(FINE, failed=BURNS, failing_s=1.0)

    assert verdict_on(unheard) is None
    verdict = verdict_on(replace(unheard, failing_s=5.0))
    assert verdict is not None
    assert verdict.symptom.trigger is Trigger.ERRORS


@pytest.mark.parametrize("trigger", Trigger)
def test_every_trigger_is_a_reason_to_go_back(trigger: Trigger) -> None:
    """Each by itself, and it is the one that is named."""
    verdict = verdict_on(BROKEN[trigger])

    assert verdict is not None
    assert (verdict.ruling, verdict.symptom.trigger, verdict.hold) == (Ruling.ROLL_BACK, trigger, None)


@pytest.mark.parametrize("trigger", Trigger)
def test_a_dry_run_only_says_so(trigger: Trigger) -> None:
    """The same judgement, and nothing is done."""
    verdict = verdict_on(BROKEN[trigger], mode=GuardMode.DRY_RUN)

    assert verdict is not None
    assert verdict.ruling is Ruling.WOULD_ROLL_BACK


@pytest.mark.parametrize("trigger", Trigger)
def test_what_is_off_judges_nothing(trigger: Trigger) -> None:
    """Off is off."""
    assert verdict_on(BROKEN[trigger], mode=GuardMode.OFF) is None


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(FINE, id="nothing is wrong"),
        *(
            pytest.param(replace(facts, predictions=99), id=f"{trigger}: too few predictions")
            for trigger, facts in BROKEN.items()
        ),
        pytest.param(with_pairs(disagreement_convinced=True, compared=99), id="too few compared"),
        pytest.param(with_pairs(accuracy_convinced=True, labels=99), id="too few labels"),
        pytest.param(replace(FINE, alike=99, alike_witnesses=10), id="too few rows alike"),
        pytest.param(
            replace(with_pairs(nonfinite=2), nonfinite=BURNS), id="NaN, and the standby was hardly asked yet"
        ),
        pytest.param(
            replace(with_pairs(other_runs=99), slow=BURNS), id="slow, and the standby was hardly asked yet"
        ),
        pytest.param(
            replace(FINE, alike=100, alike_witnesses=9), id="alike, and the standby was hardly asked yet"
        ),
    ],
)
def test_what_is_no_reason(facts: Facts) -> None:
    """Nothing is wrong, or nobody can know yet."""
    assert found_in(facts) == ()


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(replace(with_pairs(nonfinite=40, nonfinite_in_both=21), nonfinite=BURNS), id="NaN"),
        pytest.param(replace(BROKEN[Trigger.CONSTANT], alike_in_both=True), id="constant"),
        pytest.param(replace(BROKEN[Trigger.ERRORS], previous_failed=True), id="errors, before"),
        pytest.param(replace(BROKEN[Trigger.ERRORS], failed_in_both=2), id="errors, on the same requests"),
        pytest.param(replace(BROKEN[Trigger.LATENCY], previous_slow=True), id="latency, before"),
        pytest.param(
            replace(with_pairs(other_median_s=0.001, other_runs=100, other_slow=15), slow=BURNS),
            id="latency, now: the machine is slow, or some requests are large",
        ),
    ],
)
def test_what_the_version_before_shows_too_is_held_against_the_input(facts: Facts) -> None:
    """Going back would change nothing."""
    verdict = verdict_on(facts)

    assert verdict is not None
    assert (verdict.ruling, verdict.hold) == (Ruling.HELD, Hold.SHARED)


def test_a_shared_symptom_does_not_hide_one_that_is_not() -> None:
    """NaN in both, and half of the rest answered differently: that much is the version's own."""
    facts = replace(
        with_pairs(nonfinite=40, nonfinite_in_both=40, disagreement_convinced=True), nonfinite=BURNS
    )
    verdict = verdict_on(facts)

    assert verdict is not None
    assert (verdict.ruling, verdict.symptom.trigger) == (Ruling.ROLL_BACK, Trigger.DISAGREEMENT)


@pytest.mark.parametrize(
    ("at", "hold"),
    [
        (replace(AT, externally_managed=True), Hold.EXTERNAL),
        (replace(AT, head=3), Hold.NOT_THE_HEAD),
        (replace(AT, generation=None), Hold.NOT_THE_HEAD),
        (replace(AT, target=None, target_manifest=None), Hold.NO_TARGET),
        (replace(AT, previous_good=OTHER), Hold.NOT_PREVIOUS),
        (replace(AT, previous_good=None), Hold.NOT_PREVIOUS),
        (replace(AT, rolled_back=frozenset({LIVE})), Hold.WAS_ROLLED_BACK),
        (replace(AT, rolled_back=frozenset({STANDBY})), Hold.PING_PONG),
        (replace(AT, cooldown_left_s=0.1), Hold.COOLDOWN),
    ],
)
@pytest.mark.parametrize("trigger", Trigger)
def test_every_condition_holds_every_trigger(trigger: Trigger, at: Situation, hold: Hold) -> None:
    """However bad it is."""
    verdict = verdict_on(BROKEN[trigger], at)

    assert verdict is not None
    assert (verdict.ruling, verdict.hold) == (Ruling.HELD, hold)


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(with_pairs(disagreement_convinced=True, failed=100), id="on any"),
        pytest.param(
            replace(with_pairs(nonfinite=40, nonfinite_failed=30), nonfinite=BURNS),
            id="where the live one says NaN",
        ),
    ],
)
def test_a_standby_that_fails_on_the_same_requests_is_no_target(facts: Facts) -> None:
    """It would answer them no better; and that is all it says, not that the input is to blame."""
    verdict = verdict_on(facts)

    assert verdict is not None
    assert verdict.hold is Hold.TARGET_FAILS


rates = st.builds(
    Rate,
    count=st.integers(0, 50),
    of=st.integers(50, 100),
    evidence_log10=st.floats(0, 99),
    convinced=st.booleans(),
)
all_facts = st.builds(
    Facts,
    predictions=st.integers(0, 200),
    nonfinite=rates,
    failed=rates,
    slow=rates,
    alike=st.integers(0, 200),
    alike_witnesses=st.integers(0, 20),
    alike_in_both=st.booleans(),
    previous_failed=st.booleans(),
    previous_slow=st.booleans(),
    compared=st.builds(
        Compared,
        compared=st.integers(0, 200),
        failed=st.integers(0, 50),
        nonfinite=st.integers(0, 50),
        labels=st.integers(0, 200),
        disagreement_convinced=st.booleans(),
        confidence_convinced=st.booleans(),
        accuracy_convinced=st.booleans(),
    ),
)
identities = st.sampled_from([LIVE, STANDBY, OTHER])
situations = st.builds(
    replace,
    st.just(AT),
    generation=st.sampled_from([None, 2, 3]),
    head=st.sampled_from([2, 3]),
    externally_managed=st.booleans(),
    target_manifest=st.one_of(st.none(), identities),
    previous_good=st.one_of(st.none(), identities),
    rolled_back=st.frozensets(identities),
    cooldown_left_s=st.sampled_from([0.0, 5.0]),
)


@given(all_facts, situations)
def test_whatever_it_is_told_the_guard_never_does_what_it_must_not(facts: Facts, at: Situation) -> None:
    """Never without enough predictions, never twice from one version, never back to what it left, never over somebody's head."""
    verdict = verdict_on(facts, at)
    if verdict is None or verdict.ruling is not Ruling.ROLL_BACK:
        return

    assert facts.predictions >= SETTINGS.min_predictions
    assert at.live_manifest not in at.rolled_back
    assert at.target_manifest not in at.rolled_back
    assert at.target_manifest is not None
    assert at.target_manifest == at.previous_good
    assert at.generation == at.head
    assert not at.externally_managed
    assert at.cooldown_left_s == 0
    assert not verdict.symptom.shared
