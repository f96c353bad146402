"""The only one that changes what is live: one thread that carries out what the pointer, the ledger and operators want.

It never loads: verifying, loading and warming are the loader's, so that a rollback to the standby is done in
milliseconds while a large candidate is still on its way. A failure before `publish` leaves the live model alone.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import assert_never

from model_sidecar.errors import Reason, SidecarError
from model_sidecar.events import Listener, LoadStarted, Prepared, Site
from model_sidecar.ledger.reconcile import Adopt, Follow, Nothing, Unreadable
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version
from model_sidecar.serving.desk import OrderDesk
from model_sidecar.serving.emergency import Emergency
from model_sidecar.serving.flip import Flip
from model_sidecar.serving.in_hand import Accepted, Ordered
from model_sidecar.serving.loading import Loader, Preparation, ShadowWish
from model_sidecar.serving.orders import DeployOrder, Outcome, RollbackOrder, is_emergency
from model_sidecar.serving.policy import Refusal
from model_sidecar.serving.pursuit import Pursuit
from model_sidecar.serving.reserve import Reserve, Spare
from model_sidecar.serving.scribe import Scribe
from model_sidecar.serving.source import Sighting, Unseen
from model_sidecar.serving.status import StatusBoard, compose
from model_sidecar.serving.troubles import Troubles
from model_sidecar.serving.wishes import Wishes

log = logging.getLogger(__name__)

_ONLY_HERE = "the emergency rollback that is in effect is lost if this process ends before the store is back"
_READ_ONLY = (
    "the store is read-only here: the ledger's head is followed, orders are refused, and a hand edit waits for a sidecar "
    "that may write"
)
_ROOM_S = 30.0
"""How long the loader waits for the manager, who commits in between."""


@dataclass(frozen=True, slots=True)
class _Sighted:
    """There is a newer sighting."""


@dataclass(frozen=True, slots=True)
class _Load:
    """What the loader is doing, and whom it is for: an order, a wish (and how it will have been refused), nobody."""

    version: Version
    purpose: Accepted | Refusal | Spare
    overtaken: threading.Event = field(default_factory=threading.Event)

    def is_over(self) -> bool:
        """Whether it need not go on to run beside the live version: something else goes first, or nobody waits for it."""
        given_up = isinstance(self.purpose, Accepted) and self.purpose.ordered.future.cancelled()
        return given_up or self.overtaken.is_set()


@dataclass(frozen=True, slots=True)
class _Done:
    """What came of a load."""

    load: _Load
    result: Preparation | SidecarError


@dataclass(frozen=True, slots=True)
class _Short:
    """The loader has no room for what it loads; whether anything was given up for it."""

    load: _Load
    gave: Future[bool]


@dataclass(frozen=True, slots=True)
class _Stop:
    """End."""


_Message = _Sighted | Ordered | _Done | _Short | _Stop


class Manager:
    """One site's manager. `sighted`, `submit` and `stop` may be called from any thread."""

    def __init__(
        self,
        site: Site,
        *,
        flip: Flip,
        scribe: Scribe,
        emergency: Emergency,
        loader: Loader,
        board: StatusBoard,
        keep_standby: bool,
        may_give_way: bool = False,
        on_event: Listener,
    ) -> None:
        self._site = site
        self._flip = flip
        self._scribe = scribe
        self._ledger = scribe.ledger
        self._emergency = emergency
        self._loader = loader
        self._board = board
        self._may_give_way = may_give_way
        self._on_event = on_event
        self._look_again: Callable[[], None] = lambda: None

        self._inbox: queue.PriorityQueue[tuple[int, int, _Message]] = queue.PriorityQueue()
        self._numbers = count()
        # A slot, not a queue: of forty flips in two seconds the last counts.
        self._news: Sighting | Unseen | None = None
        self._thread = threading.Thread(target=self._run, name=f"manager-{site.model}", daemon=True)

        # The thread's own.
        self._stopping = False
        self._last_look: float | None = None
        self._wishes = Wishes(scribe.ledger, emergency)
        self._troubles = Troubles(site, on_event=on_event)
        self._pursuit = Pursuit(
            wishes=self._wishes, flip=flip, troubles=self._troubles, look_again=self._look_soon
        )
        self._desk = OrderDesk(flip=flip, scribe=scribe, emergency=emergency, report=self._order_refused)
        self._reserve = Reserve(scribe.ledger, keep_standby=keep_standby)
        self._loading: _Load | None = None
        self._told_empty = False
        self._pointer_problem: Reason | None = None

    def start(self, *, look_again: Callable[[], None]) -> None:
        """Begin. `look_again` makes the source look soon."""
        self._look_again = look_again
        self._thread.start()

    def sighted(self, news: Sighting | Unseen) -> None:
        """What the source saw, or that it could not. Only the newest counts."""
        self._news = news
        self._put(_Sighted())

    def submit(self, order: DeployOrder | RollbackOrder) -> Future[Outcome]:
        """Take an order. The future ends once this sidecar serves the target, or with one of our errors."""
        ordered = Ordered(order, Future())
        urgent = is_emergency(order)
        self._put(ordered, first=urgent)
        if urgent:
            self._scribe.hurry()
        if not self._thread.is_alive():
            self._turn_away_the_late()
        return ordered.future

    def stop(self, *, timeout_s: float) -> None:
        """Change nothing any more; orders that are under way end with UnavailableError."""
        self._put(_Stop())
        self._thread.join(timeout_s)
        self._scribe.close()
        self._loader.stop()
        self._turn_away_the_late()

    def _put(self, message: _Message, *, first: bool = False) -> None:
        self._inbox.put((0 if first else 1, next(self._numbers), message))

    def _run(self) -> None:
        if (record := self._emergency.recall(self._ledger)) is not None:
            self._wishes.hold(record)
        while not self._stopping:
            _, _, message = self._inbox.get()
            try:
                self._handle(message)
                self._advance()
            except Exception as error:
                log.exception("the manager met an error that it has no name for; what is live answers on")
                if isinstance(message, Ordered):
                    message.fail(error)
            self._post()

    def _handle(self, message: _Message) -> None:
        match message:
            case _Sighted():
                self._take_in_news(self._news)
            case Ordered():
                self._record_what_waits()  # first: what this order is about is what stands then
                self._desk.accept(message)
            case _Done(load=load, result=result):
                self._loading = None
                self._loaded(load.purpose, result)
            case _Short(load=load, gave=gave):
                gave.set_result(load is self._loading and self._make_room())
            case _Stop():
                self._stopping = True
                if self._loading is not None:
                    self._loading.overtaken.set()
                if self._loading is not None and isinstance(self._loading.purpose, Accepted):
                    self._desk.turn_away(self._loading.purpose.ordered)
                self._desk.close()
                self._emergency.close()
                self._flip.forget_candidate()
            case _:
                assert_never(message)

    def _take_in_news(self, news: Sighting | Unseen | None) -> None:
        match news:
            case Sighting(decision=Adopt()) if news.at < self._flip.shown_at:
                # It may be of an edit that a commit has replaced since: seen between the record and the pointer, it would
                # look newer than the record.
                self._look_soon()
            case Sighting():
                self._last_look = news.at
                self._troubles.seen()
                self._record_what_waits()
                self._take_in(news)
            case Unseen(problem=problem):
                self._troubles.unseen(problem)
                self._wishes.remember()
            case None:
                raise AssertionError("news is stored before it is announced")

    def _take_in(self, sighting: Sighting) -> None:
        # A live version that gave way to a wish counts as if it still answered: the wish is not to be forgotten for it.
        owed = self._reserve.owed
        live_generation = owed.generation if owed is not None else self._flip.residents().generation
        problem = self._wishes.take_in(sighting, live_generation=live_generation)
        if problem is not None:
            self._pointer_problem = problem.reason
            self._refused(problem, None)
        elif not isinstance(sighting.decision, Unreadable) and self._pointer_problem is not None:
            self._troubles.over(self._pointer_problem)
            self._pointer_problem = None
        if isinstance(sighting.decision, Nothing) and not self._told_empty:
            self._told_empty = True
            log.info(
                "%s has no active pointer yet: deploy a version with `sidecarctl deploy`, or write one",
                self._site,
            )
        lags = isinstance(sighting.decision, Follow) and sighting.decision.rewrite_face
        self._troubles.hindered(self._scribe.rewrite_face() if lags else _READ_ONLY * sighting.read_only)

    def _record_what_waits(self) -> None:
        """The store can be read: perhaps it can be written again, too."""
        if self._emergency.waiting is None:
            return
        waiting = self._emergency.waiting.record
        try:
            record = self._flip.commit_late(waiting)
        except SidecarError as error:
            self._troubles.tell_once(error, version=waiting.version, generation=None)
            return
        self._emergency.over()
        self._troubles.over()
        self._wishes.follow(record)

    # What to do about it.

    def _advance(self) -> None:
        """Do everything that can be done now, and begin at most one load."""
        if self._stopping:
            return
        while (next_ready := self._desk.next_ready()) is not None:
            self._carry_out(*next_ready)
        to_load = self._pursuit.step()
        if self._loading is None and to_load is not None:
            self._load(to_load, to_load.wanted.version, to_load.wanted.manifest)
        if self._loading is None and (accepted := self._desk.next_to_load()) is not None:
            self._load(accepted, accepted.target.version, accepted.target.manifest)
        if self._loading is None and (spare := self._reserve.wanted(self._flip.residents())) is not None:
            self._load(spare, spare.version, spare.manifest)
        if self._loading is not None and isinstance(self._loading.purpose, Accepted):  # noqa: SIM102 - two thoughts
            # A shadow may take minutes; whatever else is wanted meanwhile goes first. To a load without one it says nothing.
            if to_load is not None or self._desk.is_overtaken(self._loading.purpose):
                self._loading.overtaken.set()

    def _carry_out(self, accepted: Accepted, ready: Preparation) -> None:
        done = self._desk.carry_out(accepted, ready)
        if done is None:
            self._look_soon()
            return
        since = accepted.ordered.order.received
        if done.no_store:
            self._emergency.hold(done.record, why=done.no_store)
            self._wishes.hold(done.record)
        else:
            self._wishes.follow(done.head)
        self._pursuit.publish(done.ready, since=since)
        self._post()  # before the answer: who then asks for the status must find what was just told
        took_s = time.monotonic() - since
        accepted.ordered.answer(
            Outcome(
                done.record,
                took_s,
                replayed=done.replayed,
                pending=bool(done.no_store),
                shadow=None if done.replayed else ready.shadow,
            )
        )

    # Loading.

    def _load(self, purpose: Accepted | Refusal | Spare, version: Version, manifest: Digest | None) -> None:
        load = self._loading = _Load(version, purpose)
        plan = purpose.shadow if isinstance(purpose, Accepted) else None
        self._on_event(LoadStarted(self._site, version))
        self._loader.start(
            version,
            manifest=manifest,
            done=lambda result: self._put(_Done(load, result)),
            ordered=isinstance(purpose, Accepted),
            make_room=partial(self._short, load) if self._may_give_way and _is_meant(purpose) else None,
            shadow=ShadowWish(plan, load.is_over) if plan is not None else None,
        )
        self._post()

    def _short(self, load: _Load) -> bool:
        """On the loader's thread: have room made for what it loads."""
        short = _Short(load, Future())
        self._put(short)
        try:
            return short.gave.result(_ROOM_S)
        except TimeoutError:  # the manager has ended
            return False

    def _make_room(self) -> bool:
        before = self._flip.residents()
        if before.live is None or self._stopping:
            return False
        left = self._flip.make_room()
        if left is not None and left.live is not None:
            self._reserve.gave_way(left.live.version, left.live.manifest.digest, generation=left.generation)
        return True

    def _loaded(self, purpose: Accepted | Refusal | Spare, result: Preparation | SidecarError) -> None:
        if isinstance(result, Preparation):
            model = result.model
            self._on_event(
                Prepared(
                    self._site, model.version, model.manifest.digest, result.phases_s, result.golden_examples
                )
            )
        match purpose, result:
            case Accepted(), Preparation():
                self._carry_out(purpose, result)
            case Accepted(), SidecarError():
                self._desk.refuse_load(purpose, result)
            case Refusal(), Preparation():
                self._flip.keep(result)
            case Refusal(), SidecarError():
                self._pursuit.refuse(purpose, result, at_a_price=self._reserve.owed is not None)
                self._reserve.note(result.reason, generation=purpose.wanted.generation)
            case Spare(), Preparation():
                self._place(purpose, result)
            case Spare(), SidecarError():
                log.warning("%s cannot stand by for the head: %s", purpose.version, result)

    def _place(self, spare: Spare, ready: Preparation) -> None:
        if self._flip.residents().live is None:
            log.warning("%s answers in the head's place, which cannot be loaded", spare.version)
            self._flip.publish(ready, generation=spare.generation, since=time.monotonic())
        else:
            self._flip.stand_by(ready.model, generation=spare.generation)

    def _look_soon(self) -> None:
        self._look_again()

    def _order_refused(self, error: SidecarError, version: Version | None) -> None:
        wanted = self._wishes.wanted
        generation = wanted.generation if wanted else None
        self._troubles.order_refused(error, version=version, generation=generation)
        self._post()  # before the answer, as where it was carried out

    def _refused(self, error: SidecarError, version: Version | None) -> None:
        wanted = self._wishes.wanted
        self._troubles.tell(error, version=version, generation=wanted.generation if wanted else None)

    # The end, and what others see.

    def _turn_away_the_late(self) -> None:
        while not self._inbox.empty():
            _, _, message = self._inbox.get()
            if isinstance(message, Ordered):
                self._desk.turn_away(message)

    def _post(self) -> None:
        residents, waiting = self._flip.residents(), self._emergency.waiting
        only_here = waiting.only_here if waiting is not None else ""
        self._troubles.unrecorded(f"{_ONLY_HERE}: {only_here}" if only_here else "")
        self._board.post(
            compose(
                self._board.current(),
                wanted=self._wishes.wanted,
                residents=residents,
                record=self._ledger.record(residents.generation) if residents.generation else None,
                loading=self._loading.version if self._loading else None,
                trouble=self._troubles.current,
                externally_managed=self._wishes.externally_managed,
                unrecorded=waiting.record.version if waiting else None,
                last_look=self._last_look,
            )
        )


def _is_meant(purpose: Accepted | Refusal | Spare) -> bool:
    """Whether the version is to be live at once, and not only to stand by, to be looked at, or to run beside the live one."""
    if isinstance(purpose, Accepted):
        return not purpose.ordered.order.validate_only and purpose.shadow is None
    return isinstance(purpose, Refusal)
