"""The end of the day: what answered when, and what Prometheus saw of it."""

from __future__ import annotations

import re

import numpy as np

from model_sidecar.demo import timeline
from model_sidecar.demo.drawing import draw
from model_sidecar.demo.paper import Paper, milliseconds
from model_sidecar.demo.process import Sidecar
from model_sidecar.demo.scene import Scene
from model_sidecar.demo.traffic import Answer, Traffic

_SAME_IN_ALL = re.compile(r'(?:environment|model|manifest_sha256)="[^"]*",?')
_SHOWN_METRICS = (
    "model_sidecar_active_version_info",
    "model_sidecar_predictions_total",
    "model_sidecar_flips_total",
    "model_sidecar_rollbacks_total",
    "model_sidecar_verification_failures_total",
    "model_sidecar_pointer_generation",
)


def sum_up_day(scene: Scene, *, traffic: Traffic, sidecar: Sidecar) -> None:
    """Print what happened, from the answers and the metrics; the traffic has stopped, the sidecar is still up."""
    paper, answers = scene.paper, traffic.answers()
    paper.section("What answered when, and how much of it was right")
    show_answers(scene, answers)
    paper.section("Flips")
    timeline.flips(paper, scene.moves, answers)
    took = np.sort([each.answered_at - each.asked_at for each in answers])
    paper.text(
        f"All {len(answers):,} answers: half of them within {milliseconds(took[len(took) // 2])}, 99 of 100 within "
        f"{milliseconds(took[int(len(took) * 0.99)])}, the slowest {milliseconds(took[-1])}."
    )
    paper.section("What Prometheus sees: some lines of /metrics, without environment, model and digest")
    show_metrics(paper, sidecar, _SHOWN_METRICS)


def show_answers(scene: Scene, answers: list[Answer]) -> None:
    """The timeline of these answers, and a line per version."""
    paper, labels = scene.paper, scene.stream.labels
    promised: dict[str, float] = {each.release.version: each.trained.accuracy for each in scene.built}
    moves = [each for each in scene.moves if each.acknowledged_at <= answers[-1].answered_at]
    draw(paper, answers, moves, labels, refusal=scene.refusal)
    paper.line()
    timeline.count(paper, answers, labels, promised)


def show_metrics(paper: Paper, sidecar: Sidecar, names: tuple[str, ...]) -> None:
    """The lines of the metrics of these names that are not 0."""
    _, page = sidecar.get("/metrics")
    for line in page.splitlines():
        if line.startswith(names) and not line.endswith(" 0.0"):
            paper.line(f"    {_SAME_IN_ALL.sub('', line).replace(',}', '}').replace('{}', '')}")
