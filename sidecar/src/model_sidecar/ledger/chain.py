"""The rules of the chain, pure: which record may follow which, and which version a rollback goes back to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from model_sidecar.errors import InvalidRequestError, Reason, StoreError
from model_sidecar.ledger.record import Action, Record
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Environment, ModelName, Version

_REQUEST_ID = re.compile(r"[ -~]{1,64}", re.ASCII)


class Link(Protocol):
    """What these rules look at of a record, or of its outline."""

    @property
    def generation(self) -> int: ...
    @property
    def sha256(self) -> Digest: ...
    @property
    def previous_record_sha256(self) -> Digest | None: ...
    @property
    def model(self) -> ModelName: ...
    @property
    def environment(self) -> Environment: ...
    @property
    def action(self) -> Action: ...
    @property
    def version(self) -> Version: ...
    @property
    def previous_version(self) -> Version | None: ...


def check_link(previous: Link | None, record: Link) -> None:
    """Check that `record` may stand directly behind `previous` (None: at the beginning).

    Raises:
        StoreError: LEDGER_INVALID; the message names the generation and what does not fit.
    """
    expected = 1 if previous is None else previous.generation + 1
    if record.generation != expected:
        raise broken(expected, f"it says that it is generation {record.generation}")
    # A record of generation 1 has no predecessor, or it could not have been decoded.
    if previous is None:
        return
    if record.previous_record_sha256 != previous.sha256:
        raise broken(
            expected,
            f"it follows a record whose digest is {record.previous_record_sha256}, "
            f"but that of generation {previous.generation} is {previous.sha256}",
        )
    if record.previous_version != previous.version:
        raise broken(
            expected,
            f"it says that the version before was {record.previous_version}, "
            f"but generation {previous.generation} names {previous.version}",
        )
    if (record.model, record.environment) != (previous.model, previous.environment):
        raise broken(
            expected,
            f"it is of {record.model}/{record.environment}, "
            f"but generation {previous.generation} is of {previous.model}/{previous.environment}",
        )


class GoodVersions:
    """The versions that were not rolled away from since they were last chosen, in the order of that choice.

    Fed with every record, oldest first; each costs the same however long the chain is. Not thread-safe.
    """

    def __init__(self) -> None:
        self._latest: dict[Version, int] = {}

    def add(self, record: Link) -> None:
        """Take the next record into account: it makes its own version good, a ROLLBACK the one it left bad."""
        if record.action is Action.ROLLBACK and record.previous_version is not None:
            self._latest.pop(record.previous_version, None)
        # Out and in again: a dict keeps the place of a key that is merely overwritten.
        self._latest.pop(record.version, None)
        self._latest[record.version] = record.generation

    @property
    def previous(self) -> int | None:
        """The latest generation of the last good version other than the head's."""
        newest_first = reversed(self._latest.values())
        next(newest_first, None)
        return next(newest_first, None)


def previous_good(records: Iterable[Record]) -> Record | None:
    """What a plain rollback goes back to, given the whole chain, oldest first; None where there is no such record.

    After A, B, C it is B; after the rollback to B it is A, for C was rolled away from: a rollback of a rollback never
    brings the bad version back. Deploying C again makes it good again.
    """
    good, known = GoodVersions(), {record.generation: record for record in records}
    for record in known.values():
        good.add(record)
    return None if good.previous is None else known[good.previous]


def validate_request_id(text: str) -> None:
    """Refuse a request id that is not 1 to 64 printable ASCII characters.

    Raises:
        InvalidRequestError: it is not; the message quotes it.
    """
    if not _REQUEST_ID.fullmatch(text):
        raise InvalidRequestError(
            f"request id {text[:200]!r} is not valid: expected 1 to 64 printable ASCII characters"
        )


def broken(generation: int, problem: str) -> StoreError:
    """The error for a chain that does not hold at this generation."""
    return StoreError(
        f"the ledger is not valid at generation {generation}: {problem}. Nothing is repaired by itself: restore the "
        "record, or find out who changed it",
        reason=Reason.LEDGER_INVALID,
        generation=generation,
    )
