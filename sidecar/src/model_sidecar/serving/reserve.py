"""Which version is loaded though nobody ordered it: the one before the head, to stand by or to stand in for it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from model_sidecar.errors import Reason
from model_sidecar.ledger.history import History
from model_sidecar.ledger.record import Record
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version
from model_sidecar.serving.quarantine import KILLING
from model_sidecar.serving.stage import Residents

_AGAIN_S = 10.0
_KILLS = KILLING | {Reason.MODEL_QUARANTINED}


@dataclass(frozen=True, slots=True)
class Spare:
    """A version to load, and the record that it was live under."""

    version: Version
    manifest: Digest
    generation: int | None


class Reserve:
    """Decides, once for each head. The manager's own."""

    def __init__(self, ledger: History, *, keep_standby: bool) -> None:
        self._ledger = ledger
        self._keep_standby = keep_standby
        self._stood_by_at = 0
        self._stood_in_at = 0
        self._killed: int | None = None
        self._gave_way: Spare | None = None
        self._back_at = 0.0

    def note(self, reason: Reason, *, generation: int | None) -> None:
        """The wish of this generation was refused; None for one that no record names."""
        if reason in _KILLS and generation is not None:
            self._killed = generation

    @property
    def owed(self) -> Spare | None:
        """The live version that gave way to one that has not taken its place yet."""
        return self._gave_way

    def gave_way(self, version: Version, manifest: Digest, *, generation: int | None) -> None:
        """The live version left memory for another, which may yet fail."""
        self._gave_way = Spare(version, manifest, generation)

    def wanted(self, residents: Residents) -> Spare | None:
        """What to load now; None for nothing.

        After a start only the head is loaded, so that the version before it has to be, for a rollback to find it. And
        where the head kills whoever runs it, a sidecar that has nothing else would answer nobody: the version before it
        then stands in, and Status says that it is not the one that should.
        """
        if residents.live is not None:
            self._gave_way = None
        elif self._gave_way is not None:
            return self._the_one_before()
        head = self._ledger.head
        if head is None:
            return None
        if residents.live is None:
            if self._killed != head.generation or self._stood_in_at == head.generation:
                return None
            self._stood_in_at = head.generation
            return _spare(self._ledger.previous_good())
        if not self._keep_standby or residents.standby is not None:
            return None
        if residents.generation != head.generation or self._stood_by_at == head.generation:
            return None
        self._stood_by_at = head.generation
        return _spare(self._ledger.previous_good())

    def _the_one_before(self) -> Spare | None:
        """What gave way; where it cannot be had back either, again after a while."""
        if time.monotonic() < self._back_at:
            return None
        self._back_at = time.monotonic() + _AGAIN_S
        return self._gave_way


def _spare(record: Record | None) -> Spare | None:
    return Spare(record.version, record.manifest_sha256, record.generation) if record is not None else None
