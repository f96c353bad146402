"""A record: one entry of the ledger, and its bytes.

A record is written once and never again. Its identity is the sha256 of the bytes as they stand in the ledger, and the
next record names it: that is the chain. Newer software may add fields, which older software carries along unread, so
the digest is kept with a record as read and never computed from a second encoding.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple

import msgspec

from model_sidecar.errors import InvalidNameError, InvalidRequestError, Reason, StoreError
from model_sidecar.release import strict_json
from model_sidecar.release.digests import Digest, digest_of, parse_digest
from model_sidecar.release.names import (
    Environment,
    ModelName,
    Version,
    parse_environment,
    parse_model,
    parse_version,
)

SCHEMA = 1
COMMITTED = "COMMITTED"
MAX_RECORD_BYTES = 16 << 10
"""What we write at most."""
MAX_READ_BYTES = 64 << 10
"""What we read at most: newer software may write more than we do."""
MAX_REASON_CHARACTERS = 4096
MAX_GENERATION = (1 << 63) - 1

_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z", re.ASCII)
_UNFILLED = Digest("")


class Action(StrEnum):
    """What was done."""

    DEPLOY = "DEPLOY"
    ROLLBACK = "ROLLBACK"
    ADOPT = "ADOPT"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acted, and how the transport knew; `on_behalf_of` is a claim of the caller's, "" when there is none."""

    id: str
    method: str
    on_behalf_of: str = ""


GUARD = Actor(id="guard", method="guard")
"""The sidecar's own guard. No caller is of this method, whatever they are called: methods are the transport's."""


@dataclass(frozen=True, slots=True)
class Writer:
    """The process that wrote a record: the sidecar's id, its host, and the software with its version."""

    sidecar: str
    host: str
    software: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One entry of the ledger.

    Making one checks that it can be written (see `encode`, whose errors it raises).

    Attributes:
        previous_record_sha256: digest of the record before this; None (in the file: "") in generation 1.
        manifest_sha256: digest of the version's manifest, which names every byte of it.
        previous_version: what the record before this named; None (in the file: "") in generation 1.
        source_commit: a claim of the caller's, "" when there is none.
        request_id: names the request once and for all, so that a retry finds what it has done.
        request_sha256: digest of the request's content, so that another request cannot pass under the same id.
        timestamp: information only; order is `generation`. Aware.
        sha256: digest of the record's bytes as they stand in the ledger.
    """

    generation: int
    previous_record_sha256: Digest | None
    model: ModelName
    environment: Environment
    action: Action
    version: Version
    manifest_sha256: Digest
    previous_version: Version | None
    actor: Actor
    reason: str
    source_commit: str
    request_id: str
    request_sha256: Digest
    written_by: Writer
    timestamp: datetime
    schema: int = SCHEMA
    status: str = COMMITTED
    sha256: Digest = _UNFILLED

    def __post_init__(self) -> None:
        if self.sha256 == _UNFILLED:
            object.__setattr__(self, "sha256", digest_of(encode(self)))


def encode(record: Record) -> bytes:
    """The bytes of a new record: one line of canonical JSON.

    Raises:
        InvalidRequestError: the reason has more than 4096 characters, or the whole more than 16 KiB, or a text is
            not Unicode.
        ValueError: the timestamp has no time zone, which is a mistake in our own code.
    """
    if len(record.reason) > MAX_REASON_CHARACTERS:
        raise InvalidRequestError(
            f"the reason has {len(record.reason)} characters: at most {MAX_REASON_CHARACTERS} are recorded"
        )
    try:
        content = strict_json.dumps(
            {
                "schema": record.schema,
                "generation": record.generation,
                "previous_record_sha256": record.previous_record_sha256 or "",
                "model": record.model,
                "environment": record.environment,
                "action": record.action,
                "version": record.version,
                "manifest_sha256": record.manifest_sha256,
                "previous_version": record.previous_version or "",
                "actor": actor_document(record.actor),
                "reason": record.reason,
                "source_commit": record.source_commit,
                "request_id": record.request_id,
                "request_sha256": record.request_sha256,
                "written_by": {
                    "sidecar": record.written_by.sidecar,
                    "host": record.written_by.host,
                    "software": record.written_by.software,
                },
                "timestamp": format_timestamp(record.timestamp),
                "status": record.status,
            }
        )
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"a text of the request is not Unicode: {error.reason}") from error
    if len(content) > MAX_RECORD_BYTES:
        raise InvalidRequestError(
            f"the record would have {len(content)} bytes, and at most {MAX_RECORD_BYTES} are written: shorten the "
            "reason, the source commit or the names of those who act"
        )
    return content


def decode(content: bytes) -> Record:
    """The record in these bytes. Fields that we do not know are left alone.

    Raises:
        StoreError: LEDGER_INVALID; the message says what is wrong with them.
    """
    try:
        if not content.endswith(b"\n") or content.count(b"\n") != 1:
            raise ValueError("it is not one whole line")
        if len(content) > MAX_READ_BYTES:
            raise ValueError(f"it has more than {MAX_READ_BYTES} bytes")
        return _record(msgspec.convert(strict_json.loads(content), _Document), digest_of(content))
    except (ValueError, InvalidNameError, msgspec.ValidationError) as error:
        raise StoreError(f"not a record of the ledger: {error}", reason=Reason.LEDGER_INVALID) from error


class Outline(NamedTuple):
    """What a history keeps of every record beside its bytes. The fields are `Record`'s."""

    generation: int
    previous_record_sha256: Digest | None
    model: ModelName
    environment: Environment
    action: Action
    version: Version
    manifest_sha256: Digest
    previous_version: Version | None
    method: str
    """The actor's."""
    request_id: str
    sha256: Digest

    @classmethod
    def of(cls, record: Record) -> Outline:
        """A record's."""
        return cls(
            record.generation,
            record.previous_record_sha256,
            record.model,
            record.environment,
            record.action,
            record.version,
            record.manifest_sha256,
            record.previous_version,
            record.actor.method,
            record.request_id,
            record.sha256,
        )


def outline(content: bytes) -> Outline:
    """The outline of a record that was decoded before, at a tenth of what that costs: not every rule is asked again.

    Raises:
        StoreError: LEDGER_INVALID; these bytes were never a record.
    """
    try:
        told = _OUTLINES.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"not a record of the ledger: {error}", reason=Reason.LEDGER_INVALID) from error
    intern = sys.intern
    return Outline(
        told.generation,
        Digest(told.previous_record_sha256) if told.previous_record_sha256 else None,
        ModelName(intern(told.model)),
        Environment(intern(told.environment)),
        told.action,
        Version(intern(told.version)),
        Digest(intern(told.manifest_sha256)),
        Version(intern(told.previous_version)) if told.previous_version else None,
        intern(told.actor.method),
        told.request_id,
        digest_of(content),
    )


def format_timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds: `2024-01-15T03:12:45.000000Z`. ValueError for a naive datetime."""
    if moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no time zone")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def actor_document(actor: Actor) -> dict[str, str]:
    """The actor as it is written in records and in the pointer."""
    return {"id": actor.id, "method": actor.method, "on_behalf_of": actor.on_behalf_of}


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    schema: Literal[1]
    generation: Annotated[int, msgspec.Meta(ge=1, le=MAX_GENERATION)]
    previous_record_sha256: str
    model: str
    environment: str
    action: Action
    version: str
    manifest_sha256: str
    previous_version: str
    actor: Actor
    reason: str
    source_commit: str
    request_id: Annotated[str, msgspec.Meta(min_length=1)]
    request_sha256: str
    written_by: Writer
    timestamp: str
    status: Literal["COMMITTED"]


class _OutlinedActor(msgspec.Struct, frozen=True, gc=False):
    method: str


class _Outlined(msgspec.Struct, frozen=True, gc=False):
    generation: int
    previous_record_sha256: str
    model: str
    environment: str
    action: Action
    version: str
    manifest_sha256: str
    previous_version: str
    actor: _OutlinedActor
    request_id: str


# msgspec learns a type when it first meets it, which must not happen in two threads at once (see release.manifest_reading).
msgspec.convert(
    {
        **dict.fromkeys(set(_Document.__struct_fields__) - {"schema", "generation"}, "-"),
        "schema": 1,
        "generation": 1,
        "action": Action.DEPLOY.value,
        "status": "COMMITTED",
        "actor": dict.fromkeys(("id", "method", "on_behalf_of"), ""),
        "written_by": dict.fromkeys(("sidecar", "host", "software"), ""),
    },
    _Document,
)
_OUTLINES = msgspec.json.Decoder(_Outlined)


def _record(document: _Document, sha256: Digest) -> Record:
    # What recurs from record to record is interned: a long ledger is then mostly request ids and reasons. A digest is
    # the `sha256` of one record and the `previous_record_sha256` of the next.
    first = document.generation == 1
    if first != (not document.previous_record_sha256) or first != (not document.previous_version):
        raise ValueError(
            "previous_record_sha256 and previous_version must be empty in generation 1, and only there"
        )
    return Record(
        generation=document.generation,
        previous_record_sha256=None if first else _digest(document.previous_record_sha256),
        model=ModelName(sys.intern(parse_model(document.model))),
        environment=Environment(sys.intern(parse_environment(document.environment))),
        action=document.action,
        version=_version(document.version),
        manifest_sha256=_digest(document.manifest_sha256),
        previous_version=None if first else _version(document.previous_version),
        actor=Actor(
            sys.intern(document.actor.id),
            sys.intern(document.actor.method),
            sys.intern(document.actor.on_behalf_of),
        ),
        reason=document.reason,
        source_commit=document.source_commit,
        request_id=document.request_id,
        request_sha256=parse_digest(document.request_sha256),
        written_by=Writer(
            sys.intern(document.written_by.sidecar),
            sys.intern(document.written_by.host),
            sys.intern(document.written_by.software),
        ),
        timestamp=_moment(document.timestamp),
        schema=document.schema,
        status=document.status,
        sha256=Digest(sys.intern(sha256)),
    )


def _digest(text: str) -> Digest:
    return Digest(sys.intern(parse_digest(text)))


def _version(text: str) -> Version:
    return Version(sys.intern(parse_version(text)))


def _moment(text: str) -> datetime:
    if not _TIMESTAMP.fullmatch(text):
        raise ValueError(f"timestamp {text[:80]!r} is not like 2024-01-15T03:12:45.000000Z")
    return datetime.fromisoformat(text)
