"""The acts under traffic: deploy, deploy the next, refuse a damaged version, go back from a bad one."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from model_sidecar.demo.paper import Ink, milliseconds, percent
from model_sidecar.demo.place import Place
from model_sidecar.demo.scene import Scene
from model_sidecar.demo.timeline import Move, Refusal, accuracy, seen
from model_sidecar.demo.traffic import Answer, Traffic
from model_sidecar.demo.versions import DAMAGED, DIGITS, FIRST, PROD, SECOND, WORSE, flip_one_byte, publish_as
from model_sidecar.release.manifest import MODEL
from model_sidecar.release.names import Version
from model_sidecar_client import Client, Deployed, Operator, VerificationFailedError

_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")


def deploy_first(scene: Scene, operator: Operator, client: Client) -> None:
    """The first version goes live, and traffic may come."""
    paper = scene.paper
    paper.act("Deploy the first version, and let traffic come")
    moved = deploy(scene, operator, FIRST.version, reason="first release")
    client.wait_ready(DIGITS)
    paper.moment(
        f"{moved.version} verified, loaded, its golden examples agree: live after {_ms(moved)}.", Ink.GOOD
    )
    paper.moment(
        f"{scene.pace.threads} threads ask for digits from now on, one after the other, without a retry."
    )


def deploy_second(scene: Scene, operator: Operator, traffic: Traffic) -> None:
    """The tag of the answers changes under traffic, and no request is lost."""
    paper = scene.paper
    paper.act("Deploy the next version under traffic")
    move = deploy(scene, operator, SECOND.version, reason=f"retrained on {SECOND.snapshot.rows:,} rows")
    _say_flip(scene, traffic, move)
    watch(scene, traffic, SECOND.version)
    paper.moment(f"Requests failed so far: {len(traffic.failures())}.")


def refuse_damaged(scene: Scene, operator: Operator, traffic: Traffic) -> None:
    """A version with one wrong bit is refused, and the old one answers on."""
    paper = scene.paper
    paper.act("Try a version that was damaged on the disk")
    second = next(each for each in scene.built if each.release is SECOND)
    publish_as(DAMAGED, second.build, scene.store, rows=second.rows)
    at = flip_one_byte(scene.store.layout.version(DIGITS, DAMAGED) / MODEL)
    paper.moment(f"{DAMAGED}: published properly, then one bit of its {MODEL} flips (byte {at:,}).")
    try:
        operator.deploy(DIGITS, DAMAGED, environment=PROD, reason="looks fine from here")
    except VerificationFailedError as error:
        scene.refusal = Refusal(time.monotonic(), error.reason)
        paper.moment(f"Refused, {error.reason}: {_short(error.message, scene.place)}", Ink.GOOD)
    else:
        paper.moment(f"{DAMAGED} was accepted. That should never happen.", Ink.BAD)
        return
    watch(scene, traffic, SECOND.version, still=True)


def deploy_worse(scene: Scene, operator: Operator, traffic: Traffic) -> None:
    """A version that passes every check goes live, and the stream shows what it is worth."""
    paper = scene.paper
    paper.act("Deploy a version that is whole, and wrong")
    worse = next(each for each in scene.built if each.release is WORSE)
    paper.text(
        f"{WORSE.version} has more rows and {percent(worse.trained.accuracy)} in its manifest. Nobody noticed that the "
        "exporter of its snapshot cut every scan one pixel row too low: its own validation rows were cut alike, its "
        "golden examples too, so it passes every check. Checks look at bytes."
    )
    move = deploy(scene, operator, WORSE.version, reason=f"retrained on {WORSE.snapshot.rows:,} rows")
    _say_flip(scene, traffic, move)
    watch(scene, traffic, WORSE.version, Ink.BAD)


def roll_back(scene: Scene, operator: Operator, traffic: Traffic) -> None:
    """The last good version answers again, within milliseconds."""
    paper = scene.paper
    paper.act("Roll back: one verb")
    before, after = (_share(scene, traffic.answers(), version) for version in (SECOND.version, WORSE.version))
    reason = f"accuracy on the stream fell from {100 * before:.0f} % to {100 * after:.0f} %"
    called_at = time.monotonic()
    done = operator.rollback(DIGITS, environment=PROD, reason=reason)
    move = _noted(scene, done, called_at)
    first = traffic.first_answer_after(called_at, done.version)
    paper.moment(f'Called with the reason "{reason}".', at=called_at)
    paper.moment(
        f"{done.version} answers again {milliseconds(first.answered_at - called_at)} after the call: it was still "
        f"resident, as the standby. By the sidecar's own account {_ms(move)}, record in the ledger included.",
        Ink.GOOD,
    )
    watch(scene, traffic, done.version, Ink.GOOD)


def deploy(scene: Scene, operator: Operator, version: Version, *, reason: str) -> Move:
    """Deploy, and note the move."""
    called_at = time.monotonic()
    return _noted(scene, operator.deploy(DIGITS, version, environment=PROD, reason=reason), called_at)


def _noted(scene: Scene, done: Deployed, called_at: float) -> Move:
    move = Move(
        action=done.action.value,
        version=done.version,
        previous=done.previous_version,
        generation=done.generation,
        called_at=called_at,
        acknowledged_at=time.monotonic(),
        took_ms=done.took_ms,
    )
    scene.moves.append(move)
    return move


def _say_flip(scene: Scene, traffic: Traffic, move: Move) -> None:
    traffic.wait_answers(move.version, more=1)
    what = seen(move, traffic.answers())
    assert what is not None, "there was traffic before and after"
    scene.paper.moment(
        f"{move.version} is live {_ms(move)} after the call. The tag of the answers changed from {move.previous}; the "
        f"longest time without an answer was {milliseconds(what.silence_s)}."
    )


def watch(
    scene: Scene,
    traffic: Traffic,
    version: str,
    kind: Ink | None = None,
    *,
    still: bool = False,
    more: int | None = None,
) -> None:
    """Let traffic come until this version has answered often enough, and say how many of its answers are right.

    `more` is how often; as often as by day if not given.
    """
    came = traffic.wait_answers(version, more=scene.pace.answers if more is None else more)
    answers = [each for each in came if each.version == version]
    scene.paper.moment(
        f"{'The old version answers on: ' if still else ''}{len(answers):,} answers from {version}, "
        f"{percent(accuracy(answers, scene.stream.labels))} of them right.",
        kind,
    )


def _share(scene: Scene, answers: Sequence[Answer], version: str) -> float:
    return accuracy([each for each in answers if each.version == version], scene.stream.labels)


def _ms(move: Move) -> str:
    return milliseconds(move.took_ms / 1000)


def _short(message: str, place: Place) -> str:
    """A message with the paths as somebody in the demo's directory would write them, and the digests cut short."""
    return _DIGEST.sub(r"\1…", message.replace(f"{place.root}/", ""))
