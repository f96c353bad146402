"""The manager with a real ledger and pointer on disk: what is wanted becomes live, and what fails leaves all alone."""

from __future__ import annotations

import errno
import json
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import pytest
from support.resident import Shelf, manifest_of

from model_sidecar.app.ledgers import open_ledger
from model_sidecar.errors import (
    ConflictError,
    NotFoundError,
    Reason,
    RefusedError,
    SidecarError,
    StoreError,
    UnavailableError,
    VerificationError,
)
from model_sidecar.events import (
    Committed,
    Event,
    LoadStarted,
    Published,
    Refused,
    Released,
    Site,
    StandbyReady,
    StoreRead,
)
from model_sidecar.ledger.ledger import Commit, Intent, Look
from model_sidecar.ledger.pending import PendingFile
from model_sidecar.ledger.reconcile import Adopt
from model_sidecar.ledger.record import Action, Actor, Record
from model_sidecar.release.digests import digest_of
from model_sidecar.release.names import Environment, ModelName, Version
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec
from model_sidecar.serving import pursuit
from model_sidecar.serving.emergency import Emergency
from model_sidecar.serving.flip import Flip
from model_sidecar.serving.janitor import Janitor
from model_sidecar.serving.loading import Loader
from model_sidecar.serving.manager import Manager
from model_sidecar.serving.orders import (
    DeployOrder,
    Outcome,
    RollbackOrder,
    RollbackTarget,
    ShadowPlan,
    ToGeneration,
    ToPrevious,
    ToVersion,
)
from model_sidecar.serving.patience import Patience
from model_sidecar.serving.scribe import Scribe
from model_sidecar.serving.source import Source
from model_sidecar.serving.stage import Stage
from model_sidecar.serving.status import Standing, State, Status, StatusBoard
from model_sidecar.store.layout import Layout

SITE = Site(ModelName("adder"), Environment("prod"))
A, B, C = Version("2024.01.10.prod"), Version("2024.01.12.prod"), Version("2024.01.15.prod")
ANA = Actor(id="ana", method="unix-peer", on_behalf_of="")
WAIT_S = 20.0
WIDER = Signature((TensorSpec("x", Datatype.FP32, (-1, 3)),), (TensorSpec("y", Datatype.FP32, (-1, 3)),))


class Running:
    """A site under a manager, with everything real but the models."""

    def __init__(
        self,
        root: Path,
        shelf: Shelf,
        *,
        keep_standby: bool = True,
        sidecar: str = "one",
        poll_interval_s: float = 0.05,
        pending: PendingFile | None = None,
    ) -> None:
        self.shelf = shelf
        layout = Layout(root)
        layout.model(SITE.model).mkdir(parents=True, exist_ok=True)
        self.pointer = layout.pointer(SITE.model, SITE.environment)
        self.events: queue.Queue[Event] = queue.Queue()
        self.live_when_told: dict[type[Event], Version | None] = {}
        self.ledger = open_ledger(layout, SITE.model, SITE.environment, sidecar_id=sidecar)
        self.janitor = Janitor(on_event=self.tell)
        self.stage = Stage(
            keep_standby=keep_standby, on_idle=lambda model: self.janitor.release(model, site=SITE)
        )
        self.board = StatusBoard(Status(site=SITE, sidecar=sidecar))
        scribe = Scribe(self.ledger, Patience("ledger"))
        flip = Flip(
            SITE,
            stage=self.stage,
            scribe=scribe,
            signature_of=shelf.signatures.get,
            janitor=self.janitor,
            on_event=self.tell,
        )
        self.manager = Manager(
            SITE,
            flip=flip,
            scribe=scribe,
            emergency=Emergency(pending),
            loader=Loader(shelf.prepare, name="load"),
            board=self.board,
            keep_standby=keep_standby,
            on_event=self.tell,
        )
        self.source = Source(
            SITE,
            ledger=self.ledger,
            fingerprint=shelf.fingerprint,
            deliver=self.manager.sighted,
            before_look=lambda: None,
            on_event=self.tell,
            poll_interval_s=poll_interval_s,
        )

    def tell(self, event: Event) -> None:
        live = self.stage.residents().live
        self.live_when_told[type(event)] = live.version if live is not None else None
        self.events.put(event)

    def start(self) -> Running:
        self.manager.start(look_again=self.source.wake)
        self.source.start()
        return self

    def stop(self) -> None:
        self.source.stop(timeout_s=WAIT_S)
        self.manager.stop(timeout_s=WAIT_S)
        self.stage.clear()
        self.janitor.stop()

    def order_deploy(self, version: Version, request_id: str = "", **settings: object) -> Future[Outcome]:
        return self.manager.submit(
            DeployOrder(
                actor=ANA,
                reason="because",
                source_commit="abc",
                request_id=request_id or f"deploy-{version}-{id(settings)}-{len(self.shelf.loaded)}",
                version=version,
                **settings,  # type: ignore[arg-type]
            )
        )

    def deploy(self, version: Version, **settings: object) -> Outcome:
        return self.order_deploy(version, **settings).result(WAIT_S)  # type: ignore[arg-type]

    def order_rollback(self, target: RollbackTarget | None = None, **settings: object) -> Future[Outcome]:
        order = RollbackOrder(
            actor=ANA,
            reason="it was wrong",
            source_commit="",
            request_id=f"rollback-{id(settings)}-{self.generation}",
            target=target or ToPrevious(),
            **settings,  # type: ignore[arg-type]
        )
        return self.manager.submit(order)

    def rollback(self, target: RollbackTarget | None = None, **settings: object) -> Outcome:
        return self.order_rollback(target, **settings).result(WAIT_S)

    def pointed_at(self) -> str:
        version: str = json.loads(self.pointer.read_bytes())["version"]
        return version

    def edit(self, version: str, **fields: object) -> None:
        self.pointer.parent.mkdir(parents=True, exist_ok=True)
        self.pointer.write_text(json.dumps({"version": version, **fields}))
        self.source.wake()

    def wait(self, **expected: object) -> Status:
        """The first status in which all of this is so: live, standby, state, error."""
        status = self.board.current()
        while not self._is(status, expected):
            newer = self.board.wait_newer(status.revision, timeout_s=WAIT_S)
            assert newer is not None, f"never saw {expected}; last: {status}"
            status = newer
        return status

    def wait_event(self, kind: type[Event]) -> Event:
        while True:
            event = self.events.get(timeout=WAIT_S)
            if isinstance(event, kind):
                return event

    def _is(self, status: Status, expected: dict[str, object]) -> bool:
        seen = {
            "live": status.observed.version if status.observed else None,
            "generation": status.observed.generation if status.observed else None,
            "desired": status.desired.version if status.desired else None,
            "standby": next((each.version for each in status.resident if each.role == "standby"), None),
            "state": status.state,
            "error": status.last_error.reason if status.last_error else None,
        }
        return all(seen[name] == value for name, value in expected.items())

    @property
    def live(self) -> str | None:
        model = self.stage.residents().live
        return model.version if model else None

    @property
    def generation(self) -> int | None:
        return self.stage.residents().generation


@pytest.fixture
def shelf() -> Shelf:
    shelf = Shelf()
    for version in (A, B, C):
        shelf.put(version)
    return shelf


@pytest.fixture
def running(tmp_path: Path, shelf: Shelf) -> Iterator[Running]:
    site = Running(tmp_path, shelf).start()
    yield site
    site.stop()


def test_before_the_first_deployment_nothing_is_served_and_nothing_is_wrong(running: Running) -> None:
    """An empty store is a normal start."""
    status = running.wait(state=State.NOT_SERVING)

    assert status.last_error is None
    assert running.live is None


def test_a_deploy_is_recorded_and_live_when_it_is_answered(running: Running) -> None:
    """When Deploy answers, this sidecar serves the version, and the record names who and why."""
    outcome = running.deploy(A)

    assert running.live == A
    assert (outcome.record.generation, outcome.record.version, outcome.record.action) == (1, A, Action.DEPLOY)
    assert (outcome.record.actor, outcome.record.reason, outcome.record.source_commit) == (
        ANA,
        "because",
        "abc",
    )
    assert json.loads(running.pointer.read_text())["generation"] == 1
    assert running.board.current().state is State.READY


def test_a_rollback_takes_the_standby_and_loads_nothing(running: Running) -> None:
    """Going back to the version before is a swap of what is in memory."""
    running.deploy(A)
    running.deploy(B)
    loads = len(running.shelf.loaded)

    outcome = running.rollback()

    assert (running.live, running.generation) == (A, 3)
    assert (outcome.record.action, outcome.record.previous_version) == (Action.ROLLBACK, B)
    assert len(running.shelf.loaded) == loads


def test_a_rollback_of_a_rollback_goes_further_back(running: Running) -> None:
    """The version that was rolled away from is never what a plain rollback returns to."""
    for version in (A, B, C):
        running.deploy(version)

    assert running.rollback().record.version == B
    assert running.rollback().record.version == A
    with pytest.raises(RefusedError) as refused:
        running.rollback()
    assert refused.value.reason is Reason.NO_PREVIOUS_VERSION


def test_where_the_ledger_has_no_previous_the_manifests_hint_counts(tmp_path: Path, shelf: Shelf) -> None:
    """A first deployment can be rolled back to the version that its manifest names."""
    shelf.put(B, rollback_target=A)
    running = Running(tmp_path, shelf).start()
    running.deploy(B)

    assert running.rollback().record.version == A
    running.stop()


def test_a_rollback_by_generation_and_by_name(running: Running) -> None:
    """An operator may name the record or the version to go back to."""
    for version in (A, B, C):
        running.deploy(version)

    assert running.rollback(ToGeneration(1)).record.version == A
    assert running.rollback(ToVersion(B)).record.version == B
    with pytest.raises(NotFoundError) as unknown:
        running.rollback(ToGeneration(99))
    assert unknown.value.reason is Reason.GENERATION_NOT_FOUND


def test_a_rollback_does_not_wait_for_a_load_and_the_late_deploy_loses(running: Running) -> None:
    """While a candidate loads, a rollback is done at once; the deploy then conflicts instead of undoing it."""
    running.deploy(A)
    running.deploy(B)
    gate = running.shelf.hold(C)
    late = running.order_deploy(C)
    assert running.shelf.begun[C].wait(WAIT_S)

    assert running.rollback().record.version == A
    gate.set()
    with pytest.raises(ConflictError) as conflict:
        late.result(WAIT_S)

    assert conflict.value.facts["version"] == A
    assert running.live == A
    published = [event.version for event in list(running.events.queue) if isinstance(event, Published)]
    assert published == [A, B, A], "what was not recorded never answered"


def test_a_version_that_fails_is_refused_and_the_live_one_answers_on(running: Running) -> None:
    """What does not verify, load or agree is not recorded, and changes nothing."""
    running.deploy(A)
    running.shelf.failures[B] = VerificationError("a byte is wrong", reason=Reason.DIGEST_MISMATCH)

    with pytest.raises(VerificationError, match="a byte is wrong"):
        running.deploy(B)

    assert (running.live, running.generation) == (A, 1)
    head = running.ledger.head
    assert head is not None
    assert head.generation == 1
    assert running.wait(error=Reason.DIGEST_MISMATCH).state is State.READY


def test_an_expected_generation_that_is_over_conflicts_and_names_the_winner(running: Running) -> None:
    """Acting on an old view of things is refused, with who moved the head."""
    running.deploy(A)
    running.deploy(B)

    with pytest.raises(ConflictError) as conflict:
        running.deploy(C, expected_generation=1)

    assert conflict.value.facts == {"generation": "2", "version": B, "actor": "ana"}
    assert running.live == B


def test_the_same_request_id_is_answered_with_the_same_record(running: Running) -> None:
    """A retried order is not carried out twice, and the id of another order is refused."""
    first = running.deploy(A, request_id="r-1")
    again = running.deploy(A, request_id="r-1")

    assert again.replayed
    assert again.record == first.record
    with pytest.raises(SidecarError) as reused:
        running.deploy(B, request_id="r-1")
    assert reused.value.reason is Reason.REQUEST_ID_REUSED


def test_an_order_for_what_is_live_is_recorded_all_the_same(running: Running) -> None:
    """Deploying the live version again makes a record, and answers go on under its generation."""
    running.deploy(A)

    assert running.deploy(A, request_id="again").record.generation == 2
    assert (running.live, running.generation) == (A, 2)


def test_validate_only_checks_and_moves_nothing(running: Running) -> None:
    """A dry run says what would be recorded, and releases what it loaded."""
    running.deploy(A)

    outcome = running.deploy(B, validate_only=True)

    assert (outcome.record.generation, outcome.record.version) == (2, B)
    assert running.live == A
    head = running.ledger.head
    assert head is not None
    assert head.generation == 1
    released = running.wait_event(Released)
    assert isinstance(released, Released)
    assert released.version == B


def test_whoever_is_refused_finds_it_in_the_status(running: Running) -> None:
    """The status tells of a refusal before its answer does: who then asks finds no older trouble."""
    running.deploy(A)
    running.shelf.failures[B] = VerificationError("a byte is wrong", reason=Reason.DIGEST_MISMATCH)
    found: queue.Queue[Reason | None] = queue.Queue()

    def look(_: Future[Outcome]) -> None:  # on the manager's thread, at the moment of the answer
        trouble = running.board.current().last_error
        found.put(trouble.reason if trouble else None)

    order = running.order_deploy(B)
    order.add_done_callback(look)

    with pytest.raises(VerificationError):
        order.result(WAIT_S)
    assert found.get(timeout=WAIT_S) is Reason.DIGEST_MISMATCH


def test_a_changed_signature_is_refused_unless_it_is_allowed(running: Running) -> None:
    """A version that would break the live one's callers needs a word; the way back never does."""
    running.shelf.put(B, signature=WIDER)
    running.deploy(A)

    with pytest.raises(VerificationError) as refused:
        running.deploy(B)
    assert refused.value.reason is Reason.SCHEMA_CHANGED
    assert "input x FP32[-1, 2] became x FP32[-1, 3]" in str(refused.value)
    assert len(running.ledger.records()) == 1

    assert running.deploy(B, allow_schema_change=True).record.version == B
    assert running.rollback().record.version == A


def test_a_hand_edit_is_adopted_once_and_answers(running: Running) -> None:
    """`{"version": …}` in the pointer is verified, recorded as ADOPT, and live."""
    running.deploy(A)
    running.edit(B)

    status = running.wait(live=B, generation=2)

    head = running.ledger.head
    assert head is not None
    assert (head.action, head.version, head.previous_version) == (Action.ADOPT, B, A)
    assert status.state is State.READY
    assert json.loads(running.pointer.read_text())["generation"] == 2


def test_a_hand_edit_to_a_version_that_fails_changes_nothing_until_it_is_mended(running: Running) -> None:
    """A refused edit leaves the live version and the ledger alone, and is tried again when the directory changes."""
    running.deploy(A)
    running.shelf.failures[B] = VerificationError("incomplete", reason=Reason.FILE_MISSING)
    running.edit(B)

    assert running.wait(error=Reason.FILE_MISSING, live=A).state is State.DEGRADED
    del running.shelf.failures[B]

    assert running.wait(live=B).last_error is None


def test_a_refused_edit_is_reported_once(running: Running) -> None:
    """However often the same thing is looked at, it is refused and told once."""
    running.deploy(A)
    running.edit("2024.01.31.prod")
    running.wait(error=Reason.VERSION_NOT_FOUND)
    for _ in range(5):
        running.manager.sighted(running.source.look())
    running.deploy(B)  # ends the wait: everything before it has been dealt with

    # Who looks between the file's truncation and its writing tells of an empty pointer, too: that is another edit.
    refused = [event.reason for event in list(running.events.queue) if isinstance(event, Refused)]
    assert refused.count(Reason.VERSION_NOT_FOUND) == 1
    assert set(refused) <= {Reason.VERSION_NOT_FOUND, Reason.POINTER_INVALID}


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"{", b'{"version": "yesterday"}'])
def test_a_pointer_that_cannot_be_read_is_reported_and_left_alone(running: Running, content: bytes) -> None:
    """An empty, binary or malformed pointer moves nothing, and is not overwritten: somebody may be editing it."""
    running.deploy(A)
    running.pointer.write_bytes(content)
    running.source.wake()

    running.wait(error=Reason.POINTER_INVALID, live=A)

    assert running.pointer.read_bytes() == content


def test_of_many_flips_the_last_is_loaded(running: Running) -> None:
    """Edits that are overtaken while a version loads are never loaded themselves."""
    running.deploy(A)
    gate = running.shelf.hold(B)
    running.edit(B)
    assert running.shelf.begun[B].wait(WAIT_S)
    for number in range(1, 30):
        version = running.shelf.put(f"2024.03.{number:02}.prod")
        running.edit(version)
    while not running.events.empty():
        running.events.get()
    for _ in range(
        3
    ):  # one may have begun before the last edit, the next saw that, and the one behind it was delivered
        running.wait_event(StoreRead)
    gate.set()

    running.wait(live="2024.03.29.prod")

    assert [model.version for model in running.shelf.loaded] == [A, B, "2024.03.29.prod"]


def test_after_a_start_the_head_answers_and_the_version_before_stands_by(
    tmp_path: Path, shelf: Shelf
) -> None:
    """A restarted sidecar serves what the ledger says, and can roll back in memory."""
    first = Running(tmp_path, shelf).start()
    first.deploy(A)
    first.deploy(B)
    first.stop()

    second = Running(tmp_path, shelf).start()
    status = second.wait(live=B, standby=A)

    assert status.observed is not None
    assert status.observed.generation == 2
    assert isinstance(second.wait_event(StandbyReady), StandbyReady)
    loads = len(shelf.loaded)
    assert second.rollback().record.version == A
    assert len(shelf.loaded) == loads
    second.stop()


def test_without_standby_one_model_is_resident(tmp_path: Path, shelf: Shelf) -> None:
    """`standby = none` releases the previous version, and a rollback loads it again."""
    running = Running(tmp_path, shelf, keep_standby=False).start()
    running.deploy(A)
    running.deploy(B)

    released = running.wait_event(Released)
    assert isinstance(released, Released)
    assert released.version == A
    assert running.rollback().record.version == A
    running.stop()


def test_two_sidecars_adopt_one_edit_once_and_follow_each_other(tmp_path: Path, shelf: Shelf) -> None:
    """Of two sidecars that see an edit one records it; a rollback through one is followed by the other."""
    one = Running(tmp_path, shelf, sidecar="one").start()
    two = Running(tmp_path, shelf, sidecar="two").start()
    one.deploy(A)
    two.wait(live=A)
    one.edit(B)
    one.wait(live=B, generation=2)
    two.wait(live=B, generation=2)

    one.rollback()
    two.wait(live=A, generation=3)

    assert [record.action for record in one.ledger.records()] == [
        Action.ROLLBACK,
        Action.ADOPT,
        Action.DEPLOY,
    ]
    one.stop()
    two.stop()


def test_events_come_after_the_swap_and_say_what_it_took(running: Running) -> None:
    """Whoever hears of a version finds it live, with the time of each phase."""
    running.deploy(A)

    event = running.wait_event(Published)

    assert isinstance(event, Published)
    assert (event.version, event.generation, event.previous) == (A, 1, None)
    assert {"verify", "load", "warm", "commit", "swap"} <= event.phases_s.keys()


@pytest.mark.parametrize("way", ["ordered", "edited"])
def test_a_version_answers_before_anybody_is_told_of_its_record(running: Running, way: str) -> None:
    """What was recorded is told in the record's order, and nobody's telling holds the version up."""
    running.deploy(A)
    if way == "ordered":
        running.deploy(B)
    else:
        running.edit(B)
        running.wait(live=B)
    told = [running.wait_event(Committed), running.wait_event(Published)]
    told += [running.wait_event(Committed), running.wait_event(Published)]
    assert [each.version for each in told] == [A, A, B, B]  # type: ignore[attr-defined]
    assert running.live_when_told[Committed] == B


def test_an_order_in_a_sidecar_that_goes_down_is_answered(tmp_path: Path, shelf: Shelf) -> None:
    """Nobody who ordered something waits for ever: the order ends with DRAINING."""
    running = Running(tmp_path, shelf).start()
    gate = shelf.hold(A)
    order = running.order_deploy(A)
    assert shelf.begun[A].wait(WAIT_S)
    running.source.stop(timeout_s=WAIT_S)
    running.manager.stop(timeout_s=WAIT_S)
    gate.set()

    with pytest.raises(SidecarError) as over:
        order.result(WAIT_S)

    assert over.value.reason is Reason.DRAINING
    running.stage.clear()
    running.janitor.stop()


def test_a_repeated_order_is_answered_though_its_version_is_no_longer_good(running: Running) -> None:
    """A retry finds what the first try has done, whatever became of the version since."""
    first = running.deploy(A, request_id="r-1")
    for version in (B, C):
        running.deploy(version)
    running.shelf.failures[A] = VerificationError("it was damaged since", reason=Reason.DIGEST_MISMATCH)

    again = running.deploy(A, request_id="r-1")

    assert (again.record, again.replayed) == (first.record, True)
    assert running.live == C


def test_a_hand_edit_to_another_signature_needs_a_word_too(running: Running) -> None:
    """An edit that would break callers is refused, and taken when the pointer says that they are ready."""
    running.shelf.put(B, signature=WIDER)
    running.deploy(A)
    running.edit(B)
    running.wait(error=Reason.SCHEMA_CHANGED, live=A)

    running.edit(B, allow_schema_change=True)

    running.wait(live=B, generation=2)


def test_an_edit_that_lost_to_a_deploy_of_the_same_version_is_not_loaded_twice(
    tmp_path: Path, shelf: Shelf
) -> None:
    """Who loses the race for the next record keeps the model that it loaded, looks at once, and takes it."""
    running = Running(tmp_path, shelf, poll_interval_s=3600).start()
    running.deploy(A)
    gate = shelf.hold(B)
    running.edit(B)
    assert shelf.begun[B].wait(WAIT_S)
    other = Running(tmp_path, Shelf(), sidecar="two")
    other.ledger.commit(
        Intent(
            action=Action.DEPLOY,
            version=B,
            manifest_sha256=manifest_of(B).digest,
            actor=ANA,
            request_id="another sidecar's",
            request_sha256=digest_of(b"order"),
        ),
        expected_generation=1,
    )
    gate.set()

    running.wait(live=B, generation=2)

    assert shelf.attempts[B] == 1
    assert [record.action for record in running.ledger.records()] == [Action.DEPLOY, Action.DEPLOY]
    running.stop()


def test_a_look_that_is_older_than_the_last_order_changes_nothing(running: Running) -> None:
    """What was seen before a commit and arrives after it does not bring the old version back."""
    running.deploy(A)
    old = running.source.look()
    running.deploy(B)
    running.source.stop(timeout_s=WAIT_S)

    running.manager.sighted(old)
    running.deploy(C, validate_only=True)  # ends the wait: everything before it has been dealt with

    assert (running.live, running.generation) == (B, 2)


def test_a_bad_pointer_is_reported_once_for_each_edit(running: Running) -> None:
    """However often it is looked at, the same unreadable pointer is told once; another one is told again."""
    running.deploy(A)
    for content in (b"", b"{"):
        running.pointer.write_bytes(content)
        for _ in range(3):
            running.manager.sighted(running.source.look())
        running.deploy(B, validate_only=True)  # ends the wait: everything before it has been dealt with

    reasons = [event.reason for event in list(running.events.queue) if isinstance(event, Refused)]
    assert reasons.count(Reason.POINTER_INVALID) == 2


def test_a_store_that_stays_away_is_tried_again_and_told_once(
    tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the store is at fault, the same version is tried until it comes back, without a line for every try."""
    monkeypatch.setattr(pursuit, "_STORE_RETRY_S", 0.01)
    running = Running(tmp_path, shelf).start()
    running.deploy(A)
    shelf.failures[B] = StoreError("it cannot be read")
    running.edit(B)
    while shelf.attempts[B] < 4:
        running.wait_event(LoadStarted)
    told = [event for event in list(running.events.queue) if isinstance(event, Refused)]
    del shelf.failures[B]

    running.wait(live=B)
    assert len(told) <= 1
    running.stop()


def test_whoever_is_answered_finds_it_in_the_status(running: Running) -> None:
    """When an order's future ends, the board shows what was just told."""
    seen: list[object] = []
    order = running.order_deploy(A)
    order.add_done_callback(lambda _: seen.append(running.board.current().observed))
    order.result(WAIT_S)

    (observed,) = seen
    assert isinstance(observed, Standing)
    assert (observed.version, observed.generation) == (A, 1)


def test_a_pointer_that_lags_is_rewritten(running: Running) -> None:
    """A pointer that shows an earlier record than the head is put right; nothing is adopted."""
    running.deploy(A)
    old = running.pointer.read_bytes()
    running.deploy(B)
    running.pointer.write_bytes(old)

    running.manager.sighted(running.source.look())
    running.deploy(C, validate_only=True)

    assert json.loads(running.pointer.read_text())["generation"] == 2
    assert (running.live, running.generation) == (B, 2)


def test_a_previous_version_that_was_replaced_is_not_rolled_back_to(tmp_path: Path, shelf: Shelf) -> None:
    """The ledger names exact bytes: the same name with other bytes is refused, and the live version answers on."""
    running = Running(tmp_path, shelf, keep_standby=False).start()
    running.deploy(A)
    running.deploy(B)
    shelf.put(A, salt="other bytes")

    with pytest.raises(VerificationError) as refused:
        running.rollback()

    assert refused.value.reason is Reason.MANIFEST_CHANGED
    assert running.live == B
    running.stop()


def test_a_version_that_was_replaced_is_not_deployed_again(running: Running) -> None:
    """An order by name means what was deployed under that name, not what stands there by now."""
    for version in (A, B, C):
        running.deploy(version)
    running.shelf.put(A, salt="other bytes")

    with pytest.raises(VerificationError) as refused:
        running.deploy(A, request_id="once more")

    assert refused.value.reason is Reason.MANIFEST_CHANGED
    assert (running.live, running.generation) == (C, 3)


def test_a_recorded_version_answers_before_the_pointer_shows_it_and_the_order_is_answered_after(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is answered by a bad version for the time that the pointer takes; who gave the order finds it rewritten."""
    running.deploy(A)
    running.deploy(B)
    show, then = running.ledger.show, []

    def showing(commit: Commit) -> Commit:
        then.append((running.live, running.pointed_at(), order.done()))
        return show(commit)

    monkeypatch.setattr(running.ledger, "show", showing)
    order = running.order_rollback()
    order.result(WAIT_S)

    assert then == [(A, B, False)]
    assert running.pointed_at() == A

    running.edit(B)
    running.wait(live=B, generation=4)
    assert then[1:2] == [(B, B, True)]


def test_an_edit_that_a_deploy_replaced_is_not_adopted_for_having_been_seen_just_before(
    tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look between the record and the pointer finds the old edit and the new head: what the operator said stands."""
    running = Running(tmp_path, shelf, poll_interval_s=60).start()
    try:
        running.deploy(A)
        running.deploy(B)
        running.pointer.write_text(json.dumps({"version": B}))  # what is live, so that nothing comes of it
        show = running.ledger.show

        def seen_before_shown(commit: Commit) -> Commit:
            sighting = running.source.look()
            assert isinstance(sighting.decision, Adopt)
            running.manager.sighted(sighting)
            return show(commit)

        monkeypatch.setattr(running.ledger, "show", seen_before_shown)
        running.deploy(C)
        running.deploy(C, request_id="whatever came before has been dealt with", validate_only=True)

        assert (running.live, running.generation, running.pointed_at()) == (C, 3, C)
    finally:
        running.stop()


def test_a_pointer_that_hangs_holds_up_no_version_that_is_recorded(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record stands and is served; the order is answered once nobody waits for the pointer any more."""
    running.deploy(A)
    running.deploy(B)
    back = threading.Event()
    monkeypatch.setattr(running.ledger, "show", lambda _: back.wait(WAIT_S))
    try:
        outcome = running.rollback(emergency=True)  # which waits for half a second only
        assert not back.is_set()
    finally:
        back.set()

    assert (outcome.record.generation, outcome.pending, running.live) == (3, False, A)


def test_an_error_that_nobody_foresaw_ends_one_order_and_nothing_else(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of ours in the manager is that order's failure; the next order is carried out."""
    running.deploy(A)

    def mistaken(request_id: str, *, request_sha256: object) -> Record | None:
        raise ZeroDivisionError(f"over {request_id}")

    monkeypatch.setattr(running.ledger, "find_replay", mistaken)
    with pytest.raises(ZeroDivisionError):
        running.deploy(B)
    monkeypatch.undo()

    assert running.live == A
    assert running.deploy(B, request_id="again").record.generation == 2


def test_an_io_error_of_a_look_is_told_and_the_next_look_is_taken(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a look raises, what is live answers on, and looking goes on."""
    running.deploy(A)

    def failing() -> Look:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(running.ledger, "look", failing)
    running.wait(error=Reason.STORE_UNAVAILABLE, live=A)
    monkeypatch.undo()
    running.edit(B)
    running.wait(live=B, error=None)
    assert running.shelf.attempts == {A: 1, B: 1}, "what was live had to be loaded again"


class Unwritable:
    """What the ledger says while nothing can be recorded in it."""

    def __init__(self, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        def refusing(*_: object, **__: object) -> None:
            raise StoreError("read-only")

        self.running = running
        self._patched = monkeypatch
        for call in ("enter", "append"):
            monkeypatch.setattr(running.ledger, call, refusing)

    def end(self) -> None:
        """It can be written again."""
        self._patched.undo()


class WatchedPending(PendingFile):
    """A pending file that knows what answered when it was written."""

    running: Running
    live_then: str | None = None

    def save(self, record: Record) -> None:
        self.live_then = self.running.live
        super().save(record)


@pytest.fixture
def pending(tmp_path: Path) -> WatchedPending:
    return WatchedPending(tmp_path / "state" / "pending.json")


@pytest.fixture
def guarded(tmp_path: Path, shelf: Shelf, pending: WatchedPending) -> Iterator[Running]:
    """A sidecar with a pending file, on which A and then B were deployed."""
    running = pending.running = Running(tmp_path, shelf, pending=pending).start()
    running.deploy(A)
    running.deploy(B)
    yield running
    running.stop()


def test_an_emergency_is_kept_before_it_takes_effect(
    guarded: Running, pending: WatchedPending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever kills the sidecar at any moment finds the version that was rolled away from, or a rollback that is known."""
    Unwritable(guarded, monkeypatch)
    assert guarded.rollback(emergency=True).pending
    assert (pending.live_then, guarded.live) == (B, A)


def test_looks_that_cannot_record_an_emergency_do_not_undo_it(
    guarded: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head is the version that was rolled away from, and can be read: it stays away all the same."""
    store = Unwritable(guarded, monkeypatch)
    guarded.rollback(emergency=True)
    for _ in range(3):
        guarded.manager.sighted(guarded.source.look())
    with pytest.raises(NotFoundError):
        guarded.rollback(ToGeneration(99))  # ends the wait: everything before it has been dealt with
    assert (guarded.live, guarded.board.current().unrecorded) == (A, A)

    store.end()
    guarded.wait(live=A, generation=3)
    assert guarded.board.current().unrecorded is None


def test_an_emergency_that_others_overtook_is_recorded_once_though_a_crash_hides_that(
    tmp_path: Path, shelf: Shelf, guarded: Running, pending: WatchedPending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they did stands, the ledger tells of the rollback, and a restart that finds it pending still adds nothing."""
    store = Unwritable(guarded, monkeypatch)
    guarded.rollback(emergency=True)
    left = (tmp_path / "state" / "pending.json").read_bytes()
    other = Running(tmp_path, shelf, sidecar="two").start()
    other.wait(live=B)
    other.deploy(C)
    other.stop()
    store.end()
    guarded.wait(live=C, generation=4)
    guarded.stop()
    told = [(record.action, record.version) for record in guarded.ledger.records()]
    assert told == [(Action.ROLLBACK, C), (Action.DEPLOY, C), (Action.DEPLOY, B), (Action.DEPLOY, A)]

    # Killed when it was recorded, and before the file was removed.
    (tmp_path / "state" / "pending.json").write_bytes(left)
    anew = Running(tmp_path, shelf, pending=pending).start()
    anew.wait(live=C, generation=4)
    anew.manager.sighted(anew.source.look())
    anew.deploy(C, validate_only=True)
    assert anew.board.current().unrecorded is None
    assert not (tmp_path / "state" / "pending.json").exists()
    anew.stop()
    assert len(anew.ledger.records()) == 4


def test_a_source_that_is_woken_looks_once_and_rests(tmp_path: Path, shelf: Shelf) -> None:
    """One wake is one look: nothing spins between polls."""
    running = Running(tmp_path, shelf, poll_interval_s=3600).start()
    running.wait_event(StoreRead)
    running.source.wake()
    running.wait_event(StoreRead)

    with pytest.raises(queue.Empty):
        running.events.get(timeout=0.5)
    running.stop()


def test_after_a_restart_the_head_answers_before_a_hand_edit_that_cannot(
    tmp_path: Path, shelf: Shelf
) -> None:
    """A pending edit to a bad version is no outage: what answered before the restart answers again."""
    first = Running(tmp_path, shelf).start()
    first.deploy(A)
    shelf.failures[B] = VerificationError("half a copy", reason=Reason.FILE_MISSING)
    first.edit(B)
    first.wait(error=Reason.FILE_MISSING, live=A)
    first.stop()

    second = Running(tmp_path, shelf).start()
    second.wait(live=A, error=Reason.FILE_MISSING)
    del shelf.failures[B]

    second.wait(live=B, generation=2)
    second.stop()


def test_after_a_restart_an_edit_is_compared_with_the_head(tmp_path: Path, shelf: Shelf) -> None:
    """An edit that was refused for its signature is refused by a sidecar that starts later, too."""
    shelf.put(B, signature=WIDER)
    first = Running(tmp_path, shelf).start()
    first.deploy(A)
    first.edit(B)
    first.wait(error=Reason.SCHEMA_CHANGED, live=A)
    first.stop()

    second = Running(tmp_path, shelf).start()
    second.wait(error=Reason.SCHEMA_CHANGED, live=A)
    second.stop()


def test_where_the_head_cannot_be_had_an_edit_is_the_way_out(tmp_path: Path, shelf: Shelf) -> None:
    """A sidecar whose head is damaged takes the version that somebody then writes into the pointer."""
    first = Running(tmp_path, shelf).start()
    first.deploy(A)
    first.stop()
    shelf.failures[A] = VerificationError("damaged since", reason=Reason.DIGEST_MISMATCH)

    second = Running(tmp_path, shelf).start()
    second.wait(error=Reason.DIGEST_MISMATCH, state=State.NOT_SERVING)
    second.edit(B)

    second.wait(live=B, generation=2)
    second.stop()


def test_an_edit_that_was_taken_back_is_no_trouble_any_more(running: Running) -> None:
    """When a refused edit is undone by hand, all that is wanted is live, and the status says so."""
    running.deploy(A)
    shown = running.pointer.read_bytes()
    running.edit("2024.01.31.prod")
    running.wait(error=Reason.VERSION_NOT_FOUND, state=State.DEGRADED)

    running.pointer.write_bytes(shown)
    running.source.wake()

    running.wait(error=None, state=State.READY, live=A)


def test_a_repeated_order_at_another_sidecar_is_answered_when_that_serves_it(
    tmp_path: Path, shelf: Shelf
) -> None:
    """The answer to a retry means the same as the first: this sidecar serves the version."""
    one = Running(tmp_path, shelf, sidecar="one").start()
    two = Running(tmp_path, shelf, sidecar="two", poll_interval_s=3600).start()
    one.deploy(A)
    two.source.wake()
    two.wait(live=A)
    one.deploy(B, request_id="r-1")

    again = two.deploy(B, request_id="r-1")

    assert (again.replayed, again.record.generation) == (True, 2)
    assert two.live == B
    one.stop()
    two.stop()


def test_a_doomed_order_is_refused_before_its_version_is_loaded(running: Running) -> None:
    """An order whose head was overtaken while it waited costs no load."""
    running.deploy(A)
    running.deploy(B)
    gate = running.shelf.hold(C)
    running.order_deploy(C, request_id="first")
    assert running.shelf.begun[C].wait(WAIT_S)
    doomed = running.order_deploy(running.shelf.put("2024.02.01.prod"), request_id="second")
    running.rollback()
    gate.set()

    with pytest.raises(ConflictError):
        doomed.result(WAIT_S)

    assert running.shelf.attempts["2024.02.01.prod"] == 0


def test_a_rollback_is_loaded_before_deploys_that_wait(running: Running) -> None:
    """Where several orders have to load, the way back goes first."""
    for version in (A, B, C):
        running.deploy(version)
    gate = running.shelf.hold("2024.02.01.prod")
    late = [
        running.order_deploy(running.shelf.put(f"2024.02.{day:02}.prod"), f"d-{day}") for day in (1, 2, 3)
    ]
    assert running.shelf.begun["2024.02.01.prod"].wait(WAIT_S)
    back = running.manager.submit(
        RollbackOrder(actor=ANA, reason="", source_commit="", request_id="back", target=ToVersion(A))
    )
    running.deploy(C, validate_only=True)  # ends the wait: all orders have been taken in
    running.shelf.failures["2024.02.01.prod"] = VerificationError("no model", reason=Reason.MODEL_INVALID)
    gate.set()

    assert back.result(WAIT_S).record.version == A
    for order in late[1:]:
        with pytest.raises(ConflictError):
            order.result(WAIT_S)
    assert running.shelf.attempts["2024.02.02.prod"] == 0


def test_a_dry_run_whose_caller_has_gone_is_forgotten(running: Running) -> None:
    """Nobody waits for it, so its version is not loaded; and a dry run that is refused is nobody else's trouble."""
    running.deploy(A)
    gate = running.shelf.hold(B)
    running.order_deploy(B, request_id="first")
    assert running.shelf.begun[B].wait(WAIT_S)
    gone = running.order_deploy(C, request_id="dry", validate_only=True)
    assert gone.cancel()
    gate.set()
    running.wait(live=B)

    with pytest.raises(SidecarError):
        running.deploy(Version("2023.01.01.prod"), validate_only=True)

    assert running.shelf.attempts[C] == 0
    assert running.board.current().last_error is None


def test_a_hint_in_the_manifest_never_leads_back_to_a_bad_version(tmp_path: Path, shelf: Shelf) -> None:
    """`rollback_target` counts only for a version that the ledger does not know."""
    shelf.put(A, rollback_target=B)
    running = Running(tmp_path, shelf).start()
    running.deploy(A)
    running.deploy(B)
    running.rollback()

    with pytest.raises(RefusedError) as refused:
        running.rollback()

    assert refused.value.reason is Reason.NO_PREVIOUS_VERSION
    running.stop()


def test_a_standby_that_was_loaded_after_a_start_answers_under_its_generation(
    tmp_path: Path, shelf: Shelf
) -> None:
    """Answers of `@previous` name the record that the version was live under, also after a restart."""
    first = Running(tmp_path, shelf).start()
    first.deploy(A)
    first.deploy(B)
    first.stop()

    second = Running(tmp_path, shelf).start()
    second.wait(live=B, standby=A)

    with second.stage.lease("@previous") as lease:
        assert (lease.model.version, lease.generation) == (A, 1)
    second.stop()


def test_live_since_is_when_it_began_to_answer_and_not_when_it_was_loaded(running: Running) -> None:
    """After a rollback to a standby, the status says since when that answers again."""
    running.deploy(A)
    running.deploy(B)
    (standby,) = (each for each in running.board.current().resident if each.role == "standby")

    rolled_back = running.rollback().record

    since = running.board.current().live_since
    assert since is not None
    assert since >= rolled_back.timestamp > standby.loaded_at


def test_a_sidecar_that_lacks_the_head_does_not_overrule_those_that_have_it(
    tmp_path: Path, shelf: Shelf
) -> None:
    """Where the head cannot be loaded, an incompatible edit is refused all the same: others serve the head's callers."""
    shelf.put(B, signature=WIDER)
    first = Running(tmp_path, shelf).start()
    first.deploy(A)
    elsewhere = Shelf()
    for version, signature in ((A, shelf.signatures[A]), (B, WIDER)):
        elsewhere.put(version, signature=signature)
    elsewhere.failures[A] = VerificationError("half a copy", reason=Reason.FILE_MISSING)
    first.edit(B)
    first.wait(error=Reason.SCHEMA_CHANGED, live=A)

    second = Running(tmp_path, elsewhere, sidecar="two").start()
    second.wait(error=Reason.SCHEMA_CHANGED, state=State.NOT_SERVING)

    assert (first.live, first.generation) == (A, 1)
    second.edit(B, allow_schema_change=True)
    second.wait(live=B, generation=2)
    first.stop()
    second.stop()


def test_a_head_that_comes_back_answers_again(
    tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an edit that is refused is pending, the head is tried again and again, and told of once."""
    monkeypatch.setattr(pursuit, "_HEAD_RETRY_S", 0.01)
    shelf.put(B, signature=WIDER)
    first = Running(tmp_path, shelf).start()
    first.deploy(A)
    first.edit(B)
    first.wait(error=Reason.SCHEMA_CHANGED, live=A)
    first.stop()
    shelf.failures[A] = NotFoundError("its directory is away")
    second = Running(tmp_path, shelf).start()
    tries = shelf.attempts[A]
    while shelf.attempts[A] < tries + 4:
        second.wait_event(LoadStarted)
    told = [event for event in list(second.events.queue) if isinstance(event, Refused)]
    del shelf.failures[A]

    second.wait(live=A)
    assert len(told) <= 2
    second.stop()


def test_an_order_at_a_sidecar_that_lacks_the_head_needs_a_word(tmp_path: Path, shelf: Shelf) -> None:
    """A deploy that cannot be compared with what others serve is refused; with the word, or as a rollback, it is not."""
    first = Running(tmp_path, shelf).start()
    first.deploy(B)
    first.deploy(A)
    first.stop()
    del shelf.signatures[A]
    shelf.failures[A] = NotFoundError("its directory is away")
    second = Running(tmp_path, shelf).start()
    second.wait(state=State.NOT_SERVING, error=Reason.VERSION_NOT_FOUND)

    with pytest.raises(VerificationError, match="its signature cannot be read"):
        second.deploy(C)
    assert second.rollback().record.version == B
    second.stop()


def test_a_repeated_order_that_cannot_be_served_here_says_that_it_is_recorded(
    tmp_path: Path, shelf: Shelf
) -> None:
    """Whoever retries is not told that the deploy failed, for it stands."""
    first = Running(tmp_path, shelf).start()
    first.deploy(A, request_id="r-1")
    first.stop()
    shelf.failures[A] = NotFoundError("its directory is away")
    second = Running(tmp_path, shelf).start()

    with pytest.raises(UnavailableError, match="generation 1 is recorded, but is not served here"):
        second.deploy(A, request_id="r-1")
    second.stop()


def test_the_memory_of_refusals_does_not_grow_with_edits(running: Running) -> None:
    """However many bad edits are made, only the last one's refusal and a few messages are remembered."""
    running.deploy(A)
    running.source.stop(timeout_s=WAIT_S)
    for number in range(50):
        running.edit(f"2030.01.01.{number + 1}.prod")
        running.manager.sighted(running.source.look())
        running.wait(error=Reason.VERSION_NOT_FOUND, desired=f"2030.01.01.{number + 1}.prod")

    wishes, troubles = running.manager._wishes, running.manager._troubles
    assert len(wishes._refusals) <= 2
    assert len(troubles._told) <= 8
    assert running.live == A


LONG = ShadowPlan(duration_s=600)


def test_a_shadow_leaves_the_live_version_alone_until_it_has_passed(running: Running) -> None:
    """The order waits, everything else goes on; then it flips."""
    running.shelf.put(A)
    running.shelf.put(B)
    running.deploy(A)
    ordered = running.order_deploy(B, shadow=LONG)
    assert running.shelf.shadow_begun.wait(WAIT_S)
    assert running.live == A

    running.shelf.shadow_ends.set()
    outcome = ordered.result(WAIT_S)
    assert running.live == B
    assert outcome.shadow is not None
    assert outcome.shadow.compared == 200


def test_whatever_moves_the_head_ends_a_shadow(running: Running) -> None:
    """A rollback is done in milliseconds, and what was being compared with the version it left is given up."""
    for version in (A, B, C):
        running.shelf.put(version)
    running.deploy(A)
    running.deploy(B)
    ordered = running.order_deploy(C, shadow=LONG)
    assert running.shelf.shadow_begun.wait(WAIT_S)

    assert running.rollback().record.version == A
    with pytest.raises(RefusedError) as refused:
        ordered.result(WAIT_S)
    assert refused.value.reason is Reason.SHADOW_FAILED
    assert running.live == A
    assert all(model.closed.wait(WAIT_S) for model in running.shelf.loaded if model.version == C)


def test_an_order_that_has_to_be_loaded_goes_before_a_shadow(running: Running) -> None:
    """Nobody waits for somebody else's ten minutes; who only validates does."""
    for version in (A, B, C):
        running.shelf.put(version)
    running.deploy(A)
    shadowed = running.order_deploy(B, shadow=LONG)
    assert running.shelf.shadow_begun.wait(WAIT_S)
    asked = running.order_deploy(C, validate_only=True, request_id="ask")
    assert not shadowed.done()

    assert running.order_deploy(C, request_id="act").result(WAIT_S).record.version == C
    with pytest.raises(RefusedError):
        shadowed.result(WAIT_S)
    with suppress(ConflictError):  # the head has moved before its turn came
        asked.result(WAIT_S)


def test_a_shadow_that_nobody_waits_for_is_ended(running: Running) -> None:
    """Where nothing was to be moved, it is its caller's alone."""
    running.shelf.put(A)
    running.shelf.put(B)
    running.deploy(A)
    ordered = running.order_deploy(B, shadow=LONG, validate_only=True)
    assert running.shelf.shadow_begun.wait(WAIT_S)
    assert ordered.cancel()

    (model,) = (each for each in running.shelf.loaded if each.version == B)
    assert model.closed.wait(WAIT_S)


def test_what_is_live_already_needs_no_shadow(running: Running) -> None:
    """It could only be compared with itself; the standby is compared with the live version all the same."""
    running.shelf.put(A)
    running.shelf.put(B)
    running.deploy(A)
    running.deploy(B)
    assert running.order_deploy(B, shadow=LONG, request_id="again").result(WAIT_S).shadow is None

    running.shelf.shadow_ends.set()
    outcome = running.order_deploy(A, shadow=LONG, request_id="back").result(WAIT_S)
    assert outcome.shadow is not None
    assert running.live == A


def test_a_stop_ends_a_shadow(tmp_path: Path) -> None:
    """Shutdown does not wait for it."""
    shelf = Shelf()
    running = Running(tmp_path, shelf).start()
    shelf.put(A)
    shelf.put(B)
    running.deploy(A)
    ordered = running.order_deploy(B, shadow=LONG)
    assert shelf.shadow_begun.wait(WAIT_S)
    running.stop()

    with pytest.raises(UnavailableError):
        ordered.result(0)
    (model,) = (each for each in shelf.loaded if each.version == B)
    assert model.closed.wait(WAIT_S)
