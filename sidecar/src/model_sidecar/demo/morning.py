"""The morning after: what was noticed of each fault, after how long, by whom, and what came of it; then the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from model_sidecar.demo.ending import show_answers, show_metrics
from model_sidecar.demo.lookout import Lookout, Noticed, Watcher
from model_sidecar.demo.night import LIGHTS
from model_sidecar.demo.paper import Paper, percent
from model_sidecar.demo.process import Sidecar
from model_sidecar.demo.proof import Expected, Said
from model_sidecar.demo.scene import Scene
from model_sidecar.demo.timeline import accuracy
from model_sidecar.demo.traffic import Traffic
from model_sidecar.demo.versions import MENDED, SECOND
from model_sidecar_client import Record

_REASON = 60
_THEN_S = 6 * 3600
"""Not measured here: how long the night lasted that this was built for."""
_SHOWN_METRICS = (
    "model_sidecar_guard_decisions_total",
    "model_sidecar_rollbacks_total",
    "model_sidecar_drift_alarm",
    "model_sidecar_quality{",
    "model_sidecar_quality_baseline",
    "model_sidecar_feedback_total",
    "model_sidecar_monitor_dropped_total",
)


def sum_up_night(
    scene: Scene,
    *,
    traffic: Traffic,
    records: Sequence[Record],
    sidecar: Sidecar,
    expected: Mapping[Said, Expected],
) -> None:
    """Print what happened.

    Args:
        scene: what the acts left.
        traffic: stopped.
        records: the ledger, newest first.
        sidecar: still up, for its metrics.
        expected: what each version says to the stream in each light.
    """
    paper = scene.paper
    paper.section("What answered in the night, and how much of it was right")
    show_answers(scene, traffic.answers())
    paper.section("The lamp: would the version before have done better?")
    _show_lights(scene, traffic, expected)
    paper.section("What was noticed, and after how long")
    _show_faults(scene)
    paper.section("The ledger: append-only, who did what and why")
    _show_ledger(paper, records)
    paper.section("What Prometheus sees of it")
    show_metrics(paper, sidecar, _SHOWN_METRICS)


def _show_lights(scene: Scene, traffic: Traffic, expected: Mapping[Said, Expected]) -> None:
    """Both versions on the same digits: the live one's answers, and those of the one that stood by, computed again."""
    labels, rows = scene.stream.labels, []
    share = before = 1.0
    for light in (1.0, *LIGHTS):
        answers = [
            each for each in traffic.answers() if each.version == MENDED.version and each.light == light
        ]
        if not answers:
            continue
        other = expected[SECOND.version, light]
        share = accuracy(answers, labels)
        before = sum(int(other.labels[each.row]) == int(labels[each.row]) for each in answers) / len(answers)
        sure = sum(float(each.probabilities.max()) for each in answers) / len(answers)
        rows.append([f"{light:.0%}", f"{len(answers):,}", percent(share), percent(before), percent(sure)])
    head = ["light", "answers", f"{MENDED.version} right", f"{SECOND.version} on the same", "confidence"]
    scene.paper.table(head, rows, right=(0, 1, 2, 3, 4))
    scene.paper.text(
        f"That is why the guard held still: going back would give the same pale digits to a version that reads {percent(before)} "
        f"of them, instead of {percent(share)}. What helps is a new lamp, or a version trained on scans like these."
    )


def _show_faults(scene: Scene) -> None:
    assert scene.unscaled is not None, "the night has been told"
    assert scene.fading is not None, "the night has been told"
    rows = []
    for fault, lookout, come_of_it in (
        ("scaler lost", scene.unscaled, _rolled_back),
        ("lamp fades", scene.fading, _held_still),
    ):
        for watcher in Watcher:
            noticed = lookout.noticed.get(watcher)
            after = (
                [f"{noticed.predictions:,}", f"{lookout.seconds(noticed):.1f} s"] if noticed else ["-", "-"]
            )
            rows.append(
                [
                    fault if watcher is Watcher.LABELS else "",
                    _BY[watcher],
                    *after,
                    come_of_it(watcher, noticed, lookout),
                ]
            )
    rows.append(["before this", "a person", "?", f"{_THEN_S:,} s", "found"])
    scene.paper.table(["fault", "noticed by", "predictions", "after", "what happened"], rows, right=(2, 3))
    scene.paper.text(
        "The last line is the night that this was built for: a model drifted wrong for six hours, without an error and "
        "without an alert, until somebody looked."
    )


_BY = {
    Watcher.LABELS: "labels, beside the manifest",
    Watcher.DRIFT: "drift, beside the baseline",
    Watcher.GUARD: "guard, beside the standby",
}


def _rolled_back(watcher: Watcher, noticed: Noticed | None, lookout: Lookout) -> str:
    if noticed is None:
        return "nothing: its baseline is as wrong" if watcher is Watcher.DRIFT else "nothing"
    if watcher is not Watcher.GUARD:
        return "alarm"
    decision = lookout.decisions[-1]
    return f"{decision.decision.replace('_', ' ')}, to {decision.target}"


def _held_still(watcher: Watcher, noticed: Noticed | None, lookout: Lookout) -> str:
    if watcher is not Watcher.GUARD:
        cause = f", {lookout.drift.cause}" if watcher is Watcher.DRIFT and lookout.drift is not None else ""
        return f"alarm{cause}" if noticed is not None else "nothing"
    if noticed is None:
        return "held still: the standby does no better"
    return lookout.decisions[-1].decision.replace("_", " ")


def _show_ledger(paper: Paper, records: Sequence[Record]) -> None:
    paper.table(
        ["gen", "action", "version", "by", "reason"],
        [
            [str(each.generation), each.action.value, each.version, each.actor.id, _cut(each.reason)]
            for each in reversed(records)
        ],
        right=(0,),
    )


def _cut(reason: str) -> str:
    return reason if len(reason) <= _REASON else f"{reason[: _REASON - 1].rstrip()}…"
