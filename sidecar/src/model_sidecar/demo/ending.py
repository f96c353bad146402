"""The end of the demo: the timeline, the ledger, the metrics, whether every promise held, and how to go on."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model_sidecar.demo import proof, timeline
from model_sidecar.demo.drawing import draw
from model_sidecar.demo.paper import Ink, Paper, milliseconds
from model_sidecar.demo.place import Place
from model_sidecar.demo.process import Sidecar, arguments
from model_sidecar.demo.scene import Scene
from model_sidecar.demo.traffic import Traffic
from model_sidecar.demo.versions import DAMAGED, DIGITS, FIRST, PROD, SECOND, WORSE
from model_sidecar.errors import Reason
from model_sidecar_client import Record

_SAME_IN_ALL = re.compile(r'(?:environment|model|manifest_sha256)="[^"]*",?')
_SHOWN_METRICS = (
    "model_sidecar_active_version_info",
    "model_sidecar_predictions_total",
    "model_sidecar_flips_total",
    "model_sidecar_rollbacks_total",
    "model_sidecar_verification_failures_total",
    "model_sidecar_pointer_generation",
)


def sum_up(scene: Scene, *, traffic: Traffic, records: Sequence[Record], sidecar: Sidecar) -> list[str]:
    """Print what happened, from the answers, the ledger and the metrics.

    Args:
        scene: what the acts left.
        traffic: stopped.
        records: the ledger, newest first.
        sidecar: still up, for its metrics.

    Returns:
        The promises that did not hold.
    """
    paper, moves, labels = scene.paper, scene.moves, scene.stream.labels
    promised: dict[str, float] = {each.release.version: each.trained.accuracy for each in scene.built}
    answers = traffic.answers()
    paper.section("What answered when, and how much of it was right")
    draw(paper, answers, moves, labels, refusal=scene.refusal)
    paper.line()
    timeline.count(paper, answers, labels, promised)
    paper.section("Flips")
    timeline.flips(paper, moves, answers)
    took = np.sort([each.answered_at - each.asked_at for each in answers])
    paper.text(
        f"All {len(answers):,} answers: half of them within {milliseconds(took[len(took) // 2])}, 99 of 100 within "
        f"{milliseconds(took[int(len(took) * 0.99)])}, the slowest {milliseconds(took[-1])}."
    )
    paper.section("The ledger: append-only, who did what and why")
    _show_ledger(paper, records)
    paper.section("What Prometheus sees: some lines of /metrics, without environment, model and digest")
    _show_metrics(paper, sidecar)
    return _judge(scene, traffic, records)


def say_how_to_go_on(paper: Paper, place: Place, sidecar: Sidecar, *, truth: int, kept: bool) -> None:
    """Print the commands to play with what is left behind, as one would type them in the demo's directory."""
    serve: list[tuple[str, str]] = []
    stop: list[tuple[str, str]] = []
    if kept:
        data, control, http = sidecar.data, sidecar.control, sidecar.http
        stop = [(f"kill {sidecar.pid}", "the sidecar runs on; this stops it")]
    else:
        data, control, http = "unix:data.sock", "unix:control.sock", "127.0.0.1:8002"
        words = arguments(store="ml-models", state="state", data=data, control=control, http=http)
        serve = [
            (f"model-sidecar {shlex.join(words)} 2>> {place.log.name} &", ""),
            (
                f"until model-sidecar probe liveness --control {control} 2> /dev/null; do sleep 0.2; done",
                "until it is up",
            ),
        ]
    pointer = f"ml-models/{DIGITS}/environments/{PROD}/active.json"
    first = [f"export PATH={shlex.quote(str(binaries))}:$PATH" for binaries in _not_on_path()]
    paper.section("Go on playing")
    for command, remark in (
        *((each, "") for each in first),
        (f"cd {shlex.quote(_as_typed(place.root))}", ""),
        *serve,
        (f"export MODEL_SIDECAR_CONTROL={control}", "so that sidecarctl need not be told"),
        (f"export MODEL_SIDECAR_DATA={data}", ""),
        (f"export MODEL_SIDECAR_ENVIRONMENT={PROD}", ""),
        (f"sidecarctl status {DIGITS}", ""),
        (f"sidecarctl predict {DIGITS} --input {place.example.name}", f"it is a {truth}"),
        (f"sidecarctl deploy {DIGITS} {FIRST.version} --reason 'just looking' --yes", ""),
        (f"sidecarctl rollback {DIGITS} --reason 'seen enough' --yes", ""),
        (f"sidecarctl history {DIGITS}", ""),
        (f'echo \'{{"version": "{FIRST.version}"}}\' > {pointer}', "a flip by hand"),
        (f"model-sidecar verify ml-models/{DIGITS}/{DAMAGED}", "the damaged one"),
        (f"curl http://{http}/statusz", ""),
        *stop,
    ):
        paper.command(command, remark)


def _show_ledger(paper: Paper, records: Sequence[Record]) -> None:
    paper.table(
        ["gen", "action", "version", "by", "reason"],
        [
            [str(each.generation), each.action.value, each.version, each.actor.id, each.reason]
            for each in reversed(records)
        ],
        right=(0,),
    )


def _show_metrics(paper: Paper, sidecar: Sidecar) -> None:
    _, page = sidecar.get("/metrics")
    for line in page.splitlines():
        if line.startswith(_SHOWN_METRICS) and not line.endswith(" 0.0"):
            paper.line(f"    {_SAME_IN_ALL.sub('', line).replace(',}', '}').replace('{}', '')}")


def _judge(scene: Scene, traffic: Traffic, records: Sequence[Record]) -> list[str]:
    paper, moves, refusal = scene.paper, scene.moves, scene.refusal
    answers, failures = traffic.answers(), traffic.failures()
    expected = proof.recompute(scene.store, (FIRST.version, SECOND.version, WORSE.version), scene.stream)
    wrong, late = proof.mistagged(answers, expected), timeline.late(moves, answers)
    verdicts = (
        (not failures, f"failed requests: {len(failures)} of {len(answers) + len(failures):,}"),
        (
            not wrong,
            f"mis-tagged answers: {len(wrong)}; every one was recomputed with the version that it names",
        ),
        (not late, f"answers of a version that a flip or rollback had already replaced: {len(late)}"),
        (
            refusal is not None and refusal.reason == Reason.DIGEST_MISMATCH,
            f"the damaged version was {f'refused: {refusal.reason}' if refusal else 'accepted'}",
        ),
        (
            moves[-1].version == SECOND.version,
            f"the rollback went back to {moves[-1].version}, the last good version",
        ),
        (
            [each.generation for each in reversed(records)] == [each.generation for each in moves],
            f"the ledger holds each of the {len(moves)} acknowledged actions once, and the refused one not at all",
        ),
    )
    paper.section("Promises")
    for held, words in verdicts:
        paper.line(f"    {paper.ink('kept  ', Ink.GOOD) if held else paper.ink('BROKEN', Ink.BAD)}  {words}")
    for each in failures[:3]:
        paper.text(f"failed: {each.message}", Ink.BAD)
    return [words for held, words in verdicts if not held]


def _not_on_path() -> list[Path]:
    """Where the commands are, if a shell would not find them: a virtual environment that was never activated."""
    binaries = Path(sys.executable).parent
    found = shutil.which("model-sidecar")
    there = (binaries / "model-sidecar").exists()
    return [binaries] if there and (not found or Path(found).parent != binaries) else []


def _as_typed(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
