"""Rollbacks that take effect before they are recorded, because the store cannot be had and nobody can wait for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from model_sidecar.errors import SidecarError, StoreError
from model_sidecar.ledger.commit import Intent
from model_sidecar.ledger.ledger import Ledger
from model_sidecar.ledger.pending import PendingFile
from model_sidecar.ledger.record import MAX_REASON_CHARACTERS, Action, Record, format_timestamp

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record that waits for the store.

    Attributes:
        why: what was wrong with the store.
        only_here: why it would not outlive this process; "" where it would.
    """

    record: Record
    why: str
    only_here: str = ""


class Emergency:
    """One site's rollback that is in effect and not recorded yet; at most one. The manager's own.

    Attributes:
        waiting: it; None where everything is recorded.
    """

    def __init__(self, file: PendingFile | None) -> None:
        """`file` keeps it through restarts; None: nothing does."""
        self.waiting: Waiting | None = None
        self._file = file

    def recall(self, ledger: Ledger) -> Record | None:
        """What waited when the process before ended; None also where the ledger has it by now."""
        record = self._file.read() if self._file is not None else None
        if record is None:
            return None
        if not ledger.may_hold(record):
            log.error(
                "the rollback that waits to be recorded is none of this ledger, and is left alone: %s", record
            )
            return None
        known = ledger.find_request(record.request_id)
        if known is not None and known.request_sha256 == record.request_sha256:
            self.over()
            return None
        self.waiting = Waiting(record, "this sidecar was restarted since")
        return record

    def check_free(self, why: SidecarError) -> None:
        """Refuse a second one; StoreError, for the same reason as `why` where that is the store's."""
        if self.waiting is not None:
            raise StoreError(
                f"{why} The emergency rollback to {self.waiting.record.version} is in effect and still has to be recorded: "
                "until then no other can be ordered",
                reason=why.reason if isinstance(why, StoreError) else None,
            )

    def hold(self, record: Record, *, why: str) -> None:
        """Remember it until it is recorded, durably where there is a place for that."""
        only_here = "" if self._file is not None else "there is no --state-dir"
        try:
            if self._file is not None:
                self._file.save(record)
        except StoreError as error:
            only_here = str(error)
        self.waiting = Waiting(record, why, only_here)
        kept = f"only this process knows of it: {only_here}" if only_here else "it is kept until then"
        log.warning(
            "emergency rollback from %s to %s by %s, request %s, reason: %s. It is recorded when the store is back; %s. "
            "What is wrong with the store: %s",
            record.previous_version,
            record.version,
            record.actor.id,
            record.request_id,
            record.reason or "none given",
            kept,
            why,
            extra={"version": record.version, "actor": record.actor.id, "reason": record.reason},
        )

    def close(self) -> None:
        """The process ends: say so if what waits ends with it."""
        if self.waiting is not None and self.waiting.only_here:
            log.error(
                "the emergency rollback to %s was never recorded, and is forgotten with this process",
                self.waiting.record.version,
            )

    def over(self) -> None:
        """It is recorded."""
        self.waiting = None
        if self._file is not None:
            self._file.clear()


def overtaken(record: Record, *, by: Record) -> Intent:
    """How a rollback is recorded on top of a head that others have moved meanwhile: it names the head, and moves nothing."""
    note = (
        f" [emergency rollback to {record.version} at {format_timestamp(record.timestamp)} on sidecar "
        f"{record.written_by.sidecar}, overtaken by generation {by.generation} before it could be recorded]"
    )
    return Intent(
        action=Action.ROLLBACK,
        version=by.version,
        manifest_sha256=by.manifest_sha256,
        actor=record.actor,
        reason=record.reason[: MAX_REASON_CHARACTERS - len(note)] + note,
        source_commit=record.source_commit,
        request_id=record.request_id,
        request_sha256=record.request_sha256,
    )
