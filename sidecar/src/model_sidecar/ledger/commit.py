"""What somebody wants recorded, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from model_sidecar.errors import ConflictError, RequestIdReusedError
from model_sidecar.ledger.face import Reading
from model_sidecar.ledger.record import Action, Actor, Record, Writer
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Environment, ModelName, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What somebody wants recorded. Of the fields, those of `Record` mean the same there."""

    action: Action
    version: Version
    manifest_sha256: Digest
    actor: Actor
    request_id: str
    request_sha256: Digest
    reason: str = ""
    source_commit: str = ""


@dataclass(frozen=True, slots=True)
class Unshown:
    """That the pointer does not show a record yet; `before` is what it said then, None where it could not be read."""

    before: Reading | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A record that stands.

    Attributes:
        record: it.
        replayed: an earlier call with this request id had written it already.
        unshown: set where the pointer is to show the record, and `Ledger.show` has not been asked to do it yet.
        warning: why the pointer could not be rewritten, "" when it was. The record stands all the same.
    """

    record: Record
    replayed: bool
    unshown: Unshown | None = None
    warning: str = ""


def record_after(
    head: Record | None,
    intent: Intent,
    *,
    model: ModelName,
    environment: Environment,
    writer: Writer,
    timestamp: datetime,
) -> Record:
    """The record by which the intent is written down behind this head; InvalidRequestError where it cannot be."""
    return Record(
        generation=head.generation + 1 if head else 1,
        previous_record_sha256=head.sha256 if head else None,
        model=model,
        environment=environment,
        action=intent.action,
        version=intent.version,
        manifest_sha256=intent.manifest_sha256,
        previous_version=head.version if head else None,
        actor=intent.actor,
        reason=intent.reason,
        source_commit=intent.source_commit,
        request_id=intent.request_id,
        request_sha256=intent.request_sha256,
        written_by=writer,
        timestamp=timestamp,
    )


def conflict(*, expected: int, actual: int, winner: Record | None) -> ConflictError:
    """The error for a decision made upon a head that is not the head.

    Args:
        expected: the generation that the decision was made upon; 0 stands for an empty ledger.
        actual: the head's generation, or the one that somebody else took meanwhile.
        winner: its record; None where there is none, or where it cannot be seen here yet.
    """
    if winner is not None:
        what = f"put {winner.version} into service ({winner.action} by {winner.actor.id})"
    elif actual:
        what = "is taken by a record that cannot be seen here yet"
    else:
        what = "is the newest: the ledger is empty"
    return ConflictError(
        f"generation {expected} was expected to be the newest, but generation {actual} {what}. Look again, then ask again",
        generation=actual,
        version=winner.version if winner else "",
        actor=winner.actor.id if winner else "",
    )


def reused(record: Record) -> RequestIdReusedError:
    """The error for another request under the id that this record was written under."""
    return RequestIdReusedError(
        f"request id {record.request_id!r} stands in generation {record.generation} with another request "
        f"({record.action} {record.version}): use a new id for a new request",
        request_id=record.request_id,
        generation=record.generation,
    )
