"""The guard at work: sees what the live versions answer, asks the standby, judges every second, and orders the rollback."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from model_sidecar.config import GuardMode, GuardSettings
from model_sidecar.errors import ConflictError, RequestIdReusedError, SidecarError
from model_sidecar.events import GuardDecided, Listener, Site
from model_sidecar.ledger.record import GUARD
from model_sidecar.monitor.guard.case import Case, Ended
from model_sidecar.monitor.guard.comparison import Same
from model_sidecar.monitor.guard.decisions import Decisions, GuardDecision
from model_sidecar.monitor.guard.guard import Hold, Ruling, Situation, Symptom, Verdict, judge, symptoms
from model_sidecar.monitor.guard.guard_records import GuardRecords
from model_sidecar.monitor.guard.mirror import Mirrored, MirrorQueue, Runner, chosen, rest_s
from model_sidecar.monitor.intake import Note
from model_sidecar.monitor.reading import sheet_of
from model_sidecar.monitor.readings import Joined, Readings, Watched, WatchedKey, requests_of
from model_sidecar.release.digests import Digest, digest_of
from model_sidecar.serving.orders import Outcome, RollbackOrder, ToVersion
from model_sidecar.serving.site import ServedSite
from model_sidecar.serving.stage import PREVIOUS, Model, Residents

log = logging.getLogger(__name__)

_TICK_S = 1.0
_WITNESSES_AT_ONCE = 8
_RETRY_S = 30.0
_ORDER_S = 60.0
_IDLE_S = 1.0


class Counters(Protocol):
    """Where the ends of predictions are counted."""

    def ended(self, site: Site, version: str) -> Ended | None:
        """Of this version since it became resident; None where it is not."""
        ...


class Guard:
    """All sites' guard, in a process whose guard is not off. `start` and `stop` are the owner's.

    It is a `monitor.Mirror` and a `TruthObserver`, and no `Observer`: those are shown what callers tell of predictions that were
    made elsewhere, too, and nobody's word is to move a version.
    """

    def __init__(
        self,
        sites: Sequence[ServedSite],
        settings: GuardSettings,
        *,
        counters: Counters,
        same: Same,
        decisions: Decisions,
        on_event: Listener,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Watch these sites.

        Args:
            sites: whose live versions are judged.
            settings: when one is rolled back.
            counters: where failed and slow predictions are counted.
            same: whether a prediction and a truth are one class.
            decisions: where decisions are kept.
            on_event: told of each decision.
            now: the present, aware.
        """
        self._settings = settings
        self._counters = counters
        self._same = same
        self._decisions = decisions
        self._on_event = on_event
        self._now = now
        self._posts = {served.site: _Post(served, GuardRecords(served.ledger)) for served in sites}
        self._queue = MirrorQueue()
        self._runner = Runner()
        self._ending = threading.Event()
        self._threads = (
            threading.Thread(target=self._watch, name="guard", daemon=True),
            threading.Thread(target=self._ask_standbys, name="mirror", daemon=True),
        )

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, *, timeout_s: float) -> None:
        """Judge and run nothing more."""
        self._ending.set()
        self._queue.close()
        self._runner.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout_s)

    # On the monitor's and the log's threads.

    def mirror(self, watched: Watched, notes: Sequence[Note], readings: Readings) -> None:
        """Look at what the live version answered, and let a sample of it be asked of the standby."""
        case = self._case(watched.site, watched.manifest)
        if case is not None:
            requests = requests_of(readings)
            case.observe(readings, requests)
            besides = _WITNESSES_AT_ONCE if case.wants_witnesses else 0
            share = self._settings.shadow_sample
            self._queue.offer(chosen(watched, notes, requests, share=share, besides=besides))

    def mirror_failed(self, watched: Watched, note: Note) -> None:
        """Let the standby be asked what the live version has failed on, while its word is wanted."""
        case = self._case(watched.site, watched.manifest)
        if case is not None and case.wants_failures:
            self._queue.offer([Mirrored(watched, note, sampled=False)])

    def joined(self, key: WatchedKey, rows: Sequence[Joined]) -> None:
        """Learn what was true of its predictions."""
        case = self._case(key.site, key.manifest)
        if case is not None:
            case.joined(rows, same=self._same)

    def _case(self, site: Site, manifest: Digest) -> Case | None:
        post = self._posts.get(site)
        case = post.case if post is not None else None
        return case if case is not None and case.sheet.watched.manifest == manifest else None

    # On the mirror's thread.

    def _ask_standbys(self) -> None:
        while not self._queue.closed:
            mirrored = self._queue.take(timeout_s=_IDLE_S)
            if mirrored is None:
                continue
            began = time.perf_counter()
            try:
                site = mirrored.watched.site
                case = self._case(site, mirrored.watched.manifest)
                if case is None:
                    continue  # it is not live any more
                with self._posts[site].served.stage.lease(PREVIOUS) as lease:
                    ran = self._runner.run(lease.model, mirrored.note)
                    standby = lease.model.manifest.digest
                if not self._queue.closed:
                    case.pair(standby, mirrored.note, ran, sampled=mirrored.sampled)
            except SidecarError:
                pass  # nothing stands by
            except Exception:
                log.exception("a mirrored request could not be compared; the guard goes on")
            self._queue.pause(rest_s(time.perf_counter() - began))

    # On the guard's thread.

    def _watch(self) -> None:
        while not self._ending.wait(_TICK_S):
            for post in self._posts.values():
                try:
                    self._look(post)
                except Exception:
                    log.exception("the guard could not judge %s", post.served.site)

    def _look(self, post: _Post) -> None:
        served = post.served
        residents = served.stage.residents()
        live = residents.live
        if live is None:
            post.case = None
            return
        case = post.case
        # By the moment, too: a version that is back after another was live for less than a look is a new case.
        if case is None or (case.sheet.watched.manifest, post.since) != (
            live.manifest.digest,
            residents.live_since,
        ):
            post.since = residents.live_since
            post.case = self._open(served.site, live, residents.standby)
            return
        ended = self._counters.ended(served.site, live.version)
        if ended is not None:
            case.count(ended)
        target = residents.standby
        facts = case.facts(target.manifest.digest if target is not None else None)
        found = symptoms(facts, self._settings, has_standby=target is not None)
        if not found:
            return
        situation = self._situation(post, residents, live)
        verdict = judge(found, facts, situation, self._settings.mode)
        if verdict is None:
            return
        if verdict.ruling is Ruling.ROLL_BACK:
            self._roll_back(post, verdict.symptom, situation)
        else:
            self._decide(post, verdict, situation)

    def _open(self, site: Site, live: Model, standby: Model | None) -> Case:
        return Case(
            sheet_of(site, live, None),
            self._settings,
            before=self._counters.ended(site, live.version) or Ended(),
            previous=self._counters.ended(site, standby.version) if standby is not None else None,
        )

    def _situation(self, post: _Post, residents: Residents, live: Model) -> Situation:
        served, records = post.served, post.records
        head, good, standby = served.ledger.head, served.ledger.previous_good(), residents.standby
        records.refresh()
        return Situation(
            live=live.version,
            live_manifest=live.manifest.digest,
            generation=residents.generation,
            head=head.generation if head is not None else 0,
            externally_managed=served.board.current().externally_managed,
            target=standby.version if standby is not None else None,
            target_manifest=standby.manifest.digest if standby is not None else None,
            previous_good=good.manifest_sha256 if good is not None else None,
            rolled_back=frozenset(records.rolled_back),
            cooldown_left_s=records.cooldown_left_s(self._settings.cooldown_s, now=self._now()),
        )

    def _roll_back(self, post: _Post, symptom: Symptom, at: Situation) -> None:
        if time.monotonic() < post.retry_at:
            return
        assert at.target is not None, "the judgement has seen to it"
        order = RollbackOrder(
            actor=GUARD,
            reason=f"{symptom.trigger}: {symptom.says} (evidence 10^{symptom.evidence_log10:.1f})",
            source_commit="",
            # Of N guards that judge the same generation, one rolls back, and the others are told that it is done.
            request_id=f"guard-{at.generation}-{digest_of(f'{at.live_manifest} {at.target_manifest}'.encode())[-32:]}",
            expected_generation=at.generation,
            target=ToVersion(at.target),
        )
        try:
            outcome = self._ordered(post.served, order)
        except (ConflictError, RequestIdReusedError) as error:
            post.retry_at = time.monotonic() + _TICK_S
            self._tell(post, symptom, at, decision=Ruling.HELD, why="overtaken", note=str(error))
        except (SidecarError, TimeoutError) as error:
            post.retry_at = time.monotonic() + _RETRY_S
            self._tell(post, symptom, at, decision="failed", why=type(error).__name__, note=str(error))
        else:
            generation = outcome.record.generation
            if outcome.replayed:
                note = f"another sidecar's guard has rolled it back already, as generation {generation}"
                self._tell(post, symptom, at, decision=Ruling.HELD, why="done", note=note)
            else:
                note = f"rolled back to {at.target} in {outcome.took_s * 1000:.1f} ms, as generation {generation}"
                self._tell(post, symptom, at, decision="rolled_back", why="", note=note)

    def _ordered(self, served: ServedSite, order: RollbackOrder) -> Outcome:
        future: Future[Outcome] = served.orders.submit(order)
        return future.result(_ORDER_S)

    def _decide(self, post: _Post, verdict: Verdict, at: Situation) -> None:
        hold = verdict.hold
        note = (
            f"not rolled back: {hold.value}" if hold is not None else f"would be rolled back to {at.target}"
        )
        self._tell(post, verdict.symptom, at, decision=verdict.ruling, why=hold or "", note=note)

    def _tell(
        self, post: _Post, symptom: Symptom, at: Situation, *, decision: str, why: Hold | str, note: str
    ) -> None:
        """Keep the decision and let everybody know, once for each version, generation, trigger and reason."""
        site = post.served.site
        told = (at.live_manifest, at.generation, symptom.trigger, decision, why)
        if told in post.told:
            return
        post.told.add(told)
        made = GuardDecision(
            time=self._now(),
            decision=str(decision),
            trigger=symptom.trigger.value,
            version=at.live,
            target=at.target or "",
            generation=at.generation or 0,
            evidence_log10=symptom.evidence_log10,
            message=f"{symptom.says}: {note}",
        )
        if self._settings.mode is GuardMode.DRY_RUN and _was_told(self._decisions.recent(site), made):
            return  # before a restart
        self._decisions.add(site, made)
        self._on_event(
            GuardDecided(
                site=site,
                version=at.live,
                manifest=at.live_manifest,
                decision=made.decision,
                trigger=made.trigger,
                target=at.target,
                generation=at.generation,
                evidence_log10=made.evidence_log10,
                message=made.message,
            )
        )


def _was_told(recent: Sequence[GuardDecision], made: GuardDecision) -> bool:
    return any(
        (each.version, each.generation, each.trigger, each.decision)
        == (made.version, made.generation, made.trigger, made.decision)
        for each in recent
    )


@dataclass(slots=True)
class _Post:
    """One site under guard. The fields are the guard's thread's; others read `case`, which is replaced as a whole."""

    served: ServedSite
    records: GuardRecords
    case: Case | None = None
    since: datetime | None = None
    retry_at: float = 0.0
    told: set[tuple[object, ...]] = field(default_factory=set)
