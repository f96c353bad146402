"""Where operators' orders are taken, wait for their target to be loaded, and are carried out or refused."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from model_sidecar.errors import (
    CommitStateUnknownError,
    Reason,
    RefusedError,
    RequestIdReusedError,
    SidecarError,
    StoreError,
    UnavailableError,
)
from model_sidecar.ledger.commit import Intent, reused
from model_sidecar.ledger.record import GUARD, Action, Record
from model_sidecar.release.names import Version
from model_sidecar.serving.emergency import Emergency
from model_sidecar.serving.flip import Flip
from model_sidecar.serving.in_hand import Accepted, CarriedOut, Ordered
from model_sidecar.serving.loading import Preparation
from model_sidecar.serving.orders import DeployOrder, Outcome, RollbackOrder, is_emergency
from model_sidecar.serving.scribe import Scribe
from model_sidecar.serving.targets import Target, resolve


class OrderDesk:
    """The orders of one site. Not thread-safe: all calls are the manager's thread's."""

    def __init__(
        self,
        *,
        flip: Flip,
        scribe: Scribe,
        emergency: Emergency,
        report: Callable[[SidecarError, Version | None], None],
    ) -> None:
        """`report` is told of every refusal that others should know of."""
        self._flip = flip
        self._scribe = scribe
        self._ledger = scribe.ledger
        self._emergency = emergency
        self._report = report
        self._waiting: deque[Accepted] = deque()

    def accept(self, ordered: Ordered) -> None:
        """Take an order in, or refuse it at once; one whose request id is already recorded is answered at once."""
        if is_emergency(ordered.order):
            self._scribe.calm()
        try:
            if not self._answer_from_waiting(ordered):
                self._accept(ordered)
        except StoreError as error:
            self._accept_without_store(ordered, error)
        except SidecarError as error:
            self.refuse(ordered, error)

    def _accept(self, ordered: Ordered) -> None:
        order = ordered.order
        found = self._scribe.receive(
            order.request_id, request_sha256=order.fingerprint(), urgent=is_emergency(order)
        )
        if found.external:
            raise RefusedError(
                "the active pointer is managed from outside (it is read-only here): change it where it comes from",
                reason=Reason.POINTER_EXTERNALLY_MANAGED,
            )
        base_generation = found.head.generation if found.head else 0
        if found.replay is not None:
            self._replay(ordered, found.replay)
            return
        target = self._target_on(order, base_generation)
        self._waiting.append(Accepted(ordered, target, base_generation, received=found))

    def _accept_without_store(self, ordered: Ordered, why: StoreError) -> None:
        """Take in an emergency rollback to what is in memory; refuse everything else, for what is wrong with the store."""
        order, head = ordered.order, self._ledger.head
        try:
            if not isinstance(order, RollbackOrder) or head is None:
                raise why
            if (known := self._ledger.find_request(order.request_id)) is not None:
                if known.request_sha256 != order.fingerprint():
                    raise reused(known)
                self._replay(ordered, known)
                return
            if order.emergency:
                self._emergency.check_free(why)
            target = self._target_on(order, head.generation)
            if not order.emergency:
                raise self._hinted(why, order, target)
            if self._flip.at_hand(target.version, target.manifest) is None:
                raise StoreError(
                    f"{why} Without it only what is in memory can be rolled back to, and {target.version} is not"
                    f"{self._instead()}",
                    reason=why.reason,
                )
        except SidecarError as error:
            self.refuse(ordered, error)
            return
        self._waiting.append(Accepted(ordered, target, head.generation, no_store=why))

    def _target_on(self, order: DeployOrder | RollbackOrder, base_generation: int) -> Target:
        if order.expected_generation is not None and order.expected_generation != base_generation:
            raise self._ledger.conflict(expected_generation=order.expected_generation)
        live = self._flip.residents().live
        return resolve(order, ledger=self._ledger, live=live.manifest if live else None)

    def _hinted(self, why: SidecarError, order: DeployOrder | RollbackOrder, target: Target) -> SidecarError:
        """The same error; where an emergency rollback would have helped, it says so."""
        at_hand = self._flip.at_hand(target.version, target.manifest) is not None
        if not (at_hand and isinstance(order, RollbackOrder) and isinstance(why, StoreError)):
            return why
        return StoreError(
            f"{str(why).rstrip('.')} ({target.version} is in memory: `sidecarctl rollback … --emergency` rolls back to it "
            "here, at once, and records it when the store is back)",
            reason=why.reason,
        )

    def _instead(self) -> str:
        standby = self._flip.residents().standby
        return f": {standby.version} is (`--emergency --to {standby.version}`)" if standby is not None else ""

    def _answer_from_waiting(self, ordered: Ordered) -> bool:
        """Answer an emergency rollback that is asked for again while it waits to be recorded."""
        order, waiting = ordered.order, self._emergency.waiting
        if waiting is None or waiting.record.request_id != order.request_id:
            return False
        if waiting.record.request_sha256 != order.fingerprint():
            raise RequestIdReusedError(
                f"request id {order.request_id!r} is that of the rollback to {waiting.record.version}, which waits to "
                "be recorded: use a new id for a new request",
                request_id=order.request_id,
            )
        took_s = time.monotonic() - order.received
        ordered.answer(Outcome(waiting.record, took_s, replayed=True, pending=True))
        return True

    def next_ready(self) -> tuple[Accepted, Preparation] | None:
        """Take out an order whose target is loaded already, wherever in the queue it stands.

        A rollback does not wait its turn behind a deploy that still has to load. What is to run beside the live version
        first has to be prepared, wherever it is, unless it is the live one.
        """
        self._forget_cancelled()
        for accepted in self._waiting:
            ready = self._flip.at_hand(accepted.target.version, accepted.target.manifest)
            if ready is not None and (accepted.shadow is None or ready.model is self._flip.residents().live):
                self._waiting.remove(accepted)
                return accepted, ready
        return None

    def next_to_load(self) -> Accepted | None:
        """Take out the order to load for: rollbacks first, and none whose head has been overtaken meanwhile."""
        self._forget_cancelled()
        head = self._ledger.head
        for accepted in tuple(self._waiting):
            if accepted.base_generation == (head.generation if head else 0):
                continue
            self._waiting.remove(accepted)
            done = accepted.replay or self._done_elsewhere(accepted.ordered.order)
            if done is not None:
                self._replay(accepted.ordered, done)
                continue
            overtaken = self._ledger.conflict(expected_generation=accepted.base_generation)
            self.refuse(accepted.ordered, overtaken, version=accepted.target.version)
        if not self._waiting:
            return None
        rollbacks = (each for each in self._waiting if isinstance(each.ordered.order, RollbackOrder))
        chosen = next(rollbacks, self._waiting[0])
        self._waiting.remove(chosen)
        return chosen

    def carry_out(self, accepted: Accepted, ready: Preparation) -> CarriedOut | None:
        """The target is ready: check, commit. What to publish, or None when that was all."""
        order, model = accepted.ordered.order, ready.model
        if accepted.replay is not None:
            return self._served_again(accepted.ordered, accepted.replay, ready)
        try:
            if isinstance(order, DeployOrder) and not order.allow_schema_change:
                self._flip.check_schema(model)
            intent = _intent(order, ready)
            if order.validate_only:
                draft = self._ledger.draft(intent)
                took_s = time.monotonic() - order.received
                accepted.ordered.answer(Outcome(draft, took_s, shadow=ready.shadow))
                self._flip.drop(model)
                return None
            began = time.monotonic()
            try:
                if accepted.no_store is not None:
                    raise accepted.no_store
                commit = self._flip.commit(
                    intent,
                    base_generation=accepted.base_generation,
                    received=accepted.received,
                    trigger="guard" if order.actor.method == GUARD.method else "operator",
                    urgent=is_emergency(order),
                )
            except (StoreError, CommitStateUnknownError) as error:
                if not is_emergency(order):
                    raise
                return self._unrecorded(accepted, intent, ready, error)
        except SidecarError as error:
            self.refuse(accepted.ordered, self._hinted(error, order, accepted.target), version=model.version)
            self._flip.drop(model)
            return None
        if commit.replayed:
            return self._served_again(accepted.ordered, commit.record, ready)
        phases_s = {**ready.phases_s, "commit": time.monotonic() - began}
        return CarriedOut(commit.record, replace(ready, phases_s=phases_s), head=commit.record)

    def _unrecorded(
        self, accepted: Accepted, intent: Intent, ready: Preparation, why: SidecarError
    ) -> CarriedOut | None:
        """An emergency rollback that could not be recorded: it takes effect all the same, and its record waits.

        Raises:
            StoreError: another one waits already.
            ConflictError: the head is another by now.
        """
        landed = self._ledger.find_request(intent.request_id)
        if landed is not None:  # after all, or somewhere else
            return self._served_again(accepted.ordered, landed, ready)
        self._emergency.check_free(why)
        head = self._ledger.head
        if (head.generation if head else 0) != accepted.base_generation:
            raise self._ledger.conflict(expected_generation=accepted.base_generation)
        draft = self._ledger.draft(intent)
        return CarriedOut(draft, ready, head=draft, no_store=str(why))

    def is_overtaken(self, accepted: Accepted) -> bool:
        """Whether the order that is being prepared should give way: the head has moved, or others wait that are to move it."""
        head = self._ledger.head
        if accepted.base_generation != (head.generation if head else 0):
            return True
        return any(
            isinstance(each.ordered.order, RollbackOrder) or not each.ordered.order.validate_only
            for each in self._waiting
        )

    def refuse_load(self, accepted: Accepted, error: SidecarError) -> None:
        """The order's target cannot be had here; of a repeated order, the record stands all the same."""
        if accepted.replay is not None:
            generation = accepted.replay.generation
            error = UnavailableError(
                f"generation {generation} is recorded, but is not served here: {error}", reason=error.reason
            )
        self.refuse(accepted.ordered, error, version=accepted.target.version)

    def refuse(self, ordered: Ordered, error: SidecarError, *, version: Version | None = None) -> None:
        """Answer the order with this error. Of one that was only to be validated, nobody else need know."""
        named = ordered.order.version if isinstance(ordered.order, DeployOrder) else None
        if not ordered.order.validate_only:
            self._report(error, version or named)
        ordered.fail(error)

    def close(self) -> None:
        """Answer every order that waits: the sidecar is going down."""
        while self._waiting:
            self.turn_away(self._waiting.popleft().ordered)

    def turn_away(self, ordered: Ordered) -> None:
        """Answer an order that can no longer be carried out here."""
        ordered.fail(
            UnavailableError("the sidecar is going down: ask again, or another one", reason=Reason.DRAINING)
        )

    def _done_elsewhere(self, order: DeployOrder | RollbackOrder) -> Record | None:
        """The record that this very order has written through another sidecar meanwhile: it has not lost, but won."""
        record = self._ledger.find_request(order.request_id)
        return record if record is not None and record.request_sha256 == order.fingerprint() else None

    def _replay(self, ordered: Ordered, record: Record) -> None:
        """Answer a repeated order once this sidecar serves its record, or one that has overtaken it."""
        head = self._ledger.head
        if head is None or self._serves(record):
            self._answer_again(ordered, record)
            return
        target = Target(head.version, head.manifest_sha256)
        self._waiting.append(Accepted(ordered, target, head.generation, replay=record))

    def _served_again(self, ordered: Ordered, record: Record, ready: Preparation) -> CarriedOut | None:
        head = self._ledger.head
        if head is not None and head.version == ready.model.version and not self._serves(head):
            return CarriedOut(record, ready, head=head, replayed=True)
        self._replay(ordered, record)
        self._flip.drop(ready.model)
        return None

    def _serves(self, record: Record) -> bool:
        """Whether what answers here is this record or a younger one; a rollback that waits for the store is."""
        generation = self._flip.residents().generation
        return self._emergency.waiting is not None or (
            generation is not None and generation >= record.generation
        )

    def _answer_again(self, ordered: Ordered, record: Record) -> None:
        ordered.answer(Outcome(record, time.monotonic() - ordered.order.received, replayed=True))

    def _forget_cancelled(self) -> None:
        for accepted in tuple(self._waiting):
            if accepted.ordered.future.cancelled():
                self._waiting.remove(accepted)


def _intent(order: DeployOrder | RollbackOrder, ready: Preparation) -> Intent:
    return Intent(
        action=Action.DEPLOY if isinstance(order, DeployOrder) else Action.ROLLBACK,
        version=ready.model.version,
        manifest_sha256=ready.model.manifest.digest,
        actor=order.actor,
        reason=order.reason,
        source_commit=order.source_commit,
        request_id=order.request_id,
        request_sha256=order.fingerprint(),
    )
