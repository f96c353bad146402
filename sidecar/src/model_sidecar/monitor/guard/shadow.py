"""A candidate beside the live version before it may take its place: the same requests, off their path, and a verdict."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from model_sidecar.errors import NotFoundError, Reason, RefusedError, UnavailableError
from model_sidecar.events import Site
from model_sidecar.monitor.guard.comparison import Compared, Comparison, Ran
from model_sidecar.monitor.guard.mirror import Mirrored, MirrorQueue, Runner, rest_s
from model_sidecar.monitor.intake import Note
from model_sidecar.monitor.reading import sheet_of
from model_sidecar.monitor.readings import Readings, Watched
from model_sidecar.serving.orders import ShadowPlan, ShadowReport
from model_sidecar.serving.stage import Model, Stage

_LOOK_S = 0.1
_EARLY_ARL = 1e5
"""In pairs: a candidate at the very limit is given up before the end once in so many."""
_SLOWER_S = 1e-4
"""What is less than this apart is as quick: around a model, a call costs as much."""


class Shadows:
    """Runs candidates on what is noted. A `monitor.Mirror`; `run` is the loader's thread's of each site."""

    def __init__(self) -> None:
        self._queues: dict[Site, MirrorQueue] = {}

    def mirror(self, watched: Watched, notes: Sequence[Note], readings: Readings) -> None:
        """Let the candidate of this site, if there is one, be asked the same."""
        del readings
        queue = self._queues.get(watched.site)
        if queue is not None:
            queue.offer([Mirrored(watched, note, sampled=True) for note in notes])

    def mirror_failed(self, watched: Watched, note: Note) -> None:
        """What the live version has failed on is no measure for a candidate."""

    def run(
        self, site: Site, stage: Stage, candidate: Model, plan: ShadowPlan, *, is_over: Callable[[], bool]
    ) -> ShadowReport:
        """What the candidate makes of the live version's requests, for as long as the plan says.

        Both are run, one after the other and in turns first, so that their times are of the same moments and threads.

        Raises:
            RefusedError: SHADOW_FAILED: it is beyond the plan's limits (at once, where that is certain), too few requests came,
                there is nothing to be compared with, or `is_over` said that something else is wanted now.
        """
        live = stage.residents().live
        if live is None:
            raise _refused(
                candidate, "nothing is live that it could be compared with: deploy it without a shadow"
            )
        breaks = candidate.signature.breaks_from(live.signature)
        if breaks:
            raise _refused(
                candidate,
                f"it does not take the requests of {live.version} ({'; '.join(breaks)}): deploy it without a shadow",
            )
        comparison = Comparison(
            sheet_of(site, live, None),
            max_disagreement=plan.max_disagreement,
            failures_differ=True,
            arl=_EARLY_ARL,
        )
        queue = self._queues[site] = MirrorQueue()
        runner = Runner()
        try:
            began = time.monotonic()
            while (left_s := began + plan.duration_s - time.monotonic()) > 0:
                if is_over():
                    raise _refused(
                        candidate,
                        "it was ended by another order, or by an edit of the pointer, which go first",
                    )
                mirrored = queue.take(timeout_s=min(_LOOK_S, left_s))
                if mirrored is None or mirrored.watched.manifest != live.manifest.digest:
                    continue
                worked = time.perf_counter()
                _compare(comparison, runner, mirrored.note, candidate, partial(_again, runner, stage, live))
                compared = comparison.compared()
                if compared.failed or compared.disagreement_convinced:
                    break
                _rest(rest_s(time.perf_counter() - worked), until=began + plan.duration_s, is_over=is_over)
            return _judged(comparison.compared(), plan, live, candidate, seconds=time.monotonic() - began)
        finally:
            del self._queues[site]
            queue.close()
            runner.stop()


def _compare(
    comparison: Comparison,
    runner: Runner,
    note: Note,
    candidate: Model,
    again: Callable[[Note], float | None],
) -> None:
    candidate_first = comparison.asked % 2 == 0
    ran = runner.run(candidate, note) if candidate_first else None
    live_s = again(note)
    comparison.add(note, ran or runner.run(candidate, note), live_s=live_s)


def _again(runner: Runner, stage: Stage, live: Model, note: Note) -> float | None:
    """How long the live version takes for this; None where it is no longer there."""
    try:
        with stage.lease(live.version) as lease:
            ran: Ran = runner.run(lease.model, note)
            return ran.seconds if lease.model is live and ran.outputs is not None else None
    except (NotFoundError, UnavailableError):
        return None


def _rest(seconds: float, *, until: float, is_over: Callable[[], bool]) -> None:
    ends = min(time.monotonic() + seconds, until)
    nobody = threading.Event()
    while (left_s := ends - time.monotonic()) > 0 and not is_over():
        nobody.wait(min(_LOOK_S, left_s))


def _judged(
    compared: Compared, plan: ShadowPlan, live: Model, candidate: Model, *, seconds: float
) -> ShadowReport:
    report = ShadowReport(
        against=live.version,
        compared=compared.compared,
        disagreed=round(compared.disagreed),
        failed=compared.failed,
        median_ms=compared.other_median_s * 1000,
        against_median_ms=compared.median_s * 1000,
        mean_confidence=compared.other_confidence,
        against_mean_confidence=compared.confidence,
        seconds=seconds,
    )
    says = _beyond(compared, plan)
    if says:
        raise _refused(candidate, f"{says}. {figures(report)}", report)
    return report


def _beyond(compared: Compared, plan: ShadowPlan) -> str:
    """Which of the plan's limits it is beyond; "" for none."""
    if compared.failed:
        return f"it failed on a request that the live version has answered: {compared.last_problem}"
    if compared.compared < plan.min_predictions and not compared.disagreement_convinced:
        return (
            f"only {compared.compared} predictions were compared, and {plan.min_predictions} are asked for: let it run for longer, "
            "while there is traffic"
        )
    if compared.disagreement > plan.max_disagreement:
        return f"{compared.disagreement:.1%} of its predictions differ, and {plan.max_disagreement:.1%} may"
    slower_s = compared.other_median_s - compared.median_s
    if slower_s > _SLOWER_S and compared.other_median_s > plan.max_slowdown * compared.median_s:
        times = compared.other_median_s / compared.median_s
        return f"it takes {times:.1f} times as long, and {plan.max_slowdown:g} times are allowed"
    return ""


def figures(report: ShadowReport) -> str:
    """The report as one sentence."""
    told = (
        f"Beside {report.against} for {report.seconds:.0f} s: {report.compared} compared, {report.disagreed} differ, {report.failed} "
        f"failed; median run {report.median_ms:.3g} ms against {report.against_median_ms:.3g} ms"
    )
    if math.isfinite(report.mean_confidence):
        told += f"; mean confidence {report.mean_confidence:.3f} against {report.against_mean_confidence:.3f}"
    return told


def _refused(candidate: Model, why: str, report: ShadowReport | None = None) -> RefusedError:
    facts = (
        {
            "against": report.against,
            "compared": report.compared,
            "disagreed": report.disagreed,
            "failed": report.failed,
        }
        if report
        else {}
    )
    return RefusedError(
        f"the shadow of version {candidate.version} failed: {why}",
        reason=Reason.SHADOW_FAILED,
        version=candidate.version,
        **facts,
    )
