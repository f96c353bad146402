"""Whether every promise held, judged by the answers, the ledger and what the sidecar said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from model_sidecar.demo import proof, timeline
from model_sidecar.demo.labels import Labels
from model_sidecar.demo.lookout import Watcher, by_guard
from model_sidecar.demo.paper import Ink
from model_sidecar.demo.proof import Expected, Said
from model_sidecar.demo.scene import Scene
from model_sidecar.demo.traffic import Traffic
from model_sidecar.demo.versions import MENDED, SECOND, WORSE
from model_sidecar.errors import Reason
from model_sidecar_client import FeedbackOutcome, Record

Verdict = tuple[bool, str]
"""Whether a promise held, and what was found."""


def judge(
    scene: Scene,
    *,
    traffics: Sequence[Traffic],
    labels: Labels,
    records: Sequence[Record],
    expected: Mapping[Said, Expected],
) -> list[str]:
    """Print which promises held.

    Args:
        scene: what the acts left.
        traffics: of the day and of the night, stopped.
        labels: of the night, stopped.
        records: the ledger, newest first.
        expected: what each version says to the stream in each light.

    Returns:
        Those that did not hold.
    """
    paper = scene.paper
    verdicts = [
        *_of_requests(scene, traffics, expected),
        *_of_deployments(scene, records),
        *_of_the_night(scene, labels, records),
    ]
    paper.section("Promises")
    for held, words in verdicts:
        paper.line(f"    {paper.ink('kept  ', Ink.GOOD) if held else paper.ink('BROKEN', Ink.BAD)}  {words}")
    failures = [failure for each in traffics for failure in each.failures()]
    for each in [*failures, *labels.failures()][:3]:
        paper.text(f"failed: {each.message}", Ink.BAD)
    return [words for held, words in verdicts if not held]


def _of_requests(
    scene: Scene, traffics: Sequence[Traffic], expected: Mapping[Said, Expected]
) -> list[Verdict]:
    answers = [answer for each in traffics for answer in each.answers()]
    failed = sum(len(each.failures()) for each in traffics)
    wrong, late = proof.mistagged(answers, expected), timeline.late(scene.moves, answers)
    return [
        (not failed, f"failed requests: {failed} of {len(answers) + failed:,}"),
        (
            not wrong,
            f"mis-tagged answers: {len(wrong)}; every one was recomputed with the version that it names",
        ),
        (not late, f"answers of a version that a flip or rollback had already replaced: {len(late)}"),
    ]


def _of_deployments(scene: Scene, records: Sequence[Record]) -> list[Verdict]:
    moves, refusal = scene.moves, scene.refusal
    away = next((at for at, each in enumerate(moves) if each.version == WORSE.version), len(moves) - 2)
    back = moves[away + 1].version
    return [
        (
            refusal is not None and refusal.reason == Reason.DIGEST_MISMATCH,
            f"the damaged version was {f'refused: {refusal.reason}' if refusal else 'accepted'}",
        ),
        (back == SECOND.version, f"the operator's rollback went back to {back}, the last good version"),
        (
            [each.generation for each in reversed(records)] == [each.generation for each in moves],
            f"the ledger holds each of the {len(moves)} actions that were seen once, and the refused one not at all",
        ),
    ]


def _of_the_night(scene: Scene, labels: Labels, records: Sequence[Record]) -> list[Verdict]:
    assert scene.unscaled is not None, "the night has been told"
    assert scene.fading is not None, "the night has been told"
    assert scene.calm is not None, "the night has been told"
    outcomes = labels.outcomes()
    told, joined = sum(outcomes.values()), outcomes.get(FeedbackOutcome.JOINED, 0)
    guarded = [each for each in records if by_guard(each)]
    went = f", from {guarded[0].previous_version} to {guarded[0].version}" if guarded else ""
    cause = scene.fading.drift.cause if scene.fading.drift is not None else ""
    return [
        (
            told == joined and not labels.failures(),
            f"late labels that found their prediction: {joined:,} of {told:,}",
        ),
        (
            len(guarded) == 1
            and (guarded[0].previous_version, guarded[0].version) == (scene.unscaled.version, SECOND.version),
            f"rollbacks by the guard: {len(guarded)}{went}",
        ),
        (
            scene.unscaled.has(Watcher.LABELS),
            "the labels showed that a version without its scaler is worse than its manifest says",
        ),
        (
            not scene.calm.noticed,
            f"alarms of {MENDED.version} before the lamp faded: {len(scene.calm.noticed)}",
        ),
        (
            scene.fading.has(Watcher.DRIFT, Watcher.LABELS) and bool(cause),
            f"what the lamp did was noticed, and named: {cause or 'nothing'}",
        ),
        (
            not scene.fading.decisions and records[0].version == MENDED.version,
            f"the guard held still where going back does not help: {records[0].version} is live",
        ),
    ]
