"""The guard's judgement, pure: what is wrong with the live version, and whether that is a reason to go back. A table in its test.

It judges hard failures, and evidence that is relative to the version before on the same requests (docs/adr/0009). What the
inputs look like is no reason: the version before would get the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from model_sidecar.config import GuardMode, GuardSettings
from model_sidecar.monitor.guard.comparison import Compared
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version

BURN = 14.4
"""So many times the share that may fail, and a month's budget is gone in two days (Google, The Site Reliability Workbook, chapter 5)."""
SLOW_SHARE = 0.01
"""For one prediction in a hundred the model may take longer than --slo-latency."""
_WITNESSES = 3
_CONSTANT_WITNESSES = 10
_HEARD_S = 5.0
"""What a version has failed on is asked of the one before within a second or two; longer is not waited for its word."""
_FAILING_TARGET = 0.1


class Trigger(StrEnum):
    """What is wrong with the live version, gravest first."""

    NONFINITE = "nonfinite"
    CONSTANT = "constant"
    ERRORS = "errors"
    LATENCY = "latency"
    ACCURACY = "accuracy"
    DISAGREEMENT = "disagreement"
    CONFIDENCE = "confidence"


class Hold(StrEnum):
    """Why the guard does not act on a symptom."""

    SHARED = "the version before shows the same, so the input is to blame"
    NOT_THE_HEAD = "what answers here is not the ledger's head: somebody is moving it"
    EXTERNAL = "the active pointer is managed from outside"
    NO_TARGET = "no version stands by in memory to go back to"
    NOT_PREVIOUS = "what stands by is not the last good version of the ledger"
    TARGET_FAILS = "the version that stands by fails on the same requests"
    WAS_ROLLED_BACK = "the guard has rolled this version back before, and somebody has deployed it again"
    PING_PONG = "the guard has rolled back from the version that stands by"
    COOLDOWN = "the guard's last rollback is too recent"


class Ruling(StrEnum):
    """What the guard makes of it."""

    ROLL_BACK = "roll back"
    WOULD_ROLL_BACK = "would_roll_back"
    HELD = "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many of how many, and the evidence that the share is above its limit."""

    count: int = 0
    of: int = 0
    evidence_log10: float = 0.0
    convinced: bool = False

    def __str__(self) -> str:
        return f"{self.count} of {self.of}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of the live version since it became so.

    Attributes:
        predictions: requests that it has answered, or failed to.
        nonfinite: of those that were looked at, how many were answered with NaN or infinity.
        failed: of all, how many failed inside the model.
        slow: of all, for how many the model took longer than --slo-latency.
        alike: rows, the last ones, that were all answered with the very same numbers.
        alike_witnesses: of these, how many requests the version before was asked as well, and `alike_in_both` whether it hardly
            told them apart either.
        failed_asked: requests that it failed on and the version before was asked, and `failed_in_both` those that failed there too.
        failing_s: seconds since the first of its failures was seen; 0 where there was none.
        previous_failed, previous_slow: the version before did as badly while it was live; None: it was not, here.
        compared: beside the version before, on the same requests.
    """

    predictions: int = 0
    nonfinite: Rate = Rate()
    failed: Rate = Rate()
    slow: Rate = Rate()
    alike: int = 0
    alike_witnesses: int = 0
    alike_in_both: bool = False
    failed_asked: int = 0
    failed_in_both: int = 0
    failing_s: float = 0.0
    previous_failed: bool = False
    previous_slow: bool = False
    compared: Compared = field(default_factory=Compared)


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """Something that is wrong with the live version; `shared`: the version before shows it as well."""

    trigger: Trigger
    evidence_log10: float
    says: str
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Where a rollback would begin and lead.

    Attributes:
        generation: the live version's; None where it has none.
        head: the ledger's newest generation.
        target: the standby; None without one.
        previous_good: the identity that a plain rollback would go back to.
        rolled_back: the identities that the guard has rolled back from, ever, on any sidecar.
        cooldown_left_s: until the guard may act again.
    """

    live: Version
    live_manifest: Digest
    generation: int | None
    head: int
    externally_managed: bool = False
    target: Version | None = None
    target_manifest: Digest | None = None
    previous_good: Digest | None = None
    rolled_back: frozenset[Digest] = frozenset()
    cooldown_left_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done, about what, and if nothing, why not."""

    ruling: Ruling
    symptom: Symptom
    hold: Hold | None = None


def symptoms(facts: Facts, settings: GuardSettings, *, has_standby: bool) -> tuple[Symptom, ...]:
    """What is wrong, gravest first; nothing before there are enough predictions to say so.

    Where there is a version to ask, its word on the same requests is waited for, if a symptom could be the input's fault.
    """
    if facts.predictions < settings.min_predictions:
        return ()
    compared = facts.compared
    found: list[Symptom] = []
    better = compared.nonfinite - compared.nonfinite_in_both - compared.nonfinite_failed
    if facts.nonfinite.convinced and (compared.nonfinite >= _WITNESSES or not has_standby):
        found.append(
            Symptom(
                trigger=Trigger.NONFINITE,
                evidence_log10=facts.nonfinite.evidence_log10,
                says=f"{facts.nonfinite} answers hold NaN or infinity; of the same requests the version before was asked "
                f"{compared.nonfinite}, answered {better} with numbers, and failed on {compared.nonfinite_failed}",
                shared=2 * better < compared.nonfinite
                and compared.nonfinite_in_both >= compared.nonfinite_failed,
            )
        )
    if facts.alike >= settings.min_predictions and (
        facts.alike_witnesses >= _CONSTANT_WITNESSES or not has_standby
    ):
        found.append(
            Symptom(
                trigger=Trigger.CONSTANT,
                evidence_log10=0.0,
                says=f"the last {facts.alike} rows were all answered with the very same numbers; "
                + (
                    f"the version before was asked {facts.alike_witnesses} of these requests, and its answers "
                    f"{'hardly differ either' if facts.alike_in_both else 'differ'}"
                    if facts.alike_witnesses
                    else "there is no version before to be asked the same"
                ),
                shared=facts.alike_in_both,
            )
        )
    # Not for ever: what it failed on may be too large to be kept.
    enough = facts.failed.count >= settings.min_predictions and facts.failing_s >= _HEARD_S
    told = facts.failed_asked >= _WITNESSES or enough
    if facts.failed.convinced and (told or not has_standby):
        limit = BURN * settings.slo_errors
        found.append(
            Symptom(
                trigger=Trigger.ERRORS,
                evidence_log10=facts.failed.evidence_log10,
                says=f"{facts.failed} predictions failed, which is more than {limit:.2%}; of the same requests the version before "
                f"was asked {facts.failed_asked}, and failed on {facts.failed_in_both}",
                shared=facts.previous_failed or 2 * facts.failed_in_both > facts.failed_asked,
            )
        )
    timed = compared.other_runs >= settings.min_predictions or not (has_standby and settings.shadow_sample)
    if facts.slow.convinced and settings.slo_latency_s is not None and timed:
        found.append(
            Symptom(
                trigger=Trigger.LATENCY,
                evidence_log10=facts.slow.evidence_log10,
                says=f"{facts.slow} predictions took longer than {settings.slo_latency_s * 1000:g} ms, which is more than "
                f"{BURN * SLOW_SHARE:.1%}; of {compared.other_runs} that the version before was asked as well, "
                f"{compared.other_slow} did",
                shared=facts.previous_slow or compared.other_slow > BURN * SLOW_SHARE * compared.other_runs,
            )
        )
    if compared.compared >= settings.min_predictions:
        found += _relative(compared, settings)
    return tuple(found)


def _relative(compared: Compared, settings: GuardSettings) -> list[Symptom]:
    found: list[Symptom] = []
    if compared.accuracy_convinced and compared.labels >= settings.min_predictions:
        found.append(
            Symptom(
                trigger=Trigger.ACCURACY,
                evidence_log10=compared.accuracy_evidence_log10,
                says=f"of the same {compared.labels} labelled predictions it has {compared.accuracy:.1%} right, and the version "
                f"before {compared.other_accuracy:.1%}",
            )
        )
    if compared.disagreement_convinced:
        found.append(
            Symptom(
                trigger=Trigger.DISAGREEMENT,
                evidence_log10=compared.disagreement_evidence_log10,
                says=f"{compared.disagreement:.1%} of {compared.compared} answers differ from the version before's, which is more "
                f"than {settings.max_disagreement:.1%}",
            )
        )
    if compared.confidence_convinced:
        found.append(
            Symptom(
                trigger=Trigger.CONFIDENCE,
                evidence_log10=compared.confidence_evidence_log10,
                says=f"its mean confidence is {compared.confidence:.3f}, and on the same {compared.compared} requests the version "
                f"before's {compared.other_confidence:.3f}",
            )
        )
    return found


def judge(found: Sequence[Symptom], facts: Facts, at: Situation, mode: GuardMode) -> Verdict | None:
    """What to do about the symptoms; None where there are none, or where nobody wants to know.

    A symptom that the version before shares is passed over for one that it does not.
    """
    if mode is GuardMode.OFF or not found:
        return None
    symptom = next((each for each in found if not each.shared), found[0])
    hold = _hold(symptom, facts, at)
    if hold is not None:
        return Verdict(Ruling.HELD, symptom, hold)
    return Verdict(Ruling.ROLL_BACK if mode is GuardMode.ON else Ruling.WOULD_ROLL_BACK, symptom)


def _hold(symptom: Symptom, facts: Facts, at: Situation) -> Hold | None:
    compared = facts.compared
    for hold, holds in (
        (Hold.EXTERNAL, at.externally_managed),
        (Hold.NOT_THE_HEAD, at.generation != at.head),
        (Hold.WAS_ROLLED_BACK, at.live_manifest in at.rolled_back),
        (Hold.NO_TARGET, at.target is None or at.target_manifest is None),
        (Hold.PING_PONG, at.target_manifest in at.rolled_back),
        (Hold.NOT_PREVIOUS, at.target_manifest != at.previous_good),
        (Hold.SHARED, symptom.shared),
        (Hold.TARGET_FAILS, _target_fails(symptom, compared)),
        (Hold.COOLDOWN, at.cooldown_left_s > 0),
    ):
        if holds:
            return hold
    return None


def _target_fails(symptom: Symptom, compared: Compared) -> bool:
    on_nonfinite = symptom.trigger is Trigger.NONFINITE and (
        2 * (compared.nonfinite_in_both + compared.nonfinite_failed) > compared.nonfinite
    )
    return on_nonfinite or compared.failed > _FAILING_TARGET * (compared.compared + compared.failed)
