"""Rollbacks that take effect before they are recorded, because the store cannot be had and nobody can wait for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from model_sidecar.errors import StoreError
from model_sidecar.ledger.commit import Intent
from model_sidecar.ledger.ledger import Ledger
from model_sidecar.ledger.pending import PendingFile
from model_sidecar.ledger.record import MAX_REASON_CHARACTERS, Action, Record, format_timestamp

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record that waits for the store; `why` says what was wrong with it."""

    record: Record
    why: str


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
        if ledger.find_request(record.request_id) is not None:
            self.over()
            return None
        self.waiting = Waiting(record, "this sidecar was restarted since")
        return record

    def hold(self, record: Record, *, why: str) -> None:
        """Remember it until it is recorded, durably where there is a place for that."""
        self.waiting = Waiting(record, why)
        try:
            if self._file is not None:
                self._file.save(record)
                return
            lost = "there is no --state-dir"
        except StoreError as error:
            lost = str(error)
        log.warning(
            "the rollback to %s is in effect, but only this process knows of it (%s): it is recorded when the store is "
            "back, unless the process ends before",
            record.version,
            lost,
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
