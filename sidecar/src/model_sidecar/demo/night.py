"""The night: the sidecar started anew under its guard, a version that lost its scaler, a lamp that fades. Nobody touches anything."""

from __future__ import annotations

import time

import numpy as np

from model_sidecar.demo.acts import deploy, watch
from model_sidecar.demo.digits import Digits
from model_sidecar.demo.lookout import Lookout, Noticed, Watcher, by_guard
from model_sidecar.demo.paper import Ink, milliseconds, percent
from model_sidecar.demo.process import Sidecar
from model_sidecar.demo.scene import Scene
from model_sidecar.demo.timeline import Move, accuracy
from model_sidecar.demo.traffic import Answer, Traffic
from model_sidecar.demo.versions import DIGITS, MENDED, NIGHT, PROD, UNSCALED, build_all, publish_as
from model_sidecar_client import Client, Operator

OPTIONS = ("--guard", "on", "--shadow-sample", "0.5", "--guard-cooldown", "1s")
LABELS_AFTER_S = 1.5
PATIENCE_S = 60.0
"""For so long it is waited for somebody to notice something."""
LIGHTS = tuple(round(1 - 0.05 * step, 2) for step in range(1, 12))
"""How bright the lamp still is, step by step. At the last, half of the ink is gone."""


def begin(scene: Scene, sidecar: Sidecar, operator: Operator, client: Client) -> None:
    """The same store, a new process: what was live is live again."""
    paper = scene.paper
    paper.act("The night: a restart, and the guard is on")
    paper.command(sidecar.command())
    took_s = sidecar.wait_up(operator)
    client.wait_ready(DIGITS)
    head = operator.history(DIGITS, environment=PROD, limit=1)[0]
    paper.moment(
        f"Up after {took_s:.1f} s, as process {sidecar.pid}, and {head.version} answers again: the ledger says so "
        f"(generation {head.generation})."
    )
    paper.text(
        "The guard holds each live version against the one before it, which stands by in memory: on every second request "
        "(--shadow-sample), off its path. It may act again a second after it has acted (--guard-cooldown): if it holds still "
        f"later, that is not why. Traffic comes, and {LABELS_AFTER_S:g} s after each answer its label: what the digit really "
        "was. From here on somebody deploys now and then, and nobody looks."
    )


def publish(scene: Scene, pool: Digits) -> None:
    """Two more versions of one training, whose exporters differ."""
    paper = scene.paper
    paper.act("Publish two more versions: one training, two exporters")
    built = build_all(scene.place.builds, pool, NIGHT)
    for each in built:
        published = publish_as(each.release.version, each.build, scene.store, rows=each.rows)
        paper.moment(
            f"{published.version} published: {percent(each.trained.accuracy)} in its manifest, golden examples agree."
        )
        for warning in published.warnings:
            paper.text(f"warning: {warning}")
    scene.built = [*scene.built, *built]
    paper.text(
        f"{UNSCALED.version} lost its scaler: the exporter writes a preprocessing.onnx that passes pixels on as they are. The "
        "accuracy was measured in training, with the scaler; the golden examples came out of the exporter, without it. So "
        "it passes every check. Publishing did warn, of the rows that its baseline was counted over; but who reads the output "
        f"of a job that succeeded? {MENDED.version} is the same training, exported properly; it comes later."
    )


def lose_scaler(scene: Scene, operator: Operator, traffic: Traffic) -> None:
    """The version without a scaler goes live, and is gone again before anybody could have looked."""
    paper, version = scene.paper, UNSCALED.version
    paper.act("Deploy a version whose preprocessing lost its scaler")
    before = traffic.of(scene.live, since=0)
    move = deploy(scene, operator, version, reason="weekly retraining")
    paper.moment(f"{version} is live. No error, no failed check, {milliseconds(move.took_ms / 1000)}.")
    lookout = Lookout(operator, traffic, version, since=move.acknowledged_at)
    scene.unscaled = lookout
    lookout.look_until(lambda: lookout.has(Watcher.LABELS, Watcher.GUARD), timeout_s=PATIENCE_S)
    answers = traffic.of(version, since=0)
    say_noticed(scene, lookout)
    record = operator.history(DIGITS, environment=PROD, limit=1)[0]
    if by_guard(record) and lookout.has(Watcher.GUARD):
        seen_at = lookout.noticed[Watcher.GUARD].at
        back = traffic.first_answer_after(answers[-1].answered_at, record.version)
        scene.moves.append(
            Move(
                action=record.action.value,
                version=record.version,
                previous=record.previous_version,
                generation=record.generation,
                called_at=min(seen_at, back.asked_at),
                acknowledged_at=seen_at,
                took_ms=float("nan"),  # nobody waited for it
            )
        )
        paper.moment(
            f"{record.action.value} to {record.version}, generation {record.generation} of the ledger, by "
            f"{record.actor.id}; its reason there:",
            Ink.GOOD,
        )
        paper.text(f'"{record.reason}"')
    watch(scene, traffic, scene.live, Ink.GOOD, more=scene.pace.night_answers)
    _compare(scene, before, answers)


def fade(scene: Scene, operator: Operator, traffic: Traffic) -> None:
    """A good version goes live, and then the world changes under it, slowly."""
    paper, version = scene.paper, MENDED.version
    paper.act("The same training with its scaler; then the scanner's lamp fades")
    deploy(scene, operator, version, reason="exporter mended")
    watch(scene, traffic, version, Ink.GOOD, more=scene.pace.night_answers)
    scene.calm = Lookout(operator, traffic, version, since=0)
    scene.calm.look()
    lookout = Lookout(operator, traffic, version, since=time.monotonic())
    scene.fading = lookout
    paper.moment(
        f"From now on every scan is a little paler than the last ones: the light goes from 100 % to {LIGHTS[-1]:.0%}, in "
        f"{len(LIGHTS)} steps."
    )
    for light in LIGHTS:
        traffic.light = light
        step = time.monotonic()
        lookout.look_until(
            lambda step=step: len(traffic.of(version, since=step)) >= scene.pace.step_answers  # type: ignore[misc]
        )
    lookout.look_until(lambda: lookout.has(Watcher.LABELS, Watcher.DRIFT), timeout_s=PATIENCE_S)
    say_noticed(scene, lookout)
    watch(scene, traffic, version, Ink.BAD, more=scene.pace.night_answers)
    lookout.look()


def say_noticed(scene: Scene, lookout: Lookout) -> None:
    """What was noticed since the fault began, in the sidecar's own words."""
    heads = {
        Watcher.LABELS: "The labels say",
        Watcher.DRIFT: "The drift alarm says",
        Watcher.GUARD: "The guard says",
    }
    for each in lookout.noticed.values():
        scene.paper.moment(f"{_after(lookout, each)} {heads[each.by]}: {each.words}", Ink.BAD, at=each.at)


def _after(lookout: Lookout, noticed: Noticed) -> str:
    return f"After {noticed.predictions:,} predictions, {lookout.seconds(noticed):.1f} s."


def _compare(scene: Scene, before: list[Answer], after: list[Answer]) -> None:
    """Why it would not have been noticed otherwise."""
    sure = [float(np.mean([each.probabilities.max() for each in some])) for some in (before, after)]
    right = [accuracy(some, scene.stream.labels) for some in (before, after)]
    drift = scene.unscaled.drift if scene.unscaled is not None else None
    scene.paper.text(
        f"Of {len(after):,} answers without the scaler {percent(right[1])} were right, of those before {percent(right[0])}; and it "
        f"was surer of them: mean confidence {percent(sure[1])}, before {percent(sure[0])}. Who watches confidence alone "
        "thinks it better."
    )
    if drift is not None and drift.alarm_since is None:
        scene.paper.text(
            f'Drift said "{drift.summary}", and rightly: its baseline was counted when it was published, without the '
            "scaler as well. So it takes labels, or the version before on the same requests."
        )
