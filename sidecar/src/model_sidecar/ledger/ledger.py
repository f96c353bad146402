"""The ledger of one model in one environment, over any backend: read it, check it, append to it.

The chain is read whole at the start and checked link by link; after that a refresh costs two or three small reads. What
is known is kept, whatever happens to the storage: trouble is raised, and the known head stays.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from model_sidecar.errors import ConflictError, StoreError
from model_sidecar.ledger.backend import Backend, GenerationTakenError
from model_sidecar.ledger.chain import Link, broken, check_link, validate_request_id
from model_sidecar.ledger.commit import Commit, Intent, Unshown, conflict, record_after, reused
from model_sidecar.ledger.face import Identity, PointerFace, Reading, Standing
from model_sidecar.ledger.history import History
from model_sidecar.ledger.memory import Memory
from model_sidecar.ledger.reconcile import Decision, Follow, interpret, is_external
from model_sidecar.ledger.record import Action, Outline, Record, Writer, decode, encode, outline
from model_sidecar.release.digests import Digest, digest_of
from model_sidecar.release.names import Environment, ModelName

__all__ = ["Commit", "Intent", "Ledger", "Look", "Reception"]

log = logging.getLogger(__name__)

_REWRITE_PAUSE_S = 2.0
_FRESH_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the pointer and the ledger said at one moment, and what both mean together."""

    decision: Decision
    head: Record | None
    pointer_identity: Identity | None
    read_only: bool = False
    """There is a ledger, and nothing can be recorded in it from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """What an order meets: whose the pointer is, the head, and the record that this very order has written before.

    Attributes:
        pointer: what the pointer said; None where it could not be read.
        at: when all of that was looked at, in monotonic seconds.
    """

    external: bool
    head: Record | None = None
    replay: Record | None = None
    pointer: Reading | None = None
    at: float = float("-inf")

    @property
    def is_fresh(self) -> bool:
        """Whether it was only just now, so that to look again before the commit would find nothing else.

        It need not: whoever was faster has taken the slot, and an edit since then is newer than the order.
        """
        return time.monotonic() - self.at < _FRESH_S


@dataclass(frozen=True, slots=True)
class _Lag:
    """Why the pointer could not be rewritten, and until when (monotonic seconds) that is not tried again."""

    warning: str = ""
    until: float = 0.0


class Ledger(History):
    """The ledger: a history that is kept in a backend. Every method may be called from any thread.

    What is asked of the history (`head`, `records`, …), `conflict` and `draft` answer from memory at once, even while the
    storage hangs. All other methods read or write the storage and block as long as it does: never call them from the
    event loop, nor anywhere on a request's way. No lock is held meanwhile; several threads, processes and hosts may
    commit at the same time, and the backend lets one of them win.

    Args:
        backend: where the records are.
        face: the pointer's file, rewritten after each commit.
        model, environment: whose ledger this is; a record of anything else in it is an error.
        writer: this process, as it is recorded.
        now: the clock, giving aware datetimes.
        memory: where this sidecar remembers what it has seen; None: nowhere.
    """

    def __init__(
        self,
        backend: Backend,
        face: PointerFace,
        *,
        model: ModelName,
        environment: Environment,
        writer: Writer,
        now: Callable[[], datetime],
        memory: Memory | None = None,
    ) -> None:
        super().__init__()
        self._backend = backend
        self._face = face
        self._model = model
        self._environment = environment
        self._writer = writer
        self._now = now
        self._lag = _Lag()
        self._memory = memory

    def recall(self) -> None:
        """Know again what this sidecar knew before it was restarted; before anything else is asked of the ledger.

        From then on a ledger without these records has gone back, or is not mounted; none of them is served unverified.
        """
        if self._memory is None:
            return
        lines = self._memory.read()
        found, newest, problem = self._recalled(lines)
        if problem is not None:
            log.warning("%s is damaged and is not believed from there on: %s", self._memory.path, problem)
            self._memory.forget_from(len(found) + 1)
        if newest is not None:
            self._learn(found, newest)
            self._backend.expect_records()

    def look(self) -> Look:
        """Read the pointer and look for new records.

        Where the whole ledger that was known here is gone, but somebody has put a pointer in its place (the
        environment's directory was deleted and made again), the known records are put back first, all in one step: a
        history is not lost as long as one sidecar remembers it. Where that fails, the next look tries again.

        Raises:
            StoreError: as `refresh`, or the pointer's storage failed.
            CommitStateUnknownError: the records are back, but perhaps not for good.
        """
        # The pointer first: a head that is newer than the pointer is an everyday lag, a pointer that is newer than the
        # head would look like somebody's edit.
        reading = self._face.read()
        if reading.is_ours and self._backend.unsupported():
            # Nothing can be recorded here, so that the pointer is followed, as on a store that others write.
            reading = replace(reading, standing=Standing.READ_ONLY)
        try:
            head = self.refresh()
        except StoreError:
            if reading.pointer is None or not reading.is_ours or not self._backend.vanished():
                raise
            self._put_back()
            head = self.refresh()
        if head is not None:
            self._backend.survey(head.generation)
        return Look(
            decision=self._meaning(reading),
            head=head,
            pointer_identity=reading.identity,
            read_only=reading.standing is Standing.READ_ONLY and head is not None,
        )

    def read_face(self) -> Reading:
        """What the pointer's file says; StoreError where its storage failed."""
        return self._face.read()

    def externally_managed(self) -> bool:
        """Whether the pointer is somebody else's, so that nothing is recorded here."""
        return is_external(self._face.standing(), self.head)

    def rewrite_face(self) -> str:
        """Let the pointer show the head, unless an edit is in it that nobody has adopted yet.

        Best effort: whoever looks next and finds it lagging writes it again, but not at once after a failure. Each try
        makes a file beside the pointer, and who watches for such files looks again.

        Returns:
            Why it could not be written; "" when it was, or need not be.
        """
        if time.monotonic() < self._lag.until:
            return self._lag.warning
        head, reading = self.head, self._read_face()
        if head is not None and reading is not None and self._merely_lags(reading):
            return self._show(head, reading)
        return ""

    def find_replay(self, request_id: str, *, request_sha256: Digest) -> Record | None:
        """The record that this very request wrote before, made durable; None if there is none.

        Raises:
            RequestIdReusedError: the id is in the ledger already, with another request.
            CommitStateUnknownError: the record stands, but perhaps not for good.
        """
        validate_request_id(request_id)
        record = self.find_request(request_id)
        if record is None:
            return None
        if record.request_sha256 != request_sha256:
            raise reused(record)
        # The earlier call may have failed at just this: what is acknowledged now must be durable.
        self._backend.settle(record.generation)
        return record

    def conflict(self, *, expected_generation: int) -> ConflictError:
        """The error for an order that was given on another head than the known one."""
        head = self.head
        return conflict(expected=expected_generation, actual=head.generation if head else 0, winner=head)

    def may_hold(self, record: Record) -> bool:
        """Whether a record that waits to be written is of this ledger at all."""
        ours = (self._model, self._environment)
        return record.action is Action.ROLLBACK and (record.model, record.environment) == ours

    def draft(self, intent: Intent) -> Record:
        """The record that `commit` would write now, on top of the known head."""
        validate_request_id(intent.request_id)
        return self._record_after(self.head, intent)

    def refresh(self) -> Record | None:
        """Look for new records. Returns the head; None when there is no record yet.

        Raises:
            StoreError: the storage cannot be read; or, as LEDGER_INVALID, a record is no record, a link does not
                hold, one is missing in the middle, or the ledger went back behind what was seen here before. What was
                known stays known, and nothing of what was found is taken over.
        """
        known = self.head
        if known is None:
            hint = self._backend.latest_hint()
        else:
            self._check_still_there(known)
            hint = known.generation
        found: list[tuple[Outline, bytes]] = []
        last = known
        while True:
            generation = last.generation + 1 if last else 1
            content = self._backend.read(generation)
            if content is None:
                if generation > hint and self._backend.read(generation + 1) is None:
                    break
                # It may have been written between the two looks.
                content = self._backend.read(generation)
                if content is None:
                    raise broken(generation, "it is missing, but a later one is there")
            last = self._linked(last, generation, content)
            found.append((Outline.of(last), content))
        if last is not None:
            self._learn(found, last)
        self._remember()
        return self.head

    def receive(self, request_id: str, *, request_sha256: Digest) -> Reception:
        """What an order meets that arrives now: one look at all that decides whether it is taken.

        Raises:
            As `refresh` and `find_replay`.
        """
        at, pointer = time.monotonic(), self._read_face()
        standing = self._face.standing() if pointer is None else pointer.standing
        if is_external(standing, self.head):
            return Reception(external=True)
        head = self.refresh()
        replay = self.find_replay(request_id, request_sha256=request_sha256)
        return Reception(external=False, head=head, replay=replay, pointer=pointer, at=at)

    def commit(self, intent: Intent, *, expected_generation: int) -> Commit:
        """Append a record, exactly once for each request id, and rewrite the pointer: `enter`, then `show`."""
        return self.show(self.enter(intent, expected_generation=expected_generation))

    def enter(self, intent: Intent, *, expected_generation: int, received: Reception | None = None) -> Commit:
        """Append a record, exactly once for each request id, and leave the pointer to `show`.

        From here on the record stands, whatever becomes of the pointer: who serves it need not wait for that.

        Args:
            intent: what to record.
            expected_generation: the head that the decision was made upon; 0 stands for an empty ledger.
            received: what the order met when it came. While that is fresh it is not looked at again.

        Raises:
            InvalidRequestError: the request id is not valid, or the record would be too large.
            RequestIdReusedError: the request id is in the ledger already, with another request.
            ConflictError: the head is another generation; the facts are the winner's generation, version and actor.
            StoreFullError, StoreError: nothing was recorded. (LEDGER_INVALID: nothing is added to a broken chain, nor to
                one of which a known record is missing.)
            CommitStateUnknownError: it is recorded, but perhaps not for good. The same call again tells.
        """
        return self._enter(
            lambda head: self._record_after(head, intent),
            expected_generation=expected_generation,
            request_id=intent.request_id,
            request_sha256=intent.request_sha256,
            received=received,
        )

    def append(self, record: Record) -> Commit:
        """Append, byte for byte, a record that was drawn up before (`draft`) and could not be written then.

        Raises:
            As `enter`; ConflictError also where the head is another one than that which the record follows.
        """
        entered = self._enter(
            lambda _: record,
            late=True,
            expected_generation=record.generation - 1,
            request_id=record.request_id,
            request_sha256=record.request_sha256,
        )
        return self.show(entered)

    def show(self, commit: Commit) -> Commit:
        """Let the pointer show what was entered, unless it need not or somebody has edited it since.

        Best effort: the commit says in `warning` why it could not be written, and whoever next looks tries again.
        """
        if commit.unshown is None:
            return commit
        warning = self._show(commit.record, commit.unshown.before)
        return replace(commit, unshown=None, warning=warning)

    def _enter(
        self,
        draw_up: Callable[[Record | None], Record],
        *,
        expected_generation: int,
        request_id: str,
        request_sha256: Digest,
        late: bool = False,
        received: Reception | None = None,
    ) -> Commit:
        if received is not None and received.is_fresh:
            before, head = received.pointer, self.head
        else:
            before, head = self._read_face(), self.refresh()
        earlier = self.find_replay(request_id, request_sha256=request_sha256)
        if earlier is not None:
            return Commit(record=earlier, replayed=True)
        generation = head.generation if head else 0
        if generation != expected_generation:
            raise conflict(expected=expected_generation, actual=generation, winner=head)
        missing = self._backend.first_missing(generation)
        if missing is not None:
            raise broken(missing, "it was seen before and is not there")
        record = draw_up(head)
        if record.previous_record_sha256 != (head.sha256 if head else None):
            raise conflict(expected=expected_generation, actual=generation, winner=head)
        self._check_fits(head, record)
        try:
            content = encode(record)
            self._backend.put_if_absent(record.generation, content)
        except GenerationTakenError as error:
            self.refresh()
            earlier = self.find_replay(request_id, request_sha256=request_sha256)
            if earlier is not None:
                return Commit(record=earlier, replayed=True)
            winner = self.record(record.generation)
            raise conflict(expected=expected_generation, actual=record.generation, winner=winner) from error
        self._learn([(Outline.of(record), content)], record)
        self._remember()
        # An operator's word replaces whatever is in the pointer; an adoption only the edit that was adopted, for there
        # may be a newer one by now. Nor does a word that was given long ago replace what somebody has written since.
        shows = record.action is not Action.ADOPT or (before is not None and self._merely_lags(before))
        if late and before is not None and before.identity is not None and not self._merely_lags(before):
            shows = before.identity.mtime_ns <= record.timestamp.timestamp() * 1e9
        return Commit(record=record, replayed=False, unshown=Unshown(before) if shows else None)

    def _remember(self) -> None:
        if self._memory is not None:
            known = self._memory.generation
            self._memory.append(known + 1, self._contents_after(known))

    def _check_still_there(self, known: Record) -> None:
        content = self._backend.read(known.generation)
        if content is None:
            raise broken(
                known.generation,
                f"the ledger went back: this generation was seen before and is not there{self._way_out()}",
            )
        if digest_of(content) != known.sha256:
            raise broken(
                known.generation,
                f"its digest was {known.sha256} before and is {digest_of(content)} now{self._way_out()}",
            )

    def _way_out(self) -> str:
        if self._memory is None:
            return ""
        return f" (if that is right, stop this sidecar, remove {self._memory.path}, and start it again)"

    def _recalled(
        self, lines: Sequence[bytes]
    ) -> tuple[list[tuple[Outline, bytes]], Record | None, StoreError | None]:
        # By its digest, a line is one that was decoded before it was remembered. What is asked again is whether they follow
        # one another; and of the newest, which may be acted upon, everything.
        found: list[tuple[Outline, bytes]] = []
        problem: StoreError | None = None
        try:
            for line in lines:
                told = outline(line)
                self._check_fits(found[-1][0] if found else None, told)
                found.append((told, line))
        except StoreError as error:
            problem = error
        while found:
            try:
                return found, decode(found[-1][1]), problem
            except StoreError as error:
                problem = error
                found.pop()
        return found, None, problem

    def _linked(self, previous: Record | None, generation: int, content: bytes) -> Record:
        try:
            record = decode(content)
        except StoreError as error:
            raise broken(generation, str(error)) from error
        self._check_fits(previous, record)
        return record

    def _check_fits(self, previous: Link | None, record: Link) -> None:
        check_link(previous, record)
        if (record.model, record.environment) != (self._model, self._environment):
            raise broken(
                record.generation,
                f"it is of {record.model}/{record.environment} in the ledger of {self._model}/{self._environment}",
            )

    def _put_back(self) -> None:
        known = self._contents_after(0)
        try:
            self._backend.put_back(known)
        except GenerationTakenError as error:
            # A mixture of two histories would be no chain.
            raise broken(
                error.generation, "it is gone, and another history has begun in its place"
            ) from error
        log.warning(
            "the ledger of %s/%s was deleted: its %d records are put back from memory",
            self._model,
            self._environment,
            len(known),
        )

    def _record_after(self, head: Record | None, intent: Intent) -> Record:
        return record_after(
            head,
            intent,
            model=self._model,
            environment=self._environment,
            writer=self._writer,
            timestamp=self._now(),
        )

    def _read_face(self) -> Reading | None:
        try:
            return self._face.read()
        except StoreError:
            return None

    def _meaning(self, reading: Reading) -> Decision:
        return interpret(reading, self.head, self.record, self.find_request)

    def _merely_lags(self, reading: Reading) -> bool:
        decision = self._meaning(reading)
        return isinstance(decision, Follow) and decision.rewrite_face

    def _show(self, record: Record, before: Reading | None) -> str:
        if before is not None and not before.is_ours:
            return ""
        try:
            # Not over an edit that was made meanwhile: that one is newer than this commit, and will be adopted. And
            # not an older record than another thread may have shown already.
            self._face.write(self.head or record, replacing=before)
        except StoreError as error:
            # The commit stands, and whoever next compares the pointer with the head writes it again.
            warning = f"generation {record.generation} is recorded, but the pointer lags behind: {error}"
            if warning != self._lag.warning:
                log.warning(warning, extra={"generation": record.generation, "version": record.version})
            self._lag = _Lag(warning, time.monotonic() + _REWRITE_PAUSE_S)
            return warning
        self._lag = _Lag()
        return ""
